"""Exercises are sound: right answers pass, mistakes are called by their name, nothing leaks."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

import diffusion_edu
from diffusion_edu import cli
from diffusion_edu.exercises import build, load, names, scaffold, verify
from diffusion_edu.exercises.judge import judge, worth
from diffusion_edu.exercises.local import Namespace
from diffusion_edu.exercises.spec import Mistake

ROOT = Path(__file__).parents[1]
HANDED_OUT = ROOT / "notebooks" / "exercises"
KEYS = names()
SECRETS = ("spring term", "Ünïcode · 3")


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)


# ---- all exercises -------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS)
def test_the_mistake_matrix(key):
    """Reference and three other forms: 100 %; each mistake caught and named; no line leaks."""
    assert verify.verify(load(key)) == []


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("key", KEYS)
def test_sound_under_any_secret(key, secret, monkeypatch):
    """The same with the hidden cases of other courses."""
    monkeypatch.setattr(verify, "SECRET", secret)
    exercise = load(key)
    assert [*verify._reference(exercise), *verify._solution(exercise)] == []
    for f in exercise.functions:
        for form in f.alternatives:
            assert verify._not_full(verify._judged(exercise, f, form, secret)) == []
        for m in f.mistakes:
            results = verify._judged(exercise, f, m.wrong, secret)
            assert {r.mistake for r in results if r.status != "passed"} == {m.name}
            assert any(r.mistake for r in results if r.hidden), f"{m.name} passes hidden tests"


def test_as_much_as_promised():
    """E1 to E9: 45 functions, 90 mistakes, 8 items of the kind "find the bug", or more."""
    assert list(KEYS) == [f"E{n}" for n in range(1, 10)]
    functions = [f for key in KEYS for f in load(key).functions]
    assert len(functions) >= 45
    assert sum(len(f.mistakes) for f in functions) >= 90
    assert sum(bool(f.bug) for f in functions) >= 8


def test_a_function_belongs_to_one_exercise():
    """check(q_sample) finds its exercise by the name alone; mistakes are unique in a function."""
    found = Counter(f.name for key in KEYS for f in load(key).functions)
    assert [name for name, n in found.items() if n > 1] == []
    for key in KEYS:
        for f in load(key).functions:
            mistakes = [m.name for m in f.mistakes]
            assert len(set(mistakes)) == len(mistakes), f"{key} {f.name}"
            assert f.bug in ("", *mistakes)


@pytest.mark.parametrize("key", KEYS)
def test_what_a_learner_reads(key):
    """Every mistake has a hint that ends as a sentence, a section to reread, a credit below 1."""
    for f in load(key).functions:
        for m in f.mistakes:
            assert re.fullmatch(r"[\w.]+", m.name)
            assert re.fullmatch(r"\S.{20,}[.?]", m.hint), f"{m.name}: {m.hint}"
            assert "  " not in m.hint
            assert re.fullmatch(r"\d\d, .+", m.lecture), f"{m.name}: {m.lecture}"
            assert 0 <= m.credit < 1


@pytest.mark.parametrize("key", KEYS)
def test_committed_notebooks_are_those_that_build_makes(key):
    """notebooks/exercises/E2_jump_to_any_t.ipynb: run `diffusion-edu exercise build` otherwise."""
    path = HANDED_OUT / build.file_name(load(key))
    assert path.is_file(), f"{path} is missing: diffusion-edu exercise build"
    assert path.read_text(encoding="utf-8") == build.student_notebook(key)


def test_no_notebook_of_an_exercise_that_is_gone():
    wanted = {build.file_name(load(key)) for key in KEYS}
    assert {p.name for p in HANDED_OUT.glob("*.ipynb")} - wanted == set()


@pytest.mark.parametrize("key", KEYS)
def test_student_notebook_is_clean(key):
    """Valid, no outputs, no counts, no metadata but the kernel's; each function is there once."""
    made = nbformat.reads(build.student_notebook(key), as_version=4)
    nbformat.validate(made)
    assert set(made.metadata) == {"kernelspec"}
    code = [c for c in made.cells if c.cell_type == "code"]
    assert all(not c.outputs and c.execution_count is None for c in code)
    assert all(not c.metadata for c in made.cells)
    assert len({c.id for c in made.cells}) == len(made.cells)
    trees = [node for c in code for node in ast.parse(c.source).body]
    defined = [n.name for n in trees if isinstance(n, ast.FunctionDef)]
    for f in load(key).functions:
        assert defined.count(f.name) == 1
        assert any(f"check({f.name})" in c.source for c in code), f"no check({f.name})"
    assert f'check("{key}")' in code[-1].source
    assert "SOLUTION" not in json.dumps(made)


# ---- build ---------------------------------------------------------------------------------------


def test_build_is_deterministic(tmp_path):
    """Two builds are the same bytes; without a folder for them, no solutions are written."""
    made = []
    for name in ("a", "b"):
        assert run("exercise", "build", *KEYS, "--out", tmp_path / name).exit_code == 0
        made.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert made[0] == made[1]
    wanted = {build.file_name(load(k)): build.student_notebook(k).encode() for k in KEYS}
    assert made[0] == wanted


def test_instructor_bundle(tmp_path):
    """Solutions that score 100 %, and a table with every mistake and its hint."""
    done = run("exercise", "build", "e2", "--out", tmp_path / "s", "--instructor", tmp_path / "i")
    assert done.exit_code == 0
    assert [p.name for p in (tmp_path / "s").iterdir()] == ["E2_jump_to_any_t.ipynb"]
    assert {p.name for p in (tmp_path / "i").iterdir()} == {
        "E2_jump_to_any_t_solution.ipynb",
        "E2_mistakes.md",
    }
    made = nbformat.read(tmp_path / "i" / "E2_jump_to_any_t_solution.ipynb", as_version=4)
    text = "\n\n".join(c.source for c in made.cells if c.cell_type == "code")
    assert "SOLUTION" not in text
    assert "STUDENT" not in text
    exercise = load("E2")
    functions = verify.defined(re.sub("^ForwardExplorer.*$", "", text, flags=re.MULTILINE))
    results = judge(exercise, Namespace(functions), "a secret")
    assert sum(r.score for r in results) == sum(r.max_score for r in worth(exercise))
    table = (tmp_path / "i" / "E2_mistakes.md").read_text(encoding="utf-8")
    for f in exercise.functions:
        for m in f.mistakes:
            assert f"| `{m.name}` | {m.hint} | {m.lecture} | {m.credit:.0%} |" in table


GOOD = """# %%
def f(x):
    # BEGIN SOLUTION
    return secret(x)
    # END SOLUTION


# %%
def g(x):
    def helper(y):
        return y

    # BEGIN SOLUTION
    # STUDENT: return helper(x) + 1
    return helper(x)
    # END SOLUTION
"""


def test_student_source():
    """A solution becomes a stub with the name of its function, or the lines meant for students."""
    text = build.student_source(GOOD, "E7")
    assert '    raise NotImplementedError("E7 f")\n' in text
    assert "    return helper(x) + 1\n" in text
    assert "secret" not in text
    assert "SOLUTION" not in text
    assert "secret" in build.full_source(GOOD)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("    # END SOLUTION\n\n", "", 1), "inside a solution"),
        (GOOD.removesuffix("    # END SOLUTION\n"), "in g without # END"),
        (GOOD.replace("    # BEGIN SOLUTION\n", "", 1), "without # BEGIN"),
        ("# BEGIN SOLUTION\nx = 1\n# END SOLUTION\n", "in no function"),
        (GOOD + "# %%\n# BEGIN SOLUTION\nx = 1\n# END SOLUTION\n", "in no function"),
    ],
    ids=["nested", "no END", "no BEGIN", "no function", "after a function"],
)
def test_marks_that_do_not_pair(text, says):
    """A mark without its partner would hand a solution out: ValueError with the line."""
    with pytest.raises(ValueError, match=says):
        build.student_source(text, "E7")


# ---- verify finds what is wrong ------------------------------------------------------------------


def broken(function="q_sample", **changes):
    """E2 with one function and its tests, and other attributes of it."""
    exercise = load("E2")
    tests = tuple(t for t in exercise.tests if t.__name__.startswith(f"test_{function}__"))
    changed = replace(exercise.function(function), **changes)
    return replace(exercise, functions=(changed,), tests=tests)


def mistake(name, wrong):
    return Mistake(name, wrong, "A hint.", "02, Jump to any t")


Q = load("E2").function("q_sample")
FIRST = Q.mistakes[0]
BROKEN = {
    "a mistake that is right": (
        broken(mistakes=(*Q.mistakes, mistake("fine", Q.reference))),
        ["fine of q_sample is not caught", "reference and fine of q_sample differ by 0"],
    ),
    "two mistakes alike": (
        broken(mistakes=(*Q.mistakes, mistake("twin", FIRST.wrong))),
        [f"twin of q_sample is called ['{FIRST.name}']", f"{FIRST.name} and twin of q_sample"],
    ),
    "two mistakes nearly alike": (
        broken(mistakes=(*Q.mistakes, mistake("near", lambda *a: FIRST.wrong(*a) + 0.01))),
        [f"{FIRST.name} and near of q_sample differ by 0.0"],
    ),
    "a form that is wrong": (
        broken(alternatives=(*Q.alternatives, FIRST.wrong)),
        ["right form 4 of q_sample fails q_sample: values"],
    ),
    "too few forms": (
        broken(alternatives=Q.alternatives[:2]),
        ["q_sample has 2 other right forms, not 3"],
    ),
    "no test": (
        replace(load("E2"), tests=tuple(t for t in load("E2").tests if "snr" not in t.__name__)),
        ["snr has no test", "ratio_of_amplitudes of snr is not caught"],
    ),
    "another reference": (
        broken(reference=FIRST.wrong),
        ["the solution fails q_sample: values", "right form 1 of q_sample fails"],
    ),
    "another bug": (
        broken("chain_tables", bug="var_for_std"),
        ["the untouched chain_tables: values is failed, first_alpha_bar_not_1; wanted is"],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_verify_reports(name):
    """Each way to break an exercise is reported, by the function's name."""
    exercise, wanted = BROKEN[name]
    found = verify.verify(exercise)
    for text in wanted:
        assert any(text in line for line in found), f"{text!r} is not among {found}"


def test_a_test_that_compares_nothing_is_reported():
    """A test is passed only if something was compared, else everybody would get its points."""

    def test_snr__nothing(student, case):
        student.snr(case.sch)

    exercise = load("E2")
    exercise = replace(exercise, tests=(*exercise.tests, test_snr__nothing))
    assert any("nothing was compared" in line for line in verify.verify(exercise))


LINE = "return torch.cumprod(1.0 - beta, dim=0)"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("# Write `alpha_bar", f"# Write `{LINE}`, or `alpha_bar", f"student notebook: {LINE}"),
        (f"    {LINE}\n", f"    # STUDENT: {LINE}\n    {LINE}\n", "alpha_bar_from_beta: values is"),
        (LINE, "return beta", "the solution fails alpha_bar_from_beta: values"),
        ("import math\n", "import math,\n", "cell 2 cannot be read"),
    ],
    ids=["a line in the text", "a line in the stub", "a wrong solution", "a syntax error"],
)
def test_verify_reads_the_source(old, new, says, monkeypatch):
    """Lines of a solution in the notebook, and solutions that are none, are reported."""
    text = build.source("E2")
    assert text.count(old) >= 1
    for module in (build, verify):
        monkeypatch.setattr(module, "source", lambda key: text.replace(old, new))
    try:
        found = verify.verify(load("E2"))
    except NameError:  # the syntax error cost the imports
        found = list(verify._untouched(load("E2")))
    assert any(says in line for line in found), found


def test_verify_sees_a_solution_handed_out(monkeypatch):
    """A student notebook that is the solution: its lines, and its points, are reported."""
    solved = build.written(build.notebook(build.full_source(build.source("E2")), "E2"))
    monkeypatch.setattr(verify, "student_notebook", lambda key: solved)
    found = verify.verify(load("E2"))
    assert "E2: the untouched snr: values scores 1" in found
    assert f"E2: a line of a solution is left in the student notebook: {LINE}" in found


# ---- the command line ----------------------------------------------------------------------------


def test_list():
    """One line an exercise, one for its functions."""
    output = run("exercise", "list").output
    for key in KEYS:
        assert f"{key}  {load(key).title}: lecture {load(key).lecture}, " in output
        for f in load(key).functions:
            assert f.name + (" (find the bug)" if f.bug else "") in output


def test_verify_command(monkeypatch):
    """Exit code 0 and a count; 1 with the problems."""
    done = run("exercise", "verify", "e2")
    exercise = load("E2")
    mistakes = sum(len(f.mistakes) for f in exercise.functions)
    assert done.exit_code == 0
    assert f"{len(exercise.functions)} functions, {mistakes} mistakes, 0 problems" in done.output
    monkeypatch.setattr(verify, "CHECKS", (lambda e: iter(["it is broken"]),))
    verify.CHECKS[0].__name__ = "_always"
    done = run("exercise", "verify", "E2")
    assert done.exit_code == 1
    assert "E2: it is broken" in done.output


@pytest.mark.parametrize("command", ["build", "verify"])
def test_unknown_exercise(command):
    done = run("exercise", command, "E99")
    assert done.exit_code == 2
    assert "unknown exercise 'E99'; choose from 'E" in done.output


def test_new_exercise_is_sound_from_the_start(tmp_path, monkeypatch):
    """`exercise new` in a copy of the package; `verify`, `list` and `build` know it there."""
    package = tmp_path / "diffusion_edu"
    here = Path(diffusion_edu.__file__).parent
    shutil.copytree(here, package, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    for extra in (package / "exercises").glob("e[13-9]"):
        shutil.rmtree(extra)  # E2 stays; others may be half written while this runs
    monkeypatch.setattr(scaffold, "HERE", package / "exercises")
    done = run("exercise", "new", "e41", "My title, 2nd")
    assert done.exit_code == 0
    assert "diffusion-edu exercise verify E41" in done.output
    assert (package / "exercises" / "e41" / "test_e41.py").is_file()

    commands = (["verify", "E41"], ["list"], ["build", "E41", "--out", "out"])
    script = f"""
from diffusion_edu.cli import app
for command in {commands!r}:
    app(["exercise", *command], standalone_mode=False)
"""
    there = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip
    assert "1 functions, 1 mistakes, 0 problems" in there
    assert "E41  My title, 2nd: lecture 00" in there
    assert "E41_my_title_2nd.ipynb" in there
    assert (tmp_path / "out" / "E41_my_title_2nd.ipynb").is_file()
    again = run("exercise", "new", "E41", "Again")
    assert again.exit_code == 2
    assert "E41 is there already" in again.output


@pytest.mark.parametrize(
    ("key", "title", "says"),
    [
        ("E2", "Again", "E2 is there already"),
        ("E0", "A title", "E and a number"),
        ("E../x", "A title", "E and a number"),
        ("E77", 'A "title"', "without quotes"),
    ],
)
def test_new_refuses(key, title, says, tmp_path, monkeypatch):
    """A bad key or title: exit code 2, one line, and nothing is written."""
    monkeypatch.setattr(scaffold, "HERE", tmp_path)
    done = run("exercise", "new", key, title)
    assert done.exit_code == 2
    assert says in done.output
    assert list(tmp_path.iterdir()) == []
