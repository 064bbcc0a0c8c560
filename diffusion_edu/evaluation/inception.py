"""The published distances, FID and KID, by Inception features: the torch-fidelity package does it.

    pip install "diffusion_edu[fid]"

Its network is the one that FID was defined with (24 million weights of 2015, 96 MB). torch-fidelity
downloads them on first use; without a connection, give the file. Published figures for CIFAR-10 are
of 50,000 samples against the 50,000 training images: with other counts they do not compare.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .._checks import check_count

__all__ = ["Inception", "inception_metrics"]

KEYS = (
    "frechet_inception_distance",
    "kernel_inception_distance_mean",
    "kernel_inception_distance_std",
)
SUBSET = 1000  # images per estimate of KID at most, as torch-fidelity has it; 100 estimates
BATCH = 64  # images at once


@dataclass(frozen=True)
class Inception:
    """FID and KID of one set of images against another.

    Attributes:
        fid: Heusel et al. 1706.08500 eq. 6; biased upwards by about 1/n.
        kid, kid_error: Binkowski et al. 1801.01401; mean and standard deviation over 100 subsets.
        samples, reference: how many images each side has; None for a folder.
    """

    fid: float
    kid: float
    kid_error: float
    samples: int | None
    reference: int | None

    def line(self) -> str:
        """As one line of text."""
        return (
            f"Inception: FID {self.fid:.2f}, KID {self.kid:.2e} (+- {self.kid_error:.0e}) of "
            f"{self.samples or 'a folder of'} to {self.reference or 'a folder of'} images"
        )


Images = Tensor | str | Path


def inception_metrics(
    samples: Images,
    reference: Images,
    *,
    weights: str | Path | None = None,
    extractor: str = "inception-v3-compat",
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> Inception:
    """FID and KID of ``samples`` against ``reference``.

    Args:
        samples, reference: (n, C, H, W) uint8 with C = 1 or 3, or a folder of PNG or JPEG files.
        weights: file of the Inception weights; default: torch-fidelity downloads it.
        extractor: name that torch-fidelity knows the network by.

    Raises:
        ValueError: torch-fidelity is not installed; images of another shape or dtype; no file.
    """
    fidelity = _torch_fidelity()
    if weights is not None and not Path(weights).is_file():
        raise ValueError(f"no file {weights}: give the Inception weights, or leave weights out")
    pair = _input(samples, "samples"), _input(reference, "reference")
    counts = [None if isinstance(x, str) else len(x) for x in pair]
    found = fidelity.calculate_metrics(
        input1=pair[0],
        input2=pair[1],
        fid=True,
        kid=True,
        kid_subset_size=min([SUBSET, *(n for n in counts if n)]),
        feature_extractor=extractor,
        feature_extractor_weights_path=None if weights is None else str(weights),
        batch_size=BATCH,
        cuda=torch.device(device).type == "cuda",
        save_cpu_ram=True,  # no worker processes: the images are in memory already
        cache=False,  # a cache by name would answer for other images of that name
        verbose=progress,
    )
    fid, kid, error = (float(found[key]) for key in KEYS)
    return Inception(fid, kid, error, counts[0], counts[1])


def _torch_fidelity() -> Any:
    """The package; ValueError with the command that installs it."""
    try:
        return importlib.import_module("torch_fidelity")
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision for another torch
        raise ValueError(
            f'torch-fidelity cannot be imported ({error}): pip install "diffusion_edu[fid]"'
        ) from error


class _Colour(Dataset[Tensor]):
    """Images as torch-fidelity wants them: a data set of (3, H, W) uint8."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index].expand(3, -1, -1)


def _input(images: Images, name: str) -> _Colour | str:
    """A folder's path, or a data set of colour images, checked."""
    if isinstance(images, str | Path):
        if not Path(images).is_dir():
            raise ValueError(f"{name} must be a folder of images or a tensor, got {images}")
        return str(images)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"{name} must be (n, C, H, W) uint8 with C = 1 or 3, got {tuple(images.shape)} "
            f"{images.dtype}: use images.to_uint8"
        )
    check_count(len(images), 2, None, f"the number of {name}")
    return _Colour(images.cpu())
