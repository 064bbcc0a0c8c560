"""Oracles to test, and what the tests of oracles compare with."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from diffusion_edu import schedules
from diffusion_edu.oracles import Denoised, MixtureOracle

LINEAR = schedules.linear(1000)
Draw = Callable[..., Tensor]


def mixture(schedule: schedules.Schedule = LINEAR, **options: Tensor) -> MixtureOracle:
    """Three components in 2-D with full generality: diagonal variances, unequal weights."""
    means = torch.tensor([[-1.0, 0.2], [0.8, 0.9], [0.3, -1.1]], dtype=torch.float64)
    variances = torch.tensor([[0.05, 0.3], [0.2, 0.01], [0.1, 0.1]], dtype=torch.float64)
    weights = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)
    return MixtureOracle(
        **{"means": means, "variances": variances, "weights": weights, **options}, schedule=schedule
    )


def ring(modes: int = 8, std: float = 0.1) -> MixtureOracle:
    """Gaussians of the given std on a circle, shrunk so that both coordinates have variance 1."""
    angle = torch.arange(modes, dtype=torch.float64) * 2 * math.pi / modes
    scale = 1 / math.sqrt(0.5 + std**2)
    means = scale * torch.stack([angle.cos(), angle.sin()], 1)
    equal = torch.ones(modes, dtype=torch.float64)
    return MixtureOracle(means, equal * (scale * std) ** 2, equal, LINEAR)


def noisy(x0: Tensor, alpha_bar: float | Tensor, draw: Draw) -> Tensor:
    return math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * draw(*x0.shape).to(x0)


def assert_close(actual: Denoised, wanted: Denoised, tolerance: float) -> None:
    """Relative agreement of every field, example by example."""
    for name, a, b in zip(Denoised._fields, actual, wanted, strict=True):
        error = (a.double() - b.double()).flatten(1 if a.ndim > 1 else 0)
        size = b.double().flatten(1 if b.ndim > 1 else 0)
        if a.ndim > 1:
            error, size = error.norm(dim=1), size.norm(dim=1)
        worst = float((error.abs() / (1e-3 + size.abs())).max())
        assert worst <= tolerance, f"{name}: {worst:.2e}"
