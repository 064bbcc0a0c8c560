# %% [markdown]
# # E6 · Walk back without the answer
#
# Bayes' rule gives a step back if $x_0$ is known. A sampler does not know it: it asks a network which noise it sees,
# and takes a little of that noise away, again and again. Here you write DDPM's sampler (2006.11239, Algorithm 2).
#
# **Belongs to** [lecture 06](../06_ddpm_sampling.ipynb). **Takes** about 70 minutes.
#
# `xt`, `eps_pred` and `z` have the shape `(B, ...)`: points `(B, 2)` or images `(B, C, H, W)`. `t` is a tensor of B
# integers from 1 to T, one for every example. `sch` has the tables `beta`, `alpha`, `alpha_bar`, indexed by t itself
# with `alpha_bar[0] = 1`, and `T`. So `alpha_bar[t - 1]` needs no special case. `eps_pred` is what a network said about
# `xt`. Noise is always passed in; draw none yourself.
#
# Fill in a function, run its cell, then the check below it, and read what that says. A function leaves the tensors
# that it is given as they are.

# %%
import torch

from diffusion_edu import check

# %% [markdown]
# ## 1. The mean of a step
#
# Put the $x_0$ that goes with the predicted noise into the mean of the posterior, and nearly everything cancels
# (DDPM eq. 11):
#
# $$\mu_\theta(x_t, t) = \frac{1}{\sqrt{\alpha_t}}
# \left(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\;\varepsilon_\theta(x_t, t)\right).$$


# %%
def ddpm_mean(xt, t, eps_pred, sch):
    """Mean of x_{t-1}, (B, ...), from xt and the predicted noise (B, ...), t (B,)."""

    # BEGIN SOLUTION
    def pick(table):
        return table[t].reshape(-1, *[1] * (xt.dim() - 1))

    taken = pick(sch.beta) / torch.sqrt(1 - pick(sch.alpha_bar)) * eps_pred
    return (xt - taken) / torch.sqrt(pick(sch.alpha))
    # END SOLUTION


# %%
check(ddpm_mean)

# %% [markdown]
# ## 2. The step
#
# $x_{t-1} = \mu_\theta(x_t, t) + \sigma_t z$, with fresh noise `z`, and **without noise at t = 1**: what is added
# there, nothing takes away again (Algorithm 2, line 3). DDPM tried two variances and found both to work (section 3.2):
#
# $$\sigma_t^2 = \beta_t \qquad \text{or} \qquad
# \sigma_t^2 = \tilde\beta_t = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t.$$
#
# The first is meant by `var="beta"`, the second by `var="beta_tilde"`. Mind that `t` holds another integer for every
# example.


# %%
def ddpm_step(xt, t, eps_pred, z, sch, var="beta"):
    """x_{t-1}, (B, ...), from xt, the predicted noise and the fresh noise z (B, ...)."""
    # BEGIN SOLUTION
    spread = sch.beta[t]
    if var == "beta_tilde":
        spread = spread * (1 - sch.alpha_bar[t - 1]) / (1 - sch.alpha_bar[t])
    spread = torch.where(t > 1, torch.sqrt(spread), torch.zeros_like(spread))
    return ddpm_mean(xt, t, eps_pred, sch) + spread.reshape(-1, *[1] * (z.dim() - 1)) * z
    # END SOLUTION


# %%
check(ddpm_step)

# %% [markdown]
# Let *your* step walk from noise to a swiss roll, beside the reference; the noise predicted is that of a trained
# network. The explorer jumps from a level t to a level s that may be far below. Between the levels 0, s and t lies a
# chain of two steps with tables of its own: that is what the lines in between make.

# %%
from diffusion_edu import ReverseExplorer, respace


def step(x_t, t, s, eps, z, eta, schedule):
    """Your step, from level t to level s."""
    chain = respace(schedule, sorted({t, s, 0}, reverse=True))
    return ddpm_step(x_t, torch.full((len(x_t),), chain.T), eps, z, chain)


ReverseExplorer("swiss_roll", sampler="ddpm", steps=50, step=step)

# %% [markdown]
# ## 3. The whole walk
#
# Start at `xT`, pure noise, and make the T steps from t = T down to t = 1, with $\sigma_t^2 = \beta_t$. At each, ask
# the network: `eps_model(x, t)` takes a tensor of B integers, here all the same, and returns the noise it sees in x.
# Step t uses the noise `zs[t]`; `zs` has the shape `(T + 1, B, ...)`. Return $x_0$. Nothing is trained here, so keep
# torch from recording the computation.


# %%
def ddpm_sample(eps_model, xT, sch, zs):
    """x_0 (B, ...) from xT (B, ...), with the noise zs (T+1, B, ...)."""
    # BEGIN SOLUTION
    now = xT
    with torch.no_grad():
        for level in range(sch.T, 0, -1):
            times = torch.full((now.shape[0],), level)
            now = ddpm_step(now, times, eps_model(now, times), zs[level], sch)
    return now
    # END SOLUTION


# %%
check(ddpm_sample)

# %% [markdown]
# ## 4. Clipping
#
# Pixels lie in [-1, 1]. Early on, the predicted $x_0$ may lie far outside, and most samplers of images cut it, though
# Algorithm 2 does not say so. Take the predicted $x_0$ (DDPM eq. 15), clip **it**, and put the result into the
# mean of the posterior (eq. 7):
#
# $$\hat x_0 = \mathrm{clip}\left(\frac{x_t - \sqrt{1-\bar\alpha_t}\;\varepsilon_\theta}{\sqrt{\bar\alpha_t}},\
# -c,\ c\right), \qquad
# \mu = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,\hat x_0
# + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t.$$
#
# `limit` is c, a float. Without clipping this is the mean from above.


# %%
def ddpm_mean_clipped(xt, t, eps_pred, sch, limit):
    """Mean of x_{t-1}, (B, ...), with the predicted x0 clipped to [-limit, limit]."""

    # BEGIN SOLUTION
    def entry(table, index):
        return table[index].reshape(-1, *[1] * (xt.dim() - 1))

    now, earlier = entry(sch.alpha_bar, t), entry(sch.alpha_bar, t - 1)
    guess = (xt - torch.sqrt(1 - now) * eps_pred) / torch.sqrt(now)
    guess = torch.clamp(guess, -limit, limit)
    weight_guess = torch.sqrt(earlier) * entry(sch.beta, t) / (1 - now)
    weight_noisy = torch.sqrt(entry(sch.alpha, t)) * (1 - earlier) / (1 - now)
    return weight_guess * guess + weight_noisy * xt
    # END SOLUTION


# %%
check(ddpm_mean_clipped)

# %% [markdown]
# ## 5. Find the bug: the last steps
#
# A sampler that begins at any level: `x` is $x_t$ at t = `start`, an int, and the walk goes down to $x_0$, with
# $\sigma_t^2 = \beta_t$ and the noise `zs[t]`. A small published implementation made the same mistake as this code.
# Pictures that are made this way stay a little grainy. Mend it.


# %%
def last_steps(eps_model, x, start, sch, zs):
    """x_0 (B, ...) from x (B, ...), which is x_t at t = start; zs (T+1, B, ...)."""
    # BEGIN SOLUTION
    with torch.no_grad():
        for k in range(start, 0, -1):
            seen = eps_model(x, torch.full((len(x),), k))
            rate = sch.beta[k] / torch.sqrt(1 - sch.alpha_bar[k])
            x = (x - rate * seen) / torch.sqrt(sch.alpha[k])
            if k > 1:
                x = x + torch.sqrt(sch.beta[k]) * zs[k]
    return x
    # STUDENT: with torch.no_grad():
    # STUDENT:     for step in range(start, 0, -1):
    # STUDENT:         eps = eps_model(x, torch.full((len(x),), step))
    # STUDENT:         scale = sch.beta[step] / (1 - sch.alpha_bar[step]).sqrt()
    # STUDENT:         mean = (x - scale * eps) / sch.alpha[step].sqrt()
    # STUDENT:         x = mean + sch.beta[step].sqrt() * zs[step]
    # STUDENT: return x
    # END SOLUTION


# %%
check(last_steps)

# %% [markdown]
# ## 6. Find the bug: all the way down
#
# The same walk from `xT`, with $\sigma_t^2 = \tilde\beta_t$. As $\tilde\beta_1 = 0$, the last step needs no `if` here.
# A small published implementation made the same mistake as this code. It is hard to see: with many small steps the
# result is nearly right. Mend it.


# %%
def walk_down(eps_model, xT, sch, zs):
    """x_0 (B, ...) from xT (B, ...), with the noise zs (T+1, B, ...)."""
    # BEGIN SOLUTION
    now, bars = xT, sch.alpha_bar
    with torch.no_grad():
        for k in range(sch.T, 0, -1):
            seen = eps_model(now, torch.full((len(now),), k))
            now = (now - sch.beta[k] / torch.sqrt(1 - bars[k]) * seen) / torch.sqrt(sch.alpha[k])
            now = now + torch.sqrt(sch.beta[k] * (1 - bars[k - 1]) / (1 - bars[k])) * zs[k]
    return now
    # STUDENT: x, bar = xT, sch.alpha_bar
    # STUDENT: with torch.no_grad():
    # STUDENT:     for t in range(sch.T, 1, -1):
    # STUDENT:         eps = eps_model(x, torch.full((len(x),), t))
    # STUDENT:         mean = (x - sch.beta[t] / (1 - bar[t]).sqrt() * eps) / sch.alpha[t].sqrt()
    # STUDENT:         variance = sch.beta[t] * (1 - bar[t - 1]) / (1 - bar[t])
    # STUDENT:         x = mean + variance.sqrt() * zs[t]
    # STUDENT: return x
    # END SOLUTION


# %%
check(walk_down)

# %% [markdown]
# ## All together
#
# When every line says ok, go on with [lecture 07, *Fewer steps: DDIM*](../07_ddim.ipynb).

# %%
check("E6")
