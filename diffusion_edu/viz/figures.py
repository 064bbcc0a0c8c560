"""Plain figures of points."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

__all__ = ["save_scatter"]


def save_scatter(points: Tensor, path: Path) -> None:
    """Write a picture of points (n, 2) to ``path``, on axes of equal scale."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.scatter(points[:, 0].numpy(), points[:, 1].numpy(), s=2, alpha=0.5, linewidths=0)
    axes.set_aspect("equal")
    figure.savefig(path, dpi=150)
