"""What PosteriorPlayground computes: the step back, its densities, and a learner's version."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import schedules
from ..forward import q_marginal, q_sample, q_step
from ..gaussian import Gaussian
from ..posterior import ddim_sigma, q_posterior, q_sigma
from ..schedules import Schedule
from ..viz.scene import note
from . import datasets
from .forward import make_schedule
from .learner import AGREES, Learner, LearnerError, answers, bad_values, compared

__all__ = ["DRAWN", "FIRST", "PairLearner", "State", "density_of_mine", "run_learner", "step_back"]

FIRST = 2  # at t = 1 the answer is x_0 itself, a point
DRAWN, STEP = 4.0, 0.02  # half the width of the picture of densities, and its resolution
NARROWEST = 0.05  # a point is drawn this wide, as a share of the width of q(x_{t-1} | x_0)
PROBES = 7  # pairs x_0, x_t tried on a learner's function besides those shown


@dataclass
class State:
    """What PosteriorPlayground computes, a row for each t in ``times``.

    mean (F, 2) and sd (F,) of the step back; weights (F, 2), those of x_0 and x_t in the mean;
    curves: densities of x_{t-1} in the first coordinate, {label: (x (k,), density (F, k))};
    peak (F,): the density that is drawn with height 1; off (F,): the largest difference between the
    curve of the library and that of quadrature.

    mine: (F, 2, 2), mean and variance of the learner's function, or None.
    """

    schedule: Schedule
    times: list[int]
    mean: Tensor
    sd: Tensor
    weights: Tensor
    curves: dict[str, tuple[Tensor, Tensor]]
    peak: Tensor
    off: Tensor
    mine: Tensor | None = None
    differences: list[float] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)
    coarse: bool = False


def step_back(values: dict[str, Any]) -> State:
    """The state of PosteriorPlayground for these values, without the learner's part."""
    schedule = _chain(values)
    times = torch.arange(FIRST, schedule.T + 1)
    x0, x_t = (_everywhere(values, end, times) for end in ("0", "_t"))
    law = _law_of(values, x_t, x0, times, schedule)
    zero, one = torch.zeros_like(x0), torch.ones_like(x0)
    weights = [
        _law_of(values, a, b, times, schedule).mean[:, 0] for a, b in ((zero, one), (one, zero))
    ]
    curves, peak, off = _densities(values, times, schedule)
    return State(
        schedule,
        times.tolist(),
        law.mean,
        law.var.sqrt().flatten(),
        torch.stack(weights, 1),
        curves,
        peak,
        off,
    )


def _chain(values: dict[str, Any]) -> Schedule:
    """The schedule that the values ask for."""
    if values["schedule"] == "constant":
        return schedules.constant(values["T"], values["beta"])
    return make_schedule(values["schedule"], values["T"], None, None)


def _everywhere(values: dict[str, Any], end: str, times: Tensor) -> Tensor:
    """x_0 or x_t, the same at all times: (F, 2) float64."""
    point = torch.tensor([values[f"x{end}"], values[f"y{end}"]], dtype=torch.float64)
    return point.expand(len(times), 2)


def _law_of(
    values: dict[str, Any],
    x_t: Tensor,
    x0: Tensor,
    t: Tensor,
    schedule: Schedule,
    narrowest: float = 0.0,
) -> Gaussian:
    """The step back shown: DDPM eq. 6-7, or DDIM eq. 7.

    Args:
        narrowest: the least sigma, as a share of the width of q(x_{t-1} | x_0). Every sigma up to 1
            belongs to DDIM's family, so eta = 0 can be drawn, and integrated, as one with some
            width.
    """
    if values["law"] == "bayes":
        return q_posterior(x_t, x0, t, schedule)
    sigma = ddim_sigma(t, t - 1, values["eta"], schedule)
    least = narrowest * schedule.sqrt_one_minus_alpha_bar[t - 1]
    return q_sigma(x_t, x0, t, t - 1, torch.maximum(sigma, least), schedule)


def _densities(
    values: dict[str, Any], times: Tensor, schedule: Schedule
) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor, Tensor]:
    """``State.curves``, ``peak`` and ``off``."""
    x = torch.arange(-2 * DRAWN, 2 * DRAWN + STEP / 4, STEP / 2, dtype=torch.float64)
    seen = slice(round(2 * DRAWN / STEP), -round(2 * DRAWN / STEP), 2)
    x0, x_t = (torch.full(times.shape, values[n], dtype=torch.float64) for n in ("x0", "x_t"))
    law = _law_of(values, x_t, x0, times, schedule, NARROWEST)
    prior = q_marginal(x0, times - 1, schedule)
    back = _curve(law, x[seen])
    known = _curve(prior, x[seen])
    if values["law"] == "q_sigma":
        few = x[seen][::5]
        mixed = _marginal(values, times, schedule, few)
        top, off = _peak(prior), (mixed - known[:, ::5]).abs().amax(1)
        family = {"q_sigma": (x[seen], back), "marginal, integrated": (few, mixed)}
        return family | {"q(x_{t-1} | x_0)": (x[seen], known)}, top, off
    log_likelihood = _likelihood(x, values["x_t"], times, schedule)
    product = _normalised(_log_curve(prior, x) + log_likelihood, x)[:, seen]
    # Its integral over x_{t-1} is 1/sqrt(alpha_t).
    area = schedule.alpha[times].sqrt()[:, None]
    curves = {
        "posterior": back,
        "product, integrated": product,
        "prior": known,
        "likelihood, area 1": area * log_likelihood[:, seen].exp(),
    }
    off = (product - back).abs().amax(1)
    return {label: (x[seen], y) for label, y in curves.items()}, _peak(law), off


def _log_curve(law: Gaussian, x: Tensor) -> Tensor:
    """log-density of each of the 1-D laws (F,) at x (k,): (F, k)."""
    F, k = len(law.mean), len(x)
    every = Gaussian(law.mean.repeat_interleave(k), law.var.expand(F).repeat_interleave(k))
    return every.log_prob(x.repeat(F)).view(F, k)


def _curve(law: Gaussian, x: Tensor) -> Tensor:
    """Density of each of the 1-D laws (F,) at x (k,): (F, k)."""
    return _log_curve(law, x).exp()


def _peak(law: Gaussian) -> Tensor:
    return law.log_prob(law.mean).exp()


def _likelihood(x: Tensor, x_t: float, times: Tensor, schedule: Schedule) -> Tensor:
    """log q(x_t | x_{t-1}) for each t, as a function of x_{t-1} = x (k,): (F, k)."""
    every = q_step(x.repeat(len(times)), times.repeat_interleave(len(x)), schedule)
    return every.log_prob(torch.full_like(every.mean, x_t)).view(len(times), len(x))


def _normalised(log_y: Tensor, x: Tensor) -> Tensor:
    """exp(log_y) (F, k) divided by its integral over x (k,), by the trapezoidal rule.

    On smooth functions that end inside the grid the rule is as good as exact: for a Gaussian the
    error is 5e-9 with one place per standard deviation.
    """
    y = (log_y - log_y.amax(1, keepdim=True)).exp()  # products of small numbers would underflow
    return y / torch.trapezoid(y, x, dim=1)[:, None]


def _marginal(values: dict[str, Any], times: Tensor, schedule: Schedule, x: Tensor) -> Tensor:
    """The integral of q_sigma(x | x_t, x_0) q(x_t | x_0) over x_t, at x (k,): (F, k).

    By the trapezoidal rule in eps, with x_t = q_sample(x_0, t, eps).
    """
    eps = torch.arange(-6, 6 + NARROWEST / 2, NARROWEST, dtype=torch.float64)
    m, F = len(eps), len(times)
    x0 = torch.full((F * m,), values["x0"], dtype=torch.float64)
    t = times.repeat_interleave(m)
    x_t = q_sample(x0, t, eps.repeat(F), schedule)
    laws = _law_of(values, x_t, x0, t, schedule, NARROWEST)
    one = torch.ones(m, dtype=torch.float64)
    weight = Gaussian(0 * one, one).log_prob(eps).exp() * NARROWEST
    every = [
        weight @ _curve(Gaussian(mean, var), x)
        for mean, var in zip(laws.mean.view(F, m), laws.var.view(F, m), strict=True)
    ]
    return torch.stack(every)


# ---- the learner's function --------------------------------------------------------------------


def run_learner(learner: Learner, state: State, values: dict[str, Any], hurry: bool) -> None:
    """Fill ``mine``, ``differences`` and ``notes`` with what the learner's q_posterior gives."""
    # Other pairs too: at x_0 = x_t = 0 every mean is right.
    shown = [_everywhere(values, end, torch.zeros(1)) for end in ("0", "_t")]
    x0, x_t = (
        torch.cat([x, datasets.noise((PROBES, 2), 0, i).double()]) for i, x in enumerate(shown)
    )
    differences: list[float] = []

    def call(t: int) -> Tensor:
        pair = learner(torch.cat([x_t, x0], 1), x_t, x0, t, state.schedule)
        exact = q_posterior(x_t, x0, t, state.schedule)
        both = torch.cat([exact.mean, exact.var.expand_as(exact.mean)], 1)
        differences.append(float((pair - both).abs().max()))
        return pair

    rows, whole = answers(learner, state.times, call, state.notes, hurry)
    if rows is None:
        return
    state.differences = differences
    every = rows.view(len(state.times), len(x0), 2, 2)
    state.mine = every[:, 0]
    if whole:
        state.notes.append(_verdict(learner, state, every))


def _verdict(learner: Learner, state: State, every: Tensor) -> dict[str, str]:
    if bad := bad_values(every, state.times, learner):
        return note("error", bad)
    negative = (every[:, :, 1] < 0).flatten(1).any(1)
    if negative.any():
        first = state.times[int(negative.nonzero()[0])]
        return note("error", f"your q_posterior gives a negative variance, first at t = {first}")
    worst = max(range(len(state.times)), key=state.differences.__getitem__)
    off, where = state.differences[worst], f"t = {state.times[worst]}"
    largest = "largest difference of mean and variance"
    text = compared(learner.role, off < AGREES, off, where, largest=largest)
    return note("info", text)


def density_of_mine(mine: Tensor, x: Tensor, peak: Tensor) -> Tensor:
    """Density of the learner's step back at x (k,), (F, k); NaN where it has none."""
    mean, var = mine[:, 0, 0], mine[:, 1, 0]
    good = mean.isfinite() & var.isfinite() & (var >= 0)
    least = (0.01 / peak) ** 2  # as for the reference: a point is drawn with some width
    drawn = Gaussian(torch.where(good, mean, 0.0), torch.where(good, var.maximum(least), 1.0))
    return torch.where(good[:, None], _curve(drawn, x), math.nan)


class PairLearner(Learner):
    """A learner whose function returns (mean, var) or a Gaussian, handled as one tensor (B, 2D).

    ``like`` of a call is (B, 2D) too.
    """

    def _call(self, like: Tensor, args: Any, tensor_times: bool) -> Any:
        return _joined(super()._call(like, args, tensor_times))

    def _check(self, out: Any, like: Tensor) -> None:
        if out is None or (isinstance(out, Tensor) and out.shape == like.shape):
            super()._check(out, like)
            return
        shape = (len(like), like.shape[1] // 2)
        raise LearnerError(
            f"your {self.role} returned {_described(out)}; it must return (mean, var) or a "
            f"Gaussian, with a mean of shape {shape} and a variance that broadcasts to it"
        )


def _joined(out: Any) -> Any:
    """(mean, var) side by side, (B, 2D); anything else as it is."""
    pair = (out.mean, out.var) if isinstance(out, Gaussian) else out
    if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], Tensor):
        return out
    mean, var = pair[0], pair[1]
    if not isinstance(var, Tensor | float | int):
        return out
    try:
        return torch.cat([mean, torch.as_tensor(var).to(mean).expand_as(mean)], -1)
    except RuntimeError:  # shapes that do not fit
        return out


def _described(out: Any) -> str:
    if isinstance(out, Gaussian):
        out = (out.mean, out.var)
    if isinstance(out, Tensor):
        return f"a tensor of shape {tuple(out.shape)}"
    if isinstance(out, tuple | list):
        return f"({', '.join(map(_described, out))})"
    return type(out).__name__
