r"""Walking back when x_0 is known: the Bayes posterior of DDPM and DDIM's family q_sigma."""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import Time, check_same_shape, check_time
from .gaussian import Gaussian
from .schedules import Schedule, at, lookup, per_example

__all__ = ["ddim_sigma", "q_posterior", "q_sigma", "q_sigma_forward"]


def q_posterior(x_t: Tensor, x0: Tensor, t: Time, schedule: Schedule) -> Gaussian:
    r"""Where x_t came from, by Bayes' rule; DDPM eq. 6-7.

    q(x_{t-1} | x_t, x_0) = N( mu_tilde, beta_tilde_t I )
    mu_tilde = sqrt(alpha_bar_{t-1}) beta_t / (1 - alpha_bar_t) x_0
             + sqrt(alpha_t) (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) x_t
    beta_tilde_t = (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) beta_t

    Args:
        x_t, x0: (B, *D).
        t: int or (B,) int64 in 1..T. At t = 1 the result is the point mass at x0.
    """
    check_same_shape(x_t=x_t, x0=x0)
    check_time(t, 1, schedule.T)
    previous = schedule.alpha_bar.roll(1)  # alpha_bar_{t-1} at index t; index 0 is never read
    noise = 1 - schedule.alpha_bar
    on_x0 = previous.sqrt() * schedule.beta / noise
    on_xt = schedule.alpha.sqrt() * (1 - previous) / noise
    mean = at(on_x0, t, x_t) * x0 + at(on_xt, t, x_t) * x_t
    return Gaussian(mean, at(schedule.beta_tilde, t, x_t))


def ddim_sigma(t: Time, s: Time, eta: float, schedule: Schedule) -> Tensor:
    r"""The noise scale of a step from level t to level s < t, DDIM (2010.02502) eq. 16.

    sigma = eta sqrt( (1 - alpha_bar_s) / (1 - alpha_bar_t) ) sqrt( 1 - alpha_bar_t / alpha_bar_s )

    eta = 0 is DDIM, eta = 1 is DDPM (sigma^2 = beta_tilde_t when s = t-1).

    Returns:
        float64, 0-dim for ints, (B,) for tensors.
    """
    _check_pair(t, s, schedule)
    if not eta >= 0:
        raise ValueError(f"eta must be >= 0 (0 is DDIM, 1 is DDPM), got eta={eta}")
    ab_t, ab_s = lookup(schedule.alpha_bar, t), lookup(schedule.alpha_bar, s)
    return eta * ((1 - ab_s) / (1 - ab_t)).sqrt() * (1 - ab_t / ab_s).sqrt()


def q_sigma(
    x_t: Tensor, x0: Tensor, t: Time, s: Time, sigma: Tensor | float, schedule: Schedule
) -> Gaussian:
    r"""DDIM's family of posteriors, DDIM eq. 7, for any pair 0 <= s < t.

    q_sigma(x_s | x_t, x_0)
        = N( sqrt(alpha_bar_s) x_0 + sqrt(1 - alpha_bar_s - sigma^2) eps, sigma^2 I )
    with eps = (x_t - sqrt(alpha_bar_t) x_0) / sqrt(1 - alpha_bar_t).

    Every sigma^2 <= 1 - alpha_bar_s keeps the marginals q(x_s | x_0) (DDIM Lemma 1).

    Args:
        x_t, x0: (B, *D).
        t, s: int or (B,) int64.
        sigma: number, 0-dim or (B,) tensor, e.g. from ``ddim_sigma``.

    Raises:
        ValueError: s >= t, or sigma^2 > 1 - alpha_bar_s.
    """
    check_same_shape(x_t=x_t, x0=x0)
    _check_pair(t, s, schedule)
    sigma = _check_sigma(sigma, len(x_t))
    noise_t = at(schedule.sqrt_one_minus_alpha_bar, t, x_t)
    eps = (x_t - at(schedule.sqrt_alpha_bar, t, x_t) * x0) / noise_t
    direction = per_example(direction_weight(s, sigma, schedule), x_t)
    mean = at(schedule.sqrt_alpha_bar, s, x_t) * x0 + direction * eps
    return Gaussian(mean, per_example(sigma**2, x_t))


def q_sigma_forward(
    x_s: Tensor, x0: Tensor, t: Time, s: Time, sigma: Tensor | float, schedule: Schedule
) -> Gaussian:
    r"""The forward process that belongs to q_sigma: q_sigma(x_t | x_s, x_0), DDIM eq. 8.

    Bayes' rule for q_sigma(x_s | x_t, x_0) with the marginals q(x_t | x_0) and q(x_s | x_0). It
    depends on x_0 as well as on x_s: no Markov chain, except for DDPM's sigma (eta = 1).

    With c = sqrt(1 - alpha_bar_s - sigma^2), r_s = x_s - sqrt(alpha_bar_s) x_0:
    mean = sqrt(alpha_bar_t) x_0 + c sqrt(1 - alpha_bar_t) / (1 - alpha_bar_s) r_s
    var  = (1 - alpha_bar_t) sigma^2 / (1 - alpha_bar_s)

    Args:
        t, s: int or (B,) int64 with 1 <= s < t: at s = 0 x_s is x_0 itself, and
            q_marginal says it all.
    """
    check_same_shape(x_s=x_s, x0=x0)
    check_time(s, 1, schedule.T, name="s")
    _check_pair(t, s, schedule)
    sigma = _check_sigma(sigma, len(x_s))
    clean_t, clean_s = (at(schedule.sqrt_alpha_bar, level, x_s) * x0 for level in (t, s))
    noise_t, noise_s = 1 - lookup(schedule.alpha_bar, t), 1 - lookup(schedule.alpha_bar, s)
    slope = direction_weight(s, sigma, schedule) * noise_t.sqrt() / noise_s
    var = noise_t * sigma**2 / noise_s
    return Gaussian(clean_t + per_example(slope, x_s) * (x_s - clean_s), per_example(var, x_s))


def _check_pair(t: Time, s: Time, schedule: Schedule) -> None:
    check_time(t, 1, schedule.T)
    batch = len(t) if isinstance(t, Tensor) and t.ndim else None
    check_time(s, 0, schedule.T, batch, name="s")
    ordered = torch.as_tensor(s).cpu() < torch.as_tensor(t).cpu()
    if not bool(ordered.all()):
        raise ValueError(f"s must be below t (a step back goes from t to s), got s={s}, t={t}")


def _check_sigma(sigma: Tensor | float, batch: int) -> Tensor:
    sigma = torch.as_tensor(sigma, dtype=torch.float64).cpu()
    if sigma.ndim > 0 and sigma.shape != (batch,):
        raise ValueError(
            f"sigma must be a number or have shape ({batch},), got {tuple(sigma.shape)}"
        )
    if not bool((sigma >= 0).all()):
        raise ValueError(f"sigma must be >= 0, got {sigma.min():.6g}: it is a standard deviation")
    return sigma


def direction_weight(s: Time, sigma: Tensor, schedule: Schedule) -> Tensor:
    """sqrt(1 - alpha_bar_s - sigma^2) in float64: the weight of eps in q_sigma."""
    room = 1 - lookup(schedule.alpha_bar, s) - sigma**2
    if not bool((room >= -1e-12).all()):
        worst = torch.as_tensor(s).expand_as(room).flatten()[room.argmin()]
        raise ValueError(
            f"sigma^2 must be at most 1 - alpha_bar_s, exceeded by {-room.min():.3g} at "
            f"s={worst}: use sigma = ddim_sigma(t, s, eta, schedule) with eta <= 1"
        )
    return room.clamp(min=0).sqrt()  # rounding can leave -1e-17 at eta = 1, s = 0
