"""Scenes of the explorers drawn by matplotlib: posters, and the view without anywidget."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .scene import Scene, layer_frame, unpack

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe-Ito
GREY = "#9a9a9a"
SIDE, DPI = 3.2, 80


class SceneFigure:
    """One Agg figure that is kept and updated: ``png(scene, f)`` draws frame ``f``.

    The axes are built anew only when the panels change in number or kind.
    """

    def __init__(self) -> None:
        self._layout: list[str] | None = None
        self._figure = Figure(dpi=DPI, layout="constrained")
        FigureCanvasAgg(self._figure)

    def png(self, scene: Scene, frames: Sequence[int]) -> bytes:
        """PNG of the given frames, one row of panels for all of them."""
        cells = [(f, p) for f in frames for p in scene.panels]
        layout = [p["kind"] for _, p in cells]
        if layout != self._layout:
            self._figure.clear()
            self._figure.set_size_inches(SIDE * len(cells), SIDE + 0.4)
            self._axes = self._figure.subplots(1, len(cells), squeeze=False)[0]
            self._layout = layout
        for axes, (f, panel) in zip(self._axes, cells, strict=True):
            axes.clear()
            _DRAW[panel["kind"]](axes, panel, scene, f)
            axes.set_title(f"{panel['title']}, {scene.label} = {scene.times[f]}", fontsize=10)
        file = io.BytesIO()
        self._figure.savefig(file, format="png", dpi=DPI)
        return file.getvalue()


def poster(scene: Scene) -> bytes:
    """PNG of the first and the last frame of a scene, side by side."""
    pictures = [p for p in scene.panels if p["kind"] != "curves"]
    still = Scene(
        scene.times, scene.at, scene.text, label=scene.label, panels=pictures, buffers=scene.buffers
    )
    return SceneFigure().png(still, sorted({0, len(scene.times) - 1}))


def _points(axes: Axes, panel: dict[str, Any], scene: Scene, f: int) -> None:
    for layer in panel["layers"]:
        xy = layer_frame(layer, scene.buffers, f).reshape(-1, 2)
        mark = layer["mark"]
        colour = [GREY] if mark == "data" else COLOURS
        which = np.searchsorted(layer["groups"], np.arange(len(xy)), side="right")
        axes.scatter(
            xy[:, 0],
            xy[:, 1],
            c=np.array(colour)[which],
            s=3 if mark != "cross" else 12,
            linewidths=0.7,
            marker="x" if mark == "cross" else "o",
            alpha=0.35 if mark == "ghost" else 0.9,
        )
    r = panel["extent"]
    axes.set(xlim=(-r, r), ylim=(-r, r), aspect="equal", xticks=[], yticks=[])


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


def _curves(axes: Axes, panel: dict[str, Any], scene: Scene, f: int) -> None:
    for i, series in enumerate(panel["series"]):
        y = unpack(series["y"], scene.buffers)
        axes.plot(
            scene.times, y, color=COLOURS[i], ls=("-", "--", ":")[i % 3], label=series["label"]
        )
        axes.plot(scene.times[f], y[f], "os^"[i % 3], color=COLOURS[i])
    axes.axvline(scene.times[f], color=GREY, lw=0.8)
    axes.set(ylim=(panel["low"], panel["high"] * 1.02), xlabel=scene.label)
    axes.legend(fontsize=8, frameon=False)


_DRAW = {"points": _points, "images": _images, "curves": _curves}
