"""What several commands share: options and their choices, examples, checks of file names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

__all__ = [
    "Batch",
    "Classes",
    "Device",
    "Labels",
    "Precision",
    "Seed",
    "Variance",
    "check_file",
    "check_folder",
    "examples",
]

Command = TypeVar("Command", bound=Callable[..., Any])


class Labels(StrEnum):
    """Which classes samples are asked to have."""

    balanced = "balanced"
    none = "none"


class Variance(StrEnum):
    """Noise of a step."""

    eta = "eta"
    large = "large"
    learned = "learned"


class Precision(StrEnum):
    """What the network computes in while sampling."""

    float32 = "float32"
    bfloat16 = "bfloat16"


Batch = Annotated[int, typer.Option(help="Samples at once.")]
Classes = Annotated[
    Labels, typer.Option(help="balanced: every class equally often; none: unconditional.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ... [default: a GPU if there is one]")]
Seed = Annotated[int, typer.Option(help="Same seed, same samples.")]


def examples(*lines: str) -> Callable[[Command], Command]:
    """Add command lines to the docstring, which is what ``--help`` shows, as a list."""

    def add(command: Command) -> Command:
        bullets = [f"* `{line}`" for line in lines]
        command.__doc__ = "\n\n".join([inspect.getdoc(command) or "", "Examples:", *bullets])
        return command

    return add


def check_file(option: str, path: Path | None, *suffixes: str) -> None:
    """Raise ValueError unless ``path`` is None, or a file of that kind can be written there."""
    if path is None:
        return
    if path.suffix not in suffixes:
        raise ValueError(f"{option} must end in {', '.join(suffixes)}, got {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"{option} {path} is a folder: name a file in it")
    check_folder(option, path.parent)


def check_folder(option: str, path: Path) -> None:
    """Raise ValueError where ``path``, or what is above it, is a file: hours of work end there."""
    for part in (path, *path.parents):
        if part.exists() and not part.is_dir():
            raise ValueError(f"{option}: {part} is a file and no folder: choose another place")
