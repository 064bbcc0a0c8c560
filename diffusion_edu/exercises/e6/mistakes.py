"""E6: the right functions, and the wrong ones that have a name: one step back."""

from __future__ import annotations

import torch
from torch import Tensor

from ..forms import at, view
from ..spec import Call, Graded, Mistake
from ..stubs import Sch
from ..world import World

MEAN = "06, The mean of a step"
NOISE = "06, How much noise to add"
LAST = "06, The last step"
BATCH = "06, A t for every example"


# ---- ddpm_mean -----------------------------------------------------------------------------------


def ddpm_mean(xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch) -> Tensor:
    """(x_t - beta_t / sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_t): DDPM (2006.11239) eq. 11."""
    weight = sch.beta / (1 - sch.alpha_bar).sqrt()
    return (xt - at(weight, t, xt) * eps_pred) / at(sch.alpha, t, xt).sqrt()


def _mean_by_posterior(xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch) -> Tensor:
    bar = at(sch.alpha_bar, t, xt)
    x0 = (xt - (1 - bar).sqrt() * eps_pred) / bar.sqrt()
    return posterior_mean(x0, xt, t, sch)


def _mean_by_score(xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch) -> Tensor:
    score = -eps_pred / view((1 - sch.alpha_bar[t]) ** 0.5, xt)
    beta = view(1 - sch.alpha[t], xt)
    return (xt + beta * score) * torch.rsqrt(1 - beta)


def _mean_one_by_one(xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch) -> Tensor:
    out = []
    for x, k, e in zip(xt, t.tolist(), eps_pred, strict=True):
        a, bar = float(sch.alpha[k]), float(sch.alpha_bar[k])
        out.append(x * a**-0.5 - e * ((1 - a) / (a - a * bar) ** 0.5))
    return torch.stack(out)


def posterior_mean(x0: Tensor, xt: Tensor, t: Tensor, sch: Sch) -> Tensor:
    """Mean of q(x_{t-1} | x_t, x_0): DDPM eq. 7."""
    bar, before = at(sch.alpha_bar, t, xt), at(sch.alpha_bar, t - 1, xt)
    on_x0 = before.sqrt() * at(sch.beta, t, xt) / (1 - bar)
    on_xt = at(sch.alpha, t, xt).sqrt() * (1 - before) / (1 - bar)
    return on_x0 * x0 + on_xt * xt


def mean_of(form):  # type: ignore[no-untyped-def]
    """Another mean, by a formula of (x, eps, beta, alpha, alpha_bar)."""

    def mean(xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch) -> Tensor:
        tables = (at(table, t, xt) for table in (sch.beta, sch.alpha, sch.alpha_bar))
        return form(xt, eps_pred, *tables)

    return mean


def _along_last_axis(xt: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch) -> Tensor:
    weight = sch.beta[t] / (1 - sch.alpha_bar[t]).sqrt()
    return (xt - weight * eps_pred) / sch.alpha[t].sqrt()


def _first_t(right):  # type: ignore[no-untyped-def]
    return lambda xt, t, *rest: right(xt, t[:1].expand(len(t)), *rest)


# (name, mean, hint, credit), of a mean and of a step
MEANS = (
    (
        "plus_eps",
        mean_of(lambda x, e, beta, a, bar: (x + beta / (1 - bar).sqrt() * e) / a.sqrt()),
        "The predicted noise is added. A step back takes some of it away.",
        0.0,
    ),
    (
        "no_div_sqrt_alpha",
        mean_of(lambda x, e, beta, a, bar: x - beta / (1 - bar).sqrt() * e),
        "The result is not scaled up again: the step forward had made the data smaller.",
        0.0,
    ),
    (
        "div_sqrt_alpha_bar",
        mean_of(lambda x, e, beta, a, bar: (x - beta / (1 - bar).sqrt() * e) / bar.sqrt()),
        "The result is scaled up as if all t steps were undone. This is one step.",
        0.0,
    ),
    (
        "no_sqrt_one_minus_alpha_bar",
        mean_of(lambda x, e, beta, a, bar: (x - beta / (1 - bar) * e) / a.sqrt()),
        "beta is divided by a variance. What x_t has of eps is a standard deviation.",
        0.25,
    ),
    (
        "noise_of_one_step",
        mean_of(lambda x, e, beta, a, bar: (x - beta / (1 - a).sqrt() * e) / a.sqrt()),
        "sqrt(beta) of eps is taken away (beta / sqrt(1 - alpha) is the same), as if it were the "
        "noise of the last step alone. eps is the noise of all t steps.",
        0.0,
    ),
    (
        "sqrt_beta_coefficient",
        mean_of(lambda x, e, beta, a, bar: (x - (beta / (1 - bar)).sqrt() * e) / a.sqrt()),
        "The predicted noise has the square root of beta. The root belongs to the noise that is "
        "added, not to the noise that is taken away.",
        0.25,
    ),
)


DDPM_MEAN = Graded(
    "ddpm_mean",
    ddpm_mean,
    lambda w: [(w.xt, w.t, w.z, w.sch), (w.xt, w.t, w.eps, w.sch)],
    (
        *(Mistake(name, wrong, hint, MEAN, credit) for name, wrong, hint, credit in MEANS),
        Mistake(
            "only_noise_divided",
            mean_of(lambda x, e, beta, a, bar: x - beta / (1 - bar).sqrt() * e / a.sqrt()),
            "Only the noise is divided, not x_t: brackets are missing.",
            MEAN,
            credit=0.25,
        ),
        Mistake(
            "no_sqrt_alpha",
            mean_of(lambda x, e, beta, a, bar: (x - beta / (1 - bar).sqrt() * e) / a),
            "alpha itself divides. The step forward had multiplied the data by its square root.",
            MEAN,
            credit=0.25,
        ),
        Mistake(
            "all_noise_taken",
            mean_of(lambda x, e, beta, a, bar: (x - (1 - bar).sqrt() * e) / a.sqrt()),
            "All the noise was taken away, not the part of one step.",
            MEAN,
        ),
        Mistake(
            "predicted_x0_returned",
            mean_of(lambda x, e, beta, a, bar: (x - (1 - bar).sqrt() * e) / bar.sqrt()),
            "This is the predicted x0, all the way back. A step goes to x_{t-1} only.",
            MEAN,
        ),
        Mistake(
            "off_by_one_early",
            lambda xt, t, eps_pred, sch: ddpm_mean(xt, t - 1, eps_pred, sch),
            "The tables were read at t - 1. The step from x_t has the numbers of t.",
            MEAN,
        ),
        Mistake(
            "scalar_t",
            _first_t(ddpm_mean),
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
    (_mean_by_posterior, _mean_by_score, _mean_one_by_one),
)


# ---- ddpm_step -----------------------------------------------------------------------------------


def variance(sch: Sch, var: str) -> Tensor:
    """sigma^2 for every t (T+1,), 0 at t = 1, from where no noise is added."""
    if var == "beta":
        table = sch.beta
    else:
        before = sch.alpha_bar.roll(1)
        table = sch.beta * (1 - before) / (1 - sch.alpha_bar)
    return torch.cat([torch.zeros(2), table[2:]])


def ddpm_step(
    xt: Tensor, t: Tensor, eps_pred: Tensor, z: Tensor, sch: Sch, var: str = "beta"
) -> Tensor:
    """ddpm_mean + sigma z, no z at t = 1; sigma^2 is beta or beta_tilde: DDPM Algorithm 2."""
    return ddpm_mean(xt, t, eps_pred, sch) + at(variance(sch, var), t, xt).sqrt() * z


def _step_one_by_one(
    xt: Tensor, t: Tensor, eps_pred: Tensor, z: Tensor, sch: Sch, var: str = "beta"
) -> Tensor:
    x = _mean_one_by_one(xt, t, eps_pred, sch)
    for i, k in enumerate(t.tolist()):
        if k == 1:
            continue
        sigma2 = 1 - sch.alpha[k]
        if var == "beta_tilde":
            sigma2 = sigma2 * (1 - sch.alpha_bar[k - 1]) / (1 - sch.alpha_bar[k])
        x[i] += sigma2**0.5 * z[i]
    return x


def _step_with_mask(
    xt: Tensor, t: Tensor, eps_pred: Tensor, z: Tensor, sch: Sch, var: str = "beta"
) -> Tensor:
    beta, more = sch.beta[t], (t > 1).to(xt.dtype)
    if var != "beta":
        beta = beta * (1 - sch.alpha_bar[t - 1]) / (1 - sch.alpha_bar[t])
    return _mean_by_score(xt, t, eps_pred, sch) + view(more * beta.sqrt(), xt) * z


def _step_by_where(
    xt: Tensor, t: Tensor, eps_pred: Tensor, z: Tensor, sch: Sch, var: str = "beta"
) -> Tensor:
    z = torch.where(view(t, xt) == 1, torch.zeros_like(z), z)
    # beta_tilde by precisions: those of prior and likelihood add up.
    tilde = 1 / (sch.alpha[t] / sch.beta[t] + 1 / (1 - sch.alpha_bar[t - 1]))
    sigma = (sch.beta[t] if var == "beta" else tilde) ** 0.5
    return _mean_by_posterior(xt, t, eps_pred, sch) + torch.einsum("b,b...->b...", sigma, z)


def _step(mean=ddpm_mean, sigma2=variance, factor=torch.sqrt):  # type: ignore[no-untyped-def]
    """The step with another mean, table of variances, or function of them."""

    def step(
        xt: Tensor, t: Tensor, eps_pred: Tensor, z: Tensor, sch: Sch, var: str = "beta"
    ) -> Tensor:
        return mean(xt, t, eps_pred, sch) + factor(at(sigma2(sch, var), t, xt)) * z

    return step


def _from_t_1_too(sch: Sch, var: str) -> Tensor:
    return sch.beta if var == "beta" else variance(sch, var)


def _mask_of_first(
    xt: Tensor, t: Tensor, eps_pred: Tensor, z: Tensor, sch: Sch, var: str = "beta"
) -> Tensor:
    table = _from_t_1_too(sch, var)
    return ddpm_mean(xt, t, eps_pred, sch) + (t[0] > 1) * at(table, t, xt).sqrt() * z


def _step_calls(w: World) -> list[Call]:
    args = (w.xt, w.t, w.eps, w.z, w.sch)
    # Once more in another order, so that t[0] is 1 in one of them.
    k = int((w.t == 1).nonzero())
    first = tuple(a.roll(-k, 0) for a in args[:4])
    return [args, (*args, "beta_tilde"), (*first, w.sch)]


DDPM_STEP = Graded(
    "ddpm_step",
    ddpm_step,
    _step_calls,
    (
        Mistake(
            "noise_at_last_step",
            _step(sigma2=_from_t_1_too),
            "Noise is added at t = 1 as well: it stays in the result, as no later step takes it "
            "away.",
            LAST,
        ),
        Mistake(
            "mask_from_first_t",
            _mask_of_first,
            "Whether noise is added is decided by the first t for the whole batch. Every example "
            "has a t of its own.",
            BATCH,
        ),
        Mistake(
            "no_noise",
            _step(sigma2=lambda sch, var: torch.zeros_like(sch.beta)),
            "No noise is added at any t. It is left out at t = 1 only, one example at a time.",
            NOISE,
        ),
        Mistake(
            "var_for_std",
            _step(factor=lambda sigma2: sigma2),
            "The noise is multiplied by its variance. The factor is a standard deviation.",
            NOISE,
            credit=0.25,
        ),
        Mistake(
            "beta_tilde_for_beta",
            _step(sigma2=lambda sch, var: variance(sch, "beta_tilde")),
            'The variance is beta_tilde, also where var is "beta". Both make samples, but they '
            "are not the same.",
            NOISE,
            credit=0.8,
        ),
        Mistake(
            "beta_for_beta_tilde",
            _step(sigma2=lambda sch, var: variance(sch, "beta")),
            'The variance is beta, also where var is "beta_tilde". Both make samples, but they '
            "are not the same.",
            NOISE,
            credit=0.8,
        ),
        Mistake(
            "one_minus_alpha_bar_as_variance",
            _step(sigma2=lambda sch, var: torch.cat([torch.zeros(2), 1 - sch.alpha_bar[2:]])),
            "The noise added has the variance of all the noise in x_t. One step adds that of one "
            "step.",
            NOISE,
        ),
        Mistake(
            "reuses_eps_as_z",
            lambda xt, t, eps_pred, z, *rest: ddpm_step(xt, t, eps_pred, eps_pred, *rest),
            "The predicted noise is added again. What is added is fresh noise, z.",
            NOISE,
        ),
        *(Mistake(name, _step(wrong), hint, MEAN, credit) for name, wrong, hint, credit in MEANS),
        Mistake(
            "scalar_t",
            _first_t(ddpm_step),
            "The first t is used for the whole batch. Every example has a t of its own.",
            BATCH,
        ),
    ),
    (_step_one_by_one, _step_with_mask, _step_by_where),
)
