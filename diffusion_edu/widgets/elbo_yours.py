"""A learner's terms and weights of the bound, for ElboDecomposer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..forward import q_sample
from ..objectives import loss_weight
from ..viz.scene import note
from .elbo_terms import SIGMA2, State, bound
from .learner import Learner, LearnerError, bad_values, compared

__all__ = ["NumberLearner", "run_kl", "run_weight"]

AGREES = 1e-4  # difference to the reference that float32 may make, as a share of 1 + its size


class NumberLearner(Learner):
    """A learner whose function returns a number for each example, and gets t as a tensor first."""

    SHAPE = "{}, one number for each example"

    def __init__(self, function: Callable[..., Any], role: str) -> None:
        super().__init__(function, role)
        self._tensor_times = True


def run_kl(learner: Learner, state: State, values: dict[str, Any], hurry: bool) -> None:
    """Fill ``mine`` with the learner's L_{t-1}, t = T..2, and say what there is to say of it."""
    mine: list[Tensor] = []
    exact = state.rows[:-1]

    def call(f: int) -> None:
        t = state.times[f]
        x_t = q_sample(state.x0, t, state.eps[t - 1], state.schedule)
        mine.append(learner(exact[f], state.x0, x_t, t, state.eps_hat[t - 1], state.schedule))

    late = _patiently(learner, range(len(exact)), call, state, hurry)
    if not mine:
        return
    every = torch.full_like(exact, math.nan)
    every[: len(mine)] = torch.stack(mine)
    state.mine = torch.cat([every.mean(1), torch.tensor([math.nan])])
    if not late:
        others = [s for s in SIGMA2 if s != values["sigma2"]]
        known = {other: _kl(state, other, values["decoder"]) for other in others}
        _judge(learner, every, exact, state, known)


def _kl(state: State, sigma2: str, decoder: str) -> Tensor:
    """L_{T-1}, ..., L_1 with another sigma^2, (T-1, n)."""
    terms = bound(state.x0, state.eps, state.eps_hat, state.schedule, sigma2, decoder)
    return terms.L_t.T.flip(0)


def run_weight(learner: Learner, state: State, values: dict[str, Any], hurry: bool) -> None:
    """Fill ``mine_weight``, the learner's weight at t = T..1."""
    times = torch.tensor(state.times)
    mine: list[Tensor] = []

    def call(times: Tensor) -> None:
        mine.append(learner(state.weight, times, state.schedule))

    late = _patiently(learner, [times], call, state, hurry)
    if late or not mine:
        return
    state.mine_weight = mine[0]
    finite = state.weight.isfinite()  # with beta_tilde the weight of t = 1 is infinite
    others = [s for s in SIGMA2 if s != values["sigma2"]]
    known = {s: loss_weight(times, state.schedule, s)[finite, None] for s in others}  # type: ignore[arg-type]
    mine_, exact = (x[finite, None] for x in (mine[0], state.weight))
    _judge(learner, mine_, exact, state, known, times[finite].tolist())


def _patiently(
    learner: Learner, items: Any, call: Callable[[Any], None], state: State, hurry: bool
) -> bool:
    """Run the calls; True, with a note, if the function failed or there was too little time."""
    try:
        late = learner.over(items, call, hurry)
    except LearnerError as error:
        late = str(error)
    if late:
        state.notes.append(note("error", late))
    return late is not None


def _judge(
    learner: Learner,
    mine: Tensor,
    exact: Tensor,
    state: State,
    known: dict[str, Tensor],
    times: Sequence[int] | None = None,
) -> None:
    """A note on how the learner's (F, n) differs from the reference, and from ``known`` others."""
    times = state.times if times is None else times
    if bad := bad_values(mine, times, learner):
        state.notes.append(note("error", bad))
        return
    off = (mine - exact).abs()
    worst = int(off.argmax()) // off.shape[1]
    state.differences[learner.role] = float(off.max())
    agrees, other = _agree(mine, exact), "the reference"
    same = [] if agrees else [name for name, x in known.items() if _agree(mine, x)]
    if same:
        other += f" (it is that of sigma2 = {same[0]})"
    text = compared(learner.role, agrees, float(off.max()), f"t = {times[worst]}", other)
    state.notes.append(note("info", text))


def _agree(mine: Tensor, exact: Tensor) -> bool:
    both_infinite = mine.isinf() & exact.isinf()
    return bool(
        ((mine - exact).abs() <= AGREES * (1 + exact.abs())).logical_or(both_infinite).all()
    )
