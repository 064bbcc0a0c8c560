"""Lectures executed, once for all tests and for the site: they share its cache."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
from filelock import FileLock

from diffusion_edu.lectures.site_run import execute

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "build" / "site-cache" / "student"  # where `diffusion-edu lectures site` has it
NOWHERE = "http://127.0.0.1:9"  # nobody listens there: a download would fail at once


def executed(path: Path, data: Path) -> Any:
    """The notebook with outputs. LectureError if a cell failed or wrote to stderr.

    Args:
        path: of the notebook.
        data: an empty folder, in which the lecture looks for data sets in vain.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(path, as_version=4)
    offline = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOWHERE)
    before = dict(os.environ)
    # One thread: other tests run beside, and two that wait for each other are slower than one.
    alone = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    os.environ.update(offline, DIFFUSION_EDU_DATA=str(data), **alone)
    try:
        with FileLock(CACHE / f"{path.stem}.lock"):
            execute({path.stem: notebook}, CACHE, jobs=1)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return notebook


def seconds(cell: Any) -> float:
    """How long a code cell ran."""
    times = cell.metadata.get("execution", {})
    if not {"iopub.execute_input", "shell.execute_reply"} <= set(times):
        return 0.0
    start, end = (
        datetime.fromisoformat(times[k]) for k in ("iopub.execute_input", "shell.execute_reply")
    )
    return (end - start).total_seconds()
