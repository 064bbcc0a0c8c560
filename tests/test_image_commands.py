"""The whole way of an image network at toy size: train, export, sample, evaluate, table.

These are the commands that make the figures of CIFAR-10 on a GPU, with small numbers: what runs
here on a CPU is the same code.
"""

import json
import warnings
from dataclasses import replace
from functools import partial

import matplotlib.image
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from diffusion_edu.cli import app
from diffusion_edu.data import formats
from diffusion_edu.data.formats import CIFAR10_RECORD
from diffusion_edu.data.sources import SOURCES
from diffusion_edu.evaluation.generate import Sampling
from diffusion_edu.nets import pretrained
from diffusion_edu.training import RECIPES, recipe, run

BATCH = 50  # images in a file


def small(source):
    """The data set with fewer images in each of its files."""
    splits = {
        split: (BATCH * len(files), tuple(replace(f, size=BATCH * CIFAR10_RECORD) for f in files))
        for split, (_, files) in source.splits.items()
    }
    return replace(source, splits=splits)


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Run a command with a CIFAR-10 of noise: of the right layout, with 50 images for 10,000."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "cifar-10-batches-bin"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (BATCH, CIFAR10_RECORD), dtype=np.uint8)
    noise[:, 0] %= 10  # labels
    patch = pytest.MonkeyPatch()
    patch.setenv("DIFFUSION_EDU_DATA", str(root))
    patch.setattr(formats, "CIFAR10_BATCH", BATCH)
    patch.setitem(SOURCES, "cifar10", small(SOURCES["cifar10"]))
    for file in SOURCES["cifar10"].files:
        (folder / file.name).write_bytes(noise.tobytes())
    for name in ("cifar10", "cifar10-small"):  # two validation images, one sample in few steps
        patch.setitem(RECIPES, name, replace(recipe(name), held=2, threads=1))
    patch.setattr(run, "COLUMNS", 1)
    patch.setattr(run, "ROWS", 1)
    patch.setattr(run, "Sampling", partial(Sampling, steps=2))
    threads = torch.get_num_threads()

    def call(*arguments):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "not the published content")
            done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    yield call
    patch.undo()
    torch.set_num_threads(threads)


def test_cifar10_small_from_training_to_the_table(command, tmp_path):
    """train --export, sample, evaluate and table of cifar10-small, each with tiny numbers."""
    file = tmp_path / "small.safetensors"
    output = command(
        "train", "--recipe", "cifar10-small", "--out", tmp_path / "run", "--steps", 2, "--every", 1,
        "--batch", 4, "--export", file, "--samples", 4, "--bits", 0,
    )  # fmt: skip
    assert "FD (classifier features)" in output
    assert (tmp_path / "run" / "samples" / "00000002.png").exists()
    model, _, info = pretrained(file)
    assert (info.data, info.shape, info.pad, info.official) == ("cifar10", (3, 32, 32), 0, False)
    assert info.images == 8
    assert sum(p.numel() for p in model.parameters()) <= 7.5e6
    assert file.stat().st_size < 16e6  # float16
    picture = tmp_path / "grid.png"
    command("sample", "--model", file, "--n", 4, "--steps", 2, "--out", picture)
    assert matplotlib.image.imread(picture).shape[:2] == (2 * (33 * 2 + 1),) * 2
    report = tmp_path / "report.json"
    command("evaluate", "--model", file, "--n", 4, "--steps", 2, "--bits", 0, "--out", report)
    assert json.loads(report.read_text())["samples"]["images"] == 4
    table = tmp_path / "table.png"
    command("table", "--model", file, "--eta", "0,hat", "--steps", "1,2", "--n", 4, "--out", table)
    assert table.exists()


def test_the_papers_network_trains(command, tmp_path):
    """A step of the 35.7 M network, and its row of metrics."""
    options = ["train", "--recipe", "cifar10", "--out", tmp_path, "--batch", 1, "--every", 1]
    command(*options, "--steps", 1)
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len(rows) == 2


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_shipped_image_networks(name):
    """pretrained(name): the committed recipe, classes and a null class, at most 2.5 M weights."""
    model, schedule, info = pretrained(name)
    assert info.recipe == recipe(name).plain()
    assert info.official
    assert info.images == info.recipe["config"]["steps"] * info.recipe["config"]["batch"]
    assert sum(p.numel() for p in model.parameters()) <= 2.5e6
    assert (model.config.classes, schedule.T) == (10, 1000)
    x, t = torch.randn(2, *info.shape), torch.tensor([10, 900])
    told, free = model(x, t, torch.tensor([0, 1])), model(x, t)
    assert told.shape == x.shape
    assert torch.equal(free, model(x, t, torch.tensor([10, 10])))
    assert not torch.allclose(told, free)
    assert info.metrics["samples"]["fd"] > 0
