r"""Exact denoisers: the network that training would find, in closed form.

Noisy data at signal level alpha_bar has the density

    p(x) = integral N(x; sqrt(alpha_bar) x_0, (1 - alpha_bar) I) p(x_0) dx_0

and the best possible denoiser is E[x_0 | x]. Two kinds of data allow both to be computed: a finite
data set (``EmpiricalOracle``) and a Gaussian mixture (``MixtureOracle``). Either can be used
wherever a network is: ``oracle(x_t, t)`` is E[eps | x_t]. ``evaluate`` does the same at any noise
level, on which continuous time relies.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ._checks import Time, check_count, check_float, check_time, first_bad
from .schedules import Schedule, lookup

__all__ = ["Denoised", "EmpiricalOracle", "MixtureOracle"]

# The largest table of weights or differences held at once, in numbers: 2^19 float64 are 4 MiB.
TABLE_SIZE = 2**19
# Up to this many dimensions the exponentials cost more than the products: float64 is nearly free.
FEW_DIMS = 64
# Bound on the rounding error of a log-weight below which it is left alone. Actual errors are far
# below the bound: with this one float32 results agree with float64 to 1e-5.
SMALL_ERROR = 1e-3


class Denoised(NamedTuple):
    """All that is known exactly about noisy points x at one noise level."""

    eps: Tensor  # (B, *D), E[eps | x]
    x0: Tensor  # (B, *D), E[x_0 | x]
    score: Tensor  # (B, *D), gradient of log p(x)
    log_prob: Tensor  # (B,), log p(x) in nats


class _Oracle:
    """What both oracles share: time steps become noise levels, flat vectors become data shapes."""

    first_t = 1  # the lowest level at which the density exists

    def __init__(self, shape: torch.Size, schedule: Schedule) -> None:
        self.shape = shape
        self.schedule = schedule

    def __call__(self, x_t: Tensor, t: Time) -> Tensor:
        """E[eps | x_t] (B, *D), what a perfect noise-predicting network returns; t in 1..T."""
        check_time(t, 1, self.schedule.T, batch=len(x_t))
        return self._at(x_t, t).eps

    def x0(self, x_t: Tensor, t: Time) -> Tensor:
        """E[x_0 | x_t] (B, *D)."""
        return self._at(x_t, t).x0

    def score(self, x_t: Tensor, t: Time) -> Tensor:
        """grad log p_t(x_t) = -E[eps | x_t] / sqrt(1 - alpha_bar_t), (B, *D)."""
        return self._at(x_t, t).score

    def log_prob(self, x_t: Tensor, t: Time) -> Tensor:
        """log p_t(x_t), (B,) nats."""
        return self._at(x_t, t).log_prob

    def _at(self, x_t: Tensor, t: Time) -> Denoised:
        check_time(t, self.first_t, self.schedule.T, batch=len(x_t))
        return self.evaluate(x_t, lookup(self.schedule.alpha_bar, t))

    def evaluate(self, x: Tensor, alpha_bar: float | Tensor) -> Denoised:
        """Everything at signal level alpha_bar, on the schedule or not.

        Args:
            x: (B, *D), any floating dtype. The result has its dtype and device.
            alpha_bar: a number or (B,) in [0, 1), or [0, 1] where the data has a density.

        Raises:
            ValueError: x has not the shape of the data, or alpha_bar lies outside that range.
        """
        check_float(x=x)
        if x.shape[1:] != self.shape:
            wanted = ("B", *self.shape)
            raise ValueError(f"x must have shape (B, *D) = {wanted}, got {tuple(x.shape)}")
        level = self._level(alpha_bar, x)
        pieces = zip(x.flatten(1).split(self._batch()), level.split(self._batch()), strict=True)
        parts = [self._evaluate(*piece) for piece in pieces]
        eps, x0, score, log_prob = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        shaped = [y.to(x.dtype).reshape(x.shape) for y in (eps, x0, score)]
        return Denoised(shaped[0], shaped[1], shaped[2], log_prob.to(x.dtype))

    def _level(self, alpha_bar: float | Tensor, x: Tensor) -> Tensor:
        """alpha_bar as a (B, 1) float64 column."""
        level = torch.as_tensor(alpha_bar, dtype=torch.float64, device=x.device)
        if level.ndim > 1 or (level.ndim == 1 and len(level) != len(x)):
            raise ValueError(
                f"alpha_bar must be a number or have shape ({len(x)},), one per example, "
                f"got {tuple(level.shape)}"
            )
        low, high = level >= 0, level <= 1 if self.first_t == 0 else level < 1
        if not (low & high).all():  # so written, NaN is bad
            value = level[~(low & high)].flatten()[0].item()
            wanted = (
                "[0, 1]" if self.first_t == 0 else "[0, 1): points without noise have no density"
            )
            raise ValueError(f"alpha_bar must lie in {wanted}; got alpha_bar={value:.6g}")
        return level.expand(len(x)).unsqueeze(1)

    def _batch(self) -> int:
        """How many examples to treat at once, so that tables stay below TABLE_SIZE."""
        raise NotImplementedError

    def _evaluate(self, x: Tensor, alpha_bar: Tensor) -> Denoised:
        """``evaluate`` for x (B, D) and alpha_bar (B, 1), answered in float64."""
        raise NotImplementedError


class EmpiricalOracle(_Oracle):
    r"""Exact denoiser of a finite data set: p(x_0) has mass 1/N at each of the N points d_j.

    w_j = softmax_j( -||x - sqrt(alpha_bar) d_j||^2 / (2 (1 - alpha_bar)) )
    E[x_0 | x] = sum_j w_j d_j

    This is the minimiser of the training loss on that data. With little noise the weights collapse
    onto the nearest point, so sampling with it returns training data: it memorises.

    Memory stays bounded for any N and B: beyond the data itself about ``chunk`` rows and a table of
    2^19 weights. The work is two matrix products per chunk, in the dtype of x; where float32 would
    spoil the weights, the few points that matter are found with it and recomputed in float64.

    Args:
        data: (N, *D) floating, finite; kept by reference. Chunks move to the device of x.
        schedule: gives alpha_bar_t for calls by time step.
        chunk: data rows treated at once.

    Raises:
        ValueError: data that is empty, not floating or not finite; chunk < 1.
    """

    def __init__(self, data: Tensor, schedule: Schedule, chunk: int = 2048) -> None:
        check_float(data=data)
        check_count(chunk, 1, None, "chunk")
        if data.ndim < 2 or len(data) == 0:
            raise ValueError(f"data must have shape (N, *D) with N >= 1, got {tuple(data.shape)}")
        super().__init__(data.shape[1:], schedule)
        self.chunk = chunk
        self._rows = data.detach().flatten(1)
        norms = [row.to(torch.float64).square().sum(1) for row in self._rows.split(chunk)]
        self._norms = torch.cat(norms)
        if not self._norms.isfinite().all():
            raise ValueError(
                f"data must be finite, got NaN or inf in data[{first_bad(~self._norms.isfinite())}]"
            )

    def _batch(self) -> int:
        return max(1, TABLE_SIZE // min(self.chunk, len(self._rows)))

    def _evaluate(self, x: Tensor, alpha_bar: Tensor) -> Denoised:
        # Half precision cannot hold log-weights.
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        wide, noise = x.to(torch.float64), 1 - alpha_bar
        log_sum, x0 = self._posterior(x, alpha_bar)
        eps = (wide - alpha_bar.sqrt() * x0) / noise.sqrt()
        # log_sum leaves out what all data share: ||x||^2, the normaliser, the prior 1/N.
        shared = (wide.square() / noise + (2 * math.pi * noise).log()).sum(1) / 2
        log_prob = log_sum - shared - math.log(len(self._rows))
        return Denoised(eps, x0, -eps / noise.sqrt(), log_prob)

    def _posterior(self, x: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) log-sum-exp of the log-weights and (B, D) weighted mean, streamed over the data."""
        best = x.new_full((len(x), 1), -math.inf, dtype=torch.float64)
        total, mean = torch.zeros_like(best), torch.zeros_like(x, dtype=torch.float64)
        for rows, norms in self._contenders(x, alpha_bar):
            logits = _log_weights(x.to(rows.dtype), alpha_bar, rows, norms)
            top = logits.detach().amax(1, keepdim=True).maximum(best)
            # The dtype of x is enough for a weight, but not for x0, whose error eps divides by a
            # small number when there is little noise.
            weights = (logits - top.to(rows.dtype)).to(x.dtype).exp().to(rows.dtype)
            shrink = (best - top).exp()
            total = total * shrink + weights.sum(1, keepdim=True, dtype=torch.float64)
            mean = mean * shrink + weights @ rows
            best = top.to(torch.float64)
        return (best + total.log()).squeeze(1), mean / total

    def _contenders(self, x: Tensor, alpha_bar: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Chunks of (rows, squared norms) that hold all weight, in the dtype to compute with."""
        error = self._rounding_error(x, alpha_bar)
        few = x.shape[1] <= FEW_DIMS
        exact = few or bool((error > SMALL_ERROR).any())
        dtype = torch.float64 if exact else x.dtype
        best = torch.full_like(alpha_bar, -math.inf)
        # Data this far below the best add up to less than the rounding error of x's dtype.
        window = math.log(len(self._rows)) - math.log(torch.finfo(x.dtype).eps) + 2 * error
        chunks = self._rows.split(self.chunk), self._norms.split(self.chunk)
        for rows, norms in zip(*chunks, strict=True):
            rows, norms = rows.to(x.device), norms.to(x.device)
            if exact and not few:
                rough = _log_weights(x.detach(), alpha_bar, rows.to(x.dtype), norms)
                best = rough.amax(1, keepdim=True).maximum(best)
                near = ~(rough < best - window).all(0)  # so written, NaN keeps a row
                rows, norms = rows[near], norms[near]
            if len(rows):
                yield rows.to(dtype), norms

    def _rounding_error(self, x: Tensor, alpha_bar: Tensor) -> Tensor:
        """(B, 1): a bound, rarely reached, on the error of log-weights in the dtype of x."""
        radius: Tensor = self._norms.max().sqrt().to(x.device)
        size = torch.linalg.vector_norm(x.detach().to(torch.float64), dim=1, keepdim=True)
        terms = alpha_bar.sqrt() * size * radius + alpha_bar * radius.square()
        relative: float = torch.finfo(x.dtype).eps * math.sqrt(x.shape[1])
        error: Tensor = terms * relative / (1 - alpha_bar)
        return error


def _log_weights(x: Tensor, alpha_bar: Tensor, rows: Tensor, norms: Tensor) -> Tensor:
    """(B, n): -||x - sqrt(alpha_bar) d||^2 / (2 (1 - alpha_bar)) without its ||x||^2 part."""
    noise = 1 - alpha_bar
    half_snr = (-0.5 * alpha_bar / noise).squeeze(1)
    product = (x * (alpha_bar.sqrt() / noise).to(x.dtype)) @ rows.T
    return torch.addr(product, half_snr.to(x.dtype), norms.to(x.dtype))


class MixtureOracle(_Oracle):
    r"""Exact denoiser of a Gaussian mixture with diagonal covariances.

    p(x_0) = sum_k w_k N(x_0; m_k, v_k).  With a = sqrt(alpha_bar), s_k = alpha_bar v_k + 1 -
    alpha_bar and r_k the probability of component k given x,

        p(x)        = sum_k w_k N(x; a m_k, s_k)
        score       = sum_k r_k (a m_k - x) / s_k
        E[x_0 | x]  = sum_k r_k (m_k + a v_k (x - a m_k) / s_k)

    Unlike a finite data set it has a density everywhere, at t = 0 too, so it generalises: the right
    oracle for likelihoods and for inversion. All is computed in float64, answers have x's dtype.

    Args:
        means: (K, *D).
        variances: (K,), one per component, or (K, *D). Zero makes a component a point; then the
            density exists for t >= 1 only.
        weights: (K,), positive; they are divided by their sum.
        schedule: gives alpha_bar_t for calls by time step.

    Raises:
        ValueError: shapes that do not match, values that are not finite, negative variances,
            weights that are not positive.
    """

    def __init__(
        self, means: Tensor, variances: Tensor, weights: Tensor, schedule: Schedule
    ) -> None:
        check_float(means=means, variances=variances, weights=weights)
        _check_mixture(means, variances, weights)
        super().__init__(means.shape[1:], schedule)
        self.dtype = means.dtype
        self.means = means.detach().flatten(1).to(torch.float64)
        # (K, 1) or (K, D): an isotropic variance broadcasts over the dimensions.
        self.variances = variances.detach().reshape(len(means), -1).to(torch.float64)
        self.weights = weights.detach().to(torch.float64) / weights.detach().sum().to(torch.float64)
        self.first_t = 0 if (variances > 0).all() else 1

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n independent draws of x_0, (n, *D) in the dtype of ``means``."""
        check_count(n, 1, None, "n")
        device = self.means.device if generator is None else generator.device
        k = torch.multinomial(self.weights.to(device), n, replacement=True, generator=generator)
        size = (n, self.means.shape[1])
        z = torch.randn(size, generator=generator, device=device, dtype=torch.float64)
        k, z = k.to(self.means.device), z.to(self.means.device)
        x = self.means[k] + self.variances[k].sqrt() * z
        return x.to(self.dtype).reshape(n, *self.shape)

    def _batch(self) -> int:
        return max(1, TABLE_SIZE // self.means.numel())

    def _evaluate(self, x: Tensor, alpha_bar: Tensor) -> Denoised:
        level, x = alpha_bar.unsqueeze(1), x.to(torch.float64)  # level (B, 1, 1)
        means, variances = self.means.to(x.device), self.variances.to(x.device)
        total = level * variances + 1 - level  # s_k, (B, K, 1 or D)
        away = level.sqrt() * means - x.unsqueeze(1)  # a m_k - x, (B, K, D)
        log_component = -0.5 * (away.square() / total + (2 * math.pi * total).log()).sum(2)
        joint = log_component + self.weights.log().to(x.device)
        r = joint.softmax(1).unsqueeze(2)
        score = (r * away / total).sum(1)
        x0 = (r * (means - level.sqrt() * variances * away / total)).sum(1)
        return Denoised(-(1 - alpha_bar).sqrt() * score, x0, score, joint.logsumexp(1))


def _check_mixture(means: Tensor, variances: Tensor, weights: Tensor) -> None:
    if means.ndim < 2 or len(means) == 0:
        raise ValueError(f"means must have shape (K, *D) with K >= 1, got {tuple(means.shape)}")
    K = len(means)
    if variances.shape not in ((K,), means.shape):
        raise ValueError(
            f"variances must have shape (K,) = ({K},), or that of means "
            f"{tuple(means.shape)}, got {tuple(variances.shape)}"
        )
    if weights.shape != (K,):
        raise ValueError(f"weights must have shape (K,) = ({K},), got {tuple(weights.shape)}")
    for name, x in (("means", means), ("variances", variances), ("weights", weights)):
        if not x.isfinite().all():
            raise ValueError(f"{name} must be finite, got {x[~x.isfinite()][0].item()}")
    if (variances < 0).any():
        raise ValueError(
            f"variances must be >= 0, got {variances[variances < 0][0].item():.6g}: "
            "pass variances, not their logarithms"
        )
    if not (weights > 0).all():
        raise ValueError(
            f"weights must be > 0, got {weights[~(weights > 0)][0].item():.6g}: leave out "
            "components without weight"
        )
