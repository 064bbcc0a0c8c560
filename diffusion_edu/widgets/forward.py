"""ForwardExplorer: data dissolving into noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import schedules
from ..forward import q_sample as reference
from ..schedules import Schedule
from ..viz.scene import Axis, Control, Scene, pick, slide, slide_seed
from . import datasets
from .explorer import Explorer, Pages, short
from .learner import Learner, agreement, answers
from .params import Param, choice, integer, number

__all__ = [
    "HELP",
    "MAX_T",
    "SCHEDULES",
    "WITH_BETAS",
    "ForwardExplorer",
    "State",
    "first_beta_limit",
    "fit_betas",
    "last_beta_limit",
    "make_schedule",
    "schedule_code",
    "slide_betas",
]

WITH_BETAS = ("linear", "quadratic", "sigmoid")  # the others have no beta_1, beta_T to choose
SCHEDULES = (*WITH_BETAS, "cosine", "sigmoid_alpha_bar", "jsd")
MAX_T = 1000
LOWEST = 1e-5  # lower end of the sliders of beta_1 and beta_T
HELP = {
    "dataset": "What is dissolved into noise",
    "schedule": "How the noise is spread over the steps",
    "T": "Number of small steps of noise",
    "beta_1": "Noise added by the first step",
    "beta_T": "Noise added by the last step",
    "shrink": "off leaves out the factor sqrt(1 - beta) before noise is added: see the variance",
    "seed": "Another seed draws other points and other noise",
}
SENT = 1_000_000  # numbers sent of a learner's frames, 2 MB; beyond that every k-th point is sent


@dataclass
class State:
    """What ForwardExplorer computes: x_t = a[t] x0 + b[t] eps, two tables (T+1,).

    ``mine`` is (T+1, n, *D), the learner's frames; NaN where there was no time for them.
    """

    schedule: Schedule
    x0: Tensor
    eps: Tensor
    a: Tensor
    b: Tensor
    times: list[int]
    mine: Tensor | None = None
    differences: list[float] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)
    coarse: bool = False


class ForwardExplorer(Explorer):
    r"""Data at every noise level t = 0..T: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps.

    DDPM (2006.11239) eq. 4. The noise eps is drawn once for a seed, so that every other parameter
    moves the same points.

    Args:
        dataset: a toy set ("swiss_roll", "moons", ...), "digits", or "mnist" where it is on this
            machine.
        schedule: "linear", "quadratic", "sigmoid", "cosine", "sigmoid_alpha_bar" or "jsd".
        beta_1, beta_T: ends of the schedules that have them; None follows T (0.1/T and 20/T).
        T: number of steps, 1..1000.
        t: level shown first, 0..T.
        shrink: False leaves sqrt(1 - beta_t) out of every step, x_t = x_{t-1} + sqrt(beta_t) z; the
            variance then grows without end.
        q_sample: a function of yours, q_sample(x0, t, eps, schedule) -> x_t, drawn beside the
            reference. t is an int, or a (B,) int64 tensor if your function refuses an int.
        seed: of data and noise.
        n: number of points (a grid of images always has 64).
        play: start moving at once.

    Attributes ``frames`` (T+1, n, *D) float32, ``times`` (T+1 ints), ``noise_schedule`` (the
    Schedule), ``mine`` (as frames, or None), ``difference`` (of mine from ``de.q_sample``, which
    has the factor whatever ``shrink`` is; or None), ``notes``.

    Raises:
        ValueError: unknown names, values outside their range; also when set later.
    """

    _state: State

    dataset = Param(choice(datasets.names), "data set shown")
    schedule = Param(choice(lambda: SCHEDULES), "name of the noise schedule")
    beta_1 = Param(number(1e-6, 0.9999, optional=True), "first beta; None follows T")
    beta_T = Param(number(1e-6, 0.9999, optional=True), "last beta; None follows T")  # noqa: N815, as in the papers
    T = Param(integer(1, MAX_T), "number of steps")
    t = Param(integer(0, optional=True), "level shown")
    shrink = Param(choice(lambda: ("on", "off")), "scale by sqrt(1 - beta) at every step")
    seed = Param(integer(0, 2**31 - 1), "of data and noise")
    n = Param(integer(1, 20_000), "number of points")

    PAGES = {  # noqa: RUF012, typed in the base class
        "dataset": ["swiss_roll", "moons", "gaussians"],
        "schedule": ["linear", "cosine", "quadratic"],
        "shrink": ["on", "off"],
    }

    def __init__(
        self,
        dataset: str = "swiss_roll",
        schedule: str = "linear",
        *,
        beta_1: float | None = None,
        beta_T: float | None = None,
        T: int = 200,
        t: int = 0,
        shrink: bool = True,
        q_sample: Callable[..., Tensor] | None = None,
        seed: int = 0,
        n: int = 2000,
        play: bool = False,
    ) -> None:
        self._learner = None if q_sample is None else Learner(q_sample, "q_sample")
        super().__init__(
            play,
            dataset=dataset,
            schedule=schedule,
            beta_1=beta_1,
            beta_T=beta_T,
            T=T,
            t=t,
            shrink="on" if shrink else "off",
            seed=seed,
            n=n,
        )

    # ---- results ---------------------------------------------------------------------------------

    @property
    def frames(self) -> Tensor:
        """x_t at every level, (T+1, n, *D) float32."""
        s = self._state
        return torch.stack([s.a[t].float() * s.x0 + s.b[t].float() * s.eps for t in s.times])

    @property
    def mine(self) -> Tensor | None:
        """Frames of your q_sample, or None if there is none or it failed."""
        return self._state.mine

    @property
    def difference(self) -> float | None:
        """Largest absolute difference between your frames and those of ``de.q_sample``."""
        return max(self._state.differences) if self._state.differences else None

    # ---- the model -------------------------------------------------------------------------------

    def _compute(self, values: dict[str, Any], coarse: bool) -> State:
        schedule = make_schedule(
            values["schedule"], values["T"], values["beta_1"], values["beta_T"]
        )
        x0 = datasets.load(values["dataset"], values["n"], values["seed"])
        eps = datasets.noise(tuple(x0.shape), values["seed"], 0)
        a, b = _tables(schedule, values["shrink"] == "on")
        state = State(schedule, x0, eps, a, b, list(range(schedule.T + 1)))
        if self._learner is not None:
            _run_learner(self._learner, state, coarse)
        return state

    def _fit(self, values: dict[str, Any]) -> dict[str, Any]:
        return fit_betas(values, self._values)

    def _pages(
        self,
        step: Callable[[float, str], None] = lambda done, text: None,
        values: dict[str, Sequence[Any]] | None = None,
    ) -> Pages:
        """A function of the reader's is drawn frame by frame: that is too much for a grid."""
        if values is None:
            values = {} if self._learner else dict(self.PAGES)
            if self._state.x0.ndim > 2:
                values.pop("dataset", None)
        return super()._pages(step, values)

    def _controls(self, state: State) -> list[Control]:
        v, h = self._values, HELP
        return [
            pick("dataset", "data", v["dataset"], datasets.names(), h["dataset"]),
            pick("schedule", "schedule", v["schedule"], SCHEDULES, h["schedule"]),
            slide("T", "steps T", state.schedule.T, (1, MAX_T), h["T"]),
            *slide_betas(state.schedule, v["schedule"]),
            pick("shrink", "factor sqrt(1 - beta)", v["shrink"], ("on", "off"), h["shrink"]),
            slide_seed(v["seed"], h["seed"]),
        ]

    def _code(self) -> str:
        v = self._values
        eps = datasets.noise_seed(v["seed"], 0)
        jump = "de.q_sample(x0, {t}, eps, schedule)"
        if v["shrink"] == "off":
            jump = "x0 + schedule.beta[: {t} + 1].sum().sqrt() * eps"
        return (
            f"import torch\nimport diffusion_edu as de\n\n"
            f"{datasets.code(v['dataset'], v['n'], v['seed'])}\n"
            f"eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed({eps}))\n"
            f"schedule = {schedule_code(v)}\nx_t = {jump}\n"
        )

    def _scene(self, state: State) -> Scene:
        scene = Scene(
            state.times,
            self.frame,
            _text(state),
            title=f"Adding noise to {self.dataset}".replace("_", " "),
            help="Level of noise: 0 is the data, T the last step",
        )
        order, groups = _order(state.x0)
        x0, eps = state.x0[order], state.eps[order]
        layer = scene.mix(x0, eps, state.a, state.b)
        _picture(scene, self.dataset.replace("_", " "), x0, layer, groups)
        if state.mine is not None:
            k = math.ceil(state.mine.numel() / SENT)
            some = order[::k]
            layer = scene.frames(state.mine[:, some], bits=8 if x0.ndim > 2 else 16)
            _picture(scene, "yours", x0[::k], layer, [-(-g // k) for g in groups], mark="cross")
        variance = _variance(state)
        top = 1.05 if self.shrink == "on" else max(1.2, 1.05 * float(variance.max()))
        series = [
            scene.series("signal kept", state.a),
            scene.series("noise added", state.b),
            scene.series("variance", variance),
        ]
        scene.curves("how much of each", series, Axis(0.0, top))
        return scene


def first_beta_limit(T: int) -> float:
    """Upper end of the slider of beta_1."""
    return min(0.5, 50 / T)


def last_beta_limit(T: int) -> float:
    """Upper end of the slider of beta_T.

    With first_beta_limit it keeps the product of all 1 - beta above 1e-200, far from underflow, for
    every schedule and T.
    """
    return min(0.999, 100 / T)


def fit_betas(values: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """``values`` with betas where their sliders reach, which depends on T: a new one moves both."""
    fitted = dict(values)
    T = max(1, fitted.get("T", now["T"]))
    for name, high in (("beta_1", first_beta_limit(T)), ("beta_T", last_beta_limit(T))):
        beta = fitted.get(name, now[name] if "T" in values else None)
        if beta is not None:
            fitted[name] = min(max(beta, LOWEST), high)
    return fitted


def slide_betas(schedule: Schedule, kind: str) -> list[Control]:
    """Sliders of beta_1 and beta_T, for the schedules that have them."""
    T = schedule.T
    # The only step of T = 1 is the last one.
    free = {"beta_1": kind in WITH_BETAS and T > 1, "beta_T": kind in WITH_BETAS}
    first_limit = first_beta_limit(T) if T > 1 else last_beta_limit(T)
    ends = {
        "beta_1": ("first step, beta_1", 1, first_limit),
        "beta_T": ("last step, beta_T", T, last_beta_limit(T)),
    }
    return [
        slide(n, label, _rounded(schedule.beta[t]), (LOWEST, high), HELP[n], free[n], LOWEST, True)
        for n, (label, t, high) in ends.items()
    ]


def schedule_code(values: dict[str, Any]) -> str:
    """Python for ``make_schedule``."""
    betas = ("beta_1", "beta_T") if values["schedule"] in WITH_BETAS else ()
    given = {n: values[n] for n in ("T", *betas) if values[n] is not None}
    arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
    return f"de.{values['schedule']}({arguments})"


def make_schedule(name: str, T: int, beta_1: float | None, beta_T: float | None) -> Schedule:
    """The named schedule of ``diffusion_edu.schedules``; betas go to those that have them."""
    make: Callable[..., Schedule] = getattr(schedules, name)
    if name not in WITH_BETAS:
        return make(T)
    try:
        return make(T, beta_1, beta_T)
    except ValueError as error:  # its message speaks of alpha_bar, which nobody set here
        raise ValueError(f"beta_1={beta_1}, beta_T={beta_T} with T={T}: {error}") from error


def _tables(schedule: Schedule, shrink: bool) -> tuple[Tensor, Tensor]:
    """a, b of x_t = a[t] x0 + b[t] eps: DDPM eq. 4; without the shrinking 1 and sqrt(sum beta)."""
    if shrink:
        return schedule.sqrt_alpha_bar, schedule.sqrt_one_minus_alpha_bar
    return torch.ones_like(schedule.beta), schedule.beta.cumsum(0).sqrt()


def _run_learner(learner: Learner, state: State, hurry: bool) -> None:
    """Fill ``mine``, ``differences`` and ``notes`` with what the learner's q_sample gives."""
    differences: list[float] = []

    def call(t: int) -> Tensor:
        x_t = learner(state.x0, state.x0, t, state.eps, state.schedule)
        exact = reference(state.x0, t, state.eps, state.schedule)
        differences.append(float((x_t - exact).abs().max()))
        return x_t

    state.mine, whole = answers(learner, state.times, call, state.notes, hurry)
    if state.mine is None:
        return
    state.differences = differences
    if whole:
        shrinks = bool((state.a < 1).any())
        other = "the reference" if shrinks else "q_sample, which has the factor that is off here"
        state.notes.append(agreement(learner, state.mine, state.times, differences, other))


def _variance(state: State) -> Tensor:
    """Var(x_t) = a^2 Var(x0) + b^2 Var(eps) + 2ab Cov(x0, eps) of these points, (T+1,)."""
    x0, eps = (z.double() - z.double().mean(0) for z in (state.x0, state.eps))
    a, b = state.a, state.b
    return a**2 * (x0**2).mean() + b**2 * (eps**2).mean() + 2 * a * b * (x0 * eps).mean()


def _text(state: State) -> list[str]:
    """One line for each t."""
    snr = ((state.a / state.b) ** 2).tolist()
    lines = [
        f"t = {t} of {state.schedule.T}, SNR = {short(snr[t])}, variance {var:.2f}"
        for t, var in enumerate(_variance(state).tolist())
    ]
    for t, difference in enumerate(state.differences):
        lines[t] += f", yours is off by {short(difference)}"
    return lines


def _order(x0: Tensor) -> tuple[Tensor, list[int]]:
    return datasets.by_colour(x0) if x0.ndim == 2 else (torch.arange(len(x0)), [])


def _picture(
    scene: Scene,
    title: str,
    x0: Tensor,
    layer: dict[str, Any],
    groups: list[int],
    mark: str = "dot",
) -> None:
    if x0.ndim == 2:
        layer |= {"mark": mark, "groups": groups}
        scene.points(title, [layer], datasets.EXTENT, pick=True)
    else:
        scene.images(title, layer, x0.shape)


def _rounded(x: Tensor) -> float:
    return float(f"{float(x):.3g}")
