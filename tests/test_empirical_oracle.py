"""The oracle of a finite data set: its definition, its memory, what it can and cannot return."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import LINEAR, assert_close, noisy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from diffusion_edu import oracles
from diffusion_edu.oracles import Denoised, EmpiricalOracle
from diffusion_edu.sampling import ddim, reconstruct

Draw = Callable[..., Tensor]


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
