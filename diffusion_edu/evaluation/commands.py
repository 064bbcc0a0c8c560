"""The command line for evaluation: diffusion-edu evaluate | train-classifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Labels, Precision, Variance

if TYPE_CHECKING:
    from .report import Report

__all__ = ["evaluate", "train_classifier"]


def evaluate(
    model: Annotated[
        str,
        typer.Option(
            help="mnist, another shipped image network, or a .safetensors file.", show_default=False
        ),
    ],
    n: Annotated[int, typer.Option(help="Samples; distances compare at equal n only.")] = 10_000,
    steps: Annotated[int, typer.Option(help="Steps of the sampler.")] = 50,
    eta: Annotated[float, typer.Option(help="Noise: 0 (DDIM, none) to 1 (as DDPM).")] = 0.0,
    variance: Annotated[
        Variance,
        typer.Option(help="large: DDPM's sigma^2 = beta_t in place of eta's; learned: its own."),
    ] = Variance.eta,
    guidance: Annotated[
        float, typer.Option(help="1: the network as it is; > 1 pushes towards the class.")
    ] = 1.0,
    labels: Annotated[
        Labels, typer.Option(help="balanced: every class equally often; none: unconditional.")
    ] = Labels.balanced,
    seed: Annotated[int, typer.Option(help="Same seed, same samples.")] = 0,
    bits: Annotated[
        int, typer.Option(help="Test images for bits/dim, T network calls each; 0: leave it out.")
    ] = 128,
    neighbours: Annotated[
        int, typer.Option(help="Samples whose nearest training image is looked for.")
    ] = 1000,
    batch: Annotated[int, typer.Option(help="Samples at once.")] = 250,
    precision: Annotated[
        Precision, typer.Option(help="bfloat16: half the bits while sampling, often faster.")
    ] = Precision.float32,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ... [default: a GPU if there is one]")
    ] = None,
    fid: Annotated[
        bool, typer.Option("--fid", help="Also Inception's FID and KID: needs the extra [fid].")
    ] = False,
    fid_weights: Annotated[
        Path | None, typer.Option(help="File of Inception's weights. [default: downloaded]")
    ] = None,
    classifier: Annotated[
        Path | None, typer.Option(help="File of train-classifier. [default: the shipped one]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this .json file.")] = None,
    grid: Annotated[
        Path | None,
        typer.Option(help="Write 100 samples, beside their nearest training images, as .png."),
    ] = None,
) -> None:
    """Measure an image network: distances, classes, copies of training images, bits/dim.

    FD and KD are taken between the features of a small classifier of the same data, 64 or 128
    numbers an image. They are no FID, and compare with each other only. Next to them stand the
    same distances of real training images: what a perfect network would get.

    Several GPUs, or several processes on one machine, share the work under torchrun (whose own
    options begin with --n too: the lone -- keeps them apart).

    Examples:

    * `diffusion-edu evaluate --model mnist --n 1000 --bits 0`

    * `diffusion-edu evaluate --model mnist --out report.json --grid grid.png`

    * `diffusion-edu evaluate --model mnist --labels none --steps 1000 --eta 1`

    * `torchrun --nproc-per-node 2 -m -- diffusion_edu evaluate --model mnist --n 1000`
    """
    from .. import _parallel
    from ..nets import pretrained
    from .evaluate import Wanted
    from .evaluate import evaluate as measure
    from .generate import Sampling

    for name, path, suffix in [("--out", out, ".json"), ("--grid", grid, ".png")]:
        if path is not None and path.suffix != suffix:
            raise ValueError(f"{name} must end in {suffix}, got {str(path)!r}")
    names: dict[str, Any] = {"variance": variance, "labels": labels, "precision": precision}
    names = {k: v.value for k, v in names.items()}
    plan = Sampling(n, steps, eta, guidance=guidance, seed=seed, batch=batch, **names)
    wanted = Wanted(bits, neighbours, fid, fid_weights, classifier)
    network, schedule, info = _of_images(pretrained(model), model)
    place = _parallel.local_device(device)
    with _parallel.together(place):
        report = measure(
            network.to(place), schedule, info.data, plan, wanted, pad=info.pad, progress=True
        )
        if _parallel.rank() == 0:
            _tell(report, {"model": model, "model_official": info.official}, out, grid)


def _of_images(found: Any, name: str) -> Any:
    """(model, schedule, info) of a network for images; ValueError for one of points."""
    if len(found[2].shape) != 3:
        raise ValueError(f"--model {name} is a network for points: evaluate is for images")
    return found


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
        write_atomically(out, lambda file: file.write(text.encode()))
        typer.echo(f"wrote {out}")
    if grid is not None:
        sheets = torch.cat([tile(report.pictures), tile(report.nearest)], 2)
        save_image(sheets, grid, zoom=2)
        typer.echo(f"wrote {grid}: samples left, their nearest training images right")


def train_classifier(
    data: Annotated[
        str,
        typer.Option(help="digits, mnist, fashion_mnist or cifar10.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(help="File to write, .safetensors.", show_default=False)],
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the data. [default: the recipe's]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of weights, order and shifts. [default: 0]")
    ] = None,
) -> None:
    """Train the classifier whose features `evaluate` compares images by.

    On one core: digits 10 seconds, mnist 2 minutes, cifar10 15 minutes. The file says what
    it was trained on, and its accuracy on the test images.

    Examples:

    * `diffusion-edu train-classifier --data fashion_mnist --out fashion.safetensors`

    * `diffusion-edu train-classifier --data cifar10 --epochs 20 --out better.safetensors`
    """
    from dataclasses import replace

    import torch
    from tqdm import tqdm

    from .classifier import recipe
    from .classifier_files import load_classifier
    from .classifier_files import train_classifier as train

    if out.suffix != ".safetensors":
        raise ValueError(f"--out must end in .safetensors, got {str(out)!r}")
    given: dict[str, Any] = {
        k: v for k, v in {"epochs": epochs, "seed": seed}.items() if v is not None
    }
    plan = replace(recipe(data), **given)
    torch.set_num_threads(plan.threads)
    with tqdm(train(plan, out), total=plan.epochs, unit="epoch") as bar:
        for record in bar:
            bar.set_postfix(loss=f"{record.loss:.4f}", accuracy=f"{record.accuracy:.2%}")
    _, info = load_classifier(out)
    typer.echo(f"accuracy on {info.tested:,} test images: {info.accuracy:.2%}")
    typer.echo(f"wrote {out} ({out.stat().st_size:,} bytes)")
