"""E8: the right functions, and the wrong ones that have a name: from data to noise."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ..forms import view
from ..spec import Call, Graded, Mistake
from ..stubs import EpsModel, Sch
from ..world import World

STEP = "08, One step up"
INVERT = "08, From data to their noise"


def grid(T: int, S: int) -> Tensor:
    """S+1 levels from T down to 0."""
    return torch.tensor([T * i // S for i in range(S, -1, -1)])


# ---- ddim_invert_step ----------------------------------------------------------------------------


def ddim_invert_step(xs: Tensor, s: Tensor, t: Tensor, eps_pred: Tensor, sch: Sch) -> Tensor:
    """x_t = sqrt(bar_t) x0 + sqrt(1 - bar_t) eps: DDIM (2010.02502) eq. 13, upwards."""
    below, above = view(sch.alpha_bar[s], xs), view(sch.alpha_bar[t], xs)
    x0 = (xs - (1 - below).sqrt() * eps_pred) / below.sqrt()
    return above.sqrt() * x0 + (1 - above).sqrt() * eps_pred


def _up_in_scaled_space(xs, s, t, eps_pred, sch):  # type: ignore[no-untyped-def]
    # DDIM eq. 13: y = x / sqrt(alpha_bar) moves by the change of the noise's standard deviation.
    below, above = view(sch.alpha_bar[s], xs), view(sch.alpha_bar[t], xs)
    change = ((1 - above) / above).sqrt() - ((1 - below) / below).sqrt()
    return above.sqrt() * (xs / below.sqrt() + change * eps_pred)


def _up_one_by_one(xs, s, t, eps_pred, sch):  # type: ignore[no-untyped-def]
    rows = []
    for x, i, j, eps in zip(xs, s.tolist(), t.tolist(), eps_pred, strict=True):
        below, above = float(sch.alpha_bar[i]), float(sch.alpha_bar[j])
        rows.append((above / below) ** 0.5 * (x - (1 - below) ** 0.5 * eps))
        rows[-1] = rows[-1] + (1 - above) ** 0.5 * eps
    return torch.stack(rows)


def _up_by_angles(xs, s, t, eps_pred, sch):  # type: ignore[no-untyped-def]
    # alpha_bar = cos^2: x_s = cos(a) x0 + sin(a) eps, and x_t has another angle.
    a, b = (view(sch.alpha_bar[i].sqrt().acos(), xs) for i in (s, t))
    return torch.cos(b) / torch.cos(a) * xs + torch.sin(b - a) / torch.cos(a) * eps_pred


def _up(on_x, on_eps):  # type: ignore[no-untyped-def]
    """The step with other factors, functions of (alpha_bar at s, at t)."""

    def step(xs, s, t, eps_pred, sch):  # type: ignore[no-untyped-def]
        below, above = view(sch.alpha_bar[s], xs), view(sch.alpha_bar[t], xs)
        return on_x(below, above) * xs + on_eps(below, above) * eps_pred

    return step


def _from_x0(signal, noise):  # type: ignore[no-untyped-def]
    """The step with other factors of the predicted x0 and of eps."""
    return _up(
        lambda s, t: signal(s, t) / s.sqrt(),
        lambda s, t: noise(s, t) - signal(s, t) * ((1 - s) / s).sqrt(),
    )


def _random_part(s: Tensor, t: Tensor) -> Tensor:
    """sigma^2 of a step from t down to s at eta = 1."""
    return (1 - s) / (1 - t) * (1 - t / s)


# Name, step, hint, credit: wrong in a step, and in every step of an inversion.
WRONG_STEPS = (
    (
        "alpha_bar_pair_swapped",
        lambda xs, s, t, eps_pred, sch: ddim_invert_step(xs, t, s, eps_pred, sch),
        "The two levels are swapped: this is the step of a sampler, from noise towards data. What "
        "you have belongs to s, what you want to t.",
        0.0,
    ),
    (
        "eta_nonzero_in_inversion",
        _from_x0(lambda s, t: t.sqrt(), lambda s, t: (1 - t - _random_part(s, t)).sqrt()),
        "Room was left for fresh noise. Only with eta = 0 is there one way up that the sampler "
        "comes back on.",
        0.0,
    ),
    (
        "alpha_for_alpha_bar",
        lambda xs, s, t, eps_pred, sch: ddim_invert_step(
            xs, s, t, eps_pred, Sch(sch.beta, sch.alpha, sch.alpha, sch.T)
        ),
        "The tables used are those of single steps. What the DDIM paper calls alpha is alpha_bar "
        "here.",
        0.0,
    ),
    (
        "forward_step_not_inversion",
        _up(lambda s, t: (t / s).sqrt(), lambda s, t: (1 - t / s).sqrt()),
        "This is the forward process, which adds new noise to what is there. The noise in x_s and "
        "that in x_t are to be the same.",
        0.0,
    ),
    (
        "x_s_for_x_0",
        _up(lambda s, t: t.sqrt(), lambda s, t: (1 - t).sqrt()),
        "x_s stands where the predicted data belong: take its noise out first.",
        0.0,
    ),
    (
        "s_for_direction",
        _from_x0(lambda s, t: t.sqrt(), lambda s, t: (1 - s).sqrt()),
        "The predicted noise has the factor of level s. What you want has as much noise as t.",
        0.0,
    ),
    (
        "s_for_signal",
        _from_x0(lambda s, t: s.sqrt(), lambda s, t: (1 - t).sqrt()),
        "The predicted data have the factor of level s, so nothing is made smaller. It belongs to "
        "t.",
        0.0,
    ),
    (
        "var_for_std",
        _from_x0(lambda s, t: t.sqrt(), lambda s, t: 1 - t),
        "1 - alpha_bar is the variance of the noise. What multiplies it is a standard deviation.",
        0.25,
    ),
    (
        "no_sqrt_signal",
        _from_x0(lambda s, t: t, lambda s, t: (1 - t).sqrt()),
        "alpha_bar is what is left of the variance of the data. What multiplies them is its root.",
        0.25,
    ),
    (
        "minus_eps",
        _from_x0(lambda s, t: t.sqrt(), lambda s, t: -(1 - t).sqrt()),
        "The noise is taken out of x_s and put in with the other sign.",
        0.0,
    ),
    (
        "t_is_s_plus_1",
        lambda xs, s, t, eps_pred, sch: ddim_invert_step(xs, s, s + 1, eps_pred, sch),
        "The step goes to s + 1 whatever t is. Levels between s and t are skipped.",
        0.0,
    ),
    (
        "first_abar_not_1",
        lambda xs, s, t, eps_pred, sch: ddim_invert_step(xs, s.clamp(min=1), t, eps_pred, sch),
        "At s = 0 alpha_bar[1] was used, as if there were noise in clean data. They have "
        "alpha_bar[0] = 1.",
        0.0,
    ),
)

DDIM_INVERT_STEP = Graded(
    "ddim_invert_step",
    ddim_invert_step,
    lambda w: [(w.xt, w.s, w.t, w.z, w.sch)],
    tuple(Mistake(name, wrong, hint, STEP, credit) for name, wrong, hint, credit in WRONG_STEPS),
    (_up_in_scaled_space, _up_one_by_one, _up_by_angles),
)


# ---- ddim_invert ---------------------------------------------------------------------------------


@torch.no_grad()
def ddim_invert(eps_model: EpsModel, x0: Tensor, ts: Tensor, sch: Sch) -> Tensor:
    """From data up to level ts[0]; eps is read at the level that is left, at 1 instead of 0."""
    x = x0
    for s, t in pairwise(ts.flip(0).tolist()):
        x = move(eps_model, x, s, t, sch)
    return x


Step = Callable[..., Tensor]


def move(
    eps_model: Callable[..., Tensor],
    x: Tensor,
    s: int,
    t: int,
    sch: Sch,
    step: Step = ddim_invert_step,
    told: int | None = None,
) -> Tensor:
    """All examples from level s to level t, up or down; the network is told ``told`` or else s."""
    level = torch.full((len(x),), max(s, 1) if told is None else told)
    return step(x, torch.full_like(level, s), torch.full_like(level, t), eps_model(x, level), sch)


@torch.no_grad()
def _invert_from_the_end(eps_model, x0, ts, sch):  # type: ignore[no-untyped-def]
    x = x0.clone()
    for k in range(len(ts) - 1, 0, -1):
        s, t = ts[k].expand(len(x)), ts[k - 1].expand(len(x))
        x = _up_in_scaled_space(x, s, t, eps_model(x, s.clamp(min=1)), sch)
    return x


@torch.no_grad()
def _invert_by_recursion(eps_model, x0, ts, sch):  # type: ignore[no-untyped-def]
    if len(ts) == 1:
        return x0
    below = _invert_by_recursion(eps_model, x0, ts[1:], sch)
    s = torch.full(x0.shape[:1], int(ts[1]) or 1)
    return _up_by_angles(
        below, ts[1].expand(len(s)), ts[0].expand(len(s)), eps_model(below, s), sch
    )


def _invert_with_tables(eps_model, x0, ts, sch):  # type: ignore[no-untyped-def]
    bar, told = sch.alpha_bar[ts].flip(0), ts.flip(0).clamp(min=1)
    radius, y = ((1 - bar) / bar) ** 0.5, x0
    for k in range(len(bar) - 1):
        with torch.no_grad():
            eps = eps_model(bar[k] ** 0.5 * y, told[k].repeat(len(x0)))
        y = y + (radius[k + 1] - radius[k]) * eps
    return bar[-1] ** 0.5 * y


def _climb(step=ddim_invert_step, pairs=None, told=None):  # type: ignore[no-untyped-def]
    """An inversion with other parts.

    Args:
        step: as ddim_invert_step.
        pairs: of the levels, 0 first, the steps (s, t).
        told: of (s, t), the level that the network is told.
    """

    @torch.no_grad()
    def invert(eps_model, x0, ts, sch):  # type: ignore[no-untyped-def]
        x, levels = x0, ts.flip(0).tolist()
        for s, t in pairs(levels) if pairs else pairwise(levels):
            x = move(eps_model, x, s, t, sch, step, told(s, t) if told else None)
        return x

    return invert


def _every_level(levels: list[int]) -> list[tuple[int, int]]:
    return [(s, s + 1) for s in range(levels[0], levels[-1])]


invert_told_t = _climb(told=lambda s, t: t)
invert_told_0 = _climb(told=lambda s, t: s)
walk_down = _climb(pairs=lambda levels: pairwise(levels[::-1]))


def _keeps_grad(eps_model, x0, ts, sch):  # type: ignore[no-untyped-def]
    x = x0
    for s, t in pairwise(ts.flip(0).tolist()):
        x = move(eps_model, x, s, t, sch)
    return x


@torch.no_grad()
def _eps_once(eps_model, x0, ts, sch):  # type: ignore[no-untyped-def]
    eps, x = eps_model(x0, torch.ones(len(x0), dtype=torch.long)), x0
    for s, t in pairwise(ts.flip(0).tolist()):
        x = move(lambda *_: eps, x, s, t, sch)
    return x


@torch.no_grad()
def _clean_data_kept(eps_model, x0, ts, sch):  # type: ignore[no-untyped-def]
    x = x0
    for s, t in pairwise(ts.flip(0).tolist()):
        eps = eps_model(x, torch.full((len(x),), max(s, 1)))
        x = sch.alpha_bar[t].sqrt() * x0 + (1 - sch.alpha_bar[t]).sqrt() * eps
    return x


def _invert_calls(w: World) -> list[Call]:
    T = w.sch.T
    part = torch.tensor([T - 2, 3, 0])
    return [(w.eps_model, w.x0, ts, w.sch) for ts in (grid(T, 3), grid(T, T), part)]


LOOPS = (
    Mistake(
        "sampling_not_inversion",
        walk_down,
        "The levels are walked downwards, which is sampling. Inversion starts at 0, the end of "
        "ts, and goes up.",
        INVERT,
    ),
    Mistake(
        "eps_at_wrong_time",
        invert_told_t,
        "The network is told the level that the step goes to. What it looks at is x_s.",
        INVERT,
        credit=0.25,
    ),
    Mistake(
        "network_is_told_0",
        invert_told_0,
        "The network is told level 0, which it has never seen. For clean data it is told 1.",
        INVERT,
        credit=0.5,
    ),
    Mistake(
        "first_step_missing",
        _climb(pairs=lambda levels: pairwise(levels[1:])),
        "The first step is missing: clean data are taken for the noisy state after it.",
        INVERT,
    ),
    Mistake(
        "last_step_missing",
        _climb(pairs=lambda levels: pairwise(levels[:-1])),
        "The last step, the one to ts[0], is missing.",
        INVERT,
    ),
    Mistake(
        "visits_every_level",
        _climb(pairs=_every_level),
        "Every level is visited. ts says which ones are.",
        INVERT,
    ),
    Mistake(
        "eps_predicted_once",
        _eps_once,
        "The noise is predicted once, from the data. Every state is looked at anew.",
        INVERT,
    ),
    Mistake(
        "data_kept_in_every_step",
        _clean_data_kept,
        "Every state is made from x0 itself. The step uses the data that the network sees in x_s, "
        "or the sampler would not come back the same way.",
        INVERT,
    ),
    Mistake(
        "grad_kept",
        _keeps_grad,
        "The result is right but carries the graph of all steps: without no_grad that fills the "
        "memory.",
        INVERT,
        credit=0.5,
    ),
)

DDIM_INVERT = Graded(
    "ddim_invert",
    ddim_invert,
    _invert_calls,
    (
        *(Mistake(name, _climb(f), hint, STEP, credit) for name, f, hint, credit in WRONG_STEPS),
        *LOOPS,
    ),
    (_invert_from_the_end, _invert_by_recursion, _invert_with_tables),
    tolerance=1e-4,
)
