"""Tests of E8, There and back again."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from diffusion_edu.exercises.forms import at
from diffusion_edu.exercises.testing import Failure, Student, close, expect, hidden, points
from diffusion_edu.exercises.world import World


@points(3)
def test_ddim_invert_step__values(student: Student, case: World) -> None:
    expect(student.ddim_invert_step, case)


@hidden
@points(1)
def test_ddim_invert_step__undoes_a_step(student: Student, case: World) -> None:
    w, t, s = case, at(case.sch.alpha_bar, case.t, case.x0), at(case.sch.alpha_bar, case.s, case.x0)
    down = s.sqrt() * (w.xt - (1 - t).sqrt() * w.z) / t.sqrt() + (1 - s).sqrt() * w.z
    up = student.ddim_invert_step(down, w.s, w.t, w.z, w.sch)
    close(student, up, w.xt, "a step down and a step up with the same noise lead back")


@points(3)
def test_ddim_invert__values(student: Student, case: World) -> None:
    expect(student.ddim_invert, case)


@hidden
@points(1)
def test_ddim_invert__each_example_for_itself(student: Student, case: World) -> None:
    w, ts = case, torch.tensor([case.sch.T, 4, 2, 0])
    whole = _like(student.ddim_invert(w.eps_model, w.x0, ts, w.sch), w.x0)
    part = student.ddim_invert(w.eps_model, w.x0[1:], ts, w.sch)
    close(student, part, whole[1:], "an example's latent does not depend on the rest of the batch")


@points(3)
def test_slerp__values(student: Student, case: World) -> None:
    expect(student.slerp, case)


@hidden
@points(1)
def test_slerp__keeps_the_norm(student: Student, case: World) -> None:
    a, b = (x / at(x.flatten(1).norm(dim=1), torch.arange(len(x)), x) for x in (case.x0, case.z))
    # No angle above 90 degrees: between opposite vectors there is no way that is the shortest.
    b = b * at((a * b).flatten(1).sum(1).sign(), torch.arange(len(b)), b)
    length = _like(student.slerp(a, b, 0.4), a).flatten(1).norm(dim=1)
    close(student, length, torch.ones(case.batch), "between unit vectors all have length 1", 1e-3)


@hidden
@points(1)
def test_slerp__ends(student: Student, case: World) -> None:
    for lam, end in ((0.0, case.x0), (1.0, case.z)):
        close(student, student.slerp(case.x0, case.z, lam), end, f"lam = {lam:g} gives an end")


@points(3)
def test_interpolate__values(student: Student, case: World) -> None:
    expect(student.interpolate, case)


@hidden
@points(1)
def test_interpolate__both_ways(student: Student, case: World) -> None:
    w, ts = case, torch.tensor([case.sch.T, 3, 0])
    there = student.interpolate(w.eps_model, w.x0, w.z, (0.2, 1.0), ts, w.sch)
    back = student.interpolate(w.eps_model, w.z, w.x0, (0.8, 0.0), ts, w.sch)
    close(student, there, back, "from b to a it is the same path, walked the other way", 1e-3)


@points(2)
def test_mix_noised__values(student: Student, case: World) -> None:
    expect(student.mix_noised, case)


def _like(value: Any, x: Tensor) -> Tensor:
    """The value, if it is a tensor of the shape of x."""
    if isinstance(value, Tensor) and value.shape == x.shape:
        return value
    raise Failure(f"it did not return a tensor of shape {tuple(x.shape)}")
