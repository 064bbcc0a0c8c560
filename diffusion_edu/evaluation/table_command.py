"""The command line for tables over noise and steps: diffusion-edu table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._options import Batch, Classes, Device, Labels, Precision, check_file, examples

if TYPE_CHECKING:
    from .table import Plan, Table

__all__ = ["table"]

Model = Annotated[
    str, typer.Option(help="A shipped network, or a .safetensors file.", show_default=False)
]
Out = Annotated[Path, typer.Option(help="Picture to write, .png; numbers beside it as .json.")]
Etas = Annotated[str, typer.Option(help="Rows: numbers from 0 to 1, and hat, DDPM's larger noise.")]
Steps = Annotated[str, typer.Option(help="Columns: steps of the sampler.")]
Samples = Annotated[int, typer.Option(help="Samples a cell; compare at equal n only.")]
NoiseSeed = Annotated[int, typer.Option(help="Of the noise, the same in every cell.")]
Half = Annotated[Precision, typer.Option(help="bfloat16: half the bits, faster on most GPUs.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the cells in the .json file.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Begin anew though there is a .json file.")
]


@examples(
    "diffusion-edu table --model swiss_roll --n 5000 --out roll.png",
    "diffusion-edu table --model mnist --steps 10,20,50 --n 500",
    "diffusion-edu table --model mnist --n 10000 --precision bfloat16 --resume",
    "torchrun --nproc-per-node 2 -m -- diffusion_edu table --model mnist --n 5000",
)
def table(
    model: Model,
    out: Out = Path("table.png"),
    eta: Etas = "0,0.2,0.5,1,hat",
    steps: Steps = "10,20,50,100,1000",
    n: Samples = 1000,
    seed: NoiseSeed = 0,
    batch: Batch = 250,
    device: Device = None,
    precision: Half = Precision.float32,
    labels: Classes = Labels.balanced,
    resume: Resume = False,
    overwrite: Overwrite = False,
) -> None:
    """Measure Table 1 of the DDIM paper for a network: quality over noise and steps.

    Images are judged by FD of the features of a small classifier, points by MMD^2 and sliced
    Wasserstein distance: not the FID of the paper, so compare the shapes of the two tables.
    Every cell is written when it is done: stop when you like, go on with --resume, which may
    also add rows and columns.

    Several GPUs, or several processes on one machine, share the work under torchrun (whose own
    options begin with --n too: the lone -- keeps them apart).
    """
    from .table import Plan, parse_etas, parse_steps

    check_file("--out", out, ".png")
    if resume and overwrite:
        raise ValueError("--resume and --overwrite exclude each other: leave one out")
    rows, columns = parse_etas(eta), parse_steps(steps)
    plan = Plan(rows, columns, n, seed, batch, labels.value, precision.value)
    _run(model, plan, out, device, resume, overwrite)


def _run(
    model: str, plan: Plan, out: Path, device: str | None, resume: bool, overwrite: bool
) -> None:
    """Measure, print, draw; what is done stays when it is interrupted."""
    import torch

    from .. import _parallel
    from ..nets import pretrained
    from .table_run import measure_table

    network, schedule, info = pretrained(model)
    if len(info.shape) == 1:
        torch.set_num_threads(1)  # on a small network more threads wait longer than they compute
    place, path = _parallel.local_device(device), out.with_suffix(".json")
    kept = {"resume": resume, "overwrite": overwrite}
    with _parallel.together(place):
        first = _parallel.rank() == 0
        try:
            net = network.to(place)
            found = measure_table(
                net, schedule, info, plan, path, name=model, progress=True, **kept
            )
        except KeyboardInterrupt:
            if first and path.exists():
                typer.echo(f"\nstopped: the cells done are in {path}, go on with --resume")
            raise
        if first:
            _print(found, plan)
            _draw(found, plan, out)
            typer.echo(f"wrote {out} and {path}")


def _print(found: Table, plan: Plan) -> None:
    """One table for each metric, and what it says of the paper's claims."""
    from rich.console import Console
    from rich.table import Table as Rich

    from .table import shape

    console = Console()
    for metric in found.metrics:
        console.print(f"{metric} of {_title(found, metric)}", highlight=False)
        sheet = Rich("eta", *(f"S={s}" for s in plan.steps))
        for eta, row in zip(plan.etas, found.grid(plan.etas, plan.steps, metric), strict=True):
            sheet.add_row(eta, *("" if value is None else f"{value:.4g}" for value in row))
        console.print(sheet)
    claims = shape(found)
    if claims:
        # Seen on points at n = 1000: an answer is yes for one seed and no for three others.
        console.print(
            f"As in the published table (by {found.metrics[0]})? "
            "Of close cells another --seed may say otherwise."
        )
    for claim, holds in claims.items():
        console.print(f"  {'yes' if holds else 'no '}  {claim}", highlight=False)


def _title(found: Table, metric: str) -> str:
    """What the numbers are numbers of, and the floor."""
    about, floor = found.about, found.floor[metric]
    name, official = Path(about["model"]).name, "" if found.official else ", NOT the published data"
    real = "fresh points" if "MMD2" in found.metrics else "training images"
    return (
        f"{name}, {about['n']:,} samples a cell, seed {about['seed']}{official}; "
        f"{found.floor_n:,} {real}: {floor:.3g}"
    )


def _draw(found: Table, plan: Plan, out: Path) -> None:
    from ..viz.table import Heat, save_table
    from .table import PUBLISHED, PUBLISHED_STEPS, published

    metric, etas = found.metrics[0], tuple(PUBLISHED)
    name = {"FD": "FD of classifier features", "MMD2": "MMD$^2$"}[metric]
    rows, columns = plan.etas, plan.steps
    grid = found.grid(rows, columns)
    ours = Heat(f"Measured here\n{name}", name, rows, columns, grid, found.floor[metric])
    paper = published().grid(etas, PUBLISHED_STEPS)
    theirs = Heat("DDIM paper, CIFAR-10\nFID", "FID", etas, PUBLISHED_STEPS, paper)
    save_table(ours, theirs, _title(found, metric), out)
