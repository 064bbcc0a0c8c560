"""The tests of exercises are ordinary pytest files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import diffusion_edu

EXERCISES = Path(diffusion_edu.__file__).parent / "exercises"


def test_they_run_under_pytest() -> None:
    files = sorted(map(str, EXERCISES.glob("e*/test_e*.py")))
    assert len(files) == 9
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "passed" in done.stdout
