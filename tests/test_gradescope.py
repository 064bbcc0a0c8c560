"""The autograder for Gradescope: its archive, and what it does where only the archive is."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from typer.testing import CliRunner

from diffusion_edu import cli
from diffusion_edu.exercises.build import full_source, source
from diffusion_edu.grading.gradescope import PACKAGE, build_zip

MODULE = "diffusion_edu.grading.gradescope"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("gradescope") / "E2_gradescope.zip"
    build_zip("E2", "our <secret>", path)
    return path


@pytest.fixture(scope="module")
def unpacked(archive):
    """As /autograder/source; with a mark that shows which copy of the package is running."""
    folder = archive.parent / "source"
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return folder


def test_the_archive_has_what_gradescope_needs(archive):
    with zipfile.ZipFile(archive) as file:
        assert file.testzip() is None
        entries = {e.filename: e for e in file.infolist()}
        text = {n: file.read(n).decode() for n in ("setup.sh", "run_autograder", "secret.txt")}
        needs = file.read("requirements.txt").decode().split("\n")
    modes = {name: e.external_attr >> 16 for name, e in entries.items()}
    assert [n for n, mode in modes.items() if mode & 0o111] == ["setup.sh", "run_autograder"]
    assert all(t.startswith("#!/usr/bin/env bash\n") for n, t in text.items() if n[0] != "s")
    assert text["secret.txt"] == "our <secret>"
    assert f"-m {MODULE} \\\n  E2 /autograder/submission" in text["run_autograder"]
    sources = {f"diffusion_edu/{p.relative_to(PACKAGE).as_posix()}" for p in PACKAGE.rglob("*.py")}
    assert sources <= set(entries)
    assert "diffusion_edu/grading/templates/student.html" in entries
    assert not [n for n in entries if n.endswith((".safetensors", ".pyc", "/"))]
    assert archive.stat().st_size < 3 << 20
    names = {re.split(r"[<>=~\[ ]", line)[0] for line in needs if line}
    assert {"torch", "numpy", "typer", "safetensors"} <= names
    assert not {"diffusion_edu", "jupyterlab", "ruff", "distributed"} & names
    if "cluster" in (importlib.metadata.metadata("diffusion_edu").get_all("Provides-Extra") or []):
        assert "jinja2" in names  # else what is installed is older than pyproject.toml
        assert "pytest" not in names


@pytest.mark.parametrize("script", ["setup.sh", "run_autograder"])
def test_the_scripts_are_bash(unpacked, script):
    subprocess.run(["bash", "-n", str(unpacked / script)], check=True)


def test_the_same_bytes_every_time(archive, tmp_path):
    result = CliRunner(env={"DIFFUSION_EDU_SECRET": "our <secret>"}).invoke(
        cli.app, ["gradescope-zip", "e2", "--out", str(tmp_path / "again.zip")]
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()
    build_zip("E2", "another", tmp_path / "other.zip")
    assert (tmp_path / "other.zip").read_bytes() != archive.read_bytes()
    assert CliRunner().invoke(cli.app, ["gradescope-zip", "E77"]).exit_code == 2


def autograde(source, submission, tmp_path, key="E2", secret=None):
    """Run as run_autograder does; (exit code, results.json, stderr)."""
    results = tmp_path / "results" / "results.json"
    arguments = [key, submission, results, secret or source / "secret.txt"]
    run = subprocess.run(
        [sys.executable, "-m", MODULE, *map(str, arguments)],
        cwd=source,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    return run.returncode, json.loads(results.read_text(encoding="utf-8")), run.stderr


RIGHT = full_source(source("E2"))


def test_a_right_submission(unpacked, tmp_path):
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission" / "E2.py").write_text(RIGHT)
    code, result, said = autograde(unpacked, tmp_path / "submission", tmp_path)
    assert (code, said) == (0, "")
    assert result["score"] == sum(t["max_score"] for t in result["tests"]) == 21
    assert {t["status"] for t in result["tests"]} == {"passed"}
    assert {t["visibility"] for t in result["tests"]} == {"visible", "after_published"}
    assert result["extra_data"]["status"] == "graded"


def test_a_wrong_submission(unpacked, tmp_path):
    """A named mistake, a function that is not there, and text that no UTF-8 file can hold."""
    wrong = RIGHT.replace("torch.sqrt(1 - kept) * eps", "(1 - kept) * eps")
    wrong = wrong.replace("def cosine_alpha_bar", "def my_cosine")
    wrong = wrong.replace("return signal /", "raise ValueError('\\ud800') #")
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission" / "E2.py").write_text(wrong)
    code, result, said = autograde(unpacked, tmp_path / "submission", tmp_path)
    assert (code, said) == (0, "")
    tags = {tag for t in result["tests"] for tag in t["tags"]}
    assert tags == {"var_for_std"}
    assert result["score"] == pytest.approx(4 + 4 + 0.25 * 7)
    outputs = " ".join(t["output"] for t in result["tests"])
    assert "cosine_alpha_bar is not defined" in outputs
    assert "it raised ValueError: ?; cell" in outputs
    assert sum(t["score"] for t in result["tests"]) == result["score"]


def test_an_empty_submission_is_no_crash(unpacked, tmp_path):
    (tmp_path / "submission").mkdir()
    code, result, _ = autograde(unpacked, tmp_path / "submission", tmp_path)
    assert (code, result["score"]) == (0, 0)
    assert "no notebook or script" in result["output"]
    assert result["extra_data"]["status"] == "ungradable"


@pytest.mark.parametrize("fault", ["key", "secret", "package", "tables"])
def test_a_crash_still_says_sorry(unpacked, tmp_path, fault):
    """results.json is there whatever happens; the traceback is for the instructor."""
    (tmp_path / "submission").mkdir()
    (tmp_path / "submission" / "E2.py").write_text(RIGHT)
    copy, how = unpacked, {"key": "E99"} if fault == "key" else {}
    if fault == "secret":
        how["secret"] = tmp_path / "nowhere.txt"
    if fault in ("package", "tables"):
        copy = tmp_path / "source"
        shutil.copytree(unpacked, copy)
        broken = "grading/tables.py" if fault == "tables" else "exercises/e2/mistakes.py"
        (copy / "diffusion_edu" / broken).write_text("raise RuntimeError('this copy is broken')")
    code, result, said = autograde(copy, tmp_path / "submission", tmp_path, **how)
    assert code == 1
    assert result["score"] == 0
    assert "not your fault" in result["output"]
    assert "Traceback" in said
    assert "Traceback" not in json.dumps(result)
    if copy is not unpacked:
        assert "this copy is broken" in said  # it was the archive's package that ran
