"""ReverseExplorer: the walk is that of the samplers, with any model and a step of the learner's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from explorers import oracle_explorer, run_code
from torch import Tensor

from diffusion_edu import ddim, ddpm, schedules
from diffusion_edu.data import toy
from diffusion_edu.nets import pretrained
from diffusion_edu.oracles import EmpiricalOracle
from diffusion_edu.sampling import reverse_step
from diffusion_edu.widgets import ReverseExplorer, datasets


def test_reverse_frames_end_in_the_sample_of_ddim_and_ddpm() -> None:
    """frames[-1] = ddim(model, x_T) with eta = 0, and ddpm(...) with the same noise."""
    explorer = oracle_explorer()
    model = explorer._given or __import__("diffusion_edu").MixtureOracle(
        *toy.gaussians_mixture(), explorer.noise_schedule
    )
    x_T = explorer.frames[0]
    assert explorer.frames.shape == (11, 200, 2)
    assert explorer.times[0] == 1000
    assert explorer.times[-1] == 0
    assert torch.allclose(
        explorer.frames[-1], ddim(model, x_T, explorer.noise_schedule, 10), atol=1e-5
    )
    explorer.sampler = "ddpm"
    noise = lambda i, like: datasets.noise((200, 2), 0, i + 1)  # noqa: E731
    expected = ddpm(model, x_T, explorer.noise_schedule, 10, noise=noise)
    assert torch.allclose(explorer.frames[-1], expected, atol=1e-5)


def test_noise_is_common_to_all_settings_of_a_seed() -> None:
    """x_T depends on the seed alone; as eta -> 0 the random walk becomes the deterministic one."""
    explorer = oracle_explorer(seed=3)
    start, end = explorer.frames[0], explorer.frames[-1]
    for change in ({"eta": 1e-4}, {"steps": 25}, {"sampler": "ddpm"}, {"eta": 0.7}):
        explorer.update(**change)
        assert torch.equal(explorer.frames[0], start)
    explorer.update(sampler="ddim", steps=10, eta=1e-4)
    assert (explorer.frames[-1] - end).abs().max() < 0.01
    one = explorer.frames
    explorer.seed = 4
    assert not torch.equal(explorer.frames[0], start)
    explorer.seed = 3
    assert torch.equal(explorer.frames, one)


@pytest.mark.parametrize(
    "settings",
    [
        {"eta": 0.5},
        {"sampler": "ddpm"},
        {"model": "oracle", "dataset": "moons", "sampler": "ddpm_small"},
        {"model": "oracle", "dataset": "gaussians"},
        {"model": "oracle", "dataset": "digits"},
        {"model": "digits", "steps": 3},
    ],
)
def test_code_of_reverse_makes_the_picture(settings: dict[str, Any]) -> None:
    """What "copy as code" gives makes x_t at every level, first and last among them."""
    explorer = ReverseExplorer(**{"steps": 5, "n": 60, "seed": 2, **settings})
    for f, t in enumerate(explorer.times):
        explorer.t = t
        assert torch.allclose(run_code(explorer)["x_t"], explorer.frames[f], atol=1e-6)


def test_three_variances_of_a_step() -> None:
    """ddpm_small is eta = 1 (sigma^2 = beta_tilde); ddpm, sigma^2 = beta, ends farther out."""
    small = ReverseExplorer("gaussians", steps=10, n=500, sampler="ddpm_small")
    assert torch.equal(small.frames, ReverseExplorer("gaussians", steps=10, n=500, eta=1.0).frames)
    large = ReverseExplorer("gaussians", steps=10, n=500, sampler="ddpm")
    assert large.frames[-2].var() > small.frames[-2].var()


def test_a_file_of_weights_is_a_model(tmp_path: Path) -> None:
    """The path of a shipped file walks as the name of that network does."""
    path = pretrained("moons")[2].path
    assert path.suffix == ".safetensors"
    by_path, by_name = ReverseExplorer(path, steps=5, n=50), ReverseExplorer("moons", steps=5, n=50)
    assert by_path.dataset == "moons"
    assert torch.equal(by_path.frames, by_name.frames)
    assert torch.equal(ReverseExplorer(str(path), steps=5, n=50).frames, by_name.frames)


def test_tails_reach_back() -> None:
    """With tails on, the layer of points asks for lines through the frames before."""
    off = ReverseExplorer(steps=4, n=20).scene().panels[0]["layers"][-1]
    on = ReverseExplorer(steps=4, n=20, tails=True).scene().panels[0]["layers"][-1]
    assert off["tail"] == 0
    assert on["tail"] > 1


def test_oracle_walk_ends_on_the_data() -> None:
    """With the exact denoiser of a finite set, 100 DDIM steps end within 0.05 of its points."""
    explorer = ReverseExplorer("oracle", "moons", steps=100, n=64)
    nearest = torch.cdist(explorer.frames[-1], datasets.load("moons", 500, 1)).min(1).values
    assert float(nearest.median()) < 0.05


@pytest.mark.parametrize("name", ["swiss_roll", "moons", "gaussians"])
def test_shipped_networks_reach_their_data(name: str) -> None:
    """Samples of the shipped network lie near fresh data: median distance below 0.1."""
    explorer = ReverseExplorer(name, steps=50, n=400)
    nearest = torch.cdist(explorer.frames[-1], toy.load(name, 4000, 9)).min(1).values
    assert float(nearest.median()) < 0.1


def test_a_model_of_ones_own() -> None:
    """Any callable model(x_t, t) works, with the schedule it carries or the one given."""
    schedule = schedules.cosine(50)
    oracle = EmpiricalOracle(toy.circles(100), schedule)
    for options in ({}, {"schedule": schedule}):
        model = oracle if not options else lambda x, t: oracle(x, t)
        explorer = ReverseExplorer(model, "circles", steps=5, n=40, **options)
        assert explorer.noise_schedule is schedule
        assert explorer.times == [50, 40, 30, 20, 10, 0]
        explorer.model = "oracle"  # the library's own, to compare with
        assert explorer.noise_schedule.T == 1000


def my_step(
    x_t: Tensor, t: int, s: int, eps: Tensor, z: Tensor, eta: float, schedule: Any
) -> Tensor:
    a = schedule.alpha_bar[t]
    x0 = (x_t - (1 - a).sqrt() * eps) / a.sqrt()
    return reverse_step(x0, eps, t, s, schedule, eta=eta, z=z)


def test_a_learners_step_walks_beside_the_reference() -> None:
    """A right step gives the reference walk; one that adds noise at the last step does not."""
    explorer = oracle_explorer(step=my_step, eta=0.6)
    assert explorer.difference < 1e-4
    assert torch.equal(explorer.mine[0], explorer.frames[0])
    noisy = oracle_explorer(step=lambda *a: my_step(*a) + (0.3 * a[4] if a[2] == 0 else 0))
    assert torch.allclose(noisy.mine[:-1], noisy.frames[:-1], atol=1e-4)
    assert noisy.difference > 0.5
    failing = oracle_explorer(step=lambda x, t, s, eps, z, eta, schedule: x / 0 if s else 1 // 0)
    assert "ZeroDivisionError" in failing.notes[0]
    assert failing.mine is None


def test_digits_can_be_walked_too() -> None:
    """The oracle of the digits gives (F, 64, 1, 8, 8) frames that end on digits it knows."""
    explorer = ReverseExplorer("oracle", "digits", steps=40)
    assert explorer.frames.shape == (41, 64, 1, 8, 8)
    known = datasets.load("digits", 500, 1).flatten(1)
    assert torch.cdist(explorer.frames[-1].flatten(1), known).min(1).values.median() < 0.2
