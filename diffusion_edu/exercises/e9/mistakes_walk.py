"""E9: the right functions, and the wrong ones that have a name: a walk, and guidance."""

from __future__ import annotations

import torch
from torch import Tensor

from ..spec import Call, Graded, Mistake
from ..world import World

LANGEVIN = "09, Langevin dynamics"
GUIDANCE = "10, Guidance without a classifier"
DROP = "10, One network for both"


# ---- langevin_step -------------------------------------------------------------------------------


def langevin_step(x: Tensor, score: Tensor, step: float, z: Tensor) -> Tensor:
    """x + step score + sqrt(2 step) z, (B, *D)."""
    return x + step * score + (2 * step) ** 0.5 * z


def _walk(drift, noise):  # type: ignore[no-untyped-def]
    """A step with other factors, functions of the step size."""
    return lambda x, score, step, z: x + drift(step) * score + noise(step) * z


LANGEVIN_STEP = Graded(
    "langevin_step",
    langevin_step,
    lambda w: [(w.x0, w.eps, step, w.z) for step in (0.1, 0.7)],
    (
        Mistake(
            "langevin_noise_step_not_sqrt2step",
            _walk(lambda h: h, lambda h: h),
            "The noise has the factor of the score. Variances add up from step to step, so the "
            "noise goes with the root of the step size.",
            LANGEVIN,
        ),
        Mistake(
            "factor_2_missing",
            _walk(lambda h: h, lambda h: h**0.5),
            "A factor 2 is missing under the root: the walk would settle on a density that is too "
            "narrow.",
            LANGEVIN,
            credit=0.25,
        ),
        Mistake(
            "variance_for_std",
            _walk(lambda h: h, lambda h: 2 * h),
            "The noise was multiplied by its variance.",
            LANGEVIN,
            credit=0.25,
        ),
        Mistake(
            "root_of_step_twice",
            _walk(lambda h: h, lambda h: 2 * h**0.5),
            "The 2 stands before the root instead of under it.",
            LANGEVIN,
            credit=0.25,
        ),
        Mistake(
            "half_step",
            _walk(lambda h: h / 2, lambda h: h**0.5),
            "This is the same walk with half the step size, as Song and Ermon count it. Here the "
            "score has the full step.",
            LANGEVIN,
            credit=0.5,
        ),
        Mistake(
            "half_drift",
            _walk(lambda h: h / 2, lambda h: (2 * h) ** 0.5),
            "The score has half a step and the noise that of a full one: two ways of counting are "
            "mixed. The density would be too wide.",
            LANGEVIN,
        ),
        Mistake(
            "minus_score",
            _walk(lambda h: -h, lambda h: (2 * h) ** 0.5),
            "The walk goes down the density, away from the data.",
            LANGEVIN,
        ),
        Mistake(
            "no_noise",
            _walk(lambda h: h, lambda h: 0.0),
            "No noise is added: all points climb to the nearest peak and stay there.",
            LANGEVIN,
        ),
        Mistake(
            "noise_of_variance_1",
            _walk(lambda h: h, lambda h: 1.0),
            "The noise has full strength whatever the step size.",
            LANGEVIN,
        ),
        Mistake(
            "score_not_scaled",
            _walk(lambda h: 1.0, lambda h: (2 * h) ** 0.5),
            "The score has full strength whatever the step size.",
            LANGEVIN,
        ),
        Mistake(
            "x_forgotten",
            lambda x, score, step, z: step * score + (2 * step) ** 0.5 * z,
            "This is the move alone. A step goes on from x.",
            LANGEVIN,
        ),
    ),
    (
        lambda x, score, step, z: torch.addcmul(
            x.add(score, alpha=step), z, torch.tensor((2 * step) ** 0.5, dtype=x.dtype)
        ),
        lambda x, score, step, z: x + (2 * step) ** 0.5 * (z + (step / 2) ** 0.5 * score),
        lambda x, score, step, z: x + step * score + 2**0.5 * torch.tensor(step).sqrt().to(x) * z,
        lambda x, score, step, z: torch.stack(
            [a + step * b + (2 * step) ** 0.5 * c for a, b, c in zip(x, score, z, strict=True)]
        ),
    ),
)


# ---- cfg_eps -------------------------------------------------------------------------------------


def cfg_eps(eps_cond: Tensor, eps_uncond: Tensor, w: float) -> Tensor:
    """eps_uncond + w (eps_cond - eps_uncond): w = 1 is the conditional network."""
    return eps_uncond + w * (eps_cond - eps_uncond)


CFG_EPS = Graded(
    "cfg_eps",
    cfg_eps,
    lambda w: [(w.eps, w.z, weight) for weight in (0.0, 1.0, 2.5)],
    (
        Mistake(
            "cfg_w_convention",
            lambda c, u, w: (1 + w) * c - w * u,
            "This counts w from the conditional network, as the paper does. Here w = 1 is the "
            "conditional network, w = 0 the unconditional one.",
            GUIDANCE,
            credit=0.5,
        ),
        Mistake(
            "cfg_sign",
            lambda c, u, w: u - w * (c - u),
            "The difference has the wrong sign: guidance pushes away from the class.",
            GUIDANCE,
        ),
        Mistake(
            "cfg_arguments_swapped",
            lambda c, u, w: c + w * (u - c),
            "The two predictions are swapped: with w = 1 the class has no effect.",
            GUIDANCE,
        ),
        Mistake(
            "uncond_not_subtracted",
            lambda c, u, w: u + w * c,
            "The conditional prediction is added to the unconditional one. What is amplified is "
            "the difference of both.",
            GUIDANCE,
        ),
        Mistake(
            "uncond_added",
            lambda c, u, w: w * c + (w - 1) * u,
            "The unconditional prediction is added where it has to be subtracted: the factors of "
            "both add up to 1.",
            GUIDANCE,
        ),
        Mistake(
            "uncond_forgotten",
            lambda c, u, w: w * c,
            "The unconditional prediction plays no part: this only makes the noise longer.",
            GUIDANCE,
        ),
        Mistake(
            "difference_only",
            lambda c, u, w: w * (c - u),
            "This is the difference alone. It is added to the unconditional prediction.",
            GUIDANCE,
        ),
        Mistake(
            "w_limited_to_1",
            lambda c, u, w: cfg_eps(c, u, min(w, 1.0)),
            "w is cut at 1. Beyond 1 guidance goes further than the conditional network: that is "
            "what it is for.",
            GUIDANCE,
        ),
    ),
    (
        lambda c, u, w: w * c + (1 - w) * u,
        lambda c, u, w: torch.lerp(u, c, w),
        lambda c, u, w: c + (w - 1) * (c - u),
        lambda c, u, w: torch.tensordot(
            torch.tensor([w, 1 - w], dtype=c.dtype), torch.stack([c, u]), dims=1
        ),
    ),
)


# ---- drop_labels ---------------------------------------------------------------------------------


def drop_labels(y: Tensor, p: float, null: int, u: Tensor) -> Tensor:
    """y (B,), with null where u < p."""
    return torch.where(u < p, null, y)


def _drop_in_a_copy(y: Tensor, p: float, null: int, u: Tensor) -> Tensor:
    out = y.clone()
    out[u < p] = null
    return out


def _drops_in_place(y: Tensor, p: float, null: int, u: Tensor) -> Tensor:
    y[u < p] = null
    return y


def uniforms(w: World) -> Tensor:
    """Numbers in (0, 1), (B,), in any order, none of them close to 0.4."""
    order = torch.randperm(w.batch, generator=torch.Generator().manual_seed(w.seed))
    return (order + 0.5) / w.batch


def _drop_calls(w: World) -> list[Call]:
    y, u = torch.arange(w.batch) % 5 + 1, uniforms(w)
    return [(y, p, null, u) for p, null in ((0.4, 10), (0.0, 10), (1.0, 7), (0.4, -1))]


DROP_LABELS = Graded(
    "drop_labels",
    drop_labels,
    _drop_calls,
    (
        Mistake(
            "drop_keeps_p",
            lambda y, p, null, u: torch.where(u < p, y, null),
            "Labels are kept with probability p and dropped otherwise. p is the probability of "
            "dropping.",
            DROP,
        ),
        Mistake(
            "drops_all_or_none",
            lambda y, p, null, u: torch.where(u[:1] < p, null, y),
            "One number decides for the whole batch. Every label has its own.",
            DROP,
            credit=0.25,
        ),
        Mistake(
            "drops_large_u",
            lambda y, p, null, u: torch.where(u > 1 - p, null, y),
            "Labels with a large u were dropped. That is as likely, but asked for is u < p.",
            DROP,
            credit=0.5,
        ),
        Mistake(
            "null_is_0",
            lambda y, p, null, u: torch.where(u < p, 0, y),
            "Dropped labels became 0, which is a class like others. The null label is passed in.",
            DROP,
            credit=0.25,
        ),
        Mistake(
            "labels_removed",
            lambda y, p, null, u: y[u >= p],
            "The dropped labels are gone, and the rest no longer fits the batch. Put the null "
            "label in their place.",
            DROP,
        ),
        Mistake(
            "nothing_dropped",
            lambda y, p, null, u: y,
            "Nothing is dropped: the network would never learn to do without a label.",
            DROP,
        ),
        Mistake(
            "in_place_edit_of_y",
            _drops_in_place,
            "The result is right, but the y that was passed in is changed too: in the next epoch "
            "its labels are gone.",
            DROP,
            credit=0.5,
        ),
    ),
    (
        _drop_in_a_copy,
        lambda y, p, null, u: y.masked_fill(u < p, null),
        lambda y, p, null, u: torch.tensor(
            [null if a < p else b for a, b in zip(u.tolist(), y.tolist(), strict=True)]
        ),
        lambda y, p, null, u: y * (u >= p) + null * (u < p),
    ),
)


# ---- find the bug --------------------------------------------------------------------------------


def context_mask(u: Tensor, p: float) -> Tensor:
    """Factor of the class vectors, (B, 1): 0 where u < p, where the class is dropped, else 1."""
    return (u >= p).to(u)[:, None]


CONTEXT_MASK = Graded(
    "context_mask",
    context_mask,
    lambda w: [(uniforms(w), p) for p in (0.4, 0.0, 1.0)],
    (
        Mistake(
            "kept_is_minus_1",
            lambda u, p: -context_mask(u, p),
            "Kept classes are multiplied by -1. 1 leaves them as they are.",
            DROP,
        ),
        Mistake(
            "mask_inverted",
            lambda u, p: 1 - context_mask(u, p),
            "The mask is 1 where the class is dropped, and 0 where it is kept: it is turned round.",
            DROP,
        ),
        Mistake(
            "one_for_all",
            lambda u, p: context_mask(u[:1].expand(len(u)), p),
            "One number decides for the whole batch. Every example has its own.",
            DROP,
            credit=0.25,
        ),
        Mistake(
            "not_a_column",
            lambda u, p: context_mask(u, p)[:, 0],
            "The mask has the shape (B,). To multiply rows it needs (B, 1).",
            DROP,
            credit=0.5,
        ),
        Mistake(
            "not_floats",
            lambda u, p: context_mask(u, p) > 0,
            "The mask holds truth values or integers. Floats are wanted.",
            DROP,
            credit=0.5,
        ),
        Mistake(
            "dropped_is_minus_1",
            lambda u, p: 2 * context_mask(u, p) - 1,
            "Dropped classes are multiplied by -1. 0 makes them vanish.",
            DROP,
        ),
        Mistake(
            "drops_large_u",
            lambda u, p: (u <= 1 - p).to(u)[:, None],
            "Classes with a large u were dropped. That is as likely, but asked for is u < p.",
            DROP,
            credit=0.5,
        ),
    ),
    (
        lambda u, p: 1 - (u < p).float().view(-1, 1),
        lambda u, p: torch.where(u < p, 0.0, 1.0).unsqueeze(1),
        lambda u, p: torch.tensor([[0.0 if a < p else 1.0] for a in u.tolist()]),
        lambda u, p: torch.ones_like(u).masked_fill(u < p, 0).reshape(len(u), 1),
    ),
    bug="kept_is_minus_1",
)
