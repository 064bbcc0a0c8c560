"""What check("E2") costs in a warm notebook: answers right, wrong, and one that never ends.

    python tests/benchmarks/bench_check.py [--exercise E2]

Text and picture, in this process after a warm-up, beside `import torch` in a fresh process in the
same round: what a learner has waited for once. The limit is the tests and matplotlib's empty axes,
as many and as large as the picture's, or the time after which a call is given up.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from bench_import import fresh_import
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure
from measure import Row, main, row, seconds

from diffusion_edu.exercises import checking, load
from diffusion_edu.exercises.build import source
from diffusion_edu.exercises.judge import judge
from diffusion_edu.exercises.local import Namespace
from diffusion_edu.exercises.spec import Exercise
from diffusion_edu.exercises.verify import defined
from diffusion_edu.viz.checks import MARGIN, MOST, SIDE, png

Functions = Mapping[str, Callable[..., Any]]


def loops(*args: Any) -> None:
    """A learner's function that never returns."""
    while True:
        pass


def submissions(exercise: Exercise) -> dict[str, Functions]:
    """What is wrong with it -> functions."""
    right = defined(source(exercise.key))
    right = {f.name: right[f.name] for f in exercise.functions}
    wrong = {f.name: f.mistakes[0].wrong for f in exercise.functions}
    last = exercise.functions[-1].name
    return {"all right": right, "all wrong": wrong, "one never ends": {**right, last: loops}}


def alone(exercise: Exercise, mine: Functions, secret: str | None) -> None:
    """The tests in this process: what nobody who runs them can save."""
    judge(exercise, Namespace(mine), secret)


def empty_picture() -> None:
    """Three axes, as large as those of the picture, with nothing in them."""
    figure = Figure((MARGIN + MOST * SIDE, SIDE + 0.5), dpi=100)
    for left in range(MOST):
        figure.add_axes((0.08 + 0.3 * left, 0.18, 0.24, 0.63))
    png(figure)


def check(exercise: Exercise, mine: Functions) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        checking.check(exercise.key, **mine)


def least(exercise: Exercise, mine: Functions) -> float:
    """Seconds of the limit."""
    if loops in mine.values():
        return checking.PATIENCE
    return seconds(lambda: alone(exercise, mine, None)) + seconds(empty_picture)


def checks(options: argparse.Namespace) -> Iterator[Row]:
    torch.set_num_threads(1)
    InteractiveShell.instance()  # without it, check draws nothing
    exercise = load(options.exercise)
    kinds = submissions(exercise)
    table: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in kinds}
    for _ in range(options.rounds + 1):
        imported, _, _ = fresh_import("torch")
        for kind, mine in kinds.items():
            ours = seconds(lambda mine=mine: check(exercise, mine))
            table[kind].append((ours, imported, least(exercise, mine)))
    for kind, mine in kinds.items():
        columns = [list(column) for column in zip(*table[kind][1:], strict=True)]
        limit = "patience, 0.3 s" if loops in mine.values() else "tests, and empty axes"
        what, peer = f'`check("{exercise.key}")`, {kind}', f"`import torch` {torch.__version__}"
        yield row(what, columns[0], peer, columns[1], limit, columns[2])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--exercise", default="E2")
    main(__doc__, [checks], parser, rounds=7)
