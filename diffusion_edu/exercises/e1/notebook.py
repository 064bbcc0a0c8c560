# %% [markdown]
# # E1 · One step of noise at a time
#
# Diffusion destroys data slowly: every step shrinks them a little and adds a little noise. Here you write that step,
# walk the whole chain, and see why the variance does not run away.
#
# **Belongs to** [lecture 01](../01_forward_process.ipynb). **Takes** about 40 minutes.
#
# Every function is called with plain tensors and numbers. Tables such as `beta` have `T + 1` entries and are indexed by
# t itself: `beta[0] = 0` belongs to clean data, `beta[1]` to the first step. Noise is always passed in; draw none
# yourself.
#
# Fill in a function, run its cell, then the check below it, and read what that says. A function leaves the tensors
# that it is given as they are.

# %%
import torch

from diffusion_edu import check

# %% [markdown]
# ## 1. A beta for every step
#
# DDPM (2006.11239, section 4) lets the noise grow evenly from the first step to the last:
#
# $$\beta_t = \beta_1 + \frac{t-1}{T-1}\,(\beta_T - \beta_1), \qquad t = 1, \ldots, T, \qquad \beta_0 = 0.$$
#
# Write `make_linear_beta(T, beta_1, beta_T)`: `T` is an int of at least 2, the other two are floats, and the result is
# a tensor of `T + 1` numbers.


# %%
def make_linear_beta(T, beta_1, beta_T):
    """beta (T+1,): 0, then T numbers from beta_1 to beta_T at equal distances."""
    # BEGIN SOLUTION
    steps = torch.linspace(beta_1, beta_T, T)
    return torch.nn.functional.pad(steps, (1, 0))
    # END SOLUTION


# %%
check(make_linear_beta)

# %% [markdown]
# ## 2. One step
#
# DDPM eq. 2 says where a step leads: $q(x_t \mid x_{t-1}) = N(\sqrt{1-\beta_t}\,x_{t-1},\ \beta_t I)$. With standard
# normal noise $\varepsilon$ a sample of it is
#
# $$x_t = \sqrt{1-\beta_t}\; x_{t-1} + \sqrt{\beta_t}\;\varepsilon.$$
#
# Here `x` is $x_{t-1}$ and `eps` the noise, both of shape `(B, ...)`: points `(B, 2)` or images `(B, C, H, W)`. `t` is
# one int, the same for the whole batch.


# %%
def forward_step(x, t, beta, eps):
    """x_t (B, ...) from x = x_{t-1} and eps (B, ...); t is an int, 1..T."""
    # BEGIN SOLUTION
    variance = beta[t]
    return torch.sqrt(1 - variance) * x + torch.sqrt(variance) * eps
    # END SOLUTION


# %%
check(forward_step)

# %% [markdown]
# ## 3. The chain
#
# Now walk all the way: $x_0 \to x_1 \to \ldots \to x_T$. The noise of step t is `eps[t]`, so `eps` has the shape
# `(T + 1, B, ...)`, and `eps[0]` is not used. Return all states in one tensor, `(T + 1, B, ...)`: entry t is $x_t$,
# entry 0 is `x0` itself. You may call your `forward_step`.


# %%
def forward_chain(x0, beta, eps):
    """x_0, ..., x_T, (T+1, B, ...), from x0 (B, ...), beta (T+1,) and eps (T+1, B, ...)."""
    # BEGIN SOLUTION
    states = [x0]
    for level in range(1, beta.shape[0]):
        states.append(forward_step(states[-1], level, beta, eps[level]))
    return torch.stack(states, dim=0)
    # END SOLUTION


# %%
check(forward_chain)

# %% [markdown]
# ## 4. Why the variance stays 1
#
# Data and noise are independent, and $\mathrm{Var}(a x + b \varepsilon) = a^2\,\mathrm{Var}(x) + b^2$. For one step of
# the chain this is
#
# $$\mathrm{Var}(x_t) = (1-\beta_t)\,\mathrm{Var}(x_{t-1}) + \beta_t.$$
#
# So a variance of 1 stays 1, and any other comes closer to 1. Write `chain_variance(beta, var0)`: the variance at every
# t if that of the data is the float `var0`. Entry 0 is `var0`.


# %%
def chain_variance(beta, var0):
    """Var(x_t) at t = 0..T, (T+1,), if Var(x_0) = var0."""
    # BEGIN SOLUTION
    values = [var0]
    for b in beta[1:].tolist():
        values.append((1 - b) * values[-1] + b)
    return torch.tensor(values)
    # END SOLUTION


# %%
check(chain_variance)

# %% [markdown]
# What if a step only added noise, without shrinking first? Drag t here, then switch the factor on again:

# %%
from diffusion_edu import ForwardExplorer

ForwardExplorer(shrink=False)

# %% [markdown]
# ## 5. Find the bug
#
# This function makes a strip of pictures: the data at t = 0, `every`, 2 `every`, ... up to T. A small published
# implementation made the same mistake. Hardly any noise comes in, and the picture fades away instead of dissolving.
# Find the line and mend it.


# %%
def noisy_chain(x0, beta, eps, every):
    """x_t at t = 0, every, 2 every, ..., (K, B, ...); arguments as in forward_chain."""
    # BEGIN SOLUTION
    frames = [x0]
    for n in range(1, len(beta)):
        x0 = torch.sqrt(1 - beta[n]) * x0 + torch.sqrt(beta[n]) * eps[n]
        if n % every == 0:
            frames.append(x0)
    return torch.stack(frames)
    # STUDENT: frames = [x0]
    # STUDENT: for n in range(1, len(beta)):
    # STUDENT:     x0 = (1 - beta[n]) * x0 + beta[n] * eps[n]
    # STUDENT:     if n % every == 0:
    # STUDENT:         frames.append(x0)
    # STUDENT: return torch.stack(frames)
    # END SOLUTION


# %%
check(noisy_chain)

# %% [markdown]
# The strip itself, before and after: one digit with $\beta = 0.2$ in each of ten steps. Run the cell again when you
# have mended the function.

# %%
import matplotlib.pyplot as plt

from diffusion_edu import images

digit = images.to_float(images.load("digits").images[:1])
betas = torch.tensor([0.0] + [0.2] * 10)
noise = torch.randn(11, *digit.shape, generator=torch.Generator().manual_seed(0))
strip = noisy_chain(digit, betas, noise, 2)[:, 0, 0]
plt.figure(figsize=(9, 2))
plt.imshow(torch.cat(list(strip), dim=1), cmap="gray", vmin=-1, vmax=1)
plt.axis("off")
plt.show()

# %% [markdown]
# ## All together
#
# When every line says ok, go on with [lecture 02, *Jump to any t*](../02_jump_to_any_t.ipynb).

# %%
check("E1")
