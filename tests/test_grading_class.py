"""A class whose grades are known: here, on a cluster, interrupted, twice; and all its reports."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import psutil
import pytest
from grading_class import SECRET, make_class
from typer.testing import CliRunner

from diffusion_edu import cli, exercises
from diffusion_edu.grading import grading, reports, run, tables
from diffusion_edu.grading.defences import LEVELS
from diffusion_edu.grading.grading import Task
from diffusion_edu.grading.submissions import Submission, find

N = 60
ROOT = Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "diffusion_edu", "grade"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def tasks_of(folder, key="E2"):
    return [Task(s, key, SECRET) for s in find([folder], key)]


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A class of 60: its folder, the truth, the report, and where the reports lie."""
    root = tmp_path_factory.mktemp("class")
    truth = make_class(root / "class", N, seed=0)
    report = run.grade_class(tasks_of(root / "class"), root / "out", jobs=2)
    files = reports.write(report, exercises.load("E2"), root / "out", canvas=True, moodle=True)
    names = SimpleNamespace(folder=root / "class", out=root / "out", files=files)
    return SimpleNamespace(truth=truth, report=report, rows=report["submissions"], **vars(names))


@pytest.fixture(autouse=True, scope="module")
def no_server_is_left():
    yield
    if grading._server is not None:
        grading._server.close()
        grading._server = None


def compare(rows, truth):
    """Every row says what is true of its submission."""
    assert {r["id"] for r in rows} == set(truth)
    assert len(rows) == len(truth)
    for row in rows:
        wanted = truth[row["id"]]
        said = (row["status"], row["score"], set(tables.mistakes_of(row)))
        assert said == (wanted.status, wanted.score, wanted.mistakes), (row, wanted)
        assert re.search(wanted.reason, row["reason"]), (row["reason"], wanted.reason)


def test_every_submission_gets_what_it_deserves(graded):
    compare(graded.rows, graded.truth)
    assert {r["max_score"] for r in graded.rows} == {21.0}
    assert len({r["score"] for r in graded.rows}) > 10  # a class in which everybody is alike
    assert {r["status"] for r in graded.rows} == {"graded", "ungradable"}  # proves nothing


def test_misconceptions_are_counted(graded):
    wanted = Counter(m for t in graded.truth.values() for m in t.mistakes)
    assert tables.misconceptions(graded.rows) == wanted
    assert len(wanted) >= 12
    page = (graded.out / "class.html").read_text()
    counts = re.findall(
        r'<td class="n">(\d+)</td><td><code>(\w+)</code>.*?<b>(\w+)</b>', page, re.S
    )
    assert {f"{f}:{m}": int(n) for n, f, m in counts} == wanted


def test_pages_say_what_rows_say(graded):
    """A student's page has the points and a hint for each mistake; the class's mean, bars, rows."""
    exercise, shares = exercises.load("E2"), Counter()
    for row in graded.rows:
        page = (graded.out / "feedback" / f"{run.file_name(row['id'])}.html").read_text()
        assert f"</b>: {row['score']:g} of 21 points" in page
        hints = re.findall(r'<div class="hint"><b>(\w+)</b>: (.*?) Read again', page, re.S)
        for function, _, name in (m.partition(":") for m in tables.mistakes_of(row)):
            mistake = exercise.function(function).named[name]
            assert (name, html.escape(mistake.hint, quote=False)) in [
                (n, html.escape(html.unescape(text), quote=False)) for n, text in hints
            ]
        assert {n for n, _ in hints} == {m.partition(":")[2] for m in tables.mistakes_of(row)}
        if row["status"] == "graded":
            shares[int(10 * row["score"] / 21 + 1e-9)] += 1
    page = (graded.out / "class.html").read_text()
    count = shares.total()
    mean = sum(r["score"] for r in graded.rows if r["status"] == "graded") / count
    assert f"{len(graded.rows)} submissions, {count} graded, mean {mean:.1f} of 21 points" in page
    bars = re.findall(r'7rem">([\d to]+ %)</td><td class="n" style="width: 3rem">(\d+)<', page)
    assert len(bars) == 11
    assert [int(n) for _, n in bars] == [shares[k] for k in range(11)]


def test_one_failure_of_the_grader_costs_one_row(tmp_path, monkeypatch):
    """The others are graded; the row says why, and the command ends with 1."""
    for name in ("ann", "bob"):
        (tmp_path / f"{name}.py").write_text(
            "def snr(sch): return sch.alpha_bar / (1 - sch.alpha_bar)"
        )
    real = grading.grade

    def broken(task):
        if task.submission.id == "ann":
            raise RuntimeError("no space left")
        return real(task)

    monkeypatch.setattr(run, "grade", broken)
    monkeypatch.setattr(run, "_here", lambda tasks, jobs: ((t, run._guarded(t)) for t in tasks))
    out = tmp_path / "grades"
    result = CliRunner().invoke(cli.app, ["grade", str(tmp_path), "-e", "E2", "--out", str(out)])
    assert result.exit_code == 1
    assert "ann: error, the grader failed: RuntimeError: no space left" in result.output
    rows = json.loads((out / "grades.json").read_text())["submissions"]
    assert [(r["id"], r["status"], r["score"]) for r in rows] == [
        ("ann", "error", 0), ("bob", "graded", 2)
    ]  # fmt: skip


def test_another_exercise(tmp_path):
    """The generator works with any; its forms are the catalogue's."""
    truth = make_class(tmp_path / "class", 12, seed=1, key="E1")
    report = run.grade_class(tasks_of(tmp_path / "class", "E1"), tmp_path / "out", jobs=2)
    compare(report["submissions"], truth)


# ---- the same grades, however they are come by ---------------------------------------------------


def test_a_second_run_in_another_order_gives_the_same(graded, tmp_path):
    some = tasks_of(graded.folder)[5:25]
    rows = run.grade_class(some[::-1], tmp_path / "again", jobs=1)["submissions"]
    assert tables.as_json(rows[::-1]) == tables.as_json(graded.rows[5:25])


def test_a_cluster_gives_the_same_bytes(graded, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(run, "_here", None)  # nothing is graded by this machine's own processes
    how = {"n_workers": 2, "threads_per_worker": 2, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**how) as cluster:
        report = run.grade_class(
            tasks_of(graded.folder), tmp_path / "out", cluster=cluster.scheduler_address
        )
    reports.write(report, exercises.load("E2"), tmp_path / "out")
    wanted = (graded.out / "grades.json").read_bytes()
    assert (tmp_path / "out" / "grades.json").read_bytes() == wanted


def rows_in(out):
    return {p.name: p.stat().st_mtime_ns for p in (out / "rows").glob("[!.]*.json")}


def test_interrupted_and_resumed(graded, tmp_path):
    """Ctrl-C, as a terminal sends it to all processes of the command; then --resume."""
    out = tmp_path / "out"
    options = ["-e", "E2", "--secret", SECRET, "--jobs", "2", "--out", str(out)]
    command = [*COMMAND, str(graded.folder), *options]
    first = subprocess.Popen(
        command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 240
    while len(rows_in(out)) < 5:
        assert first.poll() is None, first.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGINT)
    said = first.communicate(timeout=120)[1]
    assert first.returncode == 130, said
    kept = rows_in(out)
    assert 5 <= len(kept) < N
    assert f"{len(kept)} of {N} are kept in {out}: go on with --resume" in said
    assert "Traceback" not in said
    assert not (out / "grades.json").exists()
    session = [p for p in psutil.process_iter() if _session(p.pid) == first.pid]
    assert not psutil.wait_procs(session, timeout=20)[1]
    second = subprocess.run(
        [*command, "--resume"], env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert second.returncode == 0, second.stderr
    now = rows_in(out)
    assert len(now) == N
    assert {name: now[name] for name in kept} == kept  # none was written again
    assert (out / "grades.json").read_bytes() == (graded.out / "grades.json").read_bytes()


def _session(pid):
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def test_resume_grades_again_what_has_changed(tmp_path, monkeypatch):
    """Another file, another secret, a row that cannot be read: nothing old is kept."""
    monkeypatch.setattr(run, "_here", lambda tasks, jobs: ((t, run._guarded(t)) for t in tasks))
    files = [Submission(f"s{i}", "a.py", b"def snr(sch): return 1 / 0") for i in range(3)]
    graded_now = []

    def go(secret="s", resume=True):
        graded_now.clear()
        before = rows_in(tmp_path)
        report = run.grade_class([Task(s, "E2", secret) for s in files], tmp_path, 1, None, resume)
        after = rows_in(tmp_path)
        graded_now.extend(name for name in after if after[name] != before.get(name))
        return report

    first = go()
    assert len(graded_now) == 3
    assert go() == first
    assert graded_now == []
    files[1] = Submission("s1", "a.py", b"def snr(sch): return sch.alpha_bar / (1 - sch.alpha_bar)")
    (tmp_path / "rows" / "s2.json").write_text('{"digest": ')
    second = go()
    assert sorted(graded_now) == ["s1.json", "s2.json"]
    assert [r["score"] for r in second["submissions"]] == [0, 2, 0]
    go(secret="another")
    assert len(graded_now) == 3
    go(secret="another", resume=False)
    assert len(graded_now) == 3


def test_resume_keeps_nothing_from_behind_weaker_walls(tmp_path, monkeypatch):
    """A folder begun where walls were weaker: a row is kept if they were what is required now."""
    monkeypatch.setattr(run, "_here", lambda tasks, jobs: ((t, run._guarded(t)) for t in tasks))
    file = Submission("ann", "a.py", b"def snr(sch): return 1 / 0")
    run.grade_class([Task(file, "E2", "s")], tmp_path)
    path = tmp_path / "rows" / "ann.json"
    for level, require, kept in [("basic", "basic", True), ("none", "basic", False)]:
        path.write_text(re.sub(r'"level": "\w+"', f'"level": "{level}"', path.read_text()))
        found = run._kept(path.parent, Task(file, "E2", "s", require=require))
        assert (found is not None) == kept


# ---- reports -------------------------------------------------------------------------------------


def test_a_failure_of_the_grader_is_nobodys_grade(tmp_path):
    """No 0 goes to a platform, and the class was graded behind the walls of those who were."""
    exercise = exercises.load("E2")
    right = grading.grade(Task(Submission("ann", "a.py", b"x = 1", "1"), "E2", "s"))
    wrong = grading.failed(Task(Submission("bob", platform_id="2"), "E2", "s"), OSError("disk"))
    canvas = list(csv.reader(tables.canvas_csv([right, wrong], exercise).splitlines()))
    assert [line[5] for line in canvas[2:]] == ["0", ""]
    moodle = list(csv.DictReader(tables.moodle_csv([right, wrong], exercise).splitlines()))
    assert [line["Grade"] for line in moodle] == ["0", ""]
    assert run._summary([right, wrong])["level"] == right["level"]


def test_pages_of_who_left_are_removed(tmp_path):
    """A folder that is sent to students has pages of this run, and files of others as they were."""
    exercise, rows = exercises.load("E2"), []
    for name in ("ann", "bob"):
        rows.append(grading.failed(Task(Submission(name), "E2", "s"), OSError("disk")))
    reports.write({"submissions": rows, "level": "none"}, exercise, tmp_path)
    (tmp_path / "feedback" / "mine.html").write_text("x")
    reports.write({"submissions": rows[:1], "level": "none"}, exercise, tmp_path)
    assert {p.name for p in (tmp_path / "feedback").iterdir()} == {"ann.html", "mine.html"}
    assert {p.name for p in (tmp_path / "gradescope").iterdir()} == {"ann.json"}


def test_json_has_what_the_readme_says(graded):
    text = (graded.out / "grades.json").read_bytes().decode()
    report = json.loads(text)
    assert report == json.loads(json.dumps(graded.report).replace("\\ud800", "?"))
    assert set(report) == {"schema", "level", "submissions"}
    assert report["schema"] == 1
    assert report["level"] in LEVELS
    keys = {"id", "exercise", "status", "reason", "score", "max_score", "tests"}
    inner = {"name", "function", "status", "score", "max_score", "mistake", "message"}
    for row in report["submissions"]:
        assert keys <= set(row)
        assert row["score"] == pytest.approx(sum(t["score"] for t in row["tests"]))
        assert all(inner <= set(t) for t in row["tests"])


def test_csv_reads_back(graded):
    with (graded.out / "grades.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    functions = [f.name for f in exercises.load("E2").functions]
    for line, row in zip(lines, graded.rows, strict=True):
        assert (line["id"], line["status"]) == (row["id"], row["status"])
        assert line["reason"] == row["reason"]
        assert float(line["score"]) == row["score"]
        assert float(line["max_score"]) == 21
        assert set(line["mistakes"].split()) == graded.truth[row["id"]].mistakes
        assert sum(float(line[name]) for name in functions) == row["score"]


def test_canvas_and_moodle_find_their_students(graded):
    with (graded.out / "canvas.csv").open(newline="") as file:
        head, most, *lines = csv.reader(file)
    assert head == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "E2"]
    assert (most[0], float(most[5])) == ("Points Possible", 21)
    by_number = {x[1]: x for x in lines}
    with (graded.out / "moodle.csv").open(newline="") as file:
        sheet = {x["Identifier"]: x for x in csv.DictReader(file)}
    kinds = Counter()
    for row in graded.rows:
        if row["id"].startswith("zhangli"):
            line = by_number[str(1000 + int(row["id"][-3:]))]
            assert (line[0], float(line[5])) == (row["id"], row["score"])
            kinds["canvas"] += 1
        if row["id"].startswith("Zoë"):
            line = sheet[f"Participant {2000 + int(row['id'][-3:])}"]
            assert (line["Full name"], float(line["Grade"])) == (row["id"], row["score"])
            right = row["score"] == row["max_score"]
            comments = line["Feedback comments"]
            assert (comments == "all tests passed") == right
            for function, _, name in (m.partition(":") for m in graded.truth[row["id"]].mistakes):
                mistake = exercises.load("E2").function(function).named[name]
                assert f"{function}: {mistake.hint}" in comments
                kinds["mistake"] += 1
            kinds["moodle"] += 1
    assert kinds["canvas"] > 1
    assert kinds["moodle"] > 1
    assert kinds["mistake"] > 1


def test_junit_is_xml(graded):
    suites = ElementTree.parse(graded.out / "junit.xml").getroot()
    assert [s.get("name") for s in suites] == [r["id"] for r in graded.rows]
    for suite, row in zip(suites, graded.rows, strict=True):
        cases = suite.findall("testcase")
        assert len(cases) == len(row["tests"]) == int(suite.get("tests"))
        wrong = [t["mistake"] or t["status"] for t in row["tests"] if t["status"] == "failed"]
        assert [f.get("type") for f in suite.iter("failure")] == wrong
        assert len(wrong) == int(suite.get("failures"))
        assert len(suite.findall(".//error")) == int(suite.get("errors"))
        assert len(suite.findall(".//skipped")) == int(suite.get("skipped"))
        points = [p for p in suite.iter("property") if p.get("name") == "points"]
        assert sum(float(p.get("value")) for p in points) == row["score"]


def test_gradescope_json(graded):
    for row in graded.rows:
        path = graded.out / "gradescope" / f"{run.file_name(row['id'])}.json"
        result = json.loads(path.read_text())
        documented = {"score", "output", "output_format", "tests", "extra_data"}
        assert set(result) == documented
        assert result["score"] == row["score"]
        assert row["reason"] in result["output"]
        for test, own in zip(result["tests"], row["tests"], strict=True):
            assert test["status"] == ("passed" if own["status"] == "passed" else "failed")
            assert (test["score"], test["max_score"]) == (own["score"], own["max_score"])
            assert test["visibility"] == ("after_published" if own["hidden"] else "visible")
            assert test["output_format"] == "text"
