"""Proof that an exercise is sound: right answers pass, wrong ones get their own name, no leaks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

from .build import BEGIN, END, STUDENT, source, student_notebook
from .extract import read
from .judge import Result, judge
from .local import Namespace
from .outcome import distance
from .spec import Exercise, Graded
from .testing import calls, known
from .world import worlds

__all__ = ["CHECKS", "defined", "verify"]

SECRET = "verify"  # noqa: S105, of the hidden worlds it tries
APART = 0.02  # two mistakes of a function differ by more than this somewhere in the public worlds
ALTERNATIVES = 3


def verify(exercise: Exercise, step: Callable[[str], None] = lambda what: None) -> list[str]:
    """What is wrong with an exercise, one sentence each; an empty list is a sound exercise."""
    found: list[str] = []
    for check in CHECKS:
        step(f"{exercise.key} {check.__name__.strip('_')}")
        found += [f"{exercise.key}: {text}" for text in check(exercise)]
    return found


def _reference(exercise: Exercise) -> Iterator[str]:
    """All points for the reference, and no function without a test."""
    results = judge(exercise, Namespace(_references(exercise)), SECRET)
    yield from (f"the reference fails {r.name}: {r.message}" for r in _not_full(results))
    tested = {r.function for r in results}
    yield from (f"{f.name} has no test" for f in exercise.functions if f.name not in tested)


def _solution(exercise: Exercise) -> Iterator[str]:
    """All points for what the source calls the solution."""
    results = judge(exercise, Namespace(defined(source(exercise.key))), SECRET)
    yield from (f"the solution fails {r.name}: {r.message}" for r in _not_full(results))


def _untouched(exercise: Exercise) -> Iterator[str]:
    """No points for the student notebook as it is handed out."""
    code = read(student_notebook(exercise.key).encode(), "notebook.ipynb")
    yield from code.problems
    functions = defined("\n\n".join(text for _, text in code.kept))
    for r in judge(exercise, Namespace(functions), SECRET):
        bug = exercise.function(r.function).bug
        if bug and (r.status, r.mistake) != ("failed", bug):
            yield f"the untouched {r.name} is {r.status}, {r.mistake}; wanted is failed, {bug}"
        if not bug and r.status != "not_implemented":
            yield f"the untouched {r.name} is {r.status}; wanted is not_implemented"
        if r.score:
            yield f"the untouched {r.name} scores {r.score:g}"


def _leaks(exercise: Exercise) -> Iterator[str]:
    """No line of a solution is left in the student notebook."""
    handed_out = student_notebook(exercise.key)
    inside, outside = _lines(source(exercise.key))
    for line in inside - outside:
        quoted = line.replace("\\", "\\\\").replace('"', '\\"')
        if len(line) > 3 and quoted in handed_out:
            yield f"a line of a solution is left in the student notebook: {line}"


def _lines(text: str) -> tuple[set[str], set[str]]:
    """Lines inside and outside of solutions."""
    inside: set[str] = set()
    outside: set[str] = set()
    where = outside
    for line in map(str.strip, text.splitlines()):
        if line in (BEGIN, END):
            where = inside if line == BEGIN else outside
        elif line.startswith(STUDENT):
            outside.add(line.removeprefix(STUDENT).strip())
        elif line:
            where.add(line)
    return inside, outside


def _functions(exercise: Exercise) -> Iterator[str]:
    """Every mistake is caught and called by its name; other right forms are accepted."""
    for spec in exercise.functions:
        if len(spec.alternatives) < ALTERNATIVES:
            yield f"{spec.name} has {len(spec.alternatives)} other right forms, not {ALTERNATIVES}"
        for k, other in enumerate(spec.alternatives, 1):
            for r in _not_full(_judged(exercise, spec, other, SECRET)):
                yield f"right form {k} of {spec.name} fails {r.name}: {r.message}"
        for mistake in spec.mistakes:
            for secret in (None, SECRET):
                judged = _judged(exercise, spec, mistake.wrong, secret)
                names = [r.mistake for r in _not_full(judged)]
                if mistake.name not in names:
                    where = "public" if secret is None else "all"
                    said = f"called {names}" if names else "not caught"
                    yield f"{mistake.name} of {spec.name} is {said} by the {where} tests"


def _apart(exercise: Exercise) -> Iterator[str]:
    """No two mistakes of a function, and no mistake and the reference, nearly agree."""
    for spec in exercise.functions:
        forms = [("reference", spec.reference), *((m.name, m.wrong) for m in spec.mistakes)]
        every = [args for w in worlds() for args in calls(spec, w)]
        given = {name: [known(f, args) for args in every] for name, f in forms}
        for a, b in combinations(given, 2):
            off = 0.0
            for x, y in zip(given[a], given[b], strict=True):
                apart = distance(x, y)
                if apart is None or apart > _needed(spec):
                    break
                off = max(off, apart)
            else:
                yield f"{a} and {b} of {spec.name} differ by {off:.2g} only"


def _needed(spec: Graded) -> float:
    return max(3 * spec.tolerance, APART) if not spec.close_forms else 3 * spec.tolerance


def _judged(
    exercise: Exercise, spec: Graded, function: Callable[..., Any], secret: str | None
) -> list[Result]:
    return judge(exercise, Namespace({spec.name: function}), secret, only=[spec.name])


def _not_full(results: list[Result]) -> list[Result]:
    return [r for r in results if r.status != "passed" or r.mistake or r.score != r.max_score]


def _references(exercise: Exercise) -> dict[str, Callable[..., Any]]:
    return {f.name: f.reference for f in exercise.functions}


def defined(text: str) -> dict[str, Any]:
    """What the functions, classes and imports of a source of ours define."""
    code = read(re.sub(r"^from diffusion_edu .*$", "", text, flags=re.MULTILINE).encode(), "x.py")
    names: dict[str, Any] = {}
    exec("\n\n".join(part for _, part in code.kept), names)  # noqa: S102, our own source
    return names


CHECKS: tuple[Callable[[Exercise], Iterator[str]], ...] = (
    _reference,
    _solution,
    _untouched,
    _leaks,
    _functions,
    _apart,
)
