"""Widgets of an explorer: the player as an anywidget, or ipywidgets.Image where that is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .explorer import Explorer
from .jobs import Tell
from .page import player_source, player_style

__all__ = ["make_view"]


def make_view(explorer: Explorer) -> tuple[Any, Callable[[], None], Tell]:
    """The widget, what redraws it after a change made from Python, and what sends it a message.

    Raises:
        ImportError: there is no ipywidgets.
    """
    try:
        import anywidget
        import traitlets
    except ImportError:
        return _image_view(explorer)

    class Player(anywidget.AnyWidget):
        """The player; see ``Explorer.receive`` for the messages it sends."""

        _esm = player_source()
        _css = player_style()
        # A counter on this side, the whole scene in the browser: it is read when it is sent, and
        # never comes back.
        state = traitlets.Int(0).tag(sync=True, echo_update=False, to_json=_state(explorer))

    view = Player()
    view.on_msg(lambda widget, message, buffers: _answer(widget, explorer, message))

    def redraw() -> None:
        view.state += 1

    return view, redraw, view.send


def _image_view(explorer: Explorer) -> tuple[Any, Callable[[], None], Tell]:
    try:
        from .image_view import make_image_view
    except ImportError as error:
        raise ImportError(
            "a widget needs the extra [lab]: pip install 'diffusion_edu[lab]'; "
            "save and to_html do without"
        ) from error
    return make_image_view(explorer)


def _state(explorer: Explorer) -> Callable[[int, Any], dict[str, Any]]:
    def to_json(count: int, widget: Any) -> dict[str, Any]:
        scene = explorer.scene()
        return {"scene": scene.head(), "version": explorer.version, "buffers": scene.buffers}

    return to_json


def _answer(widget: Any, explorer: Explorer, message: dict[str, Any]) -> None:
    answer, buffers = explorer.receive(message)
    widget.send(answer, buffers)
