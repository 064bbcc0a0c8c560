"""E5: the right functions, and the wrong ones that have a name: many steps of training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn

from ..spec import Call, Graded, Mistake
from ..stubs import Sch, Seed, Sgd, TinyNet
from ..world import World
from .mistakes import ddpm_loss
from .mistakes_training import (
    STEP,
    draw_noise,
    draw_times,
    other_step,
    step_clears_last,
    step_with_closure,
    train_step,
)

EMA = "05, An average of the weights"


# ---- train_epoch ---------------------------------------------------------------------------------


def train_epoch(
    model: nn.Module,
    opt: torch.optim.Optimizer,
    batches: tuple[Tensor, ...],
    sch: Sch,
    generator: Generator,
) -> list[float]:
    """``train_step`` for each batch; the losses."""
    return [train_step(model, opt, x0, sch, generator) for x0 in batches]


def _epoch(step):  # type: ignore[no-untyped-def]
    return lambda model, opt, batches, sch, generator: [
        step(model, opt, x0, sch, generator) for x0 in batches
    ]


def _epoch_into_tensor(model: Any, opt: Any, batches: Any, sch: Sch, generator: Any) -> Any:
    losses = torch.empty(len(batches))
    for k, x0 in enumerate(batches):
        losses[k] = step_clears_last(model, opt, x0, sch, generator)
    return losses.tolist()


def _epoch_by_hand(model: Any, opt: Any, batches: Any, sch: Sch, generator: Any) -> Any:
    # The step of SGD written out.
    losses, rate = (), opt.param_groups[0]["lr"]
    for x0 in batches:
        t, eps = draw_times(x0, sch, generator), draw_noise(x0, generator)
        loss = ddpm_loss(model, x0, t, eps, sch)
        (slope,) = torch.autograd.grad(loss, model.parameters())
        with torch.no_grad():
            model.numbers -= rate * slope
        losses += (loss.item(),)  # type: ignore[assignment]
    return losses


def _one_step_at_the_end(model: Any, opt: Any, batches: Any, sch: Sch, generator: Any) -> Any:
    losses = _epoch(other_step(update=lambda opt, value: value.backward()))(
        model, opt, batches, sch, generator
    )
    opt.step()
    return losses


def _first_batch_only(model: Any, opt: Any, batches: Any, sch: Sch, generator: Any) -> Any:
    return train_epoch(model, opt, batches[:1] * len(batches), sch, generator)


def _epoch_calls(w: World) -> list[Call]:
    batches = (w.x0, 0.5 * w.z, w.x0.flip(0) + w.eps)
    return [(TinyNet(), Sgd(0.2), batches, w.sch, Seed(w.seed % 1000 + 2))]


TRAIN_EPOCH = Graded(
    "train_epoch",
    train_epoch,
    _epoch_calls,
    (
        Mistake(
            "no_zero_grad",
            _epoch(other_step(update=lambda opt, value: (value.backward(), opt.step()))),
            "The first step is right, then gradients pile up: backward adds to what is there. "
            "They have to be cleared once for every step.",
            STEP,
        ),
        Mistake(
            "one_step_at_the_end",
            _one_step_at_the_end,
            "The network is changed only once, after all batches. It changes after each.",
            STEP,
        ),
        Mistake(
            "network_not_changed",
            _epoch(other_step(update=lambda opt, value: None)),
            "The network is the same after all the batches: no step was taken.",
            STEP,
        ),
        Mistake(
            "first_batch_only",
            _first_batch_only,
            "Every step uses the first batch.",
            STEP,
        ),
        Mistake(
            "stops_after_first_batch",
            lambda model, opt, batches, sch, generator: train_epoch(
                model, opt, batches[:1], sch, generator
            ),
            "There is one step and one loss: the function returns inside its loop.",
            STEP,
            credit=0.25,
        ),
        Mistake(
            "mean_loss_returned",
            lambda model, opt, batches, sch, generator: (
                sum(train_epoch(model, opt, batches, sch, generator)) / len(batches)
            ),
            "Training is right, but only the mean of the losses is returned. Wanted is a list "
            "with one number for every batch.",
            STEP,
            credit=0.5,
        ),
        Mistake(
            "tensor_not_list",
            lambda model, opt, batches, sch, generator: torch.tensor(
                train_epoch(model, opt, batches, sch, generator)
            ),
            "The losses are right, but they are one tensor. Wanted is a list of floats.",
            STEP,
            credit=0.8,
        ),
        Mistake(
            "last_loss_returned",
            lambda model, opt, batches, sch, generator: train_epoch(
                model, opt, batches, sch, generator
            )[-1],
            "Training is right, but only the last loss is returned. Wanted is a list with one "
            "number for every batch.",
            STEP,
            credit=0.5,
        ),
    ),
    (
        _epoch(step_with_closure),
        _epoch_into_tensor,
        _epoch_by_hand,
    ),
)


# ---- ema_update ----------------------------------------------------------------------------------


def ema_update(average: Tensor, new: Tensor, decay: float) -> Tensor:
    """decay average + (1 - decay) new."""
    return decay * average + (1 - decay) * new


EMA_UPDATE = Graded(
    "ema_update",
    ema_update,
    lambda w: [(w.x0, w.z, 0.9), (w.eps, w.x0, 0.3)],
    (
        Mistake(
            "swapped_weights",
            lambda average, new, decay: ema_update(new, average, decay),
            "The two weights are swapped. With a decay near 1 the average would follow every "
            "step and average nothing.",
            EMA,
        ),
        Mistake(
            "no_average",
            lambda average, new, decay: new.clone(),
            "The new weights are returned as they are.",
            EMA,
        ),
        Mistake(
            "never_moves",
            lambda average, new, decay: average.clone(),
            "The average never changes: the new weights play no part.",
            EMA,
        ),
        Mistake(
            "plain_mean",
            lambda average, new, decay: (average + new) / 2,
            "Old and new weigh the same, whatever the decay.",
            EMA,
        ),
        Mistake(
            "new_at_full_weight",
            lambda average, new, decay: decay * average + new,
            "The two weights do not add up to 1: the average grows without end.",
            EMA,
        ),
        Mistake(
            "old_at_full_weight",
            lambda average, new, decay: average + (1 - decay) * new,
            "The two weights do not add up to 1: nothing of the old average is ever forgotten.",
            EMA,
        ),
        Mistake(
            "moves_away",
            lambda average, new, decay: average - (1 - decay) * (new - average),
            "The average moves away from the new weights: a sign is wrong.",
            EMA,
        ),
        Mistake(
            "ema_of_the_difference",
            lambda average, new, decay: (1 - decay) * (new - average),
            "This is only how far the average moves. It was not added to the average.",
            EMA,
        ),
        Mistake(
            "average_edited_in_place",
            lambda average, new, decay: average.mul_(decay).add_((1 - decay) * new),
            "The result is right, but the old average was edited in place. Here a new tensor is "
            "wanted.",
            EMA,
            credit=0.8,
        ),
    ),
    (
        lambda average, new, decay: average + (1 - decay) * (new - average),
        lambda average, new, decay: torch.lerp(new, average, decay),
        lambda average, new, decay: average.mul(decay).add(new, alpha=1 - decay),
        lambda average, new, decay: new - decay * (new - average),
    ),
)
