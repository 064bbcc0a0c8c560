"""Notebooks of the lectures, made from their percent sources.

A source (``notebooks/source/02_jump_to_any_t.py``) holds what the lecture says. What is the same in
all is added here: the line under the title, the set-up for Colab, the notation table, and what
comes next. Cells tagged ``answer`` (to the "think" questions) are kept for instructors only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import __version__
from .._files import checkout
from .._percent import tidied, write_files, written
from .notation import footer
from .syllabus import SYLLABUS, Lecture, lecture

__all__ = ["build", "folder", "lecture_notebook", "source"]

REPOSITORY = "diffusion-edu/diffusion_edu"  # the owner and name that the badges lead to
COLAB = f"""# On Colab: installs the library (half a minute). Elsewhere: does nothing.
import sys

if "google.colab" in sys.modules:
    %pip install -q "diffusion_edu[lab]=={__version__}\""""

ANSWER = "**Answer, for instructors**"


def folder() -> Path:
    """Where the notebooks are: those of the checkout, else those that were installed.

    Raises:
        ValueError: an installation without notebooks.
    """
    root = checkout()
    places = [root / "notebooks"] if root else []
    places.append(Path(__file__).parents[1] / "_notebooks")
    for place in places:
        if (place / "source").is_dir():
            return place
    raise ValueError("this installation has no sources of lectures: install it again")


def source(one: Lecture) -> str:
    """The percent source of a lecture.

    Raises:
        ValueError: there is no such file.
    """
    path = folder() / "source" / f"{one.name}.py"
    if not path.is_file():
        raise ValueError(f"lecture {one.number} has no source: {path} is missing")
    return path.read_text(encoding="utf-8")


def lecture_notebook(one: Lecture, text: str, instructor: bool = False) -> Any:
    """The notebook of a source: no outputs, no metadata but the kernel's and the tags.

    Raises:
        ValueError: the source does not begin with a title, or names a symbol there is not.
    """
    import jupytext
    import nbformat

    made = jupytext.reads(text, fmt="py:percent")
    cells = [c for c in made.cells if instructor or "answer" not in _tags(c)]
    if not cells or not cells[0].source.startswith("# "):
        raise ValueError(f"the source of lecture {one.number} must begin with '# {one.title}'")
    cells[0].source = _with_line(cells[0].source, one)
    for cell in cells:
        if "notation" in _tags(cell):
            cell.source = _footer(cell.source, one)
    cells.insert(1, nbformat.v4.new_code_cell(COLAB, metadata={"tags": ["colab"]}))
    return tidied(made, cells, f"l{one.number}", "Python 3 (ipykernel)")


def _tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _with_line(text: str, one: Lecture) -> str:
    """The line under the title: time, what comes before, exercise, badge."""
    title, _, rest = text.partition("\n")
    facts = [f"Lecture {one.number}", f"about {one.minutes} minutes"]
    if one.needs:
        links = [f"[{n}]({lecture(n).name}.ipynb)" for n in one.needs]
        facts.append("after lecture " + " and ".join(links))
    if one.exercise:
        facts.append(f"exercise {_exercise(one)}")
    page = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks"
    facts.append(f"[open in Colab]({page}/{one.name}.ipynb)")
    return f"{title}\n\n*{' · '.join(facts)}*\n{rest}"


def _exercise(one: Lecture) -> str:
    """A link to the exercise of a lecture."""
    (path,) = (folder() / "exercises").glob(f"{one.exercise}_*.ipynb")
    return f"[{one.exercise}](exercises/{path.name})"


def _next(one: Lecture) -> str:
    """What to do after a lecture: its exercise, the lecture that follows."""
    steps = [f"exercise {_exercise(one)}"] if one.exercise else []
    if after := SYLLABUS[SYLLABUS.index(one) + 1 :]:
        steps.append(f"lecture [{after[0].number} {after[0].title}]({after[0].name}.ipynb)")
    return f"**Next:** {', then '.join(steps)}."


def _footer(text: str, one: Lecture) -> str:
    names = [
        name for line in text.splitlines() if not line.startswith("#") for name in line.split()
    ]
    return footer(names) + f"\n\n{_next(one)}" + "\n\n*Text: CC BY 4.0. Code: MIT.*"


def build(
    numbers: list[str] | None = None, out: Path | None = None, instructor: bool = False
) -> list[Path]:
    """Write the notebooks of these lectures (all that there are) to a folder.

    Returns:
        The files written.
    """
    chosen = [lecture(n) for n in numbers] if numbers else list(SYLLABUS)
    place = out or folder()
    files: dict[Path, str] = {}
    for one in chosen:
        notebook = lecture_notebook(one, source(one), instructor)
        for cell in notebook.cells:
            if "answer" in _tags(cell):  # a page of the site marks them by its style
                cell.source = f"{ANSWER}\n\n{cell.source}"
        files[place / f"{one.name}.ipynb"] = written(notebook)
    return write_files(files)
