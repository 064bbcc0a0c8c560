"""ElboDecomposer: the bound on -log p, term by term."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..data import toy
from ..gaussian import bits_per_dim
from ..objectives import ElboTerms
from ..prediction import Model
from ..schedules import Schedule
from ..viz.scene import Axis, Control, Scene, pick, slide, slide_seed
from .denoisers import MODELS, POINT_NETWORKS, given, resolve, source
from .elbo_terms import (
    DECODERS,
    EXACT,
    MAX_DRAWS,
    SIGMA2,
    State,
    code_of,
    decompose,
    estimate,
    exact_denoiser,
    factors,
    least_shown,
    least_terms,
    pair,
    shown_of,
)
from .elbo_yours import NumberLearner, run_kl, run_weight
from .explorer import BUDGET, Explorer, short
from .params import Param, choice, integer

__all__ = ["ElboDecomposer"]

FEWEST = 64  # draws
WEIGHTINGS = ("vlb", "simple", "min_snr")
MAX_STEPS = 200
DOTS = 60  # up to this many terms are drawn one by one
ERROR_BARS = 40  # at most, in one curve
HELP = {
    "dataset": "The data; -log p is known for gaussians only",
    "model": "A trained network, or the exact denoiser of gaussians",
    "steps": "Number of steps T of the chain: the fewer, the looser the bound",
    "sigma2": "Variance of the reverse step",
    "decoder": "gaussian: a density of x_0; discretized: a probability of 256 levels",
    "weighting": "vlb: true terms of the bound; simple: all weights 1; min_snr: min(SNR, 5)/SNR",
    "draws": "Pairs of data and noise: four times as many halve the error bars",
    "seed": "Another seed draws other data and other noise",
}


class ElboDecomposer(Explorer):
    r"""-log p(x_0) <= L_T + sum_t L_{t-1} + L_0: every term, their sum, and their weights.

    DDPM (2006.11239) eq. 5. L_{t-1} is weight_t ||eps - eps_hat||^2 plus a constant (0 if sigma2 is
    "beta_tilde"), weight_t = beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)), eq. 12; L_simple
    sets all weights to 1, eq. 14. For "gaussians" -log p(x_0) is known, and what every term would
    be if the reverse step were the true q(x_{t-1} | x_t): the rest is the gap.

    The chain visits ``steps`` levels of the network's, evenly spaced (improved DDPM, 2102.09672,
    sec. 4); the exact denoiser has the same. Numbers are means over ``draws`` pairs of data x_0 and
    noise, with their standard errors.

    Args:
        model: "oracle" (exact denoiser, "gaussians" only), "network" for ``dataset``, a shipped
            network by its data set ("swiss_roll", "moons", "gaussians"), the path of a
            .safetensors file, or any callable model(x_t, t) -> eps, t (B,) int64.
        dataset: any toy set; None is that of the network or file, else "gaussians".
        steps: T, 2..200.
        sigma2: variance of the reverse step, "beta" or "beta_tilde".
        decoder: L_0 is -log of a density ("gaussian"; may be negative) or of a probability
            ("discretized": x_0 is rounded to 256 levels, and bits/dim is a code length).
        weighting: "vlb" draws the terms, "simple" and "min_snr" (2303.09556) ||eps - eps_hat||^2
            times 1 or min(SNR, 5)/SNR.
        draws: number of pairs, 64..2048.
        seed: of data and noise.
        t: the term L_{t-1} shown first, 1..T.
        schedule: for a callable without a ``schedule`` attribute; default linear with T = 1000.
        kl_t: a function of yours, kl_t(x0, x_t, t, eps_hat, schedule) -> (B,) nats: L_{t-1} for t =
            2..T. t is a (B,) int64 tensor, or an int if your function refuses a tensor.
        loss_weight: a function of yours, loss_weight(t, schedule) -> (B,).
        play: start moving at once.

    Attributes ``times`` (T..1), ``terms`` (ElboTerms, a row for each draw), ``term`` and ``error``
    (T,), mean L_{t-1} at each of ``times`` and its standard error, ``total``, ``exact`` and ``gap``
    (mean, standard error), ``weights`` (T,), ``least`` (T,), ``mine`` (T,), ``mine_weight`` (T,),
    ``difference``, ``noise_schedule``, ``notes``.

    Raises:
        ValueError: unknown names, values outside their range; also when set later.
    """

    PAGES = {  # noqa: RUF012, typed in the base class
        "steps": [5, 10, 20, 50, 100],
        "sigma2": SIGMA2,
        "weighting": WEIGHTINGS[:2],
    }

    _state: State

    model = Param(choice(lambda: (*MODELS, "yours")), "where the predicted noise comes from")
    dataset = Param(choice(toy.names), "the data")
    steps = Param(integer(2, MAX_STEPS), "number of steps")
    sigma2 = Param(choice(lambda: SIGMA2), "variance of the reverse step")
    decoder = Param(choice(lambda: DECODERS), "what L_0 is")
    weighting = Param(choice(lambda: WEIGHTINGS), "weights of the terms drawn")
    draws = Param(integer(FEWEST, MAX_DRAWS), "number of pairs of data and noise")
    seed = Param(integer(0, 2**31 - 1), "of data and noise")
    t = Param(integer(1, optional=True), "the term L_{t-1} shown")

    def __init__(
        self,
        model: str | Path | Model = "oracle",
        dataset: str | None = None,
        *,
        steps: int = 20,
        sigma2: str = "beta",
        decoder: str = "gaussian",
        weighting: str = "vlb",
        draws: int = 512,
        seed: int = 0,
        t: int | None = None,
        schedule: Schedule | None = None,
        kl_t: Callable[..., Tensor] | None = None,
        loss_weight: Callable[..., Tensor] | None = None,
        play: bool = False,
    ) -> None:
        if dataset is None and (callable(model) or model in MODELS):
            dataset = EXACT
        kind, dataset = source(model, dataset)
        self._given = given(model, schedule) if kind == "yours" else None
        self._kl = None if kl_t is None else NumberLearner(kl_t, "kl_t")
        self._weight = None if loss_weight is None else NumberLearner(loss_weight, "loss_weight")
        how = {"sigma2": sigma2, "decoder": decoder, "weighting": weighting}
        what = {"model": kind, "dataset": dataset, "steps": steps, "draws": draws, "seed": seed}
        super().__init__(play, **what, **how, t=t)

    # ---- results ---------------------------------------------------------------------------------

    @property
    def terms(self) -> ElboTerms:
        """The library's terms, a row for each draw."""
        terms: ElboTerms = self._full().terms
        return terms

    @property
    def term(self) -> Tensor:
        """Mean of L_{t-1} at each t in ``times``, (T,) float64 nats; L_0 at t = 1."""
        return estimate(self._full().rows)[0]

    @property
    def error(self) -> Tensor:
        """Standard error of ``term``, (T,)."""
        return estimate(self._full().rows)[1]

    @property
    def total(self) -> tuple[float, float]:
        """-ELBO in nats, mean and standard error."""
        return pair(self.terms.total)

    @property
    def exact(self) -> tuple[float, float] | None:
        """-log p(x_0) in nats over the same draws; None where it is not known."""
        exact = self._full().exact
        return None if exact is None else pair(exact)

    @property
    def gap(self) -> tuple[float, float] | None:
        """-ELBO + log p(x_0) in nats, mean and standard error; None where it is not known."""
        exact = self._full().exact
        return None if exact is None else pair(self.terms.total - exact)

    @property
    def weights(self) -> Tensor:
        """The factor of ||eps - eps_hat||^2 in each term, (T,) float64."""
        weight: Tensor = self._state.weight
        return weight

    @property
    def least(self) -> Tensor | None:
        """Each term if the reverse step were the true one, (T,); None where it is not known."""
        information = self._full().information
        return None if information is None else least_terms(information)[0]

    @property
    def mine(self) -> Tensor | None:
        """Mean of your kl_t at each t in ``times``, (T,), NaN at t = 1; None without one."""
        mine: Tensor | None = self._full().mine
        return mine

    @property
    def mine_weight(self) -> Tensor | None:
        """Your loss_weight at each t in ``times``, (T,), or None."""
        mine: Tensor | None = self._full().mine_weight
        return mine

    @property
    def difference(self) -> float | None:
        """Largest absolute difference of your functions from the reference."""
        differences = self._full().differences
        return max(differences.values()) if differences else None

    # ---- the model -------------------------------------------------------------------------------

    def _compute(self, values: dict[str, Any], coarse: bool) -> State:
        model, schedule = self._denoiser(values)
        n = self._few(values) if coarse else values["draws"]
        start = time.perf_counter()
        state = decompose(model, schedule, values, n)
        state.seconds = (time.perf_counter() - start) / n / values["steps"]
        state.coarse = n < values["draws"]
        if self._kl is not None:
            run_kl(self._kl, state, values, coarse)
        if self._weight is not None:
            run_weight(self._weight, state, values, coarse)
        return state

    def _denoiser(self, values: dict[str, Any]) -> tuple[Model, Schedule]:
        if values["model"] == "yours" and self._given is not None:
            return self._given
        if values["model"] == "oracle" and values["dataset"] != EXACT:
            raise ValueError(
                f"dataset must be {EXACT!r} for the exact denoiser, got "
                f"dataset={values['dataset']!r}: use model='network'"
            )
        if values["model"] == "oracle":
            return exact_denoiser()
        return resolve("network", values["dataset"])

    @property
    def _chains(self) -> tuple[int, int]:
        """The shortest and the longest chain of the slider."""
        return 2, min(MAX_STEPS, self._denoiser(self._values)[1].T)

    def _few(self, values: dict[str, Any]) -> int:
        """Draws to make while dragging, judged by the cost of the last run."""
        expected = self._state.seconds * values["draws"] * values["steps"]
        if expected < 2 * BUDGET:  # a little slow is better than points that come and go
            return int(values["draws"])
        return max(FEWEST, int(values["draws"] * BUDGET / expected))

    def _fit(self, values: dict[str, Any]) -> dict[str, Any]:
        """The exact denoiser is that of one data set, and networks are shipped for some."""
        for name, (low, high) in {"steps": self._chains, "draws": (FEWEST, MAX_DRAWS)}.items():
            if name in values:
                values = values | {name: min(max(round(values[name]), low), high)}
        asked = {"model": self.model, "dataset": self.dataset} | values
        if asked["model"] == "yours" or asked["dataset"] == EXACT:
            return values
        if asked["model"] == "network" and asked["dataset"] in POINT_NETWORKS:
            return values
        return values | ({"dataset": EXACT} if "model" in values else {"model": "network"})

    def _time(self, t: float | None, state: State) -> float:
        if t is None:
            return state.times[3 * len(state.times) // 4]
        return int(integer(1, state.schedule.T)("t", t))

    def _controls(self, state: State) -> list[Control]:
        v, h = self._values, HELP
        sets = dict.fromkeys((EXACT, *POINT_NETWORKS, v["dataset"]))
        models = MODELS if self._given is None else ("yours", *MODELS)
        return [
            pick("dataset", "data", v["dataset"], [*sets], h["dataset"], v["model"] != "yours"),
            pick("model", "denoiser", v["model"], models, h["model"]),
            slide("steps", "steps T", v["steps"], self._chains, h["steps"]),
            pick("sigma2", "variance", v["sigma2"], SIGMA2, h["sigma2"]),
            pick("weighting", "weights", v["weighting"], WEIGHTINGS, h["weighting"]),
            pick("decoder", "decoder", v["decoder"], DECODERS, h["decoder"]),
            slide("draws", "draws", v["draws"], (FEWEST, MAX_DRAWS), h["draws"], log=True),
            slide_seed(v["seed"], h["seed"]),
        ]

    def _code(self) -> str:
        return code_of(self._values)

    def _scene(self, state: State) -> Scene:
        scene = Scene(
            state.times,
            self.frame,
            _text(state, self._values),
            title="The bound, term by term",
            help="The reverse step from t to t-1, and its term L_{t-1} of the bound",
        )
        _draw_terms(scene, state, self._values)
        _draw_sum(scene, state)
        _draw_weights(scene, state, self._values)
        return scene


# ---- pictures ----------------------------------------------------------------------------------


def _text(state: State, values: dict[str, Any]) -> list[str]:
    """One line for each t."""
    T = state.schedule.T
    total, its = pair(state.terms.total)
    bits = float(bits_per_dim(torch.tensor(total), state.terms.dims))
    end = f"bound {total:.3f} \u00b1 {its:.3f} nats, {bits:.2f} bits/dim"
    if state.exact is not None:
        gap, error = pair(state.terms.total - state.exact)
        end += f"; exact {pair(state.exact)[0]:.3f}, gap {gap:.3f} \u00b1 {error:.3f}"
    shown = shown_of(state, values["weighting"])
    lines = []
    for f, t in enumerate(state.times):
        mean, error = (float(x[f]) for x in shown)
        what = f"L_{t - 1}" if values["weighting"] == "vlb" else "weighted error"
        if t == 1 and what == "L_0" and values["decoder"] == "gaussian":
            what = "L_0 (density)"
        lines.append(f"t = {t} of {T}: {what} = {short(mean)} \u00b1 {error:.2g}; {end}")
    return lines


def _some(error: Tensor) -> Tensor:
    """Only every so-manieth error bar, (T,), NaN between: more would hide the curve."""
    every = math.ceil(len(error) / ERROR_BARS)
    kept = torch.arange(len(error)).flip(0) % every == 0
    return torch.where(kept, error, math.nan)


def _thread(scene: Scene, label: str, y: Tensor) -> dict[str, Any]:
    """A curve over the frames, without the marker at the present one, which would hide another."""
    return scene.series(label, y, torch.arange(len(y)))


def _decades(*curves: Tensor) -> tuple[float, float]:
    """Powers of ten about all positive values: an axis that seldom moves."""
    every = torch.cat([c[c.isfinite() & (c > 0)].double() for c in curves]).tolist() or [1.0]
    low, high = min(every), max(every)
    top = 10.0 ** math.ceil(math.log10(1.2 * high))
    return min(10.0 ** math.floor(math.log10(low)), top / 10), top


def _draw_terms(scene: Scene, state: State, values: dict[str, Any]) -> None:
    weighting = values["weighting"]
    mean, error = shown_of(state, weighting)
    label = "L_{t-1}" if weighting == "vlb" else "weight x ||eps - eps_hat||^2"
    draw: Literal["dots", "line"] = "dots" if len(mean) <= DOTS else "line"
    mean = torch.where(
        mean > 0, mean, math.nan
    )  # L_0 may be negative: the text and the sum tell it
    series = [scene.series(label, mean, draw=draw, error=_some(error))]
    curves = [mean]
    least = least_shown(state, weighting)
    if least is not None:
        series.append(_thread(scene, "least possible", least))
        curves.append(least)
    if state.mine is not None and weighting == "vlb":
        series.append(scene.series("yours", state.mine, draw="dots"))
    low, high = _decades(*curves)
    title = "terms of the bound" if weighting == "vlb" else f"terms of the {weighting} loss"
    unit = "nats" if weighting == "vlb" else ""
    scene.curves(title, series, Axis(low, high, unit, log=True))


def _draw_sum(scene: Scene, state: State) -> None:
    """L_T + L_{T-1} + ... + L_{t-1}, beside what it would be with true reverse steps."""
    so_far = state.rows.cumsum(0) + state.terms.L_T
    mean, error = estimate(so_far)
    series = [scene.series("L_T + ... + L_{t-1}", mean, error=_some(error))]
    curves, levels = [mean], []
    if state.information is not None and state.exact is not None:
        least = estimate(state.information[1:])[0]
        series.append(_thread(scene, "least possible", least))
        gap = estimate(so_far - state.information[1:])
        series.append(scene.series("gap so far", gap[0], draw="area"))
        curves += [least, gap[0]]
        levels = [(pair(state.exact)[0], "-log p, exact")]
    every = torch.cat([c[c.isfinite()] for c in curves]).tolist()
    low, high = min(0.0, *every), max(0.1, *every)
    room = 0.06 * (high - low)
    scene.curves("added up", series, Axis(low - room, high + room, "nats"), levels=levels)


def _draw_weights(scene: Scene, state: State, values: dict[str, Any]) -> None:
    labels = {"vlb": "in the bound", "simple": "L_simple", "min_snr": "min-SNR"}
    curves = {label: factors(name, state) for name, label in labels.items()}
    low, high = _decades(*curves.values())
    if state.mine_weight is not None:
        curves["yours"] = state.mine_weight
    series = [
        scene.series(label, y, draw="dots" if label == "yours" else "line")
        for label, y in curves.items()
    ]
    scene.curves("weight of ||eps - eps_hat||^2", series, Axis(low, high, "", log=True))
