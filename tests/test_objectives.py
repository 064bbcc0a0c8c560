"""Objectives: L_simple, weights, learned variance, L_hybrid, importance sampling."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import linear_net, two_headed
from strategies import POSITIVE, Case, any_schedule, cases

from diffusion_edu import objectives, schedules
from diffusion_edu.prediction import predict

# ---- L_simple -----------------------------------------------------------------------------------


@given(cases(names=POSITIVE))
def test_loss_simple_is_the_mean_square(case: Case):
    """L_simple = mean (eps - eps_theta(sqrt(ab) x0 + sqrt(1-ab) eps, t))^2, points or images."""
    alpha_bar = case.table(case.schedule.alpha_bar)
    x_t = alpha_bar.sqrt() * case.x.double() + (1 - alpha_bar).sqrt() * case.y.double()
    expected = ((linear_net(x_t, torch.tensor(case.times)) - case.y.double()) ** 2).mean()
    got = objectives.loss_simple(linear_net, case.x, case.t, case.y, case.schedule)
    assert got.shape == ()
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_network_gets_a_batch_of_int64_times(randn):
    """A network is called as model(x_t (B, *D), t (B,) int64) even where t was an int."""
    seen = []

    def spy(x_t, t):
        seen.append((x_t.shape, t.shape, t.dtype, t.tolist()))
        return x_t

    objectives.loss_simple(spy, randn(3, 2), 7, randn(3, 2), schedules.linear(10))
    assert seen == [((3, 2), (3,), torch.int64, [7, 7, 7])]


@given(cases(names=POSITIVE, dtypes=(torch.float64,)), st.sampled_from(["x0", "v", "score"]))
def test_losses_of_two_kinds_differ_by_snr_weight(case: Case, kind):
    """snr_weight x (squared error of kind) = squared error of eps, for the same prediction."""
    schedule, t = case.schedule, case.t

    def as_kind(x_t, t):
        return getattr(predict("eps", linear_net(x_t, t), x_t, t, schedule), kind)

    weight = objectives.snr_weight(torch.tensor(case.times), schedule, kind)
    weighted = objectives.loss_simple(
        as_kind, case.x, t, case.y, schedule, kind=kind, weight=weight
    )
    plain = objectives.loss_simple(linear_net, case.x, t, case.y, schedule)
    assert weighted.item() == pytest.approx(plain.item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["eps", "x0", "v", "score"])
def test_a_perfect_network_has_loss_0(kind, dtype, randn):
    """The error is 0 for a network that returns the very eps or x0; for v and the score, which
    are computed from both, it is their rounding and not that of x_t, however small the noise."""
    x0, eps, schedule = randn(4, 2, dtype=dtype), randn(4, 2, dtype=dtype), schedules.linear()
    for t in (1, 500, 1000):
        a, b = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
        truths = {"eps": eps, "x0": x0, "v": a * eps - b * x0, "score": -eps / b}
        truth = truths[kind].to(dtype)
        loss = objectives.loss_simple(
            lambda x, t, truth=truth: truth, x0, t, eps, schedule, kind, torch.ones(4).double()
        )
        rounding = 0 if kind in ("eps", "x0") else 4 * torch.finfo(dtype).eps * truth.abs().max()
        assert loss <= rounding**2
        assert loss.dtype == dtype  # whatever the weights are


def test_weights_are_per_example(randn):
    """loss(weight) = mean_b weight_b mean_d error_bd; equal weights of 1 change nothing."""
    x0, eps, schedule = randn(2, 1, 2, 2), randn(2, 1, 2, 2), schedules.linear(10)
    t = torch.tensor([1, 10])

    def loss(weight):
        return objectives.loss_simple(linear_net, x0, t, eps, schedule, weight=weight).item()

    plain = objectives.loss_simple(linear_net, x0, t, eps, schedule).item()
    assert loss(torch.ones(2)) == pytest.approx(plain)
    first, second = loss(torch.tensor([2.0, 0.0])), loss(torch.tensor([0.0, 2.0]))
    each = [
        objectives.loss_simple(linear_net, x0[i : i + 1], int(t[i]), eps[i : i + 1], schedule)
        for i in (0, 1)
    ]
    assert first == pytest.approx(each[0].item())
    assert second == pytest.approx(each[1].item())


# ---- weights ------------------------------------------------------------------------------------


@given(any_schedule(POSITIVE, low=2), st.sampled_from(["beta", "beta_tilde"]))
def test_loss_weight_is_ddpm_eq_12(schedule, sigma2):
    """beta_t^2 / (2 sigma_t^2 alpha_t (1 - alpha_bar_t)), from betas alone, t = 2..T."""
    beta = schedule.beta[1:]
    alpha_bar = (1 - beta).cumprod(0)
    sigma = {
        "beta": beta[1:],
        "beta_tilde": (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:]) * beta[1:],
    }[sigma2]
    expected = beta[1:] ** 2 / (2 * sigma * (1 - beta[1:]) * (1 - alpha_bar[1:]))
    got = objectives.loss_weight(torch.arange(2, schedule.T + 1), schedule, sigma2)
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=0)


@given(any_schedule(POSITIVE, low=2))
def test_loss_weight_is_half_the_loss_of_snr(schedule):
    """With sigma^2 = beta_tilde, weight_t = (SNR_{t-1} - SNR_t) / (2 SNR_t) (2107.00630 sec. 4).

    The bound, written in x0, weighs by the SNR that is lost between two levels.
    """
    t = torch.arange(2, schedule.T + 1)
    expected = (schedule.snr[1:-1] / schedule.snr[2:] - 1) / 2
    got = objectives.loss_weight(t, schedule, "beta_tilde")
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-12)


@given(any_schedule(), st.floats(0.1, 20))
def test_min_snr_weights_of_the_paper(schedule, gamma):
    """min(SNR, gamma) on x0, min(SNR, gamma)/SNR on eps, min(SNR, gamma)/(SNR + 1) on v."""
    t = torch.arange(1, schedule.T + 1)
    if schedule.alpha_bar[-1] == 0:
        last = objectives.min_snr_weight(schedule.T, schedule, "x0", gamma)
        assert last == 0
        t = t[:-1]
    snr = schedule.snr[t]
    capped = snr.clamp(max=gamma)
    for kind, expected in {"x0": capped, "eps": capped / snr, "v": capped / (snr + 1)}.items():
        got = objectives.min_snr_weight(t, schedule, kind, gamma)
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=0)
    default = objectives.min_snr_weight(t, schedule)
    assert default.equal(objectives.min_snr_weight(t, schedule, "eps", 5.0))


# ---- improved DDPM ------------------------------------------------------------------------------


def test_the_decoder_takes_a_grid_of_ones_own(randn):
    """Two values, 0 and 1: P(0) + P(1) = 1 at t = 1; L_hybrid and elbo read the same grid."""
    schedule, options = schedules.linear(10), {"grid": (0.0, 1.0, 2)}
    x0, t = torch.tensor([[0.0, 1.0], [1.0, 1.0]], dtype=torch.float64), torch.tensor([1, 1])
    x_t = randn(1, 2).expand(2, 2)  # one x_1 for all: eps makes up for x0
    signal, noise = schedule.sqrt_alpha_bar[1], schedule.sqrt_one_minus_alpha_bar[1]

    def bits(data):
        eps = (x_t - signal * data) / noise
        return objectives.loss_vlb(two_headed, data, t, eps, schedule, **options)

    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    total = sum(0.5 ** (2 * bits(corner.expand(2, 2))[0].item()) for corner in corners)
    assert total == pytest.approx(1)
    eps = randn(2, 2)
    hybrid = objectives.loss_hybrid(two_headed, x0, t, eps, schedule, **options)
    vlb = objectives.loss_vlb(two_headed, x0, t, eps, schedule, **options)
    simple = objectives.loss_simple(linear_net, x0, t, eps, schedule)
    assert hybrid.item() == pytest.approx((simple + 0.001 * 10 * vlb.mean()).item())
    terms = objectives.elbo(
        two_headed, x0, schedule, sigma2="learned", eps=eps.expand(10, 2, 2), **options
    )
    torch.testing.assert_close(terms.L_0, vlb * 2 * math.log(2))


@given(cases(names=POSITIVE, min_T=3, dtypes=(torch.float64,)))
def test_learned_variance_runs_from_beta_tilde_to_beta(case: Case):
    """v = -1: beta_tilde_t (beta_tilde_2 at t = 1); v = 1: beta_t; v = 0: the geometric mean."""
    schedule, t, one = case.schedule, case.t, torch.ones_like(case.x)
    tilde = schedule.beta_tilde.clone()
    tilde[1] = min(tilde[2], schedule.beta[1])
    low, high = case.table(tilde) * one, case.table(schedule.beta) * one
    options = {"rtol": 1e-9, "atol": 0.0}
    torch.testing.assert_close(objectives.learned_variance(-one, t, schedule), low, **options)
    torch.testing.assert_close(objectives.learned_variance(one, t, schedule), high, **options)
    middle = objectives.learned_variance(0 * one, t, schedule)
    torch.testing.assert_close(middle, (low * high).sqrt(), **options)


class TwoHeads(torch.nn.Module):
    """A mean part and a variance part that share nothing."""

    def __init__(self):
        super().__init__()
        self.mean = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.variance = torch.nn.Parameter(torch.tensor(0.1, dtype=torch.float64))

    def forward(self, x_t, t):
        return torch.cat([self.mean * x_t, self.variance * x_t], 1)


def test_the_bound_does_not_train_the_mean(randn):
    """L_hybrid: d/d mean = d L_simple/d mean exactly; d/d variance = lam T d L_vlb/d variance."""
    schedule, x0, eps = schedules.cosine(20), randn(8, 2), randn(8, 2)
    t = torch.tensor([1, 1, 2, 3, 10, 15, 19, 20])

    def gradients(loss):
        net = TwoHeads()
        loss(net).backward()
        return [0.0 if p.grad is None else p.grad.item() for p in (net.mean, net.variance)]

    hybrid = gradients(
        lambda net: objectives.loss_hybrid(net, x0, t, eps, schedule, lam=0.01, decoder="gaussian")
    )
    simple = gradients(
        lambda net: objectives.loss_simple(lambda x, t: net(x, t)[:, :2], x0, t, eps, schedule)
    )
    vlb = gradients(
        lambda net: objectives.loss_vlb(net, x0, t, eps, schedule, decoder="gaussian").mean()
    )
    assert hybrid[0] == pytest.approx(simple[0], rel=1e-12)
    assert hybrid[1] == pytest.approx(0.01 * 20 * vlb[1], rel=1e-12)
    assert vlb[0] != 0  # the bound would train the mean if it were let
    assert hybrid[1] != 0


def test_hybrid_is_the_sum_of_its_parts(randn):
    """L_hybrid = L_simple + lam T mean L_vlb."""
    schedule, x0, eps = schedules.linear(20), randn(4, 3, 2, 2), randn(4, 3, 2, 2)
    t = torch.tensor([1, 5, 10, 20])
    hybrid = objectives.loss_hybrid(two_headed, x0, t, eps, schedule, decoder="gaussian")
    simple = objectives.loss_simple(linear_net, x0, t, eps, schedule)
    vlb = objectives.loss_vlb(two_headed, x0, t, eps, schedule, decoder="gaussian")
    assert hybrid.item() == pytest.approx((simple + 0.001 * 20 * vlb.mean()).item(), rel=1e-9)


def test_importance_sampling_is_unbiased(generator):
    """E_{t~p}[ L_t / (T p_t) ] = mean over t of L_t: exactly, and by Monte-Carlo within 5 sigma."""
    T = 8
    losses = torch.arange(1.0, T + 1, dtype=torch.float64) ** 2
    sampler = objectives.ImportanceSampler(T, history=3)
    assert sampler.probabilities.tolist() == [1 / T] * T  # uniform until every t was seen
    for _ in range(3):
        sampler.update(torch.arange(1, T + 1), losses)
    p = sampler.probabilities
    assert p.sum().item() == pytest.approx(1)
    t, weights = sampler.sample(50_000, generator)
    assert t.dtype == torch.int64
    assert (t.min(), t.max()) == (1, T)
    torch.testing.assert_close(weights, 1 / (T * p[t - 1]))
    estimate = losses[t - 1] * weights
    exact = losses.mean()
    seen = torch.zeros_like(p).index_copy(0, t - 1, weights)  # the weight that each t came with
    assert (p * seen * losses).sum().item() == pytest.approx(exact.item())
    error = estimate.std() / len(t) ** 0.5
    assert abs(estimate.mean() - exact) <= 5 * error + 1e-12
    # what it is for: constant |L_t| / p_t, so far less variance than uniform t
    assert estimate.std() < 0.05 * losses.std()


def test_importance_follows_the_last_losses():
    """p_t is proportional to sqrt(E[L_t^2]) over the last ``history`` losses of each t."""
    sampler = objectives.ImportanceSampler(2, history=2, uniform=0.0)
    for first, second in ((100.0, 100.0), (3.0, 1.0), (4.0, 1.0)):
        sampler.update(torch.tensor([1, 2]), torch.tensor([first, second]))
    ratio = math.sqrt((9 + 16) / 2)
    expected = torch.tensor([ratio, 1.0], dtype=torch.float64) / (ratio + 1)
    torch.testing.assert_close(sampler.probabilities, expected)


def test_importance_waits_for_every_t():
    """Uniform, in float64, until the last t has its ``history`` of losses."""
    sampler = objectives.ImportanceSampler(2, history=2, uniform=0.0)
    sampler.update(torch.tensor([1, 1, 1, 2]), torch.tensor([9.0, 9.0, 9.0, 1.0]))
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(sampler.probabilities, half)  # dtype and all
    sampler.update(torch.tensor([2]), torch.tensor([1.0]))
    torch.testing.assert_close(sampler.probabilities, torch.tensor([0.9, 0.1], dtype=torch.float64))


def test_importance_sampling_defaults_are_those_of_the_paper():
    """Ten losses of each t before it counts, and a share of 0.001 for uniform t; T = 1 is fine."""
    sampler, t = objectives.ImportanceSampler(2), torch.tensor([1, 2])
    for seen in range(10):
        assert sampler.probabilities.tolist() == [0.5, 0.5], seen
        sampler.update(t, torch.tensor([1.0, 0.0]))
    expected = torch.tensor([0.9995, 0.0005], dtype=torch.float64)
    torch.testing.assert_close(sampler.probabilities, expected)
    assert objectives.ImportanceSampler(1).probabilities.tolist() == [1.0]


def test_importance_sampling_with_a_share_of_1_is_uniform():
    """uniform = 1: every t is equally likely, whatever its losses."""
    sampler = objectives.ImportanceSampler(2, history=1, uniform=1)
    sampler.update(torch.tensor([1, 2]), torch.tensor([5.0, 1.0]))
    assert sampler.probabilities.tolist() == [0.5, 0.5]


def test_importance_sampling_draws_from_its_generator():
    """Equal seeds, equal t; other seeds, other t; the global state is not touched."""
    sampler, before = objectives.ImportanceSampler(1000), torch.get_rng_state()
    a, b, c = (sampler.sample(20, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1))
    assert a.equal(b)
    assert not a.equal(c)
    assert torch.get_rng_state().equal(before)


def test_losses_that_vanish_leave_importance_uniform():
    """All losses 0 (a perfect model): every t stays equally likely, no division by zero."""
    sampler = objectives.ImportanceSampler(2, history=1)
    sampler.update(torch.tensor([1, 2]), torch.zeros(2))
    assert sampler.probabilities.tolist() == [0.5, 0.5]


def test_objectives_on_the_device(device):
    """Losses and weights accept times on the device of x: the tables stay on the CPU."""
    schedule = schedules.linear(10)
    x, t = torch.zeros(3, 2, device=device), torch.tensor([1, 5, 10], device=device)
    for kind in ("eps", "x0", "v", "score"):
        assert objectives.loss_simple(linear_net, x, t, x, schedule, kind=kind).isfinite()
        objectives.min_snr_weight(t, schedule, kind)
    objectives.loss_weight(t, schedule)
    assert objectives.loss_hybrid(two_headed, x, t, x, schedule, decoder="gaussian").isfinite()
    terms = objectives.elbo(linear_net, x, schedule, decoder="gaussian")
    assert terms.total.device == x.device
