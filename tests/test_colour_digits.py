"""Digits in colour, the network that was trained on them, and what knows part of an image."""

import math

import pytest
import torch

from diffusion_edu.data import images
from diffusion_edu.data.images import hue_of, tint
from diffusion_edu.evaluation.features import features_for
from diffusion_edu.known import fill_in, gray, holding, pixels
from diffusion_edu.nets.pretrained import WEIGHTS, pretrained
from diffusion_edu.oracles import EmpiricalOracle, MixtureOracle
from diffusion_edu.sampling import ddim, sample
from diffusion_edu.schedules import linear, zero_terminal_snr
from diffusion_edu.training import evaluate, recipe
from diffusion_edu.viz import l10

CHAIN = linear(1000)
CHECKSUM = 131_620_125  # of all levels of all images


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---- the data ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "hues", "n"), [("train", 12, 17_244), ("test", 1, 360)])
def test_colour_digits_are_digits_in_every_hue(split, hues, n):
    """Mean of the channels = half the digit, to rounding; labels follow; hues 1/12 apart."""
    colour, plain = images.load("colour_digits", split), images.load("digits", split)
    assert colour.images.shape == (n, 3, 8, 8)
    assert colour.images.dtype == torch.uint8
    assert torch.equal(colour.labels, plain.labels.repeat_interleave(hues))
    half = plain.images.float().repeat_interleave(hues, 0) / 2
    assert (colour.images.float().mean(1, keepdim=True) - half).abs().max() <= 0.5
    hue, one = hue_of(colour.images)
    assert one.min() > 0.995
    apart = hue.view(-1, hues).diff(dim=1) % 1
    assert ((apart - 1 / 12).abs() < 0.01).all()
    # every hue is as likely: the mean arrow of n even hues is longer than sqrt(7/n) once in 1000
    turn = 2 * math.pi * hue.view(-1, hues)[:, 0]
    assert turn.cos().mean().hypot(turn.sin().mean()) < (7 / len(turn)) ** 0.5


def test_colour_digits_never_change():
    """The same bytes at every call; "all" is train, then test; nothing is downloaded."""
    train, test, both = (images.load("colour_digits", s) for s in ("train", "test", "all"))
    assert torch.equal(torch.cat([train.images, test.images]), both.images)
    assert torch.equal(torch.cat([train.labels, test.labels]), both.labels)
    assert int(both.images.long().sum()) == CHECKSUM
    assert images.is_here("colour_digits")
    assert "colour_digits" in images.names()


@pytest.mark.parametrize("hue", [0.0, 0.2, 1 / 3, 0.5, 0.99])
def test_hue_of_inverts_tint(hue):
    """hue_of(tint(v, hue)) = hue, to the rounding of 8 bits; in uint8 and as floats."""
    v = images.load("digits").images[:20]
    made = tint(v, torch.full((20,), hue))
    for form in (made, images.to_float(made)):
        found, one = hue_of(form)
        assert ((found - hue + 0.5) % 1 - 0.5).abs().max() < 0.005
        assert one.min() > 0.995


def test_gray_has_no_hue():
    """Gray images have no light of any hue, and half red, half cyan cancels."""
    assert hue_of(images.load("digits").images[:5].expand(-1, 3, -1, -1))[1].max() < 1e-3
    v = torch.full((1, 1, 2, 2), 200, dtype=torch.uint8)
    both = torch.cat([tint(v, torch.zeros(1)), tint(v, torch.full((1,), 0.5))], 3)
    assert hue_of(both)[1] < 0.02


# ---- part of x_0 is known ------------------------------------------------------------------------


@pytest.mark.parametrize("part", [gray, pixels((torch.arange(8) < 4).float())])
def test_parts_are_orthogonal_projections(part):
    """part(part(x)) = part(x), and <part(x), y> = <x, part(y)>."""
    x, y = normal(2, 5, 3, 8, 8, dtype=torch.float64)
    assert torch.allclose(part(part(x)), part(x), atol=1e-15)
    assert (part(x) * y).sum() == pytest.approx(float((x * part(y)).sum()), abs=1e-12)


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_known_part_comes_out_exactly(kind, eta):
    """part(x_0) = part(known) to 1e-12, for any network, eta and kind; repeats change nothing."""

    def network(x, t):
        return torch.tanh(x.roll(1, 2)) + t[:, None, None, None] / 1000

    known = normal(1, 3, 4, 4, seed=1, dtype=torch.float64)
    x_T, g = normal(2, 3, 4, 4, dtype=torch.float64), torch.Generator().manual_seed(0)
    how = {"eta": eta, "kind": kind, "generator": g}
    for part in (gray, pixels(torch.eye(4))):
        for repeats in (1, 3):
            x = fill_in(network, x_T, known, part, CHAIN, 10, repeats=repeats, **how)
            assert (part(x) - part(known)).abs().max() < 1e-12


@pytest.mark.parametrize("kind", ["x0", "v"])
def test_the_known_part_comes_out_of_pure_noise(kind):
    """Where alpha_bar_T = 0 a network that predicts x0 or v is filled in too; one of eps cannot."""
    chain, known = zero_terminal_snr(CHAIN), torch.tensor([[0.5, 0.0]])
    mask = pixels(torch.tensor([1.0, 0.0]))
    x = fill_in(lambda x, t: 0.1 * x, normal(5, 2), known, mask, chain, 10, kind=kind)
    assert (x[:, 0] - 0.5).abs().max() < 1e-6
    with pytest.raises(ValueError, match="alpha_bar_t = 0"):
        fill_in(lambda x, t: 0.1 * x, normal(5, 2), known, mask, chain, 10)


def test_nothing_and_everything_known():
    """Nothing known: the plain sampler, to rounding. Everything known: what is known."""
    oracle = EmpiricalOracle(normal(30, 2, dtype=torch.float64), CHAIN)
    x_T, known = normal(7, 2, seed=1, dtype=torch.float64), torch.tensor([[0.3, -2.0]]).double()
    free = fill_in(oracle, x_T, known, pixels(torch.zeros(2)), CHAIN, 20, eta=0.0)
    assert torch.allclose(free, ddim(oracle, x_T, CHAIN, 20), atol=1e-9)
    held = fill_in(oracle, x_T, known, pixels(torch.ones(2)), CHAIN, 20, eta=0.0)
    assert torch.allclose(held, known.expand(7, 2), atol=1e-9)


def test_independent_rest_is_exact():
    """A rest that is independent of the known part is walked as if it were alone."""
    v = torch.full((2, 2), 0.1).double()
    means = torch.tensor([[0.5, -1.0], [0.5, 1.0]]).double()  # the first coordinate says nothing
    plane = MixtureOracle(means, v, torch.tensor([0.3, 0.7]), CHAIN)
    line = MixtureOracle(means[:, 1:], v[:, 1:], torch.tensor([0.3, 0.7]), CHAIN)
    x_T, known = normal(50, 2, dtype=torch.float64), torch.tensor([[2.0, 0.0]]).double()
    x = fill_in(plane, x_T, known, pixels(torch.tensor([1.0, 0.0])), CHAIN, 30, eta=0.0)
    assert torch.allclose(x[:, 1:], ddim(line, x_T[:, 1:], CHAIN, 30), atol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_the_known_part_has_the_right_law_on_its_way(eta):
    """At level s its mean is sqrt(alpha_bar_s) known and its variance 1 - alpha_bar_s, 5 se."""
    oracle = EmpiricalOracle(normal(20, 2, dtype=torch.float64), CHAIN)
    x_T, known = normal(4000, 2, seed=1, dtype=torch.float64), torch.tensor([[1.5, 0.0]]).double()
    held = holding(oracle, known, pixels(torch.tensor([1.0, 0.0])), CHAIN)
    g = torch.Generator().manual_seed(2)
    for step in sample(held, x_T, CHAIN, 10, eta=eta, generator=g):
        x, noise = step.x_s[:, 0], 1 - CHAIN.alpha_bar[step.s]
        assert abs(x.mean() - CHAIN.alpha_bar[step.s].sqrt() * 1.5) <= 5 * (noise / 4000) ** 0.5
        assert abs(x.var() - noise) <= 5 * noise * (2 / 4000) ** 0.5 + 1e-12


def test_repeats_come_closer_to_the_conditional():
    """Lecture 10's clusters: 1.2 % belong to the first; held walks put half there, repeated ones
    less than a third, and none where the known part excludes it."""
    centres = torch.tensor([[-1.0, -0.5], [0.0, 0.5], [1.0, -1.5]]).double()
    weights, v = torch.tensor([0.45, 0.25, 0.30]), torch.full((3,), 0.04).double()
    plane = MixtureOracle(centres, v, weights, CHAIN)
    x_T, known = normal(500, 2, dtype=torch.float64), torch.tensor([[-0.3, 0.0]]).double()
    shares = []
    for repeats in (1, 8):
        g = torch.Generator().manual_seed(0)
        part = pixels(torch.tensor([1.0, 0.0]))
        x = fill_in(plane, x_T, known, part, CHAIN, 30, repeats=repeats, generator=g)
        nearest = (x[:, 1:] - centres[:, 1]).abs().argmin(1)
        shares.append(torch.bincount(nearest, minlength=3) / len(x))
    assert shares[0][0] > 0.4
    assert shares[1][0] < 0.33
    assert shares[0][2] > 0.03
    assert shares[1][2] < 0.02


def test_filling_in_repeats_with_the_generator_alone():
    """Same seed, same images; the global generator is left alone."""
    oracle = EmpiricalOracle(normal(20, 1, 2, 2), CHAIN)
    state, made = torch.get_rng_state(), []
    for _ in range(2):
        g = torch.Generator().manual_seed(3)
        known = torch.zeros(1, 1, 2, 2)
        made.append(
            fill_in(oracle, normal(4, 1, 2, 2), known, gray, CHAIN, 5, repeats=2, generator=g)
        )
    assert torch.equal(*made)
    assert torch.equal(torch.get_rng_state(), state)


def test_wrong_arguments_are_named():
    """A known part that does not fit, and repeats below 1, raise ValueError."""
    oracle = EmpiricalOracle(normal(20, 2), CHAIN)
    part = pixels(torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match=r"known .*\(1, 3\).*\(4, 2\)"):
        fill_in(oracle, normal(4, 2), torch.zeros(1, 3), part, CHAIN, 5)
    with pytest.raises(ValueError, match="repeats"):
        fill_in(oracle, normal(4, 2), torch.zeros(1, 2), part, CHAIN, 5, repeats=0)


# ---- the shipped network -------------------------------------------------------------------------


def test_the_file_is_the_committed_recipe():
    """pretrained("colour_digits"): its recipe, no classes, at most 1 MB, and the quoted loss."""
    model, schedule, info = pretrained("colour_digits")
    plan = recipe("colour_digits")
    assert info.recipe == plan.plain()
    assert (info.data, info.official, info.shape, info.pad) == ("colour_digits", True, (3, 8, 8), 0)
    assert info.images == plan.config.steps * plan.config.batch
    assert info.path == WEIGHTS / "colour_digits.safetensors"
    assert info.path.stat().st_size < 1e6
    assert model.config.classes == 0
    assert not model.training
    _, held = plan.load(schedule)
    assert evaluate(model, held, schedule) == pytest.approx(info.loss, rel=1e-3)
    assert info.loss < 0.042


def test_samples_are_digits_of_one_hue():
    """60 samples: nine of ten with light of one hue, all hues, read as digits without doubt."""
    model, schedule, info = pretrained("colour_digits")
    x = ddim(model, normal(60, *info.shape), schedule, 25, clip=1.0)
    hue, one = hue_of(x)
    assert one.quantile(0.1) > 0.94
    turn = 2 * math.pi * hue
    assert turn.cos().mean().hypot(turn.sin().mean()) < (7 / 60) ** 0.5
    light = ((x + 1).sum(1, keepdim=True) / 3 * 2 - 1).clamp(-1, 1)  # the digit: twice the mean
    _, logits = features_for("digits")(images.to_uint8(light))
    assert logits.softmax(1).amax(1).mean() > 0.8
    assert len(logits.argmax(1).unique()) >= 8


def test_gray_digits_are_coloured():
    """Ten colourings of six unseen digits: the gray asked for, one hue each, different hues."""
    model, schedule, info = pretrained("colour_digits")
    true = images.to_float(images.load("colour_digits", "test").images[:6]).repeat_interleave(10, 0)
    g = torch.Generator().manual_seed(1)
    x = fill_in(model, normal(60, *info.shape), true, gray, schedule, 20, generator=g)
    assert (gray(x) - gray(true)).abs().max() < 1e-5
    hue, one = hue_of(x.clamp(-1, 1))
    assert one.quantile(0.1) > 0.93
    turn = 2 * math.pi * hue.view(6, 10)
    alike = turn.cos().mean(1).hypot(turn.sin().mean(1))
    assert alike.max() < (7 / 10) ** 0.5
    digit = images.load("digits", "test").images[:6].repeat_interleave(10, 0)
    perfect = images.to_float(tint(digit, hue))
    assert (x - perfect).square().mean().sqrt() < 0.09


# ---- the inside of a U-Net -----------------------------------------------------------------------


def test_shapes_are_those_of_the_network():
    """The table of lecture 10: all stages, their weights add up; hooks are gone afterwards."""
    model, _, info = pretrained("colour_digits")
    x = torch.zeros(2, *info.shape)
    header, rows = l10.shapes(model, x)
    assert header[0] == "stage"
    names = [row[0] for row in rows]
    assert names[:4] == ["image", "time", "in", "down 0"]
    assert names[-3:] == ["up 1", "up 0", "out"]
    assert dict(zip(names, (row[1] for row in rows), strict=True))["middle"] == "48 x 4 x 4"
    counted = sum(int(row[3].replace(",", "")) for row in rows[1:])
    norm = sum(p.numel() for p in model.net.conv_norm_out.parameters())
    assert counted + norm == sum(p.numel() for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    picture = l10.u_shape(model, x)
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert "middle 48 x 4 x 4" in repr(picture)
