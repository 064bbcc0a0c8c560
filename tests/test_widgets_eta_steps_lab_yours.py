"""EtaStepsLab in the learner's hands: a step of their own, controls and files."""

from __future__ import annotations

import json
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
    drag,
    each_end,
    layout,
    release,
    slowed,
)
from test_widgets_eta_steps_lab import N, oracle_lab, slow_lab
from torch import Tensor

import diffusion_edu as de
from diffusion_edu.prediction import predict
from diffusion_edu.sampling import reverse_step
from diffusion_edu.viz.scene import unpack
from diffusion_edu.widgets import learner
from diffusion_edu.widgets.eta_steps_lab import EtaStepsLab

# ---- the learner's function --------------------------------------------------------------------


def right(x: Tensor, t: int, s: int, eps: Tensor, z: Tensor, eta: float, chain: Any) -> Tensor:
    x0 = predict("eps", eps, x, t, chain).x0
    return reverse_step(x0, eps, t, s, chain, eta=eta, z=z)


def test_a_right_step_agrees() -> None:
    """It walks as DDIM does, in place of DDPM, and is measured."""
    lab = oracle_lab(step=right, eta=0.6, steps=7, spacing="quadratic")
    assert lab.difference is not None
    assert lab.difference < 1e-4
    assert "agrees" in lab.notes[0]
    assert [p["title"] for p in lab.scene().panels][1] == "yours, S = 7"
    assert lab.distances["yours"] == pytest.approx(lab.distances["ddim"], abs=1e-4)
    assert "yours" in lab.scene().text[0]
    assert "DDPM" not in lab.scene().text[0]


def test_a_forgotten_noise_is_measured() -> None:
    """Without z the walk is that of eta's mean: other points, and the note says how far off."""
    lab = oracle_lab(step=lambda x, t, s, eps, z, *rest: right(x, t, s, eps, 0 * z, *rest), eta=1.0)
    assert "differs" in lab.notes[0]
    assert lab.mine is not None
    off = (lab.mine - lab.frames).abs().max()
    assert lab.difference == pytest.approx(float(off))
    assert lab.distances["yours"] != pytest.approx(lab.distances["ddim"], rel=0.01)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x, *rest: x[:, :1], ["returned shape"]),
        (lambda x, *rest: None, ["returned None"]),
        (lambda x, *rest: x / 0, ["gives infinity"]),
        (lambda x, *rest: x * torch.nan, ["gives NaN"]),
        (lambda x, *rest: x / none, ["NameError"]),  # type: ignore[name-defined]  # noqa: F821
        (lambda x, t: x, ["TypeError"]),
    ],
)
def test_wrong_steps_are_explained(function: Any, words: list[str]) -> None:
    """The reference is drawn all the same, and the sliders live."""
    lab = oracle_lab(step=function)
    scene = check_explained(lab, words, steps=5)
    assert len(scene["panels"]) == 3
    assert "yours" not in lab.distances


def test_a_slow_step_is_shown_as_far_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what came in time is drawn, and the explorer lives on."""
    monkeypatch.setattr(learner, "PATIENCE", 0.4)
    lab = oracle_lab(step=slowed(right, 0.15))
    check_explained(lab, ["slow"], eta=0.5)
    assert lab.mine[1].isfinite().all()
    assert lab.mine[-1].isnan().all()


def test_a_step_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not called again."""
    check_hanging(lambda step: oracle_lab(step=step), monkeypatch, eta=0.5)


# ---- parameters --------------------------------------------------------------------------------


def test_every_control_at_both_ends() -> None:
    """Each slider at its ends and each choice: finite walks, a scene that is JSON, three panels."""
    lab = EtaStepsLab("gaussians", n=N, steps=5)
    for _, scene, _ in each_end(lab):
        assert lab.frames.isfinite().all()
        assert lab.ddpm.isfinite().all()
        assert [p["kind"] for p in scene["panels"]] == ["points", "points", "table"]
        assert all(len(line) <= 110 for line in scene["text"])


def test_data_without_a_network_get_the_exact_denoiser() -> None:
    """Choosing such data moves the choice of the denoiser along, and back."""
    lab = EtaStepsLab("gaussians", n=N, steps=2)
    assert "error" not in ask(lab, dataset="circles")[0]
    assert (lab.model, lab.dataset) == ("oracle", "circles")
    assert "error" not in ask(lab, model="network")[0]
    assert lab.dataset in ("swiss_roll", "moons", "gaussians")


def test_a_short_chain() -> None:
    """The table has columns up to T; more steps than T are refused, or cut for a slider."""
    lab = oracle_lab(15, steps=15)
    assert lab.columns == (5, 10)
    assert lab.table.shape == (5, 2)
    lab.fill().wait()
    assert lab.table.isfinite().all()
    with pytest.raises(ValueError, match=r"steps must lie in 1..T = 1..15, got steps=16"):
        lab.steps = 16
    ask(lab, model="oracle", steps=80)
    assert lab.steps == 80
    assert "error" not in ask(lab, model="yours")[0]
    assert lab.steps == 15
    assert oracle_lab(3, steps=2).columns == (3,)


def test_dragging_is_coarse_and_release_is_not() -> None:
    """Fewer points of the same walk, without distances; panels, titles and levels stay."""
    lab = EtaStepsLab("gaussians", n=1500, steps=20)
    lab._state.ddim.seconds = 1.0
    rough = drag(lab, eta=0.5)
    assert rough["coarse"]
    few = lab._state.ddim.walk.x[-1]
    assert 200 <= len(few) <= 400
    stride = lab._state.stride
    assert torch.allclose(lab.frames[-1][::stride], few, atol=1e-5)  # frames are always of all
    fine = release(lab)
    assert not fine["coarse"]
    assert layout(rough) == layout(fine)
    assert rough["time"]["values"] == fine["time"]["values"]
    assert "DDIM 0" in fine["text"][0]
    assert "DDIM 0" not in rough["text"][0]


def test_many_steps_are_thinned_in_the_picture() -> None:
    """300 steps: at most 51 frames are drawn, noise and result among them."""
    lab = EtaStepsLab("oracle", "gaussians", n=50, steps=300)
    assert lab.frames.shape == (301, 50, 2)
    levels = lab.scene().head()["time"]["values"]
    assert len(levels) == 51
    assert (levels[0], levels[-1]) == (1000, 0)


def test_walks_that_blow_up() -> None:
    """A model that gives NaN: infinitely far, and the scene is valid."""

    def model(x: Tensor, t: Tensor) -> Tensor:
        return x / 0

    lab = EtaStepsLab(model, "gaussians", n=N, schedule=de.linear(50))
    assert lab.distances["ddim"] == torch.inf
    json.dumps(lab.scene().head(), allow_nan=False)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"eta": 1.5}, "eta must be .*eta=1.5"),
        ({"eta": "hat"}, "eta must be .*eta='hat'"),
        ({"steps": 0}, "steps must .*0"),
        ({"spacing": "even"}, "unknown spacing 'even'"),
        ({"metric": "fid"}, "unknown metric 'fid'"),
        ({"dataset": "digits"}, "unknown dataset 'digits'"),
        ({"model": "yours"}, "unknown model 'yours'"),
        ({"n": 2}, "n must .*2"),
        ({"seed": -1}, "seed must .*-1"),
    ],
)
def test_bad_values_change_nothing(values: dict[str, Any], words: str) -> None:
    """Refused with the name, the value and what is allowed."""
    check_refused(EtaStepsLab("oracle", "gaussians", n=N), values, words)


# ---- files -------------------------------------------------------------------------------------


def test_a_page_has_every_cell(tmp_path: Path) -> None:
    """Its reader has no button: all cells are measured, and each of DDIM's can be chosen."""
    lab = EtaStepsLab("gaussians", n=N)
    check_page(lab, tmp_path / "lab.html", eta=[0.0, 1.0], steps=[5, 10])
    assert lab.table.isfinite().all()
    scenes, _, _ = lab._pages(values={"eta": [0.0, 1.0], "steps": [5, 10]})
    for scene in (scenes[1.0, 5], scenes[0.0, 10]):
        drawn = unpack(scene.panels[-1]["values"], scene.buffers)
        assert torch.allclose(torch.from_numpy(drawn), lab.table.float().flatten())
    assert (lab.eta, lab.steps) == (0.0, 10)
    check_png(lab, tmp_path / "lab.png")


def test_writing_a_page_tells_how_far_it_is() -> None:
    """From 0 to 1, cells first; and what raises there ends it, with the cells measured kept."""
    lab = slow_lab(0.001, n=50)
    told: list[tuple[float, str]] = []
    lab._page(lambda done, text: told.append((done, text)))
    shares = [done for done, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert "cell" in told[0][1]
    lab.seed = 1

    def stop(done: float, text: str) -> None:
        if done > 0.02:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        lab._page(stop)
    assert 2 < int(lab.table.isfinite().sum()) < 25


def test_the_default_page_is_small_enough(tmp_path: Path) -> None:
    """All rows of DDIM and all columns, at most 3 MB, with as many points as are drawn of 1,500."""
    lab, default = EtaStepsLab(n=750), EtaStepsLab()
    assert default.n == 1500
    sizes = [[len(buffer) for buffer in each.scene().buffers] for each in (lab, default)]
    assert sizes[0] == sizes[1]
    check_page(lab, tmp_path / "lab.html")
