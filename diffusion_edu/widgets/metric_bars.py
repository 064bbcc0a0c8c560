"""What MetricLab computes: flawed samples, what metrics make of them, and a learner's metric."""

from __future__ import annotations

import math
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
from . import datasets
from .learner import Learner, LearnerError

FLAWS = {
    "drop a mode": "One mode dies out, the others get its samples. Precision cannot see that; "
    "recall only once hardly a sample is left there.",
    "blur": "Noise on all samples, at amount 1 of sd 0.5. Precision falls first where the data are "
    "sharp; what looks at mean and spread is late.",
    "memorise": "Copies of training points instead of new samples. Against held-out data they are "
    "as good as real: only comparing with the training set tells.",
    "shift": "All samples moved to the right, at amount 1 by 0.5. In the end every metric sees it.",
    "collapse": "One sample over and over. Precision even rises; recall falls at the very end.",
    "outliers": "Samples from anywhere. Precision tells; recall hardly does, for the balls around "
    "outliers are large.",
    "same moments": "Samples of a Gaussian with the mean and covariance of the data. Fr\u00e9chet "
    "distance knows only those two: it sees nothing. Nor does MMD until its bandwidth is small.",
    "none": "Nothing is wrong: fresh samples at every amount. So much do metrics vary by chance.",
}
DISTANCES = ("mmd2", "energy_distance", "sliced_wasserstein2", "frechet_distance")
SHARES = ("precision", "recall")
METRICS = (*DISTANCES, *SHARES)
BLUR, SHIFT = 0.5, 0.5  # at amount 1
WEDGE = math.pi / 8  # half the angle of what is lost: exactly one mode of "gaussians"
REACH = 2.5  # outliers are uniform in a square of twice this side
MANY = 20_000  # points whose mean and covariance "same moments" has
FEW = 350  # samples up to which metrics are quick
FINE, ROUGH = 21, 11  # amounts, for few and many samples
CHECKS, FEWER_CHECKS = 16, 8  # clean clouds that a floor is made from, likewise
HURRIED = 100  # samples measured while a slider is dragged
SIZES = (50, 100, 200)  # of clean clouds, for the picture of floors
ALL = 2400  # points of each side in that picture: more pairs of small clouds, which vary more
SURE = 3.0  # a flaw is seen beyond that many standard deviations of clean clouds
LAST_SEED = 2**32 - 1
# What a draw is for; FRESH and CHECK are the first of many.
DATA, TRAIN, CLEAN, SPARE, FRESH, CHECK = 0, 1, 2, 3, 8, 32
NORMAL, UNIFORM = 0, 1  # what a noise is for


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
        return {d: floor(self.clean[d]) for d in DISTANCES}

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
        measured(samples[:, :used], data[:used], width),
        {m: checks(m, name, n, used, seed, width if m == "mmd2" else 0.0) for m in METRICS},
        torch.stack([copies(x, train) for x in samples]),
        {d: floors_by_size(d, name, width if d == "mmd2" else 0.0) for d in DISTANCES},
        coarse=used < n,
    )


def amounts(n: int) -> list[float]:
    """How much of the flaw there is in each frame: fewer where n makes each one costly."""
    frames = FINE if n <= FEW else ROUGH
    return [round(f / (frames - 1), 2) for f in range(frames)]


# ---- samples -----------------------------------------------------------------------------------


def draw_seed(seed: int, what: int) -> int:
    """Seed of the toy set for one purpose; different purposes are independent."""
    return (64 * seed + what) % LAST_SEED


def draw(name: str, n: int, seed: int, what: int) -> Tensor:
    """(n, 2) clean points."""
    return toy.load(name, n, draw_seed(seed, what))


def lost(x: Tensor) -> Tensor:
    """(n,) bool: points within the angle that "drop a mode" empties."""
    return torch.atan2(x[:, 1], x[:, 0]).abs() < WEDGE


def flawed(values: dict[str, Any], times: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Samples (F, n, 2) with more and more of the flaw, and which of them are wrong (F, n)."""
    flaw, n = values["flaw"], values["n"]
    name, seed = values["dataset"], values["seed"]
    clean, nothing = draw(name, n, seed, CLEAN), torch.zeros(len(times), n, dtype=torch.bool)
    share = torch.tensor(times)[:, None, None]
    if flaw == "none":
        fresh = [draw(name, n, seed, FRESH + f) for f in range(len(times))]
        return torch.stack(fresh), nothing
    if flaw in ("blur", "shift"):
        z = BLUR * datasets.noise((n, 2), seed, NORMAL)
        return clean + share * (z if flaw == "blur" else torch.tensor([SHIFT, 0.0])), nothing
    if flaw == "drop a mode":
        inside, spare = lost(clean), draw(name, 2 * n, seed, SPARE)
        clean, other = torch.cat([clean[inside], clean[~inside]]), spare[~lost(spare)]
        replaced = [round(a * int(inside.sum())) for a in times]
        return _replace(clean, other, replaced), nothing
    replaced = [round(a * n) for a in times]
    wrong = torch.arange(n) < torch.tensor(replaced)[:, None]
    return _replace(clean, _others(flaw, name, n, seed, clean), replaced), wrong


def _replace(clean: Tensor, other: Tensor, counts: Sequence[int]) -> Tensor:
    """The first k of ``clean`` replaced by those of ``other``, for each k."""
    return torch.stack([torch.cat([other[:k], clean[k:]]) for k in counts])


def _others(flaw: str, name: str, n: int, seed: int, clean: Tensor) -> Tensor:
    """(n, 2): what takes the place of samples."""
    if flaw == "memorise":
        return draw(name, n, seed, TRAIN)
    if flaw == "collapse":
        return clean[:1].expand(n, 2)
    if flaw == "outliers":
        generator = torch.Generator().manual_seed(datasets.noise_seed(seed, UNIFORM))
        return REACH * (2 * torch.rand(n, 2, generator=generator) - 1)
    many = draw(name, MANY, seed, SPARE)
    root = torch.linalg.cholesky(many.T.cov())
    return many.mean(0) + datasets.noise((n, 2), seed, NORMAL) @ root.T


def flaw_code(values: dict[str, Any]) -> str:
    """Python for one frame of ``flawed``, from ``clean`` and ``train``."""
    flaw, n, seed, name = (values[k] for k in ("flaw", "n", "seed", "dataset"))
    if flaw == "none":
        first, frames = draw_seed(seed, FRESH), len(amounts(n)) - 1
        return f"x = de.toy.load({name!r}, {n}, seed={first} + round(amount * {frames}))\n"
    if flaw == "blur":
        return f"{_normal_code(n, seed)}x = clean + amount * ({BLUR} * z)\n"
    if flaw == "shift":
        return f"x = clean + amount * torch.tensor([{SHIFT}, 0.0])\n"
    if flaw == "drop a mode":
        return (
            f"spare = de.toy.load({name!r}, {2 * n}, seed={draw_seed(seed, SPARE)})\n"
            "mode, other = (torch.atan2(c[:, 1], c[:, 0]).abs() < torch.pi / 8"
            " for c in (clean, spare))\n"
            "k = round(amount * int(mode.sum()))\n"
            "x = torch.cat([spare[~other][:k], clean[mode][k:], clean[~mode]])\n"
        )
    others = _others_code(flaw, name, n, seed)
    return f"{others}k = round(amount * {n})\nx = torch.cat([other[:k], clean[k:]])\n"


def _others_code(flaw: str, name: str, n: int, seed: int) -> str:
    if flaw == "memorise":
        return "other = train\n"
    if flaw == "collapse":
        return f"other = clean[:1].expand({n}, 2)\n"
    if flaw == "outliers":
        return (
            f"generator = torch.Generator().manual_seed({datasets.noise_seed(seed, UNIFORM)})\n"
            f"other = {REACH} * (2 * torch.rand({n}, 2, generator=generator) - 1)\n"
        )
    return (
        f"many = de.toy.load({name!r}, {MANY}, seed={draw_seed(seed, SPARE)})\n"
        f"{_normal_code(n, seed)}"
        f"other = many.mean(0) + z @ torch.linalg.cholesky(many.T.cov()).T\n"
    )


def _normal_code(n: int, seed: int) -> str:
    generator = f"torch.Generator().manual_seed({datasets.noise_seed(seed, NORMAL)})"
    return f"z = torch.randn({n}, 2, generator={generator})\n"


# ---- metrics -----------------------------------------------------------------------------------


def distance(name: str, x: Tensor, y: Tensor, bandwidth: float) -> Tensor:
    """One of ``DISTANCES`` of samples x to data y, as the library gives it."""
    if name == "mmd2":
        return mmd2(x, y, bandwidth)
    if name == "frechet_distance":  # of the points themselves, not of features
        return frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())
    return energy_distance(x, y) if name == "energy_distance" else sliced_wasserstein2(x, y)


def squared(name: str, value: Tensor) -> Tensor:
    """Sliced Wasserstein squared, the others are squares already: so all grow at one rate."""
    return value.square() if name == "sliced_wasserstein2" else value


def measured(samples: Tensor, data: Tensor, bandwidth: float) -> dict[str, Tensor]:
    """All metrics of samples (F, n, 2): {name: (F,)}."""
    values = {d: torch.stack([distance(d, x, data, bandwidth) for x in samples]) for d in DISTANCES}
    both = torch.tensor([precision_recall(data, x) for x in samples])
    return values | dict(zip(SHARES, both.double().unbind(1), strict=True))


def copies(x: Tensor, train: Tensor) -> Tensor:
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
    return squared(name, torch.stack([distance(name, x, data, bandwidth) for x in clouds]))


@lru_cache(maxsize=64)
def _check_shares(dataset: str, n: int, used: int, seed: int) -> Tensor:
    data = draw(dataset, n, seed, DATA)[:used]
    clouds = _check_clouds(dataset, n, seed)
    return torch.tensor([precision_recall(data, x[:used]) for x in clouds]).double()


def _check_clouds(dataset: str, n: int, seed: int) -> list[Tensor]:
    clouds = CHECKS if n <= FEW else FEWER_CHECKS
    return [draw(dataset, n, seed, CHECK + k) for k in range(clouds)]


def floor(clean: Tensor) -> float:
    """Root mean square of clean clouds: of an unbiased metric the mean would be about 0."""
    return float(clean.square().mean().sqrt())


@lru_cache(maxsize=256)
def floors_by_size(name: str, dataset: str, bandwidth: float) -> Tensor:
    """The floor of a distance between two clean clouds, for each of ``SIZES``: (k,)."""
    return torch.tensor([floor(_pairs(name, dataset, n, bandwidth)) for n in SIZES])


def _pairs(name: str, dataset: str, n: int, bandwidth: float) -> Tensor:
    """Squared distances of pairs of clean clouds that belong to no seed of the explorer."""
    seeds = range(LAST_SEED - 2 * (ALL // n), LAST_SEED, 2)
    pairs = ((toy.load(dataset, n, k), toy.load(dataset, n, k + 1)) for k in seeds)
    return squared(name, torch.stack([distance(name, x, y, bandwidth) for x, y in pairs]))


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
    mine: list[Tensor] = []
    try:
        late = learner.over(
            state.samples[:, :used],
            lambda x: mine.append(learner(like, x, state.data[:used])),
            hurry,
        )
    except LearnerError as error:
        state.notes = [note("error", f"At amount {state.times[len(mine)]:g}: {error}")]
        return
    if late:
        state.notes = [note("error", late)]
    if not mine:
        return
    known = torch.stack(mine)
    gap = (known - state.values[against][: len(known)]).abs()
    state.differences = gap.tolist()
    state.mine = torch.full((len(state.times),), math.nan, dtype=torch.float64)
    state.mine[: len(known)] = known
    if not late:
        state.notes = [_verdict(learner, state, against)]


def _verdict(learner: Learner, state: State, against: str) -> dict[str, str]:
    assert state.mine is not None
    bad = (~state.mine.isfinite()).nonzero().flatten()
    if len(bad):
        what = "NaN" if state.mine.isnan().any() else "infinity"
        where = f"first at amount {state.times[int(bad[0])]:g}"
        text = f"your {learner.role} gives {what} at {len(bad)} of {len(state.times)} amounts"
        return note("error", f"{text}, {where}; those are not drawn")
    worst = max(range(len(state.times)), key=state.differences.__getitem__)
    largest = f"{state.differences[worst]:.2g}, at amount {state.times[worst]:g}"
    # float32 is allowed for; one part in 10,000 is far below the smallest mistake.
    allowed = 1e-5 + 1e-4 * state.values[against].abs()
    agrees = bool((torch.tensor(state.differences) <= allowed).all())
    how = "agrees with" if agrees else "differs from"
    return note("info", f"your {learner.role} {how} {against}: largest difference {largest}")
