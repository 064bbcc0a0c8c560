"""A small residual MLP that predicts noise for points: the network of the 2-D lectures."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .._checks import check_count

__all__ = ["MLP", "time_embedding"]


MAX_PERIOD = 10_000.0


def time_embedding(t: Tensor, dim: int) -> Tensor:
    """Sinusoidal features of t: (B,) -> (B, dim), sines first (1706.03762 sec. 3.5).

    Frequencies fall geometrically from 1 to 1/10,000, so that neighbouring steps and distant
    ones are both told apart.
    """
    k = torch.arange(dim // 2, dtype=torch.float32, device=t.device)
    angle = t.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * k / (dim // 2 - 1))
    return torch.cat([angle.sin(), angle.cos()], 1)


class _Block(nn.Module):
    """h + W2 silu(W1 h + V e): a residual layer that is told the time through e."""

    def __init__(self, width: int, time_dim: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.time = nn.Linear(time_dim, width, bias=False)

    def forward(self, h: Tensor, e: Tensor) -> Tensor:
        change: Tensor = self.outer(nn.functional.silu(self.inner(h) + self.time(e)))
        return h + change


class MLP(nn.Module):
    """model(x_t, t, y=None) -> (B, dim): the predicted noise at x_t.

    Args:
        dim: size of a data point.
        width, depth: units per layer; residual blocks of two layers each.
        time_dim: features of t (even, at least 4). t is scaled to 0..1000 whatever T is.
        T: length of the chain the network will be used with.
        num_classes: 0, or the number of classes; y = None then means the null class, whose
            embedding is learned too, as classifier-free guidance needs (Ho & Salimans 2207.12598).
    """

    def __init__(
        self,
        dim: int = 2,
        width: int = 64,
        depth: int = 4,
        time_dim: int = 32,
        T: int = 1000,
        num_classes: int = 0,
    ) -> None:
        super().__init__()
        for name, n in {"dim": dim, "width": width, "depth": depth, "T": T}.items():
            check_count(n, 1, None, name)
        check_count(num_classes, 0, None, "num_classes")
        if time_dim < 4 or time_dim % 2:
            raise ValueError(f"time_dim must be even and at least 4, got time_dim={time_dim}")
        self.dim, self.time_dim, self.T, self.num_classes = dim, time_dim, T, num_classes
        self.enter, self.leave = nn.Linear(dim, width), nn.Linear(width, dim)
        self.blocks = nn.ModuleList(_Block(width, time_dim) for _ in range(depth))
        self.label = nn.Embedding(num_classes + 1, time_dim) if num_classes else None
        nn.init.zeros_(self.leave.weight)  # start from "no noise": loss 1, not some accident

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """x: (B, dim); t: (B,) in 1..T; y: (B,) int64 classes, None = the null class."""
        e = time_embedding(t * (1000 / self.T), self.time_dim).to(self.enter.weight.dtype)
        if self.label is not None:
            null = torch.full_like(t, self.num_classes)
            e = e + self.label(null if y is None else y)
        elif y is not None:
            raise ValueError("y was given, but this network has num_classes=0: leave y out")
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, e)
        eps: Tensor = self.leave(nn.functional.silu(h))
        return eps
