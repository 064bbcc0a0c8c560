"""E1: the right functions, and the wrong ones that have a name: betas, and one step."""

from __future__ import annotations

import torch
from torch import Tensor

from ..spec import Graded, Mistake

BETAS = "01, A beta for every step"
STEP = "01, One step"


# ---- make_linear_beta ----------------------------------------------------------------------------


def make_linear_beta(T: int, beta_1: float, beta_T: float) -> Tensor:
    """0, then T numbers from beta_1 to beta_T at equal distances, (T+1,)."""
    return torch.cat([torch.zeros(1), torch.linspace(beta_1, beta_T, T)])


def _betas_by_formula(T: int, beta_1: float, beta_T: float) -> Tensor:
    t = torch.arange(T + 1)
    beta = beta_1 + (t - 1) / (T - 1) * (beta_T - beta_1)
    beta[0] = 0
    return beta


def _betas_by_list(T: int, beta_1: float, beta_T: float) -> Tensor:
    width = (beta_T - beta_1) / (T - 1)
    return torch.tensor([0.0] + [beta_1 + i * width for i in range(T)])


def _betas_by_mixing(T: int, beta_1: float, beta_T: float) -> Tensor:
    out, u = torch.zeros(T + 1), torch.linspace(0, 1, T)
    out[1:] = (1 - u) * beta_1 + u * beta_T
    return out


def _after_zero(betas: Tensor) -> Tensor:
    return torch.cat([torch.zeros(1), betas])


MAKE_LINEAR_BETA = Graded(
    "make_linear_beta",
    make_linear_beta,
    lambda w: [
        (w.sch.T, float(w.sch.beta[1]), float(w.sch.beta[-1])),
        (5, 0.2, 0.5),
        (2, 0.1, 0.4),
    ],
    (
        Mistake(
            "length_T_not_T_plus_1",
            lambda T, beta_1, beta_T: torch.linspace(beta_1, beta_T, T),
            "The table has T entries. It needs T + 1: entry 0 belongs to clean data.",
            BETAS,
            credit=0.5,
        ),
        Mistake(
            "beta_0_not_0",
            lambda T, beta_1, beta_T: torch.linspace(beta_1, beta_T, T + 1),
            "The table starts with beta_1 at entry 0. Entry 0 belongs to clean data and is 0; "
            "beta_1 is entry 1.",
            BETAS,
        ),
        Mistake(
            "beta_1_forgotten",
            lambda T, beta_1, beta_T: torch.linspace(0, beta_T, T + 1),
            "The line runs from 0 at t = 0, so beta_1 plays no part. The line starts at t = 1.",
            BETAS,
        ),
        Mistake(
            "never_reaches_beta_T",
            lambda T, beta_1, beta_T: _after_zero(beta_1 + torch.arange(T) / T * (beta_T - beta_1)),
            "The last entry is less than beta_T: T numbers have only T - 1 gaps between them.",
            BETAS,
            credit=0.25,
        ),
        Mistake(
            "starts_past_beta_1",
            lambda T, beta_1, beta_T: _after_zero(
                beta_1 + torch.arange(1, T + 1) / T * (beta_T - beta_1)
            ),
            "Entry 1 is already past beta_1: T numbers have only T - 1 gaps between them.",
            BETAS,
            credit=0.25,
        ),
        Mistake(
            "quadratic_not_linear",
            lambda T, beta_1, beta_T: _after_zero(torch.linspace(beta_1**0.5, beta_T**0.5, T) ** 2),
            "The roots of the betas lie on a line here. That schedule exists, but this one is "
            "linear in beta itself.",
            BETAS,
        ),
        Mistake(
            "geometric_not_linear",
            lambda T, beta_1, beta_T: _after_zero(
                torch.linspace(0, 1, T).mul(torch.tensor(beta_T / beta_1).log()).exp() * beta_1
            ),
            "Neighbours have the same ratio here. They should have the same difference.",
            BETAS,
        ),
        Mistake(
            "reversed_in_time",
            lambda T, beta_1, beta_T: _after_zero(torch.linspace(beta_T, beta_1, T)),
            "The betas fall with t. The first step adds the least noise.",
            BETAS,
        ),
    ),
    (_betas_by_formula, _betas_by_list, _betas_by_mixing),
)


# ---- forward_step --------------------------------------------------------------------------------


def forward_step(x: Tensor, t: int, beta: Tensor, eps: Tensor) -> Tensor:
    """sqrt(1 - beta_t) x + sqrt(beta_t) eps: DDPM (2006.11239) eq. 2."""
    return (1 - beta[t]).sqrt() * x + beta[t].sqrt() * eps


def _step_by_addcmul(x: Tensor, t: int, beta: Tensor, eps: Tensor) -> Tensor:
    kept, added = torch.sqrt(torch.stack([1 - beta[t], beta[t]]))
    return torch.addcmul(kept * x, added, eps)


def _step_by_angle(x: Tensor, t: int, beta: Tensor, eps: Tensor) -> Tensor:
    # A turn in the plane of data and noise: cos^2 + sin^2 = 1.
    angle = torch.asin(beta[t] ** 0.5)
    return torch.cos(angle) * x + torch.sin(angle) * eps


def _step_in_place_on_a_copy(x: Tensor, t: int, beta: Tensor, eps: Tensor) -> Tensor:
    b = float(beta[t])
    out = x.clone()
    out *= (1 - b) ** 0.5
    out += b**0.5 * eps
    return out


def _step_by_precision(x: Tensor, t: int, beta: Tensor, eps: Tensor) -> Tensor:
    alpha = 1 - beta[t]
    return alpha.sqrt() * (x + (beta[t] / alpha).sqrt() * eps)


def _step(kept, added):  # type: ignore[no-untyped-def]
    """A step with other coefficients, functions of beta_t."""

    def step(x: Tensor, t: int, beta: Tensor, eps: Tensor) -> Tensor:
        return kept(beta[t]) * x + added(beta[t]) * eps

    return step


def edits_x(x: Tensor, t: int, beta: Tensor, eps: Tensor) -> Tensor:
    """The step done in place: the right result, and another x for whoever passed it."""
    x *= (1 - beta[t]).sqrt()
    x += beta[t].sqrt() * eps
    return x


def _step_jumps(x: Tensor, t: int, beta: Tensor, eps: Tensor) -> Tensor:
    bar = (1 - beta[: t + 1]).prod()
    return bar.sqrt() * x + (1 - bar).sqrt() * eps


# Name, the two coefficients, hint, credit: wrong in a step, and wrong in every step of a chain.
COEFFICIENTS = (
    (
        "var_for_std",
        _step(lambda b: (1 - b).sqrt(), lambda b: b),
        "beta is the variance of the noise. What multiplies eps is a standard deviation.",
        0.25,
    ),
    (
        "no_sqrt_signal",
        _step(lambda b: 1 - b, lambda b: b.sqrt()),
        "1 - beta is what is left of the variance of x. What multiplies x is its square root.",
        0.25,
    ),
    (
        "no_sqrt_both",
        _step(lambda b: 1 - b, lambda b: b),
        "Both coefficients are variances. It is their squares that have to add up to 1.",
        0.0,
    ),
    (
        "no_shrink",
        _step(lambda b: 1.0, lambda b: b.sqrt()),
        "x is not made smaller before noise is added, so the variance grows with every step.",
        0.0,
    ),
    (
        "swapped_coefficients",
        _step(lambda b: b.sqrt(), lambda b: (1 - b).sqrt()),
        "The two coefficients are swapped: with a small beta this step is nearly all noise.",
        0.0,
    ),
)


FORWARD_STEP = Graded(
    "forward_step",
    forward_step,
    lambda w: [(w.x0, t, w.sch.beta, w.eps) for t in (1, 3, w.sch.T)],
    (
        *(Mistake(name, wrong, hint, STEP, credit) for name, wrong, hint, credit in COEFFICIENTS),
        Mistake(
            "off_by_one_early",
            lambda x, t, beta, eps: forward_step(x, t - 1, beta, eps),
            "The step uses beta of t - 1. Tables are indexed by t itself: step 1 has beta[1].",
            STEP,
        ),
        Mistake(
            "off_by_one_late",
            lambda x, t, beta, eps: forward_step(x, t + 1, beta, eps),
            "The step uses beta of t + 1, and step T finds none.",
            STEP,
        ),
        Mistake(
            "noise_of_variance_1",
            _step(lambda b: (1 - b).sqrt(), lambda b: 1.0),
            "The noise is added at full strength. A step adds noise of variance beta_t.",
            STEP,
        ),
        Mistake(
            "minus_eps",
            _step(lambda b: (1 - b).sqrt(), lambda b: -b.sqrt()),
            "The noise is subtracted. As a distribution that is the same, but later a network is "
            "to predict the eps that was added.",
            STEP,
            credit=0.5,
        ),
        Mistake(
            "jumps_from_x0",
            _step_jumps,
            "This adds the noise of all steps up to t. One step from x_{t-1} adds only its own.",
            STEP,
        ),
        Mistake(
            "in_place_edit_of_x",
            edits_x,
            "The result is right, but the x that was passed in is changed too: its owner still "
            "needs it.",
            STEP,
            credit=0.5,
        ),
    ),
    (_step_by_addcmul, _step_by_angle, _step_in_place_on_a_copy, _step_by_precision),
)
