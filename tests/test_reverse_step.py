"""The one reverse step: posteriors, perfect predictions, the last step, digits."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import sine_net as net
from strategies import POSITIVE, Case, any_schedule, cases

from diffusion_edu import schedules
from diffusion_edu.posterior import q_posterior
from diffusion_edu.prediction import predict
from diffusion_edu.sampling import reverse_step, sample


def final(steps):
    *_, last = steps
    return last.x_s


def close(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


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
