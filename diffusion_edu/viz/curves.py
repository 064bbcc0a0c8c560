"""A training run at a glance: losses, loss per time, step size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator

from .._files import write_atomically

__all__ = ["save_curves", "save_distance"]

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito: told apart by the colour-blind too
Row = Mapping[str, float | None]  # NaN or None: no value, a gap in the curve


def save_curves(rows: Sequence[Row], path: Path) -> None:
    """Draw the rows of a run's ``metrics.csv`` (see ``training.Record.log``) as a PNG.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("rows must hold at least one record, got none: train a little first")
    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    total, by_time, rate = figure.subplots(1, 3)
    seen = _column(rows, "images")
    _line(total, seen, _column(rows, "loss"), "training", BLUE, "o")
    held = _column(rows, "validation")
    _line(total, seen, held, "validation, averaged weights", ORANGE, "s")
    total.set_title(r"$\|\epsilon - \epsilon_\theta\|^2$ per dimension")
    bins = sum(key.startswith("loss_") for key in rows[0])
    for i in range(bins):
        label = f"{i / bins:.1f} to {(i + 1) / bins:.1f}"
        values = _column(rows, f"loss_{i + 1}")
        _line(by_time, seen, values, label, colormaps["viridis"](i / bins), ".")
    by_time.set_title("training loss by t/T")
    _line(rate, seen, _column(rows, "lr"), "", BLUE, ".")
    rate.set_title("step size of Adam")
    rate.ticklabel_format(axis="y", scilimits=(-2, 2))
    for axes in (total, by_time):
        _log_scale(axes)
    total.legend(fontsize=9, frameon=False)
    # beside the curves: ten lines of text would hide some of them
    beside = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5), "title": "t/T"}
    by_time.legend(fontsize=9, frameon=False, **beside)
    _save(figure, path)


def save_distance(rows: Sequence[Row], path: Path) -> None:
    """Draw the rows of a run's ``fd.csv`` (see ``training.Run``) over seconds of training."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    seconds, n = _column(rows, "seconds"), int(rows[-1]["n"] or 0)
    _line(axes, seconds, _column(rows, "FD"), f"{n:,} samples, DDIM 50 steps", BLUE, "o")
    floor = _column(rows, "floor")
    _line(axes, seconds, floor, f"{n:,} training images", ORANGE, "s")
    axes.set_title("FD (classifier features) to the test set")
    axes.set_xlabel("seconds of training")
    _log_scale(axes)
    axes.legend(fontsize=9, frameon=False)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    buffer = BytesIO()
    figure.savefig(buffer, dpi=120, format="png")
    write_atomically(path, buffer.getvalue())


def _column(rows: Sequence[Row], key: str) -> list[float]:
    return [math.nan if (value := row[key]) is None else value for row in rows]


def _line(
    axes: Axes, x: list[float], y: list[float], label: str, colour: object, marker: str
) -> None:
    shown = marker if len(x) < 40 else None  # without it a single record would be no curve at all
    axes.plot(x, y, color=colour, marker=shown, ms=3, label=label)
    axes.set_xlabel("images seen")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.3)


def _log_scale(axes: Axes) -> None:
    """Logarithmic y with plain numbers, as 0.02."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:.3g}")
    axes.minorticks_off()
