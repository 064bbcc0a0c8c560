"""Inputs that functions are graded on: small worlds where wrong formulas look wrong.

With T = 1000 and beta from 1e-4 to 0.02 most wrong formulas come within 0.005 of the right one.
With T = 8 and beta from 0.05 to 0.6 they differ by 0.05 and more.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from .stubs import EpsModel, Sch

__all__ = ["World", "make_sch", "worlds"]


@dataclass(frozen=True, eq=False)
class World:
    """One set of inputs. Everything is float32, on the CPU.

    Attributes:
        label: for the reader, e.g. "8 points".
        sch: the schedule, tables of T+1 entries.
        t, s: (B,) int64, 1 <= t <= T, all different, with 1 and T among them; 0 <= s < t.
        x0, xt, eps, z: (B, *D); xt is q_sample(x0, t, eps).
        zs: (T+1, B, *D), noise for every step.
        eps_model: a fixed function eps_model(x, t).
        seed: for what needs more randomness.
    """

    label: str
    sch: Sch
    t: Tensor
    s: Tensor
    x0: Tensor
    xt: Tensor
    eps: Tensor
    z: Tensor
    zs: Tensor
    eps_model: EpsModel
    seed: int

    @property
    def batch(self) -> int:
        """B."""
        return len(self.x0)

    def more(self, *shape: int, draw: int = 1) -> Tensor:
        """Further standard normal numbers, float32."""
        g = torch.Generator().manual_seed(self.seed + draw)
        return torch.randn(shape, generator=g)


def make_sch(beta: Tensor) -> Sch:
    """The tables of beta (T+1,), beta[0] = 0."""
    alpha = 1 - beta.double()
    return Sch(beta.float(), alpha.float(), alpha.cumprod(0).float(), len(beta) - 1)


@lru_cache(maxsize=8)
def worlds(secret: str | None = None) -> tuple[World, ...]:
    """The public worlds (None), or the hidden ones that a course's secret makes."""
    if secret is None:
        beta = torch.cat([torch.zeros(1), torch.linspace(0.05, 0.6, 8)])
        return (
            _world("8 points", (8, 2), beta, 11),
            _world("2 points in 2 dimensions", (2, 2), beta, 12),
            _world("4 images", (4, 1, 8, 8), beta, 13),
        )
    made = []
    for k, shape in enumerate([(6, 3), (3, 3), (4, 2, 4, 4)]):
        seed = int.from_bytes(hashlib.sha256(f"{k} {secret}".encode()).digest()[:6], "big")
        made.append(_world(f"hidden {k + 1}", shape, _drawn_betas(seed), seed))
    return tuple(made)


def _drawn_betas(seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    T = int(torch.randint(6, 12, (), generator=g))
    steps = torch.linspace(0.05, 0.55, T) + 0.05 * torch.rand(T, generator=g)
    return torch.cat([torch.zeros(1), steps])


def _world(label: str, shape: tuple[int, ...], beta: Tensor, seed: int) -> World:
    g = torch.Generator().manual_seed(seed)
    sch, T, B = make_sch(beta), len(beta) - 1, shape[0]
    inner = torch.randperm(T - 2, generator=g)[: B - 2] + 2  # 1 and T are always there
    t = torch.cat([torch.tensor([1, T]), inner])[torch.randperm(B, generator=g)]
    s = (torch.rand(B, generator=g) * t).long()  # 0..t-1, most of them not t-1
    # Data away from the origin, and no two values alike: a wrong scale or sign shows.
    x0 = 0.5 + 0.8 * torch.randn(shape, generator=g)
    eps, z = (torch.randn(shape, generator=g) for _ in range(2))
    zs = torch.randn((T + 1, *shape), generator=g)
    bar = sch.alpha_bar[t].view(-1, *[1] * (len(shape) - 1))
    xt = bar.sqrt() * x0 + (1 - bar).sqrt() * eps
    return World(label, sch, t, s, x0, xt, eps, z, zs, EpsModel(), seed % 2**31)
