"""ForwardExplorer: data dissolving into noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import schedules
from ..forward import q_sample as reference
from ..schedules import Schedule
from ..viz.scene import Control, Scene, groups, pick, slide
from . import datasets
from .explorer import Explorer, Param, choice, integer, number, short
from .learner import Learner, LearnerError, bad_values

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
    "seed": "Another seed draws other points and other noise",
}
SENT = 1_000_000  # numbers sent of a learner's frames, 2 MB; beyond that every k-th point is sent


@dataclass
class State:
    """What ForwardExplorer computes; ``mine`` is (T+1, n, *D), the learner's frames."""

    schedule: Schedule
    x0: Tensor
    eps: Tensor
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
        dataset: a toy set ("swiss_roll", "moons", ...) or "digits".
        schedule: "linear", "quadratic", "sigmoid", "cosine", "sigmoid_alpha_bar" or "jsd".
        beta_1, beta_T: ends of the schedules that have them; None follows T (0.1/T and 20/T).
        T: number of steps, 1..1000.
        t: level shown first, 0..T.
        q_sample: a function of yours, q_sample(x0, t, eps, schedule) -> x_t, drawn beside the
            reference. t is an int, or a (B,) int64 tensor if your function refuses an int.
        seed: of data and noise.
        n: number of points (a grid of digits always has 64).
        play: start moving at once.

    Attributes ``frames`` (T+1, n, *D) float32, ``times`` (T+1 ints), ``noise_schedule`` (the
    Schedule), ``mine`` (as frames, or None), ``difference`` (largest |mine - frames|, or None),
    ``notes``.

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
    seed = Param(integer(0, 2**31 - 1), "of data and noise")
    n = Param(integer(1, 20_000), "number of points")

    def __init__(
        self,
        dataset: str = "swiss_roll",
        schedule: str = "linear",
        *,
        beta_1: float | None = None,
        beta_T: float | None = None,
        T: int = 200,
        t: int = 0,
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
            seed=seed,
            n=n,
        )

    # ---- results ---------------------------------------------------------------------------------

    @property
    def frames(self) -> Tensor:
        """x_t at every level, (T+1, n, *D) float32."""
        s = self._state
        return torch.stack([reference(s.x0, t, s.eps, s.schedule) for t in s.times])

    @property
    def mine(self) -> Tensor | None:
        """Frames of your q_sample, or None if there is none or it failed."""
        return self._state.mine

    @property
    def difference(self) -> float | None:
        """Largest absolute difference between your frames and the reference."""
        return max(self._state.differences) if self._state.differences else None

    # ---- the model -------------------------------------------------------------------------------

    def _compute(self, values: dict[str, Any], coarse: bool) -> State:
        schedule = make_schedule(
            values["schedule"], values["T"], values["beta_1"], values["beta_T"]
        )
        x0 = datasets.load(values["dataset"], values["n"], values["seed"])
        eps = datasets.noise(tuple(x0.shape), values["seed"], 0)
        state = State(schedule, x0, eps, list(range(schedule.T + 1)))
        if self._learner is not None:
            _run_learner(self._learner, state)
        return state

    def _fit(self, values: dict[str, Any]) -> dict[str, Any]:
        fitted = dict(values)
        T = fitted.get("T", self.T)
        for name, high in (("beta_1", first_beta_limit(T)), ("beta_T", last_beta_limit(T))):
            beta = fitted.get(name, self._values[name])
            if beta is not None:
                fitted[name] = min(max(beta, LOWEST), high)
        return fitted

    def _controls(self, state: State) -> list[Control]:
        v, h, T, beta = self._values, HELP, state.schedule.T, state.schedule.beta
        first, last = (LOWEST, first_beta_limit(T)), (LOWEST, last_beta_limit(T))
        free = v["schedule"] in WITH_BETAS
        return [
            pick("dataset", "data", v["dataset"], datasets.names(), h["dataset"]),
            pick("schedule", "schedule", v["schedule"], SCHEDULES, h["schedule"]),
            slide("T", "steps T", T, (1, MAX_T), h["T"]),
            slide(
                "beta_1",
                "first step, beta_1",
                _rounded(beta[1]),
                first,
                h["beta_1"],
                free,
                log=True,
            ),
            slide(
                "beta_T", "last step, beta_T", _rounded(beta[T]), last, h["beta_T"], free, log=True
            ),
            slide("seed", "seed", v["seed"], (0, max(99, v["seed"])), h["seed"]),
        ]

    def _scene(self, state: State) -> Scene:
        scene = Scene(
            state.times,
            self.frame,
            _text(state),
            title=f"Adding noise to {self.dataset}".replace("_", " "),
            help="Level of noise: 0 is the data, T the last step",
        )
        signal = state.schedule.sqrt_alpha_bar
        noise = state.schedule.sqrt_one_minus_alpha_bar
        _picture(
            scene,
            self.dataset.replace("_", " "),
            state.x0,
            scene.mix(state.x0, state.eps, signal, noise),
        )
        if state.mine is not None:
            k = math.ceil(state.mine.numel() / SENT)
            _picture(scene, "yours", state.x0[::k], scene.frames(state.mine[:, ::k]), mark="cross")
        series = [
            {"label": "signal kept", "y": scene.pack(signal)},
            {"label": "noise added", "y": scene.pack(noise)},
        ]
        scene.panel("curves", "how much of each", series=series, low=0.0, high=1.0)
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


def make_schedule(name: str, T: int, beta_1: float | None, beta_T: float | None) -> Schedule:
    """The named schedule of ``diffusion_edu.schedules``; betas go to those that have them."""
    make: Callable[..., Schedule] = getattr(schedules, name)
    if name not in WITH_BETAS:
        return make(T)
    try:
        return make(T, beta_1, beta_T)
    except ValueError as error:  # its message speaks of alpha_bar, which nobody set here
        raise ValueError(f"beta_1={beta_1}, beta_T={beta_T} with T={T}: {error}") from error


def _run_learner(learner: Learner, state: State) -> None:
    """Fill ``mine``, ``differences`` and ``notes`` with what the learner's q_sample gives."""
    mine = []
    try:
        for t in state.times:
            x_t = learner(state.x0, state.x0, t, state.eps, state.schedule)
            mine.append(x_t)
            exact = reference(state.x0, t, state.eps, state.schedule)
            state.differences.append(float((x_t - exact).abs().max()))
    except LearnerError as error:
        state.differences = []
        state.notes = [{"level": "error", "text": f"At t = {t}: {error}"}]
        return
    state.mine = torch.stack(mine)
    bad = bad_values(state.mine, state.times, learner)
    worst = max(range(len(mine)), key=state.differences.__getitem__)
    agrees = state.differences[worst] < 1e-5
    verdict = "agrees with the reference" if agrees else "differs from the reference"
    largest = f"largest difference {state.differences[worst]:.2g}, at t = {worst}"
    text = f"your q_sample {verdict}: {largest}"
    state.notes = [{"level": "error", "text": bad} if bad else {"level": "info", "text": text}]


def _text(state: State) -> list[str]:
    """One line for each t. Var(x_t) = a^2 Var(x0) + b^2 Var(eps) + 2ab Cov(x0, eps), measured."""
    ab = state.schedule.alpha_bar
    x0, eps = (z.double() - z.double().mean(0) for z in (state.x0, state.eps))
    cross = 2 * (ab * (1 - ab)).sqrt() * (x0 * eps).mean()
    variance = ab * (x0**2).mean() + (1 - ab) * (eps**2).mean() + cross
    lines = [
        f"t = {t} of {state.schedule.T}, SNR = {short(snr)}, variance {var:.2f}"
        for t, (snr, var) in enumerate(
            zip(state.schedule.snr.tolist(), variance.tolist(), strict=True)
        )
    ]
    if state.differences:
        lines = [
            f"{line}, yours is off by {short(d)}"
            for line, d in zip(lines, state.differences, strict=True)
        ]
    return lines


def _picture(
    scene: Scene, title: str, x0: Tensor, layer: dict[str, Any], mark: str = "dot"
) -> None:
    if x0.ndim == 2:
        layer |= {"mark": mark, "groups": groups(x0)}
        scene.panel("points", title, layers=[layer], extent=datasets.EXTENT)
    else:
        scene.panel("images", title, layers=[layer], shape=list(x0.shape))


def _rounded(x: Tensor) -> float:
    return float(f"{float(x):.3g}")
