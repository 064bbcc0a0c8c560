"""The three kinds of predict cards: a choice, a number, a drawn curve."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

__all__ = ["Card", "Choice", "Curve", "Number", "plain"]

MOST_POINTS = 201  # of a true curve that are drawn


@dataclass(frozen=True)
class Card:
    """What all cards have.

    Attributes:
        question: Markdown without formulas; symbols in Unicode (ᾱ, β, √, ε, x₀).
        why: what is said with the answer: two or three sentences, Markdown without formulas.
    """

    question: str
    why: str

    def __post_init__(self) -> None:
        for name in ("question", "why"):
            _check_text(getattr(self, name), name)

    @property
    def plain(self) -> str:
        """The question, and what there is to choose, without marks of Markdown."""
        return plain(self.question)

    def asked(self) -> dict[str, Any]:
        """What a view has to know before the answer, as JSON."""
        return {"kind": type(self).__name__.lower(), "question": self.question}

    def checked(self, guess: Any) -> Any:
        """The guess of a view; ValueError if it is none."""
        raise NotImplementedError

    def computed(self) -> Any:
        """The answer as JSON, computed now; ValueError if it cannot be the answer of this card."""
        raise NotImplementedError

    def said(self, guess: Any) -> str:
        """A guess, or the answer of a choice or number, in words."""
        raise NotImplementedError

    def _ipython_display_(self) -> None:
        from ...widgets.card_view import display_card

        display_card(self)

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

    def __post_init__(self) -> None:
        super().__post_init__()
        options = self.options
        if isinstance(options, str) or not 2 <= len(options) <= 5:
            raise ValueError(f"options must be two to five texts, got options={options!r}")
        for k, option in enumerate(options):
            _check_text(option, f"options[{k}]")
        if len(set(options)) < len(options):
            raise ValueError(f"options must differ from each other, got options={options!r}")
        _check_answer(self.answer)

    @property
    def plain(self) -> str:
        """The question and the options."""
        return "\n".join([plain(self.question), *(self.said(k) for k in range(len(self.options)))])

    def asked(self) -> dict[str, Any]:
        """With the options."""
        return {**super().asked(), "options": list(self.options)}

    def checked(self, guess: Any) -> int:
        """An index of ``options``."""
        try:
            index = operator.index(guess)
        except TypeError:
            raise ValueError(f"a guess must be an index of options, got {guess!r}") from None
        if not 0 <= index < len(self.options):
            raise ValueError(f"a guess must lie in 0..{len(self.options) - 1}, got {index}")
        return index

    def computed(self) -> int:
        """The index of the right option."""
        found = self.answer()
        try:
            return self.checked(found)
        except ValueError:
            last = len(self.options) - 1
            raise ValueError(
                f"answer() must return an index of options, 0..{last}, got {found!r}"
            ) from None

    def said(self, guess: int) -> str:
        """b) a tenth."""
        return f"{'abcde'[guess]}) {plain(self.options[guess])}"


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

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_answer(self.answer)
        _check_span(self.low, self.high, "")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be above 0 if log=True, got low={self.low}: use log=False")
        least, what = (1, "a factor above 1") if self.log else (0, "a distance above 0")
        if not (_finite(self.close) and self.close > least):
            raise ValueError(f"close must be {what} if log={self.log}, got close={self.close}")

    def asked(self) -> dict[str, Any]:
        """With the slider."""
        span = {"low": float(self.low), "high": float(self.high), "log": bool(self.log)}
        return {**super().asked(), **span, "close": float(self.close), "unit": self.unit}

    def checked(self, guess: Any) -> float:
        """A number in [low, high]."""
        if not _finite(guess) or not self.low <= guess <= self.high:
            wanted = f"a number in {self.low:g}..{self.high:g}"
            raise ValueError(f"a guess must be {wanted}, got {guess!r}")
        return float(guess)

    def computed(self) -> float:
        """The number."""
        found = self.answer()
        try:
            value = float(found)
        except (TypeError, ValueError):
            raise ValueError(f"answer() must return a number, got {found!r}") from None
        if not self.low <= value <= self.high:
            raise ValueError(
                f"answer() is {value:g}, outside {self.low:g}..{self.high:g}: widen low..high"
            )
        return value

    def said(self, guess: float) -> str:
        """The number in three figures, with its unit."""
        return f"{guess:.3g} {self.unit}".strip()


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

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_answer(self.answer)
        for name, axis in (("x", self.x), ("y", self.y)):
            if isinstance(axis, str) or len(axis) != 3:
                raise ValueError(f"{name} must be (label, low, high), got {name}={axis!r}")
            _check_text(axis[0], f"the label of {name}")
            _check_span(axis[1], axis[2], f"{name}: ")
        for mark in self.marks:
            if len(mark) != 2 or not all(map(_inside, mark, (self.x, self.y))):
                raise ValueError(f"marks must be points (x, y) within the axes, got {mark!r}")

    def asked(self) -> dict[str, Any]:
        """With the axes and what is given."""
        axes = {
            name: {"label": label, "low": float(low), "high": float(high)}
            for name, (label, low, high) in (("x", self.x), ("y", self.y))
        }
        return {**super().asked(), **axes, "marks": [[float(v) for v in m] for m in self.marks]}

    def checked(self, guess: Any) -> list[float]:
        """Heights at places that are equally far apart, from one end of the x axis to the other."""
        if not isinstance(guess, Sequence) or len(guess) < 2:
            raise ValueError(f"a guess must be a list of heights, got {guess!r}")
        if not all(_inside(y, self.y) for y in guess):
            raise ValueError(f"a guess must stay in {self.y[1]:g}..{self.y[2]:g}, got {guess!r}")
        return [float(y) for y in guess]

    def computed(self) -> dict[str, Any]:
        """{"x": [...], "curves": [[label, [...]], ...]}."""
        try:
            x, curves = self.answer()
            xs = [float(v) for v in x]
            ys = {str(label): [float(v) for v in y] for label, y in curves.items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"answer() must return (x, {{label: y}}): {error}") from error
        if len(xs) < 2 or not ys or any(len(y) != len(xs) for y in ys.values()):
            lengths = {"x": len(xs), **{label: len(y) for label, y in ys.items()}}
            raise ValueError(f"answer() must return x and curves of one length, got {lengths}")
        if not all(a < b for a, b in pairwise(xs)):
            raise ValueError("answer() must return an x that ascends: sort it")
        for name, axis, values in [("x", self.x, xs), *((k, self.y, y) for k, y in ys.items())]:
            bad = [v for v in values if not _inside(v, axis)]
            if bad:
                label, low, high = axis
                raise ValueError(
                    f"answer(): {name} is {bad[0]:g} somewhere, outside the axis {label!r}, "
                    f"{low:g}..{high:g}: widen it"
                )
        count = min(len(xs), MOST_POINTS)
        keep = [round(k * (len(xs) - 1) / (count - 1)) for k in range(count)]
        short = [[label, [_round(y[k]) for k in keep]] for label, y in ys.items()]
        return {"x": [_round(xs[k]) for k in keep], "curves": short}

    def said(self, guess: Sequence[float]) -> str:
        """Five of its heights: y = 1, 0.5, 0 at t = 0, 5, 10."""
        (label, low, high), last = self.x, len(guess) - 1
        at = sorted({round(k * last / 4) for k in range(5)})
        digits = 2 - math.floor(math.log10(self.y[2] - self.y[1]))  # finer than a pen
        heights = ", ".join(f"{round(guess[k], digits) + 0.0:g}" for k in at)
        places = ", ".join(f"{low + k / last * (high - low):.3g}" for k in at)
        return f"{plain(self.y[0])} = {heights} at {plain(label)} = {places}"


MARKS = re.compile(r"\*\*(.+?)\*\*|(?<![\w*])\*(?=\S)([^*]+?)\*(?![\w*])|`([^`]+)`")


def plain(text: str) -> str:
    """Without ``**bold**``, ``*italic*`` and marks of code."""
    return MARKS.sub(lambda m: next(filter(None, m.groups())), text)


def _check_text(text: Any, name: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{name} must be a text, got {text!r}: write one")


def _check_answer(answer: Any) -> None:
    if not callable(answer):
        raise ValueError(f"answer must be a function without arguments, got answer={answer!r}")


def _check_span(low: Any, high: Any, name: str) -> None:
    if not (_finite(low) and _finite(high) and low < high):
        raise ValueError(f"{name}low must be below high, both finite: got low={low}, high={high}")


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _inside(value: Any, axis: tuple[str, float, float]) -> bool:
    """Whether it lies on the axis, or a rounding error beyond."""
    _, low, high = axis
    slack = 1e-6 * (high - low)
    return _finite(value) and low - slack <= value <= high + slack


def _round(value: float) -> float:
    return float(f"{value:.5g}")
