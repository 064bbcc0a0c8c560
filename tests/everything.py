"""The whole package, imported before a part of it is replaced.

A module that is imported while a test has put something in another's place keeps that for good.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from functools import cache
from types import ModuleType

import diffusion_edu

__all__ = ["imported"]

PROGRAMS = re.compile(r"\.(__main__|inside|e\d)\b")  # run when imported, or are an exercise's parts


@cache
def _everything() -> None:
    for module in pkgutil.walk_packages(diffusion_edu.__path__, "diffusion_edu."):
        if not PROGRAMS.search(module.name):
            importlib.import_module(module.name)


def imported(name: str) -> ModuleType:
    """The module, with all others."""
    _everything()
    return importlib.import_module(name)
