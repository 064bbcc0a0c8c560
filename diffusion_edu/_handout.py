"""Notebooks handed out to a learner's folder, and renewed there without losing what they wrote.

A file is written over only while its bytes are those of a copy made here: whatever was saved into
it since, be it outputs alone, is the learner's. A newer version of such a file is put beside it;
once, and only if it says something new. Checksums of what was handed out are kept in the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection
from enum import Enum
from itertools import count
from pathlib import Path

from ._files import write_atomically

__all__ = ["RECORD", "hand_out", "handouts", "said"]

RECORD = ".diffusion_edu.json"
# File -> checksums of its bytes and of what they say, in every version handed out so far.
Record = dict[str, list[str]]


class _Fate(Enum):
    """What is to be done about one file."""

    nothing = 0
    copy = 1  # the folder lacks it
    update = 2  # the folder has an older copy, as it was handed out
    offer = 3  # the folder has the learner's, and there is a new one


def handouts(source: Path) -> dict[str, bytes]:
    """The files of a folder of notebooks that learners get: not the sources, which have answers."""
    patterns = ("*.ipynb", "exercises/*.ipynb", "*.md")
    files = sorted(file for pattern in patterns for file in source.glob(pattern))
    return {file.relative_to(source).as_posix(): file.read_bytes() for file in files}


def hand_out(files: dict[str, bytes], target: Path, replace: Callable[[list[str]], bool]) -> str:
    """Bring a folder up to date.

    Args:
        files: what to hand out, by name.
        target: the learner's folder; made if it is not there.
        replace: is asked once, with the names of files that the learner has changed and that have
            a new version. True: the new one takes its place, the learner's becomes NAME.mine.ipynb.
            False: the learner's stays, the new one becomes NAME.new.ipynb.

    Returns:
        One line that says what was done.

    Raises:
        OSError: the folder cannot be read or written.
    """
    record = _read(target / RECORD)
    known = {name: record.get(name, []) for name in files}
    newer = [n for n, new in files.items() if _fate(target / n, new, known[n]) is _Fate.offer]
    taken = bool(newer) and replace(newer)
    done: dict[str, list[str]] = {"copied": [], "updated": [], "beside": [], "mine": []}
    try:
        for name, new in files.items():
            _renew(target / name, new, known[name], taken, done)
            record[name] = sorted({*known[name], _sum(new), said(name, new)})
    finally:  # what was done before Ctrl-C is known next time
        write_atomically(target / RECORD, (json.dumps(record, indent=1) + "\n").encode())
    return f"{target}: {_summary(done)}"


def _renew(
    path: Path, new: bytes, known: Collection[str], taken: bool, done: dict[str, list[str]]
) -> None:
    """Do what is to be done about one file as it is now: the question may have taken a while."""
    fate = _fate(path, new, known)
    if fate is _Fate.offer and not taken:
        place = _place(path, "new", {*known, _sum(new)})
        write_atomically(place, new)
        done["beside"].append(place.name)
    elif fate is _Fate.offer:
        mine = _place(path, "mine", ())
        path.rename(mine)
        write_atomically(path, new)
        done["mine"].append(mine.name)
    elif fate is not _Fate.nothing:
        write_atomically(path, new)
        done["copied" if fate is _Fate.copy else "updated"].append(path.name)


def _fate(path: Path, new: bytes, known: Collection[str]) -> _Fate:
    if not path.exists():
        return _Fate.copy
    mine = path.read_bytes()
    if mine == new:
        return _Fate.nothing
    if _sum(mine) in known:
        return _Fate.update
    told = said(path.name, new)
    return _Fate.nothing if told in known or told == said(path.name, mine) else _Fate.offer


def _place(path: Path, word: str, ours: Collection[str]) -> Path:
    """NAME.word.ipynb beside a file, or the first of NAME.word2.ipynb ... that is free or ours."""
    words = (f"{word}{number if number > 1 else ''}" for number in count(1))
    places = (path.with_name(f"{path.stem}.{numbered}{path.suffix}") for numbered in words)
    return next(p for p in places if not os.path.lexists(p) or _is_one_of(p, ours))


def _is_one_of(path: Path, ours: Collection[str]) -> bool:
    return path.is_file() and _sum(path.read_bytes()) in ours


def said(name: str, data: bytes) -> str:
    """Checksum of what a file says: for a notebook, its cells without outputs and metadata.

    The cell for Colab says nothing: it names the version of the package, which every release has.
    """
    try:
        cells = json.loads(data)["cells"] if name.endswith(".ipynb") else None
        if cells is not None:
            data = json.dumps([_text(cell) for cell in cells if not _for_colab(cell)]).encode()
    except (ValueError, LookupError, TypeError, AttributeError):
        pass  # no notebook, whatever its name: it says its bytes
    return _sum(data)


def _text(cell: dict[str, object]) -> list[str]:
    source = cell["source"]
    return [str(cell["cell_type"]), "".join(source) if isinstance(source, list) else str(source)]


def _for_colab(cell: dict[str, dict[str, list[str]]]) -> bool:
    return "colab" in cell.get("metadata", {}).get("tags", [])


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> Record:
    """The record; a damaged one knows nothing, and every file that differs is the learner's."""
    try:
        record = json.loads(path.read_bytes())
        return {str(name): [str(s) for s in sums] for name, sums in record.items()}
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return {}


def _summary(done: dict[str, list[str]]) -> str:
    parts = [f"{len(done[word])} {word}" for word in ("copied", "updated") if done[word]]
    if done["beside"]:
        parts.append(f"new versions beside yours: {', '.join(done['beside'])}")
    if done["mine"]:
        parts.append(f"new versions in place, yours kept as {', '.join(done['mine'])}")
    return "; ".join(parts) or "nothing new"
