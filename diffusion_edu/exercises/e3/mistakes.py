"""E3: the right functions, and the wrong ones that have a name: mean and variance."""

from __future__ import annotations

import torch
from torch import Tensor

from ..forms import at, view
from ..spec import Graded, Mistake
from ..stubs import Sch

MEAN = "03, Bayes' rule: the mean"
VARIANCE = "03, Bayes' rule: the variance"
BATCH = "02, A t for every example"


# ---- posterior_mean ------------------------------------------------------------------------------


def posterior_mean(x0: Tensor, xt: Tensor, t: Tensor, sch: Sch) -> Tensor:
    """Mean of q(x_{t-1} | x_t, x_0): DDPM (2006.11239) eq. 7."""
    bar, prev = at(sch.alpha_bar, t, x0), at(sch.alpha_bar, t - 1, x0)
    on_x0 = prev.sqrt() * at(sch.beta, t, x0)
    on_xt = at(sch.alpha, t, x0).sqrt() * (1 - prev)
    return (on_x0 * x0 + on_xt * xt) / (1 - bar)


def _mean_of_two_gaussians(x0: Tensor, xt: Tensor, t: Tensor, sch: Sch) -> Tensor:
    # x_{t-1} has the prior N(sqrt(prev) x0, 1 - prev), and x_t says N(x_t / sqrt(alpha), var).
    prev, alpha = at(sch.alpha_bar, t - 1, x0), at(sch.alpha, t, x0)
    prior, said = 1 - prev, (1 - alpha) / alpha
    return (said * prev.sqrt() * x0 + prior * xt / alpha.sqrt()) / (prior + said)


def mean_one_by_one(x0: Tensor, xt: Tensor, t: Tensor, sch: Sch) -> Tensor:
    """Number by number."""
    rows = []
    for i, level in enumerate(t.tolist()):
        bar, prev, b = (float(x) for x in (*sch.alpha_bar[[level, level - 1]], sch.beta[level]))
        on_x0, on_xt = prev**0.5 * b / (1 - bar), (1 - b) ** 0.5 * (1 - prev) / (1 - bar)
        rows.append(on_x0 * x0[i] + on_xt * xt[i])
    return torch.stack(rows)


def mean_by_noise(x0: Tensor, xt: Tensor, t: Tensor, sch: Sch) -> Tensor:
    """Of the noise in x_t."""
    # DDIM's form, with the noise that x_t has of x_0.
    bar, prev = at(sch.alpha_bar, t, x0), at(sch.alpha_bar, t - 1, x0)
    var = (1 - prev) / (1 - bar) * at(sch.beta, t, x0)
    eps = (xt - bar.sqrt() * x0) / (1 - bar).sqrt()
    return prev.sqrt() * x0 + (1 - prev - var).clamp(min=0).sqrt() * eps


def mean_by_gain(x0: Tensor, xt: Tensor, t: Tensor, sch: Sch) -> Tensor:
    """A step from one mean towards the other."""
    # The prior's mean, moved by what x_t has that was not expected of it.
    prev = at(sch.alpha_bar, t - 1, x0)
    expected = prev.sqrt() * x0
    alpha, bar = at(sch.alpha, t, x0), at(sch.alpha_bar, t, x0)
    gain = (1 - prev) * alpha.sqrt() / (1 - bar)
    return expected + gain * (xt - alpha.sqrt() * expected)


def _mean(on_x0, on_xt):  # type: ignore[no-untyped-def]
    """Mean with other coefficients, functions of (beta, alpha, bar, prev)."""

    def mean(x0: Tensor, xt: Tensor, t: Tensor, sch: Sch) -> Tensor:
        tables = (sch.beta[t], sch.alpha[t], sch.alpha_bar[t], sch.alpha_bar[t - 1])
        four = [view(x, x0) for x in tables]
        return on_x0(*four) * x0 + on_xt(*four) * xt

    return mean


def _right_x0(b: Tensor, a: Tensor, bar: Tensor, prev: Tensor) -> Tensor:
    return prev.sqrt() * b / (1 - bar)


def _right_xt(b: Tensor, a: Tensor, bar: Tensor, prev: Tensor) -> Tensor:
    return a.sqrt() * (1 - prev) / (1 - bar)


def _by_precisions(x0: Tensor, xt: Tensor, t: Tensor, sch: Sch) -> Tensor:
    alpha, beta = at(sch.alpha, t, x0), at(sch.beta, t, x0)
    prior = 1 / (1 - at(sch.alpha_bar, t - 1, x0))
    expected = at(sch.alpha_bar, t - 1, x0).sqrt() * x0
    return (prior * expected + alpha.sqrt() / beta * xt) / (prior + alpha / beta)


def _mean_along_last_axis(x0: Tensor, xt: Tensor, t: Tensor, sch: Sch) -> Tensor:
    bar, prev = sch.alpha_bar[t], sch.alpha_bar[t - 1]
    return (prev.sqrt() * sch.beta[t] * x0 + sch.alpha[t].sqrt() * (1 - prev) * xt) / (1 - bar)


WRONG_MEANS = (
    Mistake(
        "swapped_posterior_coefficients",
        _mean(_right_xt, _right_x0),
        "The coefficients of x0 and x_t are swapped. At t = 1 the mean has to be x0 itself.",
        MEAN,
    ),
    Mistake(
        "alpha_bar_t_for_prev",
        _mean(lambda b, a, bar, prev: bar.sqrt() * b / (1 - bar), lambda b, a, bar, prev: a.sqrt()),
        "alpha_bar of t stands where that of t - 1 belongs: the prior is about x_{t-1}.",
        MEAN,
    ),
    Mistake(
        "alpha_bar_t_on_x0",
        _mean(lambda b, a, bar, prev: bar.sqrt() * b / (1 - bar), _right_xt),
        "The coefficient of x0 has the root of alpha_bar of t. The prior is about x_{t-1}, so it "
        "is that of t - 1.",
        MEAN,
    ),
    Mistake(
        "missing_sqrt_prev",
        _mean(lambda b, a, bar, prev: prev * b / (1 - bar), _right_xt),
        "A root is missing in the coefficient of x0: the mean of x_{t-1} is x0 times a factor of "
        "the signal, and alpha_bar is a variance.",
        MEAN,
        credit=0.25,
    ),
    Mistake(
        "alpha_without_sqrt",
        _mean(_right_x0, lambda b, a, bar, prev: a * (1 - prev) / (1 - bar)),
        "A root is missing in the coefficient of x_t: x_{t-1} was multiplied by the root of "
        "alpha to give x_t.",
        MEAN,
        credit=0.25,
    ),
    Mistake(
        "both_without_sqrt",
        _mean(
            lambda b, a, bar, prev: prev * b / (1 - bar),
            lambda b, a, bar, prev: a * (1 - prev) / (1 - bar),
        ),
        "A root is missing in both coefficients: alpha and alpha_bar are variances.",
        MEAN,
    ),
    Mistake(
        "alpha_bar_for_alpha",
        _mean(_right_x0, lambda b, a, bar, prev: bar.sqrt() * (1 - prev) / (1 - bar)),
        "The coefficient of x_t has alpha_bar in it. Between x_{t-1} and x_t there is one step, "
        "and alpha belongs to one step.",
        MEAN,
    ),
    Mistake(
        "posterior_mean_missing_denominator",
        _mean(
            lambda b, a, bar, prev: prev.sqrt() * b, lambda b, a, bar, prev: a.sqrt() * (1 - prev)
        ),
        "The coefficients are not divided by anything, so they do not weigh x0 against x_t.",
        MEAN,
    ),
    Mistake(
        "x0_taken_for_eps",
        _mean(
            lambda b, a, bar, prev: -b / (1 - bar).sqrt() / a.sqrt(),
            lambda b, a, bar, prev: 1 / a.sqrt(),
        ),
        "This is the formula for a predicted noise (DDPM eq. 11), with x0 in its place.",
        MEAN,
    ),
    Mistake(
        "nan_at_t1",
        _by_precisions,
        "At t = 1 the prior has variance 0, and dividing by it gives 0/0 in the end. Multiply it "
        "out before you divide.",
        MEAN,
        credit=0.5,
    ),
)

POSTERIOR_MEAN = Graded(
    "posterior_mean",
    posterior_mean,
    lambda w: [(w.x0, w.xt, w.t, w.sch)],
    (
        *WRONG_MEANS,
        Mistake(
            "scalar_t",
            lambda x0, xt, t, sch: posterior_mean(x0, xt, t[:1].expand(len(t)), sch),
            "The first t is used for the whole batch. Every example has a t of its own.",
            BATCH,
        ),
        Mistake(
            "wrong_axis_broadcast",
            _mean_along_last_axis,
            "Coefficients of shape (B,) were multiplied along the last axis. They belong to the "
            "first: give them the shape (B, 1, ...).",
            BATCH,
        ),
    ),
    (_mean_of_two_gaussians, mean_one_by_one, mean_by_noise, mean_by_gain),
)


# ---- posterior_var -------------------------------------------------------------------------------


def posterior_var(t: Tensor, sch: Sch) -> Tensor:
    """beta_tilde_t = (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) beta_t, (B,)."""
    return (1 - sch.alpha_bar[t - 1]) / (1 - sch.alpha_bar[t]) * sch.beta[t]


def _var_by_precisions(t: Tensor, sch: Sch) -> Tensor:
    # Precisions add up; at t = 1 the prior's is infinite, and 1/infinity is 0.
    return 1 / (sch.alpha[t] / sch.beta[t] + 1 / (1 - sch.alpha_bar[t - 1]))


def var_by_table(t: Tensor, sch: Sch) -> Tensor:
    """One table, then the entries."""
    noise = 1 - sch.alpha_bar
    table = torch.zeros_like(noise)
    table[1:] = noise[:-1] * sch.beta[1:] / noise[1:]
    return table[t]


def var_by_loop(t: Tensor, sch: Sch) -> Tensor:
    """Number by number."""
    out = []
    for i in t.tolist():
        before, after = 1 - float(sch.alpha_bar[i - 1]), 1 - float(sch.alpha_bar[i])
        out.append(float(sch.beta[i]) * before / after)
    return torch.tensor(out)


def _var_by_gain(t: Tensor, sch: Sch) -> Tensor:
    prior = 1 - sch.alpha_bar[t - 1]
    return prior - prior**2 * sch.alpha[t] / (sch.alpha[t] * prior + sch.beta[t])


WRONG_VARIANCES = (
    Mistake(
        "posterior_var_missing_denominator",
        lambda t, sch: (1 - sch.alpha_bar[t - 1]) * sch.beta[t],
        "The division is missing: beta is multiplied by the ratio of two noise levels, that of "
        "t - 1 and that of t.",
        VARIANCE,
    ),
    Mistake(
        "beta_for_beta_tilde_or_alpha_bar_t_for_prev",
        lambda t, sch: sch.beta[t],
        "This is beta_t, the variance of a step forward (with alpha_bar of t in place of t - 1 it "
        "comes out as well). Back from x_t, with x0 known, there is less to be unsure of.",
        VARIANCE,
        credit=0.25,
    ),
    Mistake(
        "inverted_ratio",
        lambda t, sch: (1 - sch.alpha_bar[t]) / (1 - sch.alpha_bar[t - 1]) * sch.beta[t],
        "The ratio of the noise levels is upside down: this is larger than beta_t, and infinite "
        "at t = 1.",
        VARIANCE,
    ),
    Mistake(
        "std_returned_for_var",
        lambda t, sch: posterior_var(t, sch).sqrt(),
        "A standard deviation stands where a variance is wanted.",
        VARIANCE,
        credit=0.5,
    ),
    Mistake(
        "sqrt_of_alpha_bar",
        lambda t, sch: (
            (1 - sch.alpha_bar[t - 1].sqrt()) / (1 - sch.alpha_bar[t].sqrt()) * sch.beta[t]
        ),
        "1 minus a root is no variance. The variance of the noise is 1 - alpha_bar.",
        VARIANCE,
    ),
    Mistake(
        "off_by_one_early",
        lambda t, sch: posterior_var(t - 1, sch),
        "All tables are read one entry too early, and at t = 1 this is 0/0. Only the "
        "numerator belongs to t - 1.",
        VARIANCE,
    ),
    Mistake(
        "likelihood_not_rescaled",
        lambda t, sch: (
            (1 - sch.alpha_bar[t - 1]) * sch.beta[t] / (1 - sch.alpha_bar[t - 1] + sch.beta[t])
        ),
        "x_t was treated as x_{t-1} plus noise. It is x_{t-1} times the root of alpha_t plus "
        "noise, so what x_t says has another precision.",
        VARIANCE,
    ),
    Mistake(
        "not_0_at_t1",
        lambda t, sch: posterior_var(t.clamp(min=2), sch),
        "At t = 1 the variance of t = 2 was put in. That is a trick for its logarithm; here x_0 is "
        "known, and nothing is left to be unsure of.",
        VARIANCE,
        credit=0.5,
    ),
)

POSTERIOR_VAR = Graded(
    "posterior_var",
    posterior_var,
    lambda w: [(w.t, w.sch), (torch.arange(1, w.sch.T + 1), w.sch)],
    (
        *WRONG_VARIANCES,
        Mistake(
            "log_of_zero_at_t1",
            lambda t, sch: posterior_var(t, sch).log(),
            "This is the logarithm of the variance, -infinity at t = 1.",
            VARIANCE,
            credit=0.5,
        ),
        Mistake(
            "scalar_t",
            lambda t, sch: posterior_var(t[:1].expand(len(t)), sch),
            "The first t is used for the whole batch. Every example has a t of its own.",
            BATCH,
        ),
    ),
    (_var_by_precisions, var_by_table, var_by_loop, _var_by_gain),
)
