"""The exact denoisers against autograd, Gaussians, direct sums and Monte-Carlo."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from oracles import LINEAR, assert_close, mixture, noisy, ring
from torch import Tensor

from diffusion_edu.oracles import EmpiricalOracle, MixtureOracle
from diffusion_edu.sampling import reconstruct

Draw = Callable[..., Tensor]


# ---- both oracles -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mixture", "empirical"])
def test_score_is_the_gradient_of_the_log_density_at_every_time(kind: str, randn: Draw) -> None:
    """score(x_t, t) = grad log_prob(x_t, t) to 1e-8 for all t, 0 too where a density exists."""
    oracle = mixture() if kind == "mixture" else EmpiricalOracle(randn(50, 2), LINEAR, chunk=7)
    t = torch.arange(oracle.first_t, 1001)
    x = (1.5 * randn(len(t), 2)).requires_grad_()
    (gradient,) = torch.autograd.grad(oracle.log_prob(x, t).sum(), x)
    score = oracle.score(x, t)
    assert (score - gradient).abs().max() <= 1e-8 * score.abs().max()
    assert torch.allclose(score, gradient, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", ["mixture", "empirical"])
@pytest.mark.parametrize("t", [50, 300, 800])
def test_score_matching_identity(
    kind: str, t: int, randn: Draw, generator: torch.Generator
) -> None:
    """score(x_t) = E[grad log q(x_t|x_0) | x_t]: importance sampling, 5 standard errors."""
    oracle = mixture() if kind == "mixture" else EmpiricalOracle(randn(30, 2), LINEAR)
    x0 = (
        mixture().sample(200_000, generator)
        if kind == "mixture"
        else oracle._rows[torch.randint(30, (200_000,), generator=generator)]
    )
    a, b = LINEAR.alpha_bar[t].sqrt(), (1 - LINEAR.alpha_bar[t]).sqrt()
    x = a * x0[:4] + b * randn(4, 2)
    for point in x:
        conditional = -(point - a * x0) / b**2
        weight = (-0.5 * b**2 * conditional.square().sum(1)).softmax(0)
        estimate = (weight[:, None] * conditional).sum(0)
        spread = (weight[:, None] ** 2 * (conditional - estimate) ** 2).sum(0).sqrt()
        assert ((oracle.score(point[None], t)[0] - estimate).abs() <= 5 * spread + 1e-3).all()


@pytest.mark.parametrize("kind", ["mixture", "empirical"])
def test_fields_satisfy_tweedie_and_the_forward_equation(kind: str, randn: Draw) -> None:
    """x_t = a x0 + b eps and score = -eps/b, for per-example times on images."""
    data = randn(6, 1, 8, 8)
    equal = torch.ones(6, dtype=torch.float64)
    oracle = (
        MixtureOracle(data, 0.1 * equal, equal, LINEAR)
        if kind == "mixture"
        else EmpiricalOracle(data, LINEAR)
    )
    x, t = randn(5, 1, 8, 8), torch.tensor([1, 10, 100, 500, 1000])
    a = LINEAR.alpha_bar[t].sqrt().view(-1, 1, 1, 1)
    b = (1 - LINEAR.alpha_bar[t]).sqrt().view(-1, 1, 1, 1)
    eps = oracle(x, t)
    assert torch.allclose(a * oracle.x0(x, t) + b * eps, x, rtol=1e-10, atol=1e-10)
    assert torch.allclose(oracle.score(x, t), -eps / b, rtol=1e-10, atol=1e-10)
    assert oracle.log_prob(x, t).shape == (5,)


@pytest.mark.parametrize("kind", ["mixture", "empirical"])
def test_one_time_per_example_is_a_loop_over_examples(kind: str, randn: Draw) -> None:
    """evaluate(x, alpha_bar)[i] = evaluate(x[i:i+1], alpha_bar[i]), also when B == D and B == K."""
    oracle = mixture() if kind == "mixture" else EmpiricalOracle(randn(3, 2), LINEAR)
    for batch in (2, 3):
        x, t = randn(batch, 2), torch.tensor([3, 700, 250])[:batch]
        together = oracle.evaluate(x, LINEAR.alpha_bar[t])
        for i in range(batch):
            alone = oracle.evaluate(x[i : i + 1], float(LINEAR.alpha_bar[t[i]]))
            for a, b in zip(together, alone, strict=True):
                assert torch.allclose(a[i], b[0], rtol=1e-12, atol=1e-14)
            assert torch.allclose(oracle(x, t)[i], oracle(x, int(t[i]))[i], rtol=1e-12, atol=1e-14)


def test_zero_variance_mixture_is_the_empirical_oracle(randn: Draw) -> None:
    """MixtureOracle(data, 0, 1) = EmpiricalOracle(data): one posterior, unrelated code."""
    data, one = randn(40, 3), torch.ones(40, dtype=torch.float64)
    points = MixtureOracle(data, 0 * one, one, LINEAR)
    for t in (1, 30, 300, 1000):
        x = noisy(data[:9], LINEAR.alpha_bar[t], randn)
        level = LINEAR.alpha_bar[t]
        wanted = points.evaluate(x, level)
        assert_close(EmpiricalOracle(data, LINEAR, chunk=6).evaluate(x, level), wanted, 1e-9)


def test_pure_noise_tells_nothing(randn: Draw) -> None:
    """At alpha_bar = 0: x0 = E[x_0], eps = x and log p = log N(0, I)."""
    data, x = randn(20, 2), randn(7, 2)
    standard = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(1)
    m = mixture()
    for oracle, mean in ((EmpiricalOracle(data, LINEAR), data.mean(0)), (m, m.weights @ m.means)):
        out = oracle.evaluate(x, 0.0)
        assert torch.allclose(out.x0, mean.expand(7, 2), atol=1e-12)
        assert torch.allclose(out.eps, x, atol=1e-12)
        assert torch.allclose(out.log_prob, standard, atol=1e-12)


# ---- the mixture --------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0, 1, 400, 1000])
def test_one_component_is_a_gaussian(t: int, randn: Draw) -> None:
    """K = 1: log p, score and E[x_0|x] are those of N(a m, a^2 v + b^2), by conjugacy."""
    m, v = randn(1, 4), randn(1, 4).square() + 0.1
    oracle = MixtureOracle(m, v, torch.ones(1, dtype=torch.float64), LINEAR)
    a2 = LINEAR.alpha_bar[t]
    x, total = randn(9, 4), a2 * v + 1 - a2
    normal = torch.distributions.Normal((a2.sqrt() * m).expand(9, 4), total.sqrt())
    assert torch.allclose(oracle.log_prob(x, t), normal.log_prob(x).sum(1), rtol=1e-12)
    assert torch.allclose(oracle.score(x, t), (a2.sqrt() * m - x) / total, rtol=1e-12)
    x0 = ((1 - a2) * m + a2.sqrt() * v * x) / total
    assert torch.allclose(oracle.x0(x, t), x0, rtol=1e-12, atol=1e-14)


def test_mixture_density_is_the_weighted_sum(randn: Draw) -> None:
    """p_t(x) = sum_k w_k N(x; a m_k, a^2 v_k + b^2), term by term, and integrates to 1."""
    oracle, t = mixture(), 200
    a2, x = float(LINEAR.alpha_bar[t]), randn(6, 2)
    normal = torch.distributions.Normal(
        math.sqrt(a2) * oracle.means, (a2 * oracle.variances + 1 - a2).sqrt()
    )
    terms = normal.log_prob(x[:, None]).sum(2).exp() * oracle.weights
    assert torch.allclose(oracle.log_prob(x, t).exp(), terms.sum(1), rtol=1e-12)
    line = torch.linspace(-7, 7, 400, dtype=torch.float64)
    mass = oracle.log_prob(torch.cartesian_prod(line, line), t).exp().sum() * (14 / 399) ** 2
    assert abs(float(mass) - 1) < 1e-9


def test_isotropic_variances_are_diagonal_ones_that_agree(randn: Draw) -> None:
    """variances (K,) = variances (K, D) with equal columns; weights are divided by their sum."""
    v, w = torch.tensor([0.1, 0.2, 0.5]).double(), torch.tensor([1.0, 2.0, 5.0]).double()
    one, two = (
        mixture(variances=v, weights=w),
        mixture(variances=v[:, None].expand(3, 2), weights=w / 8),
    )
    x, t = randn(5, 2), torch.tensor([0, 1, 10, 100, 1000])
    for name in ("x0", "score", "log_prob"):
        assert torch.allclose(getattr(one, name)(x, t), getattr(two, name)(x, t), rtol=1e-12)


def test_mixture_samples_have_its_moments(generator: torch.Generator) -> None:
    """Mean and second moments of n draws are those of the mixture, within 5 standard errors."""
    oracle, n = mixture(), 100_000
    x = oracle.sample(n, generator)
    w, m, v = oracle.weights, oracle.means, oracle.variances
    for sample, exact in ((x, w @ m), (x**2, w @ (m**2 + v))):
        assert ((sample.mean(0) - exact).abs() <= 5 * sample.std(0) / math.sqrt(n)).all()
    again = mixture().sample(3, torch.Generator().manual_seed(5))
    assert torch.equal(again, mixture().sample(3, torch.Generator().manual_seed(5)))


def test_mixture_in_float32_is_the_float64_result_rounded(randn: Draw) -> None:
    """float32 input: every field within 1e-6 of float64; samples have the dtype of means."""
    wide = mixture()
    narrow = mixture(means=wide.means.float(), variances=wide.variances.float())
    exact = mixture(means=narrow.means, variances=narrow.variances)
    x = randn(20, 2).float()
    for t in (0, 1, 10, 500, 1000):
        actual, wanted = narrow._at(x, t), exact._at(x.double(), t)
        assert actual.eps.dtype == torch.float32
        assert_close(actual, wanted, 1e-6)
    assert narrow.sample(4).dtype == torch.float32


@pytest.mark.parametrize(("steps", "bound"), [(10, 2e-2), (100, 6e-4), (1000, 8e-6)])
def test_ddim_inversion_reconstructs(steps: int, bound: float, generator: torch.Generator) -> None:
    """Encode, decode: the MSE vanishes as steps grow (8 Gaussians on a ring, std 0.1)."""
    oracle = ring()
    x0 = oracle.sample(2000, generator)
    assert (x0.var(0) - 1).abs().max() < 0.1  # the setting: standardised data
    assert (reconstruct(oracle, x0, LINEAR, steps) - x0).square().mean() < bound


# ---- both: devices and errors -------------------------------------------------------------------


def test_devices_agree(device: str, randn: Draw) -> None:
    """x on any device gives the CPU's result on that device; the data may stay where it is."""
    data, x, t = randn(300, 90).float(), randn(8, 90).float(), torch.tensor([1, 400] * 4)
    equal = torch.ones(300)
    for oracle in (EmpiricalOracle(data, LINEAR, 64), MixtureOracle(data, equal, equal, LINEAR)):
        there = oracle(x.to(device), t.to(device))
        assert there.device.type == device
        assert torch.allclose(there.cpu(), oracle(x, t), rtol=1e-4, atol=1e-5)


NAN, ONE = torch.tensor([[math.nan, 0.0]]), torch.ones(1)
BAD_MIXTURES = {
    "means must have shape": (torch.zeros(3), torch.ones(3), torch.ones(3)),
    "means must be finite": (NAN, ONE, ONE),
    "variances must have shape": (torch.zeros(3, 2), torch.ones(2), torch.ones(3)),
    "variances must be >= 0, got -1": (torch.zeros(1, 2), -ONE, ONE),
    "variances must be finite": (torch.zeros(1, 2), ONE * math.nan, ONE),
    "weights must have shape": (torch.zeros(3, 2), torch.ones(3), torch.ones(2)),
    "weights must be > 0, got 0": (torch.zeros(1, 2), ONE, 0 * ONE),
    "means must have a floating dtype": (torch.zeros(1, 2, dtype=torch.int64), ONE, ONE),
}


@pytest.mark.parametrize("message", BAD_MIXTURES)
def test_bad_mixtures_are_refused(message: str) -> None:
    """A mixture that is no distribution raises a ValueError naming the argument and the value."""
    with pytest.raises(ValueError, match=message):
        MixtureOracle(*BAD_MIXTURES[message], LINEAR)


def test_bad_data_and_bad_input_are_refused(randn: Draw) -> None:
    """Every misuse of an oracle raises a ValueError naming the argument and the value."""
    data = randn(4, 2)
    empirical, points = EmpiricalOracle(data, LINEAR), mixture(variances=torch.zeros(3))
    cases: list[tuple[str, Callable[[], object]]] = [
        (r"data\[0\]", lambda: EmpiricalOracle(NAN, LINEAR)),
        ("data must have shape", lambda: EmpiricalOracle(torch.zeros(0, 2), LINEAR)),
        ("data must have a floating", lambda: EmpiricalOracle(data.long(), LINEAR)),
        ("chunk must be", lambda: EmpiricalOracle(data, LINEAR, chunk=0)),
        (r"x must have shape \(B, \*D\) = \('B', 2\)", lambda: empirical(randn(4, 3), 1)),
        ("t must lie in 1..1000, got t=0", lambda: empirical(data, 0)),
        ("t must lie in 1..1000, got t=1001", lambda: mixture()(data, 1001)),
        ("t must lie in 1..1000, got t=0", lambda: points.log_prob(data, 0)),
        ("t must lie in 0..1000, got t=-1", lambda: mixture().log_prob(data, -1)),
        ("t must have dtype torch.int64", lambda: empirical(data, torch.ones(4))),
        ("alpha_bar must lie in .*got alpha_bar=1", lambda: empirical.evaluate(data, 1.0)),
        ("alpha_bar must lie in .*got alpha_bar=1.5", lambda: mixture().evaluate(data, 1.5)),
        ("alpha_bar must lie in .*got alpha_bar=nan", lambda: mixture().evaluate(data, math.nan)),
        ("alpha_bar must be a number", lambda: mixture().evaluate(data, torch.ones(3))),
        ("n must be", lambda: mixture().sample(0)),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()
