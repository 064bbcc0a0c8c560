"""The command line for data sets: diffusion-edu data list | fetch | verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._checks import check_choice

if TYPE_CHECKING:
    from .sources import Source

__all__ = ["app", "fetch_", "list_", "verify"]

app = typer.Typer(
    name="data",
    help="Image data sets: which there are, fetch them, verify the files.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
Root = Annotated[
    Path | None,
    typer.Option(
        help="Data directory. [default: $DIFFUSION_EDU_DATA, else datasets/ of a checkout, "
        "else the user's cache]",
        show_default=False,
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAME]...", help="Data sets; none: all.", show_default=False),
]


@app.command("list")
def list_(root: Root = None) -> None:
    """Show the image data sets and which of them are here.

    Only names of files are looked at; `verify` reads them.

    Examples:

    * `diffusion-edu data list`

    * `diffusion-edu data list --root /scratch/data`
    """
    from .files import find
    from .location import data_dir
    from .sources import SOURCES

    base = data_dir(root)
    row = "{:15}{:9}{:18}{:>10}  {}"
    typer.echo(row.format("name", "images", "train + test", "download", "here"))
    typer.echo(row.format("digits", "1x8x8", "1,437 + 360", "none", "with scikit-learn"))
    typer.echo(row.format("colour_digits", "3x8x8", "17,244 + 360", "none", "made of digits"))
    for source in SOURCES.values():
        shape = "x".join(map(str, source.shape))
        counts = " + ".join(f"{n:,}" for n, _ in source.splits.values())
        size = f"{sum(archive.size for archive in source.archives) / 1e6:.0f} MB"
        here = find(source, base, source.files) or "no"
        typer.echo(row.format(source.name, shape, counts, size, here))
    typer.echo(f"data directory: {base}")


@app.command("fetch")
def fetch_(
    names: Names = None,
    root: Root = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files with another content.")
    ] = False,
) -> None:
    """Download data sets; what is there and right is kept. Go on after Ctrl-C by asking again.

    Examples:

    * `diffusion-edu data fetch mnist`

    * `diffusion-edu data fetch cifar10 --root /scratch/data`
    """
    from .download import fetch

    for source in _sources(names):
        typer.echo(f"{source.name}: {fetch(source, root, overwrite=overwrite)}")


@app.command("verify")
def verify(names: Names = None, root: Root = None) -> None:
    """Compare files with the published checksums (SHA-256 of the uncompressed content).

    Exit code 1 unless everything is official. Without names, sets that are not here at all are
    passed over.

    Examples:

    * `diffusion-edu data verify`

    * `diffusion-edu data verify mnist --root /scratch/data`
    """
    from .files import State, find, state
    from .location import data_dir

    base, good = data_dir(root), True
    for source in _sources(names):
        folder = find(source, base, source.files) or base / source.folders[0]
        states = {file: state(folder, file) for file in source.files}
        if not names and set(states.values()) == {State.missing}:
            typer.echo(f"{source.name}: not in {base}")
            continue
        good &= set(states.values()) == {State.official}
        for file, found in states.items():
            typer.echo(f"{source.name}: {folder / file.name}: {found}")
    if not good:
        raise typer.Exit(1)


def _sources(names: list[str] | None) -> list[Source]:
    from .images import BUILT_IN
    from .sources import SOURCES

    wanted = [name for name in names or SOURCES if name not in BUILT_IN]  # those are always there
    for name in wanted:
        check_choice(name, [*BUILT_IN, *SOURCES], "image data set")
    return [SOURCES[name] for name in wanted]
