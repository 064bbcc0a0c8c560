"""E5: the right functions, and the wrong ones that have a name: time, and the loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..forms import at
from ..spec import Call, Graded, Mistake
from ..stubs import Sch, TinyNet
from ..world import World

TIME = "05, What time it is"
LOSS = "05, The loss"
DRAWS = "05, A t for every example"


# ---- time_embedding ------------------------------------------------------------------------------


def _frequencies(half: int, last: float) -> Tensor:
    """1, ..., 1e-4 at equal ratios; ``last`` is the k of 1e-4."""
    return torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float64) / last)


def time_embedding(t: Tensor, dim: int) -> Tensor:
    """Sines, then cosines of t exp(-ln(10000) k / (dim/2 - 1)): DDPM's code, (B, dim)."""
    half = dim // 2
    angle = t.double()[:, None] * _frequencies(half, half - 1)
    return torch.cat([angle.sin(), angle.cos()], 1)


def _time_by_powers(t: Tensor, dim: int) -> Tensor:
    steps = torch.linspace(0, 1, dim // 2, dtype=torch.float64)
    angle = torch.outer(t.double(), torch.tensor(10_000.0, dtype=torch.float64) ** -steps)
    return torch.hstack([torch.sin(angle), torch.cos(angle)])


def _time_one_by_one(t: Tensor, dim: int) -> Tensor:
    rows, half = [], dim // 2
    for level in t.tolist():
        angles = [level / 10_000 ** (k / (half - 1)) for k in range(half)]
        rows.append([f(a) for f in (math.sin, math.cos) for a in angles])
    return torch.tensor(rows)


def _time_by_complex(t: Tensor, dim: int) -> Tensor:
    angle = torch.einsum("b,k->bk", t.double(), torch.logspace(0, -4, dim // 2).double())
    wave = torch.polar(torch.ones_like(angle), angle)
    return torch.cat([wave.imag, wave.real], dim=1).float()


def _features(frequencies):  # type: ignore[no-untyped-def]
    """The features with other frequencies, a function of dim // 2."""

    def features(t: Tensor, dim: int) -> Tensor:
        angle = t.double()[:, None] * frequencies(dim // 2)
        return torch.cat([angle.sin(), angle.cos()], 1)

    return features


def _interleaved(t: Tensor, dim: int) -> Tensor:
    sines, cosines = time_embedding(t, dim).chunk(2, 1)
    return torch.stack([sines, cosines], 2).flatten(1)


TIME_EMBEDDING = Graded(
    "time_embedding",
    time_embedding,
    lambda w: [(w.t, dim) for dim in (6, 16)],
    (
        Mistake(
            "cos_first",
            lambda t, dim: time_embedding(t, dim).roll(dim // 2, 1),
            "The cosines come first. A network that was trained with sines first would misread "
            "every time.",
            TIME,
            credit=0.5,
        ),
        Mistake(
            "interleaved",
            _interleaved,
            "Sines and cosines alternate. Here all sines come first, then all cosines.",
            TIME,
            credit=0.5,
        ),
        Mistake(
            "divided_by_half",
            _features(lambda half: _frequencies(half, half)),
            "The exponent is divided by dim/2, so the lowest frequency is not reached. From the "
            "first frequency to the last there are dim/2 - 1 steps.",
            TIME,
            credit=0.5,
        ),
        Mistake(
            "divided_by_dim",
            _features(lambda half: _frequencies(half, 2 * half)),
            "The exponent is divided by dim. There are only half as many frequencies, as each "
            "has a sine and a cosine.",
            TIME,
        ),
        Mistake(
            "frequency_base_wrong",
            _features(lambda half: _frequencies(half, half - 1) ** 0.75),
            "The frequencies fall to 1/1000. The lowest is 1/10000.",
            TIME,
            credit=0.25,
        ),
        Mistake(
            "log10_for_ln",
            _features(lambda half: _frequencies(half, half - 1) ** (1 / math.log(10))),
            "The logarithm has the base 10, but the power has the base e.",
            TIME,
            credit=0.25,
        ),
        Mistake(
            "log_forgotten",
            _features(lambda half: torch.exp(-10_000 * torch.arange(half) / (half - 1)).double()),
            "All frequencies but the first are 0: the exponent has 10000 itself, not its "
            "logarithm.",
            TIME,
        ),
        Mistake(
            "linear_frequencies",
            _features(lambda half: torch.linspace(1, 1e-4, half, dtype=torch.float64)),
            "The frequencies fall by equal differences. They have to fall by equal ratios, so "
            "that near and distant times are both told apart.",
            TIME,
        ),
    ),
    (_time_by_powers, _time_one_by_one, _time_by_complex),
)


# ---- ddpm_loss -----------------------------------------------------------------------------------


def jump(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    """x_t: DDPM (2006.11239) eq. 4."""
    bar = at(sch.alpha_bar, t, x0)
    return bar.sqrt() * x0 + (1 - bar).sqrt() * eps


def ddpm_loss(eps_model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    """Mean of (eps - eps_model(x_t, t))^2 over batch and dimensions: DDPM eq. 14."""
    error: Tensor = eps - eps_model(jump(x0, t, eps, sch), t)
    return (error**2).mean()


def _loss_of_torch(eps_model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    shape = (len(t),) + (1,) * (x0.ndim - 1)
    signal, noise = sch.alpha_bar[t].sqrt(), (1 - sch.alpha_bar[t]).sqrt()
    xt = signal.reshape(shape) * x0 + noise.reshape(shape) * eps
    return nn.functional.mse_loss(eps_model(xt, t), eps)


def _loss_one_by_one(eps_model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    total: Tensor = torch.zeros(())
    for i in range(len(t)):
        one = slice(i, i + 1)
        bar = sch.alpha_bar[t[i]]
        xt = bar**0.5 * x0[one] + (1 - bar) ** 0.5 * eps[one]
        total = total + (eps_model(xt, t[one]) - eps[one]).square().sum()
    return total / x0.numel()


def _loss_by_examples(eps_model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    a = torch.einsum("b,b...->b...", sch.alpha_bar[t] ** 0.5, x0)
    b = torch.einsum("b,b...->b...", (1 - sch.alpha_bar[t]) ** 0.5, eps)
    return (eps_model(a + b, t) - eps).flatten(1).pow(2).mean(1).mean()


def _loss(  # type: ignore[no-untyped-def]
    noised=jump,
    told=lambda t, sch: t,
    target=lambda x0, xt, eps: eps,
    measure=lambda error: (error**2).mean(),
):
    """The loss with another x_t, another time for the network, target, or measure of the error."""

    def loss(eps_model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
        xt = noised(x0, t, eps, sch)
        return measure(eps_model(xt, told(t, sch)) - target(x0, xt, eps))

    return loss


def jump_with_variance(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    """x_t with the variance of the noise in place of its standard deviation."""
    bar = at(sch.alpha_bar, t, x0)
    return bar.sqrt() * x0 + (1 - bar) * eps


def _along_last_axis(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    return sch.alpha_bar[t].sqrt() * x0 + (1 - sch.alpha_bar[t]).sqrt() * eps


def _first_t(eps_model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    return ddpm_loss(eps_model, x0, t[:1].expand(len(t)), eps, sch)


def _of_alpha(x0: Tensor, t: Tensor, eps: Tensor, sch: Sch) -> Tensor:
    return jump(x0, t, eps, Sch(sch.beta, sch.alpha, sch.alpha, sch.T))


def x0_as_target(x0: Tensor, xt: Tensor, eps: Tensor) -> Tensor:
    """The clean data."""
    return x0


def _loss_calls(w: World) -> list[Call]:
    last = w.t.new_full((w.batch,), w.sch.T)
    # At T for all, what the network is told of the time shows most.
    return [
        (w.eps_model, w.x0, w.t, w.eps, w.sch),
        (w.eps_model, w.x0, last, w.z, w.sch),
        (TinyNet(), w.x0, w.t, w.z, w.sch),
    ]


DDPM_LOSS = Graded(
    "ddpm_loss",
    ddpm_loss,
    _loss_calls,
    (
        Mistake(
            "predicts_x0_target",
            _loss(target=x0_as_target),
            "The network is compared with the clean data. What it is to predict is the noise in "
            "x_t.",
            LOSS,
        ),
        Mistake(
            "predicts_xt_target",
            _loss(target=lambda x0, xt, eps: xt),
            "The network is compared with its own input, x_t. What it is to predict is the noise "
            "in it.",
            LOSS,
        ),
        Mistake(
            "clean_data_passed",
            _loss(noised=lambda x0, t, eps, sch: x0),
            "The network sees the clean data, in which there is no noise to find.",
            LOSS,
        ),
        Mistake(
            "t_not_passed",
            _loss(told=lambda t, sch: torch.zeros_like(t)),
            "The network is told t = 0 for every example. It has to know how noisy each is.",
            LOSS,
        ),
        Mistake(
            "t_normalised_twice",
            _loss(told=lambda t, sch: t / sch.T),
            "The network is told t / T. It takes t itself, a whole number, and scales it inside.",
            LOSS,
        ),
        Mistake(
            "t_counted_from_0",
            _loss(told=lambda t, sch: t - 1),
            "The network is told t - 1. In this course t runs from 1 to T everywhere.",
            LOSS,
            credit=0.5,
        ),
        Mistake(
            "same_t_for_batch",
            _first_t,
            "The first t is used for the whole batch. Every example has a t of its own.",
            DRAWS,
        ),
        Mistake(
            "wrong_axis_broadcast",
            _loss(noised=_along_last_axis),
            "Coefficients of shape (B,) were multiplied along the last axis. They belong to the "
            "first: give them the shape (B, 1, ...).",
            DRAWS,
        ),
        Mistake(
            "var_for_std",
            _loss(noised=jump_with_variance),
            "In x_t the noise is multiplied by its variance. The factor is a standard deviation.",
            LOSS,
            credit=0.25,
        ),
        Mistake(
            "alpha_for_alpha_bar",
            _loss(noised=_of_alpha),
            "x_t has the noise of a single step. A jump from the data needs alpha_bar.",
            LOSS,
        ),
        Mistake(
            "x0_range_01",
            _loss(noised=lambda x0, t, eps, sch: jump((x0 + 1) / 2, t, eps, sch)),
            "The data were moved from [-1, 1] to [0, 1]. They come in the range in which they "
            "are to be learned, around 0.",
            LOSS,
        ),
        Mistake(
            "sum_not_mean",
            _loss(measure=lambda error: (error**2).sum()),
            "The squares were added up over everything. As a mean the loss does not depend on "
            "the size of batch and images.",
            LOSS,
            credit=0.5,
        ),
        Mistake(
            "sum_over_dims",
            _loss(measure=lambda error: (error**2).flatten(1).sum(1).mean()),
            "The squares of an example were added up, and only the batch was averaged. Here the "
            "mean runs over both.",
            LOSS,
            credit=0.5,
        ),
        Mistake(
            "batch_not_averaged",
            _loss(measure=lambda error: (error**2).flatten(1).mean(1)),
            "There is a loss for every example. One number is wanted, their mean.",
            LOSS,
            credit=0.5,
        ),
        Mistake(
            "absolute_error",
            _loss(measure=lambda error: error.abs().mean()),
            "This is the mean absolute error: it is least at the median. The best prediction is "
            "a mean, and that is least squares.",
            LOSS,
        ),
        Mistake(
            "root_of_the_mean",
            _loss(measure=lambda error: (error**2).mean().sqrt()),
            "A square root was taken of the mean. The loss is the mean itself.",
            LOSS,
            credit=0.25,
        ),
        Mistake(
            "detached_prediction",
            _loss(measure=lambda error: (error.detach() ** 2).mean()),
            "The number is right, but no gradient leads from it to the network: the prediction "
            "was detached or made under no_grad, or the loss was made a plain number. Nothing can "
            "be learned from it.",
            LOSS,
        ),
    ),
    (_loss_of_torch, _loss_one_by_one, _loss_by_examples),
)
