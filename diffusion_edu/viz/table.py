"""Tables of numbers over noise and steps, as heat maps and curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from .._files import write_atomically

__all__ = ["Heat", "save_table", "table_figure"]

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
CMAP = colormaps["cividis"]  # light is large; told apart by the colour-blind, and in grey


@dataclass(frozen=True)
class Heat:
    """A table of numbers >= 0 or nearly so: one row for each eta, one column for each S.

    Attributes:
        title: above the heat map.
        metric: what the numbers are.
        rows, columns: their labels; columns are numbers of steps.
        values: rows of numbers, None where there is none yet.
        floor: the same number for real data; None: not known.
    """

    title: str
    metric: str
    rows: Sequence[str]
    columns: Sequence[int]
    values: Sequence[Sequence[float | None]]
    floor: float | None = None


def table_figure(ours: Heat, published: Heat, title: str) -> Figure:
    """Ours and the published table as heat maps, and ours as curves over the steps."""
    wide = [max(len(heat.columns), 4) + 1 for heat in (ours, published)]  # room for a title
    width = 7.1 + 0.72 * sum(wide)
    height = 2.4 + 0.5 * max(len(ours.rows), len(published.rows), 4)
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12)
    left, middle, right = figure.subplots(1, 3, width_ratios=[*wide, 7])
    for axes, heat in ((left, ours), (middle, published)):
        _heat(axes, heat)
    _curves(right, ours)
    return figure


def save_table(ours: Heat, published: Heat, title: str, path: Path) -> None:
    """Write ``table_figure`` as a PNG, atomically."""
    buffer = BytesIO()
    table_figure(ours, published, title).savefig(buffer, dpi=130, format="png")
    write_atomically(path, buffer.getvalue())


def _heat(axes: Axes, heat: Heat) -> None:
    values = _array(heat)
    low, high = _range(heat)
    norm = LogNorm(low, high)
    # What is not above 0 (an unbiased estimate may be below) gets the darkest colour.
    axes.imshow(np.clip(values, low, high), cmap=CMAP, norm=norm, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if math.isfinite(value):
            light = norm(min(max(value, low), high)) > 0.5
            ink = "black" if light else "white"
            axes.text(j, i, _short(value), ha="center", va="center", color=ink, fontsize=10)
    axes.set_xticks(range(len(heat.columns)), [str(s) for s in heat.columns])
    axes.set_yticks(range(len(heat.rows)), [_eta(row) for row in heat.rows])
    axes.set_xlabel("steps S")
    axes.set_title(heat.title, fontsize=11)
    axes.tick_params(length=0)
    for i in range(1, len(heat.rows)):
        axes.axhline(i - 0.5, color="white", lw=1)
    for j in range(1, len(heat.columns)):
        axes.axvline(j - 0.5, color="white", lw=1)


def _curves(axes: Axes, heat: Heat) -> None:
    low, high = _range(heat)
    found = _array(heat)
    values = np.clip(found, low, None)
    for i, (row, y) in enumerate(zip(heat.rows, values, strict=True)):
        colour, marker = OKABE_ITO[i % len(OKABE_ITO)], MARKERS[i % len(MARKERS)]
        order = np.argsort(heat.columns)
        x = np.array(heat.columns)[order]
        axes.plot(x, y[order], color=colour, marker=marker, ms=5, label=_eta(row))
    if heat.floor is not None and heat.floor > 0:
        axes.axhline(heat.floor, color="0.4", ls="--", lw=1, label="real data")
        low = min(low, heat.floor)
    axes.set(xscale="log", yscale="log", ylim=(low / 1.3, high * 1.3))
    axes.set_xticks(heat.columns, [str(s) for s in heat.columns])
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda y, _: _short(y))
    axes.minorticks_off()
    axes.set_xlabel("steps S")
    if (found <= 0).any():
        axes.text(0.02, 0.015, "at the bottom: 0 or less", transform=axes.transAxes, color="0.3")
    axes.set_title(f"{heat.metric}, lower is better", fontsize=11)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _array(heat: Heat) -> np.ndarray:
    shape = len(heat.rows), len(heat.columns)
    return np.array(heat.values, dtype=float).reshape(shape)  # None becomes NaN


def _range(heat: Heat) -> tuple[float, float]:
    """Ends of the logarithmic scale: the positive values, apart even if there is one only."""
    values = _array(heat)
    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size:
        return 0.1, 1.0
    low, high = float(positive.min()), float(positive.max())
    return (low, high) if high > 1.01 * low else (low / 1.5, high * 1.5)


def _short(value: float) -> str:
    """Three digits, in the fewest characters."""
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e")


def _eta(row: str) -> str:
    return r"$\hat\sigma$" if row == "hat" else rf"$\eta={row}$"
