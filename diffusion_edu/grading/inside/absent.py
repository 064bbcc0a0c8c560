"""Modules that notebooks import and graded functions do not need: they can be imported, not used.

Real ones would cost a second each in every worker, or open files and sockets.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["Absent", "install"]

NAMES = {
    "IPython",
    "diffusers",
    "diffusion_edu",
    "google",
    "ipywidgets",
    "jupyter",
    "matplotlib",
    "pandas",
    "PIL",
    "plotly",
    "requests",
    "seaborn",
    "sklearn",
    "torchvision",
    "tqdm",
    "wandb",
}


class Absent(ModuleType):
    """Every attribute exists; using one says that it is not there at grading."""

    __path__: list[str] = []  # noqa: RUF012, so that its submodules can be imported

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unusable(f"{self.__name__}.{name}")


class _Unusable:
    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        hint = ": write the function yourself" if self._name.startswith("diffusion_edu") else ""
        raise ImportError(f"{self._name} is not there at grading{hint}")

    __call__ = __iter__ = __enter__ = _refuse

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unusable(f"{self._name}.{name}")


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        absent = name.partition(".")[0] in NAMES
        return ModuleSpec(name, self, is_package=True) if absent else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Absent(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def install() -> None:
    """From now on these names are found here first."""
    sys.meta_path.insert(0, _Finder())
