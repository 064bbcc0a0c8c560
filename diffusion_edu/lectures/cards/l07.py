"""Cards of lecture 07: the marginal of q_sigma, DDPM's noise when levels are skipped, sigma-hat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch

from ...evaluation.table import HAT, PUBLISHED, PUBLISHED_STEPS
from ...forward import q_marginal
from ...posterior import ddim_sigma, q_sigma
from ...schedules import linear
from ...spacing import timesteps
from .kinds import Card, Choice, Curve, Number

__all__ = ["CARDS"]


def _marginal() -> int:
    """0, 1 or 2: the variance of x_s given x_0 grows, shrinks or stays when sigma grows."""
    schedule, t, s = linear(1000), 600, 500
    x0 = torch.zeros(2, 1, dtype=torch.float64)
    x_t = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    spread = q_marginal(x0[:1], t, schedule).var

    def variance(eta: float) -> float:
        back = q_sigma(x_t, x0, t, s, ddim_sigma(t, s, eta, schedule), schedule)
        slope = back.mean[1] - back.mean[0]
        return float(slope**2 * spread.flatten() + back.var.flatten()[0])

    change = variance(1.0) - variance(0.0)
    return 2 if abs(change) < 1e-9 else (0 if change > 0 else 1)


def _sigmas() -> tuple[Sequence[float], Mapping[str, Sequence[float]]]:
    """DDPM's noise scale in each of ten steps, over the level that the step leaves."""
    schedule = linear(1000)
    pairs = list(pairwise(timesteps(1000, 10).flip(0).tolist()))
    found = [float(ddim_sigma(t, s, 1.0, schedule)) for s, t in pairs]
    return [t for _, t in pairs], {"σ at η = 1, S = 10": found}


def _times_worse() -> float:
    """FID of sigma-hat over that of eta = 0, CIFAR-10, ten steps."""
    column = PUBLISHED_STEPS.index(10)
    return PUBLISHED[HAT][column] / PUBLISHED["0"][column]


CARDS: dict[str, Card] = {
    "marginal": Choice(
        question=(
            "Take x₀ as known. Draw xₜ, then step back to x_s by q_σ. You turn σ up. What happens "
            "to the variance of x_s around √ᾱ_s x₀?"
        ),
        why=(
            "The weight of the old noise is √(1 − ᾱ_s − σ²): what σ brings in is taken out of the "
            "old noise. The two variances always add up to 1 − ᾱ_s. This is how the family was "
            "designed."
        ),
        options=("It grows", "It shrinks", "It stays the same"),
        answer=_marginal,
    ),
    "sigma": Curve(
        question=(
            "Ten uniform steps through the 1000 levels of DDPM's linear schedule, with η = 1. Draw "
            "the noise scale σ of a step over the level t that the step leaves."
        ),
        why=(
            "At the noisy end a step replaces nearly all the old noise: σ is close to 1. The last "
            "step goes to level 0, where there is no noise to replace, so σ is 0."
        ),
        answer=_sigmas,
        x=("level t", 0, 1000),
        y=("σ", 0, 1),
    ),
    "hat": Number(
        question=(
            "DDPM trained for 1000 steps, CIFAR-10, sampled in 10. The paper measured the FID with "
            "η = 0 and with DDPM's larger variance σ̂. How many times larger is the second?"
        ),
        why=(
            "With σ̂ a long step adds more noise than the level it arrives at should have. The "
            "network, told the lower level, leaves what is too much in the picture."
        ),
        answer=_times_worse,
        low=1,
        high=100,
        close=1.5,
        log=True,
        unit="times",
    ),
}
