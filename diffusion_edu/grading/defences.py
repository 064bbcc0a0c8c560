"""Which walls stand between a submission and this machine, and what that is called."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .inside import sandbox

__all__ = [
    "LEVELS",
    "OPEN",
    "WORDS",
    "Policy",
    "explain",
    "is_root",
    "is_weaker",
    "policy",
    "readable",
    "table",
    "without",
]

PACKAGE = Path(__file__).parents[1]
OURS = ("diffusion_edu*", "__editable__*")
POSIX = os.name == "posix"
LEVELS = ("strict", "basic", "none")
MEMORY = 2 << 30  # bytes a worker may take beyond what torch needs
SECONDS = 60  # of processor, for one worker
SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/urandom")


@dataclass(frozen=True)
class Policy:
    """What is applied to a worker. ``level`` is "strict", "basic" or "none"."""

    level: str
    landlock: bool
    seccomp: bool
    limits: bool
    privileges: bool
    nobody: bool
    memory: int = MEMORY
    seconds: int = SECONDS
    readable: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """For the worker."""
        return asdict(self)

    def is_weaker_than(self, level: str) -> bool:
        """Whether these walls keep out less than those of ``level``."""
        return is_weaker(self.level, level)


def is_weaker(level: str, than: str) -> bool:
    """Whether walls of a level keep out less than those of another."""
    return LEVELS.index(level) > LEVELS.index(than)


OPEN = Policy("none", False, False, False, False, False)  # to show what the walls are good for


def policy() -> Policy:
    """The strongest that this machine has."""
    landlock = sandbox.landlock_abi() >= 1
    seccomp = sandbox.seccomp_works()
    linux = sys.platform == "linux"
    level = "strict" if landlock and seccomp else "basic" if POSIX else "none"
    return Policy(
        level,
        landlock=landlock,
        seccomp=seccomp,
        limits=POSIX,
        privileges=linux,
        nobody=_as_nobody(),
        readable=readable(),
    )


def is_root() -> bool:
    """Whether this process may do everything."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _as_nobody() -> bool:
    """Whether workers of root can be a user who owns nothing: it must be able to read Python."""
    return is_root() and sandbox.readable_by_others(_python())


def _python() -> list[str]:
    return list(dict.fromkeys([sys.prefix, sys.base_prefix, *_packages()]))


def _packages() -> list[str]:
    paths = (sysconfig.get_paths()["purelib"], *site.getsitepackages())
    return [p for p in paths if Path(p).is_dir()]


def readable() -> list[str]:
    """Paths that a worker may read: Python, its packages without this library, the system's."""
    packages = list(dict.fromkeys(_packages()))
    paths = [*SYSTEM, sysconfig.get_paths()["stdlib"], sysconfig.get_config_var("LIBDIR") or ""]
    paths += [str(entry) for folder in packages for entry in sorted(Path(folder).iterdir())]
    ours = [PACKAGE, *(e for f in packages for mark in OURS for e in Path(f).glob(mark))]
    hidden = {e.resolve() for e in ours}
    return list(dict.fromkeys(kept for p in paths if p for kept in without(Path(p), hidden)))


def without(path: Path, hidden: Collection[Path]) -> Iterator[str]:
    """``path``, or if something hidden (resolved) lies in it, all in it that leads past that.

    A rule of Landlock is for all that lies beneath a path, and outside of a virtual environment
    site-packages lie beneath the standard library.
    """
    real = path.resolve()
    if any(real.is_relative_to(h) for h in hidden):
        return
    if not any(h.is_relative_to(real) for h in hidden):
        yield str(path)
    else:
        for entry in sorted(real.iterdir()):
            if not entry.is_symlink() or not _leads_to(entry, hidden):  # it may lead back up
                yield from without(entry, hidden)


def _leads_to(path: Path, hidden: Collection[Path]) -> bool:
    return any(h.is_relative_to(path.resolve()) for h in hidden)


def table(used: Policy) -> list[tuple[str, bool, str]]:
    """(what, whether it is active, what it keeps out) for ``doctor``."""
    return [
        ("own process, killed on time", True, "endless loops, crashes, faked results"),
        ("limits of memory, time and files", used.limits, "memory bombs, full disks"),
        ("files (Landlock)", used.landlock, "reading other submissions, changing anything"),
        ("system calls (seccomp)", used.seccomp, "network, new processes, spying on this one"),
        ("no capabilities", used.privileges, "what root may do"),
        ("another user (nobody)", used.nobody, "what the user who grades owns"),
    ]


WORDS = {
    "strict": "Submissions can read nothing but Python and the system's libraries, write nothing, "
    "reach no network and start no process.",
    "basic": "WARNING: submissions run in processes of their own with limits, but this system has "
    "no Landlock or seccomp: they could read files and reach the network. Grade on Linux 5.13 or "
    "newer, or in a container, if you do not trust them.",
    "none": "WARNING: submissions run in processes of their own and nothing else: they could do on "
    "this machine whatever you can. Grade on Linux 5.13 or newer if you do not trust them.",
}


def explain(used: Policy) -> str:
    """One paragraph on a level, and on root."""
    text = WORDS[used.level]
    if is_root() and not used.nobody:
        text += (
            f" You are root, and another user could not read Python in {sys.prefix}: workers "
            "stay root, without capabilities."
        )
    return text
