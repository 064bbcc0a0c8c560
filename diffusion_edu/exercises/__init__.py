"""Exercises E1 to E9: functions to write, tests that know the usual mistakes by name.

spec, world, stubs      what an exercise is made of, and the inputs it is graded on
testing, judge          the words tests are written in, and what runs them
outcome, diagnosis      what a call came to, and one sentence about what is wrong with it
local, checking         ``check("E2")`` in a notebook
e1 ... e9               the exercises
"""

from __future__ import annotations

import importlib
import pkgutil
import re

from .._checks import check_choice
from .spec import Exercise, Graded, Mistake

__all__ = ["Exercise", "Graded", "Mistake", "load", "names"]


def names() -> tuple[str, ...]:
    """Keys of the exercises there are, "E1" first."""
    found = [m.name for m in pkgutil.iter_modules(__path__) if re.fullmatch(r"e\d+", m.name)]
    return tuple(n.upper() for n in sorted(found, key=lambda n: int(n[1:])))


def load(key: str) -> Exercise:
    """The exercise of a key, "E2".

    Raises:
        ValueError: there is none of this key.
    """
    check_choice(key, names(), "exercise")
    module = importlib.import_module(f"{__name__}.{key.lower()}")
    exercise: Exercise = module.EXERCISE
    return exercise
