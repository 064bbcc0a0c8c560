"""TrainingTheatre: a loss and a network of the reader's."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import torch
from explorers import ask
from test_widgets_training_theatre import weights
from torch import Tensor, nn

from diffusion_edu import loss_simple, q_sample
from diffusion_edu.nets import MLP
from diffusion_edu.widgets import learner
from diffusion_edu.widgets.training_theatre import PREDICTS, TrainingTheatre

# ---- a loss of the reader's --------------------------------------------------------------------


def own(model: Any, x0: Tensor, t: Tensor, eps: Tensor, schedule: Any) -> Tensor:
    a = schedule.alpha_bar[t].float()[:, None]
    return (model(a.sqrt() * x0 + (1 - a).sqrt() * eps, t) - eps).square().mean()


def test_loss_simple_itself_trains_the_same_network() -> None:
    """The library's loop and the one for losses of readers are the same: equal bits."""
    explorer = TrainingTheatre("moons", steps=50, loss=loss_simple)
    assert explorer.notes[0].startswith("your loss agrees with loss_simple")
    assert torch.equal(explorer.mine, explorer.samples)
    assert explorer.train(50).wait(30)
    assert torch.equal(explorer.mine, explorer.samples)
    assert torch.equal(explorer.losses["mine"], explorer.losses["ema"])
    mine, wanted = explorer.agreement
    assert mine == wanted


def test_a_loss_written_by_hand_agrees() -> None:
    """Up to rounding; inside, gradients are on, though explorers work without."""
    explorer = TrainingTheatre("moons", steps=20, loss=own)
    assert "agrees" in explorer.notes[0]
    assert torch.allclose(explorer.mine[-1], explorer.samples[-1], atol=1e-2)


def summed(model: Any, x0: Tensor, t: Tensor, eps: Tensor, schedule: Any) -> Tensor:
    return 512 * own(model, x0, t, eps, schedule)


def towards_x0(model: Any, x0: Tensor, t: Tensor, eps: Tensor, schedule: Any) -> Tensor:
    return (model(q_sample(x0, t, eps, schedule), t) - x0).square().mean()


def half_detached(model: Any, x0: Tensor, t: Tensor, eps: Tensor, schedule: Any) -> Tensor:
    loss = own(model, x0, t, eps, schedule)
    return 0.5 * loss + 0.5 * loss.detach()


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (summed, "differs from loss_simple"),
        (towards_x0, "differs from loss_simple"),
        (half_detached, "another gradient"),
    ],
)
def test_wrong_losses_are_measured_and_trained(loss: Any, words: str) -> None:
    """Value or gradient on the first batch; the network they give is drawn beside."""
    explorer = TrainingTheatre("moons", steps=20, loss=loss)
    assert words in explorer.notes[0]
    assert explorer.mine.isfinite().all()
    scene = explorer.scene()
    assert [s["label"] for s in scene.panels[2]["series"]] == ["network", "exact", "yours"]
    assert "cross" in [layer["mark"] for layer in scene.panels[1]["layers"]]
    mine, wanted = explorer.agreement
    assert (abs(mine - wanted) > 1e-3) == ("differs" in words)


def in_place(model: Any, x0: Tensor, t: Tensor, eps: Tensor, schedule: Any) -> Tensor:
    x0.zero_()
    eps.zero_()
    return own(model, x0, t, eps, schedule)


def broken_backward(model: Any, x0: Tensor, t: Tensor, eps: Tensor, schedule: Any) -> Tensor:
    out = model(x0, t).sigmoid()
    loss = out.mean()
    out.zero_()
    return loss


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda *a: None, "returned None"),
        (lambda *a: 0.3, "returned float"),
        (lambda m, x0, t, eps, s: (m(x0, t) - eps) ** 2, "returned shape (256, 2)"),
        (lambda m, x0, t, eps, s: m(x0, t).mean() / 0, "gives"),
        (lambda m, x0, t, eps, s: m(x0, t).mean().detach(), "does not depend on the weights"),
        (lambda m, x0, t, eps, s: m(x0, nothing).mean(), "NameError"),  # type: ignore[name-defined]  # noqa: F821
        (lambda m, x0: m(x0, 1).mean(), "TypeError"),
        (broken_backward, "inplace"),
    ],
)
def test_bad_losses_are_explained(loss: Any, words: str) -> None:
    """Each has its sentence; the reference goes on, in the background too; yours is not drawn."""
    explorer = TrainingTheatre("moons", steps=10, loss=loss)
    assert words in explorer.notes[-1], explorer.notes
    plain = TrainingTheatre("moons", steps=10)
    assert torch.equal(explorer.samples, plain.samples)
    assert explorer.mine[1:].isnan().all()
    assert explorer.train(10).wait(10)
    assert explorer.times == [0, 10, 20]
    json.dumps(explorer.scene().head(), allow_nan=False)


def test_edits_in_place_stay_the_readers() -> None:
    """The reference sees other copies of the batch."""
    explorer = TrainingTheatre("moons", steps=10, loss=in_place)
    assert torch.equal(explorer.samples, TrainingTheatre("moons", steps=10).samples)


def test_a_loss_that_turns_to_nan_later() -> None:
    """Its network is shown as far as it got, and the step is named."""
    calls: list[int] = []

    def late(*a: Any) -> Tensor:
        calls.append(1)
        return own(*a) * (float("nan") if len(calls) > 31 else 1.0)  # one call compares

    explorer = TrainingTheatre("moons", steps=20, loss=late)
    job = explorer.train(30)
    assert job.wait(20)
    assert "At step 31: your loss gives nan" in explorer.notes[-1]
    assert explorer.times == [0, 10, 20, 50]
    assert explorer.mine[:3].isfinite().all()
    assert explorer.mine[3].isnan().all()


@pytest.mark.parametrize("seconds", [0.15, 1000])
def test_slow_and_hanging_losses_are_given_up(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """After the patience; jobs end as if they were not there."""
    monkeypatch.setattr(learner, "PATIENCE", 0.4)

    def lazy(*a: Any) -> Tensor:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            time.sleep(0.01)
        return own(*a)

    explorer = TrainingTheatre("moons", steps=10, loss=lazy)
    assert ("is slow" if seconds < 1 else "did not return") in explorer.notes[-1]
    start = time.perf_counter()
    assert explorer.train(10).wait(20)
    assert time.perf_counter() - start < 5
    assert explorer.times[-1] == 20
    assert "error" not in ask(explorer, level=10)[0]


# ---- a network of the reader's -----------------------------------------------------------------


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layers(torch.cat([x, t[:, None] / 1000], 1))


@pytest.mark.parametrize("predicts", PREDICTS)
def test_a_network_of_the_readers(predicts: str) -> None:
    """It is trained as the library's is; code makes the same with ``net`` at hand."""
    explorer = TrainingTheatre("moons", steps=20, predicts=predicts, net=Small, seed=2)
    names: dict[str, Any] = {"net": Small}
    with torch.random.fork_rng():
        exec(explorer.code, names)
    assert torch.allclose(weights(names["model"]), weights(explorer.networks[-1]), atol=1e-6)
    assert float(explorer.above["ema"][-1]) < float(explorer.above["ema"][0])


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (MLP(), "makes a network, net=lambda: Mine.*TypeError"),
        (lambda: 3, "it made 3"),
        (lambda: nn.Identity(), "with weights"),
        (lambda: MLP(dim=3), r"net\(\)\(x_t \(3, 2\), t \(3,\)\) raised RuntimeError"),
        ("MLP", "net must be a function that makes a network, got net='MLP'"),
    ],
)
def test_what_is_no_network_is_refused(net: Any, words: str) -> None:
    """At once, with what was wrong."""
    with pytest.raises(ValueError, match=words):
        TrainingTheatre("moons", steps=0, net=net)
