"""Recipes: everything that decides a trained network, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from .._checks import check_choice
from ..data import images, toy
from ..data.loader import Loader
from ..nets.pretrained import build
from ..nets.switches import seeded
from ..schedules import Schedule
from .config import Config
from .heldout import Held, validation_set

__all__ = ["RECIPES", "ImageRecipe", "Recipe", "recipe"]

# Streams of data seeds far from the small ones people use: "fresh data" is then really fresh.
POOL_SEED, VALIDATION_SEED = 2_000_000_000, 3_000_000_000
VALIDATION_SIZE = 4096

# Large batches and a step size that falls to 0: what limits a network this small is the noise of
# its gradients, and a sampler's mean and spread show it. A short EMA: the last steps are the best.
CONFIG = Config(
    steps=10_000, batch=1024, lr=3e-3, lr_end=0.0, warmup=500, ema=0.999, every=250, seed=0
)


@dataclass(frozen=True)
class _Plan:
    """What all recipes share: ``net``, ``schedule``, ``config`` and ``threads`` of their fields."""

    net: dict[str, Any]
    schedule: dict[str, Any]
    config: Config
    threads: int

    def with_config(self, **changes: Any) -> Self:
        """The same recipe with some fields of its config changed; None leaves a field alone."""
        given = {k: v for k, v in changes.items() if v is not None}
        return replace(self, config=replace(self.config, **given))

    def network(self) -> tuple[nn.Module, Schedule]:
        """An untrained network, initialised by the recipe's seed, and the schedule."""
        with seeded(self.config.seed):
            return build(self.net, self.schedule)

    def plain(self) -> dict[str, Any]:
        """As nested dicts of plain values, for files."""
        return asdict(self)


@dataclass(frozen=True)
class Recipe(_Plan):
    """How a shipped network for points was made.

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

    net: dict[str, Any] = field(
        default_factory=lambda: {"dim": 2, "width": 64, "depth": 4, "time_dim": 32}
    )
    schedule: dict[str, Any] = field(
        default_factory=lambda: {"name": "cosine", "T": 1000, "max_beta": 0.05}
    )
    config: Config = CONFIG
    threads: int = 1
    data: str = "swiss_roll"
    pool: int = 200_000

    def load(self, schedule: Schedule, **_: Any) -> tuple[Tensor, Held]:
        """Training points (pool, 2), and the validation set."""
        pool, held = self.points()
        return pool, validation_set(held, schedule)

    def points(self) -> tuple[Tensor, Tensor]:
        """Training pool (pool, 2) and validation points (4096, 2)."""
        pool = toy.load(self.data, self.pool, POOL_SEED + self.config.seed)
        return pool, toy.load(self.data, VALIDATION_SIZE, VALIDATION_SEED)


@dataclass(frozen=True)
class ImageRecipe(_Plan):
    """How a network for images is made.

    Attributes:
        net: arguments of ``UNetConfig``, with "type": "UNet".
        threads: of torch while training, on a CPU.
        data: a name for ``images.load``: its training images, and its test images for validation.
        pad: black pixels added on every side, so that the size can be halved often enough.
        flip: mirror training images at random.
        held: how many examples the validation loss is taken over.
        pictures: records between two grids of samples.
    """

    data: str = ""
    pad: int = 0
    flip: bool = False
    held: int = 1024
    pictures: int = 4

    def load(
        self, schedule: Schedule, device: torch.device | str = "cpu", **where: Any
    ) -> tuple[Loader, Held]:
        """The training images on ``device``, and the validation set: test images with labels.

        ``where`` goes to ``images.load`` (root, download).
        """
        loader = Loader(
            images.load(self.data, "train", **where), device, flip=self.flip, pad=self.pad
        )
        test = Loader(images.load(self.data, "test", **where), pad=self.pad)
        labels = test.labels if self.config.drop_label is not None else None
        return loader, validation_set(test.images, schedule, self.held, labels)


# ---- the recipes ---------------------------------------------------------------------------------

LINEAR = {"name": "linear", "T": 1000}  # the paper's: beta from 1e-4 to 0.02

# What one CPU core can do in an hour or two. 28 x 28 is padded to 32 x 32 = 2^5 here; squares of
# 2 x 2 pixels then make one position of 16 x 16, which quarters the work of every layer. It
# predicts v: in so few steps one that predicts the noise does not learn where digits begin.
_MNIST = ImageRecipe(
    data="mnist",
    net={
        "type": "UNet", "image_channels": 1, "patch": 2, "channels": [48, 96, 96], "blocks": 1,
        "attention": [], "groups": 16, "dropout": 0.0, "classes": 10, "predicts": "v",
    },
    schedule=LINEAR,
    config=Config(
        steps=10_000, batch=128, lr=1e-3, lr_end=0.0, warmup=300, ema=0.999, every=200,
        times="stratified", precision="bfloat16", drop_label=0.25,
    ),
    threads=1,
    pad=2,
    pictures=5,
)  # fmt: skip

_DIGITS = ImageRecipe(
    data="digits",
    net={
        "type": "UNet", "image_channels": 1, "channels": [32, 64], "blocks": 1, "attention": [1],
        "groups": 8, "dropout": 0.1, "classes": 10,
    },
    schedule=LINEAR,
    config=Config(
        steps=6_000, batch=128, lr=1e-3, lr_end=0.0, warmup=200, ema=0.999, every=200,
        times="stratified", drop_label=0.2,
    ),
    threads=1,
    pictures=5,
)  # fmt: skip

# No classes: lecture 10 conditions it on what it was never trained for, a gray picture. It predicts
# v, because the hue is decided where there is nearly no signal, and there v is nearly -x_0.
_COLOUR_DIGITS = ImageRecipe(
    data="colour_digits",
    net={
        "type": "UNet", "image_channels": 3, "channels": [32, 48], "blocks": 1, "attention": [1],
        "groups": 8, "dropout": 0.1, "predicts": "v",
    },
    schedule=LINEAR,
    config=Config(
        steps=5_000, batch=64, lr=1e-3, lr_end=0.0, warmup=200, ema=0.999, every=200,
        times="stratified",
    ),
    threads=1,
    pictures=5,
)  # fmt: skip

# The paper's run (2006.11239 app. B): 35.7 M parameters, 800,000 steps of 128 images.
_CIFAR10 = ImageRecipe(
    data="cifar10",
    net={"type": "UNet"},
    schedule=LINEAR,
    config=Config(
        steps=800_000, batch=128, lr=2e-4, warmup=5_000, ema=0.9999, every=1_000,
        times="stratified", precision="bfloat16",
    ),
    threads=2,
    flip=True,
    held=4096,
    pictures=5,
)  # fmt: skip

# The same network with half the channels, for one GPU and half an hour.
_CIFAR10_SMALL = replace(
    _CIFAR10,
    net={
        "type": "UNet", "channels": [64, 128, 128, 128], "blocks": 1, "groups": 16, "dropout": 0.05,
    },
    config=replace(
        _CIFAR10.config, steps=40_000, batch=256, lr=1e-3, lr_end=0.0, warmup=1_000, ema=0.9995
    ),
)  # fmt: skip

RECIPES: dict[str, Recipe | ImageRecipe] = {
    **{name: Recipe(data=name) for name in ("swiss_roll", "moons", "gaussians")},
    "digits": _DIGITS,
    "colour_digits": _COLOUR_DIGITS,
    "mnist": _MNIST,
    "fashion_mnist": replace(_MNIST, data="fashion_mnist"),
    "cifar10-small": _CIFAR10_SMALL,
    "cifar10": _CIFAR10,
}


def recipe(name: str) -> Recipe | ImageRecipe:
    """The named recipe. Raises ValueError with the nearest name if there is none."""
    check_choice(name, RECIPES, "recipe")
    return RECIPES[name]
