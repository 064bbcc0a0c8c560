"""Grading one submission: from its bytes to one row."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import Any

from .. import exercises
from ..exercises.extract import HEAD, Code, UngradableError, read
from ..exercises.judge import Result, judge, worth
from .defences import Policy, policy
from .remote import MOST_TEXT, Remote
from .servers import Server, make_server
from .submissions import Submission

__all__ = ["SCHEMA", "Task", "failed", "grade"]

SCHEMA = 1
MOST_LINES = 20  # a file may be wrong in thousands of places
_server: Server | None = None
_walls: Policy | None = None
_starting = threading.Lock()


@dataclass(frozen=True)
class Task:
    """What a grading process, here or on another machine, is told.

    Attributes:
        secret: of the hidden cases.
        walls: None for the strongest that the machine has.
        require: "strict" refuses to grade at a weaker level.
    """

    submission: Submission
    exercise: str
    secret: str
    walls: Policy | None = None
    require: str = "none"

    @property
    def digest(self) -> str:
        """Changes when the result could."""
        s = self.submission
        parts = (s.id, s.file, self.exercise, self.secret, s.reason)
        told = "\0".join(parts).encode("utf-8", "surrogatepass") + s.data
        return hashlib.sha256(told).hexdigest()


def grade(task: Task) -> dict[str, Any]:
    """The row of one submission, for grades.json. It never raises for what was submitted."""
    walls = task.walls or _strongest()
    if walls.is_weaker_than(task.require):
        raise PermissionError(
            f"level {task.require!r} is required, but this machine has {walls.level!r}: see "
            "`diffusion-edu doctor`"
        )
    s = task.submission
    if s.reason:
        return _ungradable(task, walls, s.reason)
    try:
        code = read(s.data, s.file)
    except UngradableError as error:
        return _ungradable(task, walls, str(error))
    return _graded(task, walls, code)


def _graded(task: Task, walls: Policy, code: Code) -> dict[str, Any]:
    exercise = exercises.load(task.exercise)
    remote = Remote(_server_of(walls), code.kept, code.assigned)
    try:
        results = judge(exercise, remote, secret=task.secret)
    finally:
        remote.close()
    for cell, text in remote.problems:
        names = (n for c, source in code.kept if c == cell for n in HEAD.findall(source))
        code.lost |= dict.fromkeys(names, f"cell {cell}: {text}")
    _say_why_missing(results, code.lost)
    if all(r.message.startswith(f"{r.function} is not defined") for r in results):
        code.notes.append(f"no function of {exercise.key} is in it: is it the right file?")
    code.problems += [f"cell {cell}: {text}" for cell, text in remote.problems]
    return _row(task, walls.level, "graded", "", results, code)


def _say_why_missing(results: list[Result], lost: dict[str, str]) -> None:
    """A function that is not defined may have been written, where it is not read or fails."""
    for r in results:
        if r.status == "not_implemented" and r.message.endswith("is not defined"):
            r.message += f": {lost[r.function]}"[:MOST_TEXT] if r.function in lost else ""


def _ungradable(task: Task, walls: Policy, reason: str) -> dict[str, Any]:
    results = worth(exercises.load(task.exercise))
    return _row(task, walls.level, "ungradable", reason, results, Code())


def failed(task: Task, error: Exception) -> dict[str, Any]:
    """The row of a submission on which the grader itself failed."""
    reason = f"the grader failed: {type(error).__name__}: {error}"
    results = worth(exercises.load(task.exercise), "error")
    return _row(task, "none", "error", reason, results, Code())


def _row(
    task: Task, level: str, status: str, reason: str, results: list[Result], code: Code
) -> dict[str, Any]:
    s = task.submission
    return {
        "id": s.id,
        "exercise": task.exercise,
        "status": status,
        "reason": reason[:MOST_TEXT],
        "score": round(sum(r.score for r in results), 6),
        "max_score": round(sum(r.max_score for r in results), 6),
        "file": s.file,
        "platform_id": s.platform_id,
        "level": level,
        "tests": [r.as_json() for r in results],
        "problems": _few(code.problems),
        "ignored": code.ignored,
        "notes": _few([*s.notes, *code.notes]),
    }


def _few(lines: list[str]) -> list[str]:
    shown = [line[:MOST_TEXT] for line in lines[:MOST_LINES]]
    more = len(lines) - len(shown)
    return [*shown, f"and {more:,} more"] if more else shown


def _strongest() -> Policy:
    """Asked for once in a process: what is in site-packages may change, and threads share one."""
    global _walls
    with _starting:  # sysconfig, which is asked, is not made for threads
        _walls = _walls or policy()
        return _walls


def _server_of(walls: Policy) -> Server:
    """The one of this process; another if it has died."""
    global _server
    with _starting:
        if _server is None or _server.policy != walls or not _server.alive():
            if _server is not None:
                _server.close()
            _server = make_server(walls)
        return _server
