"""E4: the right functions, and the wrong ones that have a name: the terms in the middle."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ..forms import at, view
from ..spec import Call, Graded, Mistake
from ..stubs import Sch
from ..world import World
from .mistakes import TERMS, gaussian_kl, on

BATCH = "02, A t for every example"


# ---- kl_t ----------------------------------------------------------------------------------------


def kl_t(x0: Tensor, xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch) -> Tensor:
    """L_{t-1} = KL( q(x_{t-1}|x_t,x_0) || p(x_{t-1}|x_t) ), sigma^2 = beta, (B,) nats."""
    return gaussian_kl(*_posterior_and_model(x0, xt, t, eps_pred, sch))


def _mean(x0: Tensor, xt: Tensor, t: Tensor, sch: Sch) -> Tensor:
    bar, prev = at(sch.alpha_bar, t, xt), at(sch.alpha_bar, t - 1, xt)
    on_x0, on_xt = prev.sqrt() * at(sch.beta, t, xt), at(sch.alpha, t, xt).sqrt() * (1 - prev)
    return (on_x0 * x0 + on_xt * xt) / (1 - bar)


def _x0(xt: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    bar = at(sch.alpha_bar, t, xt)
    return (xt - (1 - bar).sqrt() * eps) / bar.sqrt()


def _beta_tilde(t: Tensor, sch: Sch) -> Tensor:
    return (1 - sch.alpha_bar[t - 1]) / (1 - sch.alpha_bar[t]) * sch.beta[t]


def _beta(t: Tensor, sch: Sch) -> Tensor:
    return sch.beta[t]


def _posterior_and_model(  # type: ignore[no-untyped-def]
    x0: Tensor, xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch,
    data=_x0, var_q=_beta_tilde, var_p=_beta,
) -> tuple[Tensor, ...]:  # fmt: skip
    one = torch.ones_like(xt)
    of_q = _mean(x0, xt, t, sch), view(var_q(t, sch), xt) * one
    of_p = _mean(data(xt, t, eps_pred, sch), xt, t, sch), view(var_p(t, sch), xt) * one
    return (*of_q, *of_p)


def _kl_with(**other):  # type: ignore[no-untyped-def]
    """L_{t-1} with another predicted x0, or another variance."""
    return lambda *args: gaussian_kl(*_posterior_and_model(*args, **other))


def _pieces(
    x0: Tensor, xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Squared error of the noise, its weight, the constant of one dimension, number of those."""
    bar, beta = at(sch.alpha_bar, t, xt), sch.beta[t]
    eps = (xt - bar.sqrt() * x0) / (1 - bar).sqrt()
    weight = beta / (2 * sch.alpha[t] * (1 - sch.alpha_bar[t]))
    ratio = _beta_tilde(t, sch) / beta
    error = ((eps - eps_pred) ** 2).flatten(1).sum(1)
    return error, weight, 0.5 * (ratio - 1 - ratio.log()), x0[0].numel()


def _kl_t_by_weight(x0: Tensor, xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch) -> Tensor:
    error, weight, constant, dims = _pieces(x0, xt, t, eps_pred, sch)
    return weight * error + dims * constant


def _kl_t_by_noise_mean(x0: Tensor, xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch) -> Tensor:
    # DDPM eq. 11 for the mean of the model, torch's own divergence.
    b, noise = at(sch.beta, t, xt), (1 - at(sch.alpha_bar, t, xt)).sqrt()
    mean = (xt - b / noise * eps_pred) / at(sch.alpha, t, xt).sqrt()
    q = Normal(_mean(x0, xt, t, sch), view(_beta_tilde(t, sch), xt).sqrt())
    return kl_divergence(q, Normal(mean, b.sqrt())).flatten(1).sum(1)


def _kl_t_one_by_one(x0: Tensor, xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch) -> Tensor:
    def rows() -> Iterator[Tensor]:
        for i, level in enumerate(t.tolist()):
            bar, prev, b = (float(x) for x in (*sch.alpha_bar[[level, level - 1]], sch.beta[level]))
            data = (xt[i] - (1 - bar) ** 0.5 * eps_pred[i]) / bar**0.5
            apart = prev**0.5 * b / (1 - bar) * (x0[i] - data)
            ratio = (1 - prev) / (1 - bar)
            yield ((ratio + apart**2 / b - 1 - math.log(ratio)) / 2).sum()

    return torch.stack(list(rows()))


def _constant_of_kl_once(x0: Tensor, xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch) -> Tensor:
    error, weight, constant, _ = _pieces(x0, xt, t, eps_pred, sch)
    return weight * error + constant


def _along_last_axis(x0: Tensor, xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch) -> Tensor:
    bar, prev, alpha, beta = sch.alpha_bar[t], sch.alpha_bar[t - 1], sch.alpha[t], sch.beta[t]

    def mean(data: Tensor) -> Tensor:
        return (prev.sqrt() * beta * data + alpha.sqrt() * (1 - prev) * xt) / (1 - bar)

    data, one = (xt - (1 - bar).sqrt() * eps_pred) / bar.sqrt(), torch.ones_like(xt)
    return gaussian_kl(mean(x0), _beta_tilde(t, sch) * one, mean(data), beta * one)


def _steps(w: World) -> list[Call]:
    t = w.t.clamp(min=2)  # at t = 1 q is a point
    bar = at(w.sch.alpha_bar, t, w.x0)
    xt = bar.sqrt() * w.x0 + (1 - bar).sqrt() * w.eps
    return [(w.x0, xt, t, w.eps + 0.5 * w.z, w.sch), (w.x0, xt, t, w.eps, w.sch)]


KL_T = Graded(
    "kl_t",
    kl_t,
    _steps,
    (
        *on(_posterior_and_model),
        Mistake(
            "constant_dropped_or_beta_for_beta_tilde",
            _kl_with(var_q=_beta),
            "Only the means are compared, as if q and p had the same variance. q has beta_tilde, p "
            "has beta, and that costs a little even if the noise is predicted without error.",
            TERMS,
            credit=0.25,
        ),
        Mistake(
            "beta_tilde_for_beta",
            _kl_with(var_p=_beta_tilde),
            "The model was given the variance beta_tilde. DDPM uses that one too, but here it is "
            "beta.",
            TERMS,
            credit=0.8,
        ),
        Mistake(
            "posterior_var_missing_denominator",
            _kl_with(var_q=lambda t, sch: (1 - sch.alpha_bar[t - 1]) * sch.beta[t]),
            "The variance of q is too small: beta is multiplied by the ratio of two noise levels, "
            "and only one of them is here.",
            TERMS,
        ),
        Mistake(
            "eps_taken_for_x0",
            _kl_with(data=lambda xt, t, eps, sch: eps),
            "The predicted noise was put in where a predicted x0 belongs.",
            TERMS,
        ),
        Mistake(
            "x0_no_divide_by_sqrt_alpha_bar",
            _kl_with(data=lambda xt, t, eps, sch: xt - (1 - at(sch.alpha_bar, t, xt)).sqrt() * eps),
            "The predicted x0 is too small: when the noise is gone, the data have to be scaled up "
            "again.",
            TERMS,
        ),
        Mistake(
            "constant_counted_once",
            _constant_of_kl_once,
            "What the two variances cost was counted once. Every dimension has that cost.",
            TERMS,
            credit=0.25,
        ),
        Mistake(
            "unweighted_error_of_noise",
            lambda *args: _pieces(*args)[0],
            "This is the squared error of the noise, as in the simple loss. The bound has a weight "
            "for it, and a constant.",
            TERMS,
        ),
        Mistake(
            "scalar_t",
            lambda x0, xt, t, eps_pred, sch: kl_t(x0, xt, t[:1].expand(len(t)), eps_pred, sch),
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
    ),
    (_kl_t_by_weight, _kl_t_by_noise_mean, _kl_t_one_by_one),
    tolerance=5e-5,
)
