"""Every lecture in JupyterLab: run all, read all formulas, move every control of every explorer."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
LECTURES = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
FIRST_PICTURE = 10.0  # seconds from "run all" to the first picture of the tour, on a quiet machine


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


# Scrolls to each [cell, place, count]: a rendered text of a cell, and how many formulas it should
# have. What MathJax made of it once they are there, or 20 s are over: formulas, errors in them, and
# TeX left as text.
FORMULAS = r"""async texts => {
  const cells = document.querySelectorAll(".jp-Notebook .jp-Cell"), found = [];
  for (const [cell, place, count] of texts) {
    cells[cell].scrollIntoView();
    const root = () => cells[cell].querySelectorAll(".jp-RenderedMarkdown")[place];
    const all = () => [...(root()?.querySelectorAll("mjx-container") ?? [])];
    const ready = () => root() && all().length >= count;
    for (let i = 0; i < 1000 && !ready(); i++) await new Promise((r) => setTimeout(r, 20));
    const text = root().cloneNode(true);
    const aside = "mjx-container, pre, code, .jp-InternalAnchorLink";
    for (const el of text.querySelectorAll(aside)) el.remove();
    const raw = text.textContent.match(/\$[^$]*\$|\\[A-Za-z]+|\\\(|\\\[/);
    found.push({
      count: all().length,
      errors: [...root().querySelectorAll("mjx-merror, [data-mjx-error]")].map((e) =>
        e.getAttribute("data-mjx-error") ?? e.title ?? e.textContent),
      flat: all().filter((e) => !e.offsetHeight).length,
      raw: raw && raw[0],
    });
  }
  return found;
}"""


def formulas(text: str) -> int:
    """How many formulas there are in Markdown; those in code are none."""
    text = re.sub(r"```.*?```|`[^`\n]*`", " ", text, flags=re.DOTALL)
    return len(re.findall(r"\$\$.+?\$\$|\$[^$]+\$", text, flags=re.DOTALL))


def check_formulas(notebook: Any) -> int:
    """Every formula of the text and of the outputs is typeset; returns how many there are."""
    texts = []
    for i, cell in enumerate(cells(notebook)):
        markdown = [cell["source"]] if cell["cell_type"] == "markdown" else []
        for output in cell.get("outputs", []):
            markdown += [str(output["data"]["text/markdown"])] if is_text(output) else []
        texts += [(i, k, text) for k, text in enumerate(markdown)]
    asked = [[i, k, formulas(text)] for i, k, text in texts]
    found = notebook.page.evaluate(FORMULAS, asked)
    for (*_, count), (*_, text), seen in zip(asked, texts, found, strict=True):
        assert seen == {"count": count, "errors": [], "flat": 0, "raw": None}, f"{seen}\n{text}"
    return sum(count for *_, count in asked)


def is_text(output: dict[str, Any]) -> bool:
    """Whether JupyterLab shows this output as Markdown."""
    data = output.get("data", {})
    return "text/markdown" in data and not any("widget" in k or k == "text/html" for k in data)


# ---- all of it -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(open_notebook: Any) -> Any:
    """opened(path): a copy of the notebook in JupyterLab, in place of the one before."""
    notebooks: list[Any] = []

    def open_it(path: Path) -> Any:
        if notebooks:
            notebooks[0].turn_to(path)
        else:
            notebooks.append(open_notebook(path, reduced_motion="reduce"))
        return notebooks[0]

    return open_it


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
    players, cards, wrong = 0, 0, []
    for i, cell in enumerate(c for c in cells(notebook) if c["cell_type"] == "code"):
        shown = [str(o.get("data", {}).get("text/plain", "")) for o in cell["outputs"]]
        cards += sum(text.startswith("Predict. ") for text in shown)
        if not notebook.page.locator(".jp-CodeCell").nth(i).locator(".dx").count():
            continue
        player = notebook.player(i)
        title, players = str(player.get_attribute("aria-label")), players + 1
        moved = player.evaluate("player => looks.moveAll(player, false)")
        wrong += [(title, what) for what in moved]
    number = path.stem[:2]
    assert players >= (4 if number == "00" else 1)
    assert cards >= (0 if number == "00" else 3)
    assert notebook.page.locator(".dxc").count() == cards
    record_property("seconds", round(took, 1))
    print(f"{path.stem}: run in {took:.1f} s, {count} formulas, {players} explorers, {cards} cards")
    assert wrong == []
    assert notebook.errors == []


def sum_of_outputs(notebook: Any) -> int:
    texts = (
        output["data"]["text/markdown"]
        for cell in cells(notebook)
        for output in cell.get("outputs", [])
        if is_text(output)
    )
    return sum(formulas(str(text)) for text in texts)


def test_the_tour_shows_a_picture_within_ten_seconds(
    open_notebook: Any, record_property: Any
) -> None:
    """From "run all" in a fresh page and kernel to the first picture; longer where others work."""
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    notebook = open_notebook(NOTEBOOKS / "00_tour.ipynb", reduced_motion="reduce")
    start = time.monotonic()
    notebook.command("notebook:run-all-cells", wait=False)
    picture = notebook.page.locator(".dx canvas[data-frame]").first
    picture.wait_for(state="attached", timeout=60_000)  # JupyterLab shows the last cell by now
    took = time.monotonic() - start
    record_property("first_picture_s", round(took, 1))
    print(f"first picture after {took:.1f} s (load {busy:.1f})")
    assert took < FIRST_PICTURE * busy
