"""GuidanceDial: the library's samples, the classifier's verdict, and what guidance trades."""

from __future__ import annotations

import functools
import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from explorers import check_same_seed, run_code
from torch import Tensor

import diffusion_edu as de
from diffusion_edu.data import images
from diffusion_edu.evaluation.features import features_for
from diffusion_edu.viz.scene import layer_frame, unpack
from diffusion_edu.widgets import datasets, guidance_scores
from diffusion_edu.widgets.guidance_dial import GuidanceDial
from diffusion_edu.widgets.guidance_scores import (
    GREY,
    GUIDANCES,
    LINE,
    MEASURED,
    Curve,
    measure,
    network,
    picture,
    spread,
)

Y = torch.arange(30) % 10
FEW: dict[str, Any] = {"steps": 2}


@pytest.fixture(scope="module")
def dial() -> GuidanceDial:
    return GuidanceDial(steps=4, guidance=2.0)


def straight(model: Any, shape: tuple[int, ...], schedule: Any, steps: int, **how: Any) -> Tensor:
    """Samples by the library alone, from the noise of seed 0."""
    x_T = datasets.noise(shape, 0, 0)
    noise = lambda i, like: datasets.noise(shape, 0, i + 1)  # noqa: E731
    return de.ddim(model, x_T, schedule, steps, clip=1.0, noise=noise, **how)


# ---- samples -----------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_the_grid_is_the_librarys(eta: float) -> None:
    """At 1 the conditional sampler, at 0 the unconditional one, else eq. 6 written out."""
    model, schedule, _ = de.pretrained("digits")
    networks = {
        0.0: lambda x, t: model(x, t),
        1.0: lambda x, t: model(x, t, Y),
        2.5: lambda x, t: -1.5 * model(x, t) + 2.5 * model(x, t, Y),
    }
    for guidance, by_hand in networks.items():
        explorer = GuidanceDial(guidance=guidance, eta=eta, steps=3)
        wanted = straight(by_hand, (30, 1, 8, 8), schedule, 3, eta=eta)
        assert torch.allclose(explorer.frames[-1], wanted, atol=1e-3)
        assert torch.equal(explorer.images, images.to_uint8(explorer.frames[-1]))
        assert explorer.times == de.timesteps(1000, 3).tolist()


def test_without_guidance_beside_it(dial: GuidanceDial) -> None:
    """The second grid is guidance 1 from the same noise; a single class asks 30 times for it."""
    assert torch.equal(dial.unguided, GuidanceDial(steps=4, guidance=1.0).frames)
    assert torch.equal(dial.unguided[0], dial.frames[0])
    three = GuidanceDial(label=3, steps=2)
    assert three.asked.tolist() == [3] * 30
    free = GuidanceDial(label="any", guidance=4.0, steps=2)
    assert free.asked is None
    assert torch.equal(free.frames, GuidanceDial(guidance=0.0, steps=2).frames)
    assert free.fidelity.isnan().all()


def test_seeds_are_common(dial: GuidanceDial) -> None:
    """The same seed starts all settings from the same noise; another one does not."""
    guidance_scores.walk.cache_clear()  # so that the same is computed again
    check_same_seed(functools.partial(GuidanceDial, eta=0.5, **FEW))
    assert torch.equal(GuidanceDial(steps=4, guidance=2.0).frames, dial.frames)
    assert torch.equal(GuidanceDial(label=5, eta=1.0, **FEW).frames[0], dial.frames[0])
    assert not torch.equal(GuidanceDial(seed=1, **FEW).frames[0], dial.frames[0])


def test_mnist_is_drawn_without_its_padding() -> None:
    """32 x 32 as the network sees it, 28 x 28 as judged, in two rows of five."""
    explorer = GuidanceDial("mnist", steps=2, guidance=1.0)
    model, schedule, _ = de.pretrained("mnist")
    y = torch.arange(10)
    wanted = straight(lambda x, t: model(x, t, y), (10, 1, 32, 32), schedule, 2)
    assert torch.allclose(explorer.frames[-1], wanted, atol=1e-3)
    assert explorer.images.shape == (10, 1, 28, 28)
    _, logits = features_for("mnist")(explorer.images)
    assert torch.equal(explorer.seen[-1], logits.argmax(1))
    assert explorer.scene().panels[0]["shape"] == [1, 1, 2 * 29, 5 * 27 - 1]


def test_a_callable_is_a_network_too() -> None:
    """It samples like the shipped one it wraps; its schedule may come along."""
    model, schedule, _ = de.pretrained("digits")
    explorer = GuidanceDial(lambda x, t, y: model(x, t, y), schedule=schedule, **FEW)
    assert torch.allclose(explorer.frames, GuidanceDial(**FEW).frames, atol=1e-5)
    assert explorer.model == "yours"
    path = Path(de.__file__).parent / "nets" / "weights" / "digits.safetensors"
    assert torch.equal(GuidanceDial(path, **FEW).frames, GuidanceDial(**FEW).frames)


# ---- the verdict -------------------------------------------------------------------------------


def test_the_verdict_is_the_classifiers(dial: GuidanceDial) -> None:
    """seen and fidelity of the result, and of the x0 predicted at a level on the way."""
    space = features_for("digits")
    model, schedule, _ = de.pretrained("digits")
    _, logits = space(dial.images)
    assert torch.equal(dial.seen[-1], logits.argmax(1))
    assert float(dial.fidelity[-1]) == pytest.approx(float((logits.argmax(1) == Y).double().mean()))
    t = torch.full((30,), dial.times[2])
    eps = de.guided(model, Y, 2.0)(dial.frames[2], t)
    x0 = de.predict("eps", eps, dial.frames[2], t, schedule).x0.clamp(-1, 1)
    _, logits = space(images.to_uint8(x0))
    assert (dial.seen[2] == logits.argmax(1)).sum() >= 29  # rounding may move one
    right = round(30 * float(dial.fidelity[-1]))
    assert f"{right} of 30 images" in dial.scene().text[-1]


def test_diversity_is_a_ratio_of_distances(dial: GuidanceDial) -> None:
    """Mean over classes of the mean distance of two images, over the same for real ones."""
    space = features_for("digits")
    real = images.load("digits", "test")

    def mean_distance(features: Tensor) -> float:
        n = len(features)
        pairs = [float((features[i] - features[j]).norm()) for i in range(n) for j in range(i)]
        return sum(pairs) / len(pairs)

    ours, _ = space(dial.images)
    ratios = []
    for c in range(10):
        theirs, _ = space(real.images[real.labels == c][:50])
        ratios.append(mean_distance(ours[c == Y]) / mean_distance(theirs))
    assert float(dial.diversity[-1]) == pytest.approx(sum(ratios) / 10, rel=1e-4)
    assert f"diversity {sum(ratios) / 10:.2f}" in dial.scene().text[-1]


def test_real_images_have_diversity_one() -> None:
    """The test images themselves: the ratio of their spread to real_spread is 1."""
    real = images.load("digits", "test")
    features, _ = features_for("digits")(real.images)
    curve = Curve.empty(10)
    curve.put(0, 1.0, spread(features, real.labels, 10))
    ratio, error = curve.diversity(spread(features, real.labels, 10))
    assert float(ratio[0]) == pytest.approx(1.0)
    assert float(error[0]) < 1e-6
    assert spread(features[:1], real.labels[:1], 10).isnan().all()


def test_without_real_data_guidance_one_is_the_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data set may not be on the machine: diversity is relative to the network as it is."""

    def missing(*args: Any, **options: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr(images, "load", missing)
    model, _, _ = de.pretrained("digits")
    explorer = GuidanceDial(lambda x, t, y: model(x, t, y), guidance=1.0, steps=3)
    assert float(explorer.diversity[-1]) == pytest.approx(1.0)
    explorer.guidance = 0.0
    assert float(explorer.diversity[-1]) > 1.2
    assert "guidance 1 = 1" in explorer.scene().panels[2]["y"]["label"]


def test_guidance_trades_diversity_for_fidelity() -> None:
    """100 images each: fidelity 0.5 < 2 and diversity 0.5 > 1, by 5 standard errors.

    Diversity 1 > 3 is the smaller effect: by 3.
    """
    net, curve = network("digits"), Curve.empty(10)
    for guidance in (0.5, 1.0, 2.0, 3.0):
        curve.put(GUIDANCES.index(guidance), *measure(net, guidance, 0.0, 6, lambda done: None))
    read, error = curve.fidelity()
    low, high = GUIDANCES.index(0.5), GUIDANCES.index(2.0)
    assert read[high] - read[low] > 5 * (error[high] ** 2 + error[low] ** 2) ** 0.5
    # Common random numbers: class by class, so that the classes' own differences cancel.
    wide = torch.stack([curve.spread[GUIDANCES.index(g)] for g in (0.5, 1.0, 3.0)])
    for more, less, errors in ((0, 1, 5), (1, 2, 3)):
        gain = (wide[more] / wide[less]).log()
        assert gain.mean() > errors * gain.std() / 10**0.5


# ---- what is drawn -----------------------------------------------------------------------------


def test_drawn_images_are_the_frames(dial: GuidanceDial) -> None:
    """Every pixel of the grid to 1/127; the line is white under what is misread, else grey."""
    free = GuidanceDial(steps=4, guidance=0.0)
    scene = free.scene()
    misread = free.seen != Y
    assert 0 < int(misread[-1].sum()) < 30
    for f in (0, 4):
        drawn = torch.from_numpy(layer_frame(scene.panels[0]["layers"][0], scene.buffers, f))
        sheet = torch.cat([drawn.view(3 * 11, 89), torch.zeros(33, 1)], 1)
        cells = sheet.view(3, 11, 10, 9).permute(0, 2, 1, 3).flatten(0, 1)
        wanted = free.frames[f, :, 0].clamp(-1, 1)
        assert (cells[:, :8, :8] - wanted).abs().max() < 1 / 127
        line = torch.where(misread[f], LINE, GREY)[:, None].expand(30, 8)
        assert (cells[:, 9, :8] - line).abs().max() < 1 / 127
    json.dumps(scene.head(), allow_nan=False)


def test_colours_are_drawn_too() -> None:
    """Three channels keep their places in the picture."""
    net = network("digits")
    x = torch.rand(2, 30, 3, 8, 8)
    drawn = picture(net, x, torch.zeros(2, 30, dtype=torch.bool))
    assert drawn.shape == (2, 3, 33, 89)
    assert torch.equal(drawn[1, 2, 11:19, 9:17], x[1, 11, 2])


@pytest.mark.parametrize("label", ["all", "3", "any"])
def test_code_makes_what_is_shown(label: str) -> None:
    """What "copy as code" gives has the frame shown, the result and what is read from it."""
    explorer = GuidanceDial(label=label, guidance=1.7, eta=0.4, seed=5, steps=3)
    for t in (explorer.times[0], explorer.times[1], 0):
        explorer.t = t
        names = run_code(explorer)
        assert torch.allclose(names["x_t"], explorer.frames[explorer.frame], atol=1e-5)
    assert torch.equal(names["pictures"], explorer.images)
    assert torch.equal(names["seen"], explorer.seen[-1])


def test_the_curves_mark_the_guidance(dial: GuidanceDial) -> None:
    """Dots at the present guidance have fidelity and diversity of the grid, at every level."""
    scene = dial.scene()
    panel = scene.panels[2]
    assert set(unpack(panel["at"], scene.buffers)) == {2.0}
    assert panel["handles"][0]["at"] == (2.0, 0.0)
    for series, wanted in zip(panel["series"], (dial.fidelity, dial.diversity), strict=True):
        assert unpack(series["x"], scene.buffers).tolist() == [2.0]
        y = torch.from_numpy(unpack(series["y"], scene.buffers))
        assert torch.allclose(y, wanted.float())


# ---- measuring ---------------------------------------------------------------------------------


def test_the_button_measures() -> None:
    """The curve has what ``measure`` gives, is drawn by rising guidance, and is kept."""
    explorer = GuidanceDial(**FEW)
    told: list[dict[str, Any]] = []
    explorer._listeners.append(lambda message, buffers: told.append(message["progress"]))
    assert explorer.scene().actions[0]["enabled"]
    answer, _ = explorer.receive({"seq": 1, "action": "measure"})
    assert not answer["scene"]["actions"][0]["enabled"]
    while explorer._jobs:
        time.sleep(0.02)
    assert explorer.curve.missing == []
    i = GUIDANCES.index(1.5)
    read, wide = measure(network("digits"), 1.5, 0.0, 2, lambda done: None)
    assert float(explorer.curve.read[i]) == read
    assert torch.equal(explorer.curve.spread[i], wide)
    done = [message["done"] for message in told]
    assert done == sorted(done)
    assert told[0]["label"] == "measuring"
    scene = explorer.scene()
    assert not scene.actions[0]["enabled"]
    lines = scene.panels[2]["series"][2:]
    assert unpack(lines[0]["x"], scene.buffers).tolist() == sorted(GUIDANCES)
    first = unpack(lines[0]["y"], scene.buffers)
    assert first[0] == float(explorer.curve.read[GUIDANCES.index(0.0)])
    error = (read * (1 - read) / MEASURED) ** 0.5
    assert unpack(lines[0]["error"], scene.buffers)[3] == pytest.approx(error, abs=1e-6)
    explorer.steps = 3
    assert explorer.scene().actions[0]["enabled"]  # not measured for these
    explorer.steps = 2
    assert explorer.curve.missing == []


def test_measuring_can_be_cancelled_and_goes_on() -> None:
    """What was measured stays; the button is there again, and fetches only the rest."""
    explorer = GuidanceDial(**FEW)
    job = explorer.measure()
    while len(explorer.curve.missing) > len(GUIDANCES) - 2:
        time.sleep(0.01)
    answer, _ = explorer.receive({"seq": 1, "cancel": job.id})
    assert "error" not in answer
    assert job.wait(10)
    left = explorer.curve.missing
    assert 0 < len(left) < len(GUIDANCES)
    assert explorer.scene().actions[0]["enabled"]
    before = explorer.curve.read.clone()
    assert explorer.measure().wait(60)
    assert explorer.curve.missing == []
    known = ~before.isnan()
    assert torch.equal(explorer.curve.read[known], before[known])
