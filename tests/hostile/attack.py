"""What an attack is: a submission that tries to harm, to spy or to cheat.

Each is a script whose q_sample does something else than it should. ``on`` is what its row must say
behind walls; ``off`` shows that the attack works where they are missing, by one of

    "walls"   graded with the walls down, its effect is there (``effect``)
    "naive"   a grader that runs the script in its own process is fooled, stuck or killed
    ""        it is a file that cannot be read, or harmless by construction (``why``)

{LOOT} is a folder it should not touch, {TCP}, {UDP} and {UNIX} lead to listening sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SECRET = "the secret of the class"


@dataclass(frozen=True)
class Attack:
    name: str
    threat: str
    code: str
    on: str  # regular expression: status and message of the tests of q_sample, one after the other
    off: str = "walls"
    effect: Callable[[Path, str], bool] = lambda loot, said: False
    why: str = ""


def body(lines: str, before: str = "") -> str:
    """A script whose q_sample is these lines."""
    indented = "\n".join("    " + line for line in lines.strip().splitlines())
    return f"import os, sys, torch\n{before}\ndef q_sample(x0, t, eps, sch):\n{indented}\n"


def made(name: str) -> Callable[[Path, str], bool]:
    return lambda loot, said: (loot / name).exists()


def says(text: str) -> Callable[[Path, str], bool]:
    return lambda loot, said: text in said


def received(kind: str) -> Callable[[Path, str], bool]:
    return lambda loot, said: f"packet {kind}" in said


DENIED = r"error.*PermissionError"
SYSCALL = (
    "import ctypes\n"
    "def libc(): return ctypes.CDLL(None, use_errno=True)\n"
    "def failed(what, result):\n"
    "    if result < 0: raise OSError(ctypes.get_errno(), what)\n"
    "    raise ValueError(f'{what} worked')\n"
)
