"""E7: the right functions, and the wrong ones that have a name: noise scale, step and sampler."""

from __future__ import annotations

import torch
from torch import Tensor

from ..forms import view
from ..spec import Call, Graded, Mistake
from ..stubs import Sch
from ..world import World

SIGMA = "07, The noise scale and eta"
STEP = "07, The step"


# ---- ddim_sigma ----------------------------------------------------------------------------------


def ddim_sigma(t: Tensor, s: Tensor, eta: float, sch: Sch) -> Tensor:
    """eta sqrt((1 - bar_s)/(1 - bar_t)) sqrt(1 - bar_t/bar_s): DDIM (2010.02502) eq. 16."""
    return eta * _sigma_1(sch.alpha_bar[t], sch.alpha_bar[s])


def _sigma_1(now: Tensor, then: Tensor) -> Tensor:
    """The noise scale at eta = 1, of alpha_bar at t and at s."""
    return ((1 - then) / (1 - now)).sqrt() * (1 - now / then).sqrt()


def _sigma_one_root(t: Tensor, s: Tensor, eta: float, sch: Sch) -> Tensor:
    now, then = sch.alpha_bar[t], sch.alpha_bar[s]
    return (eta**2 * (1 - then) * (then - now) / ((1 - now) * then)) ** 0.5


def _sigma_by_steps(t: Tensor, s: Tensor, eta: float, sch: Sch) -> Tensor:
    # The steps between s and t are one big step with beta = 1 - their product of alphas.
    out = []
    for i, j in zip(t.tolist(), s.tolist(), strict=True):
        beta = 1 - sch.alpha[j + 1 : i + 1].prod()
        out.append(eta * ((1 - sch.alpha_bar[j]) / (1 - sch.alpha_bar[i]) * beta).sqrt())
    return torch.stack(out)


def _sigma_by_logs(t: Tensor, s: Tensor, eta: float, sch: Sch) -> Tensor:
    noise, log_bar = 1 - sch.alpha_bar, sch.alpha_bar.log()
    spread = -torch.expm1(log_bar[t] - log_bar[s])
    return torch.sqrt(noise[s]) / torch.sqrt(noise[t]) * torch.sqrt(spread) * eta


def _no_smaller(s: Tensor) -> Tensor:
    """1 in place of 0: a table whose last level is 1."""
    return s.clamp(min=1)


WRONG_SIGMAS = (
    Mistake(
        "alpha_for_alpha_bar",
        lambda t, s, eta, sch: eta * _sigma_1(sch.alpha[t], sch.alpha[s]),
        "The tables used are those of single steps. What the DDIM paper calls alpha is alpha_bar "
        "here.",
        SIGMA,
    ),
    Mistake(
        "eta_ignored",
        lambda t, s, eta, sch: ddim_sigma(t, s, 1.0, sch),
        "eta is not used: this is the noise scale of eta = 1, as random as DDPM.",
        SIGMA,
    ),
    Mistake(
        "eta_used_as_sigma",
        lambda t, s, eta, sch: torch.full_like(sch.alpha_bar[t], eta),
        "eta itself is returned. It is a factor; the noise scale also depends on t and s.",
        SIGMA,
    ),
    Mistake(
        "eta_inside_wrong_sqrt",
        lambda t, s, eta, sch: ddim_sigma(t, s, eta**0.5, sch),
        "eta stands under a square root. It multiplies the standard deviation.",
        SIGMA,
        credit=0.25,
    ),
    Mistake(
        "variance_returned",
        lambda t, s, eta, sch: ddim_sigma(t, s, eta, sch) ** 2,
        "This is sigma squared, a variance. Asked for is the standard deviation.",
        SIGMA,
        credit=0.25,
    ),
    Mistake(
        "sigma_hat",
        lambda t, s, eta, sch: eta * (1 - sch.alpha_bar[t] / sch.alpha_bar[s]).sqrt(),
        "The first factor is missing. This is the noise of the forward step from s to t; on the "
        "way back some of it is known, and at s = 0 all of it.",
        SIGMA,
    ),
    Mistake(
        "second_factor_missing",
        lambda t, s, eta, sch: eta * ((1 - sch.alpha_bar[s]) / (1 - sch.alpha_bar[t])).sqrt(),
        "The second factor is missing: how much noise lies between the levels s and t.",
        SIGMA,
    ),
    Mistake(
        "ratio_upside_down",
        lambda t, s, eta, sch: (
            eta
            * ((1 - sch.alpha_bar[t]) / (1 - sch.alpha_bar[s])).sqrt()
            * (1 - sch.alpha_bar[t] / sch.alpha_bar[s]).sqrt()
        ),
        "The first ratio is upside down: it divides by the noise at s, which is 0 at s = 0.",
        SIGMA,
    ),
    Mistake(
        "root_of_a_negative",
        lambda t, s, eta, sch: ddim_sigma(s, t, eta, sch),
        "A square root of a negative number is taken: are t and s swapped, or the two sides of a "
        "difference? t is the noisier level, with the smaller alpha_bar.",
        SIGMA,
    ),
    Mistake(
        "s_is_t_minus_1",
        lambda t, s, eta, sch: ddim_sigma(t, t - 1, eta, sch),
        "The scale is that of a step from t to t - 1. The step goes to s and may skip levels.",
        SIGMA,
    ),
    Mistake(
        "beta_of_one_step",
        lambda t, s, eta, sch: (
            eta * ((1 - sch.alpha_bar[s]) / (1 - sch.alpha_bar[t]) * sch.beta[t]).sqrt()
        ),
        "beta_t is the noise of one step of the chain. Between s and t there may be several.",
        SIGMA,
        credit=0.25,
    ),
    Mistake(
        "final_abar_not_1",
        lambda t, s, eta, sch: ddim_sigma(t, _no_smaller(s), eta, sch),
        "At s = 0 alpha_bar[1] was used. Clean data have alpha_bar[0] = 1, and the last step adds "
        "no noise.",
        SIGMA,
    ),
)

DDIM_SIGMA = Graded(
    "ddim_sigma",
    ddim_sigma,
    lambda w: [(w.t, w.s, eta, w.sch) for eta in (0.6, 1.0)],
    WRONG_SIGMAS,
    (_sigma_one_root, _sigma_by_steps, _sigma_by_logs),
)


# ---- ddim_step -----------------------------------------------------------------------------------


def ddim_step(
    xt: Tensor, t: Tensor, s: Tensor, eps_pred: Tensor, z: Tensor, eta: float, sch: Sch
) -> Tensor:
    """x_s = sqrt(bar_s) x0 + sqrt(1 - bar_s - sigma^2) eps + sigma z: DDIM eq. 12."""
    now, then = view(sch.alpha_bar[t], xt), view(sch.alpha_bar[s], xt)
    sigma = eta * _sigma_1(now, then)
    x0 = (xt - (1 - now).sqrt() * eps_pred) / now.sqrt()
    return then.sqrt() * x0 + (1 - then - sigma**2).sqrt() * eps_pred + sigma * z


def _step_on_x(xt, t, s, eps_pred, z, eta, sch):  # type: ignore[no-untyped-def]
    # Without x0: a factor for x_t, and one for eps.
    now, then = view(sch.alpha_bar[t], xt), view(sch.alpha_bar[s], xt)
    var = eta**2 * (1 - then) / (1 - now) * (1 - now / then)
    on_eps = (1 - then - var) ** 0.5 - (then / now * (1 - now)) ** 0.5
    return (then / now) ** 0.5 * xt + on_eps * eps_pred + var**0.5 * z


def _step_by_sigmas(xt, t, s, eps_pred, z, eta, sch):  # type: ignore[no-untyped-def]
    # In y = x / sqrt(alpha_bar), where noise has the standard deviation r.
    now, then = view(sch.alpha_bar[t], xt), view(sch.alpha_bar[s], xt)
    y, r_now, r_then = xt / now.sqrt(), ((1 - now) / now).sqrt(), ((1 - then) / then).sqrt()
    fresh = eta * r_then / r_now * (r_now**2 - r_then**2).sqrt()
    y = y - r_now * eps_pred + (r_then**2 - fresh**2).sqrt() * eps_pred + fresh * z
    return then.sqrt() * y


def _step_one_by_one(xt, t, s, eps_pred, z, eta, sch):  # type: ignore[no-untyped-def]
    rows = []
    for i, (a, b) in enumerate(zip(t.tolist(), s.tolist(), strict=True)):
        now, then = float(sch.alpha_bar[a]), float(sch.alpha_bar[b])
        var = eta**2 * (1 - then) * (then - now) / (then * (1 - now))
        x0 = (xt[i] - (1 - now) ** 0.5 * eps_pred[i]) / now**0.5
        rows.append(then**0.5 * x0 + (1 - then - var) ** 0.5 * eps_pred[i] + var**0.5 * z[i])
    return torch.stack(rows)


def _step_by_posterior(xt, t, s, eps_pred, z, eta, sch):  # type: ignore[no-untyped-def]
    # Bayes' mean for eta = 1, then eps in place of the noise that eta leaves out.
    now, then = view(sch.alpha_bar[t], xt), view(sch.alpha_bar[s], xt)
    x0, alpha = (xt - (1 - now).sqrt() * eps_pred) / now.sqrt(), now / then
    var = (1 - then) * (1 - alpha) / (1 - now)
    mean = (then.sqrt() * (1 - alpha) * x0 + alpha.sqrt() * (1 - then) * xt) / (1 - now)
    shift = (1 - then - eta**2 * var).sqrt() - (1 - then - var).sqrt()
    return mean + shift * eps_pred + eta * var.sqrt() * z


def _step(direction=None, noise=None, sigma=None, signal=None):  # type: ignore[no-untyped-def]
    """A step with other parts, functions of (alpha_bar at t, at s, eta, sigma)."""

    def step(xt, t, s, eps_pred, z, eta, sch):  # type: ignore[no-untyped-def]
        now, then = view(sch.alpha_bar[t], xt), view(sch.alpha_bar[s], xt)
        scale = sigma(now, then, eta) if sigma else eta * _sigma_1(now, then)
        x0 = (xt - (1 - now).sqrt() * eps_pred) / now.sqrt()
        parts = (now, then, eta, scale)
        on_eps = direction(*parts) if direction else (1 - then - scale**2).sqrt()
        on_x0 = signal(*parts) if signal else then.sqrt()
        return on_x0 * x0 + on_eps * eps_pred + (noise(*parts) if noise else scale) * z

    return step


def _other(change):  # type: ignore[no-untyped-def]
    """The step with other arguments, a function of (t, s, z, eta, sch)."""

    def step(xt, t, s, eps_pred, z, eta, sch):  # type: ignore[no-untyped-def]
        t, s, z, eta, sch = change(t, s, z, eta, sch)
        return ddim_step(xt, t, s, eps_pred, z, eta, sch)

    return step


def _scales_xt(xt, t, s, eps_pred, z, eta, sch):  # type: ignore[no-untyped-def]
    now, then = view(sch.alpha_bar[t], xt), view(sch.alpha_bar[s], xt)
    sigma = eta * _sigma_1(now, then)
    return then.sqrt() * xt + (1 - then - sigma**2).sqrt() * eps_pred + sigma * z


# Name, step, hint, credit: wrong in a step, and in every step of a sampler.
WRONG_STEPS = (
    (
        "alpha_for_alpha_bar",
        _other(lambda t, s, z, eta, sch: (t, s, z, eta, Sch(sch.beta, sch.alpha, sch.alpha, 0))),
        "The tables used are those of single steps. What the DDIM paper calls alpha is alpha_bar "
        "here.",
        0.0,
    ),
    (
        "direction_missing_sigma2",
        _step(direction=lambda now, then, eta, sigma: (1 - then).sqrt()),
        "The old noise keeps its full strength and fresh noise is added to it, so x_s has too "
        "much. What is added has to be taken away from the old.",
        0.0,
    ),
    (
        "ddim_direction_is_sigma",
        _step(direction=lambda now, then, eta, sigma: sigma),
        "The predicted noise has the factor sigma. That belongs to the fresh noise; the variances "
        "of both add up to 1 - alpha_bar_s.",
        0.0,
    ),
    (
        "sigma_not_squared",
        _step(direction=lambda now, then, eta, sigma: (1 - then - sigma).sqrt()),
        "Under the root a standard deviation was subtracted from a variance.",
        0.25,
    ),
    (
        "sigma2_as_noise_scale",
        _step(noise=lambda now, then, eta, sigma: sigma**2),
        "The fresh noise is multiplied by a variance. What multiplies z is a standard deviation.",
        0.25,
    ),
    (
        "eta_ignored",
        _other(lambda t, s, z, eta, sch: (t, s, z, 1.0, sch)),
        "eta is not used: every step is as random as one of DDPM.",
        0.0,
    ),
    (
        "eta_always_0",
        _other(lambda t, s, z, eta, sch: (t, s, z, 0.0, sch)),
        "eta is not used: every step is deterministic.",
        0.0,
    ),
    (
        "eta_inside_wrong_sqrt",
        _other(lambda t, s, z, eta, sch: (t, s, z, eta**0.5, sch)),
        "eta stands under a square root. It multiplies the standard deviation sigma.",
        0.25,
    ),
    (
        "s_is_t_minus_1",
        _other(lambda t, s, z, eta, sch: (t, t - 1, z, eta, sch)),
        "The step goes to t - 1 whatever s is. Levels between t and s are skipped.",
        0.0,
    ),
    (
        "final_abar_not_1",
        _other(lambda t, s, z, eta, sch: (t, _no_smaller(s), z, eta, sch)),
        "The step to s = 0 uses alpha_bar[1], so a little noise stays in the samples. Clean data "
        "have alpha_bar[0] = 1.",
        0.0,
    ),
    (
        "uses_t_for_direction",
        _step(direction=lambda now, then, eta, sigma: (1 - now - sigma**2).sqrt()),
        "The factor of the predicted noise has alpha_bar of t in it. It belongs to x_s.",
        0.0,
    ),
    (
        "uses_t_for_signal",
        _step(signal=lambda now, then, eta, sigma: now.sqrt()),
        "The predicted data have the factor of level t. It belongs to x_s.",
        0.0,
    ),
    (
        "no_noise",
        _step(noise=lambda now, then, eta, sigma: 0.0),
        "Room is made for fresh noise, but none is added.",
        0.0,
    ),
    (
        "scales_x_t_not_x_0",
        _scales_xt,
        "x_t stands where the predicted data belong: take its noise out first.",
        0.0,
    ),
)

NAN_STEPS = (
    (
        "nan_from_negative_sqrt",
        _step(sigma=lambda now, then, eta: eta * (1 - now / then).sqrt()),
        "sigma lacks its first factor. At s = 0 it is larger than all the noise there is, and a "
        "root of a negative number is taken.",
        0.0,
    ),
    (
        "eta_used_as_sigma",
        _step(sigma=lambda now, then, eta: eta + 0 * now),
        "eta itself is taken for sigma. It is a factor of it; at s = 0 sigma is 0.",
        0.0,
    ),
)


def _step_calls(w: World) -> list[Call]:
    eps_pred = w.more(*w.x0.shape)
    return [(w.xt, w.t, w.s, eps_pred, w.z, eta, w.sch) for eta in (0.0, 0.6, 1.0)]


DDIM_STEP = Graded(
    "ddim_step",
    ddim_step,
    _step_calls,
    tuple(Mistake(n, wrong, hint, STEP, c) for n, wrong, hint, c in WRONG_STEPS + NAN_STEPS),
    (_step_on_x, _step_by_sigmas, _step_one_by_one, _step_by_posterior),
    tolerance=3e-5,  # x_0 is divided by the root of alpha_bar_T
)
