"""Tests of E9, Scores, guidance and a verdict."""

from __future__ import annotations

from typing import Any

import torch

from diffusion_edu.exercises.testing import Student, close, expect, hidden, points
from diffusion_edu.exercises.world import World


@points(2)
def test_score_from_eps__values(student: Student, case: World) -> None:
    expect(student.score_from_eps, case)


@points(3)
def test_gmm_score__values(student: Student, case: World) -> None:
    expect(student.gmm_score, case)


@hidden
@points(1)
def test_gmm_score__of_one_gaussian(student: Student, case: World) -> None:
    x, bar = case.x0.flatten(1), float(case.sch.alpha_bar[3])
    mean, var, w = case.z.flatten(1)[:1], torch.tensor([0.6]), torch.ones(1)
    score = student.gmm_score(x, mean, var, w, bar)
    exact = (bar**0.5 * mean - x) / (bar * 0.6 + 1 - bar)
    close(student, score, exact, "the score of one Gaussian is (mean - x) / variance")


@hidden
@points(1)
def test_gmm_score__order_of_components(student: Student, case: World) -> None:
    x, means = case.x0.flatten(1)[:, :3], 1.5 * case.more(3, 3)
    var, w = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0.2, 0.3, 0.5])
    score = student.gmm_score(x, means, var, w, 0.5)
    turned = student.gmm_score(x, means.flip(0), var.flip(0), w.flip(0), 0.5)
    close(student, turned, score, "the order of the components does not matter")


@points(2)
def test_langevin_step__values(student: Student, case: World) -> None:
    expect(student.langevin_step, case)


@points(2)
def test_cfg_eps__values(student: Student, case: World) -> None:
    expect(student.cfg_eps, case)


@hidden
@points(1)
def test_cfg_eps__nothing_to_amplify(student: Student, case: World) -> None:
    same = student.cfg_eps(case.eps, case.eps, 4.0)
    close(student, same, case.eps, "where both predictions agree guidance changes nothing")


@points(2)
def test_drop_labels__values(student: Student, case: World) -> None:
    expect(student.drop_labels, case)


@points(3)
def test_mmd2_rbf__values(student: Student, case: World) -> None:
    expect(student.mmd2_rbf, case)


@hidden
@points(1)
def test_mmd2_rbf__only_distances_count(student: Student, case: World) -> None:
    X, Y = case.x0.flatten(1)[:, :3], case.more(5, 3)
    there = _number(student.mmd2_rbf(X, Y, 1.1))
    moved = _number(student.mmd2_rbf(Y.flip(1) - 0.5, X.flip(1) - 0.5, 1.1))
    close(student, moved, there, "moved, mirrored and exchanged, the clouds are as far apart")


@points(3)
def test_sliced_w2__values(student: Student, case: World) -> None:
    expect(student.sliced_w2, case)


@hidden
@points(1)
def test_sliced_w2__of_a_cloud_and_itself(student: Student, case: World) -> None:
    X, dirs = case.x0.flatten(1), case.more(4, case.x0[0].numel())
    itself = _number(student.sliced_w2(X, X.flip(0), dirs))
    close(student, itself, torch.zeros(()).double(), "a cloud in another order is the same cloud")


@points(2)
def test_context_mask__values(student: Student, case: World) -> None:
    expect(student.context_mask, case)


def _number(value: Any) -> Any:
    """A float or a tensor as a float64 tensor; anything else as it is."""
    if isinstance(value, float | torch.Tensor):
        return torch.as_tensor(value, dtype=torch.float64)
    return value
