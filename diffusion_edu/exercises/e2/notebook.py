# %% [markdown]
# # E2 · Jump to any t
#
# The forward process adds a little noise at every step. Because all steps are Gaussian, t of them merge into one: you
# can jump from the data to any noise level. Here you write that jump.
#
# **Belongs to** [lecture 02](../02_jump_to_any_t.ipynb). **Takes** about 40 minutes.
#
# Every function is called with plain tensors. Tables such as `beta` have `T + 1` entries and are indexed by t itself:
# `beta[0] = 0` belongs to clean data. `sch` has the fields `beta`, `alpha`, `alpha_bar` (tables) and `T`. Noise is
# always passed in; draw none yourself.
#
# Fill in a function, run its cell, then the check below it, and read what that says. A function leaves the tensors
# that it is given as they are.

# %%
import math

import torch

from diffusion_edu import check

# %% [markdown]
# ## 1. All steps in one number
#
# Step $i$ multiplies the signal by $\sqrt{1-\beta_i}$. After t steps what is left of its variance is
#
# $$\bar\alpha_t = \prod_{i=1}^{t} (1 - \beta_i), \qquad \bar\alpha_0 = 1.$$
#
# Write `alpha_bar_from_beta(beta)`: `beta` is a tensor of `T + 1` numbers, and so is the result.


# %%
def alpha_bar_from_beta(beta):
    """alpha_bar (T+1,) of beta (T+1,), beta[0] = 0."""
    # BEGIN SOLUTION
    return torch.cumprod(1.0 - beta, dim=0)
    # END SOLUTION


# %%
check(alpha_bar_from_beta)

# %% [markdown]
# ## 2. The cosine schedule
#
# Improved DDPM (2102.09672, eq. 17) chooses $\bar\alpha_t$ itself:
#
# $$\bar\alpha_t = \frac{f(t)}{f(0)}, \qquad f(t) = \cos^2\!\left(\frac{t/T + s}{1 + s}\cdot\frac{\pi}{2}\right).$$
#
# Its last $\beta_t = 1 - \bar\alpha_t / \bar\alpha_{t-1}$ would be 1, so every $\beta_t$ is cut at 0.999, and the
# $\bar\alpha_t$ returned are the products of the $1 - \beta_t$ that remain.


# %%
def cosine_alpha_bar(T, s=0.008):
    """alpha_bar (T+1,) of the cosine schedule, every beta at most 0.999."""
    # BEGIN SOLUTION
    position = torch.arange(T + 1, dtype=torch.float64) / T
    f = torch.cos((position + s) / (1 + s) * math.pi / 2) ** 2
    beta = torch.clamp(1 - f[1:] / f[:-1], max=0.999)
    return torch.cat([torch.ones(1, dtype=f.dtype), torch.cumprod(1 - beta, dim=0)])
    # END SOLUTION


# %%
check(cosine_alpha_bar)

# %% [markdown]
# ## 3. The jump
#
# DDPM (2006.11239), eq. 4:
#
# $$x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\,\varepsilon, \qquad \varepsilon \sim N(0, I).$$
#
# `x0` and `eps` have the shape `(B, ...)`: points `(B, 2)` or images `(B, C, H, W)`. `t` is a tensor of B integers, one
# for every example.


# %%
def q_sample(x0, t, eps, sch):
    """x_t (B, ...) from x0 and eps (B, ...), t (B,)."""
    # BEGIN SOLUTION
    kept = sch.alpha_bar[t].reshape(-1, *[1] * (x0.dim() - 1))
    return torch.sqrt(kept) * x0 + torch.sqrt(1 - kept) * eps
    # END SOLUTION


# %%
check(q_sample)

# %% [markdown]
# Drag the noise level of *your* function, beside the reference:

# %%
from diffusion_edu import ForwardExplorer

ForwardExplorer(q_sample=q_sample)

# %% [markdown]
# ## 4. Signal to noise
#
# $\mathrm{SNR}(t) = \bar\alpha_t / (1 - \bar\alpha_t)$: how much louder the data are than the noise, as a ratio of
# variances. At t = 0 it is infinite.


# %%
def snr(sch):
    """Signal-to-noise ratio at every t, (T+1,)."""
    # BEGIN SOLUTION
    signal = sch.alpha_bar
    return signal / (1 - signal)
    # END SOLUTION


# %%
check(snr)

# %% [markdown]
# ## 5. Find the bug
#
# This function prepares the two factors of the jump for every t. A small published implementation made the same
# mistake: clean data are noisy in it. Find the line and mend it.


# %%
def chain_tables(beta):
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar), (T+1,) each; beta (T+1,), beta[0] = 0."""
    # BEGIN SOLUTION
    products = torch.cumprod(1 - beta, dim=0)
    return torch.sqrt(products), torch.sqrt(1 - products)
    # STUDENT: alphas = 1 - torch.cat([beta[1:], beta[:1]])
    # STUDENT: alpha_bar = torch.cumprod(alphas, dim=0)
    # STUDENT: return torch.sqrt(alpha_bar), torch.sqrt(1 - alpha_bar)
    # END SOLUTION


# %%
check(chain_tables)

# %% [markdown]
# ## All together
#
# When every line says ok, go on with [lecture 03, *One step back, by Bayes' rule*](../03_posterior.ipynb).

# %%
check("E2")
