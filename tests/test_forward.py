"""The forward process: one step, many steps, whole chains."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SCHEDULES, Case, cases, schedule_of

from diffusion_edu import schedules
from diffusion_edu.forward import forward_chain, q_marginal, q_sample, q_step


@given(cases(dtypes=(torch.float64,)), st.integers(0, 2**20))
def test_steps_compose_to_the_marginal(case: Case, seed):
    """Identity 1. T applications of q_step, composed as Gaussians, are q_marginal exactly.

    x_t = slope x_{t-1} + sqrt(beta) z  sends N(m, v) to N(slope m, slope^2 v + beta).
    """
    schedule, x0 = case.schedule, case.x[:1].flatten()[:3][None]
    stop = 1 + seed % min(schedule.T, 400)
    mean, var = x0, torch.zeros_like(x0)
    for t in range(1, stop + 1):
        step = q_step(mean, t, schedule)
        slope = q_step(torch.ones_like(x0), t, schedule).mean
        mean, var = step.mean, slope**2 * var + step.var
    expected = q_marginal(x0, stop, schedule)
    torch.testing.assert_close(mean, expected.mean, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(var, expected.var.expand_as(var), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", SCHEDULES)
def test_chains_have_the_moments_of_the_marginal(name, randn, generator):
    """Identity 1 by Monte-Carlo: mean and variance of x_t over 20,000 chains, within 5 sigma."""
    n, T = 20_000, 20
    schedule = schedule_of(name, T)
    x0 = torch.tensor([[1.5, -0.5]], dtype=torch.float64).expand(n, 2)
    chain = forward_chain(x0, schedule, generator=generator)
    for t in (1, 2, 10, T):
        q = q_marginal(x0[:1], t, schedule)
        mean_error = (chain[t].mean(0) - q.mean[0]).abs()
        assert (mean_error < 5 * (q.var / n).sqrt() + 1e-12).all()
        var_error = (chain[t].var(0) / q.var - 1).abs()
        assert (var_error < 5 * (2 / n) ** 0.5).all()


@given(cases())
def test_a_chain_is_the_recursion_of_ddpm_eq_2(case: Case):
    """x_t = sqrt(1 - beta_t) x_{t-1} + sqrt(beta_t) eps_t, x_0 first, shape (T+1, B, *D)."""
    schedule = schedules.respace(case.schedule, sorted({1, case.schedule.T}))
    eps = torch.stack([case.y, case.x.flip(0)])[: schedule.T]
    chain = forward_chain(case.x, schedule, eps)
    assert chain.shape == (schedule.T + 1, *case.x.shape)
    assert chain.dtype == case.x.dtype
    assert chain[0].equal(case.x)
    for t in range(1, schedule.T + 1):
        beta = float(schedule.beta[t])
        expected = (1 - beta) ** 0.5 * chain[t - 1] + beta**0.5 * eps[t - 1]
        torch.testing.assert_close(chain[t], expected, rtol=1e-5, atol=1e-6)


@given(cases(low=0))
def test_q_sample_is_the_formula_in_float64(case: Case):
    """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps; float32 within 1e-5 of float64."""
    alpha_bar = case.table(case.schedule.alpha_bar)
    exact = alpha_bar.sqrt() * case.x.double() + (1 - alpha_bar).sqrt() * case.y.double()
    got = q_sample(case.x, case.t, case.y, case.schedule)
    assert got.dtype == case.x.dtype
    tolerance = 1e-5 if got.dtype == torch.float32 else 1e-14
    assert (got.double() - exact).abs().max() <= tolerance * exact.abs().max()


@given(cases(low=0))
def test_q_sample_draws_from_q_marginal(case: Case):
    """q_sample(x0, t, eps) = q_marginal(x0, t).sample(eps)."""
    got = q_sample(case.x, case.t, case.y, case.schedule)
    same = q_marginal(case.x, case.t, case.schedule).sample(case.y)
    torch.testing.assert_close(got, same, rtol=1e-6, atol=1e-6)


@given(cases(low=1))
def test_q_step_is_the_formula_in_float64(case: Case):
    """mean sqrt(1 - beta_t) x_{t-1}, variance beta_t; float32 within 1e-5 of float64."""
    beta = case.table(case.schedule.beta)
    got = q_step(case.x, case.t, case.schedule)
    exact = (1 - beta).sqrt() * case.x.double()
    tolerance = 1e-5 if got.mean.dtype == torch.float32 else 1e-12
    assert (got.mean.double() - exact).abs().max() <= tolerance * exact.abs().max()
    assert ((got.var.double() - beta).abs() <= tolerance * beta.abs()).all()


def test_a_chain_is_drawn_from_its_generator(randn):
    """Equal seeds, equal chains; other seeds, other chains; the global state is not touched."""
    schedule, x0, before = schedules.linear(5), randn(3, 2), torch.get_rng_state()
    a, b, c = (
        forward_chain(x0, schedule, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert a.equal(b)
    assert not a[1].equal(c[1])
    assert torch.get_rng_state().equal(before)


@given(cases())
def test_level_0_is_the_data(case: Case):
    """q_marginal(x, 0) is the point mass at x, q_sample(x, 0, eps) = x: no off-by-one, exactly."""
    point = q_marginal(case.x, 0, case.schedule)
    assert point.mean.equal(case.x)
    assert (point.var == 0).all()
    assert q_sample(case.x, 0, case.y, case.schedule).equal(case.x)
    zeros = torch.zeros(len(case.x), dtype=torch.int64)
    assert q_sample(case.x, zeros, case.y, case.schedule).equal(case.x)


@given(cases(low=0))
def test_an_int_is_a_tensor_of_equal_times(case: Case):
    """t as an int and t as (B,) copies of it give the same numbers."""
    t = case.times[0]
    batch = torch.full((len(case.x),), t)
    assert q_sample(case.x, t, case.y, case.schedule).equal(
        q_sample(case.x, batch, case.y, case.schedule)
    )


def test_tensors_of_the_device_stay_there(device):
    """The tables live on the CPU; results live where x and t do."""
    schedule = schedules.linear(10)
    x, t = torch.ones(4, 2, device=device), torch.tensor([1, 2, 3, 10], device=device)
    assert q_sample(x, t, x, schedule).device == x.device
    assert q_marginal(x, t, schedule).sample().device == x.device
    cpu_generator = torch.Generator().manual_seed(0)
    assert forward_chain(x, schedule, generator=cpu_generator).device == x.device
