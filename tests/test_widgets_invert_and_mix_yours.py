"""InvertAndMix in the learner's hands: functions of their own, controls and files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from explorers import (
    ask,
    check_explained,
    check_hanging,
    check_page,
    check_png,
    check_refused,
    check_reset,
    drag,
    each_end,
    layout,
    release,
    slowed,
)
from torch import Tensor

from diffusion_edu import MixtureOracle, ddim, invert, linear, slerp, toy
from diffusion_edu.widgets import datasets, invert_and_mix, learner
from diffusion_edu.widgets.invert_and_mix import InvertAndMix
from diffusion_edu.widgets.invert_paths import CURVE


@pytest.fixture(scope="module")
def short() -> InvertAndMix:
    return InvertAndMix("oracle", "gaussians", steps=2)


# ---- the learner's functions -------------------------------------------------------------------


def one_angle(a: Tensor, b: Tensor, lam: float) -> Tensor:
    """Right for one pair, wrong for a batch."""
    theta = ((a * b).sum() / (a.norm() * b.norm())).acos()
    return ((1 - lam) * theta).sin() / theta.sin() * a + (lam * theta).sin() / theta.sin() * b


def no_fallback(a: Tensor, b: Tensor, lam: float) -> Tensor:
    cos = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    theta = cos.clamp(max=1).acos()[:, None]
    theta = torch.where(cos[:, None] > 1 - 1e-6, torch.zeros_like(theta), theta)
    return ((1 - lam) * theta).sin() / theta.sin() * a + (lam * theta).sin() / theta.sin() * b


def all_up(model: Any, x0: Tensor, taus: Tensor, schedule: Any) -> Tensor:
    *_, end = invert(model, x0, schedule, taus)
    return end.x_s


Make = Callable[..., InvertAndMix]


@pytest.fixture
def learning(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes an explorer of few round trips, which no function of the learner's is part of."""
    monkeypatch.setattr(invert_and_mix, "CURVE", (1, 2))

    def make(**functions: Any) -> InvertAndMix:
        return InvertAndMix("oracle", "gaussians", steps=10, **functions)

    return make


def test_right_functions_agree(learning: Make) -> None:
    """The library's own: no difference, and the same path."""
    explorer = learning(slerp=slerp, invert=all_up)
    assert all("agrees" in note for note in explorer.notes)
    assert len(explorer.notes) == 2
    assert explorer.difference < 1e-6
    assert torch.allclose(explorer.mine, explorer.path, atol=1e-4)
    assert torch.allclose(explorer.mine_latents, explorer.latents, atol=1e-5)


def test_a_wrong_slerp_is_drawn_and_measured(learning: Make) -> None:
    """Lambda reversed: at lambda 0 it is b instead of a, and so is the latent drawn."""
    explorer = learning(slerp=lambda a, b, lam: slerp(b, a, lam))
    assert torch.allclose(explorer.mine_mixed, explorer.mixed.flip(0), atol=1e-5)
    assert "differs" in explorer.notes[0]
    assert "at λ = " in explorer.notes[0]
    assert explorer.difference >= float((explorer.latents[0] - explorer.latents[1]).abs().max())
    plain = learning().scene().panels
    for panel, without in zip(explorer.scene().panels[:2], plain, strict=False):
        assert len(panel["layers"]) == len(without["layers"]) + 1


def test_one_angle_for_a_batch_is_found(learning: Make) -> None:
    """The pair shown is one of several that are tried."""
    assert "differs" in learning(slerp=one_angle).notes[0]


def test_parallel_latents_are_tried(learning: Make) -> None:
    """0/0 where sin(theta) = 0 has a sentence of its own; the path is drawn all the same."""
    explorer = learning(slerp=no_fallback)
    assert "parallel" in explorer.notes[0]
    assert torch.allclose(explorer.mine_mixed, explorer.mixed, atol=1e-4)


def test_a_wrong_inversion_is_measured(learning: Make) -> None:
    """Sampling in place of inversion: the note has the largest difference."""

    def upside_down(model: Any, x0: Tensor, taus: Tensor, schedule: Any) -> Tensor:
        return ddim(model, x0, schedule, len(taus) - 1)

    explorer = learning(invert=upside_down)
    off = float((explorer.mine_latents - explorer.latents).abs().max())
    assert off > 0.1
    assert explorer.difference >= off
    assert "your invert differs" in explorer.notes[0]


@pytest.mark.parametrize("role", ["slerp", "invert"])
@pytest.mark.parametrize(
    ("result", "words"),
    [
        (lambda x: x[:1], ["returned shape", "must be"]),
        (lambda x: None, ["returned None"]),
        (lambda x: x / 0, ["infinity"]),
        (lambda x: x * float("nan"), ["NaN"]),
        (lambda x: x / none, ["NameError"]),  # type: ignore[name-defined]  # noqa: F821
    ],
)
def test_wrong_results_are_explained(
    learning: Make, role: str, result: Any, words: list[str]
) -> None:
    """The reference is drawn all the same, and the sliders live."""
    first = {"slerp": lambda a, b, lam: result(a), "invert": lambda m, x0, taus, s: result(x0)}
    explorer = learning(**{role: first[role]})
    check_explained(explorer, words, bx=0.5)
    assert explorer.path.isfinite().all()


@pytest.mark.parametrize("role", ["slerp", "invert"])
def test_functions_that_hang_or_crawl_are_given_up(
    learning: Make, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The explorer lives on; what hangs, or takes too long for a single answer, is left alone."""
    check_hanging(lambda f: learning(**{role: f}), monkeypatch, bx=0.5)
    crawl = slowed(lambda *args: args[0], 0.5)
    check_explained(learning(**{role: crawl}), ["did not return"], bx=0.5)


def test_a_slow_slerp_is_shown_as_far_as_it_came(
    learning: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """41 calls of 20 ms do not fit: the first are drawn, the rest are NaN."""
    monkeypatch.setattr(learner, "PATIENCE", 0.3)
    explorer = learning(slerp=slowed(slerp, 0.02))
    assert "slow" in explorer.notes[0]
    assert explorer.mine is not None
    assert explorer.mine[0].isfinite().all()
    assert explorer.mine[-1].isnan().all()
    json.dumps(explorer.scene().head(), allow_nan=False)


# ---- parameters --------------------------------------------------------------------------------


def test_every_control_at_both_ends() -> None:
    """Each slider at its ends and each choice gives a scene of finite arrays; Reset goes back."""
    explorer = InvertAndMix("gaussians", steps=10)
    for _ in each_end(explorer):
        assert explorer.path.isfinite().all()
    check_reset(explorer, bx=0.3, steps=4, mix="lerp")


def test_images_have_their_own_controls() -> None:
    """Points to drag for points, numbers of images for images."""
    explorer = InvertAndMix("digits", steps=2)
    live = {c.name for c in explorer._controls(explorer._state) if c.enabled}
    assert {"a", "b", "steps", "mix"} <= live
    assert not {"ax", "ay", "bx", "by"} & live
    for value in (0, 63):
        assert "error" not in ask(explorer, b=value)[0]
        assert torch.equal(explorer.ends[1], datasets.load("digits", 64, 0)[value])


def test_data_without_a_network_get_the_exact_denoiser() -> None:
    """Asking for a network of such data moves to data that have one."""
    explorer = InvertAndMix("oracle", "circles", steps=2)
    assert "finite set" in explorer.notes[0]
    assert "error" not in ask(explorer, model="network")[0]
    assert explorer.dataset == "swiss_roll"


def test_a_callable_with_few_levels() -> None:
    """steps are held to T, also while a slider is dragged beyond it."""
    schedule = linear(30)
    oracle = MixtureOracle(*toy.gaussians_mixture(), schedule)
    explorer = InvertAndMix(oracle, "gaussians", schedule=schedule)
    assert list(explorer.errors) == [1, 2, 5, 10, 20]
    assert "error" not in ask(explorer, steps=90)[0]
    assert explorer.steps == 30
    with pytest.raises(ValueError, match=r"steps must lie in 1..T = 1..30, got steps=31"):
        explorer.steps = 31


def test_dragging_is_coarse_and_release_is_not() -> None:
    """A costly way has fewer steps and frames while dragged; the pictures stay in place."""
    explorer = InvertAndMix("oracle", "gaussians", steps=20)
    explorer._state.seconds = 0.09
    rough = drag(explorer, bx=0.5)
    assert rough["coarse"]
    assert explorer._state.steps == 3
    assert len(explorer._state.path.unique(dim=0)) == 3
    assert len(explorer.path.unique(dim=0)) > 30
    assert explorer._state.steps == 20
    fine = release(explorer)
    assert not fine["coarse"]
    assert [kind for kind, _ in layout(rough)] == [kind for kind, _ in layout(fine)]


def test_dragging_the_seed_keeps_the_curve() -> None:
    """New round trips are measured on release."""
    explorer = InvertAndMix("oracle", "gaussians")
    curve = explorer._state.curve
    assert drag(explorer, seed=9)["coarse"]
    assert explorer._state.curve is curve
    assert explorer.errors[20] != float(curve[1][CURVE.index(20)])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ax": 9.0}, "ax must be .*ax=9.0"),
        ({"by": float("nan")}, "by must be .*by=nan"),
        ({"mix": "stir"}, "unknown mix 'stir'"),
        ({"steps": 0}, "steps must .*"),
        ({"a": 64}, "a must .*64"),
        ({"t": 1.5}, "t must be .*t=1.5"),
        ({"sigma": 1}, "unknown parameter 'sigma'"),
    ],
)
def test_bad_values_change_nothing(short: InvertAndMix, values: dict[str, Any], words: str) -> None:
    """Refused with the name, the value and what is allowed."""
    check_refused(short, values, words)


def test_files(tmp_path: Path) -> None:
    """A page of at most 3 MB that offers some values, and a picture."""
    explorer = InvertAndMix("oracle", "gaussians")
    page = check_page(explorer, tmp_path / "page.html")
    assert page.count("within") > 40 * 40  # one line for each frame of each setting
    check_png(explorer, tmp_path / "x.png")
