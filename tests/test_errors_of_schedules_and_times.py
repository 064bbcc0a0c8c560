"""Wrong schedules and times get a ValueError that names the argument, its value and the fix."""

import pytest
import torch
from error_cases import NAN, S, X, assert_message, cases, longs, net

from diffusion_edu import forward, objectives, posterior, prediction, sampling, schedules

SCHEDULE_ERRORS = {
    "T = 0": (lambda: schedules.linear(0), ["T must be an int >= 1", "T=0"]),
    "T is a float": (lambda: schedules.cosine(10.0), ["T must be an int", "T=10.0"]),
    "T is negative": (lambda: schedules.jsd(-3), ["T must be", "T=-3"]),
    "T of constant": (lambda: schedules.constant(0, 0.1), ["T must be an int >= 1", "T=0"]),
    "beta_1 above 1": (lambda: schedules.linear(10, 1.5), ["beta_1 must lie in (0, 1)", "1.5"]),
    "beta_T is 0": (lambda: schedules.quadratic(10, 0.1, 0.0), ["beta_T", "(0, 1)", "0.0"]),
    "beta_T is 1": (lambda: schedules.linear(10, 0.1, 1.0), ["beta_T must lie in (0, 1)", "1.0"]),
    "beta_T is NaN": (lambda: schedules.sigmoid(10, 0.1, NAN), ["beta_T", "nan"]),
    "constant beta": (lambda: schedules.constant(10, -0.1), ["beta", "(0, 1)", "-0.1"]),
    "beta is NaN": (lambda: schedules.from_betas([0.1, NAN]), ["betas", "betas[1]=nan", "t=2"]),
    "beta above 1": (lambda: schedules.from_betas([0.1, 1.2]), ["betas", "betas[1]=1.2", "t=2"]),
    "beta below 0": (lambda: schedules.from_betas([-0.1, 0.2]), ["betas", "betas[0]=-0.1"]),
    "beta is 0": (lambda: schedules.from_betas([0.1, 0, 0.2]), ["betas", "betas[1]=0", "t=2"]),
    "last beta is 0": (lambda: schedules.from_betas([0.1, 0]), ["betas", "betas[1]=0", "t=2"]),
    "beta = 1 inside": (lambda: schedules.from_betas([1.0, 0.2]), ["betas", "betas[0]=1"]),
    "no betas": (lambda: schedules.from_betas([]), ["betas must have shape (T,)", "(0,)"]),
    "betas of 2-D": (lambda: schedules.from_betas(X + 0.1), ["betas must have shape", "(3, 2)"]),
    "betas underflow": (
        lambda: schedules.constant(4000, 0.5),
        ["alpha_bar", "above 0", "smaller betas"],
    ),
    "alpha_bar rises": (
        lambda: schedules.Schedule([1, 0.5, 0.6]),
        ["alpha_bar must not increase", "alpha_bar[1]=0.5 < alpha_bar[2]=0.6"],
    ),
    "alpha_bar starts at t = 1": (
        lambda: schedules.Schedule([0.99, 0.5]),
        ["alpha_bar[0] must be 1", "0.99", "prepend"],
    ),
    "alpha_bar is NaN": (lambda: schedules.Schedule([1, NAN]), ["alpha_bar", "finite", "t=1"]),
    "alpha_bar below 0": (lambda: schedules.Schedule([1, -0.1]), ["alpha_bar", "-0.1"]),
    "alpha_bar 0 inside": (lambda: schedules.Schedule([1, 0.0, 0.0]), ["alpha_bar[1]", "above 0"]),
    "alpha_bar_1 = 1": (lambda: schedules.Schedule([1, 1, 0.5]), ["alpha_bar[1]", "below 1"]),
    "T of the other sigmoid": (lambda: schedules.sigmoid_alpha_bar(0), ["T must be an int", "T=0"]),
    "start is end": (
        lambda: schedules.sigmoid_alpha_bar(10, 3.0, 3.0),
        ["start must be below end", "start=3.0"],
    ),
    "alpha_bar of one entry": (lambda: schedules.Schedule([1.0]), ["alpha_bar", "(1,)"]),
    "alpha_bar of 2-D": (lambda: schedules.Schedule(X), ["alpha_bar", "(3, 2)"]),
    "cosine s": (lambda: schedules.cosine(10, s=-1.0), ["s must be >= 0", "s=-1.0"]),
    "cosine s is NaN": (lambda: schedules.cosine(10, s=NAN), ["s must be", "nan"]),
    "max_beta of 0": (lambda: schedules.cosine(10, max_beta=0.0), ["max_beta must", "0.0"]),
    "max_beta": (lambda: schedules.cosine(10, max_beta=1.0), ["max_beta", "1.0"]),
    "tau": (lambda: schedules.sigmoid_alpha_bar(10, tau=0.0), ["tau must be > 0", "tau=0.0"]),
    "start above end": (
        lambda: schedules.sigmoid_alpha_bar(10, 3.0, -3.0),
        ["start must be below end", "start=3.0", "end=-3.0"],
    ),
    "respace beyond T": (lambda: schedules.respace(S, [5, 11]), ["taus", "0..10", "11"]),
    "respace below 0": (lambda: schedules.respace(S, [5, -1]), ["taus", "0..10", "-1"]),
    "respace twice": (lambda: schedules.respace(S, [5, 5]), ["taus", "distinct", "[5, 5]"]),
    "respace to nothing": (lambda: schedules.respace(S, []), ["taus", "[]"]),
    "respace to 0": (lambda: schedules.respace(S, [0]), ["taus", "[0]"]),
    "respace to fractions": (lambda: schedules.respace(S, [1.5, 3]), ["taus", "1.5"]),
}

TIME_ERRORS = {
    "t = T+1": (lambda: forward.q_sample(X, 11, X, S), ["t must lie in 0..10", "t=11"]),
    "t = -1": (lambda: forward.q_sample(X, -1, X, S), ["t must lie in 0..10", "t=-1"]),
    "t = 0 of a step": (lambda: forward.q_step(X, 0, S), ["t must lie in 1..10", "t=0"]),
    "t tensor above T": (
        lambda: forward.q_marginal(X, longs(1, 11, 2), S),
        ["t must lie in 0..10", "t=11"],
    ),
    "t tensor below 0": (
        lambda: forward.q_marginal(X, longs(1, -4, 2), S),
        ["t must lie in 0..10", "t=-4"],
    ),
    "t is a float": (lambda: forward.q_marginal(X, 0.5, S), ["t must be an int", "0.5"]),
    "t is a bool": (lambda: forward.q_marginal(X, True, S), ["t must be an int", "True"]),
    "t is a float tensor": (
        lambda: forward.q_marginal(X, torch.ones(3), S),
        ["t must have dtype torch.int64", "torch.float32", "t.long()"],
    ),
    "t is int32": (
        lambda: forward.q_marginal(X, longs(1, 1, 1).int(), S),
        ["t must have dtype torch.int64", "torch.int32", "t.long()"],
    ),
    "t of another batch": (
        lambda: forward.q_sample(X, longs(1, 2), X, S),
        ["t must", "(3,)", "(2,)"],
    ),
    "t of another batch (step)": (
        lambda: forward.q_step(X, longs(1, 2), S),
        ["t must", "(3,)", "(2,)"],
    ),
    "t of another batch (posterior)": (
        lambda: posterior.q_posterior(X, X, longs(1, 2), S),
        ["t must", "(3,)", "(2,)"],
    ),
    "t of another batch (family)": (
        lambda: posterior.q_sigma(X, X, longs(2, 2), 1, 0.0, S),
        ["t must", "(3,)", "(2,)"],
    ),
    "s of another batch (family)": (
        lambda: posterior.q_sigma(X, X, 2, longs(1, 1), 0.0, S),
        ["must", "(3,)", "(2,)"],
    ),
    "t of another batch (its forward)": (
        lambda: posterior.q_sigma_forward(X, X, longs(2, 2), 1, 0.0, S),
        ["t must", "(3,)", "(2,)"],
    ),
    "s of another batch (its forward)": (
        lambda: posterior.q_sigma_forward(X, X, 2, longs(1, 1), 0.0, S),
        ["must", "(3,)", "(2,)"],
    ),
    "t of another batch (step back)": (
        lambda: sampling.reverse_step(X, X, longs(2), longs(1), S),
        ["t must", "(3,)", "(1,)"],
    ),
    "s of another batch (step back)": (
        lambda: sampling.reverse_step(X, X, 2, longs(1), S),
        ["s must", "(3,)", "(1,)"],
    ),
    "t and s of two batches": (
        lambda: posterior.ddim_sigma(longs(2, 2), longs(1, 1, 1), 0.0, S),
        ["s must", "(2,)", "(3,)"],
    ),
    "t of another batch (loss)": (
        lambda: objectives.loss_simple(net, X, longs(1, 2), X, S),
        ["t must", "(3,)", "(2,)"],
    ),
    "t of another batch (variance)": (
        lambda: objectives.learned_variance(X, longs(1, 2), S),
        ["t must", "(3,)", "(2,)"],
    ),
    "t of another batch (bound)": (
        lambda: objectives.loss_vlb(net, X, longs(1, 2), X, S, decoder="gaussian"),
        ["t must", "(3,)", "(2,)"],
    ),
    "hybrid at 0": (
        lambda: objectives.loss_hybrid(net, X, longs(0, 1, 2), X, S, decoder="gaussian"),
        ["t must lie in 1..10", "t=0"],
    ),
    "t of shape (B, 1)": (
        lambda: forward.q_sample(X, longs(1, 2, 3)[:, None], X, S),
        ["t must", "(3,)", "(3, 1)"],
    ),
    "posterior at 0": (lambda: posterior.q_posterior(X, X, 0, S), ["t must lie in 1..10", "t=0"]),
    "predict at 0": (lambda: prediction.predict("v", X, X, 0, S), ["t must lie in 1..10", "t=0"]),
    "loss at 0": (lambda: objectives.loss_simple(net, X, 0, X, S), ["t must lie in 1..10", "t=0"]),
    "loss_weight at T+1": (lambda: objectives.loss_weight(11, S), ["t must lie in 1..10", "t=11"]),
    "snr_weight at 0": (lambda: objectives.snr_weight(0, S, "v"), ["t must lie in 1..10", "t=0"]),
    "min_snr_weight at T+1": (
        lambda: objectives.min_snr_weight(11, S),
        ["t must lie in 1..10", "t=11"],
    ),
    "learned_variance at 0": (
        lambda: objectives.learned_variance(X, 0, S),
        ["t must lie in 1..10", "t=0"],
    ),
    "vlb at 0": (
        lambda: objectives.loss_vlb(net, X, longs(0, 1, 2), X, S, sigma2="beta"),
        ["t must lie in 1..10", "t=0"],
    ),
    "sampler history at 0": (
        lambda: objectives.ImportanceSampler(10).update(longs(0, 1), torch.ones(2)),
        ["t must lie in 1..10", "t=0"],
    ),
    "s = t": (lambda: posterior.q_sigma(X, X, 3, 3, 0.0, S), ["s must be below t", "s=3", "t=3"]),
    "s above t": (lambda: posterior.ddim_sigma(3, 5, 0.0, S), ["s must be below t", "s=5", "t=3"]),
    "s = -1": (lambda: posterior.ddim_sigma(3, -1, 0.0, S), ["s must lie in 0..10", "s=-1"]),
    "one s above its t": (
        lambda: posterior.q_sigma(X, X, longs(3, 3, 3), longs(2, 4, 2), 0.0, S),
        ["s must be below t", "4", "3"],
    ),
    "forward from s = 0": (
        lambda: posterior.q_sigma_forward(X, X, 3, 0, 0.0, S),
        ["s must lie in 1..10", "s=0"],
    ),
    "frozen at 0": (
        lambda: sampling.from_frozen(net, X[0], 0, 2, S),
        ["t must lie in 1..10", "t=0"],
    ),
    "interpolate at T+1": (
        lambda: sampling.interpolate_ddpm(net, X, X, [0.5], 11, S),
        ["t must lie in 0..10", "t=11"],
    ),
}


@pytest.mark.parametrize(("call", "words"), cases(schedule=SCHEDULE_ERRORS, time=TIME_ERRORS))
def test_the_message_names_argument_value_and_fix(call, words):
    assert_message(call, words)
