"""EtaStepsLab: walks and distances are the library's; a job fills the table meanwhile."""

from __future__ import annotations

import functools
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from explorers import ask
from torch import Tensor

import diffusion_edu as de
from diffusion_edu import toy
from diffusion_edu.prediction import predict
from diffusion_edu.sampling import reverse_step
from diffusion_edu.viz.scene import unpack
from diffusion_edu.widgets import datasets, learner
from diffusion_edu.widgets.eta_steps_lab import SPACINGS, EtaStepsLab
from diffusion_edu.widgets.eta_steps_table import HELD_OUT, PAUSE

N = 200


def oracle_lab(T: int = 120, **options: Any) -> EtaStepsLab:
    """The mixture with its exact denoiser, on a chain of T levels."""
    return EtaStepsLab(mixture(T), "gaussians", **{"n": N, **options})


@functools.cache
def mixture(T: int) -> Any:
    chain = de.linear(T)
    means, variances, weights = toy.gaussians_mixture()
    oracle = de.MixtureOracle(means, variances, weights, chain)

    def model(x: Tensor, t: Tensor) -> Tensor:
        return oracle(x, t)

    model.schedule = chain  # type: ignore[attr-defined]
    return model


def slowed(seconds: float) -> Any:
    """The same, slower: for jobs that are caught in the act."""

    def model(x: Tensor, t: Tensor) -> Tensor:
        time.sleep(seconds)
        return mixture(120)(x, t)

    model.schedule = de.linear(120)  # type: ignore[attr-defined]
    return model


def z(i: int, like: Tensor, seed: int = 0) -> Tensor:
    """The noise of step i of the explorers."""
    return datasets.noise(tuple(like.shape), seed, i + 1)


def start(n: int = N, seed: int = 0) -> Tensor:
    return datasets.noise((n, 2), seed, 0)


def until(true: Callable[[], Any], seconds: float = 20) -> None:
    end = time.perf_counter() + seconds
    while not true():
        assert time.perf_counter() < end
        time.sleep(0.01)


# ---- the two walks -----------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_the_walks_are_the_librarys(spacing: Any, eta: float) -> None:
    """Levels of ``timesteps``; ends of ``ddim``, and of sampling with the large variance."""
    lab = oracle_lab(eta=eta, steps=9, spacing=spacing, seed=4)
    model, chain = mixture(120), mixture(120).schedule
    noise = functools.partial(z, seed=4)
    taus = de.timesteps(120, 9, spacing)
    assert lab.times == taus.tolist()
    end = de.ddim(model, start(seed=4), chain, 9, eta=eta, spacing=spacing, noise=noise)
    assert torch.equal(lab.frames[-1], end)
    steps = list(de.sample(model, start(seed=4), chain, taus, variance="large", noise=noise))
    assert torch.equal(lab.ddpm, torch.stack([start(seed=4), *(s.x_s for s in steps)]))
    assert torch.equal(lab.frames[0], lab.ddpm[0])


def test_all_steps_are_ddpm() -> None:
    """S = T: eta = 1 is DDPM with beta_tilde, the other walk Algorithm 2 with beta, by its formula.

    float32 walks by different formulas: they part by rounding, which 40 steps enlarge a little.
    """
    T = 40
    lab, model, chain = oracle_lab(T, eta=1.0, steps=T), mixture(T), mixture(T).schedule
    small = de.ddpm(model, start(), chain, None, "beta_tilde", noise=z)
    assert torch.allclose(lab.frames[-1], small, atol=1e-6)
    walks = {"beta_tilde": lab.frames, "beta": lab.ddpm}
    for kind, frames in walks.items():
        x = start().double()
        for i, t in enumerate(range(T, 0, -1)):
            b, ab = chain.beta[t], chain.alpha_bar[t]
            eps = model(x, torch.full((N,), t))
            x = (x - b / (1 - ab).sqrt() * eps) / chain.alpha[t].sqrt()
            x = x + (t > 1) * getattr(chain, kind)[t].sqrt() * z(i, x).double()
            assert torch.allclose(frames[i + 1].double(), x, atol=1e-3)
    assert not torch.allclose(lab.frames[-1], lab.ddpm[-1], atol=0.01)


def test_one_seed_is_one_picture() -> None:
    """Same seed, same arrays and bytes; another seed, others; reset leads back."""
    first, second = oracle_lab(seed=1), oracle_lab(seed=1)
    assert first.scene().buffers == second.scene().buffers
    assert first.scene().head() == second.scene().head()
    ask(second, seed=2, eta=0.4, steps=3)
    assert not torch.equal(first.frames[0], second.frames[0])
    second.receive({"seq": 2, "reset": True})
    assert torch.equal(first.frames, second.frames)
    assert (second.seed, second.eta, second.steps) == (1, 0.0, 10)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("metric", ["sliced_wasserstein", "mmd", "energy"])
def test_code_makes_what_is_shown(spacing: str, metric: str) -> None:
    """What "copy as code" gives: both clouds at the level shown, and both distances."""
    lab = EtaStepsLab("oracle", "gaussians", n=N, eta=0.35, steps=8, spacing=spacing, metric=metric)
    for t in (1000, 480, 0):
        lab.t = t
        names: dict[str, Any] = {}
        exec(lab.code, names)
        assert names["t"] == lab.times[lab.frame]
        assert torch.allclose(names["x_ddim"], lab.frames[lab.frame], atol=1e-5)
        assert torch.allclose(names["x_ddpm"], lab.ddpm[lab.frame], atol=1e-5)
        wanted = [lab.distances["ddim"], lab.distances["ddpm"]]
        assert names["distances"] == pytest.approx(wanted, rel=1e-4, abs=1e-7)


def test_code_of_a_shipped_network() -> None:
    """The same with the default data and network."""
    lab = EtaStepsLab(n=N, steps=4)
    names: dict[str, Any] = {}
    exec(lab.code, names)
    assert torch.allclose(names["x_ddim"], lab.frames[-1], atol=1e-5)


# ---- distances and the table -------------------------------------------------------------------

METRICS = {
    "sliced_wasserstein": de.sliced_wasserstein2,
    "mmd": lambda x, y: de.mmd2(x, y, bandwidth=toy.BANDWIDTH),
    "energy": de.energy_distance,
}


@pytest.fixture(scope="module")
def filled() -> EtaStepsLab:
    lab = oracle_lab(spacing="quadratic", seed=3)
    assert lab.fill().wait(60)
    return lab


@pytest.mark.parametrize("metric", METRICS)
def test_cells_are_the_librarys_numbers(filled: EtaStepsLab, metric: str) -> None:
    """A cell of DDIM and one of "hat", drawn anew and measured against held-out data, exactly."""
    filled.metric = metric
    table, real = filled.table, toy.load("gaussians", N, HELD_OUT)
    assert table.shape == (5, 5)
    assert table.isfinite().all()
    model, noise = mixture(120), functools.partial(z, seed=3)
    chain, x_T, measure = model.schedule, start(seed=3), METRICS[metric]
    for eta, steps in (("0", 50), ("0.5", 20)):
        x = de.ddim(model, x_T, chain, steps, eta=float(eta), spacing="quadratic", noise=noise)
        cell = table[filled.rows.index(eta), filled.columns.index(steps)]
        assert float(measure(x, real)) == float(cell)
    taus = de.timesteps(120, 5, "quadratic")
    *_, last = de.sample(model, x_T, chain, taus, variance="large", noise=noise)
    assert float(measure(last.x_s, real)) == float(table[filled.rows.index("hat"), 0])


def test_cells_that_were_looked_at_are_known() -> None:
    """Without a job: the cell of (eta, S) and that of "hat"; the job agrees with them."""
    lab = oracle_lab(eta=0.2, steps=20)
    table = lab.table
    known = table.isfinite().nonzero().tolist()
    assert known == [[1, 2], [4, 2]]
    assert float(table[1, 2]) == lab.distances["ddim"]
    assert float(table[4, 2]) == lab.distances["ddpm"]
    ask(lab, eta=0.21)
    assert int(lab.table.isfinite().sum()) == 2
    assert lab.scene().panels[-1]["at"] is None
    lab.fill().wait()
    assert torch.equal(lab.table[table.isfinite()], table[table.isfinite()])


def test_the_floor_is_that_of_real_data() -> None:
    """Mean and spread of five other draws; the exact denoiser ends there, one step does not."""
    lab = oracle_lab(steps=100, n=500)
    real = toy.load("gaussians", 500, HELD_OUT)
    draws = [toy.load("gaussians", 500, HELD_OUT + 1 + i) for i in range(5)]
    values = torch.tensor([float(de.sliced_wasserstein2(x, real)) for x in draws])
    mean, sd = lab.floor
    assert mean == pytest.approx(float(values.mean()), rel=1e-6)
    assert sd == pytest.approx(float(values.std()), rel=1e-6)
    # One more draw of real points lies within 5 sd, with an sd that is itself known to 35 %.
    fresh = float(de.sliced_wasserstein2(toy.load("gaussians", 500, 77), real))
    for found in (fresh, *lab.distances.values()):
        assert abs(found - mean) < 7 * sd
    ask(lab, steps=1)
    assert lab.distances["ddim"] > mean + 7 * sd


def test_tables_are_kept() -> None:
    """One for each seed, spacing and number of points; all metrics are measured together."""
    lab = oracle_lab()
    lab.fill().wait()
    whole = lab.table
    for change in ({"seed": 1}, {"spacing": "trailing"}, {"n": N + 1}):
        before = {name: getattr(lab, name) for name in change}
        lab.update(**change)
        assert int(lab.table.isnan().sum()) == 23
        lab.update(**before)
        assert torch.equal(lab.table, whole)
    lab.metric = "mmd"
    assert lab.table.isfinite().all()
    assert not torch.equal(lab.table, whole)


def test_the_picture_is_of_the_table() -> None:
    """Values, names and the outlined cell; a cell not known is NaN there too."""
    lab = oracle_lab(eta=0.5, steps=50)
    scene = lab.scene()
    panel = scene.panels[-1]
    drawn = torch.from_numpy(unpack(panel["values"], scene.buffers)).view(5, 5)
    assert torch.allclose(drawn, lab.table.float(), equal_nan=True)
    assert panel["at"] == (2, 3)
    assert panel["names"] == ["eta", "steps"]
    assert panel["rows"]["values"] == ["0", "0.2", "0.5", "1", "hat"]
    assert panel["columns"]["values"] == ["5", "10", "20", "50", "100"]
    json.dumps(scene.head(), allow_nan=False)


def test_a_click_on_a_cell() -> None:
    """As the player sends it: numbers where a label is one; the row "hat" leaves eta alone."""
    lab = oracle_lab()
    assert "error" not in ask(lab, eta=1, steps=20)[0]
    assert (lab.eta, lab.steps) == (1.0, 20)
    answer, _ = ask(lab, eta="hat", steps=5)
    assert (lab.eta, lab.steps) == (1.0, 5)
    assert answer["scene"]["panels"][-1]["at"] == (3, 0)
    assert "eta must be" in ask(lab, eta="hut")[0]["error"]


# ---- the job -----------------------------------------------------------------------------------


def test_cancelling_keeps_what_is_known() -> None:
    """Ended within a cell: some cells are there and right; the rest comes another time."""
    lab = EtaStepsLab(slowed(0.003), "gaussians", n=N)
    job = lab.fill()
    until(lambda: int(lab.table.isfinite().sum()) > 3)
    lab.receive({"seq": 1, "cancel": job.id})
    assert job.wait(1)
    some = lab.table
    known = some.isfinite()
    assert 3 < int(known.sum()) < 25
    assert "error" not in ask(lab, eta=0.7)[0]
    action = lab.scene().actions[0]
    assert action["name"] == "fill"
    assert action["enabled"]
    whole = oracle_lab()
    whole.fill().wait()
    assert torch.equal(whole.table[known], some[known])
    assert not whole.scene().actions[0]["enabled"]
    assert lab.fill() is not job
    lab.close()


def test_sliders_answer_while_it_runs() -> None:
    """Within a second, and right; the cells go to the table that was asked for."""
    lab = EtaStepsLab(slowed(0.002), "gaussians", n=N)
    assert "error" not in lab.receive({"seq": 1, "action": "fill"})[0]
    job = lab.fill()
    for i, eta in enumerate((0.1, 0.45, 0.9)):
        began = time.perf_counter()
        answer, _ = ask(lab, eta=eta, steps=4, seed=i)
        assert time.perf_counter() - began < 1
        assert answer["scene"]["panels"][0]["title"] == f"DDIM, eta = {eta:g}, S = 4"
        assert torch.equal(lab.frames, oracle_lab(eta=eta, steps=4, seed=i).frames)
        assert int(lab.table.isfinite().sum()) == 0 or i == 0
    assert job.running
    assert job.wait(60)
    ask(lab, seed=0)
    assert lab.table.isfinite().all()


def test_one_job_at_a_time() -> None:
    """The button again is the same job; of another table it takes the place of the first."""
    lab = EtaStepsLab(slowed(0.002), "gaussians", n=N)
    job = lab.fill()
    assert lab.fill() is job
    ask(lab, seed=5)
    other = lab.fill()
    assert other is not job
    assert job.wait(2)
    assert other.running
    other.cancel()
    assert other.wait(2)


def test_it_shows_itself_a_few_times_a_second() -> None:
    """Cells appear while it runs, and views are not flooded."""
    lab = EtaStepsLab(slowed(0.001), "gaussians", n=N)
    seen: list[int] = []
    lab._observers.append(lambda: seen.append(int(lab.table.isfinite().sum())))
    began = time.perf_counter()
    lab.fill().wait()
    took = time.perf_counter() - began
    assert 2 <= len(seen) <= took / PAUSE + 2
    assert seen == sorted(set(seen))
    assert seen[-1] == 25


def test_a_model_that_fails_in_the_job() -> None:
    """What it said is told, the cells before are kept, and the explorer lives on."""
    left = [10**9]

    def model(x: Tensor, t: Tensor) -> Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise ValueError("out of order")
        return mixture(120)(x, t)

    model.schedule = de.linear(120)  # type: ignore[attr-defined]
    lab = EtaStepsLab(model, "gaussians", n=N)
    told: list[Any] = []
    lab._listeners.append(lambda message, buffers: told.append(message["progress"]))
    left[0] = 12  # two cells of 5 steps, and a bit
    lab.fill().wait()
    assert told[-1]["error"] == "filling the table: out of order"
    assert lab.table[:, 0].isfinite().tolist() == [True, True, False, False, False]
    left[0] = 10**9
    assert "error" not in ask(lab, eta=0.5)[0]


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
        (lambda x, *rest: x[:, :1], "returned shape"),
        (lambda x, *rest: None, "returned None"),
        (lambda x, *rest: x / 0, "infinity|NaN"),
        (lambda x, *rest: x / none, "NameError"),  # type: ignore[name-defined]  # noqa: F821
        (lambda x, t: x, "TypeError"),
    ],
)
def test_wrong_steps_are_explained(function: Any, words: str) -> None:
    """The reference is drawn all the same, and the sliders live."""
    lab = oracle_lab(step=function)
    assert re.search(words, lab.notes[0])
    answer, _ = ask(lab, steps=5)
    assert "error" not in answer
    assert len(answer["scene"]["panels"]) == 3
    assert "yours" not in lab.distances
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize(("nap", "words"), [(0.15, "slow"), (60, "did not return")])
def test_slow_steps_are_given_up(monkeypatch: pytest.MonkeyPatch, nap: float, words: str) -> None:
    """Only what came in time is drawn, and the explorer lives on."""
    monkeypatch.setattr(learner, "PATIENCE", 0.4)

    def step(x: Tensor, *rest: Any) -> Tensor:
        end = time.perf_counter() + nap
        while time.perf_counter() < end:
            time.sleep(0.01)
        return right(x, *rest)

    lab = oracle_lab(step=step)
    assert words in lab.notes[0]
    assert "error" not in ask(lab, eta=0.5)[0]
    json.dumps(lab.scene().head(), allow_nan=False)


# ---- parameters --------------------------------------------------------------------------------


def test_every_control_at_both_ends() -> None:
    """Each slider at its ends and each choice: finite walks, a scene that is JSON, three panels."""
    lab = EtaStepsLab("gaussians", n=N, steps=5)
    for control in lab._controls(lab._state):
        values = control.choices if control.kind == "choice" else (control.low, control.high)
        for value in (*values, control.value):
            answer, _ = ask(lab, **{control.name: type(control.value)(value)})
            assert "error" not in answer
            assert getattr(lab, control.name) == value
            assert lab.frames.isfinite().all()
            assert lab.ddpm.isfinite().all()
            assert [p["kind"] for p in answer["scene"]["panels"]] == ["points", "points", "table"]
            assert all(len(line) <= 110 for line in answer["scene"]["text"])
            json.dumps(answer, allow_nan=False)


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
    rough = lab.receive({"seq": 1, "values": {"eta": 0.5}})[0]["scene"]
    assert rough["coarse"]
    few = lab._state.ddim.walk.x[-1]
    assert 200 <= len(few) <= 400
    stride = lab._state.stride
    assert torch.allclose(lab.frames[-1][::stride], few, atol=1e-5)  # frames are always of all
    fine = lab.receive({"seq": 2, "final": True})[0]["scene"]
    assert not fine["coarse"]
    for key in ("kind", "title"):
        assert [p[key] for p in rough["panels"]] == [p[key] for p in fine["panels"]]
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
    lab = EtaStepsLab("oracle", "gaussians", n=N)
    before = repr(lab)
    with pytest.raises(ValueError, match=words):
        lab.update(**values)
    assert repr(lab) == before


# ---- files -------------------------------------------------------------------------------------


def test_a_page_has_every_cell(tmp_path: Path) -> None:
    """Its reader has no button: all cells are measured, and each of DDIM's can be chosen."""
    lab = EtaStepsLab("gaussians", n=N)
    lab.to_html(tmp_path / "lab.html", eta=[0.0, 1.0], steps=[5, 10])
    assert lab.table.isfinite().all()
    for changes in ({"eta": 1.0, "steps": 5}, {"eta": 0.0, "steps": 10}):
        scene = lab._scene_at(changes)
        drawn = unpack(scene.panels[-1]["values"], scene.buffers)
        assert torch.allclose(torch.from_numpy(drawn), lab.table.float().flatten())
    assert (lab.eta, lab.steps) == (0.0, 10)
    assert lab.save(tmp_path / "lab.png").stat().st_size > 10_000


def test_writing_a_page_tells_how_far_it_is() -> None:
    """From 0 to 1, cells first; and what raises there ends it, with the cells measured kept."""
    lab = EtaStepsLab(slowed(0.001), "gaussians", n=50)
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
    """All rows of DDIM and all columns, at most 3 MB."""
    page = EtaStepsLab().to_html(tmp_path / "lab.html")
    assert page.stat().st_size < 3_000_000
