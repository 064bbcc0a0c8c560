"""Samples of a network, chunk by chunk: the same from any number of processes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .. import _parallel
from .._checks import check_choice, check_count
from ..data.images import to_uint8
from ..nets.switches import Precision, autocast
from ..nets.unet import classes_of, has_variance
from ..prediction import Model, guided
from ..sampling import Variance, sample
from ..schedules import Schedule

__all__ = ["Labels", "Sampling", "chunk_generator", "chunks", "generate"]

Labels = Literal["balanced", "none"]


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn.

    Attributes:
        n: how many.
        steps, eta, variance: see ``sample``; the levels are ``timesteps(T, steps)``. A network
            that has learned its variance can be sampled with any; the others have not got it.
        guidance: 1: the network as it is; see ``guided``. It acts on a learned variance alike.
        labels: "balanced": image i is asked to be of class i mod K, if the network knows classes;
            "none": no class is asked for.
        seed: of all noise. The same plan gives the same images.
        batch: images at once; other batches get other noise.
        precision: "bfloat16" computes the network in half the bits.
        clip: bound of the predicted x0 (see ``sample``); ``generate``, of images, ends in [-1, 1]
            in any case. Points have no bounds: None.
    """

    n: int = 10_000
    steps: int = 50
    eta: float = 0.0
    variance: Variance = "eta"
    guidance: float = 1.0
    labels: Labels = "balanced"
    seed: int = 0
    batch: int = 250
    precision: Precision = "float32"
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        for name in ("n", "steps", "batch"):
            check_count(getattr(self, name), 1, None, name)
        check_count(self.seed, 0, None, "seed")
        check_choice(self.variance, get_args(Variance), "variance")
        check_choice(self.labels, get_args(Labels), "labels")
        check_choice(self.precision, get_args(Precision), "precision")
        if not (math.isfinite(self.guidance) and 0 <= self.eta <= 1):
            raise ValueError(
                "guidance must be finite and eta lie in [0, 1], "
                f"got guidance={self.guidance}, eta={self.eta}"
            )

    @property
    def sizes(self) -> list[int]:
        """How many images each chunk has."""
        return [min(self.batch, self.n - start) for start in range(0, self.n, self.batch)]


def generate(
    model: nn.Module,
    schedule: Schedule,
    shape: tuple[int, ...],
    plan: Sampling,
    *,
    progress: bool = True,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """``chunks`` of images: shape (C, H, W) as the network takes it, padding included.

    Yields:
        Images (b, C, H, W) uint8 and the classes asked for (b,), or None, on the model's device.
    """
    for x, y in chunks(model, schedule, shape, plan, progress=progress):
        yield to_uint8(x), y


def chunks(
    model: nn.Module,
    schedule: Schedule,
    shape: tuple[int, ...],
    plan: Sampling,
    *,
    progress: bool = True,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Draw plan.n samples, a chunk of plan.batch at a time; memory does not grow with n.

    Chunk k is drawn from a seed made of (plan.seed, k) alone. Processes within
    ``_parallel.together`` yield the chunks k = rank modulo world: all of them together yield what
    one process yields.

    Args:
        model: model(x_t, t), or model(x_t, t, y) with a ``config.classes``; left in eval mode.
        shape: *D of one sample.
        progress: draw a bar, on a terminal, in the first process alone.

    Yields:
        Samples (b, *D) float32 and the classes asked for (b,), or None, on the model's device.

    Raises:
        ValueError: at the first chunk, for guidance without classes, or a variance that the network
            has not learned.
    """
    classes = _classes(model, plan)
    model.eval()
    mine = list(enumerate(plan.sizes))[_parallel.rank() :: _parallel.world()]
    total, quiet = sum(size for _, size in mine), _parallel.quiet(progress)
    # unit_scale: a step advances by a fraction of a sample, of which not all digits are wanted
    with tqdm(total=total, unit="sample", unit_scale=True, disable=quiet) as bar:
        for k, size in mine:
            y = (k * plan.batch + torch.arange(size)) % classes if classes else None
            advance = partial(bar.update, size / plan.steps)
            yield _chunk(model, schedule, (size, *shape), y, plan, k, advance)


def chunk_generator(seed: int, k: int) -> torch.Generator:
    """Where the noise of chunk number k comes from: the CPU, so that every device has the same."""
    # One odd factor apart, so that no two of few seeds and chunks meet.
    return torch.Generator().manual_seed((seed * 1_000_003 + k) % 2**63)


def _classes(model: nn.Module, plan: Sampling) -> int:
    """How many classes are asked for, 0 for none. ValueError for what the network cannot do."""
    asked = classes_of(model) if plan.labels == "balanced" else 0
    if plan.guidance != 1 and not asked:
        raise ValueError(
            f"guidance={plan.guidance} needs classes to ask for: use guidance=1, or a network with "
            "classes and labels='balanced'"
        )
    if plan.variance == "learned" and not has_variance(model):
        raise ValueError(
            "variance='learned' needs a network that has learned one (config.learned_variance): "
            "use variance='eta' or 'large'"
        )
    return asked


@torch.no_grad()
def _chunk(
    model: nn.Module,
    schedule: Schedule,
    size: tuple[int, ...],
    y: Tensor | None,
    plan: Sampling,
    k: int,
    advance: Callable[[], object],
) -> tuple[Tensor, Tensor | None]:
    """Chunk number k; ``advance`` is called after each step."""
    device = next(model.parameters()).device
    y = None if y is None else y.to(device)
    g = chunk_generator(plan.seed, k)
    x = torch.randn(size, generator=g).to(device)
    steps = sample(
        _network(model, y, plan),
        x,
        schedule,
        plan.steps,
        eta=plan.eta,
        variance=plan.variance,
        clip=plan.clip,
        generator=g,
    )
    with autocast(device, plan.precision):
        for step in steps:
            x = step.x_s
            advance()
    return x.float(), y


def _network(model: nn.Module, y: Tensor | None, plan: Sampling) -> Model:
    """model(x_t, t) told the classes y, guided, with as many channels as ``sample`` wants."""
    network: Model = model if y is None else guided(model, y, plan.guidance)
    if plan.variance == "learned" or not has_variance(model):
        return network
    return lambda x, t: network(x, t).chunk(2, dim=1)[0]  # the prediction alone, without v
