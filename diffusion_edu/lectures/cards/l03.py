"""Cards of lecture 03: one step back, by Bayes' rule."""

from __future__ import annotations

import torch

from ...posterior import q_posterior
from ...schedules import Schedule, constant
from ...viz import l03
from .kinds import Card, Choice, Curve

__all__ = ["CARDS"]

T, BETA, LEVEL = 10, 0.2, 5
SMALL_STEP, LARGE_STEP = 0.01, 0.9


def _schedule() -> Schedule:
    return constant(T, BETA)


def _width() -> int:
    """Which of the four: narrower than both, between, as wide as the step, wider than both."""
    schedule = _schedule()
    back, forth = schedule.beta_tilde[LEVEL], schedule.beta[LEVEL]
    prior = 1 - schedule.alpha_bar[LEVEL - 1]
    if torch.isclose(back, forth):
        return 2
    return 0 if back < min(forth, prior) else 3 if back > max(forth, prior) else 1


def _weights() -> tuple[list[float], dict[str, list[float]]]:
    schedule, t = _schedule(), torch.arange(1, T + 1)
    zero, one = torch.zeros(T, 1).double(), torch.ones(T, 1).double()
    on_x0 = q_posterior(zero, one, t, schedule).mean[:, 0]
    on_xt = q_posterior(one, zero, t, schedule).mean[:, 0]
    return t.tolist(), {"weight of x₀": on_x0.tolist(), "weight of xₜ": on_xt.tolist()}


def _unknown() -> int:
    """Bumps after a large and a small step: (1, 1), (2, 1), (1, 2), (2, 2)."""
    large, small = l03.bumps(LARGE_STEP), l03.bumps(SMALL_STEP)
    return [(1, 1), (2, 1), (1, 2), (2, 2)].index((large, small))


CARDS: dict[str, Card] = {
    "width": Choice(
        question=f"A chain of {T} steps, each with β = {BETA}. You know x₀ and x₅, and look for "
        "x₄. How wide is what Bayes' rule leaves open, compared with the noise of one step "
        "(variance β), and with what x₀ alone leaves open (variance 1 − ᾱ₄)?",
        options=(
            "narrower than both",
            "between the two",
            "exactly as wide as one step",
            "wider than both",
        ),
        answer=_width,
        why="Two sources of knowledge, x₀ and x₅, are combined. Precisions (one over variance) add "
        "up, α/β + 1/(1 − ᾱ₄), so the result is narrower than either source alone would leave it: "
        "β/α and 1 − ᾱ₄. As 1/(1 − ᾱ₄) is above 1, the sum is above 1/β too.",
    ),
    "weights": Curve(
        question=f"The mean of the step back is a weighted sum of x₀ and xₜ. Draw the weight of x₀ "
        f"against t, for {T} steps with β = {BETA}. At t = 1 it is 1: the step back ends at x₀.",
        answer=_weights,
        x=("t", 1.0, float(T)),
        y=("weight in the mean", 0.0, 1.0),
        marks=((1.0, 1.0),),
        why="x₀ decides everything at t = 1 and little a few steps later: xₜ₋₁ then holds much "
        "noise, of which x₀ knows nothing. xₜ takes over, but never with more than √α, as one step "
        "back undoes one step only.",
    ),
    "unknown": Choice(
        question="Now x₀ is not known, only that it is −1 or 1, equally likely; ᾱₜ₋₁ = 0.9. How "
        f"many bumps has the density of xₜ₋₁, given xₜ = 0.3: after one large step "
        f"(β = {LARGE_STEP}), and after one small step (β = {SMALL_STEP})?",
        options=(
            "large step: 1, small step: 1",
            "large step: 2, small step: 1",
            "large step: 1, small step: 2",
            "large step: 2, small step: 2",
        ),
        answer=_unknown,
        why="After a large step xₜ says little, and both data points remain possible. After a "
        "small one xₜ₋₁ must be near xₜ, where its density is smooth: little more than a bell "
        "curve is left.",
    ),
}
