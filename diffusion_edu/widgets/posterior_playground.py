"""PosteriorPlayground: Bayes' rule walks one step back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..viz.scene import Axis, Control, Handle, Scene, pick, slide
from . import datasets
from .explorer import Explorer, short
from .forward import SCHEDULES as NAMED
from .params import Param, choice, integer, number
from .posterior_curves import (
    DRAWN,
    FIRST,
    PairLearner,
    State,
    density_of_mine,
    run_learner,
    step_back,
)

__all__ = ["SCHEDULES", "PosteriorPlayground"]

SCHEDULES = ("constant", *NAMED)
LAWS = ("bayes", "q_sigma")
MAX_T = 60
REACH = 3.0  # how far x_0 and x_t may be moved
KNOWN = 500  # points of the swiss roll in grey
SMALLEST = 0.02  # radius of a circle that stands for a point
HELP = {
    "x0": "Where the data point is; drag it in the picture too",
    "x_t": "Where its noisy version is, t steps later; drag it in the picture too",
    "y0": "Second coordinate of x_0, in the plane",
    "y_t": "Second coordinate of x_t, in the plane",
    "T": "Number of steps of noise",
    "beta": "Variance of the noise that every step adds",
    "law": "bayes: the step back of DDPM; q_sigma: the family of DDIM",
    "eta": "How random the step back is: 0 DDIM, 1 DDPM (law q_sigma)",
}


class PosteriorPlayground(Explorer):
    r"""Where did x_t come from, when x_0 is known? Prior x likelihood = posterior, to drag.

    q(x_{t-1} | x_t, x_0) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x_0), a Gaussian: DDPM
    (2006.11239) eq. 6-7. The law "q_sigma" shows the family of DDIM (2010.02502) eq. 7, which
    keeps q(x_{t-1} | x_0) for every eta (Lemma 1). Densities are those of the first coordinate;
    the plane beside them has both.

    Args:
        x0, x_t: first coordinates, -3..3.
        y0, y_t: second coordinates, -3..3.
        T: number of steps, 2..60.
        beta: variance added by each step, if the schedule is "constant".
        schedule: "constant", "linear", "quadratic", "sigmoid", "cosine", "sigmoid_alpha_bar" or
            "jsd".
        law: "bayes" or "q_sigma".
        eta: of q_sigma, with sigma = ddim_sigma(t, t-1, eta).
        t: the step back shown goes from t to t-1, 2..T; None is about a third of the way.
        q_posterior: a function of yours, q_posterior(x_t, x0, t, schedule) -> (mean, var) or
            Gaussian, drawn beside the reference. x_t and x0 are (B, 2); t is an int, or a (B,)
            int64 tensor if your function refuses an int.
        play: start moving at once.

    Attributes ``mean`` (F, 2), ``sd`` (F,), ``curves`` {label: (x (k,), density (F, k))}, ``off``
    (largest difference to quadrature at each t), ``times`` (2..T), ``noise_schedule``, ``mine`` (F,
    2, 2), mean and variance of your function, or None, ``difference``, ``notes``.

    Raises:
        ValueError: unknown names, values outside their range; also when set later.
    """

    PAGES = {  # noqa: RUF012, typed in the base class
        "x_t": [-2.0, -1.0, 0.0, 1.0, 2.0],
        "beta": [0.05, 0.1, 0.2, 0.4],
        "law": LAWS,
    }

    _state: State

    x0 = Param(number(-REACH, REACH), "first coordinate of x_0")
    x_t = Param(number(-REACH, REACH), "first coordinate of x_t")
    y0 = Param(number(-REACH, REACH), "second coordinate of x_0")
    y_t = Param(number(-REACH, REACH), "second coordinate of x_t")
    T = Param(integer(FIRST, MAX_T), "number of steps")
    beta = Param(number(0.01, 0.9), "variance added by each step of the constant schedule")
    schedule = Param(choice(lambda: SCHEDULES), "name of the noise schedule")
    law = Param(choice(lambda: LAWS), "bayes or q_sigma")
    eta = Param(number(0.0, 1.0), "noise of q_sigma")
    t = Param(integer(0, optional=True), "level shown")

    def __init__(
        self,
        x0: float = 1.4,
        x_t: float = -0.6,
        *,
        y0: float = 0.74,
        y_t: float = -0.8,
        T: int = 10,
        beta: float = 0.2,
        schedule: str = "constant",
        law: str = "bayes",
        eta: float = 0.5,
        t: int | None = None,
        q_posterior: Callable[..., Any] | None = None,
        play: bool = False,
    ) -> None:
        self._learner = None if q_posterior is None else PairLearner(q_posterior, "q_posterior")
        points = {"x0": x0, "x_t": x_t, "y0": y0, "y_t": y_t}
        chain = {"T": T, "beta": beta, "schedule": schedule}
        super().__init__(play, **points, **chain, law=law, eta=eta, t=t)

    # ---- results ---------------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        """Mean of the step back from each t in ``times``, (F, 2) float64."""
        return self._state.mean

    @property
    def sd(self) -> Tensor:
        """Standard deviation of the step back from each t in ``times``, (F,) float64."""
        return self._state.sd

    @property
    def curves(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Densities of the first coordinate of x_{t-1}: {label: (x (k,), density (F, k))}."""
        return self._state.curves

    @property
    def off(self) -> Tensor:
        """Largest difference between the library's density and quadrature, (F,)."""
        return self._state.off

    @property
    def mine(self) -> Tensor | None:
        """Mean and variance of your q_posterior, (F, 2, 2), or None if there is none."""
        return self._state.mine

    @property
    def difference(self) -> float | None:
        """Largest absolute difference of your mean and variance from the reference."""
        return max(self._state.differences) if self._state.differences else None

    # ---- the model -------------------------------------------------------------------------------

    def _compute(self, values: dict[str, Any], coarse: bool) -> State:
        state = step_back(values)
        if self._learner is not None and values["law"] == "bayes":
            run_learner(self._learner, state, values, coarse)
        return state

    def _time(self, t: float | None, state: State) -> float:
        if t is None:
            return state.times[len(state.times) // 3]
        checked = super()._time(t, state)
        if checked < FIRST:
            raise ValueError(
                f"t must lie in {FIRST}..{state.times[-1]}, got t={t}: the step back from t = 1 "
                "ends at x_0 itself"
            )
        return checked

    def _controls(self, state: State) -> list[Control]:
        v, h, span = self._values, HELP, (-REACH, REACH)
        places = {"x0": "x_0", "x_t": "x_t", "y0": "x_0, second", "y_t": "x_t, second"}
        constant, family = v["schedule"] == "constant", v["law"] == "q_sigma"
        return [
            *(slide(n, label, v[n], span, h[n], step=0.02) for n, label in places.items()),
            slide("T", "steps T", v["T"], (FIRST, MAX_T), h["T"]),
            slide("beta", "beta", v["beta"], (0.01, 0.9), h["beta"], constant, 0.01, True),
            pick("law", "law", v["law"], LAWS, h["law"]),
            slide("eta", "eta", v["eta"], (0, 1), h["eta"], family, step=0.01),
        ]

    def _code(self) -> str:
        v = self._values
        chain = f"{v['T']}, {v['beta']!r}" if v["schedule"] == "constant" else f"{v['T']}"
        back = "de.q_posterior(x_t, x0, t, schedule)"
        if v["law"] == "q_sigma":
            back = "de.q_sigma(x_t, x0, t, t - 1, sigma, schedule)"
        sigma = f"sigma = de.ddim_sigma(t, t - 1, {v['eta']!r}, schedule)\n"
        return (
            f"import torch\nimport diffusion_edu as de\n\n"
            f"schedule, t = de.{v['schedule']}({chain}), {{t}}\n"
            f"x0 = torch.tensor([[{v['x0']!r}, {v['y0']!r}]], dtype=torch.float64)\n"
            f"x_t = torch.tensor([[{v['x_t']!r}, {v['y_t']!r}]], dtype=torch.float64)\n"
            f"{sigma if v['law'] == 'q_sigma' else ''}"
            f"posterior = {back}\n"
            f"mean, sd = posterior.mean, posterior.var.sqrt()\n\n"
            f"x = torch.linspace(-4, 4, 401, dtype=torch.float64)\n"
            f"law = de.Gaussian(mean[0, :1].expand(401), posterior.var)\n"
            f"density = law.log_prob(x).exp()  # of the first coordinate\n"
        )

    def _scene(self, state: State) -> Scene:
        back = "posterior" if self.law == "bayes" else "q_sigma"
        scene = Scene(
            state.times,
            self.frame,
            _text(state, self._values),
            title="One step back, x_0 known",
            help="The step back goes from x_t to the level below it",
        )
        _draw_densities(scene, state, self._values)
        on_x0, on_xt = state.weights.T
        series = [
            scene.series("weight of x_0 in mean", on_x0),
            scene.series("weight of x_t in mean", on_xt),
            scene.series("standard deviation", state.sd),
        ]
        low = min(0.0, float(state.weights.min()))
        scene.curves(f"{back} at every t", series, Axis(1.1 * low, 1.05))
        _draw_plane(scene, state, self._values)
        return scene


# ---- pictures ----------------------------------------------------------------------------------


def _text(state: State, values: dict[str, Any]) -> list[str]:
    """One line for each t."""
    lines = []
    for f, t in enumerate(state.times):
        mean, sd, off = short(float(state.mean[f, 0])), short(float(state.sd[f])), state.off[f]
        what = "marginal" if values["law"] == "q_sigma" else "quadrature"
        lines.append(
            f"t = {t} of {state.schedule.T}, mean {mean}, sd {sd}, {what} within {off:.0e}"
        )
    for f, difference in enumerate(state.differences):
        lines[f] += f", yours is off by {short(difference)}"
    return lines


def _draw_densities(scene: Scene, state: State, values: dict[str, Any]) -> None:
    """Curves of x_{t-1}, each frame scaled by ``peak``: a wide and a narrow one are both seen."""
    family = values["law"] == "q_sigma"
    top = 3.0 if family else 1.15

    def drawn(y: Tensor) -> Tensor:
        return (y / state.peak[:, None]).clamp(max=4.0)

    curves = dict(state.curves)
    if state.mine is not None:
        x = next(iter(curves.values()))[0][::8]
        curves["yours"] = (x, density_of_mine(state.mine, x, state.peak))
    if family and values["eta"] == 0:
        curves = {"q_sigma, a point" if k == "q_sigma" else k: v for k, v in curves.items()}
    series = [
        scene.series(label, drawn(y), x, draw="dots" if label == "yours" else "line")
        for label, (x, y) in curves.items()
    ]
    handles = [
        Handle("x_0", "x0", "", (values["x0"], 0.0)),
        Handle("x_t", "x_t", "", (values["x_t"], 0.0)),
    ]
    unit = "density, marginal's peak = 1" if family else "density, posterior's peak = 1"
    axis = Axis(-DRAWN, DRAWN, "x_{t-1}")
    mean = state.mean[:, 0]
    scene.curves("where was x_{t-1}?", series, Axis(0.0, top, unit), axis, at=mean, handles=handles)


def _draw_plane(scene: Scene, state: State, values: dict[str, Any]) -> None:
    """The same in two dimensions: circles of one and two standard deviations."""
    data = datasets.load("swiss_roll", KNOWN, 1)
    layers = [scene.frames(data[None], mark="data", groups=[len(data)])]
    sd = state.sd.clamp(min=SMALLEST)
    for k in (1, 2):
        layers.append(scene.path(_circle(state.mean, k * sd), colour=0, dashed=k == 2))
    if state.mine is not None:
        mean, var = state.mine.unbind(1)
        layers.append(scene.path(_circle(mean, var.sqrt()), colour=1))
    handles = [
        Handle("x_0", "x0", "y0", (values["x0"], values["y0"])),
        Handle("x_t", "x_t", "y_t", (values["x_t"], values["y_t"])),
    ]
    scene.points("in the plane: 1 and 2 sd", layers, datasets.EXTENT, handles=handles)


def _circle(mean: Tensor, radius: Tensor) -> Tensor:
    """(F, k, 2): circles (ellipses) around mean (F, 2), radius (F,) or (F, 2)."""
    angle = torch.linspace(0, 2 * math.pi, 49, dtype=torch.float64)
    unit = torch.stack([angle.cos(), angle.sin()], 1)
    wide = radius.view(len(mean), 1, -1)
    return mean[:, None] + wide * unit
