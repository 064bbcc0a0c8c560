"""PosteriorPlayground: what is drawn is Bayes' rule, and DDIM's family keeps its marginal."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import torch
from explorers import ask
from torch import Tensor

from diffusion_edu import ddim_sigma, q_marginal, q_posterior, q_sigma
from diffusion_edu.viz.scene import rows_at, unpack
from diffusion_edu.widgets import PosteriorPlayground, learner
from diffusion_edu.widgets.posterior_playground import SCHEDULES

POINTS = {"x0": 0.8, "x_t": -1.1, "y0": 0.3, "y_t": 0.9}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_mean_and_sd_are_those_of_the_library(schedule: str) -> None:
    """At every t: mean and variance of q_posterior, weights by moving x_0 and x_t."""
    explorer = PosteriorPlayground(schedule=schedule, T=7, **POINTS)
    x0 = torch.tensor([[0.8, 0.3]], dtype=torch.float64)
    x_t = torch.tensor([[-1.1, 0.9]], dtype=torch.float64)
    for f, t in enumerate(explorer.times):
        law = q_posterior(x_t, x0, t, explorer.noise_schedule)
        assert torch.allclose(explorer.mean[f], law.mean[0], atol=1e-12)
        assert explorer.sd[f] == pytest.approx(float(law.var.sqrt()), abs=1e-12)
        a, b = explorer._state.weights[f]
        assert torch.allclose(a * x0[0] + b * x_t[0], law.mean[0], atol=1e-12)


@pytest.mark.parametrize("beta", [0.01, 0.2, 0.9])
@pytest.mark.parametrize("x_t", [-3.0, 0.0, 3.0])
def test_prior_times_likelihood_integrates_to_the_posterior(beta: float, x_t: float) -> None:
    """The product, normalised by the trapezoidal rule, is the closed form to 1e-6 of its peak."""
    explorer = PosteriorPlayground(x_t=x_t, beta=beta, T=12)
    assert float((explorer.off / explorer._state.peak).max()) < 1e-6
    x, posterior = explorer.curves["posterior"]
    area = torch.trapezoid(posterior, x, dim=1)
    inside = explorer.mean[:, 0].abs() + 5 * explorer.sd < 4
    assert torch.allclose(area[inside], torch.ones_like(area[inside]), atol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_q_sigma_keeps_its_marginal(eta: float) -> None:
    """DDIM Lemma 1: integrating q_sigma over q(x_t | x_0) gives q(x_{t-1} | x_0), whatever eta."""
    explorer = PosteriorPlayground(law="q_sigma", eta=eta, T=9, **POINTS)
    x, mixed = explorer.curves["marginal, integrated"]
    schedule = explorer.noise_schedule
    for f, t in enumerate(explorer.times):
        law = q_marginal(torch.full((len(x),), 0.8, dtype=torch.float64), t - 1, schedule)
        assert torch.allclose(mixed[f], law.log_prob(x).exp(), atol=1e-3 * float(mixed[f].max()))
        sigma = ddim_sigma(t, t - 1, eta, schedule)
        x_t, x0 = torch.tensor([[-1.1]]), torch.tensor([[0.8]])
        exact = q_sigma(x_t.double(), x0.double(), t, t - 1, sigma, schedule)
        assert explorer.mean[f, 0] == pytest.approx(float(exact.mean), abs=1e-6)
        assert explorer.sd[f] == pytest.approx(float(sigma), abs=1e-9)


def test_the_picture_is_of_the_curves() -> None:
    """What the player draws is density over the posterior's peak; the upright line is its mean."""
    explorer = PosteriorPlayground(T=6, t=4, **POINTS)
    scene = explorer.scene()
    panel = scene.panels[0]
    f = scene.at
    for series in panel["series"]:
        x, y = explorer.curves[series["label"]]
        drawn = rows_at(unpack(series["y"], scene.buffers), series["size"], f)
        wanted = (y[f] / explorer._state.peak[f]).clamp(max=4)
        assert torch.allclose(torch.from_numpy(drawn).double(), wanted, atol=1e-6)
        assert torch.allclose(torch.from_numpy(unpack(series["x"], scene.buffers)).double(), x)
    at = unpack(panel["at"], scene.buffers)
    assert torch.allclose(torch.from_numpy(at).double(), explorer.mean[:, 0], atol=1e-6)
    assert [h["x"] for h in panel["handles"]] == ["x0", "x_t"]
    json.dumps(scene.head(), allow_nan=False)


@pytest.mark.parametrize("law", ["bayes", "q_sigma"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_code_makes_the_numbers(law: str, schedule: str) -> None:
    """What "copy as code" gives has the mean and the standard deviation that are shown."""
    explorer = PosteriorPlayground(law=law, schedule=schedule, T=8, t=5, **POINTS)
    names: dict[str, Any] = {}
    exec(explorer.code, names)
    assert torch.allclose(names["mean"][0], explorer.mean[explorer.frame], atol=1e-12)
    assert float(names["sd"]) == pytest.approx(float(explorer.sd[explorer.frame]), abs=1e-12)
    area = torch.trapezoid(names["density"], names["x"])
    assert float(area) == pytest.approx(1, abs=1e-3)


# ---- the learner's function --------------------------------------------------------------------


def pair(x_t: Tensor, x0: Tensor, t: int, schedule: Any) -> tuple[Tensor, Tensor]:
    law = q_posterior(x_t, x0, t, schedule)
    return law.mean, law.var


def test_right_functions_agree() -> None:
    """(mean, var) or a Gaussian, the reference itself: difference 0 up to rounding."""
    for function in (pair, q_posterior):
        explorer = PosteriorPlayground(q_posterior=function)
        assert explorer.difference < 1e-12
        assert "agrees" in explorer.notes[0]
        assert torch.allclose(explorer.mine[:, 0], explorer.mean)


def test_a_forgotten_square_is_measured() -> None:
    """A variance in place of which the standard deviation is returned is off by |sd - sd^2|."""

    def wrong(x_t: Tensor, x0: Tensor, t: int, schedule: Any) -> tuple[Tensor, Tensor]:
        mean, var = pair(x_t, x0, t, schedule)
        return mean, var.sqrt()

    explorer = PosteriorPlayground(q_posterior=wrong)
    off = (explorer.sd - explorer.sd**2).abs()
    assert explorer.difference == pytest.approx(float(off.max()), rel=1e-6)
    assert "differs" in explorer.notes[0]
    assert "yours" in [s["label"] for s in explorer.scene().panels[0]["series"]]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x_t, x0, t, s: x_t, ["a tensor of shape", "must return (mean, var)"]),
        (lambda x_t, x0, t, s: None, ["returned None"]),
        (lambda x_t, x0, t, s: (x_t, x0[:1, :1, None]), ["must return (mean, var)"]),
        (lambda x_t, x0, t, s: (x_t / 0, 1.0), ["infinity"]),
        (lambda x_t, x0, t, s: (x_t, -1.0), ["negative variance, first at t = 2"]),
        (lambda x_t, x0, t, s: (x_t / none, 1.0), ["NameError", "none"]),  # type: ignore[name-defined]  # noqa: F821
    ],
)
def test_wrong_results_are_explained(function: Any, words: list[str]) -> None:
    """Each kind of mistake has its sentence, and the reference is drawn all the same."""
    explorer = PosteriorPlayground(q_posterior=function)
    assert all(word in explorer.notes[0] for word in words), explorer.notes
    assert ask(explorer, T=5)[0]["scene"]["time"]["values"] == [2, 3, 4, 5]


def test_a_function_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The explorer lives on."""
    monkeypatch.setattr(learner, "PATIENCE", 0.2)

    def hang(x_t: Tensor, x0: Tensor, t: int, schedule: Any) -> Any:
        while True:
            time.sleep(0.01)

    explorer = PosteriorPlayground(q_posterior=hang)
    assert "did not return" in explorer.notes[0]
    assert "error" not in ask(explorer, x0=1.0)[0]


# ---- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize("law", ["bayes", "q_sigma"])
def test_every_control_at_both_ends(law: str) -> None:
    """Each slider at its ends and each choice gives a finite scene."""
    explorer = PosteriorPlayground(law=law)
    for control in explorer._controls(explorer._state):
        values = control.choices if control.kind == "choice" else (control.low, control.high)
        for value in (*values, control.value):
            kind = type(control.value)
            answer, _ = ask(explorer, **{control.name: kind(value)})
            assert "error" not in answer
            assert explorer.mean.isfinite().all()
            assert explorer.sd.isfinite().all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"x0": 4.0}, "x0 must be .*x0=4.0"),
        ({"T": 1}, "T must .*"),
        ({"law": "bays"}, "Did you mean 'bayes'"),
        ({"t": 1}, "t must lie in 2..10, got t=1"),
    ],
)
def test_bad_values_change_nothing(values: dict[str, Any], words: str) -> None:
    """Refused with the name, the value and what is allowed."""
    explorer = PosteriorPlayground()
    before = repr(explorer)
    with pytest.raises(ValueError, match=words):
        explorer.update(**values)
    assert repr(explorer) == before


def test_a_change_is_quick(record_property: Any) -> None:
    """Seconds for one change, printed; the aim is 60 ms."""
    explorer = PosteriorPlayground(T=60, law="q_sigma")
    start = time.perf_counter()
    for k in range(5):
        explorer.x0 = 0.1 * k
        explorer.scene()
    record_property("change_s", (time.perf_counter() - start) / 5)
    assert explorer.x0 == pytest.approx(0.4)
