"""Student notebooks and the instructor's bundle, made from one source for each exercise.

The source is a notebook in percent format (jupytext's), with the solutions between the lines
``# BEGIN SOLUTION`` and ``# END SOLUTION``. Lines ``# STUDENT: code`` between them are what the
learner gets instead; without any, the function raises NotImplementedError.
"""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path
from typing import Any

from .._percent import tidied, write_files, written
from . import load
from .spec import Exercise

__all__ = [
    "BEGIN",
    "END",
    "STUDENT",
    "build",
    "file_name",
    "full_source",
    "notebook",
    "source",
    "student_notebook",
    "student_source",
]

HAND_IN = """

**Needs** the package `diffusion_edu` with its extra `lab`, in the Python that runs this notebook.
**To hand in**, save the notebook and give in this one file. At grading it is read, not run: only
imports, functions, classes and plain constants count, and your functions are called with other
numbers too. So keep their names, and put what they need into functions."""
BEGIN, END, STUDENT = "# BEGIN SOLUTION", "# END SOLUTION", "# STUDENT:"


def source(key: str) -> str:
    """The source of an exercise, with its solutions."""
    file = importlib.resources.files(__package__) / key.lower() / "notebook.py"
    return file.read_text(encoding="utf-8")


def file_name(exercise: Exercise) -> str:
    """E2_jump_to_any_t.ipynb."""
    slug = re.sub(r"\W+", "_", exercise.title.lower()).strip("_")
    return f"{exercise.key}_{slug}.ipynb"


def student_source(text: str, key: str) -> str:
    """The source without its solutions.

    Raises:
        ValueError: a mark without its partner, or a solution outside a function.
    """
    kept: list[str] = []
    function, inside, replaced, indent = "", False, 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if match := re.match(r"(?:def|class) (\w+)", line):
            function = match[1]
        if bare == BEGIN:
            if inside or not function or line == bare:
                raise ValueError(f"line {number}: {BEGIN} inside a solution, or in no function")
            inside, replaced, indent = True, 0, line[: len(line) - len(line.lstrip())]
        elif bare == END:
            if not inside:
                raise ValueError(f"line {number}: {END} without {BEGIN}")
            if not replaced:
                kept.append(f'{indent}raise NotImplementedError("{key} {function}")')
            inside = False
        elif inside and bare.startswith(STUDENT):
            kept.append(indent + bare.removeprefix(STUDENT).removeprefix(" "))
            replaced += 1
        elif not inside:
            kept.append(line)
    if inside:
        raise ValueError(f"{BEGIN} in {function} without {END}")
    return "\n".join(kept) + "\n"


def full_source(text: str) -> str:
    """The source with its solutions and without the marks."""
    marks = (BEGIN, END, STUDENT)
    return "".join(x for x in text.splitlines(keepends=True) if not x.strip().startswith(marks))


def notebook(text: str, key: str) -> Any:
    """A notebook of a percent source: no outputs, no metadata but the kernel's, steady ids."""
    import jupytext

    made = jupytext.reads(text, fmt="py:percent")
    return tidied(made, made.cells, key.lower())


def student_notebook(key: str) -> str:
    """The text of the file that students get: the first cell also says how to hand it in."""
    made = notebook(student_source(source(key), key), key)
    made.cells[0].source += HAND_IN
    return written(made)


def build(keys: list[str], folder: Path, instructor: Path | None = None) -> list[Path]:
    """Write student notebooks to ``folder``, and solutions with their mistakes to ``instructor``.

    Returns:
        The files written.
    """
    files: dict[Path, str] = {}
    for key in keys:
        exercise = load(key)
        name = file_name(exercise)
        files[folder / name] = student_notebook(key)
        if instructor is not None:
            solved = written(notebook(full_source(source(key)), key))
            files[instructor / name.replace(".ipynb", "_solution.ipynb")] = solved
            files[instructor / f"{key}_mistakes.md"] = _catalogue(exercise)
    return write_files(files)


def _catalogue(exercise: Exercise) -> str:
    """The mistakes of an exercise as a table in Markdown."""
    lines = [f"# {exercise.key} \u00b7 {exercise.title}: mistakes with a name", ""]
    for f in exercise.functions:
        lines += [
            f"## {f.name}",
            "",
            "| mistake | hint | read again | credit |",
            "|---|---|---|---|",
        ]
        lines += [f"| `{m.name}` | {m.hint} | {m.lecture} | {m.credit:.0%} |" for m in f.mistakes]
        lines.append("")
    return "\n".join(lines)
