"""Exponential moving average of a network's weights, with warm-up."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["EMA"]


class EMA:
    """Averaged copy of a network: w_ema <- d w_ema + (1 - d) w after every optimiser step.

    With warm-up d = min(decay, (1 + n)/(10 + n)) at the n-th update, so early averages are not
    dominated by the random start; without it the first samples of a run are noise.

    Attributes:
        model: the averaged copy, in eval mode, without gradients. Buffers are copied as they are.
        updates: number of updates so far.
    """

    def __init__(self, model: nn.Module, decay: float = 0.9999, warmup: bool = True) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got decay={decay}")
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.warmup, self.updates = decay, warmup, 0

    @property
    def rate(self) -> float:
        """The d of the next update."""
        if not self.warmup:
            return self.decay
        return min(self.decay, (1 + self.updates) / (10 + self.updates))

    @property
    def horizon(self) -> float:
        """Effective horizon 1/(1 - d): about how many past steps the average covers."""
        return 1 / (1 - self.rate)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the weights of ``model``; copy its buffers."""
        move = get_ema_multi_avg_fn(self.rate)  # on a GPU one kernel for all weights
        move(list(self.model.parameters()), list(model.parameters()), self.updates)
        for old, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            old.copy_(buffer)
        self.updates += 1

    def __repr__(self) -> str:
        return f"EMA(decay={self.decay}, {self.updates} updates, horizon {self.horizon:.0f} steps)"
