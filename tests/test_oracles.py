"""The exact denoisers against autograd, Gaussians, direct sums and Monte-Carlo."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from diffusion_edu import oracles, schedules
from diffusion_edu.oracles import Denoised, EmpiricalOracle, MixtureOracle
from diffusion_edu.sampling import ddim, reconstruct

LINEAR = schedules.linear(1000)
Draw = Callable[..., Tensor]


def mixture(schedule: schedules.Schedule = LINEAR, **options: Tensor) -> MixtureOracle:
    """Three components in 2-D with full generality: diagonal variances, unequal weights."""
    means = torch.tensor([[-1.0, 0.2], [0.8, 0.9], [0.3, -1.1]], dtype=torch.float64)
    variances = torch.tensor([[0.05, 0.3], [0.2, 0.01], [0.1, 0.1]], dtype=torch.float64)
    weights = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    return MixtureOracle(
        **{"means": means, "variances": variances, "weights": weights, **options}, schedule=schedule
    )


def ring(modes: int = 8, std: float = 0.1) -> MixtureOracle:
    """Gaussians of the given std on a circle, shrunk so that both coordinates have variance 1."""
    angle = torch.arange(modes, dtype=torch.float64) * 2 * math.pi / modes
    scale = 1 / math.sqrt(0.5 + std**2)
    means = scale * torch.stack([angle.cos(), angle.sin()], 1)
    equal = torch.ones(modes, dtype=torch.float64)
    return MixtureOracle(means, equal * (scale * std) ** 2, equal, LINEAR)


def noisy(x0: Tensor, alpha_bar: float | Tensor, draw: Draw) -> Tensor:
    return math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * draw(*x0.shape).to(x0)


def assert_close(actual: Denoised, wanted: Denoised, tolerance: float) -> None:
    """Relative agreement of every field, example by example."""
    for name, a, b in zip(Denoised._fields, actual, wanted, strict=True):
        error = (a.double() - b.double()).flatten(1 if a.ndim > 1 else 0)
        size = b.double().flatten(1 if b.ndim > 1 else 0)
        if a.ndim > 1:
            error, size = error.norm(dim=1), size.norm(dim=1)
        worst = float((error.abs() / (1e-3 + size.abs())).max())
        assert worst <= tolerance, f"{name}: {worst:.2e}"


def direct(data: Tensor, x: Tensor, alpha_bar: float) -> Denoised:
    """The definition of the empirical posterior, by differences in float64 and one big table."""
    data, x = data.double(), x.double()
    noise = 1 - alpha_bar
    away = x.flatten(1)[:, None] - math.sqrt(alpha_bar) * data.flatten(1)[None]
    logits = -away.square().sum(2) / (2 * noise)
    x0 = (logits.softmax(1) @ data.flatten(1)).reshape(x.shape)
    eps = (x - math.sqrt(alpha_bar) * x0) / math.sqrt(noise)
    constant = math.log(len(data)) + x[0].numel() / 2 * math.log(2 * math.pi * noise)
    return Denoised(eps, x0, -eps / math.sqrt(noise), logits.logsumexp(1) - constant)


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


# ---- the empirical oracle -----------------------------------------------------------------------


@given(
    shape=st.sampled_from([(2,), (1, 8, 8), (3, 5, 5), (70,)]),
    n=st.integers(1, 30),
    batch=st.integers(1, 5),
    t=st.integers(1, 1000),
    chunk=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_empirical_equals_the_definition(
    shape: tuple[int, ...], n: int, batch: int, t: int, chunk: int, seed: int
) -> None:
    """Streaming over any chunks = the softmax over all data by differences, for any data shape."""
    g = torch.Generator().manual_seed(seed)
    data = torch.randn(n, *shape, generator=g, dtype=torch.float64)
    level = LINEAR.alpha_bar[t]
    x0 = data[torch.randint(n, (batch,), generator=g)]
    eps = torch.randn(x0.shape, generator=g, dtype=torch.float64)
    x = level.sqrt() * x0 + (1 - level).sqrt() * eps
    actual = EmpiricalOracle(data, LINEAR, chunk).evaluate(x, level)
    assert_close(actual, direct(data, x, float(level)), 1e-8)
    assert actual.eps.shape == x.shape


@pytest.mark.parametrize("t", [1, 100, 500, 1000])
def test_chunks_do_not_matter(t: int, randn: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    """chunk = 1, 7, N and batches of 1, 5, B give one answer."""
    data = randn(60, 2)
    x = noisy(data[:11], LINEAR.alpha_bar[t], randn)
    wanted = EmpiricalOracle(data, LINEAR, chunk=60).evaluate(x, LINEAR.alpha_bar[t])
    for chunk in (1, 7, 60):
        for table in (1, 5 * chunk, 2**21):
            monkeypatch.setattr(oracles, "TABLE_SIZE", table)
            actual = EmpiricalOracle(data, LINEAR, chunk).evaluate(x, LINEAR.alpha_bar[t])
            assert_close(actual, wanted, 1e-11)


def crowd(kind: str, draw: Draw) -> Tensor:
    """Data that cancellation hurts: crowded, far from the origin, on surfaces of few dimensions."""
    if kind == "points":
        return draw(1500, 2)
    if kind == "far":
        return 5 * draw(1, 784) + 0.1 * draw(600, 784)
    if kind == "surface":
        return torch.tanh(draw(1500, 2) @ draw(2, 100))
    if kind == "digits-like":
        return torch.tanh(draw(1500, 12) @ draw(12, 784) / 2)
    return 0.3 * draw(1500, 70)


@pytest.mark.parametrize("kind", ["points", "far", "surface", "digits-like", "cloud"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_input_gives_float64_results(
    kind: str, dtype: torch.dtype, randn: Draw
) -> None:
    """float32 = the float64 definition on the same numbers within 1e-5, from t = 1 to T."""
    data = crowd(kind, randn).float()
    oracle = EmpiricalOracle(data, LINEAR, chunk=400)
    # bfloat16 answers are rounded to 8 bits; what must survive is everything before that.
    tolerance = 1e-5 if dtype == torch.float32 else 2**-8
    for t in (1, 5, 30, 100, 250, 400, 500, 600, 750, 1000):
        level = float(LINEAR.alpha_bar[t])
        x = noisy(data[:16], level, randn).to(dtype)
        actual, wanted = oracle.evaluate(x, level), direct(data, x, level)
        assert all(y.dtype == dtype for y in actual)
        assert_close(actual, wanted, tolerance)


def test_few_noise_leaves_the_nearest_point(randn: Draw) -> None:
    """alpha_bar -> 1: x0 is exactly the nearest neighbour and everything is finite, in float32."""
    data = randn(200, 1, 16, 16).float()
    x = data[:20] + 0.01 * randn(20, 1, 16, 16).float()
    for noise in (1e-2, 1e-4, 1e-6, 1e-10):
        out = EmpiricalOracle(data, LINEAR).evaluate(math.sqrt(1 - noise) * x, 1 - noise)
        assert torch.equal(out.x0, data[:20])
        assert all(y.isfinite().all() for y in out)


def test_x0_lies_in_the_convex_hull(randn: Draw) -> None:
    """<u, x0> <= max_j <u, d_j> for every direction u; with one datum x0 is that datum."""
    data, u = randn(25, 3), randn(3, 500)
    for t in (1, 50, 400, 1000):
        x0 = EmpiricalOracle(data, LINEAR).x0(4 * randn(40, 3), t)
        assert (x0 @ u <= (data @ u).amax(0) + 1e-12).all()
    assert torch.allclose(EmpiricalOracle(data[:1], LINEAR).x0(randn(4, 3), 500), data[:1])


class Peak(TorchDispatchMode):
    """Records the size in bytes of the largest new tensor that any operation makes."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        given = {a.untyped_storage().data_ptr() for a in args if isinstance(a, Tensor)}
        for y in out if isinstance(out, tuple | list) else [out]:
            if isinstance(y, Tensor) and y.untyped_storage().data_ptr() not in given:
                self.largest = max(self.largest, y.numel() * y.element_size())
        return out


@pytest.mark.parametrize(("dim", "batch", "t"), [(2, 3000, 1), (2, 3000, 500), (100, 300, 1)])
def test_memory_is_bounded(dim: int, batch: int, t: int, randn: Draw) -> None:
    """No tensor outgrows the table, a chunk or the batch; B x N weights would be larger."""
    data, x = randn(20_000, dim).float(), randn(batch, dim).float()
    oracle = EmpiricalOracle(data, LINEAR, chunk=1000)
    with Peak() as peak:
        oracle(x, t)
    allowed = 8 * max(oracles.TABLE_SIZE, 1000 * dim, batch * dim)
    assert peak.largest <= allowed
    assert peak.largest >= 8 * batch * dim  # the recorder does see the work
    assert batch * len(data) * 4 > allowed


def test_the_oracle_is_differentiable(randn: Draw) -> None:
    """d x0 / dx = Cov[x_0 | x] a / b^2 (a symmetric matrix)."""
    data, t = randn(30, 2), 300
    oracle, x = EmpiricalOracle(data, LINEAR, chunk=4), randn(1, 2)
    jacobian = torch.autograd.functional.jacobian(lambda y: oracle.x0(y, t)[0], x)[:, 0]
    a, noise = LINEAR.alpha_bar[t].sqrt(), 1 - LINEAR.alpha_bar[t]
    weight = (-(x - a * data).square().sum(1) / (2 * noise)).softmax(0)
    centred = data - weight @ data
    covariance = centred.T @ (weight[:, None] * centred)
    assert torch.allclose(jacobian, covariance * a / noise, rtol=1e-8)


def test_an_empirical_oracle_only_ever_returns_its_data(randn: Draw) -> None:
    """DDIM with it ends on training points: it memorises; off-data points never reconstruct."""
    line = torch.linspace(-1.7, 1.7, 10, dtype=torch.float64)
    data, held_out = torch.cartesian_prod(line, line) + 0.05 * randn(100, 2), randn(50, 2)
    oracle = EmpiricalOracle(data, LINEAR)  # points further apart than the noise of t = 1, 0.01
    samples = ddim(oracle, randn(64, 2), LINEAR, 1000)
    assert torch.cdist(samples, data).amin(1).max() < 1e-6
    back = reconstruct(oracle, held_out, LINEAR, 1000)
    assert (back - held_out).square().mean() > 1e-3
    assert torch.cdist(back, data).amin(1).max() < 1e-6


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
