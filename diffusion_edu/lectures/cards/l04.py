"""Cards of lecture 04: from the likelihood to a loss."""

from __future__ import annotations

import math

import torch

from ...forward import q_marginal
from ...gaussian import Gaussian, bits_per_dim
from ...objectives import loss_weight
from ...schedules import linear
from .kinds import Card, Choice, Curve, Number

__all__ = ["CARDS"]

WIDE = 4.0  # the larger of the two variances


def _normal(var: float) -> Gaussian:
    return Gaussian(torch.zeros(1, 1).double(), torch.full((1, 1), var, dtype=torch.float64))


def _kl() -> int:
    """Which is larger: 0 narrow from wide, 1 wide from narrow, 2 neither."""
    narrow, wide = _normal(1.0), _normal(WIDE)
    first, second = float(narrow.kl(wide)), float(wide.kl(narrow))
    return 2 if math.isclose(first, second) else int(second > first)


def _prior() -> float:
    """L_T of DDPM's schedule in bits/dim, for data with mean square 1."""
    schedule, one = linear(1000), torch.ones(1, 1).double()
    nats = q_marginal(one, 1000, schedule).kl(_normal(1.0))
    return float(bits_per_dim(nats, 1))


def _weight() -> tuple[list[float], dict[str, list[float]]]:
    t = torch.arange(1, 1001)
    return t.tolist(), {"log₁₀ of the weight": loss_weight(t, linear(1000)).log10().tolist()}


CARDS: dict[str, Card] = {
    "kl": Choice(
        question=f"A narrow Gaussian N(0, 1) and a wide one N(0, {WIDE:g}). Which divergence is "
        "larger: that of the narrow from the wide, KL(narrow ‖ wide), or KL(wide ‖ narrow)?",
        options=("KL(narrow ‖ wide)", "KL(wide ‖ narrow)", "both are the same"),
        answer=_kl,
        why="The average is over the first. Draws of the wide one often land where the narrow one "
        "has almost no density, and that costs a lot; draws of the narrow one are always plausible "
        "under the wide one.",
    ),
    "prior": Number(
        question="DDPM's schedule, β from 0.0001 to 0.02 in 1,000 steps: how large is L_T, in bits "
        "per dimension, for data with mean square 1? (A whole image costs about 3.75 bits per "
        "dimension.)",
        answer=_prior,
        low=1e-8,
        high=1.0,
        close=4.0,
        log=True,
        unit="bits/dim",
        why="ᾱ_T is 0.00004, and L_T is about half of it in nats. It is not 0, but about 100,000 "
        "times smaller than what the other terms cost. Betas from 0.0001 to 0.02 in only 100 steps "
        "would leave a third of a bit.",
    ),
    "weight": Curve(
        question="DDPM's schedule (β grows evenly from 0.0001 to 0.02), σ² = β. Draw the logarithm "
        "(base 10) of the weight of ‖ε − ε_θ‖² in the bound against t. At t = 1 it is that of ½.",
        answer=_weight,
        x=("t", 1.0, 1000.0),
        y=("log₁₀ of the weight", -3.0, 0.0),
        marks=((1.0, float(loss_weight(1, linear(1000)).log10())),),
        why="A steep fall over the first levels, by more than a factor of 25 until t = 50. It is "
        "often said to fall throughout, but 1 − ᾱ stops growing while β goes on: the smallest "
        "weight is at t = 349, and at t = 1000 it is twice as large.",
    ),
}
