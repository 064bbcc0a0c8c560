"""The classifier that image distances are taken with: its parts, its files, the shipped ones."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer import Typer
from typer.testing import CliRunner

from diffusion_edu.data import images
from diffusion_edu.data.images import ImageSet
from diffusion_edu.evaluation.classifier import (
    RECIPES,
    ClassifierRecipe,
    accuracy,
    augment,
    recipe,
    train,
)
from diffusion_edu.evaluation.classifier_files import (
    WEIGHTS,
    classifier_names,
    load_classifier,
    save_classifier,
    train_classifier,
)
from diffusion_edu.evaluation.commands import train_classifier as command

TINY = ClassifierRecipe("digits", (1, 8, 8), stem=4, widths=(8, 12), epochs=3, batch=32, shift=1)


pytestmark = pytest.mark.usefixtures("one_thread")


def some_images(n: int, *shape: int) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randint(256, (n, *shape), dtype=torch.uint8, generator=g)


# ---- the network and its recipe ------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_its_network(name: str) -> None:
    """uint8 images of the data's size in; d features and K logits out, float32; logits are linear
    in the features."""
    plan = recipe(name)
    model = plan.network().eval()
    features, logits = model(some_images(3, *plan.shape))
    assert features.shape == (3, plan.widths[-1]) == (3, model.dim)
    assert logits.shape == (3, plan.classes)
    assert features.dtype == logits.dtype == torch.float32
    assert torch.equal(logits, model.head(features))


def test_images_of_another_size_are_refused() -> None:
    """A padded image is not what the classifier knows: the message says to crop."""
    model = TINY.network()
    with pytest.raises(ValueError, match=r"\(B, 1, 8, 8\), got \(2, 1, 12, 12\): crop the padding"):
        model(some_images(2, 1, 12, 12))
    with pytest.raises(ValueError, match=r"torch\.uint8, got torch\.float32"):
        model(some_images(2, 1, 8, 8).float())


def test_a_recipe_survives_json_and_decides_the_weights() -> None:
    """plain() -> JSON -> recipe is the same; same seed, same network; the global seed stays."""
    plan = ClassifierRecipe(**json.loads(json.dumps(TINY.plain())))
    assert plan == TINY
    before = torch.get_rng_state()
    one, two, other = (p.network().head.weight for p in (TINY, plan, replace(TINY, seed=1)))
    assert torch.get_rng_state().equal(before)
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be an int >= 1, got epochs=0"),
        ({"shift": -1}, "shift must be an int >= 0, got shift=-1"),
        ({"lr": 0.0}, r"lr must lie in \(0, 1\), got lr=0.0"),
        ({"warmup": 1.0}, r"warmup must lie in \(0, 1\), got warmup=1.0"),
    ],
)
def test_impossible_recipes(change: dict[str, float], message: str) -> None:
    """Values out of range are named."""
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def test_unknown_recipes_get_a_suggestion() -> None:
    """recipe("minst") suggests "mnist"."""
    with pytest.raises(ValueError, match="Did you mean 'mnist'"):
        recipe("minst")


# ---- training ------------------------------------------------------------------------------------


def test_augment_moves_and_mirrors(generator: torch.Generator) -> None:
    """Every result is one of the 9 shifts of its image or of its mirror image, and all 18 occur."""
    x = some_images(1, 2, 5, 4)
    padded = torch.nn.functional.pad(x[0], (1,) * 4)
    windows = [padded[:, i : i + 5, j : j + 4] for i in range(3) for j in range(3)]
    mirrored = [w.flip(2) for w in windows]
    found = set()
    for image in augment(x.expand(400, -1, -1, -1), 1, True, generator):
        (which,) = [k for k, w in enumerate([*windows, *mirrored]) if torch.equal(w, image)]
        found.add(which)
    assert found == set(range(18))


def test_augment_without_shift_or_flip_does_nothing(generator: torch.Generator) -> None:
    """shift=0, flip=False: the images themselves, uint8."""
    x = some_images(6, 3, 4, 5)
    assert torch.equal(augment(x, 0, False, generator), x)


def test_training_learns_and_repeats() -> None:
    """Three epochs on digits: it learns, and a second run gives the same bits."""
    data, test = images.load("digits"), images.load("digits", "test")
    runs = []
    for _ in range(2):
        torch.manual_seed(123)  # must not matter
        model = TINY.network()
        records = list(train(model, TINY, data))
        runs.append((model, records))
    (model, records), (again, same) = runs
    assert records == same
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    assert [r.epoch for r in records] == [1, 2, 3]
    assert records[-1].loss < records[0].loss / 2
    assert records[-1].seen == 3 * (len(data) // 32) * 32
    assert accuracy(model, test) > 0.85


def test_too_few_images_to_train() -> None:
    """Fewer images than a batch are an error, not an empty epoch."""
    few = ImageSet(some_images(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64), ("a",))
    with pytest.raises(ValueError, match="a batch of 32 images, got 5"):
        next(train(TINY.network(), TINY, few))


# ---- files ---------------------------------------------------------------------------------------


def test_a_file_gives_back_the_network_and_what_is_known(tmp_path: Path) -> None:
    """Half precision in the file; its accuracy is that of the rounded weights."""
    data, test = images.load("digits"), images.load("digits", "test")
    path = tmp_path / "deep" / "c.safetensors"
    *_, last = train_classifier(replace(TINY, epochs=1), path, data, replace(test, official=False))
    model, info = load_classifier(path)
    assert info.recipe == replace(TINY, epochs=1)
    assert (info.data, info.seen, info.tested) == ("digits", last.seen, 360)
    assert info.official is False
    assert info.accuracy == accuracy(model, test)
    assert not model.training
    assert all(not p.requires_grad for p in model.parameters())
    assert all(torch.equal(p, p.half().float()) for p in model.parameters())


def test_bad_files_and_names(tmp_path: Path) -> None:
    """Missing, damaged, foreign and impossible files, and unknown names, are told apart."""
    path = tmp_path / "x.safetensors"
    with pytest.raises(ValueError, match=r"no file .*x\.safetensors"):
        load_classifier(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load_classifier(path)
    with pytest.raises(ValueError, match="no classifier of this library"):
        load_classifier(WEIGHTS.parents[1] / "nets" / "weights" / "moons.safetensors")
    with pytest.raises(ValueError, match="Did you mean 'mnist'"):
        load_classifier("minst")
    test = images.load("digits", "test")
    save_classifier(TINY.network(), TINY, path, test, seen=0, official=True)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"[8, 12]", b"[8, 16]"))
    with pytest.raises(ValueError, match="cannot be rebuilt into a classifier"):
        load_classifier(path)


@pytest.mark.parametrize("name", classifier_names())
def test_shipped_files_are_what_the_recipes_say(name: str) -> None:
    """The recipe in the file is the committed one; sizes, counts and flags are as stated."""
    _, info = load_classifier(name)
    train_images = {"digits": 1437, "mnist": 60_000, "cifar10": 50_000}[name]
    plan = recipe(name)
    assert info.recipe == plan
    assert info.seen == plan.epochs * (train_images // plan.batch) * plan.batch
    assert info.tested == (360 if name == "digits" else 10_000)
    assert info.accuracy >= {"digits": 0.97, "mnist": 0.993, "cifar10": 0.85}[name]
    assert info.path.stat().st_size < {"digits": 2e5, "mnist": 2e5, "cifar10": 1.5e6}[name]
    # CIFAR-10's was trained on a development copy with other pixels: the file must say so.
    assert info.official is (name != "cifar10")


def test_what_is_shipped() -> None:
    """These three, and a recipe for each."""
    assert classifier_names() == ("cifar10", "digits", "mnist")
    assert set(classifier_names()) < set(RECIPES)


@pytest.mark.parametrize("name", classifier_names())
def test_shipped_accuracy_is_true(name: str) -> None:
    """Measured again on 1,000 test images, within 4 standard errors of what the file says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of data that are not the published ones
        try:
            test = images.load(name, "test", download=False)
        except FileNotFoundError:
            pytest.skip(f"{name} is not in the data directory: diffusion-edu data fetch {name}")
    model, info = load_classifier(name)
    step = max(1, len(test) // 1000)
    part = replace(test, images=test.images[::step], labels=test.labels[::step])
    p = info.accuracy
    allowed = 4 * math.sqrt(p * (1 - p) / len(part)) * (step > 1)
    if test.official != info.official:
        allowed += 0.05  # other pixels
    assert abs(accuracy(model, part) - p) <= allowed


# ---- the command ---------------------------------------------------------------------------------


def test_train_classifier_command(tmp_path: Path) -> None:
    """One epoch on digits writes a file and tells its accuracy; a wrong suffix is refused first."""
    app = Typer()
    app.command()(command)
    out = tmp_path / "d.safetensors"
    options = ["--data", "digits", "--out", str(out), "--epochs", "1", "--seed", "3"]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    assert "accuracy on 360 test images" in result.output
    assert load_classifier(out)[1].recipe == replace(recipe("digits"), epochs=1, seed=3)
    wrong = CliRunner().invoke(app, ["--data", "digits", "--out", "x.pt"])
    assert isinstance(wrong.exception, ValueError)
    assert "--out must end in .safetensors, got 'x.pt'" in str(wrong.exception)
