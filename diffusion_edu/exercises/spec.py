"""What an exercise is made of: graded functions, right forms, and mistakes that have a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from .world import World

__all__ = ["Call", "Exercise", "Graded", "Mistake", "tests_of"]

Call = tuple[Any, ...]  # the arguments of one call


@dataclass(frozen=True)
class Mistake:
    """A wrong way of writing a function that people really take.

    Attributes:
        name: short, e.g. "var_for_std".
        wrong: the function written that way; called with the arguments of the right one.
        hint: one or two sentences that say what happened, without giving the line away.
        lecture: the section to read again, e.g. "02, Jump to any t".
        credit: share of the points that it is still worth.
    """

    name: str
    wrong: Callable[..., Any]
    hint: str
    lecture: str
    credit: float = 0.0


@dataclass(frozen=True, eq=False)
class Graded:
    """A function that is graded.

    Attributes:
        name: what the learner calls it.
        reference: the right function. It is called with float64 numbers.
        inputs: world -> the calls made, as tuples of arguments.
        mistakes: wrong forms that have a name.
        alternatives: other right ways of writing it, at least three.
        tolerance: largest difference that counts as none, absolute plus relative, in float32.
        bug: name of the mistake in the function that the learner is given to repair, if the
            item is of that kind; it is one of ``mistakes``.
        close_forms: some of its mistakes change the result by little (a limit that is rarely met).
    """

    name: str
    reference: Callable[..., Any]
    inputs: Callable[[World], list[Call]]
    mistakes: tuple[Mistake, ...]
    alternatives: tuple[Callable[..., Any], ...]
    tolerance: float = 1e-5
    bug: str = ""
    close_forms: bool = False

    @property
    def named(self) -> dict[str, Mistake]:
        """The mistakes by their names."""
        return {m.name: m for m in self.mistakes}


@dataclass(frozen=True)
class Exercise:
    """One exercise: its functions, and its tests in the order they are run.

    Attributes:
        key: "E2".
        title: "Jump to any t".
        lecture: the lecture it belongs to, "02".
    """

    key: str
    title: str
    lecture: str
    functions: tuple[Graded, ...]
    tests: tuple[Callable[..., None], ...] = field(default=(), repr=False)

    def function(self, name: str) -> Graded:
        """The graded function of this name; KeyError otherwise."""
        return {f.name: f for f in self.functions}[name]


def tests_of(module: ModuleType) -> tuple[Callable[..., None], ...]:
    """The tests that a module defines, in their order."""
    return tuple(f for name, f in vars(module).items() if name.startswith("test_"))
