"""The command line for training: diffusion-edu train."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from .. import _parallel
from .._options import Device, check_file, check_folder, examples
from ..schedules import Schedule
from . import checkpoint, quality, recipes
from .loop import train as loop
from .machine import Machine
from .recipes import ImageRecipe, Recipe

__all__ = ["train"]


def _names(kind: type[Recipe] | type[ImageRecipe]) -> str:
    return ", ".join(name for name, plan in recipes.RECIPES.items() if isinstance(plan, kind))


RecipeName = Annotated[
    str,
    typer.Option(
        help=f"What to train. Points: {_names(Recipe)}. Images: {_names(ImageRecipe)}.",
        show_default=False,
    ),
]
Out = Annotated[Path | None, typer.Option(help="Folder of the run. [default: runs/RECIPE]")]
Steps = Annotated[int | None, typer.Option(help="Optimiser steps.")]
Batch = Annotated[int | None, typer.Option(help="Examples per step, all processes.")]
Every = Annotated[int | None, typer.Option(help="Steps between records and checkpoints.")]
Seed = Annotated[int | None, typer.Option(help="Seed of weights, data and noise.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Throw an earlier run in --out away.")]
Fd = Annotated[
    int,
    typer.Option(
        help="Images: with every grid, also the FD (classifier features) of so many samples; "
        "0: none.",
    ),
]
Export = Annotated[
    Path | None, typer.Option(help="Measure the result and write it to this .safetensors file.")
]
Samples = Annotated[int, typer.Option(help="Images: samples that --export measures.")]
Bits = Annotated[
    int, typer.Option(help="Images: test images whose bits/dim --export measures; 0: none.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Of the CPU. [default: the recipe's]")]
Compile = Annotated[
    bool | None,
    typer.Option(
        "--compile/--no-compile", help="Fuse operations. [default: on a GPU]", show_default=False
    ),
]


@examples(
    "diffusion-edu train --recipe swiss_roll",
    "diffusion-edu train --recipe mnist --resume",
    "diffusion-edu train --recipe moons --seed 1 --export moons1.safetensors",
    "torchrun --nproc-per-node 8 -m diffusion_edu train --recipe cifar10",
)
def train(
    recipe: RecipeName,
    out: Out = None,
    steps: Steps = None,
    batch: Batch = None,
    every: Every = None,
    seed: Seed = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    fd: Fd = 0,
    export: Export = None,
    samples: Samples = 10_000,
    bits: Bits = 128,
    device: Device = None,
    threads: Threads = None,
    compile: Compile = None,
) -> None:
    """Train a network: points in a minute, digits in ten, MNIST in an hour or two of one core.

    The folder of the run gets a checkpoint every few hundred steps, metrics.csv, curves.png and
    for images grids of samples; with --fd also fd.csv and fd.png, distance against seconds. Stop
    with Ctrl-C, or pull the plug, and go on with --resume: on the CPU the result is the same to
    the last bit.

    Several GPUs, or several processes on one machine, share every batch under torchrun.
    """
    path = (out or Path("runs") / recipe) / "checkpoint.pt"
    check_folder("--out", path.parent)
    check_file("--export", export, ".safetensors")
    wanted = {"steps": steps, "batch": batch, "every": every, "seed": seed}
    plan = _planned(recipes.recipe(recipe), path, wanted, resume, overwrite)
    torch.set_num_threads(threads or plan.threads)
    place = _parallel.local_device(device)
    with _parallel.together(place):
        if not _train(plan, path, fd, Machine(place, compile=compile), resume):
            again = f"diffusion-edu train --recipe {recipe} --out {path.parent} --resume"
            typer.echo(f"Stopped. Go on with: {again}")
            raise typer.Exit(130)
        if export:
            _export(plan, path, export, place, n=samples, bits=bits)


def _planned(
    plan: Recipe | ImageRecipe,
    path: Path,
    wanted: dict[str, int | None],
    resume: bool,
    overwrite: bool,
) -> Recipe | ImageRecipe:
    """The recipe with the options given; a resumed run's need not be given again."""
    if not resume:
        if path.exists() and not overwrite:
            raise ValueError(
                f"{path} holds an earlier run: add --resume to go on with it, "
                "--overwrite to start again, or choose another --out"
            )
        return plan.with_config(**wanted)
    begun = checkpoint.read(path)["identity"]["config"]
    for name, value in wanted.items():
        if value not in (None, begun[name]):
            raise ValueError(
                f"the run at {path} was begun with {name}={begun[name]}, got --{name} "
                f"{value}: leave --{name} out, or start a new run in another --out"
            )
    return plan.with_config(**{name: begun[name] for name in wanted})


def _train(plan: Recipe | ImageRecipe, path: Path, fd: int, machine: Machine, resume: bool) -> bool:
    """Train with a progress bar; False if stopped before the end, by Ctrl-C in any process."""
    from tqdm import tqdm

    from .run import Run

    config = plan.config
    model, schedule = plan.network()
    run = Run(path.parent, plan, schedule, fd)
    data, held = plan.load(schedule, device=machine.device)
    step = checkpoint.read(path)["step"] if resume else 0
    bar = tqdm(
        total=config.steps * config.batch,
        initial=step * config.batch,
        unit="image",
        unit_scale=True,
        disable=_parallel.rank() > 0,
    )
    with bar, _CtrlC() as pressed:

        def watch(step: int) -> bool:
            bar.update(step * config.batch - bar.n)
            return bool(pressed)

        options: dict[str, Any] = {"checkpoint": path, "resume": resume}
        options |= {"validation": held, "machine": machine, "watch": watch}
        for record in loop(model, data, schedule, config, **options):
            step = record.step
            bar.set_postfix(loss=f"{record.loss:.4f}", validation=f"{record.validation:.4f}")
            bar.set_description("files and samples")
            run.write(record, tuple(held[0].shape[1:]))
            bar.set_description("training")
    return step == config.steps


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


def _export(
    plan: Recipe | ImageRecipe, trained: Path, path: Path, device: torch.device, **sizes: int
) -> None:
    """Measure the averaged network of the checkpoint ``trained`` and write it to ``path``."""
    model, schedule = plan.network()
    model.load_state_dict(checkpoint.read(trained)["ema"])
    model.eval().to(device)
    measure = _measure_images if isinstance(plan, ImageRecipe) else _measure_points
    metrics = measure(model, schedule, plan, **sizes)
    about = quality.export(model, plan, path, metrics)
    if _parallel.rank() == 0:
        typer.echo(f"validation loss {about['loss']:.4f}")
        typer.echo(f"wrote {path} ({path.stat().st_size:,} bytes)")


def _measure_points(model: nn.Module, schedule: Schedule, plan: Any, **_: int) -> dict[str, Any]:
    typer.echo("Measuring 10,000 samples against fresh data ...")
    metrics = quality.measure_points(model, schedule, plan.data)
    typer.echo(
        f"MMD^2 to fresh data {', '.join(f'{v:.1e}' for v in metrics['mmd2'])} "
        f"(two fresh draws: 95% below {metrics['mmd2_null']:.1e})"
    )
    return metrics


def _measure_images(
    model: nn.Module, schedule: Schedule, plan: Any, *, n: int, bits: int
) -> dict[str, Any]:
    """DDIM in 50 steps; for a data set without a shipped classifier nothing is measured."""
    from ..evaluation.classifier_files import classifier_names
    from ..evaluation.evaluate import Wanted, evaluate
    from ..evaluation.generate import Sampling

    if plan.data not in classifier_names():
        typer.echo(f"no classifier of {plan.data} is shipped: samples are not measured")
        return {}
    report = evaluate(
        model, schedule, plan.data, Sampling(n=n), Wanted(bits=bits), pad=plan.pad, progress=True
    )
    if _parallel.rank() == 0:
        typer.echo("\n".join(report.lines()))
    return report.plain()
