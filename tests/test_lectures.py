"""The lectures: what is written is what is built, the rules of the form, and that it runs."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import nbformat
import pytest
from executed import executed, seconds

pytest.importorskip("jupytext")

import diffusion_edu.exercises as exercises
from diffusion_edu import widgets
from diffusion_edu.exercises import build as exercises_build
from diffusion_edu.lectures.build import lecture_notebook, source
from diffusion_edu.lectures.cards import cards_of
from diffusion_edu.lectures.syllabus import SYLLABUS, Lecture

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
HANDED_OUT = sorted(NOTEBOOKS.glob("*.ipynb")) + sorted(NOTEBOOKS.glob("exercises/*.ipynb"))
EXPLORERS = {name for name in widgets.__all__ if name != "Explorer"}
DRAWING = {"matplotlib", "ipywidgets", "anywidget", "pylab", "seaborn", "plotly", "IPython"}
TAGS = re.compile(r"colab|answer|notation|hide-input|cover|covers-[a-z0-9-]+")
MOST_SECONDS = 60  # of a whole lecture, on two cores
EVERY = pytest.mark.parametrize("one", SYLLABUS, ids=lambda one: one.name)
WITH_FORMULAS = pytest.mark.parametrize("one", SYLLABUS[1:], ids=lambda one: one.name)


def path_of(one: Lecture) -> Path:
    return NOTEBOOKS / f"{one.name}.ipynb"


@lru_cache
def notebook_of(one: Lecture) -> Any:
    return nbformat.read(path_of(one), as_version=nbformat.NO_CONVERT)


def tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def code_of(one: Lecture) -> list[str]:
    """The code cells of a lecture; that for Colab is not its own."""
    cells = notebook_of(one).cells
    return [c.source for c in cells if c.cell_type == "code" and "colab" not in tags(c)]


def text_of(one: Lecture) -> list[Any]:
    return [c for c in notebook_of(one).cells if c.cell_type == "markdown"]


def nodes(one: Lecture) -> Iterator[ast.AST]:
    for code in code_of(one):
        yield from ast.walk(ast.parse(code))


def called(one: Lecture) -> Iterator[tuple[str, ast.Call]]:
    """Every call, with the last part of the function's name."""
    for node in nodes(one):
        if isinstance(node, ast.Call):
            f = node.func
            name = f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "")
            yield name, node


# ---- the files -----------------------------------------------------------------------------------


@EVERY
def test_the_notebook_is_made_from_its_source(one: Lecture) -> None:
    made = nbformat.writes(lecture_notebook(one, source(one))) + "\n"
    assert path_of(one).read_text(encoding="utf-8") == made, (
        f"run: diffusion-edu lectures build {one.number}"
    )


@EVERY
def test_there_are_no_outputs(one: Lecture) -> None:
    notebook = notebook_of(one)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@EVERY
def test_tags_are_known(one: Lecture) -> None:
    """Answers are for instructors and not in here; anything else is a slip of the pen."""
    found = {tag for cell in notebook_of(one).cells for tag in tags(cell)}
    assert "answer" not in found
    assert {tag for tag in found if not TAGS.fullmatch(tag)} == set()


# ---- the form ------------------------------------------------------------------------------------


@EVERY
def test_code_cells_are_short(one: Lecture) -> None:
    """Half of them have at most ten lines, none over 25."""
    lengths = [len(code.splitlines()) for code in code_of(one)]
    assert statistics.median(lengths) <= 10
    assert max(lengths) <= 25


@EVERY
def test_no_cell_draws_by_itself(one: Lecture) -> None:
    """Pictures come from the library."""
    imported = set()
    for node in nodes(one):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported & DRAWING == set()


def words(text: str) -> int:
    """Words that are read: no formulas, tables, code, addresses."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$|\$[^$]*\$", " ", text, flags=re.DOTALL)
    text = re.sub(r"`[^`]*`|\]\([^)]*\)|<[^>]*>", " ", text)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith(("|", "*Lecture "))]
    return len(re.findall(r"[^\W\d_][\w'’-]*", "\n".join(lines)))


@EVERY
def test_text_cells_are_short(one: Lecture) -> None:
    """At most 120 words outside of formulas, tables and code."""
    long = {
        cell.source.splitlines()[0][:60]: words(cell.source)
        for cell in text_of(one)
        if "notation" not in tags(cell) and words(cell.source) > 120
    }
    assert long == {}


def test_words_are_counted() -> None:
    text = "*Lecture 01 · a b*\n\nOne $a_b$ two `three` [four](five.md)\n\n$$\nsix\n$$\n\n| seven |"
    assert words(text) == 3


@EVERY
def test_it_begins_with_a_moving_picture(one: Lecture) -> None:
    """Title, set-up for Colab, imports; the first call that shows something is an explorer."""
    cells = notebook_of(one).cells
    assert cells[0].source.startswith(f"# {one.title}\n")
    assert "colab" in tags(cells[1])
    first = ast.parse(code_of(one)[1]).body[-1]
    names = {
        n.attr if isinstance(n, ast.Attribute) else getattr(n, "id", "") for n in ast.walk(first)
    }
    shown = {
        target.id
        for node in nodes(one)
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("de.")
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert names & (EXPLORERS | shown)


@WITH_FORMULAS
def test_cards_explorers_checkpoint(one: Lecture) -> None:
    """At least three cards, all that there are; an explorer; a check of the reader's function."""
    shown = [n.args[0].value for name, n in called(one) if name == "card"]
    assert len(shown) >= 3
    assert sorted(shown) == sorted(f"{one.number}.{name}" for name in cards_of(one.number))
    names = {name for name, _ in called(one)}
    assert names & EXPLORERS
    assert "check" in names


@WITH_FORMULAS
def test_the_footer_has_the_symbols(one: Lecture) -> None:
    footers = [cell for cell in text_of(one) if "notation" in tags(cell)]
    assert len(footers) == 1
    assert footers[0] is text_of(one)[-1]
    assert "| symbol | in code | meaning |" in footers[0].source
    assert len(footers[0].source.splitlines()) >= 8


def links_of(text: str) -> set[str]:
    """The files that a text in Markdown links to; not the addresses."""
    return set(re.findall(r"\]\((?!https?:|#)([^)#]+)", text))


@EVERY
def test_a_lecture_ends_with_what_comes_next(one: Lecture) -> None:
    """Its exercise and the lecture that follows; under the title its exercise too."""
    last = "".join(cell.source for cell in text_of(one)[-2:])
    wanted = {f"{next_one.name}.ipynb" for next_one in SYLLABUS[SYLLABUS.index(one) + 1 :][:1]}
    if one.exercise:
        file = f"exercises/{exercises_build.file_name(exercises.load(one.exercise))}"
        wanted.add(file)
        assert file in links_of(text_of(one)[0].source)
    assert wanted <= links_of(last)


@pytest.mark.parametrize("path", HANDED_OUT, ids=lambda path: path.stem)
def test_links_of_what_is_handed_out_lead_to_what_is_handed_out(path: Path) -> None:
    cells = nbformat.read(path, as_version=nbformat.NO_CONVERT).cells
    links = links_of("\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))
    assert links
    assert {(path.parent / link).resolve() for link in links} <= set(HANDED_OUT)


def pointed_at() -> set[tuple[str, str]]:
    """(number, section) of every hint of an exercise."""
    found = set()
    for key in exercises.names():
        for function in exercises.load(key).functions:
            for mistake in function.mistakes:
                number, _, title = mistake.lecture.partition(", ")
                found.add((number, title))
    return found


@EVERY
def test_sections_that_hints_point_to_are_there(one: Lecture) -> None:
    wanted = {title for number, title in pointed_at() if number == one.number}
    lines = {line for cell in text_of(one) for line in cell.source.splitlines()}
    assert {title for title in wanted if f"## {title}" not in lines} == set()


def test_hints_point_to_lectures_there_are() -> None:
    numbers = {number for number, _ in pointed_at()}
    assert numbers <= {one.number for one in SYLLABUS}
    assert len(numbers) >= 10


# ---- that it runs --------------------------------------------------------------------------------


@pytest.mark.timeout(900)
@EVERY
def test_it_runs_offline_without_a_warning(
    one: Lecture, tmp_path: Path, record_property: Any
) -> None:
    """No network, no data sets, nothing on stderr; its own cells take at most a minute.

    Explorers and cards are not counted: here they compute all settings of their pages. How long
    they take a reader, tests/browser/test_lectures_lab.py measures.
    """
    notebook = executed(path_of(one), tmp_path)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr"
    took = [(seconds(cell), cell) for cell in code]
    own = sum(s for s, cell in took if not makes_a_page(cell))
    every = sum(s for s, _ in took)
    record_property("seconds", round(own, 1))
    print(f"{one.name}: {own:.1f} s, with explorers and cards as pages {every:.1f} s")
    assert every > 0
    assert own <= MOST_SECONDS


def makes_a_page(cell: Any) -> bool:
    data = [output.get("data", {}).get("text/html", "") for output in cell.outputs]
    return any('class="explorer"' in html or 'id="card-' in html for html in data)
