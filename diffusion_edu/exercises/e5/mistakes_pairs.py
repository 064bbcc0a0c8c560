"""E5: the right functions, and the wrong ones that have a name: what a network is trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from ..forms import at, view
from ..spec import Call, Graded, Mistake
from ..stubs import Sch
from ..world import World
from .mistakes import DRAWS, jump, jump_with_variance

PAIR = "05, What goes in and what comes out"
V = "05, Noise, data, or v"


# ---- draw_t --------------------------------------------------------------------------------------


def draw_t(u: Tensor, T: int) -> Tensor:
    """1 + floor(u T), (B,) int64: uniform on 1..T for u uniform on [0, 1)."""
    return (u * T).floor().long() + 1


def _by_counting(u: Tensor, T: int) -> Tensor:
    edges = torch.arange(1, T, dtype=torch.float64) / T
    return 1 + (u[:, None] >= edges).sum(1)


def _by_bucket(u: Tensor, T: int) -> Tensor:
    edges = torch.arange(T, dtype=u.dtype) / T
    return torch.bucketize(u, edges, right=True)


def _draws(u: Tensor, T: int) -> list[Call]:
    return [(u, T), (torch.cat([torch.zeros(1), u.flip(0)]), T)]


def _draw_calls(w: World) -> list[Call]:
    # Well inside the T parts of [0, 1), so that rounding decides nothing; and once u = 0.
    inside = 0.2 + 0.6 * w.more(w.batch).sigmoid()
    evenly = (torch.arange(12) + 0.3) / 12
    return _draws((w.t - 1 + inside) / w.sch.T, w.sch.T) + _draws(evenly, 4)


DRAW_T = Graded(
    "draw_t",
    draw_t,
    _draw_calls,
    (
        Mistake(
            "t_excludes_T",
            lambda u, T: (u * (T - 1)).floor().long() + 1,
            "T itself never comes out. The network would not be trained on the level at which "
            "sampling begins.",
            DRAWS,
        ),
        Mistake(
            "t_0_to_T_minus_1",
            lambda u, T: (u * T).floor().long(),
            "The draws run from 0 to T - 1. At t = 0 there is no noise to see, and T is left out.",
            DRAWS,
        ),
        Mistake(
            "t_includes_0",
            lambda u, T: (u * (T + 1)).floor().long(),
            "The draws run from 0 to T. At t = 0 there is no noise to see.",
            DRAWS,
        ),
        Mistake(
            "t_beyond_T",
            lambda u, T: (u * (T + 1)).floor().long() + 1,
            "T + 1 comes out as well, a level that no table has.",
            DRAWS,
        ),
        Mistake(
            "rounded_ends_half_as_often",
            lambda u, T: (u * (T - 1)).round().long() + 1,
            "All of 1..T can come out, but 1 and T only half as often as the others: numbers "
            "were rounded to the nearest.",
            DRAWS,
            credit=0.25,
        ),
        Mistake(
            "ceil_gives_0_at_u_0",
            lambda u, T: (u * T).ceil().long(),
            "This is right but for u = 0, which can be drawn: there it gives t = 0.",
            DRAWS,
            credit=0.8,
        ),
        Mistake(
            "no_whole_number",
            lambda u, T: (u * T).floor() + 1,
            "The values are right, but they are floats. Tables are indexed with int64.",
            DRAWS,
            credit=0.5,
        ),
    ),
    (
        lambda u, T: 1 + (u * T).long(),
        lambda u, T: torch.tensor([int(x * T) + 1 for x in u.tolist()]),
        _by_counting,
        _by_bucket,
    ),
    bug="t_excludes_T",
)


# ---- train_pair ----------------------------------------------------------------------------------


def train_pair(
    x0: Tensor, t: Tensor, eps: Tensor, other: Tensor, sch: Sch
) -> tuple[Tensor, Tensor]:
    """x_t, and the noise eps in it; ``other`` is not needed."""
    return jump(x0, t, eps, sch), eps


def _pair_by_einsum(
    x0: Tensor, t: Tensor, eps: Tensor, other: Tensor, sch: Sch
) -> tuple[Tensor, Tensor]:
    bar = sch.alpha_bar[t]
    pairs = ((bar.sqrt(), x0), ((1 - bar).sqrt(), eps))
    xt = torch.stack([torch.einsum("b,b...->b...", c, x) for c, x in pairs]).sum(0)
    return xt, eps.clone()


def _pair_one_by_one(x0: Tensor, t: Tensor, eps: Tensor, other: Tensor, sch: Sch) -> list[Tensor]:
    xt = [sch.alpha_bar[k] ** 0.5 * x + (1 - sch.alpha_bar[k]) ** 0.5 * e
          for k, x, e in zip(t.tolist(), x0, eps, strict=True)]  # fmt: skip
    return [torch.stack(xt), eps]


def _pair_solved(
    x0: Tensor, t: Tensor, eps: Tensor, other: Tensor, sch: Sch
) -> tuple[Tensor, Tensor]:
    # The target as what is in x_t besides the data.
    xt, bar = jump(x0, t, eps, sch), at(sch.alpha_bar, t, x0)
    return xt, (xt - bar.sqrt() * x0) / (1 - bar).sqrt()


TRAIN_PAIR = Graded(
    "train_pair",
    train_pair,
    lambda w: [(w.x0, w.t, w.eps, w.z, w.sch)],
    (
        Mistake(
            "fresh_noise_as_target",
            lambda x0, t, eps, other, sch: (jump(x0, t, eps, sch), other),
            "The target is other noise than that in x_t. Nobody can guess it: the best network "
            "says 0, and the loss stays at 1.",
            PAIR,
        ),
        Mistake(
            "fresh_noise_in_x_t",
            lambda x0, t, eps, other, sch: (jump(x0, t, other, sch), eps),
            "x_t was made with other noise than the target. Nobody can guess a target that is "
            "not in x_t.",
            PAIR,
        ),
        Mistake(
            "other_noise_in_both",
            lambda x0, t, eps, other, sch: (jump(x0, t, other, sch), other),
            "x_t and target belong together, but both have the noise `other`; `eps` was meant.",
            PAIR,
            credit=0.5,
        ),
        Mistake(
            "scaled_noise_as_target",
            lambda x0, t, eps, other, sch: (
                jump(x0, t, eps, sch),
                (1 - at(sch.alpha_bar, t, x0)).sqrt() * eps,
            ),
            "The target is the noise as it stands in x_t, made smaller. The network predicts "
            "noise of variance 1, whatever t is.",
            PAIR,
            credit=0.25,
        ),
        Mistake(
            "x0_as_target",
            lambda x0, t, eps, other, sch: (jump(x0, t, eps, sch), x0),
            "The target is the clean data. Here the network predicts noise.",
            PAIR,
        ),
        Mistake(
            "pair_swapped",
            lambda x0, t, eps, other, sch: (eps, jump(x0, t, eps, sch)),
            "The two results are in the wrong order: x_t comes first, then the target.",
            PAIR,
            credit=0.5,
        ),
        Mistake(
            "var_for_std",
            lambda x0, t, eps, other, sch: (jump_with_variance(x0, t, eps, sch), eps),
            "In x_t the noise is multiplied by its variance. The factor is a standard deviation.",
            PAIR,
            credit=0.25,
        ),
    ),
    (_pair_by_einsum, _pair_one_by_one, _pair_solved),
    bug="fresh_noise_as_target",
)


# ---- v_target ------------------------------------------------------------------------------------


def v_target(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    """sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x0: Salimans & Ho (2202.00512) sec. 4."""
    bar = at(sch.alpha_bar, t, x0)
    return bar.sqrt() * eps - (1 - bar).sqrt() * x0


def _v_by_angle(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    # x_t = cos(phi) x0 + sin(phi) eps, and v is its derivative with respect to phi.
    phi = view(sch.alpha_bar[t].sqrt().acos(), x0)
    return phi.cos() * eps - phi.sin() * x0


def _v_one_by_one(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    out = torch.empty_like(x0)
    for i, k in enumerate(t):
        bar = float(sch.alpha_bar[k])
        out[i] = bar**0.5 * eps[i] - (1 - bar) ** 0.5 * x0[i]
    return out


def _v_from_x_t(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    bar = at(sch.alpha_bar, t, x0)
    return (eps - (1 - bar).sqrt() * jump(x0, t, eps, sch)) / bar.sqrt()


def _v(form):  # type: ignore[no-untyped-def]
    """v by another formula of (x0, eps, bar)."""
    return lambda x0, t, eps, sch: form(x0, eps, at(sch.alpha_bar, t, x0))


V_TARGET = Graded(
    "v_target",
    v_target,
    lambda w: [(w.x0, w.t, w.eps, w.sch)],
    (
        Mistake(
            "swapped_coefficients",
            _v(lambda x0, eps, bar: (1 - bar).sqrt() * eps - bar.sqrt() * x0),
            "The two coefficients are swapped. Where there is little noise, v is nearly eps: "
            "there x0 can be seen anyway.",
            V,
        ),
        Mistake(
            "sign_reversed",
            _v(lambda x0, eps, bar: (1 - bar).sqrt() * x0 - bar.sqrt() * eps),
            "Everything has the opposite sign.",
            V,
            credit=0.25,
        ),
        Mistake(
            "plus_x0",
            _v(lambda x0, eps, bar: bar.sqrt() * eps + (1 - bar).sqrt() * x0),
            "The two parts were added. v is at a right angle to x_t, so one sign is a minus.",
            V,
        ),
        Mistake(
            "is_x_t",
            jump,
            "This is x_t itself: x0 and eps have the coefficients of the jump.",
            V,
        ),
        Mistake(
            "no_sqrt",
            _v(lambda x0, eps, bar: bar * eps - (1 - bar) * x0),
            "Square roots are missing: the squares of the two coefficients add up to 1.",
            V,
            credit=0.25,
        ),
        Mistake(
            "eps_minus_x0",
            _v(lambda x0, eps, bar: eps - x0),
            "This is the velocity on a straight line from x0 to eps, that of flow matching. "
            "Here both have a coefficient that depends on t.",
            V,
        ),
        Mistake(
            "alpha_for_alpha_bar",
            lambda x0, t, eps, sch: v_target(
                x0, t, eps, Sch(sch.beta, sch.alpha, sch.alpha, sch.T)
            ),
            "alpha belongs to one step. Between x0 and x_t there are t of them: alpha_bar.",
            V,
        ),
        Mistake(
            "off_by_one_early",
            lambda x0, t, eps, sch: v_target(x0, t - 1, eps, sch),
            "alpha_bar of t - 1 was used. Tables are indexed by t itself.",
            V,
        ),
        Mistake(
            "scalar_t",
            lambda x0, t, eps, sch: v_target(x0, t[:1].expand(len(t)), eps, sch),
            "The first t is used for the whole batch. Every example has a t of its own.",
            DRAWS,
        ),
        Mistake(
            "wrong_axis_broadcast",
            lambda x0, t, eps, sch: (
                sch.alpha_bar[t].sqrt() * eps - (1 - sch.alpha_bar[t]).sqrt() * x0
            ),
            "Coefficients of shape (B,) were multiplied along the last axis. They belong to the "
            "first: give them the shape (B, 1, ...).",
            DRAWS,
        ),
    ),
    (_v_by_angle, _v_one_by_one, _v_from_x_t),
)
