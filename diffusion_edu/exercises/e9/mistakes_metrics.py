"""E9: the right functions, and the wrong ones that have a name: distances of two clouds."""

from __future__ import annotations

import torch
from torch import Tensor

from ..spec import Call, Graded, Mistake
from ..world import World

MMD = "11, Maximum mean discrepancy"
SLICED = "11, Sliced Wasserstein distance"


# ---- mmd2_rbf ------------------------------------------------------------------------------------


def mmd2_rbf(X: Tensor, Y: Tensor, bandwidth: float) -> Tensor:
    """Squared MMD, unbiased, a number: Gretton et al. (JMLR 2012) eq. 3."""
    return _mmd2(X, Y, _kernel(bandwidth))


def squares(X: Tensor, Y: Tensor) -> Tensor:
    """Squared distances, (n, m)."""
    return (X[:, None] - Y[None]).square().sum(2)


def _kernel(bandwidth: float):  # type: ignore[no-untyped-def]
    return lambda X, Y: torch.exp(-squares(X, Y) / (2 * bandwidth**2))


def _mmd2(X, Y, kernel, within=None, across=2.0):  # type: ignore[no-untyped-def]
    """Squared MMD with another kernel, mean within a cloud, or factor of the mean across."""
    inner = within or _off_diagonal
    return inner(kernel(X, X)) + inner(kernel(Y, Y)) - across * kernel(X, Y).mean()


def _off_diagonal(k: Tensor) -> Tensor:
    n = len(k)
    return (k.sum() - k.trace()) / (n * (n - 1))


def _mmd2_by_masks(X: Tensor, Y: Tensor, bandwidth: float) -> Tensor:
    k = torch.exp(-0.5 * (torch.cdist(torch.cat([X, Y]), torch.cat([X, Y])) / bandwidth) ** 2)
    n = len(X)
    xx, yy, xy = k[:n, :n], k[n:, n:], k[:n, n:]
    others = [part[~torch.eye(len(part), dtype=torch.bool)].mean() for part in (xx, yy)]
    return others[0] + others[1] - 2 * xy.mean()


def _mmd2_in_loops(X: Tensor, Y: Tensor, bandwidth: float) -> float:
    def mean(A: Tensor, B: Tensor, same: bool) -> float:
        pairs = [
            (a - b).pow(2).sum().div(-2 * bandwidth**2).exp().item()
            for i, a in enumerate(A)
            for j, b in enumerate(B)
            if not (same and i == j)
        ]
        return sum(pairs) / len(pairs)

    return mean(X, X, True) + mean(Y, Y, True) - 2 * mean(X, Y, False)


def _mmd2_by_pdist(X: Tensor, Y: Tensor, bandwidth: float) -> Tensor:
    def k(d: Tensor) -> Tensor:
        return (-(d**2) / 2 / bandwidth**2).exp().mean()

    pairs = torch.nn.functional.pdist
    return k(pairs(X)) + k(pairs(Y)) - 2 * k(torch.cdist(X, Y))


def _with_kernel(kernel):  # type: ignore[no-untyped-def]
    """Squared MMD with another kernel, of (squared distances, bandwidth)."""
    return lambda X, Y, bandwidth: _mmd2(X, Y, lambda A, B: kernel(squares(A, B), bandwidth))


def _with_means(within=None, across=2.0):  # type: ignore[no-untyped-def]
    """Squared MMD with another mean within the clouds, or factor of the mean across."""
    return lambda X, Y, bandwidth: _mmd2(X, Y, _kernel(bandwidth), within, across)


def clouds(w: World) -> tuple[Tensor, Tensor]:
    """X (n, D) and Y (n+1, D), of at most 3 dimensions: all distances are of order 1."""
    X = w.x0.flatten(1)[:, :3]
    return X, 1.2 * w.more(len(X) + 1, X.shape[1])


MMD2_RBF = Graded(
    "mmd2_rbf",
    mmd2_rbf,
    lambda w: [(*clouds(w), width) for width in (0.7, 1.6)],
    (
        Mistake(
            "biased_mmd_diagonal",
            _with_means(torch.mean),
            "The means within a cloud contain every point's kernel with itself, which is 1. Only "
            "pairs of different points tell something.",
            MMD,
            credit=0.5,
        ),
        Mistake(
            "diagonal_still_counted",
            _with_means(lambda k: (k.sum() - k.trace()) / k.numel()),
            "The diagonal is taken out of the sum, but the sum is still divided by n^2. There are "
            "n (n - 1) pairs left.",
            MMD,
            credit=0.25,
        ),
        Mistake(
            "diagonal_not_removed_from_sum",
            _with_means(lambda k: k.sum() / (len(k) * (len(k) - 1))),
            "The sum is divided by n (n - 1), but still contains every point's kernel with itself.",
            MMD,
            credit=0.25,
        ),
        Mistake(
            "upper_half_only",
            _with_means(lambda k: k.triu(1).sum() / (len(k) * (len(k) - 1))),
            "Every pair is counted once, but the sum is divided as if it were counted twice.",
            MMD,
            credit=0.25,
        ),
        Mistake(
            "across_once",
            _with_means(across=1.0),
            "The mean across the clouds is subtracted once. For equal distributions the result "
            "has to be about 0.",
            MMD,
        ),
        Mistake(
            "across_added",
            _with_means(across=-2.0),
            "The mean across the clouds is added. Similar clouds are to be close.",
            MMD,
        ),
        Mistake(
            "kernel_without_2",
            _with_kernel(lambda d2, width: torch.exp(-d2 / width**2)),
            "The kernel lacks the 2 of a Gaussian below the line: its width is another one.",
            MMD,
            credit=0.5,
        ),
        Mistake(
            "bandwidth_not_squared",
            _with_kernel(lambda d2, width: torch.exp(-d2 / (2 * width))),
            "The bandwidth is not squared in the kernel. It is a length, as distances are.",
            MMD,
            credit=0.25,
        ),
        Mistake(
            "bandwidth_multiplied",
            _with_kernel(lambda d2, width: torch.exp(-width * d2)),
            "Squared distances are multiplied by the bandwidth. The wider the kernel, the more "
            "alike two points are.",
            MMD,
            credit=0.25,
        ),
        Mistake(
            "distance_not_squared",
            _with_kernel(lambda d2, width: torch.exp(-d2.sqrt() / (2 * width**2))),
            "The distance in the kernel is not squared.",
            MMD,
            credit=0.25,
        ),
        Mistake(
            "mean_over_dimensions",
            lambda X, Y, bandwidth: mmd2_rbf(X, Y, bandwidth * X.shape[1] ** 0.5),
            "The squares of a distance were averaged over the dimensions. They are added up.",
            MMD,
            credit=0.25,
        ),
        Mistake(
            "root_returned",
            lambda X, Y, bandwidth: mmd2_rbf(X, Y, bandwidth).sqrt(),
            "This is the root. The squared MMD is asked for: without bias it can be negative.",
            MMD,
            credit=0.25,
        ),
    ),
    (_mmd2_by_masks, _mmd2_in_loops, _mmd2_by_pdist),
)


# ---- sliced_w2 -----------------------------------------------------------------------------------


def sliced_w2(X: Tensor, Y: Tensor, dirs: Tensor) -> Tensor:
    """Root mean square of the gaps of sorted projections, a number: Bonneel et al. (2015)."""
    unit = dirs / dirs.norm(dim=1, keepdim=True)
    return _gaps(X @ unit.T, Y @ unit.T).square().mean().sqrt()


def _gaps(p: Tensor, q: Tensor) -> Tensor:
    """Differences of sorted columns, (n, k)."""
    return p.sort(0).values - q.sort(0).values


def _unit(dirs: Tensor) -> Tensor:
    return dirs / dirs.norm(dim=1, keepdim=True)


def _sliced_in_a_loop(X: Tensor, Y: Tensor, dirs: Tensor) -> float:
    total = 0.0
    for u in dirs:
        p, q = (sorted(((cloud @ u) / u.norm()).tolist()) for cloud in (X, Y))
        total += sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) / len(p)
    return float((total / len(dirs)) ** 0.5)


def _sliced_by_lengths(X: Tensor, Y: Tensor, dirs: Tensor) -> Tensor:
    # A direction that is too long makes its projections too long: mend that at the end.
    gap = torch.sort(dirs @ X.T, dim=1)[0] - torch.sort(dirs @ Y.T, dim=1)[0]
    return ((gap**2).mean(1) / (dirs**2).sum(1)).mean() ** 0.5


def _sliced_by_ranks(X: Tensor, Y: Tensor, dirs: Tensor) -> Tensor:
    u = torch.nn.functional.normalize(dirs, dim=1)
    p, q = X @ u.T, Y @ u.T
    p, q = p.gather(0, p.argsort(0)), q.gather(0, q.argsort(0))
    return torch.linalg.norm(p - q) / p.numel() ** 0.5


def _sliced(finish=None, gaps=_gaps, unit=_unit):  # type: ignore[no-untyped-def]
    """The distance with other parts: of the gaps (n, k) a number, the gaps, unit directions."""

    def distance(X: Tensor, Y: Tensor, dirs: Tensor) -> Tensor:
        u = unit(dirs)
        off = gaps(X @ u.T, Y @ u.T)
        return finish(off) if finish else off.square().mean().sqrt()

    return distance


def _sliced_calls(w: World) -> list[Call]:
    X = w.x0.flatten(1)
    Y = 1.4 * w.more(*X.shape) - 0.3
    return [(X, Y, 1.5 * w.more(k, X.shape[1], draw=2)) for k in (1, 5)]


SLICED_W2 = Graded(
    "sliced_w2",
    sliced_w2,
    _sliced_calls,
    (
        Mistake(
            "no_sort_in_sliced",
            _sliced(gaps=lambda p, q: p - q),
            "The first point is compared with the first, the second with the second. On a line "
            "the cheapest way pairs them by rank.",
            SLICED,
        ),
        Mistake(
            "only_one_sorted",
            _sliced(gaps=lambda p, q: p.sort(0).values - q),
            "Only one of the clouds is sorted along the line.",
            SLICED,
        ),
        Mistake(
            "dirs_not_unit",
            _sliced(unit=lambda dirs: dirs),
            "The directions have the lengths they came with, and so distances are stretched. "
            "Divide each by its length.",
            SLICED,
            credit=0.25,
        ),
        Mistake(
            "dirs_divided_by_one_length",
            _sliced(unit=lambda dirs: dirs / dirs.norm()),
            "All directions are divided by one length, that of the whole table. Each has its own.",
            SLICED,
            credit=0.25,
        ),
        Mistake(
            "dirs_divided_by_square",
            _sliced(unit=lambda dirs: dirs / dirs.square().sum(1, keepdim=True)),
            "Directions are divided by the square of their length.",
            SLICED,
            credit=0.25,
        ),
        Mistake(
            "sorted_before_projecting",
            lambda X, Y, dirs: _sliced(gaps=lambda p, q: p - q)(
                X.sort(0).values, Y.sort(0).values, dirs
            ),
            "The coordinates are sorted, each for itself: that makes new points. Project first, "
            "then sort.",
            SLICED,
        ),
        Mistake(
            "sorted_over_directions",
            _sliced(gaps=lambda p, q: p.sort(1).values - q.sort(1).values),
            "The projections of one point on all directions are sorted. Sort the points on each "
            "line.",
            SLICED,
        ),
        Mistake(
            "square_returned",
            _sliced(lambda off: off.square().mean()),
            "This is the squared distance: the root at the end is missing.",
            SLICED,
            credit=0.5,
        ),
        Mistake(
            "root_before_mean",
            _sliced(lambda off: off.square().mean(0).sqrt().mean()),
            "The root is taken on each line, and then the mean. It is the mean of the squares "
            "that has the root.",
            SLICED,
            credit=0.5,
        ),
        Mistake(
            "absolute_differences",
            _sliced(lambda off: off.abs().mean()),
            "This is the Wasserstein-1 distance: differences are not squared.",
            SLICED,
            credit=0.25,
        ),
        Mistake(
            "sum_over_points",
            _sliced(lambda off: off.square().sum(0).mean().sqrt()),
            "The squares are added up over the points, so that the distance grows with their "
            "number.",
            SLICED,
            credit=0.25,
        ),
        Mistake(
            "sum_over_directions",
            _sliced(lambda off: off.square().mean(0).sum().sqrt()),
            "The squares are added up over the directions, so that the distance grows with their "
            "number.",
            SLICED,
            credit=0.25,
        ),
    ),
    (_sliced_in_a_loop, _sliced_by_lengths, _sliced_by_ranks),
)
