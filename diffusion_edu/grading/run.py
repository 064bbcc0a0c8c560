"""Grading a class: many submissions at once, here or on a cluster, resumable at any moment."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import re
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from .._files import write_atomically
from .defences import LEVELS, is_weaker
from .grading import SCHEMA, Task, failed, grade
from .inside.sandbox import undumpable

__all__ = ["file_name", "grade_class"]

Row = dict[str, Any]
KEPT = "rows"  # folder of finished rows, one file each


def grade_class(
    tasks: Sequence[Task],
    out: Path,
    jobs: int = 1,
    cluster: str | None = None,
    resume: bool = False,
    progress: Callable[[Row], None] = lambda row: None,
) -> dict[str, Any]:
    """Grade all tasks; what grades.json holds.

    Every row is written to ``out/rows`` as soon as it is there. With ``resume`` those that are
    there already, of the same file, exercise and secret and not behind weaker walls than a task
    requires, are not graded again.

    Raises:
        KeyboardInterrupt: after the rows that were finished have been kept.
    """
    folder = out / KEPT
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, Row] = {}
    for task in tasks:
        if resume and (row := _kept(folder, task)) is not None:
            rows[task.submission.id] = row
            progress(row)
    waiting = [t for t in tasks if t.submission.id not in rows]
    source = _on_cluster(waiting, cluster) if cluster else _here(waiting, jobs)
    with contextlib.closing(source):
        for task, row in source:
            _keep(folder, task, row)
            rows[task.submission.id] = row
            progress(row)
    return _summary([rows[t.submission.id] for t in tasks])


def _summary(rows: Sequence[Row]) -> dict[str, Any]:
    """The content of grades.json; its level is the weakest that any row was graded at."""
    levels = [r["level"] for r in rows if r["status"] != "error"]
    level = max(levels, key=LEVELS.index, default="none")
    return {"schema": SCHEMA, "level": level, "submissions": list(rows)}


# ---- rows that are kept --------------------------------------------------------------------------


def file_name(name: str) -> str:
    """A name that every file system takes; different for different names."""
    safe = re.sub(r"[^\w.-]+", "_", name).strip("._").encode()[:80].decode(errors="ignore") or "_"
    if safe == name:
        return safe
    import hashlib

    return f"{safe}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def _path(folder: Path, task: Task) -> Path:
    return folder / f"{file_name(task.submission.id)}.json"


def _keep(folder: Path, task: Task, row: Row) -> None:
    text = json.dumps({"digest": task.digest, "row": row})
    write_atomically(_path(folder, task), text.encode())


def _kept(folder: Path, task: Task) -> Row | None:
    try:
        found = json.loads(_path(folder, task).read_text(encoding="utf-8"))
        row: Row = found["row"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = found.get("digest") == task.digest and row["status"] != "error"
    return row if same and not is_weaker(row["level"], task.require) else None


# ---- where the work is done ----------------------------------------------------------------------


def _guarded(task: Task) -> Row:
    """``grade``; a failure of the grader itself costs one row, and says so."""
    torch.set_num_threads(1)
    try:
        return grade(task)
    except PermissionError:
        raise
    except Exception as error:
        return failed(task, error)


def _here(tasks: Sequence[Task], jobs: int) -> Generator[tuple[Task, Row], None, None]:
    """In processes of this machine, which import torch once each."""
    if not tasks:
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=context, initializer=_quiet)
    try:
        futures: dict[Future[Row], Task] = {pool.submit(_guarded, t): t for t in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)  # who pressed Ctrl-C is told so at once
        raise
    pool.shutdown()


def _quiet() -> None:
    """Ctrl-C is for the process that was started by hand; and nobody may look into this one."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    undumpable()


def _on_cluster(tasks: Sequence[Task], address: str) -> Generator[tuple[Task, Row], None, None]:
    """One task of a Dask cluster for each submission."""
    try:
        from distributed import Client
        from distributed import as_completed as finished
    except ImportError as error:
        raise ImportError(
            "--cluster needs the extra: pip install 'diffusion_edu[cluster]'"
        ) from error
    if not tasks:
        return
    with Client(address) as client:
        futures = client.map(_guarded, list(tasks), pure=False)
        whose = dict(zip((f.key for f in futures), tasks, strict=True))
        try:
            for future in finished(futures):
                yield whose[future.key], future.result()
        finally:
            client.cancel(futures)
