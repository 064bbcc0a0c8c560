"""The view where anywidget is missing: ipywidgets controls over a PNG drawn by matplotlib.

Slower than the player (each step of the slider is a round trip), but the same explorer.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import ipywidgets as w

from ..viz.scene import Control
from ..viz.scene_figure import SceneFigure
from .explorer import Explorer
from .jobs import Tell

__all__ = ["ImageView", "make_image_view"]


class ImageView:
    """Controls, picture, text; ``box`` is the widget to display."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self.figure = explorer, SceneFigure()
        self.picture = w.Image(format="png")
        self.status, self.message = w.HTML(), w.HTML()
        scene = explorer.scene()
        wide = {"layout": w.Layout(width="28em"), "style": {"description_width": "9em"}}
        self.time = w.IntSlider(
            min=0,
            max=len(scene.times) - 1,
            description=scene.label,
            tooltip=scene.help,
            readout=False,
            **wide,
        )
        self.inputs = {c.name: _make(c, wide) for c in scene.controls}
        self._busy = False
        self.redraw()
        self.time.observe(self._scrubbed, "value")
        for widget in self.inputs.values():
            widget.observe(self._changed, "value")
        self.box = w.VBox(
            [self.picture, self.time, self.status, self.message, *self.inputs.values()]
        )

    def redraw(self) -> None:
        """Show the explorer as it is now."""
        self.scene = self.explorer.scene()
        self._busy = True  # values set here are no wishes of the reader
        try:
            self.time.max = len(self.scene.times) - 1
            self.time.value = self.scene.at
            for control in self.scene.controls:
                _set(self.inputs[control.name], control)
        finally:
            self._busy = False
        self._draw()

    def _draw(self) -> None:
        scene, f = self.scene, self.time.value
        self.picture.value = self.figure.png(scene, [f])
        self.status.value = html.escape(scene.text[f])
        self.message.value = "<br>".join(html.escape(note["text"]) for note in scene.notes)

    def hear(self, message: dict[str, Any], buffers: list[bytes]) -> None:
        """How far a job of the explorer is."""
        p = message.get("progress", {})
        self.message.value = html.escape(
            p.get("error") or f"{p.get('label', '')} {p.get('done', 0):.0%} {p.get('text', '')}"
        )

    def _scrubbed(self, change: dict[str, Any]) -> None:
        if not self._busy:
            self.explorer.receive({"values": {"t": self.scene.times[self.time.value]}})
            self._draw()

    def _changed(self, change: dict[str, Any]) -> None:
        if self._busy:
            return
        name = next(n for n, widget in self.inputs.items() if widget is change["owner"])
        answer, _ = self.explorer.receive({"values": {name: change["new"]}, "final": True})
        self.redraw()
        if "error" in answer:
            self.message.value = html.escape(answer["error"])


def make_image_view(explorer: Explorer) -> tuple[Any, Callable[[], None], Tell]:
    """The box of an ``ImageView``, the function that redraws it, and one that takes messages."""
    view = ImageView(explorer)
    return view.box, view.redraw, view.hear


def _make(c: Control, wide: dict[str, Any]) -> Any:
    wide = {**wide, "description": c.label, "tooltip": c.help}
    if c.kind == "choice":
        return w.Dropdown(options=c.choices, value=c.value, **wide)
    if isinstance(c.value, int):
        return w.IntSlider(min=int(c.low), max=int(c.high), value=c.value, **wide)
    return w.BoundedFloatText(min=c.low, max=c.high, value=c.value, step=c.step, **wide)


def _set(widget: Any, c: Control) -> None:
    if c.kind == "choice":
        widget.options = c.choices
    else:
        widget.max = max(c.high, widget.min)
    widget.value = c.value
    widget.disabled = not c.enabled
