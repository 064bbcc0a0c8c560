"""A learner's functions in this very process, as a notebook has them."""

from __future__ import annotations

import linecache
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from .._watchdog import own_frame, within
from .outcome import Args, Outcome, copied, leaves, state
from .stubs import make_real

__all__ = ["Namespace", "timed"]

MOST_TEXT = 500  # characters of an exception's message


class Namespace:
    """Functions by name.

    Args:
        functions: name -> function; other values are no functions of the learner's.
        patience: seconds that one call may take, whatever the test allows.
    """

    def __init__(self, functions: Mapping[str, Any], patience: float | None = None) -> None:
        self.functions, self.patience = functions, patience
        self._stuck: dict[str, Outcome] = {}

    def call(self, name: str, args: Args, seconds: float) -> Outcome:
        """The outcome of one call, on copies."""
        function = self.functions.get(name)
        if function is None:
            return Outcome(status="not_implemented", message=f"{name} is not defined yet")
        if not callable(function):
            text = f"{name} is no function but a {type(function).__name__}: was it assigned to?"
            return Outcome(status="error", kind="TypeError", message=text)
        if name in self._stuck:
            return self._stuck[name]
        limit = seconds if self.patience is None else min(seconds, self.patience)
        outcome = timed(function, args, limit)
        if outcome.status == "timeout":
            self._stuck[name] = outcome
        return outcome


def timed(function: Callable[..., Any], args: Args, seconds: float) -> Outcome:
    """Call a learner's function on copies, in a thread with a deadline."""
    mine = copied(args)
    returned: list[Any] = []

    def work() -> None:
        with torch.enable_grad():
            returned.append(_as_numbers(function(*make_real(mine))))
        leaves(returned[0])  # what has no numbers raises here, and not in a comparison

    began = time.perf_counter()
    try:
        where = within(seconds, work)
    except NotImplementedError as error:
        text = str(error) or "not implemented yet"
        return Outcome(status="not_implemented", kind="NotImplementedError", message=text)
    except MemoryError:
        return Outcome(status="memory", kind="MemoryError", message="it ran out of memory")
    except BaseException as error:
        return Outcome(status="error", kind=type(error).__name__, message=_said(error, function))
    if where is not None:
        passed = time.perf_counter() - began
        line = _line(where, function)
        return Outcome(status="timeout", message=f"it did not return within {passed:.2g} s{line}")
    return Outcome(returned[0], after=state(mine))


def _as_numbers(value: Any) -> Any:
    """The value with NumPy's arrays and numbers as tensors and floats.

    A gradient that ``requires_grad_()`` begins at the result leads nowhere, and counts as none.
    """
    if isinstance(value, torch.Tensor) and value.is_leaf:
        return value.detach()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        kind = list if isinstance(value, list) else tuple  # a named tuple takes no series
        return kind(_as_numbers(v) for v in value)
    return value


def _said(error: BaseException, function: Callable[..., Any]) -> str:
    """The exception and the learner's line it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    try:
        text = str(error)
    except Exception:
        text = "(no text)"
    text = text if len(text) < MOST_TEXT else text[:MOST_TEXT] + " \u2026"
    return f"it raised {type(error).__name__}: {text}{_line(frames, function)}"


def _line(frames: Any, function: Callable[..., Any]) -> str:
    frame = own_frame(frames, function)
    if frame is None:
        return ""
    source = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
    return f"; line {frame.lineno}: {source}" if source else f"; line {frame.lineno}"
