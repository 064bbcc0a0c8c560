"""The validation loss: fixed examples, times and noise, so that values can be compared."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from .. import _parallel
from ..data.loader import as_float
from ..nets.switches import Precision, autocast
from ..objectives import loss_per_example
from ..schedules import Schedule

__all__ = ["Held", "evaluate", "validation_set"]

# fixed x0 (n, *D), t (n,), eps (n, *D), and labels (n,) for a network that is told the class
Held = tuple[Tensor, ...]
CHUNK = 256


def validation_set(
    data: Tensor, schedule: Schedule, n: int = 4096, labels: Tensor | None = None
) -> Held:
    """Fixed x0, t (evenly over 1..T) and eps for ``evaluate``: the first n examples, or repeats."""
    some = torch.arange(n) % len(data)
    x0 = as_float(data[some])
    t = 1 + torch.arange(n) * schedule.T // n
    # Of all pairs of t and example only the diagonal is used, so mix them: data may be sorted.
    g = torch.Generator().manual_seed(0)
    held = x0, t[torch.randperm(n, generator=g)], torch.randn(x0.shape, generator=g)
    return held if labels is None else (*held, labels[some])


@torch.no_grad()
def evaluate(
    model: nn.Module, held: Held, schedule: Schedule, precision: Precision = "float32"
) -> float:
    """Mean noise loss of ``model`` at a fixed ``validation_set``, shared by all processes."""
    weight = next(model.parameters())
    device = weight.device
    mine = slice(_parallel.rank(), None, _parallel.world())
    losses = []
    with autocast(device, precision):
        for x0, t, eps, *labels in zip(*(x[mine].split(CHUNK) for x in held), strict=True):
            network = partial(_told, model, [y.to(device) for y in labels])
            one = loss_per_example(network, x0.to(weight), t, eps.to(weight), schedule)
            losses.append(one.double())
    found = torch.cat(losses)
    total = _parallel.add_up(torch.stack([found.sum(), found.new_tensor(len(found))]))
    return (total[0] / total[1]).item()


def _told(model: nn.Module, labels: list[Tensor], x: Tensor, t: Tensor) -> Tensor:
    """model(x, t), or model(x, t, y) where there are labels."""
    eps: Tensor = model(x, t, *labels)
    return eps
