"""Explorers without a browser: what they compute, and the learner's own functions in them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from explorers import ask, oracle_explorer, run_code
from torch import Tensor

from diffusion_edu import q_sample, schedules
from diffusion_edu.data import toy
from diffusion_edu.viz.scene import Scene, layer_frame, unpack
from diffusion_edu.widgets import ForwardExplorer, ReverseExplorer, datasets
from diffusion_edu.widgets.forward import (
    MAX_T,
    SCHEDULES,
    WITH_BETAS,
    first_beta_limit,
    last_beta_limit,
)


def shown(explorer: Any, f: int, panel: int = 0, layer: int = -1) -> Tensor:
    """What the player draws in frame f, from the packed scene."""
    scene = explorer.scene()
    return torch.from_numpy(layer_frame(scene.panels[panel]["layers"][layer], scene.buffers, f))


def in_order(explorer: ForwardExplorer, f: int) -> Tensor:
    """Frame f as it is drawn: flat, points sorted by colour."""
    frames = explorer.frames
    if frames.ndim == 3:
        frames = frames[:, datasets.by_colour(frames[0])[0]]
    return frames[f].flatten()


# ---- forward -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["swiss_roll", "digits"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_forward_frames_are_q_sample(dataset: str, schedule: str) -> None:
    """frames[t] = q_sample(x0, t, eps) for every t, and frame 0 is the data itself."""
    explorer = ForwardExplorer(dataset, schedule, T=12, n=50)
    frames, x0 = explorer.frames, explorer.frames[0]
    table = explorer.noise_schedule
    eps = datasets.noise(tuple(x0.shape), 0, 0)
    assert torch.equal(x0, datasets.load(dataset, 50, 0))
    for t in explorer.times:
        assert torch.allclose(frames[t], q_sample(x0, t, eps, table), atol=1e-6)


def test_without_the_shrinking_the_variance_grows_by_the_sum_of_betas() -> None:
    """x_t = x_{t-1} + sqrt(beta_t) z has Var(x_t) = Var(x_0) + sum of beta, checked on points."""
    explorer = ForwardExplorer(T=50, beta_T=0.3, n=5000, shrink=False)
    added = explorer.noise_schedule.beta.cumsum(0)
    variance = explorer.frames.double().var((1, 2))
    assert float(added[-1]) > 5
    assert torch.allclose(variance, variance[0] + added, rtol=0.1)  # 10,000 numbers: 1.4 % each
    explorer.shrink = "on"
    assert explorer.frames[-1].var() < 1.1


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"dataset": "digits"},
        {"shrink": False, "schedule": "cosine"},
        {"beta_1": 0.001, "seed": 3},
    ],
)
def test_code_of_forward_makes_the_picture(settings: dict[str, Any]) -> None:
    """What "copy as code" gives makes x_t to float32, run on its own."""
    explorer = ForwardExplorer(T=30, t=11, n=100, **settings)
    assert torch.allclose(run_code(explorer)["x_t"], explorer.frames[11], atol=1e-6)


def test_forward_noise_is_independent_of_the_data() -> None:
    """Cov(x0, eps) = 0: data and noise of one seed do not come from one random stream."""
    for name in toy.names():
        x0 = datasets.load(name, 4000, 0)
        eps = datasets.noise(tuple(x0.shape), 0, 0)
        for a in x0.T:
            for b in eps.T:
                assert abs(float((a * b).mean())) < 5 / 4000**0.5


@pytest.mark.parametrize("T", [1, 2, 99, 100, 101, 107, 150, 200, 500, MAX_T])
@pytest.mark.parametrize("schedule", WITH_BETAS)
def test_sliders_cannot_reach_an_invalid_schedule(schedule: str, T: int) -> None:
    """alpha_bar_T > 0 at the far end of every slider; values beyond are moved into range."""
    explorer = ForwardExplorer(schedule=schedule, n=5)
    answer, _ = ask(explorer, T=T, beta_1=99.0, beta_T=99.0)
    assert "error" not in answer
    assert float(explorer.noise_schedule.alpha_bar[-1]) > 0
    assert explorer.beta_1 == first_beta_limit(T)
    assert explorer.beta_T == last_beta_limit(T)
    answer, _ = ask(explorer, T=MAX_T)  # literal betas follow the narrower range of a longer chain
    assert "error" not in answer
    assert explorer.beta_T == last_beta_limit(MAX_T)


def test_default_betas_follow_T_until_they_are_set() -> None:
    """beta_T = 20/T by default, so alpha_bar_T hardly depends on T; a given beta_T is literal."""
    explorer = ForwardExplorer(T=200, n=5)
    assert explorer.noise_schedule.beta[-1] == pytest.approx(0.1)
    explorer.T = 1000
    assert explorer.noise_schedule.beta[-1] == pytest.approx(0.02)
    explorer.beta_T = 0.05
    explorer.T = 400
    assert explorer.noise_schedule.beta[-1] == pytest.approx(0.05)


def test_text_gives_snr_and_measured_variance() -> None:
    """The variance in the text is that of the points; SNR is alpha_bar/(1-alpha_bar)."""
    explorer = ForwardExplorer("moons", T=50, n=300)
    lines, table = explorer.scene().text, explorer.noise_schedule
    assert len(lines) == 51
    for t, line in enumerate(lines):
        snr, variance = re.fullmatch(rf"t = {t} of 50, SNR = (\S+), variance (\S+)", line).groups()
        measured = float(explorer.frames[t].var(0, correction=0).mean())
        assert float(variance) == pytest.approx(measured, abs=0.0051)
        assert (
            snr == "infinite"
            if t == 0
            else float(snr) == pytest.approx(float(table.snr[t]), rel=6e-3)
        )


@pytest.mark.parametrize("dataset", ["swiss_roll", "digits"])
def test_player_mixes_what_python_computes(dataset: str) -> None:
    """a[f] x0 + b[f] eps from the packed int16 arrays equals frames[f] to a quarter of a pixel."""
    explorer = ForwardExplorer(dataset, T=40, n=500)
    pixel = 2 * datasets.EXTENT / 340
    for f in (0, 7, 40):
        assert (shown(explorer, f) - in_order(explorer, f)).abs().max() < pixel / 4


# ---- the learner's own function ----------------------------------------------------------------


def right(x0: Tensor, t: Any, eps: Tensor, schedule: schedules.Schedule) -> Tensor:
    alpha_bar = schedule.alpha_bar[t].float()
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps


def batched(x0: Tensor, t: Any, eps: Tensor, schedule: schedules.Schedule) -> Tensor:
    alpha_bar = schedule.alpha_bar[t.long()].float()[:, None]  # refuses an int
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps


@pytest.mark.parametrize("function", [right, batched, q_sample])
def test_a_right_q_sample_agrees(function: Any) -> None:
    """max |mine - reference| = 0 up to float32, whether t is wanted as an int or as a tensor."""
    explorer = ForwardExplorer(T=20, n=60, q_sample=function)
    assert explorer.difference < 1e-6
    assert "agrees" in explorer.notes[0]
    assert torch.allclose(explorer.mine, explorer.frames, atol=1e-6)
    assert (shown(explorer, 9, panel=1) - in_order(explorer, 9)).abs().max() < 1e-2


def test_a_wrong_q_sample_is_measured_and_drawn() -> None:
    """difference = max over t of |(1 - alpha_bar) - sqrt(1 - alpha_bar)| |eps| for var_for_std."""

    def wrong(x0: Tensor, t: int, eps: Tensor, schedule: schedules.Schedule) -> Tensor:
        alpha_bar = float(schedule.alpha_bar[t])
        x0 *= alpha_bar**0.5  # an edit in place must not reach the reference
        return x0 + (1 - alpha_bar) * eps

    explorer = ForwardExplorer(T=20, n=60, q_sample=wrong)
    noise = (1 - explorer.noise_schedule.alpha_bar).sqrt()
    largest = float((noise - noise**2).max()) * float(datasets.noise((60, 2), 0, 0).abs().max())
    assert explorer.difference == pytest.approx(largest, rel=1e-4)
    assert "differs" in explorer.notes[0]
    assert len(explorer.scene().panels) == 3


def raises(x0: Tensor, t: int, eps: Tensor, schedule: schedules.Schedule) -> Tensor:
    if t >= 3:
        return x0 + no_such_name  # noqa: F821
    return x0


def nan(x0: Tensor, t: int, eps: Tensor, schedule: schedules.Schedule) -> Tensor:
    return torch.where(x0 > 0, x0, torch.nan) if t == 4 else x0


CASES = [
    (
        raises,
        ["NameError", "x0 + no_such_name", f"line {raises.__code__.co_firstlineno + 2}", "t = 3"],
    ),
    (nan, ["NaN", "t = 4", f"line {nan.__code__.co_firstlineno}"]),
    (lambda x0, t, eps, s: x0[:, 0], ["shape (30,)", "(30, 2)", "line"]),
    (lambda x0, t, eps, s: None, ["None", "return", "line"]),
    (lambda x0, t, eps, s: x0.numpy(), ["ndarray", "tensor"]),
    (lambda x0: x0, ["TypeError", "positional argument"]),
]


@pytest.mark.parametrize(("function", "words"), CASES)
def test_a_failing_q_sample_is_explained_and_sliders_live(function: Any, words: list[str]) -> None:
    """Whatever the learner's function does: a message with its line, and the next answer comes."""
    explorer = ForwardExplorer(T=5, n=30, q_sample=function)
    for word in words:
        assert word in explorer.notes[0]
    answer, _ = ask(explorer, T=7)
    assert answer["scene"]["notes"][0]["level"] == "error"
    assert len(answer["scene"]["text"]) == 8
    assert answer["scene"]["panels"][0]["kind"] == "points"  # the reference is still there


def test_nan_points_are_not_drawn_and_the_others_are() -> None:
    """Packing keeps NaN as NaN and everything else to 1/32767 of the range."""
    scene = Scene([0], 0, [""])
    x = torch.tensor([1.0, torch.nan, -0.5, torch.inf, 0.25])
    back = torch.from_numpy(unpack(scene.pack(x), scene.buffers))
    assert back.isnan().tolist() == [False, True, False, True, False]
    assert torch.allclose(back[[0, 2, 4]], x[[0, 2, 4]], atol=1 / 32767)


def test_a_function_that_is_none_at_all_is_refused() -> None:
    """q_sample=mine() instead of q_sample=mine gets a ValueError that says so."""
    with pytest.raises(ValueError, match="without brackets"):
        ForwardExplorer(q_sample=torch.zeros(3))


# ---- parameters --------------------------------------------------------------------------------

BAD = [
    (ForwardExplorer, {"T": 0}, "T must be an int in 1..1000, got T=0"),
    (ForwardExplorer, {"T": 2.5}, "T must be an int"),
    (ForwardExplorer, {"t": 201}, "t must be an int in 0..200, got t=201"),
    (ForwardExplorer, {"beta_1": 0}, "beta_1 must be a number in"),
    (ForwardExplorer, {"beta_T": float("nan")}, "beta_T must be a number in"),
    (
        ForwardExplorer,
        {"beta_1": 0.9, "beta_T": 0.99, "T": 1000},
        "beta_1=0.9, beta_T=0.99 with T=1000",
    ),
    (ForwardExplorer, {"dataset": "swis_roll"}, "Did you mean 'swiss_roll'"),
    (ForwardExplorer, {"schedule": "cosinus"}, "Did you mean 'cosine'"),
    (ForwardExplorer, {"n": 0}, "n must be an int"),
    (ReverseExplorer, {"eta": 1.5}, "eta must be a number in [0, 1], got eta=1.5"),
    (ReverseExplorer, {"eta": "0.5"}, "eta must be a number"),
    (ReverseExplorer, {"steps": 5000}, "steps must lie in 1..T = 1..1000, got steps=5000"),
    (ReverseExplorer, {"sampler": "ddmp"}, "Did you mean"),
    (ReverseExplorer, {"seed": -1}, "seed must be an int"),
    (ReverseExplorer, {"model": "yours"}, "unknown model 'yours'"),
]


@pytest.mark.parametrize(("kind", "values", "message"), BAD)
def test_bad_values_are_refused_and_change_nothing(kind: Any, values: Any, message: str) -> None:
    """ValueError names argument, value and fix; set later, it leaves the explorer as it was."""
    make = ForwardExplorer if kind is ForwardExplorer else oracle_explorer
    explorer = make(n=20)
    before, version = repr(explorer), explorer.version
    with pytest.raises(ValueError, match=re.escape(message)):
        explorer.update(**values)
    assert (repr(explorer), explorer.version) == (before, version)
    if kind is ForwardExplorer:
        with pytest.raises(ValueError, match=re.escape(message)):
            ForwardExplorer(**values)


@pytest.mark.parametrize("model", ["swissroll", 7])
def test_unknown_model_is_refused(model: Any) -> None:
    """model is a known name or a callable; anything else gets a ValueError naming it."""
    with pytest.raises(ValueError, match=rf"model=?.*{model!r}|{model!r}"):
        ReverseExplorer(model)


def test_network_of_another_data_set_is_refused() -> None:
    """model='moons' with dataset='swiss_roll' contradict each other; circles have no network."""
    with pytest.raises(ValueError, match="dataset must be 'moons'"):
        ReverseExplorer("moons", "swiss_roll")
    with pytest.raises(ValueError, match="use model='oracle'"):
        ReverseExplorer("network", "circles")


def test_a_misspelt_parameter_is_refused() -> None:
    """update(etta=...) names the nearest parameter instead of doing nothing."""
    with pytest.raises(ValueError, match="Did you mean 'eta'"):
        oracle_explorer(n=5).update(etta=0.5)


def test_a_shorter_chain_keeps_t_inside() -> None:
    """t = min(t, T) when T shrinks below it."""
    explorer = ForwardExplorer(T=100, t=80, n=5)
    explorer.T = 50
    assert (explorer.t, explorer.frame) == (50, 50)
