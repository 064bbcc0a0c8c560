"""The Bayes posterior and DDIM's family: quadrature, exact composition, respaced chains."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import POSITIVE, SCHEDULES, Case, any_schedule, cases, schedule_of

from diffusion_edu import schedules
from diffusion_edu.forward import q_marginal, q_step
from diffusion_edu.gaussian import Gaussian
from diffusion_edu.posterior import ddim_sigma, q_posterior, q_sigma, q_sigma_forward


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("t", [2, 3, 10, 20])
def test_the_posterior_is_bayes_rule(name, t):
    """Identity 2. q_posterior = prior x likelihood / evidence, by quadrature in one dimension.

    The evidence found on the way, the integral of prior x likelihood, is q(x_t | x_0).
    """
    schedule = schedule_of(name, 20)
    x0 = column(0.8)
    x_t = q_marginal(x0, t, schedule).sample(column(-1.3))
    prior = q_marginal(x0, t - 1, schedule)
    posterior = q_posterior(x_t, x0, t, schedule)
    centre, width = posterior.mean.item(), 12 * posterior.var.sqrt().item()
    grid = torch.linspace(centre - width, centre + width, 20001, dtype=torch.float64)[:, None]
    likelihood = q_step(grid, t, schedule).log_prob(x_t.expand_as(grid))
    joint = (Gaussian(prior.mean.expand_as(grid), prior.var).log_prob(grid) + likelihood).exp()
    evidence = torch.trapezoid(joint, grid[:, 0])
    density = Gaussian(posterior.mean.expand_as(grid), posterior.var).log_prob(grid).exp()
    torch.testing.assert_close(joint / evidence, density, rtol=1e-6, atol=1e-8 / width)
    torch.testing.assert_close(evidence.log(), q_marginal(x0, t, schedule).log_prob(x_t)[0])


@given(cases())
def test_the_first_posterior_is_the_data(case: Case):
    """At t = 1 q(x_0 | x_1, x_0) is the point mass at x_0."""
    point = q_posterior(case.x, case.y, 1, case.schedule)
    torch.testing.assert_close(point.mean, case.y, rtol=1e-6, atol=1e-12)
    assert (point.var == 0).all()


@given(cases(dtypes=(torch.float32,)))
def test_float32_keeps_five_digits(case: Case):
    """q_posterior and q_sigma in float32 are within 1e-5 (max norm) of the same in float64."""
    schedule, t = case.schedule, case.t
    x, y = case.x.double(), case.y.double()
    for low, high in [
        (q_posterior(case.x, case.y, t, schedule), q_posterior(x, y, t, schedule)),
        *(
            (
                q_sigma(case.x, case.y, t, t - 1, sigma, schedule),
                q_sigma(x, y, t, t - 1, sigma, schedule),
            )
            for sigma in (ddim_sigma(t, t - 1, eta, schedule) for eta in (0.0, 0.3, 1.0))
        ),
    ]:
        assert low.mean.dtype == torch.float32
        assert (low.mean - high.mean).abs().max() <= 1e-5 * high.mean.abs().max()
        assert (low.var - high.var).abs().max() <= 1e-5 * high.var.abs().max()


@st.composite
def jumps(draw, low_s=0):
    """A schedule, a pair s < t, and any sigma that is allowed: 0 <= sigma^2 <= 1 - alpha_bar_s."""
    schedule = draw(any_schedule(low=2 + low_s))
    s = draw(st.integers(low_s, schedule.T - 1))
    t = draw(st.integers(s + 1, schedule.T))
    share = draw(st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)))
    sigma = (share * (1 - schedule.alpha_bar[s])).sqrt()
    return schedule, t, s, sigma


@given(jumps(), st.floats(-2, 2))
def test_every_sigma_keeps_the_marginals(jump, value):
    """Identity 3. integral q_sigma(x_s|x_t,x0) q(x_t|x0) dx_t = q(x_s|x0), any s < t, any sigma.

    q_sigma's mean is affine in x_t: with slope c, N(m, v) becomes N(mean at m, c^2 v + sigma^2).
    """
    schedule, t, s, sigma = jump
    x0 = column(value)
    q_t, q_s = q_marginal(x0, t, schedule), q_marginal(x0, s, schedule)
    at_mean = q_sigma(q_t.mean, x0, t, s, sigma, schedule)
    slope = q_sigma(q_t.mean + 1, x0, t, s, sigma, schedule).mean - at_mean.mean
    torch.testing.assert_close(at_mean.mean, q_s.mean, rtol=1e-9, atol=1e-9)
    var = slope**2 * q_t.var + at_mean.var
    torch.testing.assert_close(var, q_s.var.expand_as(var), rtol=1e-7, atol=1e-12)


@given(jumps(low_s=1), st.integers(0, 1000))
def test_the_non_markovian_forward_is_bayes_rule(jump, seed):
    """q_sigma(x_s|x_t,x0) q(x_t|x0) = q_sigma(x_t|x_s,x0) q(x_s|x0): one joint, factored twice."""
    schedule, t, s, sigma = jump
    if not 1e-6 < sigma**2 < (1 - schedule.alpha_bar[s]) * (1 - 1e-9):
        return  # a density needs variance
    g = torch.Generator().manual_seed(seed)
    x0, z_s, z_t = torch.randn(3, 4, 2, generator=g, dtype=torch.float64)
    x_s = q_marginal(x0, s, schedule).sample(z_s)
    x_t = q_sigma_forward(x_s, x0, t, s, sigma, schedule).sample(z_t)
    backward = q_sigma(x_t, x0, t, s, sigma, schedule).log_prob(x_s)
    backward = backward + q_marginal(x0, t, schedule).log_prob(x_t)
    forward = q_sigma_forward(x_s, x0, t, s, sigma, schedule).log_prob(x_t)
    forward = forward + q_marginal(x0, s, schedule).log_prob(x_s)
    torch.testing.assert_close(backward, forward, rtol=1e-6, atol=1e-6)


@given(cases(low=2, dtypes=(torch.float64,)))
def test_ddpms_forward_is_the_markovian_one(case: Case):
    """For eta = 1 q_sigma(x_t|x_s,x0) = q(x_t|x_s): x_0 drops out; for eta = 0 it is a point."""
    schedule, t = case.schedule, case.t
    sigma = ddim_sigma(t, t - 1, 1.0, schedule)
    got = q_sigma_forward(case.x, case.y, t, t - 1, sigma, schedule)
    expected = q_step(case.x, t, schedule)
    torch.testing.assert_close(got.mean, expected.mean, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(got.var, expected.var, rtol=1e-8, atol=1e-12)
    assert (q_sigma_forward(case.x, case.y, t, t - 1, 0.0, schedule).var == 0).all()


@given(cases(dtypes=(torch.float64,)))
def test_eta_1_is_the_bayes_posterior(case: Case):
    """Identity 4. q_sigma with eta = 1 and s = t-1 is q_posterior."""
    schedule, t = case.schedule, case.t
    got = q_sigma(case.x, case.y, t, t - 1, ddim_sigma(t, t - 1, 1.0, schedule), schedule)
    expected = q_posterior(case.x, case.y, t, schedule)
    torch.testing.assert_close(got.mean, expected.mean, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(got.var, expected.var, rtol=1e-9, atol=1e-14)


@given(any_schedule(low=2), st.data())
def test_eta_1_on_skipped_pairs_is_the_posterior_of_the_respaced_chain(schedule, data):
    """Identity 4. q_sigma(eta = 1) for tau_{i-1} < tau_i is q_posterior of respace(taus) at i."""
    taus = sorted(data.draw(st.sets(st.integers(1, schedule.T), min_size=1, max_size=6)))
    short = schedules.respace(schedule, taus)
    x, y = column(0.7, -1.2), column(-0.3, 0.4)
    for i, (s, t) in enumerate(zip([0, *taus[:-1]], taus, strict=True), start=1):
        got = q_sigma(x, y, t, s, ddim_sigma(t, s, 1.0, schedule), schedule)
        expected = q_posterior(x, y, i, short)
        torch.testing.assert_close(got.mean, expected.mean, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(got.var, expected.var, rtol=1e-9, atol=1e-14)


@given(any_schedule(), st.floats(0, 1))
def test_ddim_sigma_is_eta_times_sqrt_beta_tilde(schedule, eta):
    """sigma(t, t-1, eta) = eta sqrt(beta_tilde_t), as a tensor of times and time by time."""
    t = torch.arange(1, schedule.T + 1)
    sigma = ddim_sigma(t, t - 1, eta, schedule)
    assert sigma.dtype == torch.float64
    torch.testing.assert_close(sigma, eta * schedule.beta_tilde[1:].sqrt(), rtol=1e-7, atol=1e-9)
    T = schedule.T
    assert ddim_sigma(T, T - 1, eta, schedule).item() == pytest.approx(sigma[-1].item(), abs=1e-15)


@given(cases(names=POSITIVE, low=1, dtypes=(torch.float64,)), st.data())
def test_sigma_0_moves_along_the_ray_of_one_noise(case: Case, data):
    """eta = 0: x_t and x_s have the same x_0 and the same eps; only the level differs."""
    schedule, t, x0, eps = case.schedule, max(case.times), case.x, case.y
    s = data.draw(st.integers(0, t - 1))
    alpha_bar = schedule.alpha_bar
    x_t = alpha_bar[t].sqrt() * x0 + (1 - alpha_bar[t]).sqrt() * eps
    x_s = alpha_bar[s].sqrt() * x0 + (1 - alpha_bar[s]).sqrt() * eps
    got = q_sigma(x_t, x0, t, s, 0.0, schedule)
    torch.testing.assert_close(got.mean, x_s, rtol=1e-8, atol=1e-9)
    assert (got.var == 0).all()


@given(jumps())
def test_sigma_of_several_kinds_is_one_sigma(jump):
    """sigma as a number, a 0-dim tensor and (B,) copies give the same Gaussian."""
    schedule, t, s, sigma = jump
    x, y = column(0.7, -1.2), column(-0.3, 0.4)
    number = q_sigma(x, y, t, s, float(sigma), schedule)
    for other in (sigma, sigma.expand(2)):
        got = q_sigma(x, y, t, s, other, schedule)
        torch.testing.assert_close(got.mean, number.mean)
        torch.testing.assert_close(got.var.expand_as(x), number.var.expand_as(x))


def test_posteriors_on_the_device(device):
    """Times on the device of x work everywhere: the tables stay on the CPU."""
    schedule = schedules.linear(10)
    x = torch.ones(3, 2, device=device)
    t, s = torch.tensor([2, 5, 10], device=device), torch.tensor([1, 1, 4], device=device)
    assert q_posterior(x, x, t, schedule).sample().device == x.device
    sigma = ddim_sigma(t, s, 0.5, schedule)
    assert q_sigma(x, x, t, s, sigma, schedule).mean.device == x.device
    assert q_sigma_forward(x, x, t, s, sigma, schedule).mean.device == x.device
