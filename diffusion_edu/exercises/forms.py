"""Two lines that the references share: entries of a table for every example of a batch."""

from __future__ import annotations

from torch import Tensor

__all__ = ["at", "view"]


def view(a: Tensor, x: Tensor) -> Tensor:
    """a (B,) as (B, 1, ...), to multiply x (B, *D)."""
    return a.view(-1, *[1] * (x.ndim - 1))


def at(table: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """Entry t[i] of a table for every example of x, shaped to multiply it."""
    return view(table[t], x)
