"""Tests of E2, Jump to any t."""

from __future__ import annotations

from diffusion_edu.exercises.testing import Student, close, expect, hidden, points
from diffusion_edu.exercises.world import World


@points(2)
def test_alpha_bar_from_beta__values(student: Student, case: World) -> None:
    expect(student.alpha_bar_from_beta, case)


@points(2)
def test_cosine_alpha_bar__values(student: Student, case: World) -> None:
    expect(student.cosine_alpha_bar, case)


@points(3)
def test_q_sample__values(student: Student, case: World) -> None:
    expect(student.q_sample, case)


@hidden
@points(1)
def test_q_sample__linear_in_data_and_noise(student: Student, case: World) -> None:
    w = case
    once = student.q_sample(w.x0, w.t, w.eps, w.sch)
    twice = student.q_sample(2 * w.x0, w.t, 2 * w.eps, w.sch)
    close(student, twice, 2 * once, "twice the data and twice the noise make twice x_t")


@points(1)
def test_snr__values(student: Student, case: World) -> None:
    expect(student.snr, case)


@points(2)
def test_chain_tables__values(student: Student, case: World) -> None:
    expect(student.chain_tables, case)
