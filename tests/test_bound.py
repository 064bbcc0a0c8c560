"""The variational bound and its terms: quadrature, exact denoisers, gradients."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import linear_net, two_headed
from strategies import POSITIVE, SCHEDULES, Case, cases, schedule_of

from diffusion_edu import objectives, schedules
from diffusion_edu.forward import q_marginal, q_sample
from diffusion_edu.gaussian import Gaussian
from diffusion_edu.posterior import q_posterior
from diffusion_edu.prediction import predict


@given(
    cases(names=POSITIVE, low=2, dtypes=(torch.float64,)),
    st.sampled_from(["beta", "beta_tilde"]),
)
def test_the_kl_is_the_weighted_error_of_the_noise(case: Case, sigma2):
    """Identity 5. KL(q_posterior || p_theta) = loss_weight ||eps - eps_hat||^2 for a fixed sigma^2.

    Exactly so for sigma^2 = beta_tilde; sigma^2 = beta adds the constant KL of the two variances,
    (D/2) (r - 1 - log r) with r = beta_tilde/beta.
    """
    schedule, t, x0, eps = case.schedule, case.t, case.x, case.y
    x_t = q_sample(x0, t, eps, schedule)
    eps_hat = linear_net(x_t, torch.tensor(case.times))
    mean = q_posterior(x_t, predict("eps", eps_hat, x_t, t, schedule).x0, t, schedule).mean
    p = Gaussian(mean, case.table(getattr(schedule, sigma2)))
    kl = q_posterior(x_t, x0, t, schedule).kl(p)
    weight = objectives.loss_weight(t, schedule, sigma2)
    expected = weight * ((eps - eps_hat) ** 2).flatten(1).sum(1)
    if sigma2 == "beta":
        ratio = (case.table(schedule.beta_tilde) / case.table(schedule.beta)).flatten()
        expected = expected + x0[0].numel() / 2 * (ratio - 1 - ratio.log())
    torch.testing.assert_close(kl, expected, rtol=1e-5, atol=1e-9)


def bound_by_quadrature(schedule, model, mean, var, sigma2):
    """E[-ELBO] in nats for data N(mean, var) in 1-D, exact to rounding: no sampling.

    Every term is a quadratic in x0 and eps when model is linear, and three Gauss-Hermite nodes
    integrate up to degree 5 exactly.
    """
    root = math.sqrt(3)
    nodes = torch.tensor([-root, 0, root], dtype=torch.float64)
    weights = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)
    x0, eps = torch.meshgrid(mean + math.sqrt(var) * nodes, nodes, indexing="ij")
    w = (weights[:, None] * weights).flatten()
    x0, eps = x0.reshape(-1, 1), eps.reshape(-1, 1)
    T, n = schedule.T, len(w)
    terms = objectives.loss_vlb(
        model,
        x0.repeat(T, 1),
        torch.arange(1, T + 1).repeat_interleave(n),
        eps.repeat(T, 1),
        schedule,
        sigma2=sigma2,
        decoder="gaussian",
    )
    last = q_marginal(x0, T, schedule).kl(Gaussian(torch.zeros_like(x0), torch.ones_like(x0)))
    return ((terms.view(T, n).sum(0) * math.log(2) + last) * w).sum().item()


def gap(schedule, model, mean, var, sigma2):
    """E[-ELBO] - entropy: how much the bound costs over the true -log p, in nats."""
    entropy = 0.5 * math.log(2 * math.pi * math.e * var)
    return bound_by_quadrature(schedule, model, mean, var, sigma2) - entropy


@pytest.mark.parametrize(
    "make",
    [
        schedules.linear,
        schedules.cosine,
        schedules.quadratic,
        schedules.sigmoid,
        schedules.sigmoid_alpha_bar,
    ],
)
def test_the_gap_of_the_bound_is_positive_and_shrinks(make, gaussian_denoiser):
    """Identity 6. E[-ELBO - (-log p)] >= 0 for N(0.3, 0.25) data, falling with T = 10...1000.

    The denoiser is exact and the expectation is taken by quadrature that is exact here, so nothing
    in this test is random. (N(0, 1) data would show a gap of 0: it is stationary.)
    """
    gaps = []
    for T in (10, 30, 100, 300, 1000):
        schedule = make(T)
        gaps.append(gap(schedule, gaussian_denoiser(schedule, 0.3, 0.25), 0.3, 0.25, "beta"))
    assert gaps[-1] > 0
    assert all(a > 2 * b for a, b in pairwise(gaps)), gaps
    assert gaps[-1] < 1.2e-3


@pytest.mark.parametrize(("var", "better"), [(0.25, "beta"), (1e-6, "beta_tilde")])
def test_beta_suits_broad_data_and_beta_tilde_a_point(var, better, gaussian_denoiser):
    """DDPM sec. 3.2: sigma^2 = beta is best for N(0, I) data, beta_tilde for one fixed x_0."""
    schedule = schedules.linear(300)
    model = gaussian_denoiser(schedule, 0.3, var)
    gaps = {sigma2: gap(schedule, model, 0.3, var, sigma2) for sigma2 in ("beta", "beta_tilde")}
    assert min(gaps, key=gaps.get) == better, gaps
    assert min(gaps.values()) > 0


def test_the_exact_denoiser_has_the_smallest_bound(gaussian_denoiser):
    """E[-ELBO] is least for the exact denoiser: any wrong mean or variance costs nats."""
    schedule = schedules.linear(50)
    best = bound_by_quadrature(schedule, gaussian_denoiser(schedule), 0.3, 0.25, "beta")
    for mean, var in ((0.2, 0.25), (0.4, 0.25), (0.3, 0.2), (0.3, 0.3)):
        wrong = gaussian_denoiser(schedule, mean, var)
        assert bound_by_quadrature(schedule, wrong, 0.3, 0.25, "beta") > best + 1e-4


def test_elbo_by_sampling_agrees_with_quadrature(gaussian_denoiser, randn, generator):
    """The mean of elbo(...).total over data and noise is the exact bound, within 5 std. errors."""
    schedule = schedules.linear(30)
    model = gaussian_denoiser(schedule)
    x0 = 0.3 + 0.5 * randn(20_000, 1)
    terms = objectives.elbo(model, x0, schedule, decoder="gaussian", generator=generator)
    exact = bound_by_quadrature(schedule, model, 0.3, 0.25, "beta")
    error = terms.total.std() / len(x0) ** 0.5
    assert abs(terms.total.mean() - exact) < 5 * error
    assert error < 0.05  # else the line above says nothing


@pytest.mark.parametrize("shape", [(6, 2), (2, 1, 8, 8), (2, 3, 4, 4)])
@pytest.mark.parametrize("decoder", ["gaussian", "discretized"])
@pytest.mark.parametrize("sigma2", ["beta", "beta_tilde", "learned"])
def test_vlb_terms_summed_over_t_are_the_elbo(shape, decoder, sigma2, randn, generator):
    """L_T + sum over t of loss_vlb(t) = elbo total, term by term, with the same noise."""
    schedule = schedules.linear(12)
    model = two_headed if sigma2 == "learned" else linear_net
    x0 = (randn(*shape).tanh() * 127.5).round().add(0.5).clamp(-127.5, 127.5) / 127.5
    options = {"sigma2": sigma2, "decoder": decoder}
    state = generator.get_state()
    terms = objectives.elbo(model, x0, schedule, generator=generator, **options)
    generator.set_state(state)
    eps = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(12)]
    given = objectives.elbo(model, x0, schedule, eps=torch.stack(eps), **options)
    assert given.total.equal(terms.total)
    dims = x0[0].numel()
    nats = dims * math.log(2)
    for t in range(1, 13):
        batch = torch.full((len(x0),), t)
        got = objectives.loss_vlb(model, x0, batch, eps[t - 1], schedule, **options) * nats
        expected = terms.L_0 if t == 1 else terms.L_t[:, t - 2]
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    assert terms.L_T.shape == terms.L_0.shape == (len(x0),)
    assert terms.L_t.shape == (len(x0), 11)
    assert terms.dims == dims
    torch.testing.assert_close(terms.total, terms.L_T + terms.L_t.sum(1) + terms.L_0)
    torch.testing.assert_close(terms.bits_per_dim(), terms.total / nats)


def test_a_mixed_batch_of_times_is_each_time_on_its_own(randn):
    """loss_vlb of t = (1, 2, T) in one batch, L_0 beside L_{t-1}, = loss_vlb of each alone."""
    schedule, x0, eps = schedules.cosine(20), randn(3, 2), randn(3, 2)
    t = torch.tensor([1, 2, 20])
    options = {"sigma2": "beta_tilde", "decoder": "gaussian"}
    mixed = objectives.loss_vlb(linear_net, x0, t, eps, schedule, **options)
    for i in range(3):
        alone = objectives.loss_vlb(
            linear_net, x0[i : i + 1], t[i : i + 1], eps[i : i + 1], schedule, **options
        )
        torch.testing.assert_close(mixed[i : i + 1], alone)


def test_L_T_is_the_divergence_from_the_prior(randn):
    """L_T = KL(N(sqrt(ab_T) x0, 1 - ab_T) || N(0, 1)) by torch.distributions; 0 if ab_T = 0."""
    x0 = randn(5, 2)
    for schedule in (schedules.linear(20, 1e-3, 0.05), schedules.jsd(20)):
        terms = objectives.elbo(linear_net, x0, schedule, kind="v", decoder="gaussian")
        q = q_marginal(x0, 20, schedule)
        q = torch.distributions.Normal(q.mean, q.var.sqrt().expand_as(x0))
        expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
        torch.testing.assert_close(terms.L_T, expected.sum(1))
    assert (terms.L_T == 0).all()  # of jsd


def test_bits_per_dim_of_quantised_points(gaussian_denoiser, randn, generator):
    """8-bit 2-D data: the bound is finite and above the entropy of the quantised Gaussian.

    The entropy is that of N(0, 0.0625) on 256 levels in [-1, 1]; the gap is below 0.1 bits/dim
    with the exact denoiser and T = 300.
    """
    std = 0.25
    x0 = (std * randn(1000, 2)).clamp(-1, 1)
    x0 = ((x0 + 1) * 127.5).round() / 127.5 - 1
    schedule = schedules.linear(300)
    model = gaussian_denoiser(schedule, 0.0, std**2)
    bits = objectives.elbo(model, x0, schedule, generator=generator).bits_per_dim()
    entropy = math.log2(std * math.sqrt(2 * math.pi * math.e) * 127.5)
    error = bits.std().item() / len(x0) ** 0.5
    assert bits.isfinite().all()
    assert entropy - 5 * error < bits.mean().item() < entropy + 0.1 + 5 * error
    assert error < 0.05


def test_a_single_step_has_no_middle_terms(randn):
    """T = 1: -ELBO = L_T + L_0, with L_t of shape (B, 0); of two steps one is in the middle."""
    terms = objectives.elbo(linear_net, randn(3, 2), schedules.linear(1), decoder="gaussian")
    assert terms.L_t.shape == (3, 0)
    torch.testing.assert_close(terms.total, terms.L_T + terms.L_0)
    two = objectives.elbo(linear_net, randn(3, 2), schedules.linear(2), decoder="gaussian")
    assert two.L_t.shape == (3, 1)


def test_the_bound_of_all_steps_builds_no_graph(randn):
    """elbo calls the network T times and keeps none of it; loss_vlb is what can be trained."""
    weight = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    x0, schedule = randn(3, 2), schedules.linear(4)
    terms = objectives.elbo(lambda x, t: weight * x, x0, schedule, decoder="gaussian")
    assert not terms.total.requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("T", [1, 2, 3])
def test_the_decoder_of_beta_tilde_has_a_variance(T, randn):
    """sigma_1^2 = beta_tilde_2, as in DDPM's code, or beta_1 where there is no second step.

    The mean at t = 1 is the predicted x0, here 0: L_0 = -log N(x_0; 0, sigma_1^2).
    """
    x0, schedule = randn(3, 2), schedules.linear(T)
    variance = schedule.beta[1] if T == 1 else schedule.beta_tilde[2]
    expected = -torch.distributions.Normal(0.0, variance.sqrt()).log_prob(x0).sum(1)
    options = {"kind": "x0", "sigma2": "beta_tilde", "decoder": "gaussian"}
    terms = objectives.elbo(lambda x, t: 0 * x, x0, schedule, **options)
    torch.testing.assert_close(terms.L_0, expected)


@pytest.mark.parametrize("level", [0, 1, 254, 255])
def test_the_grid_forgives_rounding_only(level, randn):
    """Data may miss its level by 0.01 of a step, also at the ends of the grid, and by no more."""
    schedule, eps = schedules.linear(10), randn(1, 1)

    def bits(off):
        x0 = torch.tensor([[(level + off) / 127.5 - 1]], dtype=torch.float64)
        return objectives.loss_vlb(linear_net, x0, 1, eps, schedule, sigma2="beta")

    for off in (-0.0099, 0.0, 0.0099):
        assert bits(off).isfinite()
    for off in (-0.0101, 0.0101, 0.4, 0.5):
        with pytest.raises(ValueError, match="grid"):
            bits(off)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_a_finite_bound(name, randn, generator):
    """-ELBO is finite in float32 and float64 for every schedule (v prediction suits all)."""
    for dtype in (torch.float32, torch.float64):
        x0 = randn(4, 2, dtype=dtype)
        terms = objectives.elbo(
            linear_net,
            x0,
            schedule_of(name, 40),
            kind="v",
            sigma2="beta_tilde",
            decoder="gaussian",
            generator=generator,
        )
        assert terms.total.isfinite().all()
        assert terms.total.dtype == dtype
        assert (terms.L_t >= 0).all()


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_of_the_bound_are_finite(name, dtype, generator):
    """d L_vlb / d output is finite at every t, t = 1 and t = T included, with either decoder."""
    schedule = schedule_of(name, 100)
    t = torch.arange(1, 101)
    x0 = torch.randint(0, 256, (100, 2), generator=generator).to(dtype) / 127.5 - 1
    eps = torch.randn(100, 2, generator=generator, dtype=dtype)
    for decoder in ("discretized", "gaussian"):
        output = torch.zeros(100, 4, dtype=dtype, requires_grad=True)
        loss = objectives.loss_vlb(
            lambda x, t, out=output: out, x0, t, eps, schedule, decoder=decoder
        )
        loss.sum().backward()
        assert loss.isfinite().all()
        assert output.grad.isfinite().all()
