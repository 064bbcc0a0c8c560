"""ScheduleLab: tables and a q_sample of the learner's."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
import torch
from explorers import ask, check_hanging, curve
from torch import Tensor

import diffusion_edu as de
from diffusion_edu.widgets import learner
from diffusion_edu.widgets.schedule_lab import ScheduleLab

# ---- the learner's alpha_bar -------------------------------------------------------------------


def from_beta(beta: Tensor) -> Tensor:
    return (1 - beta).cumprod(0)


def cosine_alpha_bar(T: int, s: float = 0.008) -> Tensor:
    f = torch.cos((torch.arange(T + 1) / T + s) / (1 + s) * torch.pi / 2) ** 2
    return f / f[0]


def test_right_tables_agree() -> None:
    """Of betas: with the schedule; of T: with the nearer of the two. In float32 too."""
    explorer = ScheduleLab(alpha_bar=from_beta, n=30)
    assert explorer.difference < 1e-12
    assert "agrees with linear" in explorer.notes[0]
    assert torch.allclose(explorer.mine, explorer.noise_schedule.alpha_bar)
    assert torch.allclose(explorer.jump, ScheduleLab(n=30).jump)
    for T in (2, 7, 100, 1000):
        explorer = ScheduleLab(T=T, alpha_bar=cosine_alpha_bar, n=30)
        # The library caps beta at 0.999, which leaves a thousandth of the step before.
        before = float(explorer.other_schedule.alpha_bar[-2])
        assert explorer.difference < 1.001e-3 * before + 1e-6
        assert "with cosine" in explorer.notes[0] or "from cosine" in explorer.notes[0]
    labels = [s["label"] for s in explorer.scene().panels[0]["series"]]
    assert labels == ["linear", "cosine", "yours"]


def test_alpha_for_alpha_bar_is_seen() -> None:
    """The table of alpha is drawn, its difference named, and the jump it makes is too short."""
    explorer = ScheduleLab(T=50, alpha_bar=lambda beta: 1 - beta, n=2000)
    schedule = explorer.noise_schedule
    gap = (schedule.alpha - schedule.alpha_bar).abs()
    assert explorer.difference == pytest.approx(float(gap.max()))
    assert f"differs from linear: largest difference {float(gap.max()):.2g}" in explorer.notes[0]
    assert f"at t = {int(gap.argmax())}" in explorer.notes[0]
    scene = explorer.scene()
    assert torch.allclose(curve(scene, 0, "yours").double(), schedule.alpha, atol=1e-6)
    assert "your jump" in explorer.histograms
    eps = explorer._state.eps
    wanted = de.q_sample(explorer._state.x0, 20, eps, de.Schedule(schedule.alpha))
    assert torch.allclose(explorer.jump[20], wanted)
    assert explorer.distance.max() > 1.5 * explorer.chance


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda beta: (1 - beta).cumprod(0)[1:], ["shape (20,)", "(T+1,) = (21,), one value"]),
        (lambda beta: None, ["returned None"]),
        (lambda beta: [1.0] * 21, ["returned list", "must return a tensor"]),
        (lambda beta: (1 - beta).cumprod(0) / 0, ["infinity"]),
        (lambda beta: beta.log() * 0, ["NaN", "first at t = 0"]),
        (lambda beta: (1 - beta).cumsum(0), ["no schedule", "must not increase", "difference"]),
        (
            lambda beta: beta.cumprod(0),
            ["alpha_bar[0] must be 1", "largest difference 1, at t = 0"],
        ),
        (lambda T: torch.ones(T + 1), ["alpha_bar[1] must be below 1"]),
        (lambda T: torch.linspace(1, -1, T + 1), ["must stay above 0"]),
        (lambda T: T / none, ["NameError", "none"]),  # type: ignore[name-defined]  # noqa: F821
    ],
)
def test_wrong_tables_are_explained(function: Any, words: list[str]) -> None:
    """Each mistake has its sentence; the schedules, chain and jump are drawn all the same."""
    explorer = ScheduleLab(T=20, alpha_bar=function, n=30)
    assert all(word in explorer.notes[0] for word in words), explorer.notes
    assert torch.equal(explorer.jump, ScheduleLab(T=20, n=30).jump)
    answer, _ = ask(explorer, T=10)
    json.dumps(answer["scene"], allow_nan=False)
    assert len(answer["scene"]["text"]) == 11


def test_a_table_edited_in_place_spoils_nothing() -> None:
    """The learner gets a copy."""

    def wrong(beta: Tensor) -> Tensor:
        return beta.mul_(-1).add_(1).cumprod(0)

    explorer = ScheduleLab(T=20, alpha_bar=wrong, n=30)
    assert "agrees" in explorer.notes[0]
    assert torch.equal(explorer.noise_schedule.beta, de.linear(20).beta)


@pytest.mark.parametrize("name", ["alpha_bar", "q_sample"])
def test_what_is_no_function_is_refused(name: str) -> None:
    """With its name."""
    with pytest.raises(ValueError, match=f"{name} must be a function"):
        ScheduleLab(**{name: torch.ones(3)})


@pytest.mark.parametrize("name", ["alpha_bar", "q_sample"])
def test_a_function_that_hangs_is_given_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The explorer lives on, and does not call it again."""

    def make(hang: Any) -> ScheduleLab:
        return ScheduleLab(T=10, n=30, **{name: hang})

    explorer = check_hanging(make, monkeypatch, seed=1)
    assert "did not return" in explorer.notes[0]
    assert torch.equal(explorer.jump, ScheduleLab(T=10, n=30, seed=1).jump)


# ---- the learner's q_sample --------------------------------------------------------------------


def test_a_right_q_sample_agrees() -> None:
    """The reference itself, and one that wants t as a tensor."""

    def of_tensor(x0: Tensor, t: Tensor, eps: Tensor, schedule: Any) -> Tensor:
        a = schedule.alpha_bar[t].float().view(-1, 1)
        return a.sqrt() * x0 + (1 - a).sqrt() * eps

    for function in (de.q_sample, of_tensor):
        explorer = ScheduleLab(T=150, n=100, q_sample=function)
        assert explorer.jump_difference < 1e-6
        assert "your q_sample agrees" in explorer.notes[0]
        assert torch.allclose(explorer.jump, ScheduleLab(T=150, n=100).jump, atol=1e-6)


def test_a_variance_for_a_standard_deviation_is_measured() -> None:
    """(1 - alpha_bar) eps for its root: off by |b - b^2| |eps|, and the histograms part."""

    def wrong(x0: Tensor, t: int, eps: Tensor, schedule: Any) -> Tensor:
        a = float(schedule.alpha_bar[t])
        return math.sqrt(a) * x0 + (1 - a) * eps

    explorer = ScheduleLab(T=150, n=2000, q_sample=wrong)
    b = explorer.noise_schedule.sqrt_one_minus_alpha_bar[explorer.times]
    off = (b - b**2).max() * explorer._state.eps.abs().max()
    assert explorer.jump_difference == pytest.approx(float(off), rel=1e-4)
    assert "differs from the reference" in explorer.notes[0]
    assert int(explorer.notes[0].split("t = ")[1]) == explorer.times[int((b - b**2).argmax())]
    assert "your jump" in explorer.histograms
    assert explorer.distance.max() > explorer.chance
    assert "yours is off by" in explorer.scene().text[3]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x0, t, eps, s: x0[:, :1], ["At t = 0", "returned shape (30, 1)"]),
        (lambda x0, t, eps, s: None, ["returned None"]),
        (lambda x0, t, eps, s: x0 / (t - 4), ["infinity", "t = 4"]),
        (lambda x0, t, eps, s: x0 / none, ["NameError"]),  # type: ignore[name-defined]  # noqa: F821
    ],
)
def test_wrong_q_samples_are_explained(function: Any, words: list[str]) -> None:
    """The rest is drawn all the same, and the text says where nothing is known."""
    explorer = ScheduleLab(T=20, n=30, q_sample=function)
    assert all(word in explorer.notes[0] for word in words), explorer.notes
    answer, _ = ask(explorer, T=10)
    json.dumps(answer["scene"], allow_nan=False)
    if "infinity" in words:
        assert "KS unknown" in explorer.scene().text[4]
        assert "KS unknown" not in explorer.scene().text[5]


def test_a_slow_q_sample_is_shown_as_far_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels it did not reach have no histogram of it."""
    monkeypatch.setattr(learner, "PATIENCE", 0.5)

    def slow(x0: Tensor, t: int, eps: Tensor, schedule: Any) -> Tensor:
        time.sleep(0.04)
        return de.q_sample(x0, t, eps, schedule)

    explorer = ScheduleLab(T=60, n=30, q_sample=slow)
    assert "is slow" in explorer.notes[0]
    made = explorer.histograms["your jump"].isfinite().all(1)
    assert made[0]
    assert not made[-1]
    assert "KS unknown" in explorer.scene().text[-1]


def test_both_functions_work_together() -> None:
    """q_sample gets the schedule of the learner's table of betas."""
    seen = set()

    def sample(x0: Tensor, t: int, eps: Tensor, schedule: Any) -> Tensor:
        seen.add(schedule.name)
        return de.q_sample(x0, t, eps, schedule)

    explorer = ScheduleLab(T=20, n=30, alpha_bar=lambda beta: 1 - beta, q_sample=sample)
    assert seen == {"yours"}
    assert len(explorer.notes) == 2
    assert explorer.jump_difference == 0
    assert explorer.difference > 0.1
