r"""How close are two point clouds? Distances between samples, and what each of them misses.

Every function takes clouds x (n, d) and y (m, d) and treats them as draws of two distributions. All
computing is in float64 and in blocks, so 10,000 against 10,000 points fit in memory. Results are
0-dim float64 tensors. They are for low dimensions or features: on raw pixels Euclidean distance
says little about images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ._checks import check_count, check_float

__all__ = [
    "ModeStatistics",
    "PrecisionRecall",
    "energy_distance",
    "frechet_distance",
    "kernel_distance",
    "median_bandwidth",
    "mmd2",
    "mode_statistics",
    "precision_recall",
    "sliced_wasserstein2",
]

BLOCK_SIZE = 2**20  # distances held at once: 8 MiB
MEDIAN_POINTS = 1000  # per cloud, for the median distance


def mmd2(x: Tensor, y: Tensor, bandwidth: float | Tensor | None = None) -> Tensor:
    r"""Squared maximum mean discrepancy, unbiased; Gretton et al. (JMLR 2012) eq. 3.

    MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)
    k(a, b) = exp( -||a - b||^2 / (2 bandwidth^2) )

    Its expectation is 0 when both distributions agree: more than half the values are then negative.
    Misses: structure much finer or much coarser than the bandwidth, and modes of small weight.
    Values under different bandwidths cannot be compared: fix one for a whole table.

    Args:
        x, y: (n, d), (m, d), at least 2 points each.
        bandwidth: > 0; default ``median_bandwidth(x, y)``.
    """
    x, y = _clouds(x, y, least=2)
    width = float(median_bandwidth(x, y) if bandwidth is None else bandwidth)
    if not 0 < width < math.inf:
        raise ValueError(
            f"bandwidth must be a positive number, got {width}: give one when most points coincide"
        )

    def kernel_sum(a: Tensor, b: Tensor) -> Tensor:
        factor = -1 / (2 * width**2)  # in place: fresh memory for every step would double the time
        blocks = (r.square_().mul_(factor).exp_().sum() for r in _blocks(a, b))
        return sum(blocks, a.new_zeros(()))

    n, m = len(x), len(y)
    within_x = (kernel_sum(x, x) - n) / (n * (n - 1))  # minus k(x_i, x_i) = 1
    within_y = (kernel_sum(y, y) - m) / (m * (m - 1))
    return within_x + within_y - 2 * kernel_sum(x, y) / (n * m)


def median_bandwidth(x: Tensor, y: Tensor) -> Tensor:
    """Median distance between two points of the pooled clouds: the usual bandwidth of ``mmd2``.

    Of larger clouds 1,000 evenly spaced rows are used, so the result depends on the clouds alone.
    """
    x, y = _clouds(x, y)
    pooled = torch.cat([_thin(x), _thin(y)])
    if len(pooled) < 2:
        raise ValueError(f"x and y must hold at least 2 points together, got {len(pooled)}")
    return torch.nn.functional.pdist(pooled).median()


def sliced_wasserstein2(
    x: Tensor, y: Tensor, directions: int = 128, generator: torch.Generator | None = None
) -> Tensor:
    r"""Sliced Wasserstein-2 distance; Bonneel et al. (2015).

    SW2 = sqrt( mean over unit vectors u of  W2( <u, x>, <u, y> )^2 )
    W2(p, q)^2 = integral_0^1 ( F_p^-1(z) - F_q^-1(z) )^2 dz     in one dimension

    The one-dimensional distances are exact, for unequal sizes too: quantile functions of finite
    clouds are steps. Only the mean over ``directions`` random unit vectors is an estimate.
    Misses: little in 2-D; in many dimensions most projections look alike. It is biased: two draws
    of n points from one distribution are about n^(-1/2) apart, so compare at equal n.

    Args:
        x, y: (n, d), (m, d).
        generator: draws the directions; without one they are fixed (the same at every call), so
            that values can be compared.
    """
    x, y = _clouds(x, y)
    check_count(directions, 1, None, "directions")
    source = torch.Generator().manual_seed(0) if generator is None else generator
    size = (x.shape[1], directions)
    u = torch.randn(size, generator=source, dtype=torch.float64, device=source.device)
    u = torch.nn.functional.normalize(u, dim=0).to(x.device)
    step = max(1, BLOCK_SIZE // (len(x) + len(y)))
    squares = [_wasserstein2_1d((x @ v).T, (y @ v).T) for v in u.split(step, dim=1)]
    return torch.cat(squares).mean().sqrt()


def _wasserstein2_1d(p: Tensor, q: Tensor) -> Tensor:
    """Squared W2 of clouds on the line, row by row: (k, n), (k, m) -> (k,)."""
    n, m = p.shape[1], q.shape[1]
    # Both quantile functions jump only at i/n and j/m: integers, hence exact, in units of 1/(n m).
    jumps = torch.cat([torch.arange(n + 1) * m, torch.arange(m + 1) * n]).unique().to(p.device)
    left, width = jumps[:-1], torch.diff(jumps).to(p.dtype) / (n * m)
    gap = p.sort(1).values[:, left // m] - q.sort(1).values[:, left // n]
    return (gap.square() * width).sum(1)


def energy_distance(x: Tensor, y: Tensor) -> Tensor:
    r"""Energy distance of the two clouds; Szekely & Rizzo (2013), without a square root.

    E = 2 mean ||x_i - y_j|| - mean ||x_i - x_j|| - mean ||y_i - y_j||,   means over all pairs

    At least 0, and 0 only if the clouds agree as distributions; no parameter to choose. Zero
    distances of points to themselves count, so that for two draws of one distribution it is not 0
    but of order 1/n + 1/m.
    Misses: fine structure. Long distances dominate, so blur and small modes cost little.

    Args:
        x, y: (n, d), (m, d).
    """
    x, y = _clouds(x, y)

    def mean_distance(a: Tensor, b: Tensor) -> Tensor:
        return sum((r.sum() for r in _blocks(a, b)), a.new_zeros(())) / (len(a) * len(b))

    return 2 * mean_distance(x, y) - mean_distance(x, x) - mean_distance(y, y)


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]: of fake points among the real ones, of real points among the fake ones."""

    precision: Tensor
    recall: Tensor


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> PrecisionRecall:
    r"""Improved precision and recall, Kynkaanniemi et al. (1904.06991) eq. 1-2.

    A cloud's support is the union of balls around its points, each reaching to the k-th nearest
    other point. Precision: share of fake points within the support of the real ones (are samples
    realistic?).
    Recall: share of real points within the support of the fake ones (is everything covered?).
    Misses: how often anything occurs. One real outlier has a huge ball that accepts almost
    anything, and the values depend on the sizes of the clouds: compare at equal n.

    Args:
        real, fake: (n, d), (m, d), each of more than k points.
    """
    check_count(k, 1, None, "k")
    real, fake = _clouds(real, fake, least=k + 1, names=("real", "fake"))
    return PrecisionRecall(_covered(fake, real, k), _covered(real, fake, k))


def _covered(points: Tensor, support: Tensor, k: int) -> Tensor:
    """Share of ``points`` within the k-nearest-neighbour balls of ``support``."""
    # Every point is its own nearest neighbour, hence k+1.
    radius = torch.cat([r.kthvalue(k + 1, dim=1).values for r in _blocks(support, support)])
    inside = [(r <= radius).any(1) for r in _blocks(points, support)]
    return torch.cat(inside).to(torch.float64).mean()


class ModeStatistics(NamedTuple):
    """Per mode, the points nearest to its centre and within the radius."""

    counts: Tensor  # (K,) int64
    # (K,) float64: per dimension, unbiased, about the mode's own mean; NaN below 2 points
    variance: Tensor
    outliers: Tensor  # 0-dim int64: points of no mode


def mode_statistics(x: Tensor, centers: Tensor, radius: float | None = None) -> ModeStatistics:
    r"""Which modes were found, how often, and how wide they are.

    A point belongs to its nearest centre, if that is no further than ``radius``; else it is an
    outlier. variance_k = sum_{i in k} ||x_i - mean_k||^2 / ( d (counts_k - 1) )

    Misses: everything that the centres given do not know of, such as the shape of a mode.

    Args:
        x: (n, d).
        centers: (K, d).
        radius: > 0; default half the smallest distance between two centres, or inf for one centre.
    """
    x, centers = _clouds(x, centers, names=("x", "centers"))
    if radius is None:
        apart = torch.nn.functional.pdist(centers)
        radius = float(apart.min()) / 2 if len(apart) else math.inf
    if not radius > 0:
        raise ValueError(f"radius must be > 0, got radius={radius}; centers must differ")
    nearest = [r.min(1) for r in _blocks(x, centers)]
    distance = torch.cat([r.values for r in nearest])
    mode = torch.cat([r.indices for r in nearest])
    mode, near = mode[distance <= radius], x[distance <= radius]
    counts = mode.bincount(minlength=len(centers))
    sums = torch.zeros_like(centers).index_add(0, mode, near)
    spread = (near - (sums / counts.unsqueeze(1))[mode]).square().sum(1)
    total = spread.new_zeros(len(centers)).index_add(0, mode, spread)
    variance = torch.where(counts > 1, total / (x.shape[1] * (counts - 1)), math.nan)
    return ModeStatistics(counts, variance, (distance > radius).sum())


# ---- distances between the features of images ----------------------------------------------------


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> Tensor:
    r"""Squared Wasserstein-2 distance of two Gaussians; Dowson & Landau (1982).

    d^2 = ||m_1 - m_2||^2 + tr( C_1 + C_2 - 2 (C_1 C_2)^{1/2} )

    Of the mean and covariance of Inception features of images it is the FID (Heusel et al.
    1706.08500 eq. 6); of other features it is another number, not to be compared with FIDs.
    C_1 C_2 has the eigenvalues of the symmetric C_1^{1/2} C_2 C_1^{1/2}, so that two symmetric
    eigenproblems do, for singular covariances too.
    Misses: everything beyond mean and covariance. With moments of n samples it is biased upwards,
    by about 1/n: compare at equal n.

    Args:
        mean1, mean2: (d,).
        cov1, cov2: (d, d), symmetric and positive semi-definite.

    Returns:
        0-dim float64, at least 0.
    """
    (m1, c1), (m2, c2) = _moments(mean1, cov1, "1"), _moments(mean2, cov2, "2")
    if m1.shape != m2.shape:
        raise ValueError(
            f"mean1 and mean2 must have the same dimension d, got {len(m1)} and {len(m2)}"
        )
    values, vectors = torch.linalg.eigh(c1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    inner = root @ c2 @ root
    # Rounding makes eigenvalues that should be 0 slightly negative.
    cross = torch.linalg.eigvalsh((inner + inner.T) / 2).clamp(min=0).sqrt().sum()
    distance = (m1 - m2).square().sum() + c1.trace() + c2.trace() - 2 * cross
    return distance.clamp(min=0)


def _moments(mean: Tensor, cov: Tensor, number: str) -> tuple[Tensor, Tensor]:
    """Mean and covariance in float64, checked."""
    check_float(**{f"mean{number}": mean, f"cov{number}": cov})
    d = mean.numel()
    if mean.ndim != 1 or d < 1 or cov.shape != (d, d):
        raise ValueError(
            f"mean{number} and cov{number} must have shapes (d,) and (d, d), got "
            f"{tuple(mean.shape)} and {tuple(cov.shape)}"
        )
    if not (mean.isfinite().all() and cov.isfinite().all()):
        raise ValueError(
            f"mean{number} and cov{number} must be finite, got NaN or inf: a covariance needs "
            "2 samples at least"
        )
    apart = (cov - cov.T).abs().max().item()
    if apart > 1e-5 * cov.abs().max():
        raise ValueError(
            f"cov{number} must be symmetric, got entries that differ by {apart:.3g} from their "
            f"mirror images: use (cov{number} + cov{number}.T) / 2"
        )
    mean, cov = mean.detach().to(torch.float64), cov.detach().to(torch.float64)
    return mean, (cov + cov.T) / 2


def kernel_distance(x: Tensor, y: Tensor, degree: int = 3) -> Tensor:
    r"""Squared MMD with a polynomial kernel, unbiased; Binkowski et al. (1801.01401) sec. 4.

    k(a, b) = ( a.b / d + 1 )^degree;  mean over i != j within x, within y, minus twice across

    Of Inception features of images it is the KID. Unlike ``frechet_distance`` its expectation does
    not depend on the number of samples: 0 when both distributions agree, with values below it as
    well as above. Misses: what moments up to ``degree`` do not show.

    Args:
        x, y: (n, d), (m, d), at least 2 points each.
        degree: >= 1; 1 compares means alone, 2 also covariances, 3 (KID) skewness as well.
    """
    check_count(degree, 1, None, "degree")
    x, y = _clouds(x, y, least=2)
    d = x.shape[1]

    def kernel_sum(a: Tensor, b: Tensor) -> Tensor:
        rows = a.split(max(1, BLOCK_SIZE // len(b)))
        return sum(((r @ b.T).div_(d).add_(1).pow_(degree).sum() for r in rows), a.new_zeros(()))

    def within(a: Tensor) -> Tensor:
        itself = (a.square().sum(1) / d + 1).pow(degree).sum()  # of a point with itself: left out
        return (kernel_sum(a, a) - itself) / (len(a) * (len(a) - 1))

    return within(x) + within(y) - 2 * kernel_sum(x, y) / (len(x) * len(y))


def _blocks(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Euclidean distances of x (n, d) to y (m, d), some rows at a time: (rows, m)."""
    rows = max(1, BLOCK_SIZE // len(y))
    # The product form ||x||^2 - 2 x.y + ||y||^2 is faster in many dimensions but loses small
    # distances.
    exact = "donot_use_mm_for_euclid_dist"
    return (torch.cdist(block, y, compute_mode=exact) for block in x.split(rows))


def _thin(x: Tensor) -> Tensor:
    """At most MEDIAN_POINTS evenly spaced rows of x."""
    if len(x) <= MEDIAN_POINTS:
        return x
    return x[torch.linspace(0, len(x) - 1, MEDIAN_POINTS, dtype=torch.float64).long()]


def _clouds(
    x: Tensor, y: Tensor, least: int = 1, names: tuple[str, str] = ("x", "y")
) -> tuple[Tensor, Tensor]:
    """Both clouds in float64, checked."""
    for name, cloud in zip(names, (x, y), strict=True):
        check_float(**{name: cloud})
        if cloud.ndim != 2 or cloud.shape[1] < 1:
            raise ValueError(
                f"{name} must have shape (n, d), got {tuple(cloud.shape)}: use {name}.flatten(1)"
            )
        if len(cloud) < least:
            raise ValueError(f"{name} must hold at least {least} points, got {len(cloud)}")
        if not cloud.isfinite().all():
            raise ValueError(f"{name} must be finite, got NaN or inf: drop those points first")
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same dimension d, got "
            f"{tuple(x.shape)} and {tuple(y.shape)}"
        )
    return x.detach().to(torch.float64), y.detach().to(torch.float64)
