"""Features and their moments, part by part and in any order."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_unet import some_images
from torch import Tensor
from torch.nn.functional import pad as pad_image

from diffusion_edu._parallel import gather
from diffusion_edu.data import images
from diffusion_edu.evaluation import statistics
from diffusion_edu.evaluation.features import crop, features_for
from diffusion_edu.evaluation.statistics import FeatureStatistics, Moments, summarise

Draw = Callable[..., Tensor]
ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("one_thread")


def same(a: Moments, b: Moments) -> bool:
    return (
        a.count == b.count
        and torch.allclose(a.mean, b.mean, rtol=1e-10)
        and torch.allclose(a.covariance, b.covariance, rtol=1e-8, atol=1e-10)
    )


@given(cuts=st.lists(st.integers(0, 40), max_size=5), offset=st.sampled_from([0.0, 1e6]))
def test_moments_of_parts_are_moments_of_all(cuts: list[int], offset: float) -> None:
    """Any way of cutting 40 rows, empty parts too, gives mean and covariance of all of them.

    With means of 1e6 as well, where the difference of two sums of squares has no digit left.
    """
    g = torch.Generator().manual_seed(len(cuts))
    x = torch.randn(40, 3, generator=g, dtype=torch.float64) + offset
    edges = [0, *sorted(cuts), 40]
    moments = Moments(3)
    for low, high in pairwise(edges):
        moments.update(x[low:high])
    assert moments.count == 40
    assert torch.allclose(moments.mean, x.mean(0), rtol=1e-12)
    wanted = (x - x.mean(0)).T.cov()
    assert torch.allclose(moments.covariance, wanted, rtol=1e-8, atol=1e-9)
    assert same(moments, moments.combined())  # a world of one


def test_moments_merge_in_any_grouping(randn: Draw) -> None:
    """(a + b) + c = a + (b + c); what is merged stays as it was."""
    a, b, c = (Moments.of(randn(n, 4)) for n in (3, 1, 8))
    left, right = Moments(4), Moments(4)
    for m in (a, b, c):
        left.merge(m)
    b.merge(c)
    right.merge(a)
    right.merge(b)
    assert same(left, right)
    assert a.count == 3


def test_moments_need_two_rows_of_one_size() -> None:
    """The covariance of one row is NaN; other dimensions are an error."""
    assert Moments.of(torch.ones(1, 2)).covariance.isnan().all()
    with pytest.raises(ValueError, match="other must have dimension 2, got 3"):
        Moments(2).update(torch.ones(5, 3))
    with pytest.raises(ValueError, match=r"x must have shape \(n, d\), got \(5,\)"):
        Moments.of(torch.ones(5))


def test_statistics_count_and_keep(monkeypatch: pytest.MonkeyPatch, randn: Draw) -> None:
    """Predictions, labels that came true, and no more than KEEP features, the first."""
    monkeypatch.setattr(statistics, "KEEP", 5)
    space = features_for("digits")
    result = FeatureStatistics.empty(space)
    assert result.accuracy is None
    features, logits = randn(8, space.dim).float(), randn(8, 10).float()
    guess = logits.argmax(1)
    result.update(features[:3], logits[:3])
    result.update(features[3:], logits[3:], torch.where(guess[3:] < 5, guess[3:], 0))
    assert torch.equal(result.predicted, guess.bincount(minlength=10))
    right = int(((guess[3:] < 5) | (guess[3:] == 0)).sum())
    assert (result.wanted, result.right) == (5, right)
    for one in (result, result.combined()):
        assert torch.equal(one.kept, features[:5])
        assert one.moments.count == 8
        assert one.accuracy == right / 5


def test_classifier_features_of_digits() -> None:
    """summarise = the classifier on everything at once; its accuracy is the one in the file."""
    space, test = features_for("digits"), images.load("digits", "test")
    parts = zip(test.images.split(50), test.labels.split(50), strict=True)
    result = summarise(parts, space)
    features, logits = space(test.images)
    assert space.name == "classifier features"
    assert same(result.moments, Moments.of(features))
    assert torch.equal(result.predicted, logits.argmax(1).bincount(minlength=10))
    assert result.accuracy == pytest.approx(space.info.accuracy)
    assert torch.allclose(result.kept, features, atol=1e-5)


def test_features_must_be_of_the_data(tmp_path: Path) -> None:
    """No classifier, or one of other data: the message says which command makes one."""
    with pytest.raises(ValueError, match="train-classifier --data fashion_mnist, and give its"):
        features_for("fashion_mnist")
    with pytest.raises(ValueError, match="Did you mean 'mnist'"):
        features_for("minst")
    with pytest.raises(ValueError, match="must be of a classifier for 'mnist', got one for 'dig"):
        features_for("mnist", weights=features_for("digits").info.path)


def test_crop_undoes_padding() -> None:
    """crop(pad(x)) = x; a crop that leaves nothing is an error."""
    x = some_images(2, 3, 6, 5)
    assert torch.equal(crop(pad_image(x, (2,) * 4), 2), x)
    assert torch.equal(crop(x, 0), x)
    with pytest.raises(ValueError, match=r"pad must be an int in 0\.\.2, got pad=3"):
        crop(x, 3)


def test_gather_alone_gives_back_the_rows(randn: Draw) -> None:
    """In a world of one: the same rows, also if there are none."""
    x = randn(4, 2)
    assert torch.equal(gather(x), x)
    assert gather(x[:0]).shape == (0, 2)


STREAM = """
import resource, torch
from diffusion_edu.evaluation import statistics
torch.set_num_threads(1)
statistics.KEEP, peaks = 1000, []
class Space:
    dim, classes, device = 256, 10, "cpu"
    def __call__(self, images):
        features = images.flatten(1)[:, :256] / 255
        return features, features[:, :10]
def parts():
    for k in range(200):
        yield torch.full((250, 1, 32, 32), k, dtype=torch.uint8), torch.arange(250) % 10
        if k in (19, 199):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
assert statistics.summarise(parts(), Space()).moments.count == 50_000
print(*peaks)
"""


def test_fifty_thousand_images_take_no_more_memory_than_five_thousand() -> None:
    """Peak memory of a process of its own grows by less than 8 MB after the first 5,000 images.

    Both the images that come later and their features are 46 MB.
    """
    pytest.importorskip("resource")
    result = subprocess.run(
        [sys.executable, "-c", STREAM], capture_output=True, text=True, cwd=ROOT, check=True
    )
    early, late = map(int, result.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024  # bytes that ru_maxrss counts in
    assert (late - early) * unit < 8e6
