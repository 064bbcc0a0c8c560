"""A submission's functions in a process of their own; the grader's side."""

from __future__ import annotations

import json
import os
import secrets
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..exercises import stubs
from ..exercises.outcome import Args, Outcome, leaves
from .defences import Policy
from .inside import codec

MAIN = Path(__file__).parent / "inside" / "main.py"
LOAD_SECONDS = 10.0
START_SECONDS = 120.0  # importing torch from a cold disk


class WorkerDied(Exception):  # noqa: N818, an event, not an error of ours
    """The worker ended, or did not answer in time ("timeout")."""


class ForkServer:
    """A process that has imported torch and forks workers; one for a grading process."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-I", "-B", str(MAIN), stubs.__file__, "fork"]
        self._process = subprocess.Popen(  # noqa: S603, our own file
            [*command, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env={"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
            cwd="/",
        )
        theirs.close()
        self._control = ours
        self._one_at_a_time = threading.Lock()  # a worker of a cluster has many threads

    def start(self) -> tuple[int, int, int]:
        """(process, descriptor to read from, descriptor to write to) of a new worker."""
        request_out, request_in = os.pipe()
        reply_out, reply_in = os.pipe()
        ask = json.dumps({"do": "start", "policy": self.policy.as_json()}).encode()
        with self._one_at_a_time:
            try:
                socket.send_fds(self._control, [ask], [request_out, reply_in])
            finally:
                os.close(request_out)
                os.close(reply_in)
            return self._answer()["pid"], reply_out, request_in

    def stop(self, pid: int, is_over: bool = False) -> int | None:
        """Kill a worker with all it started; its exit code if it had ended by itself."""
        ask = {"do": "stop", "pid": pid, "over": is_over}
        with self._one_at_a_time:
            self._control.sendall(json.dumps(ask).encode())
            ended = self._answer()["ended"]
        return None if ended is None else int(ended)

    def _answer(self) -> dict[str, Any]:
        ready, _, _ = select.select([self._control], [], [], START_SECONDS)
        data = self._control.recv(1 << 16) if ready else b""
        if not data:
            raise RuntimeError("the process that starts workers is gone")
        answer: dict[str, Any] = json.loads(data)
        return answer

    def alive(self) -> bool:
        """Whether it can be asked for workers."""
        return self._process.poll() is None

    def close(self) -> None:
        """End it; its workers end with it."""
        self._control.close()
        self._process.wait(10)


class Remote:
    """Back end of ``judge``: every call goes to the worker; a dead worker is replaced.

    Args:
        statements: (cell, source) of the submission.
        assigned: names that statements left out would have set, for a better message.
    """

    def __init__(
        self,
        server: ForkServer,
        statements: Sequence[tuple[int, str]],
        assigned: Sequence[str] = (),
    ) -> None:
        self.server, self.statements, self.assigned = server, statements, set(assigned)
        self.problems: list[tuple[int, str]] = []
        self._worker: tuple[int, int, int] | None = None
        self._count = 0
        self._stuck: dict[str, Outcome] = {}
        self._broken: Outcome | None = None  # it cannot even be loaded

    # ---- the back end ----------------------------------------------------------------------------

    def call(self, name: str, args: Args, seconds: float) -> Outcome:
        """The outcome of one call."""
        if self._broken or name in self._stuck:
            return self._broken or self._stuck[name]
        try:
            if self._worker is None:
                self._load()
        except WorkerDied as died:
            self._broken = self._ending(str(died), LOAD_SECONDS, "the notebook's definitions")
            return self._broken
        try:
            reply = self._ask({"do": "call", "name": name, "args": args}, seconds)
        except WorkerDied as died:
            outcome = self._ending(str(died), seconds, name)
            self._stuck[name] = outcome
            return outcome
        return self._outcome(reply)

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._end()

    # ---- one request -----------------------------------------------------------------------------

    def _load(self) -> None:
        self._worker = self.server.start()
        statements = [[cell, text] for cell, text in self.statements]
        reply = self._ask({"do": "load", "statements": statements}, LOAD_SECONDS)
        problems = reply.get("problems")
        for pair in problems if isinstance(problems, list) else []:
            match pair:
                case [int(cell), str(text)]:
                    self.problems.append((cell, text))

    def _ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self._worker is not None
        _, read_from, write_to = self._worker
        self._count += 1
        mark = {"seq": self._count, "token": secrets.token_hex(8)}
        deadline = time.monotonic() + seconds
        _write(write_to, codec.dumps({**request, **mark}), deadline)
        while True:
            reply = _decoded(_read(read_from, deadline))
            # Anything else was put there by the submission.
            if all(reply.get(k) == v for k, v in mark.items()):
                return reply

    def _ending(self, why: str, seconds: float, what: str) -> Outcome:
        ended = self._end(is_over=why == "ended")
        if why == "timeout":
            message = f"{what} did not return within {seconds:g} s"
            return Outcome(status="timeout", message=message)
        if why != "ended":
            return Outcome(status="error", kind="Protocol", message=f"{what}: {why}")
        how = "ended its process" if ended is None or ended >= 0 else f"was killed, signal {-ended}"
        return Outcome(status="error", kind="Exit", message=f"{what} {how}")

    def _end(self, is_over: bool = False) -> int | None:
        assert self._worker is not None
        pid, read_from, write_to = self._worker
        self._worker = None
        os.close(read_from)
        os.close(write_to)
        return self.server.stop(pid, is_over)

    def _outcome(self, reply: dict[str, Any]) -> Outcome:
        status = str(reply.get("status", "error"))
        if status == "ok":
            return Outcome(reply.get("value"), after=tuple(leaves(reply.get("after"))))
        known = status in ("error", "not_implemented", "memory")
        message = str(reply.get("message", ""))
        if (missing := reply.get("missing")) in self.assigned and missing:
            message += (
                f" ({missing} is set in the notebook by code that does not run at grading: "
                "pass it as an argument, or make it a constant)"
            )
        kind = str(reply.get("kind", ""))
        return Outcome(status=status if known else "error", kind=kind, message=message)


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        reply = codec.loads(data)
    except ValueError as error:
        raise WorkerDied(str(error)) from error
    if not isinstance(reply, dict):
        raise WorkerDied("malformed message: no dict")
    return reply


def _write(fd: int, data: bytes, deadline: float) -> None:
    view = memoryview(struct.pack("<I", len(data)) + data)
    while view:
        _, ready, _ = select.select([], [fd], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise WorkerDied("timeout")
        try:
            view = view[os.write(fd, view[:4096]) :]  # a pipe that is ready takes that much
        except BrokenPipeError as error:
            raise WorkerDied("ended") from error


def _read(fd: int, deadline: float) -> bytes:
    (length,) = struct.unpack("<I", _exactly(fd, 4, deadline))
    if length > codec.MOST_BYTES + (1 << 20):
        raise WorkerDied("malformed message: too long")
    return _exactly(fd, length, deadline)


def _exactly(fd: int, n: int, deadline: float) -> bytes:
    parts = bytearray()
    while len(parts) < n:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise WorkerDied("timeout")
        part = os.read(fd, min(n - len(parts), 1 << 20))
        if not part:
            raise WorkerDied("ended")
        parts += part
    return bytes(parts)
