"""Training on images in several processes, and in one that is killed again and again."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_run import STEPS, begin, equal, gradient, weights

TINY_RUN = Path(__file__).with_name("tiny_run.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(TINY_RUN.parents[1]), "OMP_NUM_THREADS": "1"}


def python(*words):
    """stdout of a script that must end well."""
    done = subprocess.run([sys.executable, *map(str, words)], env=ENVIRONMENT, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def torchrun(processes, *words):
    python("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes, *words)


# ---- several processes ---------------------------------------------------------------------------


def test_two_processes_have_the_gradient_of_one(tmp_path):
    """Two gloo processes, half of the batch each: gradients and losses of one with all of it."""
    gradient(tmp_path / "one.pt")
    torchrun(2, TINY_RUN, "gradient", tmp_path / "two.pt")
    one, two = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")
    largest = max(float(g.abs().max()) for g in one[0].values())
    for name, wanted in one[0].items():
        assert torch.allclose(wanted, two[0][name], rtol=1e-4, atol=1e-6 * largest), name
    assert two[1:3] == pytest.approx(one[1:3], rel=1e-5)
    assert torch.allclose(one[3], two[3], rtol=1e-5, equal_nan=True)


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    """A batch of 8 among 3 processes is an error that names both."""
    from diffusion_edu import _parallel

    monkeypatch.setattr(_parallel, "world", lambda: 3)
    with pytest.raises(ValueError, match="8 cannot be shared evenly by 3 processes"):
        next(begin()[1])


def test_torchrun_trains_from_the_command_line(tmp_path):
    """train under torchrun: one folder, one bar; weights as of one process to 5e-3."""
    options = [TINY_RUN, "train", "--recipe", "digits", "--steps", "4", "--every", "2"]
    torchrun(2, *options, "--out", tmp_path / "two")
    python(*options, "--out", tmp_path / "one")
    rows = list(csv.DictReader((tmp_path / "two" / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["2", "4"]
    one, two = (weights(tmp_path / name / "checkpoint.pt", "model") for name in ("one", "two"))
    assert one.keys() == two.keys()
    # dropout differs between the processes: only the size of the change must agree
    change = max(float((one[k] - two[k]).abs().max()) for k in one)
    assert change < 5e-3


# ---- interruptions -------------------------------------------------------------------------------


def test_killed_ten_times_equals_uninterrupted(tmp_path):
    """Sudden death at ten random moments; --resume goes on each time, and the final bits are equal.

    The moments fall while checkpoints, metrics and pictures are written too: with a record every
    second step nearly all of the time goes into them. SIGKILL itself is in test_training.py.
    """
    lines = python(TINY_RUN, "killed", tmp_path, 10).splitlines()
    codes, steps = zip(*(map(int, line.split()) for line in lines), strict=True)
    assert codes == (-signal.SIGPROF,) * 10
    assert steps == tuple(sorted(steps))
    assert len(set(steps)) >= 3  # of 10 deaths, at moments that the machine's speed decides
    assert 0 < steps[-1] < STEPS
    for part in ("model", "ema"):
        assert equal(*(weights(tmp_path / name / "checkpoint.pt", part)
                       for name in ("whole", "killed")))  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "killed" / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(2, STEPS + 1, 2))
