"""What is kept of a stream of images: constant memory for any number, one result for all processes.

Covariances are summed as deviations from a mean and merged pairwise (Chan, Golub & LeVeque 1979):
the textbook sum of squares less square of sums loses every digit when means are large.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _parallel
from ..metrics import frechet_distance
from .features import Features
from .real import evenly_spaced

__all__ = ["KEEP", "FeatureStatistics", "Moments", "summarise"]

KEEP = 10_000  # features kept for the kernel distance


class Moments:
    """Count, mean and covariance of rows that come in parts, in float64.

    Attributes:
        count: rows so far.
        mean: (d,).
        scatter: (d, d), sum over rows of (x - mean)(x - mean)^T.
    """

    def __init__(self, dim: int, device: str | torch.device = "cpu") -> None:
        self.count = 0
        self.mean = torch.zeros(dim, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(dim, dim, dtype=torch.float64, device=device)

    @classmethod
    def of(cls, x: Tensor) -> Moments:
        """Of the rows of x (n, d)."""
        if x.ndim != 2:
            raise ValueError(f"x must have shape (n, d), got {tuple(x.shape)}")
        moments = cls(x.shape[1], x.device)
        if len(x):
            x = x.detach().to(torch.float64)
            moments.count, moments.mean = len(x), x.mean(0)
            centred = x - moments.mean
            moments.scatter = centred.T @ centred
        return moments

    def update(self, x: Tensor) -> None:
        """Add the rows of x (n, d)."""
        self.merge(Moments.of(x))

    def merge(self, other: Moments) -> None:
        """Add the rows that ``other`` has seen.

        With n = n_a + n_b and delta = mean_b - mean_a:
        mean = mean_a + delta n_b / n,  scatter = scatter_a + scatter_b + delta delta^T n_a n_b / n
        """
        if other.mean.shape != self.mean.shape:
            raise ValueError(
                f"other must have dimension {len(self.mean)}, got {len(other.mean)} features"
            )
        n = self.count + other.count
        if n == 0:
            return
        delta = other.mean - self.mean
        self.scatter += other.scatter + torch.outer(delta, delta) * (self.count * other.count / n)
        self.mean = self.mean + delta * (other.count / n)
        self.count = n

    @property
    def covariance(self) -> Tensor:
        """(d, d), unbiased: scatter/(n - 1). NaN below two rows."""
        return self.scatter / (self.count - 1) if self.count > 1 else self.scatter * torch.nan

    def distance(self, other: Moments) -> float:
        """``frechet_distance`` of both means and covariances."""
        return float(frechet_distance(self.mean, self.covariance, other.mean, other.covariance))

    def combined(self) -> Moments:
        """Of the rows of all processes, the same in each: with means m_r, m and counts n_r,

        mean = sum_r n_r m_r / n,  scatter = sum_r ( scatter_r + n_r (m_r - m)(m_r - m)^T )
        """
        total = Moments(len(self.mean), self.mean.device)
        total.count = int(_parallel.add_up(torch.tensor(self.count, device=self.mean.device)))
        if total.count:
            total.mean = _parallel.add_up(self.count * self.mean) / total.count
            apart = self.mean - total.mean
            total.scatter = _parallel.add_up(self.scatter + self.count * torch.outer(apart, apart))
        return total


@dataclass
class FeatureStatistics:
    """A set of images as the classifier sees it.

    Attributes:
        moments: mean and covariance of the features.
        kept: (<= KEEP, d) float32, features of the first images.
        predicted: (K,) int64, images per class, as the classifier sees them.
        wanted: images that came with the label they were asked to have.
        right: how many of those the classifier gives that label.
    """

    moments: Moments
    kept: Tensor
    predicted: Tensor
    wanted: int = 0
    right: int = 0

    @classmethod
    def empty(cls, space: Features) -> FeatureStatistics:
        """Of no images yet."""
        moments, device = Moments(space.dim, space.device), space.device
        kept = torch.empty(0, space.dim, device=device)
        return cls(moments, kept, torch.zeros(space.classes, dtype=torch.int64, device=device))

    def update(self, features: Tensor, logits: Tensor, labels: Tensor | None = None) -> None:
        """Add images: features (B, d), logits (B, K), labels (B,) if some were asked for."""
        self.moments.update(features)
        if len(self.kept) < KEEP:
            self.kept = torch.cat([self.kept, features[: KEEP - len(self.kept)]])
        guess = logits.argmax(1)
        self.predicted += guess.bincount(minlength=len(self.predicted))
        if labels is not None:
            self.wanted += len(labels)
            self.right += int((guess == labels.to(guess.device)).sum())

    @property
    def accuracy(self) -> float | None:
        """Share of the images that the classifier gives the label asked for; None: no labels."""
        return self.right / self.wanted if self.wanted else None

    def combined(self) -> FeatureStatistics:
        """Of the images of all processes, the same in each."""
        kept = _parallel.gather(self.kept)
        if len(kept) > KEEP:  # evenly spaced: from every process alike
            kept = evenly_spaced(kept, KEEP)
        numbers = torch.tensor([self.wanted, self.right], device=self.predicted.device)
        wanted, right = _parallel.add_up(numbers).tolist()
        predicted = _parallel.add_up(self.predicted)
        return FeatureStatistics(self.moments.combined(), kept, predicted, wanted, right)


def summarise(parts: Iterable[tuple[Tensor, Tensor | None]], space: Features) -> FeatureStatistics:
    """Statistics of parts (images (B, C, H, W) uint8, labels (B,) or None), of all processes.

    Each process gives parts of its own; memory does not grow with their number.
    """
    result = FeatureStatistics.empty(space)
    for images, labels in parts:
        result.update(*space(images), labels)
    return result.combined()
