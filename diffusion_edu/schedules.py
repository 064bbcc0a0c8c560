r"""Noise schedules: how much noise each time step adds.

Time runs over t = 0, 1, ..., T and every table has length T+1 and is indexed by t directly.
Level 0 is clean data: ``beta[0] = 0`` and ``alpha_bar[0] = 1``, so "the step before the first one"
needs no special case anywhere.

    beta_t       variance of the noise added at step t                    DDPM (2006.11239) eq. 2
    alpha_t      = 1 - beta_t                                             DDPM sec. 2
    alpha_bar_t  = alpha_1 alpha_2 ... alpha_t  (DDIM's paper calls this alpha_t)    DDPM eq. 4
    beta_tilde_t = (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) beta_t       DDPM eq. 7
    snr_t        = alpha_bar_t / (1 - alpha_bar_t)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from ._checks import Time, check_count, check_float, check_levels, check_time, first_bad

__all__ = [
    "Schedule",
    "at",
    "constant",
    "cosine",
    "from_betas",
    "jsd",
    "linear",
    "quadratic",
    "respace",
    "sigmoid",
    "sigmoid_alpha_bar",
    "zero_terminal_snr",
]

BETA_1, BETA_T = 1e-4, 0.02  # DDPM sec. 4, for T = 1000
MAX_BETA = 0.999  # improved DDPM's cap


class Schedule:
    """The T+1 tables of a noise schedule: float64, on the CPU, fixed once built.

    Args:
        alpha_bar: (T+1,), starting at exactly 1, below 1 from t = 1 on (else no noise to speak of),
            non-increasing, positive (0 is allowed at T only).
        name: shown in pictures and error messages.

    Attributes ``beta, alpha, alpha_bar, beta_tilde, snr, log_snr, sqrt_alpha_bar`` and
    ``sqrt_one_minus_alpha_bar`` are (T+1,) tensors.

    Raises:
        ValueError: ``alpha_bar`` breaks one of the rules above; the message names the time step.
    """

    def __init__(self, alpha_bar: Tensor | Sequence[float], name: str = "custom") -> None:
        # A copy: a later edit of the caller's tensor must not change a schedule in use.
        table = torch.as_tensor(alpha_bar, dtype=torch.float64).detach().cpu().clone()
        _check_alpha_bar(table)
        self.__dict__.update(alpha_bar=table, name=name, T=len(table) - 1)

    alpha_bar: Tensor
    name: str
    T: int

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Schedule is frozen: build a new one instead of setting {name!r}")

    @cached_property
    def alpha(self) -> Tensor:
        """alpha_t = alpha_bar_t / alpha_bar_{t-1}, with alpha_0 = 1."""
        return torch.cat([self.alpha_bar[:1], self.alpha_bar[1:] / self.alpha_bar[:-1]])

    @cached_property
    def beta(self) -> Tensor:
        """beta_t = 1 - alpha_t, with beta_0 = 0 (DDPM eq. 2)."""
        return 1 - self.alpha

    @cached_property
    def beta_tilde(self) -> Tensor:
        """Variance of q(x_{t-1} | x_t, x_0), DDPM eq. 7; 0 at t = 1, where x_0 is given."""
        noise = 1 - self.alpha_bar
        tilde = noise[:-1] / noise[1:] * self.beta[1:]
        return torch.cat([torch.zeros(1, dtype=torch.float64), tilde])

    @cached_property
    def sqrt_alpha_bar(self) -> Tensor:
        """The factor of x_0 in x_t: the signal rate."""
        return self.alpha_bar.sqrt()

    @cached_property
    def sqrt_one_minus_alpha_bar(self) -> Tensor:
        """The factor of eps in x_t: the noise rate."""
        return (1 - self.alpha_bar).sqrt()

    @cached_property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio alpha_bar / (1 - alpha_bar); inf at t = 0."""
        return self.alpha_bar / (1 - self.alpha_bar)

    @cached_property
    def log_snr(self) -> Tensor:
        """log of ``snr`` (natural logarithm)."""
        return self.alpha_bar.log() - torch.log1p(-self.alpha_bar)

    def __repr__(self) -> str:
        b = self.beta[1:]
        return (
            f"Schedule({self.name!r}, T={self.T}, beta {b.min():.3g}..{b.max():.3g}, "
            f"snr_T={self.snr[-1]:.3g})"
        )


def _check_alpha_bar(table: Tensor) -> None:
    if table.ndim != 1 or len(table) < 2:
        raise ValueError(f"alpha_bar must have shape (T+1,) with T >= 1, got {tuple(table.shape)}")
    if (bad := ~table.isfinite()).any():
        t = first_bad(bad)
        raise ValueError(f"alpha_bar must be finite, got {table[t]} at t={t}")
    if table[0] != 1:
        raise ValueError(
            f"alpha_bar[0] must be 1 (level 0 is clean data), got {table[0]:.6g}: "
            "prepend a 1 to a table that starts at t=1"
        )
    if table[1] == 1:
        raise ValueError(
            "alpha_bar[1] must be below 1: a first step without noise leaves eps undefined; "
            "drop it, or use a larger beta_1"
        )
    if (rises := table[1:] > table[:-1]).any():
        t = first_bad(rises) + 1
        raise ValueError(
            f"alpha_bar must not increase, got alpha_bar[{t - 1}]={table[t - 1]:.6g} "
            f"< alpha_bar[{t}]={table[t]:.6g}"
        )
    low = table <= 0
    low[-1] = table[-1] < 0
    if low.any():
        t = first_bad(low)
        raise ValueError(
            f"alpha_bar must stay above 0 before t=T, got alpha_bar[{t}]={table[t]:.3g}: "
            "use smaller betas or fewer steps"
        )


def at(table: Tensor, t: Time, like: Tensor) -> Tensor:
    """Value of a schedule table at time t, shaped and typed to multiply ``like``.

    The one broadcasting helper of the library: gather in float64, then cast to ``like.dtype``.

    Args:
        table: (T+1,) float64.
        t: int, or (B,) int64 with B = len(like).
        like: (B, *D), whose dtype, device and number of dimensions are taken.

    Returns:
        A 0-dim tensor for an int t (it multiplies tensors on any device), else (B, 1, ..., 1).
    """
    check_float(x=like)
    check_time(t, 0, len(table) - 1, batch=len(like))
    return per_example(lookup(table, t), like)


def lookup(table: Tensor, t: Time) -> Tensor:
    """table[t] in float64 on the CPU, wherever t is: 0-dim for an int, (B,) for a tensor."""
    return table[t if isinstance(t, int) else t.cpu()]


def per_example(values: Tensor, like: Tensor) -> Tensor:
    """Shape and cast float64 values, 0-dim or (B,), to multiply ``like`` (B, *D)."""
    if values.ndim == 0:
        return values.to(like.dtype)
    # Cast before moving: not every device knows float64.
    return values.to(like.dtype).to(like.device).view(-1, *[1] * (like.ndim - 1))


# ---- constructors ------------------------------------------------------------------------------


def from_betas(betas: Tensor | Sequence[float], name: str = "custom") -> Schedule:
    """Schedule with the given (T,) betas for t = 1..T; alpha_bar_t = prod(1 - beta_s).

    Raises:
        ValueError: a beta is NaN or outside (0, 1). Exactly 1 is allowed at t = T (zero terminal
            SNR).
    """
    b = torch.as_tensor(betas, dtype=torch.float64).detach().cpu()
    if b.ndim != 1 or len(b) < 1:
        raise ValueError(f"betas must have shape (T,) with T >= 1, got {tuple(b.shape)}")
    bad = ~((b > 0) & (b < 1))  # written so that NaN is bad
    bad[-1] = not 0 < b[-1] <= 1
    if bad.any():
        t = first_bad(bad) + 1
        raise ValueError(
            f"betas must lie in (0, 1), got betas[{t - 1}]={b[t - 1]:.6g} (t={t}): "
            "a beta is the variance added by one step"
        )
    return Schedule(torch.cat([b.new_ones(1), (1 - b).cumprod(0)]), name)


def _beta_range(T: int, beta_1: float | None, beta_T: float | None) -> tuple[float, float]:
    """End points of beta: given ones are literal; the defaults keep alpha_bar_T for every T."""
    check_count(T, 1, None, "T")
    for name, b in (("beta_1", beta_1), ("beta_T", beta_T)):
        if b is not None and not 0 < b < 1:
            raise ValueError(f"{name} must lie in (0, 1), got {name}={b}")
    scale = 1000 / T
    low = min(BETA_1 * scale, MAX_BETA) if beta_1 is None else beta_1
    high = min(BETA_T * scale, MAX_BETA) if beta_T is None else beta_T
    return low, high


def _ramp(low: float, high: float, T: int) -> Tensor:
    """T equal steps that end at ``high``, also for T = 1: one step has to do all the noising."""
    return torch.linspace(low if T > 1 else high, high, T, dtype=torch.float64)


def linear(T: int = 1000, beta_1: float | None = None, beta_T: float | None = None) -> Schedule:
    """beta from beta_1 to beta_T in equal steps (DDPM sec. 4).

    Defaults are 1e-4 and 0.02 times 1000/T (at most 0.999): without that scaling a short chain ends
    far from noise. Given values are used as they are.
    """
    low, high = _beta_range(T, beta_1, beta_T)
    return from_betas(_ramp(low, high, T), "linear")


def constant(T: int, beta: float) -> Schedule:
    """The same beta at every step; alpha_bar_t = (1 - beta)^t."""
    check_count(T, 1, None, "T")
    return from_betas(torch.full((T,), beta, dtype=torch.float64), "constant")


def quadratic(T: int = 1000, beta_1: float | None = None, beta_T: float | None = None) -> Schedule:
    """sqrt(beta) in equal steps: the "quad" schedule of DDPM's code. Defaults as in ``linear``."""
    low, high = _beta_range(T, beta_1, beta_T)
    return from_betas(_ramp(math.sqrt(low), math.sqrt(high), T) ** 2, "quadratic")


def cosine(T: int = 1000, s: float = 0.008, max_beta: float = MAX_BETA) -> Schedule:
    r"""Cosine schedule of improved DDPM (2102.09672) eq. 17.

    alpha_bar_t = f(t)/f(0),  f(t) = cos^2( (t/T + s)/(1 + s) * pi/2 ),  beta_t <= max_beta.

    Without the cap beta_T = 1; with it 1/sqrt(alpha_bar_T) is still about 2e4 for T = 1000, so an
    error of the network at t = T is amplified that much in x0: clip, or start below T.
    """
    check_count(T, 1, None, "T")
    if not 0 < max_beta < 1:
        raise ValueError(f"max_beta must lie in (0, 1), got max_beta={max_beta}")
    if not s >= 0:
        raise ValueError(f"s must be >= 0, got s={s}")
    f = torch.cos((torch.arange(T + 1, dtype=torch.float64) / T + s) / (1 + s) * math.pi / 2) ** 2
    return from_betas((1 - f[1:] / f[:-1]).clamp(max=max_beta), "cosine")


def sigmoid(
    T: int = 1000, beta_1: float | None = None, beta_T: float | None = None, span: float = 6.0
) -> Schedule:
    """beta-sigmoid: beta follows a logistic curve from beta_1 to beta_T (GeoDiff, 2203.02923).

    beta_t = beta_1 + (beta_T - beta_1) * logistic(u_t), u_t from -span to span. It is *beta* that
    is a sigmoid here; ``sigmoid_alpha_bar`` is the other published schedule of that name.
    """
    low, high = _beta_range(T, beta_1, beta_T)
    u = _ramp(-span, span, T)
    return from_betas(low + (high - low) * torch.sigmoid(u), "sigmoid")


def sigmoid_alpha_bar(
    T: int = 1000, start: float = -3.0, end: float = 3.0, tau: float = 1.0
) -> Schedule:
    r"""alpha_bar-sigmoid of Jabri et al. (2212.11972), with beta capped at 0.999.

    alpha_bar_t = (h(end) - h(start + (end - start) t/T)) / (h(end) - h(start)), h(u) =
    logistic(u/tau).
    """
    check_count(T, 1, None, "T")
    if not start < end:
        raise ValueError(f"start must be below end, got start={start}, end={end}")
    if not tau > 0:
        raise ValueError(f"tau must be > 0, got tau={tau}")
    h = torch.sigmoid(torch.linspace(start, end, T + 1, dtype=torch.float64) / tau)
    alpha_bar = (h[-1] - h) / (h[-1] - h[0])
    betas = (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=MAX_BETA)
    return from_betas(betas, "sigmoid_alpha_bar")


def jsd(T: int = 1000) -> Schedule:
    """beta_t = 1/(T - t + 1), hence alpha_bar_t = 1 - t/T (Sohl-Dickstein 1503.03585 sec. 2.4.1).

    alpha_bar_T is exactly 0: at t = T nothing of x0 is left, so noise prediction is undefined there
    (``predict`` says so); use it with x0 or v prediction.
    """
    check_count(T, 1, None, "T")
    return from_betas(1 / torch.arange(T, 0, -1, dtype=torch.float64), "jsd")


# ---- schedules from schedules ------------------------------------------------------------------


def zero_terminal_snr(schedule: Schedule) -> Schedule:
    """Shift and scale sqrt(alpha_bar) so that alpha_bar_T = 0 (Lin et al. 2305.08891, Algorithm 1).

    alpha_bar_1 is kept. At t = T x_t is then pure noise and noise prediction is undefined: use x0
    or v.
    """
    root = schedule.alpha_bar[1:].sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    root[-1] = 0  # for T = 1 the line above says 0/0
    table = torch.cat([schedule.alpha_bar[:1], root**2])
    return Schedule(table, f"{schedule.name}, zero terminal SNR")


def respace(schedule: Schedule, taus: Tensor | Sequence[int]) -> Schedule:
    """The shorter chain that visits only the levels ``taus`` (improved DDPM eq. 19).

    Its alpha_bar are the old ones at taus, so its betas are recomputed from alpha_bar:
    beta'_i = 1 - alpha_bar_{tau_i} / alpha_bar_{tau_{i-1}}. Reading the old ``beta[tau]`` is a bug.

    Args:
        taus: distinct time steps in any order, e.g. from ``timesteps``; 0 is added when missing.
    """
    levels = check_levels(taus, schedule.T)
    if len(set(levels)) != len(levels) or max(levels) == 0:
        raise ValueError(f"taus must be distinct levels, one of them above 0, got {levels}")
    kept = torch.tensor(sorted({0, *levels}))
    return Schedule(schedule.alpha_bar[kept], f"{schedule.name}, {len(kept) - 1} of {schedule.T}")
