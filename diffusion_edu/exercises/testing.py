"""The words that tests of exercises are written in.

    @points(2)
    def test_q_sample__values(student: Student, case: World) -> None:
        expect(student.q_sample, case)

``student`` has the learner's functions: those of a notebook when it is ``check`` that runs the
tests, those of a sandboxed process when it is the grader, the reference under pytest. ``case`` is a
``World``. A test whose name has no ``hidden`` mark runs on the public worlds, and at grading once
more on the hidden ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from .diagnosis import describe
from .outcome import Args, Outcome, distance, largest, trusted
from .spec import Exercise, Graded
from .world import World

__all__ = [
    "Backend",
    "Bound",
    "Failure",
    "Record",
    "Student",
    "calls",
    "close",
    "expect",
    "hidden",
    "known",
    "mistake_of",
    "points",
]

Test = TypeVar("Test", bound=Callable[..., None])
PATIENCE = 10.0  # seconds a call may take at grading
VARIES = "it gives another result each time it is called: does it draw noise of its own?"


def points(n: float) -> Callable[[Test], Test]:
    """Marks what a test is worth; without it 1."""
    return lambda test: _mark(test, points=float(n))


def hidden(test: Test) -> Test:
    """Marks a test that only the grader runs."""
    return _mark(test, hidden=True)


def _mark(test: Test, **marks: Any) -> Test:
    for name, value in marks.items():
        setattr(test, name, value)
    return test


class Backend(Protocol):
    """Where the learner's functions are."""

    def call(self, name: str, args: Args, seconds: float) -> Outcome:
        """The outcome of one call; it never raises for what the learner did."""
        ...


class Failure(AssertionError):  # noqa: N818, a verdict, no error of ours
    """A test is not passed; ``status`` as of ``Outcome``, or "failed"."""

    def __init__(self, message: str, status: str = "failed") -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Record:
    """One call whose right result is known."""

    args: Args
    got: Outcome
    wanted: Outcome


@dataclass
class Student:
    """The learner's functions as attributes: student.q_sample(x0, t, eps, sch)."""

    exercise: Exercise
    backend: Backend
    records: dict[str, list[Record]] = field(default_factory=dict)
    compared: int = 0

    def __getattr__(self, name: str) -> Bound:
        try:
            return Bound(self, self.exercise.function(name))
        except KeyError:
            raise AttributeError(f"{self.exercise.key} has no function {name!r}") from None


@dataclass(frozen=True)
class Bound:
    """One function of a student."""

    student: Student
    spec: Graded

    def __call__(self, *args: Any) -> Any:
        """What the learner's function returns; Failure if it raises or does not come back."""
        outcome = self.outcome(args)
        if outcome.status != "ok":
            raise Failure(outcome.message, outcome.status)
        return outcome.value

    def outcome(self, args: Args) -> Outcome:
        """What a call came to."""
        return self.student.backend.call(self.spec.name, args, PATIENCE)


def expect(function: Bound, case: World) -> None:
    """The learner's function gives what the reference gives, for all inputs of this world."""
    spec, student = function.spec, function.student
    problem: Failure | None = None
    for args in calls(spec, case):
        wanted = known(spec.reference, args)
        got = function.outcome(args)
        student.compared += 1
        student.records.setdefault(spec.name, []).append(Record(args, got, wanted))
        if problem is None and (text := _why(function, args, got, wanted)):
            problem = Failure(text, "failed" if got.status == "ok" else got.status)
        if got.status in ("timeout", "memory", "not_implemented"):
            break
    if problem is not None:
        raise problem


def _why(function: Bound, args: Args, got: Outcome, wanted: Outcome) -> str:
    """What is wrong with a result, or "". Wrong numbers are asked for again: noise differs."""
    text = describe(function.spec, args, got, wanted)
    if text and got.status == "ok" and distance(got, wanted) is not None:
        again = function.outcome(args)
        off = distance(again, got)
        if again.status == "ok" and (off is None or off > function.spec.tolerance):
            return VARIES
    return text


@lru_cache(maxsize=256)
def calls(spec: Graded, case: World) -> tuple[Args, ...]:
    """The calls made in a world: the same objects every time, so that ``known`` can know them."""
    return tuple(spec.inputs(case))


_known: dict[tuple[int, int], tuple[Callable[..., Any], Args, Outcome]] = {}
MOST_KNOWN = 20_000


def known(function: Callable[..., Any], args: Args) -> Outcome:
    """``trusted``, computed once for the same function and arguments: a class has hundreds."""
    key = id(function), id(args)  # both are kept below, so that no other can have their id
    if key not in _known:
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        _known[key] = function, args, trusted(function, args)
    return _known[key][2]


def close(student: Student, a: Tensor, b: Tensor, claim: str, tolerance: float = 1e-4) -> None:
    """Two results of the learner agree; ``claim`` says why they should."""
    student.compared += 1
    a, b = (torch.tensor(x).double() if isinstance(x, float) else x for x in (a, b))
    if not (isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape):
        raise Failure(f"{claim}: the two results have not even the same shape")
    if (off := largest(a.detach(), b.detach())) > tolerance:
        raise Failure(f"{claim}: here the two differ by {off:.3g}")


def mistake_of(spec: Graded, records: list[Record]) -> str | None:
    """Name of the mistake whose results are the learner's in every call, if there is one.

    A name is given for numbers, never for exceptions alone: many mistakes raise alike.
    """
    if not any(r.got.status == "ok" for r in records):
        return None
    if all(_same(spec, r.got, r.wanted) for r in records):
        return None
    for mistake in spec.mistakes:
        if all(_same(spec, r.got, known(mistake.wrong, r.args)) for r in records):
            return mistake.name
    return None


def _same(spec: Graded, got: Outcome, other: Outcome) -> bool:
    off = distance(got, other)
    return off is not None and off <= 3 * spec.tolerance
