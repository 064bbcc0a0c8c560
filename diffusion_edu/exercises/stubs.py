"""What graded functions are given besides tensors: a schedule, networks, an optimiser, a generator.

This file also runs inside the sandbox, where the library is not: it imports only torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["EpsModel", "Sch", "Seed", "Sgd", "TinyNet", "make_real"]


@dataclass
class Sch:
    """Tables of a noise schedule, (T+1,) each, indexed by t = 0..T; beta[0] = 0."""

    beta: Tensor
    alpha: Tensor
    alpha_bar: Tensor
    T: int


class EpsModel(nn.Module):
    """A small fixed function eps_model(x, t) of x (B, *D) and t (B,), in place of a network.

    It depends on every value of x and on t, so that a wrong x or t shows in what it returns.
    """

    def __init__(self, gain: float = 0.7, shift: float = 0.3) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain, dtype=torch.float64))
        self.shift = nn.Parameter(torch.tensor(shift, dtype=torch.float64))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """eps (B, *D)."""
        if not isinstance(t, Tensor) or t.shape != x.shape[:1]:
            got = tuple(t.shape) if isinstance(t, Tensor) else repr(t)
            raise TypeError(f"eps_model(x, t) needs t of shape ({len(x)},), got {got}")
        level = t.to(x.dtype).view(-1, *[1] * (x.ndim - 1)) / 8
        gain, shift = self.gain.to(x.dtype), self.shift.to(x.dtype)
        return torch.tanh(gain * x + shift * x.roll(1, -1) + level)


class TinyNet(nn.Module):
    """A network net(x, t) that can be trained: eps = a x + b t/8 + c, three numbers to learn."""

    def __init__(self, a: float = 0.5, b: float = 0.2, c: float = 0.1) -> None:
        super().__init__()
        numbers = torch.tensor([a, b, c], dtype=torch.float64)
        self.numbers = nn.Parameter(numbers)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """eps (B, *D)."""
        a, b, c = self.numbers.to(x.dtype)
        level = t.to(x.dtype).view(-1, *[1] * (x.ndim - 1)) / 8
        return a * x + b * level + c


@dataclass
class Sgd:
    """Stands for torch.optim.SGD on the network that is another argument of the same call."""

    rate: float = 0.1


@dataclass
class Seed:
    """Stands for torch.Generator().manual_seed(seed)."""

    seed: int


def make_real(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments of a call with optimisers and generators in place of what stands for them."""
    net = next((a for a in args if isinstance(a, TinyNet)), None)

    def real(a: Any) -> Any:
        if isinstance(a, Sgd):
            assert net is not None
            return torch.optim.SGD(net.parameters(), lr=a.rate)
        if isinstance(a, Seed):
            return torch.Generator().manual_seed(a.seed)
        return a

    return tuple(real(a) for a in args)
