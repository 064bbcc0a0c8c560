"""What a call came to, and when two of them are the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .stubs import EpsModel, Sch, TinyNet, make_real

__all__ = [
    "Args",
    "Outcome",
    "alike",
    "copied",
    "distance",
    "largest",
    "leaves",
    "state",
    "trusted",
]

Args = tuple[Any, ...]


@dataclass
class Outcome:
    """The result of one call, or why there is none.

    Attributes:
        value: what was returned.
        after: the numbers of the arguments after the call (an edit in place shows there).
        status: "ok", "error", "not_implemented", "timeout" or "memory".
        kind: name of the exception.
        message: for the learner, with the line of theirs that it came from.
    """

    value: Any = None
    after: tuple[Tensor, ...] = ()
    status: str = "ok"
    kind: str = ""
    message: str = ""


def leaves(value: Any) -> list[Tensor]:
    """All numbers in a value, as tensors in a fixed order; text and None are left out."""
    if isinstance(value, Tensor):
        return [value.detach()]
    if isinstance(value, bool | int | float):
        return [torch.tensor(value, dtype=torch.float64)]
    if isinstance(value, tuple | list):
        return [x for v in value for x in leaves(v)]
    if isinstance(value, Sch):
        return leaves((value.beta, value.alpha, value.alpha_bar))
    if isinstance(value, nn.Module):
        return [p.detach() for p in value.parameters()]
    return []


def state(args: Args) -> tuple[Tensor, ...]:
    """The numbers of those arguments that a function could change."""
    kinds = (Tensor, Sch, nn.Module)
    return tuple(x for a in args if isinstance(a, kinds) for x in leaves(a))


def copied(args: Args, dtype: torch.dtype | None = None) -> Args:
    """Copies of arguments that nobody else sees; floats in ``dtype`` if it is given."""

    def one(a: Any) -> Any:
        if isinstance(a, Tensor):
            a = a.detach().clone()
            return a.to(dtype) if dtype is not None and a.is_floating_point() else a
        if isinstance(a, Sch):
            return Sch(one(a.beta), one(a.alpha), one(a.alpha_bar), a.T)
        if isinstance(a, EpsModel):
            return EpsModel(a.gain.item(), a.shift.item())
        if isinstance(a, TinyNet):
            return TinyNet(*a.numbers.tolist())
        if isinstance(a, tuple | list):
            return type(a)(one(x) for x in a)
        return a

    return tuple(one(a) for a in args)


def trusted(function: Callable[..., Any], args: Args) -> Outcome:
    """Call a function of ours on float64 copies; an exception is an outcome too."""
    mine = copied(args, torch.float64)
    with torch.enable_grad():
        try:
            value = function(*make_real(mine))
        except Exception as error:
            return Outcome(status="error", kind=type(error).__name__, message=str(error))
    return Outcome(value, after=state(mine))


def distance(got: Outcome, wanted: Outcome) -> float | None:
    """Largest |got - wanted| / (1 + |wanted|) over all numbers; None where they do not compare.

    NaN equals NaN, and infinity itself.
    """
    if got.status != wanted.status or got.kind != wanted.kind:
        return None
    if got.status != "ok":
        return 0.0
    here, there = leaves(got.value), leaves(wanted.value)
    if isinstance(got.value, tuple | list) != isinstance(wanted.value, tuple | list):
        return None  # x is not (x,), whatever x is
    if _grad(got.value) != _grad(wanted.value) or len(here) != len(there):
        return None
    return _apart([*here, *got.after], [*there, *wanted.after])


def _apart(here: list[Tensor], there: list[Tensor]) -> float | None:
    if len(here) != len(there) or not all(map(alike, here, there)):
        return None
    return largest(_joined(here), _joined(there))  # one comparison: there may be dozens of leaves


def _joined(values: list[Tensor]) -> Tensor:
    return torch.cat([torch.empty(0).double(), *(x.double().flatten() for x in values)])


def alike(a: Tensor, b: Tensor) -> bool:
    """Shape, kind of numbers and place are the same, so that the numbers can be compared."""
    here, there = ((x.shape, x.is_floating_point(), x.device, x.layout) for x in (a, b))
    return here == there


def largest(a: Tensor, b: Tensor) -> float:
    """Largest |a - b| / (1 + |b|), infinite where only one of them is a number."""
    if a.numel() == 0:
        return 0.0
    a, b = a.double(), b.double()
    same = (a == b) | (a.isnan() & b.isnan())
    off = torch.where(same, 0.0, (a - b).abs() / (1 + b.abs()))
    return float(off.nan_to_num(nan=torch.inf).max())


def _grad(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad
