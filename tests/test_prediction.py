"""eps, x0, v and score say the same thing; guidance."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import POSITIVE, Case, cases

from diffusion_edu import schedules
from diffusion_edu.forward import q_marginal, q_sample
from diffusion_edu.prediction import Prediction, guided, predict

KINDS = ("eps", "x0", "v", "score")


@given(cases(names=POSITIVE, dtypes=(torch.float64,)), st.sampled_from(KINDS))
def test_every_kind_recovers_all_others(case: Case, kind):
    """From eps, x0, v or the score of a known pair (x0, eps), predict gives back all four."""
    schedule, t, x0, eps = case.schedule, case.t, case.x, case.y
    alpha_bar = case.table(schedule.alpha_bar)
    a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    x_t = q_sample(x0, t, eps, schedule)
    truth = Prediction(eps, x0, a * eps - b * x0, -eps / b)
    got = predict(kind, getattr(truth, kind), x_t, t, schedule)
    for name, value in truth._asdict().items():
        # x0 from eps divides by a, eps from x0 by b: the rounding errors grow alike
        scale = value.abs().max() + 1 / a.min() + 1 / b.min() ** 2
        assert (getattr(got, name) - value).abs().max() <= 1e-13 * scale, name


@given(cases(names=POSITIVE), st.sampled_from(KINDS))
def test_the_four_forms_are_consistent(case: Case, kind):
    """x_t = a x0 + b eps and score = -eps/b for whatever a network says, right or wrong."""
    schedule, x_t, output = case.schedule, case.x, case.y
    alpha_bar = case.table(schedule.alpha_bar)
    a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    p = predict(kind, output, x_t, case.t, schedule)
    assert all(form.dtype == x_t.dtype for form in p)
    digits = 1e-5 if x_t.dtype == torch.float32 else 1e-12
    back = a * p.x0.double() + b * p.eps.double()
    scale = (a * p.x0).abs().max() + (b * p.eps).abs().max() + x_t.abs().max()
    assert (getattr(p, kind) - output).abs().max() <= digits * (scale + output.abs().max())
    assert (back - x_t).abs().max() <= digits * scale
    assert (p.score.double() + p.eps / b).abs().max() <= digits * p.score.abs().max()


@given(cases(names=POSITIVE, dtypes=(torch.float32,)), st.sampled_from(KINDS))
def test_float32_keeps_five_digits(case: Case, kind):
    """predict in float32 is within 1e-5 (max norm) of the same in float64."""
    low = predict(kind, case.y, case.x, case.t, case.schedule)
    high = predict(kind, case.y.double(), case.x.double(), case.t, case.schedule)
    for name in KINDS:
        a, b = getattr(low, name), getattr(high, name)
        assert (a - b).abs().max() <= 1e-5 * b.abs().max(), name


@given(cases(names=POSITIVE, dtypes=(torch.float64,)))
def test_v_is_the_velocity_on_the_circle(case: Case):
    """v = d x_t / d phi, where a = cos phi, b = sin phi: so x_t and v are a rotation of x0, eps."""
    x_t = q_sample(case.x, case.t, case.y, case.schedule)
    v = predict("x0", case.x, x_t, case.t, case.schedule).v
    energy = x_t**2 + v**2
    torch.testing.assert_close(energy, case.x**2 + case.y**2, rtol=1e-6, atol=1e-6)


def test_score_is_the_gradient_of_the_marginal(randn):
    """score = grad log q(x_t | x_0), by autograd."""
    schedule = schedules.cosine(100)
    x0, x_t = randn(4, 3), randn(4, 3).requires_grad_()
    for t in (1, 50, 100):
        (gradient,) = torch.autograd.grad(q_marginal(x0, t, schedule).log_prob(x_t).sum(), x_t)
        score = predict("x0", x0, x_t, t, schedule).score
        torch.testing.assert_close(score, gradient, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "make", [schedules.jsd, lambda T: schedules.zero_terminal_snr(schedules.linear(T))]
)
def test_pure_noise_can_be_predicted_from_by_x0_and_v(make, randn):
    """At alpha_bar_T = 0: eps = x_t, v = -x0; x0 and v predictions are fine, eps and score 0/0."""
    schedule, x_t, x0 = make(10), randn(3, 2), randn(3, 2)
    for p in (predict("x0", x0, x_t, 10, schedule), predict("v", -x0, x_t, 10, schedule)):
        torch.testing.assert_close(p.eps, x_t)
        torch.testing.assert_close(p.x0, x0)
        torch.testing.assert_close(p.v, -x0)
    for kind in ("eps", "score"):
        with pytest.raises(ValueError, match="pure noise"):
            predict(kind, x_t, x_t, torch.tensor([1, 10, 2]), schedule)
        predict(kind, x_t, x_t, 9, schedule)  # one step earlier it is defined


def test_predict_on_the_device(device):
    """Times on the device of x work everywhere: the tables stay on the CPU."""
    x, t = torch.ones(3, 2, device=device), torch.tensor([1, 5, 10], device=device)
    for kind in KINDS:
        assert predict(kind, x, x, t, schedules.linear(10)).x0.device == x.device


# ---- guidance -----------------------------------------------------------------------------------


def network(calls=None):
    """eps depends on x, t and y (None is the null class); notes the classes asked for."""

    def model(x_t, t, y):
        if calls is not None:
            calls.append(y)
        shift = 0.0 if y is None else y[:, None].to(x_t)
        return x_t.sin() + t[:, None] / 10 + shift * x_t

    return model


def test_guidance_1_is_conditional_and_0_unconditional(randn):
    """g = 1: model(x, t, y) exactly; g = 0: model(x, t, None) exactly; each with one call."""
    x, t, y = randn(4, 2), torch.tensor([1, 2, 3, 4]), torch.tensor([0, 1, 2, 3])
    for guidance, expected in ((1.0, y), (1, y), (0.0, None), (0, None)):
        calls = []
        got = guided(network(calls), y, guidance)(x, t)
        assert got.equal(network()(x, t, expected))
        assert len(calls) == 1
        assert calls[0] is expected


@given(st.floats(-3, 10))
def test_guidance_is_linear(guidance):
    """eps(g) = (1 - g) eps(0) + g eps(1): linear in g, so w of the paper is g - 1."""
    g = torch.Generator().manual_seed(0)
    x, t = torch.randn(4, 2, generator=g, dtype=torch.float64), torch.tensor([1, 2, 3, 4])
    y = torch.tensor([0, 1, 2, 3])
    zero, one = guided(network(), y, 0)(x, t), guided(network(), y, 1)(x, t)
    got = guided(network(), y, guidance)(x, t)
    torch.testing.assert_close(got, (1 - guidance) * zero + guidance * one)
    w = guidance - 1
    torch.testing.assert_close(got, (1 + w) * one - w * zero)  # eq. 6 of the paper


def test_guidance_defaults_to_the_conditional_network(randn):
    """Without a number, guided(model, y) is model(., ., y)."""
    x, t, y = randn(2, 2), torch.tensor([1, 2]), torch.tensor([0, 1])
    assert guided(network(), y)(x, t).equal(network()(x, t, y))
