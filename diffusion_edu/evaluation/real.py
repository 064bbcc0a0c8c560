"""Real images to compare with: an even selection, and chunks shared by the processes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from tqdm import tqdm

from .. import _parallel

__all__ = ["Part", "evenly_spaced", "parts"]

Part = tuple[Tensor, Tensor | None]  # images (B, C, H, W) uint8, the labels they should have
CHUNK = 500  # images at once


def parts(
    images: Tensor, labels: Tensor | None = None, *, what: str = "images", progress: bool = False
) -> Iterator[Part]:
    """The images in chunks, those of this process: every world-th chunk.

    Args:
        what: title of the bar that ``progress`` draws, on a terminal.
    """
    chunks = torch.arange(len(images)).split(CHUNK)[_parallel.rank() :: _parallel.world()]
    for index in tqdm(chunks, unit="chunk", desc=what, disable=_parallel.quiet(progress)):
        yield images[index], None if labels is None else labels[index]


def evenly_spaced(images: Tensor, n: int) -> Tensor:
    """At most n of the rows, the first and the last among them if n > 1."""
    n = min(n, len(images))
    return images[torch.linspace(0, len(images) - 1, n, dtype=torch.float64).long()]
