# %% [markdown]
# # E7 · Fewer steps, less noise
#
# DDPM walks through all T levels, and every step adds noise. DDIM takes the same trained network and leaves most levels
# out; and it lets you choose how much noise a step adds, down to none. Here you write its levels, its step and its
# sampler.
#
# **Belongs to** [lecture 07](../07_ddim.ipynb). **Takes** about 60 minutes.
#
# The batch comes first: points `(B, 2)` or images `(B, C, H, W)`. A step goes from level t to any level s below it; `t`
# and `s` are tensors of B integers. `sch` has the tables `beta`, `alpha`, `alpha_bar`, indexed by t itself with
# `alpha_bar[0] = 1`, and `T`. Noise is always passed in; draw none yourself. The DDIM paper (2010.02502) writes
# $\alpha_t$ for what is $\bar\alpha_t$ here and in the DDPM paper.
#
# Fill in a function, run its cell, then the check below it, and read what that says. A function leaves the tensors
# that it is given as they are.

# %%
import torch

from diffusion_edu import check

# %% [markdown]
# ## 1. Which levels?
#
# S steps have S + 1 levels between and around them. Return them as a tensor of integers, T first, 0 last. Number them
# upwards first, i = 0, ..., S. Then level i is (DDIM, appendix D.2)
#
# - $\lfloor T\,i/S \rfloor$ for `kind="uniform"`,
# - $\lfloor T\,(i/S)^2 \rfloor$ for `kind="quadratic"`.
#
# Near 0 quadratic levels collide. Go through them upwards: one that is not larger than the level before it becomes that
# level plus 1. No level may be there twice, and S need not divide T. `S` is at most `T`.


# %%
def timesteps(T, S, kind="uniform"):
    """Levels of S steps, (S+1,) int64, falling strictly from T to 0."""
    # BEGIN SOLUTION
    power = 1 if kind == "uniform" else 2
    rising = [T * i**power // S**power for i in range(S + 1)]
    for i in range(1, S):
        rising[i] = max(rising[i], rising[i - 1] + 1)
    return torch.tensor(rising[::-1])
    # END SOLUTION


# %%
check(timesteps)

# %% [markdown]
# ## 2. The noise scale
#
# DDIM eq. 16, for a step from t to any s < t:
#
# $$\sigma = \eta\,\sqrt{\frac{1-\bar\alpha_s}{1-\bar\alpha_t}}\,\sqrt{1 - \frac{\bar\alpha_t}{\bar\alpha_s}}.$$
#
# `eta` is a float: 0 adds no noise at all, 1 as much as DDPM. Return one number for every entry of `t` and `s`.


# %%
def ddim_sigma(t, s, eta, sch):
    """Standard deviation of the fresh noise, (B,), for t and s (B,)."""
    # BEGIN SOLUTION
    noisy, cleaner = sch.alpha_bar[t], sch.alpha_bar[s]
    known = torch.sqrt((1 - cleaner) / (1 - noisy))
    return eta * known * torch.sqrt(1 - noisy / cleaner)
    # END SOLUTION


# %%
check(ddim_sigma)

# %% [markdown]
# ## 3. The step
#
# DDIM eq. 12: predict the data, then go to level s with as much of the predicted noise as the fresh noise leaves room
# for.
#
# $$x_s = \sqrt{\bar\alpha_s}\,\hat x_0 + \sqrt{1-\bar\alpha_s-\sigma^2}\;\hat\varepsilon + \sigma z, \qquad
# \hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\hat\varepsilon}{\sqrt{\bar\alpha_t}}.$$
#
# `eps_pred` is $\hat\varepsilon$ and `z` is standard normal noise, both `(B, ...)`. You may call your `ddim_sigma`.


# %%
def ddim_step(xt, t, s, eps_pred, z, eta, sch):
    """x_s, (B, ...), from xt, eps_pred and z (B, ...); t and s (B,), eta a float."""
    # BEGIN SOLUTION
    spread = (-1, *[1] * (xt.dim() - 1))
    noisy, cleaner = sch.alpha_bar[t].reshape(spread), sch.alpha_bar[s].reshape(spread)
    fresh = ddim_sigma(t, s, eta, sch).reshape(spread)
    clean = (xt - torch.sqrt(1 - noisy) * eps_pred) / torch.sqrt(noisy)
    old = torch.sqrt(1 - cleaner - fresh**2)
    return torch.sqrt(cleaner) * clean + old * eps_pred + fresh * z
    # END SOLUTION


# %%
check(ddim_step)

# %% [markdown]
# Change eta and the number of steps. *Your* steps start from the same noise as the reference:

# %%
from diffusion_edu import EtaStepsLab

EtaStepsLab(step=ddim_step)

# %% [markdown]
# ## 4. The sampler
#
# Start from `xT` at level `ts[0]` and step down to `ts[1]`, `ts[2]`, ... until `ts[-1]`, which need not be 0. Before
# each step ask the network for the noise in what you have: `eps_model(x, t)`, with `t` a tensor of B integers. The step
# that leaves level t uses the noise `zs[t]`; `zs` is `(T + 1, B, ...)`.
#
# Nothing is trained here: work under `torch.no_grad()`, so that no graph of all steps is kept.


# %%
def ddim_sample(eps_model, xT, ts, eta, sch, zs):
    """x at level ts[-1], (B, ...), from xT (B, ...) at level ts[0]; ts are falling integers."""
    # BEGIN SOLUTION
    here = xT
    with torch.no_grad():
        for level, target in zip(ts.tolist()[:-1], ts.tolist()[1:], strict=True):
            levels = torch.full((here.shape[0],), level)
            targets = torch.full((here.shape[0],), target)
            predicted = eps_model(here, levels)
            here = ddim_step(here, levels, targets, predicted, zs[level], eta, sch)
    return here
    # END SOLUTION


# %%
check(ddim_sample)

# %% [markdown]
# ## 5. Find the bug: the pairs
#
# This function lists the steps of the uniform grid as pairs (t, s): `S` rows, the first starts at T, the last ends at
# 0, and the levels are those of `timesteps(T, S)`. A small published implementation made the same mistake: it asks for
# 30 steps of 1000, makes 31, and never looks at the noisiest level. Find the lines and mend them.


# %%
def level_pairs(T, S):
    """The S steps (t, s) of the uniform grid, (S, 2) int64, from T down to 0."""
    # BEGIN SOLUTION
    return torch.tensor([[T * i // S, T * (i - 1) // S] for i in range(S, 0, -1)])
    # STUDENT: stride = T // S
    # STUDENT: starts = [level + 1 for level in range(0, T, stride)]
    # STUDENT: ends = [0] + starts[:-1]
    # STUDENT: return torch.tensor(list(zip(reversed(starts), reversed(ends))))
    # END SOLUTION


# %%
check(level_pairs)

# %% [markdown]
# ## 6. Find the bug: the tables
#
# Samplers look up $\bar\alpha$ of all steps beforehand: of the levels that are left, and of the levels that are gone
# to. `ts` ends at 0. A small published implementation made the same mistake: its samples look finished but keep a trace
# of noise. Find the line and mend it.


# %%
def level_tables(ts, sch):
    """alpha_bar at t and at s of all S steps, (S,) each; ts (S+1,) falls to 0."""
    # BEGIN SOLUTION
    left = sch.alpha_bar[ts[:-1]]
    reached = sch.alpha_bar[ts[1:]]
    return left, reached
    # STUDENT: bar_t = sch.alpha_bar[ts[:-1]]
    # STUDENT: bar_s = torch.cat([bar_t[1:], sch.alpha_bar[1:2]])
    # STUDENT: return bar_t, bar_s
    # END SOLUTION


# %%
check(level_tables)

# %% [markdown]
# ## All together
#
# When every line says ok, go on with [lecture 08, *There and back again*](../08_inversion_and_interpolation.ipynb).

# %%
check("E7")
