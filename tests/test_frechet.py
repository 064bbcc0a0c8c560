"""Distances of image features: Frechet's against closed forms and scipy, the kernel's by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from diffusion_edu import metrics
from diffusion_edu.metrics import frechet_distance, kernel_distance, sliced_wasserstein2

Draw = Callable[..., Tensor]
Gauss = tuple[Tensor, Tensor]


def rotation(d: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q


@st.composite
def gaussians(draw: st.DrawFn, rank: int | None = None) -> tuple[Gauss, Gauss]:
    """Two means and covariances in 1 to 8 dimensions, some of them singular."""
    d = draw(st.integers(1, 8))
    g = torch.Generator().manual_seed(draw(st.integers(0, 9999)))

    def one() -> Gauss:
        k = draw(st.integers(0, d)) if rank is None else min(rank, d)
        root = torch.randn(d, k, generator=g, dtype=torch.float64)
        return torch.randn(d, generator=g, dtype=torch.float64), root @ root.T

    return one(), one()


# ---- the Frechet distance ------------------------------------------------------------------------


@given(d=st.integers(1, 8), seed=st.integers(0, 99))
def test_commuting_covariances_have_a_closed_form(d: int, seed: int) -> None:
    """With C_i = Q diag(s_i^2) Q^T:  d^2 = ||m_1 - m_2||^2 + sum (s_1 - s_2)^2."""
    g, q = torch.Generator().manual_seed(seed), rotation(d, seed)
    m1, m2, s1, s2 = torch.rand(4, d, generator=g, dtype=torch.float64).unbind()
    value = frechet_distance(m1, q @ torch.diag(s1**2) @ q.T, m2, q @ torch.diag(s2**2) @ q.T)
    assert value.shape == ()
    assert value.dtype == torch.float64
    wanted = (m1 - m2).square().sum() + (s1 - s2).square().sum()
    assert torch.allclose(value, wanted, rtol=1e-7, atol=1e-7)


@given(pair=gaussians())
def test_frechet_is_symmetric_and_turns_with_space(pair: tuple[Gauss, Gauss]) -> None:
    """d(1, 2) = d(2, 1) = the distance after one rotation and shift of both; at least 0."""
    (m1, c1), (m2, c2) = pair
    value, q = frechet_distance(m1, c1, m2, c2), rotation(len(m1), 5)
    assert value >= 0
    close = {"rtol": 1e-6, "atol": 1e-6}
    assert torch.allclose(frechet_distance(m2, c2, m1, c1), value, **close)
    turned = frechet_distance(q @ m1 + 3, q @ c1 @ q.T, q @ m2 + 3, q @ c2 @ q.T)
    assert torch.allclose(turned, value, **close)


@given(pair=gaussians())
def test_frechet_of_equals_is_zero(pair: tuple[Gauss, Gauss]) -> None:
    """Zero of a Gaussian and itself, for singular covariances too."""
    (m, c), _ = pair
    assert float(frechet_distance(m, c, m, c)) < 1e-6


@given(pair=gaussians(rank=8))
def test_frechet_agrees_with_scipy(pair: tuple[Gauss, Gauss]) -> None:
    """tr (C_1 C_2)^{1/2} by scipy's general matrix square root, for regular covariances."""
    linalg = pytest.importorskip("scipy.linalg")
    (m1, c1), (m2, c2) = pair
    cross = np.trace(linalg.sqrtm((c1 @ c2).numpy()).real)
    wanted = float((m1 - m2).square().sum() + c1.trace() + c2.trace()) - 2 * cross
    assert math.isclose(frechet_distance(m1, c1, m2, c2), wanted, rel_tol=1e-5, abs_tol=1e-5)


def test_frechet_to_a_point_is_the_second_moment(randn: Draw) -> None:
    """A covariance of 0: d^2 = ||m_1 - m_2||^2 + tr C_1. Perpendicular lines: nothing is shared."""
    m, root = randn(5), randn(5, 2)
    c, zero = root @ root.T, torch.zeros(5, 5, dtype=torch.float64)
    wanted = m.square().sum() + c.trace()
    assert torch.allclose(frechet_distance(m, c, 0 * m, zero), wanted)
    one, two = (torch.diag(torch.tensor(v, dtype=torch.float64)) for v in ([4.0, 0], [0, 9.0]))
    origin = torch.zeros(2, dtype=torch.float64)
    assert math.isclose(frechet_distance(origin, one, origin, two), 13)


def test_frechet_is_wasserstein_in_one_dimension() -> None:
    """Of N(0, 1) and N(2, 0.5^2) by 200,000 quantiles each, with the exact W2 of point clouds."""
    p = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    z = torch.special.ndtri(p)[:, None]
    wanted = sliced_wasserstein2(z, 0.5 * z + 2, directions=1) ** 2
    moments = [torch.tensor(v, dtype=torch.float64) for v in ([0.0], [[1.0]], [2.0], [[0.25]])]
    assert math.isclose(frechet_distance(*moments), wanted, rel_tol=1e-4)
    assert math.isclose(frechet_distance(*moments), 4 + 0.25, rel_tol=1e-12)


def test_frechet_of_few_samples_in_many_dimensions(randn: Draw) -> None:
    """50 samples in 128 dimensions: singular covariances give a finite number, 0 to themselves."""
    x, y = randn(50, 128), randn(60, 128).float()
    value = frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())
    assert 0 < float(value) < 2 * 128 * 2
    assert float(frechet_distance(x.mean(0), x.T.cov(), x.mean(0), x.T.cov())) < 1e-5


def test_frechet_says_what_is_wrong() -> None:
    """Shapes, dimensions, NaN and asymmetry are named."""
    m, c = torch.zeros(2), torch.eye(2)
    with pytest.raises(
        ValueError, match=r"mean1 and cov1 must have shapes .* got \(2,\) and \(3, 3\)"
    ):
        frechet_distance(m, torch.eye(3), m, c)
    with pytest.raises(ValueError, match="the same dimension d, got 2 and 3"):
        frechet_distance(m, c, torch.zeros(3), torch.eye(3))
    with pytest.raises(ValueError, match="cov2 must be finite, got NaN or inf"):
        frechet_distance(m, c, m, c * math.nan)
    with pytest.raises(ValueError, match="cov2 must be symmetric"):
        frechet_distance(m, c, m, torch.tensor([[1.0, 0.5], [0.0, 1.0]]))


# ---- the kernel distance -------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_kernel_distance_is_the_sum_over_pairs(degree: int, randn: Draw) -> None:
    """Against two Python loops over all pairs, i = j left out."""
    x, y = randn(7, 3), randn(5, 3) + 0.5

    def mean(a: Tensor, b: Tensor) -> float:
        same = a is b
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (same and i == j)]
        return sum((float(a[i] @ b[j]) / 3 + 1) ** degree for i, j in pairs) / len(pairs)

    wanted = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    assert math.isclose(kernel_distance(x, y, degree), wanted, rel_tol=1e-10)


def test_kernel_distance_of_degree_one_compares_means(randn: Draw) -> None:
    """E = ||mean difference||^2 / d for the linear kernel; here by its unbiased estimate."""
    x, y = randn(4000, 3), randn(4000, 3) + torch.tensor([1.0, 0, 2.0], dtype=torch.float64)
    assert math.isclose(kernel_distance(x, y, degree=1), 5 / 3, abs_tol=0.1)


def test_kernel_distance_is_unbiased(randn: Draw) -> None:
    """The mean over 400 pairs of draws from one distribution is 0 within 4 standard errors."""
    values = torch.stack([kernel_distance(randn(12, 4), randn(17, 4)) for _ in range(400)])
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(len(values))
    assert (values < 0).any()


def test_kernel_distance_is_that_of_the_matrices(randn: Draw) -> None:
    """For equal sizes: (sum K_xx + sum K_yy - diagonals)/(m (m-1)) - 2 mean K_xy, as KID has it."""
    x, y = randn(40, 6), 0.7 * randn(40, 6)
    k_xx, k_yy, k_xy = ((a @ b.T / 6 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    within = k_xx.sum() + k_yy.sum() - k_xx.trace() - k_yy.trace()
    assert torch.allclose(kernel_distance(x, y), within / (40 * 39) - 2 * k_xy.mean())


def test_kernel_distance_in_blocks(randn: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row at a time = all at once; symmetric; float32 input gives the same."""
    x, y = randn(23, 4).float(), randn(17, 4).float()
    wanted = kernel_distance(x, y)
    assert torch.allclose(kernel_distance(y.double(), x.double()), wanted, rtol=1e-10)
    monkeypatch.setattr(metrics, "BLOCK_SIZE", 1)
    assert torch.allclose(kernel_distance(x, y), wanted, rtol=1e-10)


def test_kernel_distance_checks_its_input(randn: Draw) -> None:
    """degree 0, one point, or another dimension are errors."""
    with pytest.raises(ValueError, match="degree must be an int >= 1, got degree=0"):
        kernel_distance(randn(3, 2), randn(3, 2), degree=0)
    with pytest.raises(ValueError, match="x must hold at least 2 points, got 1"):
        kernel_distance(randn(1, 2), randn(3, 2))
    with pytest.raises(ValueError, match="the same dimension"):
        kernel_distance(randn(3, 2), randn(3, 4))
