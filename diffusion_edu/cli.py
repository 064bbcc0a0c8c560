"""The command line: diffusion-edu lab | lectures | exercise | grade | train | sample | ..."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import Tensor

from ._checks import check_count
from .data.commands import app as data_app
from .evaluation.commands import evaluate, train_classifier
from .evaluation.table_command import table
from .grading.commands import doctor, exercise_app, grade, gradescope_zip
from .lectures.commands import lectures_app
from .training.commands import train

__all__ = ["app", "main"]

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


class Sampler(StrEnum):
    """Names of the samplers."""

    ddim = "ddim"
    ddpm = "ddpm"


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


@app.command()
def sample(
    model: Annotated[
        str, typer.Option(help="A shipped network (`info` lists them), or a .safetensors file.")
    ] = "swiss_roll",
    sampler: Annotated[
        Sampler, typer.Option(help="ddim: few steps, no noise; ddpm: random, best with all steps.")
    ] = Sampler.ddim,
    steps: Annotated[
        int | None, typer.Option(help="Steps. [default: 50 for ddim, all T for ddpm]")
    ] = None,
    eta: Annotated[
        float | None, typer.Option(help="Noise of ddim, 0 (none) to 1 (as ddpm). [default: 0]")
    ] = None,
    n: Annotated[
        int | None, typer.Option(help="How many. [default: 2000 points, 100 images]")
    ] = None,
    guidance: Annotated[
        float, typer.Option(help="Images of classes: above 1 pushes towards the class.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Same seed, same samples.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="File to write: .npy, a .png picture, or .csv of points.")
    ] = None,
) -> None:
    """Draw new points or images from a trained network.

    Image i of a network that knows K classes is asked to be of class i mod K.

    Examples:

    * `diffusion-edu sample --out roll.png`

    * `diffusion-edu sample --model moons --sampler ddpm --out moons.csv`

    * `diffusion-edu sample --model mnist --n 100 --guidance 2 --out digits.png`
    """
    if sampler is Sampler.ddpm and eta is not None:
        raise ValueError(f"eta={eta} is for ddim: ddpm has eta = 1, leave --eta out")
    check_count(1 if n is None else n, 1, None, "n")
    from .nets import pretrained

    network, schedule, info = pretrained(model)
    writers = _POINT_WRITERS if len(info.shape) == 1 else _IMAGE_WRITERS
    if out is not None and out.suffix not in writers:
        raise ValueError(f"--out must end in {', '.join(writers)}, got {str(out)!r}")
    ancestral = sampler is Sampler.ddpm
    how: dict[str, Any] = {
        "steps": steps if steps is not None else (schedule.T if ancestral else 50),
        "eta": 1.0 if ancestral else eta or 0.0,
        # DDPM with sigma^2 = beta_t, the paper's; on fewer steps the same for the shorter chain.
        "variance": "large" if ancestral else "eta",
        "seed": seed,
    }
    if len(info.shape) == 1:
        drawn = _draw_points(network, schedule, n or 2000, **how)
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
    network: Any, schedule: Any, n: int, *, steps: int, eta: float, variance: Any, seed: int
) -> Tensor:
    import torch
    from tqdm import tqdm

    from .sampling import sample as walk

    torch.set_num_threads(1)  # on a small network more threads wait longer than they compute
    g = torch.Generator().manual_seed(seed)
    points = torch.randn(n, network.dim, generator=g)
    path = walk(network, points, schedule, steps, eta=eta, variance=variance, generator=g)
    for step in tqdm(path, total=steps, unit="step"):
        points = step.x_s
    return points


def _draw_images(network: Any, schedule: Any, info: Any, n: int, **how: Any) -> Tensor:
    """(n, C, H, W) uint8, without padding."""
    import torch

    from ._parallel import local_device
    from .evaluation.features import crop
    from .evaluation.generate import Sampling, generate

    plan = Sampling(n=n, batch=min(n, 100), **how)
    chunks = generate(network.to(local_device()), schedule, info.shape, plan)
    return crop(torch.cat([images.cpu() for images, _ in chunks]), info.pad)


def _write_npy(points: Tensor, path: Path) -> None:
    import numpy

    numpy.save(path, points.numpy())


def _write_csv(points: Tensor, path: Path) -> None:
    rows = (",".join(f"{value:.7g}" for value in point) for point in points.tolist())
    path.write_text("\n".join(["x,y", *rows]) + "\n")


def _write_png(points: Tensor, path: Path) -> None:
    from .viz.figures import save_scatter

    save_scatter(points, path)


def _write_grid(images: Tensor, path: Path) -> None:
    from .viz.images import save_image, tile

    columns = 10 if len(images) >= 10 else None  # ten classes: one a column
    save_image(tile(images, columns), path, zoom=max(1, 64 // images.shape[-1]))


_POINT_WRITERS = {".npy": _write_npy, ".csv": _write_csv, ".png": _write_png}
_IMAGE_WRITERS = {".npy": _write_npy, ".png": _write_grid}


@app.command()
def info() -> None:
    """Show versions, the device, and where data and weights live."""
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
