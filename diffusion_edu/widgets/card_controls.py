"""A predict card where anywidget is missing: ipywidgets controls, the same protocol."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

import ipywidgets as w

from .card_view import Play

__all__ = ["make_controls"]

KNOTS = 7  # sliders that stand for a curve
MARKS = ((r"\*\*(.+?)\*\*", "strong"), (r"(?<![\w*])\*(?=\S)([^*]+?)\*(?![\w*])", "em"))


class _Controls:
    """Question, a control of the card's kind, two buttons, answer; ``box`` is to be displayed."""

    def __init__(self, play: Play) -> None:
        self.play, self.card = play, play.card.asked()
        self.control, self.read = _MAKERS[self.card["kind"]](self.card)
        self.lock = w.Button(description="Lock my guess")
        self.reveal = w.Button(description="Reveal", disabled=True)
        self.message, self.picture = w.HTML(), w.VBox()
        self.lock.on_click(lambda button: play.receive({"lock": self.read()}))
        self.reveal.on_click(lambda button: play.receive({"reveal": True}))
        question = w.HTML(f"<strong>Predict.</strong> {_marked(self.card['question'])}")
        buttons = w.HBox([self.lock, self.reveal])
        self.box = w.VBox([question, self.control, buttons, self.message, self.picture])

    def redraw(self) -> None:
        """Show the play as it is now."""
        play = self.play
        if play.guess is not None:
            for widget in (self.lock, self.control, *getattr(self.control, "children", ())):
                if hasattr(widget, "disabled"):
                    widget.disabled = True
            self.reveal.disabled = play.answer is not None
        parts = [html.escape(play.error or play.text)]
        if play.answer is not None:
            parts.append(_marked(play.answer["why"]))
            if self.card["kind"] == "curve" and not self.picture.children:
                png = _picture(self.card, play.guess, play.answer["value"])
                self.picture.children = (w.Image(value=png, format="png"),)
        self.message.value = "<br>".join(parts)


def make_controls(play: Play) -> tuple[Any, Callable[[], None]]:
    """The box of ``_Controls`` and what redraws it."""
    controls = _Controls(play)
    return controls.box, controls.redraw


def _marked(text: str) -> str:
    """Markdown as HTML: bold, italic, code."""
    pieces = re.split(r"`([^`]+)`", html.escape(text))
    for k in range(0, len(pieces), 2):
        for pattern, tag in MARKS:
            pieces[k] = re.sub(pattern, rf"<{tag}>\1</{tag}>", pieces[k])
    return "".join(f"<code>{p}</code>" if k % 2 else p for k, p in enumerate(pieces))


Made = tuple[Any, Callable[[], Any]]  # a control, and what reads the guess


def _choice(card: dict[str, Any]) -> Made:
    options = [(f"{'abcde'[k]}) {text}", k) for k, text in enumerate(card["options"])]
    radio = w.RadioButtons(options=options, value=None, layout=w.Layout(width="auto"))
    return radio, lambda: radio.value


def _number(card: dict[str, Any]) -> Made:
    low, high = card["low"], card["high"]
    middle = (low * high) ** 0.5 if card["log"] else (low + high) / 2
    field = w.BoundedFloatText(value=middle, min=low, max=high, step=(high - low) / 1000)
    return w.HBox([field, w.Label(card["unit"])]), lambda: field.value


def _curve(card: dict[str, Any]) -> Made:
    x, y = card["x"], card["y"]
    places = [x["low"] + k / (KNOTS - 1) * (x["high"] - x["low"]) for k in range(KNOTS)]
    sliders = [
        w.FloatSlider(
            value=(y["low"] + y["high"]) / 2,
            min=y["low"],
            max=y["high"],
            step=(y["high"] - y["low"]) / 100,
            description=f"{x['label']} = {place:.3g}",
        )
        for place in places
    ]
    return w.VBox([w.Label(y["label"]), *sliders]), lambda: [s.value for s in sliders]


_MAKERS = {"choice": _choice, "number": _number, "curve": _curve}


def _picture(card: dict[str, Any], guess: list[float], answer: dict[str, Any]) -> bytes:
    """PNG of the true curves and the guess."""
    from ..viz.plots import lines

    x, last = card["x"], len(guess) - 1
    places = [x["low"] + k / last * (x["high"] - x["low"]) for k in range(last + 1)]
    curves = {"yours": guess, **dict(answer["curves"])}
    at = {"yours": places, **{label: answer["x"] for label, _ in answer["curves"]}}
    return lines(at, curves, x["label"], card["y"]["label"])._repr_png_()
