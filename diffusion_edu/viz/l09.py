"""Pictures of lecture 09: particles on a line, over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .plots import COLOURS, Picture, as_array, new_figure

__all__ = ["over_time"]


def over_time(walks: Mapping[str, Tensor], times: Sequence[float] | Tensor) -> Picture:
    """Paths of particles on a line: label -> (steps, n), one panel for each, noise on the left.

    Args:
        walks: one column for each particle.
        times: (steps,), decreasing.
    """
    figure, axes = new_figure(len(walks), 1, (4.0 * len(walks), 3.2))
    at = as_array(times)
    everything = [as_array(walk) for walk in walks.values()]
    limit = 1.05 * max(abs(walk).max() for walk in everything)
    for axis, (label, walk) in zip(axes.flat, zip(walks, everything, strict=True), strict=True):
        _paths(axis, at, walk)
        axis.set(xlim=(at[0], at[-1]), ylim=(-limit, limit), xlabel="time t", ylabel="x")
        axis.set_title(label, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    return Picture(figure, f"Paths over time: {', '.join(walks)}")


def _paths(axis: Any, at: Any, walk: Any) -> None:
    for k, one in enumerate(walk.T):
        axis.plot(at, one, lw=0.9, color=COLOURS[k % 6], alpha=0.8)
        axis.plot(at[-1:], one[-1:], "o", ms=4, color=COLOURS[k % 6], clip_on=False)
