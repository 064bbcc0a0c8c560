"""DDIM's tables over noise and steps: both published ones, one of ours, and their picture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..viz.plots import Picture, new_figure, shade_cells
from .table import HAT, PUBLISHED, Table, filled

__all__ = ["CELEBA", "measured_mnist", "published_celeba", "tables"]

# 2010.02502, Table 1, CelebA at 64 x 64: FID, one row for each eta.
CELEBA_STEPS = (10, 20, 50, 100, 1000)
CELEBA = {
    "0": (17.33, 13.73, 9.17, 6.53, 3.51),
    "0.2": (17.66, 14.11, 9.51, 6.79, 3.64),
    "0.5": (19.86, 16.06, 11.01, 8.09, 4.28),
    "1": (33.12, 26.03, 18.48, 13.93, 5.98),
    HAT: (299.71, 183.83, 71.71, 45.20, 3.26),
}

# diffusion-edu table --model mnist --steps 10,20,50,100 --n 500
MNIST_STEPS = (10, 20, 50, 100)
MNIST_FLOOR = 0.182  # the same distance for 500 real images
MNIST = {
    "0": (0.2425, 0.199, 0.199, 0.2045),
    "0.2": (0.254, 0.2165, 0.1757, 0.1812),
    "0.5": (0.2536, 0.2043, 0.19, 0.179),
    "1": (0.2656, 0.1656, 0.1046, 0.1144),
    HAT: (3.699, 1.739, 0.4188, 0.2213),
}


def published_celeba() -> Table:
    """DDIM's Table 1, right half: FID of 50,000 samples."""
    about = {"model": "DDPM, CelebA 64 x 64", "data": "celeba", "n": 50_000}
    return filled(about, "FID", CELEBA, CELEBA_STEPS)


def measured_mnist() -> Table:
    """Ours: Frechet distance in the features of a small classifier, 500 samples a cell."""
    table = filled({"model": "mnist", "data": "mnist", "n": 500}, "FD", MNIST, MNIST_STEPS)
    table.floor, table.floor_n = {"FD": MNIST_FLOOR}, 500
    return table


def tables(found: Mapping[str, Table]) -> Picture:
    """Tables, title -> table, one below the other: rows eta, columns S; shades are logarithms.

    The shades of each run over its own numbers: they compare within a table, not between two.
    """
    figure, axes = new_figure(1, len(found), (6.4, 2.1 * len(found)))
    widest = max(len({s for _, s in one.values}) for one in found.values())
    for axis, (title, one) in zip(axes.flat, found.items(), strict=True):
        steps, etas = sorted({s for _, s in one.values}), list(PUBLISHED)
        values = np.array(one.grid(etas, steps), float)
        shade_cells(axis, values, np.log(values), digits=4)
        axis.set_xlim(-0.5, widest - 0.5)  # cells of one width in all tables
        axis.spines[:].set_visible(False)
        axis.set_xticks(range(len(steps)), [f"S = {s}" if s == steps[0] else str(s) for s in steps])
        axis.set_yticks(range(len(etas)), [_row(eta) for eta in etas])
        axis.tick_params(length=0)
        axis.set_title(f"{title}, {one.metrics[0]}", fontsize=10, loc="left")
    words = [
        f"{t}: {', '.join(f'{v:.4g}' for v in _best(one))} at best" for t, one in found.items()
    ]
    return Picture(figure, "Tables of eta and S. " + "; ".join(words))


def _row(eta: str) -> str:
    return r"$\hat\sigma$" if eta == HAT else rf"$\eta$ = {eta}"


def _best(table: Table) -> list[float]:
    """The smallest number of each column."""
    name = table.metrics[0]
    steps = sorted({s for _, s in table.values})
    return [min(v[name] for (_, s), v in table.values.items() if s == one) for one in steps]
