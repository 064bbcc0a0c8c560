r"""The forward process q: turning data into noise, one step or all steps at once."""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import Time, check_chain_noise, check_float, check_same_shape, check_time
from .gaussian import Gaussian, standard_normal
from .schedules import Schedule, at

__all__ = ["forward_chain", "q_marginal", "q_sample", "q_step"]


def q_step(x_prev: Tensor, t: Time, schedule: Schedule) -> Gaussian:
    r"""One step of the Markov chain, DDPM eq. 2.

    q(x_t | x_{t-1}) = N( sqrt(1 - beta_t) x_{t-1}, beta_t I )

    Args:
        x_prev: (B, *D), the state at level t-1.
        t: int or (B,) int64 in 1..T.
    """
    check_time(t, 1, schedule.T)
    return Gaussian(at(schedule.alpha, t, x_prev).sqrt() * x_prev, at(schedule.beta, t, x_prev))


def q_marginal(x0: Tensor, t: Time, schedule: Schedule) -> Gaussian:
    r"""t steps at once, DDPM eq. 4.

    q(x_t | x_0) = N( sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I )

    Args:
        x0: (B, *D), clean data.
        t: int or (B,) int64 in 0..T; t = 0 gives the point mass at x0.
    """
    # 1 - alpha_bar is taken in float64: 1 - 0.9999 loses four digits in float32.
    return Gaussian(at(schedule.sqrt_alpha_bar, t, x0) * x0, at(1 - schedule.alpha_bar, t, x0))


def q_sample(x0: Tensor, t: Time, eps: Tensor, schedule: Schedule) -> Tensor:
    r"""A sample of q(x_t | x_0) made from the noise ``eps`` (the reparametrised DDPM eq. 4).

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps

    Args:
        x0, eps: (B, *D).
        t: int or (B,) int64 in 0..T.

    Returns:
        (B, *D).
    """
    check_float(x0=x0, eps=eps)
    check_same_shape(x0=x0, eps=eps)
    signal, noise = at(schedule.sqrt_alpha_bar, t, x0), at(schedule.sqrt_one_minus_alpha_bar, t, x0)
    return signal * x0 + noise * eps


def forward_chain(
    x0: Tensor,
    schedule: Schedule,
    eps: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""The whole chain x_0, x_1, ..., x_T, step by step (DDPM eq. 2).

    Args:
        x0: (B, *D).
        eps: (T, B, *D), the noise of steps 1..T; drawn from ``generator`` when missing.

    Returns:
        (T+1, B, *D).
    """
    check_float(x0=x0)
    check_chain_noise(eps, schedule.T, x0)
    chain = [x0]
    for t in range(1, schedule.T + 1):
        z = standard_normal(x0, generator) if eps is None else eps[t - 1]
        chain.append(q_step(chain[-1], t, schedule).sample(z))
    return torch.stack(chain)
