"""Long work behind an explorer: in a thread, with progress, and an end that can be asked for."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Cancelled", "Job", "Tell"]

Tell = Callable[[dict[str, Any], list[bytes]], None]


class Cancelled(Exception):  # noqa: N818, it is no error
    """Raised by ``Job.step`` when the job is no longer wanted."""


class Job:
    """One piece of work; it calls ``step`` often, which is where a cancelled job ends.

    Args:
        label: what is being done, for the reader.
        tell: takes a message for the player, {"progress": {"job", "label", "done", "text"}}, and
            binary buffers.
        work: work(job); what it returns is told with the last message: (message, buffers) or None.
        finished: called at the very end, however it came.
    """

    _numbers = itertools.count(1)

    def __init__(
        self,
        label: str,
        tell: Tell,
        work: Callable[[Job], tuple[dict[str, Any], list[bytes]] | None],
        finished: Callable[[], None] = lambda: None,
    ) -> None:
        self.id, self.label = next(self._numbers), label
        self._tell, self._work, self._finished = tell, work, finished
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Job:
        """Begin; returns itself."""
        self._thread.start()
        return self

    def cancel(self) -> None:
        """Ask the job to end at its next step."""
        self._cancelled.set()

    def wait(self, seconds: float | None = None) -> bool:
        """True when it has ended, waiting up to ``seconds``."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._thread.is_alive()

    def step(self, done: float, text: str = "") -> None:
        """Tell how far it is, 0 to 1. Raises Cancelled if it is no longer wanted."""
        if self._cancelled.is_set():
            raise Cancelled
        self._say({"label": self.label, "done": done, "text": text})

    def _say(self, progress: dict[str, Any]) -> None:
        self._tell({"progress": {"job": self.id, **progress}}, [])

    def _run(self) -> None:
        torch.set_num_threads(1)
        message: dict[str, Any] = {}
        buffers: list[bytes] = []
        end: dict[str, Any] = {"label": self.label, "done": 1}
        try:
            with torch.no_grad():
                message, buffers = self._work(self) or ({}, [])
        except Cancelled:
            end["text"] = "cancelled"
        except Exception as error:
            end["error"] = f"{self.label}: {error or type(error).__name__}"
        finally:
            self._finished()
        self._tell({"progress": {"job": self.id, **end}, **message}, buffers)
