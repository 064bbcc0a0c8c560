"""The process that runs a submission's functions; started by file, so that the library is not here.

    main.py STUBS serve           one submission over stdin and stdout (any system)
    main.py STUBS fork CONTROL    imports torch once, then forks a worker when asked to

STUBS is the path of ``exercises/stubs.py``. What crosses is made by ``codec``: no pickles. A worker
is asked to "load" statements and to "call" functions, and answers each request with its number and
token, so that nothing that was written before or beside an answer passes for one.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import socket
import struct
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["Channel", "Worker", "confine", "fork_server", "main", "prepare", "serve"]


def _by_path(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


HERE = Path(__file__).parent
stubs = _by_path("stubs", Path(sys.argv[1]))
codec = _by_path("codec", HERE / "codec.py")
sandbox = _by_path("sandbox", HERE / "sandbox.py")
absent = _by_path("absent", HERE / "absent.py")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional  # noqa: E402

MOST_TEXT = 4_000  # characters of a message
MOST_PROBLEMS = 20


class Channel:
    """Frames over two file descriptors: length, bytes."""

    def __init__(self, read_from: int, write_to: int) -> None:
        self.read_from, self.write_to = read_from, write_to

    def receive(self) -> bytes | None:
        """The next frame; None at the end."""
        head = self._exactly(4)
        return None if head is None else self._exactly(struct.unpack("<I", head)[0])

    def _exactly(self, n: int) -> bytes | None:
        parts = []
        while n:
            part = os.read(self.read_from, min(n, 1 << 20))
            if not part:
                return None
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def send(self, data: bytes) -> None:
        """Write one frame."""
        view = memoryview(struct.pack("<I", len(data)) + data)
        while view:
            view = view[os.write(self.write_to, view) :]


# ---- a worker ------------------------------------------------------------------------------------


class Worker:
    """The functions of one submission."""

    def __init__(self) -> None:
        module = sys.modules["submission"] = ModuleType("submission")  # dataclasses look there
        self.names: dict[str, Any] = vars(module)
        self.calls = 0

    def load(self, statements: list[Any]) -> dict[str, Any]:
        """Run imports, definitions and constants; those that fail are tried again at the end."""
        waiting = [(int(cell), str(text)) for cell, text in statements]
        problems: list[tuple[int, str]] = []
        progress = True
        while waiting and progress:
            failed, problems = [], []
            for cell, text in waiting:
                try:
                    exec(compile(text, f"<cell {cell}>", "exec"), self.names)  # noqa: S102, what it is for
                except (Exception, SystemExit) as error:
                    failed.append((cell, text))
                    problems.append((cell, f"{type(error).__name__}: {error}"[:MOST_TEXT]))
            progress = len(failed) < len(waiting)
            waiting = failed
        defined = [name for name, value in self.names.items() if callable(value)]
        return {"problems": [list(p) for p in problems[:MOST_PROBLEMS]], "defined": defined[:5_000]}

    def call(self, name: str, args: tuple[Any, ...]) -> dict[str, Any]:
        """Call a function; what comes back is data, whatever happened."""
        function = self.names.get(name)
        if not callable(function):
            return {"status": "not_implemented", "message": f"{name} is not defined"}
        try:
            self.calls += 1
            torch.manual_seed(self.calls)  # whoever draws noise of their own gets another each time
            with torch.enable_grad():
                value = _plain(function(*stubs.make_real(args)))
            return {"status": "ok", "value": value, "after": [_leaf(a) for a in args]}
        except NotImplementedError as error:
            kind = "NotImplementedError"
            return {"status": "not_implemented", "kind": kind, "message": str(error)[:MOST_TEXT]}
        except MemoryError:
            return _out_of_memory()
        except BaseException as error:
            if "allocate memory" in str(error):
                return _out_of_memory()
            text = f"it raised {type(error).__name__}: {error}"[:MOST_TEXT] + _line(error)
            missing = getattr(error, "name", None) if isinstance(error, NameError) else None
            answer = {"status": "error", "kind": type(error).__name__, "message": text}
            return answer | ({"missing": str(missing)} if missing else {})

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One request: {"do": "load" | "call", ...}."""
        if request["do"] == "load":
            return self.load(request["statements"])
        return self.call(request["name"], request["args"])


def _out_of_memory() -> dict[str, Any]:
    return {"status": "memory", "kind": "MemoryError", "message": "it ran out of memory"}


def _plain(value: Any) -> Any:
    """NumPy's arrays as tensors, its numbers as Python's; no gradient that begins at the result."""
    if isinstance(value, torch.Tensor) and value.is_leaf:
        return value.detach()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        kind = list if isinstance(value, list) else tuple  # a named tuple takes no series
        return kind(_plain(v) for v in value)
    return value


def _leaf(a: Any) -> Any:
    """What an argument holds now, for what can hold numbers."""
    return a if isinstance(a, torch.Tensor | stubs.Sch | stubs.EpsModel | stubs.TinyNet) else None


def _line(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename[:6] == "<cell "]
    return f"; {frames[-1].filename[1:-1]}, in {frames[-1].name}" if frames else ""


def serve(channel: Channel) -> None:
    """Answer requests until there are no more."""
    worker = Worker()
    while (data := channel.receive()) is not None:
        request = codec.loads(data)
        answer = worker.answer(request)
        mark = {"seq": request["seq"], "token": request["token"]}
        try:
            reply = codec.dumps({**answer, **mark})
        except Exception as error:
            text = f"it returned what cannot be graded: {error}"[:MOST_TEXT]
            kind = type(error).__name__
            reply = codec.dumps({"status": "error", "kind": kind, "message": text, **mark})
        channel.send(reply)


def confine(policy: dict[str, Any]) -> None:
    """Put up the walls that the policy names."""
    sandbox.undumpable()
    if policy.get("limits"):
        sandbox.limits(policy["memory"], policy["seconds"])
    if policy.get("privileges"):
        sandbox.drop_privileges(policy["nobody"])
        sandbox.die_with_parent()  # a change of user resets it
    if policy.get("landlock"):
        sandbox.landlock(policy["readable"])
    if policy.get("seccomp"):
        sandbox.seccomp()


def prepare() -> None:
    """What every worker has in common."""
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    torch.use_deterministic_algorithms(True)
    warm = torch.ones(2, requires_grad=True)  # what torch starts at first use, it starts here
    (warm * 2).sum().backward()
    codec.loads(codec.dumps((stubs.Seed(1), warm.detach())))
    absent.install()


# ---- forking -------------------------------------------------------------------------------------


def fork_server(control: socket.socket) -> None:
    """Fork a worker for {"do": "start"} with two descriptors, end it for {"do": "stop"}.

    It ends when ``control`` closes, not by ``die_with_parent``: to the kernel the parent is the
    thread that started it, and a grader may have many.
    """
    sandbox.undumpable()
    while True:
        data, fds, _, _ = socket.recv_fds(control, 1 << 20, 2)
        if not data:
            return
        request = json.loads(data)
        if request["do"] == "start":
            pid = os.fork()
            if pid == 0:
                _become_worker(control, fds, request["policy"])
            for fd in fds:
                os.close(fd)
            answer = {"pid": pid}
        else:
            answer = _stop(request["pid"], request["over"])
        control.sendall(json.dumps(answer).encode())


def _become_worker(control: socket.socket, fds: list[int], policy: dict[str, Any]) -> None:
    """In the child: nothing open but the two descriptors, walls up, then serve. Never returns."""
    try:
        control.close()
        os.setsid()
        sandbox.die_with_parent()
        empty = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(empty, fd)
        os.chdir("/")
        confine(policy)
        serve(Channel(*fds))
    finally:
        os._exit(0)


def _stop(pid: int, is_over: bool) -> dict[str, Any]:
    """Kill a worker and all that it started; says how it had ended if it was over already."""
    over, status = os.waitpid(pid, os.WNOHANG)
    for _ in range(100 if is_over else 0):  # its pipes close a moment before it can be waited for
        if over:
            break
        time.sleep(0.005)
        over, status = os.waitpid(pid, os.WNOHANG)
    ended = os.waitstatus_to_exitcode(status) if over else None
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(OSError):
            kill(pid, signal.SIGKILL)
    if not over:
        os.waitpid(pid, 0)
    return {"ended": ended}


def main() -> None:
    """See the top of the file."""
    prepare()
    if sys.argv[2] == "fork":
        fork_server(socket.socket(fileno=int(sys.argv[3])))
        return
    channel = Channel(os.dup(0), os.dup(1))
    empty = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(empty, fd)
    policy = channel.receive()
    if policy is not None:
        confine(json.loads(policy))
        serve(channel)


if __name__ == "__main__":
    main()
