"""Inputs that the property tests draw: schedules, shapes, dtypes and times of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from hypothesis import strategies as st
from torch import Tensor

from diffusion_edu import schedules
from diffusion_edu.schedules import Schedule

SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "linear": schedules.linear,
    "literal betas": lambda T: schedules.linear(T, 1e-4, 0.02),
    "constant": lambda T: schedules.constant(T, min(0.5, 10 / T)),
    "quadratic": schedules.quadratic,
    "cosine": schedules.cosine,
    "sigmoid": schedules.sigmoid,
    "sigmoid_alpha_bar": schedules.sigmoid_alpha_bar,
    "jsd": schedules.jsd,
    "zero_terminal_snr": lambda T: schedules.zero_terminal_snr(schedules.linear(T)),
    "respaced": lambda T: schedules.respace(
        schedules.cosine(4 * T), range(4 * T, 0, -4) if T > 1 else [3]
    ),
}
TERMINAL = ("jsd", "zero_terminal_snr")  # alpha_bar_T = 0
POSITIVE = tuple(name for name in SCHEDULES if name not in TERMINAL)

# B == D twice, B == C and B == H = W: a wrong broadcast goes unnoticed only at such sizes
SHAPES = [
    (1, 2), (2, 2), (5, 2), (7, 7), (1, 1, 8, 8), (8, 1, 8, 8), (3, 3, 32, 32), (2, 3, 32, 32),
]  # fmt: skip


@cache
def schedule_of(name: str, T: int) -> Schedule:
    return SCHEDULES[name](T)


def lengths(low: int = 1, high: int = 4000) -> st.SearchStrategy[int]:
    """T, with its edges drawn often."""
    edges = [T for T in (1, 2, 3, 10, 50, 1000, 4000) if low <= T <= high]
    return st.one_of(st.sampled_from(edges), st.integers(low, high))


def any_schedule(
    names: tuple[str, ...] = tuple(SCHEDULES), low: int = 1, high: int = 4000
) -> st.SearchStrategy[Schedule]:
    return st.builds(schedule_of, st.sampled_from(names), lengths(low, high))


@dataclass(frozen=True)
class Case:
    schedule: Schedule
    x: Tensor  # (B, *D) standard normal
    y: Tensor  # another one
    t: int | Tensor

    @property
    def times(self) -> list[int]:
        """t of every example, as Python ints."""
        return [self.t] * len(self.x) if isinstance(self.t, int) else self.t.tolist()

    def table(self, values: Tensor) -> Tensor:
        """values[t] example by example, (B, 1, ..., 1) float64: the slow, obvious broadcast."""
        rows = torch.tensor([float(values[t]) for t in self.times], dtype=torch.float64)
        return rows.reshape(len(self.x), *[1] * (self.x.ndim - 1))


@st.composite
def cases(
    draw: st.DrawFn,
    names: tuple[str, ...] = tuple(SCHEDULES),
    low: int = 1,
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64),
    min_T: int = 1,
) -> Case:
    """A schedule, two tensors of one shape, and t in low..T as an int or one per example."""
    schedule = draw(any_schedule(names, max(min_T, low)))
    shape, dtype = draw(st.sampled_from(SHAPES)), draw(st.sampled_from(dtypes))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    x = torch.randn(shape, generator=generator, dtype=dtype)
    y = torch.randn(shape, generator=generator, dtype=dtype)
    t: int | Tensor = draw(st.integers(low, schedule.T))
    if draw(st.booleans()):
        t = torch.randint(low, schedule.T + 1, (len(x),), generator=generator)
        t[0] = draw(st.sampled_from([low, schedule.T]))  # the ends are where mistakes live
    return Case(schedule, x, y, t)
