"""What check("E2") costs in a warm notebook: the text, the figure, and when a function never ends.

    python tests/benchmarks/bench_check.py [--repeats 20] [--exercise E2]

Medians in one process after a warm-up, and their ratio to a bare `import torch` in fresh processes
of the same run, started in between, so that a busy machine slows both alike. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch
from IPython.core.interactiveshell import InteractiveShell

from diffusion_edu.exercises import checking, load
from diffusion_edu.exercises.build import source
from diffusion_edu.exercises.judge import judge
from diffusion_edu.exercises.local import Namespace
from diffusion_edu.exercises.spec import Exercise
from diffusion_edu.exercises.verify import defined

IMPORT = "import time; t = time.perf_counter(); import torch; print(time.perf_counter() - t)"
LIMIT = 0.5  # seconds: the aim


def loops(*args: Any) -> None:
    """A learner's function that never returns."""
    while True:
        pass


def submissions(exercise: Exercise) -> dict[str, dict[str, Any]]:
    """Name -> functions: all right, all wrong, and right but for one that never returns."""
    right = defined(source(exercise.key))
    wrong = {f.name: f.mistakes[0].wrong for f in exercise.functions}
    last = exercise.functions[-1].name
    return {"right": right, "wrong": wrong, "one loops": {**right, last: loops}}


def parts(exercise: Exercise, mine: Mapping[str, Any]) -> dict[str, Callable[[], object]]:
    """Text, figure and both, as ``check`` makes them."""

    def text() -> list[Any]:
        results = judge(exercise, Namespace(mine, checking.PATIENCE))
        checking.report(exercise, results)
        return results

    results = text()

    def both() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            checking.check(exercise.key, **{f.name: mine[f.name] for f in exercise.functions})

    return {
        "text": text,
        "figure": lambda: quiet(lambda: checking._show(exercise, mine, results)),
        "check": both,
    }


def quiet(call: Callable[[], object]) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        call()


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def import_torch() -> float:
    out = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True)
    return float(out.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--exercise", default="E2")
    options = parser.parse_args()
    exercise = load(options.exercise)
    InteractiveShell.instance()  # without it, check draws nothing
    torch.set_num_threads(1)
    calls = {
        (kind, part): call
        for kind, mine in submissions(exercise).items()
        for part, call in parts(exercise, mine).items()
    }
    first = {key: seconds(call) for key, call in calls.items()}
    times: dict[Any, list[float]] = {key: [] for key in calls}
    imports = [import_torch()]
    for i in range(options.repeats):
        for key, call in calls.items():
            times[key].append(seconds(call))
        if i % 4 == 0:
            imports.append(import_torch())
    bare = median(imports[1:])  # the first one reads the disk
    print(f"import torch           median {bare:.3f} s, {len(imports) - 1} fresh processes")
    for (kind, part), record in times.items():
        middle = median(record)
        over = "" if middle < LIMIT else f"  OVER {LIMIT} s"
        print(
            f"{exercise.key} {kind:9} {part:6} median {middle:.3f} s, "
            f"{middle / bare:.2f} of import torch  "
            f"(first {first[kind, part]:.3f}, from {min(record):.3f} to {max(record):.3f}){over}"
        )


if __name__ == "__main__":
    main()
