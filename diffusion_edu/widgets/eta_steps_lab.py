"""EtaStepsLab: how much noise, and how few steps?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from ..data import toy
from ..prediction import Model
from ..schedules import Schedule
from ..spacing import Spacing
from ..viz.scene import Control, Scene, pick, slide, slide_seed
from .denoisers import (
    MODELS,
    POINT_NETWORKS,
    check_steps,
    denoiser,
    denoiser_code,
    given,
    source,
    with_network,
)
from .eta_steps_table import (
    ETAS,
    HAT,
    LABELS,
    METRICS,
    Cell,
    Filling,
    Runs,
    State,
    Tables,
    cell_of,
    columns,
    distance,
    enter,
    floor,
    key_of,
    missing,
    walk_code,
)
from .explorer import BUDGET, Explorer, Pages, nearest, short
from .jobs import Job
from .learner import Learner
from .params import Param, choice, integer, number, small_work
from .reverse import FEWEST, draw_walk, run_learner, thin

__all__ = ["SPACINGS", "EtaStepsLab"]

DRAWN = 400  # points drawn otherwise, about; distances are those of all
SENT = 50  # steps drawn, at most: a saved page has the walks of every cell
MOST_STEPS = 100
SPACINGS: tuple[str, ...] = get_args(Spacing)
HELP = {
    "dataset": "The data aimed at, drawn in grey",
    "model": "A trained network, or the exact answer for some points of this data",
    "eta": "Noise of DDIM: 0 none on the way back, 1 as much as DDPM with beta_tilde",
    "steps": "How many steps from noise to data, for both",
    "spacing": "Which levels the steps visit",
    "metric": "What the table and the line below measure",
    "seed": "Another seed starts from other noise",
}


class EtaStepsLab(Explorer):
    r"""DDIM with any eta and number of steps S, beside DDPM from the same noise; and their table.

    sigma = eta sqrt((1-ab_s)/(1-ab_t)) sqrt(1 - ab_t/ab_s), DDIM (2010.02502) eq. 12 and 16, with
    ab = alpha_bar: 0 is deterministic, 1 is DDPM with beta_tilde. "DDPM" in the picture and the row
    "hat" of the table have sigma^2 = 1 - ab_t/ab_s, which is beta if no level is skipped (DDPM,
    2006.11239, Algorithm 2; sigma-hat in DDIM's Table 1). x_T and the z of every step are drawn
    once for a seed, so that eta, S and the sampler move the same points.

    The table is that of DDIM's Table 1, with distances in the plane instead of FIDs. Cells that
    were looked at are known; the button (or ``fill()``) measures the others in the background, and
    so does a saved page. A click on a cell sets eta and S; on the row "hat" only S.

    Args:
        model: a shipped network by its data set ("swiss_roll", "moons", "gaussians"), "network" or
            "oracle" (the exact denoiser) for ``dataset``, the path of a .safetensors file, or any
            callable model(x_t, t) -> eps, t (B,) int64.
        dataset: any toy set.
        eta: noise of DDIM, 0..1.
        steps: S, 1..T.
        spacing: levels visited, see ``timesteps``: "uniform", "quadratic", "trailing", "leading".
        metric: "sliced_wasserstein", "mmd" (squared) or "energy".
        seed: of x_T and z.
        t: level shown first; None is T, the noise.
        schedule: for a callable without a ``schedule`` attribute; default linear with T = 1000.
        step: a function of yours, step(x_t, t, s, eps, z, eta, schedule) -> x_s, walked from the
            same x_T with the same z and drawn in place of DDPM. t and s are ints, or (B,) int64
            tensors if your function refuses an int.
        n: points sampled, and held-out points they are compared with; about 400 are drawn.
        play: start moving at once.

    Attributes ``frames`` and ``ddpm`` (S+1, n, 2), ``times`` (S+1 levels, T first), ``distances``
    {"ddim", "ddpm", "yours"} to held-out data, ``floor``, ``table`` with ``rows`` (eta, or "hat")
    and ``columns`` (S), ``noise_schedule``, ``mine``, ``difference``, ``notes``.

    Raises:
        ValueError: unknown names, values outside their range; also when set later.
    """

    PAGES = {  # noqa: RUF012, typed in the base class
        "steps": list(columns(MOST_STEPS)),  # first, so that DDPM walks once for all eta
        "eta": [float(eta) for eta in ETAS if eta != HAT],
    }

    _state: State

    model = Param(choice(lambda: (*MODELS, "yours")), "where the predicted noise comes from")
    dataset = Param(choice(toy.names), "data aimed at")
    eta = Param(number(0.0, 1.0), "noise of DDIM")
    steps = Param(integer(1), "number of steps")
    spacing = Param(choice(lambda: SPACINGS), "which levels are visited")
    metric = Param(choice(lambda: tuple(METRICS)), "distance to data")
    seed = Param(integer(0, 2**31 - 1), "of x_T and z")
    t = Param(integer(0, optional=True), "level shown")
    n = Param(integer(10, 5000), "number of points")

    def __init__(
        self,
        model: str | Path | Model = "swiss_roll",
        dataset: str | None = None,
        *,
        eta: float = 0.0,
        steps: int = 10,
        spacing: str = "uniform",
        metric: str = "sliced_wasserstein",
        seed: int = 0,
        t: int | None = 0,
        schedule: Schedule | None = None,
        step: Callable[..., Tensor] | None = None,
        n: int = 1500,
        play: bool = False,
    ) -> None:
        kind, dataset = source(model, dataset)
        self._given = given(model, schedule) if kind == "yours" else None
        self._learner = None if step is None else Learner(step, "step")
        self._runs, self._tables = Runs(), Tables()
        self._filling: tuple[Any, Job] | None = None  # which table
        way = {"eta": eta, "steps": steps, "spacing": spacing, "metric": metric}
        super().__init__(play, model=kind, dataset=dataset, **way, seed=seed, t=t, n=n)

    # ---- results ---------------------------------------------------------------------------------

    @property
    def frames(self) -> Tensor:
        """DDIM's states at every level visited, (S+1, n, 2)."""
        return torch.stack(self._full().ddim.walk.x)

    @property
    def ddpm(self) -> Tensor:
        """DDPM's states at the same levels, (S+1, n, 2)."""
        return torch.stack(self._full().ddpm.walk.x)

    @property
    def mine(self) -> Tensor | None:
        """Frames of your step, or None if there is none or it failed."""
        yours = self._full().yours
        return None if yours is None or yours.mine is None else torch.stack(yours.mine)

    @property
    def difference(self) -> float | None:
        """Largest absolute difference between your frames and DDIM's."""
        mine = self.mine
        return None if mine is None else float((mine - self.frames).abs().max())

    @property
    def distances(self) -> dict[str, float]:
        """From the ends of the walks to held-out data."""
        return dict(self._full().distances)

    @property
    def floor(self) -> tuple[float, float]:
        """Distance between two draws of real data: mean and standard deviation over draws."""
        return self._state.floor

    rows = ETAS

    @property
    def columns(self) -> tuple[int, ...]:
        """What the columns of the table are: numbers of steps."""
        return columns(self._state.schedule.T)

    @property
    def table(self) -> Tensor:
        """Distance to data of every cell, (rows, columns) float64; NaN: not known yet."""
        with self._lock:
            table = self._tables.of(self._values, self._state.schedule.T)
            return table[list(METRICS).index(self.metric)].clone()

    def fill(self) -> Job:
        """Measure the cells not known yet, in the background: ``fill().wait()`` waits for them.

        The sliders stay alive, and what was measured stays if it is cancelled.
        """
        with self._lock:
            values, key = dict(self._values), key_of(self._values)
            if self._filling is not None and self._filling[1].running:
                if self._filling[0] == key:
                    return self._filling[1]
                self._filling[1].cancel()
            both = denoiser(values, self._given)
            table = self._tables.of(values, both[1].T)

            def put(cells: dict[Cell, Tensor]) -> None:
                self._publish(partial(enter, table, cells))

            def work(job: Job) -> None:
                Filling(both, values, missing(table), put, job.step).run()

            self._filling = key, self._start("filling the table", work)
            return self._filling[1]

    # ---- the model -------------------------------------------------------------------------------

    def _compute(self, values: dict[str, Any], coarse: bool) -> State:
        model, schedule = both = denoiser(values, self._given)
        check_steps(values["steps"], schedule)
        stride = self._stride(values) if coarse else 1
        ddim = self._runs.get(both, values, values["eta"], stride)
        ddpm = self._runs.get(both, values, HAT, stride)
        noise = floor(values["dataset"], values["n"], values["metric"])
        state = State(schedule, ddim, ddpm, None, {}, noise, stride=stride, coarse=stride > 1)
        if self._learner is not None:
            state.yours = replace(ddim.walk, mine=None, notes=[])
            ways = {**values, "sampler": "ddim"}
            run_learner(self._learner, model, state.yours, ways, stride, coarse)
            state.notes = state.yours.notes
        if stride == 1:
            self._measure(state, values)
        return state

    def _measure(self, state: State, values: dict[str, Any]) -> None:
        """Distances of the walks; those that are cells of the table are kept for it."""
        of, metric = values["dataset"], values["metric"]
        for name, row, ran in (("ddim", values["eta"], state.ddim), ("ddpm", HAT, state.ddpm)):
            state.distances[name] = ran.distance(of, metric)
            self._tables.note(values, state.schedule.T, row, state.distances[name])
        if state.yours is not None and state.yours.mine is not None:
            end = state.yours.mine[-1]
            if end.isfinite().all():  # else the note says what is wrong
                state.distances["yours"] = distance(end, of, metric)

    def _stride(self, values: dict[str, Any]) -> int:
        """Every how-manieth point to move while dragging, judged by the cost of the last walk."""
        expected = 2 * self._state.ddim.seconds * values["n"] * values["steps"]
        if expected < 2 * BUDGET:  # a little slow is better than points that come and go
            return 1
        least = _every(values["n"])
        most = max(least, values["n"] // FEWEST // least * least)
        return min(math.ceil(expected / BUDGET / least) * least, most)

    def _fit(self, values: dict[str, Any]) -> dict[str, Any]:
        """A click on the row "hat" sets the steps; data without a network get their oracle."""
        values = {k: v for k, v in values.items() if (k, v) != ("eta", HAT)}
        asked = {name: self._values[name] for name in ("model", "dataset", "steps")} | values
        more = with_network(values, asked, POINT_NETWORKS)
        values, asked = values | more, asked | more
        known = asked["model"] in (*MODELS, "yours") and asked["dataset"] in toy.names()
        T = denoiser(asked, self._given)[1].T if known else self._state.schedule.T
        if "steps" in values or asked["steps"] > T:
            values = values | {"steps": min(max(asked["steps"], 1), T)}
        return values

    def _act(self, action: str) -> None:
        if action != "fill":
            super()._act(action)
        self.fill()

    def _pages(
        self,
        step: Callable[[float, str], None] = lambda done, text: None,
        values: dict[str, Sequence[Any]] | None = None,
    ) -> Pages:
        """With all cells: the reader of a page has no button."""
        self._complete(self._values, lambda done, text: step(done / 2, text))
        return super()._pages(lambda done, text: step((1 + done) / 2, text), values)

    def _finish(self) -> None:
        self._complete(self._values)

    def _complete(
        self, values: dict[str, Any], step: Callable[[float, str], None] = lambda done, text: None
    ) -> None:
        """Measure the cells of a table that are not known yet, here and now."""
        both = denoiser(values, self._given)
        table = self._tables.of(values, both[1].T)
        with small_work():
            Filling(both, values, missing(table), partial(enter, table), step).run()

    def _controls(self, state: State) -> list[Control]:
        v, h = self._values, HELP
        models = MODELS if self._given is None else ("yours", *MODELS)
        top = max(min(MOST_STEPS, state.schedule.T), v["steps"])
        return [
            pick("dataset", "data", v["dataset"], toy.names(), h["dataset"], v["model"] != "yours"),
            pick("model", "denoiser", v["model"], models, h["model"]),
            slide("eta", "eta", v["eta"], (0, 1), h["eta"], step=0.01),
            slide("steps", "steps S", v["steps"], (1, top), h["steps"]),
            pick("spacing", "spacing", v["spacing"], SPACINGS, h["spacing"]),
            pick("metric", "distance", v["metric"], tuple(METRICS), h["metric"]),
            slide_seed(v["seed"], h["seed"]),
        ]

    def _code(self) -> str:
        return (
            f"import torch\nimport diffusion_edu as de\n\n"
            f"{denoiser_code(self.model, self.dataset)}\n"
            f"{walk_code(self._values, self._state.schedule.T)}"
        )

    # ---- the picture -----------------------------------------------------------------------------

    def _scene(self, state: State) -> Scene:
        kept = thin(len(state.times), SENT)
        times = [state.times[f] for f in kept]
        scene = Scene(
            times,
            nearest(times, self._values["t"]),
            _text(state, kept, self.eta),
            title=f"Noise and steps on the way to {self.dataset}".replace("_", " "),
            help="Level of noise: T is pure noise, 0 the result",
        )
        every = 1 if state.stride > 1 else _every(self.n)

        def draw(title: str, x: list[Tensor], mark: str = "dot") -> None:
            shown = torch.stack([x[f][::every] for f in kept])
            draw_walk(scene, title, state.ddim.walk.data, shown, None, mark=mark)

        draw(f"DDIM, eta = {self.eta:g}, S = {self.steps}", state.ddim.walk.x)
        if state.yours is not None and state.yours.mine is not None:
            draw(f"yours, S = {self.steps}", state.yours.mine, "cross")
        else:
            draw(f"DDPM (eta = hat), S = {self.steps}", state.ddpm.walk.x)
        self._draw_table(scene, state)
        return scene

    def _draw_table(self, scene: Scene, state: State) -> None:
        T, table = state.schedule.T, self.table
        scene.table(
            f"{LABELS[self.metric]} to data; real data: {short(state.floor[0])}",
            ("eta", ETAS),
            ("steps S", [str(s) for s in columns(T)]),
            table,
            cell_of(self.eta, self.steps, T),
            names=("eta", "steps"),
        )
        left = bool(missing(self._tables.of(self._values, T)))
        text = "Measures the cells not known yet, in the background" if left else "All are known"
        act = {"name": "fill", "label": "Fill the table", "help": text, "enabled": left}
        scene.actions = [act]


def _every(n: int) -> int:
    """Every how-manieth of n points is drawn."""
    return math.ceil(n / DRAWN)


def _text(state: State, kept: list[int], eta: float) -> list[str]:
    """One line for each frame: where it is, and how far the ends of the walks are from data."""
    found = dict(state.distances)
    if "yours" in found:
        del found["ddpm"]  # it is not in the picture
    names = {"ddim": "DDIM", "ddpm": "DDPM", "yours": "yours"}
    ends = "".join(f"{names[name]} {short(d)}, " for name, d in found.items())
    real = f"real {short(state.floor[0])} \u00b1 {state.floor[1]:.1g}"
    where = f"of {len(state.times) - 1}, eta {eta:g}. Distance at t = 0: {ends}{real}"
    return [f"t = {state.times[f]} of {state.schedule.T}, step {f} {where}" for f in kept]
