"""A learner's guidance, for GuidanceDial."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from ..prediction import Model, guided
from ..viz.scene import note
from . import learner
from .guidance_scores import State, draw
from .learner import Learner, LearnerError, bad_values, compared

__all__ = ["run_learner"]

AGREES = 1e-3  # rounding of eps is magnified by b/a = 157 at t = T


class _Late(Exception):  # noqa: N818, carries a sentence out of a sampler
    pass


def run_learner(teacher: Learner, state: State, values: dict[str, Any], hurry: bool) -> None:
    """Walk with eps from the learner's cfg_eps: fill ``mine`` and ``notes``."""
    net, reference, steps = state.net, state.shown.x, len(state.times) - 1
    mixed = _learners(teacher, state, values, hurry)
    way = draw(net, mixed, net.n, values["eta"], steps, values["seed"])
    mine, bad = [reference[0]], None
    try:
        mine.extend(step.x_s for step in way)
    except LearnerError as error:
        bad = f"At t = {state.times[len(mine) - 1]}: {error}"
    except _Late as late:
        bad = str(late)
    missing = [torch.full_like(mine[0], torch.nan)] * (steps + 1 - len(mine))
    if len(mine) > 1:
        state.mine = torch.stack(mine + missing)
    bad = bad or bad_values(torch.stack(mine), state.times, teacher)
    text = bad or _verdict(teacher, state, values, torch.stack(mine))
    state.notes = [note("error" if bad else "info", text)]


def _learners(teacher: Learner, state: State, values: dict[str, Any], hurry: bool) -> Model:
    """A network whose eps is the learner's mix; only their time counts, not the network's."""
    model, left = state.net.model, [learner.HURRY if hurry else learner.PATIENCE]

    def mixed(x: Tensor, t: Tensor) -> Tensor:
        both, made = (model(x, t, state.asked), model(x, t, None)), []
        begin = time.perf_counter()
        guidance = values["guidance"]
        late = teacher.over([0], lambda _: made.append(teacher(x, *both, guidance)), hurry)
        left[0] -= time.perf_counter() - begin
        teacher.late |= left[0] < 0
        if late or teacher.late:
            slow = f"your {teacher.role} is slow: only what it gave in time is shown"
            raise _Late(late or slow)
        return made[0]

    return mixed


def _verdict(teacher: Learner, state: State, values: dict[str, Any], mine: Tensor) -> str:
    worst = float((mine - state.shown.x).abs().max())
    text = compared(teacher.role, worst < AGREES, worst)
    if worst < AGREES or state.asked is None:
        return text
    # The paper counts guidance from the conditional network: the usual mistake has a name.
    papers = guided(state.net.model, state.asked, values["guidance"] + 1)
    how = values["eta"], len(state.times) - 1, values["seed"]
    first = next(draw(state.net, papers, state.net.n, *how)).x_s
    if float((mine[1] - first).abs().max()) < AGREES:
        text += ". It is that of guidance + 1: the paper's w is guidance - 1"
    return text
