"""ScheduleLab: how fast a schedule destroys data, and why t steps are one jump."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..data import toy
from ..schedules import Schedule
from ..viz.scene import Axis, Control, Scene, pick, slide, slide_seed
from . import datasets
from .explorer import Explorer, short
from .forward import HELP as FORWARD_HELP
from .forward import (
    MAX_T,
    SCHEDULES,
    fit_betas,
    make_schedule,
    schedule_code,
    slide_betas,
)
from .learner import Learner
from .params import Param, choice, integer, number
from .schedule_curves import (
    BINS,
    REACH,
    WIDTH,
    State,
    TableLearner,
    centres,
    chance,
    expected,
    histogram,
    jumped,
    kolmogorov_smirnov,
    levels,
    run_jump,
    run_table,
    walked,
)

__all__ = ["DECADES", "ScheduleLab"]

NONE = "none"
MAX_N = 5000
DECADES = 6.0  # the picture of log10 SNR covers -DECADES..DECADES
HELP = FORWARD_HELP | {
    "against": "A second schedule to compare with, dashed; it has its default betas",
    "seed": "Another seed draws other points and other noise, of the chain and of the jump",
}


class ScheduleLab(Explorer):
    r"""Schedules side by side, and t small steps beside one jump: both give the same x_t.

    A step of the chain is q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I), DDPM
    (2006.11239) eq. 2. Gaussians merge, so t steps are one jump, eq. 4:

        q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I)

    with alpha_bar_t = (1 - beta_1) ... (1 - beta_t) and the signal-to-noise ratio SNR =
    alpha_bar_t / (1 - alpha_bar_t). The chain draws new noise at each step; the jump has one noise
    of its own for each point. The first coordinates of both are drawn as histograms, beside the
    exact one. KS is the largest difference of their empirical distribution functions
    (Kolmogorov-Smirnov); two samples of one law exceed its 5 % level in 5 of 100 cases.

    Args:
        dataset: a toy set ("gaussians", "swiss_roll", ...).
        schedule: "linear", "quadratic", "sigmoid", "cosine", "sigmoid_alpha_bar" or "jsd".
        against: another of them, drawn beside it, or "none".
        beta_1, beta_T: ends of the schedules that have them; None follows T (0.1/T and 20/T).
        T: number of steps, 1..1000; of more than 100, 101 levels are shown.
        t: level shown first; None is about an eighth of the way.
        alpha_bar: a function of yours that makes the table (T+1,), drawn beside the schedules:
            alpha_bar(T), or, if its first parameter is called beta, alpha_bar(beta) of the table
            (T+1,) of the schedule's betas, with beta[0] = 0. One of betas makes the jump too.
        q_sample: a function of yours, q_sample(x0, t, eps, schedule) -> x_t, which makes the jump.
            t is an int, or a (B,) int64 tensor if your function refuses an int.
        seed: of data and noise.
        n: number of points, 1..5000.
        play: start moving at once.

    Attributes ``times`` (F levels), ``noise_schedule``, ``other_schedule`` (the Schedule of
    ``against``, or None), ``chain`` and ``jump`` (F, n, 2), ``histograms`` {label: (F, 35)
    densities}, ``distance`` (F,), ``chance``, ``mine`` (your alpha_bar (T+1,), or None),
    ``difference`` (the largest of your alpha_bar), ``jump_difference`` (the largest of your
    q_sample on the same noise), ``notes``.

    Raises:
        ValueError: unknown names, values outside their range; also when set later.
    """

    PAGES = {  # noqa: RUF012, typed in the base class
        "schedule": SCHEDULES,
        "against": ("linear", "cosine"),
        "T": [10, 100, 1000],
    }

    _state: State

    dataset = Param(choice(toy.names), "data set shown")
    schedule = Param(choice(lambda: SCHEDULES), "name of the noise schedule")
    against = Param(choice(lambda: (*SCHEDULES, NONE)), "schedule to compare with")
    beta_1 = Param(number(1e-6, 0.9999, optional=True), "first beta; None follows T")
    beta_T = Param(number(1e-6, 0.9999, optional=True), "last beta; None follows T")  # noqa: N815, as in the papers
    T = Param(integer(1, MAX_T), "number of steps")
    t = Param(integer(0, optional=True), "level shown")
    seed = Param(integer(0, 2**31 - 1), "of data and noise")
    n = Param(integer(1, MAX_N), "number of points")

    def __init__(
        self,
        dataset: str = "gaussians",
        schedule: str = "linear",
        *,
        against: str = "cosine",
        beta_1: float | None = None,
        beta_T: float | None = None,
        T: int = 100,
        t: int | None = None,
        alpha_bar: Callable[..., Tensor] | None = None,
        q_sample: Callable[..., Tensor] | None = None,
        seed: int = 0,
        n: int = 2000,
        play: bool = False,
    ) -> None:
        self._table = None if alpha_bar is None else TableLearner(alpha_bar, "alpha_bar")
        self._jump = None if q_sample is None else Learner(q_sample, "q_sample")
        names = {"dataset": dataset, "schedule": schedule, "against": against}
        betas = {"beta_1": beta_1, "beta_T": beta_T}
        super().__init__(play, **names, **betas, T=T, t=t, seed=seed, n=n)

    # ---- results ---------------------------------------------------------------------------------

    @property
    def other_schedule(self) -> Schedule | None:
        """The schedule compared with, or None."""
        return self._state.against

    @property
    def chain(self) -> Tensor:
        """x_t by t single steps, at each level of ``times``, (F, n, 2) float32."""
        return self._state.chain

    @property
    def jump(self) -> Tensor:
        """x_t by one jump from x_0, (F, n, 2) float32; by your function, if it works."""
        return self._state.jump

    @property
    def histograms(self) -> dict[str, Tensor]:
        """Densities of the first coordinate: {label: (F, 35)}."""
        state = self._state
        label = "your jump" if state.mine_jumps else "jump"
        drawn = {"chain": state.chain, label: state.jump}
        return {k: histogram(x[..., 0]) for k, x in drawn.items()} | {"exact": state.exact}

    @property
    def distance(self) -> Tensor:
        """Kolmogorov-Smirnov distance of chain and jump in the first coordinate, (F,)."""
        return self._state.distance

    @property
    def chance(self) -> float:
        """What ``distance`` exceeds by chance in 5 of 100 cases at most."""
        return chance(len(self._state.x0))

    @property
    def mine(self) -> Tensor | None:
        """The table of your alpha_bar, (T+1,) float64, or None if there is none or it failed."""
        return self._state.mine

    @property
    def difference(self) -> float | None:
        """Largest absolute difference of your alpha_bar from the named schedule next to it."""
        return self._state.difference

    @property
    def jump_difference(self) -> float | None:
        """Largest absolute difference of your q_sample from the library's, on the same noise."""
        return max(self._state.off) if self._state.off else None

    # ---- the model -------------------------------------------------------------------------------

    def _compute(self, values: dict[str, Any], coarse: bool) -> State:
        T, seed = values["T"], values["seed"]
        schedule = make_schedule(values["schedule"], T, values["beta_1"], values["beta_T"])
        other = values["against"]
        against = None if other == NONE else make_schedule(other, T, None, None)
        x0 = datasets.load(values["dataset"], values["n"], seed)
        eps = datasets.noise(tuple(x0.shape), seed, 0)
        times = levels(T)
        rough = coarse and len(times) <= T
        chain = walked(x0, schedule, times, seed, rough)
        exact = expected(x0[:, 0], schedule, times)
        jump = jumped(x0, eps, schedule, times)
        state = State(schedule, against, times, x0, eps, chain, jump, exact, coarse=rough)
        self._run_learner(state, coarse)
        state.distance = kolmogorov_smirnov(chain[..., 0], state.jump[..., 0])
        return state

    def _run_learner(self, state: State, hurry: bool) -> None:
        yours = run_table(self._table, state, hurry) if self._table else None
        if yours is not None:
            state.jump = jumped(state.x0, state.eps, yours, state.times)
            state.mine_jumps = True
        if self._jump is not None:
            run_jump(self._jump, state, yours or state.schedule, hurry)

    def _time(self, t: float | None, state: State) -> float:
        return state.times[len(state.times) // 8] if t is None else super()._time(t, state)

    def _fit(self, values: dict[str, Any]) -> dict[str, Any]:
        return fit_betas(values, self._values)

    def _controls(self, state: State) -> list[Control]:
        v, h = self._values, HELP
        return [
            pick("schedule", "schedule", v["schedule"], SCHEDULES, h["schedule"]),
            pick("against", "against", v["against"], (*SCHEDULES, NONE), h["against"]),
            slide("T", "steps T", state.schedule.T, (1, MAX_T), h["T"]),
            *slide_betas(state.schedule, v["schedule"]),
            pick("dataset", "data", v["dataset"], toy.names(), h["dataset"]),
            slide_seed(v["seed"], h["seed"]),
        ]

    def _code(self) -> str:
        v, seed = self._values, self._values["seed"]
        one, every = (datasets.noise_seed(seed, draw) for draw in (0, 1))
        return (
            f"import torch\nimport diffusion_edu as de\n\n"
            f"{datasets.code(v['dataset'], v['n'], seed)}\n"
            f"schedule, t = {schedule_code(v)}, {{t}}\n"
            f"alpha_bar, snr = schedule.alpha_bar[t], schedule.snr[t]\n\n"
            f"z = torch.randn(({v['T']}, *x0.shape), "
            f"generator=torch.Generator().manual_seed({every}))\n"
            f"chain = de.forward_chain(x0, schedule, z)[t]  # t single steps\n"
            f"eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed({one}))\n"
            f"jump = de.q_sample(x0, t, eps, schedule)  # one step\n"
        )

    def _scene(self, state: State) -> Scene:
        scene = Scene(
            state.times,
            self.frame,
            _text(state),
            title="Schedules, and the jump to any t",
            help="Level of noise: 0 is the data, T the last step",
        )
        _draw_schedules(scene, state)
        _draw_histograms(scene, state, self.histograms)
        return scene


# ---- pictures ----------------------------------------------------------------------------------


def _text(state: State) -> list[str]:
    """One line for each level."""
    s, limit = state.schedule, chance(len(state.x0))
    tables = (s.alpha_bar, s.snr, s.sqrt_alpha_bar, 1 - s.alpha_bar)
    numbers = zip(state.times, *(x[state.times].tolist() for x in tables), strict=True)
    lines = [
        f"t = {t}, alpha_bar {short(alpha_bar)}, SNR {short(snr)}, "
        f"q(x_t|x_0) = N({short(signal)} x_0, {noise:.5g} I)"
        for t, alpha_bar, snr, signal, noise in numbers
    ]
    for f, distance in enumerate(state.distance.tolist()):
        lines[f] += f", KS {_known(distance)}, 5% level {limit:.2g}"
    for f, off in enumerate(state.off):
        lines[f] += f", yours is off by {short(off)}"
    return lines


def _known(x: float) -> str:
    return "unknown" if math.isnan(x) else f"{x:.2g}"


def _draw_schedules(scene: Scene, state: State) -> None:
    """alpha_bar and log10 SNR of the chosen, the other and the learner's schedule."""
    tables = {state.schedule.name: state.schedule.alpha_bar}
    if state.against is not None:
        same = state.against.name in tables
        tables[f"{state.against.name}{', default' * same}"] = state.against.alpha_bar
    if state.mine is not None:
        tables["yours"] = state.mine
    shown = {label: table[state.times] for label, table in tables.items()}
    series = [scene.series(label, y) for label, y in shown.items()]
    scene.curves("signal left: alpha_bar", series, Axis(0.0, 1.05))
    series = [scene.series(label, _decades(y)) for label, y in shown.items()]
    axis = Axis(-DECADES, DECADES, "log10 SNR")
    scene.curves("signal to noise", series, axis, levels=[(0.0, "SNR = 1")])


def _decades(alpha_bar: Tensor) -> Tensor:
    """log10 SNR, cut outside the picture; NaN where alpha_bar is not in [0, 1]."""
    log_snr = alpha_bar.log10() - (1 - alpha_bar).log10()
    return log_snr.clamp(-DECADES - 1, DECADES + 1)


def _draw_histograms(scene: Scene, state: State, histograms: dict[str, Tensor]) -> None:
    chain, jump, exact = histograms
    # An area with corners: both ends of every bin, at its height.
    corners = (-REACH + WIDTH * torch.arange(BINS + 1)).repeat_interleave(2)[1:-1]
    series = [
        scene.series(chain, histograms[chain].repeat_interleave(2, 1), corners, draw="area"),
        scene.series(jump, histograms[jump], centres(), draw="steps"),
        scene.series(exact, histograms[exact], centres()),
    ]
    # A little room for chance; the same for all noise, so that sliders do not move the axis.
    top = math.ceil(10 * 1.1 * float(state.exact[0].max())) / 10
    axis = Axis(-REACH, REACH, "first coordinate of x_t")
    scene.curves("chain versus jump", series, Axis(0.0, top, "density"), axis)
