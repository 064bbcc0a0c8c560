"""What EtaStepsLab measures: walks of DDIM and DDPM, and a table of their distances to data."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..data import toy
from ..metrics import energy_distance, mmd2, sliced_wasserstein2
from ..prediction import Model
from ..schedules import Schedule
from ..spacing import timesteps
from . import datasets
from .denoisers import KNOWN
from .reverse import State as Walk
from .reverse import walk

__all__ = [
    "ETAS",
    "HAT",
    "HELD_OUT",
    "LABELS",
    "METRICS",
    "PAUSE",
    "Cell",
    "Filling",
    "Run",
    "Runs",
    "State",
    "Tables",
    "cell_of",
    "columns",
    "distance",
    "enter",
    "floor",
    "key_of",
    "missing",
    "walk_code",
]

HAT = "hat"  # sigma-hat, DDIM's name for DDPM's larger variance: variance="large"
ETAS = ("0", "0.2", "0.5", "1", HAT)  # rows of the table, as in DDIM's Table 1
STEPS = (5, 10, 20, 50, 100)  # its columns
HELD_OUT = 4_100_000_000  # seed of the points samples are compared with: far from all others
FLOORS = 5  # further draws of the data, which say how far real points are from real points
RECENT = 6  # walks kept, so that a slider moves only what depends on it
PAUSE = 0.3  # seconds between two signs of life of a job

METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sliced_wasserstein": sliced_wasserstein2,
    "mmd": lambda x, y: mmd2(x, y, bandwidth=toy.BANDWIDTH),
    "energy": energy_distance,
}
CALLS = {
    "sliced_wasserstein": "de.sliced_wasserstein2(x, real)",
    "mmd": "de.mmd2(x, real, bandwidth=de.toy.BANDWIDTH)",
    "energy": "de.energy_distance(x, real)",
}
LABELS = {
    "sliced_wasserstein": "sliced Wasserstein",
    "mmd": "squared MMD",
    "energy": "energy distance",
}

Key = tuple[Any, ...]  # what a table depends on
Row = str | float  # HAT, or eta
Cell = tuple[int, int]  # row, column


def key_of(values: dict[str, Any]) -> Key:
    """What the table depends on, besides the metric."""
    return tuple(values[name] for name in ("model", "dataset", "spacing", "seed", "n"))


def _held_out(dataset: str, n: int) -> Tensor:
    """The (n, 2) points that samples are compared with; no network was trained on them."""
    return datasets.load(dataset, n, HELD_OUT)


def distance(x: Tensor, dataset: str, metric: str) -> float:
    """From samples x (n, 2) to as many held-out points; infinite where x is not finite."""
    if not x.isfinite().all():
        return math.inf
    return float(METRICS[metric](x, _held_out(dataset, len(x))))


@lru_cache(maxsize=64)
def floor(dataset: str, n: int, metric: str) -> tuple[float, float]:
    """Distance of real points to the held-out ones: mean and standard deviation over draws.

    No sampler does better but by chance, and differences below the deviation say nothing.
    """
    draws = (datasets.load(dataset, n, HELD_OUT + 1 + i) for i in range(FLOORS))
    values = torch.tensor([distance(x, dataset, metric) for x in draws], dtype=torch.float64)
    return float(values.mean()), float(values.std())


@dataclass
class Run:
    """A walk, and the distances of its end to data that were asked for."""

    walk: Walk
    seconds: float  # for one point and one step
    distances: dict[str, float] = field(default_factory=dict)

    def distance(self, dataset: str, metric: str) -> float:
        """See ``distance``; measured once."""
        if metric not in self.distances:
            self.distances[metric] = distance(self.walk.x[-1], dataset, metric)
        return self.distances[metric]


def _run(
    model: Model, schedule: Schedule, values: dict[str, Any], row: Row, stride: int = 1
) -> Run:
    """From x_T to data: DDIM with eta ``row``, or DDPM with sigma^2 = beta if that is ``HAT``."""
    taus = timesteps(schedule.T, values["steps"], values["spacing"])
    how = {"sampler": "ddpm"} if row == HAT else {"sampler": "ddim", "eta": float(row)}
    data = datasets.load(values["dataset"], KNOWN, 1)
    start = time.perf_counter()
    walked = walk(model, schedule, data, {**values, "steps": taus, **how}, stride)
    seconds = (time.perf_counter() - start) / len(walked.x[0]) / values["steps"]
    return Run(walked, seconds)


@dataclass
class State:
    """What EtaStepsLab computes: two walks from one x_T; ``yours`` as ``ddim``, or None.

    distances: of ends of walks to held-out data; empty while something is dragged.
    """

    schedule: Schedule
    ddim: Run
    ddpm: Run
    yours: Walk | None
    distances: dict[str, float]
    floor: tuple[float, float]
    notes: list[dict[str, str]] = field(default_factory=list)
    stride: int = 1
    coarse: bool = False

    @property
    def times(self) -> list[int]:
        """Levels visited, T first."""
        return self.ddim.walk.times


class Runs:
    """The last few walks."""

    def __init__(self) -> None:
        self._runs: dict[Key, Run] = {}

    def get(
        self, denoiser: tuple[Model, Schedule], values: dict[str, Any], row: Row, stride: int
    ) -> Run:
        """As ``_run``, from memory where it is there."""
        key = (*key_of(values), values["steps"], row, stride)
        found = self._runs.pop(key, None) or _run(*denoiser, values, row, stride)
        self._runs[key] = found
        for old in list(self._runs)[:-RECENT]:
            del self._runs[old]
        return found


class Tables:
    """Distances of all cells known so far, for every setting that was looked at."""

    def __init__(self) -> None:
        self._tables: dict[Key, Tensor] = {}

    def of(self, values: dict[str, Any], T: int) -> Tensor:
        """(metrics, rows, columns) float64, NaN where a cell was not measured yet."""
        size = (len(METRICS), len(ETAS), len(columns(T)))
        return self._tables.setdefault(
            key_of(values), torch.full(size, math.nan, dtype=torch.float64)
        )

    def note(self, values: dict[str, Any], T: int, row: Row, value: float) -> None:
        """Keep the distance of a walk that happens to be a cell."""
        cell = cell_of(row, values["steps"], T)
        if cell is not None:
            self.of(values, T)[list(METRICS).index(values["metric"]), *cell] = value


def columns(T: int) -> tuple[int, ...]:
    """Numbers of steps in the table of a chain of T."""
    return tuple(s for s in STEPS if s <= T) or (T,)


def cell_of(row: Row, steps: int, T: int) -> Cell | None:
    """Where (eta, steps) is in the table."""
    etas = [eta if eta == HAT else float(eta) for eta in ETAS]
    if row not in etas or steps not in columns(T):
        return None
    return etas.index(row), columns(T).index(steps)


def missing(table: Tensor) -> list[Cell]:
    """Cells with a metric not known yet, those of few steps first."""
    unknown = table.isnan().any(0)
    rows, across = unknown.shape
    return [(r, c) for c in range(across) for r in range(rows) if unknown[r, c]]


def enter(table: Tensor, found: dict[Cell, Tensor]) -> None:
    """Write the distances (metrics,) of some cells."""
    for (r, c), values in found.items():
        table[:, r, c] = values


class Filling:
    """Measures cells one after the other; ``put`` gets them, at most a few times a second.

    ``step(done, text)`` is told how far it is, within a cell too, and may raise to end it: what was
    measured before is put all the same.
    """

    def __init__(
        self,
        denoiser: tuple[Model, Schedule],
        values: dict[str, Any],
        cells: list[Cell],
        put: Callable[[dict[Cell, Tensor]], None],
        step: Callable[[float, str], None],
    ) -> None:
        self._denoiser, self._values, self._cells = denoiser, values, cells
        self._put, self._step = put, step
        self._steps = columns(denoiser[1].T)
        self._fresh: dict[Cell, Tensor] = {}
        self._at, self._told = 0, 0.0

    def run(self) -> None:
        """Measure all."""
        try:
            for self._at, cell in enumerate(self._cells):  # noqa: B020
                self._fresh[cell] = self._measure(*cell)
        finally:
            self._flush()

    def _measure(self, r: int, c: int) -> Tensor:
        values = {**self._values, "steps": self._steps[c]}
        end = _run(self._model, self._denoiser[1], values, ETAS[r]).walk.x[-1]
        found = [distance(end, values["dataset"], metric) for metric in METRICS]
        return torch.tensor(found, dtype=torch.float64)

    def _model(self, x: Tensor, t: Tensor) -> Tensor:
        """The denoiser, which is called all the time: here is a sign of life."""
        if time.perf_counter() - self._told > PAUSE:
            self._told = time.perf_counter()
            self._flush()
            costs = [self._steps[c] for _, c in self._cells]
            done = sum(costs[: self._at]) / sum(costs)
            self._step(done, f"cell {self._at + 1} of {len(costs)}")
        return self._denoiser[0](x, t)

    def _flush(self) -> None:
        if self._fresh:
            self._put(self._fresh)
            self._fresh = {}


def walk_code(values: dict[str, Any], T: int) -> str:
    """Python for both walks, ``x_ddim`` and ``x_ddpm`` at level {t}, and their distances."""
    v, first = values, datasets.noise_seed(values["seed"], 0)
    return (
        f"def z(k):\n"
        f"    g = torch.Generator().manual_seed({first} + k)\n"
        f"    return torch.randn({v['n']}, 2, generator=g)\n\n"
        f"taus = de.timesteps({T}, {v['steps']}, {v['spacing']!r})\n"
        f"def walk(**how):\n"
        f"    noise = lambda i, like: z(i + 1)\n"
        f"    steps = de.sample(model, z(0), schedule, taus, noise=noise, **how)\n"
        f"    return {{{T}: z(0)}} | {{step.s: step.x_s for step in steps}}\n\n"
        f"ddim, ddpm = walk(eta={v['eta']!r}), walk(variance='large')\n"
        f"t = min(ddim, key=lambda level: abs(level - {{t}}))\n"
        f"x_ddim, x_ddpm = ddim[t], ddpm[t]\n\n"
        f"real = de.toy.load({v['dataset']!r}, {v['n']}, seed={HELD_OUT})\n"
        f"distances = [float({CALLS[v['metric']]}) for x in (ddim[0], ddpm[0])]\n"
    )
