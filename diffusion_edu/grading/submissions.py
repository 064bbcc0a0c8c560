"""Finding submissions: in folders, archives and the exports of learning platforms.

Nothing is unpacked to disk, no link is followed, and every file is read up to a limit.
"""

from __future__ import annotations

import io
import os
import re
import stat
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from ..exercises.extract import MOST_BYTES

__all__ = ["Submission", "find", "identity", "members", "of_folder"]

SUFFIXES = (".ipynb", ".py")
READ = (*SUFFIXES, ".zip")
MOST_UNPACKED = 20 * MOST_BYTES  # of one archive, or of one student's folder
MOST_ENTRIES = 2_000  # of one archive, or of one student's folder
RATIO = 200  # of unpacked to packed size
CANVAS = re.compile(r"(?P<user>[^_]+)(?P<late>_LATE)?_(?P<id>\d+)_\d+_(?P<name>.+)")
MOST_NAME = 200  # characters; a name in an archive may have 65,535
COPY = re.compile(r"(-copy\d*| ?\(\d+\))\.\w+$")  # of JupyterLab, of a browser
MOODLE = re.compile(r"(?P<user>.+)_(?P<id>\d+)_assignsubmission_.+")


@dataclass(frozen=True)
class Submission:
    """One student's file.

    Attributes:
        id: what the row is called.
        file: name of the file that is graded, "" if there is none.
        data: its bytes.
        platform_id: number that the learning platform gave, or "".
        reason: why it cannot be graded, or "".
        notes: what was left out.
    """

    id: str
    file: str = ""
    data: bytes = b""
    platform_id: str = ""
    reason: str = ""
    notes: tuple[str, ...] = ()


def find(paths: list[Path], key: str, leave: Path | None = None) -> list[Submission]:
    """All submissions under ``paths`` for an exercise, in the order of their names.

    A folder (or an archive that is named itself) holds one entry a student: a notebook, a script,
    an archive or a folder of them. Entries with one number of a platform are one student's.

    Args:
        leave: the folder of the reports, which is no student.

    Raises:
        ValueError: a path is not there or of no known kind, or nothing is found.
    """
    exports: list[Path] = []
    entries: list[Entry] = []
    for path in paths:
        if not path.exists():
            raise ValueError(f"there is no file or folder {path}")
        if path.is_dir():
            entries += _entries(path, leave)
        elif path.suffix.lower() == ".zip":
            exports.append(path)
        elif path.suffix.lower() in SUFFIXES or len(paths) > 1:
            entries.append((path.name, partial(_files_of, path)))
        else:
            raise ValueError(
                f"{path} is no folder, notebook, script or .zip archive: unpack other archives and "
                "give the folder"
            )
    found = _of_class(entries, key)
    for path in exports:
        found += _of_export(path, key)
    if not found:
        raise ValueError(f"no submission is in {', '.join(map(str, paths))}")
    return _distinct(found)


def of_folder(folder: Path, key: str) -> Submission:
    """The submission of one student whose files are in a folder."""
    try:
        return _of_files(folder.name, "", list(_folder(folder)), key)
    except (OSError, ValueError) as error:
        return Submission(folder.name, reason=str(error))


Member = tuple[str, bytes, str]  # name, bytes if it can hold code, why it was left out or ""
# Name at the top of a folder or an archive, and what reads its files: one student's at a time.
Entry = tuple[str, Callable[[], list[Member]]]


def _entries(folder: Path, leave: Path | None) -> Iterator[Entry]:
    for path in sorted(folder.iterdir(), key=lambda p: p.name):
        ours = leave is not None and not path.is_symlink() and path.resolve() == leave.resolve()
        if not ours and not path.name.startswith((".", "__")):
            yield path.name, partial(_files_of, path)


def _files_of(path: Path) -> list[Member]:
    try:
        if path.is_symlink():
            raise ValueError("it is a symbolic link; links are not followed")
        if path.is_dir():
            return [(name, data, "") for name, data in _folder(path)]
        return [(path.name, _read_file(path), "")]
    except (OSError, ValueError) as error:
        return [(path.name, b"", str(error))]


def _of_class(entries: Sequence[Entry], key: str) -> list[Submission]:
    """One row a student, who with a platform may have several entries."""
    students: dict[tuple[str, str, int], list[Entry]] = {}
    for i, entry in enumerate(entries):
        who, number = identity(entry[0])
        students.setdefault((who, number, -1 if number else i), []).append(entry)
    return [_of_student(who, number, own, key) for (who, number, _), own in students.items()]


def _of_student(who: str, number: str, entries: Sequence[Entry], key: str) -> Submission:
    files = [file for _, read in entries for file in read()]
    if len(files) == 1 and files[0][2]:
        return Submission(who, files[0][0], platform_id=number, reason=files[0][2])
    return _of_files(who, number, [(n, d) for n, d, why in files if not why], key, _notes(files))


def identity(name: str) -> tuple[str, str]:
    """(who, the platform's number) of a file or folder as platforms export it."""
    if match := MOODLE.fullmatch(name):
        return match["user"], match["id"]
    if match := CANVAS.fullmatch(name):
        return match["user"], match["id"]
    return PurePosixPath(name).stem or name, ""


def _read_file(path: Path) -> bytes:
    """A regular file of at most ``MOST_BYTES``, never through a link."""
    no_follow = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    fd = os.open(path, os.O_RDONLY | no_follow)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("it is no regular file")
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES >> 20} MiB")
    return data


def _folder(root: Path) -> Iterator[tuple[str, bytes]]:
    """Files that can hold code with their bytes, others with none; no links."""
    count = size = 0
    for folder, folders, names in os.walk(root, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            count += 1
            if count > MOST_ENTRIES:
                raise ValueError(f"the folder has more than {MOST_ENTRIES:,} files")
            if path.is_symlink():
                continue
            data = _read_file(path) if path.suffix.lower() in READ else b""
            size += len(data)
            if size > MOST_UNPACKED:
                raise ValueError(f"the folder has more than {MOST_UNPACKED >> 20} MiB")
            yield path.relative_to(root).as_posix(), data


# ---- archives ------------------------------------------------------------------------------------


def members(data: bytes) -> list[Member]:
    """All files of an archive.

    Raises:
        ValueError: it is no archive, or has too much in it.
    """
    with _opened(io.BytesIO(data)) as archive:
        return _read_members(archive, archive.infolist())


@contextmanager
def _opened(file: Path | io.BytesIO) -> Iterator[zipfile.ZipFile]:
    """An archive; whatever is wrong with it is a ValueError."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except ValueError:
        raise
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError) as error:
        raise ValueError(f"the archive cannot be read: {error}") from error
    except Exception as error:  # zlib.error and what a forged header makes of the reader
        raise ValueError(f"the archive is damaged: {type(error).__name__}: {error}") from error


def _read_members(archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo]) -> list[Member]:
    if len(entries) > MOST_ENTRIES:
        raise ValueError(f"the archive has {len(entries):,} entries; at most {MOST_ENTRIES:,}")
    found: list[Member] = []
    size = 0
    for entry in entries:
        name, content = entry.filename, b""
        if name.endswith("/") or "__MACOSX" in name:
            continue
        problem = _problem(entry)
        if not problem and name.lower().endswith(READ):
            size += entry.file_size
            if size > MOST_UNPACKED:
                raise ValueError(f"the archive unpacks to more than {MOST_UNPACKED >> 20} MiB")
            content, problem = _unpacked(archive, entry)
        found.append((name, content, problem))
    return found


def _unpacked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> tuple[bytes, str]:
    """The bytes of an entry, at most as many as its header says; why there are none."""
    try:
        with archive.open(entry) as file:
            return file.read(MOST_BYTES + 1), ""  # without a limit it all unpacks before it is cut
    except Exception as error:  # zlib.error and what a forged header makes of the reader
        return b"", f"it is damaged: {error}"


OUTSIDE = "its path leads out of the archive"


def _problem(entry: zipfile.ZipInfo) -> str:
    path = PurePosixPath(entry.filename.replace("\\", "/"))
    mode = entry.external_attr >> 16
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        return OUTSIDE
    if mode and not (stat.S_ISREG(mode) or stat.S_IFMT(mode) == 0):
        return "it is a link or a device"
    if entry.flag_bits & 1:
        return "it is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "it is packed in an unusual way"  # of which no part can be unpacked
    if entry.file_size > MOST_BYTES:
        return f"it has {entry.file_size / 2**20:,.0f} MiB; at most {MOST_BYTES >> 20}"
    if entry.file_size > RATIO * max(entry.compress_size, 1):
        return f"it unpacks to more than {RATIO} times its size"
    return ""


def _of_archive(who: str, number: str, data: bytes, key: str) -> Submission:
    """One student's archive."""
    try:
        found = members(data)
    except ValueError as error:
        return Submission(who, platform_id=number, reason=str(error))
    files = [(name, data) for name, data, why in found if not why]
    return _chosen(who, number, files, key, _notes(found))


def _of_export(path: Path, key: str) -> list[Submission]:
    """An archive with one entry a student, as learning platforms make it.

    Who grades has it from there, so it may be of any size; limits are those of one student's part.
    """
    try:
        with _opened(path) as archive:
            listed = archive.infolist()
            students = sorted(_by_student(listed).items())
            parts = [(top, partial(_part, archive, top, own)) for top, own in students]
            found = _of_class(parts, key)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    outside = _notes([(e.filename, b"", OUTSIDE) for e in listed if _problem(e) == OUTSIDE])
    if found and outside:
        found[0] = Submission(**{**vars(found[0]), "notes": (*found[0].notes, *outside)})
    return found


def _part(archive: zipfile.ZipFile, top: str, entries: Sequence[zipfile.ZipInfo]) -> list[Member]:
    """One student's part of an export, with names as seen from there."""
    try:
        files = _read_members(archive, entries)
    except ValueError as error:
        return [(top, b"", str(error))]
    split = [(PurePosixPath(name).parts, data, why) for name, data, why in files]
    return [("/".join(p[p.index(top) + 1 :]) or top, data, why) for p, data, why in split]


def _notes(entries: Sequence[Member]) -> list[str]:
    return [f"{name[:100]} was left out: {why}" for name, _, why in entries if why]


def _by_student(entries: Sequence[zipfile.ZipInfo]) -> dict[str, list[zipfile.ZipInfo]]:
    """Entries of an export by what is at its top; a folder around everything is no student."""
    split = [(PurePosixPath(e.filename).parts, e) for e in entries if _problem(e) != OUTSIDE]
    split = [s for s in split if not s[1].is_dir() and not s[0][0].startswith((".", "__"))]
    tops = {parts[0] for parts, _ in split}
    inner = len(tops) == 1 and all(len(parts) > 1 for parts, _ in split)
    inner = inner and not any(map(MOODLE.fullmatch, tops))
    students: dict[str, list[zipfile.ZipInfo]] = {}
    for parts, entry in split:
        top = parts[1] if inner else parts[0]
        if not top.startswith((".", "__")):
            students.setdefault(top, []).append(entry)
    return students


# ---- choosing ------------------------------------------------------------------------------------


def _of_files(
    who: str, number: str, files: list[tuple[str, bytes]], key: str, notes: Sequence[str] = ()
) -> Submission:
    """One student's files: notebooks and scripts, or if there are none the first archive."""
    archives = [data for name, data in files if name.lower().endswith(".zip")]
    if archives and not any(name.lower().endswith(SUFFIXES) for name, _ in files):
        return _of_archive(who, number, archives[0], key)
    return _chosen(who, number, files, key, notes)


def _chosen(
    who: str, number: str, files: list[tuple[str, bytes]], key: str, notes: Sequence[str] = ()
) -> Submission:
    """Of several files the one that names the exercise: no copy, notebooks before scripts."""
    found = list(notes)
    fit = [f for f in files if f[0].lower().endswith(SUFFIXES)]
    if not fit:
        kinds = ", ".join(sorted({Path(n).suffix or n for n, _ in files})) or "nothing"
        reason = f"there is no notebook or script in it, but {kinds}"
        if found:
            reason += f"; {found[0]}"
        return Submission(who, platform_id=number, reason=reason, notes=tuple(found))

    def rank(file: tuple[str, bytes]) -> tuple[bool, bool, bool, bool, int, str]:
        name = file[0].lower()
        named = re.search(rf"(?<![a-z0-9]){key.lower()}(?![0-9])", name) is not None
        copied = COPY.search(name) is not None
        checkpoint = ".ipynb_checkpoints" in name
        return checkpoint, not named, copied, not name.endswith(".ipynb"), name.count("/"), name

    fit.sort(key=rank)
    if len(fit) > 1:
        found.append(f"{fit[0][0]} was graded; not {', '.join(n for n, _ in fit[1:4])}")
    return Submission(who, *fit[0], platform_id=number, notes=tuple(found))


def _distinct(found: list[Submission]) -> list[Submission]:
    """No two rows with one name, and nothing in it that a terminal takes for a command.

    Names differ by more than case and encoding: their reports are files, on any system.
    """
    seen: set[str] = set()
    distinct = []
    for s in found:
        count, name = 1, _shown(s.id)[:MOST_NAME]
        while (plain := unicodedata.normalize("NFKC", name).casefold()) in seen:
            count, name = count + 1, f"{_shown(s.id)[:MOST_NAME]} ({count + 1})"
        seen.add(plain)
        texts = {"id": name, "file": _shown(s.file)[-MOST_NAME:], "reason": _shown(s.reason)}
        notes = tuple(map(_shown, s.notes))
        distinct.append(Submission(**{**vars(s), **texts, "notes": notes}))
    return distinct


def _shown(text: str) -> str:
    """Without control characters, and without bytes that are no text."""
    return "".join(c if c.isprintable() else "?" for c in text)
