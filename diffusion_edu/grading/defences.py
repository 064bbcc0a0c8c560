"""Which walls stand between a submission and this machine, and what that is called."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .inside import sandbox

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
        nobody=as_nobody(),
        readable=readable(),
    )


def is_root() -> bool:
    """Whether this process may do everything."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def as_nobody() -> bool:
    """Whether workers of root can be a user who owns nothing: it must be able to read Python."""
    return is_root() and sandbox.readable_by_others(_python())


def _python() -> list[str]:
    return list(dict.fromkeys([sys.prefix, sys.base_prefix, *_packages()]))


def _packages() -> list[str]:
    paths = (sysconfig.get_paths()["purelib"], *site.getsitepackages())
    return [p for p in paths if Path(p).is_dir()]


def readable() -> list[str]:
    """Paths that a worker may read: Python, its packages without this library, the system's."""
    paths = [*SYSTEM, sysconfig.get_paths()["stdlib"], sysconfig.get_config_var("LIBDIR") or ""]
    for folder in dict.fromkeys(_packages()):
        for entry in sorted(Path(folder).iterdir()):
            if not entry.name.startswith(("diffusion_edu", "__editable__")):
                paths.append(str(entry))
    return [p for p in dict.fromkeys(paths) if p]


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
    "strict": "Submissions can read nothing but Python, write nothing, reach no network and start "
    "no process.",
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
