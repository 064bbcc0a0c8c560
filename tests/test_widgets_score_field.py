"""ScoreField: exact scores are gradients, learned ones are those of the network, rides sample."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import torch
from explorers import ask
from torch import Tensor

from diffusion_edu import EmpiricalOracle, MixtureOracle, pretrained, toy
from diffusion_edu.viz.scene import layer_frame
from diffusion_edu.widgets import ScoreField, datasets, learner
from diffusion_edu.widgets.score_maps import CELLS, cells, representatives, ride, thinned


@pytest.fixture(scope="module")
def field() -> ScoreField:
    return ScoreField("gaussians", steps=10)


def test_the_exact_score_is_the_gradient_of_the_log_density(field: ScoreField) -> None:
    """Central differences of log_density on the grid give exact, where the grid is fine enough."""
    width = 2 * datasets.EXTENT / CELLS
    for f in (0, len(field.times) // 2):
        square = field.log_density[f].view(CELLS, CELLS).double()
        dy, dx = torch.gradient(square, spacing=width)
        score = field.exact[f].view(CELLS, CELLS, 2).double()
        inner = slice(2, -2)
        off = torch.stack([dx, dy], 2)[inner, inner] - score[inner, inner]
        assert off.norm(dim=2).mean() < 0.03 * score[inner, inner].norm(dim=2).mean()


def test_the_exact_score_is_the_mixtures(field: ScoreField) -> None:
    """For "gaussians" it is MixtureOracle's, to float32."""
    oracle = MixtureOracle(*toy.gaussians_mixture(), field.noise_schedule)
    for f in (0, -1):
        wanted = oracle.score(cells(), field.times[f])
        assert torch.allclose(field.exact[f], wanted, rtol=1e-4, atol=1e-4)


def test_few_points_stand_for_many() -> None:
    """2,048 representatives: mean of the data, and the score of 20,000 points to a few per cent."""
    some = representatives("moons")
    many = toy.load("moons", 20_000, 5)
    assert some.shape == (2048, 2)
    assert torch.allclose(some.mean(0), many.mean(0), atol=4 / 20_000**0.5)
    explorer = ScoreField("moons", steps=1)
    oracle = EmpiricalOracle(many, explorer.noise_schedule)
    f = len(explorer.times) // 2
    x = cells()[explorer.log_density[f] > explorer.log_density[f].max() - 6]
    exact = explorer.exact[f][explorer.log_density[f] > explorer.log_density[f].max() - 6]
    off = (oracle.score(x, explorer.times[f]) - exact).norm(dim=1).mean()
    assert off < 0.05 * exact.norm(dim=1).mean()


def test_the_learned_score_is_the_networks(field: ScoreField) -> None:
    """learned = -eps / sqrt(1 - alpha_bar_t) of the shipped network; its mean error is small."""
    model, schedule, _ = pretrained("gaussians")
    t = field.times[5]
    eps = model(cells(), torch.full((CELLS**2,), t))
    wanted = -eps / schedule.sqrt_one_minus_alpha_bar[t].float()
    assert torch.allclose(field.learned[5], wanted, rtol=1e-4, atol=1e-4)
    assert 0 < float(field.error.max()) < 0.2
    assert field.mine is None


@pytest.mark.parametrize("ride", ["ode", "sde", "langevin"])
@pytest.mark.parametrize("model", ["gaussians", "oracle"])
def test_code_makes_the_path(ride: str, model: str) -> None:
    """What "copy as code" gives walks the drawn path, and has the score where it begins."""
    dataset = "gaussians" if model == "oracle" else None
    explorer = ScoreField(model, dataset, ride=ride, steps=7, px=1.0, py=-2.0, seed=3)
    for t in (explorer.times[0], explorer.times[-1]):
        explorer.t = t
        names: dict[str, Any] = {}
        exec(explorer.code, names)
        way = explorer.path[explorer.frame]
        assert torch.allclose(names["path"], way[: len(names["path"])], atol=1e-5)
        assert (way[len(names["path"]) :] == way[-1]).all()


def test_rides_end_in_the_data() -> None:
    """From noisy levels the ODE on the exact score ends within 0.3 of a mode of the mixture."""
    explorer = ScoreField("oracle", "gaussians", steps=60, px=0.5, py=1.5)
    means = toy.gaussians_mixture()[0].float()
    noisy = len(explorer.times) // 2  # below them a particle far from all modes stays there
    assert (torch.cdist(explorer.path[:noisy, -1], means).amin(1) < 0.3).all()
    straight = explorer.path
    explorer.ride = "sde"
    assert (torch.cdist(explorer.path[:noisy, -1], means).amin(1) < 0.6).all()
    assert not torch.allclose(explorer.path, straight, atol=0.1)


def test_langevin_draws_from_the_noisy_law() -> None:
    """At the noisiest level q(x_t) is nearly N(0, I): 100 steps have mean and spread of it."""
    explorer = ScoreField("oracle", "gaussians", ride="langevin", steps=100)
    oracle = MixtureOracle(*toy.gaussians_mixture(), explorer.noise_schedule)
    how = {name: getattr(explorer, name) for name in ("ride", "steps", "px", "py", "seed")}

    def way(seed: int) -> Tensor:
        level = explorer.times[0]
        again = {**how, "seed": seed}
        return ride(oracle, oracle.score, explorer.noise_schedule, level, again)

    assert torch.allclose(way(explorer.seed), explorer.path[0], atol=1e-5)
    x = torch.stack([way(seed)[40:] for seed in range(40)])
    # Neighbouring steps are alike: about 6 of 60 count as independent, so 240 draws in all.
    assert x.mean((0, 1)).abs().max() < 5 / 240**0.5
    assert (x.var((0, 1)) - 1).abs().max() < 5 * (2 / 240) ** 0.5


def test_arrows_are_the_score_shortened(field: ScoreField) -> None:
    """An arrow points along the score and is u/(1+u) of its room, u = |score| sqrt(1-alpha_bar)."""
    scene = field.scene()
    layer = next(x for x in scene.panels[0]["layers"] if x["mark"] == "arrows")
    f = scene.at
    drawn = torch.from_numpy(layer_frame(layer, scene.buffers, f)).view(-1, 2)
    noise = float(field.noise_schedule.sqrt_one_minus_alpha_bar[field.times[f]])
    u = noise * thinned(field.exact)[f]
    room = float(drawn.norm(dim=1).max() / (u.norm(dim=1) / (1 + u.norm(dim=1))).max())
    wanted = room * u / (1 + u.norm(dim=1, keepdim=True))
    assert torch.allclose(drawn, wanted, atol=1e-3)
    json.dumps(scene.head(), allow_nan=False)


# ---- the learner's function --------------------------------------------------------------------


def mixture_score(x: Tensor, t: int, schedule: Any) -> Tensor:
    return MixtureOracle(*toy.gaussians_mixture(), schedule).score(x, t)


def test_a_right_score_agrees() -> None:
    """The mixture's own score: no difference but rounding."""
    explorer = ScoreField("gaussians", score=mixture_score, steps=3)
    assert "agrees" in explorer.notes[0]
    assert torch.allclose(explorer.mine, explorer.exact, rtol=1e-3, atol=1e-3)
    assert explorer.learned is None
    assert [p["title"] for p in explorer.scene().panels][1] == "your score"


def test_a_wrong_sign_is_measured() -> None:
    """-score differs by 2 |score| on points of q(x_t), at every level: an error of 200 %."""
    explorer = ScoreField("gaussians", score=lambda x, t, s: -mixture_score(x, t, s), steps=3)
    assert torch.allclose(explorer.error, torch.full_like(explorer.error, 2.0), rtol=1e-3)
    assert "differs" in explorer.notes[0]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x, t, s: x[:, :1], ["returned shape", "must be"]),
        (lambda x, t, s: x / 0, ["infinity"]),
        (lambda x, t, s: x / none, ["NameError"]),  # type: ignore[name-defined]  # noqa: F821
    ],
)
def test_wrong_scores_are_explained(function: Any, words: list[str]) -> None:
    """The exact score is drawn all the same, and the sliders live."""
    explorer = ScoreField("gaussians", score=function, steps=3)
    assert all(word in explorer.notes[0] for word in words)
    assert "error" not in ask(explorer, px=1.0)[0]


def test_a_score_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The explorer lives on."""
    monkeypatch.setattr(learner, "PATIENCE", 0.2)

    def hang(x: Tensor, t: int, schedule: Any) -> Any:
        while True:
            time.sleep(0.01)

    explorer = ScoreField("gaussians", score=hang, steps=3)
    assert "did not return" in explorer.notes[0]
    assert "error" not in ask(explorer, px=1.0)[0]


# ---- parameters --------------------------------------------------------------------------------


def test_every_control_at_both_ends() -> None:
    """Each slider at its ends and each choice gives finite scores and paths."""
    explorer = ScoreField("gaussians", steps=5)
    for control in explorer._controls(explorer._state):
        if control.name == "dataset":
            continue  # a second for each: the browser test goes through them
        values = control.choices if control.kind == "choice" else (control.low, control.high)
        for value in (*values, control.value):
            answer, _ = ask(explorer, **{control.name: type(control.value)(value)})
            assert "error" not in answer
            assert explorer.path.isfinite().all()


def test_data_without_a_network_get_the_exact_score() -> None:
    """Choosing such data moves the choice of the score along, and back."""
    explorer = ScoreField("gaussians", steps=2)
    assert "error" not in ask(explorer, dataset="circles")[0]
    assert (explorer.model, explorer.dataset) == ("oracle", "circles")
    assert "error" not in ask(explorer, model="network")[0]
    assert explorer.model == "network"
    assert explorer.dataset in ("swiss_roll", "moons", "gaussians")


def test_dragging_is_coarse_and_release_is_not() -> None:
    """While a costly ride is dragged only the level in view has its path."""
    explorer = ScoreField("gaussians", steps=20)
    explorer._state.seconds = 1.0
    answer, _ = explorer.receive({"seq": 1, "values": {"px": 0.0}})
    assert answer["scene"]["coarse"]
    there = explorer._state.exact.isfinite().flatten(1).all(1)
    assert there.nonzero().flatten().tolist() == [explorer.frame]
    assert explorer.path.isfinite().all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"px": 9.0}, "px must be .*px=9.0"),
        ({"ride": "bus"}, "unknown ride 'bus'"),
        ({"steps": 0}, "steps must .*"),
    ],
)
def test_bad_values_change_nothing(field: ScoreField, values: dict[str, Any], words: str) -> None:
    """Refused with the name, the value and what is allowed."""
    before = repr(field)
    with pytest.raises(ValueError, match=words):
        field.update(**values)
    assert repr(field) == before
