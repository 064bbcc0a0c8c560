"""E2, the cosine schedule: the right function, and the wrong ones that have a name."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..spec import Graded, Mistake

COSINE = "02, Other schedules"


def _cosine(T: int, s: float) -> Tensor:
    u = torch.arange(T + 1, dtype=torch.float64) / T
    return torch.cos((u + s) / (1 + s) * math.pi / 2) ** 2


def cosine_alpha_bar(T: int, s: float = 0.008) -> Tensor:
    """f(t)/f(0) with f(t) = cos^2((t/T + s)/(1 + s) pi/2), betas cut at 0.999, (T+1,)."""
    bar = _cosine(T, s) / _cosine(T, s)[0]
    beta = (1 - bar[1:] / bar[:-1]).clamp(max=0.999)
    return torch.cat([torch.ones(1), (1 - beta).cumprod(0)])


def _cosine_by_halves(T: int, s: float = 0.008) -> Tensor:
    # cos^2(a) = (1 + cos 2a) / 2
    u = torch.linspace(0, 1, T + 1, dtype=torch.float64)
    f = (1 + torch.cos((u + s) / (1 + s) * math.pi)) / 2
    return _cut(f / f[0])


def _cut(bar: Tensor) -> Tensor:
    ratio = torch.maximum(bar[1:] / bar[:-1], torch.tensor(0.001))
    return torch.cat([torch.ones(1, dtype=bar.dtype), ratio.cumprod(0)])


def _cosine_by_loop(T: int, s: float = 0.008) -> Tensor:
    f = [math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 for t in range(T + 1)]
    bar = [1.0]
    for t in range(1, T + 1):
        bar.append(bar[-1] * (1 - min(1 - f[t] / f[t - 1], 0.999)))
    return torch.tensor(bar)


def _cosine_last_only(T: int, s: float = 0.008) -> Tensor:
    # Only the last beta ever comes to the limit.
    bar = _cosine(T, s) / _cosine(T, s)[0]
    bar[T] = torch.maximum(bar[T], 0.001 * bar[T - 1])
    return bar


def _unclipped(T: int, s: float = 0.008) -> Tensor:
    return (_cosine(T, s) / _cosine(T, s)[0]).clamp(min=0)


COSINE_ALPHA_BAR = Graded(
    "cosine_alpha_bar",
    cosine_alpha_bar,
    # A large s makes the normalisation visible, and few steps the last beta.
    lambda w: [(w.sch.T,), (w.sch.T, 0.2), (1, 0.05)],
    (
        Mistake(
            "cosine_not_normalised",
            lambda T, s=0.008: _cosine(T, s)[0] * cosine_alpha_bar(T, s),
            "f(t) was not divided by f(0): at t = 0 some noise is left in alpha_bar.",
            COSINE,
        ),
        Mistake(
            "cosine_beta_unclipped",
            _unclipped,
            "alpha_bar ends at 0, so the last beta is 1 and the last step back divides by zero. "
            "The paper cuts every beta at 0.999.",
            COSINE,
            credit=0.5,
        ),
        Mistake(
            "cosine_not_squared",
            lambda T, s=0.008: _cut((_cosine(T, s) / _cosine(T, s)[0]).sqrt()),
            "The cosine is squared in f(t); this is the factor of the signal, not alpha_bar.",
            COSINE,
        ),
        Mistake(
            "cosine_offset_forgotten",
            lambda T, s=0.008: cosine_alpha_bar(T, 0.0),
            "The small offset s is not used. It keeps the first steps from being too small.",
            COSINE,
        ),
        Mistake(
            "length_T_not_T_plus_1",
            lambda T, s=0.008: cosine_alpha_bar(T, s)[1:],
            "The table has T entries. It needs T + 1: entry 0 is clean data, alpha_bar[0] = 1.",
            COSINE,
            credit=0.5,
        ),
    ),
    (_cosine_by_halves, _cosine_by_loop, _cosine_last_only),
    close_forms=True,
)
