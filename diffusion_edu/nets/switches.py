"""torch's switches for all that runs: thrown for a block, put back at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

__all__ = ["Precision", "autocast", "seeded"]

Precision = Literal["float32", "bfloat16"]


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context in which matrix products and convolutions run in ``precision``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Within the block torch's global generators, of the CPU and ``device``, start at ``seed``.

    Layers draw their first weights from them, and dropout what it drops.
    """
    gpu = device if device is not None and device.type == "cuda" else None
    with torch.random.fork_rng([] if gpu is None else [gpu]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed seeds all GPUs, for good
        if gpu is not None:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield
