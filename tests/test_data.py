"""Data: the toy sets follow their stated laws, and levels and [-1, 1] map onto each other."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_edu.data import images, location, toy

NAMES = st.sampled_from(toy.names())
SEEDS = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("name", toy.names())
def test_standardised_by_the_population(name):
    """E x = 0 and E x^2 = 1 per coordinate, within 5 standard errors of a large draw."""
    n = 200_000
    x = toy.load(name, n, seed=11).double()
    squares = x**2
    assert (x.mean(0).abs() < 5 * x.std(0) / math.sqrt(n)).all()
    assert ((squares.mean(0) - 1).abs() < 5 * squares.std(0) / math.sqrt(n)).all()


@pytest.mark.parametrize("name", toy.names())
def test_points_are_independent(name):
    """Independent draws: neighbouring rows are uncorrelated, |r| < 5/sqrt(n)."""
    n = 50_000
    x = toy.load(name, n, seed=3).double()
    r = (x[1:] * x[:-1]).mean(0)
    assert (r.abs() < 5 / math.sqrt(n)).all()


@given(NAMES, st.integers(1, 300), SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_draw_is_a_function_of_n_and_seed(name, n, seed):
    """load(name, n, seed) is the same (n, 2) float32 draw each time, global state unused."""
    before = torch.get_rng_state()
    x = toy.load(name, n, seed)
    assert x.shape == (n, 2)
    assert x.dtype == torch.float32
    assert x.isfinite().all()
    assert torch.equal(x, toy.load(name, n, seed))
    assert not torch.equal(x, toy.load(name, n, seed ^ 1))
    assert torch.equal(before, torch.get_rng_state())


def test_swiss_roll_is_scikit_learns():
    """swiss_roll is an affine map of scikit-learn's coordinates 0 and 2, one map for every draw."""
    from sklearn.datasets import make_swiss_roll

    for seed in (0, 5):
        points, _ = make_swiss_roll(500, noise=0.5, random_state=seed)
        raw = torch.from_numpy(points[:, [0, 2]])
        x = toy.swiss_roll(500, seed).double()
        slope = (raw[1:] - raw[:1]) / (x[1:] - x[:1])
        assert torch.allclose(slope, slope.median(0).values.expand_as(slope), rtol=1e-3)


def test_mixture_is_the_law_of_gaussians():
    """sum w mean = 0, sum w (mean^2 + var) = 1 for gaussians_mixture; a draw fits every mode."""
    means, variances, weights = toy.gaussians_mixture()
    assert weights.sum() == pytest.approx(1)
    assert torch.allclose(weights @ means, torch.zeros(2).double(), atol=1e-15)
    second = weights @ (means**2 + variances[:, None])
    assert torch.allclose(second, torch.ones(2).double(), atol=1e-15)
    x = toy.gaussians(80_000, seed=2).double()
    nearest = torch.cdist(x, means).argmin(1)
    for k in range(len(means)):
        mode = x[nearest == k]
        assert len(mode) / len(x) == pytest.approx(1 / 8, abs=0.006)
        assert torch.allclose(mode.mean(0), means[k], atol=0.01)
        assert torch.allclose(mode.var(0), variances[k].expand(2), rtol=0.06)


def test_shapes_are_what_their_names_say():
    """Checkerboard points lie on dark cells; circles have two radii in the ratio 1 : 1/2."""
    cell = (toy.checkerboard(5000, 1).double() * math.sqrt(4 / 3) + 2).floor().long()
    assert cell.min() == 0
    assert cell.max() == 3
    assert (cell.sum(1) % 2 == 0).all()
    radius = toy.circles(5000, 1).norm(dim=1) * math.sqrt(5 / 16 + 0.05**2)
    inner, outer = radius[radius < 0.75], radius[radius >= 0.75]
    assert inner.mean() == pytest.approx(0.5, abs=0.01)
    assert outer.mean() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("name", toy.names())
def test_levels_cover_every_set(name):
    """|LIMIT from_uint8(to_uint8(x)) - x| <= half a level, LIMIT/255: nothing is clipped."""
    x = toy.load(name, 50_000, seed=7)
    back = toy.LIMIT * toy.from_uint8(toy.to_uint8(x))
    assert (back - x).abs().max() <= toy.LIMIT / 255 + 1e-5


def test_levels_and_unit_interval_are_inverse():
    """to_uint8(to_float(u)) = u for all 256 levels, and -1, 1 are the end points."""
    u = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(images.to_uint8(images.to_float(u)), u)
    assert images.to_float(u)[[0, 255]].tolist() == [-1, 1]
    assert images.to_uint8(torch.tensor([-7.0, 7.0])).tolist() == [0, 255]


def test_digits_are_scikit_learns_in_255_levels():
    """round(16 u/255) returns scikit-learn's 0..16; train and test are a partition of all."""
    from sklearn.datasets import load_digits

    train, test, both = (images.load("digits", split) for split in ("train", "test", "all"))
    assert both.images.shape == (1797, 1, 8, 8)
    assert both.images.dtype == torch.uint8
    assert both.labels.dtype == torch.int64
    back = (both.images[:, 0].double() * 16 / 255).round()
    assert torch.equal(back, torch.from_numpy(load_digits().images))
    assert torch.equal(torch.cat([train.images, test.images]), both.images)
    assert torch.equal(torch.cat([train.labels, test.labels]), both.labels)
    assert (len(train), len(test)) == (1437, 360)
    assert both.classes == tuple("0123456789")
    assert torch.bincount(test.labels).min() >= 30  # every class is tested


def test_data_directory_order(monkeypatch, tmp_path):
    """data_dir: the argument, else the variable, else the checkout, else the user's cache."""
    monkeypatch.setenv(location.ENV, str(tmp_path / "env"))
    assert location.data_dir(tmp_path) == tmp_path
    assert location.data_dir() == tmp_path / "env"
    monkeypatch.delenv(location.ENV)
    monkeypatch.setattr(location, "checkout", lambda: tmp_path)
    assert location.data_dir() == tmp_path / "datasets"
    monkeypatch.setattr(location, "checkout", lambda: None)
    assert location.data_dir().name == "diffusion_edu"
    assert not (tmp_path / "datasets").exists()  # asking creates nothing
    assert isinstance(location.data_dir("~/x"), Path)
    assert "~" not in str(location.data_dir("~/x"))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: toy.load("swis_roll", 3), "Did you mean 'swiss_roll'"),
        (lambda: toy.moons(0), "n must be an int >= 1, got n=0"),
        (lambda: toy.swiss_roll(3, seed=-1), "seed"),
        (lambda: toy.to_uint8(torch.tensor([[math.nan, 0]])), "NaN"),
        (lambda: toy.to_uint8(torch.tensor([[1, 0]])), "floating"),
        (lambda: toy.from_uint8(torch.zeros(1, 2)), "torch.uint8"),
        (lambda: images.load("mnits"), "Did you mean 'mnist'"),
        (lambda: images.load("digits", "valid"), "split"),
    ],
)
def test_bad_input_is_named(call, words):
    """A ValueError names the argument, its value and the fix."""
    with pytest.raises(ValueError, match=words):
        call()
