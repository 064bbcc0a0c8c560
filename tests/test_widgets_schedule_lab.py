"""ScheduleLab: tables are the library's, and t single steps have the law of one jump."""

from __future__ import annotations

import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explorers import ask, curve, scenes_of
from scipy import stats

import diffusion_edu as de
from diffusion_edu.viz.scene import rows_at, unpack
from diffusion_edu.widgets.forward import SCHEDULES
from diffusion_edu.widgets.schedule_curves import (
    BINS,
    EVERY,
    REACH,
    WIDTH,
    centres,
    chance,
    expected,
    histogram,
    kolmogorov_smirnov,
    levels,
)
from diffusion_edu.widgets.schedule_lab import DECADES, ScheduleLab

# ---- schedules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_curves_are_the_tables(name: str) -> None:
    """alpha_bar and log10 SNR of both schedules at every level, cut where the picture ends."""
    explorer = ScheduleLab(schedule=name, against="cosine", T=40, n=50)
    scene = explorer.scene()
    makes = {name: getattr(de, name)(40), "cosine": de.cosine(40)}
    for label, schedule in makes.items():
        shown = f"{label}, default" if name == "cosine" and label != name else label
        assert torch.allclose(curve(scene, 0, shown).double(), schedule.alpha_bar, atol=1e-6)
        wanted = (schedule.log_snr / math.log(10)).clamp(-DECADES - 1, DECADES + 1)
        assert torch.allclose(curve(scene, 1, shown).double(), wanted, atol=1e-5)


def test_the_known_numbers() -> None:
    """Linear betas 1e-4..0.02, T = 1000: q(x_T | x_0) = N(0.00635 x_0, 0.99996 I), in the text."""
    explorer = ScheduleLab(T=1000, t=1000, n=20)
    line = explorer.scene().text[explorer.frame]
    product = math.prod(1 - beta for beta in np.linspace(1e-4, 0.02, 1000))
    assert float(explorer.noise_schedule.alpha_bar[-1]) == pytest.approx(product, rel=1e-9)
    assert "q(x_t|x_0) = N(0.00635 x_0, 0.99996 I)" in line
    assert f"alpha_bar {product:.3g}, SNR {product / (1 - product):.3g}" in line
    assert all(len(text) <= 110 for text in explorer.scene().text)


def test_levels_end_at_0_and_the_last() -> None:
    """All of a short chain, 101 of a long one, none twice."""
    assert levels(1) == [0, 1]
    assert levels(100) == list(range(101))
    for T in (101, 150, 999, 1000):
        times = levels(T)
        assert (times[0], times[-1], len(times)) == (0, T, 101)
        assert all(a < b for a, b in itertools.pairwise(times))


def test_schedules_with_betas_follow_their_sliders() -> None:
    """The other schedule keeps its defaults, and says so if it has the same name."""
    explorer = ScheduleLab("moons", against="linear", T=10, beta_T=0.5, n=20)
    assert torch.allclose(explorer.noise_schedule.beta[1:], torch.linspace(0.01, 0.5, 10).double())
    assert explorer.other_schedule is not None
    assert torch.equal(explorer.other_schedule.alpha_bar, de.linear(10).alpha_bar)
    labels = [s["label"] for s in explorer.scene().panels[0]["series"]]
    assert labels == ["linear", "linear, default"]
    explorer.against = "none"
    assert explorer.other_schedule is None
    assert len(explorer.scene().panels[0]["series"]) == 1


# ---- chain and jump ----------------------------------------------------------------------------


def test_the_chain_is_made_of_single_steps() -> None:
    """Each level is q_step of the one before, and its noise is standard normal and fresh."""
    explorer = ScheduleLab("moons", T=6, n=4000)
    schedule, zs = explorer.noise_schedule, []
    for t in range(1, 7):
        law = de.q_step(explorer.chain[t - 1], t, schedule)
        zs.append((explorer.chain[t] - law.mean) / law.var.sqrt())
    z = torch.stack(zs).flatten(1)  # (6, 8000)
    assert z.mean(1).abs().max() < 5 / 8000**0.5
    assert (z.var(1) - 1).abs().max() < 5 * (2 / 8000) ** 0.5
    others = torch.corrcoef(z) - torch.eye(6)
    assert others.abs().max() < 5 / 8000**0.5


@pytest.mark.parametrize("schedule", ["linear", "cosine", "jsd"])
@pytest.mark.parametrize("drag", [False, True])
def test_chain_and_jump_have_the_closed_form(schedule: str, drag: bool) -> None:
    """(x_t - mean) / sd of q(x_t | x_0) is N(0, I) for both, also while a slider is dragged."""
    explorer = ScheduleLab("swiss_roll", T=150, n=3000)
    values = {"values": {"schedule": schedule, "seed": 2}, "final": not drag}
    explorer.receive({"seq": 1, **values})
    assert explorer._state.coarse == drag
    x0 = explorer._state.x0
    for f in (1, 30, 100):
        law = de.q_marginal(x0, explorer.times[f], explorer.noise_schedule)
        for x in (explorer.chain, explorer.jump):
            z = (x[f] - law.mean) / law.var.sqrt()
            assert z.mean().abs() < 5 / 6000**0.5
            assert (z.var() - 1).abs() < 5 * (2 / 6000) ** 0.5
    both = torch.stack([explorer.chain[30] - x0, explorer.jump[30] - x0]).flatten(1)
    a = explorer.noise_schedule.sqrt_alpha_bar[explorer.times[30]].float()
    rest = both - ((a - 1) * x0).flatten()
    assert torch.corrcoef(rest)[0, 1].abs() < 5 / 6000**0.5  # the jump has a noise of its own


def test_dragging_keeps_the_layout() -> None:
    """A coarse scene has the panels, axes and sizes of the full one, which comes on release."""
    explorer = ScheduleLab(T=1000, n=500)
    full = explorer.scene().head()
    answer, _ = explorer.receive({"seq": 1, "values": {"beta_T": 0.021}})
    rough = answer["scene"]
    assert rough["coarse"]
    assert rough["time"]["values"] == full["time"]["values"]
    for a, b in zip(rough["panels"], full["panels"], strict=True):
        assert (a["title"], a["y"], a["x"]) == (b["title"], b["y"], b["x"])
        assert [s["label"] for s in a["series"]] == [s["label"] for s in b["series"]]
        assert [s["size"] for s in a["series"]] == [s["size"] for s in b["series"]]
    answer, _ = explorer.receive({"seq": 2, "final": True})
    assert not answer["scene"]["coarse"]


def test_histograms_are_counts() -> None:
    """As numpy counts; NaN is left out, and a row of NaN has no histogram."""
    x = 2 * torch.randn(3, 400, generator=torch.Generator().manual_seed(0))
    x[1, :100] = math.nan
    x[2] = math.nan
    ours = histogram(x)
    edges = -REACH + WIDTH * np.arange(BINS + 1)
    for f, count in ((0, 400), (1, 400)):
        known = x[f][x[f].isfinite()].numpy()
        wanted = np.histogram(known, edges)[0] / (count * WIDTH)
        assert np.allclose(ours[f], wanted, atol=2 / (400 * WIDTH))  # one may fall on an edge
        assert ours[f].sum() == pytest.approx(wanted.sum(), abs=2 / (400 * WIDTH))
    assert ours[2].isnan().all()


@pytest.mark.parametrize("t", [3, 20])
def test_the_exact_histogram_is_the_noisy_density(t: int) -> None:
    """The density of EmpiricalOracle, averaged over each bin by the trapezoidal rule."""
    schedule, x0 = de.linear(20), de.toy.load("gaussians", 2000, 1)[:, 0]
    exact = expected(x0, schedule, [t])[0]
    fine = torch.linspace(-REACH, REACH, BINS * 20 + 1, dtype=torch.float64)
    density = de.EmpiricalOracle(x0[:, None].double(), schedule).log_prob(fine[:, None], t).exp()
    pieces, places = density.unfold(0, 21, 20), fine.unfold(0, 21, 20)
    wanted = torch.trapezoid(pieces, places, dim=1) / WIDTH
    assert torch.allclose(exact.double(), wanted, atol=2e-3)


def test_histograms_tend_to_the_exact_one() -> None:
    """Counts are within 5 standard deviations of it in every bin at every level."""
    explorer = ScheduleLab("pinwheel", T=12, n=5000)
    exact = explorer.histograms["exact"]
    assert torch.allclose(exact.sum(1) * WIDTH, torch.ones(13), atol=5e-3)
    error = (exact.clamp(min=1e-3) / (5000 * WIDTH)).sqrt()
    for label in ("chain", "jump"):
        off = (explorer.histograms[label] - exact).abs() / error
        assert off[1:].max() < 5, label
        # At t = 0 the data themselves, up to the few that stand together, at both ends of a bin.
        gap = (explorer.histograms[label][0] - exact[0]).abs().max()
        assert gap <= 2 * EVERY / (5000 * WIDTH) + 1e-6


def test_distance_is_kolmogorov_smirnovs() -> None:
    """scipy's two-sample statistic, ties included; unknown where there is NaN."""
    g = torch.Generator().manual_seed(3)
    a, b = (torch.randn(4, 300, generator=g) for _ in range(2))
    a[1], b[1] = a[1].round(), b[1].round()
    b[2] = a[2]
    a[3, 5] = math.nan
    ours = kolmogorov_smirnov(a, b)
    for f in range(3):
        wanted = stats.ks_2samp(a[f], b[f]).statistic
        assert float(ours[f]) == pytest.approx(wanted, abs=1e-6)
    assert ours[2] == 0
    assert ours[3].isnan()


def test_chance_is_the_5_percent_level() -> None:
    """Of the limiting law; 400 pairs of independent samples exceed it about 20 times."""
    assert chance(2000) == pytest.approx(stats.kstwobign.isf(0.05) * (2 / 2000) ** 0.5, rel=1e-3)
    g = torch.Generator().manual_seed(1)
    a, b = (torch.randn(400, 500, generator=g) for _ in range(2))
    share = float((kolmogorov_smirnov(a, b) > chance(500)).double().mean())
    assert abs(share - 0.05) < 5 * (0.05 * 0.95 / 400) ** 0.5


def test_chain_and_jump_differ_by_chance_only() -> None:
    """At level T of 40 seeds the distance is above its level at most as often as chance allows."""
    above = 0
    for seed in range(40):
        explorer = ScheduleLab(T=15, seed=seed, n=500)
        above += int(explorer.distance[-1] > explorer.chance)
        assert explorer.distance[0] == 0
    assert above <= 2 + 5 * (40 * 0.05 * 0.95) ** 0.5


def test_the_picture_is_of_the_histograms() -> None:
    """Heights and places: an area with two corners for each bin, steps, a line."""
    explorer = ScheduleLab(T=30, t=9, n=300)
    scene = explorer.scene()
    chain, jump, exact = scene.panels[2]["series"]
    heights = rows_at(unpack(chain["y"], scene.buffers), chain["size"], scene.at)
    assert np.allclose(heights[::2], explorer.histograms["chain"][9])
    assert np.allclose(heights[1::2], explorer.histograms["chain"][9])
    corners = unpack(chain["x"], scene.buffers)
    assert np.allclose(corners[1::2] - corners[::2], WIDTH, atol=1e-5)
    assert np.allclose((corners[1::2] + corners[::2]) / 2, centres(), atol=1e-5)
    for series, label in ((jump, "jump"), (exact, "exact")):
        y = rows_at(unpack(series["y"], scene.buffers), series["size"], scene.at)
        assert np.allclose(y, explorer.histograms[label][9])
    assert f"KS {float(explorer.distance[9]):.2g}" in scene.text[9]
    json.dumps(scene.head(), allow_nan=False)


@pytest.mark.parametrize("values", [{"schedule": "cosine"}, {"beta_1": 0.01, "beta_T": 0.3}])
def test_code_makes_what_is_shown(values: dict[str, Any]) -> None:
    """What "copy as code" gives has the points of chain and jump, alpha_bar and the SNR."""
    explorer = ScheduleLab("moons", T=25, t=11, n=60, seed=4, **values)
    names: dict[str, Any] = {}
    exec(explorer.code, names)
    assert torch.equal(names["chain"], explorer.chain[11])
    assert torch.equal(names["jump"], explorer.jump[11])
    assert float(names["alpha_bar"]) == float(explorer.noise_schedule.alpha_bar[11])
    assert float(names["snr"]) == float(explorer.noise_schedule.snr[11])


def test_the_same_seed_draws_the_same() -> None:
    """And another one draws other points."""
    one, two, other = (ScheduleLab(T=8, n=30, seed=s) for s in (5, 5, 6))
    assert torch.equal(one.chain, two.chain)
    assert torch.equal(one.jump, two.jump)
    assert not torch.equal(one.chain, other.chain)


# ---- parameters --------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [{}, {"T": 1000}, {"schedule": "quadratic", "T": 1}])
def test_every_control_at_both_ends(start: dict[str, Any]) -> None:
    """Each slider at its ends and each choice gives a scene of finite numbers."""
    explorer = ScheduleLab(n=40, **start)
    for control in explorer._controls(explorer._state):
        values = control.choices if control.kind == "choice" else (control.low, control.high)
        for value in (*values, control.value):
            answer, buffers = ask(explorer, **{control.name: type(control.value)(value)})
            assert "error" not in answer, (control.name, value, answer)
            json.dumps(answer["scene"], allow_nan=False)
            assert explorer.chain.isfinite().all()
            for panel in answer["scene"]["panels"]:
                for series in panel["series"]:
                    assert np.isfinite(unpack(series["y"], buffers)).all()


def test_sliders_of_beta_rest_where_there_are_none() -> None:
    """cosine has no beta_1 and beta_T; the limits of the others follow T."""
    explorer = ScheduleLab(schedule="cosine", n=20)
    enabled = {c.name: c.enabled for c in explorer._controls(explorer._state)}
    assert not enabled["beta_1"]
    assert not enabled["beta_T"]
    explorer.update(schedule="linear", beta_T=0.9)
    ask(explorer, T=1000)
    assert explorer.beta_T == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"T": 0}, "T must .*0"),
        ({"T": 1001}, "T must .*1001"),
        ({"beta_T": 1.0}, "beta_T must be .*beta_T=1.0"),
        ({"schedule": "cosin"}, "Did you mean 'cosine'"),
        ({"against": "nothing"}, "unknown against 'nothing'"),
        ({"dataset": "digits"}, "unknown dataset 'digits'"),
        ({"t": 101}, "t must .*101"),
        ({"n": 0}, "n must .*0"),
    ],
)
def test_bad_values_change_nothing(values: dict[str, Any], words: str) -> None:
    """Refused with the name, the value and what is allowed."""
    explorer = ScheduleLab(n=20)
    before = repr(explorer)
    with pytest.raises(ValueError, match=words):
        explorer.update(**values)
    assert repr(explorer) == before


def test_reset_brings_the_beginning_back() -> None:
    """Values, level and picture."""
    explorer = ScheduleLab(n=50)
    before, chain = repr(explorer), explorer.chain
    ask(explorer, T=12, schedule="jsd", seed=3, t=5)
    assert repr(explorer) != before
    explorer.receive({"seq": 2, "reset": True})
    assert repr(explorer) == before
    assert torch.equal(explorer.chain, chain)


def test_pages_and_pictures(tmp_path: Path) -> None:
    """The page offers its settings within 3 MB; a picture is one."""
    explorer = ScheduleLab()
    page = explorer.to_html(tmp_path / "page.html")
    assert page.stat().st_size < 2_000_000
    state = scenes_of(page)
    assert set(state["grid"]["schedule"]) == set(SCHEDULES)
    assert len(state["scenes"]) == math.prod(map(len, state["grid"].values()))
    picture = explorer.save(tmp_path / "lab.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_change_is_quick(record_property: Any) -> None:
    """Processor seconds of one change, printed; the aim is 60 ms."""
    explorer = ScheduleLab()
    start = time.thread_time()
    for k in range(5):
        ask(explorer, beta_T=0.1 + 0.01 * k)
    record_property("change_s", (time.thread_time() - start) / 5)
    assert explorer.beta_T == pytest.approx(0.14)


@pytest.mark.parametrize("make", [de.ForwardExplorer, de.ScheduleLab])
def test_sliders_of_betas_hold_what_they_show(make):
    """Also for T = 1, whose only step is the last: beta_1 has nothing to move there."""
    for T in (1, 2, 50, 1000):
        controls = {c.name: c for c in make(T=T).scene().controls}
        for name in ("beta_1", "beta_T"):
            low, high = controls[name].low, controls[name].high
            assert low <= controls[name].value <= high
        assert controls["beta_1"].enabled == (T > 1)
