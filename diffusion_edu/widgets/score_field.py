"""ScoreField: the arrows that lead from noise to data, exact and learned."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import toy
from ..prediction import Model
from ..schedules import Schedule
from ..viz.scene import Control, Handle, Scene, pick, slide, slide_seed
from . import datasets
from .denoisers import (
    KNOWN,
    MODELS,
    POINT_NETWORKS,
    denoiser,
    denoiser_code,
    given,
    source,
    with_network,
)
from .explorer import BUDGET, Explorer, nearest, short
from .learner import Learner
from .params import Param, choice, integer, number
from .score_maps import (
    CELLS,
    EVERY,
    Fields,
    Map,
    cells,
    exact_fields,
    network_map,
    network_score,
    oracle_code,
    relative_error,
    ride,
    run_learner,
    thinned,
    walk_code,
)

__all__ = ["ScoreField", "State"]

RIDES = ("ode", "sde", "langevin")
MAX_STEPS = 100
DEPTH = 8.0  # log-densities this far below the highest are the darkest
ERRORS = (-2.5, 0.5)  # log10 of the errors at the ends of the colours
ARROWS = 5  # colour of arrows that is legible on all colours of a map
HELP = {
    "dataset": "The data, whose noisy density is shown",
    "model": "A trained network beside the exact score, or the exact score alone",
    "ride": "ode and sde go from level t down to the data; langevin stays at level t",
    "steps": "How many steps the particle makes",
    "px": "Where the particle is dropped; drag it in the picture too",
    "py": "Where the particle is dropped; drag it in the picture too",
    "seed": "Another seed shakes the particle otherwise (sde and langevin)",
}


@dataclass
class State:
    """What ScoreField computes: ``fields``, and the way of the particle from each level.

    exact, other: (F, steps+1, 2), on the exact score and on the network's (or None); NaN where it
    was not computed because something is being dragged.
    """

    fields: Fields
    exact: Tensor
    other: Tensor | None
    seconds: float  # for one step from every level
    notes: list[dict[str, str]] = field(default_factory=list)
    coarse: bool = False

    @property
    def times(self) -> list[int]:
        """Levels shown."""
        return self.fields.times

    @property
    def schedule(self) -> Schedule:
        """Of the denoiser."""
        return self.fields.schedule


class ScoreField(Explorer):
    r"""The score, the gradient of log q(x_t), at every noise level; and a particle that follows it.

    score(x, t) = -E[eps | x_t = x] / sqrt(1 - alpha_bar_t), Song et al. (2011.13456). The arrows
    are -E[eps | x_t], the score in units of the noise; long ones are shortened, u to u / (1 + u). A
    dropped particle follows the probability-flow ODE (eq. 13; DDIM with eta = 0 solves it), the
    reverse SDE (eq. 6; DDPM) or, at a fixed level, Langevin dynamics (1907.05600, Algorithm 1).

    The exact score is that of a formula ("gaussians"), or of 2,048 points that stand for 131,072 of
    the set: right to a few per cent at the lowest level shown.

    Args:
        model: a shipped network by its data set ("swiss_roll", "moons", "gaussians"), "network" or
            "oracle" (only the exact score) for ``dataset``, the path of a .safetensors file, or any
            callable model(x_t, t) -> eps, t (B,) int64.
        dataset: any toy set.
        px, py: where the particle is dropped, -3.3..3.3.
        ride: "ode", "sde" or "langevin".
        steps: of the particle, 1..100.
        seed: of the noise in "sde" and "langevin".
        t: level shown first; the nearest of ``times`` is taken. None is a middle one.
        schedule: for a callable without a ``schedule`` attribute; default linear with T = 1000.
        score: a function of yours, score(x, t, schedule) -> (B, 2), drawn instead of the learned
            one. t is an int, or a (B,) int64 tensor if your function refuses an int.
        play: start moving at once.

    Attributes ``times`` (F levels, noise first), ``grid`` (2601, 2), ``exact`` and ``learned`` (F,
    2601, 2), the scores there, ``log_density`` (F, 2601), ``error`` (F,), E|learned - exact| /
    E|exact| under q(x_t), ``path`` and ``learned_path`` (F, steps+1, 2), ``mine`` (as learned, or
    None), ``difference``, ``noise_schedule``, ``notes``.

    Raises:
        ValueError: unknown names, values outside their range; also when set later.
    """

    PAGES = {  # noqa: RUF012, typed in the base class
        "ride": RIDES,
        "px": [-2.0, 0.0, 2.0],
        "py": [-2.0, 0.0, 2.0],
    }

    _state: State

    model = Param(choice(lambda: (*MODELS, "yours")), "where the learned score comes from")
    dataset = Param(choice(toy.names), "the data")
    px = Param(number(-datasets.EXTENT, datasets.EXTENT), "where the particle is dropped, across")
    py = Param(number(-datasets.EXTENT, datasets.EXTENT), "where the particle is dropped, up")
    ride = Param(choice(lambda: RIDES), "what the particle follows")
    steps = Param(integer(1, MAX_STEPS), "steps of the particle")
    seed = Param(integer(0, 2**31 - 1), "of the particle's noise")
    t = Param(integer(0, optional=True), "level shown")

    def __init__(
        self,
        model: str | Path | Model = "swiss_roll",
        dataset: str | None = None,
        *,
        px: float = 2.0,
        py: float = 2.0,
        ride: str = "ode",
        steps: int = 30,
        seed: int = 0,
        t: int | None = None,
        schedule: Schedule | None = None,
        score: Callable[..., Tensor] | None = None,
        play: bool = False,
    ) -> None:
        kind, dataset = source(model, dataset)
        self._given = given(model, schedule) if kind == "yours" else None
        self._learner = None if score is None else Learner(score, "score")
        self._known: dict[tuple[str, str], Fields] = {}
        way = {"px": px, "py": py, "ride": ride, "steps": steps, "seed": seed}
        super().__init__(play, model=kind, dataset=dataset, **way, t=t)

    # ---- results ---------------------------------------------------------------------------------

    @property
    def grid(self) -> Tensor:
        """Where the scores are, (2601, 2)."""
        return cells()

    @property
    def exact(self) -> Tensor:
        """The exact score on the grid at every level, (F, 2601, 2)."""
        return self._state.fields.exact.grid

    @property
    def log_density(self) -> Tensor:
        """log q(x_t) on the grid at every level, (F, 2601)."""
        return self._state.fields.log_density

    @property
    def learned(self) -> Tensor | None:
        """The network's score on the grid; None without one, or with a score of yours."""
        return None if self._learner else self._other

    @property
    def mine(self) -> Tensor | None:
        """Your score on the grid, (F, 2601, 2), or None if there is none or it failed."""
        return self._other if self._learner else None

    @property
    def _other(self) -> Tensor | None:
        other = self._state.fields.other
        return None if other is None else other.grid

    @property
    def error(self) -> Tensor | None:
        """E|s - exact| / E|exact| under q(x_t) of the learned score, or yours, at every level."""
        fields = self._state.fields
        return None if fields.other is None else relative_error(fields.other, fields.exact)

    @property
    def difference(self) -> float | None:
        """Largest absolute difference of your score from the exact one, on points of q(x_t)."""
        differences = self._state.fields.differences
        return max(differences) if differences else None

    @property
    def path(self) -> Tensor:
        """The way of the particle on the exact score, from every level, (F, steps+1, 2)."""
        exact: Tensor = self._full().exact
        return exact

    @property
    def learned_path(self) -> Tensor | None:
        """The way of the particle on the network's score, or None without a network."""
        other: Tensor | None = self._full().other
        return other

    # ---- the model -------------------------------------------------------------------------------

    def _compute(self, values: dict[str, Any], coarse: bool) -> State:
        fields = self._fields(values["model"], values["dataset"])
        only = None
        if coarse and self._state.seconds * values["steps"] > BUDGET:
            only = nearest(fields.times, values["t"])  # the level that is being looked at
        start = time.perf_counter()
        network, schedule = self._network(values), fields.schedule
        exact = _ways(fields.oracle, fields.oracle.score, fields, values, only)
        other = None
        if network is not None and self._learner is None:
            other = _ways(network, network_score(network, schedule), fields, values, only)
        seconds = (time.perf_counter() - start) / values["steps"]
        if only is not None:
            seconds = self._state.seconds
        return State(fields, exact, other, seconds, fields.notes, only is not None)

    def _network(self, values: dict[str, Any]) -> Model | None:
        """The network, or None where only the exact score is wanted."""
        return None if values["model"] == "oracle" else denoiser(values, self._given)[0]

    def _fields(self, model: str, dataset: str) -> Fields:
        """Maps of this denoiser and data set, kept: they do not depend on anything else."""
        if (model, dataset) not in self._known:
            network, schedule = denoiser({"model": model, "dataset": dataset}, self._given)
            fields = replace(exact_fields(dataset, schedule), differences=[], notes=[])
            if self._learner is not None:
                run_learner(self._learner, dataset, fields)
            elif model != "oracle":
                fields.other = network_map(network, dataset, schedule, fields.times)
            self._known[model, dataset] = fields
        return self._known[model, dataset]

    def _time(self, t: float | None, state: State) -> float:
        if t is None:
            return state.times[len(state.times) // 2]
        return state.times[nearest(state.times, super()._time(t, state))]

    def _fit(self, values: dict[str, Any]) -> dict[str, Any]:
        """Data without a shipped network get their exact score, and the other way round."""
        asked = {"model": self.model, "dataset": self.dataset} | values
        return values | with_network(values, asked, POINT_NETWORKS)

    def _controls(self, state: State) -> list[Control]:
        v, h, span = self._values, HELP, (-datasets.EXTENT, datasets.EXTENT)
        models = MODELS if self._given is None else ("yours", *MODELS)
        return [
            pick("dataset", "data", v["dataset"], toy.names(), h["dataset"], v["model"] != "yours"),
            pick("model", "score", v["model"], models, h["model"]),
            pick("ride", "particle", v["ride"], RIDES, h["ride"]),
            slide("steps", "steps", v["steps"], (1, MAX_STEPS), h["steps"]),
            slide("px", "particle, across", v["px"], span, h["px"], step=0.02),
            slide("py", "particle, up", v["py"], span, h["py"], step=0.02),
            slide_seed(v["seed"], h["seed"], v["ride"] != "ode"),
        ]

    def _code(self) -> str:
        v = self._values
        seed = datasets.noise_seed(v["seed"], 0)
        chain = denoiser_code(v["model"], v["dataset"])
        if v["model"] == "oracle":
            chain = f"schedule = de.linear({self._state.schedule.T})"
        return (
            f"import torch\nimport diffusion_edu as de\n\n"
            f"{chain}\n{oracle_code(v['dataset'])}\nt = {{t}}\n\n"
            f"x = torch.tensor([[{v['px']!r}, {v['py']!r}]])\n"
            f"score = oracle.score(x, t)\n"
            f"generator = torch.Generator().manual_seed({seed})\n"
            f"{walk_code(v)}"
            f"path = torch.cat([x, *(s.x_s for s in walk)])\n"
        )

    def _scene(self, state: State) -> Scene:
        scene = Scene(
            state.times,
            self.frame,
            _text(state, yours=self._learner is not None),
            title=f"The score of {self.dataset}".replace("_", " "),
            help="Level of noise: T is pure noise, near 0 almost data",
        )
        fields, handle = state.fields, Handle("drag me", "px", "py", (self.px, self.py))
        data = datasets.load(self.dataset, KNOWN, 1)
        grey = scene.frames(data[None], mark="data", groups=[len(data)])
        density = scene.heat(
            _square((fields.log_density - _highest(fields)).clamp(min=-DEPTH)),
            -DEPTH,
            0.0,
            label="log density, highest = 0; long arrows shortened",
        )
        layers = [density, grey, _arrows(scene, fields, fields.exact, ARROWS)]
        layers.append(scene.path(state.exact, colour=1))
        scene.points("exact score", layers, datasets.EXTENT, handles=[handle])
        if fields.other is not None:
            self._draw_other(scene, state, fields.other, grey, handle)
        return scene

    def _draw_other(
        self, scene: Scene, state: State, other: Map, grey: dict[str, Any], handle: Handle
    ) -> None:
        whose = "learned" if self._learner is None else "your"
        layers = [grey, _arrows(scene, state.fields, other, None)]
        if state.other is not None:
            layers.append(scene.path(state.other, colour=1))
        scene.points(f"{whose} score", layers, datasets.EXTENT, handles=[handle])
        error = scene.heat(_errors(state.fields, other), *ERRORS, label="log10 error x noise")
        title = f"error of {whose} score"
        scene.points(title, [error, grey], datasets.EXTENT)


def _ways(
    model: Model,
    score: Callable[[Tensor, int], Tensor],
    fields: Fields,
    values: dict[str, Any],
    only: int | None,
) -> Tensor:
    """The way from every level, or from one; NaN for the others: (F, steps+1, 2)."""
    ways = torch.full((len(fields.times), values["steps"] + 1, 2), math.nan)
    for f, t in enumerate(fields.times):
        if only in (None, f):
            ways[f] = ride(model, score, fields.schedule, t, values)
    return ways


# ---- pictures ----------------------------------------------------------------------------------


def _square(x: Tensor) -> Tensor:
    return x.unflatten(1, (CELLS, CELLS))


def _highest(fields: Fields) -> Tensor:
    return fields.log_density.amax(1, keepdim=True)


def _noise(fields: Fields) -> Tensor:
    """sqrt(1 - alpha_bar) of every level, (F, 1, 1): the score times it is -E[eps | x_t]."""
    return fields.schedule.sqrt_one_minus_alpha_bar[fields.times].float()[:, None, None]


def _arrows(scene: Scene, fields: Fields, scores: Map, colour: int | None) -> dict[str, Any]:
    """Arrows along the score, as long as u / (1 + u) of the room they have, u = |score| noise."""
    eps = _noise(fields) * thinned(scores.grid)
    room = 2 * datasets.EXTENT / CELLS * EVERY
    vectors = room * eps / (1 + eps.norm(dim=2, keepdim=True))
    return scene.arrows(thinned(cells()), vectors, colour=colour)


def _errors(fields: Fields, other: Map) -> Tensor:
    """log10 of |other - exact| noise on the cells, (F, rows, columns)."""
    off = (_noise(fields) * (other.grid - fields.exact.grid)).norm(dim=2)
    return _square(off.log10().clamp(min=ERRORS[0]))


def _text(state: State, yours: bool) -> list[str]:
    """One line for each level."""
    fields, whose = state.fields, "your" if yours else "learned"
    error = None if fields.other is None else relative_error(fields.other, fields.exact)
    lines = []
    for f, t in enumerate(state.times):
        line = f"t = {t} of {fields.schedule.T}, SNR = {short(float(fields.schedule.snr[t]))}"
        if error is not None:
            line += f", {whose} score off by {short(100 * float(error[f]))} % on average"
        x, y = state.exact[f, -1].tolist()
        lines.append(line if math.isnan(x) else f"{line}, particle ends at ({x:.2f}, {y:.2f})")
    return lines
