r"""Which of the T levels a sampler visits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from ._checks import check_choice, check_count, check_levels

__all__ = ["Spacing", "levels_of", "timesteps"]

Spacing = Literal["uniform", "quadratic", "trailing", "leading"]


def timesteps(T: int, steps: int, spacing: Spacing = "uniform") -> Tensor:
    r"""The levels a sampler visits: exactly steps+1 integers, T first, 0 last, strictly decreasing.

    Every consecutive pair (t, s) is one step. With i = 0..steps:

        uniform    floor(T i / steps), upwards        DDIM app. D.2, "linear"
        quadratic  floor(T (i / steps)^2), upwards    DDIM app. D.2; where values collide the later
                   one moves up by 1. (DDIM's CIFAR-10 code ends this grid at 0.8 T, ours at T.)
        trailing   round(T - T i / steps)             Lin et al. (2305.08891) table 2
        leading    1, 1+k, 1+2k, ... with k = T // steps, the topmost replaced by T: the usual
                   "leading" grid never sees t = T, where sampling starts

    Returns:
        (steps+1,) int64.
    """
    check_count(T, 1, None, "T")
    check_count(steps, 1, T, "steps")
    check_choice(spacing, get_args(Spacing), "spacing")
    i = range(steps + 1)
    if spacing == "uniform":
        levels = [T * j // steps for j in i]
    elif spacing == "quadratic":
        levels = [T * j * j // steps**2 for j in i]
        for j in range(1, steps):
            levels[j] = max(levels[j], levels[j - 1] + 1)
    elif spacing == "trailing":
        levels = [round(T - T * (steps - j) / steps) for j in i]
    else:
        levels = [0, *(1 + j * (T // steps) for j in range(steps - 1)), T]
    return torch.tensor(levels[::-1])


def levels_of(taus: Tensor | Sequence[int] | int | None, T: int) -> list[int]:
    """The levels meant by the ``taus`` of a sampler: None is all T steps, an int that many."""
    if taus is None or isinstance(taus, int):
        return timesteps(T, T if taus is None else taus).tolist()
    levels = check_levels(taus, T)
    falling = all(t > s for t, s in pairwise(levels))
    if len(levels) < 2 or not falling:
        raise ValueError(
            f"taus must be at least two strictly decreasing levels in 0..{T}, got "
            f"{levels}: use timesteps({T}, steps)"
        )
    return levels
