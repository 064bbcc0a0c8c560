"""Predict cards of lecture 05: what training can reach, and what a choice costs."""

from __future__ import annotations

import torch

from ... import oracles, schedules
from ...data import toy
from ...forward import q_sample
from ...posterior import q_posterior
from .kinds import Card, Choice, Curve, Number

__all__ = ["CARDS"]


def _floor() -> tuple[list[float], dict[str, list[float]]]:
    """Loss of the exact denoiser of eight Gaussians at levels of the linear schedule."""
    chain, generator = schedules.linear(), torch.Generator().manual_seed(0)
    oracle = oracles.MixtureOracle(*toy.gaussians_mixture(), chain)
    x0 = oracle.sample(2000, generator)
    eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    levels = [1, 5, 10, 20, 40, 60, 80, 100, 150, *range(200, 1001, 50)]
    losses = [(oracle(q_sample(x0, t, eps, chain), t) - eps).square().mean() for t in levels]
    return [float(t) for t in levels], {"exact denoiser": [float(x) for x in losses]}


def _amplified() -> float:
    """Error of x0 where that of eps is 0.01, at t = T of the linear schedule."""
    chain = schedules.linear()
    return float(0.01 * chain.sqrt_one_minus_alpha_bar[-1] / chain.sqrt_alpha_bar[-1])


def _best_variance() -> int:
    """Which interval holds the best variance of a step, for eight Gaussians and the exact mean."""
    chain, generator, t = schedules.linear(20), torch.Generator().manual_seed(0), 3
    oracle = oracles.MixtureOracle(*toy.gaussians_mixture(), chain)
    x0 = oracle.sample(4000, generator)
    eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
    x_t = q_sample(x0, t, eps, chain)
    q, p = (q_posterior(x_t, x, t, chain) for x in (x0, oracle.x0(x_t, t)))
    best = float(q.var + (q.mean - p.mean).square().mean())
    low, high = float(chain.beta_tilde[t]), float(chain.beta[t])
    share = (best - low) / (high - low)  # of the way from beta_tilde to beta
    return int(share > -0.05) + int(share > 0.05) + int(share > 1.05)


CARDS: dict[str, Card] = {
    "floor": Curve(
        question=(
            "The best possible network knows E[ε | xₜ] exactly. Eight narrow Gaussians, linear "
            "schedule: draw its loss per dimension at each level t. (A network that always answers "
            "0 has loss 1.)"
        ),
        why=(
            "Near t = 0 the noise is smaller than a Gaussian, so xₜ says little about it: the loss "
            "is close to 1. It falls once the noise is wider than a Gaussian, rises while one "
            "cannot tell which of the eight it was, and falls to 0 as everything becomes noise. A "
            "small loss at large t is no achievement, a large one at small t no failure."
        ),
        answer=_floor,
        x=("t", 0.0, 1000.0),
        y=("loss per dimension", 0.0, 1.1),
    ),
    "amplified": Number(
        question=(
            "A network that predicts ε is wrong by 0.01 in each coordinate at t = T = 1000 (linear "
            "schedule). How wrong is the x₀ computed from it?"
        ),
        why=(
            "x₀ = (xₜ − √(1−ᾱ) ε)/√ᾱ, and √((1−ᾱ)/ᾱ) is about 157 at t = T. That is why samplers "
            "of images clip the predicted x₀, and why networks that predict v are calmer there."
        ),
        answer=_amplified,
        low=1e-4,
        high=100.0,
        close=3.0,
        log=True,
    ),
    "variance": Choice(
        question=(
            "A step back from xₜ has the exact mean E[μ̃ | xₜ]. Which variance gives the best "
            "bound? (Eight Gaussians, T = 20, t = 3.)"
        ),
        why=(
            "The best variance is β̃ plus the error of the mean, and even the exact mean has one: "
            "x₀ is not known. β̃ alone would be right if it were, β if the data were standard "
            "normal noise."
        ),
        options=("less than β̃", "β̃ itself", "between β̃ and β", "more than β"),
        answer=_best_variance,
    ),
}
