"""Start JupyterLab on a notebook of this project."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from ._extras import need
from ._handout import hand_out, handouts
from ._safeguards import checked, last
from .lectures.build import folder

__all__ = ["command", "start", "tour"]

TOUR = "00_tour.ipynb"
COPY = "diffusion_edu_notebooks"
PACKAGED = Path(__file__).parent / "_notebooks"
# Switches off JupyterLab's questions about news and updates: they lie over the first notebook, and
# ask a network. Only a folder named in JUPYTER_CONFIG_PATH comes before this one.
SETTINGS = Path(__file__).parent / "_jupyter"


def start(arguments: Sequence[str], to: Path | None = None, force: bool = False) -> None:
    """Run ``jupyter lab`` with ``command(arguments, to, force)`` until it is stopped."""
    need("lab", "jupyterlab")
    line = command(arguments, to, force)
    # In its terminals and behind "!" in a notebook, commands are those of this Python.
    places = [sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]
    os.environ["PATH"] = os.pathsep.join(places)
    settings = [os.environ.get("JUPYTER_CONFIG_PATH", ""), str(SETTINGS)]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, settings))
    if os.name == "posix":
        # Become Jupyter: Ctrl-C and every other signal then reach it directly, and no half stays.
        sys.stdout.flush()
        os.execv(line[0], line)  # noqa: S606, this Python, no shell
    sys.exit(subprocess.call(line))  # noqa: S603, the same


def command(arguments: Sequence[str], to: Path | None = None, force: bool = False) -> list[str]:
    """The command line of ``jupyter lab``: [NOTEBOOK] and options, plus safe defaults.

    Listens on 127.0.0.1 unless told otherwise; the token is Jupyter's own random one. As root,
    which Jupyter refuses by default, --allow-root is added: containers run as root.

    Args:
        arguments: NOTEBOOK, if any, and options of Jupyter.
        to, force: see ``tour``, whose copies are made unless there is a NOTEBOOK and no ``to``.

    Raises:
        ValueError: the notebook does not exist, or an option or the user's configuration of
            Jupyter switches a safeguard off (see ``_safeguards``).
    """
    rest = list(arguments)
    named = _taken_from(rest)
    given = checked(rest)
    if named and to:
        tour(to, force)  # the copies too, whatever is opened
    notebook = named or tour(to, force)
    if not notebook.exists():
        raise ValueError(f"no notebook {notebook}: leave it out to open the tour")
    line = [sys.executable, "-m", "jupyterlab", str(notebook), "--ServerApp.answer_yes=True"]
    if notebook.is_file():  # the address that is printed, for --no-browser, leads there too
        line.append(f"--LabApp.default_url=/lab/tree/{quote(notebook.name)}")
    if "ip" not in map(last, given):
        line.append("--ServerApp.ip=127.0.0.1")
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "--allow-root" not in given:
        line.append("--allow-root")
    return line + rest


def _taken_from(rest: list[str]) -> Path | None:
    """The notebook among arguments, taken out: the first of them, or a file at the end."""
    if rest and not rest[0].startswith("-"):
        return Path(rest.pop(0))
    if rest and rest[-1].endswith(".ipynb") and Path(rest[-1]).is_file():
        return Path(rest.pop())
    return None


def tour(to: Path | None = None, force: bool = False) -> Path:
    """The tour: that of the checkout, in place; else of a folder of copies, brought up to date.

    Args:
        to: the folder of copies, in a checkout too. Default: ./diffusion_edu_notebooks.
        force: do not ask whether new versions take the place of notebooks that were changed.

    Raises:
        ValueError: an installation without notebooks.
    """
    source = folder()
    if source != PACKAGED and to is None:
        return source / TOUR
    target = to or Path(COPY)
    print(hand_out(handouts(source), target, lambda names: force or _asked(names)))
    return target / TOUR


def _asked(names: Sequence[str]) -> bool:
    """Whether new versions take the place of the learner's; without a terminal they do not."""
    if sys.stdin is None or not sys.stdin.isatty():
        return False
    import typer

    return typer.confirm(
        f"There are new versions of notebooks that you changed: {', '.join(names)}.\n"
        "Put them in their place, and keep yours as NAME.mine.ipynb? "
        "Otherwise they come beside yours, as NAME.new.ipynb."
    )
