"""Scenes of the explorers drawn by matplotlib: posters, films, and the view without anywidget."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .scene import Scene, layer_frame, rows_at, unpack

__all__ = ["COLOURS", "GREY", "SceneFigure", "poster"]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe-Ito
DASHES, MARKERS = ("-", "--", ":", "-."), "os^D"
GREY = "#9a9a9a"
SIDE, DPI, ACROSS = 3.2, 80, 4  # ACROSS: pictures side by side, at most
_CLEAR = LinearSegmentedColormap.from_list("clear", [COLOURS[0], "#ffffff", COLOURS[1]])


class SceneFigure:
    """One Agg figure that is kept and updated: ``png(scene, f)`` draws frame ``f``.

    The axes are built anew only when the panels change in number or kind, and placed anew only when
    also titles change: in a film nothing jumps.
    """

    def __init__(self) -> None:
        self._layout: list[str] | None = None
        self._titles: list[str] | None = None
        self._figure = Figure(dpi=DPI, layout="constrained")
        FigureCanvasAgg(self._figure)

    def png(self, scene: Scene, frames: Sequence[int]) -> bytes:
        """PNG of the given frames: all their panels in one row, or a row for each frame."""
        cells = [(f, p) for f in frames for p in scene.panels]
        layout = [p["kind"] for _, p in cells]
        if layout != self._layout:
            self._build(len(cells), scene.panels)
            self._layout = layout
        titles = [p["title"] for _, p in cells]
        self._figure.set_layout_engine("none" if titles == self._titles else "constrained")
        for axes, (f, panel) in zip(self._axes, cells, strict=True):
            axes.clear()
            _DRAW[panel["kind"]](axes, panel, scene, f)
            at = "" if len(scene.times) < 2 else f", {scene.label} = {scene.times[f]:.4g}"
            axes.set_title(f"{panel['title']}{at}", fontsize=10)
        file = io.BytesIO()
        self._figure.savefig(file, format="png", dpi=DPI)
        self._titles = titles
        return file.getvalue()

    def _build(self, count: int, panels: list[dict[str, Any]]) -> None:
        across = max(1, count if count <= ACROSS else min(len(panels), ACROSS))
        scales = any("palette" in layer for p in panels for layer in p.get("layers", ()))
        down = -(-count // across)
        self._figure.clear()
        self._figure.set_size_inches(SIDE * across, (SIDE + (0.9 if scales else 0.4)) * down)
        self._titles = None
        axes = self._figure.subplots(down, across, squeeze=False).ravel()
        for unused in axes[count:]:
            unused.remove()
        self._axes = axes[:count]


def poster(scene: Scene) -> bytes:
    """PNG of a scene: the first and the last frame of its pictures, or what else it has."""
    pictures = [p for p in scene.panels if p["kind"] in ("points", "images")]
    frames = sorted({0, len(scene.times) - 1}) if pictures else [scene.at]
    panels = pictures or scene.panels
    still = Scene(
        scene.times, scene.at, scene.text, label=scene.label, panels=panels, buffers=scene.buffers
    )
    return SceneFigure().png(still, frames)


def _colour(k: int | None) -> str:
    return "#333333" if k is None else COLOURS[k % len(COLOURS)]


def _ramp(palette: str) -> Colormap:
    return _CLEAR if palette == "diverging" else matplotlib.colormaps["cividis"]


# ---- points and images ---------------------------------------------------------------------------


def _points(axes: Axes, panel: dict[str, Any], scene: Scene, f: int) -> None:
    r = panel["extent"]
    hot = any(layer["mark"] == "heat" for layer in panel["layers"])
    for z, layer in enumerate(panel["layers"]):
        style = {"zorder": 2 + 0.1 * z}
        _LAYERS.get(layer["mark"], _marks)(axes, layer, scene, f, style | {"hot": hot, "r": r})
    for handle in panel["handles"]:
        axes.plot(*handle["at"], "o", ms=9, mfc="none", mec="#111111", mew=2, zorder=5)
        side, align = (-7, "right") if handle["at"][0] > 0.3 * r else (7, "left")
        place: dict[str, Any] = {"textcoords": "offset points", "fontsize": 9, "ha": align}
        axes.annotate(handle["label"], handle["at"], (side, 5), **place)
    axes.set(xlim=(-r, r), ylim=(-r, r), aspect="equal", xticks=[], yticks=[])


def _marks(axes: Axes, layer: dict[str, Any], scene: Scene, f: int, how: dict[str, Any]) -> None:
    xy = layer_frame(layer, scene.buffers, f).reshape(-1, 2)
    mark = layer["mark"]
    which = np.searchsorted(layer["groups"], np.arange(len(xy)), side="right")
    colours = np.array([GREY if mark == "data" else c for c in COLOURS])[which % len(COLOURS)]
    if layer.get("tail"):
        _tails(axes, layer, scene, f, colours, how["zorder"])
    cross = mark == "cross"
    rim: dict[str, Any] = {"edgecolors": "white"} if how["hot"] and not cross else {}
    axes.scatter(
        xy[:, 0],
        xy[:, 1],
        c=colours,
        s=12 if cross else 6 if rim else 3,
        linewidths=0.7 if cross else 0.4,
        marker="x" if cross else "o",
        alpha=0.35 if mark == "ghost" else 0.9,
        zorder=how["zorder"],
        **rim,
    )


def _tails(
    axes: Axes, layer: dict[str, Any], scene: Scene, f: int, colours: np.ndarray, z: float
) -> None:
    frames = range(max(0, f - layer["tail"]), f + 1)
    way = np.stack([layer_frame(layer, scene.buffers, g).reshape(-1, 2) for g in frames])
    for colour in np.unique(colours):
        some = way[:, colours == colour]
        broken = np.concatenate([some, np.full((1, *some.shape[1:]), np.nan)])  # NaN between points
        line = broken.transpose(1, 0, 2).reshape(-1, 2)
        axes.plot(line[:, 0], line[:, 1], color=str(colour), lw=0.6, alpha=0.35, zorder=z)


def _heat(axes: Axes, layer: dict[str, Any], scene: Scene, f: int, how: dict[str, Any]) -> None:
    r = how["r"]
    picture = axes.imshow(
        layer_frame(layer, scene.buffers, f).reshape(layer["shape"]),
        cmap=_ramp(layer["palette"]),
        vmin=layer["low"],
        vmax=layer["high"],
        origin="lower",
        extent=(-r, r, -r, r),
        interpolation="bilinear",
        zorder=how["zorder"],
    )
    inset = axes.inset_axes((0.0, -0.06, 0.4, 0.03))
    axes.figure.colorbar(picture, cax=inset, orientation="horizontal", ticks=[])
    place: dict[str, Any] = {"transform": axes.transAxes, "va": "center"}
    ends = f"{layer['low']:.3g} to {layer['high']:.3g}"
    axes.text(0.43, -0.045, ends, fontsize=8, **place)
    axes.text(0.0, -0.115, layer["label"], fontsize=7.5, **place)  # no wider than its panel


def _arrows(axes: Axes, layer: dict[str, Any], scene: Scene, f: int, how: dict[str, Any]) -> None:
    base = unpack(layer["base"], scene.buffers).reshape(-1, 2)
    v = layer_frame(layer, scene.buffers, f).reshape(-1, 2)
    axes.quiver(
        *base.T,
        *v.T,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.005,
        color=_colour(layer["colour"]),
        zorder=how["zorder"],
    )


def _path(axes: Axes, layer: dict[str, Any], scene: Scene, f: int, how: dict[str, Any]) -> None:
    x = layer_frame(layer, scene.buffers, f).reshape(-1, 2)
    dash = "--" if layer["dashed"] else "-"
    axes.plot(x[:, 0], x[:, 1], dash, color=_colour(layer["colour"]), lw=1.6, zorder=how["zorder"])


_LAYERS = {"heat": _heat, "arrows": _arrows, "path": _path}


def _images(axes: Axes, panel: dict[str, Any], scene: Scene, f: int) -> None:
    n, channels, height, width = panel["shape"]
    columns = int(np.ceil(np.sqrt(n)))
    x = np.nan_to_num(layer_frame(panel["layers"][0], scene.buffers, f)).reshape(panel["shape"])
    rows = -(-n // columns)
    sheet = np.ones((rows * (height + 1) - 1, columns * (width + 1) - 1, channels))
    for i, image in enumerate(np.clip((x + 1) / 2, 0, 1)):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    axes.imshow(
        sheet if channels == 3 else sheet[..., 0],
        cmap="gray",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    axes.set(xticks=[], yticks=[])


# ---- curves --------------------------------------------------------------------------------------


def _curves(axes: Axes, panel: dict[str, Any], scene: Scene, f: int) -> None:
    x, y, at = panel["x"], panel["y"], panel["at"]
    at = None if at is None else unpack(at, scene.buffers)
    _axes_of(axes, x, y, scene)
    bars = [s for s in panel["series"] if s["draw"] == "bars"]
    for k, series in enumerate(panel["series"]):
        slot = (bars.index(series), len(bars)) if series in bars else (0, 1)
        _series(axes, series, k, panel, scene, f, at, slot)
    now = f if x is None else None if at is None else at[f]
    if now is not None:
        axes.axvline(now, color=GREY, lw=0.8)
    for line in panel["levels"]:
        axes.axhline(line["y"], color=GREY, lw=0.8, ls=":")
        place = axes.get_yaxis_transform()
        axes.text(0.98, line["y"], line["label"], transform=place, ha="right", va="bottom", size=8)
    for handle in panel["handles"]:
        axes.axvline(handle["at"][0], color="#333333", lw=0.8, ls="--")
        axes.text(handle["at"][0], y["low"], f" {handle['label']}", fontsize=8, va="bottom")
    if any(s["label"] for s in panel["series"]):
        below = (0.5, -0.4 if x is not None and _tilt(x) else -0.18)
        axes.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=below)


def _axes_of(axes: Axes, x: dict[str, Any] | None, y: dict[str, Any], scene: Scene) -> None:
    axes.set_ylim(y["low"], y["high"])
    axes.set_yscale("log" if y["log"] else "linear")
    axes.set_ylabel(y["label"], fontsize=8)
    if x is None:  # x counts frames, and is named by their levels
        last = len(scene.times) - 1
        some = sorted({round(u * last) for u in (0, 0.25, 0.5, 0.75, 1)})
        axes.set_xlim(0, max(1, last))
        axes.set_xticks(some, [f"{scene.times[i]:.3g}" for i in some])
    else:
        axes.set_xscale("log" if x["log"] else "linear")
        axes.set_xlim(x["low"], x["high"])
        if x["ticks"]:
            axes.set_xticks(range(len(x["ticks"])), x["ticks"], rotation=_tilt(x))
    axes.set_xlabel(scene.label if x is None else x["label"], fontsize=8)
    axes.tick_params(labelsize=8)


def _tilt(x: dict[str, Any]) -> int:
    """Degrees by which the names of bars are turned, if they are long."""
    return 35 if sum(map(len, x["ticks"])) > 30 else 0


def _series(
    axes: Axes,
    series: dict[str, Any],
    k: int,
    panel: dict[str, Any],
    scene: Scene,
    f: int,
    at: np.ndarray | None,
    slot: tuple[int, int],
) -> None:
    n, draw = series["size"], series["draw"]
    flat = unpack(series["y"], scene.buffers)
    y = rows_at(flat, n, f)
    by_frame = series["x"] is None and draw != "bars" and n == len(scene.times)
    if series["x"] is not None:
        x = unpack(series["x"], scene.buffers)
    elif by_frame and panel["x"] is not None and at is not None:
        x = at
    else:
        x = np.arange(n, dtype=np.float32)
    colour, rank = _colour(k), slot[0]
    if draw == "bars":
        width = 0.8 * (float(np.min(np.diff(x))) if n > 1 else 1.0) / slot[1]
        x = x - 0.5 * width * (slot[1] - 1) + rank * width
        paint: dict[str, Any] = {
            "facecolor": f"{colour}55" if k % 2 else colour,
            "edgecolor": colour,
        }
        axes.bar(x, y, width, label=series["label"], **paint)
    else:
        _line(axes, x, y, k, draw, series["label"])
    if series["error"] is not None:
        error = rows_at(unpack(series["error"], scene.buffers), n, f)
        edge = "#333333" if draw == "bars" else colour
        axes.errorbar(x, y, error, fmt="none", ecolor=edge, elinewidth=0.9, capsize=2)
    if by_frame and draw != "dots" and len(flat) == n:
        axes.plot(x[f], y[f], MARKERS[k % 4], color=colour, clip_on=False)


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, k: int, draw: str, label: str) -> None:
    colour, dash = _colour(k), DASHES[k % 4]
    if draw == "dots":
        axes.plot(x, y, MARKERS[k % 4], ms=4, color=colour, label=label)
        return
    kind = "steps-mid" if draw == "steps" else "default"
    axes.plot(x, y, color=colour, ls="-" if draw == "area" else dash, drawstyle=kind, label=label)
    if draw == "area":
        low = axes.get_ylim()[0]
        axes.fill_between(
            x, y, low if axes.get_yscale() == "log" else max(low, 0), color=colour, alpha=0.25
        )


# ---- tables --------------------------------------------------------------------------------------


def _table(axes: Axes, panel: dict[str, Any], scene: Scene, f: int) -> None:
    rows, columns = panel["rows"], panel["columns"]
    shape = len(rows["values"]), len(columns["values"])
    values = unpack(panel["values"], scene.buffers).reshape(shape)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (1.0, 1.0)
    scale = (
        LogNorm(low, high) if 0 < low < high else Normalize(low, high if high > low else low + 1)
    )
    cmap = matplotlib.colormaps["cividis"].with_extremes(bad="#e4e4e4")
    axes.imshow(np.ma.masked_invalid(values), cmap=cmap, norm=scale, aspect="auto")
    for (r, c), v in np.ndenumerate(values):
        dark = np.isfinite(v) and float(np.dot(cmap(scale(v))[:3], (0.3, 0.59, 0.11))) < 0.46
        text = f"{v:.3g}" if np.isfinite(v) else "..."
        weight = "bold" if v == low else "normal"
        ink = "white" if dark else "black"
        size = min(8, 40 / shape[1])
        axes.text(c, r, text, ha="center", va="center", fontsize=size, color=ink, weight=weight)
    if panel["at"] is not None:
        r, c = panel["at"]
        axes.add_patch(Rectangle((c - 0.5, r - 0.5), 1, 1, fill=False, ec="black", lw=2.5))
    axes.set_xticks(range(shape[1]), columns["values"], fontsize=8)
    axes.set_yticks(range(shape[0]), rows["values"], fontsize=8)
    axes.set_xlabel(columns["label"], fontsize=8)
    axes.set_ylabel(rows["label"], fontsize=8)


_DRAW = {"points": _points, "images": _images, "curves": _curves, "table": _table}
