"""Networks by name: shipped, published by others, or of a file that ``train --export`` wrote."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import schedules
from .._checks import check_choice
from .._files import find_weights, read_weights, shipped
from ..schedules import Schedule
from . import hub
from .as_eps import AsEps
from .mlp import MLP
from .unet import UNet, UNetConfig

__all__ = ["FORMAT", "WEIGHTS", "Pretrained", "build", "pretrained", "pretrained_names"]

FORMAT = "diffusion_edu weights 2"
WEIGHTS = Path(__file__).parent / "weights"
SCHEDULES = ("linear", "quadratic", "cosine", "sigmoid", "sigmoid_alpha_bar", "jsd")


@dataclass(frozen=True)
class Pretrained:
    """What a weights file says about itself.

    Attributes:
        data: the data set (see ``toy.load``, ``images.load``).
        official: False if the training images were not the published files of that data set.
        shape: *D of one example as the network takes it, padding included.
        recipe: everything needed to train it again: data, net, schedule, config (with the seed).
        images: examples seen in training.
        loss: final validation loss (see ``training.evaluate``), L_simple of the averaged weights.
        metrics: how good samples are. Points: "mmd2", MMD^2 of DDIM samples to fresh data, one
            value per seed (see ``training.measure``), and "mmd2_null", the 95th percentile of MMD^2
            between two fresh draws of the data. Images: what ``diffusion-edu evaluate`` reports.
        torch: version of torch that trained it.
        path: the file.
    """

    data: str
    official: bool
    shape: tuple[int, ...]
    recipe: dict[str, Any]
    images: int
    loss: float
    metrics: dict[str, Any]
    torch: str
    path: Path

    @property
    def seed(self) -> int:
        """Seed of the training run."""
        return int(self.recipe["config"]["seed"])

    @property
    def pad(self) -> int:
        """Black pixels on every side of an image that are not part of the data."""
        return int(self.recipe.get("pad", 0))


def pretrained_names() -> tuple[str, ...]:
    """Names of the shipped networks."""
    return shipped(WEIGHTS)


def pretrained(
    name: str | Path,
) -> tuple[MLP | UNet | AsEps, Schedule, Pretrained | hub.PublishedInfo]:
    """A trained network in eval mode, the schedule it was trained with, and what is known of it.

    Args:
        name: of a shipped network ("swiss_roll", "moons", "gaussians" for points; "digits",
            "mnist" for images, told the class or None by model(x, t, y); "colour_digits" for images
            without classes), or the path of a ``.safetensors`` file written by ``diffusion-edu
            train --export``, or of a network published by others: "google/ddpm-cifar10-32",
            downloaded once (143 MB), or "google/ddpm-ema-cifar10-32", whose file must be got by
            hand (see ``nets.hub``).

    Raises:
        ValueError: unknown name (the nearest is suggested), or a file that is missing or foreign.
        ConnectionError: a published network is not here and could not be had; says what to do.
    """
    if name in hub.NAMES:
        return hub.published(str(name))
    names = (*pretrained_names(), *hub.NAMES)
    return _load(find_weights(name, WEIGHTS, names, "pretrained network"))


def _load(path: Path) -> tuple[MLP | UNet | AsEps, Schedule, Pretrained]:
    """Network, schedule and metadata of a file of this library."""
    foreign, advice = "was not written by this library", "use train --export"
    tensors, about = read_weights(path, FORMAT, foreign, advice)
    try:
        info = Pretrained(path=path, **{**about, "shape": tuple(about["shape"])})
        model, schedule = build(info.recipe["net"], info.recipe["schedule"])
        model.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} cannot be rebuilt into a network: {error}") from error
    return model.eval().requires_grad_(False), schedule, info


def build(net: dict[str, Any], schedule: dict[str, Any]) -> tuple[MLP | UNet | AsEps, Schedule]:
    """A fresh network for the chain, and the schedule, e.g. {"name": "linear", "T": 1000}.

    ``net`` holds the arguments of ``MLP``, or with "type": "UNet" those of ``UNetConfig``; with
    "predicts": "v" (or another kind) the network predicts that, and ``AsEps`` makes it noise.
    """
    options = dict(schedule)
    name = options.pop("name")
    check_choice(name, SCHEDULES, "schedule")  # the name may come from a file: never any attribute
    chain: Schedule = getattr(schedules, name)(**options)
    shape = dict(net)
    family, predicts = shape.pop("type", "MLP"), shape.pop("predicts", "eps")
    check_choice(family, ("MLP", "UNet"), "type of network")
    made = MLP(**shape, T=chain.T) if family == "MLP" else UNet(UNetConfig(**shape, T=chain.T))
    return made if predicts == "eps" else AsEps(made, predicts, chain), chain
