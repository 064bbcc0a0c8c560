"""GuidanceDial in the learner's hands: a guidance of their own, controls and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from explorers import (
    check_explained,
    check_hanging,
    check_page,
    check_png,
    check_refused,
    check_reset,
    drag,
    each_end,
    release,
    slowed,
)
from test_widgets_guidance_dial import FEW

import diffusion_edu as de
from diffusion_edu.widgets import guidance_scores, learner
from diffusion_edu.widgets.guidance_dial import GuidanceDial

# ---- the learner's function --------------------------------------------------------------------


def test_a_right_cfg_eps_agrees() -> None:
    """Another algebraic form differs by rounding only; its grid is drawn as "yours"."""
    explorer = GuidanceDial(cfg_eps=lambda c, u, w: w * c + (1 - w) * u, steps=5)
    assert "agrees" in explorer.notes[0]
    assert explorer.difference < 1e-3
    assert [p["title"] for p in explorer.scene().panels][:2] == ["guidance 3", "yours"]


def test_the_papers_w_is_named() -> None:
    """(1 + w) c - w u with w = guidance is guidance + 1."""
    explorer = GuidanceDial(cfg_eps=lambda c, u, w: (1 + w) * c - w * u, guidance=1.0, steps=3)
    assert "differs" in explorer.notes[0]
    assert "guidance + 1" in explorer.notes[0]
    wanted = GuidanceDial(guidance=2.0, steps=3).frames
    assert torch.allclose(explorer.mine, wanted, atol=1e-3)
    expected = float((explorer.mine - explorer.frames).abs().max())
    assert explorer.difference == pytest.approx(expected)
    wrong = GuidanceDial(cfg_eps=lambda c, u, w: c - w * (c - u), steps=2)
    assert "differs" in wrong.notes[0]
    assert "guidance + 1" not in wrong.notes[0]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda c, u, w: c[:, :, :4], ["At t = 1000", "returned shape", "must be"]),
        (lambda c, u, w: c / 0 - u / 0, ["gives", "first at t = 500"]),
        (lambda c, u, w: c / none, ["NameError"]),  # type: ignore[name-defined]  # noqa: F821
        (lambda c, u, w: None, ["returned None"]),
        (lambda c, u: c, ["TypeError"]),
    ],
)
def test_wrong_functions_are_explained(function: Any, words: list[str]) -> None:
    """The reference is drawn all the same, and the sliders live."""
    explorer = GuidanceDial(cfg_eps=function, **FEW)
    scene = check_explained(explorer, words, guidance=1.0)
    assert explorer.frames.isfinite().all()
    assert len(scene["panels"]) == 3


def test_a_slow_function_is_drawn_as_far_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it gave in time."""
    monkeypatch.setattr(learner, "PATIENCE", 0.7)
    explorer = GuidanceDial(cfg_eps=slowed(lambda c, u, w: c, 0.5), steps=5)
    assert "is slow" in explorer.notes[0]
    finite = explorer.mine.isfinite().flatten(1).all(1)
    assert finite.tolist() == [True, True, False, False, False, False]


def test_a_function_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not called again."""
    explorer = check_hanging(lambda f: GuidanceDial(cfg_eps=f, **FEW), monkeypatch, guidance=1.0)
    assert explorer.frames.isfinite().all()


# ---- parameters --------------------------------------------------------------------------------


def test_every_control_at_both_ends() -> None:
    """Each slider at its ends and each choice gives a whole grid, and a scene of finite numbers."""
    explorer = GuidanceDial(**FEW)
    for _ in each_end(explorer):
        assert explorer.frames.isfinite().all()
        assert len(explorer.frames) == explorer.steps + 1 == len(explorer.times)


def test_dragging_is_coarse_and_keeps_the_layout() -> None:
    """Fewer steps, the same panels; the full walk on release."""
    explorer = GuidanceDial(steps=12)
    object.__setattr__(explorer._state.shown, "pace", 1.0)  # a slow machine
    rough = drag(explorer, guidance=2.0)
    assert rough["coarse"]
    assert len(rough["time"]["values"]) == 5
    fine = release(explorer)
    assert not fine["coarse"]
    assert len(fine["time"]["values"]) == 13
    for key in ("kind", "title"):
        assert [p[key] for p in rough["panels"]] == [p[key] for p in fine["panels"]]
    assert [p["shape"] for p in rough["panels"][:2]] == [p["shape"] for p in fine["panels"][:2]]


def test_the_result_is_shown_first_and_reset_returns() -> None:
    """t = 0 unless another is asked for; Reset undoes all changes."""
    explorer = GuidanceDial(**FEW)
    assert (explorer.t, explorer.frame) == (0, 2)
    assert GuidanceDial(t=1000, **FEW).frame == 0
    before = explorer.frames
    check_reset(explorer, guidance=0.5, label="7", seed=3)
    assert torch.equal(explorer.frames, before)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"guidance": 6.0}, "guidance must be .*guidance=6.0"),
        ({"label": 10}, "unknown label '10'"),
        ({"label": True}, "unknown label True"),
        ({"steps": 51}, "steps must .*steps=51"),
        ({"eta": -0.1}, "eta must be .*eta=-0.1"),
        ({"model": "moons"}, "unknown model 'moons'"),
    ],
)
def test_bad_values_change_nothing(values: dict[str, Any], words: str) -> None:
    """Refused with the name, the value and what is allowed, also at the start."""
    check_refused(GuidanceDial(**FEW), values, words)
    with pytest.raises(ValueError, match=words):
        GuidanceDial(**values)


def test_networks_without_classes_are_refused() -> None:
    """Guidance needs a network that can be told the class; other things are no network."""
    path = Path(de.__file__).parent / "nets" / "weights" / "moons.safetensors"
    with pytest.raises(ValueError, match="knows no classes"):
        GuidanceDial(path)
    with pytest.raises(ValueError, match="callable model"):
        GuidanceDial(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cfg_eps must be a function"):
        GuidanceDial(cfg_eps=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown dataset 'moons'"):
        GuidanceDial(lambda x, t, y: x, dataset="moons")


# ---- files -------------------------------------------------------------------------------------


def test_a_page_has_its_curves_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting of the page, at most 3 MB with 10 steps; what is measured is in it."""
    monkeypatch.setattr(guidance_scores, "MEASURED", 20)
    explorer = GuidanceDial(**FEW)
    page = check_page(explorer, tmp_path / "dial.html", most=3_000_000 * 3 // 11)  # of 10 steps
    assert explorer.curve.missing == []
    settings = len(GuidanceDial.PAGES["guidance"]) * len(GuidanceDial.PAGES["label"])
    assert page.count('"fidelity, 100 each"') == settings
    check_png(explorer, tmp_path / "dial.png")
