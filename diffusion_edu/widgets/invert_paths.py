"""What InvertAndMix computes: latents, what lies between them, round trips, a learner's version."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..prediction import Model
from ..sampling import ddim, invert, sample, slerp
from ..schedules import Schedule
from ..spacing import timesteps
from ..viz.scene import note
from . import datasets
from .explorer import nearest
from .learner import Learner, LearnerError, answers, bad_values, compared

__all__ = [
    "AGAIN",
    "AT_ONCE",
    "CURVE",
    "MIXES",
    "POINTS",
    "REACH",
    "State",
    "Trips",
    "between",
    "distance",
    "lambdas",
    "measure_all",
    "run_invert",
    "run_slerp",
    "travel",
]

MIXES = ("slerp", "lerp")
CURVE = (1, 2, 5, 10, 20, 50, 100)  # numbers of steps at which round trips are measured
AT_ONCE = (1, 2, 5, 10, 20)  # those that are measured without being asked for, on images
AGAIN = (10, 20, 50)  # numbers of steps in which the same latent is decoded for comparison
POINTS, IMAGES = 200, 8  # how many examples make round trips
PROBES = 6  # pairs tried on a learner's slerp besides the one shown; the last are parallel
REACH = 2.6  # half the side of pictures of the plane
AGREES = 1e-3  # float32 angles of nearly parallel vectors are known to about this


@dataclass
class Trips:
    """Examples ``data`` (n, *D), and for numbers of steps tried: {S: (latents, distances (n,))}.

    ``distances`` are those of x_0' from x_0, see ``distance``.
    """

    data: Tensor
    known: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    @property
    def measured(self) -> Tensor:
        """The examples that make the trips."""
        return self.data[: IMAGES if self.data.ndim > 2 else POINTS]

    def fill(self, model: Model, schedule: Schedule, wanted: Sequence[int]) -> None:
        """Make the trips that are not known yet."""
        for steps in wanted:
            if steps <= schedule.T and steps not in self.known:
                self.known[steps] = _round_trip(model, self.measured, schedule, steps)

    def missing(self, schedule: Schedule) -> list[int]:
        """Numbers of steps of the curve at which nothing is measured yet."""
        return [S for S in CURVE if S <= schedule.T and S not in self.known]

    def curve(self, steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers of steps S (k,), the RMS and the median distance at each, (k,)."""
        several = sorted(S for S in self.known if S in CURVE or steps == S)
        every = torch.stack([self.known[S][1] for S in several])
        return torch.tensor(several), every.square().mean(1).sqrt(), every.median(1).values


@dataclass
class State:
    """What InvertAndMix computes, a row for each lambda in ``times``.

    ends (2, *D): A and B; latents (2, *D): where inversion takes them; mixed (F, *D): latents
    between them; path (F, *D): what these decode to; again {S: (F, *D)}: the same decoded in S
    steps; curve: see ``Trips.curve``; mine_mixed and mine as mixed and path, by the learner's
    slerp; mine_latents as latents, by the learner's invert.
    """

    schedule: Schedule
    times: list[float]
    steps: int
    ends: Tensor
    latents: Tensor
    mixed: Tensor
    path: Tensor
    trips: Trips
    again: dict[int, Tensor] = field(default_factory=dict)
    curve: tuple[Tensor, Tensor, Tensor] | None = None
    mine_mixed: Tensor | None = None
    mine: Tensor | None = None
    mine_latents: Tensor | None = None
    difference: float | None = None
    notes: list[dict[str, str]] = field(default_factory=list)
    coarse: bool = False
    some: list[int] = field(default_factory=list)  # frames that are computed ...
    shown: list[int] = field(default_factory=list)  # ... and which of these each frame shows
    seconds: float = 0.0  # for one step of the way

    @property
    def images(self) -> bool:
        """Whether the data are images."""
        return self.ends.ndim > 2


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Of points: |a - b|. Of images: its root mean square over pixels. (B, *D) -> (B,)."""
    off = (a - b).flatten(1).norm(dim=1)
    return off / math.sqrt(a[0].numel()) if a.ndim > 2 else off


def lambdas(images: bool) -> list[float]:
    """Lambda of each frame, 0 to 1."""
    last = 20 if images else 40
    return [i / last for i in range(last + 1)]


def _round_trip(
    model: Model,
    x0: Tensor,
    schedule: Schedule,
    steps: int,
    tick: Callable[[float], None] = lambda done: None,
) -> tuple[Tensor, Tensor]:
    """x_0 -> x_T -> x_0' (DDIM sec. 5.4): latents (n, *D), and the distances of x_0' from x_0 (n,).

    ``tick`` is called after each step with the share done.
    """
    x = x0
    for i, step in enumerate(invert(model, x0, schedule, steps)):
        x = step.x_s
        tick((i + 1) / (2 * steps))
    latents = x
    for i, step in enumerate(sample(model, latents, schedule, steps)):
        x = step.x_s
        tick((i + 1 + steps) / (2 * steps))
    return latents, distance(x, x0)


def measure_all(
    model: Model,
    schedule: Schedule,
    trips: Trips,
    step: Callable[[float, str], None],
    tell: Callable[[int, tuple[Tensor, Tensor]], None],
) -> None:
    """Make the trips that the curve lacks: step(share done, text) often, tell(S, trip) of each."""
    missing = trips.missing(schedule)
    for i, steps in enumerate(missing):

        def tick(done: float, steps: int = steps, before: int = sum(missing[:i])) -> None:
            step((before + done * steps) / sum(missing), f"S = {steps}")

        tell(steps, _round_trip(model, trips.measured, schedule, steps, tick))


def between(mix: str, a: Tensor, b: Tensor, lams: Tensor) -> Tensor:
    """Latents between a and b (1, *D) at lams (L,): (L, *D)."""
    pair = [x.expand(len(lams), *x.shape[1:]) for x in (a, b)]
    if mix == "slerp":
        return slerp(pair[0], pair[1], lams)
    return torch.lerp(pair[0], pair[1], lams.view(-1, *[1] * (a.ndim - 1)))


def travel(
    model: Model,
    schedule: Schedule,
    trips: Trips,
    ends: Tensor,
    steps: int,
    mix: str,
    some: Sequence[int],
) -> State:
    """The state of InvertAndMix without round trips and without the learner's part.

    Args:
        some: frames that are computed, the first and the last among them; the others show the
            nearest of these.
    """
    lams = lambdas(ends.ndim > 2)
    start = time.perf_counter()
    *_, end = invert(model, ends, schedule, steps)
    a, b = end.x_s.split(1)
    mixed = between(mix, a, b, torch.tensor(lams)[list(some)])
    path = ddim(model, mixed, schedule, steps)
    seconds = (time.perf_counter() - start) / steps
    shown = [nearest([lams[f] for f in some], lam) for lam in lams]
    state = State(schedule, lams, steps, ends, end.x_s, mixed[shown], path[shown], trips)
    state.some, state.shown, state.seconds = list(some), shown, seconds
    if ends.ndim == 2:
        for S in AGAIN:
            if S <= schedule.T:
                decoded = path if steps == S else ddim(model, mixed, schedule, S)
                state.again[S] = decoded[shown]
    return state


# ---- the learner's functions -------------------------------------------------------------------


def run_slerp(learner: Learner, model: Model, state: State, hurry: bool) -> None:
    """Fill ``mine_mixed``, ``mine``, ``difference`` and ``notes`` with what the slerp gives."""
    a, b = _pairs(state.latents)

    def call(lam: float) -> Tensor:
        return learner(a, a, b, lam)

    at = "\u03bb = {:g}"
    every, whole = answers(learner, state.times, call, state.notes, hurry, at)
    if every is None:
        return
    state.mine_mixed = every[:, 0]
    mine = state.mine_mixed[state.some]
    state.mine = ddim(model, mine, state.schedule, state.steps)[state.shown]
    if whole:
        exact = torch.stack([slerp(a, b, lam) for lam in state.times])
        state.notes.append(_verdict(learner, every, exact, state))


def _pairs(latents: Tensor) -> tuple[Tensor, Tensor]:
    """The pair shown and some more, (1 + PROBES, *D) each.

    One angle for a whole batch is right for one pair; and only parallel vectors have sin = 0.
    """
    noise = [datasets.noise((PROBES, *latents.shape[1:]), 0, i) for i in range(2)]
    a, b = (torch.cat([x, z]) for x, z in zip(latents.split(1), noise, strict=True))
    b[-1] = a[-1]
    return a, b


def _verdict(learner: Learner, every: Tensor, exact: Tensor, state: State) -> dict[str, str]:
    if bad := bad_values(every[:, :-1], state.times, learner):  # type: ignore[arg-type]
        return note("error", bad.replace(" t = ", " \u03bb = "))
    if not every.isfinite().all():
        where = "where a and b are parallel: sin(theta) is 0 there"
        return note("error", f"your slerp gives NaN or infinity {where}")
    gaps = (every - exact).abs().flatten(1).amax(1)
    worst = int(gaps.argmax())
    state.difference = float(gaps[worst])
    off, where = state.difference, f"\u03bb = {state.times[worst]:g}"
    return note("info", compared(learner.role, off < AGREES, off, where))


def run_invert(learner: Learner, model: Model, state: State, hurry: bool) -> None:
    """Fill ``mine_latents`` and ``notes`` with what the learner's invert gives."""
    x0 = torch.cat([state.ends, state.trips.data[:PROBES]])
    taus = timesteps(state.schedule.T, state.steps)
    got: list[Tensor] = []

    def call(i: int) -> None:
        got.append(learner(x0, model, x0, taus, state.schedule))

    try:
        late = learner.over([0], call, hurry)
    except LearnerError as error:
        state.notes.append(note("error", str(error)))
        return
    if late or not got[0].isfinite().all():
        text = late or "your invert gives NaN or infinity; those points are not drawn"
        state.notes.append(note("error", text))
    if got:
        state.mine_latents = got[0][:2]
        *_, end = invert(model, x0, state.schedule, taus)
        off = float((got[0] - end.x_s).abs().max())
        if math.isfinite(off):
            state.difference = max(off, state.difference or 0.0)
            state.notes.append(note("info", compared(learner.role, off < AGREES, off)))
