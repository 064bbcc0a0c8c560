"""A class whose grades are known: seconds and memory a submission, and whether they are right.

    python tests/benchmarks/bench_grading.py [--n 100] [--jobs 2] [--exercise E2] [--seed 0]

Ours is the command, from its start to the written reports. The peer is what one would write without
a grader: a fresh process a submission, as many at once, which imports torch and runs the same tests
on a right answer, without walls. The limit is these tests alone, warm, on all cores. Memory is
that of all processes together, what they share counted once. Ends with 1 if a grade is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
import torch
from bench_check import alone, submissions
from bench_import import ROOT
from grading_class import SECRET, Truth, make_class
from measure import Call, Row, as_memory, main, row, seconds

from diffusion_edu import exercises
from diffusion_edu.grading import tables

NAIVE = """
from diffusion_edu.exercises import load
from diffusion_edu.exercises.build import source
from diffusion_edu.exercises.judge import judge
from diffusion_edu.exercises.local import Namespace
from diffusion_edu.exercises.verify import defined
judge(load({key!r}), Namespace(defined(source({key!r}))), {secret!r})
"""


def wrong_rows(rows: list[dict[str, Any]], truth: dict[str, Truth]) -> list[str]:
    """Rows that do not say what is true, and what is missing."""
    found = [f"{len(rows)} rows, not {len(truth)}"] * (len(rows) != len(truth))
    for r in rows:
        t = truth.get(r["id"])
        said = (r["status"], r["score"], frozenset(tables.mistakes_of(r)))
        if t is None or said != (t.status, t.score, t.mistakes):
            found.append(f"{r['id']} ({r['file']}): {said}, not {t}")
    return found


def grade(options: argparse.Namespace, n: int) -> float:
    """Seconds to grade a class of n; checks its grades."""
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name) / "class", Path(name) / "out"
        truth = make_class(folder, n, options.seed, options.exercise)
        told = ["--exercise", options.exercise, "--secret", SECRET, "--jobs", str(options.jobs)]
        command = [sys.executable, "-m", "diffusion_edu", "grade", str(folder), *told]
        spent = seconds(lambda: started([*command, "--out", str(out)]))
        rows = json.loads((out / "grades.json").read_text(encoding="utf-8"))["submissions"]
    if wrong := wrong_rows(rows, truth):
        sys.exit("\n".join(wrong))
    return spent


def started(command: list[str]) -> None:
    """Run a command that has to end well, one thread a process."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    around = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(command, env=around, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)


def one_by_one(options: argparse.Namespace, n: int) -> None:
    """The peer's n submissions."""
    script = NAIVE.format(key=options.exercise, secret=SECRET)
    with ThreadPoolExecutor(options.jobs) as pool:
        for done in [pool.submit(started, [sys.executable, "-c", script]) for _ in range(n)]:
            done.result()


def times(options: argparse.Namespace) -> Iterator[Row]:
    torch.set_num_threads(1)
    exercise, cores = exercises.load(options.exercise), min(options.jobs, os.cpu_count() or 1)
    right, few = submissions(exercise)["all right"], 3 * options.jobs
    least = partial(alone, exercise, right, SECRET)
    least()  # warm
    table = []
    for _ in range(options.rounds):
        ours = grade(options, options.n) / options.n
        theirs = seconds(lambda: one_by_one(options, few)) / few
        table.append((ours, theirs, median(seconds(least) for _ in range(5)) / cores))
    columns = [list(column) for column in zip(*table, strict=True)]
    what = f"a class of {options.n}, {options.exercise}, {options.jobs} at once: time a submission"
    peer, limit = "a process each that runs the tests", "the tests alone, on all cores"
    yield row(what, columns[0], peer, columns[1], limit, columns[2])


# ---- memory --------------------------------------------------------------------------------------


def memory(options: argparse.Namespace) -> Iterator[Row]:
    """Of a small class: a process has its size after the first submissions."""
    ours = most(lambda: grade(options, 30))
    theirs = most(lambda: one_by_one(options, 2 * options.jobs))
    peer = "a process each that runs the tests"
    what = f"grading, {options.jobs} at once: peak memory of all processes"
    yield row(what, [ours], peer, [theirs], unit=as_memory)


def most(call: Call) -> int:
    """Bytes of all processes under this one when they were most."""
    over, seen = threading.Event(), [0]

    def watch() -> None:
        me = psutil.Process()
        while not over.wait(0.1):
            seen.append(sum(size(p) for p in me.children(recursive=True)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        call()
    finally:
        over.set()
        thread.join()
    return max(seen)


def size(process: psutil.Process) -> int:
    """Memory with what processes share divided among them."""
    try:
        info = process.memory_full_info()
        return int(getattr(info, "pss", info.rss))
    except psutil.Error:  # it has ended
        return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--exercise", default="E2")
    parser.add_argument("--seed", type=int, default=0)
    main(__doc__, [times, memory], parser, rounds=3)
