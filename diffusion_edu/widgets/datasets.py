"""The data that explorers show: points of a toy set, or a grid of digits."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..data import images, toy
from ..viz.scene import groups, sector

IMAGES = ("digits",)
GRID = 64  # images in a grid
EXTENT = 3.3  # half the side of the square that point pictures show, in standard deviations


def names() -> tuple[str, ...]:
    """Names of the data sets an explorer can show."""
    return toy.names() + IMAGES


@lru_cache(maxsize=16)
def load(name: str, n: int, seed: int) -> Tensor:
    """(n, 2) points, or (64, C, H, W) images in [-1, 1] drawn at random."""
    if name in IMAGES:
        every = images.to_float(images.load(name).images)
        order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))
        return every[order[:GRID]]
    return toy.load(name, n, seed)


def code(name: str, n: int, seed: int) -> str:
    """Python for ``load``."""
    if name not in IMAGES:
        return f"x0 = de.toy.load({name!r}, {n}, seed={seed})"
    return (
        f"x0 = de.images.to_float(de.images.load({name!r}).images)\n"
        f"order = torch.randperm(len(x0), generator=torch.Generator().manual_seed({seed}))\n"
        f"x0 = x0[order[:{GRID}]]"
    )


def by_colour(x: Tensor) -> tuple[Tensor, list[int]]:
    """The order that sorts points x (n, 2) by ``sector``, and where each colour ends then.

    Points of one colour are drawn together, which canvases are fast at.
    """
    order = sector(x).argsort(stable=True)
    return order, groups(x[order])


def noise(shape: tuple[int, ...], seed: int, draw: int) -> Tensor:
    """Standard normal noise, the same for the same (seed, draw).

    Seeds are kept away from those of the data: points and noise made from one random stream would
    be correlated.
    """
    generator = torch.Generator().manual_seed(noise_seed(seed, draw))
    return torch.randn(shape, generator=generator)


def noise_seed(seed: int, draw: int) -> int:
    """Seed of the generator that ``noise`` uses."""
    return 1_000_003 * (seed + 1) + draw
