"""ReverseExplorer: data emerging from noise."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..prediction import Model, batch_time, predict
from ..sampling import Variance, reverse_step, sample
from ..schedules import Schedule
from ..viz.scene import Control, Scene, note, pick, slide, slide_seed
from . import datasets
from .denoisers import (
    KNOWN,
    MODELS,
    SHIPPED,
    check_steps,
    denoiser,
    denoiser_code,
    given,
    source,
)
from .explorer import BUDGET, Explorer, Pages, nearest, short
from .learner import Learner, LearnerError, bad_values, compared
from .params import Param, choice, integer, number

__all__ = ["FEWEST", "ReverseExplorer", "State", "draw_walk", "run_learner", "thin", "walk"]

FEWEST = 200  # points always drawn while dragging
SENT = 200  # frames sent, at most
SAMPLERS = ("ddim", "ddpm", "ddpm_small")
TAIL = 6  # steps that a tail goes back
HELP = {
    "dataset": "The data aimed at, drawn in grey",
    "model": "A trained network, or the exact answer for this data",
    "sampler": "Noise of a step: ddim as eta says, ddpm beta, ddpm small beta_tilde (as eta = 1)",
    "eta": "0: no new noise on the way back; 1: as much as DDPM",
    "steps": "How many steps from noise to data",
    "seed": "Another seed starts from other noise",
    "ghost": "Draw where the model expects each point to end up",
    "tails": "Draw where each point was in the steps before",
}


@dataclass
class State:
    """What ReverseExplorer computes. Frame 0 is the noise, frame F-1 the sample.

    x, x0: (F, n, *D), the state and the data predicted from it; mine as x, or None.
    """

    schedule: Schedule
    times: list[int]
    x: list[Tensor]
    x0: list[Tensor]
    data: Tensor
    mine: list[Tensor] | None = None
    notes: list[dict[str, str]] = field(default_factory=list)
    coarse: bool = False
    seconds: float = 0.0  # for one point and one step


class ReverseExplorer(Explorer):
    """Noise walking back to data in a few steps of DDPM or DDIM (``diffusion_edu.sampling``).

    x_T and the noise z of every step are drawn once for a seed, so that eta, steps and sampler move
    the same points.

    Args:
        model: a shipped network by its data set ("swiss_roll", "moons", "gaussians", "digits"),
            "network" or "oracle" (the exact denoiser) for ``dataset``, the path of a .safetensors
            file of ``diffusion-edu train``, or any callable model(x_t, t) -> eps, t (B,) int64.
        dataset: the data aimed at, drawn in grey; for the oracle any toy set or "digits".
        sampler: "ddim" uses ``eta``; "ddpm" is DDPM Algorithm 2 on the steps taken, sigma^2 = beta;
            "ddpm_small" the same with sigma^2 = beta_tilde.
        eta: 0 is deterministic DDIM, 1 as random as DDPM (DDIM eq. 16).
        steps: number of steps, 1..T.
        seed: of x_T and z.
        t: level shown first; None is T, the noise.
        schedule: for a callable without a ``schedule`` attribute; default linear with T = 1000.
        step: a function of yours, step(x_t, t, s, eps, z, eta, schedule) -> x_s, walked from the
            same x_T with the same z and drawn beside the reference.
        ghost: also draw the data predicted at each step.
        tails: also draw the last steps of each point.
        n: number of points.
        play: start moving at once.

    Attributes ``frames`` (F, n, *D) with F = steps + 1, ``times`` (F levels, T first),
    ``predicted`` (the x_0 predicted at each frame), ``noise_schedule``, ``mine``, ``difference``,
    ``notes``.

    Raises:
        ValueError: unknown names, values outside their range; also when set later.
    """

    _state: State

    model = Param(choice(lambda: (*MODELS, "yours")), "where the predicted noise comes from")
    dataset = Param(choice(datasets.names), "data aimed at")
    sampler = Param(choice(lambda: SAMPLERS), "ddim or ddpm")
    eta = Param(number(0.0, 1.0), "noise of DDIM")
    steps = Param(integer(1), "number of steps")
    seed = Param(integer(0, 2**31 - 1), "of x_T and z")
    t = Param(integer(0, optional=True), "level shown")
    n = Param(integer(1, 20_000), "number of points")
    ghost = Param(choice(lambda: ("off", "on")), "draw the predicted data")
    tails = Param(choice(lambda: ("off", "on")), "draw where points come from")

    PAGES = {"steps": [2, 5, 20], "eta": [0.0, 1.0]}  # noqa: RUF012, typed in the base class

    def __init__(
        self,
        model: str | Path | Model = "swiss_roll",
        dataset: str | None = None,
        *,
        sampler: str = "ddim",
        eta: float = 0.0,
        steps: int = 20,
        seed: int = 0,
        t: int | None = None,
        schedule: Schedule | None = None,
        step: Callable[..., Tensor] | None = None,
        ghost: bool = False,
        tails: bool = False,
        n: int = 2000,
        play: bool = False,
    ) -> None:
        kind, dataset = source(model, dataset)
        self._given = given(model, schedule) if kind == "yours" else None
        self._learner = None if step is None else Learner(step, "step")
        super().__init__(
            play,
            model=kind,
            dataset=dataset,
            sampler=sampler,
            eta=eta,
            steps=steps,
            seed=seed,
            t=t,
            n=n,
            ghost="on" if ghost else "off",
            tails="on" if tails else "off",
        )

    # ---- results ---------------------------------------------------------------------------------

    @property
    def frames(self) -> Tensor:
        """States x at every level visited, (steps+1, n, *D) float32."""
        return torch.stack(self._full().x)

    @property
    def predicted(self) -> Tensor:
        """Data predicted from each frame, (steps+1, n, *D); at t = 0 the sample itself."""
        return torch.stack(self._full().x0)

    @property
    def mine(self) -> Tensor | None:
        """Frames of your step, or None if there is none or it failed."""
        mine = self._full().mine
        return None if mine is None else torch.stack(mine)

    @property
    def difference(self) -> float | None:
        """Largest absolute difference between your frames and the reference."""
        mine = self.mine
        return None if mine is None else float((mine - self.frames).abs().max())

    # ---- the model -------------------------------------------------------------------------------

    def _compute(self, values: dict[str, Any], coarse: bool) -> State:
        model, schedule = denoiser(values, self._given)
        check_steps(values["steps"], schedule)
        data = datasets.load(values["dataset"], KNOWN, 1)
        stride = self._stride(values) if coarse else 1
        start = time.perf_counter()
        state = walk(model, schedule, data, values, stride)
        if self._learner is not None:
            run_learner(self._learner, model, state, values, stride, coarse)
        state.seconds = (time.perf_counter() - start) / len(state.x[0]) / values["steps"]
        state.coarse = stride > 1
        return state

    def _stride(self, values: dict[str, Any]) -> int:
        """Every how-manieth point to move while dragging, judged by the cost of the last run."""
        n = _drawn(values)
        expected = self._state.seconds * n * values["steps"]
        if expected < 2 * BUDGET:  # a little slow is better than points that come and go
            return 1
        return max(1, min(math.ceil(expected / BUDGET), n // FEWEST))

    def _fit(self, values: dict[str, Any]) -> dict[str, Any]:
        top = self._state.schedule.T
        return values | ({"steps": min(max(values["steps"], 1), top)} if "steps" in values else {})

    def _pages(
        self,
        step: Callable[[float, str], None] = lambda done, text: None,
        values: dict[str, Sequence[Any]] | None = None,
    ) -> Pages:
        """A long walk is a large page by itself."""
        if values is None and len(self._state.times) > 60:
            values = {}
        return super()._pages(step, values)

    def _controls(self, state: State) -> list[Control]:
        v, h = self._values, HELP
        here = (name for name in SHIPPED if name in datasets.names())
        sets = dict.fromkeys((*here, v["dataset"]))
        models = MODELS if self._given is None else ("yours", *MODELS)
        top = max(100, v["steps"])
        return [
            pick("dataset", "data", v["dataset"], [*sets], h["dataset"], v["model"] != "yours"),
            pick("model", "denoiser", v["model"], models, h["model"]),
            pick("sampler", "sampler", v["sampler"], SAMPLERS, h["sampler"]),
            slide("eta", "eta", v["eta"], (0, 1), h["eta"], v["sampler"] == "ddim", step=0.01),
            slide("steps", "steps", v["steps"], (1, top), h["steps"]),
            slide_seed(v["seed"], h["seed"]),
            pick("ghost", "prediction", v["ghost"], ("off", "on"), h["ghost"]),
            pick("tails", "tails", v["tails"], ("off", "on"), h["tails"]),
        ]

    def _code(self) -> str:
        v = self._values
        shape, first = tuple(self._state.x[0].shape), datasets.noise_seed(v["seed"], 0)
        how = {"ddim": f"eta={v['eta']:g}", "ddpm": "variance='large'", "ddpm_small": "eta=1"}
        return (
            f"import torch\nimport diffusion_edu as de\n\n"
            f"{denoiser_code(v['model'], v['dataset'])}\n"
            f"def z(k, shape):\n"
            f"    g = torch.Generator().manual_seed({first} + k)\n"
            f"    return torch.randn(shape, generator=g)\n\n"
            f"steps = list(de.sample(\n"
            f"    model, z(0, {shape}), schedule, {v['steps']}, {how[v['sampler']]},\n"
            f"    noise=lambda i, like: z(i + 1, like.shape),\n))\n"
            "x_t = {s.t: s.x_t for s in steps}.get({t}, steps[-1].x_s)\n"
        )

    def _scene(self, state: State) -> Scene:
        kept = thin(len(state.times), SENT)
        times = [state.times[f] for f in kept]
        scene = Scene(
            times,
            nearest(times, self._values["t"]),
            _text(state, kept),
            title=f"From noise to {self.dataset}".replace("_", " "),
            help="Level of noise: T is pure noise, 0 the result",
        )
        x, x0 = (torch.stack([every[f] for f in kept]) for every in (state.x, state.x0))
        tail = TAIL if self.tails == "on" else 0
        title = self.sampler.replace("_", " ").upper()
        draw_walk(scene, title, state.data, x, x0 if self.ghost == "on" else None, tail=tail)
        if state.mine is not None:
            mine = torch.stack([state.mine[f] for f in kept])
            draw_walk(scene, "yours", state.data, mine, None, mark="cross", tail=tail)
        return scene


def _drawn(values: dict[str, Any]) -> int:
    """How many points or images are moved: few where the network is slow."""
    most = {"digits": datasets.GRID, "mnist": 9}
    return min(values["n"], most.get(values["dataset"], values["n"]))


def _noise_of(values: dict[str, Any]) -> tuple[float, Variance]:
    """eta and variance of the sampler: see ``sampling.reverse_step``."""
    eta = float(values["eta"]) if values["sampler"] == "ddim" else 1.0
    return eta, "large" if values["sampler"] == "ddpm" else "eta"


def walk(
    model: Model, schedule: Schedule, data: Tensor, values: dict[str, Any], stride: int
) -> State:
    """One trajectory from noise to data. With ``stride`` k only every k-th point of it is moved."""
    size = (_drawn(values), *data.shape[1:])

    def draw(i: int, like: Tensor) -> Tensor:
        return datasets.noise(size, values["seed"], i + 1)[::stride]

    x, (eta, variance) = datasets.noise(size, values["seed"], 0)[::stride], _noise_of(values)
    state = State(schedule, [schedule.T], [x], [], data)
    steps = sample(
        model,
        x,
        schedule,
        values["steps"],
        eta=eta,
        variance=variance,
        noise=draw,
    )
    for s in steps:
        state.times.append(s.s)
        state.x.append(s.x_s)
        state.x0.append(s.x0)
    state.x0.append(state.x[-1])
    return state


def run_learner(
    learner: Learner,
    model: Model,
    state: State,
    values: dict[str, Any],
    stride: int,
    hurry: bool,
) -> None:
    """Walk with the learner's step: fill ``mine`` and ``notes``; NaN where time was too short.

    Each step is judged from where the learner stands: roundings grow along a walk.
    """
    mine, times, off = [state.x[0]], state.times, [(0.0, True)]
    n, (eta, variance) = _drawn(values), _noise_of(values)

    def ready(i: int) -> tuple[Tensor, Tensor, Tensor]:
        x, t, s = mine[-1], times[i], times[i + 1]
        z = datasets.noise((n, *x.shape[1:]), values["seed"], i + 1)[::stride]
        eps = model(x, batch_time(t, x))
        x0 = predict("eps", eps, x, t, state.schedule).x0
        return eps, z, reverse_step(x0, eps, t, s, state.schedule, eta=eta, variance=variance, z=z)

    def call(i: int, given: tuple[Tensor, Tensor, Tensor]) -> None:
        x, (eps, z, exact) = mine[-1], given
        mine.append(learner(x, x, times[i], times[i + 1], eps, z, eta, state.schedule))
        off.append(_off(mine[-1], exact))

    try:
        late = learner.each(range(len(times) - 1), ready, call, hurry)
    except LearnerError as error:
        t, s = times[len(mine) - 1 : len(mine) + 1]
        state.notes = [note("error", f"At the step from t = {t} to {s}: {error}")]
        return
    bad = late or bad_values(torch.stack(mine), times, learner)
    worst = max(range(len(off)), key=off.__getitem__)
    where = f"the step to t = {times[worst]}" if worst else ""
    text = bad or compared(learner.role, all(near for _, near in off), off[worst][0], where)
    state.notes = [note("error" if bad else "info", text)]
    missing = len(times) - len(mine)
    state.mine = mine + [torch.full_like(state.x[0], math.nan)] * missing


def _off(x: Tensor, exact: Tensor) -> tuple[float, bool]:
    """The largest difference, and whether rounding explains it."""
    difference = float((x - exact).abs().max())
    return difference, difference < 1e-4 * max(1.0, float(exact.abs().max()))


def thin(frames: int, most: int) -> list[int]:
    """Indices of at most ``most`` + 1 frames, first and last among them."""
    shown = min(frames - 1, most)
    return [round(i * (frames - 1) / shown) for i in range(shown + 1)]


def _text(state: State, kept: list[int]) -> list[str]:
    steps, T = len(state.times) - 1, state.schedule.T
    lines = []
    for f in kept:
        t, spread = state.times[f], float(state.x[f].double().var(0, correction=0).mean())
        snr = short(float(state.schedule.snr[t]))
        lines.append(f"t = {t} of {T}, step {f} of {steps}, SNR = {snr}, variance {spread:.2f}")
    return lines


def draw_walk(
    scene: Scene,
    title: str,
    data: Tensor,
    x: Tensor,
    aim: Tensor | None,
    mark: str = "dot",
    tail: int = 0,
) -> None:
    """A panel with the walk x (F, n, *D), over the data and the predictions ``aim`` if given."""
    if x.ndim > 3:
        scene.images(title, scene.frames(x, bits=8), x.shape[1:])
        if aim is not None:
            scene.images("prediction", scene.frames(aim.clamp(-1, 1), bits=8), x.shape[1:])
        return
    order, ends = datasets.by_colour(x[0])
    layers = [scene.frames(data[None], mark="data", groups=[len(data)])]
    if aim is not None:
        layers.append(scene.frames(aim[:, order], mark="ghost", groups=ends))
    layers.append(scene.frames(x[:, order], mark=mark, groups=ends, tail=tail))
    scene.points(title, layers, datasets.EXTENT, pick=True)
