"""Files and archives that are not what a submission should be."""

from __future__ import annotations

import io
import os
import pickle
import stat
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NOTEBOOK = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


@dataclass(frozen=True)
class Parcel:
    name: str
    on: str  # regular expression: the reason, and the notes
    make: Callable[[Path], object]
    status: str = "ungradable"


def archive(*entries: tuple[str | zipfile.ZipInfo, bytes | str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in entries:
            made.writestr(name, data)
    return file.getvalue()


def link_entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry


def encrypted() -> bytes:
    data = bytearray(archive(("E2.ipynb", NOTEBOOK)))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + at] |= 1
    return bytes(data)


def file(name: str, data: bytes | str) -> Callable[[Path], object]:
    raw = data.encode() if isinstance(data, str) else data
    return lambda folder: (folder / name).write_bytes(raw)


BOMB = b"\0" * (15 << 20)
PARCELS = [
    Parcel(
        "a_pickle", "no text", file("a_pickle.ipynb", pickle.dumps(os.system) + b"\xff\xfe\xfd")
    ),
    Parcel("weights", "no notebook or script", lambda f: _folder(f / "weights", "model.pt", b"x")),
    Parcel("empty", "empty", file("empty.ipynb", "")),
    Parcel("no_json", "no valid JSON", file("no_json.ipynb", "{'cells': []}")),
    Parcel(
        "conflict",
        "merge conflict, first on line 2",
        file("conflict.ipynb", '{"cells": [\n<<<<<<< HEAD\n{}\n=======\n>>>>>>> theirs\n]}'),
    ),
    Parcel("deep", "no valid JSON", file("deep.ipynb", "[" * 200_000)),
    Parcel("a_list", "no object|no valid", file("a_list.ipynb", "[1, 2]")),
    Parcel("huge", "more than 20 MiB|at most 20", file("huge.py", b"#" * (21 << 20))),
    Parcel("symlink", "link", lambda f: (f / "symlink.py").symlink_to("/etc/passwd")),
    Parcel("fifo", "no regular file", lambda f: os.mkfifo(f / "fifo.py")),
    Parcel(
        "zip_slip",
        "leads out",
        file("zip_slip.zip", archive(("../../escaped.py", "x = 1"), ("..\\escaped.py", "x = 1"))),
    ),
    Parcel("zip_root", "leads out", file("zip_root.zip", archive(("/tmp/escaped.py", "x = 1")))),
    Parcel(
        "zip_link",
        "link or a device",
        file("zip_link.zip", archive((link_entry("a.py"), "/etc/passwd"))),
    ),
    Parcel("zip_bomb", "times its size", file("zip_bomb.zip", archive(("bomb.py", BOMB)))),
    Parcel(
        "zip_many",
        "entries",
        file("zip_many.zip", archive(*((f"{i}.py", "") for i in range(2_500)))),
    ),
    Parcel("zip_secret", "encrypted", file("zip_secret.zip", encrypted())),
    Parcel("zip_cut", "cannot be read|damaged", file("zip_cut.zip", archive(("a.py", "x"))[:-20])),
]


def _folder(path: Path, name: str, data: bytes) -> None:
    path.mkdir()
    (path / name).write_bytes(data)
