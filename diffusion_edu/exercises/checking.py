"""``check``: what a learner's own functions give, beside what they should, in the notebook."""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

import torch

from .._checks import check_choice
from . import load, names
from .judge import Result, judge
from .local import Namespace
from .outcome import Args, alike, largest, leaves
from .spec import Exercise, Graded, Mistake
from .testing import calls, known
from .world import worlds

__all__ = ["PATIENCE", "WIDE", "check", "comparisons", "report"]

PATIENCE = 0.3  # seconds that a call may take in a notebook; right answers take a few milliseconds
MARKS = {"passed": "ok", "not_implemented": "--", "failed": "XX"}
UNWRITTEN = " (not written, or its cell was not run)"
WIDE = 96  # columns of the report


def check(what: Any, **functions: Any) -> None:
    """Check your functions against the public tests of an exercise.

        check("E2")          all functions of E2 that this notebook defines
        check(q_sample)      one function
        check("E2", snr=mine)  with another function in place of one

    Prints one line a test, and for a wrong function what is wrong and, if it is a mistake with a
    name, a hint; below it a picture, yours against the reference. It never raises for what your
    functions do. Tests that only the grader runs are not among these.

    Raises:
        ValueError: no exercise, or no function of an exercise, has this name.
    """
    frame = inspect.currentframe()
    caller = frame.f_back if frame is not None else None
    around: dict[str, Any] = {} if caller is None else {**caller.f_globals, **caller.f_locals}
    exercise, only = _meant(what, functions)
    given = {**around, **({what.__name__: what} if callable(what) else {}), **functions}
    mine = {f.name: given[f.name] for f in exercise.functions if f.name in given}
    if only is None and functions:
        only = list(functions)
    with torch.device("cpu"):  # whatever set_default_device says: the numbers are the same
        results = judge(exercise, Namespace(mine, PATIENCE), only=only)
        print(report(exercise, results))
        _show(exercise, mine, results)


def _meant(what: Any, functions: Mapping[str, Any]) -> tuple[Exercise, list[str] | None]:
    """The exercise, and the names of the functions to check; None for all."""
    if isinstance(what, str) and what.upper() in names():
        exercise = load(what.upper())
        for given in functions:
            check_choice(given, [f.name for f in exercise.functions], f"function of {exercise.key}")
        return exercise, None
    name = what if isinstance(what, str) else getattr(what, "__name__", None)
    for key in names():
        exercise = load(key)
        if name in [f.name for f in exercise.functions]:
            return exercise, [str(name), *functions]
    known = ", ".join(names())
    raise ValueError(
        f"check needs an exercise ({known}) or a function of one, got {what!r}: "
        'try check("E2") or check(q_sample)'
    )


def report(exercise: Exercise, results: list[Result]) -> str:
    """The lines that ``check`` prints."""
    lines = [f"{exercise.key} \u00b7 {exercise.title}"]
    hinted: set[str] = set()
    for r in results:
        empty = UNWRITTEN if r.status == "not_implemented" else ""
        lines.append(f"  {MARKS.get(r.status, 'XX')}  {r.name}{empty}")
        if r.status not in ("passed", "not_implemented"):
            lines += _wrapped(r.message)
        if r.mistake is not None and r.function not in hinted:
            hinted.add(r.function)
            lines += _hint(exercise.function(r.function).named[r.mistake])
    done = sum(r.status == "passed" for r in results)
    lines.append(f"public checks {done}/{len(results)}; hidden checks run at grading")
    return "\n".join(lines)


def _hint(mistake: Mistake) -> list[str]:
    return _wrapped(f"{mistake.name}: {mistake.hint} (lecture {mistake.lecture})")


def _wrapped(text: str) -> list[str]:
    space = " " * 6
    lines = [x for line in text.splitlines() for x in textwrap.wrap(line, WIDE - len(space))]
    return [space + line for line in lines]


def _show(exercise: Exercise, mine: Mapping[str, Any], results: list[Result]) -> None:
    """The picture, where there is a front end that shows pictures."""
    ipython = sys.modules.get("IPython")  # not installed everywhere
    drawn = dict.fromkeys(r.function for r in results if r.status in ("failed", "passed"))
    if not drawn or ipython is None or ipython.get_ipython() is None:
        return
    from IPython.display import Image, display

    from ..viz.checks import png, yours_against_reference

    pairs = comparisons(exercise, mine, list(drawn))
    if any(pairs.values()):
        tolerances = {f.name: f.tolerance for f in exercise.functions}
        display(Image(data=png(yours_against_reference(pairs, tolerances))))


def comparisons(
    exercise: Exercise, mine: Mapping[str, Any], functions: list[str]
) -> dict[str, list[tuple[Any, Any]]]:
    """For each function, (yours, the reference) of its calls on one public world.

    It is the first world where they differ in what can be drawn, or else the first that can be.
    """
    backend = Namespace(mine, PATIENCE)
    pairs: dict[str, list[tuple[Any, Any]]] = {}
    for name in functions:
        spec = exercise.function(name)
        for world in worlds():
            found = [p for args in calls(spec, world) for p in _both(backend, spec, args)]
            if any(largest(g, w) > spec.tolerance for g, w in found):
                pairs[name] = found
                break
            pairs[name] = pairs.get(name) or found
    return pairs


def _both(backend: Namespace, spec: Graded, args: Args) -> list[tuple[Any, Any]]:
    """(yours, the reference) of every tensor of a result that has the right form."""
    got, wanted = backend.call(spec.name, args, PATIENCE), known(spec.reference, args)
    both = zip(leaves(got.value), leaves(wanted.value), strict=False)
    return [(g, w) for g, w in both if alike(g, w)]
