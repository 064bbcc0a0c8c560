"""What TrainingTheatre shows of a checkpoint: its noise field, its samples, its loss at every t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..forward import q_sample
from ..objectives import loss_per_example
from ..oracles import MixtureOracle
from ..prediction import Model, batch_time, predict
from ..sampling import ddim
from ..schedules import Schedule
from ..training import Recipe, validation_set
from ..viz.scene import Axis, Handle, Scene, groups
from . import datasets
from .explorer import short
from .score_maps import CELLS, EVERY, LEAST_NOISE, cells, oracle_of, representatives, thinned
from .training_run import Checkpoint, Run, Training

__all__ = [
    "POINTS",
    "SAMPLES",
    "STEPS",
    "WEIGHTS",
    "State",
    "chain",
    "draw_field",
    "draw_history",
    "draw_levels",
    "draw_samples",
    "exact_model",
    "first_noise",
    "held_out",
    "look",
    "text_of",
]

SAMPLES, STEPS = 300, 20  # points generated, by DDIM in that many steps
POINTS = 300  # of q(x_t), in grey under the arrows
HELD = 2000  # fixed (x0, t, eps) on which losses are measured
BINS = 12  # equal parts of 1..T
LONG = 100  # arrows to x_0 at a time: more would hide each other
LEAST, TOP = 1e-3, 30.0  # losses beyond are beyond the axes
WEIGHTS = ("ema", "raw")


@dataclass
class State:
    """What is drawn, for F checkpoints of a run, one noise level and one sort of weights.

    Attributes:
        training: the run, alive.
        times: training step of each checkpoint.
        x: (m, 2), where the field is: the grid, then POINTS points x_t of q(x_t).
        learned, exact: E[eps | x_t] there as the networks have it (F, m, 2), and the truth (m, 2).
        samples: (F, SAMPLES, 2); mine of the reader's run, or None.
        losses: {"raw", "ema"} and, with a reader's run, "mine": (F,) of the held-out set.
        above: as losses, E|eps_hat - E[eps | x_t]|^2: the part that training can take away.
        by_t: {"learned", "exact"} and "mine": (F or 1, BINS), the same in every part of 1..T.
        floor: the loss of the exact denoiser.
    """

    training: Training
    schedule: Schedule
    times: list[int]
    x: Tensor
    learned: Tensor
    exact: Tensor
    samples: Tensor
    mine: Tensor | None
    losses: dict[str, Tensor]
    above: dict[str, Tensor]
    by_t: dict[str, Tensor]
    floor: float
    notes: list[dict[str, str]] = field(default_factory=list)
    coarse: bool = False

    @property
    def error(self) -> Tensor:
        """E|learned - exact| / E|exact| on the points of q(x_t), (F,)."""
        off = (self.learned - self.exact)[:, -POINTS:].norm(dim=2).mean(1)
        return off / self.exact[-POINTS:].norm(dim=1).mean()


# ---- the truth ---------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def chain() -> Schedule:
    """The schedule of the recipes."""
    return Recipe().network()[1]


@lru_cache(maxsize=8)
def exact_model(dataset: str) -> Model:
    """E[eps | x_t] of a toy set: by formula, or of points that stand for very many.

    Where there is little noise single points would be seen. There each is a little Gaussian, as
    wide as the room it has: a square of side d has the variance d^2 / 12.
    """
    schedule = chain()
    coarse = oracle_of(dataset, schedule)
    if isinstance(coarse, MixtureOracle):
        return coarse
    x = representatives(dataset).double()
    room = torch.cdist(x, x).topk(5, largest=False).values[:, 1:].square().mean(1)
    weights = torch.full((len(x),), 1 / len(x), dtype=torch.float64)
    fine = MixtureOracle(x, room / 12, weights, schedule)
    low = schedule.sqrt_one_minus_alpha_bar < LEAST_NOISE

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        eps = torch.empty_like(x_t)
        for oracle, here in ((fine, low[t]), (coarse, ~low[t])):
            if here.any():
                eps[here] = oracle(x_t[here], t[here])
        return eps

    return model


@lru_cache(maxsize=8)
def held_out(dataset: str) -> tuple[Tensor, Tensor, Tensor]:
    """Fixed x0, t and eps, none of them seen in training."""
    points = Recipe(data=dataset, pool=1).points()[1]
    x0, t, eps = validation_set(points, chain(), HELD)
    return x0, t, eps


@lru_cache(maxsize=8)
def _best(dataset: str) -> Tensor:
    """E[eps | x_t] of the held-out examples, (HELD, 2)."""
    x0, t, eps = held_out(dataset)
    return exact_model(dataset)(q_sample(x0, t, eps, chain()), t)


def _losses_of(eps: Tensor, dataset: str) -> tuple[Tensor, Tensor]:
    """Loss of predictions eps (HELD, 2), and how much of it ``_best`` would not have: both (HELD,).

    E|eps - eps_hat|^2 = E|eps - E[eps | x_t]|^2 + E|eps_hat - E[eps | x_t]|^2.
    """
    loss = loss_per_example(lambda x_t, t: eps, *held_out(dataset), chain())
    return loss, (eps - _best(dataset)).square().mean(1)


# ---- a checkpoint ------------------------------------------------------------------------------


def first_noise() -> Tensor:
    """x_T of the samples, the same for all checkpoints, sorted by colour: (SAMPLES, 2)."""
    x = datasets.noise((SAMPLES, 2), 0, 0)
    return x[datasets.by_colour(x)[0]]


def _samples(checkpoint: Checkpoint, weights: str) -> Tensor:
    """Points that the checkpoint generates, (SAMPLES, 2); kept with it."""
    key = "samples", weights
    if key not in checkpoint.seen:
        made = ddim(checkpoint.networks[weights], first_noise(), chain(), STEPS)
        checkpoint.seen[key] = made
    return checkpoint.seen[key]


def _losses(checkpoint: Checkpoint, weights: str, dataset: str) -> Tensor:
    """``_losses_of`` what it predicts, (2, HELD); kept with it."""
    key = "losses", weights
    if key not in checkpoint.seen:
        x0, t, eps = held_out(dataset)
        seen = checkpoint.networks[weights](q_sample(x0, t, eps, chain()), t)
        checkpoint.seen[key] = torch.stack(_losses_of(seen, dataset))
    return checkpoint.seen[key]


def _by_level(loss: Tensor, dataset: str) -> Tensor:
    """Means of (..., HELD) in equal parts of 1..T: (..., BINS)."""
    part = (held_out(dataset)[1] - 1) * BINS // chain().T
    sums = torch.zeros((*loss.shape[:-1], BINS)).index_add(-1, part, loss)
    return sums / torch.bincount(part, minlength=BINS)


def _middles() -> Tensor:
    """The t in the middle of each part, (BINS,)."""
    return (torch.arange(BINS) + 0.5) * chain().T / BINS


def look(training: Training, values: dict[str, Any]) -> State:
    """Everything that is drawn of a run as it is now."""
    run, weights, dataset = training.run, values["weights"], training.plan.dataset
    checkpoints, x = run.checkpoints, _places(dataset, values["level"])
    steps, t = [c.step for c in checkpoints], batch_time(values["level"], x)
    every = {w: torch.stack([_losses(c, w, dataset) for c in checkpoints], 1) for w in WEIGHTS}
    by_t = {"learned": every[weights][0], "exact": _losses_of(_best(dataset), dataset)[0]}
    mine = None
    if training.mine is not None:
        mine, every["mine"] = _of_mine(training.mine, steps, weights, dataset)
        by_t["mine"] = every["mine"][0]
    return State(
        training,
        training.schedule,
        steps,
        x,
        learned=torch.stack([c.networks[weights](x, t) for c in checkpoints]),
        exact=exact_model(dataset)(x, t),
        samples=torch.stack([_samples(c, weights) for c in checkpoints]),
        mine=mine,
        losses={k: loss.mean(1) for k, (loss, _) in every.items()},
        above={k: above.mean(1) for k, (_, above) in every.items()},
        by_t={k: _by_level(loss, dataset) for k, loss in by_t.items()},
        floor=float(by_t["exact"].mean()),
        notes=training.notes,
    )


def _places(dataset: str, level: int) -> Tensor:
    """Where the field is taken: a grid, then POINTS points of q(x_t): (m, 2)."""
    x0, eps = datasets.load(dataset, POINTS, 2), datasets.noise((POINTS, 2), 0, 1)
    return torch.cat([thinned(cells()), q_sample(x0, level, eps, chain())])


def _of_mine(run: Run, times: Sequence[int], weights: str, dataset: str) -> tuple[Tensor, Tensor]:
    """Samples and losses of the reader's run at those steps; NaN where it did not come so far."""
    there = {c.step: c for c in run.checkpoints}
    x = torch.full((len(times), SAMPLES, 2), math.nan)
    loss = torch.full((2, len(times), HELD), math.nan)
    for f, step in enumerate(times):
        if step in there:
            x[f] = _samples(there[step], weights)
            loss[:, f] = _losses(there[step], weights, dataset)
    return x, loss


def _arrows_to_data(x_t: Tensor, eps: Tensor, level: int, schedule: Schedule) -> Tensor:
    """From x_t (n, 2) to the x_0 that eps (F, n, 2) predicts: (F, n, 2)."""
    x = x_t.expand_as(eps)
    return predict("eps", eps, x, level, schedule).x0 - x


# ---- pictures ----------------------------------------------------------------------------------


def text_of(state: State, values: dict[str, Any]) -> list[str]:
    """One line for each checkpoint."""
    lines, floor = [], short(state.floor)
    for f, step in enumerate(state.times):
        raw, ema = (short(float(state.losses[w][f])) for w in ("raw", "ema"))
        off = short(100 * float(state.error[f]))
        line = f"step {step}: loss {raw} raw, {ema} EMA, {floor} exact"
        if "mine" in state.losses:
            line += f", {short(float(state.losses['mine'][f]))} yours"
        line += f"; arrows {off} % off at t = {values['level']}"
        inside = state.samples[f].abs().amax(1) < datasets.EXTENT
        lines.append(line if inside.float().mean() > 0.5 else f"{line}; samples far out")
    return lines


def draw_field(scene: Scene, state: State, values: dict[str, Any]) -> None:
    """Learned arrows over the exact ones, and points of q(x_t)."""
    x_t, level = state.x[-POINTS:], values["level"]
    layers = [scene.frames(x_t[None], mark="data", groups=[POINTS])]
    if values["arrows"] == "x0":
        base, title = x_t[:LONG], "x_t to x_0"
        few = slice(-POINTS, LONG - POINTS)
        exact, learned = (
            _arrows_to_data(base, eps[..., few, :], level, state.schedule)
            for eps in (state.exact[None], state.learned)
        )
    else:
        base, title = thinned(cells()), "-eps"
        room = 2 * datasets.EXTENT / CELLS * EVERY
        exact, learned = (
            -room * eps / (1 + eps.norm(dim=-1, keepdim=True))
            for eps in (state.exact[None, :-POINTS], state.learned[:, :-POINTS])
        )
    layers.append(scene.arrows(base, exact, colour=1))
    layers.append(scene.arrows(base, learned, colour=0))
    scene.points(f"{title}, t = {level} (orange: exact)", layers, datasets.EXTENT)


def draw_samples(scene: Scene, state: State, values: dict[str, Any]) -> None:
    """What the checkpoint generates, over the data."""
    data = datasets.load(state.training.plan.dataset, 2 * SAMPLES, 1)
    ends = groups(first_noise())
    layers = [scene.frames(data[None], mark="data", groups=[len(data)])]
    title = f"samples ({values['weights']} weights), data grey"
    if state.mine is not None:
        layers.append(scene.frames(state.mine, mark="cross", groups=[SAMPLES]))
        title = "samples; crosses: your loss"
    layers.append(scene.frames(state.samples, mark="dot", groups=ends))
    scene.points(title, layers, datasets.EXTENT)


def draw_levels(scene: Scene, state: State, values: dict[str, Any]) -> None:
    """Loss at every noise level, on a log axis: it is small where there is much noise."""
    names = {"learned": "network", "exact": "exact", "mine": "yours"}
    t, exact = _middles(), state.by_t["exact"]
    series = [scene.series(names[k], y, t) for k, y in state.by_t.items()]
    y = Axis(0.6 * float(exact.min()), _top(state.by_t["learned"]), "noise loss", log=True)
    handle = Handle("arrows", "level", "", (values["level"], 0.0))
    axis = Axis(1, state.schedule.T, "noise level t")
    scene.curves("loss by noise level", series, y, axis, handles=[handle])


def draw_history(scene: Scene, state: State) -> None:
    """What the loss has above its floor: a curve of the loss itself would soon look flat."""
    names = {"raw": "raw", "ema": "EMA", "mine": "yours"}
    series = [scene.series(names[k], y) for k, y in state.above.items()]
    y = Axis(
        LEAST,
        _top(torch.stack([state.above[w] for w in WEIGHTS], 1)),
        f"loss - {short(state.floor)}",
        log=True,
    )
    scene.curves("loss above the exact one", series, y)


def _top(losses: Tensor) -> float:
    """The upper end of an axis for losses (F, k): about where training began."""
    first = float(losses[0].nan_to_num(0.0, posinf=TOP).max())
    return min(max(1.2 * first, 1.2), TOP)
