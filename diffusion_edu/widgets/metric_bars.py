"""What MetricLab computes: what metrics make of flawed samples, and a learner's metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from ..data import toy
from ..metrics import (
    energy_distance,
    frechet_distance,
    mmd2,
    precision_recall,
    sliced_wasserstein2,
)
from ..schedules import Schedule, linear
from ..viz.scene import note
from .learner import Learner, LearnerError, answers, compared
from .metric_flaws import CHECK, DATA, FEW, LAST_SEED, TRAIN, amounts, draw, flawed

__all__ = [
    "DISTANCES",
    "HURRIED",
    "METRICS",
    "SHARES",
    "SIZES",
    "NumberLearner",
    "State",
    "checks",
    "compare",
    "run_learner",
    "squared",
]

DISTANCES = ("mmd2", "energy_distance", "sliced_wasserstein2", "frechet_distance")
SHARES = ("precision", "recall")
METRICS = (*DISTANCES, *SHARES)
CHECKS, FEWER_CHECKS = 16, 8  # clean clouds that a floor is made from, for few and many samples
HURRIED = 100  # samples measured while a slider is dragged
SIZES = (50, 100, 200)  # of clean clouds, for the picture of floors
ALL = 2400  # points of each side in that picture: more pairs of small clouds, which vary more
SURE = 3.0  # a flaw is seen beyond that many standard deviations of clean clouds


@dataclass
class State:
    """What MetricLab computes, a row for each of the F amounts in ``times``.

    data, train (n, 2); samples (F, n, 2); wrong (F, n): samples that are not as they should be.
    values: {name: (F,)}, numbers of the library; clean: {name: (CHECKS,)}, those of clean clouds;
    copies (F,): share of samples that are training points; sizes: {distance: (k,)}, floors of
    clean clouds of ``SIZES``; mine (F,): values of the learner's metric, or None.

    Distances in ``clean`` and ``sizes`` are squared.
    """

    times: list[float]
    data: Tensor
    train: Tensor
    samples: Tensor
    wrong: Tensor
    values: dict[str, Tensor]
    clean: dict[str, Tensor]
    copies: Tensor
    sizes: dict[str, Tensor]
    mine: Tensor | None = None
    differences: list[float] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)
    coarse: bool = False

    @property
    def schedule(self) -> Schedule:
        """No noise is added here; explorers have one."""
        return linear(1)

    @property
    def floors(self) -> dict[str, float]:
        """Squared distances of clean clouds: what cannot be told from perfect."""
        return {d: _floor(self.clean[d]) for d in DISTANCES}

    @property
    def multiples(self) -> dict[str, Tensor]:
        """Squared distances as multiples of their floors: {distance: (F,)}."""
        return {d: squared(d, self.values[d]) / self.floors[d] for d in DISTANCES}

    @property
    def chance(self) -> float:
        """Multiples up to which clean clouds come by chance, for the distance that varies most.

        One for all: given the data, ``mmd2`` may vary so little about a negative mean that a
        bound of its own would lie below what two fresh clouds are apart.
        """
        return max(float(_bound(self.clean[d]) / self.floors[d]) for d in DISTANCES)

    def seen(self, name: str) -> Tensor:
        """(F,) bool: this metric is further off than by chance."""
        if name in SHARES:
            return -self.values[name] > _bound(-self.clean[name])
        return self.multiples[name] > self.chance


def _bound(clean: Tensor) -> Tensor:
    """What clean clouds hardly exceed."""
    return clean.mean() + SURE * clean.std()


def compare(values: dict[str, Any], coarse: bool) -> State:
    """The state of MetricLab for these values, without the learner's part."""
    n, name, seed, width = (values[k] for k in ("n", "dataset", "seed", "bandwidth"))
    times = amounts(n)
    data, train = (draw(name, n, seed, what) for what in (DATA, TRAIN))
    samples, wrong = flawed(values, times)
    used = min(n, HURRIED) if coarse else n
    return State(
        times,
        data,
        train,
        samples,
        wrong,
        _measured(samples[:, :used], data[:used], width),
        {m: checks(m, name, n, used, seed, width if m == "mmd2" else 0.0) for m in METRICS},
        torch.stack([_copies(x, train) for x in samples]),
        {d: _floors_by_size(d, name, width if d == "mmd2" else 0.0) for d in DISTANCES},
        coarse=used < n,
    )


# ---- metrics -----------------------------------------------------------------------------------


def _distance(name: str, x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    """One of ``DISTANCES`` of samples x to data y, as the library gives it."""
    if name == "mmd2":
        return mmd2(x, y, bandwidth)
    if name == "frechet_distance":  # of the points themselves, not of features
        return frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())
    return energy_distance(x, y) if name == "energy_distance" else sliced_wasserstein2(x, y)


def squared(name: str, value: Tensor) -> Tensor:
    """Sliced Wasserstein squared, the others are squares already: so all grow at one rate."""
    return value.square() if name == "sliced_wasserstein2" else value


def _measured(samples: Tensor, data: Tensor, bandwidth: float) -> dict[str, Tensor]:
    """All metrics of samples (F, n, 2): {name: (F,)}."""
    values = {
        d: torch.stack([_distance(d, x, data, bandwidth) for x in samples]) for d in DISTANCES
    }
    both = torch.tensor([precision_recall(data, x) for x in samples])
    return values | dict(zip(SHARES, both.double().unbind(1), strict=True))


def _copies(x: Tensor, train: Tensor) -> Tensor:
    """Share of samples x at distance 0 from a training point."""
    nearest = torch.cdist(x, train, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    return (nearest == 0).double().mean()


# The bandwidth is 0 for metrics without one, so that they are not computed anew when it moves.


@lru_cache(maxsize=256)
def checks(name: str, dataset: str, n: int, used: int, seed: int, bandwidth: float) -> Tensor:
    """The metric (distances squared) of clean clouds against the data shown: (CHECKS,).

    Of clouds of n points the first ``used`` count.
    """
    if name in SHARES:
        return _check_shares(dataset, n, used, seed)[:, SHARES.index(name)]
    data = draw(dataset, n, seed, DATA)[:used]
    clouds = (x[:used] for x in _check_clouds(dataset, n, seed))
    return squared(name, torch.stack([_distance(name, x, data, bandwidth) for x in clouds]))


@lru_cache(maxsize=64)
def _check_shares(dataset: str, n: int, used: int, seed: int) -> Tensor:
    data = draw(dataset, n, seed, DATA)[:used]
    clouds = _check_clouds(dataset, n, seed)
    return torch.tensor([precision_recall(data, x[:used]) for x in clouds]).double()


def _check_clouds(dataset: str, n: int, seed: int) -> list[Tensor]:
    clouds = CHECKS if n <= FEW else FEWER_CHECKS
    return [draw(dataset, n, seed, CHECK + k) for k in range(clouds)]


def _floor(clean: Tensor) -> float:
    """Root mean square of clean clouds: of an unbiased metric the mean would be about 0."""
    return float(clean.square().mean().sqrt())


@lru_cache(maxsize=256)
def _floors_by_size(name: str, dataset: str, bandwidth: float) -> Tensor:
    """The floor of a distance between two clean clouds, for each of ``SIZES``: (k,)."""
    return torch.tensor([_floor(_pairs(name, dataset, n, bandwidth)) for n in SIZES])


def _pairs(name: str, dataset: str, n: int, bandwidth: float) -> Tensor:
    """Squared distances of pairs of clean clouds that belong to no seed of the explorer."""
    seeds = range(LAST_SEED - 2 * (ALL // n), LAST_SEED, 2)
    pairs = ((toy.load(dataset, n, k), toy.load(dataset, n, k + 1)) for k in seeds)
    return squared(name, torch.stack([_distance(name, x, y, bandwidth) for x, y in pairs]))


# ---- the learner's function --------------------------------------------------------------------


class NumberLearner(Learner):
    """A learner whose function returns one number: a float or a 0-dim tensor."""

    def _call(self, like: Tensor, args: Sequence[Any], tensor_times: bool) -> Any:
        out = super()._call(like, args, tensor_times)
        number = isinstance(out, Real) and not isinstance(out, bool)
        return torch.tensor(float(out), dtype=torch.float64) if number else out

    def _check(self, out: Any, like: Tensor) -> None:
        if out is None or (isinstance(out, Tensor) and out.shape == like.shape):
            super()._check(out, like)
            return
        what = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        raise LearnerError(
            f"your {self.role} returned {what}; it must return one number for the two clouds, a "
            "float or a tensor of shape ()"
        )


def run_learner(learner: Learner, state: State, against: str, hurry: bool) -> None:
    """Fill ``mine``, ``differences`` and ``notes`` with what the learner's metric gives."""
    used = min(len(state.data), HURRIED) if state.coarse else len(state.data)
    like = torch.zeros((), dtype=torch.float64)
    clouds = dict(zip(state.times, state.samples[:, :used], strict=True))
    known = dict(zip(state.times, state.values[against], strict=True))
    differences: list[float] = []

    def call(amount: float) -> Tensor:
        found = learner(like, clouds[amount], state.data[:used])
        differences.append(float((found - known[amount]).abs()))
        return found

    at = "amount {:g}"
    state.mine, whole = answers(learner, state.times, call, state.notes, hurry, at)
    if state.mine is None:
        return
    state.differences = differences
    if whole:
        state.notes.append(_verdict(learner, state, against))


def _verdict(learner: Learner, state: State, against: str) -> dict[str, str]:
    assert state.mine is not None
    bad = (~state.mine.isfinite()).nonzero().flatten()
    if len(bad):
        what = "NaN" if state.mine.isnan().any() else "infinity"
        where = f"first at amount {state.times[int(bad[0])]:g}"
        text = f"your {learner.role} gives {what} at {len(bad)} of {len(state.times)} amounts"
        return note("error", f"{text}, {where}; those are not drawn")
    worst = max(range(len(state.times)), key=state.differences.__getitem__)
    # float32 is allowed for; one part in 10,000 is far below the smallest mistake.
    allowed = 1e-5 + 1e-4 * state.values[against].abs()
    agrees = bool((torch.tensor(state.differences) <= allowed).all())
    off, where = state.differences[worst], f"amount {state.times[worst]:g}"
    return note("info", compared(learner.role, agrees, off, where, against))
