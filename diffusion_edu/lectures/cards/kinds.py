"""The three kinds of predict cards: a choice, a number, a drawn curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Card", "Choice", "Curve", "Number"]


@dataclass(frozen=True)
class Card:
    """What all cards have.

    Attributes:
        question: Markdown without formulas; symbols in Unicode (ᾱ, β, √, ε, x₀).
        why: what is said with the answer: two or three sentences, Markdown without formulas.
    """

    question: str
    why: str

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        from ...widgets.card_view import mimebundle

        return mimebundle(self)


@dataclass(frozen=True)
class Choice(Card):
    """Choose one.

    Attributes:
        options: two to five answers.
        answer: () -> the index of the right one, computed.
    """

    options: Sequence[str]
    answer: Callable[[], int]


@dataclass(frozen=True)
class Number(Card):
    """Guess a number.

    Attributes:
        answer: () -> the number, computed.
        low, high: the ends of the slider.
        close: a guess within this factor (log=True) or distance (log=False) counts as right.
        log: the slider is logarithmic; low > 0 then.
        unit: written behind the number.
    """

    answer: Callable[[], float]
    low: float
    high: float
    close: float
    log: bool = False
    unit: str = ""


@dataclass(frozen=True)
class Curve(Card):
    """Draw a curve.

    Attributes:
        answer: () -> (x, {label: y, ...}), computed: a true curve or several.
        x, y: (label, low, high) of the axes.
        marks: points that are given, [(x, y), ...].
    """

    answer: Callable[[], tuple[Sequence[float], Mapping[str, Sequence[float]]]]
    x: tuple[str, float, float]
    y: tuple[str, float, float]
    marks: Sequence[tuple[float, float]] = ()
