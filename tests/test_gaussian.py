"""Gaussians: against torch.distributions and quadrature, at the edges; the decoder of images."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import SHAPES
from torch import distributions

from diffusion_edu.gaussian import Gaussian, bits_per_dim, discretized_log_prob, standard_normal


def pair(shape, seed, low=-6.0, high=3.0):
    """Random mean and variance (float64), the variance over many orders of magnitude."""
    g = torch.Generator().manual_seed(seed)
    mean = torch.randn(shape, generator=g, dtype=torch.float64)
    log_var = low + (high - low) * torch.rand(shape, generator=g, dtype=torch.float64)
    return mean, log_var.exp()


@given(st.sampled_from(SHAPES), st.integers(0, 1000))
def test_log_prob_is_that_of_torch_distributions(shape, seed):
    """log N(x; mean, var), summed over all but the batch dimension, in nats."""
    (mean, var), (x, _) = pair(shape, seed), pair(shape, seed + 1)
    expected = distributions.Normal(mean, var.sqrt()).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(Gaussian(mean, var).log_prob(x), expected, rtol=1e-10, atol=1e-9)


@given(st.sampled_from(SHAPES), st.integers(0, 1000))
def test_kl_is_that_of_torch_distributions(shape, seed):
    """KL(p || q) of diagonal Gaussians, summed over all but the batch dimension, in nats."""
    (m1, v1), (m2, v2) = pair(shape, seed), pair(shape, seed + 1)
    p, q = distributions.Normal(m1, v1.sqrt()), distributions.Normal(m2, v2.sqrt())
    expected = distributions.kl_divergence(p, q).flatten(1).sum(1)
    got = Gaussian(m1, v1).kl(Gaussian(m2, v2))
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-9)


@given(st.sampled_from(SHAPES), st.integers(0, 1000))
def test_float32_keeps_five_digits(shape, seed):
    """log_prob, kl and the decoder in float32 are within 1e-5 of the same in float64.

    Relative to the sum of the sizes of what they add up, as log densities of both signs cancel.
    """
    (m1, v1), (m2, v2) = (tuple(x.float() for x in pair(shape, s)) for s in (seed, seed + 1))
    low = Gaussian(m1, v1), Gaussian(m2, v2)
    high = Gaussian(m1.double(), v1.double()), Gaussian(m2.double(), v2.double())
    kl = high[0].kl(high[1])
    assert ((low[0].kl(low[1]) - kl).abs() <= 1e-5 * kl).all()
    density = distributions.Normal(m1.double(), v1.double().sqrt()).log_prob(m2.double())
    error = (low[0].log_prob(m2) - high[0].log_prob(m2.double())).abs()
    assert (error <= 1e-5 * density.abs().flatten(1).sum(1)).all()
    x = ((m2.tanh() + 1) * 127.5).round() / 127.5 - 1
    exact = discretized_log_prob(x.double(), m1.double(), v1.double())
    got = discretized_log_prob(x, m1, v1)
    assert got.dtype == torch.float32
    assert ((got - exact).abs() <= 1e-5 * exact.abs()).all()


def test_kl_is_the_expected_log_ratio():
    """KL(p || q) = integral p (log p - log q), by quadrature in one dimension."""
    p = Gaussian(torch.tensor([[0.3]]).double(), torch.tensor([[0.5]]).double())
    q = Gaussian(torch.tensor([[-0.4]]).double(), torch.tensor([[1.7]]).double())
    u = torch.linspace(-12, 12, 20001, dtype=torch.float64)[:, None]

    def log_prob(g):
        return Gaussian(g.mean.expand_as(u), g.var.expand_as(u)).log_prob(u)

    integrand = log_prob(p).exp() * (log_prob(p) - log_prob(q))
    assert p.kl(q).item() == pytest.approx(torch.trapezoid(integrand, u[:, 0]).item(), rel=1e-9)


@given(st.integers(0, 1000), st.floats(-16, 0), st.sampled_from([torch.float32, torch.float64]))
def test_kl_is_never_negative(seed, exponent, dtype):
    """KL(p || q) >= 0, also where the two variances agree to the last digits."""
    mean, var = (v.to(dtype) for v in pair((4, 2), seed))
    other = var * (1 + 10**exponent)
    assert (Gaussian(mean, var).kl(Gaussian(mean, other)) >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [-1, -2, -3, -4, -5])
def test_kl_of_nearly_equal_variances_keeps_its_digits(dtype, exponent):
    """KL(N(0, 1+d) || N(0, 1)) = d^2/4 - d^3/6 + d^4/8 - ..., to 1e-5 relative in either dtype."""
    one = torch.ones(1, 1, dtype=dtype)
    var = one + 10**exponent
    d = (var.double() - 1).item()  # the d that the dtype holds
    expected = 0.5 * sum((-1) ** k * d**k / k for k in range(2, 60))
    got = Gaussian(0 * one, var).kl(Gaussian(0 * one, one)).item()
    assert got == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("exponent", [-3, -12, -17, -100])
def test_kl_of_a_very_narrow_gaussian_is_finite(exponent):
    """KL(N(0, v) || N(0, 1)) = (v - 1 - log v)/2, however small v is."""
    one = torch.ones(1, 1, dtype=torch.float64)
    expected = (10**exponent - 1 - exponent * math.log(10)) / 2
    got = Gaussian(0 * one, one * 10**exponent).kl(Gaussian(0 * one, one)).item()
    assert got == pytest.approx(expected, rel=1e-12)


def test_kl_of_point_masses():
    """KL(delta || delta) = 0 when equal, inf when not; inf if only one of the two is a point."""
    zero, one = torch.zeros(1, 2), torch.ones(1, 2)
    point, elsewhere, broad = Gaussian(zero, zero), Gaussian(one, zero), Gaussian(zero, one)
    assert point.kl(point).item() == 0
    assert point.kl(elsewhere).item() == math.inf
    assert point.kl(broad).item() == math.inf
    assert broad.kl(point).item() == math.inf


def test_log_prob_of_a_point_mass():
    """Variance 0: +inf at the mean, -inf elsewhere, and -inf if a single dimension is off."""
    point = Gaussian(torch.zeros(3, 2), torch.tensor([[0.0, 1.0]]))
    x = torch.tensor([[0.0, 5.0], [0.1, 0.0], [0.1, 7.0]])
    assert point.log_prob(x).tolist() == [math.inf, -math.inf, -math.inf]


@given(st.sampled_from(SHAPES), st.integers(0, 1000))
def test_sample_is_mean_plus_std_z(shape, seed):
    """sample(z) = mean + sqrt(var) z, and sample(generator) draws that z from the generator."""
    (mean, var), (z, _) = pair(shape, seed), pair(shape, seed + 1)
    gaussian = Gaussian(mean, var)
    assert gaussian.sample(z).equal(mean + var.sqrt() * z)
    drawn = gaussian.sample(generator=torch.Generator().manual_seed(seed))
    z = standard_normal(mean, torch.Generator().manual_seed(seed))
    assert drawn.equal(gaussian.sample(z))


def test_nothing_touches_the_global_seed():
    """Drawing with a generator leaves torch's global random state alone."""
    before = torch.get_rng_state()
    Gaussian(torch.zeros(2, 2), torch.ones(2, 2)).sample(generator=torch.Generator())
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("var", [torch.tensor(1.0), torch.ones(1, 1), torch.ones(3, 1)])
def test_variance_broadcasts(var):
    """A variance that is one number, or one per example, counts for every dimension."""
    x = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]])
    narrow, full = Gaussian(x, var), Gaussian(x, torch.ones(3, 2))
    unit = Gaussian(torch.zeros(3, 2), torch.full((3, 2), 2.0))
    assert narrow.log_prob(0 * x).equal(full.log_prob(0 * x))
    assert narrow.kl(unit).equal(full.kl(unit))


# ---- the discretised decoder --------------------------------------------------------------------


def grid_log_probs(mean, var, levels=256, low=-1.0, high=1.0):
    """log p of every grid value, (levels,)."""
    x = torch.linspace(low, high, levels, dtype=torch.float64)[:, None]
    full = torch.full_like(x, mean)
    return discretized_log_prob(x, full, torch.full_like(x, var), low, high, levels)


@given(
    mean=st.floats(-3, 3),
    log_std=st.floats(-9, 4),
    levels=st.sampled_from([2, 3, 16, 256, 1000]),
)
def test_the_decoder_sums_to_one(mean, log_std, levels):
    """sum over the grid of p(x) = 1 for every mean and variance: it is a probability."""
    total = grid_log_probs(mean, math.exp(2 * log_std), levels).exp().sum().item()
    assert total == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.1), (0.37, 0.01), (-0.9, 0.5), (1.2, 0.3)])
def test_the_decoder_is_an_integral(mean, std):
    """p(x) = integral of N(u; mean, var) over the bin of x; the outer bins reach to infinity."""
    levels, low, high = 17, -1.0, 1.0
    half = (high - low) / (levels - 1) / 2
    got = grid_log_probs(mean, std**2, levels).exp()
    for i, x in enumerate(torch.linspace(low, high, levels, dtype=torch.float64).tolist()):
        a = min(mean - 12 * std, x - half) if i == 0 else x - half
        b = max(mean + 12 * std, x + half) if i == levels - 1 else x + half
        u = torch.linspace(a, b, 40001, dtype=torch.float64)[:, None]
        density = Gaussian(torch.full_like(u, mean), torch.full_like(u, std**2)).log_prob(u).exp()
        integral = torch.trapezoid(density, u[:, 0]).item()
        assert got[i].item() == pytest.approx(integral, rel=1e-6, abs=1e-12)


@given(
    mean=st.floats(-1e4, 1e4),
    log_std=st.floats(-7, 7),
    k=st.integers(0, 255),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_the_decoder_is_finite_in_both_tails(mean, log_std, k, dtype):
    """-inf < log p <= 0 with finite gradients, even a million standard deviations away."""
    x = torch.tensor([[-1 + 2 * k / 255]], dtype=dtype)
    mu = torch.tensor([[mean]], dtype=dtype, requires_grad=True)
    log_var = torch.tensor([[2 * log_std]], dtype=dtype, requires_grad=True)
    log_p = discretized_log_prob(x, mu, log_var.exp())
    log_p.sum().backward()
    assert log_p.isfinite().all()
    assert (log_p <= 0).all()
    assert mu.grad.isfinite().all()
    assert log_var.grad.isfinite().all()


def test_gradient_of_the_decoder_pulls_the_mean_to_the_data():
    """d log p / d mean has the sign of x - mean, in the bins and far out in the tails."""
    x = torch.linspace(-1, 1, 256, dtype=torch.float64)[:, None]
    for mean in (-50.0, -0.123, 0.456, 50.0):
        mu = torch.full_like(x, mean, requires_grad=True)
        discretized_log_prob(x, mu, torch.full_like(x, 0.01)).sum().backward()
        inner = (x - mean).abs() > 1 / 255
        inner[[0, -1]] = False  # the outer bins own everything beyond: no pull once far inside
        assert ((mu.grad.sign() == (x - mean).sign()) | ~inner).all()


def test_narrow_bins_approach_the_density():
    """log p(x) - log(bin width) -> log N(x; mean, var) as the grid gets finer."""
    errors = []
    for levels in (65, 257, 1025):
        x = torch.tensor([[0.25]], dtype=torch.float64)
        mean, var = torch.tensor([[0.1]]).double(), torch.tensor([[0.04]]).double()
        width = 2 / (levels - 1)
        density = Gaussian(mean, var).log_prob(x)
        got = discretized_log_prob(x, mean, var, levels=levels) - math.log(width)
        errors.append((got - density).abs().item())
    assert errors[1] == pytest.approx(errors[0] / 16, rel=0.05)  # second order in the width
    assert errors[2] == pytest.approx(errors[1] / 16, rel=0.05)


def test_the_decoder_sums_over_dimensions():
    """log p of an image is the sum over its values: independent dimensions multiply."""
    g = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (3, 3, 4, 4), generator=g).double() / 127.5 - 1
    mean = torch.randn(x.shape, generator=g, dtype=torch.float64)
    whole = discretized_log_prob(x, mean, torch.full_like(x[:1], 0.05))
    parts = discretized_log_prob(
        x.reshape(-1, 1), mean.reshape(-1, 1), torch.full((1, 1), 0.05, dtype=torch.float64)
    )
    torch.testing.assert_close(whole, parts.reshape(3, -1).sum(1))


def test_bits_per_dim_of_a_uniform_image():
    """256 equally likely values cost log2 256 = 8 bits in each dimension."""
    nats = torch.tensor([3 * 32 * 32 * math.log(256.0)])
    assert bits_per_dim(nats, 3 * 32 * 32).item() == pytest.approx(8)


def test_uniform_two_level_decoder_costs_one_bit():
    """Two levels and a mean half way between them: each value has probability 1/2, 1 bit."""
    x = torch.tensor([[-1.0], [1.0]])
    log_p = discretized_log_prob(x, torch.zeros(2, 1), torch.ones(2, 1), levels=2)
    torch.testing.assert_close(bits_per_dim(-log_p, 1), torch.ones(2))
