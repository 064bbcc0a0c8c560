"""ElboDecomposer in the learner's hands: functions of their own, controls and files."""

from __future__ import annotations

import json
import math
import time
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
    curve,
    drag,
    each_end,
    layout,
    release,
    slowed,
)
from test_widgets_elbo_decomposer import SMALL
from torch import Tensor

from diffusion_edu import Gaussian, linear, q_posterior
from diffusion_edu import loss_weight as reference_weight
from diffusion_edu.prediction import predict
from diffusion_edu.widgets import learner
from diffusion_edu.widgets.elbo_decomposer import ElboDecomposer

# ---- the learner's functions ---------------------------------------------------------------------


def kl_t(x0: Tensor, x_t: Tensor, t: Any, eps_hat: Tensor, schedule: Any) -> Tensor:
    """L_{t-1} with sigma^2 = beta, from the public library."""
    x0_hat = predict("eps", eps_hat, x_t, t, schedule).x0
    mean = q_posterior(x_t, x0_hat, t, schedule).mean
    variance = schedule.beta[t].float().view(-1, 1)
    return q_posterior(x_t, x0, t, schedule).kl(Gaussian(mean, variance))


def test_right_functions_agree() -> None:
    """kl_t and loss_weight of the library: no difference but rounding; both are drawn."""
    explorer = ElboDecomposer(kl_t=kl_t, loss_weight=reference_weight, **SMALL)
    assert len(explorer.notes) == 2
    assert all("agrees" in note for note in explorer.notes)
    assert explorer.difference < 1e-3
    assert torch.allclose(explorer.mine[:-1].double(), explorer.term[:-1], rtol=1e-3, atol=1e-5)
    assert math.isnan(explorer.mine[-1])
    assert torch.allclose(explorer.mine_weight, explorer.weights)
    scene = explorer.scene()
    bits = curve(scene, 0, "yours")[:-1].double()
    assert torch.allclose(bits, explorer.term[:-1], rtol=1e-3, atol=1e-5)
    assert torch.allclose(curve(scene, 2, "yours").double(), explorer.weights.double())
    explorer.weighting = "simple"
    assert "yours" not in [s["label"] for s in explorer.scene().panels[0]["series"]]


def test_functions_that_want_an_int_agree() -> None:
    """A tensor t is tried first, then an int."""

    def with_int(x0: Tensor, x_t: Tensor, t: Any, eps_hat: Tensor, schedule: Any) -> Tensor:
        return kl_t(x0, x_t, torch.full((len(x0),), range(100)[t]), eps_hat, schedule)

    explorer = ElboDecomposer(kl_t=with_int, **SMALL)
    assert "agrees" in explorer.notes[0]


def test_a_missing_half_is_measured() -> None:
    """Twice the KL is off by the KL; twice the weight by the weight."""
    explorer = ElboDecomposer(
        kl_t=lambda *args: 2 * kl_t(*args),
        loss_weight=lambda t, s: 2 * reference_weight(t, s),
        **SMALL,
    )
    assert all("differs" in note for note in explorer.notes)
    state = explorer._state
    assert state.differences["kl_t"] == pytest.approx(float(state.rows[:-1].max()), rel=1e-3)
    assert state.differences["loss_weight"] == pytest.approx(float(state.weight.max()))
    assert explorer.difference == max(state.differences.values())


def test_another_sigma2_is_recognised() -> None:
    """A function for sigma^2 = beta beside beta_tilde is called that, not just wrong."""
    explorer = ElboDecomposer(kl_t=kl_t, loss_weight=reference_weight, sigma2="beta_tilde", **SMALL)
    assert all("it is that of sigma2 = beta)" in note for note in explorer.notes)
    explorer.sigma2 = "beta"
    assert all("agrees" in note for note in explorer.notes)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x0, x_t, t, eps, s: x0, ["returned shape (64, 2)", "(64,), one number"]),
        (lambda x0, x_t, t, eps, s: kl_t(x0, x_t, t, eps, s).mean(), ["returned shape ()"]),
        (lambda x0, x_t, t, eps, s: None, ["returned None"]),
        (lambda x0, x_t, t, eps, s: 1.0, ["returned float"]),
        (lambda x0, x_t, t, eps, s: x0[:, 0] / 0 * 0, ["NaN", "first at t = 6"]),
        (lambda x0, x_t, t, eps, s: none, ["NameError", "none"]),  # type: ignore[name-defined]  # noqa: F821
        (lambda x0, x_t: x0, ["TypeError"]),
    ],
)
def test_wrong_results_are_explained(function: Any, words: list[str]) -> None:
    """Each kind of mistake has its sentence, and the reference is drawn all the same."""
    scene = check_explained(ElboDecomposer(kl_t=function, **SMALL), words, steps=4)
    assert scene["time"]["values"] == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda t, s: reference_weight(t, s).sum(), ["returned shape ()", "(6,)"]),
        (lambda t, s: s.beta[t] / 0, ["infinity", "first at t = 6"]),
        (lambda t, s: s.gamma[t], ["AttributeError", "s.gamma"]),
    ],
)
def test_wrong_weights_are_explained(function: Any, words: list[str]) -> None:
    """As for kl_t."""
    check_explained(ElboDecomposer(loss_weight=function, **SMALL), words, seed=1)


def test_a_slow_function_is_drawn_as_far_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was ready in time."""
    monkeypatch.setattr(learner, "PATIENCE", 0.4)
    explorer = ElboDecomposer(kl_t=slowed(kl_t, 0.15), **SMALL)
    assert "slow" in explorer.notes[0]
    assert explorer.mine[:1].isfinite().all()
    assert explorer.mine[3:].isnan().all()


@pytest.mark.parametrize("name", ["kl_t", "loss_weight"])
def test_a_function_that_hangs_is_given_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not called again; the explorer lives on."""
    check_hanging(lambda f: ElboDecomposer(**{name: f}, **SMALL), monkeypatch, sigma2="beta_tilde")


def test_editing_in_place_spoils_nothing() -> None:
    """A function that overwrites its arguments gets copies."""

    def overwrite(x0: Tensor, x_t: Tensor, t: Any, eps: Tensor, schedule: Any) -> Tensor:
        kl = kl_t(x0, x_t, t, eps, schedule)
        for x in (x0, x_t, eps):
            x.zero_()
        return kl

    explorer, plain = ElboDecomposer(kl_t=overwrite, **SMALL), ElboDecomposer(**SMALL)
    assert "agrees" in explorer.notes[0]
    assert torch.equal(explorer.terms.total, plain.terms.total)


# ---- parameters and files ------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["oracle", "moons"])
def test_every_control_at_both_ends(model: str) -> None:
    """Each slider at its ends and each choice gives a scene of finite numbers, not too far out."""
    explorer = ElboDecomposer(model, steps=5, draws=64)
    for _, scene, _ in each_end(explorer):
        assert len(scene["panels"]) == 3
        assert explorer.term.isfinite().all()
        explorer.update(model=explorer._initial["model"], dataset=explorer._initial["dataset"])


def test_sliders_spaced_by_powers_send_fractions() -> None:
    """They are rounded, and kept in range."""
    explorer = ElboDecomposer(**SMALL)
    for sent, draws in ((100.4, 100), (2050, 2048), (63.7, 64)):
        assert "error" not in ask(explorer, draws=sent)[0]
        assert explorer.draws == draws


def test_choices_that_do_not_go_together_are_mended() -> None:
    """The exact denoiser brings its data; other data bring the network."""
    explorer = ElboDecomposer(**SMALL)
    ask(explorer, dataset="moons")
    assert (explorer.model, explorer.dataset) == ("network", "moons")
    ask(explorer, model="oracle")
    assert (explorer.model, explorer.dataset) == ("oracle", "gaussians")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 1}, "steps must be .*steps=1"),
        ({"draws": 10**6}, "draws must be .*draws=1000000"),
        ({"sigma2": "betas"}, "Did you mean 'beta'"),
        ({"decoder": "laplace"}, "unknown decoder 'laplace'"),
        ({"weighting": "snr"}, "unknown weighting 'snr'.*'min_snr'"),
        ({"dataset": "moons"}, "dataset must be 'gaussians' .*dataset='moons'"),
        ({"t": 0}, "t must be an int >= 1, got t=0"),
        ({"t": 7}, "t must be an int in 1..6, got t=7"),
    ],
)
def test_bad_values_change_nothing(values: dict[str, Any], words: str) -> None:
    """Refused with the name, the value and what is allowed."""
    check_refused(ElboDecomposer(**SMALL), values, words)


def test_a_model_may_be_broken() -> None:
    """A wrong shape is refused by name; NaN leaves a picture without them, and says nan."""
    with pytest.raises(ValueError, match="output must have the shape of x_t"):
        ElboDecomposer(lambda x, t: x[:, :1], "gaussians", schedule=linear(50), **SMALL)
    explorer = ElboDecomposer(lambda x, t: x / 0 * 0, "gaussians", schedule=linear(50), **SMALL)
    scene = explorer.scene()
    json.dumps(scene.head(), allow_nan=False)
    assert "nan" in scene.text[0]


def test_short_schedules_limit_the_steps() -> None:
    """The slider ends at the T of the denoiser's own chain."""
    explorer = ElboDecomposer(lambda x, t: x, "gaussians", schedule=linear(8), **SMALL)
    steps = next(c for c in explorer._controls(explorer._state) if c.name == "steps")
    assert steps.high == 8
    ask(explorer, steps=9)
    assert explorer.steps == 8
    with pytest.raises(ValueError, match=r"steps must be an int in 1\.\.8, got steps=9"):
        explorer.steps = 9


def test_dragging_is_coarser_and_letting_go_is_full() -> None:
    """Costly pictures have fewer draws while dragged, in the same layout."""
    explorer = ElboDecomposer(steps=50, draws=2048)
    before = explorer.scene().head()
    rough = drag(explorer, seed=2)
    assert rough["coarse"]
    assert 64 <= len(explorer._state.x0) < 2048
    assert layout(rough) == layout(before)
    assert len(explorer.terms.total) == 2048
    fine = release(explorer)
    assert not fine["coarse"]
    assert len(fine["text"]) == 50


def test_lines_of_text_are_short() -> None:
    """At most 120 characters at the largest settings, and the numbers are those of the state."""
    explorer = ElboDecomposer(steps=200, sigma2="beta_tilde", draws=64)
    text = explorer.scene().text
    assert max(map(len, text)) <= 120
    gap, error = explorer.gap
    assert text[0].endswith(f"gap {gap:.3f} ± {error:.3f}")
    assert text[-2].startswith("t = 2 of 200: L_1 = ")


def test_reset_goes_back() -> None:
    """To the first settings, picture and all."""
    check_reset(ElboDecomposer(**SMALL), sigma2="beta_tilde", steps=9, seed=4)


def test_files(tmp_path: Path) -> None:
    """The page of all its settings is below 1.5 MB; a picture is a PNG."""
    explorer = ElboDecomposer(draws=64)
    check_page(explorer, tmp_path / "page.html", most=1_500_000)
    check_png(explorer, tmp_path / "x.png")


def test_a_change_is_quick(record_property: Any) -> None:
    """Seconds for one change, printed; the aim is 60 ms."""
    explorer = ElboDecomposer()
    start = time.perf_counter()
    for k in range(5):
        explorer.seed = k
        explorer.scene()
    record_property("change_s", (time.perf_counter() - start) / 5)
    assert explorer.seed == 4
