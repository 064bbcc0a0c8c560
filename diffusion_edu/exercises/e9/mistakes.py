"""E9: the right functions, and the wrong ones that have a name: scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..forms import at
from ..spec import Call, Graded, Mistake
from ..stubs import Sch
from ..world import World

SCORE = "09, The score is the noise"
MIXTURE = "09, A score that is known exactly"
LANGEVIN = "09, Langevin dynamics"
BATCH = "02, A t for every example"


# ---- score_from_eps ------------------------------------------------------------------------------


def score_from_eps(eps: Tensor, t: Tensor, sch: Sch) -> Tensor:
    """-eps / sqrt(1 - alpha_bar_t), (B, *D): Song et al. (2011.13456)."""
    return -eps / (1 - at(sch.alpha_bar, t, eps)).sqrt()


def _score_one_by_one(eps: Tensor, t: Tensor, sch: Sch) -> Tensor:
    return torch.stack(
        [-((1 - sch.alpha_bar[i]) ** -0.5) * e for i, e in zip(t.tolist(), eps, strict=True)]
    )


def _score_of_a_gaussian(eps: Tensor, t: Tensor, sch: Sch) -> Tensor:
    # The gradient of log N(x; m, v) is (m - x) / v; with m = 0, x is the noise with its scale.
    var = 1 - at(sch.alpha_bar, t, eps)
    return (0 - var.sqrt() * eps) / var


def _score_by_einsum(eps: Tensor, t: Tensor, sch: Sch) -> Tensor:
    return torch.einsum("b...,b->b...", eps, -torch.rsqrt(1 - sch.alpha_bar[t]))


def _scaled(factor):  # type: ignore[no-untyped-def]
    """eps times a factor, a function of (alpha_bar, alpha)."""
    return lambda eps, t, sch: factor(at(sch.alpha_bar, t, eps), at(sch.alpha, t, eps)) * eps


SCORE_FROM_EPS = Graded(
    "score_from_eps",
    score_from_eps,
    lambda w: [(w.eps, w.t, w.sch)],
    (
        Mistake(
            "score_sign",
            _scaled(lambda bar, alpha: 1 / (1 - bar).sqrt()),
            "The sign is turned: this points to where the noise came from, away from the data. "
            "The score points uphill, to likelier places.",
            SCORE,
        ),
        Mistake(
            "score_by_variance",
            _scaled(lambda bar, alpha: -1 / (1 - bar)),
            "It was divided by the variance of the noise. eps has variance 1: one root of it is "
            "gone already.",
            SCORE,
            credit=0.25,
        ),
        Mistake(
            "not_divided",
            _scaled(lambda bar, alpha: -1.0),
            "The scale is missing. The less noise there is, the steeper the density, and the "
            "longer the score.",
            SCORE,
        ),
        Mistake(
            "multiplied_not_divided",
            _scaled(lambda bar, alpha: -(1 - bar).sqrt()),
            "It was multiplied by the scale of the noise. The less noise, the longer the score.",
            SCORE,
        ),
        Mistake(
            "divided_by_signal",
            _scaled(lambda bar, alpha: -1 / bar.sqrt()),
            "It was divided by the factor of the data. The score belongs to the noise: its scale "
            "is that of the noise.",
            SCORE,
        ),
        Mistake(
            "beta_for_one_minus_alpha_bar",
            _scaled(lambda bar, alpha: -1 / (1 - alpha).sqrt()),
            "The scale is that of the noise of one step. x_t has the noise of all t steps.",
            SCORE,
        ),
        Mistake(
            "off_by_one_late",
            lambda eps, t, sch: score_from_eps(eps, (t + 1).clamp(max=sch.T), sch),
            "The scale is that of level t + 1. Tables are indexed by t itself.",
            SCORE,
        ),
        Mistake(
            "scalar_t",
            lambda eps, t, sch: score_from_eps(eps, t[:1].expand(len(t)), sch),
            "The first t is used for the whole batch. Every example has a t of its own.",
            BATCH,
        ),
        Mistake(
            "wrong_axis_broadcast",
            lambda eps, t, sch: -eps / (1 - sch.alpha_bar[t]).sqrt(),
            "Numbers of shape (B,) were taken along the last axis. They belong to the first: give "
            "them the shape (B, 1, ...).",
            BATCH,
        ),
    ),
    (_score_one_by_one, _score_of_a_gaussian, _score_by_einsum),
)


# ---- gmm_score -----------------------------------------------------------------------------------


def gmm_score(x: Tensor, means: Tensor, var: Tensor, w: Tensor, alpha_bar: float) -> Tensor:
    """Score of the noisy mixture sum_k w_k N(x; a m_k, s_k I), s_k = a^2 v_k + 1 - a^2, (B, D)."""
    scale = alpha_bar * var + 1 - alpha_bar
    away = alpha_bar**0.5 * means - x[:, None]
    return _mean_pull(away, scale, w)


def _logits(away: Tensor, scale: Tensor, w: Tensor) -> Tensor:
    """log of w_k N(...) but for a constant, (B, K)."""
    return w.log() - 0.5 * away.square().sum(2) / scale - 0.5 * away.shape[2] * scale.log()


def _mean_pull(away: Tensor, scale: Tensor, w: Tensor) -> Tensor:
    r = _logits(away, scale, w).softmax(1)
    return (r[:, :, None] * away / scale[:, None]).sum(1)


def _score_by_autograd(x, means, var, w, alpha_bar):  # type: ignore[no-untyped-def]
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        scale = alpha_bar * var + (1 - alpha_bar)
        away = x[:, None] - alpha_bar**0.5 * means
        log_p = torch.logsumexp(_logits(away, scale, w), 1)
        return torch.autograd.grad(log_p.sum(), x)[0]


def _score_by_distributions(x, means, var, w, alpha_bar):  # type: ignore[no-untyped-def]
    std = (1 - alpha_bar * (1 - var)).sqrt().view(-1, 1)
    parts = torch.distributions.Normal(alpha_bar**0.5 * means, std)
    log_joint = parts.log_prob(x.unsqueeze(1)).sum(-1) + torch.log(w)
    share = torch.exp(log_joint - torch.logsumexp(log_joint, 1, keepdim=True))
    pull = (parts.loc - x.unsqueeze(1)) / std**2
    return torch.einsum("bk,bkd->bd", share, pull)


def _score_in_a_loop(x, means, var, w, alpha_bar):  # type: ignore[no-untyped-def]
    logs, pulls = [], []
    for m, v, weight in zip(means, var.tolist(), w.tolist(), strict=True):
        s = alpha_bar * v + 1 - alpha_bar
        pulls.append((alpha_bar**0.5 * m - x) / s)
        logs.append(math.log(weight) - len(m) / 2 * math.log(s) - s / 2 * (pulls[-1] ** 2).sum(1))
    top = torch.stack(logs).max(0).values
    shares = [torch.exp(log - top) for log in logs]
    shares = [share[:, None] / torch.stack(shares).sum(0)[:, None] for share in shares]
    return torch.stack([a * b for a, b in zip(shares, pulls, strict=True)]).sum(0)


def _score_by_denoising(x, means, var, w, alpha_bar):  # type: ignore[no-untyped-def]
    # Tweedie's formula: the score from the expected data, where there is noise.
    a2, s = alpha_bar, alpha_bar * var + 1 - alpha_bar
    away = x[:, None] - a2**0.5 * means
    share = _logits(away, s, w).softmax(1)[:, :, None]
    if a2 == 1:
        return -(share * away / s[:, None]).sum(1)
    clean = (share * (means + a2**0.5 * (var / s)[:, None] * away)).sum(1)
    return (a2**0.5 * clean - x) / (1 - a2)


def _gmm(mean=None, scale=None, logits=_logits, pull=None, share=None):  # type: ignore[no-untyped-def]
    """A score with other parts.

    Args:
        mean, scale: of (alpha_bar, means or var), factor of the means, and variances.
        logits: as ``_logits``.
        pull: of (away, scale), the score of each component.
        share: of the logits, the responsibilities.
    """

    def score(x, means, var, w, alpha_bar):  # type: ignore[no-untyped-def]
        s = scale(alpha_bar, var) if scale else alpha_bar * var + 1 - alpha_bar
        away = (mean(alpha_bar) if mean else alpha_bar**0.5) * means - x[:, None]
        numbers = logits(away, s, w)
        r = share(numbers) if share else numbers.softmax(1)
        return (r[:, :, None] * (pull or _pull)(away, s[:, None])).sum(1)

    return score


def _pull(away: Tensor, scale: Tensor) -> Tensor:
    return away / scale


def _plain_shares(logits: Tensor) -> Tensor:
    p = logits.exp()
    return p / p.sum(1, keepdim=True)


def _equal_shares(away: Tensor, scale: Tensor, w: Tensor) -> Tensor:
    return w.log().expand(away.shape[:2])


def _gmm_calls(w: World) -> list[Call]:
    """At most 3 dimensions, so that no density underflows but that of the far point."""
    x = w.x0.flatten(1)[:, :3]
    means = 1.5 * w.more(3, x.shape[1])
    var, weights = torch.tensor([0.3, 0.7, 1.4]), torch.tensor([0.2, 0.5, 0.3])
    far = x.clone()
    far[0] = 100.0
    levels = [float(w.sch.alpha_bar[t]) for t in (2, 5)]
    near = [(x, means, var, weights, bar) for bar in (1.0, *levels)]
    return [*near, (far, means, var, weights, levels[0])]


GMM_SCORE = Graded(
    "gmm_score",
    gmm_score,
    _gmm_calls,
    (
        Mistake(
            "mean_not_scaled",
            _gmm(mean=lambda bar: 1.0),
            "The means stay where they are. On the way to noise the data are made smaller, and the "
            "means with them.",
            MIXTURE,
        ),
        Mistake(
            "mean_scaled_by_variance",
            _gmm(mean=lambda bar: bar),
            "The means were multiplied by alpha_bar, which belongs to variances.",
            MIXTURE,
            credit=0.25,
        ),
        Mistake(
            "var_not_diffused",
            _gmm(scale=lambda bar, var: var),
            "The variances are those of the data. Noise widens every component.",
            MIXTURE,
        ),
        Mistake(
            "var_not_scaled",
            _gmm(scale=lambda bar, var: var + 1 - bar),
            "The noise is added to the full variance of the data. The data are made smaller first.",
            MIXTURE,
        ),
        Mistake(
            "noise_not_added",
            _gmm(scale=lambda bar, var: bar * var),
            "The variances are those of the smaller data, without the noise that was added.",
            MIXTURE,
        ),
        Mistake(
            "unstable_softmax",
            _gmm(share=_plain_shares),
            "Far from all components every density is 0 in floating point, and their shares are "
            "0/0. Stay with logarithms, and subtract the largest before exp.",
            MIXTURE,
            credit=0.5,
        ),
        Mistake(
            "score_sign",
            _gmm(pull=lambda away, scale: -away / scale),
            "The sign is turned: the score points towards the means, not away from them.",
            MIXTURE,
        ),
        Mistake(
            "weights_ignored",
            _gmm(logits=lambda away, scale, w: _logits(away, scale, torch.ones_like(w))),
            "The weights play no part. A component that is twice as likely pulls twice as much.",
            MIXTURE,
            credit=0.25,
        ),
        Mistake(
            "widths_not_normalised",
            _gmm(logits=lambda away, scale, w: w.log() - 0.5 * away.square().sum(2) / scale),
            "Wide components count too much. The density of a Gaussian is lower the wider it is: "
            "its factor in front is missing.",
            MIXTURE,
            credit=0.25,
        ),
        Mistake(
            "width_of_one_dimension",
            _gmm(
                logits=lambda away, scale, w: (
                    w.log() - 0.5 * away.square().sum(2) / scale - 0.5 * scale.log()
                )
            ),
            "The factor in front of a Gaussian is that of one dimension. There is one for each.",
            MIXTURE,
            credit=0.25,
        ),
        Mistake(
            "shares_do_not_depend_on_x",
            _gmm(logits=_equal_shares),
            "The scores of the components are mixed by the weights alone. Close to a component "
            "its share is larger.",
            MIXTURE,
        ),
        Mistake(
            "nearest_component_only",
            _gmm(share=lambda logits: (logits == logits.amax(1, keepdim=True)).to(logits)),
            "Only the likeliest component counts. In between all of them pull.",
            MIXTURE,
        ),
        Mistake(
            "not_divided_by_variance",
            _gmm(pull=lambda away, scale: away),
            "The pull of a component is not divided by its variance.",
            MIXTURE,
        ),
        Mistake(
            "divided_by_std",
            _gmm(pull=lambda away, scale: away / scale.sqrt()),
            "The pull of a component was divided by its standard deviation. It is the variance.",
            MIXTURE,
            credit=0.25,
        ),
    ),
    (_score_by_autograd, _score_by_distributions, _score_in_a_loop, _score_by_denoising),
    tolerance=1e-4,
)
