"""The base of every explorer: checked parameters, the live protocol, and display in a notebook."""

from __future__ import annotations

import copy
import itertools
import math
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from .._checks import check_choice
from .._files import write_atomically
from ..schedules import Schedule
from ..viz.scene import Control, Scene
from .jobs import Job, Tell
from .learner import Learner
from .params import Param, integer, number, small_work
from .saving import FORMATS, encode, stepping

__all__ = ["BUDGET", "Explorer", "Pages", "nearest", "short"]

Pages = tuple[dict[tuple[Any, ...], Scene], dict[str, list[Any]], tuple[Any, ...]]
BUDGET = 0.06  # seconds: what a live slider may take and still feel attached to the hand


class Explorer:
    """Base class. A subclass declares ``Param`` s and writes three methods:

    _compute(values, coarse)  parameters -> state, without touching self (a failure changes nothing)
    _scene(state)             state -> Scene
    _controls(state)          state -> list of Control

    and optionally

    _fit(values)   moves values a slider can send into the allowed range
    _code()        Python that makes what is shown, with {t} for the level
    _act(action)   answers a button of the scene
    _finish()      does what that button does, for a page, which has none
    PAGES          values of parameters that a saved page lets its reader choose from

    ``explorer.update(eta=0.5, steps=20)`` sets several parameters at once; a bad value raises
    ValueError and leaves everything as it was.
    """

    PAGES: ClassVar[dict[str, Sequence[Any]]] = {}

    def __init__(self, play: bool = False, **values: Any) -> None:
        self._lock = threading.RLock()
        self._observers: list[Callable[[], None]] = []
        self._listeners: list[Tell] = []
        self._jobs: dict[int, Job] = {}
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

    def _code(self) -> str:
        return ""

    def _act(self, action: str) -> None:
        raise ValueError(f"unknown action {action!r}")

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
            state = self._compute(values, coarse)
        learners = (x for x in vars(self).values() if isinstance(x, Learner))
        if coarse and any(learner.late for learner in learners):
            state.coarse = True  # there is more to see once the slider is let go
        return state

    def _time(self, t: float | None, state: Any) -> float:
        """Check t against the levels of ``state``; None is the first frame."""
        if t is None:
            return float(state.times[0]) if _fractional(state.times) else int(state.times[0])
        if _fractional(state.times):
            return float(number(min(state.times), max(state.times))("t", t) or 0.0)
        return int(integer(0, max(state.times))("t", t))

    def update(self, **changes: Any) -> None:
        """Set several parameters, recompute once and redraw; a ValueError changes nothing."""
        with self._lock:
            self._set({name: self._param(name).check(name, v) for name, v in changes.items()})
        self._redraw()

    def _redraw(self) -> None:
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
                self.version += 1
            return self._state

    @property
    def times(self) -> list[float]:
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
            scene.code = self._code()
            return scene

    @property
    def code(self) -> str:
        """Calls of this library that make what is shown."""
        return self._code().replace("{t}", f"{self._state.times[self.frame]:g}")

    # ---- the live protocol -----------------------------------------------------------------------

    def receive(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
        """Answer a message of the player: {"seq", "view", "version"} and what it wishes.

        "values" {name: value}, "final" (nothing is being dragged), "reset", "action" (a button),
        "save" (a format), "cancel" (number of a job).

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
                plain = isinstance(error, ValueError)
                text = str(error) if plain else f"{type(error).__name__}: {error}"
                now = [vars(c) for c in self._controls(self._state)]
                return answer | {"error": text, "controls": now, "version": self.version}, []

    def _follow(self, message: dict[str, Any]) -> bool:
        """Do what a message asks; True if the player need not draw anew."""
        if message.get("reset"):
            self._set(dict(self._initial))
            return False
        asked = dict(message.get("values", {}))
        # The picture of another t is in the browser already, which may still be at an older T.
        self._values["t"] = self._inside(asked.pop("t", self._values["t"]))
        if action := message.get("action"):
            self._act(str(action))
            return False
        if job := self._jobs.get(message.get("cancel", 0)):
            job.cancel()
        if kind := message.get("save"):
            self._save_for(str(kind), message)
        changes = {k: self._param(k).check(k, v) for k, v in self._fit(asked).items()}
        final = bool(message.get("final"))
        if not changes and not (final and self._state.coarse):
            return bool(message.get("version") == self.version)
        self._set(changes, coarse=not final)
        return False

    # ---- display ---------------------------------------------------------------------------------

    @property
    def view(self) -> Any:
        """The ipywidgets widget of this explorer, for layouts of your own; made on first use.

        Raises:
            ImportError: there is no ipywidgets.
        """
        if self._view is None:
            from .view import make_view

            self._view, redraw, tell = make_view(self)
            self._observers.append(redraw)
            self._listeners.append(tell)
        return self._view

    def close(self) -> None:
        """Take the widget off the page, stop jobs and free what was computed for it."""
        for job in list(self._jobs.values()):
            job.cancel()
        if self._view is not None:
            self._view.close()
        self._view = None
        self._observers.clear()
        self._listeners.clear()

    def _inside(self, t: Any) -> float:
        times = self._state.times
        number = float(t) if _fractional(times) else int(t)
        return min(max(number, min(times)), max(times))

    # ---- long work -------------------------------------------------------------------------------

    def _start(self, label: str, work: Callable[[Job], Any], view: Any = None) -> Job:
        """Begin a job; its messages go to that view, or to all."""

        def tell(message: dict[str, Any], buffers: list[bytes]) -> None:
            for listener in self._listeners:
                listener(message if view is None else {"view": view, **message}, buffers)

        def finished() -> None:
            self._jobs.pop(job.id, None)

        job = Job(label, tell, work, finished)
        self._jobs[job.id] = job
        return job.start()

    def _save_for(self, kind: str, message: dict[str, Any]) -> None:
        check_choice(kind, FORMATS, "format")
        scene = self.scene()
        name = f"{type(self).__name__}.{kind}"

        def work(job: Job) -> tuple[dict[str, Any], list[bytes]]:
            data = self._page(job.step) if kind == "html" else encode(scene, kind, job.step)
            return {"file": {"name": name, "type": FORMATS[kind]}}, [data]

        self._start(f"saving {name}", work, message.get("view"))

    def _publish(self, change: Callable[[], None]) -> None:
        """Change the state from a job's thread, and show it."""
        with self._lock:
            change()
            self.version += 1
        self._redraw()

    # ---- files -----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write what is shown: .png (the present frame), .gif and .mp4 (all), .html (a page).

        Raises:
            ValueError: another suffix.
            ImportError: .mp4 without imageio-ffmpeg.
        """
        path = Path(path)
        kind = path.suffix.removeprefix(".")
        check_choice(kind, FORMATS, "format of a file")
        with stepping(f"saving {path.name}") as step:
            data = self._page(step) if kind == "html" else encode(self.scene(), kind, step)
        write_atomically(path, data)
        return path

    def to_html(self, path: str | Path, **values: Sequence[Any]) -> Path:
        """Write a page that plays without kernel and network.

        Args:
            values: for the page's reader to choose from, eta=[0, 0.5, 1] say; all combinations are
                computed. Default: those of the class, ``PAGES``. Other parameters stay as they are.

        Raises:
            ValueError: unknown parameter, or a value it cannot have.
        """
        path = Path(path)
        with stepping(f"writing {path.name}") as step:
            data = self._page(step, values or None)
        write_atomically(path, data)
        return path

    def _page(
        self,
        step: Callable[[float, str], None] = lambda done, text: None,
        values: dict[str, Sequence[Any]] | None = None,
    ) -> bytes:
        from .page import document

        return document(*self._pages(step, values)).encode()

    def _pages(
        self,
        step: Callable[[float, str], None] = lambda done, text: None,
        values: dict[str, Sequence[Any]] | None = None,
    ) -> Pages:
        """The scenes of a page, whose controls offer ``values`` and what is shown now."""
        with self._lock:  # what is shown now, whatever sliders do meanwhile
            page = copy.copy(self)
            now = dict(self._values)
        grid = {}
        for name, some in (self.PAGES if values is None else values).items():
            check = self._param(name).check
            own = [check(name, v) for v in some]
            if values is None:  # a short chain has fewer steps than are offered
                own = [v for v in own if page._fit({name: v}).get(name) == v]
            grid[name] = own if now[name] in own else _sorted([*own, now[name]])
        scenes = {}
        every = list(itertools.product(*grid.values()))
        for i, one in enumerate(every):
            scenes[one] = page._turned_to(now, dict(zip(grid, one, strict=True)))
            step((i + 1) / len(every), f"setting {i + 1} of {len(every)}")
        return scenes, grid, tuple(now[name] for name in grid)

    def _turned_to(self, now: dict[str, Any], changes: dict[str, Any]) -> Scene:
        """The scene of ``now`` with changes. Of a copy of the explorer that is shown.

        Raises:
            ValueError: values that cannot be had together.
        """
        with self._lock:  # the two have their caches together
            self._values = dict(now)
            fitted = self._fit(changes)
            if off := [f"{k}={v!r}" for k, v in changes.items() if fitted.get(k) != v]:
                every = ", ".join(f"{k}={v!r}" for k, v in changes.items())
                raise ValueError(f"{', '.join(off)} cannot be had with {every}: leave it out")
            self._set(fitted)
        self._finish()
        return self.scene()

    def _finish(self) -> None:
        pass

    # ---- in a notebook ---------------------------------------------------------------------------

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        from .page import mimebundle

        return mimebundle(self)

    def __repr__(self) -> str:
        given = ", ".join(f"{k}={v!r}" for k, v in self._values.items())
        return f"{type(self).__name__}({given})"


def _fractional(times: Sequence[float]) -> bool:
    return any(isinstance(t, float) for t in times)


def _sorted(values: list[Any]) -> list[Any]:
    return sorted(values, key=lambda v: (v is not None, isinstance(v, str), v or 0))


def nearest(times: Sequence[float], t: float) -> int:
    """Index of the level in ``times`` that is nearest to t."""
    return min(range(len(times)), key=lambda f: abs(times[f] - t))


def short(x: float) -> str:
    """A number in three figures, for the line of text under a picture."""
    return "infinite" if math.isinf(x) else f"{x:.3g}"
