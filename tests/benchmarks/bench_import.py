"""What `import diffusion_edu` costs beyond `import torch`, in seconds and in memory.

    python tests/benchmarks/bench_import.py

Every import runs in a fresh process and is timed inside it, so that the start of Python itself
does not count. Ends with 1 if a heavy package was imported along.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from measure import Row, as_memory, main, row

ROOT = Path(__file__).resolve().parents[2]
FORBIDDEN = (
    "matplotlib", "ipywidgets", "anywidget", "sklearn", "scipy", "pandas", "PIL", "typer", "rich",
    "tqdm", "safetensors", "pooch", "IPython", "diffusers", "diffusion_edu.widgets",
    "diffusion_edu.data", "diffusion_edu.training", "diffusion_edu.cli",
)  # fmt: skip
SCRIPT = """
import sys, time
start = time.perf_counter()
import {module}
spent = time.perf_counter() - start
try:
    status = open("/proc/self/status").read()
    peak = 1024 * int(status.partition("VmHWM:")[2].split()[0])
except OSError:
    peak = 0
print(spent, peak, *(name for name in {names} if name in sys.modules))
"""


def fresh_import(module: str) -> tuple[float, int, list[str]]:
    """(seconds, bytes at the peak or 0, forbidden modules loaded) of one import."""
    script = SCRIPT.format(module=module, names=FORBIDDEN)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    out = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    spent, peak, *loaded = out.stdout.split()
    return float(spent), int(peak), loaded


def imports(options: argparse.Namespace) -> Iterator[Row]:
    modules = ("diffusion_edu", "torch")
    rounds = [[fresh_import(m) for m in modules] for _ in range(options.rounds + 1)]
    (ours, theirs) = zip(*rounds[1:], strict=True)  # the first fills the disk cache
    peer = f"`import torch` {torch.__version__}, which it contains"
    yield row("`import diffusion_edu`", [r[0] for r in ours], peer, [r[0] for r in theirs])
    if all(peak for _, peak, _ in theirs):
        peaks = [[r[1] for r in side] for side in (ours, theirs)]
        what = "`import diffusion_edu`: peak memory"
        yield row(what, peaks[0], peer, peaks[1], unit=as_memory)
    if extra := sorted(set(ours[0][2]) - set(theirs[0][2])):
        sys.exit(f"heavy packages imported: {', '.join(extra)}")


if __name__ == "__main__":
    main(__doc__, [imports], argparse.ArgumentParser(), rounds=9)
