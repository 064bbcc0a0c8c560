"""Explorers beside the same pictures by `interact` and inline matplotlib, in one JupyterLab.

    python tests/benchmarks/bench_explorers.py [--presses 6] [--seconds 2]

From a key press to the changed picture painted, in headless Chromium: in each round some presses on
our slider, then on theirs. The same things are moved on both sides: t (scrub), T (parameter
change), and eta of DDIM with S = 50, 2,000 points and the shipped network (sampler change). Then
t's slider is dragged at 60 events a second: from picture to picture. The limit is the 16.7 ms for
which a screen of 60 Hz shows a picture.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "browser"))

import conftest as lab_fixtures
import pytest
from driving import write_notebook
from measure import MissingError, Row, main, row

OURS = [
    "from diffusion_edu import ForwardExplorer\nForwardExplorer()",
    "from diffusion_edu import ReverseExplorer\nReverseExplorer(steps=50, t=0)",
]
THEIRS = [
    """
%matplotlib inline
import matplotlib.pyplot as plt
import torch
import diffusion_edu as de
from ipywidgets import FloatSlider, IntSlider, interact
x0 = de.toy.swiss_roll(2000)
eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
colours = x0[:, 0] > 0
@interact(t=IntSlider(0, 0, 200), T=IntSlider(200, 1, 1000))
def forward(t, T):
    schedule = de.linear(T)
    x_t = de.q_sample(x0, min(t, T), eps, schedule)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4))
    left.scatter(*x_t.T, s=3, c=colours)
    left.set(xlim=(-3.3, 3.3), ylim=(-3.3, 3.3))
    right.plot(schedule.sqrt_alpha_bar)
    right.plot(schedule.sqrt_one_minus_alpha_bar)
    right.axvline(t)
    plt.show()
""",
    """
model, schedule, info = de.pretrained("swiss_roll")
x_T = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
@interact(eta=FloatSlider(0.0, min=0, max=1, step=0.01))
def reverse(eta):
    with torch.no_grad():
        x = list(de.sample(model, x_T, schedule, 50, eta=eta))[-1].x_s
    figure, axes = plt.subplots(figsize=(4, 4))
    axes.scatter(*x0.T, s=3, c="#999")
    axes.scatter(*x.T, s=3)
    axes.set(xlim=(-3.3, 3.3), ylim=(-3.3, 3.3))
    plt.show()
""",
]
# what is moved, (cell, label of our slider), (cell, number of their slider)
SCRUB, FRAME = "time scrub (t)", 1 / 60
MOVES = {
    SCRUB: ((0, "t"), (2, 0)),
    "parameter change (T)": ((0, "steps T"), (2, 1)),
    "sampler change (eta, S = 50)": ((1, "eta"), (3, 0)),
}
# A picture is new when its version, its level or its source is.
WATCH = """root => {
  const now = () => root.dataset.version !== undefined
    ? root.dataset.version + root.querySelector("canvas").dataset.frame
    : [...root.querySelectorAll("img")].filter((i) => i.complete).map((i) => i.src).join();
  const watch = (window.watch = { pressed: 0, late: [], count: 0 });
  const pressed = () => { watch.pressed = performance.now(); };
  document.addEventListener("keydown", pressed, true);
  let last = now();
  const look = () => {
    const shown = now();
    if (shown && shown !== last) {
      last = shown;
      watch.count++;
      if (watch.pressed) watch.late.push(performance.now() - watch.pressed);
      watch.pressed = 0;
    }
    watch.ticket = requestAnimationFrame(look);
  };
  look();
  watch.stop = () => {
    cancelAnimationFrame(watch.ticket);
    document.removeEventListener("keydown", pressed, true);
  };
}"""


@contextmanager
def notebook() -> Iterator[Any]:
    """Our and their cells in a JupyterLab, all run."""
    with tempfile.TemporaryDirectory() as folder:
        factory = _Folders(Path(folder))
        browsers = lab_fixtures.browser.__wrapped__()
        labs = lab_fixtures.lab.__wrapped__(factory)
        opener = lab_fixtures.open_notebook.__wrapped__(next(browsers), next(labs))
        path = write_notebook(Path(folder) / "bench.ipynb", OURS + THEIRS)
        opened = next(opener)(path, reduced_motion="reduce")
        opened.command("notebook:run-all-cells", wait=False)
        opened.player(0)
        opened.player(1)
        output = opened.page.locator(".jp-CodeCell").nth(3)
        output.scroll_into_view_if_needed()
        output.locator("img").first.wait_for(timeout=60_000)
        try:
            yield opened
        finally:
            for part in (opener, labs, browsers):
                next(part, None)


class _Folders:
    def __init__(self, root: Path) -> None:
        self.root = root

    def mktemp(self, name: str) -> Path:
        path = self.root / name
        path.mkdir()
        return path


def place(opened: Any, ours: bool, cell: int, slider: Any) -> tuple[Any, Any]:
    """The output that is watched, and what takes the keys."""
    code = opened.page.locator(".jp-CodeCell").nth(cell)
    code.scroll_into_view_if_needed()
    if ours:
        root = code.locator(".dx")
        return root, root.locator(f'input[type=range][aria-label="{slider}"]')
    return code.locator(".jp-OutputArea").first, code.locator(".noUi-handle").nth(slider)


def latency(opened: Any, root: Any, handle: Any, presses: int) -> float:
    """Seconds from a key press to the new picture: the median of some, one after the other."""
    page = opened.page
    handle.scroll_into_view_if_needed()
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(600)
    root.evaluate(WATCH)
    for i in range(presses):
        page.keyboard.press("ArrowRight")
        page.wait_for_function("n => watch.late.length > n", arg=i, timeout=20_000)
        page.wait_for_timeout(30)
    late: list[float] = page.evaluate("() => { watch.stop(); return watch.late; }")
    return median(late) / 1000


def dragged(opened: Any, root: Any, handle: Any, seconds: float) -> float:
    """Seconds from picture to picture while the handle is dragged to and fro."""
    page = opened.page
    box = handle.bounding_box()
    wide = box["width"] > 60  # our whole slider; theirs is only the handle
    span = (box["width"] - 20) if wide else 120
    x, y = (box["x"] + 10 if wide else box["x"] + box["width"] / 2), box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    root.evaluate(WATCH)
    start = page.evaluate("performance.now()")
    for i in range(int(60 * seconds)):
        page.mouse.move(x + abs((i % 120) / 60 - 1) * span, y)
        page.wait_for_timeout(1000 / 60)
    elapsed = page.evaluate("performance.now()") - start
    page.mouse.up()
    count: int = page.evaluate("() => { watch.stop(); return watch.count; }")
    page.wait_for_timeout(1500)
    return elapsed / 1000 / max(count, 1)


def in_rounds(
    opened: Any, move: str, measured: Callable[..., float], amount: float, rounds: int
) -> Row:
    """A row: ours, then theirs, in every round."""
    table = []
    for _ in range(rounds):
        found = []
        for ours, (cell, slider) in zip((True, False), MOVES[move], strict=True):
            root, handle = place(opened, ours, cell, slider)
            found.append(measured(opened, root, handle, amount))
        table.append(found)
    mine, theirs = (list(column) for column in zip(*table, strict=True))
    peer = "`interact`, inline matplotlib"
    return row(f"explorer, {move}", mine, peer, theirs, "a frame, 16.7 ms", [FRAME] * rounds)


def moves(options: argparse.Namespace) -> Iterator[Row]:
    try:
        with notebook() as opened:
            for move in MOVES:
                yield in_rounds(opened, move, latency, options.presses, options.rounds)
            drag = in_rounds(opened, SCRUB, dragged, options.seconds, options.rounds)
            yield replace(drag, what="explorer, t dragged: from picture to picture")
    except pytest.skip.Exception as reason:
        raise MissingError(str(reason)) from None


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--presses", type=int, default=6, help="a round")
    parser.add_argument("--seconds", type=float, default=2, help="of dragging a round")
    main(__doc__, [moves], parser, rounds=3)
