"""Downloads: whatever mirrors do, what counts is whole and right, or there is one clear message."""

import gzip
import io
import multiprocessing
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from mirrors import Server, mini
from typer.testing import CliRunner

from diffusion_edu.data import images
from diffusion_edu.data.commands import app
from diffusion_edu.data.download import fetch
from diffusion_edu.data.files import State, state
from diffusion_edu.data.sources import SOURCES, Archive, Source


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


def complete(source: Source, folder: Path) -> bool:
    """Everything is there and official, and nothing else is."""
    files = [file for archive in source.archives for file in archive.files]
    right = all(state(folder, file) is State.official for file in files)
    return right and len(list(folder.iterdir())) == len(files)


def go(source: Source, root: Path, **options) -> Path:
    return fetch(source, root, timeout=0.4, **options)


def test_fetched_once(server, tmp_path):
    """Fetched files are those served, byte for byte; a second fetch asks the server nothing."""
    source = mini(server, "good", "missing")
    folder = go(source, tmp_path)
    assert folder == tmp_path / "mini"
    assert complete(source, folder)
    for archive in source.archives:
        assert (tmp_path / archive.path).read_bytes() == server.files[archive.name]
    assert server.modes() == ["good", "good"]
    assert go(source, tmp_path) == folder
    assert len(server.log) == 2


@pytest.mark.parametrize(
    ("mode", "requests"),
    [
        ("missing", 1),
        ("broken", 1),
        ("portal", 1),
        ("corrupt", 1),
        ("silent", 2),
        ("endless", None),
        ("stall", 2),
    ],
)
def test_next_mirror(server, tmp_path, mode, requests):
    """Whatever the first mirror does wrong, the second one's file is what counts."""
    source = mini(server, mode, "good")
    assert complete(source, go(source, tmp_path))
    asked = server.modes("images.gz")
    assert asked[-1] == "good"
    if requests is not None:
        assert asked[:-1] == [mode] * requests


def test_endless_is_hung_up_on(server, tmp_path):
    """Never more than the known size is written, whatever the server sends."""
    source = mini(server, "endless")
    with pytest.raises(ConnectionError, match="sends more than"):
        go(source, tmp_path)
    sizes = [path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()]
    assert max(sizes) <= source.archives[0].size


def test_resumed_by_range(server, tmp_path):
    """An answer cut off is completed by requests for the rest: bytes k.. where k were received."""
    source = mini(server, "third")
    assert complete(source, go(source, tmp_path))
    step = source.archives[0].size // 3 + 1
    ranges = [asked for _, name, asked in server.log if name == "images.gz"]
    assert ranges == [None, f"bytes={step}-", f"bytes={2 * step}-"]


def test_resumed_on_another_mirror(server, tmp_path):
    """A mirror that breaks off is given up after five tries; the next one sends only the rest."""
    source = mini(server, "half", "good")
    assert complete(source, go(source, tmp_path))
    asked = [(mode, r) for mode, name, r in server.log if name == "images.gz"]
    assert [mode for mode, _ in asked] == ["half"] * 5 + ["good"]
    assert all(r is not None for _, r in asked[1:])


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_bar(server, tmp_path, monkeypatch, terminal):
    """A terminal sees the archive's name and 100%; a pipe or a log file sees no bar."""
    screen = io.StringIO()
    screen.isatty = lambda: terminal
    monkeypatch.setattr("sys.stderr", screen)
    go(mini(server, "third"), tmp_path)
    assert ("images.gz: 100%" in screen.getvalue()) == terminal
    assert ("%" in screen.getvalue()) == terminal


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("norange", [("norange", "bytes=1000-")]),
        ("elsewhere", [("elsewhere", "bytes=1000-"), ("good", "bytes=1000-")]),
    ],
)
def test_range_not_understood(server, tmp_path, mode, expected):
    """The whole file instead of a range replaces what was there; another range is not even read."""
    source = mini(server, mode, "good")
    part = tmp_path / "mini" / "images.gz.part"
    part.parent.mkdir()
    part.write_bytes(server.files["images.gz"][:1000])
    assert complete(source, go(source, tmp_path))
    asked = [(mode, r) for mode, name, r in server.log if name == "images.gz"]
    assert asked == expected


@pytest.mark.parametrize("have", [10, -1, 0, 5])
def test_wrong_start_is_thrown_away(server, tmp_path, have):
    """Wrong bytes from an earlier day (fewer, as many or more than the file) do no lasting harm."""
    source = mini(server, "good")
    size = source.archives[0].size
    part = tmp_path / "mini" / "images.gz.part"
    part.parent.mkdir()
    part.write_bytes(bytes(have if have == 10 else size + have))
    assert complete(source, go(source, tmp_path))
    assert server.log[-2][:2] == ("good", "images.gz")
    assert server.log[-2][2] is None


def test_one_clear_message(server, tmp_path):
    """All mirrors down: what was tried and why not, where files go by hand, and digits."""
    source = mini(server, "missing", "corrupt", "stall")
    dead = Archive(
        **{
            **source.archives[0].__dict__,
            "urls": (*source.archives[0].urls, "http://127.0.0.1:9/x"),
        }
    )
    source = Source(**{**source.__dict__, "archives": (dead, source.archives[1])})
    with pytest.raises(ConnectionError) as caught:
        go(source, tmp_path)
    text = str(caught.value)
    for part in (
        f"{server.base}/missing/images.gz: 404 Not Found",
        f"{server.base}/corrupt/images.gz: another file than the official one",
        f"{server.base}/stall/images.gz: no answer for 0.4 s (after ",
        "http://127.0.0.1:9/x: no connection",
        f"images.gz, labels.gz into {tmp_path / 'mini'}",
        "DIFFUSION_EDU_DATA",
        "'digits' needs no download",
    ):
        assert part in text
    assert not (tmp_path / "mini" / "images.gz").exists()
    assert server.modes("labels.gz") == []


def test_by_hand(server, tmp_path):
    """Right files put in place by hand, plain or gz, in either folder, need no connection."""
    source = mini(server, "missing")
    for k, (folder, packed) in enumerate([("mini", True), ("mini", False), ("MINI/raw", False)]):
        root = tmp_path / str(k)
        (root / folder).mkdir(parents=True)
        for archive in source.archives:
            data = server.files[archive.name]
            name = archive.name if packed else archive.files[0].name
            (root / folder / name).write_bytes(data if packed else gzip.decompress(data))
        assert go(source, root) == root / folder
    assert server.log == []


def test_nothing_is_replaced_unasked(server, tmp_path):
    """Files with another content stay unless overwrite=True; those that are right are kept."""
    source = mini(server, "good")
    path = tmp_path / "mini" / "images.gz"
    path.parent.mkdir()
    for content in (b"mine", gzip.compress(bytes(source.archives[0].files[0].size))):
        path.write_bytes(content)
        with pytest.raises(FileExistsError, match=r"images with another content .*overwrite"):
            go(source, tmp_path)
        assert path.read_bytes() == content
    assert server.log == []
    assert complete(source, go(source, tmp_path, overwrite=True))


def test_damaged_plain_file_does_not_hide_the_download(server, tmp_path):
    """After overwrite=True the official content is what is read, whatever lies beside it."""
    source = mini(server, "good")
    plain = tmp_path / "mini" / "labels"
    plain.parent.mkdir()
    plain.write_bytes(b"damaged")
    folder = go(source, tmp_path, overwrite=True)
    assert state(folder, source.archives[1].files[0]) is State.official


def test_killed_half_way(server, tmp_path):
    """SIGKILL during a download leaves no file under its name; the next fetch asks for the rest."""
    source = mini(server, "stall")
    process = multiprocessing.get_context("spawn").Process(target=fetch, args=(source, tmp_path))
    process.start()
    part = tmp_path / "mini" / "images.gz.part"
    deadline = time.monotonic() + 60
    while not (part.is_file() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.join()
    assert not (tmp_path / "mini" / "images.gz").exists()
    have = part.stat().st_size
    assert 0 < have < source.archives[0].size
    assert go(mini(server, "good"), tmp_path) == tmp_path / "mini"
    assert ("good", "images.gz", f"bytes={have}-") in server.log
    assert state(tmp_path / "mini", source.archives[0].files[0]) is State.official


def test_at_once(server, tmp_path):
    """Four callers at once: each archive is asked for once, all get the same whole folder."""
    source = mini(server, "slow")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(go(source, tmp_path))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "mini"] * 4
    assert server.modes() == ["slow", "slow"]


def test_read_only(server, tmp_path, monkeypatch):
    """A data directory that cannot be written to: PermissionError that names the way out."""

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", str(tmp_path / "mini"))

    monkeypatch.setattr(Path, "mkdir", refuse)  # root may write anywhere: chmod would not do
    with pytest.raises(PermissionError, match="DIFFUSION_EDU_DATA"):
        go(mini(server, "good"), tmp_path / "new")


def test_load_fetches_what_is_missing(server, tmp_path, monkeypatch):
    """images.load of an absent set downloads it and gives the pixels served, official."""
    source = mini(server, "missing", "good")
    monkeypatch.setitem(SOURCES, "mini", source)
    monkeypatch.setenv("DIFFUSION_EDU_DATA", str(tmp_path))
    data = images.load("mini")
    assert data.official
    served = gzip.decompress(server.files["images.gz"])[16:]
    assert data.images.numpy().tobytes() == served
    assert (
        data.labels.numpy().astype(np.uint8).tobytes()
        == gzip.decompress(server.files["labels.gz"])[8:]
    )


def test_command_line(server, tmp_path, monkeypatch):
    """fetch prints the folder; verify says official, and exits with 1 after a byte is changed."""
    source = mini(server, "good")
    monkeypatch.setitem(SOURCES, "mini", source)
    run = CliRunner().invoke
    fetched = run(app, ["fetch", "mini", "digits", "--root", str(tmp_path)])
    assert fetched.exit_code == 0
    assert f"mini: {tmp_path / 'mini'}" in fetched.output
    verified = run(app, ["verify", "mini", "--root", str(tmp_path)])
    assert verified.exit_code == 0
    path = tmp_path / "mini" / "labels.gz"
    path.write_bytes(path.read_bytes()[:-3])
    verified = run(app, ["verify", "--root", str(tmp_path)])
    assert verified.exit_code == 1
    assert "labels: damaged" in verified.output
    assert isinstance(run(app, ["fetch", "mini", "--root", str(tmp_path)]).exception, OSError)
    again = run(app, ["fetch", "mini", "--overwrite", "--root", str(tmp_path)])
    assert again.exit_code == 0
    assert complete(source, tmp_path / "mini")
