"""InvertAndMix: latents are those of inversion, mixes decode, and round trips come home."""

from __future__ import annotations

import functools
import json
from typing import Any

import pytest
import torch
from explorers import check_same_seed, run_code
from torch import Tensor

from diffusion_edu import (
    MixtureOracle,
    ddim,
    interpolate,
    invert,
    linear,
    pretrained,
    reconstruct,
    slerp,
    toy,
)
from diffusion_edu.viz.scene import layer_frame, rows_at, unpack
from diffusion_edu.widgets import datasets
from diffusion_edu.widgets.invert_and_mix import InvertAndMix
from diffusion_edu.widgets.invert_paths import AGAIN, CURVE, POINTS, between, distance


@pytest.fixture(scope="module")
def gaussians() -> InvertAndMix:
    return InvertAndMix("oracle", "gaussians", steps=20)


def latents_of(model: Any, x0: Tensor, schedule: Any, steps: int) -> Tensor:
    with torch.no_grad():
        *_, end = invert(model, x0, schedule, steps)
    return end.x_s


# ---- the arrays --------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 7, 20])
@pytest.mark.parametrize("name", ["swiss_roll", "digits"])
def test_latents_and_path_are_those_of_the_library(name: str, steps: int) -> None:
    """latents is the last state of de.invert, path is de.interpolate, back is de.reconstruct."""
    if name == "digits" and steps == 20:
        steps = 3
    explorer = InvertAndMix(name, steps=steps)
    model, schedule, _ = pretrained(name)
    latents = latents_of(model, explorer.ends, schedule, steps)
    assert torch.allclose(explorer.latents, latents, atol=1e-5)
    with torch.no_grad():
        path = interpolate(model, *latents.split(1), explorer.times, schedule, steps)[:, 0]
        back = reconstruct(model, explorer.ends, schedule, steps)
    assert torch.allclose(explorer.path, path, atol=1e-3)
    assert torch.allclose(explorer.back, back, atol=1e-3)
    assert explorer.path.isfinite().all()
    assert (explorer.times[0], explorer.times[-1]) == (0.0, 1.0)


def test_the_ends_of_the_path_are_the_round_trips_of_a_and_b(gaussians: InvertAndMix) -> None:
    """Lambda 0 and 1 give back A and B, up to the error of S steps; in many steps more exactly."""
    off = distance(gaussians.back, gaussians.ends)
    assert torch.allclose(gaussians.mixed[[0, -1]], gaussians.latents, atol=1e-6)
    fine = InvertAndMix("oracle", "gaussians", steps=200)
    assert torch.equal(fine.ends, gaussians.ends)
    assert (distance(fine.back, fine.ends) < 0.3 * off).all()
    assert (distance(fine.back, fine.ends) < 0.05).all()


def test_slerp_keeps_the_length_and_lerp_does_not() -> None:
    """Between latents of one length r slerp stays at r; lerp sinks to r cos(angle/2)."""
    a = torch.tensor([[3.0, 4.0, 0.0]])
    b = torch.tensor([[0.0, 3.0, 4.0]])
    lams = torch.linspace(0, 1, 11)
    assert torch.allclose(between("slerp", a, b, lams).norm(dim=1), torch.tensor(5.0), atol=1e-5)
    half = torch.acos((a * b).sum() / 25) / 2
    lengths = between("lerp", a, b, lams).norm(dim=1)
    assert float(lengths[5]) == pytest.approx(float(5 * half.cos()), rel=1e-5)
    assert float(lengths.min()) == pytest.approx(float(lengths[5]))


def test_the_mix_follows_its_name(gaussians: InvertAndMix) -> None:
    """mixed is slerp or the straight line, at every lambda."""
    straight = InvertAndMix("oracle", "gaussians", mix="lerp")
    a, b = straight.latents
    for f, lam in enumerate(straight.times):
        assert torch.allclose(straight.mixed[f], (1 - lam) * a + lam * b, atol=1e-5)
        wanted = slerp(a[None], b[None], lam)[0]
        assert torch.allclose(gaussians.mixed[f], wanted, atol=1e-5)
    assert (gaussians.mixed - straight.mixed).abs().max() > 0.1


def test_round_trips_get_better_like_one_over_s(gaussians: InvertAndMix) -> None:
    """errors are the RMS of the library's round trips; from 20 to 100 steps they fall about 5x."""
    assert list(gaussians.errors) == list(CURVE)
    oracle = MixtureOracle(*toy.gaussians_mixture(), linear(1000))
    x0 = datasets.load("gaussians", 500, 0)[:POINTS]
    for S in (5, 50):
        with torch.no_grad():
            off = reconstruct(oracle, x0, oracle.schedule, S) - x0
        wanted = float(off.square().sum(1).mean().sqrt())
        assert gaussians.errors[S] == pytest.approx(wanted, rel=1e-3)
    assert 3 < gaussians.errors[20] / gaussians.errors[100] < 7
    assert 1.5 < gaussians.errors[50] / gaussians.errors[100] < 2.5


@pytest.mark.parametrize("name", ["swiss_roll", "moons", "gaussians"])
def test_networks_come_home_too(name: str) -> None:
    """RMS and median of the shipped networks fall with S, the median like 1/S."""
    explorer = InvertAndMix(name)
    _, rms, median = explorer._state.curve
    assert (rms[1:] < rms[:-1]).all()
    i = CURVE.index(20)
    assert 3 < float(median[i] / median[-1]) < 8


def test_the_same_latent_lands_at_the_same_place(gaussians: InvertAndMix) -> None:
    """again[S] decodes the latents in S steps; from 10 to 50 the place moves less and less."""
    assert tuple(gaussians.again) == AGAIN
    oracle = MixtureOracle(*toy.gaussians_mixture(), linear(1000))
    with torch.no_grad():
        exact = ddim(oracle, gaussians.mixed, oracle.schedule, 400)
        tenth = ddim(oracle, gaussians.mixed, oracle.schedule, 10)
    assert torch.allclose(gaussians.again[10], tenth, atol=1e-3)
    off = [float(distance(gaussians.again[S], exact).square().mean().sqrt()) for S in AGAIN]
    assert off[0] > off[1] > off[2]


def test_seeds_change_the_examples_only(gaussians: InvertAndMix) -> None:
    """Another seed measures other points; A, B and the path stay; the same seed is the same."""
    check_same_seed(functools.partial(InvertAndMix, "oracle", "gaussians", steps=5))
    other = InvertAndMix("oracle", "gaussians", seed=5)
    assert torch.equal(other.path, gaussians.path)
    assert other.errors[20] != gaussians.errors[20]


@pytest.mark.parametrize(
    "options",
    [
        {"model": "swiss_roll"},
        {"model": "oracle", "dataset": "gaussians", "mix": "lerp", "steps": 7},
        {"model": "oracle", "dataset": "moons", "steps": 5, "ax": 0.11},
        {"model": "digits", "steps": 3, "a": 4, "b": 9, "seed": 2, "mix": "lerp"},
    ],
)
def test_code_makes_the_arrays(options: dict[str, Any]) -> None:
    """What "copy as code" gives has the latent, the mix and the round trips that are shown."""
    explorer = InvertAndMix(t=0.3, **options)
    with torch.no_grad():
        names = run_code(explorer)
    f = explorer.frame
    assert explorer.times[f] == pytest.approx(0.3)
    assert torch.allclose(names["x0"], explorer.ends)
    assert torch.allclose(names["latent"][0], explorer.mixed[f], atol=1e-4)
    assert torch.allclose(names["mix"][0], explorer.path[f], atol=2e-3)
    assert torch.allclose(names["back"], explorer.back, atol=2e-3)


# ---- the pictures ------------------------------------------------------------------------------


def test_the_pictures_show_the_arrays(gaussians: InvertAndMix) -> None:
    """Paths, crosses, the curve and the upright line at S; handles stand on A and B."""
    scene = gaussians.scene()
    data, latents, errors = scene.panels
    assert [p["kind"] for p in scene.panels] == ["points", "points", "curves"]
    assert [tuple(h["at"]) for h in data["handles"]] == [tuple(x) for x in gaussians.ends.tolist()]

    def paths(panel: dict[str, Any]) -> list[Tensor]:
        layers = [x for x in panel["layers"] if x["mark"] == "path"]
        return [torch.from_numpy(layer_frame(x, scene.buffers, 20)).view(-1, 2) for x in layers]

    for panel, wanted in ((data, gaussians.path), (latents, gaussians.mixed)):
        long = next(p for p in paths(panel) if len(p) == len(wanted))
        assert torch.allclose(long, wanted, atol=1e-3)
        middle = paths(panel)[-1][:-1].mean(0)  # of the ring around the mix
        assert torch.allclose(middle, wanted[20], atol=1e-3)
    cross = next(x for x in data["layers"] if x["mark"] == "cross")
    drawn = torch.from_numpy(layer_frame(cross, scene.buffers, 20)).view(-1, 2)
    assert torch.allclose(drawn, torch.stack([x[20] for x in gaussians.again.values()]), atol=1e-3)
    rms = errors["series"][0]
    y = rows_at(unpack(rms["y"], scene.buffers), rms["size"], 0)
    assert y.tolist() == pytest.approx(list(gaussians.errors.values()), rel=1e-5)
    assert set(unpack(errors["at"], scene.buffers).tolist()) == {20.0}
    assert len(scene.text) == len(scene.times)
    assert max(map(len, scene.text)) <= 125
    json.dumps(scene.head(), allow_nan=False)


def test_digits_are_shown_between_a_and_b() -> None:
    """First row A, mix, B, second A', the latent, B'; then all mixes, the one shown brightest."""
    explorer = InvertAndMix("digits", steps=3, t=0.5)
    scene = explorer.scene()
    six, row, lengths, _ = scene.panels
    f = scene.at
    shown = layer_frame(six["layers"][0], scene.buffers, f).reshape(six["shape"])
    wanted = [explorer.ends[0], explorer.path[f], explorer.ends[1], explorer.back[0]]
    for i, x in zip((0, 1, 2, 3), wanted, strict=True):
        assert torch.allclose(torch.from_numpy(shown[i]), x, atol=0.02)
    every = layer_frame(row["layers"][0], scene.buffers, f).reshape(row["shape"])
    assert torch.allclose(torch.from_numpy(every[f]), explorer.path[f].clamp(-1, 1), atol=0.02)
    assert every[f].max() > every[f - 1].max() + 0.3
    norms = rows_at(unpack(lengths["series"][0]["y"], scene.buffers), len(explorer.times), 0)
    assert norms.tolist() == pytest.approx(explorer.mixed.flatten(1).norm(dim=1).tolist(), rel=1e-4)
    json.dumps(scene.head(), allow_nan=False)


def test_the_button_measures_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images have their costly round trips measured in a job, on demand."""
    monkeypatch.setattr("diffusion_edu.widgets.invert_paths.CURVE", (1, 2, 25))
    monkeypatch.setattr("diffusion_edu.widgets.invert_paths.AT_ONCE", (1, 2))
    monkeypatch.setattr("diffusion_edu.widgets.invert_and_mix.AT_ONCE", (1, 2))
    explorer = InvertAndMix("oracle", "digits", steps=2)
    assert list(explorer.errors) == [1, 2]
    assert explorer.scene().actions[0]["enabled"]
    version = explorer.version
    answer, _ = explorer.receive({"seq": 1, "action": "measure"})
    assert "error" not in answer
    for job in list(explorer._jobs.values()):
        assert job.wait(60)
    assert list(explorer.errors) == [1, 2, 25]
    assert explorer.version > version
    assert not explorer.scene().actions[0]["enabled"]
    assert "unknown action" in explorer.receive({"seq": 2, "action": "dance"})[0]["error"]
