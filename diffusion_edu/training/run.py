"""The folder of a run: its metrics as CSV and picture, samples on the way."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from .. import _parallel
from .._files import write_atomically
from ..evaluation.classifier_files import classifier_names
from ..evaluation.generate import Sampling, generate
from ..evaluation.judges import ImageJudge
from ..schedules import Schedule
from .loop import Record
from .recipes import ImageRecipe, Recipe

__all__ = ["Run"]

COLUMNS, ROWS = 10, 8  # of a grid of samples


class Run:
    """What a training run leaves on disk beside its checkpoint.

        metrics.csv           a row for every record; curves.png draws it
        samples/00001000.png  samples of the averaged weights after that many steps, always from
                              the same noise; a column for each class where there are classes
        fd.csv                at the same moments, if ``fd`` is not 0: FD (classifier features) of
                              that many samples to the test set, and of as many training images
                              (floor); fd.png draws it over seconds of training

    Args:
        folder: made when something is written.
        plan: the recipe that is trained.
        fd: samples (DDIM, 50 steps) for the distance.
    """

    def __init__(
        self, folder: Path, plan: Recipe | ImageRecipe, schedule: Schedule, fd: int = 0
    ) -> None:
        if fd and not (isinstance(plan, ImageRecipe) and plan.data in classifier_names()):
            raise ValueError(
                f"fd={fd} needs a classifier of the data, and none is shipped for {plan.data!r}, "
                f"but for {', '.join(classifier_names())}: use fd=0"
            )
        self.folder, self.plan, self.schedule, self.fd = folder, plan, schedule, fd
        self.judge: ImageJudge | None = None  # made when first needed: it looks at all test images

    def write(self, record: Record, shape: tuple[int, ...]) -> None:
        """Bring the files up to date: the first process does; all of them measure.

        Args:
            shape: (C, H, W) of the images as the network takes them.
        """
        from ..viz.curves import save_curves

        if _parallel.rank() == 0:
            _write_rows(self.folder / "metrics.csv", record.log)
            save_curves(record.log, self.folder / "curves.png")
        plan = self.plan
        if isinstance(plan, ImageRecipe):
            last = record.step == plan.config.steps
            if last or record.step // plan.config.every % plan.pictures == 0:
                self._picture(record.ema, record.step, shape)
                if self.fd:
                    self._distance(record, plan, shape)

    def _picture(self, model: nn.Module, step: int, shape: tuple[int, ...]) -> None:
        from ..viz.images import save_image, tile

        if _parallel.rank():
            return
        n = COLUMNS * ROWS
        plan = Sampling(n=n, batch=n, precision=self.plan.config.precision)
        chunks = generate(model, self.schedule, shape, plan, progress=False)
        sheet = tile(torch.cat([images for images, _ in chunks]), COLUMNS)
        path = self.folder / "samples" / f"{step:08}.png"
        save_image(sheet, path, zoom=max(1, 64 // shape[-1]))

    def _distance(self, record: Record, plan: ImageRecipe, shape: tuple[int, ...]) -> None:
        from ..viz.curves import save_distance

        if self.judge is None:
            about = _About(plan.data, shape, plan.pad)
            self.judge = ImageJudge(record.ema, self.schedule, about, self.fd)
        how = Sampling(n=self.fd, precision=plan.config.precision)
        row = {"step": record.step, "images": record.images, "seconds": record.seconds}
        row |= self.judge(how) | {"floor": self.judge.floor["FD"], "n": self.fd}
        if _parallel.rank() == 0:
            path = self.folder / "fd.csv"
            rows = [old for old in _read_rows(path) if old["step"] < record.step] + [row]
            _write_rows(path, rows)
            save_distance(rows, self.folder / "fd.png")


class _About(NamedTuple):
    """What a judge must know of a network in training."""

    data: str
    shape: tuple[int, ...]
    pad: int


def _read_rows(path: Path) -> list[dict[str, float]]:
    """The rows of a file of numbers; none if it is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{key: _number(text) for key, text in row.items()} for row in csv.DictReader(file)]


def _number(text: str) -> float:
    return int(text) if text.isdigit() else float(text)


def _write_rows(path: Path, rows: Sequence[Mapping[str, float]]) -> None:
    text = io.StringIO()
    out = csv.DictWriter(text, rows[0], lineterminator="\n")
    out.writeheader()
    out.writerows(rows)
    write_atomically(path, text.getvalue().encode())
