"""Every lecture in JupyterLab: run all, read all formulas, move every control of every explorer."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from driving import SPREAD, entry, looks, pause, slider, wait_until

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LECTURES = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
FIRST_PICTURE = 10.0  # seconds from "run all" to the first picture of the tour, on a quiet machine

# Controls that change no pixel of the pictures at the settings that a lecture opens with, and why.
NO_PICTURE: dict[tuple[str, str], str] = {}


# ---- the notebook --------------------------------------------------------------------------------


def run_all(notebook: Any) -> float:
    """Seconds until the last cell is done."""
    start = time.monotonic()
    notebook.command("notebook:run-all-cells")
    return time.monotonic() - start


def cells(notebook: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = notebook.page.evaluate(
        "() => jupyterapp.shell.currentWidget.content.model.toJSON().cells"
    )
    return found


def check_outputs(notebook: Any) -> None:
    """Every code cell was run; no exception, nothing on stderr."""
    for cell in cells(notebook):
        if cell["cell_type"] != "code":
            continue
        assert cell["execution_count"], f"not run: {cell['source']}"
        for output in cell["outputs"]:
            bad = output["output_type"] == "error" or output.get("name") == "stderr"
            assert not bad, f"{cell['source']}\n{output}"


# What MathJax made of a cell, once it has as many formulas as that or 20 s are over: formulas, errors in
# them, and TeX that it left as text.
FORMULAS = r"""async (root, count) => {
  const all = () => [...root.querySelectorAll("mjx-container")];
  for (let i = 0; i < 1000 && all().length < count; i++) await new Promise((r) => setTimeout(r, 20));
  const text = root.cloneNode(true);
  const aside = "mjx-container, pre, code, .jp-InternalAnchorLink";
  for (const el of text.querySelectorAll(aside)) el.remove();
  const raw = text.textContent.match(/\$[^$]*\$|\\[A-Za-z]+|\\\(|\\\[/);
  return {
    count: all().length,
    errors: [...root.querySelectorAll("mjx-merror, [data-mjx-error]")].map((e) =>
      e.getAttribute("data-mjx-error") ?? e.title ?? e.textContent),
    flat: all().filter((e) => !e.offsetHeight).length,
    raw: raw && raw[0],
  };
}"""


def formulas(text: str) -> int:
    """How many formulas there are in Markdown; those in code are none."""
    text = re.sub(r"```.*?```|`[^`\n]*`", " ", text, flags=re.DOTALL)
    return len(re.findall(r"\$\$.+?\$\$|\$[^$]+\$", text, flags=re.DOTALL))


def check_formulas(notebook: Any) -> int:
    """Every formula of the text and of the outputs is typeset; returns how many there are."""
    total = 0
    page = notebook.page
    for i, cell in enumerate(cells(notebook)):
        shown = page.locator(".jp-Notebook .jp-Cell").nth(i)
        markdown = [cell["source"]] if cell["cell_type"] == "markdown" else []
        for output in cell.get("outputs", []):
            markdown += [str(output["data"]["text/markdown"])] if is_text(output) else []
        if not markdown:
            continue
        shown.scroll_into_view_if_needed()
        rendered = shown.locator(".jp-RenderedMarkdown")
        rendered.nth(len(markdown) - 1).wait_for(state="attached", timeout=20_000)
        for k, text in enumerate(markdown):
            total += check_typeset(rendered.nth(k), text)
    return total


def is_text(output: dict[str, Any]) -> bool:
    """Whether JupyterLab shows this output as Markdown."""
    data = output.get("data", {})
    return "text/markdown" in data and not any("widget" in k or k == "text/html" for k in data)


def check_typeset(rendered: Any, text: str) -> int:
    count = formulas(text)
    found = rendered.evaluate(FORMULAS, count)
    assert found == {"count": count, "errors": [], "flat": 0, "raw": None}, f"{found}\n{text}"
    return count


# ---- explorers -----------------------------------------------------------------------------------


def settle(player: Any) -> None:
    """Wait until nothing is asked any more."""
    wait_until(lambda: player.get_attribute("data-idle") == "true", seconds=60)
    assert [note for note in errors(player) if "is slow" not in note] == []


def errors(player: Any) -> list[str]:
    """What the explorer complains of: that a function is slow too, on a machine that is."""
    return list(player.locator(".dx-notes p.error").all_inner_texts())


def picture(player: Any, tables: bool = True) -> list[int]:
    """Of all pictures, numbers that tell them apart; none may be blank."""
    drawn = looks(player)
    blank = [i for i, look in enumerate(drawn) if look["spread"] <= SPREAD]
    assert not blank or errors(player), f"blank pictures {blank}"  # a slow function: nothing yet
    return [look["sum"] for look in drawn if tables or not look["table"]]


def to_the_middle(player: Any) -> None:
    """At t = 0 or T many settings have no effect."""
    clock = player.locator(".dx-time input[type=range]")
    if clock.is_visible():
        last = int(clock.get_attribute("max"))
        clock.evaluate(
            "(input, f) => { input.value = f; input.dispatchEvent(new Event('input'));"
            " input.dispatchEvent(new Event('change')); }",
            round(0.6 * last),
        )
        settle(player)


def labels(player: Any, kind: str) -> list[str]:
    """Names of the controls that can be moved now: sliders ("input[type=range]") or choices."""
    rows = player.locator(f".dx-controls {kind}:enabled")
    return [str(rows.nth(i).get_attribute("aria-label")) for i in range(rows.count())]


def choice(player: Any, name: str) -> Any:
    return player.locator(f'.dx-controls select[aria-label="{name}"]')


def move_slider(player: Any, name: str) -> list[list[int]]:
    """Both ends by keys, and back by number: the pictures on the way."""
    before, seen = entry(player, name).input_value(), []
    for key in ("Home", "End"):
        slider(player, name).press(key)
        player.page.keyboard.press("Tab")  # lets go: the full picture is computed
        settle(player)
        seen.append(picture(player))
    entry(player, name).fill(before)
    entry(player, name).press("Enter")
    settle(player)
    assert entry(player, name).input_value() == before
    return seen


def move_choice(player: Any, name: str) -> list[list[int]]:
    """The first and the last option, then back. (test_explorers.py goes through all.)"""
    select = choice(player, name)
    before, seen = select.input_value(), []
    options = select.locator("option").all()
    for option in (options[0], options[-1]):
        select.select_option(option.get_attribute("value"))
        settle(player)
        seen.append(picture(player))
    select.select_option(before)
    settle(player)
    assert select.input_value() == before
    return seen


def drive(player: Any) -> list[str]:
    """Move every control; the names of those that changed no picture.

    Where they have come back, the picture has. Not compared: what was cut short for time, and
    tables, which keep what was measured on the way.
    """
    pause(player)
    settle(player)
    to_the_middle(player)
    start, idle = picture(player, tables=False), []
    for kind, move in (("input[type=range]", move_slider), ("select", move_choice)):
        for name in labels(player, kind):
            ends = move(player, name)
            if ends[0] == ends[-1]:
                idle.append(name)
            to_the_middle(player)
            if picture(player, tables=False) != start:  # it had narrowed another's range
                player.get_by_role("button", name="Reset").click()
                settle(player)
                to_the_middle(player)
                same = picture(player, tables=False) == start
                assert same or errors(player), f"{name} does not come back"
    return idle


# ---- all of it -----------------------------------------------------------------------------------


@pytest.fixture
def opened(open_notebook: Any) -> Iterator[Any]:
    """opened(path): a copy of the notebook in JupyterLab; its kernel ends with the test."""
    notebooks = []

    def open_it(path: Path) -> Any:
        notebooks.append(open_notebook(path, reduced_motion="reduce"))
        return notebooks[-1]

    yield open_it
    for notebook in notebooks:
        notebook.close()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", LECTURES, ids=lambda path: path.stem)
def test_a_lecture_in_jupyterlab(opened: Any, path: Path, record_property: Any) -> None:
    """Nothing fails, no formula stays raw, every control works, the console is quiet."""
    notebook = opened(path)
    took = run_all(notebook)
    check_outputs(notebook)
    count = check_formulas(notebook)
    assert count == sum(
        formulas(cell.source)
        for cell in nbformat.read(path, as_version=4).cells
        if cell.cell_type == "markdown"
    ) + sum_of_outputs(notebook)
    players, cards, unused = 0, 0, []
    for i, cell in enumerate(c for c in cells(notebook) if c["cell_type"] == "code"):
        shown = [str(o.get("data", {}).get("text/plain", "")) for o in cell["outputs"]]
        cards += sum(text.startswith("Predict. ") for text in shown)
        if not notebook.page.locator(".jp-CodeCell").nth(i).locator(".dx").count():
            continue
        player = notebook.player(i)
        title, players = str(player.get_attribute("aria-label")), players + 1
        unused += [(title, name) for name in drive(player)]
    number = path.stem[:2]
    assert players >= (4 if number == "00" else 1)
    assert cards >= (0 if number == "00" else 3)
    assert notebook.page.locator(".dxc").count() == cards
    record_property("seconds", round(took, 1))
    print(f"{path.stem}: run in {took:.1f} s, {count} formulas, {players} explorers, {cards} cards")
    assert [pair for pair in unused if pair not in NO_PICTURE] == []
    assert notebook.errors == []


def sum_of_outputs(notebook: Any) -> int:
    texts = (
        output["data"]["text/markdown"]
        for cell in cells(notebook)
        for output in cell.get("outputs", [])
        if is_text(output)
    )
    return sum(formulas(str(text)) for text in texts)


def test_the_tour_shows_a_picture_within_ten_seconds(opened: Any, record_property: Any) -> None:
    """From "run all" in a fresh kernel to the first picture; longer where others work."""
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    notebook = opened(NOTEBOOKS / "00_tour.ipynb")
    start = time.monotonic()
    notebook.command("notebook:run-all-cells", wait=False)
    picture = notebook.page.locator(".dx canvas[data-frame]").first
    picture.wait_for(state="attached", timeout=60_000)  # JupyterLab shows the last cell by now
    took = time.monotonic() - start
    record_property("first_picture_s", round(took, 1))
    print(f"first picture after {took:.1f} s (load {busy:.1f})")
    assert took < FIRST_PICTURE * busy
