"""E7: the right functions, and the wrong ones that have a name: which levels are visited."""

from __future__ import annotations

import torch
from torch import Tensor

from ..spec import Graded, Mistake

LEVELS = "07, Fewer steps: which levels?"


# ---- timesteps -----------------------------------------------------------------------------------


def timesteps(T: int, S: int, kind: str = "uniform") -> Tensor:
    """S+1 levels, T first, 0 last: DDIM (2010.02502) app. D.2, "linear" and "quadratic"."""
    if kind == "uniform":
        levels = [T * i // S for i in range(S + 1)]
    else:
        levels = _strictly([T * i * i // S**2 for i in range(S + 1)])
    return torch.tensor(levels[::-1])


def _strictly(levels: list[int]) -> list[int]:
    """Rising levels without a repetition: where two collide the later one moves up by 1."""
    for i in range(1, len(levels) - 1):
        levels[i] = max(levels[i], levels[i - 1] + 1)
    return levels


def levels_by_arange(T: int, S: int, kind: str = "uniform") -> Tensor:
    """The levels by integer arithmetic on tensors."""
    i = torch.arange(S, -1, -1)
    if kind == "uniform":
        return torch.div(T * i, S, rounding_mode="floor")
    # Two levels collide only near 0, where i itself is the answer.
    return torch.maximum(torch.div(T * i**2, S**2, rounding_mode="floor"), i)


def levels_by_linspace(T: int, S: int, kind: str = "uniform") -> Tensor:
    """The levels by a line of floats."""
    u = torch.linspace(0, 1, S + 1, dtype=torch.float64)
    levels = (T * (u if kind == "uniform" else u**2) + 1e-9).long().tolist()
    taken: list[int] = []
    for level in levels:
        taken.append(level if level not in taken else taken[-1] + 1)
        if len(taken) > 1 and taken[-1] <= taken[-2]:
            taken[-1] = taken[-2] + 1
    return torch.tensor(taken).flip(0)


def levels_by_root(T: int, S: int, kind: str = "uniform") -> Tensor:
    """The levels by a line of square roots."""
    if kind == "uniform":
        return torch.tensor([(T * i - T * i % S) // S for i in reversed(range(S + 1))])
    roots = torch.linspace(0, T**0.5, S + 1, dtype=torch.float64)
    out = (roots**2 + 1e-9).floor()
    for i in range(1, S):
        out[i] = max(float(out[i]), float(out[i - 1]) + 1)
    return out.flip(0).long()


def _floored(numbers: Tensor) -> Tensor:
    return (numbers + 1e-9).floor().long()


def _line(start: float, end: float, count: int) -> Tensor:
    return torch.linspace(start, end, count, dtype=torch.float64)


def leading(T: int, S: int) -> Tensor:
    """Every (T // S)-th level from 1 on, and 0: as many as there are, and T is none of them."""
    return torch.tensor([0, *range(1, T + 1, T // S)]).flip(0)


def _repeats(T: int, S: int, kind: str = "uniform") -> Tensor:
    levels = [T * i * i // S**2 for i in range(S + 1)]
    return timesteps(T, S) if kind == "uniform" else torch.tensor(levels[::-1])


def _from_the_top(T: int, S: int, kind: str = "uniform") -> Tensor:
    return timesteps(T, S) if kind == "uniform" else T - timesteps(T, S, kind).flip(0)


def _quad_to_08(T: int, S: int, kind: str = "uniform") -> Tensor:
    if kind == "uniform":
        return timesteps(T, S)
    levels = [int(x) for x in _line(0, (0.8 * T) ** 0.5, S + 1) ** 2 + 1e-9]
    return torch.tensor(_strictly(levels)[::-1])


def rounded(T: int, S: int, kind: str = "uniform") -> Tensor:
    """The nearest integers in place of those below."""
    u = _line(0, 1, S + 1)
    levels = (T * (u if kind == "uniform" else u**2)).round().long().tolist()
    return torch.tensor(_strictly(levels)[::-1])


TIMESTEPS = Graded(
    "timesteps",
    timesteps,
    # In floats a level can fall just below an integer: 9 * (1/3) * 2 for one.
    lambda w: [
        (9, 3),
        (7, 7),
        (w.sch.T, 3),
        (w.sch.T, w.sch.T),
        (50, 7),
        (w.sch.T, 5, "quadratic"),
        (100, 13, "quadratic"),
    ],
    (
        Mistake(
            "stride_never_starts_at_T",
            lambda T, S, kind="uniform": leading(T, S) if kind == "uniform" else timesteps(T, S),
            "Every (T // S)-th level was taken. Where S does not divide T that gives another "
            "number of levels than asked for, and T, where sampling starts, is none of them.",
            LEVELS,
        ),
        Mistake(
            "stride_from_T",
            lambda T, S, kind="uniform": (
                torch.arange(T, -1, -(T // S)) if kind == "uniform" else timesteps(T, S, kind)
            ),
            "The levels are T // S apart. Where S does not divide T that gives another number of "
            "levels than asked for, and the last one is not 0.",
            LEVELS,
        ),
        Mistake(
            "length_S_not_S_plus_1",
            lambda T, S, kind="uniform": (
                _floored(_line(T, 0, S)) if kind == "uniform" else timesteps(T, S - 1, kind)
            ),
            "There are S levels, so only S - 1 steps between them.",
            LEVELS,
            credit=0.5,
        ),
        Mistake(
            "last_level_missing",
            lambda T, S, kind="uniform": timesteps(T, S, kind)[:-1],
            "The last level, 0, is missing: no step leads to clean data.",
            LEVELS,
            credit=0.5,
        ),
        Mistake(
            "ends_at_1",
            lambda T, S, kind="uniform": (
                _floored(_line(T, 1, S + 1)) if kind == "uniform" else timesteps(T, S, kind)
            ),
            "The levels end at 1. A little noise would be left in the samples; 0 is clean data.",
            LEVELS,
        ),
        Mistake(
            "S_levels_down_to_1",
            lambda T, S, kind="uniform": (
                _floored(_line(T, 1, S)) if kind == "uniform" else timesteps(T, S, kind)
            ),
            "There are S levels and they end at 1. S steps need one more, and the last one is 0, "
            "clean data.",
            LEVELS,
            credit=0.25,
        ),
        Mistake(
            "starts_below_T",
            lambda T, S, kind="uniform": timesteps(T - 1, S, kind),
            "The first level is T - 1. Sampling starts from pure noise, which is level T.",
            LEVELS,
        ),
        Mistake(
            "duplicate_last_step",
            lambda T, S, kind="uniform": (
                torch.cat([_floored(_line(T, 0, S)), torch.zeros(1, dtype=torch.long)])
                if kind == "uniform"
                else timesteps(T, S, kind)
            ),
            "The level 0 is there twice: the last step would go from 0 to 0, where its noise scale "
            "is 0/0.",
            LEVELS,
        ),
        Mistake(
            "rising",
            lambda T, S, kind="uniform": timesteps(T, S, kind).flip(0),
            "The levels rise from 0 to T. A sampler walks down.",
            LEVELS,
            credit=0.5,
        ),
        Mistake(
            "rounded_not_floored",
            rounded,
            "Levels between two integers were rounded to the nearest. That grid is as good, but "
            "asked for is the integer below.",
            LEVELS,
            credit=0.5,
        ),
        Mistake(
            "levels_not_integers",
            lambda T, S, kind="uniform": T * _line(1, 0, S + 1) ** (1 if kind == "uniform" else 2),
            "Some of the levels are no integers. Tables are indexed by them.",
            LEVELS,
        ),
        Mistake(
            "kind_ignored",
            lambda T, S, kind="uniform": timesteps(T, S),
            "The quadratic grid is the uniform one: kind is not used.",
            LEVELS,
            credit=0.5,
        ),
        Mistake(
            "quadratic_repeats_levels",
            _repeats,
            "Near 0 the quadratic grid has the same level several times. A step between equal "
            "levels is 0/0: the later one has to move up.",
            LEVELS,
            credit=0.5,
        ),
        Mistake(
            "quadratic_dense_at_T",
            _from_the_top,
            "The quadratic grid is dense near T. Its steps are to be small near clean data.",
            LEVELS,
            credit=0.25,
        ),
        Mistake(
            "quadratic_starts_at_0.8T",
            _quad_to_08,
            "The quadratic grid starts at 0.8 T, as in the code of the DDIM paper. Samples of "
            "level T would be taken for less noisy ones; here T comes first.",
            LEVELS,
            credit=0.5,
        ),
    ),
    (levels_by_arange, levels_by_linspace, levels_by_root),
)
