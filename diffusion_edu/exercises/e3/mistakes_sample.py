"""E3, samples of the posterior: the right function, and the wrong ones that have a name."""

from __future__ import annotations

import torch
from torch import Tensor

from ..forms import view
from ..spec import Graded, Mistake
from ..stubs import Sch
from .mistakes import (
    BATCH,
    WRONG_MEANS,
    WRONG_VARIANCES,
    mean_by_gain,
    mean_by_noise,
    mean_one_by_one,
    posterior_mean,
    posterior_var,
    var_by_loop,
    var_by_table,
)

SAMPLE = "03, One step back"


def posterior_sample(x0: Tensor, xt: Tensor, t: Tensor, z: Tensor, sch: Sch) -> Tensor:
    """A sample of q(x_{t-1} | x_t, x_0) from the noise z."""
    return posterior_mean(x0, xt, t, sch) + view(posterior_var(t, sch), x0).sqrt() * z


def _sample_by_log_variance(x0: Tensor, xt: Tensor, t: Tensor, z: Tensor, sch: Sch) -> Tensor:
    # log 0 = -infinity, and exp(-infinity) = 0.
    log_var = torch.log(var_by_table(t, sch))
    return mean_by_noise(x0, xt, t, sch) + torch.exp(0.5 * view(log_var, x0)) * z


def _sample_one_by_one(x0: Tensor, xt: Tensor, t: Tensor, z: Tensor, sch: Sch) -> Tensor:
    out = mean_one_by_one(x0, xt, t, sch)
    for i, var in enumerate(var_by_loop(t, sch).tolist()):
        out[i] += var**0.5 * z[i]
    return out


def _sample_with_mask(x0: Tensor, xt: Tensor, t: Tensor, z: Tensor, sch: Sch) -> Tensor:
    std = view(posterior_var(t, sch) ** 0.5, x0).expand_as(x0)
    later = view(t > 1, x0)
    return torch.where(later, mean_by_gain(x0, xt, t, sch) + std * z, x0)


def _sample(mean=posterior_mean, var=posterior_var):  # type: ignore[no-untyped-def]
    """A sample with another mean or variance."""

    def sample(x0: Tensor, xt: Tensor, t: Tensor, z: Tensor, sch: Sch) -> Tensor:
        return mean(x0, xt, t, sch) + view(var(t, sch), x0).sqrt() * z

    return sample


POSTERIOR_SAMPLE = Graded(
    "posterior_sample",
    posterior_sample,
    lambda w: [(w.x0, w.xt, w.t, w.z, w.sch)],
    (
        Mistake(
            "var_for_std",
            lambda x0, xt, t, z, sch: (
                posterior_mean(x0, xt, t, sch) + view(posterior_var(t, sch), x0) * z
            ),
            "z was multiplied by the variance. What multiplies it is a standard deviation.",
            SAMPLE,
            credit=0.25,
        ),
        Mistake(
            "no_noise",
            lambda x0, xt, t, z, sch: posterior_mean(x0, xt, t, sch),
            "This is the mean. A sample of a Gaussian has noise around it.",
            SAMPLE,
        ),
        Mistake(
            "noise_of_prior",
            _sample(var=lambda t, sch: 1 - sch.alpha_bar[t - 1]),
            "This is the noise of x_{t-1} if only x0 is known. x_t is known too, which leaves "
            "less.",
            SAMPLE,
        ),
        Mistake(
            "one_z_for_batch",
            lambda x0, xt, t, z, sch: posterior_sample(x0, xt, t, z[:1].expand_as(z), sch),
            "All examples get the noise of the first.",
            SAMPLE,
        ),
        Mistake(
            "scalar_t",
            lambda x0, xt, t, z, sch: posterior_sample(x0, xt, t[:1].expand(len(t)), z, sch),
            "The first t is used for the whole batch. Every example has a t of its own.",
            BATCH,
        ),
        Mistake(
            "wrong_axis_broadcast",
            lambda x0, xt, t, z, sch: (
                posterior_mean(x0, xt, t, sch) + posterior_var(t, sch).sqrt() * z
            ),
            "The deviation of shape (B,) was multiplied along the last axis. It belongs to the "
            "first: give it the shape (B, 1, ...).",
            BATCH,
        ),
        # With a wrong mean or variance of one's own the sample is wrong in the same way.
        *(Mistake(m.name, _sample(m.wrong), m.hint, m.lecture, m.credit) for m in WRONG_MEANS),
        *(
            Mistake(m.name, _sample(var=m.wrong), m.hint, m.lecture, m.credit)
            for m in WRONG_VARIANCES
        ),
    ),
    (_sample_by_log_variance, _sample_one_by_one, _sample_with_mask),
)
