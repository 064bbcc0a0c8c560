"""E8: the function with a bug to find, and wrong ones that have a name."""

from __future__ import annotations

import torch
from torch import Tensor

from ..spec import Call, Graded, Mistake
from ..stubs import EpsModel, Sch
from ..world import World
from .mistakes import move, walk_down
from .mistakes_mix import lerp, slerp

NOISED = "08, Interpolation with noise"


def mix_noised(
    eps_model: EpsModel, xa: Tensor, xb: Tensor, lam: float, t: int, eps: Tensor, sch: Sch
) -> Tensor:
    """Noise both to level t, mix, and go down level by level: DDPM (2006.11239) sec. 4.4."""
    mixed = lerp(_noised(xa, t, eps, sch), _noised(xb, t, eps, sch), lam)
    return walk_down(eps_model, mixed, torch.arange(t, -1, -1), sch)


def _noised(x: Tensor, t: int, eps: Tensor, sch: Sch) -> Tensor:
    return sch.alpha_bar[t].sqrt() * x + (1 - sch.alpha_bar[t]).sqrt() * eps


def _noised_by_variance(x: Tensor, t: int, eps: Tensor, sch: Sch) -> Tensor:
    return sch.alpha_bar[t].sqrt() * x + (1 - sch.alpha_bar[t]) * eps


def _mixed_first(eps_model, xa, xb, lam, t, eps, sch):  # type: ignore[no-untyped-def]
    # With the same noise in both ends it does not matter what comes first.
    x = _noised(torch.lerp(xa, xb, lam), t, eps, sch)
    with torch.no_grad():
        for level in range(t, 0, -1):
            x = move(eps_model, x, level, level - 1, sch)
    return x


@torch.no_grad()
def _in_scaled_space(eps_model, xa, xb, lam, t, eps, sch):  # type: ignore[no-untyped-def]
    bar = sch.alpha_bar
    radius = ((1 - bar) / bar).sqrt()
    y = xa + lam * (xb - xa) + radius[t] * eps
    while t > 0:
        predicted = eps_model(bar[t].sqrt() * y, torch.full(xa.shape[:1], t))
        y = y + (radius[t - 1] - radius[t]) * predicted
        t -= 1
    return y


@torch.no_grad()
def _by_recursion(eps_model, xa, xb, lam, t, eps, sch):  # type: ignore[no-untyped-def]
    def down(x: Tensor, level: int) -> Tensor:
        if level == 0:
            return x
        now, then = sch.alpha_bar[level], sch.alpha_bar[level - 1]
        seen = eps_model(x, torch.full((len(x),), level))
        x0 = (x - (1 - now) ** 0.5 * seen) / now**0.5
        return down(then**0.5 * x0 + (1 - then) ** 0.5 * seen, level - 1)

    both = _noised(torch.stack([xa, xb]), t, eps, sch)
    return down((1 - lam) * both[0] + lam * both[1], t)


def _mix(to=lambda t: t, start=lambda t, T: t, end=0, mix=lerp, noised=_noised):  # type: ignore[no-untyped-def]
    """The function with other parts.

    Args:
        to: of t, the level that both are noised to.
        start: of (t, T), the level that the walk starts at; it stops at ``end``.
        mix: of (a, b, lam).
        noised: of (x, t, eps, sch).
    """

    def wrong(eps_model, xa, xb, lam, t, eps, sch):  # type: ignore[no-untyped-def]
        a, b = (noised(x, to(t), eps, sch) for x in (xa, xb))
        levels = torch.arange(start(t, sch.T), end - 1, -1)
        return walk_down(eps_model, mix(a, b, lam), levels, sch)

    return wrong


def _told(level):  # type: ignore[no-untyped-def]
    """The function with a network that is told another level, of (t, where the walk is)."""

    @torch.no_grad()
    def wrong(eps_model, xa, xb, lam, t, eps, sch):  # type: ignore[no-untyped-def]
        x = _noised(lerp(xa, xb, lam), t, eps, sch)
        for now in range(t, 0, -1):
            x = move(eps_model, x, now, now - 1, sch, told=level(t, now))
        return x

    return wrong


@torch.no_grad()
def _one_jump(eps_model, xa, xb, lam, t, eps, sch):  # type: ignore[no-untyped-def]
    return move(eps_model, _noised(lerp(xa, xb, lam), t, eps, sch), t, 0, sch)


def _mixed_last(eps_model, xa, xb, lam, t, eps, sch):  # type: ignore[no-untyped-def]
    a, b = (mix_noised(eps_model, x, x, 0.0, t, eps, sch) for x in (xa, xb))
    return lerp(a, b, lam)


def _keeps_grad(eps_model, xa, xb, lam, t, eps, sch):  # type: ignore[no-untyped-def]
    x = _noised(lerp(xa, xb, lam), t, eps, sch)
    for level in range(t, 0, -1):
        x = move(eps_model, x, level, level - 1, sch)
    return x


def _mix_calls(w: World) -> list[Call]:
    levels = (1, 3, w.sch.T - 1)
    return [(w.eps_model, w.x0, w.z, 0.3, t, w.eps, w.sch) for t in levels]


MIX_NOISED = Graded(
    "mix_noised",
    mix_noised,
    _mix_calls,
    (
        Mistake(
            "starts_at_t_minus_1",
            _mix(start=lambda t, T: t - 1),
            "Both ends are noised to level t, but the walk down starts at t - 1: the network is "
            "told of less noise than there is, and some of it stays.",
            NOISED,
        ),
        Mistake(
            "noised_to_t_minus_1",
            _mix(to=lambda t: t - 1),
            "Both ends are noised to level t - 1 only, but the walk down starts at t.",
            NOISED,
        ),
        Mistake(
            "starts_at_T",
            _mix(start=lambda t, T: T),
            "The walk down starts at T. What there is has the noise of level t.",
            NOISED,
        ),
        Mistake(
            "last_step_missing",
            _mix(end=1),
            "The walk ends at level 1: a little noise is left.",
            NOISED,
        ),
        Mistake(
            "not_denoised",
            _mix(start=lambda t, T: 0),
            "The noisy mix is returned. Walk down to level 0.",
            NOISED,
        ),
        Mistake(
            "one_jump_to_0",
            _one_jump,
            "There is one step from t to 0. The walk visits every level.",
            NOISED,
            credit=0.25,
        ),
        Mistake(
            "network_is_told_t",
            _told(lambda t, now: t),
            "The network is told t in every step. The level falls from step to step.",
            NOISED,
        ),
        Mistake(
            "network_is_told_next_level",
            _told(lambda t, now: now - 1),
            "The network is told the level that a step goes to. What it looks at has one more.",
            NOISED,
        ),
        Mistake(
            "slerp_for_lerp",
            _mix(mix=slerp),
            "The ends are mixed on an arc. Both have the same noise, so here the straight line "
            "keeps the level.",
            NOISED,
            credit=0.25,
        ),
        Mistake(
            "lambda_reversed",
            _mix(mix=lambda a, b, lam: lerp(b, a, lam)),
            "lam = 0 leads to b. It is to lead to a.",
            NOISED,
            credit=0.25,
        ),
        Mistake(
            "mixed_after_denoising",
            _mixed_last,
            "Both ends went down apart, and then the pictures were mixed. Mix at level t.",
            NOISED,
        ),
        Mistake(
            "var_for_std",
            _mix(noised=_noised_by_variance),
            "1 - alpha_bar is the variance of the noise. What multiplies eps is a standard "
            "deviation.",
            NOISED,
            credit=0.25,
        ),
        Mistake(
            "data_not_noised",
            _mix(noised=lambda x, t, eps, sch: x),
            "The walk down starts from clean data. They have to be noised to level t first.",
            NOISED,
        ),
        Mistake(
            "grad_kept",
            _keeps_grad,
            "The result is right but carries the graph of all steps: work under no_grad.",
            NOISED,
            credit=0.5,
        ),
    ),
    (_mixed_first, _in_scaled_space, _by_recursion),
    tolerance=1e-4,
    bug="starts_at_t_minus_1",
)
