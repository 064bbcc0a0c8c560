"""notebooks/README.md against the lectures: its syllabus, its links, and the tags of its ideas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from diffusion_edu.lectures.syllabus import SYLLABUS

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
README = NOTEBOOKS / "README.md"


def table(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its header."""
    text = README.read_text(encoding="utf-8").split(f"## {heading}\n")[1]
    rows = [line for line in text.split("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def ideas() -> Iterator[tuple[str, str]]:
    """Each (notebook, tag) of the table of ideas."""
    for idea, lectures, tags in table("Which idea is where"):
        names = re.findall(r"\]\((\w+\.ipynb)\)", lectures)
        wanted = re.findall(r"`(covers-[a-z0-9-]+)`", tags)
        assert names, idea
        assert len(names) == len(wanted), idea
        yield from zip(names, wanted, strict=True)


def tags_of(name: str) -> set[str]:
    cells = json.loads((NOTEBOOKS / name).read_text(encoding="utf-8"))["cells"]
    return {tag for cell in cells for tag in cell["metadata"].get("tags", [])}


@pytest.mark.parametrize("name", sorted({name for name, _ in ideas()}))
def test_each_idea_has_its_cell(name: str) -> None:
    """Every tag that the README promises for a notebook is on one of its cells."""
    missing = {tag for at, tag in ideas() if at == name} - tags_of(name)
    assert not missing, f"{name} lacks {sorted(missing)}"


@pytest.mark.parametrize("one", SYLLABUS, ids=lambda one: one.number)
def test_no_tag_is_left_out_of_the_table(one) -> None:
    """Every covers- tag of a notebook is in the README."""
    found = {tag for tag in tags_of(f"{one.name}.ipynb") if tag.startswith("covers-")}
    listed = {tag for at, tag in ideas() if at == f"{one.name}.ipynb"}
    assert found <= listed, f"README lacks {sorted(found - listed)}"


def test_the_syllabus_is_the_librarys() -> None:
    """Numbers, titles, files, minutes and prerequisites agree, and so does the total."""
    rows = [row[:5] for row in table("Syllabus")]
    assert rows == [
        [o.number, f"[{o.title}]({o.name}.ipynb)", o.about, str(o.minutes), ", ".join(o.needs)]
        for o in SYLLABUS
    ]
    for row, one in zip(table("Syllabus"), SYLLABUS, strict=True):
        assert row[5].startswith(f"[{one.exercise}]" if one.exercise else "")
    assert f"{sum(o.minutes for o in SYLLABUS)} minutes in all" in README.read_text("utf-8")


def test_links_lead_somewhere() -> None:
    """All files that the README links to are there."""
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (NOTEBOOKS / link).exists()]
    assert links
    assert not missing
