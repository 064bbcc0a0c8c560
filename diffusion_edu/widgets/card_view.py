"""How a predict card shows itself: commit to a guess, lock it, reveal.

With a kernel it is an anywidget; where that is missing, ipywidgets; the guess, once locked, is
written under it as text, which stays in the saved notebook. Without a kernel, or when nobody is at
the keyboard (the notebook is being executed to make a page of it), it is HTML that has the answer.
"""

from __future__ import annotations

import html
import json
import uuid
from collections.abc import Callable
from importlib import resources
from typing import Any

from .page import view_bundle

__all__ = ["Play", "display_card", "fragment", "make_view", "mimebundle"]

_PAGE = """<style>{style}</style>
<div id="{id}"><p><strong>Predict.</strong> {text}</p></div>
<script type="module">
{source}
card.render({{ model: pageModel({state}), el: document.getElementById("{id}") }});
</script>
"""


class Play:
    """One showing of a card: what was guessed, and the answer once it was asked for.

    Attributes:
        guess: None until it is locked; it never changes afterwards.
        answer: None until it is revealed.
        error: why the last wish was refused, for the reader.
        changed: called after each change.
    """

    def __init__(self, card: Any, changed: Callable[[], None] = lambda: None) -> None:
        self.card, self.changed = card, changed
        self.guess: Any = None
        self.answer: dict[str, Any] | None = None
        self.error = ""

    def receive(self, message: dict[str, Any]) -> None:
        """Do what a view asks: {"lock": guess} or {"reveal": true}."""
        self.error = ""
        try:
            if "lock" in message and self.guess is None:
                self.guess = self.card.checked(message["lock"])
            elif message.get("reveal") and self.answer is None:
                if self.guess is None:
                    raise ValueError("lock a guess first")
                self.answer = _answered(self.card)
        except Exception as error:
            plain = isinstance(error, ValueError)
            self.error = str(error) if plain else f"{type(error).__name__}: {error}"
        self.changed()

    @property
    def text(self) -> str:
        """What stays in the notebook."""
        if self.guess is None:
            return ""
        answer, said = (self.answer or {}).get("value"), self.card.said
        computed = f" Computed: {said(answer)}." if isinstance(answer, int | float) else ""
        return f"You predicted: {said(self.guess)}.{computed}"


def _answered(card: Any) -> dict[str, Any]:
    """The answer and why, as JSON."""
    return {"value": card.computed(), "why": card.why}


def _source(kind: str) -> str:
    """The ECMAScript module of the front end, for one kind of card."""
    return _text(f"card_{kind}.js") + _text("card.js")


def _style() -> str:
    """Its look."""
    return _text("card.css")


def _text(name: str) -> str:
    return (resources.files(__package__) / name).read_text("utf-8")


def _small(text: str) -> str:
    """Without indentation and lines of comment: a page has several cards."""
    lines = map(str.strip, text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith(("//", "/*")))


def fragment(card: Any) -> str:
    """A piece of HTML, self-contained, answer included; without scripts it is the question."""
    asked = card.asked()
    state = {"card": asked, "hidden": _answered(card)}
    return _PAGE.format(
        id=f"card-{uuid.uuid4().hex[:12]}",
        text="<br>".join(html.escape(line) for line in card.plain.splitlines()),
        style=_small(_style()),
        source=_small(_source(asked["kind"])).replace("export default", "const card ="),
        # "<" could end the script element early, or open a comment in it.
        state=json.dumps(state, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
    )


def _described(card: Any) -> dict[str, Any]:
    """The question for where nothing can be clicked."""
    lines = card.plain.splitlines()
    return {
        "text/plain": "Predict. " + card.plain,
        "text/markdown": "**Predict.** " + "  \n".join([card.question, *lines[1:]]),
    }


def mimebundle(card: Any) -> dict[str, Any]:
    """What a page takes of a card, and what is printed where there is no page."""
    return {**_described(card), "text/html": fragment(card)}


def display_card(card: Any) -> None:
    """Show a card in the notebook, and below it, once it is locked, the guess as text."""
    from IPython.display import display

    if not _attended():
        display(mimebundle(card), raw=True)
        return
    play = Play(card)
    try:
        view, redraw = make_view(play)
    except ImportError:  # no ipywidgets: the page plays by itself
        display(mimebundle(card), raw=True)
        return
    data, metadata = view_bundle(view)
    display({**data, **_described(card)}, metadata=metadata, raw=True)
    note = display(_note(play), raw=True, display_id=True)
    shown = play.text

    def changed() -> None:
        nonlocal shown
        redraw()
        if play.text != shown:
            shown = play.text
            note.update(_note(play), raw=True)

    play.changed = changed


def _note(play: Play) -> dict[str, Any]:
    return {"text/plain": play.text, "text/markdown": _escape(play.text)}


def _escape(text: str) -> str:
    """So that Markdown takes it literally."""
    return "".join("\\" + c if c in "\\`*_[]<>$#|~" else c for c in text)


def _attended() -> bool:
    """Whether someone may answer: nbclient and nbconvert say that nobody can type anything."""
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None or not hasattr(kernel, "get_parent"):  # a terminal; a kernel in a browser
        return kernel is not None
    content = kernel.get_parent().get("content", {})
    return bool(content.get("allow_stdin", True))


def make_view(play: Play) -> tuple[Any, Callable[[], None]]:
    """The widget and what redraws it.

    Raises:
        ImportError: there is no ipywidgets.
    """
    try:
        import anywidget
        import traitlets
    except ImportError:
        from .card_controls import make_controls

        return make_controls(play)

    asked = play.card.asked()

    class View(anywidget.AnyWidget):
        """See ``Play.receive`` for the messages it sends."""

        _esm = _source(asked["kind"])
        _css = _style()
        card = traitlets.Dict().tag(sync=True)
        guess = traitlets.Any(None, allow_none=True).tag(sync=True)
        answer = traitlets.Any(None, allow_none=True).tag(sync=True)
        error = traitlets.Unicode("").tag(sync=True)

    view = View(card=asked)
    view.on_msg(lambda widget, message, buffers: play.receive(message))

    def redraw() -> None:
        view.error = ""  # the same error twice is two changes
        view.guess, view.answer, view.error = play.guess, play.answer, play.error

    return view, redraw
