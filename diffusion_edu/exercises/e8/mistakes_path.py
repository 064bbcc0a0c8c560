"""E8: the right function, and the wrong ones that have a name: a path between two examples."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ..spec import Call, Graded, Mistake
from ..stubs import EpsModel, Sch
from ..world import World
from .mistakes import ddim_invert, grid, invert_told_0, invert_told_t, move, walk_down
from .mistakes_mix import apart, lerp, slerp, slerp_one_by_one, slerp_over_batch

MIX = "08, A path through the data"


# ---- interpolate ---------------------------------------------------------------------------------


def interpolate(
    eps_model: EpsModel,
    xa: Tensor,
    xb: Tensor,
    lams: tuple[float, ...],
    ts: Tensor,
    sch: Sch,
) -> Tensor:
    """Invert both, mix their latents by slerp, sample with eta = 0: DDIM sec. 5.3. (L, B, *D)."""
    a, b = (ddim_invert(eps_model, x, ts, sch) for x in (xa, xb))
    return torch.stack([walk_down(eps_model, slerp(a, b, lam), ts, sch) for lam in lams])


def _all_together(eps_model, xa, xb, lams, ts, sch):  # type: ignore[no-untyped-def]
    latents = ddim_invert(eps_model, torch.cat([xa, xb]), ts, sch)
    a, b = latents[: len(xa)], latents[len(xa) :]
    mixed = torch.cat([slerp_one_by_one(a, b, lam) for lam in lams])
    return walk_down(eps_model, mixed, ts, sch).view(len(lams), *xa.shape)


def _example_by_example(eps_model, xa, xb, lams, ts, sch):  # type: ignore[no-untyped-def]
    rows = [
        interpolate(eps_model, xa[i : i + 1], xb[i : i + 1], lams, ts, sch) for i in range(len(xa))
    ]
    return torch.cat(rows, 1)


def _from_b_to_a(eps_model, xa, xb, lams, ts, sch):  # type: ignore[no-untyped-def]
    other = tuple(1 - lam for lam in lams)
    return interpolate(eps_model, xb, xa, other, ts, sch)


def _path(mix=slerp, up=ddim_invert, down=walk_down):  # type: ignore[no-untyped-def]
    """An interpolation with other parts: of latents, and of the ways up and down."""

    def path(eps_model, xa, xb, lams, ts, sch):  # type: ignore[no-untyped-def]
        a, b = (up(eps_model, x, ts, sch) for x in (xa, xb))
        return torch.stack([down(eps_model, mix(a, b, lam), ts, sch) for lam in lams])

    return path


def _stay(eps_model: EpsModel, x: Tensor, ts: Tensor, sch: Sch) -> Tensor:
    return x


def _mixed_before(eps_model, xa, xb, lams, ts, sch):  # type: ignore[no-untyped-def]
    latents = (ddim_invert(eps_model, lerp(xa, xb, lam), ts, sch) for lam in lams)
    return torch.stack([walk_down(eps_model, x, ts, sch) for x in latents])


def _down_with_grad(eps_model, x, ts, sch):  # type: ignore[no-untyped-def]
    for t, s in pairwise(ts.tolist()):
        x = move(eps_model, x, t, s, sch)
    return x


def _told_s_on_the_way_down(eps_model, x, ts, sch):  # type: ignore[no-untyped-def]
    with torch.no_grad():
        for t, s in pairwise(ts.tolist()):
            x = move(eps_model, x, t, s, sch, told=s)
    return x


def _interpolate_calls(w: World) -> list[Call]:
    ts, few = grid(w.sch.T, 3), min(w.batch, 4)
    xa = w.x0[:few]
    latent = ddim_invert(w.eps_model, xa, ts, w.sch)
    draws = (0.5 + w.more(*xa.shape, draw=k) for k in range(1, 1000))
    xb = next(x for x in draws if apart(latent, ddim_invert(w.eps_model, x, ts, w.sch)))
    return [(w.eps_model, xa, xb, (0.0, 0.3, 0.6), ts, w.sch)]


INTERPOLATE = Graded(
    "interpolate",
    interpolate,
    _interpolate_calls,
    (
        Mistake(
            "interpolates_pixels",
            _path(lerp, _stay, _stay),
            "The data themselves are mixed: one picture fades into the other. Mix the noise that "
            "they come from.",
            MIX,
        ),
        Mistake(
            "pixels_mixed_by_slerp",
            _path(slerp, _stay, _stay),
            "The data themselves are mixed, on an arc. Mix the noise that they come from.",
            MIX,
        ),
        Mistake(
            "mixed_before_inversion",
            _mixed_before,
            "The data were mixed, and the mix went up and down again. First go up with both, then "
            "mix.",
            MIX,
        ),
        Mistake(
            "not_inverted",
            _path(up=_stay),
            "The data were taken for latents. First find the noise that they come from.",
            MIX,
        ),
        Mistake(
            "latents_returned",
            _path(down=_stay),
            "The latents are mixed but not decoded: sample from them.",
            MIX,
            credit=0.25,
        ),
        Mistake(
            "lerp_for_slerp",
            _path(lerp),
            "The latents are mixed on the straight line and become too short for the network.",
            MIX,
            credit=0.25,
        ),
        Mistake(
            "slerp_over_batch",
            _path(slerp_over_batch),
            "There is one angle for the whole batch. Every example has an angle of its own.",
            MIX,
            credit=0.25,
        ),
        Mistake(
            "lambda_reversed",
            _path(lambda a, b, lam: slerp(b, a, lam)),
            "lam = 0 leads to b. It is to lead to a.",
            MIX,
            credit=0.25,
        ),
        Mistake(
            "sampling_not_inversion",
            _path(up=walk_down),
            "On the way up the levels were walked downwards, which is sampling.",
            MIX,
        ),
        Mistake(
            "samples_upwards",
            _path(down=ddim_invert),
            "The mixed latents went up once more instead of down to data.",
            MIX,
        ),
        Mistake(
            "eps_at_wrong_time",
            _path(up=invert_told_t),
            "On the way up the network is told the level that a step goes to. What it looks at is "
            "x_s.",
            MIX,
            credit=0.25,
        ),
        Mistake(
            "eps_at_wrong_time_down",
            _path(down=_told_s_on_the_way_down),
            "On the way down the network is told the level that a step goes to. What it looks at "
            "is x_t.",
            MIX,
            credit=0.25,
        ),
        Mistake(
            "network_is_told_0",
            _path(up=invert_told_0),
            "On the way up the network is told level 0, which it has never seen. For clean data "
            "it is told 1.",
            MIX,
            credit=0.5,
        ),
        Mistake(
            "batch_before_lambda",
            lambda *args: interpolate(*args).transpose(0, 1),
            "The batch comes first. Wanted is (L, B, ...): one batch for every lam.",
            MIX,
            credit=0.5,
        ),
        Mistake(
            "grad_kept",
            _path(down=_down_with_grad),
            "The result is right but carries the graph of all steps: work under no_grad.",
            MIX,
            credit=0.5,
        ),
    ),
    (_all_together, _example_by_example, _from_b_to_a),
    tolerance=1e-4,
)
