"""Evaluation of image networks: streams of statistics, copies, bits per dimension, the report."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_unet import CHAIN, some_images, unet
from torch import Tensor
from torch.nn.functional import pad as pad_image
from typer import Typer
from typer.testing import CliRunner

from diffusion_edu import _parallel, nets, schedules
from diffusion_edu._parallel import gather
from diffusion_edu.data import images
from diffusion_edu.data.images import to_float
from diffusion_edu.evaluation import commands
from diffusion_edu.evaluation import evaluate as module
from diffusion_edu.evaluation.evaluate import Wanted, evaluate
from diffusion_edu.evaluation.generate import Sampling
from diffusion_edu.evaluation.likelihood import bits_per_dim_of
from diffusion_edu.evaluation.memorisation import memorisation, nearest
from diffusion_edu.objectives import elbo

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- copies of training images -------------------------------------------------------------------


def test_nearest_by_brute_force() -> None:
    """Neighbour and distance as from all pairs; in several blocks of training images too."""
    x, y = some_images(7, 2, 4, 4), some_images(60, 2, 4, 4, seed=2)
    gaps = (x[:, None].double() - y[None].double()).flatten(2).square().mean(2).sqrt()
    for block in (2**24, 32 * 13):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("diffusion_edu.evaluation.memorisation.BLOCK", block)
            patch.setattr("diffusion_edu.evaluation.memorisation.QUERIES", 3)
            found = nearest(x, y)
        assert torch.equal(found.which, gaps.argmin(1))
        assert torch.allclose(found.distance, gaps.min(1).values)


def test_planted_copies_are_found() -> None:
    """30 % of the "samples" are training images: at least these count as copies, at distance 0."""
    training, test = images.load("digits"), images.load("digits", "test")
    planted = torch.arange(60) * 7
    samples = torch.cat([training.images[planted], some_images(140, 1, 8, 8)])
    memory = memorisation(samples, test.images, training.images)
    assert torch.equal(memory.samples.distance[:60], torch.zeros(60, dtype=torch.float64))
    assert torch.equal(training.images[memory.samples.which[:60]], samples[:60])
    assert memory.copies == 0.3
    assert memory.plain()["copies"] == 0.3
    assert memory.ratio > 1  # noise is far from every digit
    honest = memorisation(test.images[::2], test.images[1::2], training.images)
    assert honest.copies < 0.05
    assert 0.8 < honest.ratio < 1.25


def test_nearest_checks_shapes() -> None:
    """Other shapes, or no training images, are errors."""
    with pytest.raises(ValueError, match="training must hold images of the shape"):
        nearest(some_images(2, 1, 4, 4), some_images(2, 1, 5, 4))
    with pytest.raises(ValueError, match="training must hold images"):
        nearest(some_images(2, 1, 4, 4), some_images(0, 1, 4, 4))


# ---- bits per dimension --------------------------------------------------------------------------


def test_bits_are_those_of_elbo() -> None:
    """One chunk: each term is ``elbo``'s under the same noise, and they add up."""
    model, x = unet(), some_images(5, 1, 8, 8)
    found = bits_per_dim_of(model, CHAIN, x, batch=5, seed=4)
    g = torch.Generator().manual_seed(4 * 1_000_003)
    terms = elbo(model, to_float(x), CHAIN, generator=g)
    bits = terms.bits_per_dim().double()
    assert found.total.mean == pytest.approx(bits.mean().item(), rel=1e-6)
    assert found.total.error == pytest.approx(bits.std().item() / math.sqrt(5), rel=1e-5)
    assert found.L_0.mean == pytest.approx(terms.L_0.double().mean().item() / (64 * math.log(2)))
    parts = found.L_T.mean + found.L_t.mean + found.L_0.mean
    assert found.total.mean == pytest.approx(parts, rel=1e-12)
    assert (found.images, found.dims, found.conditional, found.sigma2) == (5, 64, False, "beta")


def test_padding_counts_no_dimensions() -> None:
    """4 x 4 images padded to 8 x 8: the bound of 8 x 8 values, divided by 16 of them."""
    model, x = unet(), some_images(3, 1, 4, 4)
    padded = bits_per_dim_of(model, CHAIN, pad_image(x, (2,) * 4), batch=3)
    found = bits_per_dim_of(model, CHAIN, x, pad=2, batch=3)
    assert found.total.mean == pytest.approx(padded.total.mean * 64 / 16)
    assert (found.dims, padded.dims) == (16, 64)


def test_labels_reach_the_network_and_chunks_are_seeded() -> None:
    """y is each image's own label; calls are T per image; noise depends on seed and chunk only."""
    seen: list[tuple[int, ...]] = []

    def model(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        seen.append(tuple(y.tolist()))
        return torch.zeros_like(x)

    x, labels = some_images(5, 1, 4, 4), torch.tensor([3, 1, 4, 1, 5])
    chain = schedules.linear(7)
    found = bits_per_dim_of(model, chain, x, labels, batch=2)
    assert found.conditional
    assert {y: seen.count(y) for y in seen} == {(3, 1): 7, (4, 1): 7, (5,): 7}
    assert bits_per_dim_of(model, chain, x, labels, batch=2) == found
    assert bits_per_dim_of(model, chain, x, labels, batch=2, seed=1) != found
    with pytest.raises(ValueError, match="the number of images must be an int >= 2, got"):
        bits_per_dim_of(model, chain, x[:1], labels[:1])


# ---- everything together -------------------------------------------------------------------------


def test_evaluate_a_random_network() -> None:
    """A tiny untrained U-Net on digits: every figure is there, plain, named for what it is."""
    plan = Sampling(n=60, steps=3, batch=25)
    report = evaluate(unet(), CHAIN, "digits", plan, Wanted(bits=4, neighbours=20))
    assert report.samples.images == report.floor.images == 60
    assert report.samples.fd > 3 * report.floor.fd
    assert report.samples.kd > 3 * abs(report.floor.kd)
    assert report.official
    assert report.bits is not None
    assert (report.bits.images, report.bits.dims, report.bits.conditional) == (4, 64, True)
    assert sum(report.classes.counts.values()) == 60
    assert report.pictures.shape == report.nearest.shape == (20, 1, 8, 8)
    plain = json.loads(json.dumps(report.plain(), allow_nan=False))
    assert plain["plan"]["n"] == 60
    assert plain["space"] == {"name": "classifier features", "dim": 64, "accuracy": 354 / 360}
    assert plain["memory"]["images"] == 20
    text = "\n".join(report.lines())
    assert "FD (classifier features)" in text
    assert "of the class asked for:" in text
    assert "FID" not in text


def test_evaluate_without_labels_or_bits() -> None:
    """Unconditional samples have no class asked for; bits=0 leaves the bound out."""
    plan = Sampling(n=20, steps=2, labels="none")
    report = evaluate(unet(), CHAIN, "digits", plan, Wanted(bits=0, neighbours=5))
    assert report.classes.accuracy is None
    assert report.bits is None
    assert report.plain()["bits"] is None
    assert "asked for" not in "\n".join(report.lines())


def training_digits(*args: Any, **kwargs: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """In place of ``generate``: 400 training images, padded by 4."""
    training = images.load("digits")
    padded = pad_image(training.images[:400], (4,) * 4)
    yield from zip(padded.split(50), training.labels[:400].split(50), strict=True)


def test_evaluate_knows_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training images in place of samples: near the test images, all of them copies."""
    monkeypatch.setattr(module, "generate", training_digits)
    wanted = Wanted(bits=0, neighbours=100)
    report = evaluate(unet(), CHAIN, "digits", Sampling(n=400), wanted, pad=4)
    assert report.samples.fd < 2 * report.floor.fd
    assert report.classes.accuracy == 1.0
    assert report.classes.imbalance < 0.05
    assert (report.memory.copies, report.memory.ratio) == (1.0, 0.0)
    assert torch.equal(report.pictures, report.nearest)
    assert report.pictures.shape == (100, 1, 8, 8)


def test_the_report_is_of_its_seed_and_its_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another seed draws other noise for the bound; data from elsewhere are not called official."""
    monkeypatch.setattr(module, "generate", training_digits)
    bits = []
    for seed in (0, 0, 1):
        plan = Sampling(n=100, seed=seed)
        found = evaluate(unet(), CHAIN, "digits", plan, Wanted(bits=2, neighbours=5), pad=4).bits
        assert found is not None
        bits.append(found.total)
    assert bits[0] == bits[1] != bits[2]
    real = module.load
    other = partial(replace, official=False)
    monkeypatch.setattr(module, "load", lambda *args, **how: other(real(*args, **how)))
    plan, wanted = Sampling(n=100), Wanted(bits=0, neighbours=5)
    assert not evaluate(unet(), CHAIN, "digits", plan, wanted, pad=4).official


def test_learned_variances_enter_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that predicts its variances is evaluated with these."""
    monkeypatch.setattr(module, "generate", training_digits)
    model, plan = unet(learned_variance=True), Sampling(n=400)
    bits = evaluate(model, CHAIN, "digits", plan, Wanted(bits=2, neighbours=5), pad=4).bits
    assert bits is not None
    assert (bits.sigma2, bits.conditional, bits.dims) == ("learned", True, 64)


def test_evaluate_checks_numbers() -> None:
    """Too few samples or images are named before anything is computed."""
    with pytest.raises(ValueError, match=r"plan\.n must be an int >= 2, got plan\.n=1"):
        evaluate(unet(), CHAIN, "digits", Sampling(n=1))
    with pytest.raises(ValueError, match="bits must be an int >= 2, got bits=1"):
        Wanted(bits=1)
    with pytest.raises(ValueError, match="neighbours must be an int >= 1"):
        Wanted(neighbours=0)


def found_together() -> dict[str, Any]:
    """Plain values of a report in which every part has more than one chunk; and rows gathered."""
    rank = _parallel.rank()
    rows = torch.arange(3.0 * rank, 2.0 + 5 * rank)  # 0 1 of the first, 3 4 5 6 of the second
    plan = Sampling(n=40, steps=2, batch=10)
    report = evaluate(unet(), CHAIN, "digits", plan, Wanted(bits=70, neighbours=40)).plain()
    del report["cost"]
    return {"rows": gather(rows).tolist(), **report}


SHARED = """
import json, sys, torch
sys.path.insert(0, sys.argv[1])
from test_evaluation import _parallel, found_together
torch.set_num_threads(1)
with _parallel.together():
    print(json.dumps(found_together()))
"""


def in_two_processes() -> list[dict[str, Any]]:
    """What ``found_together`` returns in each of two processes that know each other by gloo."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    host = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common = {**os.environ, **host, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SHARED, str(Path(__file__).parent)],
            env={**common, "RANK": str(rank)},
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [p.communicate(timeout=120)[0] for p in processes]
    assert [p.returncode for p in processes] == [0, 0]
    return [json.loads(text) for text in outputs]


def numbers(x: Any) -> Any:
    """Nested values with floats to compare approximately."""
    if isinstance(x, dict):
        return {k: numbers(v) for k, v in x.items()}
    return pytest.approx(x, rel=1e-4) if isinstance(x, float) else x


def test_two_processes_find_what_one_finds() -> None:
    """Both return the whole report of one process alone."""
    alone = {**found_together(), "rows": [0, 1, 3, 4, 5, 6]}
    first, second = in_two_processes()
    assert first == numbers(alone)
    assert second == numbers(alone)


# ---- the command ---------------------------------------------------------------------------------


def invoke(*options: str) -> Any:
    app = Typer()
    app.command()(commands.evaluate)
    return CliRunner().invoke(app, options)


def test_evaluate_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Prints the lines, writes report and grid."""
    info = types.SimpleNamespace(data="digits", pad=0, shape=(1, 8, 8), official=False)
    monkeypatch.setattr(nets, "pretrained", lambda name: (unet(), CHAIN, info))
    out, grid = tmp_path / "report.json", tmp_path / "grid.png"
    few = ["--n", "30", "--steps", "2", "--bits", "2", "--neighbours", "10", "--device", "cpu"]
    result = invoke("--model", "any", *few, "--out", str(out), "--grid", str(grid))
    assert result.exit_code == 0, result.output
    assert "FD (classifier features)" in result.output
    report = json.loads(out.read_text())
    assert "the network was NOT trained on the published files" in result.output
    assert (report["model"], report["model_official"]) == ("any", False)
    assert report["samples"]["images"] == 30
    assert grid.read_bytes().startswith(b"\x89PNG")


def test_evaluate_command_refuses(tmp_path: Path) -> None:
    """Networks of points, and files of another kind, before any work."""
    result = invoke("--model", "moons")
    assert "moons is a network for points" in str(result.exception)
    result = invoke("--model", "moons", "--out", "report.txt")
    assert "--out must end in .json, got 'report.txt'" in str(result.exception)
