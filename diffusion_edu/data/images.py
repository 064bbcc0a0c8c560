"""Image data sets as uint8 tensors, and the map between 0..255 and [-1, 1].

"digits" (scikit-learn, nothing to download): 1,797 handwritten digits, 1 x 8 x 8, levels 0..16
mapped to round(255 v/16). The last 360 are the test split, by position and not at random:
neighbours in the file were often written by the same hand, which a random split would put on both
sides.

"colour_digits": the same digits as light of one hue on black, 3 x 8 x 8 (see ``tint``): each
training digit in 12 hues evenly spaced from a random first one (17,244 images), each test digit in
one random hue (360). The mean of the three channels is half the digit whatever the hue.

"mnist", "fashion_mnist" (60,000 + 10,000, 1 x 28 x 28), "cifar10" (50,000 + 10,000, 3 x 32 x 32):
read from the data directory, downloaded into it when they are not there. A folder somebody unpacked
there is as good.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .._checks import check_choice, check_float
from .download import fetch, help_text
from .files import find, is_official, read
from .location import data_dir
from .sources import SOURCES, Source

__all__ = [
    "BUILT_IN",
    "ImageSet",
    "hue_of",
    "is_here",
    "load",
    "mnist_sample",
    "names",
    "tint",
    "to_float",
    "to_uint8",
]

_TEST = 360  # digits: the last 360 of the 1,797 are for testing
_HUES = 12  # colour_digits: so many hues of each training digit
BUILT_IN = ("digits", "colour_digits")  # nothing to download


@dataclass(frozen=True)
class ImageSet:
    """Images with labels.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64.
        classes: the name of each class.
        official: False if the files were well formed but not the published ones: figures made
            with them are not figures of that data set.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    official: bool = True

    def __len__(self) -> int:
        return len(self.images)


def names() -> tuple[str, ...]:
    """Names that ``load`` accepts."""
    return (*BUILT_IN, *SOURCES)


def load(
    name: str, split: str = "train", root: str | Path | None = None, *, download: bool = True
) -> ImageSet:
    """The named image set: what each is stands at the top of this module.

    Files of the right structure with other content than the published one are loaded with a warning
    and ``official=False``; files of another structure are an error. Neither is ever replaced.

    Args:
        name: "digits", "colour_digits", "mnist", "fashion_mnist" or "cifar10".
        split: "train", "test" or "all" (training images first).
        root: data directory (default: see ``location.data_dir``).
        download: fetch what is missing; False never opens a connection.

    Raises:
        ValueError: unknown name or split (the message lists what exists); a damaged file.
        ConnectionError: not here and no mirror delivered; the message says what to do.
        FileNotFoundError: not here and download is False.
    """
    check_choice(name, names(), "image data set")
    check_choice(split, ("train", "test", "all"), "split")
    if name in BUILT_IN:
        return _digits(split) if name == "digits" else _colour_digits(split)
    source, base = SOURCES[name], data_dir(root)
    images, labels, other = [], [], []
    for one in ["train", "test"] if split == "all" else [split]:
        folder = _folder(source, one, base, download)
        pixels, classes, strange = _read(source, one, folder)
        images.append(pixels)
        labels.append(classes)
        other += [str(folder / file) for file in strange]
    if other:
        warnings.warn(
            f"not the published content of {name}, whose SHA-256 is another: {', '.join(other)}; "
            f"figures made with it are not figures of {name}",
            stacklevel=2,
        )
    return ImageSet(_join(images), _join(labels), source.classes, not other)


def mnist_sample() -> Tensor:
    """Ten digits of MNIST's test set, the first of each class: (10, 1, 28, 28) uint8. Shipped."""
    from safetensors.torch import load_file

    return load_file(Path(__file__).parent / "mnist_sample.safetensors")["images"]


def is_here(name: str, split: str = "train") -> bool:
    """Whether ``load`` would find the files of a set without a download. They are not read."""
    check_choice(name, names(), "image data set")
    if name in BUILT_IN:
        return True
    source = SOURCES[name]
    return find(source, data_dir(), source.splits[split][1]) is not None


def _folder(source: Source, split: str, base: Path, download: bool) -> Path:
    folder = find(source, base, source.splits[split][1])
    if folder is not None:
        return folder
    if not download:
        raise FileNotFoundError(f"{source.name} is not in {base}. {help_text(source, base)}")
    return fetch(source, base)


def _read(source: Source, split: str, folder: Path) -> tuple[Tensor, Tensor, list[str]]:
    """Images, labels, and the names of those files that are not official."""
    n, files = source.splits[split]
    contents = [read(folder, file) for file in files]
    other = [f.name for f, data in zip(files, contents, strict=True) if not is_official(f, data)]
    try:
        return *source.parse(contents, n), other
    except ValueError as error:
        raise ValueError(f"{folder} does not hold {source.name}: {error}") from error


def _join(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _digits(split: str) -> ImageSet:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(digits.target).long()
    cut = len(images) - _TEST
    part = {"train": slice(cut), "test": slice(cut, None), "all": slice(None)}[split]
    return ImageSet(images[part].clone(), labels[part].clone(), tuple("0123456789"))


def _colour_digits(split: str) -> ImageSet:
    if split == "all":
        both = _colour_digits("train"), _colour_digits("test")
        images, labels = (_join([getattr(s, f) for s in both]) for f in ("images", "labels"))
        return ImageSet(images, labels, both[0].classes)
    gray, count = _digits(split), _HUES if split == "train" else 1
    first = torch.rand(len(gray), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hue = (first[:, None] + torch.arange(count) / count) % 1
    images = tint(gray.images.expand(-1, count, -1, -1).flatten(0, 1)[:, None], hue.flatten())
    return ImageSet(images, gray.labels.repeat_interleave(count), gray.classes)


def tint(images: Tensor, hue: Tensor) -> Tensor:
    r"""Gray images as light of one hue on black: channel c is (1 + cos 2 pi(hue - c/3))/2 of v.

    The three cosines add up to 0: the mean of the channels is v/2 for every hue, so a gray picture
    of this kind says nothing about the hue it had. Hue 0 is red, 1/3 green, 2/3 blue.

    Args:
        images: (N, 1, H, W) uint8.
        hue: (N,) floating, in turns: 1 is once around.

    Returns:
        (N, 3, H, W) uint8.
    """
    hue = hue.to(images.device)
    angle = 2 * math.pi * (hue[:, None] - torch.arange(3, device=hue.device) / 3)
    return (images * ((1 + angle.cos()) / 2)[..., None, None]).round().to(torch.uint8)


def hue_of(images: Tensor) -> tuple[Tensor, Tensor]:
    r"""The hue of images of ``tint``, and how far all their light has this one hue.

    With z = sum_c x_c exp(2 pi i c/3) for each pixel, x_c in [0, 1], white and black have z = 0 and
    ``tint`` gives 3/4 v exp(2 pi i hue).

    Args:
        images: (N, 3, H, W), uint8, or floating in [-1, 1].

    Returns:
        hue (N,) in turns, 0..1; and |sum of z| / sum of |z| over the pixels (N,): 1 for one hue, 0
        for hues that cancel.
    """
    x = images.double() / 255 if images.dtype == torch.uint8 else (images.double() + 1) / 2
    angle = 2 * math.pi / 3 * torch.arange(3, dtype=x.dtype, device=x.device).view(3, 1, 1)
    across, up = (x * angle.cos()).sum(1), (x * angle.sin()).sum(1)  # z of each pixel
    a, b = across.sum((1, 2)), up.sum((1, 2))
    light = across.hypot(up).sum((1, 2)).clamp(min=1e-9)
    return torch.atan2(b, a) / (2 * math.pi) % 1, a.hypot(b) / light


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
