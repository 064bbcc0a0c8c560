"""A submission's functions in a process of their own; the grader's side."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from typing import Any

from ..exercises.outcome import Args, Outcome, leaves
from .inside import codec
from .servers import Server
from .wires import Wire, WorkerDied

__all__ = ["MOST_TEXT", "Remote"]

LOAD_SECONDS = 10.0
CALL_SECONDS = 120.0  # of all calls together: each may be just in time
MOST_TEXT = 4000  # characters of an error: what a submission says about itself may be endless
MOST_PROBLEMS = 20
UNDEFINED = re.compile(r"name '(\w+)' is not defined")


class Remote:
    """Back end of ``judge``: every call goes to the worker; a dead worker is replaced.

    Args:
        statements: (cell, source) of the submission.
        assigned: names that statements left out would have set, for a better message.
    """

    def __init__(
        self,
        server: Server,
        statements: Sequence[tuple[int, str]],
        assigned: Sequence[str] = (),
    ) -> None:
        self.server, self.statements, self.assigned = server, statements, set(assigned)
        self.problems: list[tuple[int, str]] = []
        self._worker: tuple[int, Wire] | None = None
        self._count = 0
        self._stuck: dict[str, Outcome] = {}
        self._broken: Outcome | None = None  # it cannot even be loaded, or has had its time
        self._left = CALL_SECONDS

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
        began, seconds = time.monotonic(), min(seconds, self._left)
        try:
            reply = self._ask({"do": "call", "name": name, "args": args}, seconds)
        except WorkerDied as died:
            outcome = self._ending(str(died), seconds, name)
            self._stuck[name] = outcome
            return outcome
        finally:
            self._spend(time.monotonic() - began)
        return self._outcome(reply)

    def _spend(self, seconds: float) -> None:
        self._left -= seconds
        if self._left <= 0:
            message = f"all calls together took longer than {CALL_SECONDS:g} s"
            self._broken = Outcome(status="timeout", message=message)

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._end()

    # ---- one request -----------------------------------------------------------------------------

    def _load(self) -> None:
        self._worker = self.server.start()
        statements = [[cell, text] for cell, text in self.statements]
        seconds = LOAD_SECONDS + self.server.patience
        reply = self._ask({"do": "load", "statements": statements}, seconds)
        problems, self.problems = reply.get("problems"), []
        for pair in problems[:MOST_PROBLEMS] if isinstance(problems, list) else []:
            match pair:
                case [int(cell), str(text)]:
                    name = UNDEFINED.search(text)
                    why = self._why_missing(name[1]) if name else ""
                    self.problems.append((cell, text[:MOST_TEXT] + why))

    def _ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self._worker is not None
        _, wire = self._worker
        self._count += 1
        mark = {"seq": self._count, "token": secrets.token_hex(8)}
        deadline = time.monotonic() + seconds
        wire.send(codec.dumps({**request, **mark}), deadline)
        while True:
            reply = _decoded(wire.receive(deadline))
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
        pid, wire = self._worker
        self._worker = None
        wire.close()
        return self.server.stop(pid, is_over)

    def _outcome(self, reply: dict[str, Any]) -> Outcome:
        status = str(reply.get("status", "error"))
        if status == "ok":
            return Outcome(reply.get("value"), after=tuple(leaves(reply.get("after"))))
        known = status in ("error", "not_implemented", "memory")
        message = str(reply.get("message", ""))[:MOST_TEXT]
        message += self._why_missing(str(reply.get("missing", "")))
        kind = str(reply.get("kind", ""))[:MOST_TEXT]
        return Outcome(status=status if known else "error", kind=kind, message=message)

    def _why_missing(self, name: str) -> str:
        """Why a name that the notebook sets is not there."""
        if name not in self.assigned:
            return ""
        return (
            f" ({name} is set in the notebook by code that does not run at grading: "
            "pass it as an argument, or make it a constant)"
        )


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        reply = codec.loads(data)
    except ValueError as error:
        raise WorkerDied(str(error)) from error
    if not isinstance(reply, dict):
        raise WorkerDied("malformed message: no dict")
    return reply
