"""Submissions that have too much of something, names that are almost the same, and weaker walls."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from xml.etree import ElementTree

import pytest

from diffusion_edu import exercises
from diffusion_edu.exercises.judge import judge
from diffusion_edu.exercises.outcome import Outcome
from diffusion_edu.grading import reports
from diffusion_edu.grading.defences import OPEN
from diffusion_edu.grading.grading import MOST_LINES, Task, grade
from diffusion_edu.grading.remote import MOST_TEXT
from diffusion_edu.grading.run import _summary, file_name
from diffusion_edu.grading.submissions import MOST_NAME, Submission, find
from diffusion_edu.grading.tables import _csv


class Always:
    """A back end whose every function returns the same value."""

    def __init__(self, value):
        self.value = value

    def call(self, name, args, seconds):
        return Outcome(self.value)


# KeyError, ZeroDivisionError and OverflowError are no errors of the grader's.
ODD = [{}, {"a": 1}, [], "", "9" * 1_000_000, 0, -(2**62), float("nan"), float("inf"), [[0, 0]] * 9]


@pytest.mark.parametrize("key", ["E1", "E2", "E7"])
def test_no_value_makes_the_grader_fail(key):
    for value in ODD:
        results = judge(exercises.load(key), Always(value), secret="s")
        assert all(r.score == 0 for r in results), value
        assert all(len(r.message) < 10_000 for r in results), value


def test_what_is_said_of_a_file_is_short():
    cells = [{"cell_type": "code", "source": f"def f{i}(: {'x' * 100}"} for i in range(300)]
    text = json.dumps({"cells": cells, "nbformat": 4, "metadata": {}})
    row = grade(Task(Submission("ann", "a.ipynb", text.encode()), "E2", "s"))
    assert len(row["problems"]) == MOST_LINES + 1
    assert row["problems"][-1] == f"and {300 - MOST_LINES} more"


def test_names_in_an_archive_are_cut(tmp_path):
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as archive:
        for i in range(50):
            archive.writestr(f"{'ann' * 3000}/{i}.{'x' * 5000}", "")
        archive.writestr(f"{'bob' * 3000}.py", "x = 1")
    found = find([tmp_path / "class.zip"], "E2")
    assert [len(s.id) for s in found] == [MOST_NAME, MOST_NAME]
    for s in found:
        row = grade(Task(s, "E2", "s"))
        assert len(row["reason"]) <= MOST_TEXT
        assert len(json.dumps(row)) < 20_000


def test_names_that_are_one_file_elsewhere(tmp_path):
    """Case and encoding of a name do not tell files apart on every system: one would be lost."""
    for name in ("Ann", "ann", "zo\u00e9", "zoe\u0301", "STRASSE", "stra\u00dfe"):
        (tmp_path / f"{name}.py").write_text("x = 1")
    files = [file_name(s.id) for s in find([tmp_path], "E2")]
    assert len(files) == 6
    assert len({f.casefold() for f in files}) == 6


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"),
        ("\t=1+1", "\t'=1+1"),
        ("ann;=cmd|' /C calc'!A0", "ann;'=cmd|' /C calc'!A0"),
        ("ann\n@SUM(1)", "ann\n'@SUM(1)"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("-1.5", "-1.5"),
        (
            "largest difference 2.09, at t = 1; not at 2",
            "largest difference 2.09, at t = 1; not at 2",
        ),
    ],
)
def test_no_cell_is_a_formula(text, written):
    """Nor a part of one, where lines are split at semicolons or tabs."""
    assert next(csv.reader(io.StringIO(_csv([[text]])))) == [written]


def test_every_report_says_that_walls_were_weak(tmp_path):
    row = grade(Task(Submission("ann", "a.py", b"x = 1"), "E2", "s", walls=OPEN))
    reports.write(_summary([row]), exercises.load("E2"), tmp_path)
    for page in ("class.html", "feedback/ann.html"):
        assert "Level none. WARNING" in (tmp_path / page).read_text()
    assert json.loads((tmp_path / "grades.json").read_text())["level"] == "none"
    with (tmp_path / "grades.csv").open(newline="") as file:
        assert [line["level"] for line in csv.DictReader(file)] == ["none"]
    properties = ElementTree.parse(tmp_path / "junit.xml").getroot().iter("property")
    assert {p.get("value") for p in properties if p.get("name") == "level"} == {"none"}
    said = json.loads((tmp_path / "gradescope" / "ann.json").read_text())["output"]
    assert said.endswith("graded behind weaker walls, level none")
