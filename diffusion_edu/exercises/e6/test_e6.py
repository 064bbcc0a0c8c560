"""Tests of E6, Walk back without the answer."""

from __future__ import annotations

import torch

from diffusion_edu.exercises.forms import at
from diffusion_edu.exercises.testing import Student, close, expect, hidden, points
from diffusion_edu.exercises.world import World


@points(3)
def test_ddpm_mean__values(student: Student, case: World) -> None:
    expect(student.ddpm_mean, case)


@hidden
@points(1)
def test_ddpm_mean__right_eps_gives_the_posterior(student: Student, case: World) -> None:
    w = case
    bar, before = at(w.sch.alpha_bar, w.t, w.x0), at(w.sch.alpha_bar, w.t - 1, w.x0)
    on_x0 = before.sqrt() * at(w.sch.beta, w.t, w.x0)
    on_xt = at(w.sch.alpha, w.t, w.x0).sqrt() * (1 - before)
    posterior = (on_x0 * w.x0 + on_xt * w.xt) / (1 - bar)
    mean = student.ddpm_mean(w.xt, w.t, w.eps, w.sch)
    close(student, mean, posterior, "with the noise that is in x_t this is the posterior mean")


@points(3)
def test_ddpm_step__values(student: Student, case: World) -> None:
    expect(student.ddpm_step, case)


@hidden
@points(1)
def test_ddpm_step__spread_of_the_noise(student: Student, case: World) -> None:
    w = case
    up, down = (student.ddpm_step(w.xt, w.t, w.eps, z, w.sch) for z in (w.z, -w.z))
    sigma = at(w.sch.beta, w.t, w.z).sqrt()
    spread = 2 * torch.where(at(torch.arange(w.sch.T + 1), w.t, w.z) > 1, sigma, 0.0) * w.z
    close(student, up - down, spread, "z and -z end up 2 sigma z apart, and together at t = 1")


@points(3)
def test_ddpm_sample__values(student: Student, case: World) -> None:
    expect(student.ddpm_sample, case)


@hidden
@points(1)
def test_ddpm_sample__first_two_noises_unused(student: Student, case: World) -> None:
    w = case
    other = torch.cat([w.zs[:2] + 1, w.zs[2:]])
    one, two = (student.ddpm_sample(w.eps_model, w.z, w.sch, zs) for zs in (w.zs, other))
    close(student, one, two, "zs[0] and zs[1] are never used, so they change nothing")


@points(2)
def test_ddpm_mean_clipped__values(student: Student, case: World) -> None:
    expect(student.ddpm_mean_clipped, case)


@hidden
@points(1)
def test_ddpm_mean_clipped__far_limit(student: Student, case: World) -> None:
    w = case
    near, far = (student.ddpm_mean_clipped(w.xt, w.t, w.eps, w.sch, c) for c in (50.0, 100.0))
    close(student, near, far, "a limit that is never reached changes nothing")


@points(2)
def test_last_steps__values(student: Student, case: World) -> None:
    expect(student.last_steps, case)


@points(2)
def test_walk_down__values(student: Student, case: World) -> None:
    expect(student.walk_down, case)
