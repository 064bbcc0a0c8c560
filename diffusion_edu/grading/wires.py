"""Frames to and from a worker, with a deadline: length, then bytes."""

from __future__ import annotations

import os
import queue
import select
import struct
import threading
import time
from typing import Protocol

from .inside import codec

__all__ = ["PipeWire", "ThreadWire", "Wire", "WorkerDied"]

MOST_BYTES = codec.MOST_BYTES + (1 << 20)
AT_ONCE = 4096  # bytes that a pipe takes when it is ready for any


class WorkerDied(Exception):  # noqa: N818, an event, not an error of ours
    """The worker ended ("ended"), did not answer in time ("timeout"), or answers nonsense."""


class Wire(Protocol):
    """Both directions between the grader and one worker."""

    def send(self, data: bytes, deadline: float) -> None:
        """Write one frame before time.monotonic() is ``deadline``; WorkerDied otherwise."""

    def receive(self, deadline: float) -> bytes:
        """The next frame; WorkerDied if there is none in time."""

    def close(self) -> None:
        """Let go of both descriptors."""


class PipeWire:
    """Over two pipes that ``select`` can watch: Linux, macOS."""

    def __init__(self, read_from: int, write_to: int) -> None:
        self.read_from, self.write_to = read_from, write_to

    def send(self, data: bytes, deadline: float) -> None:
        """See ``Wire``."""
        view = memoryview(_framed(data))
        while view:
            _, ready, _ = select.select([], [self.write_to], [], _left(deadline))
            if not ready:
                raise WorkerDied("timeout")
            try:
                view = view[os.write(self.write_to, view[:AT_ONCE]) :]
            except BrokenPipeError as error:
                raise WorkerDied("ended") from error

    def receive(self, deadline: float) -> bytes:
        """See ``Wire``."""
        return self._exactly(_length(self._exactly(4, deadline)), deadline)

    def _exactly(self, n: int, deadline: float) -> bytes:
        parts = bytearray()
        while len(parts) < n:
            ready, _, _ = select.select([self.read_from], [], [], _left(deadline))
            if not ready:
                raise WorkerDied("timeout")
            part = os.read(self.read_from, min(n - len(parts), 1 << 20))
            if not part:
                raise WorkerDied("ended")
            parts += part
        return bytes(parts)

    def close(self) -> None:
        """See ``Wire``."""
        os.close(self.read_from)
        os.close(self.write_to)


class ThreadWire:
    """The same with a thread that reads: on Windows pipes cannot be watched."""

    def __init__(self, read_from: int, write_to: int) -> None:
        self.read_from, self.write_to = read_from, write_to
        self._frames: queue.Queue[bytes | WorkerDied] = queue.Queue(maxsize=4)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def send(self, data: bytes, deadline: float) -> None:
        """See ``Wire``; requests are small enough for a pipe to take them without waiting."""
        view = memoryview(_framed(data))
        try:
            while view:
                view = view[os.write(self.write_to, view) :]
        except OSError as error:
            raise WorkerDied("ended") from error

    def receive(self, deadline: float) -> bytes:
        """See ``Wire``."""
        try:
            frame = self._frames.get(timeout=_left(deadline))
        except queue.Empty:
            raise WorkerDied("timeout") from None
        if isinstance(frame, WorkerDied):
            raise frame
        return frame

    def _read(self) -> None:
        try:
            with os.fdopen(self.read_from, "rb", closefd=False) as file:
                while head := file.read(4):
                    n = _length(head)
                    data = file.read(n)
                    if len(data) < n:
                        break
                    self._frames.put(data)
            self._frames.put(WorkerDied("ended"))
        except WorkerDied as died:
            self._frames.put(died)
        except OSError:
            self._frames.put(WorkerDied("ended"))

    def close(self) -> None:
        """See ``Wire``. The reading thread ends with the worker, whose side closes then."""
        os.close(self.write_to)


def _framed(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def _length(head: bytes) -> int:
    if len(head) < 4:
        raise WorkerDied("ended")
    (n,) = struct.unpack("<I", head)
    if n > MOST_BYTES:
        raise WorkerDied("malformed message: too long")
    return int(n)


def _left(deadline: float) -> float:
    """Seconds; WorkerDied when none are left, even if there is more to read: it may never end."""
    if (left := deadline - time.monotonic()) <= 0:
        raise WorkerDied("timeout")
    return left
