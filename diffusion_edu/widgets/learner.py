"""Running a learner's own function: its result, or one sentence that says what went wrong where."""

from __future__ import annotations

import inspect
import linecache
import math
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._watchdog import own_frame, within
from ..viz.scene import note

__all__ = [
    "AGREES",
    "HURRY",
    "PATIENCE",
    "Learner",
    "LearnerError",
    "agreement",
    "answers",
    "bad_values",
    "compared",
    "explain",
]

PATIENCE = 2.0  # seconds that all calls for one picture may take
HURRY = 0.15  # while a slider is dragged
AGREES = 1e-5  # float32 is as good as that


class LearnerError(Exception):
    """The learner's function failed; the message is meant for them."""


class Learner:
    """Calls a learner's function the way it wants its times.

    Times are first passed as ints; a function that refuses an int gets (B,) int64 tensors, as
    networks do. Arrays are copied, so that an edit in place cannot spoil the reference.

    Args:
        function: the learner's function.
        role: the name it has in messages, e.g. "q_sample".
    """

    SHAPE: ClassVar[str] = "{}, the shape of its first argument"  # what its results must be

    def __init__(self, function: Callable[..., Any], role: str) -> None:
        if not callable(function):
            raise ValueError(
                f"{role} must be a function, got {type(function).__name__} {function!r}: "
                f"pass its name without brackets, {role}=mine"
            )
        self.function, self.role = function, role
        self.late = False  # whether there was too little time for the last calls
        self._tensor_times = False
        self._stuck: str | None = None  # what was said of a call that did not come back

    def over(
        self, items: Iterable[Any], call: Callable[[Any], None], hurry: bool = False
    ) -> str | None:
        """call(item) for each item, all together for at most ``PATIENCE`` seconds.

        ``call`` calls this learner and keeps its results. Returns None if all were done in time,
        else a sentence for the learner; a function that hung is not called again.

        Raises:
            LearnerError: of ``call``.
        """
        self.late = False
        if self._stuck:
            return self._stuck
        done: list[float] = []
        patience = HURRY if hurry else PATIENCE
        began = time.perf_counter()

        def work() -> None:
            for item in items:
                call(item)
                done.append(time.perf_counter() - began)

        where = within(patience, work)
        if where is None:
            return None
        self.late = True
        if done and done[-1] > patience / 2:
            return (
                f"your {self.role} is slow, about {done[-1] / len(done):.2g} s a call: only what "
                f"it gave in {patience:g} s is shown"
            )
        text = f"your {self.role} did not return within {patience:g} s{self._line(where)}"
        if not hurry:  # it may only have been slow to start
            self._stuck = f"{text}; mend it and make the explorer again"
            return self._stuck
        return text

    def each(
        self,
        items: Iterable[Any],
        ready: Callable[[Any], Any],
        call: Callable[[Any, Any], None],
        hurry: bool = False,
    ) -> str | None:
        """As ``over``, for call(item, ready(item)): ``ready`` does not take the learner's time."""
        left = patience = HURRY if hurry else PATIENCE
        for item in items:
            given = ready(item)
            began = time.perf_counter()
            if late := self.over([given], partial(call, item), hurry):
                return late
            left -= time.perf_counter() - began
            if left < 0:
                self.late = True
                return f"your {self.role} is slow: only what it gave in {patience:g} s is shown"
        return None

    def _line(self, where: Sequence[traceback.FrameSummary]) -> str:
        frame = own_frame(where, self.function)
        if frame is None:
            return ""
        return f"; it was on line {frame.lineno}: {(frame.line or '').strip()}"

    def __call__(self, like: Tensor, *args: Any) -> Tensor:
        """The function's result, which must have the shape of ``like``.

        Ints among ``args`` are times. Raises LearnerError for an exception or a wrong result.
        """
        try:
            out = self._call(like, args, self._tensor_times)
        except Exception as first:
            try:
                out = self._call(like, args, not self._tensor_times)
            except Exception as second:  # what got further took its times as it wants them
                error = max(first, second, key=self._line_of)
                raise LearnerError(explain(error, self.function, self.role)) from error
            self._tensor_times = not self._tensor_times
        self._check(out, like)
        result: Tensor = out.detach().to("cpu", like.dtype)
        return result

    def _call(self, like: Tensor, args: Sequence[Any], tensor_times: bool) -> Any:
        def convert(a: Any) -> Any:
            if isinstance(a, Tensor):
                return a.clone()
            if isinstance(a, int) and tensor_times:
                return torch.full((len(like),), a)
            return a

        return self.function(*map(convert, args))

    def _line_of(self, error: Exception) -> int:
        frame = own_frame(traceback.extract_tb(error.__traceback__), self.function)
        return 0 if frame is None else frame.lineno or 0

    def _check(self, out: Any, like: Tensor) -> None:
        where = f"your {self.role}{_first_line(self.function)}"
        if out is None:
            raise LearnerError(f"{where} returned None: is the `return` missing?")
        if not isinstance(out, Tensor):
            raise LearnerError(
                f"{where} returned {type(out).__name__}; it must return a tensor of "
                f"shape {tuple(like.shape)}"
            )
        if out.shape != like.shape:
            raise LearnerError(
                f"{where} returned shape {tuple(out.shape)}; it must be "
                f"{self.SHAPE.format(tuple(like.shape))}"
            )


def answers(
    learner: Learner,
    times: Sequence[Any],
    call: Callable[[Any], Tensor],
    notes: list[dict[str, str]],
    hurry: bool = False,
    at: str = "t = {:g}",
) -> tuple[Tensor | None, bool]:
    """What ``call``, which calls the learner, gives at each of ``times``, and whether at all.

    Whatever goes wrong is added to ``notes``, with the place ``at`` which it did.

    Returns:
        (F, ...), NaN where there was no time; None if the function raised or gave nothing in time.
    """
    rows: list[Tensor] = []
    try:
        late = learner.over(times, lambda one: rows.append(call(one)), hurry)
    except LearnerError as error:
        notes.append(note("error", f"At {at.format(times[len(rows)])}: {error}"))
        return None, False
    if late:
        notes.append(note("error", late))
    if not rows:
        return None, False
    missing = [torch.full_like(rows[0], math.nan)] * (len(times) - len(rows))
    return torch.stack(rows + missing), not late


def compared(
    role: str,
    agrees: bool,
    off: float,
    where: str = "",
    other: str = "the reference",
    largest: str = "largest difference",
) -> str:
    """One sentence: whether the learner's function gives what ``other`` gives."""
    how = "agrees with" if agrees else "differs from"
    return f"your {role} {how} {other}: {largest} {off:.2g}" + (f", at {where}" if where else "")


def agreement(
    learner: Learner,
    mine: Tensor,
    times: Sequence[int],
    off: Sequence[float],
    other: str = "the reference",
) -> dict[str, str]:
    """The note on frames ``mine`` (F, ...) whose differences from ``other`` are ``off``."""
    if bad := bad_values(mine, times, learner):
        return note("error", bad)
    worst = max(range(len(off)), key=off.__getitem__)
    agrees = off[worst] < AGREES
    return note("info", compared(learner.role, agrees, off[worst], f"t = {times[worst]}", other))


def bad_values(x: Tensor, times: Sequence[int], learner: Learner) -> str | None:
    """A sentence about the first frame of x (F, ...) that holds NaN or infinity, or None."""
    bad = ~x.isfinite().flatten(1)
    if not bad.any():
        return None
    f = int(bad.any(1).nonzero()[0])
    what = "NaN" if x[f].isnan().any() else "infinity"
    return (
        f"your {learner.role}{_first_line(learner.function)} gives {what}, first at t = {times[f]} "
        f"({int(bad[f].sum())} of {bad.shape[1]} values); those points are not drawn"
    )


def explain(error: BaseException, function: Callable[..., Any], role: str) -> str:
    """One sentence: the exception, and the line of the learner's function it came from."""
    frame = _own_frame(error, function)
    where = ""
    if frame is not None:
        source = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
        where = f" on line {frame.lineno}" + (f": {source}" if source else "")
    return f"your {role} raised {type(error).__name__}{where}\n{error}"


def _own_frame(error: BaseException, function: Callable[..., Any]) -> traceback.FrameSummary | None:
    """Where an error came from: in ``function``, or else in whatever called it."""
    frames = traceback.extract_tb(error.__traceback__)
    own = own_frame(frames, function)
    if own is not None:
        return own
    outside = [f for f in frames if f.filename != __file__]
    return outside[0] if outside else None


def _first_line(function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f" ({code.co_name}, line {code.co_firstlineno})" if code is not None else ""
