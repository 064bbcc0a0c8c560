"""What starts and ends the processes of submissions."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Protocol

from ..exercises import stubs
from .defences import Policy
from .wires import PipeWire, ThreadWire, Wire

__all__ = ["ForkServer", "Server", "SpawnServer", "make_server"]

MAIN = Path(__file__).parent / "inside" / "main.py"
START_SECONDS = 120.0  # importing torch from a cold disk
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}


class Server(Protocol):
    """Starts workers. ``patience``: seconds that a new one may take before it listens."""

    policy: Policy
    patience: float

    def start(self) -> tuple[int, Wire]:
        """(process, wire) of a new worker."""

    def stop(self, pid: int, is_over: bool = False) -> int | None:
        """Kill a worker with all it started; its exit code if it had ended by itself."""

    def alive(self) -> bool:
        """Whether it can be asked for workers."""

    def close(self) -> None:
        """End it; its workers end with it."""


def make_server(policy: Policy) -> Server:
    """The faster of the two where it works: on Linux."""
    return ForkServer(policy) if sys.platform == "linux" else SpawnServer(policy)


def _command(*mode: str) -> list[str]:
    return [sys.executable, "-I", "-B", str(MAIN), stubs.__file__, *mode]


class ForkServer:
    """A process that has imported torch and forks workers in milliseconds. Linux."""

    patience = 0.0

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(  # noqa: S603, our own file
            _command("fork", str(theirs.fileno())),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=ENVIRONMENT,
            cwd="/",
        )
        theirs.close()
        self._control = ours
        self._one_at_a_time = threading.Lock()  # a worker of a cluster has many threads

    def start(self) -> tuple[int, Wire]:
        """See ``Server``."""
        request_out, request_in = os.pipe()
        reply_out, reply_in = os.pipe()
        ask = json.dumps({"do": "start", "policy": self.policy.as_json()}).encode()
        with self._one_at_a_time:
            try:
                socket.send_fds(self._control, [ask], [request_out, reply_in])
            finally:
                os.close(request_out)
                os.close(reply_in)
            return self._answer()["pid"], PipeWire(reply_out, request_in)

    def stop(self, pid: int, is_over: bool = False) -> int | None:
        """See ``Server``."""
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
        """See ``Server``."""
        return self._process.poll() is None

    def close(self) -> None:
        """See ``Server``."""
        self._control.close()
        self._process.wait(10)


class SpawnServer:
    """A new Python for every worker, which imports torch anew: macOS and Windows."""

    patience = START_SECONDS

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> tuple[int, Wire]:
        """See ``Server``."""
        process = subprocess.Popen(  # noqa: S603, our own file
            _command("serve"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=ENVIRONMENT | {k: os.environ[k] for k in ("SYSTEMROOT",) if k in os.environ},
            start_new_session=os.name == "posix",
        )
        assert process.stdin is not None
        assert process.stdout is not None
        ends = os.dup(process.stdout.fileno()), os.dup(process.stdin.fileno())
        process.stdout.close()
        process.stdin.close()
        wire: Wire = PipeWire(*ends) if os.name == "posix" else ThreadWire(*ends)
        told = json.dumps(self.policy.as_json()).encode()
        wire.send(told, time.monotonic() + START_SECONDS)
        self._processes[process.pid] = process
        return process.pid, wire

    def stop(self, pid: int, is_over: bool = False) -> int | None:
        """See ``Server``."""
        process = self._processes.pop(pid)
        ended = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            ended = process.wait(0.5 if is_over else 0)
        if os.name == "posix":
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        process.kill()
        process.wait()
        return ended

    def alive(self) -> bool:
        """See ``Server``."""
        return True

    def close(self) -> None:
        """See ``Server``."""
        for pid in list(self._processes):
            self.stop(pid)
