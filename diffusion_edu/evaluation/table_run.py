"""Measuring the cells of a table: one after the other, each written when it is done."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn
from tqdm import tqdm

from .. import _parallel
from ..schedules import Schedule
from ..spacing import timesteps
from .judges import About, ImageJudge, Judge, PointJudge
from .table import Plan, Table

__all__ = ["Info", "measure_table"]


class Info(About, Protocol):
    """What must be known of a network, as ``pretrained`` tells it."""

    @property
    def path(self) -> Path:
        """File of the weights."""


def measure_table(
    model: nn.Module,
    schedule: Schedule,
    info: Info,
    plan: Plan,
    path: Path | None = None,
    *,
    name: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
) -> Table:
    """Measure every cell of ``plan`` on the model's device, and write each when it is done.

    Several processes within ``_parallel.together`` share the samples of every cell and return the
    same table; the first one writes.

    Args:
        model: in eval mode, as ``pretrained`` gives it.
        path: JSON file of the table; None: none is written.
        name: what the table calls the network; default: its data set.
        resume, overwrite: of a file that is there: take over its cells, or begin anew.

    Raises:
        FileExistsError: there is a file, and neither ``resume`` nor ``overwrite`` is given.
        ValueError: the file is of other settings (which are named); more steps than the chain has;
            no classifier for these images.
    """
    timesteps(schedule.T, max(plan.steps))  # complains of too many now, not after hours
    table = _begin(info, plan, name or info.data, path, resume, overwrite)
    judge = _judge(model, schedule, info, plan.n, table)
    todo = [cell for cell in plan.cells if cell not in table.values]
    _parallel.wait()  # all have read the file: now it may be written
    with _bar(model, plan, todo, progress) as describe:
        for eta, steps in todo:
            describe(f"eta={eta} S={steps}")
            table.values[eta, steps] = judge(plan.sampling(eta, steps))
            if path is not None and _parallel.rank() == 0:
                table.save(path)
    return table


def _begin(
    info: Info, plan: Plan, name: str, path: Path | None, resume: bool, overwrite: bool
) -> Table:
    """An empty table, or one with the cells of the file."""
    weights = hashlib.sha256(info.path.read_bytes()).hexdigest()
    about = {"model": name, "weights": weights, "data": info.data, **plan.how}
    table = Table(about, ())
    if path is not None and path.exists() and not overwrite:
        if not resume:
            raise FileExistsError(
                f"{path} is there already: --resume goes on with it, --overwrite begins anew"
            )
        table.resume(path)
    return table


def _judge(model: nn.Module, schedule: Schedule, info: Info, n: int, table: Table) -> Judge:
    """Who judges the samples; what is the same in all cells is noted in the table."""
    points = len(info.shape) == 1
    judge: Judge = (PointJudge if points else ImageJudge)(model, schedule, info, n)
    table.metrics, table.official = judge.metrics, judge.official
    table.floor, table.floor_n = judge.floor, judge.floor_n
    return judge


@contextmanager
def _bar(
    model: nn.Module, plan: Plan, todo: list[tuple[str, int]], progress: bool
) -> Iterator[Callable[[str], Any]]:
    """A bar over all cells that moves with every call of the network, so its ETA is honest."""
    mine = slice(_parallel.rank(), None, _parallel.world())
    total = sum(cell[1] * sum(plan.sampling(*cell).sizes[mine]) for cell in todo)
    quiet = _parallel.quiet(progress)
    with tqdm(total=total, unit="call", unit_scale=True, disable=quiet) as bar:

        def count(_: nn.Module, given: tuple[Tensor, ...], __: Tensor) -> None:
            bar.update(len(given[0]))

        hook = model.register_forward_hook(count)
        try:
            yield bar.set_description
        finally:
            hook.remove()
