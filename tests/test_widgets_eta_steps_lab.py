"""EtaStepsLab: walks and distances are the library's; a job fills the table meanwhile."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from explorers import ask, check_reset, check_same_seed, run_code, slowed
from torch import Tensor

import diffusion_edu as de
from diffusion_edu import toy
from diffusion_edu.viz.scene import unpack
from diffusion_edu.widgets import datasets
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


def slow_lab(seconds: float, n: int = N) -> EtaStepsLab:
    """The same, slower: for jobs that are caught in the act."""
    return EtaStepsLab(slowed(mixture(120), seconds), "gaussians", schedule=de.linear(120), n=n)


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
    check_same_seed(oracle_lab)
    first, second = oracle_lab(seed=1), oracle_lab(seed=2)
    assert not torch.equal(first.frames[0], second.frames[0])
    check_reset(second, seed=3, eta=0.4, steps=3)
    assert (second.seed, second.eta, second.steps) == (2, 0.0, 10)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("metric", ["sliced_wasserstein", "mmd", "energy"])
def test_code_makes_what_is_shown(spacing: str, metric: str) -> None:
    """What "copy as code" gives: both clouds at the level shown, and both distances."""
    lab = EtaStepsLab("oracle", "gaussians", n=N, eta=0.35, steps=8, spacing=spacing, metric=metric)
    for t in (1000, 480, 0):
        lab.t = t
        names = run_code(lab)
        assert names["t"] == lab.times[lab.frame]
        assert torch.allclose(names["x_ddim"], lab.frames[lab.frame], atol=1e-5)
        assert torch.allclose(names["x_ddpm"], lab.ddpm[lab.frame], atol=1e-5)
        wanted = [lab.distances["ddim"], lab.distances["ddpm"]]
        assert names["distances"] == pytest.approx(wanted, rel=1e-4, abs=1e-7)


def test_code_of_a_shipped_network() -> None:
    """The same with the default data and network."""
    lab = EtaStepsLab(n=N, steps=4)
    assert torch.allclose(run_code(lab)["x_ddim"], lab.frames[-1], atol=1e-5)


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
    """A cell of DDIM and one of "hat", drawn anew and measured against held-out data."""
    filled.metric = metric
    table, real = filled.table, toy.load("gaussians", N, HELD_OUT)
    assert table.shape == (5, 5)
    assert table.isfinite().all()
    model, noise = mixture(120), functools.partial(z, seed=3)
    chain, x_T, measure = model.schedule, start(seed=3), METRICS[metric]
    for eta, steps in (("0", 50), ("0.5", 20)):
        x = de.ddim(model, x_T, chain, steps, eta=float(eta), spacing="quadratic", noise=noise)
        cell = table[filled.rows.index(eta), filled.columns.index(steps)]
        assert float(measure(x, real)) == pytest.approx(float(cell), rel=1e-10)
    taus = de.timesteps(120, 5, "quadratic")
    *_, last = de.sample(model, x_T, chain, taus, variance="large", noise=noise)
    cell = table[filled.rows.index("hat"), 0]
    assert float(measure(last.x_s, real)) == pytest.approx(float(cell), rel=1e-10)


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
    lab = slow_lab(0.003)
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
    lab = slow_lab(0.002)
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
    lab = slow_lab(0.002)
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
    lab = slow_lab(0.001)
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
