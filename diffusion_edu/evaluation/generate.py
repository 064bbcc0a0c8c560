"""Samples of an image network, chunk by chunk: the same from any number of processes."""

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
from ..prediction import guided
from ..sampling import sample
from ..schedules import Schedule
from ..spacing import timesteps

__all__ = ["Labels", "Precision", "Sampling", "generate"]

Labels = Literal["balanced", "none"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn.

    Attributes:
        n: how many.
        steps, eta, variance: see ``sample``; the levels are ``timesteps(T, steps)``.
        guidance: 1: the network as it is; see ``guided``.
        labels: "balanced": image i is asked to be of class i mod K, if the network knows classes;
            "none": no class is asked for.
        seed: of all noise. The same plan gives the same images.
        batch: images at once; other batches get other noise.
        clip: bound of the predicted x0 (see ``sample``); images end in [-1, 1] in any case.
        precision: "bfloat16" computes the network in half the bits.
    """

    n: int = 10_000
    steps: int = 50
    eta: float = 0.0
    variance: Literal["eta", "large"] = "eta"
    guidance: float = 1.0
    labels: Labels = "balanced"
    seed: int = 0
    batch: int = 250
    clip: float | None = 1.0
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        for name in ("n", "steps", "batch"):
            check_count(getattr(self, name), 1, None, name)
        check_count(self.seed, 0, None, "seed")
        check_choice(self.variance, ("eta", "large"), "variance")
        check_choice(self.labels, get_args(Labels), "labels")
        check_choice(self.precision, get_args(Precision), "precision")
        if not (math.isfinite(self.guidance) and 0 <= self.eta <= 1):
            raise ValueError(
                "guidance must be finite and eta lie in [0, 1], "
                f"got guidance={self.guidance}, eta={self.eta}"
            )


def generate(
    model: nn.Module,
    schedule: Schedule,
    shape: tuple[int, ...],
    plan: Sampling,
    *,
    progress: bool = True,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Draw plan.n images, a chunk of plan.batch at a time; memory does not grow with n.

    Chunk k is drawn from a seed made of (plan.seed, k) alone. Processes within
    ``_parallel.together`` yield the chunks k = rank modulo world: all of them together yield what
    one process yields.

    Args:
        model: model(x_t, t), or model(x_t, t, y) with a ``config.classes``; left in eval mode.
        shape: (C, H, W) as the network takes it, padding included.
        progress: draw a bar, on a terminal, in the first process alone.

    Yields:
        Images (b, C, H, W) uint8 and the classes asked for (b,), or None, on the model's device.
    """
    classes = int(getattr(getattr(model, "config", None), "classes", 0))
    told = plan.labels == "balanced" and classes > 0
    if plan.guidance != 1 and not told:
        raise ValueError(
            f"guidance={plan.guidance} needs classes to ask for: use guidance=1, or a network with "
            "classes and labels='balanced'"
        )
    model.eval()
    starts = range(0, plan.n, plan.batch)
    mine = list(enumerate(starts))[_parallel.rank() :: _parallel.world()]
    total = sum(min(plan.batch, plan.n - start) for _, start in mine)
    quiet = None if progress and _parallel.rank() == 0 else True
    # unit_scale: a step advances by a fraction of an image, of which not all digits are wanted
    with tqdm(total=total, unit="image", unit_scale=True, disable=quiet) as bar:
        for k, start in mine:
            size = min(plan.batch, plan.n - start)
            y = torch.arange(start, start + size) % classes if told else None
            advance = partial(bar.update, size / plan.steps)
            yield _chunk(model, schedule, (size, *shape), y, plan, k, advance)


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
    network = model if y is None else guided(model, y, plan.guidance)
    # On the CPU, so that every device draws the same; one odd factor apart, so that no two meet.
    g = torch.Generator().manual_seed((plan.seed * 1_000_003 + k) % 2**63)
    x = torch.randn(size, generator=g).to(device)
    steps = sample(
        network,
        x,
        schedule,
        timesteps(schedule.T, plan.steps),
        eta=plan.eta,
        variance=plan.variance,
        clip=plan.clip,
        noise=lambda i, like: torch.randn(like.shape, generator=g).to(like),
    )
    with torch.autocast(device.type, torch.bfloat16, enabled=plan.precision == "bfloat16"):
        for step in steps:
            x = step.x_s
            advance()
    return to_uint8(x.float()), y
