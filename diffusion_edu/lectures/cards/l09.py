"""Predict cards of lecture 09: scores."""

from __future__ import annotations

import torch

from ...continuous import VPSDE, annealed_langevin, oracle_score
from ...oracles import EmpiricalOracle, MixtureOracle
from ...schedules import linear
from .kinds import Card, Choice, Curve, Number

__all__ = ["CARDS", "SMALL", "two_modes"]

SMALL = 0.2  # weight of the mode on the right in ``two_modes``


def two_modes() -> MixtureOracle:
    """Two round modes far apart: 80 % on the left, 20 % on the right."""
    means = torch.tensor([[-1.4, 0.0], [1.4, 0.0]], dtype=torch.float64)
    variances = torch.full((2,), 0.1, dtype=torch.float64)
    weights = torch.tensor([1 - SMALL, SMALL], dtype=torch.float64)
    return MixtureOracle(means, variances, weights, linear(1000))


def _between() -> int:
    """What the exact predictor says halfway between two data points."""
    schedule, t = linear(1000), 300
    data = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    said = EmpiricalOracle(data, schedule)(torch.zeros(1, 1, dtype=torch.float64), t).item()
    true = float((schedule.alpha_bar[t] / (1 - schedule.alpha_bar[t])).sqrt())
    return min(range(3), key=lambda i: abs((-true, true, 0.0)[i] - said))


def _width() -> float:
    """Variance on which Langevin dynamics with step h = 0.5 settles, on N(0, 1)."""
    h, variance = 0.5, 1.0
    for _ in range(100):
        variance = (1 - h) ** 2 * variance + 2 * h
    return variance


def _share() -> tuple[list[float], dict[str, list[float]]]:
    """Share of particles on the right, plain and annealed, along 300 steps."""
    oracle, sde = two_modes(), VPSDE()
    score = oracle_score(oracle, sde)
    start = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low = 0.001
    # A step is a multiple of the noise; the plain walk has next to none, so its multiple is large.
    ways = {
        "plain": ([low], 0.02 / float(sde.noise_var(low))),
        "annealed": (torch.linspace(1.0, low, 15).tolist(), 0.2),
    }
    curves = {}
    for name, (levels, size) in ways.items():
        g = torch.Generator().manual_seed(1)
        n = 300 // len(levels)
        walk = annealed_langevin(score, start, levels, sde, steps=n, step_size=size, generator=g)
        right = [float((step.x_s[:, 0] > 0).double().mean()) for step in walk]
        curves[name] = [0.5, *right]
    return [float(k) for k in range(301)], curves


CARDS: dict[str, Card] = {
    "between": Choice(
        "The data are two points, −1 and +1, equally often. Noise is added, and x_t = 0 comes out: "
        "exactly in the middle. The noise in it was either −√ᾱ/√(1−ᾱ) or +√ᾱ/√(1−ᾱ), nothing "
        "else. What does the network that minimises the squared error say?",
        "It says 0, a value that the noise never has there. Squared error is least at the mean of "
        "what is possible. The score agrees: in the middle the density is level.",
        ("−√ᾱ/√(1−ᾱ)", "+√ᾱ/√(1−ᾱ)", "0"),
        _between,
    ),
    "width": Number(
        "Langevin dynamics x′ = x + h·score + √(2h)·z runs for a long time with the score of "
        "N(0, 1) and the large step h = 0.5. What is the variance of x in the end?",
        "4/3, not 1. The variance repeats itself when v = (1−h)²v + 2h, so v = 1/(1−h/2). Only as "
        "h goes to 0 is the walk exact.",
        _width,
        low=0.5,
        high=2.0,
        close=0.05,
    ),
    "modes": Curve(
        "Of the data, 20 % are in a mode on the right and 80 % on the left, far apart. Langevin "
        "dynamics starts from N(0, I): half of the particles on either side. Draw the share on "
        "the right over 300 steps: plain, with the score of the data alone.",
        "The plain walk hardly changes it: a particle would have to cross a valley where the data "
        "have next to no density. Annealed, from much noise to little, the valley is filled at "
        "first, and the share comes down to about 20 %.",
        _share,
        ("step", 0.0, 300.0),
        ("share on the right", 0.0, 1.0),
        [(0.0, 0.5)],
    ),
}
