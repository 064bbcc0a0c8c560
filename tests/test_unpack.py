"""Archives: known members are unpacked, and no archive can make anything else happen."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from mirrors import Server, sha256

from diffusion_edu.data.download import SLACK, fetch, unpack
from diffusion_edu.data.formats import parse_mnist
from diffusion_edu.data.sources import Archive, File, Source

A, B = b"a" * 700_000, bytes(range(256)) * 2000
FILES = tuple(File(name, len(data), sha256(data)) for name, data in (("a.bin", A), ("b.bin", B)))


def member(name: str, data: bytes = b"", **fields) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar_gz(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=1) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def everything(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


GOOD = (member("set/a.bin", A), member("set/b.bin", B))


def test_tar_is_fetched_and_unpacked(tmp_path, monkeypatch):
    """The members wanted are unpacked byte for byte, the rest is not; the archive goes, ours only.

    An archive put there by hand is used without a connection, and stays.
    """
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    packed = tar_gz(member("set/readme.html", b"hello"), *GOOD)
    server.files["set.tar.gz"] = packed
    url = f"{server.base}/third/set.tar.gz"
    archive = Archive("set.tar.gz", len(packed), sha256(packed), (url,), FILES)
    source = Source("set", ("set",), (1, 1, 1), (), {"train": (0, FILES)}, (archive,), parse_mnist)
    assert fetch(source, tmp_path / "1") == tmp_path / "1" / "set"
    found = everything(tmp_path / "1")
    found.pop(".set.lock", None)
    assert found == {"set/a.bin": A, "set/b.bin": B}
    server.log.clear()
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "set.tar.gz").write_bytes(packed)
    fetch(source, tmp_path / "2")
    assert server.log == []
    assert set(everything(tmp_path / "2")) - {".set.lock"} == {
        *("set.tar.gz", "set/a.bin", "set/b.bin")
    }
    (tmp_path / "2" / "set" / "b.bin").unlink()
    fetch(source, tmp_path / "2")
    server.close()
    assert (tmp_path / "2" / "set" / "b.bin").read_bytes() == B


def test_paths_in_the_archive_are_never_used(tmp_path):
    """Members with .. or absolute paths, links and devices write nothing outside, or anywhere."""
    target = tmp_path / "deep" / "set"
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched")
    evil = (
        member("../outside", b"evil"),
        member("set/../../outside", b"evil"),
        member(str(outside), b"evil"),
        member("set", type=tarfile.SYMTYPE, linkname=str(tmp_path)),
        member("set/c.bin", type=tarfile.LNKTYPE, linkname=str(outside)),
        member("set/pipe", type=tarfile.FIFOTYPE),
        member("./set/a.bin", b"evil"),
    )
    path = tmp_path / "x.tar.gz"
    path.write_bytes(tar_gz(*evil, *GOOD))
    unpack(path, FILES, target)
    found = everything(tmp_path)
    found.pop("x.tar.gz")
    assert found == {"outside": b"untouched", "deep/set/a.bin": A, "deep/set/b.bin": B}
    assert not target.is_symlink()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ((member("set/a.bin", type=tarfile.SYMTYPE, linkname="/etc/passwd"), GOOD[1]), "regular"),
        ((member("set/a.bin", type=tarfile.LNKTYPE, linkname="set/b.bin"), GOOD[1]), "regular"),
        ((member("set/a.bin", A, type=tarfile.SYMTYPE, linkname="b"), GOOD[1]), "regular"),
        ((member("set/a.bin", A[:-1]), GOOD[1]), "of 700000 bytes"),
        ((member("set/a.bin", A[:-1] + b"b"), GOOD[1]), "SHA-256"),
        ((GOOD[0],), "lacks set/b.bin"),
        ((member("set/a.bin", A), member("other/b.bin", B)), "lacks set/b.bin"),
        ((member("bomb", bytes(150_000_000)), *GOOD), "unpacks to more than"),
        ((*(member(f"{k}", bytes(SLACK // 4)) for k in range(5)), *GOOD), "unpacks to more than"),
    ],
)
def test_wrong_members(tmp_path, members, message):
    """Another kind, size or content, too few or too much: ValueError, and no wrong file stays."""
    path = tmp_path / "x.tar.gz"
    path.write_bytes(tar_gz(*members))
    with pytest.raises(ValueError, match=message):
        unpack(path, FILES, tmp_path / "set")
    found = everything(tmp_path / "set")
    assert set(found.items()) <= {("a.bin", A), ("b.bin", B)}


@pytest.mark.parametrize("cut", [0, 5, 100, 1000, 4000])
def test_damaged_archive(tmp_path, cut):
    """An archive cut short is a ValueError that names it, and no half of a file stays."""
    path = tmp_path / "x.tar.gz"
    path.write_bytes(tar_gz(*GOOD)[:cut])
    with pytest.raises(ValueError, match=r"x\.tar\.gz is damaged"):
        unpack(path, FILES, tmp_path / "set")
    assert set(everything(tmp_path / "set").items()) <= {("a.bin", A), ("b.bin", B)}


def test_not_an_archive(tmp_path):
    """Other bytes, and gzip of other bytes, are a ValueError."""
    path = tmp_path / "x.tar.gz"
    for content in (b"<html>", gzip.compress(b"not a tar" * 999), gzip.compress(b"")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged|lacks"):
            unpack(path, FILES, tmp_path / "set")
