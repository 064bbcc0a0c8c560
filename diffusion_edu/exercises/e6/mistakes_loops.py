"""E6: the right functions, and the wrong ones that have a name: the whole walk."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..spec import Call, Graded, Mistake
from ..stubs import Sch
from ..world import World
from .mistakes import LAST, MEAN, MEANS, NOISE, ddpm_mean, ddpm_step

WALK = "06, The whole walk"


def walk(  # type: ignore[no-untyped-def]
    times=lambda T: range(T, 0, -1),
    step=ddpm_step,
    var="beta",
    start=lambda xT, sch, zs: xT,
    seen=lambda x, xT: x,
    told=lambda t, T: t,
    noise=lambda zs, t, T: zs[t],
    graph=False,
):
    """The sampler with other times, steps, a start, and x, t and noise of each step."""

    def sampler(eps_model: nn.Module, xT: Tensor, sch: Sch, zs: Tensor) -> Tensor:
        x = start(xT, sch, zs)
        for k in times(sch.T):
            t = torch.full((len(x),), k)
            eps = eps_model(seen(x, xT), torch.full_like(t, told(k, sch.T)))
            x = step(x, t, eps, noise(zs, k, sch.T), sch, var)
        return x

    return sampler if graph else torch.no_grad()(sampler)


def coefficients(mean=ddpm_mean, last=2, sigma=lambda beta, bar, before: beta.sqrt()):  # type: ignore[no-untyped-def]
    """A step for ``walk`` with another mean, or noise of factor ``sigma`` from t = last on."""

    def step(x: Tensor, t: Tensor, eps: Tensor, z: Tensor, sch: Sch, var: str) -> Tensor:
        k = int(t[0])
        x = mean(x, t, eps, sch)
        factor = sigma(sch.beta[k], sch.alpha_bar[k], sch.alpha_bar[k - 1])
        return x + factor * z if k >= last else x

    return step


NEVER = 10**9  # a level that no walk has
NO_NOISE = coefficients(last=NEVER)
ALWAYS = coefficients(last=1)
VAR_FOR_STD = coefficients(sigma=lambda beta, bar, before: beta)

# (name, options of ``walk``, hint, section, credit), of every loop here
LOOPS: tuple[tuple[str, dict[str, Any], str, str, float], ...] = (
    (
        "loop_forward",
        {"times": lambda T: range(1, T + 1)},
        "t goes up. The walk starts at t = T, where all is noise, and goes down.",
        WALK,
        0.0,
    ),
    (
        "skips_T",
        {"times": lambda T: range(T - 1, 0, -1)},
        "The first step is left out: the walk begins at T - 1, but its x is that of T.",
        WALK,
        0.0,
    ),
    (
        "includes_t0_or_no_number",
        {"times": lambda T: range(T, -1, -1)},
        "No number is left. Is t = 0 visited, where the step divides by zero? Steps are T, ..., 1. "
        "Or is a root taken of a negative number?",
        WALK,
        0.0,
    ),
    (
        "grad_kept",
        {"graph": True},
        "The numbers are right, but torch has kept the graph of all T steps, which fills the "
        "memory. Sampling needs no gradients.",
        WALK,
        0.5,
    ),
    (
        "no_noise",
        {"step": NO_NOISE},
        "No noise is added on the way: every step goes to the mean. It is to be a draw from the "
        "Gaussian around it, else samples crowd together.",
        NOISE,
        0.0,
    ),
)


def loops(var: str) -> list[Mistake]:
    """LOOPS as mistakes of a walk with this variance."""
    return [
        Mistake(name, walk(**options, var=var), hint, section, credit)
        for name, options, hint, section, credit in LOOPS
    ]


def _data_first(xT: Tensor, sch: Sch, zs: Tensor) -> Tensor:
    bar = sch.alpha_bar[-1]
    return bar.sqrt() * xT + (1 - bar).sqrt() * zs[sch.T]


# ---- ddpm_sample ---------------------------------------------------------------------------------


@torch.no_grad()
def ddpm_sample(eps_model: nn.Module, xT: Tensor, sch: Sch, zs: Tensor) -> Tensor:
    """From x_T to x_0 in T steps with sigma^2 = beta; step t uses zs[t]: DDPM Algorithm 2."""
    x = xT
    for k in range(sch.T, 0, -1):
        t = torch.full((len(x),), k)
        x = ddpm_step(x, t, eps_model(x, t), zs[k], sch)
    return x


@torch.no_grad()
def sample_by_recursion(eps_model: nn.Module, xT: Tensor, sch: Sch, zs: Tensor) -> Tensor:
    """The right walk, one step inside the other."""

    def back(x: Tensor, k: int) -> Tensor:
        if k == 0:
            return x
        eps = eps_model(x, torch.full((len(x),), k))
        x = (x - sch.beta[k] / (1 - sch.alpha_bar[k]) ** 0.5 * eps) / sch.alpha[k] ** 0.5
        return back(x if k == 1 else x + sch.beta[k] ** 0.5 * zs[k], k - 1)

    return back(xT, sch.T)


def sample_with_masked_noise(eps_model: nn.Module, xT: Tensor, sch: Sch, zs: Tensor) -> Tensor:
    """The right walk in place, with noise that is 0 where none is added."""
    noise = zs.clone()
    noise[:2] = 0
    x, t = xT.clone(), torch.full((len(xT),), sch.T)
    with torch.no_grad():
        while t[0] > 0:
            k = int(t[0])
            x -= (1 - sch.alpha[k]) * (1 - sch.alpha_bar[k]).rsqrt() * eps_model(x, t)
            x *= sch.alpha[k].rsqrt()
            x += sch.beta[k].sqrt() * noise[k]
            t = t - 1
    return x


def sample_by_predicted_x0(eps_model: nn.Module, xT: Tensor, sch: Sch, zs: Tensor) -> Tensor:
    """The right walk through the posterior of the predicted x0."""
    x, weights = xT, list(eps_model.parameters())
    for p in weights:
        p.requires_grad_(False)
    for k in reversed(range(1, sch.T + 1)):
        bar, before, beta = sch.alpha_bar[k], sch.alpha_bar[k - 1], sch.beta[k]
        x0 = (x - (1 - bar).sqrt() * eps_model(x, torch.full((len(x),), k))) / bar.sqrt()
        mean = (before.sqrt() * beta * x0 + sch.alpha[k].sqrt() * (1 - before) * x) / (1 - bar)
        x = mean + (k > 1) * beta.sqrt() * zs[k]
    for p in weights:
        p.requires_grad_(True)
    return x.detach()


def sample_calls(w: World) -> list[Call]:
    """From noise, with the noise of every step."""
    return [(w.eps_model, w.z, w.sch, w.zs)]


DDPM_SAMPLE = Graded(
    "ddpm_sample",
    ddpm_sample,
    sample_calls,
    (
        *loops("beta"),
        Mistake(
            "skips_t1",
            walk(times=lambda T: range(T, 1, -1)),
            "The last step is missing: what is returned is x_1, which still has noise in it.",
            LAST,
        ),
        Mistake(
            "noise_at_last_step",
            walk(step=ALWAYS),
            "Noise is added at t = 1 as well: it stays in the result, as no later step takes it "
            "away.",
            LAST,
        ),
        Mistake(
            "var_for_std",
            walk(step=VAR_FOR_STD),
            "The noise is multiplied by its variance. The factor is a standard deviation.",
            NOISE,
            credit=0.25,
        ),
        Mistake(
            "beta_tilde_for_beta",
            walk(var="beta_tilde"),
            "The variance is beta_tilde; beta was asked for. Both make samples, but they are not "
            "the same.",
            NOISE,
            credit=0.8,
        ),
        *(
            Mistake(name, walk(step=coefficients(wrong)), hint, MEAN, credit)
            for name, wrong, hint, credit in MEANS
        ),
        Mistake(
            "z_off_by_one",
            walk(noise=lambda zs, t, T: zs[t - 1]),
            "Step t uses the noise of t - 1. zs is indexed by t itself.",
            WALK,
            credit=0.5,
        ),
        Mistake(
            "z_in_order_of_steps",
            walk(noise=lambda zs, t, T: zs[T - t]),
            "The noises are used from the front, zs[0] at the first step. zs is indexed by t.",
            WALK,
            credit=0.5,
        ),
        Mistake(
            "same_z_every_step",
            walk(noise=lambda zs, t, T: zs[T]),
            "Every step adds the same noise. Each has noise of its own.",
            NOISE,
        ),
        Mistake(
            "reuses_eps_as_z",
            walk(step=lambda x, t, eps, z, sch, var: ddpm_step(x, t, eps, eps, sch, var)),
            "The predicted noise is added again. What is added is fresh noise, from zs.",
            NOISE,
        ),
        Mistake(
            "network_sees_xT",
            walk(seen=lambda x, xT: xT),
            "The network is shown x_T at every step. It has to see the x that the walk came to.",
            WALK,
        ),
        Mistake(
            "t_minus_1_passed",
            walk(told=lambda t, T: t - 1),
            "The network is told t - 1. In this course t runs from 1 to T everywhere.",
            WALK,
            credit=0.25,
        ),
        Mistake(
            "always_told_T",
            walk(told=lambda t, T: T),
            "The network is told T at every step. It has to know how noisy its input is.",
            WALK,
        ),
        Mistake(
            "starts_from_data",
            walk(start=_data_first),
            "xT was treated as data, and noise was added to it first. It is the noise that the "
            "walk starts from.",
            WALK,
        ),
        Mistake(
            "starts_from_zs",
            walk(start=lambda xT, sch, zs: zs[sch.T]),
            "The walk starts from zs[T], not from xT.",
            WALK,
            credit=0.25,
        ),
    ),
    (sample_by_recursion, sample_with_masked_noise, sample_by_predicted_x0),
    tolerance=1e-4,
)
