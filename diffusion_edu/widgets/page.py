"""An explorer without a kernel: HTML that plays, and a poster for where scripts are stripped."""

from __future__ import annotations

import base64
import html
import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

from ..viz.scene import Control, Scene

__all__ = [
    "SITE",
    "document",
    "mimebundle",
    "player_source",
    "player_style",
    "site_script",
    "view_bundle",
]

Values = tuple[Any, ...]  # of the precomputed parameters, in the order of their names

_PAGE = """<style>{style}</style>
<div id="{id}"><img alt="{alt}" src="data:image/png;base64,{poster}" style="max-width:100%"></div>
<script type="module">
{player}
{offline}
player.render({{ model: offlineModel({state}), el: document.getElementById("{id}") }});
</script>
"""

# In a site, player and style are files of the site; the explorer starts when it comes near.
_IN_SITE = """<div class="explorer" id="{id}"
><img alt="{alt}" src="data:image/png;base64,{poster}"></div>
<script type="application/json" data-explorer="{id}">{state}</script>
"""
SITE = "DIFFUSION_EDU_SITE"  # set in the environment while notebooks run to be pages of a site

_DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0 auto; padding: 8px; max-width: 64em; font-family: system-ui, sans-serif; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def player_source() -> str:
    """The player as one ECMAScript module: its files in the order they need each other."""
    parts = ("pictures", "plots", "pointer", "tools", "kernel", "player")
    return "\n".join(_text(f"{name}.js") for name in parts)


def player_style() -> str:
    """The text of player.css."""
    return _text("player.css")


def _text(name: str) -> str:
    return (resources.files(__package__) / name).read_text("utf-8")


def document(scenes: Mapping[Values, Scene], grid: Mapping[str, Sequence[Any]], at: Values) -> str:
    """A whole page that is one explorer; see ``_fragment``."""
    title = html.escape(scenes[at].title)
    return _DOCUMENT.format(title=title, body=_fragment(scenes, grid, at))


def _fragment(
    scenes: Mapping[Values, Scene],
    grid: Mapping[str, Sequence[Any]],
    at: Values = (),
    poster: bytes | None = None,
) -> str:
    """A piece of HTML, self-contained: the player, its scenes and, until it starts, a poster.

    Args:
        scenes: one for each combination of the values in ``grid``, in the order of its names.
        grid: values of the parameters that stay alive; the other controls are shown, greyed.
        at: the combination shown first.
    """
    return _PAGE.format(
        style=player_style(),
        player=player_source().replace("export default", "const player ="),
        offline=_text("offline.js"),
        **_filling(scenes, grid, at, poster),
    )


def _site_fragment(
    scenes: Mapping[Values, Scene],
    grid: Mapping[str, Sequence[Any]],
    at: Values = (),
    poster: bytes | None = None,
) -> str:
    """As ``_fragment``, for a page that has ``site_script`` and ``player_style``."""
    return _IN_SITE.format(**_filling(scenes, grid, at, poster))


def site_script() -> str:
    """A classic script (file:// has no modules): starts every explorer that comes near."""
    player = player_source().replace("export default", "const player =")
    return f"{{\n{player}\n{_text('offline.js')}\n{_text('site.js')}\n}}\n"


def _filling(
    scenes: Mapping[Values, Scene],
    grid: Mapping[str, Sequence[Any]],
    at: Values,
    poster: bytes | None,
) -> dict[str, str]:
    first, shared = scenes[at], _Shared()
    state = {
        "names": list(grid),
        "grid": {name: [_offered(v) for v in values] for name, values in grid.items()},
        "at": {name: _offered(v) for name, v in zip(grid, at, strict=True)},
        "scenes": {
            "|".join(
                str(grid[name].index(v)) for name, v in zip(grid, values, strict=True)
            ): shared.head(_live(scene, grid, values))
            for values, scene in scenes.items()
        },
    }
    state["buffers"] = shared.texts
    return {
        "id": f"explorer-{uuid.uuid4().hex[:12]}",
        "alt": html.escape(f"{first.title}: {first.text[first.at]}", quote=True),
        "poster": base64.b64encode(poster or _make_poster(first)).decode(),
        # "<" could end the script element early, or open a comment in it.
        "state": json.dumps(state).replace("<", "\\u003c"),
    }


class _Shared:
    """Buffers of many scenes, each of different content kept once, as base64."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._known: dict[bytes, int] = {}

    def head(self, scene: Scene) -> dict[str, Any]:
        """The scene's JSON, pointing into ``texts``."""
        where = [self._place(buffer) for buffer in scene.buffers]
        head: dict[str, Any] = _moved(scene.head(), where)
        return head

    def _place(self, buffer: bytes) -> int:
        if buffer not in self._known:
            self._known[buffer] = len(self.texts)
            self.texts.append(base64.b64encode(buffer).decode())
        return self._known[buffer]


def _moved(part: Any, where: list[int]) -> Any:
    """The same JSON with every {"buffer": i} pointing to where[i]."""
    if isinstance(part, list):
        return [_moved(p, where) for p in part]
    if isinstance(part, dict):
        moved = {key: _moved(p, where) for key, p in part.items()}
        return moved | {"buffer": where[part["buffer"]]} if "buffer" in part else moved
    return part


def _live(scene: Scene, grid: Mapping[str, Sequence[Any]], at: Values) -> Scene:
    """The scene with controls that offer what was computed, and nothing that needs a kernel."""
    now = dict(zip(grid, at, strict=True))

    def control(c: Control) -> Control:
        if c.name not in grid:
            return replace(c, enabled=False)
        choices = tuple(_as_js(_offered(v)) for v in grid[c.name])
        text = f"{c.help}. This page has these values" if len(choices) > 1 else c.help
        value = _as_js(_offered(now[c.name]))
        return replace(c, kind="choice", value=value, choices=choices, help=text)

    return replace(scene, controls=[control(c) for c in scene.controls], actions=[])


def _offered(value: Any) -> Any:
    """As a page's reader may choose it: what is not set follows from the rest."""
    return "auto" if value is None else value


def _as_js(value: Any) -> str:
    """As JavaScript's String() writes a JSON value: 1.0 is "1" there."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)


def _make_poster(scene: Scene) -> bytes:
    """PNG of the first and the last frame."""
    from ..viz.scene_figure import poster

    return poster(scene)


def mimebundle(explorer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a notebook stores: the widget, and for readers without a kernel HTML, PNG and text."""
    scene = explorer.scene()
    poster = _make_poster(scene)
    if os.environ.get(SITE):
        return _site_bundle(explorer, scene, poster), {}
    data: dict[str, Any] = {
        "text/plain": f"{scene.title}: {scene.text[scene.at]}",
        "text/html": _fragment({(): scene}, {}, poster=poster),
        "image/png": base64.b64encode(poster).decode(),
    }
    metadata: dict[str, Any] = {}
    try:
        view = explorer.view
    except ImportError:  # no ipywidgets: the page still plays
        return data, metadata
    more, extra = view_bundle(view)
    return {**more, **data}, {**metadata, **extra}


def _site_bundle(explorer: Any, scene: Scene, poster: bytes) -> dict[str, Any]:
    scenes, grid, at = explorer._pages()
    return {
        "text/plain": f"{scene.title}: {scene.text[scene.at]}",
        "text/html": _site_fragment(scenes, grid, at, poster),
        "image/png": base64.b64encode(poster).decode(),
    }


def view_bundle(view: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Data and metadata of a widget. ipywidgets 7 has no _repr_mimebundle_ of its own."""
    if not hasattr(view, "_repr_mimebundle_"):
        key = "application/vnd.jupyter.widget-view+json"
        return {key: {"version_major": 2, "version_minor": 0, "model_id": view.model_id}}, {}
    bundle = view._repr_mimebundle_()
    return bundle if isinstance(bundle, tuple) else (bundle, {})
