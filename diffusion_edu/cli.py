"""The command line: diffusion-edu lab | lectures | exercise | grade | train | sample | ..."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .data.commands import app as data_app
from .evaluation.commands import evaluate, train_classifier
from .evaluation.sample_command import sample
from .evaluation.table_command import table
from .grading.commands import doctor, exercise_app, grade, gradescope_zip
from .lectures.commands import lectures_app
from .training.commands import train

__all__ = ["app", "info", "lab", "main"]

app = typer.Typer(
    name="diffusion-edu",
    help="Diffusion models to read, to check and to play with.\n\nStart with: diffusion-edu lab",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (train, evaluate, table, train_classifier, grade, doctor, gradescope_zip):
    app.command()(command)
app.add_typer(exercise_app)
app.add_typer(lectures_app)
app.add_typer(data_app)
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.command(context_settings=PASS_THROUGH)
def lab(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NOTEBOOK] [JUPYTER OPTIONS]...", show_default=False),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Folder of the copies. [default: ./diffusion_edu_notebooks]"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Do not ask; yours are kept as NAME.mine.ipynb.")
    ] = False,
) -> None:
    """Open the guided tour, or NOTEBOOK, in JupyterLab.

    In a checkout they are opened where they are. Installed, they are copied to a folder of yours,
    and brought up to date there: what you changed or ran stays as it is. If there is a new version
    of such a notebook, you are asked whether it takes its place or comes beside it.

    Everything else is handed to `jupyter lab`. The server listens on this machine only (127.0.0.1)
    and asks for a token, which is part of the address it prints. Ctrl-C stops it.

    Examples:

    * `diffusion-edu lab`

    * `diffusion-edu lab --no-browser --port 8899`

    * `diffusion-edu lab --to course`

    * `diffusion-edu lab my_notebook.ipynb`
    """
    from . import _lab

    _lab.start(arguments or [], to, force)


app.command()(sample)


@app.command()
def info() -> None:
    """Show versions, the device, and where data and weights live.

    Examples:

    * `diffusion-edu info`
    """
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True)  # paths must be copyable: never wrapped to the window
    for key, value in _facts().items():
        console.print(Text.assemble((f"{key:15}", "bold"), str(value)))


def _facts() -> dict[str, Any]:
    import platform
    from importlib.util import find_spec

    import torch

    from . import __version__
    from .data.location import ENV, data_dir
    from .nets.pretrained import WEIGHTS, pretrained_names

    return {
        "diffusion_edu": f"{__version__} ({Path(__file__).parent})",
        "python": f"{platform.python_version()} ({sys.executable})",
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "data": f"{data_dir()} (change it with {ENV})",
        "weights": f"{WEIGHTS} ({', '.join(pretrained_names()) or 'none'})",
        "jupyterlab": "installed" if find_spec("jupyterlab") else "missing (needed by lab)",
    }


def main() -> None:
    """Run the command line. Bad input ends with one line on stderr and exit code 2."""
    try:
        app()
    except (ValueError, OSError) as error:
        print(f"diffusion-edu: {error}", file=sys.stderr)
        sys.exit(2)
