"""What an evaluation found: numbers with what they are numbers of, as text and as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ..data.images import ImageSet
from ..metrics import kernel_distance
from .generate import Sampling
from .inception import Inception
from .likelihood import BitsPerDim
from .memorisation import Memorisation
from .statistics import FeatureStatistics

__all__ = ["Classes", "Cost", "Distances", "Report", "Space"]


@dataclass(frozen=True)
class Distances:
    """Of a set of images to the test images.

    Attributes:
        fd: ``frechet_distance`` of means and covariances; biased upwards by about 1/n.
        kd: ``kernel_distance`` of the first 10,000 of each; unbiased, may be negative.
        images: how many there were.
    """

    fd: float
    kd: float
    images: int

    @classmethod
    def between(cls, one: FeatureStatistics, test: FeatureStatistics) -> Distances:
        """Of ``one`` to ``test``."""
        fd, kd = one.moments.distance(test.moments), kernel_distance(one.kept, test.kept)
        return cls(fd, float(kd), one.moments.count)


@dataclass(frozen=True)
class Space:
    """Where distances are taken: its name, its dimensions, accuracy of its network on test images.

    The name is printed with every distance: only distances in one space can be compared.
    """

    name: str
    dim: int
    accuracy: float


@dataclass(frozen=True)
class Classes:
    """What the classifier takes the samples for.

    Attributes:
        counts: samples per class.
        accuracy: share of samples given the class that was asked for; None where none was.
        imbalance: 1/2 sum_k |p_k - q_k|, in [0, 1], of the shares p in the samples, and q = 1/K if
            classes were asked for, else the shares in the training images.
    """

    counts: dict[str, int]
    accuracy: float | None
    imbalance: float

    @classmethod
    def of(cls, fake: FeatureStatistics, training: ImageSet) -> Classes:
        """Of the samples ``fake``."""
        p = fake.predicted.double().cpu() / fake.moments.count
        q = training.labels.bincount(minlength=len(p)).double() / len(training)
        q = torch.full_like(p, 1 / len(p)) if fake.wanted else q
        counts = dict(zip(training.classes, fake.predicted.tolist(), strict=True))
        return cls(counts, fake.accuracy, float((p - q).abs().sum() / 2))


@dataclass(frozen=True)
class Cost:
    """What the evaluation took."""

    seconds: float
    device: str
    processes: int


@dataclass(frozen=True)
class Report:
    """What was measured, of which samples, with what.

    Attributes:
        data: name of the data set.
        official: False if the images compared with, or those the classifier learned from, were
            not the published ones: these figures are then not figures of that data set.
        plan: how the samples were drawn.
        space: what distances are of.
        samples: distances of the samples to the test images.
        floor: distances of as many training images to the test images. No network can be expected
            to come nearer (the classifier knows the training images: it is not quite the same).
        classes: what the classifier takes the samples for.
        memory: nearest training images.
        bits: bits per dimension of test images; None if not asked for.
        inception: FID and KID; None if not asked for.
        cost: time, device, processes.
        pictures, nearest: (<= 100, C, H, W) uint8: first samples, their nearest training images.
    """

    data: str
    official: bool
    plan: Sampling
    space: Space
    samples: Distances
    floor: Distances
    classes: Classes
    memory: Memorisation
    bits: BitsPerDim | None
    inception: Inception | None
    cost: Cost
    pictures: Tensor
    nearest: Tensor

    def plain(self) -> dict[str, Any]:
        """As nested dicts of plain values, for JSON; the pictures are left out."""
        parts = {k: v for k, v in vars(self).items() if k not in ("pictures", "nearest", "memory")}
        plain = {k: asdict(cast(Any, v)) if is_dataclass(v) else v for k, v in parts.items()}
        return {**plain, "memory": self.memory.plain()}

    def lines(self) -> list[str]:
        """As text, one line for each figure that was measured."""
        s, f, m = self.samples, self.floor, self.memory
        name, official = self.space.name, "" if self.official else " (NOT the published files)"
        return [
            f"{s.images:,} samples against the test images of {self.data}{official}",
            f"FD ({name})  {s.fd:.4g}   ({f.images:,} training images: {f.fd:.4g})",
            f"KD ({name})  {s.kd:.3g}   ({f.images:,} training images: {f.kd:.3g})",
            *self._class_lines(),
            f"nearest training image: median distance {m.ratio:.2f} times that of test images; "
            f"{m.copies:.1%} of samples nearer than all but 1% of these",
            *([self.bits.line()] if self.bits else []),
            *([self.inception.line()] if self.inception else []),
            f"{self.cost.seconds:.0f} s on {self.cost.device}, {self.cost.processes} process(es)",
        ]

    def _class_lines(self) -> list[str]:
        c = self.classes
        shares = ", ".join(f"{k} {n / self.samples.images:.1%}" for k, n in c.counts.items())
        lines = [f"classes: {shares} (imbalance {c.imbalance:.3f})"]
        if c.accuracy is not None:
            test = f"test images: {self.space.accuracy:.2%}"
            lines.insert(0, f"of the class asked for: {c.accuracy:.2%} ({test})")
        return lines
