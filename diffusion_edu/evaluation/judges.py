"""One number, or two, for how far the samples of a network are from its data."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn

from .. import _parallel
from ..data import toy
from ..data.images import load
from ..metrics import mmd2, sliced_wasserstein2
from ..schedules import Schedule
from .features import crop, features_for
from .generate import Sampling, chunks, generate
from .real import evenly_spaced, parts
from .statistics import FeatureStatistics, summarise

__all__ = ["About", "ImageJudge", "Judge", "PointJudge"]

REFERENCE_SEED = 3_000_000_000  # of the points samples are compared with; the floor's is one more


class About(Protocol):
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


class Judge(Protocol):
    """Draws samples and says how far they are from the data.

    Attributes:
        metrics: names of the numbers.
        floor: the same numbers for real data in place of samples, ``floor_n`` examples.
        official: False if the data, or what looks at them, is not the published one.
    """

    metrics: tuple[str, ...]
    floor: dict[str, float]
    floor_n: int
    official: bool

    def __call__(self, plan: Sampling) -> dict[str, float]:
        """The numbers of samples drawn by ``plan``, the same in all processes."""


class ImageJudge:
    """FD of classifier features to the test set; the floor is that of as many training images.

    Args:
        model: judged as it is at each call.
    """

    metrics: tuple[str, ...] = ("FD",)

    def __init__(self, model: nn.Module, schedule: Schedule, about: About, n: int) -> None:
        self.model, self.schedule, self.about = model, schedule, about
        self.space = features_for(about.data, _device(model))
        training, test = load(about.data), load(about.data, "test")
        self.official = training.official and test.official and self.space.info.official
        some = evenly_spaced(training.images, n)
        self.real = summarise(parts(test.images), self.space)
        floor = summarise(parts(some), self.space)
        self.floor, self.floor_n = self._distance(floor), len(some)

    def __call__(self, plan: Sampling) -> dict[str, float]:
        """FD of samples drawn by ``plan``."""
        drawn = generate(self.model, self.schedule, self.about.shape, plan, progress=False)
        cropped = ((crop(images, self.about.pad), labels) for images, labels in drawn)
        return self._distance(summarise(cropped, self.space))

    def _distance(self, fake: FeatureStatistics) -> dict[str, float]:
        return {"FD": fake.moments.distance(self.real.moments)}


class PointJudge:
    """MMD^2 and SW2 to a fresh draw of the data; the floor is that of a second one."""

    metrics: tuple[str, ...] = ("MMD2", "SW2")
    official = True

    def __init__(self, model: nn.Module, schedule: Schedule, about: About, n: int) -> None:
        self.model, self.schedule = model, schedule
        self.real = toy.load(about.data, n, REFERENCE_SEED).to(_device(model))
        second = toy.load(about.data, n, REFERENCE_SEED + 1).to(_device(model))
        self.floor, self.floor_n = self._distance(second), n

    def __call__(self, plan: Sampling) -> dict[str, float]:
        """MMD^2 and SW2 of samples drawn by ``plan``."""
        # Points have no bounds and no classes.
        shape, free = tuple(self.real.shape[1:]), replace(plan, clip=None)
        drawn = chunks(self.model, self.schedule, shape, free, progress=False)
        empty = torch.empty(0, *shape, device=self.real.device)  # of a process without a chunk
        return self._distance(_parallel.gather(torch.cat([empty, *(x for x, _ in drawn)])))

    def _distance(self, x: Tensor) -> dict[str, float]:
        mmd = mmd2(x, self.real, bandwidth=toy.BANDWIDTH)
        return {"MMD2": float(mmd), "SW2": float(sliced_wasserstein2(x, self.real))}


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
