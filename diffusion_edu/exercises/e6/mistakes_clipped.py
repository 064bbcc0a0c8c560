"""E6: the right function, and the wrong ones that have a name: the mean with a clipped x0."""

from __future__ import annotations

import torch
from torch import Tensor

from ..forms import at, view
from ..spec import Graded, Mistake
from ..stubs import Sch
from .mistakes import ddpm_mean, mean_of, posterior_mean, variance

CLIP = "06, Clipping the predicted data"


# ---- ddpm_mean_clipped ---------------------------------------------------------------------------


def _x0(xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch) -> Tensor:
    bar = at(sch.alpha_bar, t, xt)
    return (xt - (1 - bar).sqrt() * eps_pred) / bar.sqrt()


def ddpm_mean_clipped(xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch, limit: float) -> Tensor:
    """DDPM eq. 7 with the predicted x0 of eq. 15, clipped to [-limit, limit]."""
    return posterior_mean(_x0(xt, t, eps_pred, sch).clamp(-limit, limit), xt, t, sch)


def _clipped_by_eps(xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch, limit: float) -> Tensor:
    # The noise that goes with the clipped data, then eq. 11.
    bar = at(sch.alpha_bar, t, xt)
    x0 = _x0(xt, t, eps_pred, sch).clip(-limit, limit)
    return ddpm_mean(xt, t, (xt - bar.sqrt() * x0) / (1 - bar).sqrt(), sch)


def _clipped_by_correction(
    xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch, limit: float
) -> Tensor:
    # The mean of eq. 11, moved by what clipping moves x0, times the coefficient of x0.
    x0 = _x0(xt, t, eps_pred, sch)
    over = (x0 - limit).relu() - (-x0 - limit).relu()
    on_x0 = sch.alpha_bar[t - 1].sqrt() * sch.beta[t] / (1 - sch.alpha_bar[t])
    return ddpm_mean(xt, t, eps_pred, sch) - view(on_x0, xt) * over


def _clipped_as_ddim(xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch, limit: float) -> Tensor:
    # The mean of DDIM with eta = 1, and eps derived anew.
    bar = at(sch.alpha_bar, t, xt)
    x0 = torch.minimum(torch.maximum(_x0(xt, t, eps_pred, sch), -limit + 0 * xt), limit + 0 * xt)
    return _as_ddim(x0, (xt - bar.sqrt() * x0) / (1 - bar).sqrt(), t, sch)


def _as_ddim(x0: Tensor, eps: Tensor, t: Tensor, sch: Sch) -> Tensor:
    before = at(sch.alpha_bar, t - 1, x0)
    left = 1 - before - at(variance(sch, "beta_tilde"), t, x0)
    return before.sqrt() * x0 + left.clamp(min=0).sqrt() * eps


def _clipped(x0=_x0, clip=lambda x, c: x.clamp(-c, c), mean=posterior_mean):  # type: ignore[no-untyped-def]
    """The mean with another x0, another way of clipping, or another posterior mean."""
    return lambda xt, t, e, sch, limit: mean(clip(x0(xt, t, e, sch), limit), xt, t, sch)


DDPM_MEAN_CLIPPED = Graded(
    "ddpm_mean_clipped",
    ddpm_mean_clipped,
    lambda w: [(w.xt, w.t, w.z, w.sch, limit) for limit in (0.6, 1.5)],
    (
        Mistake(
            "not_clipped_or_clip_not_used",
            lambda xt, t, e, sch, limit: ddpm_mean(xt, t, e, sch),
            "Clipping changes nothing: x0 was not clipped, or the mean was made from the noise "
            "that was predicted before clipping.",
            CLIP,
        ),
        Mistake(
            "clips_after_the_mean",
            lambda xt, t, e, sch, limit: ddpm_mean(xt, t, e, sch).clamp(-limit, limit),
            "The mean was clipped. It still has noise in it and may be large; only clean data "
            "have a range.",
            CLIP,
        ),
        Mistake(
            "clips_twice",
            lambda xt, t, e, sch, limit: ddpm_mean_clipped(xt, t, e, sch, limit).clamp(
                -limit, limit
            ),
            "x0 is clipped, but so is the mean. It still has noise in it and may be large.",
            CLIP,
        ),
        Mistake(
            "clips_xt",
            lambda xt, t, e, sch, limit: ddpm_mean(xt.clamp(-limit, limit), t, e, sch),
            "x_t was clipped. It is noisy and may be large; only clean data have a range.",
            CLIP,
        ),
        Mistake(
            "clips_eps",
            lambda xt, t, e, sch, limit: ddpm_mean(xt, t, e.clamp(-limit, limit), sch),
            "The predicted noise was clipped. Noise has no range; only clean data have one.",
            CLIP,
        ),
        Mistake(
            "eps_not_rederived",
            lambda xt, t, e, sch, limit: _as_ddim(
                _x0(xt, t, e, sch).clamp(-limit, limit), e, t, sch
            ),
            "x0 was clipped, but the noise beside it is the old one: the two do not make x_t any "
            "more.",
            CLIP,
            credit=0.25,
        ),
        Mistake(
            "limit_ignored",
            _clipped(clip=lambda x, c: x.clamp(-1, 1)),
            "x0 was clipped to [-1, 1] whatever limit is.",
            CLIP,
            credit=0.5,
        ),
        Mistake(
            "clips_to_0_limit",
            _clipped(clip=lambda x, c: x.clamp(0, c)),
            "x0 was clipped to [0, limit]. Data lie on both sides of 0.",
            CLIP,
        ),
        Mistake(
            "clips_above_only",
            _clipped(clip=lambda x, c: x.clamp(max=c)),
            "Only values above the limit were clipped. There are limits on both sides.",
            CLIP,
            credit=0.25,
        ),
        Mistake(
            "swapped_posterior_coefficients",
            _clipped(mean=lambda x0, xt, t, sch: posterior_mean(xt, x0, t, sch)),
            "x0 and x_t have each other's coefficients.",
            CLIP,
        ),
        Mistake(
            "clipped_x0_returned",
            _clipped(mean=lambda x0, xt, t, sch: x0),
            "This is the clipped x0, all the way back. A step goes to x_{t-1} only.",
            CLIP,
        ),
        Mistake(
            "x0_no_divide_by_sqrt_alpha_bar",
            _clipped(mean_of(lambda x, e, beta, a, bar: x - (1 - bar).sqrt() * e)),
            "The predicted x0 is too small: the data in x_t have to be scaled up again.",
            CLIP,
        ),
    ),
    (_clipped_by_eps, _clipped_by_correction, _clipped_as_ddim),
)
