"""What `import diffusion_edu` costs beyond `import torch`, and which heavy packages it pulls in.

    python tests/benchmarks/bench_import.py [--repeats 11]

Every import runs in a fresh process, the two in turn, and is timed inside it, so that the start of
Python itself does not count. Prints the ratio of the medians.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

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
print(time.perf_counter() - start, *(name for name in {names} if name in sys.modules))
"""


def fresh_import(module: str) -> tuple[float, list[str]]:
    """(seconds, forbidden modules loaded) of one import in a new process."""
    script = SCRIPT.format(module=module, names=FORBIDDEN)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    out = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    seconds, *loaded = out.stdout.split()
    return float(seconds), loaded


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=11)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {"torch": [], "diffusion_edu": []}
    loaded: dict[str, list[str]] = {}
    for i in range(repeats + 1):  # the first round fills the disk cache and writes bytecode
        for module, record in times.items():
            seconds, loaded[module] = fresh_import(module)
            if i:
                record.append(seconds)
    for module, record in times.items():
        print(
            f"import {module:14} median {median(record):.3f} s  "
            f"(from {min(record):.3f} to {max(record):.3f}, {repeats} fresh processes)"
        )
    ratio = median(times["diffusion_edu"]) / median(times["torch"])
    print(f"ratio diffusion_edu / torch: {ratio:.3f}")
    ours = [name for name in loaded["diffusion_edu"] if name not in loaded["torch"]]
    print(f"forbidden modules imported: {', '.join(ours) or 'none'}")
    sys.exit(bool(ours))


if __name__ == "__main__":
    main()
