"""Predict cards of lecture 11: is it any good?"""

from __future__ import annotations

import torch

from ...data import images, toy
from ...evaluation.features import features_for
from ...metrics import energy_distance, frechet_distance, precision_recall, sliced_wasserstein2
from .kinds import Card, Choice, Curve, Number

__all__ = ["CARDS", "frechet_of_points", "inception_score"]

DIM, REPEATS = 8, 40


def frechet_of_points(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Frechet distance of two clouds (n, d), (m, d), by their sample moments."""
    return frechet_distance(x.mean(0), x.T.cov(), y.mean(0), y.T.cov())


def inception_score(logits: torch.Tensor) -> torch.Tensor:
    """exp of the mean KL( p(y | image) || p(y) ), from a classifier's logits (n, K)."""
    log_p = logits.double().log_softmax(1)
    overall = log_p.exp().mean(0)
    kl = (log_p.exp() * (log_p - overall.log())).sum(1)
    return kl.mean().exp()


def _blind() -> int:
    """Which metric does not tell a Gaussian from eight of the same moments."""
    n, g = 1000, torch.Generator().manual_seed(0)
    many, data, fresh = (toy.gaussians(k, seed) for k, seed in ((20_000, 1), (n, 2), (n, 3)))
    root = torch.linalg.cholesky(many.T.cov())
    fake = many.mean(0) + torch.randn(n, 2, generator=g) @ root.T
    lack = [1 - float(precision_recall(data, x).precision) for x in (fake, fresh)]
    pairs = [
        [float(f(x, data)) for x in (fake, fresh)]
        for f in (sliced_wasserstein2, energy_distance, frechet_of_points)
    ]
    times = [bad / good for bad, good in [*pairs, lack]]
    return times.index(min(times))


def _bias() -> tuple[list[float], dict[str, list[float]]]:
    """Mean Frechet distance of two clouds of n points from the same N(0, I)."""
    sizes, g = (30, 50, 75, 100, 150, 200, 300, 400, 500), torch.Generator().manual_seed(0)
    means = []
    for n in sizes:
        pairs = torch.randn(REPEATS, 2, n, DIM, generator=g, dtype=torch.float64)
        means.append(sum(float(frechet_of_points(x, y)) for x, y in pairs) / REPEATS)
    return [float(n) for n in sizes], {"both N(0, I)": means}


def _ten() -> float:
    """Inception score of ten test digits, one of each class, over and over."""
    test = images.load("digits", "test")
    ten = torch.stack([test.images[test.labels == k][0] for k in range(10)])
    return float(inception_score(features_for("digits")(ten.repeat(100, 1, 1, 1))[1]))


CARDS: dict[str, Card] = {
    "blind": Choice(
        "The data are eight small bumps on a circle. The samples come from one broad Gaussian with "
        "exactly the mean and the covariance of the data: most of them lie where there are no "
        "data. One of these metrics sees nothing wrong. Which?",
        "The Fréchet distance knows means and covariances, and these agree. FID is the same "
        "formula in the features of a network.",
        ("sliced Wasserstein", "energy distance", "Fréchet distance", "precision"),
        _blind,
    ),
    "bias": Curve(
        "Two clouds of n points are drawn from the same normal distribution in 8 dimensions. Their "
        "true Fréchet distance is 0. Draw the mean of the distance that is measured, over n.",
        "It is never 0: it falls like 1/n, from about 1.7 at n = 30. The covariances have 36 free "
        "numbers, and each is off by chance; all errors add up, none is negative.",
        _bias,
        ("points in each cloud", 30.0, 500.0),
        ("Fréchet distance", 0.0, 2.0),
    ),
    "ten": Number(
        "A generator has stored ten real digits, one of each class, and shows them over and over. "
        "The Inception score goes from 1 (worst) to 10 (best, for ten classes). What does this "
        "generator get?",
        "Nearly 10, no less than real test images. The score asks whether a classifier is sure of "
        "each image and whether all classes occur. It never looks at data.",
        _ten,
        low=1.0,
        high=10.0,
        close=0.5,
    ),
}
