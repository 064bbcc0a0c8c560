"""Run the benchmarks and write their table into README.md.

    python tests/benchmarks/run.py                  # all, and the table is written
    python tests/benchmarks/run.py sampling unet    # some, and the table is only printed
    python tests/benchmarks/run.py --rounds 3       # quicker, with less certainty

Each benchmark runs in a process of its own, one after the other. In README.md only what stands
between two markers is changed. Ends with 1 if a benchmark failed; the table then says so.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil
import torch
from measure import Row, heading

HERE = Path(__file__).resolve().parent
README = HERE.parents[1] / "README.md"
BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
NAMES = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def machine() -> str:
    """What the figures were measured on, in a line."""
    memory = psutil.virtual_memory().total / 2**30
    parts = (
        processor(),
        f"{os.cpu_count()} cores",
        f"{memory:.0f} GiB",
        system(),
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
        f"load {psutil.getloadavg()[0]:.1f} before",
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
    )
    return ", ".join(parts)


def processor() -> str:
    """The name of the CPU; where there is no /proc, its family."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return f"{platform.system()} {platform.release()}"


def run(name: str, options: list[str]) -> tuple[list[str], bool]:
    """(rows of a benchmark, whether it ended well)."""
    command = [sys.executable, str(HERE / f"bench_{name}.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    if done.returncode:
        sys.stderr.write(done.stderr)
        reason = (done.stderr.splitlines() or ["no reason given"])[-1]
        rows.append(Row(name, f"failed: {reason}").markdown())
    return rows, done.returncode == 0


def written(text: str, block: str) -> str:
    """A text with a block in place of what stands between the markers."""
    if (text.count(BEGIN), text.count(END)) != (1, 1) or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the text must have {BEGIN} once, and below it {END} once")
    before, after = text[: text.index(BEGIN)], text[text.index(END) + len(END) :]
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def table(names: list[str], options: list[str]) -> tuple[str, bool]:
    """(the machine and the table of some benchmarks, whether all ended well)."""
    first, began, fine = machine(), time.perf_counter(), True
    head, rule = heading().splitlines()
    lines = ["", f"| benchmark {head}", f"| --- {rule}"]
    for i, name in enumerate(names, 1):
        print(f"[{i}/{len(names)}] {name} ...", end=" ", flush=True)
        start = time.perf_counter()
        rows, well = run(name, options)
        print(f"{len(rows)} rows, {time.perf_counter() - start:.0f} s", flush=True)
        lines += [f"| {name} {row}" for row in rows]
        fine = fine and well
    return "\n".join([f"{first}; {time.perf_counter() - began:.0f} s in all", *lines]), fine


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--rounds", help="of each row; each benchmark has its own default")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    told = ["--rounds", options.rounds] if options.rounds else []
    block, fine = table(options.names or NAMES, told)
    print(block)
    if not options.names:
        text = README.read_bytes().decode("utf-8")
        README.write_bytes(written(text, block).encode("utf-8"))
        print(f"written to {README}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
