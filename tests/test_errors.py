"""Mistakes of learners get a ValueError that names the argument, its value and the fix."""

import pytest
import torch
from error_cases import JSD, NAN, S, X, assert_message, cases, longs, net

from diffusion_edu import forward, gaussian, objectives, posterior, prediction, sampling, schedules

SHAPE_ERRORS = {
    "eps of another shape": (
        lambda: forward.q_sample(X, 1, torch.zeros(3, 1), S),
        ["eps", "x0", "(3, 1)", "(3, 2)"],
    ),
    "x0 of another shape": (
        lambda: posterior.q_posterior(X, torch.zeros(1, 2), 1, S),
        ["x0", "x_t", "(1, 2)", "(3, 2)"],
    ),
    "x0 of another shape (family)": (
        lambda: posterior.q_sigma(X, X[:1], 2, 1, 0.0, S),
        ["x0", "x_t", "(1, 2)", "(3, 2)"],
    ),
    "x0 of another shape (its forward)": (
        lambda: posterior.q_sigma_forward(X, X[:1], 2, 1, 0.0, S),
        ["x0", "x_s", "(1, 2)", "(3, 2)"],
    ),
    "output of another shape": (
        lambda: prediction.predict("eps", torch.zeros(3, 4), X, 1, S),
        ["output", "x_t", "(3, 4)", "(3, 2)"],
    ),
    "network of another shape (loss)": (
        lambda: objectives.loss_simple(lambda x, t: x[:, :1], X, 1, X, S),
        ["output", "x_t", "(3, 1)", "(3, 2)"],
    ),
    "network of another shape": (
        lambda: list(sampling.sample(lambda x, t: x[:, :1], X, S)),
        ["output", "x_t", "(3, 1)", "(3, 2)"],
    ),
    "network without v (hybrid)": (
        lambda: objectives.loss_hybrid(net, X[:, :1], 1, X[:, :1], S),
        ["output must have 2C channels", "(3, 2)", "(3, 1)", "return v", "a fixed variance"],
    ),
    "network without v (bound)": (
        lambda: objectives.elbo(net, X, S, sigma2="learned", decoder="gaussian"),
        ["output must have 2C channels", "(3, 4)", "(3, 2)", "return v", "a fixed variance"],
    ),
    "network without v (sample)": (
        lambda: list(sampling.sample(net, X, S, variance="learned")),
        ["output must have 2C channels", "(3, 4)", "(3, 2)", "return v", "a fixed variance"],
    ),
    "bound noise": (
        lambda: objectives.elbo(net, X, S, decoder="gaussian", eps=torch.zeros(9, 3, 2)),
        ["eps must have shape", "(10, 3, 2)", "(9, 3, 2)"],
    ),
    "chain noise": (
        lambda: forward.forward_chain(X, S, torch.zeros(9, 3, 2)),
        ["eps must have shape", "(10, 3, 2)", "(9, 3, 2)"],
    ),
    "z of another shape": (
        lambda: gaussian.Gaussian(X, X + 1).sample(torch.zeros(2)),
        ["z", "mean", "(2,)", "(3, 2)"],
    ),
    "x of another shape": (
        lambda: gaussian.Gaussian(X, X + 1).log_prob(torch.zeros(1, 2)),
        ["x ", "mean", "(1, 2)", "(3, 2)"],
    ),
    "variance of another shape": (
        lambda: gaussian.Gaussian(X, torch.ones(3)),
        ["var", "mean", "(3,)", "(3, 2)", "(B, 1, ..., 1)"],
    ),
    "decoder mean": (
        lambda: gaussian.discretized_log_prob(X, X[:1], X + 1),
        ["mean", "(1, 2)", "(3, 2)"],
    ),
    "sigma of another batch": (
        lambda: posterior.q_sigma(X, X, 3, 2, torch.zeros(2), S),
        ["sigma", "(2,)"],
    ),
    "weights of another batch": (
        lambda: objectives.loss_simple(net, X, 1, X, S, weight=torch.ones(2)),
        ["weight", "(2,)", "(3,)"],
    ),
    "losses of another batch": (
        lambda: objectives.ImportanceSampler(10).update(longs(1, 2), torch.ones(3)),
        ["losses", "t ", "(3,)", "(2,)"],
    ),
    "slerp of two shapes": (
        lambda: sampling.slerp(X, X[:1], 0.5),
        ["b ", "a ", "(1, 2)", "(3, 2)"],
    ),
    "eps of a step": (
        lambda: sampling.reverse_step(X, X[:1], 3, 2, S),
        ["eps", "x0", "(1, 2)", "(3, 2)"],
    ),
    "step noise": (
        lambda: sampling.reverse_step(X, X, 3, 2, S, eta=1.0, z=X[:1]),
        ["z", "x0", "(1, 2)", "(3, 2)"],
    ),
    "noise callback": (
        lambda: list(sampling.sample(net, X, S, eta=1.0, noise=lambda i, like: like[:1])),
        ["z", "(1, 2)", "(3, 2)"],
    ),
}

DTYPE_ERRORS = {
    "x0 of integers": (
        lambda: forward.q_sample(X.long(), 1, X, S),
        ["x0", "floating", "torch.int64", "x0.float()"],
    ),
    "eps of integers": (
        lambda: forward.q_sample(X, 1, X.long(), S),
        ["eps", "floating", "torch.int64", "eps.float()"],
    ),
    "images as uint8": (
        lambda: list(sampling.sample(net, X.to(torch.uint8), S)),
        ["x_T", "floating", "torch.uint8", "x_T.float()"],
    ),
    "chain of integers": (lambda: forward.forward_chain(X.long(), S), ["x0", "torch.int64"]),
    "inversion of integers": (lambda: list(sampling.invert(net, X.long(), S)), ["x0", "int64"]),
    "bound of integers": (lambda: objectives.elbo(net, X.long(), S), ["x0", "int64"]),
    "a list for a tensor": (
        lambda: gaussian.Gaussian([0.0], torch.ones(1)),
        ["mean must be a torch tensor", "list"],
    ),
}

VALUE_ERRORS = {
    "negative variance": (
        lambda: gaussian.Gaussian(X, X - 1),
        ["var must be >= 0", "-1", "not its logarithm"],
    ),
    "NaN variance": (lambda: gaussian.Gaussian(X, X + NAN), ["var must be >= 0", "nan"]),
    "decoder variance 0": (
        lambda: gaussian.discretized_log_prob(X, X, X),
        ["var must be > 0", "beta"],
    ),
    "decoder levels": (
        lambda: gaussian.discretized_log_prob(X, X, X + 1, levels=1),
        ["levels", "levels=1"],
    ),
    "decoder bounds": (
        lambda: gaussian.discretized_log_prob(X, X, X + 1, low=1.0, high=0.0),
        ["low must be below high", "low=1.0", "high=0.0"],
    ),
    "bits of nothing": (lambda: gaussian.bits_per_dim(X, 0), ["dims", "dims=0"]),
    "sigma too large": (
        lambda: posterior.q_sigma(X, X, 3, 2, 5.0, S),
        ["sigma", "1 - alpha_bar_s", "exceeded by 24.9", "s=2", "ddim_sigma"],
    ),
    "sigma a little too large": (
        lambda: posterior.q_sigma(X, X, 3, 2, 1.001 * float(1 - S.alpha_bar[2]) ** 0.5, S),
        ["sigma", "1 - alpha_bar_s", "ddim_sigma"],
    ),
    "negative sigma": (lambda: posterior.q_sigma(X, X, 3, 2, -0.1, S), ["sigma", "-0.1"]),
    "NaN sigma": (lambda: posterior.q_sigma(X, X, 3, 2, NAN, S), ["sigma", "nan"]),
    "negative eta": (lambda: posterior.ddim_sigma(3, 2, -1.0, S), ["eta must be >= 0", "eta=-1.0"]),
    "eta too large": (
        lambda: list(sampling.sample(net, X, S, 5, eta=3.0)),
        ["eta", "eta <= 1"],
    ),
    "steps > T": (lambda: sampling.timesteps(10, 11), ["steps", "1..10", "steps=11"]),
    "ddim steps > T": (lambda: sampling.ddim(net, X, S, 11), ["steps", "1..10", "steps=11"]),
    "ddpm steps > T": (lambda: sampling.ddpm(net, X, S, 11), ["steps", "1..10", "steps=11"]),
    "no steps": (lambda: sampling.timesteps(10, 0), ["steps", "1..10", "steps=0"]),
    "half a step": (lambda: sampling.timesteps(10, 2.5), ["steps", "1..10", "steps=2.5"]),
    "taus rise": (
        lambda: list(sampling.sample(net, X, S, [1, 5])),
        ["taus", "strictly decreasing", "[1, 5]", "timesteps(10, steps)"],
    ),
    "taus repeat": (lambda: list(sampling.sample(net, X, S, [5, 5, 0])), ["taus", "[5, 5, 0]"]),
    "taus beyond T": (lambda: list(sampling.sample(net, X, S, [11, 0])), ["taus", "0..10", "11"]),
    "taus of one level": (lambda: list(sampling.sample(net, X, S, [5])), ["taus", "[5]"]),
    "taus of fractions": (
        lambda: list(sampling.sample(net, X, S, [10, 5.5, 0])),
        ["taus", "5.5"],
    ),
    "clip upside down": (
        lambda: list(sampling.sample(net, X, S, clip=(1.0, -1.0))),
        ["clip", "(1.0, -1.0)"],
    ),
    "clip below 0": (lambda: list(sampling.sample(net, X, S, clip=-1.0)), ["clip", "-1.0"]),
    "missing noise": (
        lambda: sampling.reverse_step(X, X, 3, 2, S, eta=1.0),
        ["z must be given", "eta=1.0, variance='eta'", "torch.randn_like(x0)"],
    ),
    "no lams": (lambda: sampling.interpolate(net, X, X, [], S), ["len(lams) must be", "=0"]),
    "no lams (ddpm)": (
        lambda: sampling.interpolate_ddpm(net, X, X, [], 3, S),
        ["len(lams) must be", "=0"],
    ),
    "gamma": (lambda: objectives.min_snr_weight(1, S, gamma=0.0), ["gamma", "gamma=0.0"]),
    "gamma is NaN": (lambda: objectives.min_snr_weight(1, S, gamma=NAN), ["gamma", "nan"]),
    "no samples": (lambda: sampling.from_frozen(net, X[0], 3, 0, S), ["n ", "n=0"]),
    "data off the grid": (
        lambda: objectives.elbo(net, X + 0.3, S),
        ["x0", "grid", "0.3", "decoder='gaussian'"],
    ),
    "T of a sampler": (lambda: objectives.ImportanceSampler(0), ["T must be an int >= 1", "T=0"]),
    "data one step below the grid": (
        lambda: objectives.elbo(net, X - 1 - 2 / 255, S),
        ["x0 must lie on the grid of 256 values in [-1.0, 1.0]", "-1.00784"],
    ),
    "data one step above the grid": (
        lambda: objectives.loss_vlb(net, X + 1 + 2 / 255, 1, X, S),
        ["x0 must lie on the grid of 256 values in [-1.0, 1.0]", "1.00784"],
    ),
    "one value off the grid": (
        lambda: objectives.elbo(net, torch.tensor([[-1.0, 1.0], [0.5, -1.0], [1.0, 0.25]]), S),
        ["x0 must lie on the grid", "got 0.5:"],
    ),
    "share above 1": (
        lambda: objectives.ImportanceSampler(10, uniform=1.5),
        ["uniform must be a share in [0, 1]", "uniform=1.5"],
    ),
    "share below 0": (
        lambda: objectives.ImportanceSampler(10, uniform=-0.1),
        ["uniform must be a share in [0, 1]", "uniform=-0.1"],
    ),
    "share is NaN": (
        lambda: objectives.ImportanceSampler(10, uniform=NAN),
        ["uniform must be a share in [0, 1]", "uniform=nan"],
    ),
    "history": (lambda: objectives.ImportanceSampler(10, 0), ["history", "history=0"]),
}

NAME_ERRORS = {
    "spacing": (
        lambda: sampling.timesteps(10, 5, "trail"),
        ["unknown spacing 'trail';", "'trailing'?"],
    ),
    "kind": (
        lambda: prediction.predict("epsilon", X, X, 1, S),
        ["unknown kind 'epsilon';", "'eps'?"],
    ),
    "kind of a loss": (
        lambda: objectives.loss_simple(net, X, 1, X, S, kind="epsilon"),
        ["unknown kind 'epsilon';", "'eps'?"],
    ),
    "kind of a weight": (
        lambda: objectives.snr_weight(1, S, "x_0"),
        ["unknown kind 'x_0';", "'x0'?"],
    ),
    "kind of a sampler": (
        lambda: list(sampling.sample(net, X, S, kind="scores")),
        ["unknown kind 'scores';", "'score'?"],
    ),
    "variance": (
        lambda: list(sampling.sample(net, X, S, variance="larger")),
        ["unknown variance 'larger';", "'large'?"],
    ),
    "sigma2 of ddpm": (
        lambda: sampling.ddpm(net, X, S, sigma2="beta tilde"),
        ["unknown sigma2 'beta tilde';", "'beta_tilde'?"],
    ),
    "sigma2 of the bound": (
        lambda: objectives.elbo(net, X, S, sigma2="betas", decoder="gaussian"),
        ["unknown sigma2 'betas';", "'beta'?"],
    ),
    "sigma2 of a weight": (
        lambda: objectives.loss_weight(1, S, "betas"),
        ["unknown sigma2 'betas';", "'beta'?"],
    ),
    "decoder of a loss": (
        lambda: objectives.loss_vlb(net, X, 1, X, S, sigma2="beta", decoder="discretised"),
        ["unknown decoder 'discretised';", "'discretized'?"],
    ),
    "decoder": (
        lambda: objectives.elbo(net, X, S, decoder="discretised"),
        ["unknown decoder 'discretised';", "'discretized'?"],
    ),
}

TERMINAL_ERRORS = {
    "predict": (lambda: prediction.predict("eps", X, X, 10, JSD), ["'eps'", "t=10", "x0 or v"]),
    "predict from score": (
        lambda: prediction.predict("score", X, X, longs(1, 10, 2), JSD),
        ["'score'", "t=10", "x0 or v"],
    ),
    "sample": (lambda: list(sampling.sample(net, X, JSD)), ["'eps'", "t=10", "x0 or v"]),
    "elbo": (lambda: objectives.elbo(net, X, JSD, decoder="gaussian"), ["'eps'", "x0 or v"]),
    "rescaled linear": (
        lambda: sampling.ddim(net, X, schedules.zero_terminal_snr(S), 5),
        ["'eps'", "zero terminal SNR", "x0 or v"],
    ),
}

TABLES = {
    "shape": SHAPE_ERRORS,
    "dtype": DTYPE_ERRORS,
    "value": VALUE_ERRORS,
    "name": NAME_ERRORS,
    "terminal": TERMINAL_ERRORS,
}


@pytest.mark.parametrize(("call", "words"), cases(**TABLES))
def test_the_message_names_argument_value_and_fix(call, words):
    assert_message(call, words)


def test_errors_come_before_work():
    """A wrong argument is found before the network is called."""
    calls = []

    def counting(x_t, t):
        calls.append(t)
        return x_t

    for options in ({"kind": "epsilon"}, {"variance": "larger"}, {"eta": -1.0}, {"clip": -1.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            next(sampling.sample(counting, X, S, **options))
    with pytest.raises(ValueError, match="kind"):
        objectives.loss_simple(counting, X, 1, X, S, kind="epsilon")
    assert calls == []
