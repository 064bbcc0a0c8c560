"""DDIM's Table 1 for any network: a distance for every noise eta and number of steps S.

The published numbers (2010.02502, Table 1) are FIDs of 50,000 samples of the CIFAR-10 network. A
table measured here has another metric, another network and fewer samples: what can be compared is
its shape (see ``shape``).

Do not expect sigma-hat to lose everywhere. Its variance is right for data that fill space, N(0, I),
and too large for data on thin sheets, as images are (DDPM, 2006.11239, section 3.2): on the shipped
networks for points it is the best row at S = 10.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from .._checks import check_choice, check_count
from .._files import write_atomically
from ..nets.switches import Precision
from .generate import Labels, Sampling

__all__ = [
    "HAT",
    "PUBLISHED",
    "PUBLISHED_STEPS",
    "Plan",
    "Table",
    "filled",
    "parse_etas",
    "parse_steps",
    "published",
    "shape",
]

HAT = "hat"  # sigma-hat, DDIM's name for DDPM's larger variance: ``variance="large"``
FORMAT = "diffusion_edu table 1"

# 2010.02502, Table 1, CIFAR-10: FID at these steps, one row for each eta.
PUBLISHED_STEPS = (10, 20, 50, 100, 1000)
PUBLISHED = {
    "0": (13.36, 6.84, 4.67, 4.16, 4.04),
    "0.2": (14.04, 7.11, 4.77, 4.25, 4.09),
    "0.5": (16.66, 8.35, 5.25, 4.46, 4.29),
    "1": (41.07, 18.36, 8.01, 5.78, 4.73),
    HAT: (367.43, 133.37, 32.72, 9.99, 3.17),
}
FEW = (10, 20, 50)  # the steps at which the paper's claim is that eta = 0 wins
FAR = 3  # "by far" the worst: that many times the next; the paper's 367.43 is 9 times

T = TypeVar("T")
Key = tuple[str, int]  # a cell: eta as in ``parse_etas``, steps


@dataclass(frozen=True)
class Plan:
    """Which cells, and how the samples of each are drawn.

    Every cell has the same seed, so starts from the same noise: differences between cells are then
    of the sampler, not of the draw.

    Attributes:
        etas: rows, as ``parse_etas`` writes them.
        steps: columns.
        n: samples a cell.
        seed, batch, labels, precision: see ``Sampling``.
    """

    etas: tuple[str, ...] = tuple(PUBLISHED)
    steps: tuple[int, ...] = PUBLISHED_STEPS
    n: int = 1000
    seed: int = 0
    batch: int = 250
    labels: Labels = "balanced"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        check_count(self.n, 2, None, "n")
        object.__setattr__(self, "etas", parse_etas(",".join(self.etas)))
        object.__setattr__(self, "steps", parse_steps(",".join(map(str, self.steps))))
        self.sampling(self.etas[0], self.steps[0])  # checks the rest

    @property
    def cells(self) -> list[Key]:
        """All cells, cheap columns first: a first impression comes early."""
        return [(eta, steps) for steps in sorted(self.steps) for eta in self.etas]

    @property
    def how(self) -> dict[str, Any]:
        """What every cell has in common, as plain values."""
        return {k: v for k, v in asdict(self).items() if k not in ("etas", "steps")}

    def sampling(self, eta: str, steps: int) -> Sampling:
        """How the samples of one cell are drawn."""
        large = eta == HAT
        return Sampling(
            steps=steps,
            eta=1.0 if large else float(eta),
            variance="large" if large else "eta",
            **self.how,
        )


def parse_etas(text: str) -> tuple[str, ...]:
    """ "0, 0.20,hat" -> ("0", "0.2", "hat"). ValueError names what is no eta in [0, 1]."""
    return tuple(_once(map(_eta, _items(text, "--eta", "0,0.5,1,hat")), "--eta"))


def parse_steps(text: str) -> tuple[int, ...]:
    """ "10,20" -> (10, 20). ValueError names what is no number of steps."""
    return tuple(_once(map(_step_count, _items(text, "--steps", "10,20,50")), "--steps"))


def _items(text: str, name: str, example: str) -> list[str]:
    items = [item.strip() for item in text.split(",")]
    if not all(items):
        raise ValueError(f"{name} must be a list like {example}, got {text!r}")
    return items


def _eta(item: str) -> str:
    try:
        value = 1.0 if item == HAT else float(item)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise ValueError(f"--eta must hold numbers in [0, 1] or {HAT!r}, got {item!r}")
    return HAT if item == HAT else f"{value:.12g}"


def _step_count(item: str) -> int:
    if not (item.isascii() and item.isdigit()) or int(item) < 1:
        raise ValueError(f"--steps must hold whole numbers >= 1, got {item!r}")
    return int(item)


def _once(items: Iterable[T], name: str) -> list[T]:
    found: list[T] = []
    for item in items:
        if item in found:
            raise ValueError(f"{name} must name every value once, got {item!r} twice")
        found.append(item)
    return found


# ---- a table and its file ------------------------------------------------------------------------


@dataclass
class Table:
    """Cells measured so far.

    Attributes:
        about: what the numbers are numbers of: model, data, n, seed, ... as plain values.
        metrics: names of the numbers in a cell; the first is the one that pictures show.
        floor: the same numbers for real examples in place of samples.
        floor_n: how many these were; fewer than n where there are not so many.
        official: False if the data compared with are not the published ones.
        values: (eta, steps) -> {metric: number}.
    """

    about: dict[str, Any]
    metrics: tuple[str, ...]
    floor: dict[str, float] = field(default_factory=dict)
    floor_n: int = 0
    official: bool = True
    values: dict[Key, dict[str, float]] = field(default_factory=dict)

    def grid(
        self, etas: Sequence[str], steps: Sequence[int], metric: str | None = None
    ) -> list[list[float | None]]:
        """Numbers by row and column; None where a cell is missing."""
        name = metric or self.metrics[0]
        return [[self.values.get((eta, s), {}).get(name) for s in steps] for eta in etas]

    def save(self, path: Path) -> None:
        """Write all of it as JSON, atomically."""
        cells = [{"eta": eta, "steps": s, **v} for (eta, s), v in self.values.items()]
        parts = {key: value for key, value in vars(self).items() if key != "values"}
        content = {"format": FORMAT, **parts, "cells": cells}
        text = json.dumps(content, indent=2) + "\n"
        write_atomically(path, text.encode())

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read what ``save`` wrote; ValueError if that is something else."""
        try:
            content = json.loads(path.read_text())
            if content["format"] != FORMAT:
                raise KeyError("format")
            about, metrics = dict(content["about"]), tuple(content["metrics"])
            floor = content["floor"], content["floor_n"], content["official"]
            table = cls(about, metrics, *floor)
            for cell in content["cells"]:
                key = str(cell["eta"]), int(cell["steps"])
                table.values[key] = {name: float(cell[name]) for name in metrics}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not a table that this library wrote ({error!r}): use another --out"
            ) from error
        return table

    def resume(self, path: Path) -> None:
        """Take over the cells of a file, rows and columns not asked for included.

        Raises:
            ValueError: they are of other settings; the differences are named.
        """
        old = Table.load(path)
        mine, theirs = self.about, old.about
        wrong = [
            f"{key}={theirs.get(key)!r} (now {mine.get(key)!r})"
            for key in {**mine, **theirs}
            if theirs.get(key) != mine.get(key)
        ]
        if wrong:
            raise ValueError(
                f"{path} was measured with {', '.join(wrong)}: give the same settings to go on, "
                "or another --out for a new table"
            )
        self.values.update(old.values)


def published() -> Table:
    """The paper's table: FID on CIFAR-10 of 50,000 samples a cell."""
    about = {"model": "DDPM, CIFAR-10", "data": "cifar10", "n": 50_000}
    return filled(about, "FID", PUBLISHED, PUBLISHED_STEPS)


def filled(
    about: dict[str, Any], metric: str, rows: Mapping[str, Sequence[float]], steps: Sequence[int]
) -> Table:
    """The table with these numbers: a row for each eta, a column for each of ``steps``."""
    values = {
        (eta, s): {metric: value}
        for eta, row in rows.items()
        for s, value in zip(steps, row, strict=True)
    }
    return Table(about, (metric,), values=values)


def shape(table: Table, metric: str | None = None) -> dict[str, bool]:
    """Does the table say what the paper's says? One answer for each claim that can be checked.

    eta = 0 is the best row at S = 10, 20 and 50; sigma-hat is the worst at S = 10, ``FAR`` times
    the next; eta = 0 falls from each S to the next. Claims about missing cells are left out.
    """
    name = metric or table.metrics[0]
    check_choice(name, table.metrics, "metric")
    cells = {key: value[name] for key, value in table.values.items()}
    answers = {}
    for s in FEW:
        others = _column(cells, s, without="0")
        if others and ("0", s) in cells:
            answers[f"eta=0 is the best at S={s}"] = cells["0", s] <= min(others)
    others = _column(cells, FEW[0], without=HAT)
    if others and (HAT, FEW[0]) in cells:
        far = cells[HAT, FEW[0]] >= FAR * max(others) and cells[HAT, FEW[0]] > 0
        answers[f"{HAT} is the worst at S={FEW[0]} by far"] = far
    row = [cells["0", s] for s in sorted(s for eta, s in cells if eta == "0")]
    if len(row) > 1:
        falls = all(a >= b for a, b in pairwise(row))
        answers["eta=0 falls with S"] = falls
    return answers


def _column(cells: Mapping[Key, float], steps: int, without: str) -> list[float]:
    return [value for (eta, s), value in cells.items() if s == steps and eta != without]
