"""How to train, as plain values, and the draw of times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from .._checks import check_choice, check_count
from ..nets.switches import Precision

__all__ = ["Config", "Times", "draw_times"]

Times = Literal["uniform", "stratified"]


@dataclass(frozen=True)
class Config:
    """How to train. Defaults are DDPM's (2006.11239 app. B) where it names a value.

    Attributes:
        steps, batch: optimiser steps, examples per step (drawn with replacement).
        lr, lr_end, warmup: Adam's step size, and the fraction of it left at the end: after
            ``warmup`` linear steps it follows a half cosine from lr to lr * lr_end (1: constant).
        clip: largest norm of the gradient.
        ema: decay of the averaged weights (with warm-up, see ``EMA``).
        every: steps between records, which are also the moments a checkpoint is written.
        seed: of the one generator that draws batches, times and noise.
        times: "uniform", or "stratified" over the batch (see ``draw_times``).
        precision: "bfloat16" computes the network's products in half the bits (autocast); weights,
            averages and the loss stay in float32.
        drop_label: share of the examples that are shown to the network with the null class, so
            that it learns both for guidance (Ho & Salimans 2207.12598); None: no labels at all.
    """

    steps: int = 10_000
    batch: int = 128
    lr: float = 2e-4
    lr_end: float = 1.0
    warmup: int = 0
    clip: float = 1.0
    ema: float = 0.9999
    every: int = 100
    seed: int = 0
    times: Times = "uniform"
    precision: Precision = "float32"
    drop_label: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "every"):
            check_count(getattr(self, name), 1, None, name)
        for name in ("warmup", "seed"):
            check_count(getattr(self, name), 0, None, name)
        for name in ("lr", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {name}={getattr(self, name)}")
        for name in ("lr_end", "drop_label"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {name}={value}")
        check_choice(self.times, get_args(Times), "times")
        check_choice(self.precision, get_args(Precision), "precision")

    def lr_at(self, step: int) -> float:
        """Step size of the optimiser step number ``step`` (0-based)."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (self.lr_end + (1 - self.lr_end) * (1 + math.cos(math.pi * done)) / 2)


def draw_times(n: int, T: int, times: Times, generator: torch.Generator) -> Tensor:
    """Times (n,) int64 on the generator's device, each uniform on 1..T.

    "uniform": independent. "stratified": one number u for the batch and t_i = the level at
    (u + i/n) mod 1 of the way: each t is uniform still, but together they cover 1..T evenly, which
    takes much of the noise out of the loss (Kingma et al. 2107.00630 app. I.1).
    """
    if times == "uniform":
        return torch.randint(1, T + 1, (n,), generator=generator, device=generator.device)
    u = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device)
    way = (u + torch.arange(n, dtype=torch.float64, device=u.device) / n) % 1
    return 1 + (way * T).long().clamp(max=T - 1)
