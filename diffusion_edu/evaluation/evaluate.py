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
from ..schedules import Schedule
from .features import Features, crop, features_for
from .generate import Sampling, generate
from .inception import Inception, inception_metrics
from .likelihood import BitsPerDim, bits_per_dim_of
from .memorisation import memorisation
from .real import Part, evenly_spaced, parts
from .report import Classes, Cost, Distances, Report, Space
from .statistics import FeatureStatistics, gather, summarise

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
    show = progress and _parallel.rank() == 0
    space = features_for(data_name, device, wanted.classifier)
    training, test = load(data_name), load(data_name, "test")
    real, floor = _yardsticks(training, test, space, plan.n, show)
    fake, samples = _draw(model, schedule, test.images.shape[1:], pad, plan, wanted, space, show)
    few = samples[: wanted.neighbours]
    others = evenly_spaced(test.images, len(few)).to(device)
    memory = memorisation(few.to(device), others, training.images, progress=show)
    bits = _bits(model, schedule, test, pad, plan, wanted, fake.wanted > 0, show)
    inception = _inception(samples, training, wanted, device, show)
    return Report(
        data=data_name,
        official=training.official and test.official and space.info.official,
        plan=plan,
        space=Space(space.name, space.dim, real.accuracy or 0.0),
        samples=Distances.between(fake, real),
        floor=Distances.between(floor, real),
        classes=Classes.of(fake, training),
        memory=memory,
        bits=bits,
        inception=inception,
        cost=Cost(time.monotonic() - began, str(device), _parallel.world()),
        pictures=few[:SHOWN],
        nearest=training.images[memory.samples.which[:SHOWN].cpu()],
    )


def _yardsticks(
    training: ImageSet, test: ImageSet, space: Features, n: int, show: bool
) -> tuple[FeatureStatistics, FeatureStatistics]:
    """Statistics of the test images, and of n training images, which come as near as one can."""
    real = summarise(parts(test.images, test.labels, what="test images", progress=show), space)
    some = evenly_spaced(training.images, n)
    return real, summarise(parts(some, what="training images", progress=show), space)


def _draw(
    model: nn.Module,
    schedule: Schedule,
    shape: torch.Size,
    pad: int,
    plan: Sampling,
    wanted: Wanted,
    space: Features,
    show: bool,
) -> tuple[FeatureStatistics, Tensor]:
    """Statistics of all samples; and the first of them as they are, on the CPU, for a closer look.

    Args:
        shape: (C, H, W) of the data's images, without padding.
    """
    kept: list[Tensor] = [torch.empty(0, *shape, dtype=torch.uint8)]
    limit = plan.n if wanted.inception else max(SHOWN, wanted.neighbours)

    def cropped() -> Iterator[Part]:
        padded = (shape[0], shape[1] + 2 * pad, shape[2] + 2 * pad)
        for images, labels in generate(model, schedule, padded, plan, progress=show):
            images = crop(images, pad)
            kept.append(images[: max(0, limit - sum(map(len, kept)))].cpu())
            yield images, labels

    statistics = summarise(cropped(), space)
    return statistics, gather(torch.cat(kept).to(space.device)).cpu()[:limit]


def _bits(
    model: nn.Module,
    schedule: Schedule,
    test: ImageSet,
    pad: int,
    plan: Sampling,
    wanted: Wanted,
    told: bool,
    show: bool,
) -> BitsPerDim | None:
    """Bits per dimension of evenly spaced test images; with their labels if samples had them."""
    if not wanted.bits:
        return None
    learned = getattr(getattr(model, "config", None), "learned_variance", False)
    labels = evenly_spaced(test.labels, wanted.bits) if told else None
    return bits_per_dim_of(
        model,
        schedule,
        evenly_spaced(test.images, wanted.bits),
        labels,
        pad=pad,
        sigma2="learned" if learned else "beta",
        batch=BITS_BATCH,
        seed=plan.seed,
        device=next(model.parameters()).device,
        progress=show,
    )


def _inception(
    samples: Tensor, training: ImageSet, wanted: Wanted, device: torch.device, show: bool
) -> Inception | None:
    """FID and KID to all training images, as published figures are; by the first process alone."""
    if not wanted.inception or _parallel.rank():
        return None
    weights = wanted.inception_weights
    return inception_metrics(
        samples, training.images, weights=weights, device=device, progress=show
    )
