"""Tests of E5, Learn to see the noise."""

from __future__ import annotations

import torch

from diffusion_edu.exercises.forms import at
from diffusion_edu.exercises.testing import Student, close, expect, hidden, points
from diffusion_edu.exercises.world import World


@points(2)
def test_time_embedding__values(student: Student, case: World) -> None:
    expect(student.time_embedding, case)


@hidden
@points(1)
def test_time_embedding__on_circles(student: Student, case: World) -> None:
    e = student.time_embedding(case.t, 12)
    sizes = e[:, :6] ** 2 + e[:, 6:] ** 2
    close(student, sizes, torch.ones_like(sizes), "each sine has its cosine, dim/2 places on")


@points(1)
def test_draw_t__values(student: Student, case: World) -> None:
    expect(student.draw_t, case)


@hidden
@points(1)
def test_draw_t__all_levels_alike(student: Student, case: World) -> None:
    T, each = case.sch.T, 5
    u = (torch.arange(T * each) + 0.5) / (T * each)
    t = student.draw_t(u, T)
    levels = torch.arange(1, T + 1)
    counts = (t[:, None] == levels).sum(0)
    close(student, counts, torch.full((T,), each), "evenly spread u give every t of 1..T alike")


@points(2)
def test_train_pair__values(student: Student, case: World) -> None:
    expect(student.train_pair, case)


@points(3)
def test_ddpm_loss__values(student: Student, case: World) -> None:
    expect(student.ddpm_loss, case)


@hidden
@points(1)
def test_ddpm_loss__mean_of_both_halves(student: Student, case: World) -> None:
    w, half = case, case.batch // 2
    parts = slice(0, half), slice(half, 2 * half), slice(0, 2 * half)
    first, second, both = (
        student.ddpm_loss(w.eps_model, w.x0[p], w.t[p], w.eps[p], w.sch) for p in parts
    )
    close(student, both, (first + second) / 2, "the loss of a batch is the mean of its halves")


@points(3)
def test_train_step__values(student: Student, case: World) -> None:
    expect(student.train_step, case)


@points(2)
def test_train_epoch__values(student: Student, case: World) -> None:
    expect(student.train_epoch, case)


@points(1)
def test_ema_update__values(student: Student, case: World) -> None:
    expect(student.ema_update, case)


@hidden
@points(1)
def test_ema_update__forgets_slowly(student: Student, case: World) -> None:
    w, decay, steps = case, 0.8, 6
    average = w.x0
    for _ in range(steps):
        average = student.ema_update(average, w.z, decay)
    left = decay**steps * (w.x0 - w.z)
    close(student, average - w.z, left, "of the old value decay^n is left after n updates")


@points(2)
def test_v_target__values(student: Student, case: World) -> None:
    expect(student.v_target, case)


@hidden
@points(1)
def test_v_target__gives_x0_back(student: Student, case: World) -> None:
    w = case
    v, bar = student.v_target(w.x0, w.t, w.eps, w.sch), at(w.sch.alpha_bar, w.t, w.x0)
    x0 = bar.sqrt() * w.xt - (1 - bar).sqrt() * v
    close(student, x0, w.x0, "x_t and v together give x0 back")
