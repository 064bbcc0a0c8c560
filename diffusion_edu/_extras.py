"""Packages that only some commands need, and the extra of this package that brings them."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["need"]


def need(extra: str, *modules: str) -> None:
    """Say what to install before a command begins, not when it has worked for an hour.

    Raises:
        ValueError: one of the modules is not installed.
    """
    if missing := [name for name in modules if find_spec(name) is None]:
        are = "is" if len(missing) == 1 else "are"
        raise ValueError(
            f"{', '.join(missing)} {are} not installed: pip install 'diffusion_edu[{extra}]'"
        )
