r"""Diffusion in continuous time: signal and noise rates, the VP-SDE, its ODE, Langevin dynamics.

Time is a number here: t = 0 is (almost) data and t = 1 is (almost) noise. Every sampler is a lazy
generator of ``ContinuousStep``, which has the fields of the discrete ``Step``; x_s of the last one
is the sample. A score is any callable score(x (B, *D), t (B,)) -> (B, *D): the gradient of log
p_t(x).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from ._checks import check_choice, check_count, check_float
from .gaussian import standard_normal
from .oracles import Denoised
from .schedules import Schedule, lookup, per_example

__all__ = [
    "VPSDE",
    "ContinuousStep",
    "Rates",
    "Score",
    "annealed_langevin",
    "ddim_continuous",
    "discretize",
    "oracle_eps",
    "oracle_score",
    "probability_flow",
    "reverse_sde",
    "schedule_rates",
    "signal_noise_rates",
]

Score = Callable[[Tensor, Tensor], Tensor]
_Method = Literal["euler", "heun"]


class ContinuousStep(NamedTuple):
    """One move from time t to time s, with the prediction made at (x_t, t)."""

    t: float
    s: float
    x_t: Tensor  # (B, *D)
    eps: Tensor  # the noise in x_t ...
    x0: Tensor  # ... and the clean data: x_t = signal x0 + noise eps
    x_s: Tensor  # the state after the move


class _Evaluates(Protocol):
    def evaluate(self, x: Tensor, alpha_bar: float | Tensor) -> Denoised: ...


# ---- signal and noise rates: DDIM in continuous time --------------------------------------------


class Rates(NamedTuple):
    """x_t = signal x_0 + noise eps, with signal^2 + noise^2 = 1; hence alpha_bar = signal^2."""

    signal: Tensor
    noise: Tensor


def signal_noise_rates(
    times: float | Tensor, min_signal_rate: float = 0.02, max_signal_rate: float = 0.95
) -> Rates:
    r"""The cosine schedule as an angle, as in the DDIM example of the Keras documentation.

    angle(t) = arccos(max_signal_rate) + t (arccos(min_signal_rate) - arccos(max_signal_rate))
    signal = cos(angle),  noise = sin(angle)

    Signal never reaches 1 nor 0, which keeps both predictions finite: at t = 0 data is still
    slightly noisy, at t = 1 a trace of it is left.

    Args:
        times: a number or a tensor of any shape, in [0, 1].

    Returns:
        ``Rates`` of the shape of times: float64 for a number, else of its floating dtype.
    """
    if not 0 <= min_signal_rate < max_signal_rate <= 1:
        raise ValueError(
            "rates must satisfy 0 <= min_signal_rate < max_signal_rate <= 1, got "
            f"min_signal_rate={min_signal_rate}, max_signal_rate={max_signal_rate}"
        )
    times = _times(times)
    start, end = math.acos(max_signal_rate), math.acos(min_signal_rate)
    angle = start + times * (end - start)
    return Rates(angle.cos(), angle.sin())


def schedule_rates(schedule: Schedule) -> Callable[[float | Tensor], Rates]:
    """The rates of a discrete schedule: time t stands for its level round(t T).

    With it and 1/steps a multiple of 1/T, ``ddim_continuous`` is discrete DDIM with eta = 0.
    """

    def rates(times: float | Tensor) -> Rates:
        level = (_times(times) * schedule.T).round().long()
        tables = schedule.sqrt_alpha_bar, schedule.sqrt_one_minus_alpha_bar
        return Rates(*(lookup(table, level).to(level.device) for table in tables))

    return rates


@torch.no_grad()
def ddim_continuous(
    model: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    steps: int,
    rates: Callable[[float | Tensor], Rates] = signal_noise_rates,
) -> Iterator[ContinuousStep]:
    r"""The reverse diffusion loop of the Keras DDIM example: DDIM (eta = 0) from t = 1 to t = 0.

    x0 = (x_t - noise_t eps) / signal_t,   x_s = signal_s x0 + noise_s eps,   s = t - 1/steps

    The last step ends at the predicted x0 itself: at time 0 the rates still contain some noise.

    Args:
        model: predicts eps; called as model(x, variance) with variance (B,) = noise_rate^2.
        x: (B, *D), standard normal noise.
        steps: number of equal steps in time.
        rates: time -> ``Rates``.
    """
    check_float(x=x)
    check_count(steps, 1, None, "steps")
    for i in range(steps):
        t, s = 1 - i / steps, 1 - (i + 1) / steps
        signal, noise = (float(rate) for rate in rates(t))
        if signal == 0:
            raise ValueError(
                f"rates must leave some signal, got signal rate 0 at time {t}: eps says "
                "nothing about x0 there"
            )
        eps = model(x, x.new_full((len(x),), noise**2))
        x0 = (x - noise * eps) / signal
        last = i + 1 == steps
        signal_s, noise_s = (1.0, 0.0) if last else (float(rate) for rate in rates(s))
        x_s = signal_s * x0 + noise_s * eps
        yield ContinuousStep(t, 0.0 if last else s, x, eps, x0, x_s)
        x = x_s


def _times(times: float | Tensor) -> Tensor:
    """times as a floating tensor, checked to lie in [0, 1]."""
    x = times if isinstance(times, Tensor) else torch.tensor(times, dtype=torch.float64)
    check_float(times=x)
    inside = (x >= 0) & (x <= 1)
    if not inside.all():
        raise ValueError(
            f"times must lie in [0, 1], got {x[~inside].flatten()[0]:.6g}: divide a time step by T"
        )
    return x


# ---- the variance-preserving SDE ----------------------------------------------------------------


@dataclass(frozen=True)
class VPSDE:
    r"""DDPM's forward process with infinitely many steps, Song et al. (2011.13456) eq. 11.

    dx = -1/2 beta(t) x dt + sqrt(beta(t)) dw,   beta(t) = beta_min + t (beta_max - beta_min)
    p(x_t | x_0) = N( sqrt(alpha_bar) x_0, (1 - alpha_bar) I )
    alpha_bar(t) = exp( -t^2 (beta_max - beta_min) / 2 - t beta_min )          appendix C

    Methods take t as a number or (B,) and answer in the same form, a number giving 0-dim float64.

    Raises:
        ValueError: unless 0 < beta_min <= beta_max.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.beta_min <= self.beta_max < math.inf:
            raise ValueError(
                "beta_min and beta_max must satisfy 0 < beta_min <= beta_max, got "
                f"beta_min={self.beta_min}, beta_max={self.beta_max}"
            )

    def beta(self, t: float | Tensor) -> Tensor:
        """The rate at which noise comes in, per unit of time."""
        return self.beta_min + _times(t) * (self.beta_max - self.beta_min)

    def alpha_bar(self, t: float | Tensor) -> Tensor:
        """Share of the variance that is signal."""
        return torch.exp(-self._spent(t))

    def noise_var(self, t: float | Tensor) -> Tensor:
        """1 - alpha_bar(t), without cancellation at small t."""
        return -torch.expm1(-self._spent(t))

    def drift(self, x: Tensor, t: float | Tensor) -> Tensor:
        """-1/2 beta(t) x, (B, *D)."""
        return -0.5 * per_example(self.beta(t), x) * x

    def diffusion(self, t: float | Tensor) -> Tensor:
        """sqrt(beta(t)), the factor of dw."""
        return self.beta(t).sqrt()

    def _spent(self, t: float | Tensor) -> Tensor:
        """The integral of beta from 0 to t."""
        t = _times(t)
        return 0.5 * t**2 * (self.beta_max - self.beta_min) + t * self.beta_min


def discretize(sde: VPSDE, T: int) -> Schedule:
    """The DDPM chain on the SDE's marginals: alpha_bar_i = sde.alpha_bar(i/T), i = 0..T.

    Its betas tend to beta(i/T) / T; the default SDE is the limit of ``linear(T)``.
    """
    check_count(T, 1, None, "T")
    return Schedule(sde.alpha_bar(torch.arange(T + 1, dtype=torch.float64) / T), "VP-SDE")


@torch.no_grad()
def reverse_sde(
    score: Score,
    x: Tensor,
    sde: VPSDE,
    steps: int,
    generator: torch.Generator | None = None,
    t_start: float = 1.0,
    t_end: float = 1e-3,
) -> Iterator[ContinuousStep]:
    r"""Euler-Maruyama on the reverse-time SDE, Song et al. (2011.13456) eq. 6.

    x_s = x + [ 1/2 beta x + beta score(x, t) ] (t - s) + sqrt( beta (t - s) ) z,    beta = beta(t)

    in equal steps. The last one adds no noise, which would only blur the sample. It stops at t_end
    > 0: the score of data on a manifold grows without bound towards t = 0.

    Args:
        score: score(x, t) with t (B,).
        x: (B, *D), the state at t_start.
    """
    grid = _grid(x, steps, t_start, t_end)
    if t_end > t_start:
        raise ValueError(f"t_end must be below t_start, got t_start={t_start}, t_end={t_end}")
    for t, s in itertools.pairwise(grid):
        g = _call(score, x, t)
        dt = t - s
        x_s = x + (float(sde.beta(t)) * g - sde.drift(x, t)) * dt
        if s != grid[-1]:
            x_s = x_s + float(sde.diffusion(t)) * math.sqrt(dt) * standard_normal(x, generator)
        yield _step(t, s, x, g, x_s, sde)
        x = x_s


@torch.no_grad()
def probability_flow(
    score: Score,
    x: Tensor,
    sde: VPSDE,
    steps: int,
    method: _Method = "euler",
    t_start: float = 1.0,
    t_end: float = 1e-3,
) -> Iterator[ContinuousStep]:
    r"""The deterministic process with the SDE's marginals, Song et al. (2011.13456) eq. 13.

    dx/dt = -1/2 beta(t) [ x + score(x, t) ]

    in equal steps: "euler" has error O(1/steps) at one score a step, "heun" (the average of the
    slopes at both ends) O(1/steps^2) at two. With t_start < t_end it runs from data to noise:
    encoding.

    Args:
        score: score(x, t) with t (B,).
        x: (B, *D), the state at t_start.
    """
    check_choice(method, get_args(_Method), "method")
    grid = _grid(x, steps, t_start, t_end)
    for t, s in itertools.pairwise(grid):
        g = _call(score, x, t)
        slope = _flow(x, g, t, sde)
        x_s = x + slope * (s - t)
        if method == "heun":
            slope_s = _flow(x_s, _call(score, x_s, s), s, sde)
            x_s = x + 0.5 * (slope + slope_s) * (s - t)
        yield _step(t, s, x, g, x_s, sde)
        x = x_s


@torch.no_grad()
def annealed_langevin(
    score: Score,
    x: Tensor,
    levels: Tensor | Sequence[float],
    sde: VPSDE,
    *,
    steps: int = 100,
    step_size: float = 0.2,
    generator: torch.Generator | None = None,
) -> Iterator[ContinuousStep]:
    r"""Annealed Langevin dynamics, Song & Ermon (1907.05600) Algorithm 1, in VP variables.

    At each level, ``steps`` times (all are yielded), with b^2 = 1 - alpha_bar its noise variance:

        x <- x + step_size b^2 / 2 score(x, t) + sqrt(step_size) b z

    The paper's y = x / sqrt(alpha_bar) has noise of variance sigma^2 = b^2 / alpha_bar and steps
    alpha_i = epsilon sigma_i^2 / sigma_L^2: the same walk with step_size = epsilon / sigma_L^2 (0.2
    in the paper). y stays put between levels, so x is rescaled.

    Args:
        score: score(x, t) with t (B,).
        x: (B, *D), any start; standard normal noise when levels[0] is near 1.
        levels: decreasing times in (0, 1].
    """
    check_float(x=x)
    check_count(steps, 1, None, "steps")
    if not step_size > 0:
        raise ValueError(f"step_size must be > 0, got step_size={step_size}")
    times = _falling(levels)
    signal = float(sde.alpha_bar(times[0]).sqrt())
    for t in times:
        previous, signal = signal, float(sde.alpha_bar(t).sqrt())
        x = x * (signal / previous)
        h = step_size * float(sde.noise_var(t))
        for _ in range(steps):
            g = _call(score, x, t)
            x_s = x + 0.5 * h * g + math.sqrt(h) * standard_normal(x, generator)
            yield _step(t, t, x, g, x_s, sde)
            x = x_s


def _falling(levels: Tensor | Sequence[float]) -> list[float]:
    times = [float(t) for t in levels]
    if not times or any(not 0 < s < t for t, s in zip([1.0 + 1e-9, *times], times, strict=False)):
        raise ValueError(f"levels must be decreasing times in (0, 1], got {times}")
    return times


def _grid(x: Tensor, steps: int, t_start: float, t_end: float) -> list[float]:
    check_float(x=x)
    check_count(steps, 1, None, "steps")
    if not (0 <= t_start <= 1 and 0 <= t_end <= 1 and t_start != t_end):
        raise ValueError(
            "t_start and t_end must be different times in [0, 1], got "
            f"t_start={t_start}, t_end={t_end}"
        )
    return torch.linspace(t_start, t_end, steps + 1, dtype=torch.float64).tolist()


def _call(score: Score, x: Tensor, t: float) -> Tensor:
    return score(x, x.new_full((len(x),), t))


def _flow(x: Tensor, g: Tensor, t: float, sde: VPSDE) -> Tensor:
    return sde.drift(x, t) - 0.5 * float(sde.beta(t)) * g


def _step(t: float, s: float, x: Tensor, g: Tensor, x_s: Tensor, sde: VPSDE) -> ContinuousStep:
    """The record of a move; Tweedie's formula turns the score g into eps and x0."""
    noise_var = float(sde.noise_var(t))
    x0 = (x + noise_var * g) / float(sde.alpha_bar(t).sqrt())
    return ContinuousStep(t, s, x, -math.sqrt(noise_var) * g, x0, x_s)


# ---- oracles in continuous time -----------------------------------------------------------------


def oracle_score(oracle: _Evaluates, sde: VPSDE) -> Score:
    """The exact score of an oracle along an SDE, callable as score(x, t)."""

    def score(x: Tensor, t: Tensor) -> Tensor:
        return oracle.evaluate(x, sde.alpha_bar(t.to(torch.float64))).score

    return score


def oracle_eps(oracle: _Evaluates) -> Callable[[Tensor, Tensor], Tensor]:
    """The exact noise prediction of an oracle, callable as model(x, noise_rate^2)."""

    def model(x: Tensor, variance: Tensor) -> Tensor:
        return oracle.evaluate(x, 1 - variance.to(torch.float64)).eps

    return model
