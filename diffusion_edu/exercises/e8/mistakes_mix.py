"""E8: the right function, and the wrong ones that have a name: mixing on an arc."""

from __future__ import annotations

import torch
from torch import Tensor

from ..forms import view
from ..spec import Call, Graded, Mistake
from ..world import World

ARC = "08, Mixing latents"
FAR = 0.98  # |cos| of two vectors that are neither parallel nor opposite


# ---- slerp ---------------------------------------------------------------------------------------


def slerp(a: Tensor, b: Tensor, lam: float) -> Tensor:
    """sin((1-lam) u)/sin(u) a + sin(lam u)/sin(u) b: DDIM (2010.02502) eq. 67."""
    return _turn(a, b, lam, _angle(a, b))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of the angle between a and b of each example, (B,)."""
    u, v = a.flatten(1), b.flatten(1)
    return (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1))


def _angle(a: Tensor, b: Tensor) -> Tensor:
    return view(cosine(a, b).clamp(-1, 1).acos(), a)


def _turn(a: Tensor, b: Tensor, lam: float, angle: Tensor) -> Tensor:
    sin = angle.sin()
    flat = sin < 1e-4
    safe = torch.where(flat, 1.0, sin)
    on_a = torch.where(flat, 1 - lam, ((1 - lam) * angle).sin() / safe)
    on_b = torch.where(flat, lam, (lam * angle).sin() / safe)
    return on_a * a + on_b * b


def _slerp_by_angle_kept_off_0(a: Tensor, b: Tensor, lam: float) -> Tensor:
    u, v = (torch.nn.functional.normalize(x.flatten(1), dim=1) for x in (a, b))
    angle = view(torch.einsum("bd,bd->b", u, v).clamp(-1 + 1e-6, 1 - 1e-6).arccos(), a)
    on_a, on_b = torch.sin((1 - lam) * angle), torch.sin(lam * angle)
    return (on_a * a + on_b * b) / torch.sin(angle)


def slerp_one_by_one(a: Tensor, b: Tensor, lam: float) -> Tensor:
    """As slerp, in a loop."""
    rows = []
    for x, y in zip(a, b, strict=True):
        cos = (x * y).sum() / (x.square().sum() * y.square().sum()) ** 0.5
        if cos.abs() > 0.9995:
            rows.append(torch.lerp(x, y, lam))
        else:
            angle = torch.acos(cos)
            rows.append(x * torch.sin(angle - lam * angle) + y * torch.sin(lam * angle))
            rows[-1] = rows[-1] / torch.sin(angle)
    return torch.stack(rows)


def _slerp_in_the_plane(a: Tensor, b: Tensor, lam: float) -> Tensor:
    # Unit vectors: e = a/|a|, f at a right angle to it. The unit vector of b is cos e + sin f.
    na, nb = (view(x.flatten(1).norm(dim=1), a) for x in (a, b))
    e, cos = a / na, view(cosine(a, b), a)
    f = b / nb - cos * e
    sin = view(f.flatten(1).norm(dim=1), a)
    angle = torch.atan2(sin, cos)
    f = f / sin.clamp(min=1e-12)
    end = angle.cos() * e + angle.sin() * f
    linear = (1 - lam) * a + lam * b
    mixed = ((1 - lam) * angle).sin() * na * e + (lam * angle).sin() * nb * end
    return torch.where(sin > 1e-4, mixed / sin.clamp(min=1e-12), linear)


def lerp(a: Tensor, b: Tensor, lam: float) -> Tensor:
    """On the straight line from a to b."""
    return (1 - lam) * a + lam * b


def slerp_over_batch(a: Tensor, b: Tensor, lam: float) -> Tensor:
    """With one angle for all examples."""
    cos = (a * b).sum() / (a.norm() * b.norm())
    return _turn(a, b, lam, cos.clamp(-1, 1).acos().view(1, *[1] * (a.ndim - 1)))


def _no_fallback(a: Tensor, b: Tensor, lam: float) -> Tensor:
    angle = _angle(a, b)
    return (((1 - lam) * angle).sin() * a + (lam * angle).sin() * b) / angle.sin()


def _parallel_vanish(a: Tensor, b: Tensor, lam: float) -> Tensor:
    angle = _angle(a, b)
    return (((1 - lam) * angle).sin() * a + (lam * angle).sin() * b) / (angle.sin() + 1e-8)


def _any_parallel_makes_linear(a: Tensor, b: Tensor, lam: float) -> Tensor:
    return lerp(a, b, lam) if (_angle(a, b).sin() < 1e-4).any() else slerp(a, b, lam)


def _parallel_gives_a(a: Tensor, b: Tensor, lam: float) -> Tensor:
    return torch.where(_angle(a, b).sin() < 1e-4, a, slerp(a, b, lam))


def _along_last_axis(a: Tensor, b: Tensor, lam: float) -> Tensor:
    norms = a.norm(dim=-1, keepdim=True) * b.norm(dim=-1, keepdim=True)
    cos = (a * b).sum(-1, keepdim=True) / norms
    return _turn(a, b, lam, cos.clamp(-1, 1).acos())


def _of_unit_vectors(a: Tensor, b: Tensor, lam: float) -> Tensor:
    u, v = (x / view(x.flatten(1).norm(dim=1), x) for x in (a, b))
    return slerp(u, v, lam)


def _not_divided(a: Tensor, b: Tensor, lam: float) -> Tensor:
    angle = _angle(a, b)
    return torch.where(
        angle.sin() < 1e-4,
        lerp(a, b, lam),
        ((1 - lam) * angle).sin() * a + (lam * angle).sin() * b,
    )


def apart(a: Tensor, b: Tensor) -> bool:
    """No pair is nearly parallel or opposite: there slerp is sensitive to rounding."""
    return bool((cosine(a, b).abs() < FAR).all())


def _slerp_calls(w: World) -> list[Call]:
    draws = ((w.x0, w.more(*w.x0.shape, draw=k)) for k in range(1, 1000))
    a, b = next((a, b) for a, b in draws if apart(a, b))
    # The same with a parallel pair, whose cosine is 1 without any rounding.
    c, d = a.clone(), b.clone()
    c[0], d[0] = 0, 0
    c[0].view(-1)[0], d[0].view(-1)[0] = 2, 4
    return [(a, b, 0.7), (c, d, 0.25)]


SLERP = Graded(
    "slerp",
    slerp,
    _slerp_calls,
    (
        Mistake(
            "lerp_for_slerp",
            lerp,
            "The mix lies on the straight line, so it is shorter than both ends. The network has "
            "never seen such noise.",
            ARC,
        ),
        Mistake(
            "slerp_over_batch",
            slerp_over_batch,
            "There is one angle for the whole batch. Every example has an angle of its own.",
            ARC,
            credit=0.25,
        ),
        Mistake(
            "slerp_no_fallback_parallel",
            _no_fallback,
            "Parallel vectors have the angle 0 and give 0/0. The limit is the straight line.",
            ARC,
            credit=0.5,
        ),
        Mistake(
            "parallel_pair_vanishes",
            _parallel_vanish,
            "A small number below the line keeps 0/0 away, but parallel vectors give 0 then. The "
            "limit is the straight line.",
            ARC,
            credit=0.5,
        ),
        Mistake(
            "one_parallel_pair_makes_all_linear",
            _any_parallel_makes_linear,
            "One parallel pair in the batch makes all others linear too. Decide for every example.",
            ARC,
            credit=0.5,
        ),
        Mistake(
            "parallel_pair_gives_a",
            _parallel_gives_a,
            "Parallel vectors give a, whatever lam is. They can differ in length: the limit is the "
            "straight line.",
            ARC,
            credit=0.5,
        ),
        Mistake(
            "lambda_reversed",
            lambda a, b, lam: slerp(b, a, lam),
            "lam = 0 gives b. It is to give a.",
            ARC,
            credit=0.25,
        ),
        Mistake(
            "slerp_along_last_axis",
            _along_last_axis,
            "Every row of an image has an angle of its own. The angle is that of whole images: "
            "flatten them first.",
            ARC,
            credit=0.25,
        ),
        Mistake(
            "cosine_for_angle",
            lambda a, b, lam: _turn(a, b, lam, view(cosine(a, b), a)),
            "The cosine was taken for the angle.",
            ARC,
        ),
        Mistake(
            "not_divided_by_sine",
            _not_divided,
            "The factors are not divided by the sine of the angle: lam = 0 does not give a.",
            ARC,
        ),
        Mistake(
            "unit_vectors_mixed",
            _of_unit_vectors,
            "a and b were divided by their lengths, and so the mix has length 1. Only the angle "
            "is found with unit vectors.",
            ARC,
            credit=0.25,
        ),
        Mistake(
            "line_over_root_of_squares",
            lambda a, b, lam: lerp(a, b, lam) / ((1 - lam) ** 2 + lam**2) ** 0.5,
            "The straight line was stretched, which keeps the variance of independent noise. It "
            "is another path than slerp, and wrong for vectors that are not at right angles.",
            ARC,
        ),
    ),
    (_slerp_by_angle_kept_off_0, slerp_one_by_one, _slerp_in_the_plane),
)
