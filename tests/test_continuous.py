"""Continuous time against closed forms: Gaussians, whose SDE and ODE are solved, and mixtures."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from diffusion_edu import schedules
from diffusion_edu.continuous import (
    VPSDE,
    ContinuousStep,
    annealed_langevin,
    ddim_continuous,
    discretize,
    oracle_eps,
    oracle_score,
    probability_flow,
    reverse_sde,
    schedule_rates,
    signal_noise_rates,
)
from diffusion_edu.oracles import EmpiricalOracle, MixtureOracle
from diffusion_edu.sampling import sample

LINEAR = schedules.linear(1000)
SDE = VPSDE()
MEAN, VAR = 0.7, 0.3  # the Gaussian data of most tests: N(MEAN, VAR) in every coordinate
Draw = Callable[..., Tensor]


def gaussian(mean: float = MEAN, var: float = VAR) -> MixtureOracle:
    one = torch.ones(1, dtype=torch.float64)
    return MixtureOracle(mean * torch.ones(1, 2, dtype=torch.float64), var * one, one, LINEAR)


def three_modes() -> MixtureOracle:
    means = torch.tensor([[-1.5, 0.0], [1.0, 1.0], [0.5, -1.5]], dtype=torch.float64)
    variances = torch.tensor([0.02, 0.05, 0.01], dtype=torch.float64)
    return MixtureOracle(means, variances, torch.tensor([0.5, 0.2, 0.3]), LINEAR)


def last(steps: Iterator[ContinuousStep]) -> Tensor:
    for step in steps:
        x = step.x_s
    return x


def marginal(alpha_bar: Tensor | float) -> tuple[float, float]:
    """Mean and standard deviation of the Gaussian data at a noise level."""
    a2 = float(alpha_bar)
    return math.sqrt(a2) * MEAN, math.sqrt(a2 * VAR + 1 - a2)


def transported(x: Tensor, start: Tensor | float, end: Tensor | float) -> Tensor:
    """The flow between two noise levels, exact for Gaussian data: quantile to quantile."""
    (m, s), (n, r) = marginal(start), marginal(end)
    return n + r / s * (x - m)


# ---- signal and noise rates ---------------------------------------------------------------------


@given(
    times=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    low=st.floats(0, 0.4),
    high=st.floats(0.5, 1),
)
def test_rates_lie_on_the_unit_circle(times: list[float], low: float, high: float) -> None:
    """signal^2 + noise^2 = 1; the given rates at both ends; the angle is linear in time."""
    t = torch.tensor(times, dtype=torch.float64)
    signal, noise = signal_noise_rates(t, low, high)
    assert torch.allclose(signal**2 + noise**2, torch.ones_like(t))
    angle = torch.atan2(noise, signal)
    assert torch.allclose(angle, (1 - t) * math.acos(high) + t * math.acos(low), atol=1e-7)
    assert math.isclose(signal_noise_rates(0.0, low, high).signal, high, abs_tol=1e-12)
    assert math.isclose(signal_noise_rates(1.0, low, high).signal, low, abs_tol=1e-12)
    assert signal_noise_rates(t.float()).signal.dtype == torch.float32


def test_continuous_ddim_is_discrete_ddim_on_the_same_levels(randn: Draw) -> None:
    """Rates of a schedule, steps that divide T: every x, x0, eps of DDIM with eta = 0, to 1e-10."""
    oracle, x = three_modes(), randn(40, 2)
    for steps in (1, 8, 50):
        ours = list(ddim_continuous(oracle_eps(oracle), x, steps, schedule_rates(LINEAR)))
        discrete = list(sample(oracle, x, LINEAR, steps))
        assert [round(1000 * step.t) for step in ours] == [step.t for step in discrete]
        assert [round(1000 * step.s) for step in ours] == [step.s for step in discrete]
        for a, b in zip(ours, discrete, strict=True):
            for name in ("x_t", "x_s", "x0"):
                assert torch.allclose(getattr(a, name), getattr(b, name), rtol=1e-10, atol=1e-10)
            assert torch.allclose(a.eps, b.eps, rtol=1e-10, atol=1e-10)


def test_continuous_ddim_steps_are_consistent(randn: Draw) -> None:
    """x_t = signal_t x0 + noise_t eps, x_s alike at s; the last x_s is x0 itself."""
    variances = []

    def model(x: Tensor, variance: Tensor) -> Tensor:
        assert variance.shape == (len(x),)
        variances.append(float(variance[0]))
        return oracle_eps(three_modes())(x, variance)

    steps = list(ddim_continuous(model, randn(3, 2), 7))
    for step in steps:
        signal, noise = signal_noise_rates(step.t)
        assert torch.allclose(signal * step.x0 + noise * step.eps, step.x_t)
        assert math.isclose(variances.pop(0), noise**2)
    for step, following in itertools.pairwise(steps):
        signal, noise = signal_noise_rates(step.s)
        assert torch.equal(step.x_s, following.x_t)
        assert torch.allclose(signal * step.x0 + noise * step.eps, step.x_s)
        assert math.isclose(step.s, following.t)
    assert torch.equal(steps[-1].x_s, steps[-1].x0)
    assert (steps[0].t, steps[-1].s) == (1.0, 0.0)


def test_continuous_ddim_converges_to_the_flow(randn: Draw) -> None:
    """On Gaussian data: E[x_0 | x] at time 0 of the transported x, with error O(1/steps)."""
    x = randn(30, 2)
    start, end = (float(signal_noise_rates(t).signal) ** 2 for t in (1.0, 0.0))
    wanted = gaussian().evaluate(transported(x, start, end), end).x0
    errors = [
        float((last(ddim_continuous(oracle_eps(gaussian()), x, n)) - wanted).norm())
        for n in (200, 400, 800)
    ]
    for coarse, fine in itertools.pairwise(errors):
        assert 1.8 < coarse / fine < 2.2


# ---- the SDE ------------------------------------------------------------------------------------


@given(t=st.floats(1e-4, 1), low=st.floats(0.01, 2), extra=st.floats(0, 30))
def test_alpha_bar_solves_the_moment_equations(t: float, low: float, extra: float) -> None:
    """d/dt alpha_bar = -beta alpha_bar; noise_var = 1 - alpha_bar; drift, diffusion fit eq. 11."""
    sde = VPSDE(low, low + extra)
    time = torch.tensor([t], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(sde.alpha_bar(time).sum(), time)
    with torch.no_grad():
        assert torch.allclose(slope, -sde.beta(time) * sde.alpha_bar(time), rtol=1e-10)
        assert torch.allclose(sde.noise_var(time), 1 - sde.alpha_bar(time), atol=1e-14)
        assert torch.allclose(sde.diffusion(time) ** 2, sde.beta(time))
        x = torch.ones(1, 3, dtype=torch.float64)
        assert torch.allclose(sde.drift(x, t), -0.5 * sde.beta(t) * x)
    assert float(sde.alpha_bar(0)) == 1
    assert math.isclose(SDE.alpha_bar(1.0), math.exp(-10.05), rel_tol=1e-12)
    assert math.isclose(SDE.noise_var(1e-12), 1e-13, rel_tol=1e-6)  # 1 - exp(-1e-13) would cancel


def test_drift_broadcasts_over_images(randn: Draw) -> None:
    """drift(x, t)[i] = drift(x[i], t[i]) for t of shape (B,)."""
    x, t = randn(3, 1, 4, 4), torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    for i in range(3):
        assert torch.allclose(SDE.drift(x, t)[i], -0.5 * SDE.beta(float(t[i])) * x[i])


def test_discretised_sde_has_its_marginals_and_betas() -> None:
    """alpha_bar_i = alpha_bar(i/T); T beta_i -> beta(i/T), and linear(T), with error O(1/T)."""
    gaps = []
    for T in (100, 1000, 10_000):
        times = torch.arange(T + 1, dtype=torch.float64) / T
        chain = discretize(SDE, T)
        assert torch.equal(chain.alpha_bar, SDE.alpha_bar(times))
        gaps.append(float((T * chain.beta - SDE.beta(times))[1:].abs().max()))
        ratio = (chain.alpha_bar / schedules.linear(T).alpha_bar).log()
        assert (ratio.abs() <= 100 / T).all()
    assert 8 < gaps[0] / gaps[1] < 12
    assert 8 < gaps[1] / gaps[2] < 12


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
@pytest.mark.parametrize(("t_start", "t_end"), [(1.0, 0.05), (0.05, 1.0)])
def test_flow_converges_at_the_order_of_its_method(
    method: str, order: int, t_start: float, t_end: float, randn: Draw
) -> None:
    """Gaussian data, closed-form solution: doubling the steps divides the error by 2^order."""
    x, score = randn(50, 2), oracle_score(gaussian(), SDE)
    wanted = transported(x, SDE.alpha_bar(t_start), SDE.alpha_bar(t_end))
    errors = [
        float((last(probability_flow(score, x, SDE, n, method, t_start, t_end)) - wanted).norm())
        for n in (100, 200, 400)
    ]
    for coarse, fine in itertools.pairwise(errors):
        assert abs(math.log2(coarse / fine) - order) < 0.15
    assert errors[-1] < (0.1 if order == 1 else 1e-3)


def test_flow_there_and_back(randn: Draw) -> None:
    """Encoding then decoding with Heun returns mixture data within 1e-3."""
    x0, score = (
        three_modes().sample(100, torch.Generator().manual_seed(1)),
        oracle_score(three_modes(), SDE),
    )
    latent = last(probability_flow(score, x0, SDE, 1000, "heun", 1e-3, 1.0))
    back = last(probability_flow(score, latent, SDE, 1000, "heun", 1.0, 1e-3))
    assert (back - x0).abs().max() < 1e-3
    assert abs(float(latent.var()) - 1) < 0.25  # and the latents are noise


def test_reverse_sde_follows_its_own_exact_law(generator: torch.Generator, randn: Draw) -> None:
    """Gaussian data: Euler-Maruyama is linear, so its mean and variance obey a recursion."""
    n, steps = 200_000, 12
    mean, var = 0.0, 1.0
    grid = torch.linspace(1, 0.1, steps + 1, dtype=torch.float64).tolist()
    for t, s in itertools.pairwise(grid):
        beta, dt, (m, std) = float(SDE.beta(t)), t - s, marginal(SDE.alpha_bar(t))
        slope = 1 + (0.5 - 1 / std**2) * beta * dt
        mean = slope * mean + beta * dt * m / std**2
        var = slope**2 * var + (beta * dt if s != grid[-1] else 0)
    score = oracle_score(gaussian(), SDE)
    x = last(reverse_sde(score, randn(n, 2), SDE, steps, generator, t_end=0.1)).flatten()
    assert abs(float(x.mean()) - mean) < 5 * math.sqrt(var / (2 * n))
    assert abs(float(x.var()) / var - 1) < 5 * math.sqrt(1 / n)


def test_reverse_sde_reproduces_a_mixture(generator: torch.Generator, randn: Draw) -> None:
    """Share and variance of every mode: the mixture's, in 4 standard errors (+ 5 % for steps)."""
    oracle, n = three_modes(), 4000
    x = last(reverse_sde(oracle_score(oracle, SDE), randn(n, 2), SDE, 500, generator))
    mode = torch.cdist(x, oracle.means).argmin(1)
    for k, (weight, var) in enumerate(zip(oracle.weights, oracle.variances, strict=True)):
        share = float((mode == k).double().mean())
        assert abs(share - weight) < 4 * math.sqrt(weight * (1 - weight) / n)
        spread = float((x[mode == k] - oracle.means[k]).square().mean())
        assert abs(spread / float(var) - 1) < 4 * math.sqrt(1 / (n * weight)) + 0.05


# ---- Langevin -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step_size", [0.1, 0.6])
def test_langevin_samples_a_gaussian(step_size: float, generator: torch.Generator) -> None:
    """One level: mean exact, variance s/(1 - h/(4 s)), what a step h does to a Gaussian N(m, s)."""
    t, n = 0.3, 50_000
    m, std = marginal(SDE.alpha_bar(t))
    h = step_size * float(SDE.noise_var(t))
    x = torch.zeros(n, 2, dtype=torch.float64)
    walk = annealed_langevin(
        oracle_score(gaussian(), SDE),
        x,
        [t],
        SDE,
        steps=200,
        step_size=step_size,
        generator=generator,
    )
    x, wanted = last(walk).flatten(), std**2 / (1 - h / (4 * std**2))
    assert abs(float(x.mean()) - m) < 5 * math.sqrt(wanted / len(x))
    assert abs(float(x.var()) / wanted - 1) < 5 * math.sqrt(2 / len(x))


def test_langevin_is_algorithm_1_in_other_variables(randn: Draw) -> None:
    """y = x/sqrt(alpha_bar) walks as in Song & Ermon's Algorithm 1 on the same noise, to 1e-9."""
    oracle, levels, r = three_modes(), [0.9, 0.5, 0.2, 0.05], 0.2
    start = randn(6, 2)
    ours = last(
        annealed_langevin(oracle_score(oracle, SDE), start, levels, SDE, steps=5, step_size=r,
                          generator=torch.Generator().manual_seed(3))
    )  # fmt: skip
    g = torch.Generator().manual_seed(3)
    sigmas = [float((SDE.noise_var(t) / SDE.alpha_bar(t)).sqrt()) for t in levels]
    epsilon = r * sigmas[-1] ** 2
    y = start / float(SDE.alpha_bar(levels[0]).sqrt())
    for sigma in sigmas:
        alpha = epsilon * sigma**2 / sigmas[-1] ** 2
        for _ in range(5):
            # The variance-exploding score: grad log of the mixture convolved with N(0, sigma^2).
            a = (1 + sigma**2) ** -0.5
            score = a * oracle.evaluate(a * y, a**2).score
            z = torch.randn(y.shape, generator=g, dtype=torch.float64)
            y = y + alpha / 2 * score + math.sqrt(alpha) * z
    scale = float(SDE.alpha_bar(levels[-1]).sqrt())
    assert torch.allclose(ours, scale * y, rtol=1e-9, atol=1e-9)


def test_annealed_langevin_finds_every_mode(generator: torch.Generator, randn: Draw) -> None:
    """From noise, annealed: shares of the modes right within 0.05, points within the modes."""
    oracle = three_modes()
    levels = torch.linspace(0.7, 0.02, 30).tolist()
    score = oracle_score(oracle, SDE)
    x = last(annealed_langevin(score, randn(2000, 2), levels, SDE, steps=15, generator=generator))
    distance, mode = torch.cdist(x, oracle.means).min(1)
    shares = mode.bincount(minlength=3) / 2000
    assert (shares - oracle.weights).abs().max() < 0.05
    assert float((distance < 1).double().mean()) > 0.99


# ---- what all samplers share --------------------------------------------------------------------

Sampler = Callable[[Callable[..., Tensor], Tensor], Iterator[ContinuousStep]]
SAMPLERS: dict[str, Sampler] = {
    "ddim": lambda f, x: ddim_continuous(f, x, 4),
    "sde": lambda f, x: reverse_sde(f, x, SDE, 4, torch.Generator().manual_seed(0)),
    "euler": lambda f, x: probability_flow(f, x, SDE, 4),
    "heun": lambda f, x: probability_flow(f, x, SDE, 4, "heun"),
    "langevin": lambda f, x: annealed_langevin(
        f, x, [0.9, 0.5], SDE, steps=2, generator=torch.Generator().manual_seed(0)
    ),
}
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


@every_sampler
def test_samplers_are_lazy_and_leave_gradients_alone(name: str, randn: Draw) -> None:
    """Nothing runs before next(); no graph inside, while gradients stay on for the caller."""
    calls = []
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)

    def model(x: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        assert t.shape == (len(x),)
        assert t.dtype == x.dtype
        return -weight * x

    steps = SAMPLERS[name](model, randn(3, 2))
    assert calls == []
    first = next(steps)
    assert len(calls) == (2 if name == "heun" else 1)
    assert torch.is_grad_enabled()
    assert not first.x_s.requires_grad
    assert len([first, *steps]) == 4


@every_sampler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2, 2), (3, 1, 8, 8)])
def test_samplers_keep_shape_and_dtype(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, randn: Draw
) -> None:
    """Every field of every step has the shape and dtype of x, with the oracle of images too."""
    oracle = EmpiricalOracle(randn(5, *shape[1:]), LINEAR)
    f = oracle_eps(oracle) if name == "ddim" else oracle_score(oracle, SDE)
    for step in SAMPLERS[name](f, randn(*shape).to(dtype)):
        assert all(y.shape == shape and y.dtype == dtype for y in step[2:])


@pytest.mark.parametrize("name", ["sde", "euler", "heun", "langevin"])
def test_records_hold_the_exact_prediction(name: str, randn: Draw) -> None:
    """eps, x0 of a step are E[eps|x_t], E[x0|x_t] at its time; steps follow each other."""
    oracle = three_modes()
    steps = list(SAMPLERS[name](oracle_score(oracle, SDE), randn(5, 2)))
    for step in steps:
        exact = oracle.evaluate(step.x_t, SDE.alpha_bar(step.t))
        assert torch.allclose(step.x0, exact.x0, rtol=1e-9, atol=1e-9)
        assert torch.allclose(step.eps, exact.eps, rtol=1e-9, atol=1e-9)
    for step, following in itertools.pairwise(steps):
        scale = (SDE.alpha_bar(following.t) / SDE.alpha_bar(step.s)).sqrt()  # 1 unless annealing
        assert torch.allclose(scale * step.x_s, following.x_t, rtol=1e-12)


def test_bad_arguments_are_refused(randn: Draw) -> None:
    """Every misuse raises a ValueError naming argument and value, by the first step."""
    x = randn(2, 2)

    def score(x: Tensor, t: Tensor) -> Tensor:
        return -x

    cases: list[tuple[str, Callable[[], object]]] = [
        ("beta_min=0", lambda: VPSDE(0.0, 1.0)),
        ("beta_max=1", lambda: VPSDE(2.0, 1.0)),
        (r"times must lie in \[0, 1\], got 1.5", lambda: SDE.alpha_bar(1.5)),
        (r"times must lie in \[0, 1\], got 500", lambda: signal_noise_rates(500)),
        ("max_signal_rate=0.01", lambda: signal_noise_rates(0.5, 0.02, 0.01)),
        ("steps must be", lambda: last(ddim_continuous(score, x, 0))),
        ("signal rate 0", lambda: last(
            ddim_continuous(score, x, 2, lambda t: signal_noise_rates(t, 0.0, 1.0)._replace(
                signal=torch.zeros(()))))),
        ("x must have a floating", lambda: last(reverse_sde(score, x.long(), SDE, 3))),
        ("t_end must be below t_start", lambda: last(
            reverse_sde(score, x, SDE, 3, t_start=0.1, t_end=0.5))),
        ("different times", lambda: last(probability_flow(score, x, SDE, 3, t_end=1.0))),
        ("Did you mean 'heun'", lambda: last(probability_flow(score, x, SDE, 3, "huen"))),
        (r"levels must be decreasing times in \(0, 1\], got \[0.1, 0.5\]", lambda: last(
            annealed_langevin(score, x, [0.1, 0.5], SDE))),
        ("levels must be", lambda: last(annealed_langevin(score, x, [], SDE))),
        ("step_size must be > 0", lambda: last(
            annealed_langevin(score, x, [0.5], SDE, step_size=0.0))),
        ("T must be", lambda: discretize(SDE, 0)),
    ]  # fmt: skip
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()
