"""The command line for training: diffusion-edu train."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import nn

    from ..schedules import Schedule
    from .machine import Machine
    from .recipes import ImageRecipe, Recipe
    from .run import Run

__all__ = ["train"]


def train(
    recipe: Annotated[
        str,
        typer.Option(
            help="What to train. Points: swiss_roll, moons, gaussians. Images: digits, "
            "colour_digits, mnist, fashion_mnist, cifar10-small, cifar10.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run. [default: runs/RECIPE]")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    batch: Annotated[int | None, typer.Option(help="Examples per step, all processes.")] = None,
    every: Annotated[
        int | None, typer.Option(help="Steps between records and checkpoints.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, data and noise.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Throw an earlier run in --out away.")
    ] = False,
    fd: Annotated[
        int,
        typer.Option(
            help="Images: with every grid, also the FD (classifier features) of so many samples; "
            "0: none.",
        ),
    ] = 0,
    export: Annotated[
        Path | None,
        typer.Option(help="Measure the result and write it to this .safetensors file."),
    ] = None,
    samples: Annotated[int, typer.Option(help="Images: samples that --export measures.")] = 10_000,
    bits: Annotated[
        int, typer.Option(help="Images: test images whose bits/dim --export measures; 0: none.")
    ] = 128,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, ... [default: a GPU if there is one]")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Of the CPU. [default: the recipe's]")] = None,
    compile: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Fuse operations. [default: on a GPU]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Train a network: points in a minute, digits in ten, MNIST in an hour or two of one core.

    The folder of the run gets a checkpoint every few hundred steps, metrics.csv, curves.png and
    for images grids of samples; with --fd also fd.csv and fd.png, distance against seconds. Stop
    with Ctrl-C, or pull the plug, and go on with --resume: on the CPU the result is the same to
    the last bit.

    Several GPUs, or several processes on one machine, share every batch under torchrun.

    Examples:

    * `diffusion-edu train --recipe swiss_roll`

    * `diffusion-edu train --recipe mnist --resume`

    * `diffusion-edu train --recipe moons --seed 1 --export moons1.safetensors`

    * `torchrun --nproc-per-node 8 -m diffusion_edu train --recipe cifar10`
    """
    import torch

    from .. import _parallel
    from . import recipes
    from .machine import Machine
    from .run import Run

    plan = recipes.recipe(recipe)
    folder = out or Path("runs") / recipe
    wanted = {"steps": steps, "batch": batch, "every": every, "seed": seed}
    plan = _planned(plan, folder / "checkpoint.pt", wanted, resume, overwrite)
    torch.set_num_threads(threads or plan.threads)
    place = _parallel.local_device(device)
    with _parallel.together(place):
        _, schedule = plan.network()
        run = Run(folder, plan, schedule, fd)
        if not _train(run, Machine(place, compile=compile), resume):
            again = f"diffusion-edu train --recipe {recipe} --out {folder} --resume"
            typer.echo(f"Stopped. Go on with: {again}")
            raise typer.Exit(130)
        if export:
            _export(run, export, {"n": samples, "bits": bits}, place)


def _planned(
    plan: Recipe | ImageRecipe,
    path: Path,
    wanted: dict[str, int | None],
    resume: bool,
    overwrite: bool,
) -> Any:
    """The recipe with the options given; a resumed run's need not be given again."""
    if not resume:
        if path.exists() and not overwrite:
            raise ValueError(
                f"{path} holds an earlier run: add --resume to go on with it, "
                "--overwrite to start again, or choose another --out"
            )
        return plan.with_config(**wanted)
    from . import checkpoint

    begun = checkpoint.read(path)["identity"]["config"]
    for name, value in wanted.items():
        if value not in (None, begun[name]):
            raise ValueError(
                f"the run at {path} was begun with {name}={begun[name]}, got --{name} "
                f"{value}: leave --{name} out, or start a new run in another --out"
            )
    return plan.with_config(**{name: begun[name] for name in wanted})


def _train(run: Run, machine: Machine, resume: bool) -> bool:
    """Train with a progress bar; False if stopped by Ctrl-C before the end."""
    from tqdm import tqdm

    from .. import _parallel
    from . import checkpoint
    from . import train as loop

    plan, config = run.plan, run.plan.config
    model, schedule = plan.network()
    data, held = plan.load(schedule, device=machine.device)
    begun = checkpoint.read(run.checkpoint)["step"] if resume else 0
    bar = tqdm(
        total=config.steps * config.batch,
        initial=begun * config.batch,
        unit="image",
        unit_scale=True,
        disable=_parallel.rank() > 0,
    )
    with bar, _CtrlC() as pressed:

        def watch(step: int) -> bool:
            bar.update(step * config.batch - bar.n)
            return bool(pressed)

        options: dict[str, Any] = {"checkpoint": run.checkpoint, "resume": resume}
        options |= {"validation": held, "machine": machine, "watch": watch}
        step = begun
        for record in loop(model, data, schedule, config, **options):
            step = record.step
            bar.set_postfix(loss=f"{record.loss:.4f}", validation=f"{record.validation:.4f}")
            bar.set_description("files and samples")
            run.write(record, tuple(held[0].shape[1:]))
            bar.set_description("training")
            if pressed:
                break
    return step == config.steps or not pressed


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


def _export(run: Run, path: Path, sizes: dict[str, int], device: Any) -> None:
    """Measure the averaged network of the run's checkpoint and write it to ``path``."""
    from .. import _parallel
    from . import checkpoint
    from .quality import export
    from .recipes import ImageRecipe

    model, schedule = run.plan.network()
    model.load_state_dict(checkpoint.read(run.checkpoint)["ema"])
    model.eval().to(device)
    measure = _measure_images if isinstance(run.plan, ImageRecipe) else _measure_points
    metrics = measure(model, schedule, run.plan, **sizes)
    about = export(model, run.plan, path, metrics)
    if _parallel.rank():
        return
    typer.echo(f"validation loss {about['loss']:.4f}")
    typer.echo(f"wrote {path} ({path.stat().st_size:,} bytes)")


def _measure_points(model: nn.Module, schedule: Schedule, plan: Any, **_: int) -> dict[str, Any]:
    from .quality import measure_points

    typer.echo("Measuring 10,000 samples against fresh data ...")
    metrics = measure_points(model, schedule, plan.data)
    typer.echo(
        f"MMD^2 to fresh data {', '.join(f'{v:.1e}' for v in metrics['mmd2'])} "
        f"(two fresh draws: 95% below {metrics['mmd2_null']:.1e})"
    )
    return metrics


def _measure_images(
    model: nn.Module, schedule: Schedule, plan: Any, *, n: int, bits: int
) -> dict[str, Any]:
    """DDIM in 50 steps; for a data set without a shipped classifier nothing is measured."""
    from .. import _parallel
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
