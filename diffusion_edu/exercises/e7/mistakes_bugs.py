"""E7: the two functions with a bug to find, and wrong ones that have a name."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ..spec import Graded, Mistake
from ..stubs import Sch
from .mistakes import (
    LEVELS,
    leading,
    levels_by_arange,
    levels_by_linspace,
    levels_by_root,
    rounded,
    timesteps,
)

STEP = "07, The step"


# ---- level_pairs ---------------------------------------------------------------------------------


def level_pairs(T: int, S: int) -> Tensor:
    """The S steps of the uniform grid as pairs (t, s), (S, 2)."""
    levels = timesteps(T, S)
    return torch.stack([levels[:-1], levels[1:]], 1)


def _pairs(levels: Tensor) -> Tensor:
    return torch.stack([levels[:-1], levels[1:]], 1)


def _one_below(T: int, S: int) -> Tensor:
    t = timesteps(T, S)[:-1]
    return torch.stack([t, t - 1], 1)


LEVEL_PAIRS = Graded(
    "level_pairs",
    level_pairs,
    lambda w: [(w.sch.T, 3), (w.sch.T, 5), (50, 11), (w.sch.T, w.sch.T)],
    (
        Mistake(
            "stride_never_starts_at_T",
            lambda T, S: _pairs(leading(T, S)),
            "Every (T // S)-th level is visited. Where S does not divide T that gives another "
            "number of steps than asked for, and none of them starts at T.",
            LEVELS,
        ),
        Mistake(
            "stride_from_T",
            lambda T, S: _pairs(torch.arange(T, -1, -(T // S))),
            "The levels are T // S apart. Where S does not divide T that gives another number of "
            "steps than asked for, and the last one does not end at 0.",
            LEVELS,
        ),
        Mistake(
            "T_added_to_stride",
            lambda T, S: _pairs(torch.tensor(sorted({*leading(T, S).tolist(), T})[::-1])),
            "T is visited now, but every (T // S)-th level is too: where S does not divide T the "
            "number of steps is wrong.",
            LEVELS,
            credit=0.25,
        ),
        Mistake(
            "s_is_t_minus_1",
            _one_below,
            "Every step goes down by one level only. It has to arrive where the next one starts.",
            LEVELS,
        ),
        Mistake(
            "last_step_missing",
            lambda T, S: level_pairs(T, S)[:-1],
            "The last step, the one to 0, is missing.",
            LEVELS,
            credit=0.25,
        ),
        Mistake(
            "duplicate_last_step",
            lambda T, S: torch.cat([level_pairs(T, S), torch.zeros(1, 2, dtype=torch.long)]),
            "There is a last step from 0 to 0. Its noise scale is 0/0.",
            LEVELS,
        ),
        Mistake(
            "columns_swapped",
            lambda T, S: level_pairs(T, S).flip(1),
            "The columns are (s, t). The level that is left comes first.",
            LEVELS,
            credit=0.5,
        ),
        Mistake(
            "rising",
            lambda T, S: level_pairs(T, S).flip(0),
            "The last step comes first. A sampler walks down from T.",
            LEVELS,
            credit=0.5,
        ),
        Mistake(
            "rounded_not_floored",
            lambda T, S: _pairs(rounded(T, S)),
            "Levels between two integers were rounded to the nearest. That grid is as good, but "
            "asked for is the integer below.",
            LEVELS,
            credit=0.5,
        ),
    ),
    (
        lambda T, S: torch.tensor([[T * i // S, T * (i - 1) // S] for i in range(S, 0, -1)]),
        lambda T, S: torch.tensor(list(pairwise(levels_by_linspace(T, S).tolist()))),
        lambda T, S: levels_by_arange(T, S).unfold(0, 2, 1),
        lambda T, S: torch.stack([levels_by_root(T, S).roll(k)[1:] for k in (1, 0)]).T,
    ),
    bug="stride_never_starts_at_T",
)


# ---- level_tables --------------------------------------------------------------------------------


def level_tables(ts: Tensor, sch: Sch) -> tuple[Tensor, Tensor]:
    """alpha_bar of the level that each step leaves, and of the one it goes to, (S,) each."""
    return sch.alpha_bar[ts[:-1]], sch.alpha_bar[ts[1:]]


def _with_last(ts: Tensor, sch: Sch, last: Tensor) -> tuple[Tensor, Tensor]:
    bar = sch.alpha_bar[ts[:-1]]
    return bar, torch.cat([bar[1:], last.view(1)])


LEVEL_TABLES = Graded(
    "level_tables",
    level_tables,
    lambda w: [(timesteps(w.sch.T, S), w.sch) for S in (3, 5, w.sch.T)],
    (
        Mistake(
            "final_abar_not_1",
            lambda ts, sch: _with_last(ts, sch, sch.alpha_bar[1]),
            "The last step ends at alpha_bar[1], so the noise of one level stays in the samples. "
            "Level 0 is clean data.",
            STEP,
        ),
        Mistake(
            "final_abar_0",
            lambda ts, sch: _with_last(ts, sch, 0 * sch.alpha_bar[0]),
            "alpha_bar is 0 where the last step ends: pure noise. Clean data have alpha_bar = 1.",
            STEP,
        ),
        Mistake(
            "final_abar_repeated",
            lambda ts, sch: _with_last(ts, sch, sch.alpha_bar[ts[-2]]),
            "The last step ends at the level where it starts. It goes to 0.",
            STEP,
        ),
        Mistake(
            "s_is_t_minus_1",
            lambda ts, sch: (sch.alpha_bar[ts[:-1]], sch.alpha_bar[ts[:-1] - 1]),
            "The second table belongs to t - 1. A step may skip levels; it ends at the next entry "
            "of ts.",
            STEP,
        ),
        Mistake(
            "alpha_for_alpha_bar",
            lambda ts, sch: (sch.alpha[ts[:-1]], sch.alpha[ts[1:]]),
            "alpha belongs to one step of the chain. What the DDIM paper calls alpha is alpha_bar.",
            STEP,
        ),
        Mistake(
            "tables_swapped",
            lambda ts, sch: level_tables(ts, sch)[::-1],
            "The two tables are returned in the wrong order.",
            STEP,
            credit=0.25,
        ),
        Mistake(
            "square_roots_returned",
            lambda ts, sch: tuple(x.sqrt() for x in level_tables(ts, sch)),
            "These are square roots. Asked for is alpha_bar itself.",
            STEP,
            credit=0.5,
        ),
    ),
    (
        lambda ts, sch: _with_last(ts, sch, torch.ones(1, dtype=sch.alpha_bar.dtype)),
        lambda ts, sch: (sch.alpha_bar[ts][:-1], sch.alpha_bar[ts][1:]),
        lambda ts, sch: tuple(
            torch.stack([sch.alpha_bar[i] for i in levels])
            for levels in (ts.tolist()[:-1], ts.tolist()[1:])
        ),
        lambda ts, sch: list(sch.alpha_bar[ts].unfold(0, 2, 1).unbind(1)),
    ),
    bug="final_abar_not_1",
)
