"""A learner's numbers against the right ones."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

__all__ = ["RIGHT", "WRONG", "png", "yours_against_reference"]

SIDE = 2.2  # inches of one panel
MARGIN = 0.6  # inches left of the first panel
MOST = 3  # panels: what takes time is drawing axes
CLOSE = 1e-4  # the tolerance where none is given
HUGE = 1e30  # numbers beyond this cannot be drawn
RIGHT, WRONG = "#0072B2", "#D55E00"  # Okabe-Ito: told apart by everybody

Pairs = Sequence[tuple[Tensor, Tensor]]


def yours_against_reference(
    pairs: Mapping[str, Pairs], tolerances: Mapping[str, float] | None = None
) -> Any:
    """A figure with a panel for each function: on the diagonal, yours is the reference.

    Three panels are drawn, those with wrong numbers first.

    Args:
        pairs: name -> (yours, reference) tensors of the same shape.
        tolerances: name -> largest difference, absolute plus relative, that counts as none.
    """
    near = tolerances or {}
    found = [(k, *_numbers(both, near.get(k, CLOSE))) for k, both in pairs.items() if both]
    found.sort(key=lambda panel: bool(panel[3].all()))  # a stable sort
    shown = found[:MOST]
    width = MARGIN + SIDE * max(1, len(shown))
    figure = Figure(figsize=(width, SIDE + 0.5), dpi=100)
    FigureCanvasAgg(figure)
    for k, panel in enumerate(shown):
        left = (MARGIN + SIDE * k) / width
        axes = figure.add_axes((left, 0.18, (SIDE - 0.45) / width, 0.63))
        _panel(axes, *panel)
        if k == 0:
            axes.set_ylabel("yours", fontsize=8)
    if left_out := len(found) - len(shown):
        figure.text(0.99, 0.01, f"{left_out} more not drawn", fontsize=7, ha="right", va="bottom")
    return figure


def png(figure: Any) -> bytes:
    """The figure as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _numbers(both: Pairs, tolerance: float) -> tuple[Tensor, Tensor, Tensor]:
    """(yours, reference, whether they agree), one entry for every number."""
    yours = torch.cat([g.detach().double().flatten() for g, _ in both])
    wanted = torch.cat([w.detach().double().flatten() for _, w in both])
    near = (yours - wanted).abs() <= tolerance * (1 + wanted.abs())
    return yours, wanted, near | (yours == wanted) | (yours.isnan() & wanted.isnan())


def _panel(axes: Any, name: str, yours: Tensor, wanted: Tensor, same: Tensor) -> None:
    drawn = (yours.abs() < HUGE) & (wanted.abs() < HUGE)  # neither NaN nor infinity
    if drawn.any():
        ends = wanted[drawn].aminmax()
        axes.plot(ends, ends, color="#999999", lw=1, zorder=0)
    for mask, marker, size, color in ((same, "o", 4, RIGHT), (~same, "x", 5, WRONG)):
        points = drawn & mask
        axes.plot(wanted[points], yours[points], marker, ms=size, color=color, alpha=0.8)
    wrong, lost = int((~same).sum()), int((~same & ~drawn).sum())
    says = f"{wrong} of {len(same)} differ" if wrong else f"all {len(same)} agree"
    if lost:
        axes.text(
            0.97, 0.03, f"{lost} not finite", fontsize=7, ha="right", transform=axes.transAxes
        )
    axes.set_title(f"{name}\n{says}", fontsize=8, color=WRONG if wrong else "black")
    axes.set_xlabel("reference", fontsize=8)
    axes.locator_params(nbins=4)
    axes.tick_params(labelsize=7)
