"""InvertAndMix: latents are those of inversion, mixes decode, and round trips come home."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from explorers import ask
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
from diffusion_edu.widgets import datasets, learner
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
    other = InvertAndMix("oracle", "gaussians", seed=5)
    assert torch.equal(other.path, gaussians.path)
    assert other.errors[20] != gaussians.errors[20]
    twin = InvertAndMix("oracle", "gaussians")
    assert (twin.errors, twin.scene().buffers) == (gaussians.errors, gaussians.scene().buffers)


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
    names: dict[str, Any] = {}
    with torch.no_grad():
        exec(explorer.code, names)
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


# ---- the learner's functions -------------------------------------------------------------------


def one_angle(a: Tensor, b: Tensor, lam: float) -> Tensor:
    """Right for one pair, wrong for a batch."""
    theta = ((a * b).sum() / (a.norm() * b.norm())).acos()
    return ((1 - lam) * theta).sin() / theta.sin() * a + (lam * theta).sin() / theta.sin() * b


def no_fallback(a: Tensor, b: Tensor, lam: float) -> Tensor:
    cos = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))
    theta = cos.clamp(max=1).acos()[:, None]
    theta = torch.where(cos[:, None] > 1 - 1e-6, torch.zeros_like(theta), theta)
    return ((1 - lam) * theta).sin() / theta.sin() * a + (lam * theta).sin() / theta.sin() * b


def all_up(model: Any, x0: Tensor, taus: Tensor, schedule: Any) -> Tensor:
    *_, end = invert(model, x0, schedule, taus)
    return end.x_s


def learning(**functions: Any) -> InvertAndMix:
    return InvertAndMix("oracle", "gaussians", steps=10, **functions)


def test_right_functions_agree() -> None:
    """The library's own: no difference, and the same path."""
    explorer = learning(slerp=slerp, invert=all_up)
    assert all("agrees" in note for note in explorer.notes)
    assert len(explorer.notes) == 2
    assert explorer.difference < 1e-6
    assert torch.allclose(explorer.mine, explorer.path, atol=1e-4)
    assert torch.allclose(explorer.mine_latents, explorer.latents, atol=1e-5)


def test_a_wrong_slerp_is_drawn_and_measured() -> None:
    """Lambda reversed: at lambda 0 it is b instead of a, and so is the latent drawn."""
    explorer = learning(slerp=lambda a, b, lam: slerp(b, a, lam))
    assert torch.allclose(explorer.mine_mixed, explorer.mixed.flip(0), atol=1e-5)
    assert "differs" in explorer.notes[0]
    assert "at λ = " in explorer.notes[0]
    assert explorer.difference >= float((explorer.latents[0] - explorer.latents[1]).abs().max())
    plain = learning().scene().panels
    for panel, without in zip(explorer.scene().panels[:2], plain, strict=False):
        assert len(panel["layers"]) == len(without["layers"]) + 1


def test_one_angle_for_a_batch_is_found() -> None:
    """The pair shown is one of several that are tried."""
    assert "differs" in learning(slerp=one_angle).notes[0]


def test_parallel_latents_are_tried() -> None:
    """0/0 where sin(theta) = 0 has a sentence of its own; the path is drawn all the same."""
    explorer = learning(slerp=no_fallback)
    assert "parallel" in explorer.notes[0]
    assert torch.allclose(explorer.mine_mixed, explorer.mixed, atol=1e-4)


def test_a_wrong_inversion_is_measured() -> None:
    """Sampling in place of inversion: the note has the largest difference."""

    def upside_down(model: Any, x0: Tensor, taus: Tensor, schedule: Any) -> Tensor:
        return ddim(model, x0, schedule, len(taus) - 1)

    explorer = learning(invert=upside_down)
    off = float((explorer.mine_latents - explorer.latents).abs().max())
    assert off > 0.1
    assert explorer.difference >= off
    assert "your invert differs" in explorer.notes[0]


@pytest.mark.parametrize("role", ["slerp", "invert"])
@pytest.mark.parametrize(
    ("result", "words"),
    [
        (lambda x: x[:1], ["returned shape", "must be"]),
        (lambda x: None, ["returned None"]),
        (lambda x: x / 0, ["infinity"]),
        (lambda x: x * float("nan"), ["NaN"]),
        (lambda x: x / none, ["NameError"]),  # type: ignore[name-defined]  # noqa: F821
    ],
)
def test_wrong_results_are_explained(role: str, result: Any, words: list[str]) -> None:
    """The reference is drawn all the same, and the sliders live."""
    first = {"slerp": lambda a, b, lam: result(a), "invert": lambda m, x0, taus, s: result(x0)}
    explorer = learning(**{role: first[role]})
    assert all(word in explorer.notes[0] for word in words), explorer.notes
    assert explorer.path.isfinite().all()
    assert "error" not in ask(explorer, bx=0.5)[0]


@pytest.mark.parametrize("role", ["slerp", "invert"])
def test_functions_that_hang_or_crawl_are_given_up(
    role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The explorer lives on."""
    monkeypatch.setattr(learner, "PATIENCE", 0.3)

    def hang(*args: Any) -> Any:
        while True:
            time.sleep(0.01)

    def crawl(*args: Any) -> Tensor:
        time.sleep(0.5)
        return args[0]

    for function in (hang, crawl):
        explorer = learning(**{role: function})
        assert "did not return" in explorer.notes[0]
        assert "error" not in ask(explorer, bx=0.5)[0]


def test_a_slow_slerp_is_shown_as_far_as_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """41 calls of 20 ms do not fit: the first are drawn, the rest are NaN."""
    monkeypatch.setattr(learner, "PATIENCE", 0.3)

    def slow(a: Tensor, b: Tensor, lam: float) -> Tensor:
        time.sleep(0.02)
        return slerp(a, b, lam)

    explorer = learning(slerp=slow)
    assert "slow" in explorer.notes[0]
    assert explorer.mine is not None
    assert explorer.mine[0].isfinite().all()
    assert explorer.mine[-1].isnan().all()
    json.dumps(explorer.scene().head(), allow_nan=False)


# ---- parameters --------------------------------------------------------------------------------


def test_every_control_at_both_ends() -> None:
    """Each slider at its ends and each choice gives a scene of finite arrays; Reset goes back."""
    explorer = InvertAndMix("gaussians", steps=10)
    before, first = repr(explorer), explorer.scene().buffers
    for control in explorer._controls(explorer._state):
        values = control.choices if control.kind == "choice" else (control.low, control.high)
        if not control.enabled:
            continue
        for value in (*values, control.value):
            answer, _ = ask(explorer, **{control.name: type(control.value)(value)})
            assert "error" not in answer
            json.dumps(answer, allow_nan=False)
            assert explorer.path.isfinite().all()
    assert explorer.receive({"seq": 1, "reset": True})[0]["scene"]
    assert (repr(explorer), explorer.scene().buffers) == (before, first)


def test_images_have_their_own_controls() -> None:
    """Points to drag for points, numbers of images for images."""
    explorer = InvertAndMix("digits", steps=2)
    live = {c.name for c in explorer._controls(explorer._state) if c.enabled}
    assert {"a", "b", "steps", "mix"} <= live
    assert not {"ax", "ay", "bx", "by"} & live
    for value in (0, 63):
        assert "error" not in ask(explorer, b=value)[0]
        assert torch.equal(explorer.ends[1], datasets.load("digits", 64, 0)[value])


def test_data_without_a_network_get_the_exact_denoiser() -> None:
    """Asking for a network of such data moves to data that have one."""
    explorer = InvertAndMix("oracle", "circles", steps=2)
    assert "finite set" in explorer.notes[0]
    assert "error" not in ask(explorer, model="network")[0]
    assert explorer.dataset == "swiss_roll"


def test_a_callable_with_few_levels() -> None:
    """steps are held to T, also while a slider is dragged beyond it."""
    schedule = linear(30)
    oracle = MixtureOracle(*toy.gaussians_mixture(), schedule)
    explorer = InvertAndMix(oracle, "gaussians", schedule=schedule)
    assert list(explorer.errors) == [1, 2, 5, 10, 20]
    assert "error" not in ask(explorer, steps=90)[0]
    assert explorer.steps == 30
    with pytest.raises(ValueError, match=r"steps must lie in 1..T = 1..30, got steps=31"):
        explorer.steps = 31


def test_dragging_is_coarse_and_release_is_not() -> None:
    """A costly way has fewer steps and frames while dragged; the pictures stay in place."""
    explorer = InvertAndMix("oracle", "gaussians", steps=20)
    kinds = [p["kind"] for p in explorer.scene().panels]
    explorer._state.seconds = 0.09
    answer, _ = explorer.receive({"seq": 1, "values": {"bx": 0.5}})
    assert answer["scene"]["coarse"]
    assert [p["kind"] for p in answer["scene"]["panels"]] == kinds
    assert explorer._state.steps == 3
    assert len(explorer._state.path.unique(dim=0)) == 3
    assert len(explorer.path.unique(dim=0)) > 30
    assert explorer._state.steps == 20


def test_dragging_the_seed_keeps_the_curve() -> None:
    """New round trips are measured on release."""
    explorer = InvertAndMix("oracle", "gaussians")
    curve = explorer._state.curve
    answer, _ = explorer.receive({"seq": 1, "values": {"seed": 9}})
    assert answer["scene"]["coarse"]
    assert explorer._state.curve is curve
    assert explorer.errors[20] != float(curve[1][CURVE.index(20)])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ax": 9.0}, "ax must be .*ax=9.0"),
        ({"by": float("nan")}, "by must be .*by=nan"),
        ({"mix": "stir"}, "unknown mix 'stir'"),
        ({"steps": 0}, "steps must .*"),
        ({"a": 64}, "a must .*64"),
        ({"t": 1.5}, "t must be .*t=1.5"),
        ({"sigma": 1}, "unknown parameter 'sigma'"),
    ],
)
def test_bad_values_change_nothing(
    gaussians: InvertAndMix, values: dict[str, Any], words: str
) -> None:
    """Refused with the name, the value and what is allowed."""
    before = repr(gaussians)
    with pytest.raises(ValueError, match=words):
        gaussians.update(**values)
    assert repr(gaussians) == before


def test_files(tmp_path: Path) -> None:
    """A page of at most 3 MB that offers some values, and a picture."""
    explorer = InvertAndMix("oracle", "gaussians")
    page = explorer.to_html(tmp_path / "page.html")
    assert 100_000 < page.stat().st_size <= 3_000_000
    assert page.read_text().count("within") > 40 * 40  # one line for each frame of each setting
    picture = explorer.save(tmp_path / "x.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
