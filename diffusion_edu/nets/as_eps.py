"""A network that predicts x0, v or the score, as one that predicts the noise."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..prediction import Kind, check_kind, eps_and_x0
from ..schedules import Schedule, per_example
from .unet import has_variance

__all__ = ["AsEps"]


class AsEps(nn.Module):
    r"""model(x_t, t, ...) -> eps, from a network of another kind, by the formulas of ``predict``.

    Why: the noise of x_t is nearly x_t itself when t is large, so a network that predicts it must
    copy its input, and x0 = (x_t - b eps) / a multiplies what it gets wrong by b/a: 157 at t = T of
    the linear schedule. From v instead, eps = b x_t + a v and x0 = a x_t - b v: the copy is exact
    and errors reach x0 unmagnified (Salimans & Ho 2202.00512 sec. 4). To everything else the two
    are the same kind of network. ``training.train`` takes its loss in the quantity predicted.

    Args:
        net: net(x_t (B, *D), t (B,), ...) -> (B, *D), of that kind.
        kind: "v", "x0", "score" or "eps".
        schedule: the chain it is made for; its tables follow the module from device to device.

    Raises:
        ValueError: unknown kind; alpha_bar_T = 0, where no noise tells x0 (see ``predict``); a
            network with a learned variance, which has two outputs.
    """

    a: Tensor
    b: Tensor

    def __init__(self, net: nn.Module, kind: Kind, schedule: Schedule) -> None:
        super().__init__()
        if has_variance(net):
            raise ValueError(
                f"a network with learned_variance=True must predict the noise, got kind={kind!r}"
            )
        check_kind(kind, schedule.T, schedule)
        check_kind("eps", schedule.T, schedule)
        self.net, self.kind = net, kind
        # Not part of the weights: the schedule has them.
        self.register_buffer("a", schedule.sqrt_alpha_bar, persistent=False)
        self.register_buffer("b", schedule.sqrt_one_minus_alpha_bar, persistent=False)

    @property
    def config(self) -> Any:
        """The network's own: samplers read from it how many classes it knows. None without."""
        return getattr(self.net, "config", None)

    def forward(self, x: Tensor, t: Tensor, *extra: Any, **named: Any) -> Tensor:
        """x: (B, *D); t: (B,) in 1..T; what else is given, as the class y, goes to the network."""
        a, b = per_example(self.a[t], x), per_example(self.b[t], x)
        return eps_and_x0(self.kind, self.net(x, t, *extra, **named), x, a, b)[0]
