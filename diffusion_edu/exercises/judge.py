"""Running the tests of an exercise against somebody's functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .spec import Exercise, Graded
from .testing import Backend, Failure, Student, mistake_of
from .world import World, worlds

__all__ = ["Result", "judge", "worth"]

Test = Callable[..., None]
WRONG_KIND = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RuntimeError)


@dataclass
class Result:
    """One test.

    Attributes:
        status: "passed", "failed", "error", "timeout", "memory" or "not_implemented".
        mistake: name of the mistake made, if it has one.
    """

    name: str
    function: str
    status: str
    score: float
    max_score: float
    mistake: str | None = None
    message: str = ""
    hidden: bool = False

    def as_json(self) -> dict[str, Any]:
        """For grades.json."""
        return asdict(self)


def judge(
    exercise: Exercise,
    backend: Backend,
    secret: str | None = None,
    only: Iterable[str] | None = None,
) -> list[Result]:
    """Results of all tests: the public ones, and with a ``secret`` the hidden ones too.

    Args:
        only: names of functions; the others are left out.
    """
    names = {f.name for f in exercise.functions} if only is None else set(only)
    student, results = Student(exercise, backend), []
    for test, spec, is_hidden in _rounds(exercise, secret is not None):
        if spec.name in names:
            cases = worlds(secret if is_hidden else None)
            results.append(_run(test, spec, student, cases, is_hidden))
    _take_back(results)
    _name_mistakes(exercise, student, results)
    return results


def _rounds(exercise: Exercise, all_of_them: bool) -> Iterator[tuple[Test, Graded, bool]]:
    """(test, its function, on hidden worlds): the public round, and the hidden one."""
    for is_hidden in (False, True) if all_of_them else (False,):
        for test in exercise.tests:
            if is_hidden or not getattr(test, "hidden", False):
                yield test, _tested(exercise, test), is_hidden


def worth(exercise: Exercise, status: str = "ungradable") -> list[Result]:
    """Every test, public and hidden, with no points made."""
    return [_blank(t, s, is_hidden, status, 0.0) for t, s, is_hidden in _rounds(exercise, True)]


def _tested(exercise: Exercise, test: Test) -> Graded:
    """The function that a test is about: test_q_sample__linear is about q_sample."""
    name = test.__name__.removeprefix("test_").partition("__")[0]
    return exercise.function(name)


def _blank(test: Test, spec: Graded, is_hidden: bool, status: str, score: float) -> Result:
    aspect = test.__name__.partition("__")[2].replace("_", " ") or "values"
    name = f"{spec.name}: {aspect}" + (" (hidden)" if is_hidden else "")
    most = float(getattr(test, "points", 1.0))
    return Result(name, spec.name, status, score, most, hidden=is_hidden)


def _run(
    test: Test, spec: Graded, student: Student, cases: Sequence[World], is_hidden: bool
) -> Result:
    """One test on all its worlds. It is passed only if something was really compared in each."""
    result = _blank(test, spec, is_hidden, "passed", float(getattr(test, "points", 1.0)))
    for case in cases:
        before = student.compared
        failure = _failure(test, student, case)
        if failure is None and student.compared == before:
            failure = Failure("nothing was compared", "error")
        if failure is not None and result.status == "passed":
            where = "" if failure.status == "not_implemented" else f"{case.label}: "
            result.status, result.score = failure.status, 0.0
            result.message = f"{where}{failure}"
        if failure is not None and failure.status in ("not_implemented", "timeout", "memory"):
            break
    return result


def _failure(test: Test, student: Student, case: World) -> Failure | None:
    """Why a test is not passed. What a test cannot do with a learner's result is one reason."""
    try:
        test(student, case)
    except Failure as failure:
        return failure
    except WRONG_KIND as error:
        return Failure(f"its result is not of the kind that is wanted: {error}")
    return None


def _take_back(results: list[Result]) -> None:
    """A wrong answer may well be linear, say: what holds of it counts only if its values do."""
    wrong = {r.function for r in results if r.status != "passed" and _is_values(r)}
    for r in results:
        if r.function in wrong and r.status == "passed" and not _is_values(r):
            r.status, r.score = "failed", 0.0
            r.message = "this holds, and counts when the values are right"


def _is_values(result: Result) -> bool:
    return result.name.startswith(f"{result.function}: values")


def _name_mistakes(exercise: Exercise, student: Student, results: list[Result]) -> None:
    for spec in exercise.functions:
        mine = [r for r in results if r.function == spec.name]
        failed = [r for r in mine if r.status in ("failed", "error")]
        name = mistake_of(spec, student.records.get(spec.name, [])) if failed else None
        if name is None:
            continue
        credit = spec.named[name].credit
        for result in failed:
            result.mistake = name
            result.score = round(credit * result.max_score, 6)
