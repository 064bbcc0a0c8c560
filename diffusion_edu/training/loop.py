"""The training loop: DDPM Algorithm 1, flat, as a generator of records."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .._checks import check_count
from ..data.images import to_float
from ..nets.ema import EMA
from ..objectives import loss_per_example
from ..schedules import Schedule
from . import checkpoint as files

__all__ = ["Config", "Record", "State", "evaluate", "train"]

BINS = 10  # equal parts of 1..T for the loss per time
MAX_TERMINAL_SNR = 1e-3
Held = tuple[Tensor, Tensor, Tensor]  # fixed x0 (n, *D), t (n,), eps (n, *D)


@dataclass(frozen=True)
class Config:
    """How to train. Defaults are DDPM's (2006.11239 app. B) where it names a value.

    Attributes:
        steps, batch: optimiser steps, examples per step (drawn with replacement).
        lr, lr_end, warmup: Adam's step size, and the fraction of it left at the end: after
            ``warmup`` linear steps it follows a half cosine from lr to lr * lr_end (1: constant).
        clip: largest norm of the gradient.
        ema: decay of the averaged weights (with warm-up, see ``EMA``).
        every: steps between records, which are also the moments a checkpoint is written.
        seed: of the one generator that draws batches, times and noise.
    """

    steps: int = 10_000
    batch: int = 128
    lr: float = 2e-4
    lr_end: float = 1.0
    warmup: int = 0
    clip: float = 1.0
    ema: float = 0.9999
    every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "every"):
            check_count(getattr(self, name), 1, None, name)
        for name in ("warmup", "seed"):
            check_count(getattr(self, name), 0, None, name)
        for name in ("lr", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive, got {name}={getattr(self, name)}")
        if not 0 <= self.lr_end <= 1:
            raise ValueError(f"lr_end must lie in [0, 1], got lr_end={self.lr_end}")

    def lr_at(self, step: int) -> float:
        """Step size of the optimiser step number ``step`` (0-based)."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * (self.lr_end + (1 - self.lr_end) * (1 + math.cos(math.pi * done)) / 2)


@dataclass(frozen=True)
class Record:
    """What happened in the steps since the last record.

    Attributes:
        step: optimiser steps done.
        loss: mean of ||eps - eps_hat||^2 per dimension over those steps (DDPM eq. 14).
        loss_by_t: (10,) the same per tenth of 1..T; NaN where no t was drawn. A flat total hides
            that the loss near t = 1 is where a network still learns.
        validation: loss of the averaged weights at fixed examples, times and noise: comparable
            from record to record, as ``loss`` is not.
        lr: step size of the last step.
        ema: the averaged network (alive: it goes on changing while the loop runs).
    """

    step: int
    loss: float
    loss_by_t: Tensor
    validation: float
    lr: float
    ema: nn.Module


class State:
    """Everything a run needs to go on exactly where it was: this is what a checkpoint holds."""

    def __init__(self, model: nn.Module, config: Config) -> None:
        self.model, self.config, self.step = model, config, 0
        self.ema = EMA(model, config.ema)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
        self.generator = torch.Generator().manual_seed(config.seed)


def train(
    model: nn.Module,
    data: Tensor,
    schedule: Schedule,
    config: Config | None = None,
    *,
    validation: Tensor | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
) -> Iterator[Record]:
    """Train ``model`` in place to predict the noise, DDPM Algorithm 1; a lazy generator.

        x0 ~ data, t ~ uniform 1..T, eps ~ N(0, I);  descend on ||eps - model(x_t, t)||^2

    Everything random comes from one CPU generator that is part of the checkpoint, so a run that was
    stopped, even by kill -9, and resumed gives the same bits on the CPU as one that was not (with
    the same number of threads).

    Args:
        data: (N, *D) float, or uint8 images, mapped to [-1, 1] batch by batch.
        validation: examples for the validation loss; default: the first 4096 of ``data``.
        checkpoint: file written at every record, before it is yielded; leaving the loop at any
            record therefore loses nothing.
        resume: go on from ``checkpoint``, which must belong to the same config, schedule and data.

    Raises:
        ValueError: data is empty or holds NaN; a checkpoint that is missing, foreign or different.

    Warns:
        UserWarning: snr[T] > 1e-3, so the chain does not end in noise and sampling from noise
            starts at a level the network never saw.
    """
    config = config or Config()
    _check(data, schedule, checkpoint, resume)
    state = State(model, config)
    # A checksum of all data: only where there is a file to compare it with, or to write it to.
    identity = {} if checkpoint is None else files.identity(data, schedule, config)
    if resume:
        files.load_into(state, Path(str(checkpoint)), identity)
    held = validation_set(data if validation is None else validation, schedule)
    device = next(model.parameters()).device
    while state.step < config.steps:
        parts = []
        stop = min(config.steps, (state.step // config.every + 1) * config.every)
        while state.step < stop:
            parts.append(_step(state, data, schedule, device))
        record = _record(state, parts, held, schedule)
        if checkpoint is not None:
            files.save(state, Path(checkpoint), identity)
        yield record


def _step(
    state: State, data: Tensor, schedule: Schedule, device: torch.device
) -> tuple[Tensor, Tensor]:
    """One optimiser step (DDPM Algorithm 1); returns t (B,) and the loss of each example (B,)."""
    config, g = state.config, state.generator
    x0 = as_float(data[torch.randint(len(data), (config.batch,), generator=g)]).to(device)
    t = torch.randint(1, schedule.T + 1, (config.batch,), generator=g).to(device)
    eps = torch.randn(x0.shape, generator=g).to(device)
    losses = loss_per_example(state.model.train(), x0, t, eps, schedule)
    state.optimizer.zero_grad(set_to_none=True)
    losses.mean().backward()
    nn.utils.clip_grad_norm_(state.model.parameters(), config.clip)
    for group in state.optimizer.param_groups:
        group["lr"] = config.lr_at(state.step)
    state.optimizer.step()
    state.ema.update(state.model)
    state.step += 1
    return t, losses.detach()


def validation_set(data: Tensor, schedule: Schedule, n: int = 4096) -> Held:
    """Fixed x0, t (evenly over 1..T) and eps for ``evaluate``: the first n examples, or repeats."""
    x0 = as_float(data[torch.arange(n) % len(data)])
    t = 1 + torch.arange(n) * schedule.T // n
    # Of all pairs of t and example only the diagonal is used, so mix them: data may be sorted.
    g = torch.Generator().manual_seed(0)
    return x0, t[torch.randperm(n, generator=g)], torch.randn(x0.shape, generator=g)


@torch.no_grad()
def evaluate(model: nn.Module, held: Held, schedule: Schedule) -> float:
    """Mean noise loss of ``model`` at a fixed ``validation_set``."""
    device = next(model.parameters()).device
    parts = zip(*(x.to(device).split(1024) for x in held), strict=True)
    losses = [loss_per_example(model, x0, t, eps, schedule) for x0, t, eps in parts]
    return torch.cat(losses).mean().item()


def as_float(x: Tensor) -> Tensor:
    """uint8 images -> float in [-1, 1]; floats pass."""
    return to_float(x) if x.dtype == torch.uint8 else x


def _record(
    state: State,
    parts: list[tuple[Tensor, Tensor]],
    held: Held,
    schedule: Schedule,
) -> Record:
    t, losses = (torch.cat(p) for p in zip(*parts, strict=True))
    bins = (t - 1) * BINS // schedule.T
    count = torch.bincount(bins, minlength=BINS)
    by_t = torch.bincount(bins, losses.double(), minlength=BINS) / count
    lr = state.config.lr_at(state.step - 1)
    value = evaluate(state.ema.model, held, schedule)
    return Record(state.step, losses.mean().item(), by_t.cpu(), value, lr, state.ema.model)


def _check(data: Tensor, schedule: Schedule, checkpoint: str | Path | None, resume: bool) -> None:
    if data.ndim < 2 or len(data) == 0:
        raise ValueError(f"data must have shape (N, *D) with N >= 1, got {tuple(data.shape)}")
    if data.is_floating_point() and not data.isfinite().all():
        raise ValueError("data must be finite, got NaN or inf: drop those examples")
    if resume and checkpoint is None:
        raise ValueError("resume=True needs checkpoint=, the file to go on from; got none")
    if schedule.snr[-1] > MAX_TERMINAL_SNR:
        warnings.warn(
            f"snr[T] = {schedule.snr[-1]:.2g} > {MAX_TERMINAL_SNR}: the chain does not end in "
            "noise; use larger betas or a larger T",
            stacklevel=3,
        )
