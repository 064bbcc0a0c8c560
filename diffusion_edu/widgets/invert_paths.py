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
from ..viz.scene import Axis, Handle, Scene, note
from . import datasets
from .explorer import nearest
from .learner import Learner, LearnerError, bad_values

MIXES = ("slerp", "lerp")
CURVE = (1, 2, 5, 10, 20, 50, 100)  # numbers of steps at which round trips are measured
AT_ONCE = (1, 2, 5, 10, 20)  # those that are measured without being asked for, on images
AGAIN = (10, 20, 50)  # numbers of steps in which the same latent is decoded for comparison
POINTS, IMAGES = 200, 8  # how many examples make round trips
PROBES = 6  # pairs tried on a learner's slerp besides the one shown; the last are parallel
REACH = 2.6  # half the side of pictures of the plane
DARK = 0.5  # contrast of the images of the other lambdas
LATENT = 2.5  # standard deviations of a latent that are white
RING = 0.14  # radius of the ring around the mix
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
                self.known[steps] = round_trip(model, self.measured, schedule, steps)

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


def round_trip(
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

        tell(steps, round_trip(model, trips.measured, schedule, steps, tick))


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
    rows: list[Tensor] = []

    def call(lam: float) -> None:
        rows.append(learner(a, a, b, lam))

    try:
        late = learner.over(state.times, call, hurry)
    except LearnerError as error:
        state.notes.append(note("error", f"At \u03bb = {state.times[len(rows)]:g}: {error}"))
        return
    if late:
        state.notes.append(note("error", late))
        if not rows:
            return
    every = torch.stack(rows)
    empty = torch.full((len(state.times) - len(rows), *state.latents.shape[1:]), math.nan)
    state.mine_mixed = torch.cat([every[:, 0], empty])
    mine = state.mine_mixed[state.some]
    state.mine = ddim(model, mine, state.schedule, state.steps)[state.shown]
    exact = torch.stack([slerp(a, b, lam) for lam in state.times[: len(rows)]])
    if not late:
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
    off = (every - exact).abs().flatten(1).amax(1)
    worst = int(off.argmax())
    state.difference = float(off[worst])
    said = _compared("slerp", state.difference)
    return note("info", f"{said}, at \u03bb = {state.times[worst]:g}")


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
            state.notes.append(note("info", _compared("invert", off)))


def _compared(role: str, off: float) -> str:
    how = "agrees with" if off < AGREES else "differs from"
    return f"your {role} {how} the reference: largest difference {off:.2g}"


# ---- pictures ----------------------------------------------------------------------------------


def texts(state: State) -> list[str]:
    """One line for each lambda."""
    norms = state.mixed.flatten(1).norm(dim=1).tolist()
    ends = state.latents.flatten(1).norm(dim=1).tolist()
    off = distance(state.path[[0, -1]], state.ends).tolist()
    spread = [0.0] * len(state.times)
    if state.again:
        apart = torch.stack([distance(x, state.path) for x in state.again.values()])
        spread = apart.amax(0).tolist()
    counts, lines = ", ".join(map(str, state.again)), []
    for f, lam in enumerate(state.times):
        line = f"\u03bb = {lam:g}: |x_T| = {norms[f]:.2f} (A {ends[0]:.2f}, B {ends[1]:.2f})"
        if state.again:
            x, y = state.path[f].tolist()
            line += f", mix ({x:.2f}, {y:.2f}), crosses ({counts} steps) within {spread[f]:.2f}"
        lines.append(f"{line}; A' off {off[0]:.2f}, B' {off[1]:.2f}")
    return lines


def draw_planes(scene: Scene, state: State, mix: str) -> None:
    """The data plane with the decoded path, and the plane of latents."""
    a, b = state.ends.tolist()
    handles = [Handle("A", "ax", "ay", (a[0], a[1])), Handle("B", "bx", "by", (b[0], b[1]))]
    data = state.trips.data
    order, groups = datasets.by_colour(data)
    layers = [scene.frames(data[order][None], mark="dot", groups=groups)]
    for end, back in zip(state.ends, state.path[[0, -1]], strict=True):
        layers.append(scene.path(torch.stack([end, back])[None], colour=5, dashed=True))
    layers.append(scene.path(state.path[None], colour=4))
    if state.mine is not None:
        layers.append(scene.path(state.mine[None], colour=5, dashed=True))
    again = torch.stack(list(state.again.values()), 1) if state.again else state.path[:, None]
    layers.append(scene.frames(again, mark="cross", groups=[0] * 5 + [again.shape[1]]))
    layers.append(scene.path(_ring(state.path), colour=4))
    scene.points("data x_0: drag a ring", layers, REACH, handles=handles)
    _draw_latents(scene, state, mix)


def _draw_latents(scene: Scene, state: State, mix: str) -> None:
    order, groups = datasets.by_colour(state.trips.measured)
    layers = []
    if state.steps in state.trips.known:
        latents = state.trips.known[state.steps][0][order]
        layers.append(scene.frames(latents[None], mark="dot", groups=groups))
    circle = _ring(torch.zeros(1, 2), math.sqrt(2))
    layers.append(scene.frames(circle, mark="data", groups=[circle.shape[1]]))
    layers.append(scene.path(state.mixed[None], colour=4))
    if state.mine_mixed is not None:
        layers.append(scene.path(state.mine_mixed[None], colour=5, dashed=True))
    if state.mine_latents is not None:
        layers.append(scene.frames(state.mine_latents[None], mark="cross", groups=[0] * 5 + [2]))
    for name, at in zip("AB", state.latents, strict=True):
        layers.append(scene.path(_ring(at[None], 0.6 * RING), colour=4))
        layers.append(scene.path(_letter(name, at)[None], colour=4))
    layers.append(scene.path(_ring(state.mixed), colour=4))
    u, v = state.latents.double()
    angle = (u @ v / (u.norm() * v.norm())).clamp(-1, 1).acos().rad2deg()
    scene.points(f"latents x_T: {mix}, {float(angle):.0f}\u00b0 apart", layers, REACH)


def _ring(at: Tensor, radius: float = RING) -> Tensor:
    """Circles around at (F, 2): (F, k, 2)."""
    angle = torch.linspace(0, 2 * math.pi, 17 if radius <= RING else 65)
    return at[:, None] + radius * torch.stack([angle.cos(), angle.sin()], 1)


_LETTERS = {  # strokes, within a box 2 wide and 3 high
    "A": [(-1, -1.5), (0, 1.5), (0.65, -0.5), (-0.65, -0.5), (0.65, -0.5), (1, -1.5)],
    "B": [(-1, 0), (0.6, 0), (1, -0.5), (1, -1), (0.6, -1.5), (-1, -1.5), (-1, 1.5), (0.4, 1.5),
          (0.8, 1.1), (0.8, 0.4), (0.4, 0)],
}  # fmt: skip


def _letter(name: str, at: Tensor) -> Tensor:
    """Strokes of a letter, above and beside a place: (k, 2)."""
    return at + 0.3 + 0.11 * torch.tensor(_LETTERS[name])


def draw_images(scene: Scene, state: State) -> None:
    """A, the mix and B above what inversion and decoding make of them; and all mixes in a grid."""
    ends, back = state.ends, state.path[[0, -1]]
    F, shape = len(state.times), state.ends.shape[1:]
    fixed = [x.expand(F, *shape) for x in (ends[0], ends[1], back[0], back[1])]
    latent = (state.mixed / LATENT).clamp(-1, 1)
    six = torch.stack([fixed[0], state.path, fixed[1], fixed[2], latent, fixed[3]], 1)
    scene.images("A, mix, B; below: A', x_T, B'", scene.frames(six.flatten(2), bits=8), (6, *shape))
    _draw_row(scene, "all \u03bb" if state.mine is None else "all \u03bb, library", state.path)
    if state.mine is not None:
        _draw_row(scene, "all \u03bb, yours", state.mine)
    _draw_lengths(scene, state)


def _draw_row(scene: Scene, title: str, path: Tensor) -> None:
    """All mixes (F, *D), that of the frame shown bright and the others darker."""
    F = len(path)
    bright = DARK + (1 - DARK) * torch.eye(F).view(F, F, *[1] * (path.ndim - 1))
    shown = bright * (path.clamp(-1, 1) + 1) - 1
    scene.images(title, scene.frames(shown.flatten(2), bits=8), path.shape)


def _draw_lengths(scene: Scene, state: State) -> None:
    """|x_T| of the mixes, beside the length that Gaussian noise has."""
    a, b = state.latents.split(1)
    lams, usual = torch.tensor(state.times), math.sqrt(a.numel())
    ways = {mix: between(mix, a, b, lams) for mix in MIXES}
    if state.mine_mixed is not None:
        ways["yours"] = state.mine_mixed
    series = [
        scene.series(name, x.flatten(1).norm(dim=1), draw="dots" if name == "yours" else "line")
        for name, x in ways.items()
    ]
    longest = float(state.latents.flatten(1).norm(dim=1).max())
    y = Axis(0, min(max(1.6 * usual, longest), 100 * usual), "|x_T|")
    scene.curves("length of the latent", series, y, levels=[(usual, "usual for noise")])
