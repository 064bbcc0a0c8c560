"""Somebody else's function: work that may never end, and the line it was on."""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import inspect
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import torch

__all__ = ["Stopped", "own_frame", "within"]

GRACE = 0.3  # seconds for a thread that was told to stop
IMPORTS = 20.0  # seconds for what is imported: stopped on the way, a package is broken for good


class Stopped(BaseException):
    """Raised inside a thread whose time is up. No Exception: `except Exception` must not eat it."""


class _Worker:
    """A thread for one piece of work after the other: starting one takes longer than most work."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._live, daemon=True)
        self.thread.start()

    def _live(self) -> None:
        with contextlib.suppress(Stopped):
            while self._work():
                pass

    def _work(self) -> bool:  # a call each, so that nothing of the last one is kept while it waits
        work = self.jobs.get()
        if work is None:
            return False
        torch.set_num_threads(1)  # switches of the thread, as gradients are: see ``small_work``
        torch.set_default_device(None)
        failure = None
        try:
            with torch.no_grad():
                contextvars.Context().run(work)  # what is set for a thread ends with the work
        except BaseException as error:
            failure = error
        self.ends.put(failure)
        return True

    def stop(self) -> None:
        """The last work it does; raises in it at its next instruction."""
        self.jobs.put(None)
        raised = ctypes.py_object(Stopped)
        ident = ctypes.c_ulong(self.thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, raised)
        self.thread.join(GRACE)


_idle: list[_Worker] = []
if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_idle.clear)


def within(seconds: float, work: Callable[[], None]) -> traceback.StackSummary | None:
    """Run ``work`` in a thread; None when it ended in time, else where it was when stopped.

    A thread cannot be killed, but Python code in it can be made to raise at its next instruction:
    an endless loop ends, only a call that never comes back from C stays behind as a daemon.

    Raises:
        Whatever ``work`` raises.
    """
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
    in_time = False
    try:
        worker.jobs.put(work)
        failure = _ending(worker, seconds)
        in_time = True
    except queue.Empty:
        frame = sys._current_frames().get(worker.thread.ident or 0)
        return traceback.extract_stack(frame) if frame is not None else traceback.StackSummary()
    finally:  # Ctrl-C stops the work too
        if in_time:
            _idle.append(worker)
        else:
            worker.stop()
    if failure is not None:
        raise failure
    return None


def _ending(worker: _Worker, seconds: float) -> BaseException | None:
    """How the work ended. queue.Empty when its time is up; a time in which it imported is none."""
    patience = time.monotonic() + IMPORTS
    while True:
        try:
            return worker.ends.get(timeout=seconds)
        except queue.Empty:
            if time.monotonic() > patience or not _imports(worker):
                raise


def _imports(worker: _Worker) -> bool:
    """Whether the work is within an import, its own or of what it has called."""
    frame = sys._current_frames().get(worker.thread.ident or 0)
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def own_frame(
    frames: Sequence[traceback.FrameSummary], function: Callable[..., Any]
) -> traceback.FrameSummary | None:
    """The deepest frame in the file or cell of ``function``: errors surface further down."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    own = [f for f in frames if code is not None and f.filename == code.co_filename]
    return own[-1] if own else None
