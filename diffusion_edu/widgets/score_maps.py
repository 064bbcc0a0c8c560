"""What ScoreField computes: scores on a grid at many noise levels, and the way of one particle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..continuous import VPSDE, ContinuousStep, annealed_langevin
from ..data import toy
from ..forward import q_sample
from ..oracles import EmpiricalOracle, MixtureOracle
from ..prediction import Model, batch_time, predict
from ..sampling import Step, sample
from ..schedules import Schedule
from ..spacing import timesteps
from ..viz.scene import note
from . import datasets
from .learner import Learner, answers, bad_values, compared

__all__ = [
    "CELLS",
    "EVERY",
    "LEAST_NOISE",
    "Fields",
    "Map",
    "cells",
    "exact_fields",
    "network_map",
    "network_score",
    "oracle_code",
    "oracle_of",
    "relative_error",
    "representatives",
    "ride",
    "run_learner",
    "thinned",
    "walk_code",
]

CELLS = 51  # of the maps, a side
EVERY = 3  # one arrow for that many cells a side, on the middle one
LEVELS = 21  # levels tried; the lowest are left out
LEAST_NOISE = 0.1  # below it single points are seen, where there is no formula
DRAWN, SPLITS = 2**17, 11  # points of a toy set without a formula, and how often they are halved
PROBES = 400  # points of q(x_t) on which errors are measured
STEP_SIZE = 0.2  # of Langevin dynamics, in units of the noise (1907.05600 Algorithm 1)

Oracle = EmpiricalOracle | MixtureOracle
Score = Callable[[Tensor, int], Tensor]  # (x (B, 2), t) -> (B, 2)


@dataclass(frozen=True)
class Map:
    """A score at every level: on the cells of the grid (F, CELLS^2, 2) and on points of q(x_t).

    ``there`` is (F, PROBES, 2).
    """

    grid: Tensor
    there: Tensor


@dataclass
class Fields:
    """All maps of one data set and denoiser.

    log_density is (F, CELLS^2); other is the map compared with, the network's or the learner's, or
    None; differences has the largest of the learner's at each level.
    """

    schedule: Schedule
    times: list[int]
    oracle: Oracle
    exact: Map
    log_density: Tensor
    other: Map | None = None
    differences: list[float] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)


def cells() -> Tensor:
    """Centres of the cells, row by row from the bottom left, (CELLS^2, 2)."""
    half = datasets.EXTENT * (1 - 1 / CELLS)
    side = torch.linspace(-half, half, CELLS)
    y, x = torch.meshgrid(side, side, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def thinned(grid: Tensor) -> Tensor:
    """Those of (..., CELLS^2, 2) that get an arrow: (..., m, 2)."""
    square = grid.unflatten(-2, (CELLS, CELLS))[..., EVERY // 2 :: EVERY, EVERY // 2 :: EVERY, :]
    return square.flatten(-3, -2)


def _levels(schedule: Schedule) -> list[int]:
    """Levels shown, from noise to data: closer together where there is little noise."""
    T = schedule.T
    every: list[int] = timesteps(T, min(LEVELS, T), "quadratic").tolist()
    noise, signal = schedule.sqrt_one_minus_alpha_bar, schedule.sqrt_alpha_bar
    return [t for t in every if noise[t] >= LEAST_NOISE and signal[t] > 0] or [T]


def oracle_of(dataset: str, schedule: Schedule) -> Oracle:
    """The exact denoiser of a toy set.

    That of its formula, else of points that stand for very many: within 1 % of the score of the
    law itself on points of q(x_t), and 2 to 4 % where there is least noise, while as many points
    drawn at random would be 10 to 20 % off, more than a good network.
    """
    if dataset == "gaussians":
        return MixtureOracle(*toy.gaussians_mixture(), schedule)
    return EmpiricalOracle(representatives(dataset), schedule)


@lru_cache(maxsize=8)
def representatives(dataset: str) -> Tensor:
    """2^SPLITS points, each the mean of as many neighbours out of DRAWN: (2^SPLITS, 2).

    All points are split at the median of their longer side, the halves again, and so on.
    """
    x = datasets.load(dataset, DRAWN, 1)[None]
    for _ in range(SPLITS):
        axis = (x.amax(1) - x.amin(1)).argmax(1)
        key = x.gather(2, axis[:, None, None].expand(-1, x.shape[1], 1))
        order = key.argsort(1).expand_as(x)
        x = x.gather(1, order).view(-1, x.shape[1] // 2, 2)
    return x.mean(1)


def oracle_code(dataset: str) -> str:
    """Python for ``oracle_of``."""
    if dataset == "gaussians":
        return "oracle = de.MixtureOracle(*de.toy.gaussians_mixture(), schedule)"
    source = f"from {__name__} import oracle_of"
    return f"{source}\noracle = oracle_of({dataset!r}, schedule)"


def network_score(model: Model, schedule: Schedule) -> Score:
    """score = -eps / sqrt(1 - alpha_bar_t), by ``predict``."""

    def score(x: Tensor, t: int) -> Tensor:
        return predict("eps", model(x, batch_time(t, x)), x, t, schedule).score

    return score


def _places(dataset: str, t: int, schedule: Schedule) -> Tensor:
    """Where a map of level t is computed: the cells, then PROBES points of q(x_t)."""
    # Points that the oracle does not know.
    x0 = datasets.load(dataset, PROBES, 2)
    eps = datasets.noise((PROBES, 2), 0, 0)
    return torch.cat([cells(), q_sample(x0, t, eps, schedule)])


def _as_map(every: Tensor) -> Map:
    """Scores at ``_places`` of every level, taken apart."""
    return Map(every[:, : CELLS**2], every[:, CELLS**2 :])


@lru_cache(maxsize=12)
def exact_fields(dataset: str, schedule: Schedule) -> Fields:
    """The exact part of ``Fields``, the same for all explorers; it takes most of a second."""
    oracle, times = oracle_of(dataset, schedule), _levels(schedule)
    every = [
        oracle.evaluate(_places(dataset, t, schedule), float(schedule.alpha_bar[t])) for t in times
    ]
    log_density = torch.stack([known.log_prob[: CELLS**2] for known in every])
    exact = _as_map(torch.stack([known.score for known in every]))
    return Fields(schedule, times, oracle, exact, log_density)


def network_map(model: Model, dataset: str, schedule: Schedule, times: list[int]) -> Map:
    """The score that a network has learned."""
    score = network_score(model, schedule)
    return _as_map(torch.stack([score(_places(dataset, t, schedule), t) for t in times]))


def run_learner(learner: Learner, dataset: str, fields: Fields) -> None:
    """Fill ``other``, ``differences`` and ``notes`` with what the learner's score gives."""
    exact = dict(zip(fields.times, fields.exact.there, strict=True))
    differences: list[float] = []

    def call(t: int) -> Tensor:
        x = _places(dataset, t, fields.schedule)
        scores = learner(x, x, t, fields.schedule)
        differences.append(float((scores[CELLS**2 :] - exact[t]).abs().max()))
        return scores

    every, whole = answers(learner, fields.times, call, fields.notes)
    if every is None:
        return
    fields.other, fields.differences = _as_map(every), differences
    if whole:
        fields.notes.append(_verdict(learner, fields, every))


def _verdict(learner: Learner, fields: Fields, every: Tensor) -> dict[str, str]:
    if bad := bad_values(every, fields.times, learner):
        return note("error", bad)
    worst = max(range(len(fields.times)), key=fields.differences.__getitem__)
    # Scores grow like 1/noise: differences are judged by the largest score there is.
    largest = float(fields.exact.there[worst].abs().max())
    off, where = fields.differences[worst], f"t = {fields.times[worst]}"
    other = "the exact one on points of q(x_t)"
    return note("info", compared(learner.role, off < 1e-3 * largest, off, where, other))


def relative_error(a: Map, exact: Map) -> Tensor:
    """E|a - exact| / E|exact| under q(x_t), at each level (F,)."""
    off = (a.there - exact.there).norm(dim=2).mean(1)
    return off / exact.there.norm(dim=2).mean(1)


# ---- the particle ------------------------------------------------------------------------------


def ride(model: Model, score: Score, schedule: Schedule, t: int, how: dict[str, Any]) -> Tensor:
    """The way of a particle from level t down to 0, or at level t for Langevin: (steps+1, 2).

    "ode" is DDIM with eta = 0, which is the probability-flow ODE in steps; "sde" is the step of
    DDPM, eta = 1, on the levels visited: the reverse SDE in steps. Both end early if t has fewer
    levels than steps; the particle then rests.

    Args:
        model: eps of the score.
        how: ride, steps, px, py and the seed of the noise.
    """
    steps, kind = how["steps"], how["ride"]
    x = torch.tensor([[how["px"], how["py"]]], dtype=torch.float32)
    generator = torch.Generator().manual_seed(datasets.noise_seed(how["seed"], 0))
    walk: Iterator[ContinuousStep] | Iterator[Step]
    if kind == "langevin":
        walk = _langevin(score, x, t, schedule, steps, generator)
    else:
        taus = timesteps(t, min(steps, t))
        eta = 1.0 if kind == "sde" else 0.0
        walk = sample(model, x, schedule, taus, eta=eta, generator=generator)
    way = [x, *(s.x_s for s in walk)]
    return torch.cat(way + way[-1:] * (steps + 1 - len(way)))


def _langevin(
    score: Score, x: Tensor, t: int, schedule: Schedule, steps: int, generator: torch.Generator
) -> Iterator[ContinuousStep]:
    """Langevin dynamics at level t, with steps of STEP_SIZE (1 - alpha_bar_t)."""
    # The sampler measures noise by an SDE, whose levels are not quite those of the schedule.
    sde, time = VPSDE(), t / schedule.T
    size = STEP_SIZE * float((1 - schedule.alpha_bar[t]) / sde.noise_var(time))
    return annealed_langevin(
        lambda x, _: score(x, t),
        x,
        [time],
        sde,
        steps=steps,
        step_size=size,
        generator=generator,
    )


def walk_code(values: dict[str, Any]) -> str:
    """Python for ``ride``."""
    steps = values["steps"]
    if values["ride"] == "langevin":
        return (
            f"sde, time = de.VPSDE(), t / schedule.T\n"
            f"size = {STEP_SIZE} * float((1 - schedule.alpha_bar[t]) / sde.noise_var(time))\n"
            f"walk = de.annealed_langevin(\n"
            f"    lambda x, _: oracle.score(x, t), x, [time], sde,\n"
            f"    steps={steps}, step_size=size, generator=generator,\n)\n"
        )
    eta = 1 if values["ride"] == "sde" else 0
    return (
        f"taus = de.timesteps(t, min({steps}, t))\n"
        f"walk = de.sample(oracle, x, schedule, taus, eta={eta}, generator=generator)\n"
    )
