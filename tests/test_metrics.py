"""Metrics of point clouds against brute force, known values, and their statistical promises."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from diffusion_edu import metrics
from diffusion_edu.metrics import (
    energy_distance,
    median_bandwidth,
    mmd2,
    mode_statistics,
    precision_recall,
    sliced_wasserstein2,
)

Draw = Callable[..., Tensor]
Metric = Callable[[Tensor, Tensor], Tensor]
DISTANCES = [lambda x, y: mmd2(x, y, 0.7), mmd2, sliced_wasserstein2, energy_distance]
NAMES = ["mmd2", "mmd2-median", "sliced_wasserstein2", "energy_distance"]
every_distance = pytest.mark.parametrize("metric", DISTANCES, ids=NAMES)


def points(*rows: float | tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), -1)


@st.composite
def cloud_pairs(draw: st.DrawFn, least: int = 2) -> tuple[Tensor, Tensor]:
    d, n, m = draw(st.integers(1, 6)), draw(st.integers(least, 30)), draw(st.integers(least, 30))
    g = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    x, y = torch.randn(n, d, generator=g, dtype=dtype), torch.randn(m, d, generator=g, dtype=dtype)
    return x, 0.5 * y + 1


# ---- what holds for all three distances ---------------------------------------------------------


@every_distance
@given(pair=cloud_pairs())
def test_distances_are_symmetric_and_see_only_relative_position(
    metric: Metric, pair: tuple[Tensor, Tensor]
) -> None:
    """metric(x, y) = metric(y, x) = metric(reversed x, y) = metric(x + c, y + c)."""
    x, y = (z.double() for z in pair)
    value = metric(x, y)
    assert value.shape == ()
    assert value.dtype == torch.float64
    shift = torch.linspace(-3, 5, x.shape[1], dtype=torch.float64)
    for other in (metric(y, x), metric(x.flip(0), y), metric(x + shift, y + shift)):
        assert torch.allclose(value, other, rtol=1e-9, atol=1e-12)


@every_distance
def test_dtype_of_the_input_hardly_matters(metric: Metric, randn: Draw) -> None:
    """float32 clouds give the float64 value of the same numbers; the result carries no graph."""
    x, y = randn(40, 3).float(), randn(30, 3).float()
    assert torch.equal(metric(x, y), metric(x.double(), y.double()))
    assert not metric(x.requires_grad_(), y).requires_grad


@every_distance
def test_blocks_do_not_matter(metric: Metric, randn: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row or direction at a time = all at once."""
    x, y = randn(23, 2), randn(17, 2) + 0.3
    wanted = metric(x, y)
    monkeypatch.setattr(metrics, "BLOCK_SIZE", 1)
    assert torch.allclose(metric(x, y), wanted, rtol=1e-12)


@every_distance
def test_distances_grow_with_a_shift(metric: Metric, randn: Draw) -> None:
    """The further a cloud is moved away, the larger every distance."""
    x, y = randn(200, 2), randn(200, 2)
    values = [float(metric(x, y + shift)) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert values == sorted(values)


def test_ten_thousand_points_fit(randn: Draw) -> None:
    """10,000 x 10,000 pairs are treated in blocks of at most BLOCK_SIZE distances."""
    x, y = randn(10_000, 2), randn(10_000, 2)
    sizes = [block.numel() for block in metrics._blocks(x, y)]
    assert sum(sizes) == 10**8
    assert max(sizes) <= metrics.BLOCK_SIZE
    assert abs(float(mmd2(x, y))) < 1e-3


# ---- MMD ----------------------------------------------------------------------------------------


def test_mmd2_is_the_sum_over_pairs_by_hand() -> None:
    """mmd2 of {0, 1} and {0, 2, 3} on the line, all nine kernel values written out."""

    def k(r: float) -> float:
        return math.exp(-(r**2) / (2 * 1.5**2))

    within_x = k(1)
    within_y = (k(2) + k(3) + k(1)) / 3
    across = (k(0) + k(2) + k(3) + k(1) + k(1) + k(2)) / 6
    value = mmd2(points(0.0, 1.0), points(0.0, 2.0, 3.0), bandwidth=1.5)
    assert math.isclose(value, within_x + within_y - 2 * across, rel_tol=1e-12)


def test_mmd2_is_unbiased(randn: Draw) -> None:
    """Its mean over 400 pairs of draws is MMD^2 itself, 0 or not, within 4 standard errors.

    For N(0, I) and N(c, I) in d dimensions with h = bandwidth^2:
    MMD^2 = 2 (h / (h+2))^(d/2) (1 - exp( -||c||^2 / (2 (h+2)) )).
    """
    h, shift = 0.8**2, torch.tensor([0.3, -0.4], dtype=torch.float64)
    for c in (0 * shift, shift):
        values = torch.stack([mmd2(randn(12, 2), randn(17, 2) + c, 0.8) for _ in range(400)])
        exact = 2 * h / (h + 2) * (1 - torch.exp(-c.square().sum() / (2 * (h + 2))))
        assert (values.mean() - exact).abs() <= 4 * values.std() / 20
        # The biased estimate, with i = j, would fail this by far:
        assert values.std() / 20 * 4 < (1 / 12 + 1 / 17) * (1 - h / (h + 2)) / 2


def test_median_bandwidth_is_the_median_distance(randn: Draw) -> None:
    """Exact for small clouds (lower median); of large ones evenly spaced rows stand for all."""
    assert float(median_bandwidth(points(0.0, 1.0), points(3.0))) == 2.0  # distances 1, 2, 3
    x, y = randn(3000, 2), randn(3000, 2) + 1
    some = median_bandwidth(x, y)
    assert torch.equal(some, median_bandwidth(x, y))
    assert abs(float(some / torch.nn.functional.pdist(torch.cat([x, y])).median()) - 1) < 0.03


# ---- sliced Wasserstein -------------------------------------------------------------------------


@given(n=st.integers(1, 12), m=st.integers(1, 12), seed=st.integers(0, 999))
def test_wasserstein_on_the_line_is_optimal_transport(n: int, m: int, seed: int) -> None:
    """Unequal sizes: W2 of the clouds = W2 of both repeated to n m points, matched in order."""
    g = torch.Generator().manual_seed(seed)
    x, y = torch.randn(n, 1, generator=g).double(), torch.randn(m, 1, generator=g).double()
    p, q = (
        x.flatten().repeat_interleave(m).sort().values,
        y.flatten().repeat_interleave(n).sort().values,
    )
    wanted = (p - q).square().mean().sqrt()
    assert torch.allclose(sliced_wasserstein2(x, y, 3), wanted, rtol=1e-10, atol=1e-12)


def test_sliced_wasserstein_of_a_shift_is_known(randn: Draw, generator: torch.Generator) -> None:
    """SW2(x, x + c)^2 = mean <u, c>^2 -> ||c||^2 / d; one-dimensional: exactly |c|."""
    x, c = randn(50, 3), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    value = sliced_wasserstein2(x, x + c, directions=20_000, generator=generator)
    # <u, c>^2 has mean ||c||^2/3 and standard deviation ||c||^2 sqrt(1/5 - 1/9)
    assert abs(float(value**2) / 5.25 - 1 / 3) < 5 * math.sqrt(1 / 5 - 1 / 9) / math.sqrt(20_000)
    assert math.isclose(sliced_wasserstein2(x[:, :1], x[:, :1] + 3, 5), 3.0, rel_tol=1e-12)
    assert sliced_wasserstein2(x, x.flip(0)) < 1e-12


def test_sliced_wasserstein_of_gaussians(randn: Draw) -> None:
    """N(0, I) and N(0, s^2 I): every projection has W2 = |s - 1|."""
    value = sliced_wasserstein2(randn(40_000, 2), 3 * randn(30_000, 2))
    assert abs(float(value) - 2) < 0.05


def test_directions_are_fixed_unless_drawn(randn: Draw, generator: torch.Generator) -> None:
    """Without a generator equal calls give equal values; the global state is untouched."""
    x, y = randn(30, 3), randn(30, 3)
    before = torch.get_rng_state()
    assert torch.equal(sliced_wasserstein2(x, y), sliced_wasserstein2(x, y))
    assert torch.equal(before, torch.get_rng_state())
    drawn = [sliced_wasserstein2(x, y, generator=generator) for _ in range(2)]
    assert drawn[0] != drawn[1]


# ---- energy distance ----------------------------------------------------------------------------


def test_energy_distance_by_hand() -> None:
    """{0, 1} against {3}: 2 (3 + 2)/2 - 2 (1)/4 - 0 = 4.5."""
    assert float(energy_distance(points(0.0, 1.0), points(3.0))) == 4.5


@given(pair=cloud_pairs(least=1))
def test_energy_distance_on_the_line_is_cramers(pair: tuple[Tensor, Tensor]) -> None:
    """In one dimension E = 2 integral (F - G)^2 (Szekely & Rizzo): >= 0, and 0 for equal clouds."""
    x, y = (z[:, 0].double() for z in pair)
    knots = torch.cat([x, y]).sort().values
    F = (x[:, None] <= knots).double().mean(0)
    G = (y[:, None] <= knots).double().mean(0)
    wanted = 2 * ((F - G)[:-1] ** 2 * knots.diff()).sum()
    actual = energy_distance(x[:, None], y[:, None])
    assert torch.allclose(actual, wanted, rtol=1e-9, atol=1e-12)
    assert abs(float(energy_distance(pair[0], pair[0].repeat(2, 1)))) < 1e-12


# ---- precision and recall -----------------------------------------------------------------------


def test_precision_recall_extremes(randn: Draw) -> None:
    """Same cloud: 1, 1. Far apart: 0, 0. One mode of two: precise, half recalled."""
    x = randn(300, 2)
    both = torch.cat([x, x + 100])
    cases = ((x, x, 1, 1), (x, x + 1e3, 0, 0), (both, x, 1, 0.5), (x, both, 0.5, 1))
    for real, fake, precision, recall in cases:
        assert tuple(map(float, precision_recall(real, fake))) == (precision, recall)


def test_precision_recall_by_hand() -> None:
    """On the line, k = 1: balls of {0, 1, 5} reach 1, 1, 4; those of {2.5, 9.5} reach 7 each."""
    real, fake = points(0.0, 1.0, 5.0), points(2.5, 9.5)
    precision, recall = precision_recall(real, fake, k=1)
    assert float(precision) == 0.5  # 2.5 is in [1, 9], 9.5 is nowhere
    assert float(recall) == 1.0  # 2.5 reaches from -4.5 to 9.5


@given(pair=cloud_pairs(least=5), k=st.integers(1, 4))
def test_precision_recall_is_its_definition(pair: tuple[Tensor, Tensor], k: int) -> None:
    """Shares by brute force; swapping the clouds swaps them; more neighbours never lower them."""
    real, fake = (z.double() for z in pair)

    def inside(point: Tensor, cloud: Tensor) -> bool:
        return any((point - c).norm() <= sorted((c - o).norm() for o in cloud)[k] for c in cloud)

    result = precision_recall(real, fake, k)
    precision = sum(inside(p, real) for p in fake) / len(fake)
    assert math.isclose(result.precision, precision)
    swapped = precision_recall(fake, real, k)
    assert (result.precision, result.recall) == (swapped.recall, swapped.precision)
    if k < 4:
        assert precision_recall(real, fake, k + 1).precision >= result.precision


# ---- modes --------------------------------------------------------------------------------------


def test_mode_statistics_by_hand() -> None:
    """Counts, unbiased variances about the mode's own mean, NaN below two points, outliers."""
    centers = points((0.0, 0.0), (10.0, 0.0), (0.0, 10.0))
    x = points((1, 0), (-1, 0), (0, 3), (10, 1), (50, 50), (5.0, 5.1), (7, 0))
    counts, variance, outliers = mode_statistics(x, centers, radius=4)
    assert counts.tolist() == [3, 2, 0]
    # mode 0: mean (0, 1), squared deviations 2 + 2 + 4; mode 1: mean (8.5, 0.5), 2 (2.25 + 0.25)
    assert torch.allclose(variance[:2], torch.tensor([8 / 4, 5 / 2], dtype=torch.float64))
    assert variance[2].isnan()
    assert int(outliers) == 2
    assert int(mode_statistics(x, centers).outliers) == 2  # default radius: half of 10
    assert int(mode_statistics(x, centers[:1]).outliers) == 0  # a single centre takes all


@given(modes=st.integers(1, 9), d=st.integers(1, 4), n=st.integers(1, 60), seed=st.integers(0, 99))
def test_mode_statistics_lose_no_point(modes: int, d: int, n: int, seed: int) -> None:
    """Counts and outliers add up to n; with radius inf there are no outliers."""
    g = torch.Generator().manual_seed(seed)
    centers, x = 5 * torch.randn(modes, d, generator=g), 5 * torch.randn(n, d, generator=g)
    for radius in (None, 1.0, math.inf):
        counts, variance, outliers = mode_statistics(x, centers, radius)
        assert counts.shape == variance.shape == (modes,)
        assert int(counts.sum() + outliers) == n
        assert torch.equal(variance.isnan(), counts < 2)
    assert int(outliers) == 0


def test_mode_variance_is_that_of_the_data(randn: Draw) -> None:
    """Points drawn around well separated centres: counts and variance come back."""
    centers = points((-10.0, 0.0), (10.0, 0.0))
    x = centers.repeat_interleave(torch.tensor([20_000, 30_000]), 0) + 0.3 * randn(50_000, 2)
    counts, variance, outliers = mode_statistics(x, centers)
    assert counts.tolist() == [20_000, 30_000]
    assert int(outliers) == 0
    assert ((variance - 0.09).abs() < 5 * 0.09 / math.sqrt(20_000)).all()


# ---- devices and errors -------------------------------------------------------------------------


def test_devices_agree(device: str, randn: Draw) -> None:
    """Clouds on any device give the CPU's values."""
    x, y = randn(50, 2), randn(40, 2)
    for metric in (*DISTANCES, lambda a, b: precision_recall(a, b).recall):
        assert torch.allclose(metric(x.to(device), y.to(device)).cpu(), metric(x, y), rtol=1e-10)
    there = mode_statistics(x.to(device), y[:3].to(device), 0.5)
    for a, b in zip(there, mode_statistics(x, y[:3], 0.5), strict=True):
        assert torch.allclose(a.cpu(), b, equal_nan=True)


def test_bad_clouds_are_refused(randn: Draw) -> None:
    """Every misuse raises a ValueError naming the argument, the value and the fix."""
    x = randn(5, 2)
    nan = torch.full((5, 2), math.nan)
    cases: list[tuple[str, Callable[[], object]]] = [
        (
            r"y must have shape \(n, d\), got \(5, 1, 2\): use y.flatten",
            lambda: mmd2(x, x[:, None]),
        ),
        ("same dimension d", lambda: energy_distance(x, randn(5, 3))),
        ("x must hold at least 2 points, got 1", lambda: mmd2(x[:1], x)),
        ("x must hold at least 1 points, got 0", lambda: sliced_wasserstein2(x[:0], x)),
        ("fake must hold at least 5 points", lambda: precision_recall(x, x[:4], k=4)),
        ("y must be finite", lambda: mmd2(x, nan)),
        ("x must have a floating dtype", lambda: mmd2(x.long(), x)),
        ("bandwidth must be a positive", lambda: mmd2(x, x, 0.0)),
        ("bandwidth must be a positive", lambda: mmd2(x[:1].repeat(9, 1), x[:1].repeat(9, 1))),
        ("directions must be", lambda: sliced_wasserstein2(x, x, 0)),
        ("k must be", lambda: precision_recall(x, x, 0)),
        ("radius must be > 0", lambda: mode_statistics(x, x, -1.0)),
        ("centers must differ", lambda: mode_statistics(x, x[:1].repeat(2, 1))),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()
