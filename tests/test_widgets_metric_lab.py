"""MetricLab: its numbers are the library's, and each flaw is seen by whom it should be."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explorers import ask
from torch import Tensor

from diffusion_edu import metrics, toy
from diffusion_edu.viz.scene import layer_frame, unpack
from diffusion_edu.widgets.metric_bars import (
    DISTANCES,
    HURRIED,
    METRICS,
    SHARES,
    SIZES,
    checks,
)
from diffusion_edu.widgets.metric_flaws import FLAWS
from diffusion_edu.widgets.metric_lab import MetricLab


@pytest.fixture(scope="module")
def lab() -> MetricLab:
    return MetricLab(n=100)


def library(x: Tensor, y: Tensor, bandwidth: float = toy.BANDWIDTH) -> dict[str, Tensor]:
    """All metrics of samples x and data y, called directly."""
    moments = x.mean(0), x.T.cov(), y.mean(0), y.T.cov()
    both = metrics.precision_recall(real=y, fake=x)
    return {
        "mmd2": metrics.mmd2(x, y, bandwidth),
        "energy_distance": metrics.energy_distance(x, y),
        "sliced_wasserstein2": metrics.sliced_wasserstein2(x, y),
        "frechet_distance": metrics.frechet_distance(*moments),
        "precision": both.precision,
        "recall": both.recall,
    }


# ---- what is shown -----------------------------------------------------------------------------


@pytest.mark.parametrize("flaw", FLAWS)
@pytest.mark.parametrize("dataset", ["gaussians", "moons"])
def test_code_makes_samples_and_numbers(flaw: str, dataset: str) -> None:
    """Every flaw: the code gives the samples, all metrics and the share of copies."""
    explorer = MetricLab(dataset, flaw, n=60, seed=3, bandwidth=0.7)
    for t in (0.0, 0.35, 1.0):
        explorer.t = t
        f, names = explorer.frame, dict[str, Any]()
        exec(explorer.code, names)
        assert torch.allclose(names["x"], explorer.samples[f], atol=1e-6)
        assert torch.equal(names["data"], explorer.data)
        for name in METRICS:
            assert math.isclose(names[name], explorer.values[name][f], rel_tol=1e-4, abs_tol=1e-6)
        assert names["copies"] == explorer.copies[f]


def test_numbers_are_the_librarys(lab: MetricLab) -> None:
    """values, at both ends and between, are direct calls."""
    for f in (0, 9, 20):
        for name, value in library(lab.samples[f], lab.data).items():
            assert lab.values[name][f] == value


def test_floors_are_clean_clouds_against_the_data(lab: MetricLab) -> None:
    """floor = rms of squared distances of fresh clouds; the multiples are squares over it."""
    seeds = range(32, 48)  # of seed 0
    fresh = [library(toy.gaussians(100, k), lab.data) for k in seeds]
    for d in DISTANCES:
        power = 4 if d == "sliced_wasserstein2" else 2
        floor = torch.stack([v[d] for v in fresh]).pow(power).mean().sqrt()
        assert math.isclose(lab.floors[d], floor, rel_tol=1e-9)
        wanted = lab.values[d] ** (power // 2) / floor
        assert torch.allclose(lab.multiples[d], wanted, rtol=1e-9)


def test_floors_of_data_fall_with_n(lab: MetricLab) -> None:
    """Four times the points: an n-th as far apart, 1/n, but for what few pairs vary.

    12 to 48 pairs, each with a spread of about its mean: a ratio is known to 5 * 0.33.
    """
    for floors in lab._state.sizes.values():
        ratio = float(floors[0] / floors[-1]) / (SIZES[-1] / SIZES[0])
        assert abs(math.log(ratio)) < math.log(1 + 5 * 0.33)


def test_the_bandwidth_is_that_of_mmd() -> None:
    """Only mmd2 moves with it, and its floor."""
    one, other = MetricLab(n=60), MetricLab(n=60, bandwidth=0.3)
    for name in METRICS:
        assert torch.equal(one.values[name], other.values[name]) == (name != "mmd2")
    value = metrics.mmd2(other.samples[-1], other.data, 0.3)
    assert other.values["mmd2"][-1] == value


def test_same_seed_same_picture() -> None:
    """Scenes of two explorers are equal, byte by byte; another seed is another picture."""
    one, same, other = (MetricLab(n=60, seed=s).scene() for s in (5, 5, 6))
    assert one.head() == same.head()
    assert one.buffers == same.buffers
    assert one.buffers != other.buffers


# ---- what the flaws do -------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", ["gaussians", "circles", "spirals"])
def test_clean_samples_are_at_the_floor(dataset: str) -> None:
    """At amount 0, over seeds and flaws, multiples are about 1 as root mean square.

    The floor of a seed is known to 25 %, a squared distance spreads by its mean: over 30 seeds the
    rms is known to about 30 %. Precision and recall are those of other clean clouds.
    """
    found: dict[str, list[float]] = {name: [] for name in METRICS}
    clean: dict[str, list[float]] = {name: [] for name in SHARES}
    for seed in range(30):
        explorer = MetricLab(dataset, "none", n=50, seed=seed)
        for d in DISTANCES:
            found[d].append(float(explorer.multiples[d][0]))
        for s in SHARES:
            found[s].append(float(explorer.values[s][0]))
            clean[s].append(float(checks(s, dataset, 50, 50, seed, 0.0).mean()))
    for d in DISTANCES:
        rms = math.sqrt(np.mean(np.square(found[d])))
        assert 1 / 2.5 < rms < 2.5, d
    for s in SHARES:
        gap = np.array(found[s]) - clean[s]
        assert abs(gap.mean()) < 5 * gap.std() / math.sqrt(30)


def test_false_alarms_are_rare() -> None:
    """Where nothing is wrong a metric calls in at most 6 % of all looks: 3 sd of skewed numbers.

    The rate is 1.8 %; over 20 seeds, whose looks share their data, it is known to about 0.7 %.
    """
    alarms = []
    for seed in range(20):
        state = MetricLab(flaw="none", n=50, seed=seed)._state
        alarms.append(torch.stack([state.seen(name) for name in METRICS]).double().mean())
    assert torch.stack(alarms).mean() < 0.06


def changes(flaw: str, seeds: int = 6, **options: Any) -> dict[str, Tensor]:
    """Values at amount 1 minus those at 0, for each seed: {name: (seeds,)}."""
    every = [MetricLab(flaw=flaw, n=100, seed=s, **options) for s in range(seeds)]
    return {m: torch.stack([e.values[m][-1] - e.values[m][0] for e in every]) for m in METRICS}


def test_a_lost_mode_lowers_recall_not_precision() -> None:
    """One of eight modes: recall falls by about 1/8, precision stays; no sample is left there."""
    change = changes("drop a mode")
    assert -0.25 < change["recall"].mean() < -0.06
    assert change["precision"].abs().max() < 0.06
    explorer = MetricLab(n=100)
    angle = torch.atan2(*explorer.samples.unbind(2)[::-1]).abs()
    there = (angle < math.pi / 8).sum(1)
    assert there[0] > 5
    assert there[-1] == 0
    assert (there.diff() <= 0).all()


def test_recall_sees_a_lost_mode_last() -> None:
    """Half way recall is still where it was, while the distances grow steadily."""
    explorer = MetricLab(n=300)
    half = explorer.times.index(0.5)
    recall = explorer.values["recall"]
    assert recall[half] > recall[0] - 0.05
    assert recall[-1] < recall[0] - 0.08
    assert explorer.values["energy_distance"].diff().min() > -1e-3


def test_blur_lowers_precision_first() -> None:
    """On sharp modes a blur of sd 0.15 costs precision, and Fréchet distance has not moved."""
    explorer = MetricLab(flaw="blur", n=300)
    f = explorer.times.index(0.3)
    state = explorer._state
    assert state.seen("precision")[f]
    assert not state.seen("frechet_distance")[f]
    assert (changes("blur")["precision"] < -0.2).all()
    spread = explorer.samples[-1] - explorer.samples[0]
    assert abs(float(spread.std()) - 0.5) < 5 * 0.5 / math.sqrt(2 * 600)


def test_copies_are_as_good_as_real_points() -> None:
    """memorise: amount = share of copies, each of another point; all metrics are at their floor.

    By their mean over seeds, within five standard errors of the change.
    """
    explorer = MetricLab(flaw="memorise", n=100)
    assert torch.allclose(explorer.copies, torch.tensor(explorer.times, dtype=torch.float64))
    assert torch.equal(explorer.samples[-1], explorer.train)
    for name, change in changes("memorise", seeds=24).items():
        assert abs(change.mean()) < 5 * change.std() / math.sqrt(24), name
    for flaw in FLAWS.keys() - {"memorise"}:
        assert MetricLab(flaw=flaw, n=50).copies.max() == 0


def test_same_moments_blind_frechet_alone() -> None:
    """Mean and covariance of the Gaussian are the data's; narrow kernels and others see the rest.

    A kernel as wide as all data is nearly a parabola, so that MMD too sees moments only.
    """
    explorer = MetricLab(flaw="same moments", n=300)
    for name in ("energy_distance", "sliced_wasserstein2", "precision"):
        assert explorer._state.seen(name)[-1]
    assert not explorer._state.seen("frechet_distance").any()
    for bandwidth, wanted in ((0.3, True), (5.0, False)):
        explorer.bandwidth = bandwidth
        assert explorer._state.seen("mmd2")[-1] == wanted
    x = MetricLab("moons", "same moments", n=1000).samples[-1]
    population = toy.moons(200_000, 9).T.cov()
    assert (x.T.cov() - population).abs().max() < 5 * math.sqrt(2 / 1000)
    assert x.mean(0).abs().max() < 5 / math.sqrt(1000)


def test_shift_moves_by_half() -> None:
    """At amount 1 by 0.5 to the right: Fréchet distance grows by 0.25, give or take the means."""
    explorer = MetricLab(flaw="shift", n=100)
    moved = explorer.samples - explorer.samples[0]
    wanted = torch.tensor(explorer.times)[:, None] * torch.tensor([0.5, 0.0])
    assert torch.allclose(moved, wanted[:, None].expand_as(moved), atol=1e-6)
    gap = explorer.samples[0].mean(0) - explorer.data.mean(0)
    grown = explorer.values["frechet_distance"][-1] - explorer.values["frechet_distance"][0]
    assert math.isclose(grown, 0.25 + 2 * 0.5 * gap[0], abs_tol=1e-5)


def test_collapse_and_outliers() -> None:
    """One sample only: precision 1, recall 0. Outliers: precision is lost, recall hardly."""
    explorer = MetricLab(flaw="collapse", n=100)
    assert (explorer.values["precision"][-1], explorer.values["recall"][-1]) == (1, 0)
    assert (explorer.samples[-1] == explorer.samples[-1, 0]).all()
    explorer = MetricLab(flaw="outliers", n=300, t=0.3)
    precision, recall = (explorer.values[s][explorer.frame] for s in SHARES)
    assert precision < 0.85
    assert recall > 0.9


# ---- the picture -------------------------------------------------------------------------------


def test_pictures_are_the_arrays() -> None:
    """Samples as dots or crosses, multiples on the log axis, shares, floors of clean clouds."""
    explorer = MetricLab(flaw="memorise", n=100, t=0.4)
    scene = explorer.scene()
    points, distances, shares, floors = scene.panels
    drawn = [layer_frame(x, scene.buffers, scene.at).reshape(-1, 2) for x in points["layers"]]
    grey, dots, crosses = (torch.from_numpy(x) for x in drawn)
    assert torch.allclose(grey, explorer.data, atol=1e-3)
    assert int(crosses.isfinite().all(1).sum()) == 40
    both = torch.where(crosses.isfinite(), crosses, dots)
    assert torch.allclose(both, explorer.samples[scene.at], atol=1e-3)
    lines = {s["label"]: unpack(s["y"], scene.buffers) for s in distances["series"]}
    wanted = explorer.multiples["frechet_distance"].clamp(min=0.1)
    assert np.allclose(lines["Fréchet"], wanted, rtol=1e-5)
    assert np.allclose(lines["chance"], explorer._state.chance)
    lines = {s["label"]: unpack(s["y"], scene.buffers) for s in shares["series"]}
    assert np.allclose(lines["recall"], explorer.values["recall"])
    assert np.allclose(lines["copies of training points"], explorer.copies)
    first = unpack(floors["series"][1]["y"], scene.buffers)
    assert np.allclose(first, explorer._state.sizes["mmd2"])
    assert "copies 40 %" in scene.text[scene.at]


def test_text_says_who_saw_it(lab: MetricLab) -> None:
    """A line for each amount names all six metrics, on the side where they belong."""
    scene = MetricLab(n=300).scene()
    last = scene.text[-1]
    seen, missed = last.split("missed by")
    assert "recall 0." in seen
    assert "precision 0." in missed
    assert scene.text[0].startswith("amount 0: ")
    assert "missed" not in scene.text[0]
    for flaw in FLAWS:
        lab.flaw = flaw
        assert max(map(len, lab.scene().text)) <= 125
    lab.flaw = "drop a mode"


# ---- parameters --------------------------------------------------------------------------------


def every_control(explorer: MetricLab) -> Iterator[tuple[str, Any]]:
    for control in explorer.scene().controls:
        ends = control.choices if control.kind == "choice" else (control.low, control.high)
        for value in (*ends, control.value):
            yield control.name, type(control.value)(value)


def test_every_control_at_both_ends() -> None:
    """Each answer is a scene that JSON holds, with finite numbers and a line for each frame."""
    explorer = MetricLab(n=50, metric=lambda x, y: (x.mean() - y.mean()) ** 2)
    for name, value in every_control(explorer):
        answer, buffers = ask(explorer, **{name: value})
        scene = answer["scene"]
        json.dumps(scene, allow_nan=False)
        assert getattr(explorer, name) == value
        assert len(scene["text"]) == len(explorer.times) == len(explorer.samples)
        assert all(v.isfinite().all() for v in explorer.values.values())
        for series in scene["panels"][1]["series"]:
            assert np.isfinite(unpack(series["y"], buffers)).all()


def test_dragging_is_coarse_and_release_is_not() -> None:
    """While dragging the first 100 samples count, on the same frames; then all."""
    explorer = MetricLab(n=400)
    before = explorer.scene()
    answer, _ = explorer.receive({"seq": 1, "values": {"seed": 1}})
    assert answer["scene"]["coarse"]
    x, y = explorer._state.samples[-1, :HURRIED], explorer._state.data[:HURRIED]
    assert explorer._state.values["mmd2"][-1] == metrics.mmd2(x, y, toy.BANDWIDTH)
    assert answer["scene"]["time"]["values"] == before.times
    full, _ = explorer.receive({"seq": 2, "values": {}, "final": True})
    assert not full["scene"]["coarse"]
    wanted = metrics.mmd2(explorer.samples[-1], explorer.data, toy.BANDWIDTH)
    assert explorer.values["mmd2"][-1] == wanted
    kinds = [[p["kind"] for p in a["scene"]["panels"]] for a in (answer, full)]
    assert kinds[0] == kinds[1]


def test_many_samples_have_fewer_amounts() -> None:
    """Beyond n = 350 eleven amounts; the one in view stays, or its neighbour comes."""
    explorer = MetricLab(n=100, t=0.25)
    assert len(explorer.times) == 21
    explorer.n = 360
    assert explorer.times == [i / 10 for i in range(11)]
    assert explorer.t in (0.2, 0.3)
    assert explorer.t == explorer.times[explorer.frame]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"n": 49}, "n must .*49"),
        ({"n": 1001}, "n must .*1001"),
        ({"bandwidth": 0.0}, "bandwidth must be .*bandwidth=0.0"),
        ({"bandwidth": math.nan}, "bandwidth must be .*nan"),
        ({"flaw": "blurr"}, "unknown flaw 'blurr'"),
        ({"dataset": "digits"}, "unknown dataset 'digits'"),
        ({"against": "fid"}, "unknown against 'fid'"),
        ({"seed": -1}, "seed must .*-1"),
        ({"t": 1.5}, "t must be .*t=1.5"),
    ],
)
def test_bad_values_change_nothing(lab: MetricLab, values: dict[str, Any], words: str) -> None:
    """Refused with the name, the value and what is allowed."""
    before = repr(lab)
    with pytest.raises(ValueError, match=words):
        lab.update(**values)
    assert repr(lab) == before
    with pytest.raises(ValueError, match=words):
        MetricLab(**values)


def test_reset_and_files(tmp_path: Path) -> None:
    """Reset gives the first picture back; a picture and a page of less than 3 MB are written."""
    explorer = MetricLab(n=50)
    first = explorer.scene()
    ask(explorer, flaw="blur", seed=7)
    assert explorer.flaw == "blur"
    explorer.receive({"seq": 2, "reset": True})
    again = explorer.scene()
    assert (again.head(), again.buffers) == (first.head(), first.buffers)
    assert explorer.save(tmp_path / "lab.png").stat().st_size > 10_000
    assert explorer.to_html(tmp_path / "lab.html").stat().st_size < 3_000_000
