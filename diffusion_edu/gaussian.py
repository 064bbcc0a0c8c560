r"""Gaussians with diagonal covariance: everything q and p_theta are made of.

All log-densities and divergences are in nats, summed over the non-batch dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ._checks import check_count, check_float, check_same_shape

__all__ = [
    "Gaussian",
    "Noise",
    "bits_per_dim",
    "discretized_log_prob",
    "shared_noise",
    "standard_normal",
]

Noise = Callable[[int, Tensor], Tensor]  # (step index from 0, like) -> z of the shape of like


def standard_normal(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Noise shaped and typed as ``like``, on its device even if the generator is a CPU one."""
    device = like.device if generator is None else generator.device
    z = torch.randn(like.shape, generator=generator, device=device, dtype=like.dtype)
    return z.to(like.device)


def shared_noise(k: int, generator: torch.Generator | None = None) -> Noise:
    """Noise for ``sample(noise=...)`` that is one draw for the whole batch in the first k steps.

    Trajectories from one x_T then stay together for k steps and part after that ("repeat_noise" in
    DDPM's code): the later they part, the more they have in common.
    """

    def noise(i: int, like: Tensor) -> Tensor:
        one_draw = like[:1] if i < k else like
        return standard_normal(one_draw, generator).expand_as(like)

    return noise


def _sum_non_batch(x: Tensor) -> Tensor:
    """(B, *D) -> (B,)."""
    return x.flatten(1).sum(1) if x.ndim > 1 else x


def precise(x: Tensor) -> Tensor:
    """float64, except on Apple's mps, which has none."""
    return x if x.device.type == "mps" else x.double()


@dataclass(frozen=True)
class Gaussian:
    """N(mean, diag(var)).

    Args:
        mean: (B, *D).
        var: broadcastable to ``mean``, >= 0. Variance 0 is the point mass at the mean.

    Raises:
        ValueError: a negative or NaN variance, or a variance whose shape does not fit the mean.
    """

    mean: Tensor
    var: Tensor

    def __post_init__(self) -> None:
        check_float(mean=self.mean, var=self.var)
        try:
            self.var.expand(self.mean.shape)  # torch.broadcast_shapes would import sympy: a second
        except RuntimeError as error:
            raise ValueError(
                f"var must broadcast to mean: got var {tuple(self.var.shape)} and mean "
                f"{tuple(self.mean.shape)}; use shape (B, 1, ..., 1)"
            ) from error
        if not (self.var >= 0).all():
            bad = self.var[~(self.var >= 0)][0].item()
            raise ValueError(f"var must be >= 0, got {bad}: pass a variance, not its logarithm")
        # One number for all, from a table on the CPU, would be expanded there.
        object.__setattr__(self, "var", self.var.to(self.mean.device))

    def sample(self, z: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """mean + sqrt(var) z, with z ~ N(0, I) given or drawn. Returns (B, *D)."""
        if z is None:
            z = standard_normal(self.mean, generator)
        check_same_shape(mean=self.mean, z=z)
        return self.mean + self.var.sqrt() * z

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x; mean, var) = -1/2 [ (x - mean)^2 / var + log(2 pi var) ]. Returns (B,) nats.

        Where var = 0 the density is a point mass: +inf at the mean, -inf elsewhere.
        """
        check_same_shape(mean=self.mean, x=x)
        var = self.var.expand_as(self.mean)
        squared = (x - self.mean) ** 2
        quadratic = torch.where(squared == 0, 0.0, squared / var)  # 0/0 at the atom itself
        terms = -0.5 * (quadratic + (2 * math.pi * var).log())
        terms = torch.where((var == 0) & (squared > 0), -math.inf, terms)
        impossible = (
            (terms == -math.inf).flatten(1).any(1) if terms.ndim > 1 else terms == -math.inf
        )
        return torch.where(impossible, -math.inf, _sum_non_batch(terms))

    def kl(self, other: Gaussian) -> Tensor:
        r"""KL(self || other) = 1/2 sum [ log(v2/v1) + (v1 + (m1-m2)^2)/v2 - 1 ]. Returns (B,) nats.

        For equal variances it is the distance of the means, |m1 - m2|^2 / (2 v): DDPM eq. 8.

        Exact at the edges: two equal point masses give 0; if only one variance is 0, or two point
        masses differ, the result is inf.
        """
        check_same_shape(mean=self.mean, other_mean=other.mean)
        v1, v2 = precise(self.var).expand_as(self.mean), precise(other.var).expand_as(self.mean)
        squared = (precise(self.mean) - precise(other.mean)) ** 2
        # r - log(1 + r) with r = v1/v2 - 1: two nearly equal variances cancel, hence float64.
        # Where v1 is so small that r rounds to -1, the logarithm is that of v1/v2.
        excess = (v1 - v2) / v2
        log_ratio = torch.where(excess < -0.5, v1.log() - v2.log(), excess.clamp(-0.5).log1p())
        terms = 0.5 * (excess - log_ratio + squared / v2)
        points = (v1 == 0) | (v2 == 0)
        same = (v1 == v2) & (squared == 0)
        edge = torch.where(same, 0.0, torch.full_like(terms, math.inf))
        return _sum_non_batch(torch.where(points, edge, terms)).to(self.mean.dtype)


def discretized_log_prob(
    x: Tensor, mean: Tensor, var: Tensor, low: float = -1.0, high: float = 1.0, levels: int = 256
) -> Tensor:
    r"""log-probability of quantised data under a Gaussian: the decoder of DDPM eq. 13.

    The grid has ``levels`` values from low to high. Each owns the interval of half a step around
    it, and the two outermost own everything beyond:
    p(x) = product over dimensions of  integral_{delta-}^{delta+} N(u; mean, var) du.

    Args:
        x: (B, *D), values on the grid (an image in [-1, 1] with 256 levels, for instance).
        mean, var: (B, *D) and broadcastable to it, var > 0.

    Returns:
        (B,) nats, at most 0.
    """
    check_same_shape(x=x, mean=mean)
    check_count(levels, 2, None, "levels")
    if not low < high:
        raise ValueError(f"low must be below high, got low={low}, high={high}")
    if not (var > 0).all():
        raise ValueError(
            "var must be > 0 in the discretised decoder: at t=1 use beta_1, or beta_tilde_2"
        )
    half = (high - low) / (levels - 1) / 2
    std, centred = precise(var).sqrt(), precise(x) - precise(mean)
    upper = torch.where(x > high - half, math.inf, (centred + half) / std)
    lower = torch.where(x < low + half, -math.inf, (centred - half) / std)
    return _sum_non_batch(_log_normal_mass(lower, upper)).to(x.dtype)


def _log_normal_mass(lower: Tensor, upper: Tensor) -> Tensor:
    """log( Phi(upper) - Phi(lower) ), accurate far out in both tails."""
    # Mirror intervals of the right tail into the left one, where Phi keeps its relative precision.
    mirror = lower + upper > 0
    a, b = torch.where(mirror, -upper, lower), torch.where(mirror, -lower, upper)
    log_a, log_b = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    return log_b + torch.log(-torch.expm1(log_a - log_b))


def bits_per_dim(nats: Tensor, dims: int) -> Tensor:
    """nats / (dims log 2): the unit in which likelihoods of images are quoted."""
    check_count(dims, 1, None, "dims")
    return nats / (dims * math.log(2))
