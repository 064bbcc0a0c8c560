"""What GuidanceDial computes: grids of images, a classifier's verdict, and how diverse they are."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._checks import check_choice
from ..data import images
from ..evaluation.features import Features, crop, features_for
from ..nets import pretrained
from ..prediction import Model, guided
from ..sampling import Step, sample
from ..schedules import Schedule
from . import datasets
from .denoisers import here

__all__ = [
    "GREY",
    "GUIDANCES",
    "LINE",
    "MEASURED",
    "SHIPPED",
    "Curve",
    "Network",
    "State",
    "Walk",
    "classes_asked",
    "draw",
    "given",
    "lines_of_text",
    "measure",
    "network",
    "picture",
    "real_spread",
    "spread",
    "walk",
]

SHIPPED = ("digits", "mnist")
GUIDANCES = (1.0, 0.0, 0.5, 1.5, 2.0, 3.0, 4.0, 5.0)  # in the order they are measured
MEASURED = 100  # images at each of them
MEASURE_SEED = 2_000_000_000  # away from the seeds of the grids
REAL = 50  # real images of each class that samples are compared with, at most
SMALL = 16  # pixels: grids of images up to that size have more images
GREY, LINE = -0.6, 1.0  # between images, and the line under one


@dataclass(frozen=True, eq=False)
class Network:
    """A class-conditional network and all that goes with it.

    Attributes:
        model: model(x_t, t, y), y=None for its null class.
        data: name of its data set; shape: (C, H, W) it takes, with ``pad`` black pixels around.
        space: the classifier that looks at its images.
    """

    model: Callable[..., Tensor]
    schedule: Schedule
    data: str
    shape: tuple[int, ...]
    pad: int
    space: Features

    @property
    def grid(self) -> tuple[int, int]:
        """Columns and rows of the picture: ten classes side by side, or in two rows of five."""
        return (self.space.classes, 3) if self.shape[-1] <= SMALL else (self.space.classes // 2, 2)

    @property
    def cut(self) -> int:
        """Pixels around an image that are not drawn: the padding, and of large ones the rim.

        MNIST's digits keep away from it, and twice what remains fits five times into a panel.
        """
        return self.pad + (self.shape[-1] > SMALL)

    @property
    def n(self) -> int:
        """Images in the grid."""
        return math.prod(self.grid)


@lru_cache(maxsize=4)
def network(name: str) -> Network:
    """A shipped network, or that of a .safetensors file.

    Raises:
        ValueError: it knows no classes, or no classifier is shipped for its data.
    """
    model, schedule, info = pretrained(name)
    if not getattr(getattr(model, "config", None), "classes", 0):
        raise ValueError(
            f"model must be a network told the class, model(x_t, t, y), but {name} knows no "
            f"classes: use one of {', '.join(map(repr, SHIPPED))}, or train one with classes"
        )
    return Network(model, schedule, info.data, info.shape, info.pad, features_for(info.data))


def given(model: Any, schedule: Schedule | None, dataset: str) -> Network:
    """The reader's network: a file, or a callable that takes what that of ``dataset`` takes."""
    if isinstance(model, str | Path):
        if Path(model).suffix != ".safetensors":
            check_choice(model, SHIPPED, "model")
        return network(str(model))
    if not callable(model):
        raise ValueError(f"model must be a name or a callable model(x_t, t, y), got {model!r}")
    check_choice(dataset, SHIPPED, "dataset")
    like = network(dataset)
    own = getattr(model, "schedule", None)
    chain = schedule or (own if isinstance(own, Schedule) else like.schedule)
    return Network(here(model), chain, like.data, like.shape, like.pad, like.space)


# ---- samples -----------------------------------------------------------------------------------


def classes_asked(net: Network, label: str, n: int) -> Tensor | None:
    """The class asked of each image, (n,): one, all in turn, or None ("any")."""
    if label == "any":
        return None
    every = torch.arange(n) % net.space.classes
    return every if label == "all" else torch.full((n,), int(label))


def draw(net: Network, model: Model, n: int, eta: float, steps: int, seed: int) -> Iterator[Step]:
    """n images of ``model`` from the noise of ``seed``, as a walk; x0 is kept in [-1, 1]."""
    size = (n, *net.shape)

    def z(i: int, like: Tensor) -> Tensor:
        return datasets.noise(size, seed, i + 1)

    x_T = datasets.noise(size, seed, 0)
    return sample(model, x_T, net.schedule, steps, eta=eta, clip=1.0, noise=z)


@dataclass(frozen=True)
class Walk:
    """One grid from noise (frame 0) to images (frame F-1), and what the classifier makes of it.

    Attributes:
        times: level of each frame.
        x: (F, n, C, H, W).
        seen: (F, n), the class read from the x0 predicted at each frame.
        features: (F, n, d) of the same.
        pace: seconds for a step of a guided network.
    """

    times: list[int]
    x: Tensor
    seen: Tensor
    features: Tensor
    pace: float


@lru_cache(maxsize=12)
def walk(net: Network, label: str, guidance: float, eta: float, steps: int, seed: int) -> Walk:
    """The grid at these settings, kept: that without guidance is shown beside many others."""
    y = classes_asked(net, label, net.n)
    guidance = guidance if y is not None else 0.0
    begin = time.perf_counter()
    times, x, x0 = _collect(net, draw(net, guided(net.model, y, guidance), net.n, eta, steps, seed))
    pace = (time.perf_counter() - begin) / steps * (2 if guidance in (0, 1) else 1)
    features, logits = _judge(net, x0.flatten(0, 1))
    shape = len(times), net.n
    return Walk(times, x, logits.argmax(1).view(shape), features.view(*shape, -1), pace)


def _collect(net: Network, steps: Iterator[Step]) -> tuple[list[int], Tensor, Tensor]:
    """Levels, states and predictions of x0 of a walk, the last prediction being the result."""
    every = list(steps)
    x = [step.x_t for step in every] + [every[-1].x_s]
    x0 = [step.x0 for step in every] + [every[-1].x_s]
    return [every[0].t, *(step.s for step in every)], torch.stack(x), torch.stack(x0)


def _judge(net: Network, x: Tensor) -> tuple[Tensor, Tensor]:
    """What the classifier makes of images x (B, C, H, W) in [-1, 1]: features, logits."""
    features, logits = net.space(images.to_uint8(crop(x, net.pad)))
    return features, logits


# ---- fidelity and diversity --------------------------------------------------------------------


def spread(features: Tensor, y: Tensor, classes: int) -> Tensor:
    """Mean distance between two images of each class in features (n, d): (classes,).

    NaN for a class with fewer than two images.
    """
    own = [features[y == c] for c in range(classes)]
    alone = features.new_tensor(torch.nan)
    return torch.stack([torch.pdist(f).mean() if len(f) > 1 else alone for f in own])


@lru_cache(maxsize=4)
def real_spread(net: Network) -> Tensor | None:
    """``spread`` of test images, (classes,); None if the data set is not on this machine."""
    try:
        real = images.load(net.data, "test", download=False)
    except FileNotFoundError:
        return None
    every = torch.arange(len(real))
    some = torch.cat([every[real.labels == c][:REAL] for c in range(net.space.classes)])
    features, _ = net.space(real.images[some])
    return spread(features, real.labels[some], net.space.classes)


@dataclass
class Curve:
    """Measured at ``GUIDANCES``; NaN where not yet.

    Attributes:
        read: (G,), share of the images that the classifier gives the class asked for.
        spread: (G, classes), mean distance of features within each class.
    """

    read: Tensor
    spread: Tensor

    @classmethod
    def empty(cls, classes: int) -> Curve:
        """Nothing measured yet."""
        known = len(GUIDANCES)
        return cls(torch.full((known,), torch.nan), torch.full((known, classes), torch.nan))

    @property
    def missing(self) -> list[int]:
        """Indices of the guidances that are not measured yet."""
        missing: list[int] = self.read.isnan().nonzero().flatten().tolist()
        return missing

    def put(self, i: int, read: float, wide: Tensor) -> None:
        """Set what was found at GUIDANCES[i]."""
        self.read[i], self.spread[i] = read, wide

    def fidelity(self) -> tuple[Tensor, Tensor]:
        """Share read as asked, and its binomial standard error, (G,)."""
        return self.read, (self.read * (1 - self.read) / MEASURED).sqrt()

    def diversity(self, real: Tensor | None) -> tuple[Tensor, Tensor]:
        """Spread relative to real data (None: to guidance 1), and its standard error, (G,).

        A mean over the classes; the error is that of such a mean.
        """
        ratio = self.spread / (self.spread[GUIDANCES.index(1.0)] if real is None else real)
        return ratio.mean(1), ratio.std(1) / ratio.shape[1] ** 0.5


def measure(
    net: Network, guidance: float, eta: float, steps: int, tell: Callable[[float], None]
) -> tuple[float, Tensor]:
    """A point of ``Curve``: share read as asked, spread in each class. ``tell`` takes 0 to 1."""
    y = torch.arange(MEASURED) % net.space.classes
    way = draw(net, guided(net.model, y, guidance), MEASURED, eta, steps, MEASURE_SEED)
    for i, step in enumerate(way):
        x = step.x_s
        tell((i + 1) / steps)
    features, logits = _judge(net, x)
    read = float((logits.argmax(1) == y).float().mean())
    return read, spread(features, y, net.space.classes)


# ---- what is shown -----------------------------------------------------------------------------


@dataclass
class State:
    """What GuidanceDial shows: the grid, the same without guidance, and the learner's.

    mine: (F, n, C, H, W), NaN where it is missing, or None.
    """

    net: Network
    shown: Walk
    unguided: Walk
    asked: Tensor | None
    mine: Tensor | None = None
    notes: list[dict[str, str]] = field(default_factory=list)
    coarse: bool = False

    @property
    def times(self) -> list[int]:
        """Level of each frame."""
        return self.shown.times

    @property
    def schedule(self) -> Schedule:
        """Of the network."""
        return self.net.schedule

    def misread(self, way: Walk) -> Tensor:
        """Images not read as asked, (F, n) bool."""
        return way.seen != self.asked if self.asked is not None else way.seen < 0

    @cached_property
    def fidelity(self) -> Tensor:
        """Share of the grid read as asked at each frame, (F,); NaN if nothing is asked."""
        right = 1 - self.misread(self.shown).double().mean(1)
        return right if self.asked is not None else torch.full_like(right, torch.nan)

    @cached_property
    def diversity(self) -> Tensor:
        """Mean over the classes of spread / real spread at each frame, (F,).

        Without real data relative to the grid without guidance. NaN if no class has two images.
        """
        y, classes = self.asked, self.net.space.classes
        if y is None:
            return torch.full((len(self.times),), torch.nan)
        unit = real_spread(self.net)
        if unit is None:
            unit = spread(self.unguided.features[-1], y, classes)
        return torch.stack([(spread(f, y, classes) / unit).nanmean() for f in self.shown.features])


def picture(net: Network, x: Tensor, lined: Tensor) -> Tensor:
    """The grid of x (F, n, C, H, W) as one image for each frame, (F, C, rows, columns).

    Images in ``lined`` (F, n) have a line under them.
    """
    inside = crop(x, net.cut).clamp(-1, 1)
    height, width = inside.shape[-2:]
    cells = inside.new_full((*inside.shape[:3], height + 3, width + 1), GREY)
    cells[..., :height, :width] = inside
    cells[..., height + 1, :width] = torch.where(lined, LINE, GREY)[..., None, None]
    columns, rows = net.grid
    sheet = cells.unflatten(1, (rows, columns)).permute(0, 3, 1, 4, 2, 5)
    return sheet.flatten(4).flatten(2, 3)[..., :-1]


def lines_of_text(state: State) -> list[str]:
    """One line for each level."""
    n, T = state.net.n, state.schedule.T
    lines = []
    for f, t in enumerate(state.times):
        what = "images" if t == 0 else "predictions"
        line, seen = f"t = {t} of {T}: ", state.shown.seen[f]
        if state.asked is None:
            lines.append(f"{line}no class asked for, {len(seen.unique())} read from {n} {what}")
            continue
        right = round(n * float(state.fidelity[f]))
        line += f"{right} of {n} {what} read as asked (others underlined)"
        spread = float(state.diversity[f])
        lines.append(line if math.isnan(spread) else f"{line}, diversity {spread:.2f}")
    return lines
