"""Samplers: levels, the one step, trajectories, inversion, interpolation."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import POSITIVE, SCHEDULES, Case, any_schedule, cases, lengths, schedule_of

from diffusion_edu import sampling, schedules
from diffusion_edu.forward import q_sample
from diffusion_edu.posterior import q_posterior
from diffusion_edu.prediction import predict
from diffusion_edu.sampling import reverse_step, sample, timesteps

SPACINGS = ("uniform", "quadratic", "trailing", "leading")


def net(x_t, t):
    """A fixed nonlinear "noise prediction", different at every t."""
    return (x_t + t.view(-1, *[1] * (x_t.ndim - 1)).to(x_t) / 100).sin()


def final(steps):
    *_, last = steps
    return last.x_s


def close(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# ---- which levels -------------------------------------------------------------------------------


def assert_levels(levels, T, steps):
    assert levels.dtype == torch.int64
    assert levels.shape == (steps + 1,)
    assert (levels[0], levels[-1]) == (T, 0)
    assert (levels.diff() < 0).all()


@pytest.mark.parametrize("spacing", SPACINGS)
@given(T=lengths(), data=st.data())
def test_timesteps_are_what_they_promise(spacing, T, data):
    """steps+1 integers, T first, 0 last, strictly decreasing: every spacing, every steps <= T."""
    steps = data.draw(st.one_of(st.integers(1, T), st.integers(max(1, T - 3), T)))
    assert_levels(timesteps(T, steps, spacing), T, steps)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_timesteps_for_every_pair_up_to_60(spacing):
    """The same promise, exhaustively, for all 1 <= steps <= T <= 60."""
    for T in range(1, 61):
        for steps in range(1, T + 1):
            assert_levels(timesteps(T, steps, spacing), T, steps)


@pytest.mark.parametrize("spacing", SPACINGS)
@given(T=lengths())
def test_all_steps_are_all_levels(spacing, T):
    """steps = T visits T, T-1, ..., 0 whatever the spacing; steps = 1 jumps from T to 0."""
    assert timesteps(T, T, spacing).equal(torch.arange(T, -1, -1))
    assert timesteps(T, 1, spacing).tolist() == [T, 0]


def test_spacings_of_the_papers():
    """uniform, trailing: multiples of T/S; quadratic: T (i/S)^2; leading: 1, 1+k, ... below T."""
    assert timesteps(1000, 10).tolist() == list(range(1000, -1, -100))
    assert timesteps(1000, 10, "trailing").tolist() == list(range(1000, -1, -100))
    assert timesteps(1000, 10, "quadratic").tolist() == [10 * i * i for i in range(10, -1, -1)]
    assert timesteps(1000, 10, "leading").tolist() == [1000, *range(801, 0, -100), 0]
    assert len(timesteps(1000, 30)) == 31  # range(0, 1000, 1000 // 30) has 31 members, not 30


# ---- the one step -------------------------------------------------------------------------------


@given(cases(names=POSITIVE, dtypes=(torch.float64,)))
def test_eta_1_samples_the_posterior(case: Case):
    """reverse_step(eta = 1, s = t-1) = q_posterior(x_t, x0_hat, t).sample(z)."""
    schedule, t, z = case.schedule, case.times[0], case.y.flip(0)
    eps, x0, _, _ = predict("eps", case.y, case.x, t, schedule)
    got = reverse_step(x0, eps, t, t - 1, schedule, eta=1.0, z=z)
    expected = q_posterior(case.x, x0, t, schedule).sample(z)
    scale = 1 + x0.abs().max()
    assert (got - expected).abs().max() < 1e-7 * scale


@given(any_schedule(POSITIVE, low=2), st.data())
def test_eta_1_on_skipped_pairs_samples_the_respaced_chain(schedule, data):
    """sample(eta = 1, taus) = the posteriors of respace(schedule, taus), step by step."""
    taus = sorted(data.draw(st.sets(st.integers(1, schedule.T), min_size=1, max_size=5)))
    short = schedules.respace(schedule, taus)
    g = torch.Generator().manual_seed(0)
    x, z = torch.randn(2, 3, 2, generator=g, dtype=torch.float64)
    steps = sample(net, x, schedule, [*taus[::-1], 0], eta=1.0, noise=lambda i, like: z)
    for i, step in zip(range(short.T, 0, -1), steps, strict=True):
        expected = q_posterior(step.x_t, step.x0, i, short).sample(z)
        scale = 1 + step.x0.abs().max()
        assert (step.x_s - expected).abs().max() < 1e-7 * scale


@given(cases(names=POSITIVE, low=2, dtypes=(torch.float64,)))
def test_large_is_ddpm_with_beta(case: Case):
    """variance="large", s = t-1: DDPM's mean, eq. 11, plus sqrt(beta_t) z.

    mean = (x_t - beta_t/sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_t)
    """
    schedule, t, eps, z = case.schedule, case.times[0], case.y, case.y.flip(0)
    x0 = predict("eps", eps, case.x, t, schedule).x0
    got = reverse_step(x0, eps, t, t - 1, schedule, variance="large", z=z)
    beta, alpha, alpha_bar = (
        float(v[t]) for v in (schedule.beta, schedule.alpha, schedule.alpha_bar)
    )
    mean = (case.x - beta / (1 - alpha_bar) ** 0.5 * eps) / alpha**0.5
    scale = 1 + x0.abs().max()
    assert (got - (mean + beta**0.5 * z)).abs().max() < 1e-7 * scale


@given(cases(names=POSITIVE, low=2, dtypes=(torch.float64,)), st.sampled_from([0.0, 0.3, 1.0]))
def test_a_perfect_prediction_lands_on_the_marginal(case: Case, eta):
    """With the true (x0, eps), x_s = sqrt(ab_s) x0 + sqrt(1-ab_s) eps', eps' of unit variance.

    The noise of level s is c eps + sigma z with c^2 + sigma^2 = 1 - alpha_bar_s.
    """
    schedule, t, x0, eps = case.schedule, case.times[0], case.x, case.y
    s, z = t // 2, case.y.flip(0)
    base = reverse_step(x0, 0 * eps, t, s, schedule, eta=eta, z=0 * z)
    close(base, schedule.alpha_bar[s].sqrt() * x0)
    c = reverse_step(0 * x0, torch.ones_like(x0), t, s, schedule, eta=eta, z=0 * z)
    sigma = reverse_step(0 * x0, 0 * eps, t, s, schedule, eta=eta, z=torch.ones_like(z))
    close(c**2 + sigma**2, (1 - schedule.alpha_bar[s]).expand_as(c), 1e-7)


@given(any_schedule(POSITIVE), st.sampled_from(["eta", "large"]), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_last_step_adds_no_noise(schedule, variance, eta):
    """s = 0: x_0 = x0_hat exactly for any t, eta and variance, and no noise is asked for."""
    x0 = torch.tensor([[0.3, -0.7]], dtype=torch.float64)
    eps = torch.tensor([[1.1, 0.2]], dtype=torch.float64)
    for t in (1, schedule.T):
        got = reverse_step(x0, eps, t, 0, schedule, eta=eta, variance=variance)
        close(got, x0, 1e-7)

    def no_noise(i, like):
        raise AssertionError("the last step asked for noise")

    steps = sample(net, x0, schedule, [schedule.T, 0], eta=eta, variance=variance, noise=no_noise)
    last = final(steps)
    assert (last - sample_x0(x0, schedule)).abs().max() <= 1e-6 * (1 + last.abs().max())


def sample_x0(x, schedule):
    t = schedule.T
    return predict("eps", net(x, torch.full((len(x),), t)), x, t, schedule).x0


@given(cases(dtypes=(torch.float32,)), st.sampled_from(["eta", "large"]), st.floats(0, 1))
def test_float32_keeps_five_digits(case: Case, variance, eta):
    """reverse_step in float32 is within 1e-5 (max norm) of the same in float64."""
    t, s = case.t, case.t // 2
    options = {"eta": eta, "variance": variance}
    x0, eps, z = case.x, case.y, case.x.flip(0)
    low = reverse_step(x0, eps, t, s, case.schedule, z=z, **options)
    high = reverse_step(x0.double(), eps.double(), t, s, case.schedule, z=z.double(), **options)
    assert low.dtype == torch.float32
    assert (low - high).abs().max() <= 1e-5 * high.abs().max()


@given(cases(names=POSITIVE, low=2, dtypes=(torch.float64,)))
def test_steps_per_example_are_the_steps_one_by_one(case: Case):
    """reverse_step with t, s of shape (B,) = reverse_step of every example with its own ints."""
    t = torch.tensor(case.times)
    s, z = t // 2, case.x.flip(0)
    together = reverse_step(case.x, case.y, t, s, case.schedule, eta=0.7, z=z)
    for i in range(len(t)):
        row = slice(i, i + 1)
        alone = reverse_step(
            case.x[row], case.y[row], int(t[i]), int(s[i]), case.schedule, eta=0.7, z=z[row]
        )
        close(together[row], alone)


# ---- trajectories -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize(
    "options", [{}, {"eta": 0.4}, {"eta": 1.0}, {"variance": "large"}, {"clip": 1.0, "eta": 0.4}]
)
def test_sample_is_a_chain_of_reverse_steps(name, options, randn):
    """Every Step: (eps, x0) from the model at x_t, x_s = reverse_step, x_s the next x_t."""
    schedule, x, z = schedule_of(name, 20), randn(3, 2), randn(20, 3, 2)
    steps = list(sample(net, x, schedule, 8, noise=lambda i, like: z[i], **options))
    assert [(a.t, a.s) for a in steps] == list(pairwise(timesteps(20, 8).tolist()))
    assert steps[0].x_t is x
    step_options = {k: v for k, v in options.items() if k != "clip"}
    for i, step in enumerate(steps):
        if "clip" not in options:
            truth = predict(
                "eps", net(step.x_t, torch.full((3,), step.t)), step.x_t, step.t, schedule
            )
            close(step.eps, truth.eps)
            torch.testing.assert_close(step.x0, truth.x0, rtol=1e-9, atol=1e-6)
        x_s = reverse_step(step.x0, step.eps, step.t, step.s, schedule, z=z[i], **step_options)
        close(step.x_s, x_s)
        if i + 1 < len(steps):
            assert steps[i + 1].x_t.equal(step.x_s)


@pytest.mark.parametrize("name", POSITIVE)
def test_clipping_keeps_the_pair_consistent(name, randn):
    """With clip, x0 stays in bounds and x_t = a x0 + b eps still holds in every step."""
    schedule, x = schedule_of(name, 50), 3 * randn(5, 2)
    for clip, low, high in ((1.0, -1, 1), ((-0.5, 2.0), -0.5, 2.0)):
        touched = False
        for step in sample(net, x, schedule, 10, clip=clip):
            assert step.x0.min() >= low
            assert step.x0.max() <= high
            touched |= bool((step.x0 == low).any() | (step.x0 == high).any())
            alpha_bar = schedule.alpha_bar[step.t]
            close(alpha_bar.sqrt() * step.x0 + (1 - alpha_bar).sqrt() * step.eps, step.x_t)
        assert touched  # else this test clips nothing


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_all_kinds_of_model_walk_the_same_path(eta, randn):
    """A network read as eps, x0, v or score gives the same trajectory."""
    schedule, x, z = schedules.linear(30), randn(4, 2), randn(4, 2)

    def as_kind(kind):
        def model(x_t, t):
            return getattr(predict("eps", net(x_t, t), x_t, t, schedule), kind)

        options = {"eta": eta, "kind": kind, "noise": lambda i, like: z}
        return [step.x_s for step in sample(model, x, schedule, 10, **options)]

    expected = as_kind("eps")
    for kind in ("x0", "v", "score"):
        for a, b in zip(as_kind(kind), expected, strict=True):
            close(a, b, 1e-8)


@pytest.mark.parametrize("name", ["jsd", "zero_terminal_snr"])
def test_pure_noise_is_a_fine_start_for_x0_and_v(name, randn):
    """alpha_bar_T = 0: a model that knows x0 (as x0 or v) ends at it from any noise."""
    schedule, x0, x = schedule_of(name, 12), randn(3, 2), randn(3, 2)
    models = {
        "x0": lambda x_t, t: x0,
        "v": lambda x_t, t: predict("x0", x0, x_t, t, schedule).v,
    }
    for kind, model in models.items():
        for eta in (0.0, 1.0):
            g = torch.Generator().manual_seed(0)
            close(final(sample(model, x, schedule, kind=kind, eta=eta, generator=g)), x0)


def test_taus_of_every_form(randn):
    """taus as None, int, list, range and tensor are the levels they stand for."""
    schedule, x = schedules.linear(12), randn(2, 2)
    everything = final(sample(net, x, schedule))
    for taus in (12, range(12, -1, -1), list(range(12, -1, -1)), timesteps(12, 12)):
        assert final(sample(net, x, schedule, taus)).equal(everything)
    assert final(sample(net, x, schedule, [12, 8, 4, 0])).equal(final(sample(net, x, schedule, 3)))


@given(st.integers(1, 29), st.floats(0, 1))
def test_partial_chains_compose(k, eta):
    """T -> k, then k -> 0, is T -> 0: a chain may start below T and stop above 0."""
    schedule, g = schedules.cosine(30), torch.Generator().manual_seed(k)
    x, z = torch.randn(2, 3, 2, generator=g, dtype=torch.float64)
    options = {"eta": eta, "noise": lambda i, like: z}
    middle = final(sample(net, x, schedule, range(30, k - 1, -1), **options))
    end = final(sample(net, middle, schedule, range(k, -1, -1), **options))
    close(end, final(sample(net, x, schedule, **options)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SCHEDULES)
def test_any_shape_any_schedule(name, dtype, generator):
    """Samples are finite, of x_T's shape and dtype, for points and images and every schedule."""
    for shape in ((2, 2), (3, 1, 8, 8), (3, 3, 8, 8)):
        x = torch.randn(shape, generator=generator, dtype=dtype)
        steps = sample(net, x, schedule_of(name, 25), 6, kind="v", eta=0.5, generator=generator)
        x_0 = final(steps)
        assert x_0.shape == x.shape
        assert x_0.dtype == dtype
        assert x_0.isfinite().all()


def test_the_network_is_asked_with_int64_batches(randn):
    """model(x_t (B, *D), t (B,) int64): one call a step, t in 1..T, never 0."""
    seen = []

    def spy(x_t, t):
        assert t.shape == (3,)
        assert t.dtype == torch.int64
        seen.append(t.unique().item())
        return x_t

    final(sample(spy, randn(3, 2), schedules.linear(10), 5))
    assert seen == [10, 8, 6, 4, 2]


# ---- generators: lazy, and gradients ------------------------------------------------------------


def counting(calls):
    def model(x_t, t):
        calls.append(int(t[0]))
        return net(x_t, t)

    return model


def test_sampling_is_lazy(randn):
    """No network call before the first next(), and one per step after that."""
    calls = []
    steps = sample(counting(calls), randn(2, 2), schedules.linear(10))
    assert calls == []
    assert next(steps).t == 10
    assert calls == [10]
    next(steps)
    assert calls == [10, 9]


@pytest.mark.parametrize("start", [sample, sampling.invert])
def test_no_grad_stays_inside_the_generator(start, randn):
    """The samplers build no graph, and between their steps the caller's gradients are on."""
    weight = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    steps = start(lambda x, t: weight * x, randn(2, 2), schedules.linear(4))
    assert torch.is_grad_enabled()
    for step in steps:
        assert torch.is_grad_enabled()
        assert not any(v.requires_grad for v in (step.eps, step.x0, step.x_s))
        (weight * step.x_s.sum()).backward()
    assert torch.is_grad_enabled()
    assert weight.grad is not None


def test_an_abandoned_generator_leaves_gradients_on(randn):
    """Closing a sampler half way does not leave torch in no_grad mode."""
    steps = sample(net, randn(2, 2), schedules.linear(4))
    next(steps)
    steps.close()
    assert torch.is_grad_enabled()


# ---- the papers' names --------------------------------------------------------------------------


def test_ddpm_and_ddim_are_sample(randn):
    """ddpm: eta = 1, or "large"; ddim: eta on spaced levels; the same generator, the same x_0."""
    schedule, x = schedules.linear(60), randn(3, 2)

    def g():
        return torch.Generator().manual_seed(1)

    for sigma2, variance in (("beta", "large"), ("beta_tilde", "eta")):
        got = sampling.ddpm(net, x, schedule, sigma2=sigma2, generator=g())
        expected = final(sample(net, x, schedule, eta=1.0, variance=variance, generator=g()))
        assert got.equal(expected)
    for spacing in SPACINGS:
        taus = timesteps(60, 7, spacing)
        got = sampling.ddim(net, x, schedule, 7, eta=0.3, spacing=spacing, generator=g())
        assert got.equal(final(sample(net, x, schedule, taus, eta=0.3, generator=g())))
    assert sampling.ddim(net, x, schedule).equal(final(sample(net, x, schedule, 50)))


def test_ddim_of_gaussian_data_has_the_right_spread(gaussian_denoiser):
    """Exact denoiser of N(0.3, 0.25): DDIM maps N(0, 1) affinely to N(0.3, 0.25) as S grows."""
    schedule = schedules.linear(1000)
    model = gaussian_denoiser(schedule, 0.3, 0.25)
    x = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    errors = []
    for steps in (10, 100, 1000):
        low, middle, high = sampling.ddim(model, x, schedule, steps).flatten().tolist()
        assert high - middle == pytest.approx(middle - low)  # affine
        errors.append(abs((high - low) / 2 - 0.5) + abs(middle - 0.3))
    assert errors[2] < 0.02
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_ddpm_of_gaussian_data_has_the_right_moments(gaussian_denoiser, generator):
    """Exact denoiser of N(0.3, 0.25), all T steps: mean and variance of 20,000 samples."""
    schedule, n = schedules.linear(200), 20_000
    model = gaussian_denoiser(schedule, 0.3, 0.25)
    x = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    x_0 = sampling.ddpm(model, x, schedule, generator=generator)
    assert abs(x_0.mean() - 0.3) < 5 * 0.5 / n**0.5 + 0.005  # + what T = 200 leaves of x_T
    assert abs(x_0.var() / 0.25 - 1) < 5 * (2 / n) ** 0.5 + 0.02


def test_progressive_x0_are_the_predictions_of_the_chain(randn):
    """(steps, B, *D), the x0 of every Step; the last one is the sample itself when s = 0."""
    schedule, x = schedules.linear(20), randn(3, 1, 2, 2)
    got = sampling.progressive_x0(net, x, schedule, 5)
    steps = list(sample(net, x, schedule, 5))
    assert got.shape == (5, 3, 1, 2, 2)
    assert got.equal(torch.stack([step.x0 for step in steps]))
    close(got[-1], steps[-1].x_s)


def test_samples_from_one_frozen_state(randn, generator):
    """(n, *D) from one x_t: different draws, except from t = 1, where nothing is left to decide."""
    schedule, x_t = schedules.linear(20), randn(1, 2, 2)
    many = sampling.from_frozen(net, x_t, 20, 6, schedule, generator=generator)
    assert many.shape == (6, 1, 2, 2)
    assert torch.pdist(many.flatten(1)).min() > 1e-3
    one = sampling.from_frozen(net, x_t, 1, 6, schedule, generator=generator)
    assert one.std(0).max() < 1e-12


def test_frozen_states_share_more_the_later_they_freeze(gaussian_denoiser, generator):
    """The variance of x_0 given x_t is that of Bayes: v(1-ab)/(ab v + 1-ab), within 10 percent."""
    schedule, v = schedules.linear(200), 0.25
    model = gaussian_denoiser(schedule, 0.3, v)
    x_t = torch.tensor([0.2], dtype=torch.float64)
    for t in (20, 60, 120, 200):
        draws = sampling.from_frozen(
            model, x_t, t, 5000, schedule, generator=generator, variance="large"
        )
        noise = 1 - schedule.alpha_bar[t]
        expected = v * noise / (schedule.alpha_bar[t] * v + noise)
        assert draws.var().item() == pytest.approx(expected.item(), rel=0.1)


def test_shared_noise_keeps_copies_together(randn, generator):
    """Equal x_T and shared noise for k steps: rows agree after k steps and differ after k + 1."""
    schedule, k = schedules.linear(10), 4
    x = randn(1, 2).expand(5, 2)
    noise = sampling.shared_noise(k, generator)
    for i, step in enumerate(sample(net, x, schedule, eta=1.0, noise=noise)):
        spread = step.x_s.std(0).max()
        assert (spread < 1e-12) == (i < k)


# ---- inversion ----------------------------------------------------------------------------------


def test_inversion_walks_the_levels_upwards(randn):
    """The levels of taus in reverse; s > t; x_s = a_s x0 + b_s eps; starts at the data."""
    schedule, x0 = schedules.linear(20), randn(3, 2)
    steps = list(sampling.invert(net, x0, schedule, 5))
    assert [(step.t, step.s) for step in steps] == list(pairwise([0, 4, 8, 12, 16, 20]))
    assert steps[0].x_t.equal(x0)
    for step in steps:
        alpha_bar = schedule.alpha_bar[step.s]
        close(step.x_s, alpha_bar.sqrt() * step.x0 + (1 - alpha_bar).sqrt() * step.eps)


def test_inversion_then_sampling_reconstructs(gaussian_denoiser, randn):
    """MSE of x0 -> latent -> x0' falls by more than 5 with every tenfold number of steps."""
    schedule, x0 = schedules.linear(1000), 0.3 + 0.5 * randn(100, 2)
    model = gaussian_denoiser(schedule)
    errors = [
        ((sampling.reconstruct(model, x0, schedule, S) - x0) ** 2).mean().item()
        for S in (10, 100, 1000)
    ]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 1e-5


def test_inversion_gaussianises(gaussian_denoiser, randn):
    """The latents of N(0.3, 0.25) data have mean 0 and variance 1 (DDIM's encoder)."""
    schedule, x0 = schedules.linear(300), 0.3 + 0.5 * randn(5000, 1)
    latent = final(sampling.invert(gaussian_denoiser(schedule), x0, schedule))
    assert abs(latent.mean()) < 5 / 5000**0.5 + 0.01
    assert abs(latent.var() - 1) < 5 * (2 / 5000) ** 0.5 + 0.02


def test_inversion_undoes_a_constant_prediction(randn):
    """For eps that does not depend on x, inversion and sampling are exact inverses."""
    schedule, x0, eps = schedules.cosine(50), randn(4, 2), randn(4, 2)
    close(sampling.reconstruct(lambda x, t: eps, x0, schedule, 10), x0, 1e-6)


# ---- interpolation ------------------------------------------------------------------------------

vectors = st.integers(0, 2**20).map(
    lambda seed: torch.randn(
        2, 4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
)


def angle(a, b):
    """Angle between the examples of a and b, (B,), accurate near 0 and pi."""
    a, b = a.flatten(1), b.flatten(1)
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    return 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))


@given(vectors, st.floats(0, 1))
def test_slerp_stays_on_the_sphere(ab, lam):
    """Equal norms are kept, and the angle to a is lam theta, example by example."""
    a, b = ab
    b = b * (a.norm(dim=1) / b.norm(dim=1))[:, None]
    got = sampling.slerp(a, b, lam)
    close(got.norm(dim=1), a.norm(dim=1))
    close(angle(a, got), lam * angle(a, b), 1e-6)
    close(angle(got, b), (1 - lam) * angle(a, b), 1e-6)


@given(vectors)
def test_slerp_ends(ab):
    """lam = 0 gives a and lam = 1 gives b, of any norm; lam may differ for every example."""
    a, b = ab
    close(sampling.slerp(a, b, 0), a)
    close(sampling.slerp(a, b, 1.0), b)
    mixed = sampling.slerp(a, b, torch.tensor([0.0, 1.0, 0.0, 1.0]))
    close(mixed, torch.stack([a[0], b[1], a[2], b[3]]))


@given(vectors, st.floats(0, 1), st.floats(0, 1e-3))
def test_slerp_of_parallel_vectors_is_linear(ab, lam, gap):
    """theta -> 0: (1-lam) a + lam b; also between two lengths of one direction."""
    a, other = ab
    for b in (a, 2 * a, a + gap * other):
        expected = (1 - lam) * a + lam * b
        bound = 1e-8 + 0.2 * (angle(a, b).max() ** 2) * (a.abs().max() + b.abs().max())
        assert (sampling.slerp(a, b, lam) - expected).abs().max() <= bound


@given(vectors)
def test_slerp_of_opposite_vectors_is_finite(ab):
    """b = -a has no direction to turn to: finite, and still a and b at the ends."""
    a, _ = ab
    for lam in (0.0, 0.3, 0.5, 1.0):
        assert sampling.slerp(a, -a, lam).isfinite().all()
    close(sampling.slerp(a, -a, 0.0), a)
    close(sampling.slerp(a, -a, 1.0), -a)
    zero = torch.zeros_like(a)
    assert sampling.slerp(zero, a, 0.5).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slerp_of_images_keeps_dtype_and_shape(dtype, randn):
    """One angle per image: (B, C, H, W) interpolates like its flattened vectors."""
    a, b = randn(3, 2, 4, 4, dtype=dtype), randn(3, 2, 4, 4, dtype=dtype)
    got = sampling.slerp(a, b, 0.4)
    assert got.dtype == dtype
    torch.testing.assert_close(got.flatten(1), sampling.slerp(a.flatten(1), b.flatten(1), 0.4))


def test_interpolation_ends_at_the_two_samples(randn):
    """interpolate(lams = [0, .5, 1]): (L, B, *D), ends equal to the samples of the latents."""
    schedule, a, b = schedules.linear(20), randn(3, 1, 2, 2), randn(3, 1, 2, 2)
    path = sampling.interpolate(net, a, b, [0, 0.5, 1], schedule, 5)
    assert path.shape == (3, 3, 1, 2, 2)
    close(path[0], final(sample(net, a, schedule, 5)))
    close(path[2], final(sample(net, b, schedule, 5)))
    close(path[1], final(sample(net, sampling.slerp(a, b, 0.5), schedule, 5)))


def test_stochastic_interpolation_starts_on_its_level(randn, generator):
    """The mix at level t is q_sample of the mixed data: variance 1 - alpha_bar_t for any lam."""
    schedule, t, lams = schedules.linear(20), 12, [0.0, 0.25, 0.5, 1.0]
    a, b = randn(5, 2), randn(5, 2)
    first = []

    def spy(x_t, times):
        if times[0] == t:
            first.append(x_t)
        return net(x_t, times)

    path = sampling.interpolate_ddpm(spy, a, b, lams, t, schedule, generator=generator)
    assert path.shape == (4, 5, 2)
    x_t = first[0].view(4, 5, 2)
    alpha_bar = schedule.alpha_bar[t]
    mixed = torch.stack([(1 - lam) * a + lam * b for lam in lams])
    noise = (x_t - alpha_bar.sqrt() * mixed) / (1 - alpha_bar).sqrt()
    close(noise, noise[:1].expand_as(noise))  # one eps for all lams ...
    close(q_sample(mixed[0], t, noise[0], schedule), x_t[0])
    many = torch.zeros(20_000, 1, dtype=torch.float64)
    first.clear()
    sampling.interpolate_ddpm(spy, many, many, [0.5], t, schedule, generator=generator)
    ratio = first[0].var() / (1 - alpha_bar)  # ... of unit variance
    assert abs(ratio - 1) < 5 * (2 / 20_000) ** 0.5


def test_stochastic_interpolation_at_level_0_mixes_the_data(randn):
    """t = 0: (1-lam) a + lam b, untouched by any network."""
    a, b = randn(2, 2), randn(2, 2)

    def no_network(x_t, t):
        raise AssertionError("the network was called")

    path = sampling.interpolate_ddpm(no_network, a, b, [0.0, 0.3, 1.0], 0, schedules.linear(5))
    close(path, torch.stack([a, 0.7 * a + 0.3 * b, b]))


def test_same_generator_same_samples(randn):
    """Equal seeds, equal samples; other seeds, other samples; the global state is not touched."""
    schedule, x = schedules.linear(10), randn(3, 2)
    before = torch.get_rng_state()
    a, b, c = (
        sampling.ddpm(net, x, schedule, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert a.equal(b)
    assert not a.equal(c)
    assert torch.get_rng_state().equal(before)


def test_samplers_on_the_device(device):
    """Everything runs where x_T is, with a generator of the CPU or of the device."""
    schedule = schedules.linear(10)
    x = torch.ones(3, 2, device=device)
    for place in {"cpu", device}:
        g = torch.Generator(place).manual_seed(0)
        assert sampling.ddpm(net, x, schedule, generator=g).device == x.device
    assert sampling.reconstruct(net, x, schedule, 5).device == x.device
    assert sampling.interpolate(net, x, -x, [0.2], schedule, 5).device == x.device
    t, s = torch.tensor([2, 5, 10], device=device), torch.tensor([1, 1, 4], device=device)
    assert reverse_step(x, x, t, s, schedule, eta=0.5, z=x).device == x.device


def test_examples_of_a_batch_do_not_mix():
    """A batch is its rows, one by one: no example sees another."""
    schedule = schedules.cosine(15)
    x = torch.tensor([[3.0, -1.0], [0.2, 0.4], [-2.0, 1.0]], dtype=torch.float64)
    together = final(sample(net, x, schedule))
    alone = torch.cat([final(sample(net, row[None], schedule)) for row in x])
    close(together, alone)
