r"""What a network may predict: eps, x0, v or the score, each from any other; and guidance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ._checks import Time, check_choice, check_same_shape, check_time
from .schedules import Schedule, at, lookup

__all__ = ["Kind", "Model", "Prediction", "guided", "predict"]

Model = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, *D), t (B,) int64 in 1..T) -> (B, *D)
Kind = Literal["eps", "x0", "v", "score"]


class Prediction(NamedTuple):
    """One prediction in four equivalent forms, each (B, *D)."""

    eps: Tensor
    x0: Tensor
    v: Tensor
    score: Tensor


def predict(kind: Kind, output: Tensor, x_t: Tensor, t: Time, schedule: Schedule) -> Prediction:
    r"""Express a network's output in all four parametrisations.

    With a = sqrt(alpha_bar_t), b = sqrt(1 - alpha_bar_t), so that x_t = a x0 + b eps:

        x0    = (x_t - b eps) / a          DDPM eq. 15, DDIM eq. 9
        eps   = (x_t - a x0) / b
        v     = a eps - b x0               Salimans & Ho (2202.00512) sec. 4
        score = -eps / b                   the gradient of log q(x_t); Song et al. (2011.13456)

    Args:
        kind: what ``output`` is.
        output, x_t: (B, *D).
        t: int or (B,) int64 in 1..T.

    Raises:
        ValueError: unknown kind; or alpha_bar_t = 0 with kind "eps" or "score": pure noise carries
            no trace of x0, so x0 = 0/0 there.
    """
    check_same_shape(x_t=x_t, output=output)
    check_kind(kind, t, schedule)
    a, b = at(schedule.sqrt_alpha_bar, t, x_t), at(schedule.sqrt_one_minus_alpha_bar, t, x_t)
    return all_kinds(*eps_and_x0(kind, output, x_t, a, b), a, b)


def all_kinds(eps: Tensor, x0: Tensor, a: Tensor, b: Tensor) -> Prediction:
    """v and the score beside the eps and x0 that they stand for (formulas: ``predict``)."""
    return Prediction(eps, x0, v=a * eps - b * x0, score=-eps / b)


def eps_and_x0(
    kind: Kind, output: Tensor, x_t: Tensor, a: Tensor | float, b: Tensor | float
) -> tuple[Tensor, Tensor]:
    """The two halves of x_t = a x0 + b eps, from a network's output (formulas: ``predict``)."""
    if kind == "x0":
        return mix(1 / b, x_t, -a / b, output), output
    if kind == "v":
        return mix(b, x_t, a, output), mix(a, x_t, -b, output)
    eps = output if kind == "eps" else -b * output
    return eps, mix(1 / a, x_t, -b / a, eps)


def mix(a: Tensor | float, x: Tensor, b: Tensor | float, y: Tensor) -> Tensor:
    """a x + b y. For numbers in two passes over memory and one new tensor: samplers notice."""
    return (a * x).add_(y, alpha=b) if isinstance(b, float) else a * x + b * y


def between(low: Tensor | float, high: Tensor | float, v: Tensor) -> Tensor:
    """low at v = -1, high at v = 1, geometric in between: how v stands for a variance."""
    return low * (high / low) ** ((v + 1) / 2)


def check_kind(kind: str, t: Time, schedule: Schedule) -> None:
    """Raise ValueError for an unknown kind, t outside 1..T, or eps and score at alpha_bar_t = 0."""
    check_choice(kind, get_args(Kind), "kind")
    check_time(t, 1, schedule.T)
    if kind in ("eps", "score") and bool((lookup(schedule.alpha_bar, t) == 0).any()):
        raise ValueError(
            f"kind={kind!r} cannot be used where alpha_bar_t = 0 ({schedule.name!r} at "
            f"t={schedule.T}): x_t is pure noise there; predict x0 or v instead"
        )


def batch_time(t: Time, like: Tensor) -> Tensor:
    """t as networks take it: (B,) int64 on the device of ``like`` (B, *D)."""
    return torch.as_tensor(t, device=like.device).expand(len(like))


def guided(model: Callable[..., Tensor], y: Any, guidance: float = 1.0) -> Model:
    r"""Classifier-free guidance (Ho & Salimans 2207.12598 eq. 6) as an ordinary network.

    eps = eps(x_t, t) + guidance (eps(x_t, t, y) - eps(x_t, t))

    guidance = 1 is the conditional network, 0 the unconditional one, > 1 pushes towards y. The
    paper counts from the conditional network: its w is guidance - 1.

    Args:
        model: class-conditional network, model(x_t, t, y); y=None selects its null class.
        y: (B,) class labels, or whatever ``model`` takes.
    """

    def guided_model(x_t: Tensor, t: Tensor) -> Tensor:
        # At 1 and 0 one of the two networks cancels: leave it out, exactly and at half the cost.
        if guidance == 1:
            return model(x_t, t, y)
        unconditional = model(x_t, t, None)
        if guidance == 0:
            return unconditional
        return unconditional + guidance * (model(x_t, t, y) - unconditional)

    return guided_model
