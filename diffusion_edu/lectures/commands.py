"""diffusion-edu lectures: list, build, site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .._extras import need
from .syllabus import SYLLABUS

__all__ = ["lectures_app"]

# What makes notebooks into pages.
NEEDED = (
    "jinja2",
    "jupytext",
    "latex2mathml",
    "markdown_it",
    "mdit_py_plugins",
    "nbclient",
    "nbformat",
    "ipykernel",
)

lectures_app = typer.Typer(
    name="lectures",
    help="The lectures: what there is, and the notebooks made from their sources.",
    no_args_is_help=True,
)


@lectures_app.command("list")
def _list_lectures() -> None:
    """List the lectures, with minutes and exercise.

    Examples:

    * `diffusion-edu lectures list`
    """
    for one in SYLLABUS:
        exercise = f", then {one.exercise}" if one.exercise else ""
        typer.echo(f"{one.number}  {one.title} ({one.minutes} minutes{exercise})")
        typer.echo(f"    {one.about}")


@lectures_app.command("build")
def _build_lectures(
    numbers: Annotated[list[str] | None, typer.Argument(help="00 ... 11. [default: all]")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the notebooks. [default: notebooks/ of the checkout]"),
    ] = None,
    instructor: Annotated[
        bool, typer.Option("--instructor", help="With answers to the questions; needs --out.")
    ] = False,
) -> None:
    """Write notebooks from their sources.

    Examples:

    * `diffusion-edu lectures build`

    * `diffusion-edu lectures build 02 03 --instructor --out for_me`
    """
    from .._files import checkout
    from .build import build

    need("site", "jupytext", "nbformat")
    if instructor and out is None:
        raise ValueError(
            "--instructor needs --out FOLDER: answers do not belong among the lectures"
        )
    if checkout() is None and out is None:
        raise ValueError("name a folder with --out FOLDER: this is no checkout, with notebooks/")
    for path in build(numbers, out, instructor):
        typer.echo(f"wrote {path}")


@lectures_app.command("paper-map")
def _write_paper_map(
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("PAPER_MAP.md"),
) -> None:
    """Write the table that leads from each equation of the papers to code, test and lecture.

    Examples:

    * `diffusion-edu lectures paper-map`

    * `diffusion-edu lectures paper-map --out map.md`
    """
    from .paper_map import paper_map

    out.write_text(paper_map(), encoding="utf-8")
    typer.echo(f"wrote {out}")


@lectures_app.command("site")
def _site(
    out: Annotated[
        Path | None,
        typer.Argument(help="Folder of the site. [default: build/site of a checkout, else ./site]"),
    ] = None,
    instructor: Annotated[
        bool, typer.Option("--instructor", help="With answers to the questions.")
    ] = False,
    notebooks: Annotated[
        Path | None, typer.Option(help="Folder of NN_name.ipynb. [default: the lectures]")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Notebooks executed at once.")] = 2,
) -> None:
    """Write the lectures as pages that need no server, no kernel and no network.

    Notebooks are executed, each in its own kernel, in some minutes; a second run executes only what
    changed. What it needs for that lies beside the site, in site-cache; copy the site alone. A cell
    that fails or warns, and a formula that cannot be shown, end it, named.

    Examples:

    * `diffusion-edu lectures site`

    * `diffusion-edu lectures site for_me/site --instructor`
    """
    from .site import build_site

    need("site", *NEEDED)
    typer.echo(f"wrote {build_site(out, notebooks, instructor, jobs)}")
