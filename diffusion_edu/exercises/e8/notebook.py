# %% [markdown]
# # E8 · There and back again
#
# With eta = 0 the sampler of DDIM is deterministic: every noise leads to one picture. So it can be walked backwards,
# from a picture to its noise; and between the noises of two pictures there lie others, which lead to pictures too. Here
# you write the way up, and the path in between.
#
# **Belongs to** [lecture 08](../08_inversion_and_interpolation.ipynb). **Takes** about 60 minutes.
#
# The batch comes first: points `(B, 2)` or images `(B, C, H, W)`. `sch` has the tables `beta`, `alpha`, `alpha_bar`,
# indexed by t itself with `alpha_bar[0] = 1`, and `T`. Levels `ts` are those of a sampler: integers that fall to 0. The
# network is called as `eps_model(x, t)` with `t` a tensor of B integers. Nothing is trained here: whatever calls the
# network works under `torch.no_grad()`. The DDIM paper (2010.02502) writes $\alpha_t$ for what is $\bar\alpha_t$ here.
#
# Fill in a function, run its cell, then the check below it, and read what that says. A function leaves the tensors
# that it is given as they are.

# %%
import torch

from diffusion_edu import check

# %% [markdown]
# ## 1. One step up
#
# From level s to a higher level t: the step of DDIM with eta = 0, only that it goes up (DDIM sec. 4.3, eq. 13):
#
# $$x_t = \sqrt{\bar\alpha_t}\,\hat x_0 + \sqrt{1-\bar\alpha_t}\;\hat\varepsilon, \qquad
# \hat x_0 = \frac{x_s - \sqrt{1-\bar\alpha_s}\,\hat\varepsilon}{\sqrt{\bar\alpha_s}}.$$
#
# `eps_pred` is the noise $\hat\varepsilon$ that the network sees in `xs`, `(B, ...)`. `s` and `t` are tensors of B
# integers, 0 <= s < t.


# %%
def ddim_invert_step(xs, s, t, eps_pred, sch):
    """x_t, (B, ...), from xs and eps_pred (B, ...); s and t (B,)."""
    # BEGIN SOLUTION
    spread = (-1, *[1] * (xs.dim() - 1))
    lower, upper = sch.alpha_bar[s].reshape(spread), sch.alpha_bar[t].reshape(spread)
    clean = (xs - torch.sqrt(1 - lower) * eps_pred) / torch.sqrt(lower)
    return torch.sqrt(upper) * clean + torch.sqrt(1 - upper) * eps_pred
    # END SOLUTION


# %%
check(ddim_invert_step)

# %% [markdown]
# ## 2. From data to their noise
#
# Walk all levels of `ts` from its end, 0, up to its start. The noise is read at the level that is left. At level 0 the
# network knows nothing, so tell it 1 there. Return the latent, which is $x$ at level `ts[0]`.


# %%
def ddim_invert(eps_model, x0, ts, sch):
    """x at level ts[0], (B, ...), from x0 (B, ...); ts are integers that fall to 0."""
    # BEGIN SOLUTION
    climbing, upwards = x0, ts.tolist()[::-1]
    with torch.no_grad():
        for k in range(1, len(upwards)):
            lower, upper = upwards[k - 1 : k + 1]
            many = torch.ones(len(x0), dtype=torch.long)
            seen = eps_model(climbing, many * max(lower, 1))
            climbing = ddim_invert_step(climbing, many * lower, many * upper, seen, sch)
    return climbing
    # END SOLUTION


# %%
check(ddim_invert)

# %% [markdown]
# ## 3. Mixing latents
#
# Noise in many dimensions has nearly always the same length. The straight line between two noises leaves it; the arc
# does not (DDIM eq. 67). With $\theta$ the angle between $a$ and $b$,
#
# $$\mathrm{slerp}(a, b, \lambda) = \frac{\sin((1-\lambda)\theta)}{\sin\theta}\,a
# + \frac{\sin(\lambda\theta)}{\sin\theta}\,b, \qquad \cos\theta = \frac{\langle a, b\rangle}{\|a\|\,\|b\|}.$$
#
# Every example has an angle of its own: flatten everything but the batch to find it. Where a and b are parallel,
# $\theta = 0$ and the formula is 0/0; take its limit there, the straight line $(1-\lambda)\,a + \lambda\,b$.


# %%
def slerp(a, b, lam):
    """The mix, (B, ...), of a and b (B, ...); lam is a float, 0 gives a and 1 gives b."""
    # BEGIN SOLUTION
    flat_a, flat_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    product = torch.sum(flat_a * flat_b, dim=1)
    lengths = torch.linalg.norm(flat_a, dim=1) * torch.linalg.norm(flat_b, dim=1)
    theta = torch.acos(torch.clamp(product / lengths, -1, 1))
    theta = theta.reshape(-1, *[1] * (a.dim() - 1))
    parallel = torch.sin(theta) < 1e-4
    divisor = torch.where(parallel, torch.ones_like(theta), torch.sin(theta))
    arc = (torch.sin((1 - lam) * theta) * a + torch.sin(lam * theta) * b) / divisor
    return torch.where(parallel, (1 - lam) * a + lam * b, arc)
    # END SOLUTION


# %%
check(slerp)

# %% [markdown]
# Drag the two points and lambda. *Your* latents and *your* path are drawn beside the reference. The lines in between
# hand over tables of the numbers' type that your function expects.

# %%
from types import SimpleNamespace

from diffusion_edu import InvertAndMix


def invert(model, x0, taus, schedule):
    """ddim_invert as the explorer calls it."""
    tables = {name: getattr(schedule, name).float() for name in ("beta", "alpha", "alpha_bar")}
    return ddim_invert(model, x0, taus, SimpleNamespace(T=schedule.T, **tables))


InvertAndMix(slerp=slerp, invert=invert)

# %% [markdown]
# ## 4. A path through the data
#
# Now put it together (DDIM sec. 5.3): find the latents of `xa` and `xb`, mix them by `slerp` for every $\lambda$ in
# `lams`, a tuple of L floats, and walk each mix down `ts` again. The way down is the sampler with eta = 0; a step is
# the formula of part 1 with the levels exchanged: from the level you are at to the next one below, with the noise that
# the network sees where you are. Return one batch for every $\lambda$.


# %%
def interpolate(eps_model, xa, xb, lams, ts, sch):
    """Data between xa and xb, (L, B, ...), for data xa and xb (B, ...)."""
    # BEGIN SOLUTION
    ends = [ddim_invert(eps_model, data, ts, sch) for data in (xa, xb)]
    results = []
    for lam in lams:
        falling = slerp(*ends, lam)
        with torch.no_grad():
            for here, there in zip(ts.tolist()[:-1], ts.tolist()[1:], strict=True):
                ones = torch.ones(len(xa), dtype=torch.long)
                seen = eps_model(falling, ones * here)
                falling = ddim_invert_step(falling, ones * here, ones * there, seen, sch)
        results.append(falling)
    return torch.stack(results)
    # END SOLUTION


# %%
check(interpolate)

# %% [markdown]
# ## 5. Find the bug
#
# There is an older way to mix (DDPM, 2006.11239, sec. 4.4): noise both pictures to a level t, mix them on the straight
# line, and let the network take the noise out. Here both get the same noise `eps`, and the way down is deterministic,
# one level at a time from `t`, an integer, to 0. A small published implementation made the same mistake as this
# function: its pictures are grainy. Find the line and mend it.


# %%
def mix_noised(eps_model, xa, xb, lam, t, eps, sch):
    """The denoised mix, (B, ...), of data xa and xb with noise eps (B, ...); t is an int."""
    # BEGIN SOLUTION
    bar = sch.alpha_bar
    noised = [torch.sqrt(bar[t]) * data + torch.sqrt(1 - bar[t]) * eps for data in (xa, xb)]
    x = (1 - lam) * noised[0] + lam * noised[1]
    with torch.no_grad():
        for level in range(t, 0, -1):
            seen = eps_model(x, torch.full((len(x),), level))
            x0 = (x - torch.sqrt(1 - bar[level]) * seen) / torch.sqrt(bar[level])
            x = torch.sqrt(bar[level - 1]) * x0 + torch.sqrt(1 - bar[level - 1]) * seen
    return x
    # STUDENT: bar = sch.alpha_bar
    # STUDENT: noised = [torch.sqrt(bar[t]) * data + torch.sqrt(1 - bar[t]) * eps for data in (xa, xb)]
    # STUDENT: x = (1 - lam) * noised[0] + lam * noised[1]
    # STUDENT: with torch.no_grad():
    # STUDENT:     for level in reversed(range(1, t)):
    # STUDENT:         seen = eps_model(x, torch.full((len(x),), level))
    # STUDENT:         x0 = (x - torch.sqrt(1 - bar[level]) * seen) / torch.sqrt(bar[level])
    # STUDENT:         x = torch.sqrt(bar[level - 1]) * x0 + torch.sqrt(1 - bar[level - 1]) * seen
    # STUDENT: return x
    # END SOLUTION


# %%
check(mix_noised)

# %% [markdown]
# ## All together
#
# When every line says ok, go on with [lecture 09, *Scores, and time without steps*](../09_scores.ipynb).

# %%
check("E8")
