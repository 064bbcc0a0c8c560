"""The data that explorers show: points of a toy set, or a grid of digits."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ..data import images, toy
from ..viz.scene import sector

IMAGES = ("digits",)
GRID = 64  # images in a grid
EXTENT = 3.3  # half the side of the square that point pictures show, in standard deviations


def names() -> tuple[str, ...]:
    """Names of the data sets an explorer can show."""
    return toy.names() + IMAGES


@lru_cache(maxsize=16)
def load(name: str, n: int, seed: int) -> Tensor:
    """(n, 2) points sorted by colour, or (64, C, H, W) images in [-1, 1] drawn at random."""
    if name in IMAGES:
        every = images.to_float(images.load(name).images)
        order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))
        return every[order[:GRID]]
    points = toy.load(name, n, seed)
    return points[sector(points).argsort(stable=True)]


def noise(shape: tuple[int, ...], seed: int, draw: int) -> Tensor:
    """Standard normal noise, the same for the same (seed, draw).

    Seeds are kept away from those of the data: points and noise made from one random stream would
    be correlated.
    """
    generator = torch.Generator().manual_seed(1_000_003 * (seed + 1) + draw)
    return torch.randn(shape, generator=generator)
