"""ARCHITECTURE.md says what is: its picture and table, the ways it tells, the tests it names."""

import importlib
import re
from pathlib import Path

import pytest
from rooms import MATHS, PACKAGE, ROOMS, ROOT

PAGE = (ROOT / "ARCHITECTURE.md").read_text()
NAME = re.compile(r"`([\w./]+(?::\w+)?)`")


def implied(room):
    """Rooms that another room of this one's leads to."""
    onward = set()
    for other in ROOMS[room]:
        onward |= {*ROOMS[other], *implied(other)}
    return onward


def test_the_picture_shows_the_table():
    """Each arrow that goes not without saying is drawn, and no other; each room has its box."""
    drawn = set(re.findall(r"^  (\w+) --> (\w+)$", PAGE, re.MULTILINE))
    shown = [room for room in ROOMS if room != "helpers"]
    wanted = {(a, b) for a in shown for b in ROOMS[a] if b != "helpers" and b not in implied(a)}
    assert drawn == wanted
    assert set(re.findall(r"^  (\w+)[(\[]", PAGE, re.MULTILINE)) == set(shown)


def test_the_table_is_the_one_that_is_enforced():
    """A row for each room, in the order of the table, with what it imports."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| ?([\w, ]*?) ?\|$", PAGE, re.MULTILINE)
    assert {room: tuple(filter(None, others.split(", "))) for room, others in rows} == ROOMS
    assert [room for room, _ in rows] == list(ROOMS)
    maths = next(line for line in PAGE.splitlines() if line.startswith("| `maths`"))
    assert tuple(re.findall(r"`(\w+)`", maths)[1:]) == MATHS


# ---- the ways ------------------------------------------------------------------------------------

WAYS = re.findall(r"`[\w./:]+`(?: [\u2192\u21e2] `[\w./:]+`)+", PAGE)


def found(name):
    """(file, bare name) of a function: module.function, or path:function of other files."""
    if ":" in name:
        path, _, bare = name.partition(":")
        text = (PACKAGE / path).read_text()
        defines = rf"^(async |def |function |const |export )*(  )?{bare}( = )?\("
        assert re.search(defines, text, re.MULTILINE), f"{path} defines no {bare}"
        return PACKAGE / path, bare
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            thing = importlib.import_module(".".join(["diffusion_edu", *parts[:end]]))
        except ModuleNotFoundError:
            continue
        file = thing.__file__
        for part in parts[end:]:
            thing = getattr(thing, part)
        assert callable(thing), name
        return file, parts[-1]
    raise AssertionError(f"there is no {name}")


def test_there_are_all_ways():
    """The four, the one of an exported page, and what is left in the browser."""
    begin = [NAME.findall(way)[0] for way in WAYS]
    wanted = [
        "training.commands.train",
        "evaluation.sample_command.sample",
        "widgets/player.js:slider",
    ]
    assert begin[:3] == wanted
    assert "grading.commands.grade" in begin


@pytest.mark.parametrize("way", WAYS, ids=lambda way: NAME.findall(way)[0])
def test_the_ways_exist(way):
    """Every function is there; one that is called is named in the file of one before it."""
    steps = re.findall(r"(^|[\u2192\u21e2] )`([\w./:]+)`", way)
    behind = ""
    for arrow, name in steps:
        file, bare = found(name)
        if arrow.startswith("\u2192"):
            assert re.search(rf"\b{bare}\b", behind), f"nothing before {name} names it"
        behind += Path(file).read_text()


def test_the_tests_it_names_exist():
    """The rules are enforced where the page says."""
    named = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", PAGE)
    assert named
    for file, function in named:
        text = (ROOT / "tests" / file).read_text()
        assert f"def {function}" in text, (file, function)


def test_the_page_is_short():
    """It is read in a few minutes."""
    assert len(PAGE.splitlines()) <= 100
