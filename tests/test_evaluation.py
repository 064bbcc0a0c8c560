"""Evaluation of image networks: streams of statistics, copies, bits per dimension, the report."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import pad as pad_image
from typer import Typer
from typer.testing import CliRunner

from diffusion_edu import _parallel, nets, schedules
from diffusion_edu.data import images
from diffusion_edu.data.images import to_float
from diffusion_edu.evaluation import commands, statistics
from diffusion_edu.evaluation import evaluate as module
from diffusion_edu.evaluation.evaluate import Wanted, evaluate
from diffusion_edu.evaluation.features import crop, features_for
from diffusion_edu.evaluation.generate import Sampling
from diffusion_edu.evaluation.inception import inception_metrics
from diffusion_edu.evaluation.likelihood import bits_per_dim_of
from diffusion_edu.evaluation.memorisation import memorisation, nearest
from diffusion_edu.evaluation.statistics import FeatureStatistics, Moments, gather, summarise
from diffusion_edu.nets import UNet, UNetConfig
from diffusion_edu.objectives import elbo

Draw = Callable[..., Tensor]
ROOT = Path(nets.__file__).parents[2]
CONFIG = UNetConfig(
    image_channels=1, channels=(8, 16), groups=4, attention=(), blocks=1, classes=10, T=20
)
CHAIN = schedules.linear(20)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small wait for their threads more than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def unet(**changes: Any) -> UNet:
    """A tiny U-Net whose output is not zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = UNet(replace(CONFIG, **changes))
        torch.nn.init.normal_(model.conv_out.weight, std=0.1)
    return model.eval()


def some_images(n: int, *shape: int, seed: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, *shape), dtype=torch.uint8, generator=g)


# ---- moments -------------------------------------------------------------------------------------


def same(a: Moments, b: Moments) -> bool:
    return (
        a.count == b.count
        and torch.allclose(a.mean, b.mean, rtol=1e-10)
        and torch.allclose(a.covariance, b.covariance, rtol=1e-8, atol=1e-10)
    )


@given(cuts=st.lists(st.integers(0, 40), max_size=5), offset=st.sampled_from([0.0, 1e6]))
def test_moments_of_parts_are_moments_of_all(cuts: list[int], offset: float) -> None:
    """Any way of cutting 40 rows, empty parts too, gives mean and covariance of all of them.

    With means of 1e6 as well, where the difference of two sums of squares has no digit left.
    """
    g = torch.Generator().manual_seed(len(cuts))
    x = torch.randn(40, 3, generator=g, dtype=torch.float64) + offset
    edges = [0, *sorted(cuts), 40]
    moments = Moments(3)
    for low, high in pairwise(edges):
        moments.update(x[low:high])
    assert moments.count == 40
    assert torch.allclose(moments.mean, x.mean(0), rtol=1e-12)
    wanted = (x - x.mean(0)).T.cov()
    assert torch.allclose(moments.covariance, wanted, rtol=1e-8, atol=1e-9)
    assert same(moments, moments.combined())  # a world of one


def test_moments_merge_in_any_grouping(randn: Draw) -> None:
    """(a + b) + c = a + (b + c); what is merged stays as it was."""
    a, b, c = (Moments.of(randn(n, 4)) for n in (3, 1, 8))
    left, right = Moments(4), Moments(4)
    for m in (a, b, c):
        left.merge(m)
    b.merge(c)
    right.merge(a)
    right.merge(b)
    assert same(left, right)
    assert a.count == 3


def test_moments_need_two_rows_of_one_size() -> None:
    """The covariance of one row is NaN; other dimensions are an error."""
    assert Moments.of(torch.ones(1, 2)).covariance.isnan().all()
    with pytest.raises(ValueError, match="other must have dimension 2, got 3"):
        Moments(2).update(torch.ones(5, 3))
    with pytest.raises(ValueError, match=r"x must have shape \(n, d\), got \(5,\)"):
        Moments.of(torch.ones(5))


def test_statistics_count_and_keep(monkeypatch: pytest.MonkeyPatch, randn: Draw) -> None:
    """Predictions, labels that came true, and no more than KEEP features, the first."""
    monkeypatch.setattr(statistics, "KEEP", 5)
    space = features_for("digits")
    result = FeatureStatistics.empty(space)
    assert result.accuracy is None
    features, logits = randn(8, space.dim).float(), randn(8, 10).float()
    guess = logits.argmax(1)
    result.update(features[:3], logits[:3])
    result.update(features[3:], logits[3:], torch.where(guess[3:] < 5, guess[3:], 0))
    assert torch.equal(result.predicted, guess.bincount(minlength=10))
    right = int(((guess[3:] < 5) | (guess[3:] == 0)).sum())
    assert (result.wanted, result.right) == (5, right)
    for one in (result, result.combined()):
        assert torch.equal(one.kept, features[:5])
        assert one.moments.count == 8
        assert one.accuracy == right / 5


def test_classifier_features_of_digits() -> None:
    """summarise = the classifier on everything at once; its accuracy is the one in the file."""
    space, test = features_for("digits"), images.load("digits", "test")
    parts = zip(test.images.split(50), test.labels.split(50), strict=True)
    result = summarise(parts, space)
    features, logits = space(test.images)
    assert space.name == "classifier features"
    assert same(result.moments, Moments.of(features))
    assert torch.equal(result.predicted, logits.argmax(1).bincount(minlength=10))
    assert result.accuracy == pytest.approx(space.info.accuracy)
    assert torch.allclose(result.kept, features, atol=1e-5)


def test_features_must_be_of_the_data(tmp_path: Path) -> None:
    """No classifier, or one of other data: the message says which command makes one."""
    with pytest.raises(ValueError, match="train-classifier --data fashion_mnist, and give its"):
        features_for("fashion_mnist")
    with pytest.raises(ValueError, match="Did you mean 'mnist'"):
        features_for("minst")
    with pytest.raises(ValueError, match="must be of a classifier for 'mnist', got one for 'dig"):
        features_for("mnist", weights=features_for("digits").info.path)


def test_crop_undoes_padding() -> None:
    """crop(pad(x)) = x; a crop that leaves nothing is an error."""
    x = some_images(2, 3, 6, 5)
    assert torch.equal(crop(pad_image(x, (2,) * 4), 2), x)
    assert torch.equal(crop(x, 0), x)
    with pytest.raises(ValueError, match=r"pad must be an int in 0\.\.2, got pad=3"):
        crop(x, 3)


def test_gather_alone_gives_back_the_rows(randn: Draw) -> None:
    """In a world of one: the same rows, also if there are none."""
    x = randn(4, 2)
    assert torch.equal(gather(x), x)
    assert gather(x[:0]).shape == (0, 2)


STREAM = """
import resource, torch
from diffusion_edu.evaluation.features import features_for
from diffusion_edu.evaluation.statistics import summarise
torch.set_num_threads(1)
space, peaks, g = features_for("digits"), [], torch.Generator().manual_seed(0)
def parts():
    for k in range(200):
        labels = torch.arange(250) % 10
        yield torch.randint(256, (250, 1, 8, 8), dtype=torch.uint8, generator=g), labels
        if k in (19, 199):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
assert summarise(parts(), space).moments.count == 50_000
print(*peaks)
"""


def test_fifty_thousand_images_take_no_more_memory_than_five_thousand() -> None:
    """Peak memory of a process of its own grows by less than 10 % after the first 5,000 images."""
    pytest.importorskip("resource")
    result = subprocess.run(
        [sys.executable, "-c", STREAM], capture_output=True, text=True, cwd=ROOT, check=True
    )
    early, late = map(int, result.stdout.split())
    assert late < 1.1 * early


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
            cwd=ROOT,
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


# ---- Inception -----------------------------------------------------------------------------------


class FakeFidelity(types.ModuleType):
    """Records what it was called with, as torch-fidelity would be."""

    def calculate_metrics(self, **options: Any) -> dict[str, float]:
        self.options = options
        names = ("frechet_inception_distance", "kernel_inception_distance_mean")
        return {**dict.fromkeys(names, 2.5), "kernel_inception_distance_std": 0.5}


def test_inception_hands_over_colour_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grey images become (3, H, W) uint8; the subset fits the smaller side."""
    fake = FakeFidelity("torch_fidelity")
    monkeypatch.setitem(sys.modules, "torch_fidelity", fake)
    grey = some_images(30, 1, 8, 8)
    found = inception_metrics(grey, some_images(50, 3, 8, 8), weights=__file__)
    first, second = fake.options["input1"], fake.options["input2"]
    assert (len(first), len(second)) == (30, 50)
    assert first[29].shape == (3, 8, 8)
    assert first[29].dtype == torch.uint8
    assert torch.equal(first[29][2], grey[29, 0])
    assert fake.options["kid_subset_size"] == 30
    assert fake.options["feature_extractor_weights_path"] == __file__
    assert [fake.options[k] for k in ("fid", "kid", "cuda")] == [True, True, False]
    assert (found.fid, found.kid, found.kid_error) == (2.5, 2.5, 0.5)
    assert (found.samples, found.reference) == (30, 50)
    assert "FID 2.50" in found.line()


def test_inception_takes_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The path of a folder goes through as it is."""
    fake = FakeFidelity("torch_fidelity")
    monkeypatch.setitem(sys.modules, "torch_fidelity", fake)
    found = inception_metrics(tmp_path, some_images(5, 3, 8, 8))
    assert fake.options["input1"] == str(tmp_path)
    assert fake.options["kid_subset_size"] == 5
    assert found.samples is None


def test_inception_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, weights, a folder or colours: what to do."""
    x = some_images(5, 3, 8, 8)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ValueError, match=r'pip install "diffusion_edu\[fid\]"'):
        inception_metrics(x, x)
    monkeypatch.setitem(sys.modules, "torch_fidelity", FakeFidelity("torch_fidelity"))
    with pytest.raises(ValueError, match=r"no file nowhere\.pth"):
        inception_metrics(x, x, weights="nowhere.pth")
    with pytest.raises(ValueError, match="samples must be a folder of images or a tensor"):
        inception_metrics("nowhere", x)
    with pytest.raises(ValueError, match=r"reference must be \(n, C, H, W\) uint8"):
        inception_metrics(x, x.float())


def test_evaluate_with_inception(monkeypatch: pytest.MonkeyPatch) -> None:
    """All samples are compared with all training images."""
    fake = FakeFidelity("torch_fidelity")
    monkeypatch.setitem(sys.modules, "torch_fidelity", fake)
    wanted = Wanted(bits=0, neighbours=5, inception=True)
    report = evaluate(unet(), CHAIN, "digits", Sampling(n=30, steps=2, batch=20), wanted)
    assert (len(fake.options["input1"]), len(fake.options["input2"])) == (30, 1437)
    assert report.plain()["inception"]["fid"] == 2.5
    assert "Inception: FID 2.50" in report.lines()[-2]


def test_inception_with_the_real_package() -> None:
    """torch-fidelity itself, a small extractor in Inception's place: FID by our own formula."""
    try:
        import torch_fidelity
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torch-fidelity is not here: {error}")
    from diffusion_edu.metrics import frechet_distance

    class Mean(torch_fidelity.FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("rows",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "rows"

        def forward(self, x: Tensor) -> tuple[Tensor]:
            assert x.dtype == torch.uint8
            assert x.shape[1] == 3
            return (x.float().mean((1, 3)) / 50,)

    torch_fidelity.register_feature_extractor("mean-of-rows", Mean)
    x, y = some_images(60, 1, 8, 8), some_images(70, 1, 8, 8, seed=5) // 2
    found = inception_metrics(x, y, extractor="mean-of-rows")
    a, b = (Moments.of(z.float().mean((1, 3)) / 50) for z in (x, y))
    wanted = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    assert found.fid == pytest.approx(float(wanted), rel=1e-3)
    assert found.kid > 0


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
