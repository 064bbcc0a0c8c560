"""Parameters of explorers: what they may be, and what happens when one is set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .._checks import check_choice, check_count

__all__ = ["Param", "choice", "integer", "number", "small_work"]

Check = Callable[[str, Any], Any]


def number(low: float, high: float, *, optional: bool = False) -> Check:
    """Check of a float in [low, high]; None is let through when ``optional``."""

    def check(name: str, value: Any) -> float | None:
        if value is None and optional:
            return None
        numeric = isinstance(value, int | float) and not isinstance(value, bool)
        if not numeric or not low <= value <= high:  # NaN fails the comparison
            raise ValueError(
                f"{name} must be a number in [{low:g}, {high:g}], got {name}={value!r}"
            )
        return float(value)

    return check


def integer(low: int, high: int | None = None, *, optional: bool = False) -> Check:
    """Check of an int in [low, high]; None is let through when ``optional``."""

    def check(name: str, value: Any) -> int | None:
        if value is None and optional:
            return None
        check_count(value, low, high, name)
        return int(value)

    return check


def choice(options: Callable[[], tuple[str, ...]]) -> Check:
    """Check of one of the names that ``options()`` returns."""

    def check(name: str, value: Any) -> str:
        check_choice(value, options(), name)
        return str(value)

    return check


class Param:
    """A parameter of an explorer: reading gives its value, setting checks and recomputes."""

    def __init__(self, check: Check, doc: str) -> None:
        self.check, self.__doc__ = check, doc

    def __set_name__(self, owner: type, name: str) -> None:
        if any(name in vars(base) for base in owner.__mro__[1:]):
            raise TypeError(f"{owner.__name__} cannot call a parameter {name!r}: its base has one")
        self.name = name

    def __get__(self, explorer: Any, owner: type | None = None) -> Any:
        return self if explorer is None else explorer._values[self.name]

    def __set__(self, explorer: Any, value: Any) -> None:
        explorer.update(**{self.name: value})


@contextmanager
def small_work() -> Iterator[None]:
    """no_grad, and one torch thread (for the calling thread only) while it lasts.

    A second thread makes networks of this size slower and erratic. no_grad belongs here and not in
    a cell: front ends may run callbacks in another thread, which a switch in a cell does not reach.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)
