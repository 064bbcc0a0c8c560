# %% [markdown]
# # E3 · Walk back with Bayes
#
# A step back from $x_t$ is unknown: many $x_{t-1}$ could have led there. If $x_0$ is known as well, Bayes' rule gives
# the answer, and it is a Gaussian. Every diffusion model is trained to copy this step back. Here you write it.
#
# **Belongs to** [lecture 03](../03_posterior.ipynb). **Takes** about 60 minutes.
#
# Every function is called with plain tensors. `x0`, `xt`, `eps` and `z` have the shape `(B, ...)`: points `(B, 2)` or
# images `(B, C, H, W)`. `t` is a tensor of B integers from 1 to T, one for every example. `sch` has the tables `beta`,
# `alpha`, `alpha_bar`, indexed by t itself with `alpha_bar[0] = 1`, and `T`. So `alpha_bar[t - 1]` needs no special
# case. Noise is always passed in.
#
# Fill in a function, run its cell, then the check below it, and read what that says. A function leaves the tensors
# that it is given as they are.

# %%
import torch

from diffusion_edu import check

# %% [markdown]
# ## 1. The mean
#
# Prior: $q(x_{t-1} \mid x_0) = N(\sqrt{\bar\alpha_{t-1}}\,x_0,\ (1-\bar\alpha_{t-1}) I)$. Likelihood:
# $q(x_t \mid x_{t-1}) = N(\sqrt{\alpha_t}\,x_{t-1},\ \beta_t I)$. Their product is a Gaussian with the mean
#
# $$\tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0
# + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t,$$
#
# DDPM (2006.11239) eq. 7. At t = 1 it is $x_0$.


# %%
def posterior_mean(x0, xt, t, sch):
    """Mean of x_{t-1}, (B, ...), for x0 and xt (B, ...) and t (B,)."""

    # BEGIN SOLUTION
    def pick(table, index):
        return table[index].reshape(-1, *[1] * (x0.dim() - 1))

    now, earlier = pick(sch.alpha_bar, t), pick(sch.alpha_bar, t - 1)
    weight_data = torch.sqrt(earlier) * pick(sch.beta, t) / (1 - now)
    weight_noisy = torch.sqrt(pick(sch.alpha, t)) * (1 - earlier) / (1 - now)
    return weight_data * x0 + weight_noisy * xt
    # END SOLUTION


# %%
check(posterior_mean)

# %% [markdown]
# ## 2. The variance
#
# It depends on neither $x_0$ nor $x_t$ (DDPM eq. 7):
#
# $$\tilde\beta_t = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t.$$
#
# At t = 1 it is 0: $x_0$ is known, so nothing is left to be unsure of. Return one number for every entry of `t`.


# %%
def posterior_var(t, sch):
    """Variance of x_{t-1}, (B,), for t (B,)."""
    # BEGIN SOLUTION
    ratio = (1 - sch.alpha_bar[t - 1]) / (1 - sch.alpha_bar[t])
    return ratio * sch.beta[t]
    # END SOLUTION


# %%
check(posterior_var)

# %% [markdown]
# Drag $x_0$, $x_t$ and t: prior times likelihood is the posterior. *Your* mean and variance are drawn beside the
# reference. The two lines in between hand over t in the form your functions expect.

# %%
from diffusion_edu import PosteriorPlayground


def q_posterior(x_t, x0, t, schedule):
    """Mean and variance of x_{t-1}, as the explorer asks for them."""
    levels = torch.full((len(x0),), t)
    return posterior_mean(x0, x_t, levels, schedule), posterior_var(levels, schedule)[:, None]


PosteriorPlayground(q_posterior=q_posterior)

# %% [markdown]
# ## 3. One step back
#
# A sample of $q(x_{t-1} \mid x_t, x_0) = N(\tilde\mu_t, \tilde\beta_t I)$, made from standard normal noise `z`. You may
# call your functions from above.


# %%
def posterior_sample(x0, xt, t, z, sch):
    """A sample of x_{t-1}, (B, ...), from the noise z (B, ...)."""
    # BEGIN SOLUTION
    spread = torch.sqrt(posterior_var(t, sch))
    return posterior_mean(x0, xt, t, sch) + spread.reshape(-1, *[1] * (z.dim() - 1)) * z
    # END SOLUTION


# %%
check(posterior_sample)

# %% [markdown]
# ## 4. Data from noise
#
# A network does not know $x_0$. It predicts the noise, and the jump
# $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$ says which data go with it (DDPM eq. 15):
#
# $$x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\;\varepsilon}{\sqrt{\bar\alpha_t}}.$$


# %%
def x0_from_eps(xt, t, eps, sch):
    """The x_0, (B, ...), that gives xt with the noise eps (B, ...)."""
    # BEGIN SOLUTION
    kept = sch.alpha_bar[t].reshape(-1, *[1] * (xt.dim() - 1))
    return (xt - torch.sqrt(1 - kept) * eps) / torch.sqrt(kept)
    # END SOLUTION


# %%
check(x0_from_eps)

# %% [markdown]
# ## 5. Noise from data
#
# The other way round: which noise turns `x0` into `xt`? Solve the same equation for $\varepsilon$. You will need it
# whenever a predicted $x_0$ is changed (clipped to the range of images, say) and the noise has to follow.


# %%
def eps_from_x0(xt, t, x0, sch):
    """The noise, (B, ...), that turns x0 into xt, both (B, ...)."""
    # BEGIN SOLUTION
    level = sch.alpha_bar[t].reshape(-1, *[1] * (xt.dim() - 1))
    return (xt - torch.sqrt(level) * x0) / torch.sqrt(1 - level)
    # END SOLUTION


# %%
check(eps_from_x0)

# %% [markdown]
# ## 6. Find the bug
#
# Samplers keep $\tilde\beta_t$ and its logarithm in tables. The variance at t = 1 is 0 and has no logarithm, so in the
# second table the entries 0 and 1 hold that of t = 2; in the first, entry 0 is 0. A small published implementation made
# the same mistake as this function: its steps back are too sure of themselves. Find the line and mend it.


# %%
def posterior_tables(sch):
    """Posterior variance and its safe logarithm, (T+1,) each."""
    # BEGIN SOLUTION
    bar = sch.alpha_bar
    var = sch.beta[1:] * (1 - bar[:-1]) / (1 - bar[1:])
    var = torch.cat([torch.zeros(1), var])
    log_var = torch.log(torch.cat([var[2:3], var[2:3], var[2:]]))
    return var, log_var
    # STUDENT: bar = sch.alpha_bar
    # STUDENT: var = sch.beta[1:] * (1 - bar[:-1])
    # STUDENT: var = torch.cat([torch.zeros(1), var])
    # STUDENT: log_var = torch.log(torch.cat([var[2:3], var[2:3], var[2:]]))
    # STUDENT: return var, log_var
    # END SOLUTION


# %%
check(posterior_tables)

# %% [markdown]
# ## All together
#
# When every line says ok, go on with [lecture 04, *From the likelihood to a loss*](../04_elbo.ipynb).

# %%
check("E3")
