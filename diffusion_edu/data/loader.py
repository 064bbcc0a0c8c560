"""Training batches out of memory: no workers, no queue, no copy from the host per batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad as pad_image

from .._checks import check_count
from .images import ImageSet, to_float

__all__ = ["Loader", "Points", "as_float"]


class Loader:
    """A whole image set as one uint8 tensor on the training device; batches by random index.

    CIFAR-10 is 154 MB this way and MNIST padded to 32 x 32 61 MB: reading files, decoding, worker
    processes and their seeds drop out, and a batch costs one gather on the device.

    Args:
        data: the set; its images (N, C, H, W) uint8 and labels (N,) int64.
        device: where batches are used.
        flip: mirror each image left to right with probability 1/2 (DDPM, 2006.11239 app. B, does
            so on CIFAR-10). Not for digits.
        pad: pixels of value 0 added on every side once (28 x 28 becomes 32 x 32 with pad=2).

    Raises:
        ValueError: images of another dtype or rank, labels of another length, a negative pad.
    """

    def __init__(
        self,
        data: ImageSet,
        device: str | torch.device = "cpu",
        *,
        flip: bool = False,
        pad: int = 0,
    ) -> None:
        images, labels = data.images, data.labels
        if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
            raise ValueError(
                "images must be a non-empty (N, C, H, W) torch.uint8, got "
                f"{tuple(images.shape)} {images.dtype}"
            )
        if labels.shape != images.shape[:1]:
            raise ValueError(
                f"labels must have shape ({len(images)},), one per image, got {tuple(labels.shape)}"
            )
        check_count(pad, 0, None, "pad")
        self.images = pad_image(images.to(device), (pad,) * 4) if pad else images.to(device)
        self.labels = labels.to(device)
        self.flip, self.official = flip, data.official
        self.null = len(data.classes)  # the label that stands for no class, where one is wanted

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image, padding included."""
        return tuple(self.images.shape[1:])

    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Which images, with replacement, and which of them mirrored: (n,) int64, (n,) bool.

        The numbers are drawn where the generator lives: one on the CPU gives the same batches on
        every device. They are drawn apart from being looked up so that processes which share a
        batch can draw all of it and ``take`` their own slices.

        Raises:
            ValueError: n < 1.
        """
        check_count(n, 1, None, "n")
        device = generator.device if generator is not None else self.images.device
        index = torch.randint(len(self), (n,), generator=generator, device=device)
        if not self.flip:
            return index, torch.zeros(n, dtype=torch.bool, device=device)
        return index, torch.rand(n, generator=generator, device=device) < 0.5

    def take(self, index: Tensor, flip: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The images (n, C, H, W) float32 in [-1, 1] and labels (n,) at ``index``, on the device.

        Args:
            index: (n,) int64 in 0..N-1.
            flip: (n,) bool, which of them to mirror; None for none.
        """
        index = index.to(self.images.device, non_blocking=True)
        x = self.images[index]
        if flip is not None:
            mirrored = flip.to(x.device, non_blocking=True)[:, None, None, None]
            x = torch.where(mirrored, x.flip(-1), x)
        return to_float(x), self.labels[index]


class Points:
    """The rows of a tensor behind the same two methods: what the training loop reads points from.

    Args:
        data: (N, *D) float, or uint8 images.
        device: where batches are used; the data stay where they are.

    Raises:
        ValueError: data without examples, of another dtype, or with NaN or inf.
    """

    null = 0

    def __init__(self, data: Tensor, device: str | torch.device = "cpu") -> None:
        if data.ndim < 2 or len(data) == 0:
            raise ValueError(f"data must have shape (N, *D) with N >= 1, got {tuple(data.shape)}")
        if not (data.is_floating_point() or data.dtype == torch.uint8):
            raise ValueError(f"data must be float, or torch.uint8 images, got {data.dtype}")
        if data.is_floating_point() and not data.isfinite().all():
            raise ValueError("data must be finite, got NaN or inf: drop those examples")
        self.images, self.device = data, device

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape *D of an example."""
        return tuple(self.images.shape[1:])

    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Which rows, with replacement (n,) int64; none is mirrored (n,) bool."""
        at = generator.device if generator is not None else self.images.device
        index = torch.randint(len(self.images), (n,), generator=generator, device=at)
        return index, torch.zeros(n, dtype=torch.bool, device=at)

    def take(self, index: Tensor, flip: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The rows (n, *D) as floats on the device, and labels (n,), all of them ``null``."""
        x0 = as_float(self.images[index.to(self.images.device)]).to(self.device)
        return x0, torch.full((len(x0),), self.null, device=self.device)


def as_float(x: Tensor) -> Tensor:
    """uint8 images -> float in [-1, 1]; floats pass."""
    return to_float(x) if x.dtype == torch.uint8 else x
