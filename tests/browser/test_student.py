"""A student's hour in JupyterLab: E2 answered, one function wrongly, checked and dragged."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from driving import wait_until

from diffusion_edu.exercises.build import full_source, notebook, source, student_notebook, written

ENDLESS = "while True:\n        pass"


@pytest.fixture(scope="module")
def answered(open_notebook: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The solution with a variance for a standard deviation, and an endless loop in ``snr``."""
    text = full_source(source("E2"))
    text = text.replace("torch.sqrt(1 - kept) * eps", "(1 - kept) * eps")
    text = text.replace("signal = sch.alpha_bar", ENDLESS)
    path = tmp_path_factory.mktemp("student") / "E2.ipynb"
    path.write_text(written(notebook(text, "E2")))
    opened = open_notebook(path, reduced_motion="reduce")
    opened.command("notebook:run-all-cells", wait=False)
    opened.player(cell_of(path, "ForwardExplorer("))
    last = cell_of(path, 'check("E2")')
    wait_until(lambda: "hidden checks" in output(opened, last), 60)
    opened.path = path
    return opened


def cell_of(path: Path, text: str) -> int:
    """Number of the code cell that has this text."""
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    return next(i for i, c in enumerate(cells) if text in "".join(c["source"]))


def output(opened: Any, cell: int) -> str:
    area = opened.page.locator(".jp-CodeCell").nth(cell).locator(".jp-OutputArea").first
    return str(area.inner_text()) if area.count() else ""


def test_the_report_names_the_mistake(answered: Any) -> None:
    """As text, with a hint and the lecture; the loop was ended and says so."""
    said = output(answered, cell_of(answered.path, 'check("E2")'))
    assert "public checks 3/5; hidden checks run at grading" in said
    assert "var_for_std" in said
    assert "lecture 02" in said
    assert "did not return" in said
    assert "while True" in said
    assert "Traceback" not in said


def test_the_picture_is_there(answered: Any) -> None:
    cell = answered.page.locator(".jp-CodeCell").nth(cell_of(answered.path, 'check("E2")'))
    picture = cell.locator("img").first
    picture.scroll_into_view_if_needed()
    assert picture.evaluate("i => i.complete && i.naturalWidth") > 150


def test_the_explorer_shows_the_students_own_function(answered: Any) -> None:
    player = answered.player(cell_of(answered.path, "ForwardExplorer("))
    assert "your q_sample differs from the reference" in player.inner_text()
    assert answered.errors == []


@pytest.mark.skipif("DIFFUSION_EDU_SHOTS" not in os.environ, reason="only when asked for pictures")
def test_take_pictures(answered: Any) -> None:
    folder = Path(os.environ["DIFFUSION_EDU_SHOTS"])
    for text in ("check(q_sample)", "ForwardExplorer(", 'check("E2")'):
        cell = answered.page.locator(".jp-CodeCell").nth(cell_of(answered.path, text))
        cell.scroll_into_view_if_needed()
        answered.page.wait_for_timeout(400)
        answered.page.screenshot(path=str(folder / f"{text[:5]}{len(text)}.png"))


def test_an_untouched_notebook_says_what_is_missing(open_notebook: Any, tmp_path: Path) -> None:
    path = tmp_path / "E2.ipynb"
    path.write_text(student_notebook("E2"))
    opened = open_notebook(path, reduced_motion="reduce")
    opened.command("notebook:run-all-cells", wait=False)
    first = cell_of(path, "check(alpha_bar_from_beta)")
    wait_until(lambda: "hidden checks" in output(opened, first), 60)
    said = output(opened, first)
    assert "--  alpha_bar_from_beta" in said
    assert "public checks 0/1" in said
