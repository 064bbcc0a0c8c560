"""What the benchmarks share: times taken in turn, peak memory, and the rows of one table.

Ours, the peer's and the limit's times are taken in turn (A B C A B C) after a warm-up, and each
ratio is that of one round: a machine that is busy for a while slows all of a round alike. A row
shows the median of these ratios, the smallest and the largest. Below 1 we take less.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

Call = Callable[[], object]
COLUMNS = ("what", "ours", "peer", "ours / peer", "limit", "ours / limit")
MIB = 1 << 20


class MissingError(Exception):
    """What a benchmark needs and this machine has not."""


@dataclass(frozen=True)
class Row:
    """One line of the table; each ratio is that of one round."""

    what: str
    ours: str = "-"
    peer: str = "-"
    to_peer: tuple[float, ...] = ()
    limit: str = "-"
    to_limit: tuple[float, ...] = ()

    def markdown(self) -> str:
        """The line: six cells."""
        to_peer, to_limit = spread(self.to_peer), spread(self.to_limit)
        cells = (self.what, self.ours, self.peer, to_peer, self.limit, to_limit)
        return line(" ".join(cell.replace("|", "\\|").split()) for cell in cells)


def line(cells: Iterable[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def heading() -> str:
    """The first two lines of a table."""
    return f"{line(COLUMNS)}\n{line(['---'] * len(COLUMNS))}"


def spread(ratios: Sequence[float]) -> str:
    """Median (smallest to largest; how many)."""
    if not ratios:
        return "-"
    middle, low, high = map(figure, (median(ratios), min(ratios), max(ratios)))
    return f"{middle} ({low} to {high}; {len(ratios)})" if len(ratios) > 1 else middle


def figure(x: float) -> str:
    """A number of three digits, or two below 0.1."""
    places = 0 if x >= 100 else 1 if x >= 10 else 2
    return f"{x:.{places}f}" if x >= 0.1 else f"{x:.2g}"


def as_time(seconds: float) -> str:
    return f"{figure(seconds)} s" if seconds >= 0.1 else f"{figure(1000 * seconds)} ms"


def as_memory(size: float) -> str:
    return f"{figure(size / MIB)} MiB"


# ---- times ---------------------------------------------------------------------------------------


def seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(calls: Sequence[Call], rounds: int, warmup: int = 1) -> list[list[float]]:
    """Seconds of each call, one list a call, all called in turn."""
    table = [[seconds(call) for call in calls] for _ in range(warmup + rounds)]
    return [list(column) for column in zip(*table[warmup:], strict=True)]


def row(
    what: str,
    ours: Sequence[float],
    peer: str = "-",
    theirs: Sequence[float] = (),
    limit: str = "-",
    least: Sequence[float] = (),
    unit: Callable[[float], str] = as_time,
) -> Row:
    """A row from measured seconds or bytes; ``theirs`` and ``least`` are of the same rounds."""
    to_peer, to_limit = (
        tuple(a / b for a, b in zip(ours, other, strict=True)) if other else ()
        for other in (theirs, least)
    )
    return Row(what, unit(median(ours)), peer, to_peer, limit, to_limit)


def compare(
    what: str,
    rounds: int,
    ours: Call,
    peer: str,
    theirs: Call,
    limit: str = "-",
    least: Call | None = None,
    times: float = 1.0,
) -> Row:
    """A row from calls timed in turn; the limit is ``times`` the seconds of ``least``."""
    columns = in_turn([ours, theirs, *([least] if least else [])], rounds)
    bounds = [times * s for s in columns[2]] if least else []
    return row(what, columns[0], peer, columns[1], limit, bounds)


PRODUCT = 2 * 1024**3  # FLOPs of ``product()``


def product(n: int = 1024, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Call:
    """The product of two n x n matrices, 2 n^3 FLOPs: what a machine can do at best."""
    a = torch.randn(n, n, device=device, dtype=dtype)
    return lambda: a @ a


# ---- memory --------------------------------------------------------------------------------------


def fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call in a new process, where nothing has been allocated yet."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def growth(call: Call) -> int:
    """Bytes by which this process is larger, at the worst moment of a call, than before it."""
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


# ---- a benchmark's main --------------------------------------------------------------------------

Part = Callable[[argparse.Namespace], Iterable[Row]]


def main(doc: str, parts: Sequence[Part], parser: argparse.ArgumentParser, rounds: int) -> None:
    """Print the rows of all parts as they come; a part that lacks something says so in its row."""
    parser.description, parser.formatter_class = doc, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=rounds, help=f"of each row; default {rounds}")
    options = parser.parse_args()
    print(heading(), flush=True)
    for part in parts:
        name = part.__name__.replace("_", " ")
        try:
            if "memory" in name and not Path("/proc/self/clear_refs").exists():
                raise MissingError("peak memory is read from /proc, which Linux has")
            for made in part(options):
                print(made.markdown(), flush=True)
        except (ImportError, MissingError) as reason:
            print(Row(name, f"not run: {reason}").markdown(), flush=True)
