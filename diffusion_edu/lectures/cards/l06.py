"""Predict cards of lecture 06: what noise on the way back does, and when things are decided."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import schedules
from ...data import toy
from ...forward import q_sample
from ...schedules import Schedule
from ...spacing import timesteps
from .kinds import Card, Curve, Number

__all__ = ["CARDS"]


def _shares(x_t: Tensor, t: int, schedule: Schedule) -> Tensor:
    """P(component | x_t) for the eight Gaussians of ``toy.gaussians``, (B, 8), by Bayes' rule."""
    means, variances, weights = toy.gaussians_mixture()
    level = schedule.alpha_bar[t]
    spread = level * variances + 1 - level  # of a component at level t
    away = (x_t[:, None].double() - level.sqrt() * means).square().sum(2)
    return (weights.log() - away / (2 * spread) - spread.log()).softmax(1)


def _collapsed() -> float:
    """Standard deviation of what is left of N(0, 1) when no noise is added on the way back."""
    chain = schedules.linear()
    return float(chain.alpha.sqrt().prod())  # the mean of a step is sqrt(alpha_t) x_t


def _grain() -> float:
    """Noise of variance beta in the last of 20 steps, in grey levels of 0..255."""
    chain = schedules.linear()
    short = schedules.respace(chain, timesteps(chain.T, 20))
    return float(short.beta[1].sqrt() * 255 / 2)


def _same() -> tuple[list[float], dict[str, list[float]]]:
    """Probability that two x_0 from one x_t belong to the same of eight Gaussians."""
    chain, generator = schedules.linear(), torch.Generator().manual_seed(0)
    x0 = toy.gaussians(2000, seed=1)
    eps = torch.randn(x0.shape, generator=generator)
    levels = [1, *range(50, 1001, 50)]
    same = [_shares(q_sample(x0, t, eps, chain), t, chain).square().sum(1) for t in levels]
    return [float(t) for t in levels], {"exact": [float(p.mean()) for p in same]}


CARDS: dict[str, Card] = {
    "collapsed": Number(
        question=(
            "Data are standard normal numbers, the denoiser is exact, T = 1000, linear schedule. "
            "You walk from noise to data by the means alone and never add noise. What is the "
            "standard deviation of the result? (It should be 1.)"
        ),
        why=(
            "Each mean is √α times the point before: a step back shrinks just as the step "
            "forward did. All of them together give √ᾱ at T, 0.00635. The noise of a step is what "
            "keeps the samples apart."
        ),
        answer=_collapsed,
        low=1e-4,
        high=10.0,
        close=2.0,
        log=True,
    ),
    "grain": Number(
        question=(
            "Images in [−1, 1], 20 steps of the linear chain, σ² = β. By mistake the last step "
            "adds its noise too. By how many of 255 grey levels is a pixel off, typically?"
        ),
        why=(
            "With all 1000 steps it is 1.3 grey levels, and nobody notices. With 20 steps the last "
            "goes from t = 50 to 0, and its noise is visible grain: nothing comes after it to "
            "take it away."
        ),
        answer=_grain,
        low=0.1,
        high=200.0,
        close=1.6,
        log=True,
        unit="grey levels",
    ),
    "same": Curve(
        question=(
            "Eight narrow Gaussians on a circle. Freeze one xₜ and walk down from it twice, with "
            "different noise. Draw the probability that both end in the same Gaussian, against t."
        ),
        why=(
            "At t = 0 it is 1, at t = T one in eight. The choice is made in one part of the way: "
            "above it xₜ says nothing, below it all but the place inside the Gaussian is settled."
        ),
        answer=_same,
        x=("t", 0.0, 1000.0),
        y=("probability", 0.0, 1.05),
    ),
}
