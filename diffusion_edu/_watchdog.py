"""Somebody else's function: work that may never end, and the line it was on."""

from __future__ import annotations

import ctypes
import inspect
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import torch

__all__ = ["Stopped", "own_frame", "within"]

GRACE = 0.3  # seconds for a thread that was told to stop


class Stopped(BaseException):
    """Raised inside a thread whose time is up. No Exception: `except Exception` must not eat it."""


def within(seconds: float, work: Callable[[], None]) -> traceback.StackSummary | None:
    """Run ``work`` in a thread; None when it ended in time, else where it was when stopped.

    A thread cannot be killed, but Python code in it can be made to raise at its next instruction:
    an endless loop ends, only a call that never comes back from C stays behind as a daemon.

    Raises:
        Whatever ``work`` raises.
    """
    failures: list[BaseException] = []

    def run() -> None:
        torch.set_num_threads(1)  # both are switches of the thread: see ``small_work``
        try:
            with torch.no_grad():
                work()
        except Stopped:
            pass
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if not thread.is_alive():
        if failures:
            raise failures[0]
        return None
    frame = sys._current_frames().get(thread.ident or 0)
    where = traceback.extract_stack(frame) if frame is not None else traceback.StackSummary()
    _stop(thread)
    return where


def _stop(thread: threading.Thread) -> None:
    if thread.ident is not None:
        raised = ctypes.py_object(Stopped)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), raised)
    thread.join(GRACE)


def own_frame(
    frames: Sequence[traceback.FrameSummary], function: Callable[..., Any]
) -> traceback.FrameSummary | None:
    """The deepest frame in the file or cell of ``function``: errors surface further down."""
    code = getattr(inspect.unwrap(function), "__code__", None) if callable(function) else None
    own = [f for f in frames if code is not None and f.filename == code.co_filename]
    return own[-1] if own else None
