"""The command line for evaluation: diffusion-edu evaluate | train-classifier."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._options import (
    Batch,
    Classes,
    Device,
    Labels,
    Precision,
    Seed,
    Variance,
    check_file,
    examples,
)

if TYPE_CHECKING:
    from .evaluate import Wanted
    from .generate import Sampling
    from .report import Report

__all__ = ["evaluate", "train_classifier"]

Model = Annotated[
    str,
    typer.Option(
        help="mnist, another shipped image network, or a .safetensors file.", show_default=False
    ),
]
Samples = Annotated[int, typer.Option(help="Samples; distances compare at equal n only.")]
Steps = Annotated[int, typer.Option(help="Steps of the sampler.")]
Eta = Annotated[float, typer.Option(help="Noise: 0 (DDIM, none) to 1 (as DDPM).")]
Noise = Annotated[
    Variance,
    typer.Option(help="large: DDPM's sigma^2 = beta_t in place of eta's; learned: its own."),
]
Guidance = Annotated[
    float, typer.Option(help="1: the network as it is; > 1 pushes towards the class.")
]
Bits = Annotated[
    int, typer.Option(help="Test images for bits/dim, T network calls each; 0: leave it out.")
]
Neighbours = Annotated[
    int, typer.Option(help="Samples whose nearest training image is looked for.")
]
Half = Annotated[
    Precision, typer.Option(help="bfloat16: half the bits while sampling, often faster.")
]
Fid = Annotated[
    bool, typer.Option("--fid", help="Also Inception's FID and KID: needs the extra [fid].")
]
FidWeights = Annotated[
    Path | None, typer.Option(help="File of Inception's weights. [default: downloaded]")
]
ClassifierFile = Annotated[
    Path | None, typer.Option(help="File of train-classifier. [default: the shipped one]")
]
Figures = Annotated[Path | None, typer.Option(help="Write the figures to this .json file.")]
Grid = Annotated[
    Path | None,
    typer.Option(help="Write 100 samples, beside their nearest training images, as .png."),
]


@examples(
    "diffusion-edu evaluate --model mnist --n 1000 --bits 0",
    "diffusion-edu evaluate --model mnist --out report.json --grid grid.png",
    "diffusion-edu evaluate --model mnist --labels none --steps 1000 --eta 1",
    "torchrun --nproc-per-node 2 -m -- diffusion_edu evaluate --model mnist --n 1000",
)
def evaluate(
    model: Model,
    n: Samples = 10_000,
    steps: Steps = 50,
    eta: Eta = 0.0,
    variance: Noise = Variance.eta,
    guidance: Guidance = 1.0,
    labels: Classes = Labels.balanced,
    seed: Seed = 0,
    bits: Bits = 128,
    neighbours: Neighbours = 1000,
    batch: Batch = 250,
    precision: Half = Precision.float32,
    device: Device = None,
    fid: Fid = False,
    fid_weights: FidWeights = None,
    classifier: ClassifierFile = None,
    out: Figures = None,
    grid: Grid = None,
) -> None:
    """Measure an image network: distances, classes, copies of training images, bits/dim.

    FD and KD are taken between the features of a small classifier of the same data, 64 or 128
    numbers an image. They are no FID, and compare with each other only. Next to them stand the
    same distances of real training images: what a perfect network would get.

    Several GPUs, or several processes on one machine, share the work under torchrun (whose own
    options begin with --n too: the lone -- keeps them apart).
    """
    from .evaluate import Wanted
    from .generate import Sampling

    check_file("--out", out, ".json")
    check_file("--grid", grid, ".png")
    plan = Sampling(
        n, steps, eta, variance.value, guidance, labels.value, seed, batch, precision.value
    )
    wanted = Wanted(bits, neighbours, fid, fid_weights, classifier)
    _measure(model, plan, wanted, device, out, grid)


def _measure(
    model: str,
    plan: Sampling,
    wanted: Wanted,
    device: str | None,
    out: Path | None,
    grid: Path | None,
) -> None:
    """Measure, print, and write the files asked for."""
    from .. import _parallel
    from ..nets import pretrained
    from .evaluate import evaluate as measure

    network, schedule, info = pretrained(model)
    if len(info.shape) != 3:
        raise ValueError(f"--model {model} is a network for points: evaluate is for images")
    place = _parallel.local_device(device)
    with _parallel.together(place):
        network.to(place)
        report = measure(network, schedule, info.data, plan, wanted, pad=info.pad, progress=True)
        if _parallel.rank() == 0:
            _tell(report, {"model": model, "model_official": info.official}, out, grid)


def _tell(report: Report, about: dict[str, Any], out: Path | None, grid: Path | None) -> None:
    """Print the report, and write the files asked for."""
    import torch

    from .._files import write_atomically
    from ..viz.images import save_image, tile

    typer.echo("\n".join(report.lines()))
    if not about["model_official"]:
        typer.echo("the network was NOT trained on the published files of this data set")
    if out is not None:
        text = json.dumps({**about, **report.plain()}, indent=2) + "\n"
        write_atomically(out, text.encode())
        typer.echo(f"wrote {out}")
    if grid is not None:
        sheets = torch.cat([tile(report.pictures), tile(report.nearest)], 2)
        save_image(sheets, grid, zoom=2)
        typer.echo(f"wrote {grid}: samples left, their nearest training images right")


DataName = Annotated[
    str,
    typer.Option(help="digits, mnist, fashion_mnist or cifar10.", show_default=False),
]
Weights = Annotated[Path, typer.Option(help="File to write, .safetensors.", show_default=False)]
Epochs = Annotated[int | None, typer.Option(help="Passes over the data. [default: the recipe's]")]
RecipeSeed = Annotated[
    int | None, typer.Option(help="Seed of weights, order and shifts. [default: 0]")
]


@examples(
    "diffusion-edu train-classifier --data fashion_mnist --out fashion.safetensors",
    "diffusion-edu train-classifier --data cifar10 --epochs 20 --out better.safetensors",
)
def train_classifier(
    data: DataName, out: Weights, epochs: Epochs = None, seed: RecipeSeed = None
) -> None:
    """Train the classifier whose features `evaluate` compares images by.

    On one core: digits 10 seconds, mnist 2 minutes, cifar10 15 minutes. The file says what
    it was trained on, and its accuracy on the test images.
    """
    import torch
    from tqdm import tqdm

    from .classifier import recipe
    from .classifier_files import load_classifier
    from .classifier_files import train_classifier as train

    check_file("--out", out, ".safetensors")
    given: dict[str, Any] = {"epochs": epochs, "seed": seed}
    plan = replace(recipe(data), **{k: v for k, v in given.items() if v is not None})
    torch.set_num_threads(plan.threads)
    with tqdm(train(plan, out), total=plan.epochs, unit="epoch") as bar:
        for record in bar:
            bar.set_postfix(loss=f"{record.loss:.4f}", accuracy=f"{record.accuracy:.2%}")
    _, info = load_classifier(out)
    typer.echo(f"accuracy on {info.tested:,} test images: {info.accuracy:.2%}")
    typer.echo(f"wrote {out} ({out.stat().st_size:,} bytes)")
