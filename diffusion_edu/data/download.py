"""Fetching images and weights: mirrors in turn, resumed where cut off, checked before they count.

An archive becomes visible under its name only when it is whole and its SHA-256 is right (pooch sees
to that); the bytes so far wait beside it in a ``.part`` file. Of a tar archive only members known
by name, size and SHA-256 are written, under our own names: paths inside it are never used.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from .._files import write_atomically
from .files import State, find, state
from .location import ENV, data_dir
from .sources import Archive, File, Source

if TYPE_CHECKING:
    import requests

__all__ = ["fetch", "fetch_file", "help_text", "unpack", "writable"]

TRIES = 5  # requests to one mirror for one archive, as long as each of them changes something
CHUNK = 1 << 16
SLACK = 1 << 20  # bytes of a tar archive that are not the files wanted: headers, a readme


def fetch(
    source: Source,
    root: str | Path | None = None,
    *,
    overwrite: bool = False,
    timeout: float = 30.0,
) -> Path:
    """Make all files of the data set present with their official content; return their folder.

    What is there and official is kept, in any of the source's folders. Several processes may call
    this at once: one downloads, the others wait for it. A progress bar is drawn on a terminal.

    Args:
        source: an entry of ``sources.SOURCES``.
        root: data directory (see ``location.data_dir``).
        overwrite: replace files that are there with another content.
        timeout: seconds without a single byte after which a mirror is given up.

    Raises:
        ConnectionError: no mirror delivered; the message says what was tried and what to do.
        FileExistsError: files with another content are in the way and overwrite is False.
        PermissionError: the data directory cannot be written to.
    """
    base = data_dir(root).resolve()
    if _missing(source, base, overwrite):
        with _locked(base, source.name):
            for archive in _missing(source, base, overwrite):  # again: we may have waited
                _obtain(archive, source, base, timeout)
    return find(source, base, source.files) or base / source.folders[0]


def fetch_file(archive: Archive, base: Path, advice: str, timeout: float = 30.0) -> Path:
    """Make one plain file present below ``base`` with its official content; return its path.

    Args:
        archive: its path ends in the name of its one file, which is not compressed.
        advice: what the error says when no mirror delivers.

    Raises:
        ConnectionError, FileExistsError, PermissionError: as ``fetch``; nothing is replaced.
    """
    path, (file,) = base / archive.path, archive.files

    def there() -> bool:
        found = state(path.parent, file)
        if found in (State.other, State.damaged):
            raise FileExistsError(
                f"{path} is another file than the official one (its SHA-256 or size differs): "
                "delete it to fetch that"
            )
        return found is State.official

    if not there():
        with _locked(base, file.name):
            if not there():  # again: we may have waited
                _from_mirrors(archive, path, advice, timeout)
    return path


@contextmanager
def _locked(base: Path, name: str) -> Iterator[None]:
    """One process at a time; PermissionError with what to do where nothing can be written."""
    from filelock import FileLock

    with writable(base):
        base.mkdir(parents=True, exist_ok=True)
        with FileLock(base / f".{name}.lock"):
            yield


def _missing(source: Source, base: Path, overwrite: bool) -> list[Archive]:
    """Archives to fetch. FileExistsError if one would replace something unasked."""
    missing = []
    for archive in source.archives:
        folder = find(source, base, archive.files) or base / source.folders[0]
        states = {file.name: state(folder, file) for file in archive.files}
        wrong = [name for name, s in states.items() if s in (State.other, State.damaged)]
        if wrong and not overwrite:
            raise FileExistsError(
                f"{folder} holds {', '.join(wrong)} with another content than the official one: "
                "add --overwrite (overwrite=True) to replace it"
            )
        if any(s is not State.official for s in states.values()):
            missing.append(archive)
    return missing


def _obtain(archive: Archive, source: Source, base: Path, timeout: float) -> None:
    path = base / archive.path
    had = path.is_file()
    _from_mirrors(archive, path, help_text(source, base), timeout)
    if path.name.endswith(".tar.gz"):
        unpack(path, archive.files, base / source.folders[0])
        if not had:
            path.unlink()  # one put there by hand stays


def _from_mirrors(archive: Archive, path: Path, advice: str, timeout: float) -> None:
    """Fetch from the first mirror that delivers; ConnectionError if none does."""
    had = path.is_file()
    tried = []
    for url in archive.urls:
        problem = _from_mirror(archive, url, path, timeout)
        if problem is None:
            break
        tried.append(f"  {url}: {problem}")
    else:
        if had:
            tried.append(f"  {path}: is there, but is not the official archive")
        problems = "\n".join(tried)
        raise ConnectionError(f"{archive.name} could not be downloaded:\n{problems}\n{advice}")


def help_text(source: Source, base: Path) -> str:
    """How to do without a download: where to put which files, or which set to take instead."""
    names = ", ".join(archive.name for archive in source.archives)
    if any(archive.name.endswith(".tar.gz") for archive in source.archives):
        place = f"{names} into {base}, or the files in it into {base / source.folders[0]}"
    else:
        place = f"{names} into {base / source.folders[0]} (they may be uncompressed)"
    return (
        f"By hand: put {place}, then ask again. Another data directory: set {ENV}. "
        "No network at all: 'digits' needs no download."
    )


@contextmanager
def writable(base: Path) -> Iterator[None]:
    """A PermissionError within the block names the data directory and says what to do."""
    try:
        yield
    except PermissionError as error:
        raise PermissionError(
            f"cannot write to the data directory {base} ({error}): "
            f"name another one with {ENV} or root="
        ) from error


def _from_mirror(archive: Archive, url: str, path: Path, timeout: float) -> str | None:
    """Fetch from one mirror, going on after interruptions; None if it worked, else what did not."""
    import pooch
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    part = path.with_name(path.name + ".part")
    problem = None
    for _ in range(TRIES):
        before = _size(part)
        try:
            known, download = f"sha256:{archive.sha256}", _Resuming(part, archive, timeout)
            pooch.retrieve(url, known, path.name, path.parent, downloader=download)
            return None
        except (RequestException, HTTPError, ValueError) as error:
            problem = _reason(error, part, archive, timeout)
        # Longer: cut off on the way. Gone: a wrong checksum, maybe of bytes from an earlier day.
        if _size(part) == before:
            break
    return problem


class _Resuming:
    """A pooch downloader that goes on where ``part`` ends and never writes beyond the known size.

    The file it hands over is ``part`` itself, moved: after a wrong checksum nothing is left to
    resume from.
    """

    def __init__(self, part: Path, archive: Archive, timeout: float) -> None:
        self.part, self.archive, self.timeout = part, archive, timeout

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        have = _size(self.part)
        if have < self.archive.size:  # else it is whole, or wrong: the checksum will tell
            self._request(url, have)
        os.replace(self.part, output_file)

    def _request(self, url: str, have: int) -> None:
        import requests

        # identity: a server that adds its own compression would change sizes and checksums
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            response.raise_for_status()
            start = self._start(response, have)
            with self.part.open("r+b" if start else "wb") as out:
                out.seek(start)
                self._copy(response, out, start)

    def _start(self, response: requests.Response, have: int) -> int:
        """Where the server's bytes begin. ValueError if they cannot be those of the archive."""
        start = 0  # 200: the whole file, Range was not understood
        if response.status_code == 206:
            stated = response.headers.get("Content-Range", "")
            match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", stated.strip())
            if match is None or int(match[1]) != have:
                raise ValueError(f"asked for the bytes from {have}, got {stated!r}")
            start = have
        length = response.headers.get("Content-Length", "")
        wanted = self.archive.size - start
        if length.isdigit() and int(length) != wanted:
            raise ValueError(f"offers {length} bytes where {wanted} are expected")
        return start

    def _copy(self, response: requests.Response, out: IO[bytes], start: int) -> None:
        from tqdm.auto import tqdm

        total, done = self.archive.size, start
        with tqdm(
            total=total,
            initial=start,
            desc=self.archive.name,
            unit="B",
            unit_scale=True,
            disable=None,  # silent where there is no terminal
        ) as bar:
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                out.write(chunk[: total - done])
                done += len(chunk)
                bar.update(len(chunk))
                if done > total:
                    raise ValueError(f"sends more than the {total} bytes expected")
        if done < total:
            raise ValueError(f"broke off after {done} of {total} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _reason(error: Exception, part: Path, archive: Archive, timeout: float) -> str:
    """A few words instead of the network libraries' paragraphs."""
    import requests
    from urllib3.exceptions import HTTPError, ReadTimeoutError

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return f"no answer for {timeout:g} s (after {_size(part)} of {archive.size} bytes)"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, HTTPError):
        return f"broke off after {_size(part)} of {archive.size} bytes"
    if "does not match the known hash" in str(error):
        return "another file than the official one (its SHA-256 differs)"
    return str(error)


def unpack(path: Path, files: tuple[File, ...], folder: Path) -> None:
    """Write the named files of a .tar.gz into ``folder``, each at once and only if it is right.

    Wanted are the regular members ``FOLDER/NAME`` with FOLDER the name of ``folder``; whatever else
    the archive holds is passed over, and it may not be much.

    Raises:
        ValueError: a member of another kind, size or SHA-256, too much else, one missing, or a
            damaged archive.
    """
    wanted = {f"{folder.name}/{file.name}": file for file in files}
    folder.mkdir(parents=True, exist_ok=True)
    most = sum(file.size for file in files) + SLACK
    try:
        with _Bounded(path, most) as raw, tarfile.open(fileobj=raw, mode="r|") as tar:
            for member in tar:
                if file := wanted.pop(member.name, None):
                    _write(tar, member, file, folder)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it and fetch it again") from error
    if wanted:
        raise ValueError(f"{path} lacks {', '.join(wanted)}")


class _Bounded(gzip.GzipFile):
    """A gzip file with a limit on the bytes that come out of it altogether."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(path, "rb")
        self.left = self.most = most

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(min(self.left + 1, size) if size and size > 0 else self.left + 1)
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"the archive unpacks to more than the {self.most} bytes expected")
        return data


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, file: File, folder: Path) -> None:
    stream = tar.extractfile(member) if member.isreg() and member.size == file.size else None
    if stream is None:
        raise ValueError(
            f"{member.name} must be a regular file of {file.size} bytes, "
            f"got type {member.type!r} of {member.size} bytes"
        )

    def copy(out: BinaryIO) -> None:
        digest = hashlib.sha256()
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            out.write(chunk)
        if digest.hexdigest() != file.sha256:
            raise ValueError(f"{member.name} must have SHA-256 {file.sha256}, got another")

    write_atomically(folder / file.name, copy)
