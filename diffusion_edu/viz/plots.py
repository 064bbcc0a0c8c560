"""Pictures of lectures: clouds of points, strips of images, lines, bars, histograms, heat maps.

Each function returns a ``Picture``, which a notebook shows as PNG and a reader who cannot see it as
a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatter
from torch import Tensor

from ..data.images import to_uint8
from .images import tile
from .scene_figure import COLOURS, GREY

__all__ = [
    "COLOURS",
    "GREY",
    "Picture",
    "as_array",
    "bars",
    "clouds",
    "heat",
    "histogram",
    "lines",
    "new_figure",
    "paths",
    "shade_cells",
    "strip",
]

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)))
DPI = 110


class Picture:
    """A figure as a cell's result: PNG, and a sentence in words."""

    def __init__(self, figure: Figure, text: str) -> None:
        self.figure, self.text = figure, text

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.figure.savefig(buffer, format="png", dpi=DPI)
        return buffer.getvalue()

    def __repr__(self) -> str:
        return self.text


def new_figure(columns: int = 1, rows: int = 1, size: tuple[float, float] = (6.4, 3.4)) -> Any:
    """A figure without pyplot and its axes, (rows, columns)."""
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def clouds(
    points: Sequence[Tensor],
    titles: Sequence[str],
    *,
    behind: Tensor | None = None,
    colour: Tensor | None = None,
    size: float = 3.0,
    limit: float | None = None,
    columns: int | None = None,
) -> Picture:
    """Clouds of points side by side, on equal axes.

    Args:
        points: (n, 2) each.
        titles: one for each.
        behind: (m, 2), drawn in grey below each: the data to reach.
        colour: (n,) a number for each point, to follow it from cloud to cloud.
        size: diameter of a point.
        limit: the axes go from -limit to limit; default: what holds the points.
        columns: clouds per row; default: all, at most six.
    """
    columns = columns or min(len(points), 6)
    rows = -(-len(points) // columns)
    wide = min(2.3, 8.0 / columns)  # no wider than a page: titles would shrink with it
    figure, axes = new_figure(columns, rows, (wide * columns, (wide + 0.2) * rows))
    everything = [*points, *([behind] if behind is not None else [])]
    limit = limit or 1.05 * max(float(p.detach().abs().max()) for p in everything)
    for axis in axes.flat[len(points) :]:
        axis.set_axis_off()
    for axis, cloud, title in zip(axes.flat, points, titles, strict=False):
        if behind is not None:
            axis.scatter(*as_array(behind).T, s=size, c="#c8c8c8", lw=0)
        hue = COLOURS[0] if colour is None else as_array(colour)
        shades = None if colour is None else "cividis"  # matplotlib warns of one it does not use
        axis.scatter(*as_array(cloud).T, s=size, c=hue, cmap=shades, lw=0)
        axis.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[], aspect="equal")
        axis.set_title(title, fontsize=10)
    return Picture(figure, "Clouds of points: " + "; ".join(titles))


def strip(
    images: Tensor | Sequence[Tensor],
    titles: Sequence[str] = (),
    *,
    rows: Sequence[str] = (),
    zoom: float = 0.9,
) -> Picture:
    """Images in a row, or in rows.

    Args:
        images: (n, C, H, W) for one row, (rows, n, C, H, W) for several: uint8, or floats, of which
            what is outside [-1, 1] is clipped.
        titles: one above each column.
        rows: one beside each row.
        zoom: inches an image is wide.
    """
    stack = torch.stack(list(images)) if not isinstance(images, Tensor) else images
    stack = stack[None] if stack.ndim == 4 else stack
    pixels = stack if stack.dtype == torch.uint8 else to_uint8(stack)
    count, wide, _, height, width = pixels.shape
    gap = max(1, round(0.06 * width))
    sheet = tile(pixels.flatten(0, 1), wide, gap)
    left = 0.09 * max((len(r) for r in rows), default=0)
    across = zoom * sheet.shape[2] / (width + gap)
    high = across * sheet.shape[1] / sheet.shape[2] + 0.1 + 0.25 * bool(titles)
    figure, ((axis,),) = new_figure(size=(across + left + 0.1, high))
    axis.imshow(_pixels(sheet), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_axis_off()
    axis.set_anchor("E")  # room is left for the names of the rows
    label: dict[str, Any] = {"fontsize": 9, "clip_on": False}
    for j, title in enumerate(titles[:wide]):
        x = gap + j * (width + gap) + width / 2
        axis.text(x, -0.03 * height, title, ha="center", va="bottom", **label)
    for i, row in enumerate(rows[:count]):
        y = gap + i * (height + gap) + height / 2
        axis.text(-0.08 * width, y, row, ha="right", va="center", **label)
    words = "; ".join([*rows, *titles])
    return Picture(figure, f"Images, {count} x {wide}: {words}")


def lines(
    x: Any,
    curves: Mapping[str, Any],
    xlabel: str,
    ylabel: str,
    *,
    log: str = "",
    errors: Mapping[str, Any] | None = None,
    title: str = "",
    markers: bool = False,
) -> Picture:
    """Curves over a common x, told apart by colour and dash.

    Args:
        x: (n,); or a mapping label -> (n,) where each curve has its own.
        curves: label -> (n,).
        xlabel, ylabel: names of the axes, with units.
        log: "x", "y" or "xy" for logarithmic axes.
        errors: label -> (n,), one standard error, drawn as a band.
        title: above the picture.
        markers: draw the points too.
    """
    figure, ((axis,),) = new_figure()
    for k, (label, y) in enumerate(curves.items()):
        at, values = as_array(x[label] if isinstance(x, Mapping) else x), as_array(y)
        how: dict[str, Any] = {"color": COLOURS[k % 6], "ls": DASHES[k % 6], "label": label}
        axis.plot(at, values, lw=1.8, marker="osD^vP"[k % 6] if markers else None, ms=4, **how)
        if errors and label in errors:
            e = as_array(errors[label])
            axis.fill_between(at, values - e, values + e, color=COLOURS[k % 6], alpha=0.2, lw=0)
    _finish(axis, xlabel, ylabel, log, title, len(curves) > 1 or any(curves))
    if markers and "x" in log and not isinstance(x, Mapping) and len(x) <= 6:
        axis.set_xticks(
            as_array(x), [f"{value:g}" for value in as_array(x)]
        )  # where it was measured
        axis.set_xticks([], minor=True)
    return Picture(figure, f"{title or ylabel} over {xlabel}: {', '.join(curves)}")


def bars(
    labels: Sequence[str],
    series: Mapping[str, Any],
    ylabel: str,
    *,
    errors: Mapping[str, Any] | None = None,
    log: bool = False,
    title: str = "",
) -> Picture:
    """Groups of bars, one group for each label, one colour for each series."""
    figure, ((axis,),) = new_figure()
    width, at = 0.8 / len(series), np.arange(len(labels))
    for k, (name, values) in enumerate(series.items()):
        shift = (k - (len(series) - 1) / 2) * width
        error = as_array(errors[name]) if errors and name in errors else None
        axis.bar(
            at + shift,
            as_array(values),
            width * 0.92,
            yerr=error,
            color=COLOURS[k % 6],
            label=name,
            hatch=["", "//", "..", "xx"][k % 4],
            edgecolor="white",
            capsize=3,
        )
    axis.set_xticks(at, labels)
    _finish(axis, "", ylabel, "y" if log else "", title, len(series) > 1)
    return Picture(figure, f"{title or ylabel}: {', '.join(series)} for {', '.join(labels)}")


def histogram(
    samples: Mapping[str, Tensor],
    xlabel: str,
    *,
    density: tuple[Any, Any] | None = None,
    bins: int = 60,
    title: str = "",
) -> Picture:
    """Histograms of numbers over one another, as outlines, with a density if there is one.

    Args:
        samples: label -> (n,).
        xlabel: name of the axis.
        density: (x, p) of the exact density, drawn in black.
        bins: shared by all.
        title: above the picture.
    """
    figure, ((axis,),) = new_figure()
    every = np.concatenate([as_array(s).ravel() for s in samples.values()])
    low, high = np.quantile(every, [0.0005, 0.9995])
    edges = np.linspace(low, high, bins + 1)
    for k, (label, values) in enumerate(samples.items()):
        how: dict[str, Any] = {"histtype": "step", "lw": 1.8, "density": True}
        flat = as_array(values).ravel()
        axis.hist(flat, edges, color=COLOURS[k % 6], ls=DASHES[k % 2], label=label, **how)
    if density is not None:
        axis.plot(as_array(density[0]), as_array(density[1]), color="black", lw=1, label="exact")
    _finish(axis, xlabel, "density", "", title, True)
    return Picture(figure, f"Histograms over {xlabel}: {', '.join(samples)}")


def heat(
    values: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    log: bool = False,
    digits: int = 3,
) -> Picture:
    """A table of numbers as a heat map, the numbers written in; light is large."""
    array = as_array(values)
    shade = np.log(array) if log else array
    size = (1.6 + 0.85 * len(columns), 1.1 + 0.5 * len(rows))
    figure, ((axis,),) = new_figure(size=size)
    shade_cells(axis, array, shade, digits)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.set_title(title, fontsize=10)
    return Picture(figure, f"{title}: rows {', '.join(rows)}; columns {', '.join(columns)}")


def shade_cells(axis: Axes, values: np.ndarray, shade: np.ndarray, digits: int) -> None:
    """A table of numbers, each on its shade; light is large."""
    axis.imshow(shade, cmap="cividis", aspect="auto")
    middle = (np.nanmin(shade) + np.nanmax(shade)) / 2
    for (i, j), value in np.ndenumerate(values):
        ink = "black" if shade[i, j] > middle else "white"
        text = f"{value:.{digits}g}"
        axis.text(j, i, text, ha="center", va="center", color=ink, fontsize=9)


def paths(
    trajectories: Mapping[str, Tensor],
    *,
    behind: Tensor | None = None,
    limit: float | None = None,
    title: str = "",
) -> Picture:
    """Paths of points: label -> (steps, n, 2), one panel for each; the dot is where it ends."""
    wide = min(3.6, 8.0 / len(trajectories))
    figure, axes = new_figure(len(trajectories), 1, (wide * len(trajectories), wide + 0.2))
    furthest = max(float(x.detach().abs().max()) for x in trajectories.values())
    for axis, (label, walk) in zip(axes.flat, trajectories.items(), strict=True):
        if behind is not None:
            axis.scatter(*as_array(behind).T, s=3, c="#c8c8c8", lw=0)
        for k in range(walk.shape[1]):
            one = as_array(walk[:, k])
            axis.plot(*one.T, lw=0.9, color=COLOURS[k % 6], alpha=0.8)
            axis.plot(*one[-1], "o", ms=4, color=COLOURS[k % 6])
        edge = limit or 1.05 * furthest
        axis.set(xlim=(-edge, edge), ylim=(-edge, edge), xticks=[], yticks=[], aspect="equal")
        axis.set_title(label, fontsize=10)
    if title:
        figure.suptitle(title, fontsize=11)
    return Picture(figure, f"Paths of points: {', '.join(trajectories)}")


class _Plain(LogFormatter):
    """The same choice of labels, written "0.6" and not "6e-01"."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _finish(axis: Axes, xlabel: str, ylabel: str, log: str, title: str, legend: bool) -> None:
    axis.set(xlabel=xlabel, ylabel=ylabel)
    if "x" in log:
        axis.set_xscale("log")
    if "y" in log:
        axis.set_yscale("log")
    for side in (axis.xaxis, axis.yaxis):  # "20", not "2 x 10^1", where an axis spans few numbers
        if side.get_scale() == "log":
            low, high = side.get_view_interval()
            if low >= 0.01 and high <= 10_000:
                side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                side.set_minor_formatter(_Plain(labelOnlyBase=False, minor_thresholds=(2, 0.4)))
    if title:
        axis.set_title(title, fontsize=10)
    if legend:
        axis.legend(frameon=False, fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)


def as_array(x: Any) -> np.ndarray:
    """A tensor, or numbers, in float64 for matplotlib."""
    return x.detach().cpu().double().numpy() if isinstance(x, Tensor) else np.asarray(x, float)


def _pixels(image: Tensor) -> np.ndarray:
    """(C, H, W) uint8 -> what imshow takes."""
    array = image.cpu().numpy()
    pixels: np.ndarray = array[0] if len(array) == 1 else array.transpose(1, 2, 0)
    return pixels
