"""Cards of lecture 08: one latent in fewer steps, the error of a round trip, straight mixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ...data import toy
from ...oracles import MixtureOracle
from ...sampling import ddim, reconstruct, slerp
from ...schedules import linear
from .kinds import Card, Choice, Curve, Number

__all__ = ["CARDS"]


def _oracle() -> MixtureOracle:
    return MixtureOracle(*toy.gaussians_mixture(), linear(1000))


def _near_or_far() -> int:
    """0, 1 or 2: ten steps end near where fifty do, at another place of the data, or off it."""
    oracle, g = _oracle(), torch.Generator().manual_seed(0)
    x_T = torch.randn(500, 2, generator=g, dtype=torch.float64)
    few, many = (ddim(oracle, x_T, oracle.schedule, steps) for steps in (10, 50))
    apart = (few - many).square().mean().sqrt()
    unrelated = (few - many.flip(0)).square().mean().sqrt()
    if apart < unrelated / 4:
        return 0
    away = torch.cdist(few, many).min(1).values.mean()
    return 1 if away < 0.2 else 2


def _times_smaller() -> float:
    """Mean squared error of the round trip in 50 steps over that in 200."""
    oracle, x0 = _oracle(), toy.gaussians(100, seed=1).double()
    errors = [
        (reconstruct(oracle, x0, oracle.schedule, steps) - x0).square().mean()
        for steps in (50, 200)
    ]
    return float(errors[0] / errors[1])


def _lengths() -> tuple[Sequence[float], Mapping[str, Sequence[float]]]:
    """Mean length of a mix of two noises in 1,024 dimensions, over the root of 1,024."""
    a, b = torch.randn(2, 200, 1024, generator=torch.Generator().manual_seed(0))
    lams = [i / 20 for i in range(21)]

    def length(x: torch.Tensor) -> float:
        return float(x.norm(dim=1).mean() / 1024**0.5)

    straight = [length(torch.lerp(a, b, lam)) for lam in lams]
    return lams, {"straight": straight, "slerp": [length(slerp(a, b, lam)) for lam in lams]}


CARDS: dict[str, Card] = {
    "same": Choice(
        question=(
            "One latent x_T, the same network, η = 0. You sample in 50 steps, then again in 10. "
            "Where does the second sample end?"
        ),
        why=(
            "Both walks approximate the same curve, which x_T alone decides. Fewer steps follow it "
            "less exactly, and end a little beside it."
        ),
        options=(
            "Near the first one",
            "At another place of the data, as good",
            "Off the data",
        ),
        answer=_near_or_far,
    ),
    "trip": Number(
        question=(
            "Data → noise → data, with the exact denoiser of eight Gaussians. With four times the "
            "steps (200 in place of 50), how many times smaller is the mean squared error?"
        ),
        why=(
            "Once the steps are small the error of Euler's method is proportional to 1/S, so its "
            "square falls like 1/S²: about 16 times for four times the steps."
        ),
        answer=_times_smaller,
        low=1,
        high=1000,
        close=1.5,
        log=True,
        unit="times",
    ),
    "length": Curve(
        question=(
            "Two latents, independent standard normal noise in 1,024 dimensions: both have length "
            "√1024, here 1. Draw the length of the straight mix (1 − λ) a + λ b over λ."
        ),
        why=(
            "In many dimensions two noises are nearly at right angles, so the straight mix has the "
            "length √((1 − λ)² + λ²): 0.71 in the middle. The arc, slerp, keeps the length."
        ),
        answer=_lengths,
        x=("λ", 0, 1),
        y=("length / √1024", 0, 1.5),
        marks=((0.0, 1.0), (1.0, 1.0)),
    ),
}
