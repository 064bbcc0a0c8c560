# %% [markdown]
# # E5 · Learn to see the noise
#
# Training a diffusion model is short: make data noisy, let a network say which noise it was, and compare. Here you
# write all of it: what the network is told of the time, what goes in and what comes out, the loss, the step, and the
# average of the weights.
#
# **Belongs to** [lecture 05](../05_training.ipynb). **Takes** about 75 minutes.
#
# `x0` and `eps` have the shape `(B, ...)`: points `(B, 2)` or images `(B, C, H, W)`. `t` is a tensor of B integers from
# 1 to T, one for every example. `sch` has the tables `beta`, `alpha`, `alpha_bar`, indexed by t itself, and `T`. A
# network is called as `eps_model(xt, t)`: it takes the batch and its B integers, and returns its guess of the noise, in
# the shape of `xt`.
#
# Fill in a function, run its cell, then the check below it, and read what that says. A function leaves the tensors
# that it is given as they are.

# %%
import math

import torch

from diffusion_edu import check

# %% [markdown]
# ## 1. What time it is
#
# A network cannot do much with one integer. It is given sines and cosines of t instead, of many frequencies
# ("Attention is all you need", 1706.03762, section 3.5; DDPM, 2006.11239, appendix B). With $h = \mathrm{dim} / 2$
#
# $$\omega_k = \exp\left(-\ln(10000)\,\frac{k}{h-1}\right), \qquad k = 0, \ldots, h-1.$$
#
# Row i of the result is $\sin(\omega_0 t_i), \ldots, \sin(\omega_{h-1} t_i)$, then
# $\cos(\omega_0 t_i), \ldots, \cos(\omega_{h-1} t_i)$: **all sines first**. Other code puts cosines first, or divides
# by h; weights that were trained one way are useless the other way. The networks of this library, and DDPM's own code,
# do it as written here. `dim` is even and at least 4; the result has the shape `(B, dim)`.


# %%
def time_embedding(t, dim):
    """Sines, then cosines of t (B,) times dim/2 frequencies, (B, dim)."""
    # BEGIN SOLUTION
    half = dim // 2
    k = torch.arange(half, dtype=torch.float32)
    omega = torch.exp(-math.log(10_000) * k / (half - 1))
    phase = t.float().unsqueeze(1) * omega
    return torch.cat([torch.sin(phase), torch.cos(phase)], dim=1)
    # END SOLUTION


# %%
check(time_embedding)

# %% [markdown]
# ## 2. Find the bug: a t for every example
#
# DDPM's Algorithm 1 draws t uniformly from 1, ..., T. To be checked, this function draws nothing itself: `u` holds B
# numbers that are uniform on [0, 1), and becomes B integers (`int64`), each of 1, ..., T equally likely, in the order
# of u: what lies in [0, 1/T) becomes 1, in [1/T, 2/T) 2, and so on. A small published implementation made the same
# mistake: one level of noise is never trained on. Which? Mend it.


# %%
def draw_t(u, T):
    """t (B,) int64, uniform on 1..T, from u (B,), uniform on [0, 1)."""
    # BEGIN SOLUTION
    return torch.floor(u * T).long() + 1
    # STUDENT: levels = u * (T - 1)
    # STUDENT: return torch.floor(levels).long() + 1
    # END SOLUTION


# %%
check(draw_t)

# %% [markdown]
# ## 3. Find the bug: what goes in, and what should come out
#
# A training pair is a noisy $x_t$, which the network sees, and what it should say about it. The jump is DDPM eq. 4:
#
# $$x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\,\varepsilon.$$
#
# The function gets two independent draws of noise, `eps` and `other`. The noise in `xt` is to be `eps`. A small
# published implementation made the same mistake as this code. The loss then goes down to 1, and never further. Find the
# line and mend it.


# %%
def train_pair(x0, t, eps, other, sch):
    """x_t and the target for the network, both (B, ...)."""
    # BEGIN SOLUTION
    kept = sch.alpha_bar[t].reshape(-1, *[1] * (x0.dim() - 1))
    return torch.sqrt(kept) * x0 + torch.sqrt(1 - kept) * eps, eps
    # STUDENT: level = sch.alpha_bar[t].view(-1, *[1] * (x0.ndim - 1))
    # STUDENT: xt = level.sqrt() * x0 + (1 - level).sqrt() * eps
    # STUDENT: target = other
    # STUDENT: return xt, target
    # END SOLUTION


# %%
check(train_pair)

# %% [markdown]
# ## 4. The loss
#
# DDPM eq. 14, $L_\mathrm{simple}$:
#
# $$L = \mathbb{E}\,\big\|\,\varepsilon
# - \varepsilon_\theta(\sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon,\ t)\,\big\|^2.$$
#
# Take the **mean** of the squares over batch *and* dimensions, as DDPM's code does, so that the loss does not depend on
# the size of the images. The result is a tensor with one number, through which gradients can flow. `x0` comes in the
# range that is to be learned: change nothing about it.


# %%
def ddpm_loss(eps_model, x0, t, eps, sch):
    """Mean squared error of the predicted noise, a tensor of shape ()."""
    # BEGIN SOLUTION
    kept = sch.alpha_bar[t].reshape(-1, *[1] * (x0.dim() - 1))
    noisy = torch.sqrt(kept) * x0 + torch.sqrt(1 - kept) * eps
    return torch.mean((eps_model(noisy, t) - eps) ** 2)
    # END SOLUTION


# %%
check(ddpm_loss)

# %% [markdown]
# ## 5. One training step
#
# DDPM, Algorithm 1. Draw t and the noise, take the loss, and let the optimiser make one step down its gradient. `model`
# is the network, `opt` an optimiser of torch that holds its weights (`zero_grad`, `step`). So that the numbers can be
# compared, all draws use `generator`, in this order:
#
# 1. t: **one** call of `torch.randint(..., generator=generator)` for B integers, uniform on 1, ..., T;
# 2. the noise: one call of `torch.randn(..., generator=generator)`, in the shape of `x0`.
#
# Gradients pile up in torch: each `backward` adds to what is there. Clear them once for every step. Return the loss, as
# it was before the step, as a plain float.


# %%
def train_step(model, opt, x0, sch, generator):
    """One step of training on the batch x0; returns the loss as a float."""
    # BEGIN SOLUTION
    levels = torch.randint(1, sch.T + 1, (x0.shape[0],), generator=generator)
    drawn = torch.randn(x0.shape, generator=generator)
    loss = ddpm_loss(model, x0, levels, drawn, sch)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss.item()
    # END SOLUTION


# %%
check(train_step)

# %% [markdown]
# ## 6. A pass over the data
#
# `batches` is a tuple of K batches `x0`. Make a training step with each, in order, all with the same `generator`, and
# return the K losses as a list of floats. This is also where it shows whether your step clears its gradients.


# %%
def train_epoch(model, opt, batches, sch, generator):
    """One training step for each batch; returns the list of losses."""
    # BEGIN SOLUTION
    losses = []
    for batch in batches:
        losses.append(train_step(model, opt, batch, sch, generator))
    return losses
    # END SOLUTION


# %%
check(train_epoch)

# %% [markdown]
# Watch a network learn with *your* loss, beside one that is trained on the same batches by the library. Press the
# button to train on. The lines in between put the library's tables into the form your function expects.

# %%
from diffusion_edu import TrainingTheatre
from diffusion_edu.exercises.world import make_sch


def loss(model, x0, t, eps, schedule):
    """Your loss, on the tables of a schedule of the library."""
    return ddpm_loss(model, x0, t, eps, make_sch(schedule.beta))


TrainingTheatre(loss=loss)

# %% [markdown]
# ## 7. An average of the weights
#
# The weights jump about from step to step. DDPM samples with their exponential moving average (appendix B, decay
# 0.9999): after every step, for every tensor of weights,
#
# $$\bar w \leftarrow d\,\bar w + (1 - d)\,w.$$
#
# Write it for one tensor: `average` and `new` have the same shape, `decay` is a float. Return a new tensor and leave
# the old average as it is.


# %%
def ema_update(average, new, decay):
    """The average after it has seen the weights `new`."""
    # BEGIN SOLUTION
    return decay * average + (1 - decay) * new
    # END SOLUTION


# %%
check(ema_update)

# %% [markdown]
# ## 8. Another target: v
#
# Salimans & Ho (2202.00512, section 4) let the network predict neither the noise nor the data, but
#
# $$v = \sqrt{\bar\alpha_t}\;\varepsilon - \sqrt{1-\bar\alpha_t}\; x_0.$$
#
# Think of $x_t$ as a point on a quarter circle from $x_0$ to $\varepsilon$: v is the direction in which it moves. It is
# useful at every t, also where $x_t$ is nothing but noise.


# %%
def v_target(x0, t, eps, sch):
    """v (B, ...) of x0 and eps (B, ...) at t (B,)."""
    # BEGIN SOLUTION
    kept = sch.alpha_bar[t].reshape(-1, *[1] * (x0.dim() - 1))
    return torch.sqrt(kept) * eps - torch.sqrt(1 - kept) * x0
    # END SOLUTION


# %%
check(v_target)

# %% [markdown]
# ## All together
#
# When every line says ok, go on with [lecture 06, *Walk back: DDPM*](../06_ddpm_sampling.ipynb).

# %%
check("E5")
