"""Cards of lecture 02: the jump to any t."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ...schedules import linear
from .kinds import Card, Choice, Curve, Number

__all__ = ["CARDS"]

A, B = 0.6, 0.8  # factors of the two noises
OFF = 0.1  # error of the noise


def _merged() -> int:
    """The option that is nearest to the root of A^2 + B^2."""
    options = (A + B, math.hypot(A, B), A * B, (A + B) / 2)
    return min(range(4), key=lambda k: abs(options[k] - math.sqrt(A**2 + B**2)))


def _short() -> float:
    """alpha_bar at the end of 100 steps with the betas of 1,000."""
    return float(linear(100, 1e-4, 0.02).alpha_bar[-1])


def _error() -> tuple[Sequence[float], Mapping[str, Sequence[float]]]:
    """log10 of the error of x0: OFF divided by the root of SNR."""
    times = [1, *range(10, 1001, 10)]
    snr = linear(1000, 1e-4, 0.02).snr[times]
    return times, {"error": (OFF / snr.sqrt()).log10().tolist()}


CARDS: dict[str, Card] = {
    "merge": Choice(
        "ε₁ and ε₂ are independent standard normal noise. 0.6 ε₁ + 0.8 ε₂ is distributed like one "
        "standard normal noise times ...?",
        "Variances add, not standard deviations: 0.6² + 0.8² = 0.36 + 0.64 = 1. As in the theorem "
        "of Pythagoras, two independent noises stand at right angles to each other.",
        ("1.4", "1", "0.48", "0.7"),
        _merged,
    ),
    "short": Number(
        "Data of variance 1. β from 0.0001 to 0.02 in equal steps, as in DDPM, but T = 100 steps "
        "instead of 1,000. Which share of the variance of the last x is still data?",
        "A hundred steps with a mean β of 0.01 add up to 1, so the share is about 1/e. Sampling "
        "would start from pure noise, which this chain never reaches. `linear(T=100)` multiplies "
        "the β by ten for that reason.",
        _short,
        0.0,
        1.0,
        0.05,
    ),
    "error": Curve(
        "A network's ε is off by 0.1 at every t. Draw how far the x₀ computed from it is off, as a "
        "power of ten: −1 means 0.1 (DDPM's schedule).",
        "The error is divided by the root of the signal-to-noise ratio. Where signal and noise are "
        "equally strong it stays 0.1; at t = 1 it is 0.001; at t = 1,000 it is 16, far "
        "outside all data. At high noise one jump to x₀ is a guess.",
        _error,
        ("t", 0, 1000),
        ("log₁₀ of the error of x₀", -4, 2),
    ),
}
