"""Lecture 03: the step back when x_0 is not known, computed on a grid."""

from __future__ import annotations

import torch
from torch import Tensor

from ..forward import q_step
from ..gaussian import Gaussian
from ..oracles import EmpiricalOracle
from ..schedules import from_betas

__all__ = ["bumps", "step_back", "unknown_steps", "variance_of_step"]

FOUND, BEFORE = 0.3, 0.1  # x_t, and the noise 1 - alpha_bar that x_{t-1} has already
GRID = torch.linspace(-8, 8, 32001, dtype=torch.float64)


def unknown_steps(
    betas: list[float],
) -> tuple[tuple[dict[str, Tensor], dict[str, Tensor]], list[tuple[float, float]]]:
    """q(x_{t-1} | x_t) for steps of several sizes, data at -1 and 1, each in its own units.

    Returns:
        ({label: x}, {label: density}) with mean 0 and standard deviation 1, and the rows (beta, KL
        from the Gaussian with the same mean and variance, in nats).
    """
    places, densities, rows = {}, {}, []
    for beta in betas:
        density, mean, std = _moments(beta)
        label = f"β = {beta}"
        z = (GRID - mean) / std
        seen = z.abs() < 4
        places[label], densities[label] = z[seen][::4], (density * std)[seen][::4]
        bell = Gaussian(mean.expand(len(GRID), 1), std**2).log_prob(GRID[:, None])
        apart = torch.xlogy(density, density) - density * bell
        rows.append((beta, max(0.0, float(torch.trapezoid(apart, GRID)))))
    bell = torch.linspace(-4, 4, 401, dtype=torch.float64)
    places["Gaussian"] = bell
    densities["Gaussian"] = Gaussian(0 * bell, torch.ones(1).double()).log_prob(bell).exp()
    return (places, densities), rows


def bumps(beta: float) -> int:
    """Number of maxima of q(x_{t-1} | x_t) after a step with this beta."""
    density, _, _ = _moments(beta)
    inside = density[1:-1]
    peaks = (inside > density[:-2]) & (inside > density[2:]) & (inside > 1e-3 * density.max())
    return int(peaks.sum())


def _moments(beta: float) -> tuple[Tensor, Tensor, Tensor]:
    schedule = from_betas([BEFORE, beta])
    data = EmpiricalOracle(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), schedule)
    density = step_back(data, torch.tensor([[FOUND]], dtype=torch.float64), 2)
    return density, *_mean_and_std(density)


def step_back(data: EmpiricalOracle, x_t: Tensor, t: int) -> Tensor:
    """q(x_{t-1} | x_t) on GRID: q(x_t | x_{t-1}) q(x_{t-1}), scaled to area 1. x_t is (1, 1)."""
    x = GRID[:, None]
    likelihood = q_step(x, t, data.schedule).log_prob(x_t.expand_as(x))
    log = likelihood + data.log_prob(x, t - 1)
    density = (log - log.max()).exp()
    return density / torch.trapezoid(density, GRID)


def variance_of_step(data: EmpiricalOracle, x_t: Tensor, t: int) -> Tensor:
    """Variance of q(x_{t-1} | x_t), by quadrature."""
    return _mean_and_std(step_back(data, x_t, t))[1] ** 2


def _mean_and_std(density: Tensor) -> tuple[Tensor, Tensor]:
    mean = torch.trapezoid(GRID * density, GRID)
    return mean, torch.trapezoid((GRID - mean) ** 2 * density, GRID).sqrt()
