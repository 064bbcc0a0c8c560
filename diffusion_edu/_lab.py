"""Start JupyterLab on a notebook of this project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ._extras import need
from .data.location import checkout

__all__ = ["command", "start", "tour"]

TOUR = "00_tour.ipynb"
COPY = "diffusion_edu_notebooks"


def start(arguments: Sequence[str]) -> None:
    """Run ``jupyter lab`` with ``command(arguments)`` until it is stopped."""
    need("lab", "jupyterlab")
    line = command(arguments)
    if os.name == "posix":
        # Become Jupyter: Ctrl-C and every other signal then reach it directly, and no half stays.
        sys.stdout.flush()
        os.execv(line[0], line)  # noqa: S606
    sys.exit(subprocess.call(line))  # noqa: S603


def command(arguments: Sequence[str]) -> list[str]:
    """The command line of ``jupyter lab``: [NOTEBOOK] and options, plus safe defaults.

    Listens on 127.0.0.1 unless told otherwise; the token is Jupyter's own random one. As root,
    which Jupyter refuses by default, --allow-root is added: containers run as root.

    Raises:
        ValueError: the notebook does not exist, or an option would switch the token off.
    """
    rest = list(arguments)
    notebook = Path(rest.pop(0)) if rest and not rest[0].startswith("-") else tour()
    if not notebook.exists():
        raise ValueError(f"no notebook {notebook}: leave it out to open the tour")
    for option in rest:
        key, _, value = option.partition("=")
        if key.endswith(".token") and not value.strip("'\""):
            raise ValueError(
                f"{option} would switch the token off, and let any program on this "
                "machine run code as you: give a token, or leave it out"
            )
    given = {option.split("=")[0] for option in rest}
    line = [sys.executable, "-m", "jupyterlab", str(notebook), "--ServerApp.answer_yes=True"]
    if notebook.is_file():  # the address that is printed, for --no-browser, leads there too
        line.append(f"--LabApp.default_url=/lab/tree/{quote(notebook.name)}")
    if not given & {"--ip", "--ServerApp.ip"}:
        line.append("--ServerApp.ip=127.0.0.1")
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "--allow-root" not in given:
        line.append("--allow-root")
    return line + rest


def tour() -> Path:
    """The tour of the checkout, else a copy of the packaged notebooks in the current directory."""
    root = checkout()
    if root and (root / "notebooks" / TOUR).is_file():
        return root / "notebooks" / TOUR
    packaged = Path(__file__).parent / "_notebooks"
    if not (packaged / TOUR).is_file():
        raise ValueError(f"this installation has no {TOUR}: name a notebook, or install it again")
    return copy_missing(packaged, Path(COPY)) / TOUR


def copy_missing(source: Path, target: Path) -> Path:
    """Copy the files of ``source`` that ``target`` lacks: what a learner changed is never lost."""
    for file in sorted(source.rglob("*")):
        copy = target / file.relative_to(source)
        if file.is_file() and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
    return target
