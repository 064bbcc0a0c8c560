"""Files of the image sets on this machine: found, read with a bound on their size, judged."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from .sources import File, Source

__all__ = ["State", "find", "is_official", "read", "state"]


class State(StrEnum):
    """What is known of one file of a data set."""

    official = "official"
    other = "other content"  # right size, another SHA-256
    damaged = "damaged"
    missing = "missing"


def _locate(folder: Path, file: File) -> Path | None:
    """The file in ``folder``, compressed (.gz) or plain; None if neither is there."""
    # .gz first: it is what downloads write, so that a download always repairs.
    paths = (folder / f"{file.name}.gz", folder / file.name)
    return next((path for path in paths if path.is_file()), None)


def find(source: Source, root: Path, files: Iterable[File]) -> Path | None:
    """The first folder of the source below ``root`` that has all the files, whatever they hold."""
    files = list(files)
    for name in source.folders:
        if all(_locate(root / name, file) for file in files):
            return root / name
    return None


def read(folder: Path, file: File) -> bytes:
    """Content of the file, uncompressed. Never more than its known size is read or unpacked.

    Raises:
        FileNotFoundError: it is not in the folder.
        ValueError: it is shorter or longer than it must be, or not a whole gzip file.
    """
    path = _locate(folder, file)
    if path is None:
        raise FileNotFoundError(f"{file.name} is not in {folder}, nor is {file.name}.gz")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            data = stream.read(file.size + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and fetch it again") from error
    if len(data) != file.size:
        found = f"more than {file.size}" if len(data) > file.size else f"only {len(data)}"
        raise ValueError(
            f"{path} must hold {file.size} bytes, got {found}: delete it and fetch it again"
        )
    return data


def is_official(file: File, data: bytes) -> bool:
    """True if this is the published content, by its SHA-256."""
    return hashlib.sha256(data).hexdigest() == file.sha256


def state(folder: Path, file: File) -> State:
    """Read the file and judge it."""
    if _locate(folder, file) is None:
        return State.missing
    try:
        return State.official if is_official(file, read(folder, file)) else State.other
    except ValueError:
        return State.damaged
