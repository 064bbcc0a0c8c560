r"""Training objectives: L_simple, the ELBO and its terms, weights, improved DDPM's L_hybrid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast, get_args

import torch
from torch import Tensor

from ._checks import (
    Time,
    check_chain_noise,
    check_choice,
    check_count,
    check_float,
    check_heads,
    check_same_shape,
    check_time,
)
from .forward import q_marginal, q_sample
from .gaussian import Gaussian, bits_per_dim, discretized_log_prob, standard_normal
from .posterior import q_posterior
from .prediction import Kind, Model, all_kinds, batch_time, between, check_kind, predict
from .schedules import Schedule, at, lookup

__all__ = [
    "ElboTerms",
    "ImportanceSampler",
    "elbo",
    "learned_variance",
    "loss_hybrid",
    "loss_per_example",
    "loss_simple",
    "loss_vlb",
    "loss_weight",
    "min_snr_weight",
    "snr_weight",
]

Sigma2 = Literal["beta", "beta_tilde", "learned"]
Decoder = Literal["discretized", "gaussian"]


def loss_simple(
    model: Model,
    x0: Tensor,
    t: Time,
    eps: Tensor,
    schedule: Schedule,
    kind: Kind = "eps",
    weight: Tensor | None = None,
) -> Tensor:
    r"""L_simple, DDPM eq. 14: the mean squared error of the predicted noise.

    L_simple = E || eps - eps_theta( sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, t ) ||^2,
    averaged over batch *and* dimensions, so that its scale does not depend on the image size.
    Returns a scalar.

    Args:
        x0, eps: (B, *D).
        t: int or (B,) int64 in 1..T.
        kind: what the model predicts; the error is taken in that quantity ("x0": against x0, ...).
        weight: (B,) factors of the per-example losses (``min_snr_weight``, ``ImportanceSampler``).
    """
    losses = loss_per_example(model, x0, t, eps, schedule, kind)
    if weight is None:
        return losses.mean()
    check_same_shape(losses=losses, weight=weight)
    return (weight.to(losses) * losses).mean()


def loss_per_example(
    model: Model, x0: Tensor, t: Time, eps: Tensor, schedule: Schedule, kind: Kind = "eps"
) -> Tensor:
    """``loss_simple`` of each example, (B,): its squared error averaged over its dimensions."""
    check_time(t, 1, schedule.T)
    # At T, whatever t is: whether this raises must not depend on the draw of t.
    check_kind(kind, schedule.T, schedule)
    x_t = q_sample(x0, t, eps, schedule)
    output = model(x_t, batch_time(t, x0))
    check_same_shape(x_t=x_t, output=output)
    error = output - _target(kind, x0, eps, t, schedule)
    return (error**2).flatten(1).mean(1)


def _target(kind: Kind, x0: Tensor, eps: Tensor, t: Time, schedule: Schedule) -> Tensor:
    """From x0 and eps as they were given: by way of x_t it rounds where the noise is small."""
    if kind in ("eps", "x0"):  # in every step of training: nothing to compute
        return eps if kind == "eps" else x0
    a, b = at(schedule.sqrt_alpha_bar, t, x0), at(schedule.sqrt_one_minus_alpha_bar, t, x0)
    return cast("Tensor", getattr(all_kinds(eps, x0, a, b), kind))


# ---- weights -------------------------------------------------------------------------------------


def loss_weight(
    t: Time, schedule: Schedule, sigma2: Literal["beta", "beta_tilde"] = "beta"
) -> Tensor:
    r"""What L_simple leaves out: the factor of ||eps - eps_theta||^2 in L_{t-1}, DDPM eq. 12.

    weight_t = beta_t^2 / ( 2 sigma_t^2 alpha_t (1 - alpha_bar_t) )

    sigma_t^2 is beta_t or beta_tilde_t. At t = 1 beta_tilde is 0 and the weight infinite: L_0 is
    not a divergence between Gaussians there (see ``elbo``). Returns float64, 0-dim or (B,).

    Args:
        t: int or (B,) int64 in 1..T.
    """
    check_choice(sigma2, ("beta", "beta_tilde"), "sigma2")
    check_time(t, 1, schedule.T)
    variance = schedule.beta if sigma2 == "beta" else schedule.beta_tilde
    weight = schedule.beta**2 / (2 * variance * schedule.alpha * (1 - schedule.alpha_bar))
    return lookup(weight, t)  # entry 0 is 0/0, and never read


def snr_weight(t: Time, schedule: Schedule, kind: Kind) -> Tensor:
    r"""The factor that turns the squared error of ``kind`` into that of eps.

    ||d eps||^2 = w ||d kind||^2 for two predictions at the same x_t, with
    w = 1 (eps), SNR (x0), SNR/(1 + SNR) (v), 1 - alpha_bar (score). So plain losses in different
    parametrisations differ by exactly these weights (Salimans & Ho 2202.00512 sec. 4). Returns
    float64, 0-dim or (B,).
    """
    check_choice(kind, get_args(Kind), "kind")
    check_time(t, 1, schedule.T)
    snr, alpha_bar = lookup(schedule.snr, t), lookup(schedule.alpha_bar, t)
    weights = {"eps": torch.ones_like(snr), "x0": snr, "v": alpha_bar, "score": 1 - alpha_bar}
    return weights[kind]


def min_snr_weight(t: Time, schedule: Schedule, kind: Kind = "eps", gamma: float = 5.0) -> Tensor:
    r"""Min-SNR-gamma weights (Hang et al. 2303.09556): min(SNR, gamma) on the x0 loss.

    In terms of other predictions: min(SNR, gamma)/SNR for eps, min(SNR, gamma)/(SNR + 1) for v.
    Returns float64, 0-dim or (B,).
    """
    if not gamma > 0:
        raise ValueError(f"gamma must be > 0, got gamma={gamma}")
    weight = snr_weight(t, schedule, kind)
    clipped = (gamma / lookup(schedule.snr, t)).clamp(max=1)  # min(SNR, gamma)/SNR; 1 at SNR = 0
    return clipped * weight


# ---- the variational bound -----------------------------------------------------------------------


@dataclass(frozen=True)
class ElboTerms:
    r"""-ELBO = L_T + sum_t L_{t-1} + L_0, DDPM eq. 5, in nats for each example.

    Attributes:
        L_T: (B,), KL( q(x_T|x_0) || N(0, I) ): has no parameters.
        L_t: (B, T-1), KL( q(x_{t-1}|x_t,x_0) || p_theta(x_{t-1}|x_t) ) for t = 2..T in column t-2,
            each estimated from one x_t.
        L_0: (B,), -log p_theta(x_0 | x_1).
        dims: number of dimensions of one example.
    """

    L_T: Tensor
    L_t: Tensor
    L_0: Tensor
    dims: int

    @property
    def total(self) -> Tensor:
        """-ELBO (B,) in nats, an upper bound of -log p(x_0)."""
        return self.L_T + self.L_t.sum(1) + self.L_0

    def bits_per_dim(self) -> Tensor:
        """-ELBO (B,) in bits per dimension: a code length if the decoder is the discretised one."""
        return bits_per_dim(self.total, self.dims)


@torch.no_grad()
def elbo(
    model: Model,
    x0: Tensor,
    schedule: Schedule,
    *,
    kind: Kind = "eps",
    sigma2: Sigma2 = "beta",
    decoder: Decoder = "discretized",
    grid: tuple[float, float, int] = (-1.0, 1.0, 256),
    eps: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> ElboTerms:
    r"""The terms of the variational bound, DDPM eq. 5, in nats, for data of any shape.

    p_theta(x_{t-1}|x_t) has the mean of q_posterior with the predicted x0 (DDPM eq. 11) and
    variance sigma_t^2: "beta", "beta_tilde", or "learned" by the network (``learned_variance``).
    beta_tilde suits data that is one point (DDPM sec. 3.2): other data keeps a gap at any T.

    Args:
        x0: (B, *D). For the discretised decoder its values must lie on ``grid``.
        decoder: "discretized" is DDPM eq. 13 (a probability: bits/dim is a code length);
            "gaussian" is the density N(x_0; mean, sigma_1^2) for continuous data (may be negative).
        grid: (low, high, levels) of the discretised decoder; by default 8-bit images in [-1, 1].
        eps: (T, B, *D), the noise in x_1, ..., x_T; drawn from ``generator`` when missing.

    Raises:
        ValueError: unknown decoder or sigma2; discretised decoder and data off its grid.
    """
    _check_decoder(decoder, x0, grid)
    check_chain_noise(eps, schedule.T, x0)
    terms = []
    for t in range(1, schedule.T + 1):
        z = standard_normal(x0, generator) if eps is None else eps[t - 1]
        times = batch_time(t, x0)
        terms.append(bound_term(model, x0, times, z, schedule, kind, sigma2, decoder, grid))
    unit = Gaussian(torch.zeros_like(x0), torch.ones_like(x0[:1]))
    L_T = q_marginal(x0, schedule.T, schedule).kl(unit)
    L_t = torch.stack(terms[1:], 1) if schedule.T > 1 else x0.new_zeros(len(x0), 0)
    return ElboTerms(L_T, L_t, terms[0], x0[:1].numel())


def bound_term(
    model: Model,
    x0: Tensor,
    t: Tensor,
    eps: Tensor,
    schedule: Schedule,
    kind: Kind,
    sigma2: Sigma2,
    decoder: Decoder,
    grid: tuple[float, float, int],
) -> Tensor:
    """L_{t-1}, or L_0 where t = 1, (B,) nats: one term of ``elbo`` per example, from one x_t."""
    x_t = q_sample(x0, t, eps, schedule)
    p = _p_theta(model, x_t, t, schedule, kind, sigma2)
    # Where t = 1 the posterior has variance 0 and its KL is infinite, with NaN gradients: put any
    # variance there, and select L_0 afterwards.
    q = q_posterior(x_t, x0, t, schedule)
    first = t == 1
    broad = first.view(-1, *[1] * (x0.ndim - 1))
    kl = Gaussian(q.mean, torch.where(broad, p.var.detach(), q.var)).kl(p)
    return torch.where(first, _L_0(x0, p, decoder, grid), kl) if first.any() else kl


def _p_theta(
    model: Model, x_t: Tensor, t: Tensor, schedule: Schedule, kind: Kind, sigma2: Sigma2
) -> Gaussian:
    """p_theta(x_{t-1} | x_t) as used in the bound; at t = 1 its variance is that of the decoder."""
    output = model(x_t, t)
    if sigma2 == "learned":
        output, v = check_heads(output, x_t)
        variance = learned_variance(v, t, schedule)
    else:
        variance = at(_decoder_safe(schedule, sigma2), t, x_t)
    pair = predict(kind, output, x_t, t, schedule)
    return Gaussian(q_posterior(x_t, pair.x0, t, schedule).mean, variance)


def _decoder_safe(schedule: Schedule, sigma2: Sigma2) -> Tensor:
    """The (T+1,) table of sigma^2, with an entry at t = 1 that a decoder can use."""
    check_choice(sigma2, get_args(Sigma2), "sigma2")
    if sigma2 == "beta":
        return schedule.beta
    table = schedule.beta_tilde.clone()
    # beta_tilde_1 = 0 would make p(x_0 | x_1) a point mass: DDPM's code takes beta_tilde_2 there.
    table[1] = schedule.beta_tilde[2] if schedule.T > 1 else schedule.beta[1]
    return table


def _L_0(x0: Tensor, p: Gaussian, decoder: Decoder, grid: tuple[float, float, int]) -> Tensor:
    if decoder == "gaussian":
        return -p.log_prob(x0)
    return -discretized_log_prob(x0, p.mean, p.var, *grid)


def _check_decoder(decoder: str, x0: Tensor, grid: tuple[float, float, int]) -> None:
    """Raise ValueError for an unknown decoder, or data that the discretised one cannot take."""
    check_choice(decoder, get_args(Decoder), "decoder")
    check_float(x0=x0)
    if decoder == "gaussian":
        return
    low, high, levels = grid
    index = (x0.double() - low) / (high - low) * (levels - 1)
    off = ((index - index.round()).abs() > 1e-2) | (index < -0.5) | (index > levels - 0.5)
    if off.any():
        raise ValueError(
            f"x0 must lie on the grid of {levels} values in [{low}, {high}], got "
            f"{x0[off][0].item():.6g}: quantise the data, or use decoder='gaussian'"
        )


# ---- improved DDPM -------------------------------------------------------------------------------


def learned_variance(v: Tensor, t: Time, schedule: Schedule) -> Tensor:
    r"""Variance between beta_tilde_t and beta_t, improved DDPM (2102.09672) eq. 15.

    sigma^2 = exp( u log beta_t + (1 - u) log beta_tilde_t ),  u = (v + 1)/2

    A network with learned variance returns 2C channels: the prediction, then v, which is -1 for
    beta_tilde and 1 for beta; ``sample(variance="learned")`` reads both.

    Args:
        v: (B, *D), any real numbers.
    """
    check_time(t, 1, schedule.T)
    low, high = _decoder_safe(schedule, "beta_tilde"), schedule.beta
    low = torch.minimum(low, high)  # beta_tilde_2 may exceed beta_1 at t = 1
    return between(at(low, t, v), at(high, t, v), v)


def loss_vlb(
    model: Model,
    x0: Tensor,
    t: Time,
    eps: Tensor,
    schedule: Schedule,
    *,
    kind: Kind = "eps",
    sigma2: Sigma2 = "learned",
    decoder: Decoder = "discretized",
    grid: tuple[float, float, int] = (-1.0, 1.0, 256),
) -> Tensor:
    r"""One term of the bound per example, differentiable: L_{t-1}, or L_0 where t = 1.

    With t uniform in 1..T, T times its mean estimates L_0 + sum_t L_{t-1}; ``ImportanceSampler``
    draws other t. Returns (B,) bits/dim.

    Args:
        x0, eps: (B, *D).
        t: int or (B,) int64 in 1..T.
        kind, sigma2, decoder, grid: as for ``elbo``.
    """
    check_time(t, 1, schedule.T, batch=len(x0))
    _check_decoder(decoder, x0, grid)
    nats = bound_term(model, x0, batch_time(t, x0), eps, schedule, kind, sigma2, decoder, grid)
    return bits_per_dim(nats, x0[:1].numel())


def loss_hybrid(
    model: Model,
    x0: Tensor,
    t: Time,
    eps: Tensor,
    schedule: Schedule,
    *,
    lam: float = 0.001,
    decoder: Decoder = "discretized",
    grid: tuple[float, float, int] = (-1.0, 1.0, 256),
) -> Tensor:
    r"""L_hybrid = L_simple + lam T L_vlb for a network with learned variance, improved DDPM eq. 16.

    The bound trains the variance only: the predicted noise enters it detached. L_vlb is in
    bits/dim, its sum over t being T times the mean of a random term. Returns a scalar.
    """
    check_time(t, 1, schedule.T)
    x_t = q_sample(x0, t, eps, schedule)
    prediction, v = check_heads(model(x_t, batch_time(t, x0)), x_t)
    frozen = torch.cat([prediction.detach(), v], dim=1)
    simple = ((prediction - eps) ** 2).mean()
    vlb = loss_vlb(lambda x, t: frozen, x0, t, eps, schedule, decoder=decoder, grid=grid)
    return simple + lam * schedule.T * vlb.mean()


class ImportanceSampler:
    r"""Importance-sampled time steps, improved DDPM eq. 18.

    p_t proportional to sqrt( E[L_t^2] ), estimated from the last ``history`` losses of each t;
    uniform until every t has that many. Multiply the losses by the returned weights 1/(T p_t):
    their mean stays unbiased.
    """

    def __init__(self, T: int, history: int = 10, uniform: float = 0.001) -> None:
        check_count(T, 1, None, "T")
        check_count(history, 1, None, "history")
        if not 0 <= uniform <= 1:
            raise ValueError(f"uniform must be a share in [0, 1], got uniform={uniform}")
        self.T, self.history, self.uniform = T, history, uniform
        self.losses = torch.zeros(T, history, dtype=torch.float64)
        self.seen = torch.zeros(T, dtype=torch.int64)

    @property
    def probabilities(self) -> Tensor:
        """(T,) float64, p_t for t = 1..T; a share ``uniform`` keeps every t possible."""
        if (self.seen < self.history).any():
            return torch.full((self.T,), 1 / self.T, dtype=torch.float64)
        p = (self.losses**2).mean(1).sqrt()
        share = p / p.sum() if p.sum() > 0 else torch.full_like(p, 1 / self.T)
        return (1 - self.uniform) * share + self.uniform / self.T

    def sample(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """(t (n,) int64 in 1..T, weights (n,) float64)."""
        p = self.probabilities
        at = p.device if generator is None else generator.device
        index = torch.multinomial(p.to(at), n, replacement=True, generator=generator).cpu()
        return index + 1, 1 / (self.T * p[index])

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Record the unweighted losses (n,) seen at t (n,)."""
        check_same_shape(t=t, losses=losses)
        check_time(t, 1, self.T)
        for i, loss in zip((t - 1).tolist(), losses.detach().tolist(), strict=True):
            self.losses[i, self.seen[i] % self.history] = loss
            self.seen[i] += 1
