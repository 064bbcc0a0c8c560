"""The training loop: DDPM Algorithm 1, flat, as a generator of records.

Everything random comes from generators that are part of the checkpoint, so a run that was stopped,
even by kill -9, and resumed gives the same bits on the CPU as one that was not (with the same
number of threads). Processes started by torchrun share every batch: each takes its slice of the
same draws, so that their averaged gradient is that of one process.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import _parallel
from ..data.loader import Loader, Points
from ..nets.as_eps import AsEps
from ..nets.ema import EMA
from ..nets.switches import autocast
from ..objectives import loss_per_example, snr_weight
from ..schedules import Schedule
from . import checkpoint as files
from .config import Config, draw_times
from .heldout import Held, evaluate, validation_set
from .machine import Machine, dropout

__all__ = ["Record", "State", "train"]

BINS = 10  # equal parts of 1..T for the loss per time
MAX_TERMINAL_SNR = 1e-3
TOGETHER = 10  # steps after which processes ask each other whether to stop


@dataclass(frozen=True)
class Record:
    """What happened in the steps since the last record.

    Attributes:
        step: optimiser steps done.
        images: examples seen.
        seconds: time spent on steps and validation, not on files, over all resumed parts.
        loss: mean of ||eps - eps_hat||^2 per dimension over those steps (DDPM eq. 14).
        loss_by_t: (10,) the same per tenth of 1..T; NaN where no t was drawn. A flat total hides
            that the loss near t = 1 is where a network still learns.
        validation: loss of the averaged weights at fixed examples, times and noise: comparable
            from record to record, as ``loss`` is not.
        lr: step size of the last step.
        ema: the averaged network (alive: it goes on changing while the loop runs).
        log: one row of plain values for every record so far, from the start of the run.
    """

    step: int
    images: int
    seconds: float
    loss: float
    loss_by_t: Tensor
    validation: float
    lr: float
    ema: nn.Module
    log: list[dict[str, float]]


class State:
    """Everything a run needs to go on exactly where it was.

    A checkpoint holds all of it but the data and the schedule, whose checksums it has.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Loader | Points,
        schedule: Schedule,
        config: Config,
        machine: Machine,
    ) -> None:
        self.model, self.data, self.schedule = model, data, schedule
        self.config, self.machine, self.step = config, machine, 0
        machine.place(model)
        self.ema = EMA(model, config.ema)
        self.run = machine.runner(model)
        self.optimizer = machine.optimizer(model, config.lr)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.noise = machine.generator(self.generator, config.seed)
        self.log: list[dict[str, float]] = []
        self.seconds = 0.0
        self.parts: list[tuple[Tensor, Tensor]] = []  # t and losses since the last record


def train(
    model: nn.Module,
    data: Tensor | Loader,
    schedule: Schedule,
    config: Config | None = None,
    *,
    validation: Tensor | Held | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    machine: Machine | None = None,
    watch: Callable[[int], bool] | None = None,
) -> Iterator[Record]:
    """Train ``model`` in place to predict the noise, DDPM Algorithm 1; a lazy generator.

        x0 ~ data, t ~ uniform 1..T, eps ~ N(0, I);  descend on ||eps - model(x_t, t)||^2

    Args:
        data: (N, *D) float, or uint8 images, mapped to [-1, 1]; or a ``Loader``, with labels.
        validation: examples or a ``validation_set``; default: the first 4096 of ``data``.
        checkpoint: file written before each record is yielded: leaving the loop loses nothing.
        resume: go on from ``checkpoint``, of the same config, schedule and data.
        machine: device, compiler, memory order; default: the device ``model`` is on.
        watch: called after every step with the steps done; True ends the generator once a file is
            written, record or not (with several processes, of all, within ``TOGETHER`` steps).

    Raises:
        ValueError: data is empty or holds NaN; a checkpoint that is missing, foreign or different.
    """
    state = _begin(model, data, schedule, config or Config(), machine)
    save = _keeper(state, checkpoint, resume)
    held = _held(state, validation)
    stopped = False
    while state.step < state.config.steps and not stopped:
        stopped = _steps(state, watch)
        record = _record(state, held) if _is_due(state) else None
        save()
        if record is not None:
            yield record


def _begin(
    model: nn.Module,
    data: Tensor | Loader,
    schedule: Schedule,
    config: Config,
    machine: Machine | None,
) -> State:
    """A run before its first step, its settings checked.

    Warns:
        UserWarning: snr[T] > 1e-3, so the chain does not end in noise and sampling from noise
            starts at a level the network never saw.
    """
    model = getattr(model, "_orig_mod", model)  # of torch.compile, which ``machine`` is for
    machine = machine or Machine(next(model.parameters()).device)
    source = data if isinstance(data, Loader) else Points(data, machine.device)
    if config.drop_label is not None and isinstance(source, Points):
        raise ValueError(
            f"drop_label={config.drop_label} needs labels: give data as a Loader, "
            "or leave drop_label at None"
        )
    _parallel.share(config.batch)  # a batch that cannot be shared is an error now, not later
    if schedule.snr[-1] > MAX_TERMINAL_SNR:
        warnings.warn(
            f"snr[T] = {schedule.snr[-1]:.2g} > {MAX_TERMINAL_SNR}: the chain does not end in "
            "noise; use larger betas or a larger T",
            stacklevel=3,
        )
    return State(model, source, schedule, config, machine)


def _keeper(state: State, checkpoint: str | Path | None, resume: bool) -> Callable[[], None]:
    """What writes the checkpoint; with ``resume`` the state is first put where that one was."""
    if checkpoint is None:
        if resume:
            raise ValueError("resume=True needs checkpoint=, the file to go on from; got none")
        return lambda: None
    path, identity = Path(checkpoint), files.identity(state)
    if resume:
        files.load_into(state, path, identity)

    def save() -> None:
        files.save(state, path, identity)
        _parallel.wait()

    return save


def _held(state: State, validation: Tensor | Held | None) -> Held:
    if isinstance(validation, tuple):
        return validation
    return validation_set(state.data.images if validation is None else validation, state.schedule)


def _steps(state: State, watch: Callable[[int], bool] | None) -> bool:
    """Steps up to the next record, or until some process's ``watch`` stops them; whether it did."""
    start, wish, stopped = time.perf_counter(), False, False
    while not stopped:
        state.parts.append(_step(state))
        wish |= watch is not None and bool(watch(state.step))
        if _parallel.world() == 1 or state.step % TOGETHER == 0 or _is_due(state):
            stopped = _parallel.anybody(wish, state.machine.device)
        if _is_due(state):
            break
    state.seconds += time.perf_counter() - start
    return stopped


def _is_due(state: State) -> bool:
    """Whether there is a record of this step."""
    return state.step % state.config.every == 0 or state.step == state.config.steps


def _record(state: State, held: Held) -> Record:
    """The record of the steps since the last one; with more processes, of all of them."""
    config, start = state.config, time.perf_counter()
    total, count = _loss_by_time(state)
    row = {
        "step": state.step,
        "images": state.step * config.batch,
        "loss": (total.sum() / count.sum()).item(),
        "validation": evaluate(state.ema.model, held, state.schedule, config.precision),
        "lr": config.lr_at(state.step - 1),
    }
    state.seconds += time.perf_counter() - start
    row["seconds"] = round(state.seconds, 2)
    by_t = total / count
    state.log.append(row | {f"loss_{i + 1}": loss for i, loss in enumerate(by_t.tolist())})
    known: dict[str, Any] = row
    return Record(**known, loss_by_t=by_t, ema=state.ema.model, log=state.log)


def _loss_by_time(state: State) -> tuple[Tensor, Tensor]:
    """Sums of the losses since the last record per tenth of 1..T, and their numbers."""
    t, losses = (torch.cat(p).cpu() for p in zip(*state.parts, strict=True))
    state.parts = []
    bins = (t - 1) * BINS // state.schedule.T
    total = torch.bincount(bins, losses.double(), minlength=BINS)
    both = torch.stack([total, torch.bincount(bins, minlength=BINS).double()])
    both = _parallel.add_up(both.to(state.machine.device)).cpu()
    return both[0], both[1]


def _step(state: State) -> tuple[Tensor, Tensor]:
    """One optimiser step (DDPM Algorithm 1); t and the loss of each example of this process.

    An ``AsEps`` model descends on the squared error of what its network predicts, v for instance;
    what is recorded is the loss of the noise all the same, so that runs can be compared.
    """
    data, schedule, config = state.data, state.schedule, state.config
    machine, g = state.machine, state.generator
    mine = _parallel.share(config.batch)
    index, flip = data.draw(config.batch, g)
    t = draw_times(config.batch, schedule.T, config.times, g)
    eps = torch.randn((config.batch, *data.shape), generator=state.noise, device=state.noise.device)
    x0, labels = (v.to(machine.device) for v in data.take(index[mine], flip[mine]))
    x0 = x0.to(next(state.model.parameters()).dtype)  # float64, from numpy for one
    extra: tuple[Tensor, ...] = ()
    if config.drop_label is not None:
        dropped = torch.rand(config.batch, generator=g)[mine] < config.drop_label
        extra = (torch.where(dropped.to(labels.device), data.null, labels),)
    x0, eps, t = machine.arrange(x0), machine.arrange(eps[mine].to(x0)), t[mine]
    state.model.train()
    with autocast(machine.device, config.precision), dropout(state.model, g, machine.device):
        losses = loss_per_example(lambda x, t: state.run(x, t, *extra), x0, t, eps, schedule)
    kind = state.model.kind if isinstance(state.model, AsEps) else "eps"
    aim = losses if kind == "eps" else losses / snr_weight(t, schedule, kind).to(losses)
    _descend(state, aim.mean())
    return t, losses.detach()


def _descend(state: State, loss: Tensor) -> None:
    """Backward, clip, Adam, average."""
    config = state.config
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(state.model.parameters(), config.clip)
    for group in state.optimizer.param_groups:
        group["lr"] = config.lr_at(state.step)
    state.optimizer.step()
    state.ema.update(state.model)
    state.step += 1
