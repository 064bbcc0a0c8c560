"""diffusion-edu lectures: list, build, site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .syllabus import SYLLABUS

__all__ = ["lectures_app"]

lectures_app = typer.Typer(
    name="lectures",
    help="The lectures: what there is, and the notebooks made from their sources.",
    no_args_is_help=True,
)


@lectures_app.command("list")
def list_lectures() -> None:
    """List the lectures, with minutes and exercise."""
    for one in SYLLABUS:
        exercise = f", then {one.exercise}" if one.exercise else ""
        typer.echo(f"{one.number}  {one.title} ({one.minutes} minutes{exercise})")
        typer.echo(f"    {one.about}")


@lectures_app.command("build")
def build_lectures(
    numbers: Annotated[list[str] | None, typer.Argument(help="00 ... 11. [default: all]")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the notebooks. [default: notebooks/]")
    ] = None,
    instructor: Annotated[
        bool, typer.Option("--instructor", help="With answers to the questions; needs --out.")
    ] = False,
) -> None:
    """Write notebooks from the sources in notebooks/source.

    Examples:

    * `diffusion-edu lectures build`

    * `diffusion-edu lectures build 02 03 --instructor --out for_me`
    """
    from .build import build

    if instructor and out is None:
        raise ValueError(
            "--instructor needs --out FOLDER: answers do not belong among the lectures"
        )
    for path in build(numbers, out, instructor):
        typer.echo(f"wrote {path}")
