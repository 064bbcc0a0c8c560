"""Tests of E1, One step of noise at a time."""

from __future__ import annotations

import torch

from diffusion_edu.exercises.testing import Student, close, expect, hidden, points
from diffusion_edu.exercises.world import World


@points(1)
def test_make_linear_beta__values(student: Student, case: World) -> None:
    expect(student.make_linear_beta, case)


@points(3)
def test_forward_step__values(student: Student, case: World) -> None:
    expect(student.forward_step, case)


@hidden
@points(1)
def test_forward_step__linear_in_data_and_noise(student: Student, case: World) -> None:
    w, t = case, case.sch.T - 1
    both = student.forward_step(w.x0 + w.z, t, w.sch.beta, w.eps)
    data = student.forward_step(w.x0, t, w.sch.beta, torch.zeros_like(w.eps))
    rest = student.forward_step(w.z, t, w.sch.beta, w.eps)
    close(student, both, data + rest, "a step of a sum is the sum of two steps")


@points(3)
def test_forward_chain__values(student: Student, case: World) -> None:
    expect(student.forward_chain, case)


@hidden
@points(1)
def test_forward_chain__goes_on_from_the_middle(student: Student, case: World) -> None:
    w, k = case, case.sch.T // 2
    beta, zs = w.sch.beta, w.zs
    whole = student.forward_chain(w.x0, beta, zs)
    # Entry 0 of the second half belongs to its own clean data.
    second = torch.cat([beta[:1], beta[k + 1 :]])
    rest = student.forward_chain(whole[k], second, zs[k:])
    close(student, rest, whole[k:], "a chain that is begun in the middle goes the same way")


@points(2)
def test_chain_variance__values(student: Student, case: World) -> None:
    expect(student.chain_variance, case)


@points(2)
def test_noisy_chain__values(student: Student, case: World) -> None:
    expect(student.noisy_chain, case)
