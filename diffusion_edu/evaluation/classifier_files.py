"""Classifiers as files: the shipped ones, and those that ``train-classifier`` writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .._files import find_weights, read_weights, shipped, write_weights
from ..data.images import ImageSet, load
from .classifier import Classifier, ClassifierRecipe, Record, accuracy, train

__all__ = [
    "WEIGHTS",
    "ClassifierInfo",
    "classifier_names",
    "load_classifier",
    "save_classifier",
    "train_classifier",
]

FORMAT = "diffusion_edu classifier 1"
WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class ClassifierInfo:
    """What a classifier's file says about itself.

    Attributes:
        recipe: everything needed to train it again, the seed and the data set's name included.
        official: False if the data it was trained on were not the published files.
        seen: training images used, repetitions counted.
        accuracy: share of the test images classified right, by the weights as they are in the file.
        tested: how many test images those were.
        torch: version of torch that trained it.
        path: the file.
    """

    recipe: ClassifierRecipe
    official: bool
    seen: int
    accuracy: float
    tested: int
    torch: str
    path: Path

    @property
    def data(self) -> str:
        """Name of the data set it was trained on."""
        return self.recipe.data


def classifier_names() -> tuple[str, ...]:
    """Data sets that have a shipped classifier."""
    return shipped(WEIGHTS)


def train_classifier(
    plan: ClassifierRecipe,
    path: Path,
    data: ImageSet | None = None,
    test: ImageSet | None = None,
) -> Iterator[Record]:
    """Train by ``plan``, one record per epoch; after the last, test and write ``path``.

    Args:
        data, test: training and test images; default both parts of ``images.load(plan.data)``.
    """
    data = load(plan.data) if data is None else data
    test = load(plan.data, "test") if test is None else test
    model, seen = plan.network(), 0
    for record in train(model, plan, data):
        seen = record.seen
        yield record
    save_classifier(model, plan, path, test, seen=seen, official=data.official and test.official)


def save_classifier(
    model: Classifier,
    plan: ClassifierRecipe,
    path: Path,
    test: ImageSet,
    *,
    seen: int,
    official: bool,
) -> None:
    """Write the weights in half precision, after testing the network that these describe."""
    # Contiguous: the file format knows no channels-last.
    tensors = {k: _half(v).cpu().contiguous() for k, v in model.state_dict().items()}
    rounded = plan.network()
    rounded.load_state_dict(tensors)
    about = {
        "recipe": plan.plain(),
        "official": official,
        "seen": seen,
        "accuracy": accuracy(rounded, test),
        "tested": len(test),
        "torch": torch.__version__,
    }
    write_weights(path, tensors, about, FORMAT)


def _half(x: Tensor) -> Tensor:
    return x.half() if x.is_floating_point() else x


def load_classifier(name: str | Path) -> tuple[Classifier, ClassifierInfo]:
    """A trained classifier in eval mode (float32), and what is known of it.

    Args:
        name: a data set with a shipped classifier (see ``classifier_names``), or the path of a
            ``.safetensors`` file written by ``diffusion-edu train-classifier``.

    Raises:
        ValueError: unknown name (the nearest is suggested), or a file that is missing or foreign.
    """
    path = find_weights(name, WEIGHTS, classifier_names(), "shipped classifier")
    foreign, advice = "is no classifier of this library", "use diffusion-edu train-classifier"
    tensors, about = read_weights(path, FORMAT, foreign, advice)
    try:
        plan = ClassifierRecipe(**about.pop("recipe"))
        model, info = plan.network(), ClassifierInfo(recipe=plan, path=path, **about)
        model.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} cannot be rebuilt into a classifier: {error}") from error
    return model.eval().requires_grad_(False), info
