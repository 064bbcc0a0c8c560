"""Shipped networks: the files say the truth about how they were made and how good they are."""

import json
import math

import pytest
import torch

from diffusion_edu.data import toy
from diffusion_edu.gaussian import bits_per_dim
from diffusion_edu.nets.pretrained import WEIGHTS, pretrained, pretrained_names
from diffusion_edu.objectives import elbo, loss_per_example
from diffusion_edu.oracles import MixtureOracle
from diffusion_edu.training import (
    RECIPES,
    Recipe,
    evaluate,
    measure,
    null_mmd2,
    recipe,
    validation_set,
)

NAMES = sorted(name for name, plan in RECIPES.items() if isinstance(plan, Recipe))


def test_every_recipe_is_shipped():
    """Shipped: the recipes for points, below 200 kB each; the images' three; 45 MB in all."""
    assert list(pretrained_names()) == sorted([*NAMES, "colour_digits", "digits", "mnist"])
    sizes = {name: (WEIGHTS / f"{name}.safetensors").stat().st_size for name in pretrained_names()}
    assert max(sizes[name] for name in NAMES) < 200_000
    assert sum(sizes.values()) < 45e6


@pytest.mark.parametrize("name", NAMES)
def test_metadata_is_the_committed_recipe(name):
    """The recipe in the file equals the committed one, so training again makes this network."""
    model, schedule, info = pretrained(name)
    assert info.recipe == recipe(name).plain()
    assert info.data == name
    assert info.seed == recipe(name).config.seed
    assert torch.equal(schedule.alpha_bar, recipe(name).network()[1].alpha_bar)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_quoted_loss_is_reproduced(name):
    """The loss of the loaded network on the recipe's validation set is the quoted one, to 1e-4."""
    model, schedule, info = pretrained(name)
    held = validation_set(recipe(name).points()[1], schedule)
    assert evaluate(model, held, schedule) == pytest.approx(info.loss, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_quoted_mmd_is_reproduced_and_small(name):
    """MMD^2 of seed 0 is the quoted one to 2e-6; all quoted ones are <= 1.5 x the null's 95 %."""
    model, schedule, info = pretrained(name)
    assert measure(model, schedule, name, seed=0) == pytest.approx(
        info.metrics["mmd2"][0], abs=2e-6
    )
    assert max(info.metrics["mmd2"]) <= 1.5 * info.metrics["mmd2_null"]


@pytest.mark.parametrize("name", NAMES)
def test_quoted_null_is_reproduced(name):
    """The quoted 95th percentile agrees with one from fewer, smaller draws within 50 %."""
    quoted = pretrained(name)[2].metrics["mmd2_null"]
    assert null_mmd2(name, pairs=150, size=400) == pytest.approx(quoted, rel=0.5)


def test_loss_is_close_to_the_floor():
    """The exact denoiser minimises L_simple: the network's loss is above its loss, by < 2 %."""
    model, schedule, _ = pretrained("gaussians")
    held = validation_set(toy.gaussians(20_000, seed=8), schedule, n=20_000)
    oracle = MixtureOracle(*toy.gaussians_mixture(), schedule)
    floor = loss_per_example(oracle, *held, schedule).mean().item()
    reached = evaluate(model, held, schedule)
    assert floor < reached < 1.02 * floor


def test_a_path_is_as_good_as_a_name(tmp_path):
    """pretrained(path of a copy) = pretrained(name), weight for weight."""
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes((WEIGHTS / "moons.safetensors").read_bytes())
    a, b = pretrained("moons"), pretrained(copy)
    for x, y in zip(a[0].parameters(), b[0].parameters(), strict=True):
        assert torch.equal(x, y)
    assert b[2].path == copy
    assert a[2].recipe == b[2].recipe


def write(path, **metadata):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, path, metadata=metadata)
    return path


def test_foreign_files_are_refused(tmp_path):
    """A file that is missing, damaged, foreign or does not fit raises ValueError naming it."""
    with pytest.raises(ValueError, match="Did you mean 'swiss_roll'"):
        pretrained("swissroll")
    with pytest.raises(ValueError, match="no file"):
        pretrained(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ValueError, match="not a readable safetensors"):
        pretrained(tmp_path / "text.safetensors")
    with pytest.raises(ValueError, match="not written by this library"):
        pretrained(write(tmp_path / "a.safetensors", format="pt"))
    ours = {"format": "diffusion_edu weights 2"}
    with pytest.raises(ValueError, match="damaged metadata"):
        pretrained(write(tmp_path / "b.safetensors", **ours, recipe="{"))
    with pytest.raises(ValueError, match="cannot be rebuilt"):
        pretrained(write(tmp_path / "c.safetensors", **ours, recipe="{}"))
    plain = {**recipe("moons").plain(), "schedule": {"name": "Schedule"}}
    about = {"data": "x", "official": True, "shape": [2], "recipe": plain, "images": 0, "loss": 0,
             "metrics": {}, "torch": ""}  # fmt: skip
    coded = {key: json.dumps(value) for key, value in about.items()}
    with pytest.raises(ValueError, match="unknown schedule"):  # never any attribute of the module
        pretrained(write(tmp_path / "d.safetensors", **ours, **coded))


@pytest.mark.parametrize("name", NAMES)
def test_bits_per_dim_of_points_as_bytes(name):
    """The bound of a shipped network on 2-D uint8 data: finite, and each of its terms >= 0."""
    model, schedule, _ = pretrained(name)
    levels = toy.LIMIT * toy.from_uint8(toy.to_uint8(toy.load(name, 300, seed=5)))
    g = torch.Generator().manual_seed(0)
    terms = elbo(model, levels, schedule, grid=toy.GRID, generator=g)
    assert terms.bits_per_dim().isfinite().all()
    assert all((part >= 0).all() for part in (terms.L_T, terms.L_t, terms.L_0))


def test_the_bound_is_above_the_exact_code_length():
    """-ELBO in bits/dim >= -log2 of the exact probability of each cell, with the exact denoiser."""
    _, schedule, _ = pretrained("gaussians")
    oracle = MixtureOracle(*toy.gaussians_mixture(), schedule)
    levels = toy.LIMIT * toy.from_uint8(toy.to_uint8(toy.gaussians(500, seed=5))).double()
    g = torch.Generator().manual_seed(0)
    bound = elbo(oracle, levels, schedule, grid=toy.GRID, generator=g).bits_per_dim()
    # A cell is a fifth of a mode's width: its probability is density times area within 2 %.
    area = 2 * math.log(2 * toy.LIMIT / 255)
    exact = bits_per_dim(-oracle.log_prob(levels, 0) - area, 2)
    gap = bound - exact
    assert gap.mean() > 5 * gap.std() / len(gap) ** 0.5
