"""Notebooks of the site, executed: each in a kernel of its own, and again only when it changed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .._files import write_atomically
from ..widgets.page import SITE

__all__ = ["LectureError", "cell_name", "execute", "key"]

PACKAGE = Path(__file__).resolve().parents[1]
# These turn what was executed into pages: no reason to execute it again.
RENDERING = ("site", "templates", "fonts", "build", "commands", "notation", "syllabus")
SECONDS = 300  # a cell may take


class LectureError(ValueError):
    """What went wrong in the notebooks: a line for each, with the cell's name."""


def cell_name(cells: Sequence[Any], index: int) -> str:
    """'cell 7 (de.ScheduleLab())', counted from 1."""
    lines = [line for line in cells[index].source.splitlines() if line.strip()]
    start = lines[0].strip() if lines else "empty"
    return f"cell {index + 1} ({start if len(start) <= 50 else start[:47] + '...'})"


def key(notebook: Any) -> str:
    """Of what a notebook says and what it runs on: the package and the libraries below it."""
    cells = [[c.cell_type, c.source, c.metadata.get("tags", [])] for c in notebook.cells]
    text = json.dumps([cells, _package(), _libraries()])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@lru_cache
def _package() -> str:
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*")):
        place = path.relative_to(PACKAGE)
        part = place.parts[1] if len(place.parts) > 1 else ""
        ours = place.parts[0] == "lectures" and part.startswith(RENDERING)
        skipped = ours or place.parts[0] in ("grading", "_notebooks") or path.suffix == ".pyc"
        if path.is_file() and not skipped:
            digest.update(f"{place.as_posix()}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _libraries() -> list[str]:
    def of(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "none"

    names = ("torch", "numpy", "matplotlib", "scikit-learn", "ipykernel", "ipywidgets")
    return [platform.python_version(), *map(of, names)]


def execute(notebooks: dict[str, Any], cache: Path, jobs: int) -> dict[str, float | None]:
    """Fill in the outputs of notebooks, by name, from the cache where they are known.

    Returns:
        The seconds each took, None for one from the cache.

    Raises:
        LectureError: a cell raised an exception, or wrote to stderr; all such cells are named.
    """
    import nbformat
    from tqdm import tqdm

    seconds: dict[str, float | None] = {}
    todo: dict[str, Path] = {}
    for name, notebook in notebooks.items():
        file = cache / f"{name}-{key(notebook)}.ipynb"
        if not any(c.cell_type == "code" for c in notebook.cells):
            seconds[name] = None
        elif file.is_file():
            notebook.cells = nbformat.read(file, as_version=4).cells
            seconds[name] = None
            print(f"{name:32} known", flush=True)
        else:
            todo[name] = file
    if not todo:
        return seconds
    count = sum(c.cell_type == "code" for name in todo for c in notebooks[name].cells)
    with tqdm(total=count, desc="cells", unit="cell") as bar:
        work = _execute_all({name: notebooks[name] for name in todo}, todo, jobs, bar)
        results = asyncio.run(work)
    problems = [line for result in results if isinstance(result, list) for line in result]
    if problems:
        raise LectureError("\n".join(["the lectures do not run as they should", *problems]))
    took = {name: s for name, s in zip(todo, results, strict=True) if isinstance(s, float)}
    return seconds | took


async def _execute_all(
    notebooks: dict[str, Any], files: dict[str, Path], jobs: int, bar: Any
) -> list[float | list[str]]:
    free = asyncio.Semaphore(jobs)

    async def one(name: str) -> float | list[str]:
        async with free:
            start = time.perf_counter()
            problems = await _execute_one(name, notebooks[name], jobs, bar)
            took = time.perf_counter() - start
            bar.write(
                f"{name:32} {took:5.1f} s" + (", FAILED" if problems else ""), file=sys.stdout
            )
            if not problems:
                _keep(notebooks[name], name, files[name])
            return problems or took

    return await asyncio.gather(*map(one, notebooks))


async def _execute_one(name: str, notebook: Any, jobs: int, bar: Any) -> list[str]:
    """What went wrong, a line each."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    at = [0]  # of the cell in progress

    def begun(cell: Any, cell_index: int) -> None:
        at[0] = cell_index

    def done(cell: Any, cell_index: int, execute_reply: Any) -> None:
        bar.update()

    own = {"OMP_NUM_THREADS": "1"} if jobs > 1 else {}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            on_cell_execute=begun,
            on_cell_executed=done,
            extra_arguments=[
                "--log-level=ERROR"
            ],  # else it warns of its own ports, here on 127.0.0.1
        )
        try:
            await client.async_execute(env={**os.environ, SITE: "1", **own})
        except CellExecutionError as error:
            return [f"{name}, {cell_name(notebook.cells, at[0])}: {error.ename}: {error.evalue}"]
        except Exception as error:  # the kernel died, or was too slow
            first = next(iter(str(error).splitlines()), "")
            what = f"{type(error).__name__}: {first}"
            return [f"{name}, {cell_name(notebook.cells, at[0])}: {what}"]
    return _said_on_stderr(name, notebook)


def _said_on_stderr(name: str, notebook: Any) -> list[str]:
    problems = []
    for i, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                text = output.text.strip()[-300:]
                problems.append(f"{name}, {cell_name(notebook.cells, i)} writes to stderr: {text}")
    return problems


def _keep(notebook: Any, name: str, file: Path) -> None:
    """Into the cache; what an older version of the same notebook left there goes."""
    import nbformat

    data = nbformat.writes(notebook).encode()
    for old in file.parent.glob(f"{name}-*.ipynb"):
        old.unlink(missing_ok=True)
    write_atomically(file, data)
