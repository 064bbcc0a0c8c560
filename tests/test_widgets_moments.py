"""Moments at which explorers went wrong: a drag, a page being written, a function with a slip."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from explorers import ask, drag, layout, release, scenes_of, slowed
from torch import Tensor

import diffusion_edu as de
from diffusion_edu.widgets import (
    ElboDecomposer,
    ForwardExplorer,
    GuidanceDial,
    PosteriorPlayground,
    ReverseExplorer,
    ScheduleLab,
    ScoreField,
    TrainingTheatre,
    learner,
    training_theatre,
)
from diffusion_edu.widgets.forward import LOWEST

# ---- a slow function ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "function"),
    [
        (lambda f: ForwardExplorer(T=100, n=50, q_sample=f), de.q_sample),
        (lambda f: ScheduleLab(T=100, n=50, q_sample=f), de.q_sample),
        (lambda f: PosteriorPlayground(T=50, q_posterior=f), de.q_posterior),
    ],
)
def test_what_a_drag_left_out_is_made_good(make: Any, function: Any, monkeypatch: Any) -> None:
    """Held, a slider leaves little time; let go, all frames are there and are judged."""
    monkeypatch.setattr(learner, "HURRY", 0.02)
    explorer = make(slowed(function, 0.003))
    name = next(c.name for c in explorer.scene().controls if c.kind == "range" and c.enabled)
    scene = drag(explorer, **{name: getattr(explorer, name) or 50})
    assert scene["coarse"]
    assert "slow" in explorer.notes[-1]
    scene = release(explorer)
    assert not scene["coarse"]
    assert "agrees" in explorer.notes[-1]


def test_only_the_learners_own_time_counts(monkeypatch: Any) -> None:
    """A network may take longer than a learner's step has; the step is called all the same."""
    monkeypatch.setattr(learner, "PATIENCE", 0.2)
    schedule = de.linear(20)
    network = slowed(de.EmpiricalOracle(de.toy.moons(50), schedule), 0.05)

    def step(x: Tensor, t: int, s: int, eps: Tensor, z: Tensor, eta: float, chain: Any) -> Tensor:
        x0 = de.predict("eps", eps, x, t, chain).x0
        return de.reverse_step(x0, eps, t, s, chain, eta=eta, z=z)

    explorer = ReverseExplorer(network, schedule=schedule, steps=8, step=step, n=20)
    assert explorer.notes == ["your step agrees with the reference: largest difference 0"]
    slow = ReverseExplorer(network, schedule=schedule, steps=8, step=slowed(step, 0.06), n=20)
    assert "your step is slow" in slow.notes[0]
    assert slow.mine is not None
    assert slow.mine[1].isfinite().all()
    assert slow.mine[-1].isnan().all()


@pytest.mark.parametrize("sampler", ["ddim", "ddpm_small"])
def test_a_step_is_judged_where_it_stands(sampler: str) -> None:
    """Roundings grow along a walk of a hundred steps, and are no mistake; a mistake is one."""

    def step(x: Tensor, t: int, s: int, eps: Tensor, z: Tensor, eta: float, chain: Any) -> Tensor:
        x0 = (x - (1 - chain.alpha_bar[t]).sqrt() * eps) / chain.alpha_bar[t].sqrt()
        sigma = de.ddim_sigma(t, s, eta, chain)
        direction = (1 - chain.alpha_bar[s] - sigma**2).clamp(min=0).sqrt()
        x_s = chain.alpha_bar[s].sqrt() * x0 + direction * eps + sigma * z
        return x_s.float() + wrong

    wrong, how = 0.0, {"sampler": sampler, "steps": 100, "n": 300, "step": step}
    assert "agrees" in ReverseExplorer("oracle", "spirals", **how).notes[0]
    wrong = 0.01
    assert (
        "differs from the reference: largest difference 0.01"
        in (ReverseExplorer("oracle", "spirals", **how).notes[0])
    )


def test_the_mistake_is_named_and_not_the_kind_of_times() -> None:
    """A function for tensor times refuses an int on an early line; its own slip is further down."""

    def q_sample(x0: Tensor, t: Any, eps: Tensor, schedule: Any) -> Tensor:
        signal = schedule.alpha_bar[t].sqrt()[:, None].to(x0)
        return signal * x0 + nois * eps  # noqa: F821, the slip

    (said,) = ForwardExplorer(n=20, T=5, q_sample=q_sample).notes
    assert "NameError" in said
    assert "return signal * x0 + nois * eps" in said


def test_the_reference_without_the_factor_is_named() -> None:
    """shrink=False draws another process; a right q_sample is right, and what it is, is said."""
    explorer = ForwardExplorer(n=20, T=5, shrink=False, q_sample=de.q_sample)
    assert explorer.difference == 0
    assert "agrees with q_sample, which has the factor that is off here" in explorer.notes[0]


# ---- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [ForwardExplorer, ScheduleLab])
def test_betas_set_from_python_stay(make: Any) -> None:
    """Beyond the ends of their sliders too, until T or they are moved in the browser."""
    explorer = make(T=2, beta_1=0.7, beta_T=1e-6)
    answer, _ = ask(explorer, t=1)
    assert answer["version"] == 0
    assert (explorer.beta_1, explorer.beta_T) == (0.7, 1e-6)
    ask(explorer, beta_1=0.8)
    assert (explorer.beta_1, explorer.beta_T) == (0.5, 1e-6)
    ask(explorer, T=3)
    assert (explorer.beta_1, explorer.beta_T) == (0.5, LOWEST)
    answer, _ = ask(explorer, T=0)
    assert answer["error"] == "T must be an int in 1..1000, got T=0"


def test_the_code_is_that_of_the_frame() -> None:
    """A t between the levels visited is shown as the nearest of them, and so it is in the code."""
    explorer = ReverseExplorer("oracle", "moons", steps=7, t=500, n=20)
    shown = explorer.times[explorer.frame]
    assert shown != 500
    found: dict[str, Any] = {}
    exec(explorer.code, found)
    assert torch.allclose(found["x_t"], explorer.frames[explorer.frame], atol=1e-5)


def test_reading_all_points_is_told_to_the_player() -> None:
    """While a slider is held only some points move; who reads frames makes the others move."""
    explorer = ReverseExplorer("oracle", "moons", steps=5, n=600)
    explorer._state.seconds = 1.0  # as if it took long
    assert drag(explorer, eta=0.5)["coarse"]
    thin = explorer.version
    assert len(explorer.frames[0]) == 600
    assert explorer.version > thin
    answer, _ = explorer.receive({"seq": 2, "view": "v", "version": thin, "final": True})
    assert not answer["scene"]["coarse"]


def test_an_action_tells_where_the_time_is() -> None:
    """A button is a question that carries t, as others do."""
    explorer = GuidanceDial(steps=2)
    explorer._act = lambda action: None  # type: ignore[method-assign]
    explorer.receive({"seq": 1, "view": "v", "action": "measure", "values": {"t": 500}})
    assert explorer.t == 500


# ---- pages -------------------------------------------------------------------------------------


def test_a_page_is_of_one_moment() -> None:
    """Sliders that move while it is written change nothing in it, nor does it change them."""
    explorer, other = (ForwardExplorer("moons", n=30, T=5, seed=seed) for seed in (0, 7))
    wanted = explorer._pages()[0]
    seen = []

    def moved(done: float, text: str) -> None:
        seen.append((explorer.shrink, explorer.schedule, explorer.seed))
        explorer.seed = 7

    found = explorer._pages(moved)[0]
    assert found.keys() == wanted.keys()
    assert all(found[key].buffers == wanted[key].buffers for key in wanted)
    assert explorer.scene().buffers == other.scene().buffers
    assert {(shrink, schedule) for shrink, schedule, _ in seen} == {("on", "linear")}


def test_pages_in_the_background_leave_parameters_alone() -> None:
    """Who reads a parameter while a page is written reads what is shown."""
    explorer = ReverseExplorer("oracle", "moons", steps=5, eta=0.3, n=300)
    thread = threading.Thread(target=explorer._pages)
    thread.start()
    seen = set()
    while thread.is_alive():
        seen.add((explorer.eta, explorer.steps))
        time.sleep(0.001)
    assert seen == {(0.3, 5)}


def test_values_of_a_page_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    """Else a page would show one thing under the name of another."""
    with pytest.raises(ValueError, match=r"'circles' cannot be had with model='network'"):
        ScoreField(steps=3).to_html(
            tmp_path / "a.html", model=["network", "oracle"], dataset=["swiss_roll", "circles"]
        )
    with pytest.raises(ValueError, match=r"beta_1=0\.4 cannot be had with T=1000"):
        ForwardExplorer(n=20, T=10).to_html(tmp_path / "a.html", T=[10, 1000], beta_1=[1e-4, 0.4])
    assert not (tmp_path / "a.html").exists()


def test_a_short_chain_has_a_page_of_its_own() -> None:
    """The page that nobody asked for values offers those that there are; no more is an error."""
    schedule = de.linear(10)
    oracle = de.EmpiricalOracle(de.toy.moons(30), schedule)
    explorer = ReverseExplorer(oracle, schedule=schedule, steps=5, n=20)
    assert explorer._pages()[1] == {"steps": [2, 5], "eta": [0.0, 1.0]}
    with pytest.raises(ValueError, match="steps=20 cannot be had"):
        explorer._pages(values={"steps": [20]})
    wish = {"draws": 7.3}
    assert ElboDecomposer(draws=64)._fit(wish) != wish == {"draws": 7.3}  # it changes a copy


def test_a_page_trains_a_network_once(monkeypatch: Any) -> None:
    """Settings that look at one training look at the same."""
    made, real = [], training_theatre.Training

    def counted(*args: Any) -> Any:
        made.append(args)
        return real(*args)

    explorer = TrainingTheatre(steps=20)
    monkeypatch.setattr(training_theatre, "Training", counted)
    explorer._pages(values={"level": [50, 150], "seed": [0, 1]})
    assert len(made) == 1


def test_a_page_offers_what_is_not_set_and_the_smallest_numbers(tmp_path: Path) -> None:
    """beta_1 that follows T is "auto"; Python and JavaScript write 0.00005 in two ways."""
    explorer = ForwardExplorer(n=20, T=10)
    state = scenes_of(explorer.to_html(tmp_path / "page.html", beta_1=[5e-5, 1e-3]))
    assert state["grid"] == {"beta_1": ["auto", 5e-05, 0.001]}
    assert state["at"] == {"beta_1": "auto"}
    first = state["scenes"]["0"]
    (beta,) = (c for c in first["controls"] if c["name"] == "beta_1")
    assert (beta["value"], beta["choices"]) == ("auto", ["auto", "5e-05", "0.001"])


def test_a_page_has_all_its_curves(tmp_path: Path) -> None:
    """GuidanceDial's button is not on a page: the curves of each setting are measured for it."""
    explorer = GuidanceDial(steps=1)
    scenes, grid, _ = explorer._pages(values={"steps": [1, 2]})
    assert grid == {"steps": [1, 2]}
    one, two = (layout(scene.head()) for scene in scenes.values())
    assert one == two
    for scene in scenes.values():
        assert not any(action["enabled"] for action in scene.actions)


def test_pictures_of_predictions_keep_their_shades() -> None:
    """At t = T a prediction may be 13; the grid is scaled by what a screen can show."""
    explorer = ReverseExplorer("digits", steps=2, ghost=True)
    (panel,) = (p for p in explorer.scene().panels if p["title"] == "prediction")
    assert max(float(x.abs().max()) for x in explorer.predicted) > 1.0001
    assert panel["layers"][0]["x"]["scale"] == pytest.approx(1 / 127, rel=1e-3)
