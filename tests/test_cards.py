"""Predict cards: all that there are, what is refused, the protocol, and the text in pages."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from diffusion_edu.lectures.cards import Card, Choice, Curve, Number, card, cards_of
from diffusion_edu.lectures.cards.kinds import plain
from diffusion_edu.lectures.syllabus import SYLLABUS
from diffusion_edu.widgets import card_view
from diffusion_edu.widgets.card_view import Play, display_card, fragment, mimebundle

LECTURES = [one.number for one in SYLLABUS if one.number != "00"]
EVERY = [(number, name) for number in LECTURES for name in cards_of(number)]


def choice(**changes: Any) -> Choice:
    given = {"question": "Which?", "why": "So.", "options": ("a", "b"), "answer": lambda: 1}
    return Choice(**given | changes)


def number(**changes: Any) -> Number:
    given = {"question": "How many?", "why": "So.", "answer": lambda: 3.0}
    return Number(**given | {"low": 1, "high": 10, "close": 2} | changes)


def curve(**changes: Any) -> Curve:
    axes = {"x": ("t", 0, 10), "y": ("y", 0, 1)}
    given = {"question": "Draw.", "why": "So.", "answer": lambda: ([0, 10], {"line": [0, 1]})}
    return Curve(**given | axes | changes)


# ---- all cards of all lectures -------------------------------------------------------------------


@pytest.mark.parametrize("of", LECTURES)
def test_a_lecture_has_its_cards(of: str) -> None:
    """Three cards at least, of two kinds at least."""
    cards = cards_of(of)
    assert len(cards) >= 3
    assert len({type(one) for one in cards.values()}) >= 2


@pytest.mark.parametrize(("of", "name"), EVERY, ids=[f"{n}.{k}" for n, k in EVERY])
def test_an_answer_can_be_computed_and_guessed(of: str, name: str) -> None:
    """It is finite, in range, the same twice, and fits the card's page."""
    one = card(f"{of}.{name}")
    answer = one.computed()  # refuses what is not finite or out of range
    page = fragment(one)  # computes it again
    assert f'"value": {json.dumps(answer, ensure_ascii=False)}' in page
    assert len(page.encode()) < 25_000
    for text in (one.question, one.why, *getattr(one, "options", ())):
        assert "$" not in text
        assert "\\" not in text


def test_an_unknown_card_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no card '77.x': lecture 77 has none"):
        card("77.x")
    with pytest.raises(ValueError, match=r"nothing_like_it.*lecture 01 has .*kept"):
        card("01.nothing_like_it")


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (choice, {"question": " "}, "question must be a text, got ' '"),
        (choice, {"why": None}, "why must be a text, got None"),
        (choice, {"options": ("a",)}, "options must be two to five texts"),
        (choice, {"options": "ab"}, "options must be two to five texts"),
        (choice, {"options": tuple("abcdef")}, "options must be two to five texts"),
        (choice, {"options": ("a", "")}, r"options\[1\] must be a text"),
        (choice, {"options": ("a", "a")}, "options must differ"),
        (choice, {"answer": 1}, "answer must be a function without arguments, got answer=1"),
        (number, {"answer": 3.0}, "answer must be a function"),
        (number, {"low": 10}, "low must be below high, both finite: got low=10, high=10"),
        (number, {"high": math.inf}, "both finite: got low=1, high=inf"),
        (number, {"low": math.nan}, "both finite: got low=nan"),
        (number, {"low": 0, "log": True}, "low must be above 0 if log=True, got low=0"),
        (number, {"close": 1, "log": True}, "close must be a factor above 1 if log=True"),
        (number, {"close": 0}, "close must be a distance above 0 if log=False, got close=0"),
        (curve, {"x": ("t", 0)}, r"x must be \(label, low, high\)"),
        (curve, {"y": ("y", 1, 1)}, "y: low must be below high"),
        (curve, {"y": ("", 0, 1)}, "the label of y must be a text"),
        (
            curve,
            {"marks": [(0, 2)]},
            r"marks must be points \(x, y\) within .* got \(0, 2\)",
        ),
        (curve, {"marks": [(0,)]}, "marks must be points"),
    ],
)
def test_a_wrong_card_cannot_be_made(
    make: Callable[..., Card], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        make(**changes)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (choice(answer=lambda: 2), r"must return an index of options, 0..1, got 2"),
        (choice(answer=lambda: -1), r"must return an index of options, 0..1, got -1"),
        (choice(answer=lambda: "b"), r"must return an index of options, 0..1, got 'b'"),
        (number(answer=lambda: math.nan), r"answer\(\) is nan, outside 1..10: widen"),
        (number(answer=lambda: 11), r"answer\(\) is 11, outside 1..10: widen"),
        (number(answer=lambda: None), r"must return a number, got None"),
        (curve(answer=lambda: 3), r"must return \(x, {label: y}\)"),
        (curve(answer=lambda: ([0, 1], {})), "curves of one length"),
        (curve(answer=lambda: ([0, 1], {"a": [0]})), r"one length, got {'x': 2, 'a': 1}"),
        (curve(answer=lambda: ([1, 0], {"a": [0, 1]})), "an x that ascends"),
        (curve(answer=lambda: ([0, 11], {"a": [0, 1]})), r"x is 11 .*outside the axis 't', 0..10"),
        (curve(answer=lambda: ([0, 1], {"a": [0, 2]})), r"a is 2 .*outside the axis 'y', 0..1"),
        (curve(answer=lambda: ([0, 1], {"a": [0, math.nan]})), "a is nan"),
    ],
)
def test_a_wrong_answer_is_named(made: Card, words: str) -> None:
    """In the notebook the reader sees the sentence; a page of it cannot be made."""
    with pytest.raises(ValueError, match=words):
        mimebundle(made)
    play = Play(made)
    guess = {Choice: 0, Number: 5, Curve: [0, 1]}[type(made)]
    play.receive({"lock": guess})
    play.receive({"reveal": True})
    assert re.search(words, play.error)
    assert play.answer is None


# ---- the protocol --------------------------------------------------------------------------------


def counted(value: Any) -> tuple[Callable[[], Any], list[int]]:
    calls: list[int] = []

    def answer() -> Any:
        calls.append(1)
        return value

    return answer, calls


@pytest.mark.parametrize(
    ("make", "value", "guess", "other", "said"),
    [
        (choice, 1, 0, 1, "You predicted: a) a. Computed: b) b."),
        (number, 3.0, 4.5, 5, "You predicted: 4.5. Computed: 3."),
        (
            curve,
            ([0, 10], {"line": [0, 1]}),
            [0, 0.5, 1],
            [1, 1],
            "You predicted: y = 0, 0.5, 1 at t = 0, 5, 10.",
        ),
    ],
)
def test_lock_then_reveal(
    make: Callable[..., Card], value: Any, guess: Any, other: Any, said: str
) -> None:
    """No answer before a guess, no second guess, one computation."""
    answer, calls = counted(value)
    play = Play(make(answer=answer))
    play.receive({"reveal": True})
    assert (play.error, play.answer, calls) == ("lock a guess first", None, [])
    play.receive({"lock": guess})
    assert play.guess == guess
    assert calls == []
    play.receive({"lock": other})
    assert play.guess == guess
    assert said.startswith(play.text.removesuffix("."))
    for _ in range(2):
        play.receive({"reveal": True})
    assert calls == [1]
    assert play.answer is not None
    assert play.answer["why"] == "So."
    assert (play.text, play.error) == (said, "")


@pytest.mark.parametrize(
    ("made", "guess"),
    [
        *((choice(), guess) for guess in (None, 2, -1, "a", 0.5)),
        *((number(), guess) for guess in (None, 0, 11, math.nan, "3", True)),
        *((curve(), guess) for guess in (None, [], [0], "ab", [0, None], [0, 2], [0, math.inf])),
    ],
)
def test_a_wrong_guess_is_refused(made: Card, guess: Any) -> None:
    play = Play(made)
    play.receive({"lock": guess})
    assert play.error.startswith("a guess must ")
    assert play.guess is None


def test_an_answer_that_raises_is_a_message() -> None:
    play = Play(choice(answer=lambda: {}["x"]))
    play.receive({"lock": 0})
    play.receive({"reveal": True})
    assert play.error == "KeyError: 'x'"


def test_the_widget_follows_the_kernel() -> None:
    """What the browser sends comes back as guess, answer and error."""
    pytest.importorskip("anywidget")
    play = Play(choice())
    view, play.changed = card_view.make_view(play)
    assert view.card == {"kind": "choice", "question": "Which?", "options": ["a", "b"]}
    view._handle_custom_msg({"lock": 7}, [])
    assert (view.guess, view.error) == (None, "a guess must lie in 0..1, got 7")
    view._handle_custom_msg({"lock": 0}, [])
    assert (view.guess, view.answer, view.error) == (0, None, "")
    view._handle_custom_msg({"reveal": True}, [])
    assert view.answer == {"value": 1, "why": "So."}


class Shown:
    """Stands for IPython's display."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bundles: list[dict[str, Any]] = []
        monkeypatch.setattr("IPython.display.display", self)
        monkeypatch.setattr(card_view, "_attended", lambda: True)

    def __call__(self, data: dict[str, Any], **how: Any) -> Shown:
        self.bundles.append(data)
        return self

    def update(self, data: dict[str, Any], **how: Any) -> None:
        self.bundles[-1] = data


def test_a_locked_guess_is_a_second_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """A widget with the question in words, then a text that is empty until the guess is locked."""
    pytest.importorskip("anywidget")
    plays: list[Play] = []
    real = card_view.make_view
    monkeypatch.setattr(card_view, "make_view", lambda play: (plays.append(play), real(play))[1])
    shown, (answer, calls) = Shown(monkeypatch), counted(1)
    choice(options=("*x*", "b_c_ <i>"), answer=answer)._ipython_display_()
    widget, note = shown.bundles
    assert set(widget) == {
        "application/vnd.jupyter.widget-view+json",
        "text/plain",
        "text/markdown",
    }
    assert widget["text/plain"] == "Predict. Which?\na) x\nb) b_c_ <i>"
    assert note == {"text/plain": "", "text/markdown": ""}
    plays[0].receive({"lock": 1})
    assert shown.bundles[1] == {
        "text/plain": "You predicted: b) b_c_ <i>.",
        "text/markdown": r"You predicted: b) b\_c\_ \<i\>.",
    }
    assert calls == []


# ---- where something is missing ------------------------------------------------------------------


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)  # then "import name" raises ImportError


@pytest.mark.parametrize("make", [choice, number, curve])
def test_without_anywidget_ipywidgets_do(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., Card]
) -> None:
    """Lock and reveal with plain controls; what is locked is disabled; the picture of a curve."""
    pytest.importorskip("ipywidgets")
    without(monkeypatch, "anywidget")
    play = Play(make(question="*Which* <b>?"))
    box, play.changed = card_view.make_view(play)
    question, control, buttons, message, picture = box.children
    assert question.value == "<strong>Predict.</strong> <em>Which</em> &lt;b&gt;?"
    lock, reveal = buttons.children
    assert reveal.disabled
    if make is choice:
        lock.click()
        assert message.value.startswith("a guess must be an index")
        control.value = 0
    lock.click()
    assert lock.disabled
    assert message.value.startswith("You predicted: ")
    widgets = [control, *getattr(control, "children", ())]
    assert all(w.disabled for w in widgets if hasattr(w, "disabled"))
    reveal.click()
    assert message.value.endswith("<br>So.")
    assert len(picture.children) == (make is curve)


def test_without_widgets_there_is_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """It plays without the kernel; where scripts do not run, the question is text."""
    without(monkeypatch, "anywidget", "ipywidgets")
    monkeypatch.delitem(sys.modules, "diffusion_edu.widgets.card_controls", raising=False)
    shown = Shown(monkeypatch)
    display_card(choice())
    (bundle,) = shown.bundles
    assert set(bundle) == {"text/plain", "text/markdown", "text/html"}
    assert bundle["text/plain"] == "Predict. Which?\na) a\nb) b"


def test_executed_for_a_page_a_card_is_a_page() -> None:
    """nbclient, with nobody to answer: one output with HTML and text, no widget, no empty note."""
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    code = "from diffusion_edu.lectures import card\ncard('01.kept')"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert set(output.data) == {"text/plain", "text/markdown", "text/html"}


# ---- text ----------------------------------------------------------------------------------------

HOSTILE = '</script><script>alert(1)</script><!-- <b>"&amp;'


@pytest.mark.parametrize(
    "made",
    [
        choice(question=HOSTILE, why=HOSTILE, options=(HOSTILE, "b")),
        number(question=HOSTILE, why=HOSTILE, unit=HOSTILE),
        curve(
            question=HOSTILE,
            why=HOSTILE,
            x=(HOSTILE, 0, 10),
            answer=lambda: ([0, 10], {HOSTILE: [0, 1]}),
        ),
    ],
    ids=["choice", "number", "curve"],
)
def test_no_text_becomes_html(made: Card) -> None:
    page = fragment(made)
    assert page.count("</script>") == page.count("<script") == 1
    assert "<!--" not in page
    assert "<b>" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")  # works without a network
    assert "export default" not in page


def test_three_cards_of_a_page_are_light() -> None:
    """12 kB each, on average, most of it the front end."""
    assert sum(len(fragment(make()).encode()) for make in (choice, number, curve)) < 36_000


def test_marks_of_markdown() -> None:
    text = "**Two** *words*, `a*b*c`, 2*3*4 and x * y * z"
    assert plain(text) == "Two words, a*b*c, 2*3*4 and x * y * z"
