"""Explorers of MNIST, where its files are on the machine; here they are synthetic ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_images import write_mnist

from diffusion_edu.widgets import ForwardExplorer, InvertAndMix, ReverseExplorer, datasets

pytestmark = pytest.mark.filterwarnings("ignore:not the published content")


@pytest.fixture(scope="module")
def with_mnist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("data")
    write_mnist(root / "mnist")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFUSION_EDU_DATA", str(root))
        datasets.load.cache_clear()
        yield root
    datasets.load.cache_clear()


def test_mnist_is_offered_where_it_is(with_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "mnist" in datasets.names()
    controls = {c.name: c for c in ForwardExplorer().scene().controls}
    assert "mnist" in controls["dataset"].choices
    monkeypatch.setenv("DIFFUSION_EDU_DATA", str(with_mnist / "nowhere"))
    assert "mnist" not in datasets.names()
    with pytest.raises(ValueError, match="dataset"):
        ForwardExplorer("mnist")


def test_forward_and_code(with_mnist: Path) -> None:
    """64 images with a black rim; what "copy as code" gives is the frame shown."""
    explorer = ForwardExplorer("mnist", T=10, t=4)
    assert explorer.frames.shape == (11, 64, 1, 32, 32)
    assert (explorer.frames[0][..., :2, :] == -1).all()
    names: dict[str, Any] = {}
    exec(explorer.code, names)
    assert torch.allclose(names["x_t"].float(), explorer.frames[4], atol=1e-6)


def test_reverse_with_the_shipped_network_and_the_oracle(with_mnist: Path) -> None:
    network = ReverseExplorer("mnist", steps=2)
    assert network.frames.shape == (3, 9, 1, 32, 32)
    oracle = ReverseExplorer("oracle", "mnist", steps=10)
    data = datasets.load("mnist", 64, 1)
    nearest = torch.cdist(oracle.frames[-1].flatten(1), data.flatten(1)).amin(1)
    assert (nearest < 1.0).all()  # of 32 x 32 pixels: an oracle gives back what it knows


def test_inversion_keeps_to_what_every_machine_has(with_mnist: Path) -> None:
    with pytest.raises(ValueError, match="dataset"):
        InvertAndMix("oracle", "mnist")
