"""Predict cards in a real JupyterLab and as pages: by pointer, and by keyboard alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from driving import wait_until, write_notebook

from diffusion_edu.lectures.cards import Choice, Curve, Number
from diffusion_edu.widgets.card_view import fragment
from diffusion_edu.widgets.page import _DOCUMENT

SETUP = """from diffusion_edu.lectures.cards import Choice, Curve, Number
made = []
def answer(name, value):
    def compute():
        made.append(name)
        return value
    return compute
CARDS = {
    "choice": Choice("Which *one*? <b>&amp;</b>", "Because of `x < y`, **really**.",
                     ("a half", "a <i>tenth</i>", "none"), answer("choice", 1)),
    "number": Number("How many?", "Counted.", answer("number", 100.0), 1, 10_000, 2.0,
                     log=True, unit="steps"),
    "curve": Curve("Draw y.", "It is a line.",
                   answer("curve", ([0, 5, 10], {"line": [1, 0.5, 0], "other": [0, 0, 0]})),
                   ("t", 0, 10), ("y", 0, 1), marks=[(0, 1)]),
}"""
KINDS = ["choice", "number", "curve"]
names: dict[str, Any] = {}
exec(SETUP, names)
CARDS: dict[str, Choice | Number | Curve] = names["CARDS"]


# ---- what a reader does -------------------------------------------------------------------------


def button(card: Any, name: str) -> Any:
    return card.get_by_role("button", name=name, exact=True)


def by_pointer(page: Any, card: Any, kind: str) -> None:
    """Guess: the second option, 100 or more, a line that falls."""
    assert button(card, "Lock my guess").is_disabled()
    if kind == "choice":
        card.locator("label").nth(1).click()
    elif kind == "number":
        box = card.locator("input[type=range]").bounding_box()
        card.locator("input[type=range]").click(position={"x": box["width"] / 4, "y": 8})
        card.locator("input[type=number]").fill("120")
    else:
        svg = card.locator("svg").first
        svg.scroll_into_view_if_needed()
        box = svg.bounding_box()
        ends = [(44 / 330, 24 / 230), (312 / 330, 194 / 230)]
        (x0, y0), (x1, y1) = [
            (box["x"] + u * box["width"], box["y"] + v * box["height"]) for u, v in ends
        ]
        page.mouse.move(x0, y0)
        page.mouse.down()
        page.mouse.move(x1, y1, steps=15)
        page.mouse.up()
    button(card, "Lock my guess").click()


def by_keys(page: Any, card: Any, kind: str) -> None:
    """The same guess with nothing but keys; Tab finds the button."""
    first = {"choice": "input", "number": "input[type=range]", "curve": "svg"}[kind]
    card.locator(first).first.focus()
    press = page.keyboard.press
    if kind == "choice":
        press("Space")
        press("ArrowDown")
    elif kind == "number":
        press("PageUp")
        press("Tab")
        page.keyboard.type("120")
    else:
        for k in range(9):  # from 1 down to 0, an eighth at each place
            for _ in range(k):
                press("PageDown")
            press("ArrowRight")
        assert "at t 10" in card.locator("svg").first.get_attribute("aria-valuetext")
    press("Tab")
    focused = card.evaluate("card => document.activeElement.textContent")
    assert focused == "Lock my guess"
    press("Enter")


SAID = {
    "choice": "You predicted: b) a <i>tenth</i>.",
    "number": "You predicted: 120 steps.",
    "curve": "You predicted: y = 1, 0.7",  # then 0.75 or 0.76: a pointer moves by pixels
}
VERDICT = {
    "choice": "✓ Right: it is b).",
    "number": "✓ You predicted 120 steps. Computed: 100 steps. That is close enough.",
    "curve": "✓ Close: nearest to line, ",
}
WAYS = pytest.mark.parametrize("way", [by_pointer, by_keys], ids=["pointer", "keys"])


def check_locked(card: Any) -> None:
    """Nothing can be changed any more."""
    assert not button(card, "Lock my guess").is_visible()
    assert card.locator("input:enabled").count() == 0
    svg = card.locator("svg").first
    if svg.count():
        before = svg.inner_html()
        svg.press("ArrowUp")
        box = svg.bounding_box()
        card.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert svg.inner_html() == before


def check_revealed(card: Any, kind: str) -> None:
    result = card.locator(".dxc-result")
    result.wait_for()
    verdict, why = result.locator("p").all_inner_texts()
    assert verdict.startswith(VERDICT[kind])
    assert why == CARDS[kind].why.replace("*", "").replace("`", "")
    if kind == "curve":
        assert card.locator("svg").first.locator("g path").count() == 2
        assert card.locator(".dxc-key span").all_inner_texts() == ["yours", "line", "other"]


# ---- in JupyterLab ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["pointer", "keys"])
def played(request: Any, open_notebook: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A notebook with the three cards, run."""
    path = tmp_path_factory.mktemp("cards") / "cards.ipynb"
    cells = [SETUP, *(f'CARDS["{kind}"]' for kind in KINDS), "print(made)"]
    notebook = open_notebook(write_notebook(path, cells))
    notebook.command("notebook:run-all-cells")
    notebook.way = {"pointer": by_pointer, "keys": by_keys}[request.param]
    return notebook


def card_of(notebook: Any, kind: str) -> Any:
    cell = notebook.page.locator(".jp-CodeCell").nth(1 + KINDS.index(kind))
    cell.scroll_into_view_if_needed()
    card = cell.locator(".dxc")
    card.wait_for()
    return card


@pytest.mark.parametrize("kind", KINDS)
def test_commit_lock_reveal(played: Any, kind: str) -> None:
    """The answer is computed when it is asked for, once, and the guess is a text below the card."""
    card = card_of(played, kind)
    cell = played.page.locator(".jp-CodeCell").nth(1 + KINDS.index(kind))
    assert kind not in played.python("print(made)")
    played.way(played.page, card, kind)
    assert card.evaluate("() => document.activeElement.textContent") == "Reveal"
    check_locked(card)
    wait_until(lambda: SAID[kind] in cell.inner_text())
    assert kind not in played.python("print(made)")
    assert not card.locator(".dxc-result").is_visible()
    button(card, "Reveal").focus()
    played.page.keyboard.press("Enter")
    check_revealed(card, kind)
    assert played.python("print(made)").count(kind) == 1
    assert card.locator("b i").count() == 0  # no text became HTML
    assert played.errors == []


def test_the_saved_notebook_has_the_guesses_as_text(played: Any, lab: Any) -> None:
    """Saved by JupyterLab: an output of each cell is the guess, plain and as Markdown."""
    notebook = played
    notebook.command("docmanager:save")
    name = notebook.page.evaluate("() => jupyterapp.shell.currentWidget.context.path")
    saved = nbformat.read(lab.folder / name, as_version=4)
    nbformat.validate(saved)
    for kind, cell in zip(KINDS, saved.cells[1:4], strict=True):
        shown, note = cell.outputs
        assert CARDS[kind].question.split("*")[0] in shown.data["text/plain"]
        assert "text/html" not in shown.data  # the answer is not in the file
        assert note.data["text/plain"].startswith(SAID[kind])
        assert note.data["text/markdown"].startswith("You predicted: ")
    assert saved.cells[2].outputs[1].data["text/plain"].endswith("Computed: 100 steps.")


# ---- as a page ----------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_without_a_kernel(
    browser: Any, tmp_path: Path, way: Callable[..., None], scheme: Any
) -> None:
    """file://, no network, 390 px: all three kinds; the answer is hidden until it is asked for."""
    path = tmp_path / "cards.html"
    body = "\n".join(fragment(CARDS[kind]) for kind in KINDS)
    path.write_text(_DOCUMENT.format(title="cards", body=body))
    size = {"width": 390, "height": 800}
    context = browser.new_context(viewport=size, offline=True, color_scheme=scheme)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.goto(path.as_uri())
    cards = page.locator(".dxc")
    cards.nth(2).wait_for()
    for kind, card in zip(KINDS, [cards.nth(k) for k in range(3)], strict=True):
        way(page, card, kind)
        check_locked(card)
        assert "Because" not in card.inner_text()
        button(card, "Reveal").press("Enter")
        check_revealed(card, kind)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    letters = page.locator(".dxc svg text").first.bounding_box()
    assert letters["height"] > 11
    assert errors == []
    context.close()


@pytest.mark.parametrize(
    ("kind", "guess", "verdict"),
    [
        ("choice", 0, "✗ It is b), you predicted a)."),
        ("number", 25, "✗ You predicted 25 steps. Computed: 100 steps. That is 4 times too small."),
        ("number", 1000, "That is 10 times too large."),
        ("number", 100, "That is exact."),
        ("curve", [1, 1], "✗ Some way off: nearest to line, 50 % of the axis away on average"),
        ("curve", [0, 0, 0], "✓ Close: nearest to other, 0 % of the axis away on average"),
        (
            "curve",
            [1, 0.2, 0],
            "line, 15 % of the axis away on average, at most 30 % (at t = 5)",
        ),
    ],
)
def test_how_far_a_guess_was_off(browser: Any, kind: str, guess: Any, verdict: str) -> None:
    """The verdict of guesses that are wrong, near and exact, by known numbers."""
    page = browser.new_page()
    html = fragment(CARDS[kind]).replace(
        '{"card": ', f'{{"guess": {json.dumps(guess)}, "card": ', 1
    )
    page.set_content(html)
    button(page, "Reveal").click()
    assert verdict in page.locator(".dxc-result p").first.inner_text()
    page.close()
