"""Noise schedules: their definitions, and what must hold between their tables."""

import math
import pickle

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import POSITIVE, SCHEDULES, Case, any_schedule, cases, schedule_of

from diffusion_edu import schedules
from diffusion_edu.schedules import Schedule, at


def close(a, b, rtol=1e-12, atol=0.0):
    torch.testing.assert_close(
        torch.as_tensor(a, dtype=torch.float64),
        torch.as_tensor(b, dtype=torch.float64),
        rtol=rtol,
        atol=atol,
    )


@given(any_schedule())
def test_tables_have_T_plus_1_entries_and_level_0_is_clean(schedule):
    """beta_0 = 0, alpha_bar_0 = 1, SNR_0 = inf; every table is (T+1,) float64 on the CPU."""
    for name in ("beta", "alpha", "alpha_bar", "beta_tilde", "snr", "log_snr"):
        table = getattr(schedule, name)
        assert table.shape == (schedule.T + 1,), name
        assert table.dtype == torch.float64, name
        assert table.device.type == "cpu", name
        assert not table.isnan().any(), name
    assert schedule.beta[0] == schedule.beta_tilde[0] == 0
    assert schedule.alpha[0] == schedule.alpha_bar[0] == 1
    assert schedule.snr[0] == schedule.log_snr[0] == math.inf


@given(any_schedule())
def test_alpha_bar_is_the_product_of_alphas(schedule):
    """alpha_bar_t = (1 - beta_1) ... (1 - beta_t), betas in (0, 1] and 1 at most at t = T."""
    close(schedule.alpha_bar, (1 - schedule.beta).cumprod(0), rtol=1e-9, atol=1e-300)
    assert (schedule.beta[1:] > 0).all()
    assert (schedule.beta[1:-1] < 1).all()
    assert schedule.beta[-1] <= 1
    assert (schedule.alpha_bar.diff() < 0).all()
    close(schedule.alpha, 1 - schedule.beta, atol=1e-16)


@given(any_schedule(POSITIVE, low=2))
def test_posterior_precision_is_the_sum_of_precisions(schedule):
    """1/beta_tilde_t = 1/(1 - alpha_bar_{t-1}) + alpha_t/beta_t (prior and likelihood), t >= 2."""
    prior = 1 / (1 - schedule.alpha_bar[1:-1])
    likelihood = schedule.alpha[2:] / schedule.beta[2:]
    close(1 / schedule.beta_tilde[2:], prior + likelihood, rtol=1e-9)
    assert schedule.beta_tilde[1] == 0
    assert (schedule.beta_tilde <= schedule.beta).all()


@given(any_schedule())
def test_snr_and_its_logarithm(schedule):
    """alpha_bar = logistic(log SNR) and SNR = exp(log SNR), falling in t."""
    close(torch.sigmoid(schedule.log_snr), schedule.alpha_bar, rtol=1e-9)
    close(schedule.log_snr.exp(), schedule.snr, rtol=1e-9)
    assert (schedule.snr.diff()[1:] < 0).all()


def test_the_published_end_of_the_linear_schedule():
    """Identity 8. beta 1e-4 -> 0.02, T = 1000: q(x_T|x_0) = N(0.00635 x_0, 0.99996 I)."""
    schedule = schedules.linear(1000)
    assert f"{schedule.alpha_bar[-1].sqrt():.5f}" == "0.00635"
    assert f"{1 - schedule.alpha_bar[-1]:.5f}" == "0.99996"
    close(schedule.beta[1], 1e-4, rtol=1e-9)
    close(schedule.beta[1000], 0.02, rtol=1e-9)


def test_fine_structure_of_the_linear_schedule():
    """beta_tilde_2 = 5.45e-5 (improved DDPM's code clips to it), 1/sqrt(alpha_bar_T) = 157."""
    schedule = schedules.linear(1000)
    assert f"{schedule.beta_tilde[2]:.2e}" == "5.45e-05"
    assert f"{1 / schedule.alpha_bar[-1].sqrt():.0f}" == "157"


@pytest.mark.parametrize("make", [schedules.linear, schedules.quadratic, schedules.sigmoid])
@given(T=st.integers(2, 4000))
def test_default_betas_scale_so_that_every_chain_ends_in_noise(make, T):
    """SNR_T < 1e-3 (1e-2 for T < 10): default betas are 1000/T times those of T = 1000."""
    schedule = make(T)
    assert schedule.snr[-1] < (1e-3 if T >= 10 else 1e-2)
    assert schedule.beta.max() <= 0.999 * (1 + 1e-12)


@pytest.mark.parametrize("make", [schedules.linear, schedules.quadratic, schedules.sigmoid])
def test_even_a_single_step_ends_in_noise(make):
    """SNR_T < 1e-2 at T = 1 as well: the last beta, not the first, is what one step must use."""
    assert make(1).snr[-1] < 1e-2


@pytest.mark.parametrize("T", [50, 100, 200, 500])
def test_given_betas_are_literal(T):
    """beta_1 and beta_T, when given, are the first and last beta whatever T is."""
    for make in (schedules.linear, schedules.quadratic):
        schedule = make(T, 1e-4, 0.02)
        close(schedule.beta[[1, T]], [1e-4, 0.02], rtol=1e-9)
    # the known consequence: a short chain with the betas of a long one keeps the signal
    expected = {50: 0.60, 100: 0.36, 200: 0.13, 500: 0.0064}[T]
    close(schedules.linear(T, 1e-4, 0.02).alpha_bar[-1], expected, rtol=0.02)


@pytest.mark.parametrize("make", [schedules.linear, schedules.quadratic, schedules.sigmoid])
def test_one_given_beta_leaves_the_other_its_default(make):
    """At T = 200 the default of beta_1 is 5e-4 and that of beta_T 0.1, also beside a given one."""
    assert make(200, beta_T=0.3).alpha_bar.equal(make(200, 5e-4, 0.3).alpha_bar)
    assert make(200, beta_1=1e-3).alpha_bar.equal(make(200, 1e-3, 0.1).alpha_bar)


@given(T=st.integers(3, 4000))
def test_linear_and_quadratic_have_equal_steps(T):
    """beta (linear) and sqrt(beta) (quadratic) rise in equal steps."""
    close(schedules.linear(T).beta[1:].diff().diff(), torch.zeros(T - 2), atol=1e-14)
    close(schedules.quadratic(T).beta[1:].sqrt().diff().diff(), torch.zeros(T - 2), atol=1e-12)


@given(T=st.integers(2, 2000))
def test_beta_sigmoid_is_a_logistic_curve(T):
    """logit( (beta - beta_1)/(beta_T - beta_1) ) runs from -6 to 6 in equal steps."""
    low, high = 1e-4, 0.02
    share = (schedules.sigmoid(T, low, high).beta[1:] - low) / (high - low)
    close(torch.logit(share), torch.linspace(-6, 6, T, dtype=torch.float64), rtol=0, atol=1e-6)


@given(T=st.integers(1, 4000), s=st.floats(0.0, 0.1))
@example(T=1, s=0.008)
def test_cosine_is_the_closed_form_until_the_cap(T, s):
    """alpha_bar_t = cos^2((t/T + s)/(1 + s) pi/2) / cos^2(s/(1 + s) pi/2) wherever beta < 0.999."""
    schedule = schedules.cosine(T, s)

    def f(t):
        return math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2

    capped = (schedule.beta >= 0.999 - 1e-12).nonzero().flatten().tolist()
    last = (capped[0] if capped else T + 1) - 1
    close(schedule.alpha_bar[: last + 1], [f(t) / f(0) for t in range(last + 1)], rtol=1e-9)
    close(schedule.beta[-1], 0.999, rtol=1e-9)  # f(T) = 0: only the cap keeps alpha_bar_T > 0


def test_cosine_amplifies_errors_at_T():
    """1/sqrt(alpha_bar_T) = 2.0e4 for cosine, T = 1000, and 642 one step earlier; all finite."""
    root = schedules.cosine(1000).alpha_bar.sqrt()
    assert f"{1 / root[1000]:.1e}" == "2.0e+04"
    assert f"{1 / root[999]:.0f}" == "642"


@given(st.integers(2, 1000), st.floats(-4, -0.5), st.floats(0.5, 4), st.floats(0.3, 2))
def test_alpha_bar_sigmoid_is_the_closed_form(T, start, end, tau):
    """alpha_bar_t = (h(end) - h(u_t)) / (h(end) - h(start)), u_t from start to end, for t < T."""

    def h(u):
        return 1 / (1 + math.exp(-u / tau))

    schedule = schedules.sigmoid_alpha_bar(T, start, end, tau)
    expected = [(h(end) - h(start + (end - start) * t / T)) / (h(end) - h(start)) for t in range(T)]
    close(schedule.alpha_bar[:-1], expected, rtol=1e-7)
    close(schedule.beta[-1], 0.999, rtol=1e-9)  # 1 without the cap
    assert schedules.sigmoid_alpha_bar(1, start, end, tau).T == 1


def test_defaults_are_those_of_the_papers():
    """T = 1000; cosine: s = 0.008, cap 0.999; alpha_bar-sigmoid: -3, 3, 1; beta-sigmoid: 6."""
    for make in (
        schedules.linear,
        schedules.quadratic,
        schedules.cosine,
        schedules.sigmoid,
        schedules.sigmoid_alpha_bar,
        schedules.jsd,
    ):
        assert make().alpha_bar.equal(make(1000).alpha_bar)
        assert make().name == make.__name__
    assert schedules.constant(10, 0.1).name == "constant"
    assert schedules.cosine().alpha_bar.equal(schedules.cosine(1000, 0.008, 0.999).alpha_bar)
    given = schedules.sigmoid_alpha_bar(1000, -3.0, 3.0, 1.0)
    assert schedules.sigmoid_alpha_bar().alpha_bar.equal(given.alpha_bar)
    assert schedules.sigmoid().alpha_bar.equal(schedules.sigmoid(1000, 1e-4, 0.02, 6.0).alpha_bar)


def test_names_say_where_a_schedule_comes_from():
    """Made from another: its name, and what was done; from a table: "custom", or the given name."""
    chain = schedules.linear(10)
    assert schedules.respace(chain, [3, 10, 7]).name == "linear, 3 of 10"
    assert schedules.zero_terminal_snr(chain).name == "linear, zero terminal SNR"
    assert schedules.from_betas([0.1]).name == Schedule([1, 0.5]).name == "custom"
    assert schedules.from_betas([0.1], "mine").name == Schedule([1, 0.5], "mine").name == "mine"


@given(T=st.integers(2, 1000))
def test_alpha_bar_sigmoid_is_symmetric(T):
    """alpha_bar_t + alpha_bar_{T-t} = 1 where start = -end, 0 < t < T."""
    alpha_bar = schedules.sigmoid_alpha_bar(T).alpha_bar[1:-1]
    close(alpha_bar + alpha_bar.flip(0), torch.ones(T - 1), rtol=1e-9)


@given(T=st.integers(1, 4000))
def test_jsd_loses_the_signal_linearly(T):
    """beta_t = 1/(T - t + 1)  =>  alpha_bar_t = 1 - t/T, exactly 0 at t = T."""
    schedule = schedules.jsd(T)
    close(schedule.alpha_bar, 1 - torch.arange(T + 1, dtype=torch.float64) / T, atol=1e-12)
    assert schedule.alpha_bar[-1] == 0


@given(T=st.integers(1, 4000), beta=st.floats(1e-6, 0.15))
def test_constant(T, beta):
    """alpha_bar_t = (1 - beta)^t."""
    expected = torch.tensor(1 - beta, dtype=torch.float64) ** torch.arange(T + 1)
    close(schedules.constant(T, beta).alpha_bar, expected, rtol=1e-9)


@given(any_schedule(POSITIVE))
def test_from_betas_and_alpha_bar_are_inverse(schedule):
    """from_betas(beta) and Schedule(alpha_bar) give the schedule back, from tensors and lists."""
    betas = schedule.beta[1:]
    close(schedules.from_betas(betas).alpha_bar, schedule.alpha_bar, rtol=1e-9)
    assert schedules.from_betas(betas.tolist()).beta.equal(schedules.from_betas(betas).beta)
    assert Schedule(schedule.alpha_bar.tolist()).alpha_bar.equal(schedule.alpha_bar)


@given(any_schedule(POSITIVE, low=2))
def test_zero_terminal_snr_is_affine_in_the_signal_rate(schedule):
    """sqrt(alpha_bar') = c (sqrt(alpha_bar) - sqrt(alpha_bar_T)), 0 at T, unchanged at t = 1."""
    fixed = schedules.zero_terminal_snr(schedule)
    assert fixed.alpha_bar[-1] == 0
    close(fixed.alpha_bar[1], schedule.alpha_bar[1])
    assert schedules.zero_terminal_snr(schedules.linear(1)).alpha_bar.tolist() == [1, 0]
    old, new = schedule.alpha_bar[1:].sqrt(), fixed.alpha_bar[1:].sqrt()
    scale = new[0] / (old[0] - old[-1])
    close(new, scale * (old - old[-1]), rtol=1e-9, atol=1e-15)


@given(any_schedule(low=2), st.data())
def test_respace_keeps_levels_and_multiplies_alphas(schedule, data):
    """alpha'_i = product of the alphas skipped; alpha_bar' = alpha_bar at taus, in any order."""
    taus = data.draw(st.sets(st.integers(1, schedule.T), min_size=1, max_size=30))
    levels = [0, *sorted(taus)]
    short = schedules.respace(schedule, data.draw(st.permutations(sorted(taus))))
    assert len(taus) == short.T
    assert short.alpha_bar.equal(schedule.alpha_bar[levels])
    for i in range(1, len(levels)):
        skipped = schedule.alpha[levels[i - 1] + 1 : levels[i] + 1]
        close(short.alpha[i], skipped.prod(), rtol=1e-9, atol=1e-300)


@given(any_schedule())
def test_respacing_to_all_levels_changes_nothing(schedule):
    """respace(schedule, 1..T) = respace(schedule, 0..T) = schedule."""
    for start in (0, 1):
        again = schedules.respace(schedule, torch.arange(start, schedule.T + 1))
        assert again.alpha_bar.equal(schedule.alpha_bar)


def test_a_schedule_is_frozen_and_owns_its_table():
    """Neither assignment nor an edit of the caller's tensor changes a schedule."""
    table = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    schedule = Schedule(table)
    table[1] = 0.9
    assert schedule.alpha_bar.tolist() == [1, 0.5, 0.25]
    with pytest.raises(AttributeError, match="frozen"):
        schedule.T = 5


def test_a_schedule_survives_pickling():
    """pickle.loads(pickle.dumps(schedule)) has the same tables, name and T."""
    schedule = schedules.cosine(20)
    _ = schedule.beta  # cached tables must not be in the way
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy.alpha_bar.equal(schedule.alpha_bar)
    assert (copy.name, copy.T) == (schedule.name, schedule.T)
    assert copy.beta.equal(schedule.beta)


@given(cases(low=0))
def test_at_is_the_obvious_loop(case: Case):
    """at(table, t, x) * x = table[t_b] x_b for every example b, in x's dtype."""
    got = at(case.schedule.alpha_bar, case.t, case.x)
    assert got.dtype == case.x.dtype
    close(
        (got * case.x).double(),
        case.table(case.schedule.alpha_bar) * case.x.double(),
        rtol=1e-6 if case.x.dtype == torch.float32 else 1e-15,
        atol=1e-30,
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_tables_in_float32_keep_their_digits(name):
    """1 - alpha_bar, subtracted in float64 and rounded last, is right to 1e-6 in float32."""
    schedule = schedule_of(name, 1000)
    like = torch.zeros(1, 2)
    for t in (1, 2, 3):
        exact = -math.expm1(float(torch.log1p(-schedule.beta[1 : t + 1]).sum()))
        assert abs(float(at(1 - schedule.alpha_bar, t, like)) / exact - 1) < 1e-6


def test_repr_names_the_schedule():
    """repr shows name, T, the range of beta and SNR_T."""
    assert repr(schedules.linear(1000)) == (
        "Schedule('linear', T=1000, beta 0.0001..0.02, snr_T=4.04e-05)"
    )
