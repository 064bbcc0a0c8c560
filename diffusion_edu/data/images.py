"""Image data sets as uint8 tensors, and the map between 0..255 and [-1, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .._checks import check_choice, check_float

__all__ = ["ImageSet", "load", "to_float", "to_uint8"]

_TEST = 360  # digits: the last 360 of the 1,797 are for testing


@dataclass(frozen=True)
class ImageSet:
    """images (N, C, H, W) uint8, labels (N,) int64, and the name of each class."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


def load(name: str, split: str = "train") -> ImageSet:
    """The named image set; split is "train", "test" or "all". Nothing is downloaded.

    "digits" (scikit-learn): 1,797 handwritten digits, 1 x 8 x 8, levels 0..16 mapped to
    round(255 v/16). The last 360 are the test split, by position and not at random: neighbours in
    the file were often written by the same hand, which a random split would put on both sides.

    Raises:
        ValueError: unknown name or split; the message lists what exists.
    """
    check_choice(name, ["digits"], "image data set")
    check_choice(split, ["train", "test", "all"], "split")
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(digits.target).long()
    cut = len(images) - _TEST
    part = {"train": slice(cut), "test": slice(cut, None), "all": slice(None)}[split]
    return ImageSet(images[part].clone(), labels[part].clone(), tuple("0123456789"))


def to_float(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [-1, 1]: u/127.5 - 1. Raises ValueError for another dtype."""
    if images.dtype != torch.uint8:
        raise ValueError(f"images must have dtype torch.uint8, got {images.dtype}: use to_uint8")
    return images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """Float in [-1, 1] -> uint8: the nearest level, values outside are clipped.

    Raises:
        ValueError: x is not floating point, or holds NaN (which has no nearest level).
    """
    check_float(x=x)
    if x.isnan().any():
        raise ValueError(f"x must not hold NaN, got {int(x.isnan().sum())} of {x.numel()} values")
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
