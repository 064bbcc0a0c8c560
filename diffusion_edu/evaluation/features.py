"""From images to the space that distances are taken in: the penultimate layer of a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .._checks import check_choice, check_count
from .classifier import RECIPES, Classifier
from .classifier_files import ClassifierInfo, classifier_names, load_classifier

__all__ = ["Features", "crop", "features_for"]


@dataclass(frozen=True)
class Features:
    """features(images (B, C, H, W) uint8) -> (features (B, dim), logits (B, K)), float32.

    Attributes:
        name: what to call distances in this space: never "FID", which is Inception's.
        classifier: the network, in eval mode.
        info: how it was trained, and whether the data were the published ones.
    """

    name: str
    classifier: Classifier
    info: ClassifierInfo

    @property
    def dim(self) -> int:
        """d, the number of features."""
        return self.classifier.dim

    @property
    def classes(self) -> int:
        """K, the number of logits."""
        return self.classifier.head.out_features

    @property
    def device(self) -> torch.device:
        """Where the results are; images are brought there."""
        return self.classifier.head.weight.device

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: (B, C, H, W) uint8 -> features (B, dim), logits (B, K)."""
        features, logits = self.classifier(images.to(self.device))
        return features, logits


def features_for(
    data_name: str, device: str | torch.device = "cpu", weights: Path | None = None
) -> Features:
    """The features that images like those of ``data_name`` are compared by.

    Args:
        weights: a file of ``diffusion-edu train-classifier``; default: the shipped one.

    Raises:
        ValueError: no classifier is shipped for this data set; a file for another one.
    """
    check_choice(data_name, RECIPES, "data set with a classifier")
    shipped = classifier_names()
    if weights is None and data_name not in shipped:
        raise ValueError(
            f"no classifier is shipped for {data_name!r}, but for {', '.join(shipped)}: run "
            f"diffusion-edu train-classifier --data {data_name}, and give its file"
        )
    classifier, info = load_classifier(data_name if weights is None else weights)
    if info.data != data_name:
        raise ValueError(
            f"weights must be of a classifier for {data_name!r}, got one for {info.data!r}: "
            f"diffusion-edu train-classifier --data {data_name}"
        )
    return Features("classifier features", classifier.to(device), info)


def crop(images: Tensor, pad: int) -> Tensor:
    """``images`` (..., H, W) without ``pad`` pixels on every side: undoes a network's padding."""
    check_count(pad, 0, (min(images.shape[-2:]) - 1) // 2, "pad")
    return images[..., pad : images.shape[-2] - pad, pad : images.shape[-1] - pad]
