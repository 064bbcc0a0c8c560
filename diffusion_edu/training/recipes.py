"""Recipes: everything that decides a trained network, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .._checks import check_choice
from ..data import toy
from ..nets.mlp import MLP
from ..nets.pretrained import build
from ..schedules import Schedule
from .loop import Config

__all__ = ["RECIPES", "Recipe", "recipe"]

# Streams of data seeds far from the small ones people use: "fresh data" is then really fresh.
POOL_SEED, VALIDATION_SEED = 2_000_000_000, 3_000_000_000
VALIDATION_SIZE = 4096

# Large batches and a step size that falls to 0: what limits a network this small is the noise of
# its gradients, and a sampler's mean and spread show it. A short EMA: the last steps are the best.
CONFIG = Config(
    steps=10_000, batch=1024, lr=3e-3, lr_end=0.0, warmup=500, ema=0.999, every=250, seed=0
)


@dataclass(frozen=True)
class Recipe:
    """How a shipped network was made.

    Attributes:
        data: a name for ``toy.load``; ``pool`` points of it are drawn once, by seed.
        net: arguments of ``MLP``; 41,794 weights, 167 kB, with the defaults.
        schedule: name and arguments of a constructor in ``schedules``. Cosine, because uniform
            steps then lose least: with the exact denoiser of the roll, DDIM in 50 steps ends at an
            MMD^2 of 3.3e-5 from DDIM in 1000, against 7.5e-5 with linear betas. The cap 0.05 keeps
            1/sqrt(alpha_bar_T) at 45 (uncapped 2e4), so errors of the network at t = T stay small.
        config: see ``Config``.
        threads: of torch while training. One, as networks this small gain nothing from more, and
            the result then does not depend on the number of cores.
    """

    data: str
    pool: int = 200_000
    net: dict[str, int] = field(
        default_factory=lambda: {"dim": 2, "width": 64, "depth": 4, "time_dim": 32}
    )
    schedule: dict[str, Any] = field(
        default_factory=lambda: {"name": "cosine", "T": 1000, "max_beta": 0.05}
    )
    config: Config = CONFIG
    threads: int = 1

    def with_config(self, **changes: Any) -> Recipe:
        """The same recipe with some fields of its config changed; None leaves a field alone."""
        given = {k: v for k, v in changes.items() if v is not None}
        return replace(self, config=replace(self.config, **given))

    def network(self) -> tuple[MLP, Schedule]:
        """An untrained network, initialised by the recipe's seed, and the schedule."""
        # torch's layers draw from the global generator: use it, then put it back as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return build(self.net, self.schedule)

    def points(self) -> tuple[Tensor, Tensor]:
        """Training pool (pool, 2) and validation points (4096, 2)."""
        pool = toy.load(self.data, self.pool, POOL_SEED + self.config.seed)
        return pool, toy.load(self.data, VALIDATION_SIZE, VALIDATION_SEED)

    def plain(self) -> dict[str, Any]:
        """As nested dicts of plain values, for files."""
        return asdict(self)


RECIPES: dict[str, Recipe] = {name: Recipe(name) for name in ("swiss_roll", "moons", "gaussians")}


def recipe(name: str) -> Recipe:
    """The named recipe. Raises ValueError with the nearest name if there is none."""
    check_choice(name, RECIPES, "recipe")
    return RECIPES[name]
