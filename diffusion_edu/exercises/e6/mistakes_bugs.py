"""E6: the right functions, and the wrong ones that have a name: walks with a bug to find."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..spec import Graded, Mistake
from ..stubs import Sch
from .mistakes import LAST, NOISE
from .mistakes_loops import (
    ALWAYS,
    NO_NOISE,
    VAR_FOR_STD,
    WALK,
    coefficients,
    ddpm_sample,
    loops,
    sample_by_predicted_x0,
    sample_by_recursion,
    sample_calls,
    sample_with_masked_noise,
    walk,
)

# ---- last_steps ----------------------------------------------------------------------------------


@torch.no_grad()
def last_steps(eps_model: nn.Module, x: Tensor, start: int, sch: Sch, zs: Tensor) -> Tensor:
    """From x = x_start to x_0 with sigma^2 = beta; step t uses zs[t]."""
    return ddpm_sample(eps_model, x, _shorter(sch, start), zs)


def _shorter(sch: Sch, T: int) -> Sch:
    """The same tables, ending at T."""
    beta, alpha, bar = (table[: T + 1] for table in (sch.beta, sch.alpha, sch.alpha_bar))
    return Sch(beta, alpha, bar, T)


def _begun_late(right):  # type: ignore[no-untyped-def]
    """A sampler (eps_model, xT, sch, zs) begun at any level: with tables that end there."""
    return lambda eps_model, x, start, sch, zs: right(eps_model, x, _shorter(sch, start), zs)


LAST_STEPS = Graded(
    "last_steps",
    last_steps,
    lambda w: [(w.eps_model, w.xt, start, w.sch, w.zs) for start in (1, 3, w.sch.T)],
    (
        Mistake(
            "noise_at_last_step",
            _begun_late(walk(step=ALWAYS)),
            "Noise is added by the very last step, too: it stays in the result, as no later step "
            "takes it away.",
            LAST,
        ),
        Mistake(
            "noise_stops_too_early",
            _begun_late(walk(step=coefficients(last=3))),
            "The step from t = 2 adds no noise either. Only the last one, from t = 1, adds none.",
            LAST,
            credit=0.5,
        ),
        Mistake(
            "skips_t1",
            _begun_late(walk(times=lambda T: range(T, 1, -1))),
            "The last step is not made at all: what is returned is x_1.",
            LAST,
        ),
        Mistake(
            "starts_one_late",
            _begun_late(walk(times=lambda T: range(T - 1, 0, -1))),
            "The first step is left out. x is at the level `start`, so that is where to begin.",
            LAST,
        ),
        Mistake(
            "no_noise",
            _begun_late(walk(step=NO_NOISE)),
            "No noise is added at all. Only the last step adds none.",
            LAST,
        ),
        Mistake(
            "var_for_std",
            _begun_late(walk(step=VAR_FOR_STD)),
            "The noise is multiplied by its variance. The factor is a standard deviation.",
            NOISE,
            credit=0.25,
        ),
        Mistake(
            "grad_kept",
            _begun_late(walk(graph=True)),
            "The numbers are right, but torch has kept the graph of all steps, which fills the "
            "memory. Sampling needs no gradients.",
            WALK,
            credit=0.5,
        ),
        Mistake(
            "noise_only_at_last_step",
            _begun_late(
                walk(
                    step=lambda x, t, eps, z, sch, var: (ALWAYS if int(t[0]) == 1 else NO_NOISE)(
                        x, t, eps, z, sch, var
                    )
                )
            ),
            "The condition is the wrong way round: noise is added by the last step alone.",
            LAST,
        ),
    ),
    tuple(
        _begun_late(right)
        for right in (sample_by_recursion, sample_with_masked_noise, sample_by_predicted_x0)
    ),
    tolerance=1e-4,
    bug="noise_at_last_step",
)


# ---- walk_down -----------------------------------------------------------------------------------

walk_down = walk(var="beta_tilde")


def _tilde(beta: Tensor, bar: Tensor, before: Tensor) -> Tensor:
    return beta * (1 - before) / (1 - bar)


@torch.no_grad()
def _down_by_mixing(eps_model: nn.Module, xT: Tensor, sch: Sch, zs: Tensor) -> Tensor:
    # Through the predicted x0, and beta_tilde by precisions.
    x = xT
    for k in range(sch.T, 0, -1):
        bar, before = sch.alpha_bar[k], sch.alpha_bar[k - 1]
        x0 = (x - (1 - bar) ** 0.5 * eps_model(x, torch.full((len(x),), k))) / bar**0.5
        if k == 1:
            return x0
        var = 1 / (sch.alpha[k] / sch.beta[k] + 1 / (1 - before))
        x = var * (before**0.5 / (1 - before) * x0 + sch.alpha[k] ** 0.5 / sch.beta[k] * x)
        x = x + var**0.5 * zs[k]
    return x


@torch.no_grad()
def _down_in_ddim_form(eps_model: nn.Module, xT: Tensor, sch: Sch, zs: Tensor) -> Tensor:
    x, t = xT, torch.full((len(xT),), sch.T)
    while t.min() >= 1:
        bar, before = sch.alpha_bar[t[0]], sch.alpha_bar[t[0] - 1]
        eps = eps_model(x, t)
        x0 = (x - (1 - bar).sqrt() * eps) / bar.sqrt()
        sigma = ((1 - before) / (1 - bar) * (1 - bar / before)).sqrt()
        aim = (1 - before - sigma**2).clamp(min=0).sqrt()
        x = before.sqrt() * x0 + aim * eps + sigma * zs[t[0]]
        t = t - 1
    return x


WALK_DOWN = Graded(
    "walk_down",
    walk_down,
    sample_calls,
    (
        Mistake(
            "skips_t1",
            walk(var="beta_tilde", times=lambda T: range(T, 1, -1)),
            "The last step is missing: what is returned is x_1, which still has noise in it.",
            LAST,
        ),
        *loops("beta_tilde"),
        Mistake(
            "beta_for_beta_tilde",
            walk(var="beta"),
            "The variance is beta; beta_tilde was asked for. Both make samples, but they are not "
            "the same.",
            NOISE,
            credit=0.8,
        ),
        Mistake(
            "var_for_std",
            walk(step=coefficients(sigma=_tilde)),
            "The noise is multiplied by its variance. The factor is a standard deviation.",
            NOISE,
            credit=0.25,
        ),
        Mistake(
            "z_off_by_one",
            walk(var="beta_tilde", noise=lambda zs, t, T: zs[t - 1]),
            "Step t uses the noise of t - 1. zs is indexed by t itself.",
            WALK,
            credit=0.5,
        ),
    ),
    (
        _down_by_mixing,
        _down_in_ddim_form,
        walk(step=coefficients(sigma=lambda *tables: _tilde(*tables) ** 0.5)),
    ),
    tolerance=1e-4,
    bug="skips_t1",
)
