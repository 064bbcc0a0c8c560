"""Argument checks shared by the library: every error names the argument, its value and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

__all__ = [
    "Time",
    "check_chain_noise",
    "check_choice",
    "check_clip",
    "check_count",
    "check_float",
    "check_heads",
    "check_levels",
    "check_same_shape",
    "check_time",
    "first_bad",
]

Time = int | Tensor  # a time step: one int for the whole batch, or one int64 per example


def check_time(t: Time, low: int, high: int, batch: int | None = None, name: str = "t") -> None:
    """Raise ValueError unless ``t`` is an int, or a (B,) int64 tensor, within [low, high]."""
    if isinstance(t, bool) or not isinstance(t, int | Tensor):
        kind = type(t).__name__
        raise ValueError(
            f"{name} must be an int or an int64 tensor, got {kind} {t!r}: use int({name})"
        )
    if isinstance(t, int):
        if not low <= t <= high:
            raise ValueError(f"{name} must lie in {low}..{high}, got {name}={t}")
        return
    if t.dtype != torch.int64:
        raise ValueError(f"{name} must have dtype torch.int64, got {t.dtype}: use {name}.long()")
    if t.ndim > 1 or (t.ndim == 1 and batch is not None and t.shape[0] != batch):
        wanted = "(B,)" if batch is None else f"({batch},), one value per example,"
        raise ValueError(f"{name} must be an int or have shape {wanted} got {tuple(t.shape)}")
    if t.numel() and not (low <= int(t.min()) and int(t.max()) <= high):
        bad = t[(t < low) | (t > high)].flatten()[0].item()
        raise ValueError(f"{name} must lie in {low}..{high}, got {name}={bad}")


def check_same_shape(**tensors: Tensor) -> None:
    """Raise ValueError unless all tensors have one shape (silent broadcasting hides bugs)."""
    (first, a), *rest = tensors.items()
    for name, b in rest:
        if a.shape != b.shape:
            raise ValueError(
                f"{name} must have the shape of {first}: got {name} {tuple(b.shape)} "
                f"and {first} {tuple(a.shape)}"
            )


def check_float(**tensors: Tensor) -> None:
    """Raise ValueError unless every tensor has a floating dtype."""
    for name, x in tensors.items():
        if not isinstance(x, Tensor):
            raise ValueError(
                f"{name} must be a torch tensor, got {type(x).__name__}: "
                f"use torch.as_tensor({name})"
            )
        if not x.is_floating_point():
            raise ValueError(
                f"{name} must have a floating dtype, got {x.dtype}: use {name}.float()"
            )


def check_heads(output: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor]:
    """The prediction and v, the halves of ``output``; ValueError unless it has 2C channels."""
    wanted = (len(x_t), 2 * x_t.shape[1], *x_t.shape[2:])
    if output.shape != wanted:
        raise ValueError(
            f"output must have 2C channels where the variance is learned, shape {wanted}, got "
            f"{tuple(output.shape)}: let the network return v as well, or use a fixed variance"
        )
    prediction, v = output.chunk(2, dim=1)
    return prediction, v


def check_chain_noise(eps: Tensor | None, T: int, x0: Tensor) -> None:
    """Raise ValueError unless ``eps``, the noise of steps 1..T, is None or (T, B, *D)."""
    if eps is not None and eps.shape != (T, *x0.shape):
        raise ValueError(
            f"eps must have shape (T, B, *D) = {(T, *x0.shape)}, got {tuple(eps.shape)}"
        )


def check_choice(value: object, choices: Iterable[str], name: str) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``; suggests the nearest valid name."""
    choices = list(choices)
    if value in choices:
        return
    near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"unknown {name} {value!r}; choose from {', '.join(map(repr, choices))}.{hint}"
    )


def check_count(n: int, low: int, high: int | None, name: str) -> None:
    """Raise ValueError unless the int ``n`` lies in [low, high]."""
    if isinstance(n, bool) or not isinstance(n, int) or n < low or (high is not None and n > high):
        wanted = f"an int >= {low}" if high is None else f"an int in {low}..{high}"
        raise ValueError(f"{name} must be {wanted}, got {name}={n!r}")


def check_levels(taus: Tensor | Sequence[int], T: int) -> list[int]:
    """``taus`` as a list of ints; ValueError unless it holds whole numbers in 0..T."""
    values = taus.tolist() if isinstance(taus, Tensor) else taus
    if not isinstance(values, Sequence) or not len(values):
        raise ValueError(f"taus must be a non-empty series of levels in 0..{T}, got {taus!r}")
    bad = [t for t in values if t != int(t) or not 0 <= t <= T]
    if bad:
        raise ValueError(
            f"taus must hold whole numbers in 0..{T}, got {bad[0]}: use timesteps({T}, steps)"
        )
    return [int(t) for t in values]


def check_clip(clip: float | Sequence[float] | None) -> tuple[float, float] | None:
    """The bounds (low, high) meant by ``clip``: c stands for (-c, c), None for no bounds."""
    if clip is None:
        return None
    low, high = clip if isinstance(clip, Sequence) else (-clip, clip)
    if not low < high:
        raise ValueError(f"clip must be c > 0 or (low, high) with low < high, got clip={clip}")
    return low, high


def first_bad(mask: Tensor | Sequence[bool]) -> int:
    """Index of the first True in a 1-D mask (for error messages)."""
    return int(torch.as_tensor(mask).nonzero()[0])
