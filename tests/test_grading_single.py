"""One submission at a time: what a script gets, hostile text in reports, the command's errors."""

from __future__ import annotations

import csv
import re
import threading
from collections import Counter
from html.parser import HTMLParser
from itertools import count
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from diffusion_edu import cli, exercises
from diffusion_edu.grading import commands, grading, pages
from diffusion_edu.grading.defences import OPEN, policy
from diffusion_edu.grading.grading import Task, grade
from diffusion_edu.grading.submissions import Submission

SECRET = "s"


def grade_text(text, name="ann.py", **more):
    return grade(Task(Submission("ann", name, text.encode()), "E2", SECRET, **more))


@pytest.fixture(autouse=True, scope="module")
def no_server_is_left():
    yield
    if grading._server is not None:
        grading._server.close()
        grading._server = None


# ---- single submissions --------------------------------------------------------------------------

SNR = "    return sch.alpha_bar / (1 - sch.alpha_bar)\n"


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        (f"def snr(sch):\n{SNR}", "passed", ""),
        ("def snr(sch): raise NotImplementedError", "not_implemented", "no result"),
        ("def snr(sch): raise NotImplementedError('E2 snr')", "not_implemented", "E2 snr"),
        ("snr = 3", "not_implemented", "snr is not defined$"),
        (f"def snr(sch)\n{SNR}", "not_implemented", r"not defined: cell 1 cannot be read \(Synt"),
        (
            f"if T:\n    def snr(sch):\n    {SNR}",
            "not_implemented",
            "not defined: cell 1 has it within a statement that does not run at grading: write it",
        ),
        (
            f"d = len([])\ndef snr(sch, d=d):\n{SNR}",
            "not_implemented",
            r"not defined: cell 1: NameError: .*\(d is set in the notebook by code that does not",
        ),
        ("def snr(sch): raise ValueError", "error", "it raised ValueError: ; cell 1, in snr"),
        (f"T = len([])\ndef snr(sch):\n    T\n{SNR}", "error", "code that does not run at grading"),
        (f"def snr(sch):\n    nosuch\n{SNR}", "error", r"NameError: .*'nosuch' is not defined;"),
        ("from diffusion_edu import schedules as snr", "error", "write the function yourself"),
        (
            f"from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n"
            f"def snr(sch):\n    A(3)\n{SNR}",
            "passed",
            "",
        ),
        (f"def snr(sch):\n    return one(sch)\ndef one(sch):\n{SNR}", "passed", ""),
        ("snr = lambda sch: 1 / (1 / sch.alpha_bar - 1)", "passed", ""),
    ],
)
def test_what_a_script_gets(text, status, said):
    row = grade_text(text)
    (values, hidden) = (t for t in row["tests"] if t["function"] == "snr")
    assert (values["status"], hidden["status"]) == (status, status), (values, row["problems"])
    assert re.search(said, values["message"])
    assert row["score"] == (2 if status == "passed" else 0)
    is_missing = values["message"].startswith("snr is not defined")
    assert any("right file?" in note for note in row["notes"]) == is_missing
    others = {t["status"] for t in row["tests"] if t["function"] != "snr"}
    assert others == {"not_implemented"}


def test_a_named_tuple_is_a_tuple():
    """As in the notebook; and noise of one's own is another in each call, which is said."""
    text = (
        "import torch\nfrom typing import NamedTuple\n\nclass Pair(NamedTuple):\n    a: int\n"
        "    b: int\n\ndef chain_tables(beta):\n    bar = (1 - beta).cumprod(0)\n"
        "    return Pair(bar.sqrt(), (1 - bar).sqrt())\n"
        f"def snr(sch):\n{SNR.rstrip()} + torch.rand(())\n"
    )
    tests = {t["name"]: t for t in grade_text(text)["tests"]}
    status = {name: t["status"] for name, t in tests.items() if t["function"] == "chain_tables"}
    assert set(status.values()) == {"passed"}
    assert "noise of its own" in next(
        t["message"] for t in tests.values() if t["function"] == "snr"
    )


def test_threads_of_one_process_share_it(monkeypatch):
    """A worker of a cluster grades in several threads; answers do not go astray."""
    seen = count()
    strongest = vars(policy())
    monkeypatch.setattr(grading, "_walls", None)
    monkeypatch.setattr(  # as when something is installed meanwhile
        grading,
        "policy",
        lambda: type(OPEN)(**{**strongest, "readable": [*strongest["readable"], str(next(seen))]}),
    )
    rows, text = [], "def snr(sch):\n    return sch.alpha_bar / (1 - sch.alpha_bar)\n"
    go = [threading.Thread(target=lambda: rows.append(grade_text(text))) for _ in range(6)]
    for thread in go:
        thread.start()
    for thread in go:
        thread.join()
    assert [r["score"] for r in rows] == [2.0] * 6


def test_a_dead_server_is_replaced():
    text = "def snr(sch):\n    return sch.alpha_bar / (1 - sch.alpha_bar)\n"
    assert grade_text(text)["score"] == 2
    grading._server._process.kill()
    grading._server._process.wait()
    assert grade_text(text)["score"] == 2


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.words = Counter(), ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data):
        self.words += data


def test_text_of_students_is_no_markup_and_no_formula(tmp_path, monkeypatch):
    evil = "<script>alert(1)</script>"
    name = '=1+1 <img src=x onerror="alert(1)">\x1b[31m'
    folder = tmp_path / "class"
    folder.mkdir()
    message = f"raise ValueError('{evil} &amp; \\x1b[2J \\x00 \\ud800 ]]>')"
    (folder / f"{name}.py").write_text(f"def snr(sch):\n    {message}\n")
    (folder / "\udcff\udcfe.py").write_text("def snr(sch): return '<b>'\n")
    options = ["-e", "E2", "--secret", "s", "--jobs", "1", "--moodle", "--out", tmp_path / "out"]
    result = CliRunner().invoke(cli.app, ["grade", *map(str, [folder, *options])])
    assert result.exit_code == 0, result.output
    files = [*(tmp_path / "out" / "feedback").iterdir(), tmp_path / "out" / "class.html"]
    assert len(files) == 3
    found = [Tags(p.read_text(encoding="utf-8")) for p in files]
    assert not any(p.tags["script"] + p.tags["img"] for p in found)
    assert sum(evil in p.words for p in found) == 1
    ElementTree.parse(tmp_path / "out" / "junit.xml")
    with (tmp_path / "out" / "grades.csv").open(newline="", encoding="utf-8") as file:
        ids = [line["id"] for line in csv.DictReader(file)]
    assert sorted(ids) == ["'" + name.replace("\x1b", "?"), "??"]


def test_a_page_counts_each_function_of_a_student_once():
    """What raises here and is not written there is an error; all ways add up."""
    exercise = exercises.load("E2")
    name = exercise.functions[0].name
    for statuses, how in (
        (["passed", "passed"], "right"),
        (["passed", "failed"], "wrong"),
        (["error", "not_implemented"], "broken"),
        (["timeout", "failed"], "broken"),
        (["not_implemented", "not_implemented"], "empty"),
    ):
        tests = [{"function": name, "status": status} for status in statuses]
        (first, *_) = pages._by_function([{"tests": tests}], exercise)
        counts = {key: first[key] for key in pages.HOWS}
        assert counts == {**dict.fromkeys(pages.HOWS, 0), how: 1}


# ---- the command ---------------------------------------------------------------------------------


def invoke(*arguments):
    return CliRunner().invoke(cli.app, ["grade", *map(str, arguments)])


def test_bad_input_ends_with_2(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK nothing")
    for arguments, said in [
        ((tmp_path / "nowhere", "-e", "E2"), "there is no file or folder"),
        ((tmp_path / "empty", "-e", "E2"), "no submission is in"),
        ((tmp_path / "broken.zip", "-e", "E2"), "cannot be read"),
        ((tmp_path, "-e", "E77"), "E77"),
        ((tmp_path, "-e", "E2", "--require", "iron"), "strict, basic, none"),
        ((tmp_path, "-e", "E2", "--jobs", "0"), "jobs"),
        ((tmp_path, "-e", "E2", "--secret", "caf\udce9"), "--secret is not UTF-8 text"),
        ((tmp_path,), "exercise"),
    ]:
        result = invoke(*arguments, "--out", tmp_path / "out")
        assert result.exit_code == 2, arguments
        assert said in result.output
        assert not (tmp_path / "out").exists()
    result = invoke(tmp_path, "-e", "E2", "--out", tmp_path / "broken.zip")
    assert "is a file and no folder" in str(result.exception)


@pytest.mark.parametrize(("here", "level"), [("basic", "strict"), ("none", "basic")])
def test_weaker_walls_than_required_are_refused(tmp_path, monkeypatch, here, level):
    (tmp_path / "ann.py").write_text("x = 1")
    weak = type(OPEN)(**{**vars(policy()), "level": here})
    monkeypatch.setattr(commands, "policy", lambda: weak)
    result = invoke(tmp_path, "-e", "E2", "--require", level, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert f"--require {level}: this machine has level '{here}'" in result.output
    assert "WARNING" in result.output
    assert not (tmp_path / "out").exists()
    with pytest.raises(PermissionError, match=f"'{level}' is required.*'{here}'"):
        grade_text("x = 1", walls=weak, require=level)
    assert grade_text("", walls=weak, require=here)["level"] == here
