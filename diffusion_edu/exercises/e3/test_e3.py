"""Tests of E3, Walk back with Bayes."""

from __future__ import annotations

import torch

from diffusion_edu.exercises.forms import at
from diffusion_edu.exercises.testing import Student, close, expect, hidden, points
from diffusion_edu.exercises.world import World


@points(3)
def test_posterior_mean__values(student: Student, case: World) -> None:
    expect(student.posterior_mean, case)


@hidden
@points(1)
def test_posterior_mean__keeps_the_path_without_noise(student: Student, case: World) -> None:
    w = case
    xt = at(w.sch.alpha_bar, w.t, w.x0).sqrt() * w.x0
    before = at(w.sch.alpha_bar, w.t - 1, w.x0).sqrt() * w.x0
    mean = student.posterior_mean(w.x0, xt, w.t, w.sch)
    close(student, mean, before, "x0 made smaller, without noise, goes back to x0 made less small")


@points(2)
def test_posterior_var__values(student: Student, case: World) -> None:
    expect(student.posterior_var, case)


@points(2)
def test_posterior_sample__values(student: Student, case: World) -> None:
    expect(student.posterior_sample, case)


@hidden
@points(1)
def test_posterior_sample__is_x0_at_t_1(student: Student, case: World) -> None:
    w = case
    back = student.posterior_sample(w.x0, w.xt, torch.ones_like(w.t), w.z, w.sch)
    close(student, back, w.x0, "from t = 1, with x0 known, there is only one way back: to x0")


@points(2)
def test_x0_from_eps__values(student: Student, case: World) -> None:
    expect(student.x0_from_eps, case)


@hidden
@points(1)
def test_x0_from_eps__linear(student: Student, case: World) -> None:
    w = case
    both = student.x0_from_eps(w.xt + w.x0, w.t, w.eps + w.z, w.sch)
    one, other = (student.x0_from_eps(x, w.t, e, w.sch) for x, e in ((w.xt, w.eps), (w.x0, w.z)))
    close(student, both, one + other, "the result for a sum is the sum of the results")


@points(2)
def test_eps_from_x0__values(student: Student, case: World) -> None:
    expect(student.eps_from_x0, case)


@points(2)
def test_posterior_tables__values(student: Student, case: World) -> None:
    expect(student.posterior_tables, case)
