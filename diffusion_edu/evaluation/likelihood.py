r"""Bits per dimension by the variational bound (DDPM eq. 5), with its three terms and their errors.

Padding. A network for MNIST sees 28 x 28 pixels within 32 x 32, the border 0. Its bound is one of
-log p(image, border = 0), and p(image) = sum over borders p(image, border) >= p(image, border = 0):
it bounds -log p(image) as well. So nats are divided by the 28 * 28 values that were real; dividing
by 32 * 32 would count pixels that are known as data, and make every figure smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from tqdm import tqdm

from .. import _parallel
from .._checks import check_count
from ..data.images import to_float
from ..objectives import ElboTerms, Sigma2, elbo
from ..schedules import Schedule
from .generate import chunk_generator

__all__ = ["BitsPerDim", "Estimate", "bits_per_dim_of"]


@dataclass(frozen=True)
class Estimate:
    """A mean over images and its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, x: Tensor) -> Estimate:
        """Of one value per image, (n,)."""
        return cls(x.mean().item(), (x.std() / math.sqrt(len(x))).item())

    def __str__(self) -> str:
        return f"{self.mean:.4f} +- {self.error:.4f}"


@dataclass(frozen=True)
class BitsPerDim:
    """An upper bound on -log2 p(image) per value, and the terms that add up to it.

    Attributes:
        total: L_T + L_t + L_0.
        L_T: KL( q(x_T|x_0) || N(0, I) ): what the forward process leaves of the image.
        L_t: the sum of L_{t-1} over t = 2..T.
        L_0: -log p(x_0|x_1), the decoder.
        images: how many test images that is over.
        dims: values per image that nats were divided by.
        conditional: True if the network was told the labels: then it bounds -log2 p(image | label).
        sigma2: variance of p(x_{t-1}|x_t): "beta", "beta_tilde" or "learned".
    """

    total: Estimate
    L_T: Estimate
    L_t: Estimate
    L_0: Estimate
    images: int
    dims: int
    conditional: bool
    sigma2: str

    def line(self) -> str:
        """As one line of text."""
        told = "-log2 p(image | label)" if self.conditional else "-log2 p(image)"
        return (
            f"bits/dim {self.total} = L_T {self.L_T} + L_t {self.L_t} + L_0 {self.L_0} "
            f"(bound of {told}, {self.images} test images, {self.dims} values each)"
        )


def bits_per_dim_of(
    model: Callable[..., Tensor],
    schedule: Schedule,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    pad: int = 0,
    sigma2: Sigma2 = "beta",
    batch: int = 32,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = False,
) -> BitsPerDim:
    """The bound at ``images`` (n, C, H, W) uint8, in chunks of ``batch``: T network calls each.

    Chunk number k has noise from a generator seeded by (seed, k) and belongs to process k mod
    world, so the result does not depend on how many processes there are.

    Args:
        labels: (n,), handed to the network as y; None: not told (the null class).
        pad: zeros put around each image for the network; see the top of this file.
    """
    check_count(len(images), 2, None, "the number of images")  # a standard error needs two
    chunks = list(enumerate(torch.arange(len(images)).split(batch)))
    own = chunks[_parallel.rank() :: _parallel.world()]
    nats = torch.zeros(len(images), 3, dtype=torch.float64, device=device)
    calls = schedule.T * sum(len(index) for _, index in own)
    with tqdm(total=calls, unit="call", desc="bits/dim", disable=_parallel.quiet(progress)) as bar:
        for k, index in own:
            y = None if labels is None else labels[index].to(device)
            x0 = F.pad(images[index].to(device), (pad,) * 4)
            network = _watched(model, y, bar)
            terms = elbo(
                network, to_float(x0), schedule, sigma2=sigma2, generator=chunk_generator(seed, k)
            )
            nats[index.to(device)] = _columns(terms)
    bits = _parallel.add_up(nats) / (images[0].numel() * math.log(2))
    L_T, L_t, L_0 = (Estimate.of(x) for x in bits.unbind(1))
    total, dims = Estimate.of(bits.sum(1)), images[0].numel()
    return BitsPerDim(total, L_T, L_t, L_0, len(bits), dims, labels is not None, sigma2)


def _watched(model: Callable[..., Tensor], y: Tensor | None, bar: tqdm) -> Callable[..., Tensor]:
    """``model`` told the labels y, counting on ``bar`` the images it has seen."""

    def network(x: Tensor, t: Tensor) -> Tensor:
        bar.update(len(x))
        return model(x, t) if y is None else model(x, t, y)

    return network


def _columns(terms: ElboTerms) -> Tensor:
    """(B, 3) float64: L_T, sum over t of L_{t-1}, L_0, in nats."""
    return torch.stack([terms.L_T, terms.L_t.double().sum(1), terms.L_0], 1).double()
