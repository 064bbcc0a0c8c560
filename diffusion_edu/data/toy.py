"""Seven 2-D data sets: ``f(n, seed=0) -> (n, 2) float32``, independent draws, mean 0 and std 1.

Every set is standardised by the exact mean and standard deviation of its *population*, worked out
beside each function, and never by those of the draw: one point is then as valid as a million, and
draws of different size or seed lie on the same picture. The same (n, seed) gives the same points;
the global random state is neither read nor changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .._checks import check_choice, check_count, check_float
from . import images

__all__ = [
    "BANDWIDTH",
    "GRID",
    "LIMIT",
    "checkerboard",
    "circles",
    "from_uint8",
    "gaussians",
    "gaussians_mixture",
    "load",
    "moons",
    "names",
    "pinwheel",
    "spirals",
    "swiss_roll",
    "to_uint8",
]

LIMIT = 4.0  # to_uint8 covers [-LIMIT, LIMIT] standard deviations; no set reaches that far
GRID = (-LIMIT, LIMIT, 256)  # the levels of to_uint8 in standard deviations: for elbo(grid=GRID)
BANDWIDTH = 1.8  # for mmd2: about the median distance between two points of any set
MAX_SEED = 2**32 - 1  # scikit-learn's limit
MODES, RADIUS, SPREAD = 8, 1.0, 0.1  # gaussians: eight modes on a circle, each of std SPREAD


def swiss_roll(n: int, seed: int = 0) -> Tensor:
    """scikit-learn's swiss roll, its two rolled coordinates (u cos u, u sin u), noise std 0.5.

    u is uniform on [a, b] = [1.5 pi, 4.5 pi], where cos a = cos b = 0, so the moments are exact:
    means 2 and 2/(3 pi), second moments (a^2 + ab + b^2)/6 -+ 1/4 + noise^2.
    """
    from sklearn.datasets import make_swiss_roll

    _generator(n, seed)  # checks both
    points, _ = make_swiss_roll(n, noise=0.5, random_state=seed)
    x = torch.from_numpy(points[:, [0, 2]])
    a, b = 1.5 * math.pi, 4.5 * math.pi
    mean = (2.0, 2 / (3 * math.pi))
    second = (a * a + a * b + b * b) / 6 + 0.25
    return _standardise(x, mean, (second - 0.5 - mean[0] ** 2 + 0.25, second - mean[1] ** 2 + 0.25))


def moons(n: int, seed: int = 0) -> Tensor:
    """Two interleaved half circles, noise std 0.1: (cos u, sin u) and (1 - cos u, 1/2 - sin u).

    u is uniform on [0, pi] (scikit-learn spaces it evenly; independent draws are needed here).
    Means 1/2 and 1/4, variances 3/4 and 9/16 - 1/pi, plus noise^2.
    """
    g = _generator(n, seed)
    u = math.pi * _uniform(n, g)
    other = _uniform(n, g) < 0.5
    arc = torch.stack([u.cos(), u.sin()], 1)
    x = torch.where(other[:, None], torch.tensor([1.0, 0.5]) - arc, arc) + 0.1 * _normal(n, g)
    return _standardise(x, (0.5, 0.25), (0.75 + 0.1**2, 9 / 16 - 1 / math.pi + 0.1**2))


def circles(n: int, seed: int = 0) -> Tensor:
    """Two circles about the origin, radii 1 and 1/2, equally likely, noise std 0.05.

    Means 0, variances (1 + 1/4)/4 + noise^2.
    """
    g = _generator(n, seed)
    u = 2 * math.pi * _uniform(n, g)
    radius = torch.where(_uniform(n, g) < 0.5, 1.0, 0.5)
    x = radius[:, None] * torch.stack([u.cos(), u.sin()], 1) + 0.05 * _normal(n, g)
    return _standardise(x, (0.0, 0.0), (5 / 16 + 0.05**2,) * 2)


def gaussians(n: int, seed: int = 0) -> Tensor:
    """Eight equally likely round Gaussians on a circle; ``gaussians_mixture`` is the same law."""
    means, variances, _ = gaussians_mixture()
    g = _generator(n, seed)
    mode = torch.randint(MODES, (n,), generator=g)
    return (means[mode] + variances[mode].sqrt()[:, None] * _normal(n, g)).float()


def gaussians_mixture() -> tuple[Tensor, Tensor, Tensor]:
    """Exact law of ``gaussians`` in its standardised coordinates, for ``MixtureOracle``.

    Before standardising: means on a circle of radius R = 1, variance s^2 = 0.01 in every direction,
    hence mean 0 and variance R^2/2 + s^2 per coordinate.

    Returns:
        means (8, 2), variances (8,), weights (8,), all float64.
    """
    angle = 2 * math.pi * torch.arange(MODES, dtype=torch.float64) / MODES
    total = RADIUS**2 / 2 + SPREAD**2
    means = RADIUS * torch.stack([angle.cos(), angle.sin()], 1) / math.sqrt(total)
    ones = torch.ones(MODES, dtype=torch.float64)
    return means, SPREAD**2 / total * ones, ones / MODES


def checkerboard(n: int, seed: int = 0) -> Tensor:
    """Uniform on the eight dark cells of a 4 x 4 board of side 4 about the origin.

    Each coordinate alone is uniform on [-2, 2]: means 0, variances 4/3.
    """
    g = _generator(n, seed)
    column = torch.randint(4, (n,), generator=g)
    row = 2 * torch.randint(2, (n,), generator=g) + column % 2
    x = torch.stack([column, row], 1) + torch.rand(n, 2, generator=g, dtype=torch.float64) - 2
    return _standardise(x, (0.0, 0.0), (4 / 3, 4 / 3))


def pinwheel(n: int, seed: int = 0) -> Tensor:
    """Five bent arms: points (1 + 0.3 z1, 0.1 z2), rotated by 2 pi k/5 + exp(1 + 0.3 z1)/4.

    A rotation keeps lengths and five-fold symmetry makes the rest: means 0, variances
    (1 + 0.09 + 0.01)/2.
    """
    g = _generator(n, seed)
    arm = torch.randint(5, (n,), generator=g)
    along, across = (_normal(n, g) * torch.tensor([0.3, 0.1]) + torch.tensor([1.0, 0.0])).unbind(1)
    angle = 2 * math.pi * arm / 5 + along.exp() / 4
    cos, sin = angle.cos(), angle.sin()
    x = torch.stack([cos * along - sin * across, sin * along + cos * across], 1)
    return _standardise(x, (0.0, 0.0), (0.55, 0.55))


def spirals(n: int, seed: int = 0) -> Tensor:
    """Two arms +-(u cos u, u sin u), noise std 0.3, evenly filled: u = 3 pi sqrt(uniform).

    Means 0; E[u^2 cos^2 u] = 9 pi^2/4 + 3/4 and E[u^2 sin^2 u] = 9 pi^2/4 - 3/4, plus noise^2.
    """
    g = _generator(n, seed)
    u = 3 * math.pi * _uniform(n, g).sqrt()
    arm = torch.where(_uniform(n, g) < 0.5, u, -u)
    x = torch.stack([arm * u.cos(), arm * u.sin()], 1) + 0.3 * _normal(n, g)
    middle = 9 * math.pi**2 / 4 + 0.3**2
    return _standardise(x, (0.0, 0.0), (middle + 0.75, middle - 0.75))


_SETS: dict[str, Callable[[int, int], Tensor]] = {
    f.__name__: f for f in (swiss_roll, moons, circles, gaussians, checkerboard, pinwheel, spirals)
}


def names() -> tuple[str, ...]:
    """Names that ``load`` accepts."""
    return tuple(_SETS)


def load(name: str, n: int, seed: int = 0) -> Tensor:
    """(n, 2) float32 points of the named set. Raises ValueError (nearest name) if unknown."""
    check_choice(name, _SETS, "toy data set")
    return _SETS[name](n, seed)


def to_uint8(x: Tensor) -> Tensor:
    """Standardised coordinates -> 256 levels: [-LIMIT, LIMIT] maps to 0..255, nearest, clipped.

    With levels the discretised likelihood, and so bits/dim, means in 2-D what it means for images:
    ``from_uint8`` gives what the decoder of DDPM eq. 13 expects, bins of width 2/255 in [-1, 1].
    One level is 2 LIMIT/255 = 0.031 standard deviations.
    """
    check_float(x=x)
    return images.to_uint8(x / LIMIT)


def from_uint8(u: Tensor) -> Tensor:
    """256 levels -> float32 in [-1, 1], as for images; times LIMIT gives standard deviations.

    A network trained on standardised points is scored in their units, in bits/dim:
    elbo(model, LIMIT * from_uint8(u), schedule, grid=GRID).bits_per_dim()
    """
    return images.to_float(u)


def _generator(n: int, seed: int) -> torch.Generator:
    check_count(n, 1, None, "n")
    check_count(seed, 0, MAX_SEED, "seed")
    return torch.Generator().manual_seed(seed)


def _uniform(n: int, g: torch.Generator) -> Tensor:
    return torch.rand(n, generator=g, dtype=torch.float64)


def _normal(n: int, g: torch.Generator) -> Tensor:
    return torch.randn(n, 2, generator=g, dtype=torch.float64)


def _standardise(x: Tensor, mean: tuple[float, float], variance: tuple[float, float]) -> Tensor:
    m, v = torch.tensor([mean, variance], dtype=torch.float64)
    standard: Tensor = (x - m) / v.sqrt()
    return standard.float()
