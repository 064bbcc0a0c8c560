"""The data that explorers show: points of a toy set, or a grid of images."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..data import images, toy
from ..viz.scene import groups, sector

__all__ = ["EXTENT", "GRID", "always", "by_colour", "code", "load", "names", "noise", "noise_seed"]

IMAGES = ("digits", "mnist")  # mnist where its files are on this machine
GRID = 64  # images in a grid
EXTENT = 3.3  # half the side of the square that point pictures show, in standard deviations


def names() -> tuple[str, ...]:
    """Names of the data sets an explorer can show."""
    return toy.names() + tuple(name for name in IMAGES if images.is_here(name))


def always() -> tuple[str, ...]:
    """Those that are on every machine."""
    return (*toy.names(), "digits")


@lru_cache(maxsize=16)
def load(name: str, n: int, seed: int) -> Tensor:
    """(n, 2) points, or (64, C, H, W) images in [-1, 1] drawn at random.

    MNIST's 28 x 28 pixels get a black rim, as for its network: 32 x 32.
    """
    if name in IMAGES:
        every = images.load(name, download=False).images
        order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))
        some = images.to_float(every[order[:GRID]])
        return pad(some, [2] * 4, value=-1.0) if name == "mnist" else some
    return toy.load(name, n, seed)


def code(name: str, n: int, seed: int) -> str:
    """Python for ``load``."""
    if name not in IMAGES:
        return f"x0 = de.toy.load({name!r}, {n}, seed={seed})"
    padded = "\nx0 = torch.nn.functional.pad(x0, [2] * 4, value=-1.0)" if name == "mnist" else ""
    return (
        f"x0 = de.images.load({name!r}).images\n"
        f"order = torch.randperm(len(x0), generator=torch.Generator().manual_seed({seed}))\n"
        f"x0 = de.images.to_float(x0[order[:{GRID}]]){padded}"
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
