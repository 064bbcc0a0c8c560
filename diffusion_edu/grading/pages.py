"""Reports for people: one page a student, one for the class. All text of students is escaped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ..exercises.spec import Exercise, Mistake
from .defences import WORDS
from .run import file_name
from .tables import misconceptions

__all__ = ["class_page", "student_page"]

Row = dict[str, Any]
BARS = 10  # of the distribution of scores
STATUS = {
    "passed": ("passed", "good"),
    "failed": ("wrong", "bad"),
    "error": ("error", "bad"),
    "timeout": ("too slow", "bad"),
    "memory": ("out of memory", "bad"),
    "not_implemented": ("not written", "none"),
    "ungradable": ("not read", "none"),
}
BROKEN = ("error", "timeout", "memory")
HOWS = ("right", "wrong", "broken", "empty")  # what became of a function


def student_page(row: Row, exercise: Exercise) -> str:
    """feedback/<id>.html."""
    tests = []
    for t in row["tests"]:
        words, colour = STATUS.get(t["status"], (t["status"], "bad"))
        tests.append(t | {"words": words, "colour": colour, "hint": _hint(exercise, t)})
    said = WORDS[row["level"]]
    return _render("student.html", row=row, exercise=exercise, tests=tests, said=said)


def _hint(exercise: Exercise, test: dict[str, Any]) -> Mistake | None:
    if not test["mistake"]:
        return None
    return exercise.function(test["function"]).named.get(test["mistake"])


def class_page(rows: Sequence[Row], exercise: Exercise, level: str, said: str) -> str:
    """class.html: scores, mistakes with the lecture to go through again, all submissions."""
    found = []
    for name, count in misconceptions(rows).most_common():
        function, _, mistake = name.partition(":")
        known = exercise.function(function).named[mistake]
        found.append({"function": function, "count": count, "mistake": known})
    graded = [r for r in rows if r["status"] == "graded"]
    return _render(
        "class.html",
        rows=rows,
        exercise=exercise,
        graded=len(graded),
        level=level,
        said=said,
        mean=_mean([r["score"] for r in graded]),
        most=max((r["max_score"] for r in rows), default=0.0),
        bars=_distribution(graded),
        functions=_by_function(graded, exercise),
        mistakes=found,
        file_name=file_name,
    )


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0


def _distribution(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """How many submissions have 0-10 %, 10-20 %, ... of the points; full marks apart."""
    counts = [0] * (BARS + 1)
    for r in rows:
        share = r["score"] / r["max_score"] if r["max_score"] else 0.0
        counts[int(share * BARS + 1e-9)] += 1
    top = max([*counts, 1])
    wide = 100 // BARS
    labels = [f"{k * wide} to {(k + 1) * wide} %" for k in range(BARS)] + ["100 %"]
    return [
        {"label": label, "count": n, "share": 100 * n / top}
        for label, n in zip(labels, counts, strict=True)
    ]


def _how(statuses: Sequence[str]) -> str:
    """One of ``HOWS``, of the tests of a function."""
    if all(status == "passed" for status in statuses):
        return "right"
    if any(status in BROKEN for status in statuses):
        return "broken"
    return "empty" if "not_implemented" in statuses else "wrong"


def _by_function(rows: Sequence[Row], exercise: Exercise) -> list[dict[str, Any]]:
    table = []
    for f in exercise.functions:
        own = [[t["status"] for t in r["tests"] if t["function"] == f.name] for r in rows]
        counts = Counter(map(_how, own))
        table.append({"name": f.name, "of": len(own), **{how: counts[how] for how in HOWS}})
    return table


def _render(name: str, **values: Any) -> str:
    return str(_environment().get_template(name).render(**values))


@lru_cache
def _environment() -> Any:
    """Of all pages: it keeps the templates compiled."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(__package__ or "diffusion_edu.grading"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
