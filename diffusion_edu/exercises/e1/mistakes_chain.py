"""E1: the right functions, and the wrong ones that have a name: all steps, one after another."""

from __future__ import annotations

import torch
from torch import Tensor

from ..spec import Graded, Mistake
from .mistakes import COEFFICIENTS, STEP, edits_x, forward_step

CHAIN = "01, The chain"
VARIANCE = "01, Why the variance stays 1"


# ---- forward_chain -------------------------------------------------------------------------------


def forward_chain(x0: Tensor, beta: Tensor, eps: Tensor) -> Tensor:
    """x_0, x_1, ..., x_T, (T+1, B, *D); step t uses beta[t] and eps[t]."""
    chain = [x0]
    for t in range(1, len(beta)):
        chain.append(forward_step(chain[-1], t, beta, eps[t]))
    return torch.stack(chain)


def _chain_from_step_0(x0: Tensor, beta: Tensor, eps: Tensor) -> Tensor:
    # Step 0 has beta = 0 and changes nothing.
    states, x = [], x0
    for t, b in enumerate(beta.tolist()):
        x = (1 - b) ** 0.5 * x + b**0.5 * eps[t]
        states.append(x)
    return torch.stack(states)


def _chain_into_a_table(x0: Tensor, beta: Tensor, eps: Tensor) -> Tensor:
    out = x0.new_empty((len(beta), *x0.shape))
    out[0] = x0
    for t in range(len(beta) - 1):
        out[t + 1] = torch.sqrt(1 - beta[t + 1]) * out[t] + torch.sqrt(beta[t + 1]) * eps[t + 1]
    return out


def _chain_without_loop(x0: Tensor, beta: Tensor, eps: Tensor) -> Tensor:
    # x_t / sqrt(alpha_bar_t) only ever gets something added.
    shape = (-1, *[1] * x0.ndim)
    bar = (1 - beta).cumprod(0).view(shape)
    return bar.sqrt() * (x0 + ((beta.view(shape) / bar).sqrt() * eps).cumsum(0))


def _chain_by_recursion(x0: Tensor, beta: Tensor, eps: Tensor) -> Tensor:
    if len(beta) == 1:
        return x0[None]
    before = _chain_by_recursion(x0, beta[:-1], eps[:-1])
    last = (1 - beta[-1]) ** 0.5 * before[-1] + beta[-1] ** 0.5 * eps[-1]
    return torch.cat([before, last[None]])


def _chain(step):  # type: ignore[no-untyped-def]
    """The chain with other steps, functions of (x, t, beta, eps)."""

    def chain(x0: Tensor, beta: Tensor, eps: Tensor) -> Tensor:
        states = [x0]
        for t in range(1, len(beta)):
            states.append(step(states[-1], t, beta, eps[t]))
        return torch.stack(states)

    return chain


def _chain_edits_x0(x0: Tensor, beta: Tensor, eps: Tensor) -> Tensor:
    x, states = x0, [x0.clone()]
    for t in range(1, len(beta)):
        states.append(edits_x(x, t, beta, eps[t]).clone())
    return torch.stack(states)


def _one_tensor(x0: Tensor, beta: Tensor, eps: Tensor) -> Tensor:
    x, states = x0, [x0]
    for t in range(1, len(beta)):
        states.append(edits_x(x, t, beta, eps[t]))
    return torch.stack(states)


def _always_from_x0(x0: Tensor, beta: Tensor, eps: Tensor) -> Tensor:
    steps = [forward_step(x0, t, beta, eps[t]) for t in range(1, len(beta))]
    return torch.stack([x0, *steps])


FORWARD_CHAIN = Graded(
    "forward_chain",
    forward_chain,
    lambda w: [(w.x0, w.sch.beta, w.zs)],
    (
        *(Mistake(n, _chain(wrong), hint, STEP, credit) for n, wrong, hint, credit in COEFFICIENTS),
        Mistake(
            "same_eps_every_step",
            lambda x0, beta, eps: forward_chain(x0, beta, eps[1].expand_as(eps)),
            "Every step adds the same noise. Each has noise of its own, eps[t].",
            CHAIN,
        ),
        Mistake(
            "eps_off_by_one",
            lambda x0, beta, eps: forward_chain(x0, beta, eps.roll(1, 0)),
            "Step t uses the noise of t - 1. eps[t] belongs to step t, as beta[t] does.",
            CHAIN,
            credit=0.25,
        ),
        Mistake(
            "beta_off_by_one",
            lambda x0, beta, eps: forward_chain(x0, beta.roll(1), eps),
            "Step t uses beta of t - 1. Tables are indexed by t itself.",
            CHAIN,
        ),
        Mistake(
            "every_step_from_x0",
            _always_from_x0,
            "Every step starts from x0 again. A chain goes on from where the last step came to.",
            CHAIN,
        ),
        Mistake(
            "chain_starts_at_x1",
            lambda x0, beta, eps: forward_chain(x0, beta, eps)[1:],
            "The chain has T states: x0 itself is missing at its beginning.",
            CHAIN,
            credit=0.5,
        ),
        Mistake(
            "last_step_missing",
            lambda x0, beta, eps: forward_chain(x0, beta, eps)[:-1],
            "The chain has T states and ends at x_{T-1}: the last step is missing.",
            CHAIN,
        ),
        Mistake(
            "in_place_edit_of_x0",
            _chain_edits_x0,
            "The chain is right, but afterwards the x0 that was passed in is x_T: it was edited "
            "in place.",
            CHAIN,
            credit=0.5,
        ),
        Mistake(
            "one_tensor_many_times",
            _one_tensor,
            "All states are x_T: one tensor was edited in place and put into the list again and "
            "again.",
            CHAIN,
        ),
        Mistake(
            "list_not_stacked",
            lambda x0, beta, eps: list(forward_chain(x0, beta, eps)),
            "The states are right, but they are a list. One tensor is wanted, (T + 1, B, ...).",
            CHAIN,
            credit=0.5,
        ),
    ),
    (_chain_from_step_0, _chain_into_a_table, _chain_without_loop, _chain_by_recursion),
)


# ---- chain_variance ------------------------------------------------------------------------------


def chain_variance(beta: Tensor, var0: float) -> Tensor:
    """var_t = (1 - beta_t) var_{t-1} + beta_t, (T+1,)."""
    return _recursion(beta, var0, lambda var, b: (1 - b) * var + b)


def _recursion(beta: Tensor, start, step) -> Tensor:  # type: ignore[no-untyped-def]
    var = [torch.as_tensor(start, dtype=beta.dtype)]
    for b in beta[1:]:
        var.append(step(var[-1], b))
    return torch.stack(var)


def _variance_by_mixing(beta: Tensor, var0: float) -> Tensor:
    bar = (1 - beta).cumprod(0)
    return bar * var0 + (1 - bar)


def _variance_by_distance_to_1(beta: Tensor, var0: float) -> Tensor:
    # Every step brings the variance closer to 1 by the factor 1 - beta.
    return 1 + (var0 - 1) * torch.log1p(-beta).cumsum(0).exp()


def _variance_in_floats(beta: Tensor, var0: float) -> Tensor:
    out = [var0]
    for b in beta.tolist()[1:]:
        out.append(out[-1] - b * (out[-1] - 1))
    return torch.tensor(out)


def _wrong_variance(step):  # type: ignore[no-untyped-def]
    return lambda beta, var0: _recursion(beta, var0, step)


CHAIN_VARIANCE = Graded(
    "chain_variance",
    chain_variance,
    lambda w: [(w.sch.beta, var0) for var0 in (1.0, 4.0, 0.25)],
    (
        Mistake(
            "no_shrink",
            _wrong_variance(lambda var, b: var + b),
            "The betas were added up. The factor in front of x makes the old variance smaller "
            "before the new noise comes.",
            VARIANCE,
        ),
        Mistake(
            "factor_not_squared",
            _wrong_variance(lambda var, b: (1 - b).sqrt() * var + b),
            "The old variance was multiplied by the factor of x. Var(a x) has the square of a.",
            VARIANCE,
            credit=0.25,
        ),
        Mistake(
            "factor_squared_twice",
            _wrong_variance(lambda var, b: (1 - b) ** 2 * var + b),
            "1 - beta is the square already: the factor of x is its root.",
            VARIANCE,
            credit=0.25,
        ),
        Mistake(
            "beta_squared",
            _wrong_variance(lambda var, b: (1 - b) * var + b**2),
            "beta is the variance of the noise already: the factor of eps is its root.",
            VARIANCE,
            credit=0.25,
        ),
        Mistake(
            "both_squared",
            _wrong_variance(lambda var, b: (1 - b) ** 2 * var + b**2),
            "1 - beta and beta are squares already: the factors of x and eps are their roots.",
            VARIANCE,
        ),
        Mistake(
            "noise_forgotten",
            _wrong_variance(lambda var, b: (1 - b) * var),
            "This is what is left of the variance of the data. The noise has a variance too.",
            VARIANCE,
        ),
        Mistake(
            "var0_forgotten",
            lambda beta, var0: torch.ones_like(beta),
            "This is 1 everywhere, which is right only for data of variance 1.",
            VARIANCE,
        ),
        Mistake(
            "var0_taken_for_std",
            lambda beta, var0: chain_variance(beta, var0**2),
            "var0 was squared. It is a variance already.",
            VARIANCE,
            credit=0.5,
        ),
        Mistake(
            "std_returned",
            lambda beta, var0: chain_variance(beta, var0).sqrt(),
            "These are standard deviations. Wanted are variances.",
            VARIANCE,
            credit=0.5,
        ),
        Mistake(
            "length_T_not_T_plus_1",
            lambda beta, var0: chain_variance(beta, var0)[1:],
            "The result has T entries. It needs T + 1: entry 0 is the variance of the data.",
            VARIANCE,
            credit=0.5,
        ),
    ),
    (_variance_by_mixing, _variance_by_distance_to_1, _variance_in_floats),
)


# ---- find the bug --------------------------------------------------------------------------------


def noisy_chain(x0: Tensor, beta: Tensor, eps: Tensor, every: int) -> Tensor:
    """x_t at t = 0, every, 2 every, ... up to T: the pictures of a strip, (K, B, *D)."""
    return forward_chain(x0, beta, eps)[::every]


def _strip_by_modulo(x0: Tensor, beta: Tensor, eps: Tensor, every: int) -> Tensor:
    frames = []
    for t in range(len(beta)):
        if t > 0:
            x0 = beta[t] ** 0.5 * eps[t] + (1 - beta[t]) ** 0.5 * x0
        if t % every == 0:
            frames.append(x0)
    return torch.stack(frames)


def _strip(step):  # type: ignore[no-untyped-def]
    return lambda x0, beta, eps, every: _chain(step)(x0, beta, eps)[::every]


NOISY_CHAIN = Graded(
    "noisy_chain",
    noisy_chain,
    lambda w: [(w.x0, w.sch.beta, w.zs, every) for every in (2, 3)],
    (
        *(Mistake(n, _strip(wrong), hint, STEP, credit) for n, wrong, hint, credit in COEFFICIENTS),
        Mistake(
            "strip_starts_at_x1",
            lambda x0, beta, eps, every: forward_chain(x0, beta, eps)[every::every],
            "The first picture, clean data, is missing.",
            CHAIN,
            credit=0.5,
        ),
        Mistake(
            "same_eps_every_step",
            lambda x0, beta, eps, every: noisy_chain(x0, beta, eps[1].expand_as(eps), every),
            "Every step adds the same noise. Each has noise of its own, eps[n].",
            CHAIN,
        ),
    ),
    (
        _strip_by_modulo,
        lambda x0, beta, eps, every: _chain_without_loop(x0, beta, eps)[::every],
        lambda x0, beta, eps, every: torch.stack(
            [_chain_into_a_table(x0, beta, eps)[t] for t in range(0, len(beta), every)]
        ),
    ),
    bug="no_sqrt_both",
)
