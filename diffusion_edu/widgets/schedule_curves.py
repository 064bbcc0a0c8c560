"""What ScheduleLab computes: the chain, the jump, how far apart they are, a learner's version."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..forward import forward_chain, q_marginal, q_sample
from ..schedules import Schedule, respace
from ..viz.scene import note
from . import datasets
from .learner import (
    AGREES,
    Learner,
    LearnerError,
    agreement,
    answers,
    bad_values,
    compared,
)

__all__ = [
    "BINS",
    "EVERY",
    "REACH",
    "WIDTH",
    "State",
    "TableLearner",
    "centres",
    "chance",
    "expected",
    "histogram",
    "jumped",
    "kolmogorov_smirnov",
    "levels",
    "run_jump",
    "run_table",
    "walked",
]

FRAMES = 101  # levels shown of a longer chain
REACH, BINS = 3.5, 35  # histograms cover -REACH..REACH
WIDTH = 2 * REACH / BINS
EVERY = 4  # so many neighbouring points count as one in the exact histogram
LEVEL = 0.05  # chance exceeds ``chance`` this often
Note = dict[str, str]


@dataclass
class State:
    """What ScheduleLab computes; F levels ``times``, n points.

    chain, jump: (F, n, 2), x_t by t single steps and by one; eps (n, 2), the noise of the jump.
    exact: (F, BINS), what both histograms tend to. distance: (F,), between the empirical
    distribution functions of the first coordinates of both.

    mine: (T+1,), the learner's alpha_bar, or None. off: largest difference of the learner's
    q_sample at each level.
    """

    schedule: Schedule
    against: Schedule | None
    times: list[int]
    x0: Tensor
    eps: Tensor
    chain: Tensor
    jump: Tensor
    exact: Tensor
    distance: Tensor = field(default_factory=lambda: torch.zeros(0))
    mine: Tensor | None = None
    mine_jumps: bool = False  # ``jump`` is made by a function of the learner
    difference: float | None = None
    off: list[float] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    coarse: bool = False


def levels(T: int) -> list[int]:
    """0..T, thinned evenly to ``FRAMES``."""
    return torch.linspace(0, T, min(T + 1, FRAMES)).round().long().tolist()


def walked(x0: Tensor, schedule: Schedule, times: list[int], seed: int, coarse: bool) -> Tensor:
    """x_t at ``times`` by single steps, (F, n, 2).

    A coarse chain visits only those levels. Its law there is the same: Gaussians merge.
    """
    visited = respace(schedule, times) if coarse else schedule
    z = datasets.noise((visited.T, *x0.shape), seed, 1)
    chain = forward_chain(x0, visited, z)
    return chain if coarse else chain[times]


def jumped(x0: Tensor, eps: Tensor, schedule: Schedule, times: list[int]) -> Tensor:
    """x_t at ``times`` by one jump from x_0 each, (F, n, 2)."""
    return torch.stack([q_sample(x0, t, eps, schedule) for t in times])


# ---- histograms and their distance -------------------------------------------------------------


def centres() -> Tensor:
    """(BINS,): the middle of each bin."""
    return -REACH + WIDTH * (torch.arange(BINS) + 0.5)


def histogram(x: Tensor) -> Tensor:
    """Densities of x (F, n) in the bins, (F, BINS); NaN where a row has no finite value."""
    place = ((x + REACH) / WIDTH).floor()
    inside = (place >= 0) & (place < BINS)  # so written, NaN is outside
    rows = BINS * torch.arange(len(x))[:, None]
    cells = (rows + torch.where(inside, place, 0).long())[inside]
    counts = torch.bincount(cells, minlength=len(x) * BINS).view(len(x), BINS)
    known = x.isfinite().any(1, keepdim=True)
    return torch.where(known, counts / (x.shape[1] * WIDTH), math.nan)


def expected(x0: Tensor, schedule: Schedule, times: Sequence[int]) -> Tensor:
    """The histogram of infinitely many draws of q(x_t | x_0) from each x_0 in x0 (n,), (F, BINS).

    The mass of N(mean, var) in a bin is Phi((b - mean) / sd) - Phi((a - mean) / sd), averaged over
    the data: a density smoothed as the histograms are, so that it fits them at every level.
    """
    ordered = x0.sort().values
    some = torch.stack([part.mean() for part in ordered.split(EVERY)])
    share = torch.tensor([len(part) for part in ordered.split(EVERY)]) / len(x0)
    edges = -REACH + WIDTH * torch.arange(BINS + 1)
    below = []
    for t in times:
        law = q_marginal(some, t, schedule)
        sd = law.var.sqrt().clamp(min=1e-6)  # at t = 0 the law is a point
        u = (edges[:, None] - law.mean) / (sd * math.sqrt(2))
        below.append((0.5 + 0.5 * u.erf()) @ share)
    return torch.stack(below).diff(dim=1) / WIDTH


def kolmogorov_smirnov(a: Tensor, b: Tensor) -> Tensor:
    """sup_x |F_a(x) - F_b(x)| of the rows of a and b (F, n), (F,); NaN for rows that hold NaN."""
    n = a.shape[1]
    reached = np.arange(1, n + 1) / n

    def above(x: np.ndarray, y: np.ndarray) -> float:  # F_x - F_y is largest where F_x jumps
        return float((reached - y.searchsorted(x, "right") / n).max())

    rows = zip(*(np.sort(x.numpy(), axis=1) for x in (a, b)), strict=True)
    largest = [max(above(x, y), above(y, x), 0.0) for x, y in rows]
    known = (a.isfinite() & b.isfinite()).all(1)
    return torch.where(known, torch.tensor(largest), math.nan)


def chance(n: int) -> float:
    """What the distance of two independent samples of n from one law exceeds 5 times in 100.

    Kolmogorov (1933), Smirnov (1939): sqrt(-log(0.05 / 2) / 2) sqrt(2 / n), for large n. Chain and
    jump start at the same points, which makes them closer than that, never less close.
    """
    return math.sqrt(-math.log(LEVEL / 2) / n)


# ---- the learner's functions -------------------------------------------------------------------


class TableLearner(Learner):
    """A learner whose function makes a table (T+1,), from the table of betas or from T.

    It gets the betas if the name of its first parameter says so, else T.
    """

    SHAPE = "(T+1,) = {}, one value for each t = 0..T"

    def __init__(self, function: Callable[..., Any], role: str) -> None:
        super().__init__(function, role)
        try:
            first = next(iter(inspect.signature(function).parameters), "")
        except (TypeError, ValueError):  # some built-in functions tell nothing
            first = ""
        self.of_betas = "beta" in first.lower()

    def _call(self, like: Tensor, args: Sequence[Any], tensor_times: bool) -> Any:
        return super()._call(like, args, tensor_times=False)  # T is no time: always an int


def run_table(learner: TableLearner, state: State, hurry: bool) -> Schedule | None:
    """Fill ``mine`` and ``difference``; returns the learner's schedule if it is one of the betas.

    Everything that is wrong with the table goes to ``notes``.
    """
    T, found = state.schedule.T, list[Tensor]()
    like = torch.zeros(T + 1, dtype=torch.float64)

    def call(given: Any) -> None:
        found.append(learner(like, given))

    try:
        late = learner.over([state.schedule.beta if learner.of_betas else T], call, hurry)
    except LearnerError as error:
        late = str(error)
    if late or not found:
        state.notes.append(note("error", late or ""))
        return None
    state.mine = found[0]
    if bad := bad_values(state.mine[:, None], range(T + 1), learner):
        state.notes.append(note("error", bad))
        return None
    return _judge(learner, state, state.mine)


def _judge(learner: TableLearner, state: State, mine: Tensor) -> Schedule | None:
    others = (
        [state.schedule]
        if learner.of_betas or not state.against
        else [state.schedule, state.against]
    )
    gaps = [(mine - other.alpha_bar).abs() for other in others]
    gap, other = min(zip(gaps, others, strict=True), key=lambda pair: float(pair[0].max()))
    state.difference = float(gap.max())
    where = f"t = {int(gap.argmax())}"
    try:
        schedule = Schedule(mine, "yours")
    except ValueError as error:
        largest = f"largest difference {state.difference:.2g}, at {where} (to {other.name})"
        text = f"your {learner.role} is no schedule: {error}\n{largest}"
        state.notes.append(note("error", text))
        return None
    agrees = state.difference < AGREES
    text = compared(learner.role, agrees, state.difference, where, other.name)
    state.notes.append(note("info", text))
    return schedule if learner.of_betas else None


def run_jump(learner: Learner, state: State, schedule: Schedule, hurry: bool) -> None:
    """Replace ``jump`` by what the learner's q_sample gives, and fill ``off`` and ``notes``."""
    off: list[float] = []

    def call(t: int) -> Tensor:
        x_t = learner(state.x0, state.x0, t, state.eps, schedule)
        exact = q_sample(state.x0, t, state.eps, schedule)
        off.append(float((x_t - exact).abs().max()))
        return x_t

    jump, whole = answers(learner, state.times, call, state.notes, hurry)
    if jump is None:
        return
    state.jump, state.off, state.mine_jumps = jump, off, True
    if whole:
        state.notes.append(agreement(learner, jump, state.times, off))
