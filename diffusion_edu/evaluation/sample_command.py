"""The command line for samples: diffusion-edu sample."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from .. import _parallel, sampling
from .._checks import check_count
from .._options import Seed, check_file, examples
from ..nets import pretrained
from ..schedules import Schedule

__all__ = ["Sampler", "sample"]


class Sampler(StrEnum):
    """Names of the samplers."""

    ddim = "ddim"
    ddpm = "ddpm"


Model = Annotated[
    str, typer.Option(help="A shipped network (`info` lists them), or a .safetensors file.")
]
Way = Annotated[
    Sampler, typer.Option(help="ddim: few steps, no noise; ddpm: random, best with all steps.")
]
Steps = Annotated[int | None, typer.Option(help="Steps. [default: 50 for ddim, all T for ddpm]")]
Eta = Annotated[
    float | None, typer.Option(help="Noise of ddim, 0 (none) to 1 (as ddpm). [default: 0]")
]
Samples = Annotated[int | None, typer.Option(help="How many. [default: 2000 points, 100 images]")]
Guidance = Annotated[
    float, typer.Option(help="Images of classes: above 1 pushes towards the class.")
]
Out = Annotated[
    Path | None, typer.Option(help="File to write: .npy, a .png picture, or .csv of points.")
]


@examples(
    "diffusion-edu sample --out roll.png",
    "diffusion-edu sample --model moons --sampler ddpm --out moons.csv",
    "diffusion-edu sample --model mnist --n 100 --guidance 2 --out digits.png",
)
def sample(
    model: Model = "swiss_roll",
    sampler: Way = Sampler.ddim,
    steps: Steps = None,
    eta: Eta = None,
    n: Samples = None,
    guidance: Guidance = 1.0,
    seed: Seed = 0,
    out: Out = None,
) -> None:
    """Draw new points or images from a trained network.

    Image i of a network that knows K classes is asked to be of class i mod K.
    """
    ddpm = sampler is Sampler.ddpm
    if ddpm and eta is not None:
        raise ValueError(f"eta={eta} is for ddim: ddpm has eta = 1, leave --eta out")
    check_count(1 if n is None else n, 1, None, "n")
    network, schedule, info = pretrained(model)
    points = len(info.shape) == 1
    if points and guidance != 1:
        raise ValueError(f"guidance={guidance} needs classes, not points: leave --guidance out")
    writers = _POINT_WRITERS if points else _IMAGE_WRITERS
    check_file("--out", out, *writers)
    if steps is None:
        steps = schedule.T if ddpm else 50
    # DDPM with sigma^2 = beta_t, the paper's; on fewer steps the same for the shorter chain.
    variance, eta = ("large", 1.0) if ddpm else ("eta", eta or 0.0)
    how: dict[str, Any] = {"steps": steps, "eta": eta, "variance": variance, "seed": seed}
    if points:
        drawn = _draw_points(network, schedule, (n or 2000, *info.shape), **how)
    else:
        drawn = _draw_images(network, schedule, info, n or 100, guidance=guidance, **how)
    if out is None:
        typer.echo(f"{_summary(drawn)}; keep them with --out FILE{', FILE'.join(writers)}")
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    writers[out.suffix](drawn, out)
    typer.echo(f"wrote {out}")


def _summary(drawn: Tensor) -> str:
    if drawn.ndim > 2:
        return f"{len(drawn)} images of {' x '.join(map(str, drawn.shape[1:]))}"
    mean, std = drawn.mean(0).tolist(), drawn.std(0, correction=0).tolist()
    return f"{len(drawn)} points, mean {mean[0]:.3f} {mean[1]:.3f}, std {std[0]:.3f} {std[1]:.3f}"


def _draw_points(
    network: Any,
    schedule: Schedule,
    shape: tuple[int, ...],
    *,
    steps: int,
    eta: float,
    variance: Any,
    seed: int,
) -> Tensor:
    from tqdm import tqdm

    torch.set_num_threads(1)  # on a small network more threads wait longer than they compute
    g = torch.Generator().manual_seed(seed)
    points = torch.randn(shape, generator=g)
    walk = sampling.sample(
        network, points, schedule, steps, eta=eta, variance=variance, generator=g
    )
    for step in tqdm(walk, total=steps, unit="step"):
        points = step.x_s
    return points


def _draw_images(network: Any, schedule: Schedule, info: Any, n: int, **how: Any) -> Tensor:
    """(n, C, H, W) uint8, without padding."""
    from .features import crop
    from .generate import Sampling, generate

    plan = Sampling(n=n, batch=min(n, 100), **how)
    chunks = generate(network.to(_parallel.local_device()), schedule, info.shape, plan)
    return crop(torch.cat([images.cpu() for images, _ in chunks]), info.pad)


def _write_npy(points: Tensor, path: Path) -> None:
    import numpy

    numpy.save(path, points.numpy())


def _write_csv(points: Tensor, path: Path) -> None:
    rows = (",".join(f"{value:.7g}" for value in point) for point in points.tolist())
    path.write_text("\n".join(["x,y", *rows]) + "\n")


def _write_png(points: Tensor, path: Path) -> None:
    from ..viz.figures import save_scatter

    save_scatter(points, path)


def _write_grid(images: Tensor, path: Path) -> None:
    from ..viz.images import save_image, tile

    columns = 10 if len(images) >= 10 else None  # ten classes: one a column
    save_image(tile(images, columns), path, zoom=max(1, 64 // images.shape[-1]))


_POINT_WRITERS = {".npy": _write_npy, ".csv": _write_csv, ".png": _write_png}
_IMAGE_WRITERS = {".npy": _write_npy, ".png": _write_grid}
