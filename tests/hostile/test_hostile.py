"""Hostile submissions beside honest ones: nothing gets out, nothing stays, every row tells why."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from attack import Attack
from attacks_cheating import CHEATING
from attacks_inside import INSIDE
from attacks_reach import REACHING_OUT
from attacks_resources import ON_RESOURCES
from parcels import PARCELS, Parcel
from place import Arena

from diffusion_edu.exercises.build import full_source, source
from diffusion_edu.grading.defences import OPEN, policy
from diffusion_edu.grading.grading import Task, grade
from diffusion_edu.grading.pages import student_page
from diffusion_edu.grading.servers import MAIN
from diffusion_edu.grading.submissions import Submission

needs_walls = pytest.mark.skipif(policy().level != "strict", reason="no Landlock or seccomp here")
ATTACKS = [*ON_RESOURCES, *CHEATING, *REACHING_OUT, *INSIDE]
NAIVE = Path(__file__).with_name("naive.py")
HONEST = {
    "right": ("", ""),
    "other_power": ("torch.sqrt(kept) * x0", "kept**0.5 * x0"),
    "other_order": ("return torch.sqrt(kept) * x0 +", "return x0 * torch.sqrt(kept) +"),
    "other_name": ("kept", "abar"),
    "with_print": ('"""x_t (B, ...) from x0', 'print("hello")\n    """x_t (B, ...) from x0'),
    "variance": ("torch.sqrt(1 - kept) * eps", "(1 - kept) * eps"),
    "one_step": ("sch.alpha_bar[t]", "sch.alpha[t]"),
    "swapped": ("torch.sqrt(kept) * x0 + torch.sqrt(1 - kept)", "(1 - kept)**0.5 * x0 + kept**0.5"),
    "sum": ("torch.cumprod(1.0 - beta, dim=0)", "1 - torch.cumsum(beta, dim=0)"),
    "raises": ("return signal /", "return undefined /"),
}


def write_honest(folder: Path) -> None:
    text = full_source(source("E2"))
    for name, (old, new) in HONEST.items():
        assert old in text
        (folder / f"honest_{name}.py").write_text(text.replace(old, new) if old else text)


def run_grader(folder: Path, out: Path) -> dict[str, Any]:
    """The command an instructor types."""
    command = [sys.executable, "-m", "diffusion_edu", "grade", str(folder), "-e", "E2"]
    options = ["--secret", "s", "--jobs", "2", "--out", str(out)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "grades.json").read_text())


@pytest.fixture(scope="module")
def graded(arena: Arena, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Rows by id of hostile and honest submissions graded together, and what was left."""
    folder, out = tmp_path_factory.mktemp("class"), tmp_path_factory.mktemp("out")
    write_honest(folder)
    for attack in ATTACKS:
        (folder / f"{attack.name}.py").write_text(arena.script(attack))
    for parcel in PARCELS:
        parcel.make(folder)
    arena.reset()
    before = arena.state()
    report = run_grader(folder, out)
    return {
        "rows": {r["id"]: r for r in report["submissions"]},
        "level": report["level"],
        "changed": before != arena.state(),
        "heard": list(arena.heard),
        "left": workers_alive(),
    }


def workers_alive() -> list[int]:
    """Processes that came from a worker of this checkout: they keep its command line."""
    time.sleep(0.5)
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if str(MAIN) in words and state != "Z" and not _ours(int(entry.name)):
            found.append(int(entry.name))
    return found


def _ours(pid: int) -> bool:
    """A descendant of these tests, which keep graders of their own; what was left has no parent."""
    tests = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    while pid > 1:
        if pid == tests:
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


def said(row: dict[str, Any]) -> str:
    """Status and message of all tests of q_sample."""
    own = [t for t in row["tests"] if t["function"] == "q_sample"]
    return " | ".join(f"{t['status']} {t['message']}" for t in own)


@needs_walls
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: a.name)
def test_an_attack_fails_and_its_row_says_so(graded: dict[str, Any], attack: Attack) -> None:
    row = graded["rows"][attack.name]
    assert row["status"] == "graded"
    assert re.search(attack.on, said(row)), said(row)[:2000]
    points = sum(t["score"] for t in row["tests"] if t["hidden"])
    assert points == 0
    assert len(json.dumps(row)) < 100_000


@needs_walls
def test_nothing_is_left_changed_or_sent(graded: dict[str, Any]) -> None:
    assert graded["level"] == "strict"
    assert not graded["changed"]
    assert graded["heard"] == []
    assert graded["left"] == []


@needs_walls
def test_there_are_enough() -> None:
    assert len(ATTACKS) + len(PARCELS) >= 40
    assert all(a.off or a.why for a in ATTACKS)


@needs_walls
def test_honest_neighbours_are_graded_as_ever(
    graded: dict[str, Any], tmp_path: Path, arena: Arena
) -> None:
    """Byte for byte what a run without the hostile ones gives."""
    folder = tmp_path / "class"
    folder.mkdir()
    write_honest(folder)
    alone = run_grader(folder, tmp_path / "out")["submissions"]
    beside = [graded["rows"][r["id"]] for r in alone]
    assert json.dumps(alone) == json.dumps(beside)
    full = [r["id"] for r in alone if r["score"] == r["max_score"]]
    assert full == sorted(f"honest_{n}" for n in list(HONEST)[:5])


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.off == "walls"], ids=lambda a: a.name)
def test_without_walls_the_attack_works(arena: Arena, attack: Attack) -> None:
    """So that the tests above can fail."""
    if sys.platform != "linux":
        pytest.skip("attacks are written for Linux")
    arena.reset()
    submission = Submission(attack.name, f"{attack.name}.py", arena.script(attack).encode())
    row = grade(Task(submission, "E2", "s", walls=OPEN))
    time.sleep(0.2)
    try:
        assert attack.effect(arena.loot, said(row) + " ".join(arena.heard)), said(row)[:1000]
    finally:
        _clean(arena)


def _clean(arena: Arena) -> None:
    if (daemon := arena.loot / "daemon").exists():
        os.kill(int(daemon.read_text()), signal.SIGKILL)
    Path("/tmp/hostile_filler").unlink(missing_ok=True)
    libc = ctypes.CDLL(None)
    if (segment := libc.shmget(77, 0, 0)) >= 0:
        libc.shmctl(segment, 0, None)


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.off == "naive"], ids=lambda a: a.name)
def test_a_naive_grader_is_fooled(arena: Arena, tmp_path: Path, attack: Attack) -> None:
    """Passed, stuck, killed, silent, or flooded with text."""
    script = tmp_path / "submission.py"
    script.write_text(arena.script(attack))
    command = [sys.executable, str(NAIVE), str(script)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=6, start_new_session=True)
    except subprocess.TimeoutExpired:
        return
    text = done.stdout + done.stderr
    passed, silent = b"PASS" in text, done.returncode == 0 and not text
    assert passed or silent or done.returncode < 0 or len(text) > 10_000_000, text[-500:]


@needs_walls
@pytest.mark.parametrize("parcel", PARCELS, ids=lambda p: p.name)
def test_a_parcel_is_one_row_with_a_reason(
    graded: dict[str, Any], arena: Arena, parcel: Parcel
) -> None:
    """Files that cannot be what they should: one row, not graded, and why."""
    row = graded["rows"][parcel.name]
    assert row["status"] == parcel.status
    assert re.search(parcel.on, row["reason"] + " ".join(row["notes"])), row
    assert not (arena.loot.parent / "escaped.py").exists()


@needs_walls
def test_a_page_escapes_what_a_student_wrote(graded: dict[str, Any]) -> None:
    from diffusion_edu import exercises

    page = student_page(graded["rows"]["script_in_a_message"], exercises.load("E2"))
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert "<img" not in page
