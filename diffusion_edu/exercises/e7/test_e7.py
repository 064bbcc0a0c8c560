"""Tests of E7, Fewer steps, less noise."""

from __future__ import annotations

import torch

from diffusion_edu.exercises.forms import at
from diffusion_edu.exercises.testing import Student, close, expect, hidden, points
from diffusion_edu.exercises.world import World


@points(2)
def test_timesteps__values(student: Student, case: World) -> None:
    expect(student.timesteps, case)


@hidden
@points(1)
def test_timesteps__as_many_steps_as_levels(student: Student, case: World) -> None:
    T = case.sch.T
    for kind in ("uniform", "quadratic"):
        got = student.timesteps(T, T, kind)
        close(student, got, torch.arange(T, -1, -1), f"T steps visit every level ({kind})")


@points(2)
def test_ddim_sigma__values(student: Student, case: World) -> None:
    expect(student.ddim_sigma, case)


@hidden
@points(1)
def test_ddim_sigma__is_the_root_of_beta_tilde(student: Student, case: World) -> None:
    t, sch = case.t, case.sch
    var = (1 - sch.alpha_bar[t - 1]) / (1 - sch.alpha_bar[t]) * sch.beta[t]
    sigma = student.ddim_sigma(t, t - 1, 1.0, sch)
    close(student, sigma, var.sqrt(), "for eta = 1, s = t - 1 it is DDPM's posterior deviation")


@points(3)
def test_ddim_step__values(student: Student, case: World) -> None:
    expect(student.ddim_step, case)


@hidden
@points(1)
def test_ddim_step__is_ddpm(student: Student, case: World) -> None:
    w, prev = case, at(case.sch.alpha_bar, case.t - 1, case.x0)
    bar, beta = at(w.sch.alpha_bar, w.t, w.x0), at(w.sch.beta, w.t, w.x0)
    mean = (w.xt - beta / (1 - bar).sqrt() * w.eps) / (1 - beta).sqrt()
    ddpm = mean + ((1 - prev) / (1 - bar) * beta).sqrt() * w.z
    ours = student.ddim_step(w.xt, w.t, w.t - 1, w.eps, w.z, 1.0, w.sch)
    close(student, ours, ddpm, "for eta = 1 and s = t - 1 the step is DDPM's")


@hidden
@points(1)
def test_ddim_step__stays_on_the_path(student: Student, case: World) -> None:
    w, bar = case, at(case.sch.alpha_bar, case.s, case.x0)
    there = bar.sqrt() * w.x0 + (1 - bar).sqrt() * w.eps
    ours = student.ddim_step(w.xt, w.t, w.s, w.eps, w.z, 0.0, w.sch)
    close(student, ours, there, "for eta = 0 and the true noise x_s is the jump with that noise")


@points(3)
def test_ddim_sample__values(student: Student, case: World) -> None:
    expect(student.ddim_sample, case)


@hidden
@points(1)
def test_ddim_sample__in_two_parts(student: Student, case: World) -> None:
    w, ts = case, torch.tensor([case.sch.T, case.sch.T - 2, 3, 1, 0])
    whole = student.ddim_sample(w.eps_model, w.z, ts, 0.5, w.sch, w.zs)
    half = student.ddim_sample(w.eps_model, w.z, ts[:3], 0.5, w.sch, w.zs)
    both = student.ddim_sample(w.eps_model, half, ts[2:], 0.5, w.sch, w.zs)
    close(student, both, whole, "a walk in two parts ends where the whole walk does", 1e-3)


@points(2)
def test_level_pairs__values(student: Student, case: World) -> None:
    expect(student.level_pairs, case)


@points(2)
def test_level_tables__values(student: Student, case: World) -> None:
    expect(student.level_tables, case)
