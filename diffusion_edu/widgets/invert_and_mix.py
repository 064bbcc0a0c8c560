"""InvertAndMix: from data to latents and back, and what lies between two latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..prediction import Model
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
    with_network,
)
from .explorer import Explorer, Pages, nearest
from .invert_paths import (
    AT_ONCE,
    CURVE,
    MIXES,
    REACH,
    State,
    Trips,
    lambdas,
    measure_all,
    run_invert,
    run_slerp,
    travel,
)
from .invert_pictures import draw_errors, draw_images, draw_planes, texts
from .learner import Learner
from .params import Param, choice, integer, number

__all__ = ["InvertAndMix"]

BUDGET = 0.15  # seconds that the ways may take while something is dragged
NETWORKS = tuple(name for name in SHIPPED if name in datasets.always())
KEPT = 8  # data sets whose round trips are remembered
MEASURE = "round trips"
HELP = {
    "dataset": "The data, of which A and B are two",
    "model": "A trained network, or the exact answer for this data",
    "steps": "Number of steps S, of the way to the latents and of the way back",
    "mix": "slerp keeps the length that both latents have, lerp goes straight and is shorter",
    "ax": "Where A is; drag it in the picture too",
    "ay": "Where A is; drag it in the picture too",
    "bx": "Where B is; drag it in the picture too",
    "by": "Where B is; drag it in the picture too",
    "a": "Which image is A",
    "b": "Which image is B",
    "seed": "Another seed takes other examples of the data",
}


class InvertAndMix(Explorer):
    r"""What determinism buys: data have latents, and between two latents lies more data.

    With eta = 0 the reverse process is a map x_T -> x_0 that runs upwards as well, DDIM
    (2010.02502) eq. 14: x_0 -> x_T -> x_0' returns to x_0 but for the error of S steps, which falls
    like 1/S (sec. 5.4). Latents are mixed by slerp (eq. 67), which keeps the length that both have
    (nearly opposite ones of unequal lengths make it swing far out), and decoded (sec. 5.3).
    Crosses: the same latent decoded in 10, 20 and 50 steps lands nearly at the same place (sec.
    5.2).

    Args:
        model: a shipped network by its data set ("swiss_roll", "moons", "gaussians", "digits"),
            "network" or "oracle" (the exact denoiser) for ``dataset``, the path of a .safetensors
            file, or any callable model(x_t, t) -> eps, t (B,) int64.
        dataset: for the oracle any toy set or "digits".
        steps: S, of both ways, 1..T.
        mix: "slerp" or "lerp".
        ax, ay, bx, by: the points A and B, -2.6..2.6.
        a, b: the images A and B, 0..63.
        seed: of the examples shown, and of those that make round trips.
        t: lambda shown first, 0 (A) to 1 (B); the nearest of ``times`` is taken.
        schedule: for a callable without a ``schedule`` attribute; default linear with T = 1000.
        slerp: a function of yours, slerp(a, b, lam) -> (B, *D), a and b (B, *D), lam a number;
            its path is drawn beside the reference.
        invert: a function of yours, invert(model, x0, taus, schedule) -> x_T (B, *D), taus the
            levels from T down to 0; its latents of A and B are drawn as crosses.
        play: start moving at once.

    Attributes ``ends``, ``latents`` and ``back`` (2, *D): A and B, their x_T, their x_0'; ``mixed``
    and ``path`` (F, *D): the latent of each lambda and what it decodes to; ``again`` {S: as path};
    ``errors`` {S: root mean square of |x_0 - x_0'|, of pixels for images}; ``times`` (F lambdas),
    ``mine`` (as path), ``mine_mixed``, ``mine_latents``, ``difference``, ``noise_schedule``,
    ``notes``.

    Raises:
        ValueError: unknown names, values outside their range; also when set later.
    """

    PAGES = {  # noqa: RUF012, typed in the base class
        "steps": [2, 5, 20, 100],
        "mix": MIXES,
        "bx": [-1.4, 0.9, 1.4],
        "by": [-0.6, 0.6],
    }

    _IMAGE_PAGES = {"steps": [2, 20], "mix": MIXES, "b": [1, 2, 3]}  # noqa: RUF012

    _state: State

    model = Param(choice(lambda: (*MODELS, "yours")), "where the predicted noise comes from")
    dataset = Param(choice(datasets.always), "the data")
    steps = Param(integer(1), "number of steps S of each way")
    mix = Param(choice(lambda: MIXES), "how latents are mixed")
    ax = Param(number(-REACH, REACH), "the point A, across")
    ay = Param(number(-REACH, REACH), "the point A, up")
    bx = Param(number(-REACH, REACH), "the point B, across")
    by = Param(number(-REACH, REACH), "the point B, up")
    a = Param(integer(0, datasets.GRID - 1), "the image A")
    b = Param(integer(0, datasets.GRID - 1), "the image B")
    seed = Param(integer(0, 2**31 - 1), "of the examples")
    t = Param(number(0.0, 1.0, optional=True), "lambda shown")

    def __init__(
        self,
        model: str | Path | Model = "swiss_roll",
        dataset: str | None = None,
        *,
        steps: int = 20,
        mix: str = "slerp",
        ax: float = -1.3,
        ay: float = -1.1,
        bx: float = 1.4,
        by: float = -0.6,
        a: int = 0,
        b: int = 1,
        seed: int = 0,
        t: float | None = 0.5,
        schedule: Schedule | None = None,
        slerp: Callable[..., Tensor] | None = None,
        invert: Callable[..., Tensor] | None = None,
        play: bool = False,
    ) -> None:
        kind, dataset = source(model, dataset)
        self._given = given(model, schedule) if kind == "yours" else None
        self._slerp = None if slerp is None else Learner(slerp, "slerp")
        self._invert = None if invert is None else Learner(invert, "invert")
        self._known: dict[tuple[Any, ...], Trips] = {}
        places = {"ax": ax, "ay": ay, "bx": bx, "by": by, "a": a, "b": b}
        how = {"steps": steps, "mix": mix, "seed": seed}
        super().__init__(play, model=kind, dataset=dataset, **how, **places, t=t)

    # ---- results ---------------------------------------------------------------------------------

    @property
    def ends(self) -> Tensor:
        """A and B, (2, *D)."""
        ends: Tensor = self._full().ends
        return ends

    @property
    def latents(self) -> Tensor:
        """x_T of A and of B, (2, *D)."""
        latents: Tensor = self._full().latents
        return latents

    @property
    def back(self) -> Tensor:
        """What the latents of A and B decode to, (2, *D)."""
        return self.path[[0, -1]]

    @property
    def mixed(self) -> Tensor:
        """The latent at each lambda, (F, *D)."""
        mixed: Tensor = self._full().mixed
        return mixed

    @property
    def path(self) -> Tensor:
        """What the latent of each lambda decodes to in S steps, (F, *D)."""
        path: Tensor = self._full().path
        return path

    @property
    def again(self) -> dict[int, Tensor]:
        """The latents decoded in other numbers of steps, {S: (F, 2)}; of points only."""
        return dict(self._full().again)

    @property
    def errors(self) -> dict[int, float]:
        """Root mean square of the error of the round trips measured so far, {S: error}."""
        curve = self._full().curve
        return {} if curve is None else dict(zip(curve[0].tolist(), curve[1].tolist(), strict=True))

    @property
    def mine(self) -> Tensor | None:
        """What the latents of your slerp decode to, (F, *D), or None."""
        mine: Tensor | None = self._full().mine
        return mine

    @property
    def mine_mixed(self) -> Tensor | None:
        """Latents of your slerp between those of A and B, (F, *D), or None."""
        mine: Tensor | None = self._full().mine_mixed
        return mine

    @property
    def mine_latents(self) -> Tensor | None:
        """Latents of A and B by your invert, (2, *D), or None."""
        mine: Tensor | None = self._full().mine_latents
        return mine

    @property
    def difference(self) -> float | None:
        """Largest absolute difference of your functions from the library's, also on other pairs."""
        difference: float | None = self._full().difference
        return difference

    # ---- the model -------------------------------------------------------------------------------

    def _compute(self, values: dict[str, Any], coarse: bool) -> State:
        model, schedule = denoiser(values, self._given)
        check_steps(values["steps"], schedule)
        trips = self._trips(values)
        steps, some = self._plan(values, trips.data.ndim > 2, coarse)
        ends = _chosen(values, trips.data)
        state = travel(model, schedule, trips, ends, steps, values["mix"], some)
        if len(some) < len(state.times):
            state.coarse, state.seconds = True, self._state.seconds
        self._measure(values, model, state, coarse)
        if values["model"] == "oracle" and values["dataset"] != "gaussians":
            text = "the way back ends near one of them, and the error does not vanish"
            text = f"This exact denoiser knows only a finite set of examples: {text}"
            state.notes.append(note("info", text))
        if self._slerp is not None:
            run_slerp(self._slerp, model, state, coarse)
        if self._invert is not None:
            run_invert(self._invert, model, state, coarse)
        return state

    def _trips(self, values: dict[str, Any]) -> Trips:
        """Round trips of this denoiser and data, kept: they do not depend on A, B and the mix."""
        key = tuple(values[name] for name in ("model", "dataset", "seed"))
        if key not in self._known:
            data = datasets.load(values["dataset"], KNOWN, values["seed"])
            self._known[key] = Trips(data)
            for old in list(self._known)[:-KEPT]:
                del self._known[old]
        return self._known[key]

    def _plan(self, values: dict[str, Any], images: bool, coarse: bool) -> tuple[int, list[int]]:
        """Steps made and frames computed: fewer of both while dragging, if all would take long."""
        lams, steps = lambdas(images), values["steps"]
        every = list(range(len(lams)))
        if not coarse or self._state.seconds * steps < BUDGET:
            return steps, every
        fit = max(1, int(2 * BUDGET / self._state.seconds))  # fewer frames cost about half
        return min(steps, fit), sorted({0, nearest(lams, values["t"]), every[-1]})

    def _measure(self, values: dict[str, Any], model: Model, state: State, coarse: bool) -> None:
        """Round trips at the number of steps shown and, unless dragging, at those of the curve."""
        trips, steps = state.trips, values["steps"]
        if not (coarse and (state.images or state.coarse)):
            now = AT_ONCE if state.images else (*CURVE, steps)
            wanted = (steps,) if coarse else now
            trips.fill(model, state.schedule, wanted)
        if coarse and CURVE[0] not in trips.known:
            state.curve, state.coarse = self._state.curve, True
        else:
            state.curve = trips.curve(steps)

    def _time(self, t: float | None, state: State) -> float:
        checked = 0.5 if t is None else super()._time(t, state)
        return state.times[nearest(state.times, checked)]

    def _fit(self, values: dict[str, Any]) -> dict[str, Any]:
        """Data without a shipped network get the exact denoiser, and the other way round."""
        if "steps" in values:
            top = self._state.schedule.T
            values = values | {"steps": min(max(values["steps"], 1), top)}
        asked = {"model": self.model, "dataset": self.dataset} | values
        return values | with_network(values, asked, NETWORKS)

    def _act(self, action: str) -> None:
        """Measure the round trips that are missing, in a thread."""
        if action != "measure":
            super()._act(action)
        if any(job.label == MEASURE for job in self._jobs.values()):
            return
        trips, (model, schedule) = self._state.trips, denoiser(self._values, self._given)

        def done(steps: int, trip: tuple[Tensor, Tensor]) -> None:
            trips.known[steps] = trip
            if self._state.trips is trips:
                self._state.curve = trips.curve(self.steps)

        def tell(steps: int, trip: tuple[Tensor, Tensor]) -> None:
            self._publish(lambda: done(steps, trip))

        self._start(MEASURE, lambda job: measure_all(model, schedule, trips, job.step, tell))

    def _pages(
        self,
        step: Callable[[float, str], None] = lambda done, text: None,
        values: dict[str, Sequence[Any]] | None = None,
    ) -> Pages:
        return super()._pages(step, values or (self._IMAGE_PAGES if self._state.images else None))

    def _controls(self, state: State) -> list[Control]:
        v, h, span = self._values, HELP, (-REACH, REACH)
        sets = dict.fromkeys((*NETWORKS, v["dataset"]))
        models = MODELS if self._given is None else ("yours", *MODELS)
        points, top = not state.images, min(state.schedule.T, max(100, v["steps"]))
        places = {"ax": "A, across", "ay": "A, up", "bx": "B, across", "by": "B, up"}
        which = {"a": "image A", "b": "image B"}
        return [
            slide("steps", "steps S", v["steps"], (1, top), h["steps"]),
            pick("mix", "mix", v["mix"], MIXES, h["mix"]),
            *(slide(n, text, v[n], span, h[n], points, 0.02) for n, text in places.items()),
            *(
                slide(n, text, v[n], (0, datasets.GRID - 1), h[n], state.images)
                for n, text in which.items()
            ),
            pick("dataset", "data", v["dataset"], [*sets], h["dataset"], v["model"] != "yours"),
            pick("model", "denoiser", v["model"], models, h["model"]),
            slide_seed(v["seed"], h["seed"]),
        ]

    def _code(self) -> str:
        v = self._values
        a, b = f"[{v['ax']!r}, {v['ay']!r}]", f"[{v['bx']!r}, {v['by']!r}]"
        pair = f"x0 = torch.tensor([{a}, {b}])"
        if self._state.images:
            images = datasets.code(v["dataset"], datasets.GRID, v["seed"])
            pair = f"{images}\nx0 = x0[[{v['a']}, {v['b']}]]"
        blend = "de.slerp" if v["mix"] == "slerp" else "torch.lerp"
        return (
            f"import torch\nimport diffusion_edu as de\n\n"
            f"{denoiser_code(v['model'], v['dataset'])}\n"
            f"{pair}\n\n"
            f"*_, end = de.invert(model, x0, schedule, {v['steps']})\n"
            f"a, b = end.x_s.split(1)\n"
            f"latent = {blend}(a, b, {{t}})\n"
            f"mix = de.ddim(model, latent, schedule, {v['steps']})\n"
            f"back = de.reconstruct(model, x0, schedule, {v['steps']})\n"
        )

    def _scene(self, state: State) -> Scene:
        scene = Scene(
            state.times,
            self.frame,
            texts(state),
            label="\u03bb",
            title=f"Between two latents of {self.dataset}".replace("_", " "),
            help="0 is A, 1 is B, between them the mix",
        )
        if state.images:
            draw_images(scene, state)
            busy = any(job.label == MEASURE for job in self._jobs.values())
            wanted = bool(state.trips.missing(state.schedule))
            help = "Round trips in 50 and 100 steps, which take some seconds"
            button = {"name": "measure", "label": "Measure 50 and 100 steps", "help": help}
            scene.actions = [button | {"enabled": wanted and not busy}]
        else:
            draw_planes(scene, state, self.mix)
        draw_errors(scene, state, self.steps)
        return scene


def _chosen(values: dict[str, Any], data: Tensor) -> Tensor:
    """A and B, (2, *D)."""
    if data.ndim > 2:
        return data[[values["a"], values["b"]]]
    return torch.tensor([[values["ax"], values["ay"]], [values["bx"], values["by"]]])
