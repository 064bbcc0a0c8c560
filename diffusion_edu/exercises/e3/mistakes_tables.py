"""E3, tables with a bug to find: the right function, and the wrong ones that have a name."""

from __future__ import annotations

import torch
from torch import Tensor

from ..spec import Graded, Mistake
from ..stubs import Sch
from .mistakes import VARIANCE

SAFE_LOG = "03, The logarithm of the variance"


def posterior_tables(sch: Sch) -> tuple[Tensor, Tensor]:
    """beta_tilde and its logarithm, (T+1,) each; in the latter t = 0 and 1 have that of t = 2."""
    var = torch.zeros_like(sch.beta)
    var[1:] = sch.beta[1:] * (1 - sch.alpha_bar[:-1]) / (1 - sch.alpha_bar[1:])
    return var, _safe_log(var)


def _safe_log(var: Tensor) -> Tensor:
    return torch.cat([var[2:3], var[2:3], var[2:]]).log()


def _tables(var):  # type: ignore[no-untyped-def]
    """Both tables with another variance, a function of (beta, bar, prev) at t = 1..T."""

    def tables(sch: Sch) -> tuple[Tensor, Tensor]:
        values = var(sch.beta[1:], sch.alpha_bar[1:], sch.alpha_bar[:-1])
        table = torch.cat([values[:1] * 0, values])
        return table, _safe_log(table)

    return tables


def _with_log(log):  # type: ignore[no-untyped-def]
    """The right variance, with another logarithm."""

    def tables(sch: Sch) -> tuple[Tensor, Tensor]:
        var, _ = posterior_tables(sch)
        return var, log(var)

    return tables


def _divides_at_t0(sch: Sch) -> tuple[Tensor, Tensor]:
    var, log = posterior_tables(sch)
    return torch.cat([var[:1] / var[:1], var[1:]]), log


def _tables_by_precisions(sch: Sch) -> tuple[Tensor, Tensor]:
    noise = 1 - sch.alpha_bar.roll(1)
    var = 1 / (sch.alpha / sch.beta + 1 / noise)
    var[0] = 0
    return var, torch.log(var[torch.arange(len(var)).clamp(min=2)])


def _tables_by_lists(sch: Sch) -> list[Tensor]:
    bar, var = sch.alpha_bar.tolist(), [0.0]
    for t in range(1, sch.T + 1):
        var.append((1 - bar[t - 1]) / (1 - bar[t]) * float(sch.beta[t]))
    table = torch.tensor(var)
    log = torch.empty_like(table)
    log[2:] = table[2:].log()
    log[:2] = log[2]
    return [table, log]


def _tables_by_where(sch: Sch) -> tuple[Tensor, Tensor]:
    t = torch.arange(sch.T + 1)
    ratio = (1 - sch.alpha_bar[(t - 1).clamp(min=0)]) / (1 - sch.alpha_bar)
    var = torch.where(t < 2, torch.zeros_like(ratio), ratio * sch.beta)
    return var, torch.where(t < 2, var[2], var).log()


POSTERIOR_TABLES = Graded(
    "posterior_tables",
    posterior_tables,
    lambda w: [(w.sch,)],
    (
        Mistake(
            "posterior_var_missing_denominator",
            _tables(lambda b, bar, prev: b * (1 - prev)),
            "The variances are too small: beta is to be multiplied by the ratio of two noise "
            "levels, and only one of them is here.",
            VARIANCE,
        ),
        Mistake(
            "beta_for_beta_tilde_or_alpha_bar_t_for_prev",
            lambda sch: (sch.beta, _safe_log(sch.beta)),
            "This is beta, the variance of the steps forward. The ratio of two noise levels, that "
            "of t - 1 and that of t, makes it smaller.",
            VARIANCE,
        ),
        Mistake(
            "log_of_zero_at_t1",
            _with_log(torch.log),
            "The variance at t = 1 is 0 and its logarithm -infinity. The value of t = 2 has to "
            "stand in.",
            SAFE_LOG,
            credit=0.25,
        ),
        Mistake(
            "log_of_tiny_number",
            _with_log(lambda var: var.clamp(min=1e-20).log()),
            "The logarithm at t = 1 is that of a tiny number. It is finite, but what is computed "
            "with -46 is far from everything else; take the value of t = 2.",
            SAFE_LOG,
            credit=0.5,
        ),
        Mistake(
            "variance_clipped_too",
            lambda sch: (_safe_log(posterior_tables(sch)[0]).exp(), posterior_tables(sch)[1]),
            "The value of t = 2 stands in for both tables. Only the logarithm needs it: the "
            "variance at t = 1 is 0.",
            SAFE_LOG,
            credit=0.5,
        ),
        Mistake(
            "log_of_std",
            _with_log(lambda var: _safe_log(var) / 2),
            "This is the logarithm of the standard deviation, half of what is wanted.",
            SAFE_LOG,
            credit=0.5,
        ),
        Mistake(
            "nan_at_t0",
            _divides_at_t0,
            "Entry 0 of the variance is 0/0. No step ends there; it should be 0.",
            VARIANCE,
            credit=0.5,
        ),
        Mistake(
            "tables_swapped",
            lambda sch: posterior_tables(sch)[::-1],
            "The two tables are returned in the wrong order.",
            VARIANCE,
            credit=0.5,
        ),
    ),
    (_tables_by_precisions, _tables_by_lists, _tables_by_where),
    bug="posterior_var_missing_denominator",
)
