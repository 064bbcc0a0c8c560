"""E3, noise and data each from the other: the right functions, and the wrong ones by name."""

from __future__ import annotations

import torch
from torch import Tensor

from ..forms import at, view
from ..spec import Graded, Mistake
from ..stubs import Sch
from .mistakes import BATCH

TRADE = "03, Noise and data, each from the other"


def _other(form):  # type: ignore[no-untyped-def]
    """A function (xt, t, known, sch) of the kind below; ``form`` of (xt, known, bar)."""
    return lambda xt, t, known, sch: form(xt, known, at(sch.alpha_bar, t, xt))


def _of_alpha(right):  # type: ignore[no-untyped-def]
    return lambda xt, t, known, sch: right(xt, t, known, Sch(sch.beta, sch.alpha, sch.alpha, sch.T))


def _early(right):  # type: ignore[no-untyped-def]
    return lambda xt, t, known, sch: right(xt, t - 1, known, sch)


def _first_t(right):  # type: ignore[no-untyped-def]
    return lambda xt, t, known, sch: right(xt, t[:1].expand(len(t)), known, sch)


def _common(right, along_last_axis):  # type: ignore[no-untyped-def]
    """Mistakes that both functions have."""
    return (
        Mistake(
            "alpha_for_alpha_bar",
            _of_alpha(right),
            "alpha belongs to one step. Between x0 and x_t there are t of them: alpha_bar.",
            TRADE,
        ),
        Mistake(
            "off_by_one_early",
            _early(right),
            "alpha_bar of t - 1 was used. x_t was made with alpha_bar of t.",
            TRADE,
        ),
        Mistake(
            "scalar_t",
            _first_t(right),
            "The first t is used for the whole batch. Every example has a t of its own.",
            BATCH,
        ),
        Mistake(
            "wrong_axis_broadcast",
            along_last_axis,
            "Coefficients of shape (B,) were multiplied along the last axis. They belong to the "
            "first: give them the shape (B, 1, ...).",
            BATCH,
        ),
    )


# ---- x0_from_eps ---------------------------------------------------------------------------------


def x0_from_eps(xt: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    """(x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t): DDPM eq. 15."""
    bar = at(sch.alpha_bar, t, xt)
    return (xt - (1 - bar).sqrt() * eps) / bar.sqrt()


def _x0_by_reciprocals(xt: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    scale = (1 / sch.alpha_bar).sqrt()
    noise = (1 / sch.alpha_bar - 1).sqrt()
    return at(scale, t, xt) * xt - at(noise, t, xt) * eps


def _x0_one_by_one(xt: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    out = torch.zeros_like(xt)
    for i in range(len(t)):
        bar = float(sch.alpha_bar[t[i]])
        out[i] = bar**-0.5 * (xt[i] - (1 - bar) ** 0.5 * eps[i])
    return out


def _x0_by_score(xt: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    # Tweedie: (x_t + variance times score) / signal, with score = -eps / sqrt(variance).
    var = 1 - sch.alpha_bar[t]
    score = torch.einsum("b,b...->b...", -(var**-0.5), eps)
    return (xt + view(var, xt) * score) / view(sch.alpha_bar[t], xt) ** 0.5


def _x0_last_axis(xt: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    bar = sch.alpha_bar[t]
    return (xt - (1 - bar).sqrt() * eps) / bar.sqrt()


X0_FROM_EPS = Graded(
    "x0_from_eps",
    x0_from_eps,
    lambda w: [(w.xt, w.t, w.eps, w.sch), (w.xt, w.t, w.z, w.sch)],
    (
        Mistake(
            "x0_no_divide_by_sqrt_alpha_bar",
            _other(lambda xt, eps, bar: xt - (1 - bar).sqrt() * eps),
            "The noise is taken away, but what is left is the data made smaller: scale it up "
            "again.",
            TRADE,
        ),
        Mistake(
            "only_noise_divided",
            _other(lambda xt, eps, bar: xt - (1 - bar).sqrt() * eps / bar.sqrt()),
            "Only the noise is divided, not x_t: brackets are missing.",
            TRADE,
            credit=0.25,
        ),
        Mistake(
            "only_xt_divided",
            _other(lambda xt, eps, bar: xt / bar.sqrt() - (1 - bar).sqrt() * eps),
            "Only x_t is divided, not the noise: it has to be taken away before.",
            TRADE,
            credit=0.25,
        ),
        Mistake(
            "var_for_std",
            _other(lambda xt, eps, bar: (xt - (1 - bar) * eps) / bar.sqrt()),
            "1 - alpha_bar is the variance of the noise. What multiplies eps is a standard "
            "deviation.",
            TRADE,
            credit=0.25,
        ),
        Mistake(
            "divided_by_alpha_bar",
            _other(lambda xt, eps, bar: (xt - (1 - bar).sqrt() * eps) / bar),
            "The data were multiplied by the root of alpha_bar, so that is what to divide by.",
            TRADE,
            credit=0.25,
        ),
        Mistake(
            "no_sqrt_both",
            _other(lambda xt, eps, bar: (xt - (1 - bar) * eps) / bar),
            "Both coefficients are variances. Those of the jump are their roots.",
            TRADE,
        ),
        Mistake(
            "plus_eps",
            _other(lambda xt, eps, bar: (xt + (1 - bar).sqrt() * eps) / bar.sqrt()),
            "The noise is added once more. To get the data back it has to go.",
            TRADE,
        ),
        Mistake(
            "swapped_coefficients",
            _other(lambda xt, eps, bar: (xt - bar.sqrt() * eps) / (1 - bar).sqrt()),
            "The coefficients of signal and noise are swapped.",
            TRADE,
        ),
        *_common(x0_from_eps, _x0_last_axis),
    ),
    (_x0_by_reciprocals, _x0_one_by_one, _x0_by_score),
)


# ---- eps_from_x0 ---------------------------------------------------------------------------------


def eps_from_x0(xt: Tensor, t: Tensor, x0: Tensor, sch: Sch) -> Tensor:
    """(x_t - sqrt(alpha_bar_t) x_0) / sqrt(1 - alpha_bar_t)."""
    bar = at(sch.alpha_bar, t, xt)
    return (xt - bar.sqrt() * x0) / (1 - bar).sqrt()


def _eps_by_snr(xt: Tensor, t: Tensor, x0: Tensor, sch: Sch) -> Tensor:
    noise = 1 - sch.alpha_bar
    return (
        at(noise, t, xt) ** -0.5 * xt - at(sch.alpha_bar, t, xt).div(at(noise, t, xt)) ** 0.5 * x0
    )


def _eps_one_by_one(xt: Tensor, t: Tensor, x0: Tensor, sch: Sch) -> Tensor:
    rows = []
    for x, level, data in zip(xt, t.tolist(), x0, strict=True):
        bar = float(sch.alpha_bar[level])
        rows.append((x - bar**0.5 * data) / (1 - bar) ** 0.5)
    return torch.stack(rows)


def _eps_by_transposing(xt: Tensor, t: Tensor, x0: Tensor, sch: Sch) -> Tensor:
    # With the batch as the last axis (B,) tables fit as they are.
    bar = sch.alpha_bar[t]
    last, data = xt.movedim(0, -1), x0.movedim(0, -1)
    return ((last - bar.sqrt() * data) / torch.sqrt(1 - bar)).movedim(-1, 0)


def _eps_last_axis(xt: Tensor, t: Tensor, x0: Tensor, sch: Sch) -> Tensor:
    bar = sch.alpha_bar[t]
    return (xt - bar.sqrt() * x0) / (1 - bar).sqrt()


EPS_FROM_X0 = Graded(
    "eps_from_x0",
    eps_from_x0,
    lambda w: [(w.xt, w.t, w.x0, w.sch), (w.xt, w.t, w.z, w.sch)],
    (
        Mistake(
            "eps_no_divide_by_noise_scale",
            _other(lambda xt, x0, bar: xt - bar.sqrt() * x0),
            "What is left without the signal is the noise as it is in x_t. eps has variance 1: "
            "scale it up again.",
            TRADE,
        ),
        Mistake(
            "only_x0_divided",
            _other(lambda xt, x0, bar: xt - bar.sqrt() * x0 / (1 - bar).sqrt()),
            "Only the signal is divided, not x_t: brackets are missing.",
            TRADE,
            credit=0.25,
        ),
        Mistake(
            "only_xt_divided",
            _other(lambda xt, x0, bar: xt / (1 - bar).sqrt() - bar.sqrt() * x0),
            "Only x_t is divided, not the signal: it has to be taken away before.",
            TRADE,
            credit=0.25,
        ),
        Mistake(
            "divided_by_variance",
            _other(lambda xt, x0, bar: (xt - bar.sqrt() * x0) / (1 - bar)),
            "1 - alpha_bar is the variance of the noise. eps was multiplied by its root.",
            TRADE,
            credit=0.25,
        ),
        Mistake(
            "no_sqrt_signal",
            _other(lambda xt, x0, bar: (xt - bar * x0) / (1 - bar).sqrt()),
            "x0 was multiplied by alpha_bar. In x_t it has its root.",
            TRADE,
            credit=0.25,
        ),
        Mistake(
            "no_sqrt_both",
            _other(lambda xt, x0, bar: (xt - bar * x0) / (1 - bar)),
            "Both coefficients are variances. Those of the jump are their roots.",
            TRADE,
        ),
        Mistake(
            "sign_flipped",
            _other(lambda xt, x0, bar: (bar.sqrt() * x0 - xt) / (1 - bar).sqrt()),
            "This is -eps: x_t is the signal plus noise.",
            TRADE,
            credit=0.25,
        ),
        Mistake(
            "swapped_coefficients",
            _other(lambda xt, x0, bar: (xt - (1 - bar).sqrt() * x0) / bar.sqrt()),
            "The coefficients of signal and noise are swapped: this takes x0 for the noise.",
            TRADE,
        ),
        Mistake(
            "x0_and_xt_exchanged",
            _other(lambda xt, x0, bar: (x0 - bar.sqrt() * xt) / (1 - bar).sqrt()),
            "x0 and x_t have changed places. The arguments come as (xt, t, x0, sch).",
            TRADE,
            credit=0.25,
        ),
        *_common(eps_from_x0, _eps_last_axis),
    ),
    (_eps_by_snr, _eps_one_by_one, _eps_by_transposing),
)
