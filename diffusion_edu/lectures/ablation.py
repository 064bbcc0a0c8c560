"""Small trainings of lecture 05: table 2 of DDPM and a learned variance, for points of a plane.

Networks of several seeds are trained as one, so that every result comes with its spread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from .._checks import check_choice, check_count
from ..gaussian import standard_normal
from ..metrics import sliced_wasserstein2
from ..nets import EMA, MLP
from ..nets.switches import seeded
from ..objectives import Sigma2, elbo, loss_simple, loss_vlb
from ..prediction import Kind, Model
from ..sampling import Variance, sample
from ..schedules import Schedule, at

__all__ = [
    "Several",
    "WithVariance",
    "bound_and_distance",
    "fit",
    "mean_as_x0",
    "objective",
    "one_thread",
    "trained",
]

Loss = Callable[[Model, Tensor, Tensor, Tensor], Tensor]  # (model, x0, t, eps) -> scalar
Predicts = Literal["mean", "eps"]


class WithVariance(nn.Module):
    """An MLP for points with four outputs: a prediction (B, 2), then v (B, 2) of the variance."""

    def __init__(self, T: int, width: int = 32, depth: int = 3) -> None:
        super().__init__()
        self.net = MLP(4, width, depth, T=T)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """(B, 4), from x (B, 2): each coordinate is shown twice."""
        output: Tensor = self.net(torch.cat([x, x], 1), t)
        return output


class Several(nn.Module):
    """Networks that ``make`` makes, as one: each takes its own equal part of the batch.

    A step costs little more than that of one network, and gradients do not mix.
    """

    def __init__(self, make: Callable[[], nn.Module], seeds: int = 4) -> None:
        super().__init__()
        check_count(seeds, 1, None, "seeds")
        nets = []
        for seed in range(seeds):
            with seeded(seed):
                nets.append(make())
        stacked, _ = stack_module_state(nets)
        self.names, self.seeds = list(stacked), seeds
        self.stacked = nn.ParameterList([nn.Parameter(w.detach()) for w in stacked.values()])
        self.shape = (nets[0].to("meta"),)  # a tuple hides it: its weights are not to be trained

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (seeds * n, *D), t (seeds * n,) -> outputs, one network after the other."""

        def one(weights: dict[str, Tensor], x: Tensor, t: Tensor) -> Tensor:
            output: Tensor = functional_call(self.shape[0], weights, (x, t))
            return output

        weights = dict(zip(self.names, self.stacked, strict=True))
        parts = (y.reshape(self.seeds, -1, *y.shape[1:]) for y in (x, t))
        return torch.vmap(one)(weights, *parts).flatten(0, 1)


def mean_as_x0(net: Model, schedule: Schedule) -> Model:
    """A network that predicts the mean of q(x_{t-1} | x_t, x_0), read as one of x_0 (DDPM eq. 7).

    What it predicts beyond that (a variance) is passed on.
    """
    before, noise = schedule.alpha_bar.roll(1), 1 - schedule.alpha_bar
    on_x0 = before.sqrt() * schedule.beta / noise
    on_xt = schedule.alpha.sqrt() * (1 - before) / noise

    def model(x: Tensor, t: Tensor) -> Tensor:
        output = net(x, t)
        mean, rest = output[:, : x.shape[1]], output[:, x.shape[1] :]
        return torch.cat([(mean - at(on_xt, t, x) * x) / at(on_x0, t, x), rest], 1)

    return model


def objective(predicts: Predicts, name: str, schedule: Schedule) -> Loss:
    """The six losses of DDPM's table 2; a network that predicts the mean comes as one of x_0.

    Args:
        predicts: "mean" or "eps".
        name: "L, learned" and "L, fixed" are the bound, with variance learned or beta; "simple" is
            the squared error of what is predicted.
    """
    check_choice(name, ("L, learned", "L, fixed", "simple"), "name")
    kind: Kind = "x0" if predicts == "mean" else "eps"
    if name == "simple":
        # ||mu_tilde - mu||^2 = (factor of x_0 in mu_tilde)^2 ||x_0 - x0_hat||^2
        factor = schedule.alpha_bar.roll(1) * schedule.beta**2 / (1 - schedule.alpha_bar) ** 2
        weigh = factor if predicts == "mean" else torch.ones_like(factor)
        return lambda model, x0, t, eps: loss_simple(model, x0, t, eps, schedule, kind, weigh[t])
    sigma2: Sigma2 = "learned" if name == "L, learned" else "beta"
    return lambda model, x0, t, eps: loss_vlb(
        model, x0, t, eps, schedule, kind=kind, sigma2=sigma2, decoder="gaussian"
    ).mean()


def fit(
    net: nn.Module,
    loss: Loss,
    data: Tensor,
    T: int,
    *,
    steps: int = 200,
    batch: int = 256,
    lr: float = 3e-3,
    wrap: Callable[[Model], Model] = lambda net: net,
) -> Model:
    """Train ``net`` by Adam, whose step falls to 0; the average of its weights, in ``wrap``.

    Args:
        wrap: how the loss, and the caller, get the network (``mean_as_x0``, for instance).
    """
    draws, adam = torch.Generator().manual_seed(0), torch.optim.Adam(net.parameters(), lr)
    ema = EMA(net, 0.99)
    with one_thread():
        for step in range(steps):
            x0 = data[torch.randint(len(data), (batch,), generator=draws)]
            t = torch.randint(1, T + 1, (batch,), generator=draws)
            value = loss(wrap(net), x0, t, standard_normal(x0, draws))
            adam.zero_grad()
            value.backward()
            adam.param_groups[0]["lr"] = lr * (1 - step / steps)
            adam.step()
            ema.update(net)
    return wrap(ema.model)


def trained(
    predicts: Predicts, name: str, data: Tensor, schedule: Schedule, *, steps: int = 200
) -> Model:
    """Four networks of one row of DDPM's table 2, trained for ``steps`` steps.

    Those that predict the mean come as networks of x_0.
    """
    make: Callable[[], nn.Module] = partial(MLP, 2, 32, 3, T=schedule.T)
    if name == "L, learned":
        make = partial(WithVariance, schedule.T)
    loss, net = objective(predicts, name, schedule), Several(make)
    if predicts == "eps":
        return fit(net, loss, data, schedule.T, steps=steps)
    read = partial(mean_as_x0, schedule=schedule)
    return fit(net, loss, data, schedule.T, steps=steps, wrap=read)


@torch.no_grad()
def bound_and_distance(
    model: Model, data: Tensor, schedule: Schedule, predicts: Predicts, name: str, seeds: int = 4
) -> tuple[Tensor, Tensor]:
    """The bound in nats and the sliced Wasserstein distance of DDPM samples, (seeds,) each.

    The distance is infinite where samples ran away, as those of an unstable variance do.

    Args:
        data: points not trained on; each network gets its share for the bound, and draws as many.
        predicts, name: as for ``trained``.
    """
    draws, data = torch.Generator().manual_seed(1), data[: len(data) // seeds * seeds]
    kind: Kind = "x0" if predicts == "mean" else "eps"
    sigma2: Sigma2 = "learned" if name == "L, learned" else "beta"
    large: Variance = "learned" if name == "L, learned" else "large"
    with one_thread():
        terms = elbo(
            model, data, schedule, kind=kind, sigma2=sigma2, decoder="gaussian", generator=draws
        )
        x_T = standard_normal(data, draws)
        for step in sample(model, x_T, schedule, kind=kind, variance=large, generator=draws):
            x = step.x_s
        clouds = x.view(seeds, -1, x.shape[1])
        same = [torch.Generator().manual_seed(2) for _ in clouds]  # the same directions for all
        pairs = zip(clouds, same, strict=True)
        gaps = [_distance(y, data, g) for y, g in pairs]
    return terms.total.view(seeds, -1).mean(1), torch.stack(gaps)


def _distance(x: Tensor, data: Tensor, generator: torch.Generator) -> Tensor:
    if not x.isfinite().all():
        return torch.tensor(torch.inf, dtype=torch.float64)
    return sliced_wasserstein2(x, data, generator=generator)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch with one thread: on networks this small more threads wait longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
