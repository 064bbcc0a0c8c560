"""Cards of lecture 01: one step of noise at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...schedules import constant
from .kinds import Card, Choice, Curve, Number

__all__ = ["CARDS"]

T, BETA = 10, 0.2  # the chain of the digit


def _without_the_factor() -> int:
    """Where 1 + the sum of all betas lies among the options."""
    variance = 1 + float(constant(T, BETA).beta.sum())
    return min(range(4), key=lambda k: abs((0.1, 1.0, 3.0, 10.0)[k] - variance))


def _kept() -> float:
    """The product of all sqrt(1 - beta)."""
    return float((1 - constant(T, BETA).beta).sqrt().prod())


def _from_four() -> tuple[Sequence[float], Mapping[str, Sequence[float]]]:
    """The variance after each step, if it is 4 at first."""
    variance = [4.0]
    for beta in constant(T, BETA).beta[1:].tolist():
        variance.append((1 - beta) * variance[-1] + beta)
    return range(T + 1), {"variance": variance}


CARDS: dict[str, Card] = {
    "no_shrink": Choice(
        "Data with variance 1. Each of ten steps adds fresh noise of variance 0.2, and nothing is "
        "made smaller. What is the variance in the end?",
        "Variances of independent things add up: 1 + 10 · 0.2. After a thousand steps it would be "
        "201. A network would have to work with numbers of a different size at every step.",
        ("about 0.1", "1, as before", "3", "about 10"),
        _without_the_factor,
    ),
    "kept": Number(
        "Ten steps with β = 0.2: x₁₀ is some number times x₀, plus noise. Which number?",
        "Every step multiplies by √(1 − 0.2) = 0.894, so ten steps multiply by that to the power "
        "of ten. A third of the contrast is left, under noise with a standard deviation of 0.94: "
        "look whether you can still read the digit.",
        _kept,
        0.01,
        1.0,
        1.25,
        log=True,
    ),
    "variance": Curve(
        "Data of variance 4, ten steps with β = 0.2. Draw the variance of x at every step.",
        "The distance to 1 shrinks by the factor 0.8 at every step, so 4 comes down quickly at "
        "first, then slowly, and never crosses 1.",
        _from_four,
        ("t", 0, T),
        ("variance of x", 0, 5),
        marks=[(0, 4)],
    ),
}
