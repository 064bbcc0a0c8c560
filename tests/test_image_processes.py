"""Training on images in several processes, and in one that is killed again and again."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_run import STEPS, begin, equal, gradient, plain, weights

from diffusion_edu.training import checkpoint

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


def test_two_processes_do_as_one(tmp_path):
    """Two gloo processes, half of the batch each: gradients and losses of one with all of it.

    When one wishes to stop after step 3, both stop after step 10, where they ask each other; a
    checkpoint is there, without a record. The run that goes on from it, and is stopped once more,
    ends with the bits of one that was not stopped.
    """
    gradient(tmp_path / "one.pt")
    torchrun(2, TINY_RUN, "together", tmp_path)
    one, two = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")
    largest = max(float(g.abs().max()) for g in one[0].values())
    for name, wanted in one[0].items():
        assert torch.allclose(wanted, two[0][name], rtol=1e-4, atol=1e-6 * largest), name
    assert two[1:3] == pytest.approx(one[1:3], rel=1e-5)
    assert torch.allclose(one[3], two[3], rtol=1e-5, equal_nan=True)
    for rank in range(2):
        assert torch.load(tmp_path / f"stopped{rank}.pt") == [list(range(1, 11)), 0, 10]
    whole, parts = (checkpoint.read(tmp_path / name) for name in ("whole.pt", "parts.pt"))
    assert whole["step"] == parts["step"] == 23
    assert all(equal(whole[part], parts[part]) for part in ("model", "ema"))
    (told,), (wanted,) = parts["log"], whole["log"]  # with the losses of both before the stop
    assert told["loss"] == pytest.approx(wanted["loss"], rel=1e-6)


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    """A batch of 8 among 3 processes is an error that names both."""
    from diffusion_edu import _parallel

    monkeypatch.setattr(_parallel, "world", lambda: 3)
    with pytest.raises(ValueError, match="8 cannot be shared evenly by 3 processes"):
        next(begin()[1])


def test_torchrun_trains_from_the_command_line(tmp_path):
    """train under torchrun: one folder; weights and losses as of one process to 1e-5, no dropout.

    A step moves a weight by about 1e-3, so that one not taken, or not shared, would be seen.
    """
    plan = plain(steps=4, every=2)
    model, records = begin(tmp_path / "one.pt", plan)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = [(r.step, r.loss, r.validation) for r in records]
    torchrun(2, TINY_RUN, "train", "--recipe", "digits", "--steps", "4", "--every", "2",
             "--out", tmp_path / "two")  # fmt: skip
    rows = csv.DictReader((tmp_path / "two" / "metrics.csv").open())
    found = [tuple(float(row[key]) for key in ("step", "loss", "validation")) for row in rows]
    assert found == [pytest.approx(row, rel=1e-5) for row in wanted]
    for part in ("model", "ema"):
        one, two = weights(tmp_path / "one.pt", part), weights(tmp_path / "two/checkpoint.pt", part)
        assert one.keys() == two.keys()
        assert max(float((one[k] - two[k]).abs().max()) for k in one) < 1e-5
        assert max(float((one[k] - before[k]).abs().max()) for k in one) > 1e-3


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
