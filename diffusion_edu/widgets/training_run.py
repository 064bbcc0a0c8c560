"""What TrainingTheatre trains: one network by the library's loop, another by the reader's loss."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..data.loader import Points
from ..nets import EMA, AsEps
from ..nets.switches import seeded
from ..objectives import loss_simple
from ..prediction import Kind, Model
from ..schedules import Schedule
from ..training import Config, Recipe, draw_times, train, validation_set
from ..viz.scene import note
from .learner import Learner, LearnerError, explain

__all__ = [
    "BATCH",
    "DECAY",
    "MARKS",
    "NET",
    "POOL",
    "Checkpoint",
    "LossLearner",
    "Plan",
    "Run",
    "Training",
]

MARKS = (0, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)  # steps with a checkpoint
EVERY = 10  # steps between two looks at the clock, and whether to stop
NET = {"dim": 2, "width": 64, "depth": 2, "time_dim": 32}
BATCH, POOL, DECAY = 256, 20_000, 0.995
TOGETHER = 100  # steps that share the patience with a reader's loss
PATIENT = 1.0  # seconds that the first steps of a network of the reader's may take
SAME = 1e-4  # losses and gradients this near to each other, relative, are the same

Loss = Callable[[Model, Tensor, Tensor, Tensor, Schedule], Tensor]
Steps = Iterator[tuple[int, nn.Module]]  # (steps done, averaged network), alive


@dataclass(frozen=True)
class Plan:
    """What decides the weights. ``net`` makes a network; None: the library's MLP."""

    dataset: str
    predicts: Kind
    rate: float
    seed: int
    net: Callable[[], Any] | None = None

    @property
    def recipe(self) -> Recipe:
        """The same as a recipe of the library: Adam with a constant step size."""
        config = Config(MARKS[-1], BATCH, lr=self.rate, ema=DECAY, every=EVERY, seed=self.seed)
        return Recipe(
            {**NET, "predicts": self.predicts}, config=config, data=self.dataset, pool=POOL
        )

    def network(self) -> tuple[nn.Module, Schedule]:
        """The untrained network, whose weights the seed decides; it returns the noise.

        Raises:
            ValueError: ``net`` does not make a network model(x_t, t) for points.
        """
        if self.net is None:
            return self.recipe.network()
        schedule = self.recipe.network()[1]
        with seeded(self.seed):  # as the recipe does
            made = _checked(self.net)
        return made if self.predicts == "eps" else AsEps(made, self.predicts, schedule), schedule


def _checked(net: Callable[[], Any]) -> nn.Module:
    """What ``net()`` makes, tried on three points."""
    wanted = "net must be a function without arguments that makes a network, net=lambda: Mine()"
    try:
        made = net()
    except Exception as error:
        raise ValueError(f"{wanted}; it raised {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module) or not list(made.parameters()):
        raise ValueError(f"{wanted}, a torch.nn.Module with weights; it made {made!r}")
    made = made.cpu()  # where explorers compute
    try:
        with torch.no_grad():
            out = made(torch.zeros(3, 2), torch.tensor([1, 2, 3]))
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise ValueError(f"net()(x_t (3, 2), t (3,)) raised {text}") from error
    if not isinstance(out, Tensor) or out.shape != (3, 2):
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(f"net()(x_t, t) must return the shape of x_t, (3, 2), got {shape}")
    return made


# ---- two loops ---------------------------------------------------------------------------------


def _library_steps(model: nn.Module, data: Tensor, schedule: Schedule, config: Config) -> Steps:
    """``training.train``, EVERY steps at a time."""
    few = validation_set(data, schedule, 16)  # its own validation is not looked at
    for record in train(model, data, schedule, config, validation=few):
        yield record.step, record.ema


def _own_steps(
    model: nn.Module, data: Tensor, schedule: Schedule, config: Config, loss: Loss
) -> Steps:
    """DDPM (2006.11239) Algorithm 1 with another loss, for which ``training.train`` has no place.

    Its draws are those of ``training.train``: with ``loss_simple`` it gives the same weights.
    """
    source, draws = Points(data), torch.Generator().manual_seed(config.seed)
    adam, ema = torch.optim.Adam(model.parameters(), lr=config.lr), EMA(model, config.ema)
    for step in range(1, config.steps + 1):
        x0, t, eps = _batch(source, schedule, config, draws)
        model.train()
        value = loss(model, x0, t, eps, schedule)
        adam.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        adam.step()
        ema.update(model)
        yield step, ema.model


def _batch(
    source: Points, schedule: Schedule, config: Config, draws: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """x0, t and eps of one step, in the order in which ``training.train`` draws them."""
    index, _ = source.draw(config.batch, draws)
    t = draw_times(config.batch, schedule.T, config.times, draws)
    eps = torch.randn((config.batch, *source.shape), generator=draws)
    return source.take(index)[0], t, eps


# ---- a run and its checkpoints -----------------------------------------------------------------


@dataclass
class Checkpoint:
    """Copies of the networks after ``step`` steps, {"raw", "ema"}; ``seen``: what they give."""

    step: int
    networks: dict[str, nn.Module]
    seen: dict[tuple[str, str], Tensor] = field(default_factory=dict)


class Run:
    """A network that is trained further and further.

    Attributes:
        model: it, alive.
        step: optimiser steps done.
        checkpoints: at MARKS, and where training stopped last.
    """

    def __init__(self, model: nn.Module, steps: Steps) -> None:
        self.model, self.step, self._ema, self._steps = model, 0, model, steps
        self.checkpoints: list[Checkpoint] = []
        self.keep()

    def forward(self) -> None:
        """The next step, or steps; gradients are wanted even where they are switched off."""
        with torch.enable_grad():
            self.step, self._ema = next(self._steps)
        if self.step in MARKS:
            self.keep()

    def keep(self) -> None:
        """Make a checkpoint of what is there."""
        if self.checkpoints and self.checkpoints[-1].step == self.step:
            return
        networks = {"raw": _frozen(self.model), "ema": _frozen(self._ema)}
        # A new list: others may be reading the old one.
        marked = [c for c in self.checkpoints if c.step in MARKS]
        self.checkpoints = [*marked, Checkpoint(self.step, networks)]


def _frozen(model: nn.Module) -> nn.Module:
    """A copy that is not trained."""
    return copy.deepcopy(model).eval().requires_grad_(False)


class Training:
    """The reference run of a plan, and beside it that of the reader's loss, if there is one.

    Attributes:
        run: the library's.
        mine: with the reader's loss; None without.
        notes: what there is to say about the reader's loss.
        agreement: (loss of the reader's, ``loss_simple``) on the first batch; None if not known.
    """

    def __init__(self, plan: Plan, loss: LossLearner | None, steps: int) -> None:
        self.plan, self.loss = plan, loss
        model, self.schedule = plan.network()
        self.data, _ = plan.recipe.points()
        config = plan.recipe.config
        self.run = Run(model, _library_steps(model, self.data, self.schedule, config))
        self.mine: Run | None = None
        self.notes: list[dict[str, str]] = []
        self.agreement: tuple[float, float] | None = None
        self._first(self.run.forward, steps)
        if loss is not None:
            self._begin_mine(loss)
            self._follow(self.run.step)
        self.keep()

    def _first(self, forward: Callable[[], None], steps: int) -> None:
        begun = time.perf_counter()
        while self.run.step < steps:
            forward()
            if self.plan.net is not None and time.perf_counter() - begun > PATIENT:
                break

    def _begin_mine(self, loss: LossLearner) -> None:
        other, _ = self.plan.network()
        config = self.plan.recipe.config
        self.mine = Run(other, _own_steps(other, self.data, self.schedule, config, loss.value))
        self._checked(lambda: loss.over([0], lambda _: self._compare(loss)))

    def _compare(self, loss: LossLearner) -> None:
        """Value and gradient on the first batch, for the network as the reference has it now."""
        config = self.plan.recipe.config
        draws = torch.Generator().manual_seed(config.seed)
        first = _batch(Points(self.data), self.schedule, config, draws)
        found = []
        with torch.enable_grad():
            for function in (loss.value, loss_simple):
                model = copy.deepcopy(self.run.model)
                value = function(model, *first, self.schedule)
                slopes = torch.autograd.grad(value, list(model.parameters()), allow_unused=True)
                flat = [s.flatten() for s in slopes if s is not None]
                found.append((float(value.detach()), torch.cat(flat)))
        (mine, slope), (wanted, exact) = found
        self.agreement = mine, wanted
        self.notes = [_verdict(mine, wanted, slope, exact)]

    def forward(self) -> None:
        """EVERY more steps of both."""
        self.run.forward()
        self._follow(self.run.step)

    def _follow(self, step: int) -> None:
        """Bring the reader's run to that step, unless it was given up."""
        mine, loss = self.mine, self.loss
        if mine is None or loss is None:
            return
        while mine.step < step and not self.stopped:
            some = range(mine.step, min(step, mine.step + TOGETHER))
            self._checked(partial(loss.over, some, lambda _: mine.forward()))

    def _checked(self, work: Callable[[], str | None]) -> None:
        """Do what calls the reader's loss; whatever goes wrong there is a note."""
        assert self.mine is not None
        assert self.loss is not None
        try:
            text = work()
        except Exception as error:
            plain = isinstance(error, LearnerError)
            what = error if plain else explain(error, self.loss.function, self.loss.role)
            text = f"At step {self.mine.step + 1}: {what}"
        if text:
            self.notes = [*self.notes, note("error", text)]

    @property
    def stopped(self) -> bool:
        """Whether the reader's loss went wrong, so that its run has ended."""
        return any(note["level"] == "error" for note in self.notes)

    def keep(self) -> None:
        """Checkpoints of where both are."""
        self.run.keep()
        if self.mine is not None and not self.stopped:
            self.mine.keep()


def _verdict(mine: float, wanted: float, slope: Tensor, exact: Tensor) -> dict[str, str]:
    where = f"{mine:.4g}, loss_simple {wanted:.4g}, on the first batch"
    if abs(mine - wanted) > SAME * abs(wanted):
        text = f"your loss differs from loss_simple: {where}"
    elif slope.shape != exact.shape or (slope - exact).norm() > SAME * exact.norm():
        text = f"your loss has the value of loss_simple but another gradient: {where}"
    else:
        text = f"your loss agrees with loss_simple: {where}"
    return note("info", text)


class LossLearner(Learner):
    """A learner whose function is a loss, loss(model, x0, t, eps, schedule) -> scalar."""

    def value(self, model: Model, x0: Tensor, t: Tensor, eps: Tensor, schedule: Schedule) -> Tensor:
        """The loss, through which gradients flow. Raises LearnerError for a wrong result."""
        given = [x.clone() for x in (x0, t, eps)]
        try:
            out = self.function(model, *given, schedule)
        except Exception as error:
            raise LearnerError(explain(error, self.function, self.role)) from error
        if out is None:
            raise LearnerError(f"your {self.role} returned None: is the `return` missing?")
        if not isinstance(out, Tensor) or out.shape != ():
            what = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
            raise LearnerError(
                f"your {self.role} returned {what}; it must return a tensor with one number, of "
                "shape (): is `.mean()` missing?"
            )
        if not out.isfinite():
            raise LearnerError(f"your {self.role} gives {out.item()}")
        if not out.requires_grad:
            raise LearnerError(
                f"your {self.role} does not depend on the weights, so nothing can be learned: is "
                "there a `.detach()`, `.item()` or `no_grad`?"
            )
        return out
