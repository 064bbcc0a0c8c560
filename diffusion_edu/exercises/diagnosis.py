"""One sentence about what is wrong with a result, the plainest reason first."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from .outcome import Args, Outcome, distance, largest, leaves, state
from .spec import Graded

__all__ = ["describe"]

MOST_LEVELS = 6  # listed one by one


def describe(spec: Graded, args: Args, got: Outcome, wanted: Outcome) -> str:
    """Why ``got`` is not ``wanted``, or "" if it is."""
    if got.status != "ok":
        return got.message or f"there is no result: {got.status}"  # "" would be a right answer
    off = distance(got, wanted)
    if off is not None and off <= spec.tolerance:
        return ""
    return (
        _form(got.value, wanted.value)
        or _bad_numbers(spec, got.value, wanted.value, args)
        or _values(spec, got.value, wanted.value, args)
        or _after(spec, args, got, wanted)
        or _gradient(wanted.value)
    )


def _gradient(wanted: Any) -> str:
    """What is left: the numbers are right, but not what they hang on."""
    if isinstance(wanted, Tensor) and wanted.requires_grad:
        return "no gradient leads from the result to the network: was it detached?"
    if isinstance(wanted, float):
        return "the result still carries a gradient: return a plain number, .item()"
    return "the result carries a gradient: wrap the loop in torch.no_grad()"


def _form(got: Any, wanted: Any) -> str:
    """Kind, length, shape and dtype."""
    if got is None:
        return "it returned None: is the `return` missing?"
    if isinstance(wanted, tuple | list):
        if not isinstance(got, tuple | list) or len(got) != len(wanted):
            return f"it returned {_kind(got)}; wanted are {len(wanted)} results"
        return next((text for g, w in zip(got, wanted, strict=True) if (text := _form(g, w))), "")
    if not isinstance(got, Tensor | bool | int | float):
        return f"it returned {_kind(got)}; wanted is {_kind(wanted)}"
    (g,), (w,) = leaves(got), leaves(wanted)
    if g.shape != w.shape:
        return f"it returned shape {tuple(g.shape)}; wanted is {tuple(w.shape)}"
    if g.is_floating_point() != w.is_floating_point():
        wanted_are = "floats" if w.is_floating_point() else "integers"
        return f"it returned numbers of type {g.dtype}; wanted are {wanted_are}"
    if (g.device, g.layout) != (w.device, w.layout):
        return f"it returned a tensor of {g.device}, {g.layout}; wanted is {w.device}, {w.layout}"
    return ""


def _kind(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        if len(value) == 1:
            return f"1 result in a {type(value).__name__} (a comma or a bracket too many?)"
        return f"{len(value)} results in a {type(value).__name__}"
    return f"a {type(value).__name__}"


def _bad_numbers(spec: Graded, got: Any, wanted: Any, args: Args) -> str:
    """NaN or infinity where a number is wanted."""
    for g, w in zip(leaves(got), leaves(wanted), strict=True):
        bad = ~g.double().isfinite() & w.double().isfinite()
        if bad.any():
            what = "NaN" if g.double()[bad].isnan().any() else "infinity"
            many = f"{int(bad.sum())} of {g.numel()} numbers"
            return f"it gives {what} for {many}{_where(spec, bad, args)}"
    return ""


def _values(spec: Graded, got: Any, wanted: Any, args: Args) -> str:
    for g, w in zip(leaves(got), leaves(wanted), strict=True):
        if (off := largest(g, w)) > spec.tolerance:
            g, w = g.double(), w.double()
            same = (g == w) | (g.isnan() & w.isnan())
            d = torch.where(same, 0.0, (g - w).abs())  # infinity is no distance from itself
            wrong = ~(d <= spec.tolerance * (1 + w.abs())) | ((d > 0) & w.isinf())
            most = float(d.max()) if d.numel() else off
            return f"largest difference {most:.3g}{_where(spec, wrong, args)}"
    return ""


def _where(spec: Graded, wrong: Tensor, args: Args) -> str:
    """For which t the entries are wrong: t (or s) of the batch, or the index of a table."""
    if wrong.ndim == 0:
        return ""
    rows = wrong.flatten(1).any(1) if wrong.ndim > 1 else wrong
    named = dict(zip(inspect.signature(spec.reference).parameters, args, strict=False))
    times = {name: named[name] for name in ("t", "s") if _is_time(named.get(name))}
    name = next((name for name, a in times.items() if len(a) == len(rows)), "entry")
    if times and name == "entry":
        return ""
    levels = times.get(name, torch.arange(len(rows)))
    bad, good = sorted(levels[rows].tolist()), sorted(levels[~rows].tolist())
    if not good:
        return f", at every {name}" if len(rows) > 1 else ""
    return f", at {name} = {_list(bad)}, not at {_list(good)}"


def _is_time(a: Any) -> bool:
    return isinstance(a, Tensor) and a.dtype == torch.int64 and a.ndim == 1


def _list(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:MOST_LEVELS]))
    return shown + (", \u2026" if len(numbers) > MOST_LEVELS else "")


def _after(spec: Graded, args: Args, got: Outcome, wanted: Outcome) -> str:
    """Arguments that were changed, or not changed, by the call."""
    if len(got.after) != len(wanted.after):
        return "it changed the shape of one of its arguments"
    whose = [a for a in args for _ in state((a,))]
    for a, g, w in zip(whose, got.after, wanted.after, strict=True):
        if g.shape != w.shape or largest(g, w) > spec.tolerance:
            if isinstance(a, nn.Module):
                return (
                    "the result is right, but not the network afterwards: was a step left out, or "
                    "made twice?"
                )
            return "afterwards an argument is not what it should be: was it edited in place?"
    return ""
