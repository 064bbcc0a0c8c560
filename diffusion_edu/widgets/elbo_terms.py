"""What ElboDecomposer computes: the terms of the bound, and what is exact."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .._checks import check_same_shape
from ..data import toy
from ..forward import q_marginal, q_sample
from ..gaussian import discretized_log_prob
from ..objectives import ElboTerms, elbo, loss_weight, min_snr_weight
from ..oracles import MixtureOracle
from ..prediction import Model
from ..schedules import Schedule, respace
from ..spacing import timesteps
from . import datasets
from .denoisers import denoiser_code, resolve

__all__ = [
    "DECODERS",
    "EXACT",
    "MAX_DRAWS",
    "SIGMA2",
    "State",
    "bound",
    "code_of",
    "decompose",
    "estimate",
    "exact_denoiser",
    "exact_nats",
    "factors",
    "least_shown",
    "least_terms",
    "pair",
    "shown_of",
]

EXACT = "gaussians"  # the data whose density is known
SIGMA2 = ("beta", "beta_tilde")
DECODERS = ("gaussian", "discretized")
MAX_DRAWS = 2048
ROWS = 8192  # points given to the denoiser at once

ORACLE_CODE = f"""\
_, schedule, _ = de.pretrained({EXACT!r})
model = de.MixtureOracle(*de.toy.gaussians_mixture(), schedule)"""
CODE = """\
import torch
import diffusion_edu as de

{chain}
levels = de.timesteps(schedule.T, {steps})
short = de.respace(schedule, levels)

def z(t):
    g = torch.Generator().manual_seed({first} + t)
    return torch.randn(({MAX_DRAWS}, 2), generator=g)[:{draws}]

x0 = de.toy.load({dataset!r}, {MAX_DRAWS}, seed={seed})[:{draws}]
{on_grid}terms = de.elbo(
    lambda x_t, t: model(x_t, levels.flip(0)[t]), x0, short,
    sigma2={sigma2!r}, decoder={decoder!r}, grid=de.toy.GRID,
    eps=torch.stack([z(t) for t in range(1, short.T + 1)]),
)
t = {{t}}
term = terms.L_t[:, t - 2] if t > 1 else terms.L_0
weight = de.loss_weight(t, short, {sigma2!r})
print(term.mean(), terms.total.mean(), terms.bits_per_dim().mean())
"""


@dataclass
class State:
    """What ElboDecomposer computes from n draws, at t = T..1 (``times``).

    x0 (n, 2); eps and eps_hat (T, n, 2) at t = 1..T, as ``elbo`` takes them; terms: of the library.

    Where the density is known, else None: exact (n,), -log p(x_0); information (T+1, n) at the
    levels T..0, see ``_exact_steps``; least (T, n), ||eps - E[eps | x_t]||^2.

    mine (T,), mean of the learner's KL; mine_weight (T,); differences to the reference, by the name
    of the function.
    """

    schedule: Schedule
    x0: Tensor
    eps: Tensor
    eps_hat: Tensor
    terms: ElboTerms
    weight: Tensor
    exact: Tensor | None = None
    information: Tensor | None = None
    least: Tensor | None = None
    mine: Tensor | None = None
    mine_weight: Tensor | None = None
    differences: dict[str, float] = field(default_factory=dict)
    notes: list[dict[str, str]] = field(default_factory=list)
    coarse: bool = False
    seconds: float = 0.0  # for one draw and one step

    @property
    def times(self) -> list[int]:
        """T..1: the order of generation, and of the sum."""
        return list(range(self.schedule.T, 0, -1))

    @property
    def rows(self) -> Tensor:
        """The terms L_{T-1}, ..., L_1, L_0 of each draw, (T, n) nats."""
        return torch.stack([self.terms.L_0, *self.terms.L_t.T]).flip(0)

    @property
    def squared(self) -> Tensor:
        """||eps - eps_hat||^2 of each draw at each of ``times``, (T, n)."""
        return ((self.eps - self.eps_hat) ** 2).sum(2).flip(0)


def estimate(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of independent draws (..., n), and its standard error."""
    x = x.double()
    return x.mean(-1), x.std(-1) / math.sqrt(x.shape[-1])


@lru_cache(maxsize=1)
def exact_denoiser() -> tuple[MixtureOracle, Schedule]:
    """The best denoiser of "gaussians", on the levels of the shipped network: to compare them."""
    _, schedule = resolve("network", EXACT)
    return MixtureOracle(*toy.gaussians_mixture(), schedule), schedule


# ---- the bound -----------------------------------------------------------------------------------


def _chain(schedule: Schedule, steps: int) -> tuple[Schedule, Tensor]:
    """The chain of ``steps`` levels of a longer one, and which of its levels they are, (T+1,)."""
    levels = timesteps(schedule.T, steps)
    return respace(schedule, levels), levels.flip(0)


def _data(values: dict[str, Any], n: int) -> Tensor:
    """x_0 of the first n draws, (n, 2); with more draws the first ones stay."""
    x0 = datasets.load(values["dataset"], MAX_DRAWS, values["seed"])[:n]
    return x0 if values["decoder"] == "gaussian" else toy.LIMIT * toy.from_uint8(toy.to_uint8(x0))


@lru_cache(maxsize=4)
def _noise(T: int, seed: int) -> Tensor:
    """(T+1, MAX_DRAWS, 2): noise of ``_exact_steps``, then that in x_1, ..., x_T."""
    return torch.stack([datasets.noise((MAX_DRAWS, 2), seed, t) for t in range(T + 1)])


def decompose(model: Model, schedule: Schedule, values: dict[str, Any], n: int) -> State:
    """The bound of n draws: an x_0 each, and noise of its own at every t."""
    short, levels = _chain(schedule, values["steps"])
    x0, z = _data(values, n), _noise(short.T, values["seed"])[:, :n]
    eps_hat = _predicted(model, x0, z[1:], short, levels)
    terms = bound(x0, z[1:], eps_hat, short, values["sigma2"], values["decoder"])
    weight = loss_weight(torch.arange(short.T, 0, -1), short, values["sigma2"])
    state = State(short, x0, z[1:], eps_hat, terms, weight)
    if values["dataset"] == EXACT:
        state.exact = exact_nats(x0, short, values["decoder"])
        state.information, state.least = _exact_steps(x0, z[0], short, state.exact)
    return state


def _predicted(model: Model, x0: Tensor, eps: Tensor, schedule: Schedule, levels: Tensor) -> Tensor:
    """The noise predicted at t = 1..T, (T, n, 2), with few calls."""
    x_t, t = _every_level(x0, eps, schedule)
    pieces = zip(x_t.split(ROWS), levels[t].split(ROWS), strict=True)
    output = torch.cat([model(*piece) for piece in pieces])
    check_same_shape(x_t=x_t, output=output)
    return output.view(eps.shape)


def _every_level(x0: Tensor, eps: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """x_t of t = 1..T below each other, (T n, 2), and the t of each row; eps (T, n, 2)."""
    t = torch.arange(1, schedule.T + 1).repeat_interleave(len(x0))
    return q_sample(x0.repeat(schedule.T, 1), t, eps.reshape(len(t), -1), schedule), t


def bound(
    x0: Tensor, eps: Tensor, eps_hat: Tensor, schedule: Schedule, sigma2: Any, decoder: Any
) -> ElboTerms:
    """``elbo`` for noise that was predicted beforehand, eps_hat (T, n, 2)."""

    def replay(x_t: Tensor, t: Tensor) -> Tensor:
        return eps_hat[int(t[0]) - 1]

    options = {"sigma2": sigma2, "decoder": decoder, "grid": toy.GRID}
    return elbo(replay, x0, schedule, eps=eps, **options)


# ---- what is exact -------------------------------------------------------------------------------


def exact_nats(x0: Tensor, schedule: Schedule, decoder: str) -> Tensor:
    """-log p(x_0) of the mixture: of its density, or of its mass in the cell of x_0, (n,)."""
    means, variances, weights = toy.gaussians_mixture()
    if decoder == "gaussian":
        return -MixtureOracle(means, variances, weights, schedule).log_prob(x0, 0)
    cells = [
        discretized_log_prob(x0.double(), mean.expand(len(x0), -1), variance, *toy.GRID)
        for mean, variance in zip(means, variances, strict=True)
    ]
    return -(torch.stack(cells) + weights.log()[:, None]).logsumexp(0)


def _exact_steps(x0: Tensor, z: Tensor, schedule: Schedule, exact: Tensor) -> tuple[Tensor, Tensor]:
    r"""What no network can beat: ``State.information`` and ``State.least`` of the mixture.

    With the true q(x_{t-1} | x_t) in place of a Gaussian, L_T + ... + L_{t-1} has the mean of
    log q(x_{t-1} | x_0) - log q(x_{t-1}), the information that x_{t-1} has of x_0 (and
    -log p(x_0) at the end). The noise z (n, 2) is the same at all levels: the difference of two
    neighbours, one term, is then known much better than either. Rounding x_0 for the discretised
    decoder changes the information by less than 0.05 nats.
    """
    oracle = MixtureOracle(*toy.gaussians_mixture(), schedule)
    same = z.expand(schedule.T, *z.shape)
    x_t, t = _every_level(x0, same, schedule)
    known = oracle.evaluate(x_t, schedule.alpha_bar[t])
    own = q_marginal(x0.repeat(schedule.T, 1), t, schedule).log_prob(x_t)
    information = _steady((own - known.log_prob).view(schedule.T, -1), x0, z)
    least = ((known.eps.view(same.shape) - same) ** 2).sum(2)
    return torch.cat([exact[None].double(), information]).flip(0), least.flip(0)


def _steady(y: Tensor, x0: Tensor, z: Tensor) -> Tensor:
    """y (F, n) with the same mean and, at noisy levels, a hundredth of the spread.

    Control variates: what y has in common with x_0 z and |z|^2 - 2, whose means are 0, is taken out
    (Glasserman 2003, Monte Carlo Methods in Financial Engineering, sec. 4.1).
    """
    known = torch.stack([(x0 * z).sum(1), z.square().sum(1) - z.shape[1]], 1).double()
    rows = y.T.double()
    slopes = torch.linalg.lstsq(known - known.mean(0), rows - rows.mean(0)).solution
    return (rows - known @ slopes).T


def least_terms(information: Tensor) -> tuple[Tensor, Tensor]:
    """L_{T-1}, ..., L_0 with the true reverse steps, (T,), and their standard errors."""
    return estimate(information.diff(dim=0))


def factors(weighting: str, state: State) -> Tensor:
    """The weight of ||eps - eps_hat||^2 at each of ``times``, (T,) float64."""
    t = torch.tensor(state.times)
    if weighting == "min_snr":
        return min_snr_weight(t, state.schedule)
    return state.weight if weighting == "vlb" else torch.ones(len(t), dtype=torch.float64)


def code_of(values: dict[str, Any]) -> str:
    """Python for ``decompose``."""
    grid = "x0 = de.toy.LIMIT * de.toy.from_uint8(de.toy.to_uint8(x0))\n"
    oracle = values["model"] == "oracle"
    return CODE.format(
        **values,
        MAX_DRAWS=MAX_DRAWS,
        chain=ORACLE_CODE if oracle else denoiser_code(values["model"], values["dataset"]),
        first=datasets.noise_seed(values["seed"], 0),
        on_grid=grid if values["decoder"] == "discretized" else "",
    )


# ---- what is shown -------------------------------------------------------------------------------


def pair(x: Tensor) -> tuple[float, float]:
    """``estimate`` of draws (n,), as numbers."""
    mean, error = estimate(x)
    return float(mean), float(error)


def shown_of(state: State, weighting: str) -> tuple[Tensor, Tensor]:
    """The terms of the bound, or of another loss, at each of ``times``, (T,), and their errors."""
    if weighting == "vlb":
        return estimate(state.rows)
    return estimate(factors(weighting, state)[:, None] * state.squared)


def least_shown(state: State, weighting: str) -> Tensor | None:
    """The least that is possible of it, (T,); NaN where it cannot be told from 0."""
    if state.information is None or state.least is None:
        return None
    mean, error = least_terms(state.information)
    if weighting != "vlb":
        mean, error = estimate(factors(weighting, state)[:, None] * state.least)
    return torch.where(mean > 2 * error, mean, math.nan)
