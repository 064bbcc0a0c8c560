r"""From noise to data: which levels to visit, the one reverse step, and samplers built on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ._checks import (
    Time,
    check_choice,
    check_clip,
    check_count,
    check_float,
    check_heads,
    check_same_shape,
    check_time,
)
from .forward import q_sample
from .gaussian import Noise, precise, shared_noise, standard_normal
from .posterior import ddim_sigma, direction_weight
from .prediction import Kind, Model, batch_time, between, check_kind, eps_and_x0, mix, predict
from .schedules import Schedule, at, lookup, per_example
from .spacing import Spacing, levels_of, timesteps

__all__ = [
    "Noise",
    "Step",
    "ddim",
    "ddpm",
    "from_frozen",
    "interpolate",
    "interpolate_ddpm",
    "invert",
    "progressive_x0",
    "reconstruct",
    "reverse_step",
    "sample",
    "shared_noise",
    "slerp",
    "timesteps",
]

Variance = Literal["eta", "large", "learned"]


class Step(NamedTuple):
    """One step of a sampler, from level t to level s: s < t in sampling, s > t in inversion."""

    t: int
    s: int
    x_t: Tensor  # (B, *D), the state before the step
    eps: Tensor  # the predicted noise in x_t ...
    x0: Tensor  # ... and the predicted clean data, always a consistent pair
    x_s: Tensor  # the state after the step


def reverse_step(
    x0: Tensor,
    eps: Tensor,
    t: Time,
    s: Time,
    schedule: Schedule,
    *,
    eta: float = 0.0,
    variance: Variance = "eta",
    z: Tensor | None = None,
) -> Tensor:
    r"""The one reverse step, from level t to any level s < t: DDIM (2010.02502) eq. 12.

    x_s = sqrt(alpha_bar_s) x0 + sqrt(1 - alpha_bar_s - sigma^2) eps + std z
    sigma = ddim_sigma(t, s, eta)

    variance="eta":    std = sigma.  eta = 0 is DDIM, eta = 1 is DDPM with beta_tilde.
    variance="large":  std = sqrt(1 - alpha_bar_t/alpha_bar_s), DDIM's sigma-hat, with the mean of
                       eta = 1 whatever eta is; for s = t-1 DDPM with beta_t (DDPM eq. 11).

    No noise is added by the last step (s = 0), whatever the variance. Returns x_s (B, *D).

    Args:
        x0, eps: (B, *D), the prediction at x_t = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) eps.
        t, s: int or (B,) int64 with 0 <= s < t <= T.
        z: (B, *D) standard normal; needed when the step is random and s > 0.
    """
    check_same_shape(x0=x0, eps=eps)
    check_choice(variance, ("eta", "large"), "variance")
    check_time(t, 1, schedule.T, batch=len(x0))
    check_time(s, 0, schedule.T, batch=len(x0), name="s")
    signal, direction, std, _ = _step_coefficients(t, s, schedule, eta, variance)
    mean = per_example(signal, x0) * x0 + per_example(direction, x0) * eps
    if not std.any():
        return mean
    if z is None:
        how = f"eta={eta}, variance={variance!r}"
        raise ValueError(f"z must be given: a step with {how} is random; use torch.randn_like(x0)")
    check_same_shape(x0=x0, z=z)
    return mean + per_example(std, x0) * z


def _step_coefficients(
    t: Time, s: Time, schedule: Schedule, eta: float, variance: Variance
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The factors of x0, eps and z in the step t -> s, in float64, and sigma."""
    check_choice(variance, get_args(Variance), "variance")
    sigma = ddim_sigma(t, s, eta if variance == "eta" else 1.0, schedule)
    ab_t, ab_s = lookup(schedule.alpha_bar, t), lookup(schedule.alpha_bar, s)
    std = sigma if variance == "eta" else (1 - ab_t / ab_s).sqrt()
    std = torch.where(ab_s < 1, std, 0.0)  # no noise on the step to level 0
    return ab_s.sqrt(), direction_weight(s, sigma, schedule), std, sigma


@torch.no_grad()  # on the generator itself: a `with` around a yield would reach into the caller
def sample(
    model: Model,
    x_T: Tensor,
    schedule: Schedule,
    taus: Tensor | Sequence[int] | int | None = None,
    *,
    eta: float = 0.0,
    variance: Variance = "eta",
    clip: float | tuple[float, float] | None = None,
    kind: Kind = "eps",
    generator: torch.Generator | None = None,
    noise: Noise | None = None,
) -> Iterator[Step]:
    r"""Walk from x_T down the levels ``taus``, yielding a ``Step`` after each move (see ``walk``).

    Args:
        model: network or oracle, called as model(x_t, t) with t (B,) int64 in 1..T.
        x_T: (B, *D), the state at level taus[0] (standard normal noise when that is T).
        taus: strictly decreasing levels, e.g. from ``timesteps``; an int is that many uniform
            steps; None is all T steps. The first may lie below T, the last above 0.
        eta, variance: see ``reverse_step``. "learned" is for models with 2C channels, a prediction
            and v (see ``learned_variance``): std is sigma at v = -1, that of "large" at v = 1.
        clip: bounds of x0, or c for [-c, c]: 1 for images, None for data without bounds.
        kind: what the model predicts.
        generator, noise: where the z of random steps come from: drawn with ``generator``, or
            noise(i, like) for step i = 0, 1, ... (see ``shared_noise``).

    Raises:
        ValueError: at the first step, for levels that are not strictly decreasing in 0..T, shapes
            that do not match, or eps prediction where alpha_bar_t = 0.
    """
    check_float(x_T=x_T)
    levels, bounds = levels_of(taus, schedule.T), check_clip(clip)
    rates = _rates(levels, schedule, kind, eta, variance)
    draw = noise or (lambda i, like: standard_normal(like, generator))
    yield from walk(model, x_T, levels, rates, kind, bounds, variance == "learned", draw)


def _rates(
    levels: list[int], schedule: Schedule, kind: Kind, eta: float, variance: Variance
) -> list[list[float]]:
    """The six numbers of every step, in float64 and all at once: the loop is left with tensors."""
    t, s = torch.tensor(list(pairwise(levels))).T
    check_kind(kind, t, schedule)
    rates = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
    return torch.stack([*rates, *_step_coefficients(t, s, schedule, eta, variance)], 1).tolist()


def walk(
    model: Model,
    x: Tensor,
    levels: list[int],
    rates: list[list[float]],
    kind: Kind,
    bounds: tuple[float, float] | None,
    learned: bool,
    noise: Noise,
) -> Iterator[Step]:
    """The loop of ``sample``: predict eps and x0, clip, step."""
    times = torch.tensor(levels, device=x.device)[:, None].expand(-1, len(x)).unbind()
    for i, (t, s) in enumerate(pairwise(levels)):
        a, b, on_x0, on_eps, std, sigma = rates[i]
        output, v = model(x, times[i]), None
        if learned:
            output, v = check_heads(output, x)
        check_same_shape(x_t=x, output=output)
        eps, x0 = eps_and_x0(kind, output.to(x.dtype), x, a, b)  # autocast's may be half as precise
        if bounds is not None:  # clamping x0 alone would break x_t = a x0 + b eps
            eps, x0 = eps_and_x0("x0", x0.clamp(*bounds), x, a, b)
        x_s = mix(on_x0, x0, on_eps, eps)
        if std > 0:
            z = noise(i, x)
            check_same_shape(x_t=x, z=z)
            x_s = x_s + (std if v is None else between(sigma, std, v)) * z
        yield Step(t, s, x, eps, x0, x_s)
        x = x_s


# ---- the samplers by their papers' names --------------------------------------------------------


def ddpm(
    model: Model,
    x_T: Tensor,
    schedule: Schedule,
    steps: int | None = None,
    sigma2: Literal["beta", "beta_tilde"] = "beta",
    **options: Any,
) -> Tensor:
    """Ancestral sampling, DDPM Algorithm 2 (DDPM eq. 11): T steps, or fewer on the respaced chain.

    Returns x_0 (B, *D).

    Args:
        sigma2: variance of the added noise, beta_t or beta_tilde_t (DDPM sec. 3.2).
        options: clip, kind, generator, noise as for ``sample``.
    """
    check_choice(sigma2, ("beta", "beta_tilde"), "sigma2")
    variance: Variance = "large" if sigma2 == "beta" else "eta"
    return _last(sample(model, x_T, schedule, steps, eta=1.0, variance=variance, **options))


def ddim(
    model: Model,
    x_T: Tensor,
    schedule: Schedule,
    steps: int | None = None,
    *,
    eta: float = 0.0,
    spacing: Spacing = "uniform",
    **options: Any,
) -> Tensor:
    """DDIM sampling (DDIM eq. 12) in ``steps`` steps (50, or T if that is less).

    Returns x_0 (B, *D).

    Args:
        eta: 0 is deterministic: the same x_T always gives the same x_0.
        spacing: see ``timesteps``.
        options: clip, kind, generator, noise as for ``sample``.
    """
    taus = timesteps(schedule.T, min(50, schedule.T) if steps is None else steps, spacing)
    return _last(sample(model, x_T, schedule, taus, eta=eta, **options))


def _last(steps: Iterator[Step]) -> Tensor:
    for step in steps:
        x = step.x_s
    return x


def progressive_x0(
    model: Model, x_T: Tensor, schedule: Schedule, taus: Tensor | int | None = None, **options: Any
) -> Tensor:
    """The predicted x0 after each step, (steps, B, *D): DDPM sec. 4.3, "progressive generation"."""
    return torch.stack([step.x0 for step in sample(model, x_T, schedule, taus, **options)])


def from_frozen(
    model: Model,
    x_t: Tensor,
    t: int,
    n: int,
    schedule: Schedule,
    *,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Tensor:
    """n samples of x_0 from one frozen x_t (*D), by ancestral sampling from level t (DDPM fig. 7).

    They share what x_t has already decided: nearly everything at small t, nearly nothing at t = T.
    Returns (n, *D).
    """
    check_time(t, 1, schedule.T)
    check_count(n, 1, None, "n")
    start, taus = x_t.expand(n, *x_t.shape), range(t, -1, -1)
    return _last(sample(model, start, schedule, taus, eta=1.0, generator=generator, **options))


# ---- what determinism buys: inversion and interpolation ------------------------------------------


@torch.no_grad()
def invert(
    model: Model,
    x0: Tensor,
    schedule: Schedule,
    taus: Tensor | Sequence[int] | int | None = None,
    *,
    kind: Kind = "eps",
) -> Iterator[Step]:
    r"""From data to its latent: DDIM's eta = 0 step run upwards (DDIM sec. 4.3, DDIM eq. 14).

    x_s = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s) eps_hat, from level t to the next s > t,
    with eps_hat read at the level being left. At level 0, where no network is defined, it is read
    at t = 1 and x0_hat is the data itself. Yields ``Step`` with s > t; the last x_s is the latent.

    Args:
        x0: (B, *D).
        taus: the same levels as for ``sample``, decreasing; they are visited in reverse.
    """
    check_float(x0=x0)
    levels = levels_of(taus, schedule.T)[::-1]
    x = x0
    for t, s in pairwise(levels):
        output = model(x, batch_time(max(t, 1), x))
        eps, clean, *_ = predict(kind, output, x, max(t, 1), schedule)
        if t == 0:
            clean = x
        signal, noise = schedule.sqrt_alpha_bar, schedule.sqrt_one_minus_alpha_bar
        x_s = at(signal, s, x) * clean + at(noise, s, x) * eps
        yield Step(t, s, x, eps, clean, x_s)
        x = x_s


def reconstruct(
    model: Model, x0: Tensor, schedule: Schedule, taus: Tensor | int | None = None, **options: Any
) -> Tensor:
    """x0 -> latent -> x0': invert, then sample with eta = 0 on the same levels (DDIM sec. 5.4)."""
    latent = _last(invert(model, x0, schedule, taus, **options))
    return _last(sample(model, latent, schedule, taus, **options))


def slerp(a: Tensor, b: Tensor, lam: float | Tensor) -> Tensor:
    r"""Spherical interpolation, DDIM eq. 67: latents keep the norm that a Gaussian sample has.

    slerp = sin((1-lam) theta)/sin(theta) a + sin(lam theta)/sin(theta) b,
    with theta the angle between a and b, one per example. (Nearly) parallel vectors are mixed
    linearly, the limit theta -> 0; so are opposite ones, which define no direction.

    Args:
        a, b: (B, *D).
        lam: number, or (B,) tensor; 0 gives a, 1 gives b.
    """
    check_same_shape(a=a, b=b)
    shape = (-1, *[1] * (a.ndim - 1))
    lam = torch.as_tensor(lam, dtype=a.dtype, device=a.device).expand(len(a)).view(shape)
    u, v = precise(a).flatten(1), precise(b).flatten(1)  # near theta = pi a rounding is an angle
    cos = (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1)).clamp(min=torch.finfo(u.dtype).tiny)
    theta = cos.clamp(-1, 1).acos().view(shape)
    sin = theta.sin()
    linear = sin < 1e-4  # below this sin(x)/sin(theta) is x/theta to 2e-9
    safe = torch.where(linear, 1.0, sin)
    on_a = torch.where(linear, 1 - lam, ((1 - lam) * theta).sin() / safe)
    on_b = torch.where(linear, lam, (lam * theta).sin() / safe)
    return on_a.to(a) * a + on_b.to(a) * b


def interpolate(
    model: Model,
    latent_a: Tensor,
    latent_b: Tensor,
    lams: Sequence[float] | Tensor,
    schedule: Schedule,
    taus: Tensor | int | None = None,
    **options: Any,
) -> Tensor:
    """Deterministic interpolation (DDIM sec. 5.3): slerp two latents, then sample with eta = 0.

    Args:
        latent_a, latent_b: (B, *D) at level T: noise, or the last ``x_s`` of ``invert``.
        lams: L numbers; 0 gives the sample of a, 1 that of b.

    Returns:
        (L, B, *D).
    """
    check_count(len(lams), 1, None, "len(lams)")
    flat = torch.cat([slerp(latent_a, latent_b, float(lam)) for lam in lams])
    x = _last(sample(model, flat, schedule, taus, **options))
    return x.view(len(lams), *latent_a.shape)


def interpolate_ddpm(
    model: Model,
    x0_a: Tensor,
    x0_b: Tensor,
    lams: Sequence[float] | Tensor,
    t: int,
    schedule: Schedule,
    *,
    generator: torch.Generator | None = None,
    **options: Any,
) -> Tensor:
    r"""Stochastic interpolation (DDPM sec. 4.4): noise both to level t, mix linearly, denoise.

    x_t = (1 - lam) q_sample(x0_a) + lam q_sample(x0_b), then ancestral steps t, t-1, ..., 0. The
    paper noises the two ends independently; here both get the same noise, because a mix of two
    draws has too little variance, (1-lam)^2 + lam^2 of it, and starts the chain off its level.

    Args:
        x0_a, x0_b: (B, *D).
        t: level of the mix: 0 mixes the data itself, T forgets it.

    Returns:
        (L, B, *D).
    """
    check_time(t, 0, schedule.T)
    check_count(len(lams), 1, None, "len(lams)")
    eps = standard_normal(x0_a, generator)
    x_a, x_b = q_sample(x0_a, t, eps, schedule), q_sample(x0_b, t, eps, schedule)
    flat = torch.cat([(1 - float(lam)) * x_a + float(lam) * x_b for lam in lams])
    if t > 0:
        taus = range(t, -1, -1)
        flat = _last(sample(model, flat, schedule, taus, eta=1.0, generator=generator, **options))
    return flat.view(len(lams), *x0_a.shape)
