"""Are samples copies of training images? Nearest neighbours in pixel space, next to a yardstick.

A single small distance proves nothing: real images have near neighbours too. So the same distance
is measured from test images, which cannot have been memorised, to the same training images.
Misses: copies that are moved, brightened or mirrored. And blur helps: a smooth image is nearer to
everything than a sharp one, so look at the pairs as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from .. import _parallel

__all__ = ["Memorisation", "Neighbours", "memorisation", "nearest"]

BLOCK = 2**24  # training values held as float at once: 64 MiB
QUERIES = 500  # images compared at once
QUANTILE = 0.01


class Neighbours(NamedTuple):
    """The nearest training image of each of n images."""

    distance: Tensor  # (n,) float64: root mean squared difference per value, in levels of 0..255
    which: Tensor  # (n,) int64, index of that training image


@dataclass(frozen=True)
class Memorisation:
    """Distances of samples and of test images to the training set.

    Attributes:
        samples, test: nearest training images of both.
    """

    samples: Neighbours
    test: Neighbours

    @property
    def ratio(self) -> float:
        """Median distance of samples over that of test images: near 1 is good, near 0 memorised."""
        return float(self.samples.distance.median() / self.test.distance.median())

    @property
    def copies(self) -> float:
        """Share of samples nearer than all but 1 % of the test images: 0.01 without memorising."""
        limit = self.test.distance.quantile(QUANTILE)
        return float((self.samples.distance < limit).double().mean())

    def plain(self) -> dict[str, float | int]:
        """Both figures, the medians in levels of 0..255, and how many images they are of."""
        return {
            "ratio": self.ratio,
            "copies": self.copies,
            "samples": float(self.samples.distance.median()),
            "test": float(self.test.distance.median()),
            "images": len(self.samples.distance),
        }


def memorisation(
    samples: Tensor, test: Tensor, training: Tensor, *, progress: bool = False
) -> Memorisation:
    """Compare how near ``samples`` and ``test`` images come to ``training`` images.

    Args:
        samples, test, training: (n, C, H, W), (m, C, H, W), (N, C, H, W), all uint8; the same in
            all processes, which share the work.
    """
    return Memorisation(*(_shared(x, training, progress) for x in (samples, test)))


def _shared(images: Tensor, training: Tensor, progress: bool) -> Neighbours:
    """``nearest``, each process for some of the images."""
    own = slice(_parallel.rank(), None, _parallel.world())
    found = nearest(images[own], training, progress=progress)
    distance, index = (x.new_zeros(len(images)) for x in found)
    distance[own], index[own] = found
    return Neighbours(_parallel.add_up(distance), _parallel.add_up(index))


@torch.no_grad()
def nearest(images: Tensor, training: Tensor, *, progress: bool = False) -> Neighbours:
    """The nearest of ``training`` (N, C, H, W) for each of ``images`` (n, C, H, W), both uint8.

    ||x - y||^2 = ||x||^2 - 2 x.y + ||y||^2 in float32 finds the neighbour (to about one level, so
    of two equally near ones either may be found); its distance is then computed exactly.
    Memory: one block of training images as float at a time, on the device of ``images``.

    Raises:
        ValueError: images of different shapes, or no training images.
    """
    if images.shape[1:] != training.shape[1:] or not len(training):
        raise ValueError(
            "training must hold images of the shape of images, got "
            f"{tuple(training.shape)} and {tuple(images.shape)}"
        )
    x = images.flatten(1).float()
    best = x.new_full((len(x),), torch.inf)
    index = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    rows = max(1, BLOCK // max(1, x.shape[1]))
    with tqdm(
        total=len(training), unit="image", desc="neighbours", disable=_parallel.quiet(progress)
    ) as bar:
        for start in range(0, len(training), rows):
            y = training[start : start + rows].to(x.device).flatten(1).float()
            _improve(best, index, x, y, start)
            bar.update(len(y))
    found = training[index.to(training.device)].to(x.device).flatten(1)
    gap = (images.flatten(1).double() - found.double()).square().mean(1).sqrt()
    return Neighbours(gap, index)


def _improve(best: Tensor, index: Tensor, x: Tensor, y: Tensor, start: int) -> None:
    """Update in place the least ||y||^2 - 2 x.y so far (||x||^2 decides nothing) and its place."""
    squares = y.square().sum(1)
    for part in torch.arange(len(x), device=x.device).split(QUERIES):
        least = torch.addmm(squares, x[part], y.T, alpha=-2).min(1)
        nearer = least.values < best[part]
        best[part] = torch.where(nearer, least.values, best[part])
        index[part] = torch.where(nearer, least.indices + start, index[part])
