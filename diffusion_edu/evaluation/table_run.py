"""Measuring the cells of a table: what is drawn, what it is compared with, what is written when."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import _parallel
from ..data import toy
from ..data.images import load
from ..metrics import frechet_distance, mmd2, sliced_wasserstein2
from ..schedules import Schedule
from ..spacing import timesteps
from .features import crop, features_for
from .generate import Sampling, chunks, generate
from .real import evenly_spaced, parts
from .statistics import FeatureStatistics, gather, summarise
from .table import Plan, Table

__all__ = ["Info", "measure_table"]

REFERENCE_SEED = 3_000_000_000  # of the points samples are compared with; the floor's is one more


class Info(Protocol):
    """What must be known of a network, as ``pretrained`` tells it."""

    @property
    def data(self) -> str:
        """Name of its data set."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) with padding, or (2,)."""

    @property
    def pad(self) -> int:
        """Black pixels on every side of an image that are not part of the data."""

    @property
    def path(self) -> Path:
        """File of the weights."""


class _Judge(Protocol):
    """Draws the samples of a cell and says how far they are from the data."""

    metrics: tuple[str, ...]
    floor: dict[str, float]
    floor_n: int
    official: bool

    def __call__(self, plan: Sampling) -> dict[str, float]:
        """The numbers of one cell, the same in all processes."""


class _Images:
    """FD of classifier features to the test set; the floor is that of as many training images."""

    metrics: tuple[str, ...] = ("FD",)

    def __init__(self, model: nn.Module, schedule: Schedule, info: Info, n: int) -> None:
        self.model, self.schedule, self.info = model, schedule, info
        self.space = features_for(info.data, _device(model))
        training, test = load(info.data), load(info.data, "test")
        self.official = training.official and test.official and self.space.info.official
        some = evenly_spaced(training.images, n)
        self.real = summarise(parts(test.images), self.space)
        floor = summarise(parts(some), self.space)
        self.floor, self.floor_n = self._distance(floor), len(some)

    def __call__(self, plan: Sampling) -> dict[str, float]:
        drawn = generate(self.model, self.schedule, self.info.shape, plan, progress=False)
        cropped = ((crop(images, self.info.pad), labels) for images, labels in drawn)
        return self._distance(summarise(cropped, self.space))

    def _distance(self, fake: FeatureStatistics) -> dict[str, float]:
        a, b = fake.moments, self.real.moments
        fd = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
        return {"FD": float(fd)}


class _Points:
    """MMD^2 and SW2 to a fresh draw of the data; the floor is that of a second one."""

    metrics: tuple[str, ...] = ("MMD2", "SW2")
    official = True

    def __init__(self, model: nn.Module, schedule: Schedule, info: Info, n: int) -> None:
        self.model, self.schedule = model, schedule
        self.real = toy.load(info.data, n, REFERENCE_SEED).to(_device(model))
        second = toy.load(info.data, n, REFERENCE_SEED + 1).to(_device(model))
        self.floor, self.floor_n = self._distance(second), n

    def __call__(self, plan: Sampling) -> dict[str, float]:
        shape, free = tuple(self.real.shape[1:]), replace(plan, clip=None)  # no bounds, no classes
        drawn = chunks(self.model, self.schedule, shape, free, progress=False)
        empty = torch.empty(0, *shape, device=self.real.device)  # of a process without a chunk
        return self._distance(gather(torch.cat([empty, *(x for x, _ in drawn)])))

    def _distance(self, x: Tensor) -> dict[str, float]:
        mmd = mmd2(x, self.real, bandwidth=toy.BANDWIDTH)
        return {"MMD2": float(mmd), "SW2": float(sliced_wasserstein2(x, self.real))}


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
        resume: take over the cells that are in the file.
        overwrite: begin anew though there is a file.

    Raises:
        FileExistsError: there is a file, and neither ``resume`` nor ``overwrite`` is given.
        ValueError: the file is of other settings (which are named); more steps than the chain has;
            no classifier for these images.
    """
    for steps in plan.steps:
        timesteps(schedule.T, steps)  # complains of too many now, not after hours
    table = _begin(info, plan, name or info.data, path, resume, overwrite)
    judge = _judge(model, schedule, info, plan.n)
    table.metrics, table.official = judge.metrics, judge.official
    table.floor, table.floor_n = judge.floor, judge.floor_n
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


def _judge(model: nn.Module, schedule: Schedule, info: Info, n: int) -> _Judge:
    points = info.data in toy.names()
    return (_Points if points else _Images)(model, schedule, info, n)


@contextmanager
def _bar(
    model: nn.Module, plan: Plan, todo: list[tuple[str, int]], progress: bool
) -> Iterator[Callable[[str], Any]]:
    """A bar over all cells that moves with every call of the network, so its ETA is honest."""
    sizes = [min(plan.batch, plan.n - start) for start in range(0, plan.n, plan.batch)]
    mine = sum(sizes[_parallel.rank() :: _parallel.world()])
    total = mine * sum(steps for _, steps in todo)
    quiet = None if progress and _parallel.rank() == 0 else True
    with tqdm(total=total, unit="call", unit_scale=True, disable=quiet) as bar:

        def count(_: nn.Module, given: tuple[Tensor, ...], __: Tensor) -> None:
            bar.update(len(given[0]))

        hook = model.register_forward_hook(count)
        try:
            yield bar.set_description
        finally:
            hook.remove()


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
