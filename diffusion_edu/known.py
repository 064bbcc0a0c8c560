r"""Part of x_0 is known: inpainting and colouring with a network that never heard of either.

What is known is a linear picture of x_0, ``part(x_0)``: an orthogonal projection, linear and the
same when applied twice. ``pixels(mask)`` keeps some pixels, ``gray`` the mean of the channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ._checks import check_count, check_time
from .gaussian import standard_normal
from .prediction import Kind, Model, predict
from .sampling import sample
from .schedules import Schedule
from .spacing import levels_of

__all__ = ["Part", "fill_in", "gray", "holding", "pixels"]

Part = Callable[[Tensor], Tensor]  # (B, *D) -> (B, *D)


def pixels(mask: Tensor) -> Part:
    """The part x -> mask x: what the mask (broadcasting with x, True or 1 where known) shows."""

    def seen(x: Tensor) -> Tensor:
        return mask.to(x.dtype) * x

    return seen


def gray(x: Tensor) -> Tensor:
    """The part that a gray picture shows: the mean of the channels (B, C, ...), in each of them."""
    return x.mean(1, keepdim=True).expand_as(x)


def holding(
    model: Model, known: Tensor, part: Part, schedule: Schedule, kind: Kind = "eps"
) -> Model:
    r"""The network with what is known put into the x_0 that it predicts.

    x0 = x0_hat - part(x0_hat) + part(known),    eps = (x_t - sqrt(alpha_bar_t) x0) / sqrt(1 - ...)

    In the part that is known every step is then the exact one, q(x_s | x_t, x_0). The rest follows
    the network, which sees what is known under the noise of x_t only: samples are good guesses and
    not draws from p(x_0 | part(x_0)). For every sampler and any eta.

    Args:
        model: a network without conditions, model(x_t, t), predicting ``kind``.
        known: (B, *D), or of a shape that broadcasts to it; only part(known) is used.
        part: an orthogonal projection, such as ``pixels(mask)`` or ``gray``.
    """

    held = _holding_x0(model, known, part, schedule, kind)
    return lambda x_t, t: predict("x0", held(x_t, t), x_t, t, schedule).eps


def _holding_x0(model: Model, known: Tensor, part: Part, schedule: Schedule, kind: Kind) -> Model:
    """``holding`` as a network that predicts x_0, which can begin where alpha_bar_T = 0."""

    def held(x_t: Tensor, t: Tensor) -> Tensor:
        x0 = predict(kind, model(x_t, t), x_t, t, schedule).x0
        return x0 + part(known.expand_as(x0) - x0)

    return held


@torch.no_grad()
def fill_in(
    model: Model,
    x_T: Tensor,
    known: Tensor,
    part: Part,
    schedule: Schedule,
    taus: Tensor | Sequence[int] | int | None = None,
    *,
    repeats: int = 1,
    eta: float = 1.0,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Tensor:
    r"""Samples x_0 (B, *D) with part(x_0) = part(known): ``sample`` with ``holding``.

    Each step t -> s can be made several times, with the noise of t put back in between (RePaint,
    2201.09865, Algorithm 1): the rest then comes to terms with what is known at this level.

        x_t = sqrt(alpha_bar_t / alpha_bar_s) x_s + sqrt(1 - alpha_bar_t / alpha_bar_s) z

    Args:
        x_T: (B, *D), noise.
        taus: levels, as for ``sample``.
        repeats: how often each step is made; 1 is plain ``sample``. The cost grows with it.
        options: clip and kind, as for ``sample``; a clip would change the part of ``gray``.

    Raises:
        ValueError: known does not broadcast to x_T; repeats < 1.
    """
    _check_broadcasts(known, x_T)
    check_count(repeats, 1, None, "repeats")
    kind = options.pop("kind", "eps")
    held, x = _holding_x0(model, known, part, schedule, kind), x_T
    options |= {"kind": "x0", "eta": eta, "generator": generator}
    for t, s in pairwise(levels_of(taus, schedule.T)):
        for again in range(repeats):
            if again:
                x = _back_to(x, s, t, schedule, generator)
            x = next(sample(held, x, schedule, [t, s], **options)).x_s
    return x


def _check_broadcasts(known: Tensor, x_T: Tensor) -> None:
    fits = known.ndim == x_T.ndim
    if not fits or any(k not in (1, n) for k, n in zip(known.shape, x_T.shape, strict=True)):
        raise ValueError(
            f"known must have the shape of x_T or broadcast to it, got known "
            f"{tuple(known.shape)} and x_T {tuple(x_T.shape)}"
        )


def _back_to(
    x_s: Tensor, s: int, t: int, schedule: Schedule, generator: torch.Generator | None
) -> Tensor:
    """A draw from q(x_t | x_s), several steps of noise at once."""
    check_time(t, s + 1, schedule.T)
    keep = float(schedule.alpha_bar[t] / schedule.alpha_bar[s])
    return keep**0.5 * x_s + (1 - keep) ** 0.5 * standard_normal(x_s, generator)
