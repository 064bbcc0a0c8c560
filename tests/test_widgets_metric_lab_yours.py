"""MetricLab: a metric of the learner's beside the library's."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import pytest
import torch
from explorers import ask
from test_widgets_metric_lab import library
from torch import Tensor

from diffusion_edu import toy
from diffusion_edu.viz.scene import unpack
from diffusion_edu.widgets import learner
from diffusion_edu.widgets.metric_bars import METRICS, SHARES
from diffusion_edu.widgets.metric_lab import MetricLab


def gram(a: Tensor, b: Tensor) -> Tensor:
    return (-((a[:, None] - b).square().sum(2)) / (2 * toy.BANDWIDTH**2)).exp()


def right(x: Tensor, y: Tensor) -> Tensor:
    n, m = len(x), len(y)
    own = (gram(x, x).sum() - n) / (n * (n - 1)) + (gram(y, y).sum() - m) / (m * (m - 1))
    return own - 2 * gram(x, y).mean()


def biased(x: Tensor, y: Tensor) -> float:
    return float(gram(x, x).mean() + gram(y, y).mean() - 2 * gram(x, y).mean())


def test_a_right_metric_agrees() -> None:
    """MMD written anew, in float32: on the library's curve, to rounding."""
    explorer = MetricLab(n=60, metric=right)
    assert "agrees with mmd2" in explorer.notes[0]
    assert explorer.difference < 1e-5
    assert torch.allclose(explorer.mine, explorer.values["mmd2"], atol=1e-5)
    scene = explorer.scene()
    yours, mmd = scene.panels[1]["series"][-1], scene.panels[1]["series"][1]
    assert (yours["label"], mmd["label"]) == ("yours", "MMD")
    assert np.allclose(*(unpack(s["y"], scene.buffers) for s in (yours, mmd)), rtol=0.05)


@pytest.mark.parametrize("name", METRICS)
def test_the_librarys_own_agree(name: str) -> None:
    """The library's metric as the learner's, against each choice of reference."""
    metric = lambda x, y: library(x, y)[name]  # noqa: E731
    explorer = MetricLab(n=50, metric=metric, against=name)
    assert f"agrees with {name}: largest difference 0," in explorer.notes[0]
    panel = explorer.scene().panels[2 if name in SHARES else 1]
    assert panel["series"][-1]["label"] == "yours"
    other = next(m for m in METRICS if m != name)
    assert "error" not in ask(explorer, against=other)[0]
    assert "differs from" in explorer.notes[0]


def test_a_biased_mmd_is_measured() -> None:
    """With the diagonal it is off by (1 - mean of k) (1/n + 1/m), as one can work out."""
    explorer = MetricLab(n=60, metric=biased)
    assert "differs from mmd2" in explorer.notes[0]
    x, y = explorer.samples[0], explorer.data
    means = [(gram(z, z).sum() - 60) / (60 * 59) for z in (x, y)]
    wanted = sum((1 - float(mean)) / 60 for mean in means)
    assert math.isclose(explorer.mine[0] - explorer.values["mmd2"][0], wanted, rel_tol=1e-2)


def slow(x: Tensor, y: Tensor) -> Tensor:
    time.sleep(0.1)
    return right(x, y)


def hang(x: Tensor, y: Tensor) -> Any:
    while True:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (lambda x, y: (x - y).norm(dim=1), ["returned shape (50,)", "one number"]),
        (lambda x, y: {"mmd": 1}, ["returned dict", "one number"]),
        (lambda x, y: None, ["returned None"]),
        (lambda x, y: (x - none).sum(), ["At amount 0", "NameError", "line"]),  # type: ignore[name-defined]  # noqa: F821
        (lambda x, y: math.nan, ["gives NaN at 21 of 21 amounts", "first at amount 0;"]),
        (lambda x, y: x.sum() / 0, ["gives infinity", "not drawn"]),
        (slow, ["slow"]),
        (hang, ["did not return", "mend it"]),
    ],
)
def test_bad_metrics_are_explained(
    metric: Any, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named in a note; the reference is drawn all the same and the sliders live."""
    monkeypatch.setattr(learner, "PATIENCE", 0.4)
    explorer = MetricLab(n=50, metric=metric)
    assert all(word in explorer.notes[0] for word in words), explorer.notes[0]
    assert explorer._state.notes[0]["level"] == "error"
    answer, _ = ask(explorer, seed=1)
    assert "error" not in answer
    json.dumps(answer["scene"], allow_nan=False)
    assert explorer.values["mmd2"].isfinite().all()
    if metric is slow:
        assert 1 < int(explorer.mine.isfinite().sum()) < 21


def test_an_edit_in_place_spoils_nothing() -> None:
    """The learner gets copies."""

    def vandal(x: Tensor, y: Tensor) -> Tensor:
        x.zero_()
        y.zero_()
        return x.sum()

    explorer, clean = MetricLab(n=50, metric=vandal), MetricLab(n=50)
    assert torch.equal(explorer.samples, clean.samples)
    assert torch.equal(explorer.data, clean.data)


def test_what_is_no_function_is_refused() -> None:
    """A number in place of the function."""
    with pytest.raises(ValueError, match="metric must be a function, got float"):
        MetricLab(metric=0.3)  # type: ignore[arg-type]
