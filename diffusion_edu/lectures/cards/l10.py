"""Predict cards of lecture 10: images and guidance."""

from __future__ import annotations

import torch

from ...data import images
from ...data.images import hue_of
from ...known import fill_in, gray
from ...nets import pretrained
from ...prediction import guided
from ...sampling import ddim
from .kinds import Card, Choice, Number

__all__ = ["CARDS"]


def _dial() -> int:
    """What guidance 4 does to the share read as asked, and to the spread, against guidance 1/2."""
    from ...evaluation.features import features_for

    model, schedule, info = pretrained("digits")
    y, judge, found = torch.arange(30) % 10, features_for("digits"), []
    x_T = torch.randn(30, *info.shape, generator=torch.Generator().manual_seed(1))
    for guidance in (0.5, 4.0):
        made = ddim(guided(model, y, guidance), x_T, schedule, 4, clip=1.0)
        features, logits = judge(images.to_uint8(made))
        wide = torch.stack([torch.pdist(features[y == c]).mean() for c in range(10)]).mean()
        found.append((int((logits.argmax(1) == y).sum()), float(wide)))
    (read, wide_before), (pushed_read, pushed_wide) = found
    # 0: both more, 1: more right and less varied, 2: less right and more varied, 3: both less
    return 2 * (pushed_read <= read) + (pushed_wide < wide_before)


def _twice() -> float:
    """Mean squared error of a posterior sample over that of the posterior mean, by quadrature.

    Data -1 and +1, observed under noise of variance 1: the posterior mean is tanh(y).
    """
    y = torch.linspace(-9, 9, 2001, dtype=torch.float64)
    density = (-(y[:, None] - torch.tensor([-1.0, 1.0])).square() / 2).exp().sum(1)
    right = (1 + y.tanh()) / 2  # probability of +1
    sample = density @ (2 * right * (1 - right) * 4)  # drawn and true differ by 2
    return float(sample / (density @ (1 - y.tanh().square())))


def _hue() -> int:
    """How the shipped network colours one gray digit, 24 times from other noise."""
    model, schedule, info = pretrained("colour_digits")
    test = images.to_float(images.load("colour_digits", "test").images[:1])
    g = torch.Generator().manual_seed(0)
    x_T = torch.randn(24, *info.shape, generator=g)
    x = fill_in(model, x_T, test, gray, schedule, 10, generator=g).clamp(-1, 1)
    hue, one = hue_of(x)
    turn = 2 * torch.pi * hue
    alike = float(turn.cos().mean().hypot(turn.sin().mean()))  # 1: the same hue every time
    if x.std(1).mean() < test.std(1).mean() / 2:  # over the channels: what is not gray
        return 0
    if float(one.median()) < 0.7:
        return 2
    return 1 if alike > 0.7 else 3


CARDS: dict[str, Card] = {
    "dial": Choice(
        "The same network, the same noise. The weight of the class goes up: first half of what the "
        "network learned, then four times as much as it learned. A classifier reads the images. "
        "What happens to the share that is read as asked, and to the variety of the images asked "
        "for as one class?",
        "More of them are read as asked, and they look more alike. Guidance moves every image "
        "towards what is typical of its class alone; the unusual ones pay for it.",
        (
            "more right, more varied",
            "more right, less varied",
            "less right, more varied",
            "less right, less varied",
        ),
        _dial,
    ),
    "twice": Number(
        "An image is seen under noise. Answer A is the mean of all images it may have been. Answer "
        "B is one of them, drawn with its probability. How many times larger is the mean squared "
        "error of B?",
        "Exactly twice, whatever the data and however strong the noise. Squared error is least at "
        "the mean. The drawn image and the true one are two independent draws of the same law, and "
        "a difference of two has twice the variance.",
        _twice,
        low=0.5,
        high=5.0,
        close=0.25,
    ),
    "hue": Choice(
        "A network has learned digits in colour, each in one hue, all hues equally often. It is "
        "made to colour a gray digit, many times. What comes out?",
        "Every time a digit of one hue, and every time another hue. The gray picture does not say "
        "which: a network trained to answer with the mean would paint it gray.",
        (
            "gray every time: the mean of all hues",
            "the same hue every time",
            "patches of several hues",
            "one hue each time, another one each time",
        ),
        _hue,
    ),
}
