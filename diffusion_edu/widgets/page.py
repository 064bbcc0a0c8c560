"""An explorer without a kernel: HTML that plays, and a poster for where scripts are stripped."""

from __future__ import annotations

import base64
import html
import json
import uuid
from importlib import resources
from typing import Any

from ..viz.scene import Scene

_PAGE = """<style>{style}</style>
<div id="{id}"><img alt="{alt}" src="data:image/png;base64,{poster}" style="max-width:100%"></div>
<script type="module">
{player}
const state = {state};
state.buffers = state.buffers.map((text) =>
  new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer));
const model = {{ get: () => state, on() {{}}, off() {{}}, send() {{}}, offline: true }};
player.render({{ model, el: document.getElementById("{id}") }});
</script>
"""


def player_source() -> str:
    """The player as one ECMAScript module: pictures.js, then player.js, which exports it."""
    return _text("pictures.js") + "\n" + _text("player.js")


def player_style() -> str:
    """The text of player.css."""
    return _text("player.css")


def _text(name: str) -> str:
    return (resources.files(__package__) / name).read_text("utf-8")


def to_html(scene: Scene, poster: bytes | None = None) -> str:
    """A piece of HTML, self-contained: the player, the scene and, until it starts, a poster."""
    state = {
        "scene": scene.head(),
        "version": 0,
        "buffers": [base64.b64encode(b).decode() for b in scene.buffers],
    }
    # "</" would end the script element early, whatever string it stands in.
    return _PAGE.format(
        id=f"explorer-{uuid.uuid4().hex[:12]}",
        alt=html.escape(f"{scene.title}: {scene.text[scene.at]}", quote=True),
        poster=base64.b64encode(poster or make_poster(scene)).decode(),
        style=player_style(),
        player=player_source().replace("export default", "const player ="),
        state=json.dumps(state).replace("</", "<\\/"),
    )


def make_poster(scene: Scene) -> bytes:
    """PNG of the first and the last frame."""
    from ..viz.scene_figure import poster

    return poster(scene)


def mimebundle(explorer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a notebook stores: the widget, and for readers without a kernel HTML, PNG and text."""
    scene = explorer.scene()
    poster = make_poster(scene)
    data: dict[str, Any] = {
        "text/plain": f"{scene.title}: {scene.text[scene.at]}",
        "text/html": to_html(scene, poster),
        "image/png": base64.b64encode(poster).decode(),
    }
    metadata: dict[str, Any] = {}
    try:
        view = explorer.view
    except ImportError:  # no ipywidgets: the page still plays
        return data, metadata
    bundle = view._repr_mimebundle_() if hasattr(view, "_repr_mimebundle_") else _bundle(view)
    more, extra = bundle if isinstance(bundle, tuple) else (bundle, {})
    return {**more, **data}, {**metadata, **extra}


def _bundle(view: Any) -> dict[str, Any]:
    """ipywidgets 7 has no _repr_mimebundle_ of its own."""
    key = "application/vnd.jupyter.widget-view+json"
    return {key: {"version_major": 2, "version_minor": 0, "model_id": view.model_id}}
