"""E5: the right functions, and the wrong ones that have a name: one step of training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..spec import Call, Graded, Mistake
from ..stubs import Sch, Seed, Sgd, TinyNet
from ..world import World
from .mistakes import DRAWS, LOSS, ddpm_loss, jump, x0_as_target

STEP = "05, One training step"


# ---- train_step ----------------------------------------------------------------------------------


def draw_times(x0: Tensor, sch: Sch, generator: Generator) -> Tensor:
    """t (B,), uniform on 1..T."""
    return torch.randint(1, sch.T + 1, (len(x0),), generator=generator)


def draw_noise(x0: Tensor, generator: Generator) -> Tensor:
    """eps of the shape of x0; float32 always, as learners draw it."""
    return torch.randn(x0.shape, generator=generator)


def train_step(
    model: nn.Module, opt: torch.optim.Optimizer, x0: Tensor, sch: Sch, generator: Generator
) -> float:
    """One step down the gradient of ``ddpm_loss``: DDPM Algorithm 1. Returns the loss."""
    t = draw_times(x0, sch, generator)
    loss = ddpm_loss(model, x0, t, draw_noise(x0, generator), sch)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss.item()


def _step_by_grad(
    model: nn.Module, opt: torch.optim.Optimizer, x0: Tensor, sch: Sch, generator: Generator
) -> float:
    t = 1 + torch.randint(sch.T, x0.shape[:1], generator=generator)
    eps = torch.empty(x0.shape).normal_(generator=generator)
    weights = list(model.parameters())
    loss = (model(jump(x0, t, eps, sch), t) - eps).square().mean()
    for p, g in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        p.grad = g
    opt.step()
    return loss.item()


def step_clears_last(
    model: nn.Module, opt: torch.optim.Optimizer, x0: Tensor, sch: Sch, generator: Generator
) -> float:
    """A right step that clears the gradients at its end."""
    t = draw_times(x0, sch, generator)
    eps = torch.randn(*x0.shape, generator=generator)
    loss = nn.functional.mse_loss(model(jump(x0, t, eps, sch), t), eps)
    loss.backward()
    opt.step()
    model.zero_grad(set_to_none=False)
    return float(loss.detach().numpy())


def step_with_closure(
    model: nn.Module, opt: torch.optim.Optimizer, x0: Tensor, sch: Sch, generator: Generator
) -> Tensor:
    """A right step in the form that optimisers with line search need."""
    t = draw_times(x0, sch, generator)
    eps = draw_noise(x0, generator)

    def closure() -> float:
        opt.zero_grad()
        loss = ddpm_loss(model, x0, t, eps, sch)
        loss.backward()
        return loss.item()

    return torch.tensor(opt.step(closure))


def other_step(  # type: ignore[no-untyped-def]
    times=draw_times,
    noise=draw_noise,
    loss=lambda model, xt, t, eps, x0, generator: ((model(xt, t) - eps) ** 2).mean(),
    returned=lambda value: value.item(),
    update=lambda opt, value: (opt.zero_grad(), value.backward(), opt.step()),
):
    """A step with other draws, another loss or update; what is returned is a function of it."""

    def step(model: Any, opt: Any, x0: Tensor, sch: Sch, generator: Generator) -> Any:
        t = times(x0, sch, generator)
        eps = noise(x0, generator)
        value = loss(model, jump(x0, t, eps, sch), t, eps, x0, generator)
        update(opt, value)
        return returned(value)

    return step


def _noise_first(model: Any, opt: Any, x0: Tensor, sch: Sch, generator: Generator) -> Any:
    eps = draw_noise(x0, generator)
    return other_step(noise=lambda x0, generator: eps)(model, opt, x0, sch, generator)


def _loss_after(model: Any, opt: Any, x0: Tensor, sch: Sch, generator: Generator) -> Any:
    t, eps = draw_times(x0, sch, generator), draw_noise(x0, generator)
    other_step(lambda *_: t, lambda *_: eps)(model, opt, x0, sch, generator)
    return ddpm_loss(model, x0, t, eps, sch).item()


def _randint(low: int, beyond: int):  # type: ignore[no-untyped-def]
    """Times from ``low`` to T - 1 + ``beyond``."""

    def times(x0: Tensor, sch: Sch, generator: Generator) -> Tensor:
        return torch.randint(low, sch.T + beyond, (len(x0),), generator=generator)

    return times


def _one_for_all(x0: Tensor, sch: Sch, generator: Generator) -> Tensor:
    return torch.randint(1, sch.T + 1, (1,), generator=generator).expand(len(x0))


def _net_calls(w: World) -> list[Call]:
    seeds = (w.seed % 1000, w.seed % 1000 + 1)
    return [(TinyNet(), Sgd(0.1), w.x0, w.sch, Seed(seed)) for seed in seeds]


TRAIN_STEP = Graded(
    "train_step",
    train_step,
    _net_calls,
    (
        Mistake(
            "network_not_changed",
            other_step(update=lambda opt, value: None),
            "The loss is right, but the network is what it was: a step needs the gradient of "
            "this very loss, and it must not be cleared before it is used.",
            STEP,
        ),
        Mistake(
            "same_t_for_batch",
            other_step(times=_one_for_all),
            "One t was drawn for the whole batch. Every example gets a t of its own, so that a "
            "batch shows many levels of noise.",
            DRAWS,
            credit=0.25,
        ),
        Mistake(
            "t_excludes_T",
            other_step(times=_randint(1, 0)),
            "T is never drawn: the upper end of torch.randint does not count. The network would "
            "not be trained on the level at which sampling begins.",
            DRAWS,
        ),
        Mistake(
            "t_includes_0",
            other_step(times=_randint(0, 1)),
            "t = 0 can be drawn, where there is no noise to see.",
            DRAWS,
        ),
        Mistake(
            "t_0_to_T_minus_1",
            other_step(times=_randint(0, 0)),
            "t runs from 0 to T - 1. At t = 0 there is no noise to see, and T is left out.",
            DRAWS,
        ),
        Mistake(
            "fresh_noise_as_target",
            other_step(
                loss=lambda model, xt, t, eps, x0, generator: (
                    (model(xt, t) - draw_noise(x0, generator)) ** 2
                ).mean()
            ),
            "The prediction is compared with noise that was drawn anew. It has to be the noise "
            "that is in x_t.",
            STEP,
        ),
        Mistake(
            "predicts_x0_target",
            other_step(
                loss=lambda model, xt, t, eps, x0, generator: (
                    (model(xt, t) - x0_as_target(x0, xt, eps)) ** 2
                ).mean()
            ),
            "The network is compared with the clean data. What it is to predict is the noise in "
            "x_t.",
            LOSS,
        ),
        Mistake(
            "uniform_noise",
            other_step(noise=lambda x0, generator: torch.rand(x0.shape, generator=generator)),
            "The noise is uniform on [0, 1): it has neither mean 0 nor variance 1. It is Gaussian.",
            STEP,
        ),
        Mistake(
            "eps_drawn_before_t",
            _noise_first,
            "eps was drawn before t. That is as good, but to compare numbers the order has to be "
            "the one stated: t first.",
            STEP,
            credit=0.8,
        ),
        Mistake(
            "sum_not_mean",
            other_step(
                loss=lambda model, xt, t, eps, x0, generator: ((model(xt, t) - eps) ** 2).sum()
            ),
            "The squares were added up, not averaged: the step is longer for a larger batch.",
            LOSS,
            credit=0.5,
        ),
        Mistake(
            "goes_uphill",
            other_step(
                returned=lambda value: value.item(),
                update=lambda opt, value: (opt.zero_grad(), (-value).backward(), opt.step()),
            ),
            "The step goes up the gradient: the loss grows.",
            STEP,
        ),
        Mistake(
            "loss_after_the_step",
            _loss_after,
            "The network is right, but the loss returned is that of the network after the step. "
            "That costs a second pass; the loss the gradient came from is wanted.",
            STEP,
            credit=0.5,
        ),
        Mistake(
            "loss_keeps_its_graph",
            other_step(returned=lambda value: value),
            "The loss is returned as a tensor that still holds its whole graph. A list of such "
            "losses fills the memory: return a plain number.",
            STEP,
            credit=0.5,
        ),
    ),
    (_step_by_grad, step_clears_last, step_with_closure),
)
