"""FID by Inception: what is handed over, what is missing, and the real package."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_unet import CHAIN, some_images, unet
from torch import Tensor

from diffusion_edu.evaluation.evaluate import Wanted, evaluate
from diffusion_edu.evaluation.generate import Sampling
from diffusion_edu.evaluation.inception import inception_metrics
from diffusion_edu.evaluation.statistics import Moments


class FakeFidelity(types.ModuleType):
    """Records what it was called with, as torch-fidelity would be."""

    def calculate_metrics(self, **options: Any) -> dict[str, float]:
        self.options = options
        names = ("frechet_inception_distance", "kernel_inception_distance_mean")
        return {**dict.fromkeys(names, 2.5), "kernel_inception_distance_std": 0.5}


def test_inception_hands_over_colour_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grey images become (3, H, W) uint8; the subset fits the smaller side."""
    fake = FakeFidelity("torch_fidelity")
    monkeypatch.setitem(sys.modules, "torch_fidelity", fake)
    grey = some_images(30, 1, 8, 8)
    found = inception_metrics(grey, some_images(50, 3, 8, 8), weights=__file__)
    first, second = fake.options["input1"], fake.options["input2"]
    assert (len(first), len(second)) == (30, 50)
    assert first[29].shape == (3, 8, 8)
    assert first[29].dtype == torch.uint8
    assert torch.equal(first[29][2], grey[29, 0])
    assert fake.options["kid_subset_size"] == 30
    assert fake.options["feature_extractor_weights_path"] == __file__
    assert [fake.options[k] for k in ("fid", "kid", "cuda")] == [True, True, False]
    assert (found.fid, found.kid, found.kid_error) == (2.5, 2.5, 0.5)
    assert (found.samples, found.reference) == (30, 50)
    assert "FID 2.50" in found.line()


def test_inception_takes_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The path of a folder goes through as it is."""
    fake = FakeFidelity("torch_fidelity")
    monkeypatch.setitem(sys.modules, "torch_fidelity", fake)
    found = inception_metrics(tmp_path, some_images(5, 3, 8, 8))
    assert fake.options["input1"] == str(tmp_path)
    assert fake.options["kid_subset_size"] == 5
    assert found.samples is None


def test_inception_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package, weights, a folder or colours: what to do."""
    x = some_images(5, 3, 8, 8)
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ValueError, match=r'pip install "diffusion_edu\[fid\]"'):
        inception_metrics(x, x)
    monkeypatch.setitem(sys.modules, "torch_fidelity", FakeFidelity("torch_fidelity"))
    with pytest.raises(ValueError, match=r"no file nowhere\.pth"):
        inception_metrics(x, x, weights="nowhere.pth")
    with pytest.raises(ValueError, match="samples must be a folder of images or a tensor"):
        inception_metrics("nowhere", x)
    with pytest.raises(ValueError, match=r"reference must be \(n, C, H, W\) uint8"):
        inception_metrics(x, x.float())


def test_evaluate_with_inception(monkeypatch: pytest.MonkeyPatch) -> None:
    """All samples are compared with all training images."""
    fake = FakeFidelity("torch_fidelity")
    monkeypatch.setitem(sys.modules, "torch_fidelity", fake)
    wanted = Wanted(bits=0, neighbours=5, inception=True)
    report = evaluate(unet(), CHAIN, "digits", Sampling(n=30, steps=2, batch=20), wanted)
    assert (len(fake.options["input1"]), len(fake.options["input2"])) == (30, 1437)
    assert report.plain()["inception"]["fid"] == 2.5
    assert "Inception: FID 2.50" in report.lines()[-2]


def test_inception_with_the_real_package() -> None:
    """torch-fidelity itself, a small extractor in Inception's place: FID by our own formula."""
    try:
        import torch_fidelity
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torch-fidelity is not here: {error}")
    from diffusion_edu.metrics import frechet_distance

    class Mean(torch_fidelity.FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("rows",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "rows"

        def forward(self, x: Tensor) -> tuple[Tensor]:
            assert x.dtype == torch.uint8
            assert x.shape[1] == 3
            return (x.float().mean((1, 3)) / 50,)

    torch_fidelity.register_feature_extractor("mean-of-rows", Mean)
    x, y = some_images(60, 1, 8, 8), some_images(70, 1, 8, 8, seed=5) // 2
    found = inception_metrics(x, y, extractor="mean-of-rows")
    a, b = (Moments.of(z.float().mean((1, 3)) / 50) for z in (x, y))
    wanted = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    assert found.fid == pytest.approx(float(wanted), rel=1e-3)
    assert found.kid > 0
