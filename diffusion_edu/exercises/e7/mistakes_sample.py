"""E7: the right functions, and the wrong ones that have a name: all steps, one after another."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ..spec import Call, Graded, Mistake
from ..stubs import EpsModel, Sch
from ..world import World
from .mistakes import timesteps
from .mistakes_step import NAN_STEPS, STEP, WRONG_STEPS, ddim_step

LOOP = "07, The sampler"


@torch.no_grad()
def ddim_sample(
    eps_model: EpsModel, xT: Tensor, ts: Tensor, eta: float, sch: Sch, zs: Tensor
) -> Tensor:
    """From xT at level ts[0] down to level ts[-1]; the step that leaves t uses zs[t]."""
    x = xT
    for t, s in pairwise(ts.tolist()):
        x = _move(ddim_step, eps_model, x, t, s, zs[t], eta, sch)
    return x


def _move(step, eps_model, x, t, s, z, eta, sch, seen=None):  # type: ignore[no-untyped-def]
    """One step of all examples; the network is told level ``seen``, or else t."""
    levels, targets = (torch.full((len(x),), i) for i in (t, s))
    told = levels if seen is None else torch.full((len(x),), seen)
    return step(x, levels, targets, eps_model(x, told), z, eta, sch)


@torch.no_grad()
def _sample_by_recursion(eps_model, xT, ts, eta, sch, zs):  # type: ignore[no-untyped-def]
    if len(ts) == 1:
        return xT
    t, s = ts[:1].expand(len(xT)), ts[1:2].expand(len(xT))
    x = ddim_step(xT, t, s, eps_model(xT, t), zs[ts[0]], eta, sch)
    return _sample_by_recursion(eps_model, x, ts[1:], eta, sch, zs)


@torch.no_grad()
def _sample_in_scaled_space(eps_model, xT, ts, eta, sch, zs):  # type: ignore[no-untyped-def]
    # y = x / sqrt(alpha_bar) moves by the change of the noise's standard deviation r.
    bars, levels = sch.alpha_bar[ts], ts.tolist()
    y = xT / bars[0].sqrt()
    for i in range(len(levels) - 1):
        now, then, t = bars[i], bars[i + 1], torch.full(xT.shape[:1], levels[i])
        r, q = ((1 - now) / now).sqrt(), ((1 - then) / then).sqrt()
        fresh = eta * q / r * (r**2 - q**2).sqrt()
        y = y + ((q**2 - fresh**2).sqrt() - r) * eps_model(now.sqrt() * y, t) + fresh * zs[t[0]]
    return bars[-1].sqrt() * y


def _sample_with_tables(eps_model, xT, ts, eta, sch, zs):  # type: ignore[no-untyped-def]
    now, then = sch.alpha_bar[ts[:-1]], sch.alpha_bar[ts[1:]]
    sigma = eta * ((1 - then) / (1 - now) * (1 - now / then)) ** 0.5
    direction, x, i = (1 - then - sigma**2) ** 0.5, xT.clone(), 0
    while i < len(ts) - 1:
        with torch.no_grad():
            eps = eps_model(x, torch.full((x.shape[0],), int(ts[i])))
        x0 = (x - (1 - now[i]) ** 0.5 * eps) / now[i] ** 0.5
        x = then[i] ** 0.5 * x0 + direction[i] * eps + sigma[i] * zs[int(ts[i])]
        i += 1
    return x


def _walk(step=ddim_step, pairs=None, z=None, seen=None, change=None):  # type: ignore[no-untyped-def]
    """A sampler with other parts.

    Args:
        step: as ddim_step.
        pairs: of the levels, the steps (t, s).
        z, seen: of (i, t, s) for step i, which noise it adds, and the level the network is told.
        change: of eta, another eta.
    """

    @torch.no_grad()
    def sample(eps_model, xT, ts, eta, sch, zs):  # type: ignore[no-untyped-def]
        x, eta = xT, change(eta) if change else eta
        steps = pairs(ts.tolist()) if pairs else list(pairwise(ts.tolist()))
        for i, (t, s) in enumerate(steps):
            noise, told = zs[z(i, t, s) if z else t], seen(i, t, s) if seen else t
            x = _move(step, eps_model, x, t, s, noise, eta, sch, told)
        return x

    return sample


def _keeps_grad(eps_model, xT, ts, eta, sch, zs):  # type: ignore[no-untyped-def]
    x = xT
    for t, s in pairwise(ts.tolist()):
        x = _move(ddim_step, eps_model, x, t, s, zs[t], eta, sch)
    return x


@torch.no_grad()
def _eps_once(eps_model, xT, ts, eta, sch, zs):  # type: ignore[no-untyped-def]
    eps, x = eps_model(xT, ts[:1].expand(len(xT))), xT
    for t, s in pairwise(ts.tolist()):
        x = _move(ddim_step, lambda *_: eps, x, t, s, zs[t], eta, sch)
    return x


def _sample_calls(w: World) -> list[Call]:
    T = w.sch.T
    few, part = timesteps(T, 3), torch.tensor([T, T // 2 + 1, 2])
    how = [(few, 0.6), (timesteps(T, T), 1.0), (few, 0.0), (part, 0.3)]
    return [(w.eps_model, w.eps, ts, eta, w.sch, w.zs) for ts, eta in how]


LOOPS = (
    Mistake(
        "s_is_t_minus_1",
        _walk(pairs=lambda ts: [(t, t - 1) for t in ts[:-1]]),
        "Every step goes down by one level only, and the next one starts far below. A step ends "
        "at the next entry of ts.",
        LOOP,
    ),
    Mistake(
        "visits_every_level",
        _walk(pairs=lambda ts: [(t, t - 1) for t in range(ts[0], ts[-1], -1)]),
        "Every level is visited. ts says which ones are.",
        LOOP,
    ),
    Mistake(
        "last_step_missing",
        _walk(pairs=lambda ts: list(pairwise(ts[:-1]))),
        "The last step is missing: noise is left in the samples.",
        LOOP,
    ),
    Mistake(
        "first_step_missing",
        _walk(pairs=lambda ts: list(pairwise(ts[1:]))),
        "The first step is missing: x_T is taken for the less noisy state after it.",
        LOOP,
    ),
    Mistake(
        "duplicate_last_step",
        _walk(pairs=lambda ts: list(pairwise([*ts, 0]))),
        "A step to 0 is made after the last level. ts ends where sampling ends; from 0 to 0 the "
        "noise scale is 0/0.",
        LOOP,
    ),
    Mistake(
        "network_is_told_s",
        _walk(seen=lambda i, t, s: s),
        "The network is told the level s that the step goes to. What it looks at is x_t.",
        LOOP,
    ),
    Mistake(
        "network_is_told_step_number",
        _walk(seen=lambda i, t, s: i),
        "The network is told the number of the step. It wants the level, an entry of ts.",
        LOOP,
    ),
    Mistake(
        "same_z_every_step",
        _walk(z=lambda i, t, s: -1),
        "Every step adds the same noise. Each has noise of its own, zs[t].",
        LOOP,
    ),
    Mistake(
        "z_by_step_number",
        _walk(z=lambda i, t, s: i),
        "The noise was taken by the number of the step. The step that leaves level t uses zs[t].",
        LOOP,
        credit=0.5,
    ),
    Mistake(
        "z_of_s",
        _walk(z=lambda i, t, s: s),
        "The noise is that of level s. The step that leaves level t uses zs[t].",
        LOOP,
        credit=0.5,
    ),
    Mistake(
        "eps_predicted_once",
        _eps_once,
        "The noise is predicted once, from x_T. Every state is looked at anew.",
        LOOP,
    ),
    Mistake(
        "grad_kept",
        _keeps_grad,
        "The result is right but carries the graph of all steps: sampling without no_grad fills "
        "the memory.",
        LOOP,
        credit=0.5,
    ),
)

DDIM_SAMPLE = Graded(
    "ddim_sample",
    ddim_sample,
    _sample_calls,
    (
        *(
            Mistake(name, _walk(wrong), hint, STEP, credit)
            for name, wrong, hint, credit in WRONG_STEPS + NAN_STEPS
            if name != "s_is_t_minus_1"
        ),
        *LOOPS,
    ),
    (_sample_by_recursion, _sample_in_scaled_space, _sample_with_tables),
    tolerance=1e-4,
)
