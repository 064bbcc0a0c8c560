"""A place worth attacking, and what is listening there."""

from __future__ import annotations

import ctypes
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from attack import SECRET, Attack

import diffusion_edu
from diffusion_edu import exercises
from diffusion_edu.exercises.world import worlds


@dataclass
class Arena:
    """``loot`` must stay as it is; ``heard`` are the packets that came in."""

    loot: Path
    heard: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)

    def script(self, attack: Attack) -> str:
        code = attack.code
        for name, value in self.places.items():
            code = code.replace("{" + name + "}", value)
        return code

    def reset(self) -> None:
        for entry in self.loot.iterdir():
            entry.rmdir() if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        (self.loot / "secret").write_text(SECRET)
        (self.loot / "secret").chmod(0o600)
        self.heard.clear()

    def state(self) -> list[Any]:
        """Everything about the files there."""
        found = []
        for path in sorted(self.loot.rglob("*")):
            s = path.lstat()
            text = path.read_bytes() if path.is_file() else b""
            found.append((path.name, s.st_mode, s.st_size, s.st_mtime_ns, s.st_ctime_ns, text))
        return found


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    loot = tmp_path_factory.mktemp("loot")
    arena = Arena(loot)
    unix = str(tmp_path_factory.mktemp("unix") / "socket")
    servers = {
        "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        "unix": (socket.AF_UNIX, socket.SOCK_STREAM, unix),
    }
    opened = {}
    for kind, (family, how, address) in servers.items():
        opened[kind] = socket.socket(family, how)
        opened[kind].bind(address)
        if how == socket.SOCK_STREAM:
            opened[kind].listen()
        threading.Thread(target=_listen, args=(opened[kind], kind, arena), daemon=True).start()
    segment = shared_memory(SECRET)
    arena.places = {
        "SHM": str(segment),
        "LOOT": str(loot),
        "PACKAGE": str(Path(diffusion_edu.__file__).parent),
        "TCP": str(opened["tcp"].getsockname()[1]),
        "UDP": str(opened["udp"].getsockname()[1]),
        "UNIX": unix,
        "PUBLIC": repr(public_answers()),
    }
    arena.reset()
    yield arena
    for server in opened.values():
        server.close()
    ctypes.CDLL(None).shmctl(segment, 0, None)


def shared_memory(text: str) -> int:
    """A segment of this user's, as programs use it among themselves; its number."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    segment = libc.shmget(0, 4096, 0o1600)
    ctypes.memmove(libc.shmat(segment, None, 0), text.encode(), len(text))
    return int(segment)


def _listen(server: socket.socket, kind: str, arena: Arena) -> None:
    while True:
        try:
            if server.type == socket.SOCK_DGRAM:
                server.recv(100)
            else:
                server.accept()[0].close()
        except OSError:
            return
        arena.heard.append(f"packet {kind}")


def public_answers() -> dict[tuple[int, ...], Any]:
    """What q_sample gives in the public worlds, for who looked it up."""
    spec = exercises.load("E2").function("q_sample")
    calls = [args for world in worlds() for args in spec.inputs(world)]
    return {tuple(args[0].shape): spec.reference(*args).tolist() for args in calls}
