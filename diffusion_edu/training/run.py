"""The folder of a run: its checkpoint, its metrics as CSV and picture, samples on the way."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import torch
from torch import nn

from .. import _parallel
from .._files import write_atomically
from ..evaluation.generate import Sampling, generate
from ..schedules import Schedule
from .loop import Record
from .recipes import ImageRecipe, Recipe

__all__ = ["Run"]

COLUMNS, ROWS = 10, 8  # of a grid of samples


class Run:
    """What a training run leaves on disk.

        checkpoint.pt         everything to go on with (see ``train``)
        metrics.csv           a row for every record; curves.png draws it
        samples/00001000.png  samples of the averaged weights after that many steps, always from
                              the same noise; a column for each class where there are classes

    Args:
        folder: made when something is written.
        plan: the recipe that is trained.
    """

    def __init__(self, folder: Path, plan: Recipe | ImageRecipe, schedule: Schedule) -> None:
        self.folder, self.plan, self.schedule = folder, plan, schedule

    @property
    def checkpoint(self) -> Path:
        """The checkpoint file."""
        return self.folder / "checkpoint.pt"

    def write(self, record: Record, shape: tuple[int, ...]) -> None:
        """Bring the files up to date; only the first process does."""
        from ..viz.curves import save_curves

        if _parallel.rank():
            return
        text = io.StringIO()
        rows = csv.DictWriter(text, record.log[0], lineterminator="\n")
        rows.writeheader()
        rows.writerows(record.log)
        data = text.getvalue().encode()
        write_atomically(self.folder / "metrics.csv", lambda file: file.write(data))
        save_curves(record.log, self.folder / "curves.png")
        plan = self.plan
        if isinstance(plan, ImageRecipe):
            last = record.step == plan.config.steps
            if last or record.step // plan.config.every % plan.pictures == 0:
                self._picture(record.ema, record.step, shape)

    def _picture(self, model: nn.Module, step: int, shape: tuple[int, ...]) -> None:
        from ..viz.images import save_image, tile

        n = COLUMNS * ROWS
        plan = Sampling(n=n, batch=n, precision=self.plan.config.precision)
        chunks = generate(model, self.schedule, shape, plan, progress=False)
        sheet = tile(torch.cat([images for images, _ in chunks]), COLUMNS)
        path = self.folder / "samples" / f"{step:08}.png"
        save_image(sheet, path, zoom=max(1, 64 // shape[-1]))
