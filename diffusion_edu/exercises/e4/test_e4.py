"""Tests of E4, From the bound to the loss."""

from __future__ import annotations

import torch

from diffusion_edu.exercises.forms import at
from diffusion_edu.exercises.testing import Student, close, expect, hidden, points
from diffusion_edu.exercises.world import World


@points(3)
def test_gaussian_kl__values(student: Student, case: World) -> None:
    expect(student.gaussian_kl, case)


@hidden
@points(1)
def test_gaussian_kl__is_0_from_itself(student: Student, case: World) -> None:
    w, var = case, torch.exp(case.z)
    none = student.gaussian_kl(w.x0, var, w.x0, var)
    close(student, none, torch.zeros(w.batch), "the divergence of a distribution from itself is 0")


@points(2)
def test_prior_kl__values(student: Student, case: World) -> None:
    expect(student.prior_kl, case)


@points(3)
def test_kl_t__values(student: Student, case: World) -> None:
    expect(student.kl_t, case)


@hidden
@points(1)
def test_kl_t__grows_with_the_square_of_the_error(student: Student, case: World) -> None:
    w, t = case, case.t.clamp(min=2)
    bar = at(w.sch.alpha_bar, t, w.x0)
    xt = bar.sqrt() * w.x0 + (1 - bar).sqrt() * w.eps
    exact, once, twice = (
        student.kl_t(w.x0, xt, t, w.eps + k * w.z, w.sch) for k in (0.0, 1.0, 2.0)
    )
    close(
        student, twice - exact, 4 * (once - exact), "twice the error of eps costs four times more"
    )


@points(2)
def test_loss_weight__values(student: Student, case: World) -> None:
    expect(student.loss_weight, case)


@points(1)
def test_bits_per_dim__values(student: Student, case: World) -> None:
    expect(student.bits_per_dim, case)


@points(2)
def test_image_loss__values(student: Student, case: World) -> None:
    expect(student.image_loss, case)


@hidden
@points(1)
def test_image_loss__does_not_grow_with_the_image(student: Student, case: World) -> None:
    w = case
    one = student.image_loss(w.z, w.eps)
    wide = student.image_loss(torch.cat([w.z, w.z], -1), torch.cat([w.eps, w.eps], -1))
    close(student, wide, one, "an image beside itself has the same loss")
