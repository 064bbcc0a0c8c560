"""A small image classifier; distances are taken between its penultimate activations.

    u (B, C, H, W) uint8 -> conv -> [conv, halve, residual conv] per width -> mean over pixels
                         -> features (B, d) -> linear -> logits (B, K)

The published distances (FID and its kin) use a network of 24 million weights trained on ImageNet,
which has seen no handwritten digit and enlarges everything to 299 x 299. This one is trained on the
very data set in minutes and fits in 1.2 MB: its numbers are a different quantity, to be compared
only among themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from .._checks import check_choice, check_count
from ..data.images import ImageSet, load, to_float
from ..nets.switches import autocast, seeded

__all__ = [
    "RECIPES",
    "Classifier",
    "ClassifierRecipe",
    "Record",
    "accuracy",
    "augment",
    "recipe",
    "train",
]

MOMENTUM = 0.9
CHUNK = 500  # images tested at once


@dataclass(frozen=True)
class ClassifierRecipe:
    """Everything that decides a trained classifier, as plain values.

    Attributes:
        data: a name for ``images.load``.
        shape: (C, H, W) of its images.
        stem: channels of the first convolution, at full resolution.
        widths: channels of each level; every level halves the image. The last is d.
        classes: K.
        epochs, batch: passes over the training images, examples per step.
        lr: largest step size of SGD with Nesterov momentum 0.9: reached linearly after ``warmup``
            of all steps, then falling linearly to 0.
        weight_decay: of all weights, added to the gradient.
        shift: training images are moved by up to that many pixels each way, black coming in.
        flip: half of them are mirrored left to right.
        bf16: convolutions in bfloat16 while training: 1.5 to 2.5 times faster where the processor
            knows that type.
        seed: of weights, order and augmentation.
        threads: of torch while training; one makes the result independent of the machine's cores.
    """

    data: str
    shape: tuple[int, int, int]
    stem: int = 16
    widths: tuple[int, ...] = (32, 64)
    classes: int = 10
    epochs: int = 4
    batch: int = 128
    lr: float = 0.1
    warmup: float = 0.2
    weight_decay: float = 5e-4
    shift: int = 2
    flip: bool = False
    bf16: bool = True
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("shape", "widths"):  # lists, when read from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("stem", "classes", "epochs", "batch", "threads"):
            check_count(getattr(self, name), 1, None, name)
        for name in ("shift", "seed"):
            check_count(getattr(self, name), 0, None, name)
        for name in ("lr", "warmup"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in (0, 1), got {name}={getattr(self, name)}")

    def plain(self) -> dict[str, Any]:
        """As plain values, for files."""
        return {**asdict(self), "shape": list(self.shape), "widths": list(self.widths)}

    def network(self) -> Classifier:
        """An untrained classifier, initialised by the seed."""
        with seeded(self.seed):
            return Classifier(self.shape, self.stem, self.widths, self.classes)


RECIPES: dict[str, ClassifierRecipe] = {
    "digits": ClassifierRecipe("digits", (1, 8, 8), epochs=40, batch=32, lr=0.05, shift=1),
    "mnist": ClassifierRecipe("mnist", (1, 28, 28)),
    "fashion_mnist": ClassifierRecipe("fashion_mnist", (1, 28, 28), epochs=10, flip=True),
    "cifar10": ClassifierRecipe(
        "cifar10", (3, 32, 32), stem=32, widths=(64, 128, 128), epochs=10, shift=3, flip=True
    ),
}


def recipe(data_name: str) -> ClassifierRecipe:
    """The committed recipe for a data set; ValueError with the nearest name if there is none."""
    check_choice(data_name, RECIPES, "classifier recipe")
    return RECIPES[data_name]


class Classifier(nn.Module):
    """classifier(images (B, C, H, W) uint8) -> (features (B, d), logits (B, K)), both float32."""

    def __init__(
        self, shape: tuple[int, int, int], stem: int, widths: tuple[int, ...], classes: int
    ) -> None:
        super().__init__()
        self.shape, self.dim = tuple(shape), widths[-1]
        self.stem = _convolution(shape[0], stem)
        self.levels = nn.ModuleList(
            _Level(c_in, c_out) for c_in, c_out in zip((stem, *widths), widths, strict=False)
        )
        self.head = nn.Linear(widths[-1], classes)
        # Channels last: 1.5 times faster on the CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: (B, C, H, W) uint8 of the size it was made for; ValueError for another."""
        if images.shape[1:] != self.shape:
            raise ValueError(
                f"images must have shape (B, {', '.join(map(str, self.shape))}), got "
                f"{tuple(images.shape)}: crop the padding of a network's images first"
            )
        h = self.stem(to_float(images).contiguous(memory_format=torch.channels_last))
        for level in self.levels:
            h = level(h)
        features = h.float().mean((2, 3))
        return features, self.head(features).float()


class _Level(nn.Module):
    """conv, half the size by the largest of 2 x 2, then h + conv(h)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.widen = _convolution(c_in, c_out)
        self.refine = _convolution(c_out, c_out)

    def forward(self, h: Tensor) -> Tensor:
        h = F.max_pool2d(self.widen(h), 2)
        refined: Tensor = self.refine(h)
        return h + refined


def _convolution(c_in: int, c_out: int) -> nn.Sequential:
    """3 x 3 convolution, batch norm, ReLU."""
    convolution = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))


# ---- training ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """What happened in one epoch.

    Attributes:
        epoch, epochs: done, and in all.
        loss: mean cross-entropy (nats) of the augmented training images.
        accuracy: share of them that were classified right.
        seen: training images used so far, repetitions counted.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    seen: int


def train(
    model: Classifier, plan: ClassifierRecipe, data: ImageSet | None = None
) -> Iterator[Record]:
    """Train ``model`` in place by cross-entropy; a lazy generator with one record per epoch.

    Args:
        data: the training images; default ``images.load(plan.data)``.

    Raises:
        ValueError: fewer images than one batch.
    """
    data = load(plan.data) if data is None else data
    if len(data) < plan.batch:
        raise ValueError(f"data must hold a batch of {plan.batch} images, got {len(data)}")
    device = next(model.parameters()).device
    images, labels = data.images.to(device), data.labels.to(device)
    g = torch.Generator().manual_seed(plan.seed)
    optimizer = torch.optim.SGD(
        model.parameters(), plan.lr, MOMENTUM, weight_decay=plan.weight_decay, nesterov=True
    )
    step, total = 0, plan.epochs * (len(images) // plan.batch)
    for epoch in range(1, plan.epochs + 1):
        parts = []
        order = torch.randperm(len(images), generator=g).to(device)
        for index in order[: total // plan.epochs * plan.batch].view(-1, plan.batch):
            for group in optimizer.param_groups:
                group["lr"] = plan.lr * _pace(step / total, plan.warmup)
            x = augment(images[index], plan.shift, plan.flip, g)
            parts.append(_step(model.train(), optimizer, x, labels[index], plan.bf16))
            step += 1
        loss, right = (torch.stack(p).mean().item() for p in zip(*parts, strict=True))
        yield Record(epoch, plan.epochs, loss, right, step * plan.batch)


def _pace(done: float, warmup: float) -> float:
    """Up to 1 in a straight line, then down to 0: the fraction of the largest step size."""
    return min(done / warmup, (1 - done) / (1 - warmup))


def _step(
    model: Classifier, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, bf16: bool
) -> tuple[Tensor, Tensor]:
    """One step of SGD; returns loss and accuracy of the batch."""
    with autocast(x.device, "bfloat16" if bf16 else "float32"):
        _, logits = model(x)
    loss = F.cross_entropy(logits, y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach(), (logits.argmax(1) == y).double().mean()


def augment(images: Tensor, shift: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Each image (B, C, H, W) moved by up to ``shift`` pixels both ways, and perhaps mirrored.

    What comes in at the border is 0. Random numbers are drawn on the generator's device.
    """
    n, _, height, width = images.shape
    at = generator.device
    start = torch.randint(2 * shift + 1, (2, n, 1), generator=generator, device=at)
    rows = start[0] + torch.arange(height, device=at)
    columns = start[1] + torch.arange(width, device=at)
    if flip:
        mirrored = torch.rand(n, 1, generator=generator, device=at) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(images, (shift,) * 4)
    one = torch.arange(n, device=images.device)[:, None, None]
    moved = padded[one, :, rows[:, :, None].to(one.device), columns[:, None].to(one.device)]
    return moved.permute(0, 3, 1, 2)  # indices first puts the channels last


@torch.no_grad()
def accuracy(model: Classifier, data: ImageSet) -> float:
    """Share of images of which the largest logit is the label's."""
    device = next(model.parameters()).device
    parts = zip(data.images.split(CHUNK), data.labels.split(CHUNK), strict=True)
    right = sum(int((model.eval()(x.to(device))[1].argmax(1).cpu() == y).sum()) for x, y in parts)
    return right / len(data)
