"""Writing all reports of a class to a folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .._files import write_atomically
from ..exercises.spec import Exercise
from .defences import WORDS
from .pages import class_page, student_page
from .run import file_name
from .tables import as_json, canvas_csv, grades_csv, gradescope, junit_xml, moodle_csv

__all__ = ["write"]

PAGES, GRADESCOPE = "feedback", "gradescope"  # folders


def write(
    report: dict[str, Any],
    exercise: Exercise,
    out: Path,
    canvas: bool = False,
    moodle: bool = False,
) -> list[Path]:
    """Write grades.json, grades.csv, junit.xml, class.html, feedback/ and gradescope/.

    Returns:
        The files at the top, and the folders of those of single students.
    """
    rows = report["submissions"]
    level = report["level"]
    texts = {
        "grades.json": as_json(report),
        "grades.csv": grades_csv(rows, exercise),
        "junit.xml": junit_xml(rows),
        "class.html": class_page(rows, exercise, level, WORDS[level]),
    }
    if canvas:
        texts["canvas.csv"] = canvas_csv(rows, exercise)
    if moodle:
        texts["moodle.csv"] = moodle_csv(rows, exercise)
    _forget(out, rows)
    for row in rows:
        name = file_name(row["id"])
        _write(out / PAGES / f"{name}.html", student_page(row, exercise))
        _write(out / GRADESCOPE / f"{name}.json", as_json(gradescope(row)))
    for name, text in texts.items():
        _write(out / name, text)
    return [out / name for name in (*texts, PAGES, GRADESCOPE)]


def _forget(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Remove the pages of students of an earlier run who are not in this: folders are sent on."""
    try:
        before = json.loads((out / "grades.json").read_text(encoding="utf-8"))["submissions"]
        names = {file_name(row["id"]) for row in before} - {file_name(row["id"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    for name in names:
        for page in (out / PAGES / f"{name}.html", out / GRADESCOPE / f"{name}.json"):
            with contextlib.suppress(OSError):
                page.unlink()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # What a student's text may hold and UTF-8 cannot, a lone surrogate, becomes a question mark.
    data = text.encode("utf-8", "replace")
    write_atomically(path, data)
