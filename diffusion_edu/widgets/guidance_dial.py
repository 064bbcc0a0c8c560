"""GuidanceDial: classifier-free guidance, diversity against fidelity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data import images
from ..evaluation.features import crop
from ..schedules import Schedule
from ..viz.scene import Axis, Control, Handle, Scene, pick, slide, slide_seed
from . import datasets
from .explorer import Explorer, Pages
from .guidance_scores import (
    GUIDANCES,
    MEASURED,
    SHIPPED,
    Curve,
    Network,
    State,
    Walk,
    classes_asked,
    given,
    lines_of_text,
    measure,
    network,
    picture,
    real_spread,
    walk,
)
from .guidance_yours import run_learner
from .jobs import Job
from .learner import Learner
from .params import Param, choice, integer, number, small_work

__all__ = ["GuidanceDial"]

BUDGET = 0.2  # seconds for the walk while a slider is dragged
FEWEST = 4  # steps of such a walk, at least: fewer change the images more than guidance does
MAX_GUIDANCE, MAX_STEPS = 5.0, 50
LABELS = ("all", *map(str, range(10)), "any")
HELP = {
    "model": "The network that draws: digits of 8 x 8 pixels, or MNIST, which takes longer",
    "label": "The class asked for: all ten, a single one, or any (none is asked for)",
    "guidance": "0: no class; 1: the class as learned; above: pushed towards the class",
    "eta": "0: no new noise on the way back (DDIM); 1: as much as DDPM",
    "steps": "How many steps from noise to image",
    "seed": "Another seed starts from other noise",
    "measure": f"Draw {MEASURED} images at each of {len(GUIDANCES)} guidances and judge them: "
    "some seconds; with MNIST about a minute",
}


def _label(name: str, value: Any) -> str:
    """Check of a class: an int is as good as its digit."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return str(choice(lambda: LABELS)(name, str(value) if whole else value))


class GuidanceDial(Explorer):
    r"""How much should the class weigh? Sharper images at the price of variety.

    Classifier-free guidance (2207.12598) eq. 6, with guidance = w + 1:

        eps = eps(x_t, t) + guidance (eps(x_t, t, y) - eps(x_t, t))

    The same noise is walked to images with and without guidance, so that turning the dial changes
    the same images. A classifier that was trained apart reads the x0 predicted at every level:
    images it does not read as the class asked for are underlined. Fidelity is the share read
    as asked; diversity is the mean distance of two images of a class in the classifier's features,
    relative to that of real images. The button measures both as functions of guidance.

    Args:
        model: "digits", "mnist", the path of a .safetensors file of ``diffusion-edu train``, or any
            callable model(x_t, t, y) -> eps with y (B,) int64 or None.
        label: class asked for, 0..9; "all" puts the ten side by side; "any" asks for none.
        guidance: 0 (no class) .. 5; 1 is the network as it is.
        eta: 0 is deterministic DDIM, 1 as random as DDPM (2010.02502 eq. 16).
        steps: 1..50.
        seed: of x_T and the noise of every step.
        t: level shown first; None is 0, the images.
        dataset: of a callable: it takes and gives images like the shipped network of that name.
        schedule: of a callable without a ``schedule`` attribute; default that of ``dataset``.
        cfg_eps: a function of yours, cfg_eps(eps_cond, eps_uncond, w) -> eps with w = guidance as
            above, walked from the same noise and drawn beside the reference.
        play: start moving at once.
        curves: False: a page has no measured curves, and leaves them to be guessed.

    Attributes ``frames`` (F, n, C, H, W) with F = steps + 1, ``unguided`` (the same at guidance 1),
    ``times`` (F levels, T first), ``images`` (n, C, H, W) uint8, ``asked`` (n,) or None, ``seen``
    (F, n), the class read from each image, ``fidelity`` and ``diversity`` (F,), ``curve`` (what was
    measured), ``mine``, ``difference``, ``noise_schedule``, ``notes``.

    Raises:
        ValueError: unknown names, values outside their range; also when set later.
    """

    PAGES = {  # noqa: RUF012, typed in the base class
        "guidance": [0.0, 1.0, 2.0, 3.0, 5.0],
        "label": ["all", "3", "8"],
    }

    _state: State

    model = Param(choice(lambda: (*SHIPPED, "yours")), "the network that draws")
    label = Param(_label, "class asked for")
    guidance = Param(number(0.0, MAX_GUIDANCE), "weight of the class")
    eta = Param(number(0.0, 1.0), "noise of DDIM")
    steps = Param(integer(1, MAX_STEPS), "number of steps")
    seed = Param(integer(0, 2**31 - 1), "of x_T and z")
    t = Param(integer(0, optional=True), "level shown")

    def __init__(
        self,
        model: str | Path | Callable[..., Tensor] = "digits",
        *,
        label: str | int = "all",
        guidance: float = 3.0,
        eta: float = 0.0,
        steps: int = 10,
        seed: int = 0,
        t: int | None = None,
        dataset: str = "digits",
        schedule: Schedule | None = None,
        cfg_eps: Callable[..., Tensor] | None = None,
        play: bool = False,
        curves: bool = True,
    ) -> None:
        named = isinstance(model, str) and model in SHIPPED
        self._given = None if named else given(model, schedule, dataset)
        self._learner = None if cfg_eps is None else Learner(cfg_eps, "cfg_eps")
        self._curves: dict[tuple[Any, ...], Curve] = {}
        self._busy = False
        self._on_pages = curves
        kind = model if named else "yours"
        how = {"label": label, "guidance": guidance, "eta": eta, "steps": steps, "seed": seed}
        super().__init__(play, model=kind, **how, t=t)

    # ---- results ---------------------------------------------------------------------------------

    @property
    def frames(self) -> Tensor:
        """The grid at every level, as the network sees it, (steps+1, n, C, H, W)."""
        return self._way.x

    @property
    def _way(self) -> Walk:
        way: Walk = self._full().shown
        return way

    @property
    def unguided(self) -> Tensor:
        """The same at guidance 1."""
        x: Tensor = self._full().unguided.x
        return x

    @property
    def images(self) -> Tensor:
        """The result, (n, C, H, W) uint8, without the network's padding."""
        return images.to_uint8(crop(self.frames[-1], self._state.net.pad))

    @property
    def asked(self) -> Tensor | None:
        """The class asked of each image, (n,) int64, or None."""
        return self._state.asked

    @property
    def seen(self) -> Tensor:
        """The class that the classifier reads from the x0 predicted at each level, (F, n)."""
        return self._way.seen

    @property
    def fidelity(self) -> Tensor:
        """Share of the grid read as asked, at each level, (F,); NaN if nothing is asked."""
        fidelity: Tensor = self._full().fidelity
        return fidelity

    @property
    def diversity(self) -> Tensor:
        """Spread within a class relative to real data, at each level, (F,)."""
        diversity: Tensor = self._full().diversity
        return diversity

    @property
    def curve(self) -> Curve:
        """What was measured for this network, eta and steps, at ``GUIDANCES``."""
        v = self._values
        key = v["model"], v["eta"], v["steps"]
        return self._curves.setdefault(key, Curve.empty(self._state.net.space.classes))

    @property
    def mine(self) -> Tensor | None:
        """The grid at every level with your cfg_eps, or None if there is none or it failed."""
        mine: Tensor | None = self._full().mine
        return mine

    @property
    def difference(self) -> float | None:
        """Largest absolute difference between your grid and the reference."""
        mine = self.mine
        return None if mine is None else float((mine - self.frames).abs().max())

    # ---- the model -------------------------------------------------------------------------------

    def _network(self, name: str) -> Network:
        return self._given if name == "yours" and self._given is not None else network(name)

    def _compute(self, values: dict[str, Any], coarse: bool) -> State:
        net = self._network(values["model"])
        steps = min(values["steps"], self._affordable()) if coarse else values["steps"]
        how = values["eta"], steps, values["seed"]
        shown = walk(net, values["label"], values["guidance"], *how)
        # "any" is compared with all classes: the same noise, told where to go.
        label = "all" if values["label"] == "any" else values["label"]
        unguided = walk(net, label, 1.0, *how)
        state = State(net, shown, unguided, classes_asked(net, values["label"], net.n))
        if self._learner is not None:
            run_learner(self._learner, state, values, coarse)
        state.coarse = steps < values["steps"]
        return state

    def _affordable(self) -> int:
        """Steps while dragging, judged by the cost of the last walk."""
        pace = self._state.shown.pace * (1 if self._learner is None else 2)
        return max(FEWEST, int(BUDGET / pace))

    def _time(self, t: float | None, state: State) -> float:
        return state.times[-1] if t is None else super()._time(t, state)

    def _controls(self, state: State) -> list[Control]:
        v, h = self._values, HELP
        models = SHIPPED if self._given is None else ("yours", *SHIPPED)
        asked, span = v["label"] != "any", (0, MAX_GUIDANCE)
        return [
            slide("guidance", "guidance", v["guidance"], span, h["guidance"], asked, step=0.05),
            pick("label", "class", v["label"], LABELS, h["label"]),
            pick("model", "network", v["model"], models, h["model"]),
            slide("steps", "steps", v["steps"], (1, MAX_STEPS), h["steps"]),
            slide("eta", "eta", v["eta"], (0, 1), h["eta"], step=0.01),
            slide_seed(v["seed"], h["seed"]),
        ]

    # ---- measuring -------------------------------------------------------------------------------

    def measure(self) -> Job:
        """Fill ``curve`` in the background; ``.wait()`` on what is returned, or ``.cancel()`` it.

        What is measured already stays: measuring again goes on with the rest.
        """
        self._busy = True

        def work(job: Job) -> None:
            try:
                self._fill(job.step)
            finally:
                self._publish(lambda: setattr(self, "_busy", False))

        return self._start("measuring", work)

    def _fill(self, tell: Callable[[float, str], None]) -> None:
        """Measure what is missing in the curve; it is shown as it grows."""
        with self._lock:
            curve, net, how = self.curve, self._state.net, (self.eta, self.steps)
        missing = curve.missing
        for k, i in enumerate(missing):

            def progress(done: float, k: int = k, i: int = i) -> None:
                text = f"guidance {GUIDANCES[i]:g}, {k + 1} of {len(missing)}"
                tell((k + done) / len(missing), text)

            with small_work():
                point = measure(net, GUIDANCES[i], *how, progress)
            self._publish(partial(curve.put, i, *point))

    def _act(self, action: str) -> None:
        if action != "measure":
            super()._act(action)
        elif not self._busy:
            self.measure()

    def _pages(
        self,
        step: Callable[[float, str], None] = lambda done, text: None,
        values: dict[str, Sequence[Any]] | None = None,
    ) -> Pages:
        """A page has no button: the curves are measured before it is written."""
        if not self._on_pages:
            return super()._pages(step, values)
        self._fill(lambda done, text: step(done / 2, f"measuring, {text}"))
        return super()._pages(lambda done, text: step((1 + done) / 2, text), values)

    def _finish(self) -> None:
        if self._on_pages:
            self._fill(lambda done, text: None)

    # ---- code and picture ------------------------------------------------------------------------

    def _code(self) -> str:
        v, net, n = self._values, self._state.net, self._state.net.n
        whole = {"all": f"torch.arange({n}) % {net.space.classes}", "any": "None"}
        y = whole.get(v["label"], f"torch.full(({n},), {v['label']})")
        model = f"model, schedule, info = de.pretrained({v['model']!r})"
        guidance = 0.0 if v["label"] == "any" else v["guidance"]
        return (
            f"import torch\nimport diffusion_edu as de\n"
            f"from diffusion_edu.evaluation.features import crop, features_for\n\n"
            f"{model if v['model'] != 'yours' else '# model, schedule: your own'}\n"
            f"y = {y}\n"
            f"def z(k):\n"
            f"    g = torch.Generator().manual_seed({datasets.noise_seed(v['seed'], 0)} + k)\n"
            f"    return torch.randn({(n, *net.shape)}, generator=g)\n\n"
            f"steps = list(de.sample(\n"
            f"    de.guided(model, y, {guidance!r}), z(0), schedule, {v['steps']},\n"
            f"    eta={v['eta']!r}, clip=1.0, noise=lambda i, like: z(i + 1),\n))\n"
            "x_t = {s.t: s.x_t for s in steps}.get({t}, steps[-1].x_s)\n\n"
            f"pictures = de.images.to_uint8(crop(steps[-1].x_s, {net.pad}))\n"
            f"features, logits = features_for({net.data!r})(pictures)\n"
            f"seen = logits.argmax(1)  # fidelity: how often it is y\n"
        )

    def _scene(self, state: State) -> Scene:
        scene = Scene(
            state.times,
            self.frame,
            lines_of_text(state),
            title=f"Guidance on {state.net.data}".replace("_", " "),
            help="Level of noise: T is pure noise, 0 the result",
        )
        any_class = state.asked is None
        title = "no class asked for" if any_class else f"guidance {self.guidance:g}"
        _draw_grid(scene, title, state, state.shown.x, state.misread(state.shown))
        if self._learner is None:
            other = state.unguided
            title = "all classes, same noise" if any_class else "guidance 1, same noise"
            _draw_grid(scene, title, state, other.x, state.misread(other))
        else:
            mine = torch.full_like(state.shown.x, torch.nan) if state.mine is None else state.mine
            _draw_grid(scene, "yours", state, mine, torch.zeros_like(state.shown.seen).bool())
        self._draw_curves(scene, state)
        todo = bool(self.curve.missing) and not self._busy
        button = {"name": "measure", "label": "Measure the curves", "help": HELP["measure"]}
        scene.actions = [{**button, "enabled": todo}]
        return scene

    def _draw_curves(self, scene: Scene, state: State) -> None:
        """Dots for the images shown, lines once they are measured."""
        real = real_spread(state.net)
        here = torch.tensor([self.guidance])
        pairs = [("fidelity", state.fidelity), ("diversity", state.diversity)]
        series = [
            scene.series(f"{name}, these {state.net.n}", y[:, None], here, draw="dots")
            for name, y in pairs
        ]
        series += _lines(scene, self.curve, real)
        unit = "real images" if real is not None else "guidance 1"
        handle = Handle("drag", "guidance", "", (self.guidance, 0.0))
        scene.curves(
            "diversity against fidelity",
            series,
            Axis(0.0, 3.0, f"fidelity; diversity ({unit} = 1)"),
            Axis(0.0, MAX_GUIDANCE, "guidance"),
            at=here.expand(len(state.times)),
            handles=[handle],
            levels=[(1.0, "")],
        )


# ---- pictures ----------------------------------------------------------------------------------


def _draw_grid(scene: Scene, title: str, state: State, x: Tensor, misread: Tensor) -> None:
    """Images x (F, n, C, H, W) as one picture, those misread (F, n) with a line under them."""
    sheet = picture(state.net, x, misread)[:, None]
    scene.images(title, scene.frames(sheet, bits=8), sheet.shape[1:])


def _lines(scene: Scene, curve: Curve, real: Tensor | None) -> list[dict[str, Any]]:
    """Curves with error bars of what is measured; none at first."""
    if len(curve.missing) == len(GUIDANCES):
        return []
    x, order = torch.tensor(GUIDANCES).sort()
    pairs = {"fidelity": curve.fidelity(), "diversity": curve.diversity(real)}
    return [
        scene.series(f"{name}, {MEASURED} each", y[order], x, error=error[order])
        for name, (y, error) in pairs.items()
    ]
