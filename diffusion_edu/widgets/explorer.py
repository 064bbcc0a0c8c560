"""The base of every explorer: checked parameters, the live protocol, and display in a notebook."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from .._checks import check_choice, check_count
from ..schedules import Schedule
from ..viz.scene import Control, Scene

Check = Callable[[str, Any], Any]


def number(low: float, high: float, *, optional: bool = False) -> Check:
    """Check of a float in [low, high]; None is let through when ``optional``."""

    def check(name: str, value: Any) -> float | None:
        if value is None and optional:
            return None
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if not numeric or not low <= value <= high:  # NaN fails the comparison
            raise ValueError(
                f"{name} must be a number in [{low:g}, {high:g}], got {name}={value!r}"
            )
        return float(value)

    return check


def integer(low: int, high: int | None = None, *, optional: bool = False) -> Check:
    """Check of an int in [low, high]; None is let through when ``optional``."""

    def check(name: str, value: Any) -> int | None:
        if value is None and optional:
            return None
        check_count(value, low, high, name)
        return int(value)

    return check


def choice(options: Callable[[], tuple[str, ...]]) -> Check:
    """Check of one of the names that ``options()`` returns."""

    def check(name: str, value: Any) -> str:
        check_choice(value, options(), name)
        return str(value)

    return check


class Param:
    """A parameter of an explorer: reading gives its value, setting checks and recomputes."""

    def __init__(self, check: Check, doc: str) -> None:
        self.check, self.__doc__ = check, doc

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, explorer: Explorer | None, owner: type | None = None) -> Any:
        return self if explorer is None else explorer._values[self.name]

    def __set__(self, explorer: Explorer, value: Any) -> None:
        explorer.update(**{self.name: value})


@contextmanager
def small_work() -> Iterator[None]:
    """no_grad, and one torch thread (for the calling thread only) while it lasts.

    A second thread makes networks of this size slower and erratic. no_grad belongs here and not in
    a cell: front ends may run callbacks in another thread, which a switch in a cell does not reach.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)


class Explorer:
    """Base class. A subclass declares ``Param`` s and writes three methods:

    _compute(values, coarse)  parameters -> state, without touching self (a failure changes nothing)
    _scene(state)             state -> Scene
    _controls(state)          state -> list of Control

    and optionally ``_fit(values)``, which moves values a slider can send into the allowed range.

    ``explorer.update(eta=0.5, steps=20)`` sets several parameters at once; a bad value raises
    ValueError and leaves everything as it was.
    """

    def __init__(self, play: bool = False, **values: Any) -> None:
        self._lock = threading.RLock()
        self._observers: list[Callable[[], None]] = []
        self._view: Any = None
        self._play = bool(play)
        self._values = {name: self._param(name).check(name, v) for name, v in values.items()}
        self._state = self._run(self._values)
        self._values["t"] = self._time(self._values["t"], self._state)
        self._initial = dict(self._values)
        self.version = 0

    # ---- the compute model -----------------------------------------------------------------------

    def _compute(self, values: dict[str, Any], coarse: bool) -> Any:
        raise NotImplementedError

    def _scene(self, state: Any) -> Scene:
        raise NotImplementedError

    def _controls(self, state: Any) -> list[Control]:
        raise NotImplementedError

    def _fit(self, values: dict[str, Any]) -> dict[str, Any]:
        return values

    @classmethod
    def _param(cls, name: str) -> Param:
        param = getattr(cls, name, None)
        if not isinstance(param, Param):
            names = [n for k in cls.__mro__ for n, p in vars(k).items() if isinstance(p, Param)]
            check_choice(name, names, "parameter")
        assert isinstance(param, Param)
        return param

    def _run(self, values: dict[str, Any], coarse: bool = False) -> Any:
        with small_work():
            return self._compute(values, coarse)

    def _time(self, t: int | None, state: Any) -> int:
        """Check t against the levels of ``state``; None is the first frame."""
        if t is None:
            return int(state.times[0])
        check_count(t, 0, max(state.times), "t")
        return t

    def update(self, **changes: Any) -> None:
        """Set several parameters, recompute once and redraw; a ValueError changes nothing."""
        with self._lock:
            self._set({name: self._param(name).check(name, v) for name, v in changes.items()})
        for redraw in self._observers:
            redraw()

    def _set(self, changes: dict[str, Any], coarse: bool = False) -> None:
        values = self._values | changes
        stale = self._state.coarse and not coarse
        state = self._run(values, coarse) if set(changes) - {"t"} or stale else self._state
        # A chain that got shorter keeps its last level in view; a t that was asked for is checked.
        t = values["t"] if "t" in changes else min(values["t"], max(state.times))
        values["t"] = self._time(t, state)
        self._values, self._state = values, state
        self.version += 1

    def _full(self) -> Any:
        """The state with all points, in case a slider is being dragged."""
        with self._lock:
            if self._state.coarse:
                self._state = self._run(self._values)
            return self._state

    @property
    def times(self) -> list[int]:
        """The level of each frame."""
        return list(self._state.times)

    @property
    def noise_schedule(self) -> Schedule:
        """The tables in use."""
        schedule: Schedule = self._state.schedule
        return schedule

    @property
    def frame(self) -> int:
        """Index of the frame whose level is nearest to ``t``."""
        return nearest(self._state.times, self._values["t"])

    @property
    def notes(self) -> list[str]:
        """Messages shown under the picture, e.g. what went wrong in your own function."""
        return [note["text"] for note in self._state.notes]

    def scene(self) -> Scene:
        """What the player draws at present."""
        with self._lock:
            scene = self._scene(self._state)
            scene.controls = self._controls(self._state)
            scene.notes = self._state.notes
            scene.play, scene.coarse = self._play, self._state.coarse
            return scene

    # ---- the live protocol -----------------------------------------------------------------------

    def receive(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Answer a message of the player: {"seq", "view", "values", "final", "reset", "version"}.

        There is always an answer, with the ``seq`` of the question: the player keeps two questions
        in flight, and one left unanswered would stop its sliders for good.
        """
        answer = {key: message.get(key) for key in ("seq", "view")}
        with self._lock:
            try:
                known = self._follow(message)
                if known:
                    return answer | {"version": self.version}, []
                scene = self.scene()
                return answer | {"scene": scene.head(), "version": self.version}, scene.buffers
            except Exception as error:
                text = (
                    str(error)
                    if isinstance(error, ValueError)
                    else f"{type(error).__name__}: {error}"
                )
                now = [vars(c) for c in self._controls(self._state)]
                return answer | {"error": text, "controls": now, "version": self.version}, []

    def _follow(self, message: dict[str, Any]) -> bool:
        """Do what a message asks; True if the player need not draw anew."""
        if message.get("reset"):
            self._set(dict(self._initial))
            return False
        asked = dict(message.get("values", {}))
        # The picture of another t is in the browser already, which may still be at an older T.
        self._values["t"] = min(
            max(int(asked.pop("t", self._values["t"])), 0), max(self._state.times)
        )
        changes = {k: self._param(k).check(k, v) for k, v in self._fit(asked).items()}
        final = bool(message.get("final"))
        if not changes and not (final and self._state.coarse):
            return bool(message.get("version") == self.version)
        self._set(changes, coarse=not final)
        return False

    # ---- display ---------------------------------------------------------------------------------

    @property
    def view(self) -> Any:
        """The ipywidgets widget of this explorer, for layouts of your own; made on first use."""
        if self._view is None:
            from .view import make_view

            self._view, redraw = make_view(self)
            self._observers.append(redraw)
        return self._view

    def to_html(self) -> str:
        """HTML that plays without a kernel: time can be scrubbed, parameters are fixed."""
        from .page import to_html

        return to_html(self.scene())

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        from .page import mimebundle

        return mimebundle(self)

    def __repr__(self) -> str:
        given = ", ".join(f"{k}={v!r}" for k, v in self._values.items())
        return f"{type(self).__name__}({given})"


def nearest(times: Sequence[int], t: int) -> int:
    """Index of the level in ``times`` that is nearest to t."""
    return min(range(len(times)), key=lambda f: abs(times[f] - t))


def short(x: float) -> str:
    """A number in three figures, for the line of text under a picture."""
    return "infinite" if math.isinf(x) else f"{x:.3g}"
