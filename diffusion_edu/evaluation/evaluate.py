"""Everything that is said about an image network, in one pass: ``evaluate(...) -> Report``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import _parallel
from .._checks import check_count
from ..data.images import ImageSet, load
from ..nets.unet import has_variance
from ..schedules import Schedule
from .features import Features, crop, features_for
from .generate import Sampling, generate
from .inception import Inception, inception_metrics
from .likelihood import BitsPerDim, bits_per_dim_of
from .memorisation import Memorisation, memorisation
from .real import Part, evenly_spaced, parts
from .report import Classes, Cost, Distances, Report, Space
from .statistics import FeatureStatistics, summarise

__all__ = ["Wanted", "evaluate"]

SHOWN = 100  # samples in a report's picture
BITS_BATCH = 64  # test images at once; the noise depends on it, so it is no option


@dataclass(frozen=True)
class Wanted:
    """What to measure beside the distances.

    Attributes:
        bits: test images for bits per dimension, 0 for none; each costs T network calls.
        neighbours: samples (and as many test images) whose nearest training image is looked for.
        inception: also the FID and KID of Inception features; needs the extra ``fid``.
        inception_weights: file of the Inception weights; None: downloaded.
        classifier: file of the classifier; None: the shipped one.
    """

    bits: int = 128
    neighbours: int = 1000
    inception: bool = False
    inception_weights: Path | None = None
    classifier: Path | None = None

    def __post_init__(self) -> None:
        if self.bits != 0:  # 2: a standard error needs two
            check_count(self.bits, 2, None, "bits")
        check_count(self.neighbours, 1, None, "neighbours")


def evaluate(
    model: nn.Module,
    schedule: Schedule,
    data_name: str,
    plan: Sampling | None = None,
    wanted: Wanted | None = None,
    *,
    pad: int = 0,
    progress: bool = False,
) -> Report:
    """Draw samples by ``plan`` and measure them, on the model's device; leaves it in eval mode.

    Memory does not grow with plan.n (but for Inception, which needs all samples at once). Several
    processes within ``_parallel.together`` share the work and return the same report; Inception's
    figures are in that of the first alone.

    Args:
        model: UNet, model(x_t, t) or model(x_t, t, y).
        data_name: a name for ``images.load`` that has a classifier (see ``classifier_names``).
        pad: zeros put around each image for the network; cut off before anything is compared.

    Raises:
        ValueError: no classifier for this data; fewer than 2 samples.
    """
    plan, wanted, began = plan or Sampling(), wanted or Wanted(), time.monotonic()
    check_count(plan.n, 2, None, "plan.n")
    device = next(model.eval().parameters()).device
    space = features_for(data_name, device, wanted.classifier)
    training, test = load(data_name), load(data_name, "test")
    job = _Job(model, schedule, training, test, pad, plan, wanted, space, progress)
    return job.report(data_name, began)


@dataclass(frozen=True)
class _Job:
    """One evaluation: of what, with what."""

    model: nn.Module
    schedule: Schedule
    training: ImageSet
    test: ImageSet
    pad: int
    plan: Sampling
    wanted: Wanted
    space: Features
    progress: bool

    def report(self, data_name: str, began: float) -> Report:
        """All of it; ``began`` is when the clock was started."""
        training, space = self.training, self.space
        real, floor = self._yardsticks()
        fake, samples = self._draw()
        few = samples[: self.wanted.neighbours]
        memory = self._memory(few)
        bits, inception = self._bits(told=fake.wanted > 0), self._inception(samples)
        return Report(
            data=data_name,
            official=training.official and self.test.official and space.info.official,
            plan=self.plan,
            space=Space(space.name, space.dim, real.accuracy or 0.0),
            samples=Distances.between(fake, real),
            floor=Distances.between(floor, real),
            classes=Classes.of(fake, training),
            memory=memory,
            bits=bits,
            inception=inception,
            cost=Cost(time.monotonic() - began, str(space.device), _parallel.world()),
            pictures=few[:SHOWN],
            nearest=training.images[memory.samples.which[:SHOWN].cpu()],
        )

    def _yardsticks(self) -> tuple[FeatureStatistics, FeatureStatistics]:
        """Statistics of the test images, and of n training images, which are as near as one can."""
        images, labels = self.test.images, self.test.labels
        some = evenly_spaced(self.training.images, self.plan.n)
        real = parts(images, labels, what="test images", progress=self.progress)
        floor = parts(some, what="training images", progress=self.progress)
        return summarise(real, self.space), summarise(floor, self.space)

    def _draw(self) -> tuple[FeatureStatistics, Tensor]:
        """Statistics of all samples; the first of them as they are, on the CPU, to look at."""
        pad, wanted, shape = self.pad, self.wanted, self.test.images.shape[1:]
        kept: list[Tensor] = [torch.empty(0, *shape, dtype=torch.uint8)]
        limit = self.plan.n if wanted.inception else max(SHOWN, wanted.neighbours)

        def cropped() -> Iterator[Part]:
            padded = (shape[0], shape[1] + 2 * pad, shape[2] + 2 * pad)
            drawn = generate(self.model, self.schedule, padded, self.plan, progress=self.progress)
            for images, labels in drawn:
                images = crop(images, pad)
                kept.append(images[: max(0, limit - sum(map(len, kept)))].cpu())
                yield images, labels

        statistics = summarise(cropped(), self.space)
        return statistics, _parallel.gather(torch.cat(kept).to(self.space.device)).cpu()[:limit]

    def _memory(self, few: Tensor) -> Memorisation:
        """Neighbours of those samples, and of as many test images."""
        device = self.space.device
        others = evenly_spaced(self.test.images, len(few)).to(device)
        training = self.training.images
        return memorisation(few.to(device), others, training, progress=self.progress)

    def _bits(self, told: bool) -> BitsPerDim | None:
        """Bits/dim of evenly spaced test images; with their labels if samples had them."""
        n, test = self.wanted.bits, self.test
        if not n:
            return None
        return bits_per_dim_of(
            self.model,
            self.schedule,
            evenly_spaced(test.images, n),
            evenly_spaced(test.labels, n) if told else None,
            pad=self.pad,
            sigma2="learned" if has_variance(self.model) else "beta",
            batch=BITS_BATCH,
            seed=self.plan.seed,
            device=self.space.device,
            progress=self.progress,
        )

    def _inception(self, samples: Tensor) -> Inception | None:
        """FID and KID to all training images, as published; by the first process alone."""
        if not self.wanted.inception or _parallel.rank():
            return None
        return inception_metrics(
            samples,
            self.training.images,
            weights=self.wanted.inception_weights,
            device=self.space.device,
            progress=self.progress,
        )
