"""Archives of students and exports of learning platforms: every rule, and what breaks it."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from grading_dresses import packed

from diffusion_edu.exercises import extract
from diffusion_edu.grading import submissions
from diffusion_edu.grading.submissions import find, members


def test_archives_of_students(tmp_path):
    (tmp_path / "ann.zip").write_bytes(packed(("E2.ipynb", "one"), ("__MACOSX/._E2.ipynb", "x")))
    (tmp_path / "bob").mkdir()
    (tmp_path / "bob" / "work.ZIP").write_bytes(packed(("d/", ""), ("d/E2.py", "two")))
    (tmp_path / "cyd.zip").write_bytes(packed(("inner.zip", packed(("E2.py", "three")))))
    (tmp_path / "dan.zip").write_bytes(b"no archive")
    found = find([tmp_path], "E2")
    assert [(s.id, s.data) for s in found[:2]] == [("ann", b"one"), ("bob", b"two")]
    assert "but .zip" in found[2].reason
    assert "cannot be read" in found[3].reason


def test_an_export_gives_everybody_a_row(tmp_path):
    bomb = b"#" * 10_000_000
    files = [
        *[("ann_12_34_E2.ipynb", "one"), ("Bob Ray_5_assignsubmission_file/E2.py", "two")],
        ("Bob Ray_5_assignsubmission_file/report.pdf", "x"),
        *[("cyd.zip", packed(("E2.py", "three"))), ("dan_1_2_E2.pdf", "x"), ("eve.py", bomb)],
        *[("__MACOSX/ann.py", "x"), (".DS_Store", "x"), ("../fay.py", "x"), ("/etc/gus.py", "x")],
    ]
    path = tmp_path / "export.zip"
    path.write_bytes(packed(*files))
    rows = {s.id: s for s in find([path], "E2")}
    assert list(rows) == ["Bob Ray", "ann", "cyd", "dan", "eve"]
    assert [s.data for s in rows.values()] == [b"two", b"one", b"three", b"", b""]
    assert (rows["ann"].platform_id, rows["Bob Ray"].platform_id) == ("12", "5")
    assert "but .pdf" in rows["dan"].reason
    assert "more than 200 times" in rows["eve"].reason
    outside = [note for s in rows.values() for note in s.notes if "out of the archive" in note]
    assert len(outside) == 2
    path.write_bytes(packed(*((f"class/{name}", data) for name, data in files[:3])))
    assert [s.id for s in find([path], "E2")] == ["Bob Ray", "ann"]
    path.write_bytes(packed(files[1]))
    assert [s.id for s in find([path], "E2")] == ["Bob Ray"]


def changed(data, name, **fields):
    """An archive whose headers say something else of one entry."""
    archive = bytearray(data)
    places = {"flags": (8, "<H"), "method": (10, "<H"), "crc": (16, "<I"), "size": (24, "<I")}
    at = archive.index(b"PK\1\2")
    while archive[at + 46 : at + 46 + len(name)] != name.encode():
        at = archive.index(b"PK\1\2", at + 1)
    for field, value in fields.items():
        offset, kind = places[field]
        struct.pack_into(kind, archive, at + offset, value)
    return bytes(archive)


def link(name, target):
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(entry, target)
        archive.writestr("b.py", "x = 1")
    return file.getvalue()


TWO = packed(("a.py", "y = 1" * 100), ("b.py", "x = 1"))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        *[(packed((n, "y"), ("b.py", "x = 1")), "out of the arch") for n in ("../a.py", "/a.py")],
        *[
            (packed((n, "y"), ("b.py", "x = 1")), "out of the arch")
            for n in ("C:/a.py", "..\\a.py")
        ],
        (packed(("x/../../a.py", "y"), ("b.py", "x = 1")), "out of the archive"),
        (link("a.py", "/etc/passwd"), "a link or a device"),
        (changed(TWO, "a.py", flags=1), "encrypted"),
        (changed(TWO, "a.py", size=1 << 30), "1,024 MiB; at most 20"),
        (packed(("a.py", "#" * 1_000_000), ("b.py", "x = 1")), "more than 200 times its size"),
        (changed(TWO, "a.py", crc=7), "damaged"),
        (changed(TWO, "a.py", method=12), "unusual"),
        (changed(TWO, "a.py", method=99), "unusual"),
    ],
)
def test_entries_that_are_left_out(data, why):
    first, second = members(data)
    assert first[1] == b""
    assert why in first[2]
    assert second == ("b.py", b"x = 1", "")


def test_limits_of_an_archive(monkeypatch):
    monkeypatch.setattr(submissions, "MOST_ENTRIES", 3)
    with pytest.raises(ValueError, match="4 entries; at most 3"):
        members(packed(*((f"{i}.py", "x") for i in range(4))))
    monkeypatch.setattr(submissions, "MOST_UNPACKED", 250)
    with pytest.raises(ValueError, match="unpacks to more"):
        members(packed(*((f"{i}.py", b"0123456789" * 10) for i in range(3))))


def test_limits_are_those_of_one_student(tmp_path, monkeypatch):
    """A class may be of any size, and behind a link; who has too much gets a row that says so."""
    monkeypatch.setattr(submissions, "MOST_ENTRIES", 3)
    monkeypatch.setattr(submissions, "MOST_UNPACKED", 250)
    files = [(f"{who}/{i}.py", b"0123456789" * 8) for who in "abc" for i in range(3)]
    files += [(f"d/{i}.py", b"x") for i in range(4)] + [(f"e/{i}.py", bytes(90)) for i in range(3)]
    (tmp_path / "class.zip").write_bytes(packed(*files))
    (tmp_path / "link.zip").symlink_to(tmp_path / "class.zip")
    found = {s.id: s.reason for s in find([tmp_path / "link.zip"], "E2")}
    assert [found[who] for who in "abc"] == ["", "", ""]
    assert "4 entries; at most 3" in found["d"]
    assert "unpacks to more" in found["e"]


def test_a_header_that_lies_does_not_unpack_everything():
    """500 MB of zeros that claim to be 10 bytes are never in memory at once."""
    import tracemalloc

    data = packed(("a.py", bytes(300 << 20)))
    tracemalloc.start()
    found = members(changed(data, "a.py", size=10))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[0][1] == b""
    assert peak < 60 << 20
    assert extract.MOST_BYTES == submissions.MOST_BYTES
