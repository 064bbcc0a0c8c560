"""E2: the right functions, and the wrong ones that have a name."""

from __future__ import annotations

import torch
from torch import Tensor

from ..forms import at, view
from ..spec import Graded, Mistake
from ..stubs import Sch

ALPHA_BAR = "02, alpha-bar: all steps in one number"
JUMP = "02, Jump to any t"
SNR = "02, Signal to noise"
BATCH = "02, A t for every example"


# ---- alpha_bar_from_beta -------------------------------------------------------------------------


def alpha_bar_from_beta(beta: Tensor) -> Tensor:
    """alpha_bar[t] = prod_{i=1}^t (1 - beta[i]), (T+1,)."""
    return (1 - beta).cumprod(0)


def _by_logs(beta: Tensor) -> Tensor:
    return torch.log1p(-beta).cumsum(0).exp()


def _by_loop(beta: Tensor) -> Tensor:
    out = torch.ones_like(beta)
    for t in range(1, len(beta)):
        out[t] = out[t - 1] * (1 - beta[t])
    return out


def _by_products(beta: Tensor) -> Tensor:
    return torch.stack([(1 - beta[1 : t + 1]).prod() for t in range(len(beta))])


ALPHA_BAR_FROM_BETA = Graded(
    "alpha_bar_from_beta",
    alpha_bar_from_beta,
    lambda w: [(w.sch.beta,)],
    (
        Mistake(
            "cumsum_for_cumprod",
            lambda beta: 1 - beta.cumsum(0),
            "The betas were added up. Every step multiplies what is left of the signal, so the "
            "factors 1 - beta multiply.",
            ALPHA_BAR,
        ),
        Mistake(
            "prod_of_beta",
            lambda beta: torch.cat([beta[:1] + 1, beta[1:].cumprod(0)]),
            "The betas themselves were multiplied. What survives a step is 1 - beta.",
            ALPHA_BAR,
        ),
        Mistake(
            "product_to_T",
            lambda beta: (1 - beta).prod().expand(len(beta)).clone(),
            "The product runs over all T steps for every t. It ends at t.",
            ALPHA_BAR,
        ),
        Mistake(
            "off_by_one_early",
            lambda beta: torch.cat([torch.ones_like(beta[:1]), (1 - beta).cumprod(0)[:-1]]),
            "Entry t holds the product of t - 1 factors. beta[0] = 0 is the step that does "
            "nothing, so no shift is needed.",
            ALPHA_BAR,
        ),
        Mistake(
            "off_by_one_late",
            lambda beta: torch.cat([(1 - beta).cumprod(0)[1:], (1 - beta).prod().view(1)]),
            "Entry t holds the product of t + 1 factors: clean data would be noisy already.",
            ALPHA_BAR,
        ),
        Mistake(
            "length_T_not_T_plus_1",
            lambda beta: (1 - beta[1:]).cumprod(0),
            "The table has T entries. It needs T + 1: entry 0 is clean data, alpha_bar[0] = 1.",
            ALPHA_BAR,
            credit=0.5,
        ),
        Mistake(
            "sqrt_of_alpha",
            lambda beta: (1 - beta).sqrt().cumprod(0),
            "This is the factor of the signal, sqrt(alpha_bar). The table holds alpha_bar.",
            ALPHA_BAR,
            credit=0.25,
        ),
    ),
    (_by_logs, _by_loop, _by_products),
)


# ---- q_sample ------------------------------------------------------------------------------------


def q_sample(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    """sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps: DDPM (2006.11239) eq. 4."""
    bar = at(sch.alpha_bar, t, x0)
    return bar.sqrt() * x0 + (1 - bar).sqrt() * eps


def _jump_by_einsum(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    a, b = sch.alpha_bar[t].sqrt(), (1 - sch.alpha_bar[t]).sqrt()
    return torch.einsum("b,b...->b...", a, x0) + torch.einsum("b,b...->b...", b, eps)


def _jump_by_lerp(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    out = torch.empty_like(x0)
    for i, level in enumerate(t.tolist()):
        bar = sch.alpha_bar[level]
        out[i] = bar**0.5 * x0[i] + (1 - bar) ** 0.5 * eps[i]
    return out


def _jump_by_chain(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    # The noises of a chain merge into one: scale and variance are carried along.
    scale, var = torch.ones(len(t), dtype=x0.dtype), torch.zeros(len(t), dtype=x0.dtype)
    for i in range(1, sch.T + 1):
        alive = t >= i
        scale = torch.where(alive, sch.alpha[i].sqrt() * scale, scale)
        var = torch.where(alive, sch.alpha[i] * var + sch.beta[i], var)
    return view(scale, x0) * x0 + view(var, x0).sqrt() * eps


def _jump(signal, noise):  # type: ignore[no-untyped-def]
    """The jump with other coefficients, functions of (bar, t, sch, x0)."""

    def q_sample(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
        bar = at(sch.alpha_bar, t, x0)
        return signal(bar, t, sch, x0) * x0 + noise(bar, t, sch, x0) * eps

    return q_sample


def _shifted(by: int):  # type: ignore[no-untyped-def]
    def q_sample_shifted(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
        return q_sample(x0, (t + by).clamp(0, sch.T), eps, sch)

    return q_sample_shifted


def _along_last_axis(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    bar = sch.alpha_bar[t]
    return bar.sqrt() * x0 + (1 - bar).sqrt() * eps


Q_SAMPLE = Graded(
    "q_sample",
    q_sample,
    lambda w: [(w.x0, w.t, w.eps, w.sch)],
    (
        Mistake(
            "alpha_for_alpha_bar",
            lambda x0, t, eps, sch: (
                at(sch.alpha, t, x0).sqrt() * x0 + (1 - at(sch.alpha, t, x0)).sqrt() * eps
            ),
            "alpha belongs to one step; a jump from the data needs the product of all of them, "
            "alpha_bar.",
            JUMP,
        ),
        Mistake(
            "var_for_std",
            _jump(lambda bar, *_: bar.sqrt(), lambda bar, *_: 1 - bar),
            "1 - alpha_bar is the variance of the noise. What multiplies eps is a standard "
            "deviation.",
            JUMP,
            credit=0.25,
        ),
        Mistake(
            "no_sqrt_signal",
            _jump(lambda bar, *_: bar, lambda bar, *_: (1 - bar).sqrt()),
            "alpha_bar is what is left of the variance of the data. What multiplies x0 is its "
            "square root.",
            JUMP,
            credit=0.25,
        ),
        Mistake(
            "no_sqrt_both",
            _jump(lambda bar, *_: bar, lambda bar, *_: 1 - bar),
            "Both coefficients are variances. Squares of the coefficients have to add up to 1.",
            JUMP,
        ),
        Mistake(
            "off_by_one_early",
            _shifted(-1),
            "x_t was made with alpha_bar of t - 1. Tables are indexed by t itself.",
            JUMP,
        ),
        Mistake(
            "off_by_one_late",
            _shifted(1),
            "x_t was made with alpha_bar of t + 1. Tables are indexed by t itself.",
            JUMP,
        ),
        Mistake(
            "beta_for_one_minus_alpha_bar",
            _jump(lambda bar, *_: bar.sqrt(), lambda bar, t, sch, x0: at(sch.beta, t, x0).sqrt()),
            "The noise is that of the last step alone. After t steps its variance is "
            "1 - alpha_bar_t.",
            JUMP,
        ),
        Mistake(
            "swapped_coefficients",
            _jump(lambda bar, *_: (1 - bar).sqrt(), lambda bar, *_: bar.sqrt()),
            "The two coefficients are swapped: at t = 0 this would be pure noise.",
            JUMP,
        ),
        Mistake(
            "scalar_t",
            lambda x0, t, eps, sch: q_sample(x0, t[:1].expand(len(t)), eps, sch),
            "The first t is used for the whole batch. Every example has a t of its own.",
            BATCH,
        ),
        Mistake(
            "wrong_axis_broadcast",
            _along_last_axis,
            "Coefficients of shape (B,) were multiplied along the last axis. They belong to the "
            "first: give them the shape (B, 1, ...).",
            BATCH,
        ),
        Mistake(
            "minus_eps",
            _jump(lambda bar, *_: bar.sqrt(), lambda bar, *_: -(1 - bar).sqrt()),
            "The noise is subtracted. As a distribution that is the same, but the network is to "
            "predict the eps that was added.",
            JUMP,
        ),
    ),
    (_jump_by_einsum, _jump_by_lerp, _jump_by_chain),
)


# ---- snr -----------------------------------------------------------------------------------------


def snr(sch: Sch) -> Tensor:
    """alpha_bar / (1 - alpha_bar), (T+1,); infinite at t = 0."""
    return sch.alpha_bar / (1 - sch.alpha_bar)


SNR_ = Graded(
    "snr",
    snr,
    lambda w: [(w.sch,)],
    (
        Mistake(
            "snr_of_one_step",
            lambda sch: sch.alpha / (1 - sch.alpha),
            "This is the ratio of a single step. x_t has alpha_bar of signal.",
            SNR,
        ),
        Mistake(
            "inverted",
            lambda sch: (1 - sch.alpha_bar) / sch.alpha_bar,
            "This is noise to signal: it grows with t.",
            SNR,
        ),
        Mistake(
            "ratio_of_amplitudes",
            lambda sch: (sch.alpha_bar / (1 - sch.alpha_bar)).sqrt(),
            "This is the ratio of the amplitudes. The signal-to-noise ratio compares variances.",
            SNR,
            credit=0.25,
        ),
        Mistake(
            "logarithm_returned",
            lambda sch: (sch.alpha_bar / (1 - sch.alpha_bar)).log(),
            "This is the logarithm of the ratio.",
            SNR,
            credit=0.5,
        ),
        Mistake(
            "not_divided_by_noise",
            lambda sch: sch.alpha_bar.clone(),
            "This is the signal alone; a ratio divides it by the variance of the noise.",
            SNR,
        ),
    ),
    (
        lambda sch: 1 / (1 / sch.alpha_bar - 1),
        lambda sch: torch.exp(sch.alpha_bar.log() - (1 - sch.alpha_bar).log()),
        lambda sch: (sch.alpha_bar.sqrt() / (1 - sch.alpha_bar).sqrt()) ** 2,
    ),
)


# ---- find the bug --------------------------------------------------------------------------------


def chain_tables(beta: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar) of DDPM, (T+1,) each."""
    bar = (1 - beta).cumprod(0)
    return bar.sqrt(), (1 - bar).sqrt()


def _extra_factor(beta: Tensor) -> tuple[Tensor, Tensor]:
    # As in a small published DDPM: betas from index 0 on, so alpha_bar[0] is not 1.
    bar = (1 - beta.roll(-1)).cumprod(0)
    return bar.sqrt(), (1 - bar).sqrt()


CHAIN_TABLES = Graded(
    "chain_tables",
    chain_tables,
    lambda w: [(w.sch.beta,)],
    (
        Mistake(
            "first_alpha_bar_not_1",
            _extra_factor,
            "The tables are shifted by one: at t = 0, clean data, there is noise already.",
            ALPHA_BAR,
        ),
        Mistake(
            "var_for_std",
            lambda beta: ((1 - beta).cumprod(0).sqrt(), 1 - (1 - beta).cumprod(0)),
            "The second table is a variance. What multiplies eps is its square root.",
            ALPHA_BAR,
        ),
        Mistake(
            "tables_swapped",
            lambda beta: chain_tables(beta)[::-1],
            "The two tables are returned in the wrong order.",
            ALPHA_BAR,
        ),
    ),
    (
        lambda beta: (
            torch.log1p(-beta).cumsum(0).mul(0.5).exp(),
            (-torch.expm1(torch.log1p(-beta).cumsum(0))).sqrt(),
        ),
        lambda beta: [_by_loop(beta) ** 0.5, (1 - _by_loop(beta)) ** 0.5],
        lambda beta: ((1 - beta).sqrt().cumprod(0), (1 - (1 - beta).cumprod(0)).sqrt()),
    ),
    tolerance=1e-4,  # the square root of a small 1 - alpha_bar
    bug="first_alpha_bar_not_1",
)
