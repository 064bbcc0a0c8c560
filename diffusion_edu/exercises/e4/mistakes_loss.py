"""E4: the right functions, and the wrong ones that have a name: weights, units, and the loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ..spec import Call, Graded, Mistake
from ..stubs import Sch
from ..world import World
from .mistakes_steps import BATCH

WEIGHT = "04, From the bound to the loss"
BITS = "04, Bits per dimension"


# ---- loss_weight ---------------------------------------------------------------------------------


def loss_weight(t: Tensor, sch: Sch) -> Tensor:
    """beta^2 / (2 sigma^2 alpha (1 - alpha_bar)), sigma^2 = beta, (B,): DDPM eq. 12."""
    return sch.beta[t] ** 2 / (2 * sch.beta[t] * sch.alpha[t] * (1 - sch.alpha_bar[t]))


def _weight_by_table(t: Tensor, sch: Sch) -> Tensor:
    table = torch.full_like(sch.beta, torch.nan)
    table[1:] = sch.beta[1:] / (2 * sch.alpha[1:] * (1 - sch.alpha_bar[1:]))
    return table[t]


def _weight_by_loop(t: Tensor, sch: Sch) -> Tensor:
    weights = []
    for level in t.tolist():
        b, bar = float(sch.beta[level]), float(sch.alpha_bar[level])
        weights.append(0.5 * b / ((1 - b) * (1 - bar)))
    return torch.tensor(weights)


def _weight_by_logs(t: Tensor, sch: Sch) -> Tensor:
    below = math.log(2) + torch.log(sch.alpha[t]) + torch.log1p(-sch.alpha_bar[t])
    return torch.exp(sch.beta[t].log() - below)


def _weight_by_means(t: Tensor, sch: Sch) -> Tensor:
    # An error of 1 in the noise moves the mean by this much; over twice the variance, squared.
    moved = sch.beta[t] / (sch.alpha[t] * (1 - sch.alpha_bar[t])).sqrt()
    return moved**2 / (2 * sch.beta[t])


def _weight(form):  # type: ignore[no-untyped-def]
    """Another weight, a function of (beta, alpha, bar, prev)."""
    return lambda t, sch: form(sch.beta[t], sch.alpha[t], sch.alpha_bar[t], sch.alpha_bar[t - 1])


LOSS_WEIGHT = Graded(
    "loss_weight",
    loss_weight,
    lambda w: [(w.t, w.sch), (torch.arange(1, w.sch.T + 1), w.sch)],
    (
        Mistake(
            "weight_squared_missing_or_beta_for_sigma",
            _weight(lambda b, a, bar, prev: 1 / (2 * a * (1 - bar))),
            "A factor beta is missing: beta is squared above the line, and below it there is one "
            "sigma^2 = beta, not beta squared.",
            WEIGHT,
            credit=0.25,
        ),
        Mistake(
            "missing_half",
            _weight(lambda b, a, bar, prev: b / (a * (1 - bar))),
            "The weight is twice too large: the factor 1/2 of a Gaussian's exponent is missing.",
            WEIGHT,
            credit=0.25,
        ),
        Mistake(
            "beta_tilde_or_alpha_bar_of_t_minus_1",
            _weight(lambda b, a, bar, prev: b / (2 * a * (1 - prev))),
            "Below the line stands 1 - alpha_bar of t - 1. Either sigma^2 was taken as beta_tilde, "
            "where it is beta here, or a table was read one entry too early.",
            WEIGHT,
            credit=0.5,
        ),
        Mistake(
            "sigma_not_squared",
            _weight(lambda b, a, bar, prev: b**1.5 / (2 * a * (1 - bar))),
            "It was divided by sigma. The exponent of a Gaussian has sigma squared.",
            WEIGHT,
            credit=0.25,
        ),
        Mistake(
            "alpha_bar_for_alpha",
            _weight(lambda b, a, bar, prev: b / (2 * bar * (1 - bar))),
            "alpha_bar stands where alpha belongs: the mean goes back one step, not all of them.",
            WEIGHT,
        ),
        Mistake(
            "alpha_forgotten",
            _weight(lambda b, a, bar, prev: b / (2 * (1 - bar))),
            "alpha is missing: the mean of a step back is divided by its root.",
            WEIGHT,
        ),
        Mistake(
            "alpha_for_one_minus_alpha_bar",
            _weight(lambda b, a, bar, prev: b / (2 * a * (1 - a))),
            "1 - alpha is the noise of one step. What multiplies eps in x_t is the root of "
            "1 - alpha_bar.",
            WEIGHT,
        ),
        Mistake(
            "roots_not_squared",
            _weight(lambda b, a, bar, prev: b / (2 * (a * (1 - bar)).sqrt())),
            "The roots of alpha and 1 - alpha_bar are those of the mean. Its error is squared.",
            WEIGHT,
            credit=0.25,
        ),
        Mistake(
            "one_minus_forgotten",
            _weight(lambda b, a, bar, prev: b / (2 * a * bar)),
            "alpha_bar is what is left of the data. The error here is one of the noise, "
            "1 - alpha_bar.",
            WEIGHT,
        ),
        Mistake(
            "weight_of_x0_error",
            _weight(lambda b, a, bar, prev: prev * b / (2 * (1 - bar) ** 2)),
            "This is the weight of the squared error of x0. Wanted is that of the noise.",
            WEIGHT,
            credit=0.25,
        ),
        Mistake(
            "weights_of_simple_loss",
            lambda t, sch: torch.ones(len(t)),
            "These are the weights of the simple loss, all 1. Wanted are those of the bound.",
            WEIGHT,
        ),
        Mistake(
            "scalar_t",
            lambda t, sch: loss_weight(t[:1].expand(len(t)), sch),
            "The first t is used for the whole batch. Every example has a t of its own.",
            BATCH,
        ),
    ),
    (_weight_by_table, _weight_by_loop, _weight_by_logs, _weight_by_means),
)


# ---- bits_per_dim --------------------------------------------------------------------------------


def bits_per_dim(nats: Tensor, dims: int) -> Tensor:
    """nats / (dims ln 2), (B,)."""
    return nats / (dims * math.log(2))


def _codes(w: World) -> list[Call]:
    dims = w.x0[0].numel()
    likely = dims * (1.5 + 0.3 * w.more(w.batch))
    return [(likely, dims), (3000 + 900 * w.more(w.batch, draw=2), 3 * 32 * 32)]


BITS_PER_DIM = Graded(
    "bits_per_dim",
    bits_per_dim,
    _codes,
    (
        Mistake(
            "nats_per_dim",
            lambda nats, dims: nats / dims,
            "These are nats per dimension. A bit is less than a nat.",
            BITS,
            credit=0.25,
        ),
        Mistake(
            "multiplied_by_ln_2",
            lambda nats, dims: nats * math.log(2) / dims,
            "It was multiplied by ln 2. A nat is more than a bit: there are more bits than nats.",
            BITS,
            credit=0.25,
        ),
        Mistake(
            "bits_of_all_dims",
            lambda nats, dims: nats / math.log(2),
            "These are the bits of all dimensions together.",
            BITS,
            credit=0.25,
        ),
        Mistake(
            "log10_for_ln",
            lambda nats, dims: nats / (dims * math.log10(2)),
            "The logarithm has base 10. Nats belong to the natural one.",
            BITS,
            credit=0.25,
        ),
        Mistake(
            "divided_by_2",
            lambda nats, dims: nats / (2 * dims),
            "It was divided by 2. A nat has 1 / ln 2 bits.",
            BITS,
        ),
        Mistake(
            "log2_of_nats",
            lambda nats, dims: nats.log2() / dims,
            "The logarithm of the nats was taken. Nats are a logarithm already; only its base "
            "changes.",
            BITS,
        ),
        Mistake(
            "sign_flipped",
            lambda nats, dims: -nats / (dims * math.log(2)),
            "The sign is turned. The nats passed in are a code length already, -log p.",
            BITS,
            credit=0.5,
        ),
        Mistake(
            "seven_bits_added",
            lambda nats, dims: bits_per_dim(nats, dims) + 7,
            "7 bits were added, as for a density of images with 256 levels in [-1, 1]. The nats "
            "passed in are those of a probability.",
            BITS,
            credit=0.5,
        ),
        Mistake(
            "averages_batch",
            lambda nats, dims: bits_per_dim(nats, dims).mean(),
            "The batch was averaged. Wanted is one number for every example.",
            BITS,
            credit=0.5,
        ),
    ),
    (
        lambda nats, dims: nats / dims * math.log2(math.e),
        lambda nats, dims: nats / dims / torch.log(torch.tensor(2.0)),
        lambda nats, dims: torch.tensor([x / dims / math.log(2) for x in nats.tolist()]),
        lambda nats, dims: (1 / math.log(2)) * torch.div(nats, dims),
    ),
)


# ---- find the bug --------------------------------------------------------------------------------


def image_loss(eps_pred: Tensor, eps: Tensor) -> Tensor:
    """Squared error of the noise, averaged over the batch and all pixels: a number."""
    return ((eps - eps_pred) ** 2).mean()


IMAGE_LOSS = Graded(
    "image_loss",
    image_loss,
    lambda w: [(w.z, w.eps)],
    (
        Mistake(
            "sum_not_mean",
            lambda eps_pred, eps: ((eps - eps_pred) ** 2).flatten(1).sum(1).mean(),
            "The pixels of an image are added up, so loss and gradient grow with the size of the "
            "images.",
            WEIGHT,
        ),
        Mistake(
            "sum_over_everything",
            lambda eps_pred, eps: ((eps - eps_pred) ** 2).sum(),
            "Everything is added up: the loss grows with the images and with the batch.",
            WEIGHT,
        ),
        Mistake(
            "sum_over_batch",
            lambda eps_pred, eps: ((eps - eps_pred) ** 2).flatten(1).mean(1).sum(),
            "The pixels are averaged, but the batch is added up.",
            WEIGHT,
            credit=0.25,
        ),
        Mistake(
            "batch_not_averaged",
            lambda eps_pred, eps: ((eps - eps_pred) ** 2).flatten(1).mean(1),
            "There is one number for every image. A loss is a single number.",
            WEIGHT,
            credit=0.5,
        ),
        Mistake(
            "only_batch_averaged",
            lambda eps_pred, eps: ((eps - eps_pred) ** 2).mean(0),
            "The batch is averaged, but the pixels are still there. A loss is a single number.",
            WEIGHT,
            credit=0.25,
        ),
        Mistake(
            "absolute_error",
            lambda eps_pred, eps: (eps - eps_pred).abs().mean(),
            "The error is not squared.",
            WEIGHT,
        ),
        Mistake(
            "root_of_loss",
            lambda eps_pred, eps: ((eps - eps_pred) ** 2).mean().sqrt(),
            "This is the root of the loss.",
            WEIGHT,
            credit=0.25,
        ),
    ),
    (
        lambda eps_pred, eps: F.mse_loss(eps_pred, eps),
        lambda eps_pred, eps: (eps - eps_pred).square().flatten(1).mean(dim=1).mean(dim=0),
        lambda eps_pred, eps: torch.linalg.vector_norm(eps - eps_pred) ** 2 / eps.numel(),
    ),
    bug="sum_not_mean",
)
