# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Walk back: DDPM
#
# The network of lecture 05 sees noise in a picture. A sampler starts from nothing but noise, takes
# away a little of what the network sees, adds a little new noise, and repeats. This lecture says
# how much of each.
#
# **You will be able to**
#
# - derive the mean of a step from Bayes' rule, and write DDPM's sampler;
# - say which variance a step should have, and what happens with another or none;
# - clip the predicted data without breaking the step;
# - say what is decided at which level, and show it by freezing the walk.

# %%
import torch

import diffusion_edu as de
from diffusion_edu.lectures import agree, card, show, table
from diffusion_edu.viz import plots

# %%
de.ReverseExplorer("swiss_roll", sampler="ddpm", steps=50, t=140)

# %% [markdown]
# The walk at level 140; a colour is the quarter that a point started in. Drag **t** from noise, 1000,
# to data, 0. Then set **steps** to 10, and compare the samplers: `ddpm` adds noise of the variance
# of the step forward, `ddpm_small` that of Bayes' posterior, `ddim` with eta 0 none at all. Turn
# **prediction** on: it shows what the network takes the data to be.

# %% [markdown]
# ## The mean of a step
#
# If $\mathbf{x}_0$ were known, Bayes' rule would give the step back:
# $q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)$ has mean $\tilde{\boldsymbol\mu}_t$ (lecture
# 03). It is not known, so put in what the network takes it to be, from the noise
# $\boldsymbol\epsilon_\theta$ that it sees in $\mathbf{x}_t$ (DDPM eq. 15):
#
# $$\hat{\mathbf{x}}_0=\frac{\mathbf{x}_t-\sqrt{1-\bar\alpha_t}\,
# \boldsymbol\epsilon_\theta}{\sqrt{\bar\alpha_t}},\qquad
# \boldsymbol\mu_\theta=\underbrace{\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}}_{c_t}
# \hat{\mathbf{x}}_0
# +\frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\mathbf{x}_t.$$
#
# Here $\beta_t$ is the variance of step $t$ forward, $\alpha_t=1-\beta_t$, and
# $\bar\alpha_t=\alpha_t\bar\alpha_{t-1}$.

# %% [markdown]
# Collect what stands before $\boldsymbol\epsilon_\theta$ and before $\mathbf{x}_t$:
#
# $$\begin{aligned}
# \boldsymbol\epsilon_\theta:\quad&-\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\cdot
# \frac{\sqrt{1-\bar\alpha_t}}{\sqrt{\bar\alpha_t}}
# =-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\cdot\frac{1}{\sqrt{\alpha_t}}
# &&\sqrt{\bar\alpha_t}=\sqrt{\alpha_t}\sqrt{\bar\alpha_{t-1}}\\
# \mathbf{x}_t:\quad&\frac{\beta_t}{(1-\bar\alpha_t)\sqrt{\alpha_t}}
# +\frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t} &&\text{same cancellation}\\
# &=\frac{\beta_t+\alpha_t-\bar\alpha_t}{(1-\bar\alpha_t)\sqrt{\alpha_t}}
# &&\text{common denominator}\\
# &=\frac{1}{\sqrt{\alpha_t}} &&\beta_t+\alpha_t=1
# \end{aligned}$$
#
# That is DDPM eq. 11:
#
# $$\boxed{\boldsymbol\mu_\theta(\mathbf{x}_t,t)=\frac{1}{\sqrt{\alpha_t}}\left(\mathbf{x}_t-
# \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\boldsymbol\epsilon_\theta(\mathbf{x}_t,t)\right)}$$


# %% [markdown]
# Read it: $\mathbf{x}_t$ holds the noise $\sqrt{1-\bar\alpha_t}\,\boldsymbol\epsilon$ of **all**
# $t$ steps. Taken away is the fraction $\beta_t/(1-\bar\alpha_t)$ of it: the share of **one** step
# in the variance. The rest is scaled up by what **one** step forward had shrunk,
# $\sqrt{\alpha_t}$. The bracket holds both terms.


# %%
def pick(table, t, x):
    """Entry t of a table, one for each example, shaped to multiply x."""
    return table[t].to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def ddpm_mean(xt, t, eps_pred, sch):
    """Mean of x_{t-1}: DDPM eq. 11."""
    taken = pick(sch.beta, t, xt) / (1 - pick(sch.alpha_bar, t, xt)).sqrt()
    return (xt - taken * eps_pred) / pick(sch.alpha, t, xt).sqrt()


# %%
schedule, generator = de.linear(), torch.Generator().manual_seed(0)
x_t, eps = torch.randn(2, 1000, 2, generator=generator, dtype=torch.float64)
t = torch.randint(1, 1001, (1000,), generator=generator)
x0 = de.predict("eps", eps, x_t, t, schedule).x0
mean = ddpm_mean(x_t, t, eps, schedule)
agree(mean, de.q_posterior(x_t, x0, t, schedule).mean, 1e-10, "eq. 11 against Bayes' rule")
zero = torch.zeros_like(x_t)
step = de.reverse_step(x0, eps, t, t - 1, schedule, eta=1.0, z=zero)
agree(mean, step, 1e-10, "eq. 11 against the library's step")

# %% [markdown]
# The library writes the step in another form, which also allows skipping levels (lecture 07): to
# where $\hat{\mathbf{x}}_0$ and the noise would be at the level aimed at.

# %%
show(de.reverse_step)

# %% [markdown]
# ## A t for every example
#
# A batch may hold different levels, so `t` is a tensor and every coefficient is looked up for each
# example, then shaped `(B, 1, …)` to multiply it. Two mistakes that no error message tells: `t[0]`
# for all, and a table of shape `(B,)` against `x` of shape `(B, D)` where $B=D$: it multiplies the
# coordinates instead.

# %%
each = [ddpm_mean(x_t[i : i + 1], t[i : i + 1], eps[i : i + 1], schedule) for i in range(1000)]
agree(mean, torch.cat(each), 1e-12, "batch against one by one")

# %% [markdown]
# ## How much noise to add
#
# The true step back, $q(\mathbf{x}_{t-1}\mid\mathbf{x}_t)$, is Bayes' posterior averaged over the
# $\mathbf{x}_0$ that $\mathbf{x}_t$ may come from. (If $\beta_t$ is small it is nearly a Gaussian:
# that is why a step may be one, and why there are many.) Its variance per coordinate has two parts:
#
# $$\begin{aligned}
# \mathrm{Var}[x_{t-1}\mid x_t]&=\mathbb{E}\left[\mathrm{Var}[x_{t-1}\mid x_t,x_0]\mid x_t\right]
# +\mathrm{Var}\left[\mathbb{E}[x_{t-1}\mid x_t,x_0]\mid x_t\right] &&\text{law of total variance}\\
# &=\tilde\beta_t+\mathrm{Var}[c_t\,x_0+\text{const}\mid x_t] &&\text{lecture 03}
# \end{aligned}$$
#
# $$\boxed{\mathrm{Var}[x_{t-1}\mid x_t]=\tilde\beta_t+c_t^2\,\mathrm{Var}[x_0\mid x_t]}$$
#
# with $\tilde\beta_t$, the variance of Bayes' posterior. If the data are one point, $x_0$ is known
# and $\tilde\beta_t$ is right.

# %% [markdown]
# If the data are standard normal, $x_0\mid x_t$ has precision $1+\bar\alpha_t/(1-\bar\alpha_t)$
# (prior plus likelihood), so variance $1-\bar\alpha_t$. Then
#
# $$\begin{aligned}
# \tilde\beta_t+c_t^2(1-\bar\alpha_t)
# &=\frac{(1-\bar\alpha_{t-1})\,\beta_t}{1-\bar\alpha_t}+\frac{\bar\alpha_{t-1}\,\beta_t^2}{1-
# \bar\alpha_t}
# &&\text{put in both}\\
# &=\frac{\beta_t}{1-\bar\alpha_t}\left[1-\bar\alpha_{t-1}(1-\beta_t)\right]
# &&\text{common factor}\\
# &=\beta_t &&\bar\alpha_{t-1}\,\alpha_t=\bar\alpha_t
# \end{aligned}$$
#
# Other data of variance 1 lie between: the best *linear* guess of $x_0$ is off by $1-\bar\alpha_t$
# (it only uses the variance), and the best guess cannot be worse. So with the exact mean the best
# variance $\sigma_t^2$ of a step, on average over $x_t$, obeys
#
# $$\boxed{\tilde\beta_t\ \le\ \sigma_t^2\ \le\ \beta_t}$$
#
# DDPM (section 3.2) found both ends to work alike for 1,000 steps. Mind that $\mathbf{z}$, the
# fresh noise of a step, is multiplied by $\sigma_t$, the root.

# %%
one = torch.randn(200_000, 1, generator=generator, dtype=torch.float64)
chain = de.linear(10)
before = de.q_sample(one, 4, torch.randn(one.shape, generator=generator, dtype=one.dtype), chain)
after = de.q_step(before, 5, chain).sample(generator=generator)
slope = (before * after).mean() / (after**2).mean()
rest = (before - slope * after).var()
error = rest * (2 / 200_000) ** 0.5
agree(rest, chain.beta[5], tol=4 * error, what="Var[x_4 | x_5] against beta_5")
c = (chain.alpha_bar.roll(1).sqrt() * chain.beta / (1 - chain.alpha_bar))[1:]
total = chain.beta_tilde[1:] + c**2 * (1 - chain.alpha_bar[1:])
agree(total, chain.beta[1:], 1e-12, "beta_tilde + c^2 (1 - alpha_bar) against beta")
rows = [[k, chain.beta[k], chain.beta_tilde[k]] for k in (1, 2, 5, 10)]
table(["step", "beta", "beta_tilde"], rows)

# %%
card("06.collapsed")

# %% [markdown]
# What if no noise is added at all? For standard normal data
# $\mathbb{E}[\epsilon\mid x_t]=\sqrt{1-\bar\alpha_t}\,x_t$, so the mean of a step is
# $(x_t-\beta_tx_t)/\sqrt{\alpha_t}=\sqrt{\alpha_t}\,x_t$. Every step shrinks, and the walk ends at
# $\sqrt{\bar\alpha_T}\,x_T$: nearly one point. DDIM also adds no noise (lecture 07), but it is
# **not** this: its mean takes away more of the noise.

# %%
model, roll_schedule, _ = de.pretrained("swiss_roll")
x_T, roll = torch.randn(1000, 2, generator=generator), de.toy.swiss_roll(2000)
walk = {"eta": 1.0, "generator": generator}
*_, large = de.sample(model, x_T, roll_schedule, 50, variance="large", **walk)
*_, small = de.sample(model, x_T, roll_schedule, 50, **walk)
*_, none = de.sample(model, x_T, roll_schedule, 50, noise=lambda i, x: torch.zeros_like(x), **walk)
*_, ddim = de.sample(model, x_T, roll_schedule, 50)
titles = ["variance beta", "variance beta_tilde", "mean of DDPM, no noise", "DDIM"]
plots.clouds([s.x_s for s in (large, small, none, ddim)], titles, behind=roll)

# %% [markdown]
# The same as numbers, for eight Gaussians with the exact denoiser, so that no network is to blame:
# sliced Wasserstein distance of 1,000 samples to data. The floor is that of 1,000 fresh points of
# the data; it varies by 0.02, so what is near it cannot be told from it.

# %%
exact = de.MixtureOracle(*de.toy.gaussians_mixture(), schedule)
data, more = (exact.sample(1000, generator).float() for _ in range(2))
x_T = torch.randn(1000, 2, generator=generator)
rows = [["floor", *[de.sliced_wasserstein2(more, data).item()] * 3]]
for name, how in {"beta": "large", "beta_tilde": "eta"}.items():
    gaps = []
    for n in (50, 20, 5):
        *_, end = de.sample(exact, x_T, schedule, n, variance=how, **walk)
        gaps.append(de.sliced_wasserstein2(end.x_s, data).item())
    rows.append([name, *gaps])
table(["variance", "50 steps", "20 steps", "5 steps"], rows, digits=2)

# %% [markdown]
# With five steps both are off, and $\tilde\beta_t$, too little noise, is worse. With 20 and more
# there is nothing to see.

# %% [markdown]
# ## The last step
#
# At $t=1$ the step ends at data. Noise that is added there stays: nothing comes after it to take it
# away. So Algorithm 2 adds none at $t=1$, and the result is the mean, which is then
# $\hat{\mathbf{x}}_0$ itself, because $1-\bar\alpha_0=0$. With $\tilde\beta_1=0$ this comes by
# itself; with $\sigma_1^2=\beta_1$ it needs an `if`.

# %%
card("06.grain")

# %%
last = ddpm_mean(x_t, torch.ones(1000).long(), eps, schedule)
x0 = de.predict("eps", eps, x_t, 1, schedule).x0
agree(last, x0, 1e-12, "mean at t = 1 against the predicted data")
short = [de.respace(schedule, de.timesteps(1000, n)) for n in (1000, 100, 20)]
rows = [[s.T, s.beta[1].sqrt() * 255 / 2] for s in short]
table(["steps", "noise of the last, grey levels"], rows)

# %% [markdown]
# Code that counts levels from 0 tests `t > 0`; with levels from 1 the test is `t > 1`. A loop over
# `range(T, 0, -1)` with the test `t > 0` adds noise always. A sampler that skips levels must ask
# whether it *arrives* at 0, not whether it comes from 1.

# %% [markdown]
# ## The whole walk
#
# DDPM's Algorithm 2: start from noise $\mathbf{x}_T$, and for $t=T,\dots,1$ take
#
# $$\boxed{\mathbf{x}_{t-1}=\boldsymbol\mu_\theta(\mathbf{x}_t,t)+\sigma_t\,\mathbf{z},\qquad
# \mathbf{z}\sim\mathcal{N}(0,\mathbf{I})\text{ if }t>1,\text{ else }0}$$
#
# $\mathbf{z}$ is fresh at every step, and the network sees the $\mathbf{x}_t$ that the walk came
# to, with its $t$. Nothing is trained, so gradients are off; else torch would keep all $T$ graphs.
# In the form of the exercise, where step $t$ gets its noise as `zs[t]`:


# %%
def ddpm_step(xt, t, eps_pred, z, sch, var="beta"):
    """x_{t-1}: the mean plus noise, but none at t = 1."""
    variance = sch.beta[t]
    if var == "beta_tilde":
        variance = variance * (1 - sch.alpha_bar[t - 1]) / (1 - sch.alpha_bar[t])
    std = torch.where(t > 1, variance, 0.0).sqrt().to(xt.dtype).view(-1, *[1] * (xt.ndim - 1))
    return ddpm_mean(xt, t, eps_pred, sch) + std * z


@torch.no_grad()
def ddpm_sample(eps_model, xT, sch, zs):
    """DDPM Algorithm 2, with the noise zs[t] at step t."""
    x = xT
    for level in range(sch.T, 0, -1):
        t = torch.full((len(x),), level)
        x = ddpm_step(x, t, eps_model(x, t), zs[level], sch)
    return x


# %%
chain = de.linear(100)
oracle = de.MixtureOracle(*de.toy.gaussians_mixture(), chain)
zs = torch.randn(101, 1000, 2, generator=generator)
mine = ddpm_sample(oracle, x_T, chain, zs)
library = de.ddpm(oracle, x_T, chain, noise=lambda i, x: zs[chain.T - i])
agree(mine, library, 1e-3, "Algorithm 2 against the library")
show(de.ddpm, de.sample, de.sampling.walk)

# %% [markdown]
# ### Checkpoint
#
# Break a line (add noise at $t=1$, use $\sigma$ for $\sigma^2$, divide by $\sqrt{\bar\alpha_t}$),
# run its cell and this one again. Then let your step walk in the explorer: it jumps from level $t$
# to any $s$, which `respace` makes into one step of a shorter chain.

# %%
de.check(ddpm_step, ddpm_mean=ddpm_mean, ddpm_sample=ddpm_sample)


# %%
def my_step(x_t, t, s, eps, z, eta, schedule):
    """From level t to level s, as one step of the chain 0 < s < t."""
    chain = de.respace(schedule, sorted({t, s, 0}, reverse=True))
    return ddpm_step(x_t, torch.full((len(x_t),), chain.T), eps, z, chain)


de.ReverseExplorer("swiss_roll", sampler="ddpm", steps=50, step=my_step, t=140)

# %% [markdown]
# ## Clipping the predicted data
#
# $\hat{\mathbf{x}}_0$ divides by $\sqrt{\bar\alpha_t}$, so at large $t$ a small error of the
# network is blown up 157-fold. Pixels lie in $[-1,1]$: so the published samplers clamp
# $\hat{\mathbf{x}}_0$, though Algorithm 2 does not say so. The step must *use* the clamped value,
# in the mean of the posterior (DDPM eq. 7):
#
# $$\boxed{\boldsymbol\mu=c_t\,\mathrm{clip}(\hat{\mathbf{x}}_0,-1,1)
# +\frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,\mathbf{x}_t}$$
#
# Clip nothing else: $\mathbf{x}_t$, the mean and the noise are noisy, and may be large. In the
# other form of the step $\boldsymbol\epsilon$ must be derived anew from the clamped
# $\hat{\mathbf{x}}_0$; the old one leaves a pair that no longer makes $\mathbf{x}_t$.

# %%
t = torch.full((1000,), 900)
x0 = de.predict("eps", eps, x_t, t, schedule).x0.clamp(-1, 1)
bayes = de.q_posterior(x_t, x0, t, schedule).mean
anew = de.predict("x0", x0, x_t, t, schedule).eps
how = {"schedule": schedule, "eta": 1.0, "z": zero}
agree(de.reverse_step(x0, anew, t, t - 1, **how), bayes, 1e-12, "noise derived anew")
off = (de.reverse_step(x0, eps, t, t - 1, **how) - bayes).abs().max()
table(["largest error with the old noise"], [[off]])

# %% [markdown]
# What it does to digits (8 by 8 pixels), whose shipped network predicts the noise. 16 digits in 25
# steps, with the same noise:

# %%
digits, digit_schedule, about = de.pretrained("digits")
x_T = torch.randn(16, *about.shape, generator=generator)
zs = torch.randn(25, *x_T.shape, generator=generator)
how = {"variance": "large", "noise": lambda i, x: zs[i]}
free = list(de.sample(digits, x_T, digit_schedule, 25, **how))
cut = list(de.sample(digits, x_T, digit_schedule, 25, clip=1.0, **how))
pairs = list(zip(free, cut, strict=True))[::5]
rows = [[a.t, a.x0.abs().max(), b.x0.abs().max()] for a, b in pairs]
rows.append(["result", free[-1].x_s.abs().max(), cut[-1].x_s.abs().max()])
table(["t", "largest predicted pixel, free", "clipped"], rows, digits=3)

# %% [markdown]
# Never clip data without bounds: most of a standardised swiss roll lies outside $[-1,1]^2$, and a
# silent default of `clip_sample=True` ruins it.

# %%
outside = (roll.abs() > 1).any(1).float().mean()
x_T = torch.randn(1000, 2, generator=generator)
squeezed = de.ddpm(model, x_T, roll_schedule, 50, clip=1.0, generator=generator)
print(f"{outside:.0%} of the data lie outside")
plots.clouds([squeezed], ["clipped to [-1, 1]"], behind=roll)

# %% [markdown]
# ## Pictures on the way
#
# MNIST, 32 by 32 pixels, by the shipped network: T = 1000, of which the chain visits every 25th
# level, with variance $\beta$ and clamped $\hat{\mathbf{x}}_0$. The states at levels 750, 500, 250
# and 0, and then the check that each step used
#
# $$\boxed{\hat{\mathbf{x}}_0=\mathrm{clip}\left(\frac{\mathbf{x}_t-\sqrt{1-\bar\alpha_t}\,
# \boldsymbol\epsilon_\theta(\mathbf{x}_t,t)}{\sqrt{\bar\alpha_t}},\,-1,\,1\right)}$$

# %% tags=["covers-clamped-sampling"]
mnist, mnist_schedule, about = de.pretrained("mnist")
x_T = torch.randn(3, *about.shape, generator=torch.Generator().manual_seed(1))
taus = list(range(1000, -1, -25))
how = {"variance": "large", "clip": 1.0, "generator": torch.Generator().manual_seed(2)}
steps = list(de.sample(mnist, x_T, mnist_schedule, taus, **how))
states = {1000: x_T} | {s.s: s.x_s for s in steps}
shown = (1000, 750, 500, 250, 0)
pictures = torch.stack([states[level] for level in shown], 1)
plots.strip(pictures, [f"t = {level}" for level in shown])

# %% tags=["covers-x0-from-eps-sampling"]
step = steps[20]  # from t = 500
alpha_bar = mnist_schedule.alpha_bar[step.t].item()
a, b = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
seen = mnist(step.x_t, torch.full((3,), step.t))
agree(step.x0, ((step.x_t - b * seen) / a).clamp(-1, 1), 1e-4, "the step's x0 against the formula")

# %% [markdown]
# ## Progressive generation
#
# The predicted data along the walk (`progressive_x0`; DDPM section 4.3): the mean of all digits
# first, then a shape, then its strokes. **Large features come first, details last**: large ones
# survive more noise, so they are visible, and decided, at large $t$.

# %% tags=["covers-progressive"]
predicted = {s.t: s.x0 for s in steps} | {0: steps[-1].x_s}
pictures = torch.stack([predicted[level] for level in shown], 1)
plots.strip(pictures, [f"x0, {level}" for level in shown])

# %%
card("06.same")

# %% [markdown]
# ### Frozen on the way
#
# Stop at level $t$, keep $\mathbf{x}_t$, and walk down from it several times: samples of
# $p_\theta(\mathbf{x}_0\mid\mathbf{x}_t)$ (DDPM fig. 7). Left, what was frozen; then three ends, in
# steps of 50 levels with variance $\tilde\beta$.

# %% tags=["covers-progressive"]
frozen, how = [], {"eta": 1.0, "clip": 1.0, "generator": torch.Generator().manual_seed(2)}
for level in (1000, 750, 500, 250):
    start = states[level][:1].expand(3, -1, -1, -1)
    *_, end = de.sample(mnist, start, mnist_schedule, list(range(level, -1, -50)), **how)
    frozen.append(torch.cat([start[:1], end.x_s]))
names = [f"t = {level}" for level in (1000, 750, 500, 250)]
plots.strip(torch.stack(frozen), ["frozen", *["x0"] * 3], rows=names)

# %% [markdown]
# Is it right? For the eight Gaussians the exact $p(\mathbf{x}_0\mid\mathbf{x}_t)$ is known: Bayes'
# rule gives the probability of each Gaussian. Freeze one point at four levels of a chain of 100 and
# count where 2,000 walks end. Four standard errors are 0.04; so short a chain adds an error of its
# own.

# %%
means, variances, _ = (x.float() for x in de.toy.gaussians_mixture())
x0 = means[:1] + 0.1
eps, rows = torch.tensor([[0.6, -0.4]]), []
for level in (100, 70, 40, 20):
    x = de.q_sample(x0, level, eps, chain)
    kept = chain.alpha_bar[level]
    spread = kept * variances[0] + 1 - kept  # of each Gaussian at this level
    wanted = (-((x - kept.sqrt() * means) ** 2).sum(1) / (2 * spread)).softmax(0)
    ends = de.from_frozen(oracle, x[0], level, 2000, chain, variance="large", generator=generator)
    found = torch.cdist(ends, means).argmin(1).bincount(minlength=8) / 2000
    agree(found, wanted, tol=0.05, what=f"t = {level}, share of each Gaussian")
    rows.append([level, found.max(), wanted.max()])
table(["frozen at t (of 100)", "share of the likeliest, found", "exact"], rows, digits=2)

# %%
show(de.from_frozen, de.progressive_x0)

# %% [markdown]
# ## Repeated noise
#
# Another way to see it (`repeat_noise` in DDPM's code): start a batch from **one** $\mathbf{x}_T$
# and give it the same $\mathbf{z}$ in the first $k$ steps. Up to there all walks are one; then they
# part. The later, the more they share.

# %%
show(de.shared_noise)

# %% tags=["covers-repeat-noise"]
one = torch.randn(1, *about.shape, generator=torch.Generator().manual_seed(6))
same, rows = one.expand(3, -1, -1, -1), []
for k in (0, 12, 20):
    noise = de.shared_noise(k, torch.Generator().manual_seed(4))
    *_, end = de.sample(mnist, same, mnist_schedule, 25, eta=1.0, clip=1.0, noise=noise)
    rows.append(end.x_s)
plots.strip(torch.stack(rows), rows=[f"{k} of 25 shared" for k in (0, 12, 20)])

# %% [markdown]
# ## Is this Langevin dynamics?
#
# With the score
# $\mathbf{s}=\nabla\log q_t(\mathbf{x}_t)=-\mathbb{E}[\boldsymbol\epsilon\mid\mathbf{x}_t]/
# \sqrt{1-\bar\alpha_t}$ of the density $q_t$ of $\mathbf{x}_t$ (lecture 09) and an exact
# network, a DDPM step reads
#
# $$\begin{aligned}
# \mathbf{x}_{t-1}&=\tfrac{1}{\sqrt{1-\beta_t}}\left(\mathbf{x}_t+\beta_t\,\mathbf{s}\right)+
# \sqrt{\beta_t}\,\mathbf{z}
# &&\text{eq. 11 with the score}\\
# &\approx\mathbf{x}_t+\tfrac{\beta_t}{2}\mathbf{x}_t+\beta_t\,\mathbf{s}+\sqrt{\beta_t}\,\mathbf{z}
# &&\text{small }\beta_t\text{, without its square}
# \end{aligned}$$
#
# Langevin dynamics with the same noise is
# $\mathbf{x}+\tfrac{\beta}{2}\mathbf{s}+\sqrt{\beta}\,\mathbf{z}$: **half** the pull, and nothing
# that expands. It stays at its level; DDPM's step moves to the next. The cell follows the variance
# $V_t$ of Gaussian data.

# %%
v, t = 0.25, 40  # data N(0, v), exact score -x/V_t
V = chain.alpha_bar * v + 1 - chain.alpha_bar
beta, alpha = chain.beta[t], chain.alpha[t]
ddpm_var = (1 - beta / V[t]) ** 2 / alpha * V[t] + beta
langevin_var = (1 - beta / (2 * V[t])) ** 2 * V[t] + beta
agree(langevin_var, V[t] + beta**2 / (4 * V[t]), 1e-12, "Langevin: the old variance, up to beta^2")
table(
    ["V at t", "after Langevin", "after DDPM", "V at t - 1"],
    [[V[t], langevin_var, ddpm_var, V[t - 1]]],
    digits=5,
)

# %% [markdown]
# ## Errata you may meet
#
# | often printed | right | how to see it |
# |---|---|---|
# | mean divided by $\sqrt{\bar\alpha_t}$ | by $\sqrt{\alpha_t}$ | next cell: it explodes |
# | $\hat{\mathbf{x}}_0$ clamped, and not used | eq. 7 makes the mean from it | next cell |
# | DDPM samples by Langevin dynamics | ancestral sampling of a Markov chain | the section above |
# | noise in every step | none where the step ends at 0 | "The last step" |
# | no noise = DDIM | DDIM has another mean | "How much noise to add" |
# | fresh noise called $\boldsymbol\epsilon$ | another draw, $\mathbf{z}$ | "The whole walk" |
# | DDPM (2019), DDIM (2022) | June and October 2020 | arXiv 2006.11239, 2010.02502 |


# %%
@torch.no_grad()
def step_as_printed(x, t, noise_pred, z, sch):
    """A published listing: the wrong root, and x0 clamped for show only."""
    x0 = ((x - (1 - sch.alpha_bar[t]).sqrt() * noise_pred) / sch.alpha_bar[t].sqrt()).clamp(-1, 1)
    mean = (x - sch.beta[t] * noise_pred / (1 - sch.alpha_bar[t]).sqrt()) / sch.alpha_bar[t].sqrt()
    return mean + sch.beta_tilde[t].sqrt() * z, x0


x, rows = torch.randn(1000, 2, generator=generator, dtype=torch.float64), []
for level in range(100, 90, -1):
    seen = oracle(x, torch.full((1000,), level))
    x, clamped = step_as_printed(x, level, seen, torch.randn(x.shape, generator=generator), chain)
    rows.append([level - 1, x.std(), clamped.abs().max()])
table(["level", "standard deviation of x", "largest clamped x0"], rows[:3] + rows[-1:], digits=3)

# %% [markdown]
# ## Think
#
# 1. With T = 1000 steps, $\beta_t$ and $\tilde\beta_t$ sample equally well; with 5 steps they do
#    not. Why? At which levels do they differ?
# 2. A sampler adds noise in all but the last step. Why does the noise of the step before do no
#    harm?
# 3. Two walks shared their noise down to $t=300$. What will they have in common? And from $t=700$?
# 4. Clipping moves the mean of a step, so the samples are no longer those of the bound's
#    $p_\theta$. When is that a price worth paying, and when not?

# %% [markdown] tags=["answer"]
# 1. Their ratio is $(1-\bar\alpha_{t-1})/(1-\bar\alpha_t)$: close to 1 except where $1-\bar\alpha$
#    grows by a good part of itself in one step. With many steps that is only near $t=1$; with five
#    (1000, 800, …) it is 0.83 from 600 to 400, 0.42 from 400 to 200, where the shape is decided.
# 2. The next step sees it as part of the noise and removes it; its level is what the network was
#    trained for.
# 3. From 300 on only details are open: the same digit, nearly the same strokes. From 700 on often
#    another digit.
# 4. Where the data are bounded and the network errs at large $t$: then the unclipped mean is worse.
#    Not where the data have no bounds, and not for likelihoods.

# %% [markdown] tags=["notation"]
# t s x0 xt x0_hat eps eps_theta z beta alpha alpha_bar beta_tilde mu_tilde sigma q p_theta score
# tau eta
