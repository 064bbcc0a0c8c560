"""MetricLab: is it any good? What metrics of samples see, and what they miss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..data import toy
from ..viz.scene import Axis, Control, Scene, note, pick, slide, slide_seed
from .explorer import Explorer, nearest, short
from .metric_bars import (
    DISTANCES,
    METRICS,
    SHARES,
    SIZES,
    NumberLearner,
    State,
    compare,
    run_learner,
    squared,
)
from .metric_flaws import CLEAN, DATA, FLAWS, TRAIN, draw_seed, flaw_code
from .params import Param, choice, integer, number

__all__ = ["MetricLab"]

LEAST, MOST = 50, 1000  # samples
VIEW = 2.6  # half the side of the square shown
BANDWIDTHS = (0.05, 5.0)
LOWEST = 0.1  # multiples of the floor below it, and negative ones, are drawn there
LABELS = {
    "mmd2": "MMD",
    "energy_distance": "energy",
    "sliced_wasserstein2": "sliced W2",
    "frechet_distance": "Fr\u00e9chet",
    "precision": "precision",
    "recall": "recall",
}
SHORT = {"sliced_wasserstein2": "SW2"}  # in the line of text
HELP = {
    "dataset": "The real data",
    "flaw": "What is wrong with the samples",
    "n": "Number of samples, and of data points they are compared with",
    "bandwidth": "Width of the kernel of MMD: it sees what is about as large",
    "seed": "Another seed draws other data and other samples",
    "against": "The metric of the library that yours is compared with",
}


class MetricLab(Explorer):
    r"""Is it any good? Samples with a known flaw, and what each metric makes of it.

    Distances: ``mmd2`` (Gretton et al., JMLR 2012, eq. 3), ``energy_distance`` (Szekely & Rizzo
    2013), ``sliced_wasserstein2`` (Bonneel et al. 2015) and ``frechet_distance`` of the points (its
    formula is that of FID, 1706.08500 eq. 6). Two clean clouds of n points are not at distance 0:

    multiple = d^2 / floor,    floor = sqrt( mean of d^4 over 16 clean clouds, same data )

    (8 clouds beyond n = 350). A distance has seen the flaw where its multiple is beyond 3 standard
    deviations of clean clouds, precision and recall (1904.06991 eq. 1-2) where they are as far
    below those of clean clouds. Samples are compared with held-out data: copies of training points
    are as good as real points then, and only the share of samples that are training points tells.

    Args:
        dataset: any toy set.
        flaw: "drop a mode" (points within 22.5 degrees of the x-axis: a mode of "gaussians"),
            "blur", "memorise", "shift", "collapse", "outliers", "same moments" or "none".
        n: number of samples, and of data points, 50..1000.
        bandwidth: of the kernel of ``mmd2``, 0.05..5.
        seed: of the data and the samples.
        t: amount of the flaw shown first, 0..1; the nearest of ``times`` is taken.
        metric: a function of yours, metric(x, y) -> float or 0-dim tensor, of samples x (n, 2) and
            data y (n, 2), drawn beside the library's.
        against: which one: "mmd2", "energy_distance", "sliced_wasserstein2", "frechet_distance",
            "precision" or "recall".
        play: start moving at once.

    Attributes ``times`` (F amounts), ``data``, ``train`` (n, 2), ``samples`` (F, n, 2), ``values``
    {metric: (F,)}, ``floors`` {distance: float}, ``multiples`` {distance: (F,)}, ``copies`` (F,),
    ``mine`` (F,) or None, ``difference``, ``notes``.

    Raises:
        ValueError: unknown names, values outside their range; also when set later.
    """

    PAGES = {"flaw": tuple(FLAWS), "n": [50, 300, 600]}  # noqa: RUF012, typed in the base class

    _state: State

    dataset = Param(choice(toy.names), "the real data")
    flaw = Param(choice(lambda: tuple(FLAWS)), "what is wrong with the samples")
    n = Param(integer(LEAST, MOST), "number of samples")
    bandwidth = Param(number(*BANDWIDTHS), "of the kernel of mmd2")
    seed = Param(integer(0, 2**31 - 1), "of data and samples")
    against = Param(choice(lambda: METRICS), "what yours is compared with")
    t = Param(number(0.0, 1.0, optional=True), "amount of the flaw")

    def __init__(
        self,
        dataset: str = "gaussians",
        flaw: str = "drop a mode",
        *,
        n: int = 300,
        bandwidth: float = toy.BANDWIDTH,
        seed: int = 0,
        t: float | None = None,
        metric: Callable[..., Any] | None = None,
        against: str = "mmd2",
        play: bool = False,
    ) -> None:
        self._learner = None if metric is None else NumberLearner(metric, "metric")
        what = {"dataset": dataset, "flaw": flaw, "n": n, "bandwidth": bandwidth, "seed": seed}
        super().__init__(play, **what, against=against, t=t)

    # ---- results ---------------------------------------------------------------------------------

    @property
    def data(self) -> Tensor:
        """The real points that samples are compared with, (n, 2)."""
        return self._state.data

    @property
    def train(self) -> Tensor:
        """The points that "memorise" copies, (n, 2)."""
        return self._state.train

    @property
    def samples(self) -> Tensor:
        """The samples at every amount, (F, n, 2)."""
        return self._state.samples

    @property
    def values(self) -> dict[str, Tensor]:
        """What the library gives at every amount: {name: (F,)}."""
        values: dict[str, Tensor] = self._full().values
        return values

    @property
    def floors(self) -> dict[str, float]:
        """Squared distances of clean clouds, root mean square."""
        floors: dict[str, float] = self._full().floors
        return floors

    @property
    def multiples(self) -> dict[str, Tensor]:
        """Squared distances divided by their floors: {name: (F,)}."""
        multiples: dict[str, Tensor] = self._full().multiples
        return multiples

    @property
    def copies(self) -> Tensor:
        """Share of samples that coincide with a training point, (F,)."""
        return self._state.copies

    @property
    def mine(self) -> Tensor | None:
        """What your metric gives at every amount, (F,), or None if there is none or it failed."""
        mine: Tensor | None = self._full().mine
        return mine

    @property
    def difference(self) -> float | None:
        """Largest absolute difference of your metric from the library's."""
        known = [d for d in self._full().differences if math.isfinite(d)]
        return max(known) if known else None

    # ---- the model -------------------------------------------------------------------------------

    def _compute(self, values: dict[str, Any], coarse: bool) -> State:
        state = compare(values, coarse)
        explained = note("info", f"{values['flaw']}: {FLAWS[values['flaw']]}")
        if self._learner is not None:
            run_learner(self._learner, state, values["against"], coarse)
        state.notes.append(explained)
        return state

    def _time(self, t: float | None, state: State) -> float:
        if t is None:
            return state.times[-1]
        return state.times[nearest(state.times, super()._time(t, state))]

    def _controls(self, state: State) -> list[Control]:
        v, h = self._values, HELP
        yours = [pick("against", "compare yours with", v["against"], METRICS, h["against"])]
        return [
            pick("dataset", "data", v["dataset"], toy.names(), h["dataset"]),
            pick("flaw", "flaw", v["flaw"], tuple(FLAWS), h["flaw"]),
            slide("n", "samples n", v["n"], (LEAST, MOST), h["n"], log=True),
            slide(
                "bandwidth",
                "bandwidth",
                v["bandwidth"],
                BANDWIDTHS,
                h["bandwidth"],
                step=0.01,
                log=True,
            ),
            slide_seed(v["seed"], h["seed"]),
            *(yours if self._learner is not None else []),
        ]

    def _code(self) -> str:
        v = self._values
        clouds = {"data": DATA, "train": TRAIN, "clean": CLEAN}
        drawn = "".join(
            f"{what} = de.toy.load({v['dataset']!r}, {v['n']}, seed={draw_seed(v['seed'], i)})\n"
            for what, i in clouds.items()
        )
        return (
            f"import torch\nimport diffusion_edu as de\n\n"
            f"{drawn}amount = {{t}}\n{flaw_code(v)}\n"
            f"mmd2 = de.mmd2(x, data, bandwidth={v['bandwidth']!r})\n"
            f"energy_distance = de.energy_distance(x, data)\n"
            f"sliced_wasserstein2 = de.sliced_wasserstein2(x, data)\n"
            f"frechet_distance = de.frechet_distance(\n"
            f"    x.mean(0), x.T.cov(), data.mean(0), data.T.cov()\n)\n"
            f"precision, recall = de.precision_recall(data, x)\n"
            f"copies = (x[:, None] == train).all(2).any(1).double().mean()\n"
        )

    def _scene(self, state: State) -> Scene:
        scene = Scene(
            state.times,
            self.frame,
            _text(state, self.flaw != "none"),
            label="amount",
            help="How much of the flaw there is: 0 none",
            title=f"Metrics of samples: {self.flaw}",
        )
        _draw_samples(scene, state)
        _draw_distances(scene, state, self.against)
        _draw_shares(scene, state, self.against)
        _draw_floors(scene, state)
        return scene


# ---- pictures ----------------------------------------------------------------------------------


def _text(state: State, flawed: bool) -> list[str]:
    """One line for each amount: who sees the flaw, and who does not."""
    multiples = state.multiples
    seen = {name: state.seen(name) for name in METRICS}
    lines = []
    for f, amount in enumerate(state.times):
        told = {
            m: f"{SHORT.get(m, LABELS[m])} {_multiple(float(multiples[m][f]))}" for m in DISTANCES
        }
        told |= {m: f"{m} {float(state.values[m][f]):.2f}" for m in SHARES}
        yes = [text for m, text in told.items() if seen[m][f]]
        no = [text for m, text in told.items() if not seen[m][f]]
        if state.copies[f] > 0:
            yes.append(f"copies {100 * float(state.copies[f]):.0f} %")
        wrong = flawed and amount > 0
        words = ("seen by", "missed by") if wrong else ("false alarm of", "fine:")
        parts = [f"{w} {', '.join(some)}" for w, some in zip(words, (yes, no), strict=True) if some]
        lines.append(f"amount {amount:g}: " + "; ".join(parts))
    for f, difference in enumerate(state.differences):
        if math.isfinite(difference):
            lines[f] += f"; yours is off by {short(difference)}"
    return lines


def _multiple(x: float) -> str:
    return f"{x:.1f}x" if x < 10 else f"{x:.0f}x"


def _draw_samples(scene: Scene, state: State) -> None:
    """Data in grey, samples on them; those that are not as they should be are crosses."""
    n = len(state.data)
    wrong = state.wrong[:, :, None]
    layers = [scene.frames(state.data[None], mark="data", groups=[n])]
    right = torch.where(wrong, math.nan, state.samples)
    layers.append(scene.frames(right, mark="dot", groups=[n]))
    if state.wrong.any():
        bad = torch.where(wrong, state.samples, math.nan)
        layers.append(scene.frames(bad, mark="cross", groups=[0, n]))
    scene.points("samples on data (grey)", layers, VIEW)


def _draw_distances(scene: Scene, state: State, against: str) -> None:
    """Multiples of the floor, on a ground of what chance does."""
    multiples = state.multiples
    highest = max(float(m.max()) for m in multiples.values())
    top = max(100.0, 10.0 ** math.ceil(math.log10(highest)))
    ends = torch.tensor([0.0, len(state.times) - 1.0])
    series = [scene.series("chance", torch.full((2,), state.chance), ends, draw="area")]
    series += [scene.series(LABELS[d], m.clamp(min=LOWEST)) for d, m in multiples.items()]
    if state.mine is not None and against in DISTANCES:
        mine = squared(against, _finite(state.mine)) / state.floors[against]
        series.append(scene.series("yours", mine.clamp(LOWEST, top), draw="dots"))
    axis = Axis(LOWEST, top, "squared distance / floor", log=True)
    scene.curves("distance to the data", series, axis, levels=[(1.0, "")])


def _finite(x: Tensor) -> Tensor:
    return torch.where(x.isfinite(), x, math.nan)


def _draw_shares(scene: Scene, state: State, against: str) -> None:
    series = [scene.series(name, state.values[name]) for name in SHARES]
    series.append(scene.series("copies of training points", state.copies))
    if state.mine is not None and against in SHARES:
        series.append(scene.series("yours", _finite(state.mine).clamp(-0.05, 1.05), draw="dots"))
    scene.curves("shares", series, Axis(-0.05, 1.05))


def _draw_floors(scene: Scene, state: State) -> None:
    """How far clean clouds of n points are apart, for every n: sample-size bias."""
    sizes = torch.tensor(SIZES, dtype=torch.float64)
    ends = torch.tensor([LEAST, MOST], dtype=torch.float64)
    start = float(state.sizes["energy_distance"][0])
    series = [scene.series("1/n", start * LEAST / ends, ends)]  # colours as for the distances
    series += [scene.series(LABELS[d], y, sizes) for d, y in state.sizes.items()]
    now = torch.full((len(state.times),), float(len(state.data)))
    span = [float(f(torch.stack([*state.sizes.values()]))) for f in (torch.min, torch.max)]
    low, high = math.floor(math.log10(0.2 * span[0])), math.ceil(math.log10(span[1]))
    axis = Axis(10.0**low, 10.0**high, "squared distance", log=True)
    scene.curves(
        "real data against real data", series, axis, Axis(LEAST, MOST, "n", log=True), at=now
    )
