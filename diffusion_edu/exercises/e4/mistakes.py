"""E4: the right functions, and the wrong ones that have a name: divergences."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ..spec import Call, Graded, Mistake
from ..stubs import Sch
from ..world import World, make_sch

KL = "04, KL of two Gaussians"
TERMS = "04, The three terms of the bound"


# ---- gaussian_kl ---------------------------------------------------------------------------------


def gaussian_kl(m1: Tensor, v1: Tensor, m2: Tensor, v2: Tensor) -> Tensor:
    """KL( N(m1, v1) || N(m2, v2) ) in nats, summed over all but the batch, (B,)."""
    return _kl_terms(m1, v1, m2, v2).flatten(1).sum(1)


def _kl_terms(m1: Tensor, v1: Tensor, m2: Tensor, v2: Tensor) -> Tensor:
    return 0.5 * ((v2 / v1).log() + (v1 + (m1 - m2) ** 2) / v2 - 1)


def _kl_by_torch(m1: Tensor, v1: Tensor, m2: Tensor, v2: Tensor) -> Tensor:
    both = kl_divergence(Normal(m1, v1.sqrt()), Normal(m2, v2.sqrt()))
    return both.reshape(len(m1), -1).sum(-1)


def _kl_by_cross_entropy(m1: Tensor, v1: Tensor, m2: Tensor, v2: Tensor) -> Tensor:
    # What it costs to code samples of the first for the second, minus their entropy.
    cross = 0.5 * ((2 * math.pi * v2).log() + (v1 + (m1 - m2) ** 2) / v2)
    entropy = 0.5 * (2 * math.pi * math.e * v1).log()
    return (cross - entropy).sum(dim=tuple(range(1, m1.ndim)))


def _kl_by_stds(m1: Tensor, v1: Tensor, m2: Tensor, v2: Tensor) -> Tensor:
    s1, s2 = v1**0.5, v2**0.5
    terms = torch.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5
    return torch.einsum("bi->b", terms.flatten(1))


def _kl_by_logs(m1: Tensor, v1: Tensor, m2: Tensor, v2: Tensor) -> Tensor:
    ratio = torch.log(v1) - torch.log(v2)
    rows = zip(ratio, (m1 - m2) ** 2 * torch.exp(-torch.log(v2)), strict=True)
    return torch.stack([(-1 - r + torch.exp(r) + square).sum() / 2 for r, square in rows])


def _summed(terms):  # type: ignore[no-untyped-def]
    """A divergence with other terms, a function of (m1, v1, m2, v2)."""
    return lambda m1, v1, m2, v2: terms(m1, v1, m2, v2).flatten(1).sum(1)


WRONG_KL = (
    Mistake(
        "kl_reversed",
        lambda m1, v1, m2, v2: gaussian_kl(m2, v2, m1, v1),
        "This is the divergence of the second from the first. KL is not symmetric: the average is "
        "over the first distribution.",
        KL,
    ),
    Mistake(
        "std_for_var_in_kl",
        lambda m1, v1, m2, v2: gaussian_kl(m1, v1**2, m2, v2**2),
        "The variances were squared, as if they were standard deviations.",
        KL,
        credit=0.25,
    ),
    Mistake(
        "root_of_variance_in_kl",
        lambda m1, v1, m2, v2: gaussian_kl(m1, v1.sqrt(), m2, v2.sqrt()),
        "Standard deviations stand where the formula has variances.",
        KL,
        credit=0.25,
    ),
    Mistake(
        "log_var_for_var",
        lambda m1, v1, m2, v2: gaussian_kl(m1, v1.exp(), m2, v2.exp()),
        "The exponential was taken, as if logarithms of variances were passed in. They are "
        "variances.",
        KL,
        credit=0.25,
    ),
    Mistake(
        "missing_half",
        lambda m1, v1, m2, v2: 2 * gaussian_kl(m1, v1, m2, v2),
        "The result is twice too large: the factor 1/2 of a Gaussian's exponent is missing.",
        KL,
        credit=0.25,
    ),
    Mistake(
        "log_of_variances_not_halved",
        _summed(
            lambda m1, v1, m2, v2: _kl_terms(m1, v1, m2, v2) + 0.5 * (v2 / v1).log(),
        ),
        "The logarithm has no factor 1/2. Without that factor its argument is a ratio of standard "
        "deviations, not of variances.",
        KL,
        credit=0.25,
    ),
    Mistake(
        "mean_over_dims_not_sum",
        lambda m1, v1, m2, v2: _kl_terms(m1, v1, m2, v2).flatten(1).mean(1),
        "The dimensions were averaged. Divergences of independent dimensions add up.",
        KL,
        credit=0.25,
    ),
    Mistake(
        "missing_minus_one",
        _summed(lambda m1, v1, m2, v2: _kl_terms(m1, v1, m2, v2) + 0.5),
        "A constant is missing: the divergence of a distribution from itself has to be 0.",
        KL,
        credit=0.25,
    ),
    Mistake(
        "log_ratio_inverted",
        _summed(lambda m1, v1, m2, v2: _kl_terms(m1, v1, m2, v2) - (v2 / v1).log()),
        "The ratio inside the logarithm is upside down.",
        KL,
    ),
    Mistake(
        "log_term_missing",
        _summed(lambda m1, v1, m2, v2: _kl_terms(m1, v1, m2, v2) - 0.5 * (v2 / v1).log()),
        "The logarithm is missing. Without it a first distribution that is too narrow would cost "
        "nothing.",
        KL,
    ),
    Mistake(
        "divided_by_v1",
        _summed(lambda m1, v1, m2, v2: 0.5 * ((v2 / v1).log() + (m1 - m2) ** 2 / v1)),
        "It was divided by the first variance. Distances are measured in units of the second.",
        KL,
    ),
    Mistake(
        "difference_not_squared",
        _summed(lambda m1, v1, m2, v2: 0.5 * ((v2 / v1).log() + (v1 + m1 - m2) / v2 - 1)),
        "The difference of the means is not squared.",
        KL,
    ),
    Mistake(
        "sums_batch",
        lambda m1, v1, m2, v2: _kl_terms(m1, v1, m2, v2).sum(),
        "Everything was added up, the batch too. Wanted is one number for every example.",
        KL,
        credit=0.25,
    ),
    Mistake(
        "averages_batch",
        lambda m1, v1, m2, v2: gaussian_kl(m1, v1, m2, v2).mean(),
        "The batch was averaged. Wanted is one number for every example.",
        KL,
        credit=0.5,
    ),
)


def on(parts):  # type: ignore[no-untyped-def]
    """Those mistakes for other arguments: ``parts`` makes (m1, v1, m2, v2) of them."""

    def again(mistake: Mistake) -> Mistake:
        def wrong(*args):  # type: ignore[no-untyped-def]
            return mistake.wrong(*parts(*args))

        return Mistake(mistake.name, wrong, mistake.hint, mistake.lecture, mistake.credit)

    return tuple(map(again, WRONG_KL))


def _gaussians(w: World) -> list[Call]:
    return [(w.x0, torch.exp(w.eps / 2), w.xt, 1.5 * torch.exp(w.z / 2))]


GAUSSIAN_KL = Graded(
    "gaussian_kl",
    gaussian_kl,
    _gaussians,
    (
        *WRONG_KL,
        Mistake(
            "variances_forgotten",
            _summed(lambda m1, v1, m2, v2: 0.5 * (m1 - m2) ** 2 / v2),
            "Only the means are compared. Two variances that differ cost something too.",
            KL,
        ),
    ),
    (_kl_by_torch, _kl_by_cross_entropy, _kl_by_stds, _kl_by_logs),
    tolerance=5e-5,  # sums over 64 pixels
)


# ---- prior_kl ------------------------------------------------------------------------------------


def prior_kl(x0: Tensor, sch: Sch) -> Tensor:
    """L_T = KL( q(x_T | x_0) || N(0, I) ), (B,) nats: DDPM (2006.11239) eq. 5."""
    return gaussian_kl(*_last_and_prior(x0, sch))


def _last_and_prior(x0: Tensor, sch: Sch) -> tuple[Tensor, ...]:
    bar, one = sch.alpha_bar[sch.T], torch.ones_like(x0)
    return bar.sqrt() * x0, (1 - bar) * one, 0 * one, one


def _prior_by_closed_form(x0: Tensor, sch: Sch) -> Tensor:
    bar = float(sch.alpha_bar[-1])
    dims = x0[0].numel()
    return 0.5 * (bar * (x0**2).flatten(1).sum(1) - dims * (bar + math.log1p(-bar)))


def _prior_by_torch(x0: Tensor, sch: Sch) -> Tensor:
    signal, noise = sch.alpha_bar[-1] ** 0.5, (1 - sch.alpha_bar[-1]) ** 0.5
    terms = kl_divergence(Normal(signal * x0, noise), Normal(0.0, 1.0))
    return terms.sum(dim=tuple(range(1, x0.ndim)))


def _prior_one_by_one(x0: Tensor, sch: Sch) -> Tensor:
    var = 1 - sch.alpha_bar[sch.T]
    rows = [sch.alpha_bar[sch.T] * x**2 + var - 1 - torch.log(var) for x in x0]
    return torch.stack([row.sum() / 2 for row in rows])


def _prior(mean, var):  # type: ignore[no-untyped-def]
    """The term with another mean and variance of x_T, functions of (x0, sch) and of (sch)."""

    def term(x0: Tensor, sch: Sch) -> Tensor:
        one = torch.ones_like(x0)
        return gaussian_kl(mean(x0, sch), var(sch) * one, 0 * one, one)

    return term


def _last_var(sch: Sch) -> Tensor:
    return 1 - sch.alpha_bar[sch.T]


def _constant_once(x0: Tensor, sch: Sch) -> Tensor:
    m1, v1, _, _ = _last_and_prior(x0, sch)
    one_dimension = v1.flatten(1)[:, 0]
    constant = 0.5 * (one_dimension - 1 - one_dimension.log())
    return 0.5 * (m1**2).flatten(1).sum(1) + constant


PRIOR_KL = Graded(
    "prior_kl",
    prior_kl,
    # After a full chain little is left to compare; after three steps there is.
    lambda w: [(w.x0, w.sch), (w.x0, make_sch(w.sch.beta[:4]))],
    (
        *on(_last_and_prior),
        Mistake(
            "variances_forgotten",
            lambda x0, sch: 0.5 * sch.alpha_bar[sch.T] * (x0**2).flatten(1).sum(1),
            "Only the means are compared. The variance of x_T is not quite 1, which costs too.",
            TERMS,
        ),
        Mistake(
            "mean_not_scaled",
            _prior(lambda x0, sch: x0, _last_var),
            "x0 itself was taken for the mean of x_T. Little of it is left after T steps.",
            TERMS,
        ),
        Mistake(
            "mean_scaled_by_alpha_bar",
            _prior(lambda x0, sch: sch.alpha_bar[sch.T] * x0, _last_var),
            "A root is missing: alpha_bar is what is left of the variance of the data.",
            TERMS,
            credit=0.25,
        ),
        Mistake(
            "alpha_for_alpha_bar",
            _prior(lambda x0, sch: sch.alpha[sch.T].sqrt() * x0, lambda sch: 1 - sch.alpha[sch.T]),
            "alpha belongs to the last step alone. All T steps have led to x_T.",
            TERMS,
        ),
        Mistake(
            "last_but_one_level",
            _prior(
                lambda x0, sch: sch.alpha_bar[sch.T - 1].sqrt() * x0,
                lambda sch: 1 - sch.alpha_bar[sch.T - 1],
            ),
            "This compares x_{T-1}. Tables have T + 1 entries, and the last is entry T.",
            TERMS,
        ),
        Mistake(
            "constant_counted_once",
            _constant_once,
            "What the variance costs was counted once. Every dimension has that cost.",
            TERMS,
            credit=0.25,
        ),
        Mistake(
            "taken_for_zero",
            lambda x0, sch: torch.zeros(len(x0)),
            "The term has nothing to train, but it is not 0: it belongs to the bound.",
            TERMS,
        ),
    ),
    (_prior_by_closed_form, _prior_by_torch, _prior_one_by_one),
    tolerance=5e-5,
)
