"""The published networks of CIFAR-10, by name: fetched or found, checked, read.

What is known of the files, and what is not:

* google/ddpm-cifar10-32 is at the address below, at a fixed revision. It holds the weights as
  trained, not their moving average.
* google/ddpm-ema-cifar10-32 is what one would call the moving average that the paper's FID is of.
  No repository of that name was found: the source is a release by others, converted to the same
  layout, in a .zip.
* The SHA-256 of neither is known to this library. Of the first, the revision has a pointer that
  states it (see ``pointer``), so that one is downloaded and compared with it. This makes sure of a
  whole, unchanged file as that server names it for that revision. It is no independent checksum: a
  server that lies about the pointer can lie about the file. A config.json beside it is fetched too;
  nothing states its checksum, but the loader refuses every field it does not know.
* Of the second nothing states it. Bytes that cannot be checked are not fetched: ``published`` says
  where to get them and where to put them.

Once there, neither may change: the SHA-256 seen first is written beside the file and compared at
every call, without any network. That guards against damage and later exchange, not against having
got the wrong file; pass ``sha256=`` if you have it from a source you trust. Either way only
.safetensors are opened, which cannot run code.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from .._checks import check_choice
from .._files import write_atomically
from ..schedules import Schedule, linear
from .pointer import Pointer, fetch_object, fetch_pointer
from .published import WEIGHTS, load_diffusers
from .unet import UNet

__all__ = ["ENTRIES", "NAMES", "Entry", "PublishedInfo", "published"]


@dataclass(frozen=True)
class Entry:
    """What is known of published weights before they are here.

    Attributes:
        urls: where they are. Fetched from there, in this order, if ``sha256`` or ``pointer`` is
            known.
        page: where to read about them, and get them by hand.
        licence: as the page states it.
        fid: on CIFAR-10, as ``fid_source`` says.
        size, sha256: of the .safetensors file; None: not known.
        pointer: where a pointer file states both (see ``pointer``); a config.json may lie beside
            it. None: there is none.
    """

    urls: tuple[str, ...]
    page: str
    licence: str
    fid: float
    fid_source: str
    size: int | None = None
    sha256: str | None = None
    pointer: str | None = None


_GOOGLE = "https://huggingface.co/google/ddpm-cifar10-32"
_REVISION = "267b167dc01f0e4e61923ea244e8b988f84deb80"
_ZIP = "https://github.com/VainF/Diff-Pruning/releases/download/v0.0.1/ddpm_ema_cifar10.zip"

ENTRIES: dict[str, Entry] = {
    "google/ddpm-cifar10-32": Entry(
        urls=(f"{_GOOGLE}/resolve/{_REVISION}/{WEIGHTS}",),
        page=f"{_GOOGLE}/tree/{_REVISION}",
        licence="Apache-2.0",
        fid=12.44,
        fid_source="measured by a user (discussion 10 of the page); weights not averaged",
        pointer=f"{_GOOGLE}/raw/{_REVISION}/{WEIGHTS}",
    ),
    "google/ddpm-ema-cifar10-32": Entry(  # a name for what has none: see the top of this file
        urls=(_ZIP,),
        page="https://github.com/VainF/Diff-Pruning",
        licence="Apache-2.0",
        fid=3.17,
        fid_source="2006.11239, table 1, for the original of these averaged weights; of this "
        "file others report about 4.5 (DDIM, 100 steps)",
    ),
}
NAMES = tuple(ENTRIES)


@dataclass(frozen=True)
class PublishedInfo:
    """What is known of published weights that have been read.

    Attributes:
        name: as given to ``pretrained``.
        path: the .safetensors file.
        sha256: of it.
        checked: what that was compared with: "published" or "argument" for a SHA-256 known before,
            "pointer" for the one its revision states, when it is downloaded by that, "record" for
            the one of the first use, "nothing" at that first use.
        urls, licence, fid, fid_source: see ``Entry``.
        data, shape, pad: what the network is for: images (C, H, W) of that data set.
        official: trained on the published files of the data set, as its page says.
    """

    name: str
    path: Path
    sha256: str
    checked: str
    urls: tuple[str, ...]
    licence: str
    fid: float
    fid_source: str
    data: str = "cifar10"
    shape: tuple[int, ...] = (3, 32, 32)
    pad: int = 0
    official: bool = True


def published(
    name: str, root: str | Path | None = None, *, sha256: str | None = None, timeout: float = 30.0
) -> tuple[UNet, Schedule, PublishedInfo]:
    """A published network in eval mode, the schedule it was trained with, and what is known of it.

    Args:
        name: one of ``NAMES``.
        root: data directory (see ``location.data_dir``); the file is kept below ``weights/``.
        sha256: what the file must have, in hexadecimal; default: see the top of this module.
        timeout: seconds without a single byte after which a mirror is given up.

    Raises:
        ConnectionError: it is not there and could not be fetched; the message says what to do.
        ValueError: unknown name; the file is another one than before, or than ``sha256`` says; or
            it is no network for images with 3 channels.
        FileExistsError: it is there, but is not the published one.
    """
    from ..data.location import data_dir

    check_choice(name, ENTRIES, "published network")
    entry, base = ENTRIES[name], data_dir(root).resolve()
    path = base / _place(name)
    pointed = _obtain(name, entry, base, timeout)
    found, checked = _check(path, entry.sha256, sha256)
    if pointed and checked in ("record", "nothing"):
        checked = "pointer"
    model = load_diffusers(path.parent)
    if model.config.image_channels != 3:
        raise ValueError(
            f"{path} must be a network for images with 3 channels, got one for "
            f"{model.config.image_channels}"
        )
    if entry.sha256 is None:
        _remember(path, found)
    facts = entry.urls, entry.licence, entry.fid, entry.fid_source
    info = PublishedInfo(name, path, found, checked, *facts)
    return model.requires_grad_(False), linear(1000), info


def _obtain(name: str, entry: Entry, base: Path, timeout: float) -> bool:
    """See to it that the file is there; True if it was fetched as its pointer says."""
    path = base / _place(name)
    if entry.sha256 is not None and entry.size is not None:
        _fetch(name, entry, Pointer(entry.size, entry.sha256), base, timeout)
        return False
    if path.is_file():
        return False
    if entry.pointer is None:
        raise ConnectionError(
            f"{name} is not here, and is not downloaded: its SHA-256 is not known to this library, "
            f"so what arrives could not be checked.\n{_advice(entry, path)}"
        )
    try:
        known = fetch_pointer(entry.pointer, timeout)
        _fetch_config(path.with_name("config.json"), entry.pointer, base, timeout)
    except (ConnectionError, FileNotFoundError) as error:
        raise ConnectionError(
            f"{name} could not be downloaded:\n  {error}\n{_advice(entry, path)}"
        ) from error
    _fetch(name, entry, known, base, timeout)  # last: a crash leaves no weights without the rest
    return True


def _fetch_config(path: Path, pointer: str, base: Path, timeout: float) -> None:
    """The config.json beside the pointer, if there is one there and none here."""
    from ..data.download import writable

    if path.is_file():
        return
    data = fetch_object(f"{pointer.rpartition('/')[0]}/{path.name}", timeout)
    if data is not None:
        with writable(base):
            write_atomically(path, data)


def _place(name: str) -> str:
    return f"weights/{name.replace('/', '--')}/{WEIGHTS}"


def _fetch(name: str, entry: Entry, known: Pointer, base: Path, timeout: float) -> None:
    """The file of that size and SHA-256, from the first of the entry's addresses that has it."""
    from ..data.download import fetch_file
    from ..data.sources import Archive, File

    file = File(WEIGHTS, known.size, known.sha256)
    archive = Archive(_place(name), known.size, known.sha256, entry.urls, (file,))
    fetch_file(archive, base, _advice(entry, base / _place(name)), timeout)


def _advice(entry: Entry, path: Path) -> str:
    """How to get the file by hand."""
    from ..data.location import ENV

    return (
        f"By hand: get {' or '.join(entry.urls)} (see {entry.page}), put {WEIGHTS} into "
        f"{path.parent}, with its config.json if there is one, then ask again. If there is only a "
        ".bin file (a pickle, never opened here), convert it in the environment you trust it in: "
        f"diffusers.UNet2DModel.from_pretrained(FOLDER).save_pretrained({str(path.parent)!r}). "
        f"Another data directory: set {ENV}."
    )


def _check(path: Path, official: str | None, wanted: str | None) -> tuple[str, str]:
    """SHA-256 of the file, and what it was compared with. ValueError if it is another."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if wanted is not None and found != wanted.strip().lower():
        raise ValueError(
            f"{path} must have the SHA-256 {wanted} (sha256=), got {found}: get the file again"
        )
    if official is not None:  # compared when it was fetched or found
        return found, "published"
    record = _record(path)
    known = record.read_text().split()[:1] if record.is_file() else []
    if known and known != [found]:
        raise ValueError(
            f"{path} has changed: its SHA-256 was {known[0]} at first use and is {found} now. Get "
            f"the file again, or delete {record.name} beside it if the change is yours"
        )
    return found, "argument" if wanted is not None else "record" if known else "nothing"


def _remember(path: Path, sha256: str) -> None:
    """Write the record that later uses are compared with, as sha256sum would, unless there is one.

    Only of a file that could be read as a network: a mistake is not worth remembering.
    """
    if not _record(path).is_file():
        write_atomically(_record(path), f"{sha256}  {path.name}\n".encode())


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
