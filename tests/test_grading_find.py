"""Who has a row in a class: copies, several entries of one student, links, and what is none."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from grading_dresses import packed

from diffusion_edu.grading.submissions import Submission, find


def one(folder: Path, key: str = "E2") -> Submission:
    (found,) = find([folder], key)
    return found


@pytest.mark.parametrize(
    "copy", ["E2 (1).ipynb", "E2-Copy1.ipynb", "E2-Copy2.ipynb", "E2(3).ipynb"]
)
def test_a_copy_is_not_graded_in_place_of_the_original(tmp_path, copy):
    own = tmp_path / "ann"
    own.mkdir()
    (own / copy).write_text("old")
    assert one(tmp_path).file == copy
    (own / "E2_longer.ipynb").write_text("new")
    assert one(tmp_path).file == "E2_longer.ipynb"
    assert f"E2_longer.ipynb was graded; not {copy}" in one(tmp_path).notes


def test_what_a_platform_exports_under_one_number_is_one_students(tmp_path):
    """As a folder and as an archive; the second entry would be a 0 for who has the number."""
    names = ["leeann_2001_30001_E2.ipynb", "leeann_LATE_2001_30002_utils.py"]
    names += ["Ann Lee_1001_assignsubmission_file_/E2.ipynb", "bob.py"]
    names += ["Ann Lee_1001_assignsubmission_onlinetext_/onlinetext.html"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    archive = tmp_path.parent / "export.zip"
    archive.write_bytes(packed(*((name, name) for name in names)))
    for place in (tmp_path, archive):
        found = {s.id: s for s in find([place], "E2")}
        assert list(found) == ["Ann Lee", "bob", "leeann"]
        assert found["leeann"].data == names[0].encode()
        assert found["Ann Lee"].data == names[2].encode()
        assert (found["leeann"].platform_id, found["Ann Lee"].platform_id) == ("2001", "1001")
        assert not any(s.reason for s in found.values())


def test_several_places_are_one_class(tmp_path):
    """A platform's number is one student's wherever it lies; a name may be that of two."""
    for name in ("a/ann.py", "b/ann.py", "a/bob_7_30001_E2.py", "b/bob_7_30002_notes.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "report.pdf").write_text("x")
    found = find([tmp_path / "a", tmp_path / "b", tmp_path / "report.pdf"], "E2")
    assert [s.id for s in found] == ["ann", "bob", "ann (2)", "report"]
    assert "but .pdf" in found[3].reason


def test_links_neither_hide_a_student_nor_stop_the_class(tmp_path):
    """One that turns in a circle, and one to the folder of the reports, are rows."""
    (tmp_path / "out").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "bob").symlink_to(tmp_path / "out")
    found = {s.id: s.reason for s in find([tmp_path], "E2", leave=tmp_path / "out")}
    assert set(found) == {"loop", "bob"}
    assert all("symbolic link" in reason for reason in found.values())


def test_a_class_is_read_one_student_at_a_time(tmp_path):
    """What lies beside the notebooks of all is never in memory at once."""
    for i in range(12):
        (tmp_path / f"s{i}").mkdir()
        (tmp_path / f"s{i}" / "E2.py").write_text("x = 1")
        (tmp_path / f"s{i}" / "data.zip").write_bytes(os.urandom(4 << 20))
    tracemalloc.start()
    found = find([tmp_path], "E2")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [s.data for s in found] == [b"x = 1"] * 12
    assert peak < 34 << 20  # a buffer for the largest file, and one student's


def test_reports_are_no_student_and_other_archives_no_class(tmp_path):
    (tmp_path / "ann.py").write_text("x = 1")
    (tmp_path / "grades" / "rows").mkdir(parents=True)
    assert [s.id for s in find([tmp_path], "E2", leave=tmp_path / "grades")] == ["ann"]
    other = tmp_path.parent / "class.tar.gz"
    other.write_bytes(b"")
    with pytest.raises(ValueError, match=r"class\.tar\.gz is no folder, .* unpack"):
        find([other], "E2")
