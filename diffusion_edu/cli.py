"""The command line: diffusion-edu lab | train | sample | data | info."""

from __future__ import annotations

import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from torch import Tensor

from ._checks import check_count
from .data.commands import app as data_app

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
) -> None:
    """Open the guided tour, or NOTEBOOK, in JupyterLab.

    Everything else is handed to `jupyter lab`. The server listens on this machine only (127.0.0.1)
    and asks for a token, which is part of the address it prints. Ctrl-C stops it.

    Examples:

    * `diffusion-edu lab`

    * `diffusion-edu lab --no-browser --port 8899`

    * `diffusion-edu lab my_notebook.ipynb`
    """
    from . import _lab

    _lab.start(arguments or [])


@app.command()
def train(
    recipe: Annotated[
        str, typer.Option(help="What to train: swiss_roll, moons or gaussians.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(help="Directory for the checkpoint. [default: runs/RECIPE]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, data and noise.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw an earlier run in --out away.")
    ] = False,
    export: Annotated[
        Path | None,
        typer.Option(help="Measure the result and write it to this .safetensors file."),
    ] = None,
) -> None:
    """Train a small network on 2-D points (about a minute).

    A checkpoint is written every few hundred steps. Stop with Ctrl-C, or pull the plug, and go on
    with --resume: on the CPU the result is the same to the last bit.

    Examples:

    * `diffusion-edu train --recipe swiss_roll`

    * `diffusion-edu train --recipe swiss_roll --resume`

    * `diffusion-edu train --recipe moons --seed 1 --export moons1.safetensors`
    """
    from .training import recipes

    directory = out or Path("runs") / recipe
    wanted = {"steps": steps, "seed": seed}
    plan = recipes.recipe(recipe).with_config(**wanted)
    path = directory / "checkpoint.pt"
    if resume:
        plan = _as_begun(plan, path, wanted)
    elif path.exists() and not overwrite:
        raise ValueError(
            f"{path} holds an earlier run: add --resume to go on with it, "
            "--overwrite to start again, or choose another --out"
        )
    if not _train(plan, path, resume):
        typer.echo(
            f"Stopped. Go on with: diffusion-edu train --recipe {recipe} --out {directory} --resume"
        )
        raise typer.Exit(130)
    if export:
        _export(plan, path, export)


def _as_begun(plan: Any, path: Path, wanted: dict[str, int | None]) -> Any:
    """The plan with the options the run was begun with, which need not be given again."""
    from .training import checkpoint

    begun = checkpoint.read(path)["identity"]["config"]
    for name, value in wanted.items():
        if value not in (None, begun[name]):
            raise ValueError(
                f"the run at {path} was begun with {name}={begun[name]}, got --{name} "
                f"{value}: leave --{name} out, or start a new run in another --out"
            )
    return plan.with_config(**{name: begun[name] for name in wanted})


def _train(plan: Any, path: Path, resume: bool) -> bool:
    """Train with a progress bar; False if stopped by Ctrl-C before the end."""
    import torch
    from tqdm import tqdm

    from .training import train as loop

    torch.set_num_threads(plan.threads)
    model, schedule = plan.network()
    data, held = plan.points()
    total = plan.config.steps
    records = loop(
        model, data, schedule, plan.config, validation=held, checkpoint=path, resume=resume
    )
    with tqdm(total=total, unit="step") as bar, _CtrlC() as pressed:
        for record in records:
            bar.update(record.step - bar.n)
            bar.set_postfix(loss=f"{record.loss:.4f}", validation=f"{record.validation:.4f}")
            if pressed and record.step < total:
                return False
    return True


class _CtrlC:
    """Within the block the first Ctrl-C only makes this object true; a second one interrupts."""

    def __enter__(self) -> _CtrlC:
        self.pressed = False
        self.before = signal.signal(signal.SIGINT, self._press)
        return self

    def _press(self, *_: object) -> None:
        self.pressed = True
        signal.signal(signal.SIGINT, self.before)

    def __bool__(self) -> bool:
        return self.pressed

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self.before)


def _export(plan: Any, trained: Path, path: Path) -> None:
    """Measure the averaged network of the checkpoint ``trained`` and write it to ``path``."""
    from .training import checkpoint, export

    model, _ = plan.network()
    model.load_state_dict(checkpoint.read(trained)["ema"])
    typer.echo("Measuring 10,000 samples against fresh data ...")
    about = export(model.eval(), plan, path)
    typer.echo(f"validation loss {about['loss']:.4f}")
    typer.echo(
        f"MMD^2 to fresh data {', '.join(f'{v:.1e}' for v in about['mmd2'])} "
        f"(two fresh draws: 95% below {about['mmd2_null']:.1e})"
    )
    typer.echo(f"wrote {path} ({path.stat().st_size:,} bytes)")


@app.command()
def sample(
    model: Annotated[
        str, typer.Option(help="swiss_roll, moons, gaussians, or a .safetensors file.")
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
    n: Annotated[int, typer.Option(help="How many points.")] = 2000,
    seed: Annotated[int, typer.Option(help="Same seed, same points.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="File to write: .npy, .csv, or a .png picture.")
    ] = None,
) -> None:
    """Draw new points from a trained network.

    Examples:

    * `diffusion-edu sample --out roll.png`

    * `diffusion-edu sample --model moons --sampler ddpm --out moons.csv`

    * `diffusion-edu sample --steps 5 --eta 0.5 --out rough.png`
    """
    if sampler is Sampler.ddpm and eta is not None:
        raise ValueError(f"eta={eta} is for ddim: ddpm has eta = 1, leave --eta out")
    if out is not None and out.suffix not in _WRITERS:
        raise ValueError(f"--out must end in {', '.join(_WRITERS)}, got {str(out)!r}")
    check_count(n, 1, None, "n")
    points = _draw(model, sampler, steps, eta or 0.0, n, seed)
    if out is None:
        mean, std = points.mean(0).tolist(), points.std(0, correction=0).tolist()
        typer.echo(
            f"{n} points, mean {mean[0]:.3f} {mean[1]:.3f}, std {std[0]:.3f} {std[1]:.3f}; "
            "keep them with --out FILE.npy, FILE.csv or FILE.png"
        )
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    _WRITERS[out.suffix](points, out)
    typer.echo(f"wrote {out}")


def _draw(model: str, sampler: Sampler, steps: int | None, eta: float, n: int, seed: int) -> Tensor:
    import torch
    from tqdm import tqdm

    from .nets import pretrained
    from .sampling import sample as walk

    torch.set_num_threads(1)  # on a small network more threads wait longer than they compute
    network, schedule, _ = pretrained(model)
    ancestral = sampler is Sampler.ddpm
    count = steps if steps is not None else (schedule.T if ancestral else 50)
    g = torch.Generator().manual_seed(seed)
    start = torch.randn(n, network.dim, generator=g)
    # DDPM with sigma^2 = beta_t, the paper's choice; on fewer steps the same for the shorter chain.
    variance: Literal["eta", "large"] = "large" if ancestral else "eta"
    path = walk(network, start, schedule, count, eta=eta, variance=variance, generator=g)
    points = start
    for step in tqdm(path, total=count, unit="step"):
        points = step.x_s
    return points


def _write_npy(points: Tensor, path: Path) -> None:
    import numpy

    numpy.save(path, points.numpy())


def _write_csv(points: Tensor, path: Path) -> None:
    rows = (",".join(f"{value:.7g}" for value in point) for point in points.tolist())
    path.write_text("\n".join(["x,y", *rows]) + "\n")


def _write_png(points: Tensor, path: Path) -> None:
    from .viz.figures import save_scatter

    save_scatter(points, path)


_WRITERS = {".npy": _write_npy, ".csv": _write_csv, ".png": _write_png}


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
