"""A class of 300 whose grades are known: seconds a submission, memory, and whether they are right.

    python tests/benchmarks/bench_grading.py [--n 300] [--jobs 2] [--exercise E2] [--seed 0]

Start-up is the time until the first row is there: every process imports torch. From then on the
time is divided by the rows and multiplied by the cores that were used. Memory is that of the
grader and of all processes under it, asked for every 50 ms.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
import torch
from grading_class import SECRET, make_class

from diffusion_edu import exercises
from diffusion_edu.grading import reports, tables
from diffusion_edu.grading.grading import Task
from diffusion_edu.grading.run import grade_class
from diffusion_edu.grading.submissions import find

MIB = 1 << 20


class Watch(threading.Thread):
    """The most memory that this process, and the processes under it, had at one moment."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.own = self.others = self.largest = self.pss = self.processes = 0
        self.over = threading.Event()

    def run(self) -> None:
        me, beat = psutil.Process(), 0
        while not self.over.wait(0.05):
            sizes = [_rss(p) for p in me.children(recursive=True)]
            self.own = max(self.own, _rss(me))
            self.others = max(self.others, sum(sizes))
            self.largest = max([self.largest, *sizes])
            self.processes = max(self.processes, len(sizes))
            if beat % 20 == 0:  # slow to ask for
                self.pss = max(self.pss, sum(map(_pss, [me, *me.children(recursive=True)])))
            beat += 1


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _pss(process: psutil.Process) -> int:
    """Memory with what processes share counted once; 0 where the system does not say."""
    try:
        return int(getattr(process.memory_full_info(), "pss", 0))
    except psutil.Error:
        return 0


def wrong_rows(rows: list[dict], truth: dict) -> list[str]:
    """Names of the rows that do not say what is true."""
    found = []
    for row in rows:
        t = truth.get(row["id"])
        said = (row["status"], row["score"], frozenset(tables.mistakes_of(row)))
        if t is None or said != (t.status, t.score, t.mistakes):
            found.append(f"{row['id']} ({row['file']}): {said}, not {t}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--exercise", default="E2")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    print(
        f"torch {torch.__version__}, {cores} cores, load {load:.1f} before; "
        f"{options.n} submissions of {options.exercise}, {options.jobs} at once"
    )
    with tempfile.TemporaryDirectory() as name:
        grade(options, Path(name))


def grade(options: argparse.Namespace, folder: Path) -> None:
    truth = make_class(folder / "class", options.n, options.seed, options.exercise)
    arrived: list[float] = []
    watch = Watch()
    watch.start()
    began = time.perf_counter()
    found = find([folder / "class"], options.exercise)
    tasks = [Task(s, options.exercise, SECRET) for s in found]
    report = grade_class(
        tasks,
        folder / "out",
        options.jobs,
        progress=lambda row: arrived.append(time.perf_counter()),
    )
    graded = time.perf_counter()
    reports.write(report, exercises.load(options.exercise), folder / "out", True, True)
    done = time.perf_counter()
    watch.over.set()
    watch.join()
    rows, used = report["submissions"], min(options.jobs, os.cpu_count() or 1)
    steady = (graded - arrived[0]) / max(len(arrived) - 1, 1) * used
    print(
        f"  wall {done - began:.1f} s: first row after {arrived[0] - began:.1f} s, last after "
        f"{graded - began:.1f} s, reports {done - graded:.1f} s; "
        f"load {os.getloadavg()[0]:.1f} after"
    )
    print(f"  {steady:.3f} s a submission a core after start-up (aim: 0.5 at most)")
    print(
        f"  peak memory: grader {watch.own / MIB:.0f} MiB, its {watch.processes} processes "
        f"{watch.others / MIB:.0f} MiB together, the largest {watch.largest / MIB:.0f} MiB; "
        f"all with what they share counted once {watch.pss / MIB:.0f} MiB"
    )
    wrong = wrong_rows(rows, truth)
    wanted = Counter(m for t in truth.values() for m in t.mistakes)
    counts = tables.misconceptions(rows) == wanted
    print(
        f"  {len(rows) - len(wrong)} of {options.n} rows as they should be "
        f"({sum(t.status == 'graded' for t in truth.values())} graded); "
        f"{sum(wanted.values())} mistakes of {len(wanted)} names, counts "
        f"{'equal' if counts else 'DIFFER'}"
    )
    if wrong or not counts or len(rows) != options.n:
        print("\n".join(wrong))
        sys.exit(1)


if __name__ == "__main__":
    main()
