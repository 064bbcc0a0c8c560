"""Reports for machines: CSV, JUnit XML, Gradescope, and what learning platforms take back."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from ..exercises.spec import Exercise

__all__ = [
    "as_json",
    "canvas_csv",
    "grades_csv",
    "gradescope",
    "junit_xml",
    "misconceptions",
    "mistakes_of",
    "moodle_csv",
]

Row = dict[str, Any]
# What a spreadsheet takes for a formula, in a cell of its own: some split lines at ; and tabs too.
FORMULA = re.compile(r"(^|[;\t\n])(\s*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")


def as_json(report: Any) -> str:
    """Steady: two runs give the same bytes."""
    return json.dumps(report, indent=1, ensure_ascii=False) + "\n"


def grades_csv(rows: Sequence[Row], exercise: Exercise) -> str:
    """One line a submission: id, status, points, reason, points of every function."""
    names = [f.name for f in exercise.functions]
    lines: list[list[Any]] = [["id", "status", "score", "max_score", "level"]]
    lines[0] += ["reason", "mistakes", *names]
    for r in rows:
        own = [sum(t["score"] for t in r["tests"] if t["function"] == n) for n in names]
        numbers = [f"{x:g}" for x in (r["score"], r["max_score"])]
        mistakes = " ".join(mistakes_of(r))
        points = [f"{x:g}" for x in own]
        about = [r["level"], r["reason"], mistakes]
        lines.append([r["id"], r["status"], *numbers, *about, *points])
    return _csv(lines)


def mistakes_of(row: Row) -> list[str]:
    """function:mistake of a submission, each once."""
    named = (f"{t['function']}:{t['mistake']}" for t in row["tests"] if t["mistake"])
    return list(dict.fromkeys(named))


def misconceptions(rows: Sequence[Row]) -> Counter[str]:
    """How many submissions made each mistake, by function:mistake."""
    return Counter(m for r in rows for m in mistakes_of(r))


def canvas_csv(rows: Sequence[Row], exercise: Exercise) -> str:
    """What Canvas's gradebook imports; students are found by the ID of the file's name."""
    head = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", exercise.key]
    most = max((r["max_score"] for r in rows), default=0.0)
    lines: list[list[Any]] = [head, ["Points Possible", "", "", "", "", f"{most:g}"]]
    lines += [[r["id"], r["platform_id"], "", "", "", _grade(r)] for r in rows]
    return _csv(lines)


def moodle_csv(rows: Sequence[Row], exercise: Exercise) -> str:
    """What Moodle's grading worksheet imports; students are found by their identifier."""
    lines: list[list[Any]] = [["Identifier", "Full name", "Grade", "Feedback comments"]]
    for r in rows:
        identifier = f"Participant {r['platform_id']}" if r["platform_id"] else ""
        feedback = r["reason"] or "; ".join(_comments(r, exercise)) or "all tests passed"
        lines.append([identifier, r["id"], _grade(r), feedback])
    return _csv(lines)


def _grade(row: Row) -> str:
    """What a platform imports: nothing where the grader failed, which is not the student's 0."""
    return "" if row["status"] == "error" else f"{row['score']:g}"


def _comments(row: Row, exercise: Exercise) -> list[str]:
    """A sentence for each function that is wrong: its mistake's, or what its first test says."""
    said: dict[str, str] = {}
    for t in row["tests"]:
        if t["status"] != "passed":
            known = exercise.function(t["function"]).named.get(t["mistake"])
            hint = f"{known.hint} Read again: lecture {known.lecture}." if known else t["message"]
            said.setdefault(t["function"], f"{t['function']}: {hint}")
    return list(said.values())


def _csv(lines: list[list[Any]]) -> str:
    """Text that a spreadsheet would take for a formula is kept text."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for line in lines:
        writer.writerow([_text(x) for x in line])
    return file.getvalue()


def _text(x: Any) -> str:
    text = str(x).replace("\r", " ").replace("\0", "")
    return text if _is_number(text) else FORMULA.sub(r"\1\2'", text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def junit_xml(rows: Sequence[Row]) -> str:
    """A test suite a submission."""
    root = ElementTree.Element("testsuites")
    for r in rows:
        suite = ElementTree.SubElement(root, "testsuite", name=_xml(r["id"]))
        counts = Counter(_kind(t["status"]) for t in r["tests"])
        suite.set("tests", str(len(r["tests"])))
        for kind in ("failure", "error", "skipped"):
            plural = {"failure": "failures", "error": "errors"}.get(kind, kind)
            suite.set(plural, str(counts[kind]))
        for t in r["tests"]:
            _case(suite, r, t)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _kind(status: str) -> str:
    known = {"passed": "", "failed": "failure", "not_implemented": "skipped"}
    return known.get(status, "error")


def _case(suite: ElementTree.Element, row: Row, test: dict[str, Any]) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=row["exercise"], name=test["name"])
    properties = ElementTree.SubElement(case, "properties")
    values = {
        "points": f"{test['score']:g}",
        "max_points": f"{test['max_score']:g}",
        "mistake": test["mistake"] or "",
        "level": row["level"],
    }
    for name, value in values.items():
        ElementTree.SubElement(properties, "property", name=name, value=value)
    if kind := _kind(test["status"]):
        message = _xml(test["message"] or row["reason"])
        of_type = test["mistake"] or test["status"]
        ElementTree.SubElement(case, kind, message=message, type=of_type)


def _xml(text: str) -> str:
    """Without the control characters that XML cannot hold."""
    return "".join(c if _is_xml(c) else "?" for c in text)


def _is_xml(c: str) -> bool:
    return c in "\t\n" or " " <= c < "\ud800" or "\ue000" <= c <= "\ufffd" or c > "\uffff"


def gradescope(row: Row) -> dict[str, Any]:
    """results.json of Gradescope's autograder; hidden tests are shown after publication."""
    tests = [
        {
            "name": t["name"],
            "score": t["score"],
            "max_score": t["max_score"],
            "status": "passed" if t["status"] == "passed" else "failed",
            "output": t["message"],
            "output_format": "text",
            "tags": [t["mistake"]] if t["mistake"] else [],
            "visibility": "after_published" if t["hidden"] else "visible",
        }
        for t in row["tests"]
    ]
    weak = f"graded behind weaker walls, level {row['level']}" if row["level"] != "strict" else ""
    said = [row["reason"], *row["problems"], *row["notes"], weak]
    output = "\n".join(x for x in said if x)
    return {
        "score": row["score"],
        "output": output,
        "output_format": "text",
        "tests": tests,
        "extra_data": {"level": row["level"], "status": row["status"]},
    }
