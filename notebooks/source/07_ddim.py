# %% [markdown]
# # Fewer steps: DDIM
#
# DDPM asks its network a thousand times for one picture. DDIM asks the *same trained network*
# twenty times. The trick is not a better network but another way back: a posterior designed anew,
# with a dial for its noise.
#
# **You will be able to**
#
# - design a posterior $q_\sigma$ and prove that its marginals are those of DDPM,
# - derive the step of DDIM, and say what $\eta=0$ and $\eta=1$ mean,
# - choose levels for any number of steps,
# - read the table of $\eta$ and $S$, and the DDIM example of Keras.

# %%
from itertools import pairwise

import torch
from torch.distributions import Normal

import diffusion_edu as de
from diffusion_edu.lectures import agree, card, show, table
from diffusion_edu.viz import plots

# %%
de.EtaStepsLab()

# %% [markdown]
# Both pictures start from the same noise and use the same network. Set **steps S** to 5, then
# turn **eta** up from 0 to 1: which walk cares more about the number of steps? (DDPM has here the larger of
# its two variances; more of that below.)
#
# ## Why DDPM is slow

# %% [markdown] tags=["covers-too-slow"]
# The introduction of the DDIM paper (2010.02502) puts it in hours. To make 50,000 images of
# $32\times32$ pixels on one GPU (an Nvidia 2080 Ti) takes **20 hours with DDPM and less than 1
# minute with a GAN**. For images of $256\times256$ it would be nearly 1000 hours.
#
# Here is that figure per image, and per call of the network.

# %%
images, T = 50_000, 1000
gan, ddpm = 60 / images, 20 * 3600 / images
rows = [["GAN, at most", gan, 1, 1000 * gan], ["DDPM", ddpm, T, 1000 * ddpm / T]]
table(["", "seconds an image", "calls an image", "milliseconds a call"], rows)

# %% [markdown]
# One call costs about the same. *The number of calls is the whole difference*, and they cannot run
# in parallel: each waits for the one before.
#
# So leave some out? In DDPM's step from $\mathbf{x}_t$ to $\mathbf{x}_{t-1}$ (Algorithm 2),
# $\beta_t$ and $\alpha_t=1-\beta_t$ belong to one step of the chain,
# $\bar\alpha_t=\alpha_1\cdots\alpha_t$ to all steps so far. The network
# $\boldsymbol\epsilon_\theta$ predicts the noise in $\mathbf{x}_t$, and
# $\mathbf{z}\sim\mathcal{N}(\mathbf{0},\mathbf{I})$ is fresh:
#
# $$\mathbf{x}_{t-1}=\frac{1}{\sqrt{\alpha_t}}\Big(\mathbf{x}_t-\frac{\beta_t}{\sqrt{1-
# \bar\alpha_t}}\,\boldsymbol\epsilon_\theta(\mathbf{x}_t,t)\Big)+\sqrt{\beta_t}\,\mathbf{z}.$$
#
# First attempt: this very step, at every hundredth level only.

# %%
model, sch, info = de.pretrained("swiss_roll")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def naive_skip(x, levels, g):
    for t in levels:
        noise, bar = sch.beta[t].float(), sch.alpha_bar[t].float()
        eps = model(x, torch.full((len(x),), t))
        x = (x - noise / (1 - bar).sqrt() * eps) / (1 - noise).sqrt()
        x = x + noise.sqrt() * torch.randn(x.shape, generator=g)
    return x


# %% [markdown]
# Second attempt: a proper chain of $S$ long steps, whose $\beta$ are made from the $\bar\alpha$ of
# the levels that are kept. DDPM then runs as it should, only with fewer steps. (Here with the
# smaller of its two variances, $\tilde\beta$.)

# %%
x_T = torch.randn(600, 2, generator=seeded(0))
ways = {
    "DDPM, 1000 steps": de.ddpm(model, x_T, sch, sigma2="beta_tilde", generator=seeded(1)),
    "its step, every 100th": naive_skip(x_T, range(1000, 0, -100), seeded(1)),
    "DDPM, 10 long steps": de.ddpm(model, x_T, sch, 10, "beta_tilde", generator=seeded(1)),
    "DDIM, 10 steps": de.ddim(model, x_T, sch, 10),
}
plots.clouds(list(ways.values()), list(ways), behind=de.toy.swiss_roll(2000), limit=3)

# %% [markdown]
# The first attempt fails: ten small steps remove only what ten of the thousand would. The second
# works, but its samples are scattered: with fewer steps, DDPM degrades. How far is each from the
# data? The last row, more data, is as near as 600 points can tell.

# %%
real = de.toy.swiss_roll(600, seed=7)
ways["more data"] = de.toy.swiss_roll(600, seed=8)
rows = [[name, float(de.sliced_wasserstein2(x, real))] for name, x in ways.items()]
table(["sampler", "sliced Wasserstein distance to data"], rows)

# %% [markdown]
# ## A posterior designed anew
#
# DDPM begins with a forward process and *derives* its posterior
# $q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)$ by Bayes' rule. DDIM begins at the other end.
# Training only ever used the marginals
#
# $$q(\mathbf{x}_t\mid\mathbf{x}_0)=\mathcal{N}\big(\sqrt{\bar\alpha_t}\,\mathbf{x}_0,\;(1-
# \bar\alpha_t)\mathbf{I}\big),$$
#
# where $\mathbf{x}_0$ is data and $\mathbf{x}_t$ what is left of it at noise level $t$. So *any*
# posterior that keeps these marginals fits the trained network. (The DDIM paper writes $\alpha_t$
# for what is $\bar\alpha_t$ here.)

# %% [markdown] tags=["covers-q-sigma"]
# Let $s<t$ be the level to go to. The noise in $\mathbf{x}_t$ is
# $\boldsymbol\epsilon=(\mathbf{x}_t-\sqrt{\bar\alpha_t}\,\mathbf{x}_0)/\sqrt{1-\bar\alpha_t}$. Keep
# some of it, weight $c\ge0$, and add fresh noise $\mathbf{z}\sim\mathcal{N}(\mathbf{0},\mathbf{I})$,
# weight $\sigma$:
#
# $$\mathbf{x}_s=\sqrt{\bar\alpha_s}\,\mathbf{x}_0+c\,\boldsymbol\epsilon+\sigma\mathbf{z}.$$
#
# Level $s$ has noise of variance $1-\bar\alpha_s$. Variances of independent noises add, so
# $c^2+\sigma^2=1-\bar\alpha_s$. That fixes $c$ and leaves $\sigma$ free: a family (DDIM eq. 7).
#
# $$\boxed{q_\sigma(\mathbf{x}_s\mid\mathbf{x}_t,\mathbf{x}_0)=\mathcal{N}
# \Big(\sqrt{\bar\alpha_s}\,\mathbf{x}_0+\sqrt{1-\bar\alpha_s-\sigma^2}\;\frac{\mathbf{x}_t-
# \sqrt{\bar\alpha_t}\,\mathbf{x}_0}{\sqrt{1-\bar\alpha_t}},\;\sigma^2\mathbf{I}\Big)}$$

# %%
show(de.q_sigma)

# %%
card("07.marginal")

# %% [markdown]
# ## Its marginals agree: a proof by induction
#
# **Claim** (DDIM Lemma 1). Let the levels be $T=\tau_S>\dots>\tau_1>\tau_0=0$. Draw $\mathbf{x}_T$
# from $q(\mathbf{x}_T\mid\mathbf{x}_0)$, then walk down by $q_\sigma$, with any
# $\sigma^2\le1-\bar\alpha_s$ in each step. Then every level $t$ has DDPM's marginal:
#
# $$q_\sigma(\mathbf{x}_t\mid\mathbf{x}_0)=
# \mathcal{N}\big(\sqrt{\bar\alpha_t}\,\mathbf{x}_0,\;(1-\bar\alpha_t)\mathbf{I}\big).$$
#
# **Start.** At $t=T$ it holds: that is how $\mathbf{x}_T$ was drawn.
#
# **Step.** Suppose it holds at $t$, and let $s$ be the next level. We must find
#
# $$q_\sigma(\mathbf{x}_s\mid\mathbf{x}_0)=\int q_\sigma(\mathbf{x}_s\mid\mathbf{x}_t,\mathbf{x}_0)
# \,q_\sigma(\mathbf{x}_t\mid\mathbf{x}_0)\,d\mathbf{x}_t .$$

# %% [markdown]
# Given $\mathbf{x}_0$, write $\mathbf{x}_s$ as in the design and put in what is supposed:
#
# $$\begin{aligned}
# \mathbf{x}_s&=\sqrt{\bar\alpha_s}\,\mathbf{x}_0+c\,\frac{\mathbf{x}_t-\sqrt{\bar\alpha_t}\,
# \mathbf{x}_0}{\sqrt{1-\bar\alpha_t}}+\sigma\mathbf{z}
# &&\text{definition of } q_\sigma\\
# \mathbb{E}[\mathbf{x}_s]&=\sqrt{\bar\alpha_s}\,\mathbf{x}_0+c\,\frac{\sqrt{\bar\alpha_t}\,
# \mathbf{x}_0-\sqrt{\bar\alpha_t}\,\mathbf{x}_0}{\sqrt{1-\bar\alpha_t}}=\sqrt{\bar\alpha_s}\,
# \mathbf{x}_0
# &&\text{mean at level } t\\
# \mathrm{Var}[\mathbf{x}_s]&=\frac{c^2}{1-\bar\alpha_t}\,(1-\bar\alpha_t)+\sigma^2=c^2+\sigma^2
# &&\text{variance at level } t\text{; } \mathbf{z} \text{ independent}\\
# &=(1-\bar\alpha_s-\sigma^2)+\sigma^2=1-\bar\alpha_s
# &&\text{choice of } c
# \end{aligned}$$
#
# A sum of independent Gaussians is Gaussian, so mean and variance say it all:
#
# $$\boxed{\int q_\sigma(\mathbf{x}_s\mid\mathbf{x}_t,
# \mathbf{x}_0)\,q(\mathbf{x}_t\mid\mathbf{x}_0)\,d\mathbf{x}_t=q(\mathbf{x}_s\mid\mathbf{x}_0)
# \quad\text{for every }\sigma^2\le1-\bar\alpha_s}$$
#
# By induction it holds at all levels. $\square$

# %% [markdown]
# The integral, done numerically in one dimension, for a jump from level 600 to 400:

# %%
t, s = 600, 400
x_t = torch.linspace(-9, 9, 6001, dtype=torch.float64)[:, None]
x_s = torch.linspace(-3, 3, 13, dtype=torch.float64)
x0 = torch.full_like(x_t, 1.3)
start, end = de.q_marginal(x0, t, sch), de.q_marginal(x0[:1], s, sch)
weight = Normal(start.mean, start.var.sqrt()).log_prob(x_t).exp() * (x_t[1] - x_t[0])
exact = Normal(end.mean, end.var.sqrt()).log_prob(x_s).exp()[0]
for eta in (0.1, 0.5, 1.0):
    back = de.q_sigma(x_t, x0, t, s, de.ddim_sigma(t, s, eta, sch), sch)
    integral = (Normal(back.mean, back.var.sqrt()).log_prob(x_s).exp() * weight).sum(0)
    agree(integral, exact, tol=1e-9, what=f"eta = {eta}: integral and q(x_s | x_0)")

# %% [markdown]
# At $\sigma=0$ the integrand is a spike, so use the algebra of the proof, for many pairs of levels
# at once. The mean of $q_\sigma$ is a straight line in $\mathbf{x}_t$; two points give its slope.

# %%
g = seeded(2)
t = torch.randint(2, 1001, (500,), generator=g)
s = (torch.rand(500, generator=g) * t).long()
sigma = torch.rand(500, generator=g).double() * (1 - sch.alpha_bar[s]).sqrt()
sigma[:100] = 0  # DDIM
x0 = torch.randn(500, 1, generator=g, dtype=torch.float64)
at_0, at_1 = (de.q_sigma(x0 * 0 + k, x0, t, s, sigma, sch) for k in (0.0, 1.0))
slope, start = at_1.mean - at_0.mean, de.q_marginal(x0, t, sch)
mean, var = at_0.mean + slope * start.mean, at_0.var + slope**2 * start.var
agree(mean, de.q_marginal(x0, s, sch).mean, tol=1e-10, what="means, any sigma")
agree(var, de.q_marginal(x0, s, sch).var, tol=1e-10, what="variances, any sigma")

# %% [markdown]
# ## The noise scale and eta
#
# Which $\sigma$? Two choices have names. With $\sigma=0$ nothing is random: **DDIM**. And one
# $\sigma$ gives back **DDPM**. Its posterior (lecture 03) has variance
# $\tilde\beta_t=\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t$, so it must be
# $\sigma^2=\tilde\beta_t$. Does the mean fit too? Take $s=t-1$:
#
# $$\begin{aligned}
# c^2&=1-\bar\alpha_{t-1}-\frac{(1-\bar\alpha_{t-1})\,\beta_t}{1-\bar\alpha_t}
# &&\sigma^2=\tilde\beta_t\\
# &=(1-\bar\alpha_{t-1})\,\frac{1-\bar\alpha_t-\beta_t}{1-\bar\alpha_t}
# &&\text{common factor}\\
# &=(1-\bar\alpha_{t-1})\,\frac{\alpha_t-\bar\alpha_t}{1-\bar\alpha_t}
# &&1-\beta_t=\alpha_t\\
# &=\frac{\alpha_t\,(1-\bar\alpha_{t-1})^2}{1-\bar\alpha_t}
# &&\bar\alpha_t=\alpha_t\bar\alpha_{t-1}
# \end{aligned}$$

# %% [markdown]
# So $c=\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})/\sqrt{1-\bar\alpha_t}$. The weights in the mean of
# $q_\sigma$ are then
#
# $$\begin{aligned}
# \text{of }\mathbf{x}_t:&\quad\frac{c}{\sqrt{1-\bar\alpha_t}}=\frac{\sqrt{\alpha_t}\,(1-
# \bar\alpha_{t-1})}{1-\bar\alpha_t}\\
# \text{of }\mathbf{x}_0:&\quad\sqrt{\bar\alpha_{t-1}}-\frac{c\,\sqrt{\bar\alpha_t}}{\sqrt{1-
# \bar\alpha_t}}
# =\sqrt{\bar\alpha_{t-1}}\Big(1-\frac{\alpha_t(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\Big)
# &&\sqrt{\bar\alpha_t}=\sqrt{\alpha_t}\sqrt{\bar\alpha_{t-1}}\\
# &\quad=\sqrt{\bar\alpha_{t-1}}\;\frac{1-\bar\alpha_t-\alpha_t+\bar\alpha_t}{1-\bar\alpha_t}
# =\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}
# &&1-\alpha_t=\beta_t
# \end{aligned}$$
#
# These are the two weights of $\tilde{\boldsymbol\mu}_t$ (DDPM eq. 7). A Gaussian with the same
# mean and variance is the same: **$q_\sigma$ is DDPM's posterior if, and only if,
# $\sigma^2=\tilde\beta_t$.**

# %% [markdown]
# For a step that skips levels, the $\beta$ of the long step is $1-\bar\alpha_t/\bar\alpha_s$. Put a
# factor $\eta$ in front, and one dial runs from DDIM ($\eta=0$) to DDPM ($\eta=1$), DDIM eq. 16:
#
# $$\boxed{\sigma=\eta\,\sqrt{\frac{1-\bar\alpha_s}{1-\bar\alpha_t}}\,\sqrt{1-
# \frac{\bar\alpha_t}{\bar\alpha_s}}}$$
#
# The second root is the noise of the forward step from $s$ to $t$. The first, below 1, makes it
# smaller: who knows $\mathbf{x}_0$ too is less uncertain about $\mathbf{x}_s$. At $s=0$ it is 0: the
# last step adds no noise.

# %%
show(de.ddim_sigma)

# %% [markdown]
# Is that DDPM when levels are skipped? A chain that visits some levels only has betas of its own
# (improved DDPM, eq. 19). The posterior of the shorter chain is what we compare with.

# %%
show(de.respace)

# %%
g, t = seeded(3), torch.arange(2, 1001)
x_t, x0 = torch.randn(2, 999, 2, generator=g, dtype=torch.float64)
ours = de.q_sigma(x_t, x0, t, t - 1, de.ddim_sigma(t, t - 1, 1.0, sch), sch)
bayes = de.q_posterior(x_t, x0, t, sch)
agree(ours.mean, bayes.mean, tol=1e-9, what="eta = 1 and DDPM's posterior, means")
agree(ours.var, bayes.var, tol=1e-12, what="eta = 1 and DDPM's posterior, variances")
short, levels = de.respace(sch, de.timesteps(1000, 10)), de.timesteps(1000, 10).tolist()[::-1]
skip = de.q_sigma(x_t, x0, 700, 600, de.ddim_sigma(700, 600, 1.0, sch), sch)
long = de.q_posterior(x_t, x0, levels.index(700), short)
agree(skip.mean, long.mean, tol=1e-9, what="the same for the long step 700 -> 600")

# %%
card("07.sigma")

# %% [markdown]
# ## One network for every sigma
#
# The bound of lecture 04 asks for $D_\mathrm{KL}(q\,\Vert\,p_\theta)$ in every step. Let $p_\theta$
# be $q_\sigma$ with a prediction $\hat{\mathbf{x}}_0$ in place of $\mathbf{x}_0$, made from the
# predicted noise $\hat{\boldsymbol\epsilon}$. (Only in the last step, to $s=0$, does the paper's bound
# take a Gaussian around $\hat{\mathbf{x}}_0$, DDIM eq. 10.) Both have variance $\sigma^2>0$, so
#
# $$\begin{aligned}
# D_\mathrm{KL}&=\frac{1}{2\sigma^2}\Big(\sqrt{\bar\alpha_s}-\frac{c\sqrt{\bar\alpha_t}}{\sqrt{1-
# \bar\alpha_t}}\Big)^2\lVert\mathbf{x}_0-\hat{\mathbf{x}}_0\rVert^2
# &&\text{equal variances}\\
# \mathbf{x}_0-\hat{\mathbf{x}}_0&=\frac{\sqrt{1-
# \bar\alpha_t}}{\sqrt{\bar\alpha_t}}\,(\hat{\boldsymbol\epsilon}-\boldsymbol\epsilon)
# &&\mathbf{x}_t \text{ is the same}
# \end{aligned}$$
#
# $$\boxed{D_\mathrm{KL}=\gamma_t\,\lVert\boldsymbol\epsilon-\hat{\boldsymbol\epsilon}\rVert^2,
# \quad\gamma_t>0}$$
#
# $\sigma$ only changes the weight $\gamma_t$. A network that is as good as can be at every $t$
# minimises every weighted sum (DDIM Theorem 1). **Train once, choose $\sigma$ later.**

# %%
t, s, sigma = 600, 500, 0.3
x0, eps, eps_hat = torch.randn(3, 8, 2, generator=seeded(4), dtype=torch.float64)
x_t = de.q_sample(x0, t, eps, sch)
x0_hat = de.predict("eps", eps_hat, x_t, t, sch).x0
kl = de.q_sigma(x_t, x0, t, s, sigma, sch).kl(de.q_sigma(x_t, x0_hat, t, s, sigma, sch))
a_t, a_s = sch.alpha_bar[t], sch.alpha_bar[s]
weight = (a_s / a_t * (1 - a_t)).sqrt() - (1 - a_s - sigma**2).sqrt()
agree(kl, weight**2 / (2 * sigma**2) * ((eps - eps_hat) ** 2).sum(1), tol=1e-9, what="KL in nats")

# %% [markdown]
# ## A forward process that looks at the data

# %% [markdown] tags=["covers-non-markovian-forward"]
# Which forward process has $q_\sigma$ as its posterior? Bayes' rule (DDIM eq. 8):
#
# $$q_\sigma(\mathbf{x}_t\mid\mathbf{x}_s,\mathbf{x}_0)=
# \frac{q_\sigma(\mathbf{x}_s\mid\mathbf{x}_t,
# \mathbf{x}_0)\;q(\mathbf{x}_t\mid\mathbf{x}_0)}{q(\mathbf{x}_s\mid\mathbf{x}_0)}.$$
#
# Write $\mathbf{r}_t=\mathbf{x}_t-\sqrt{\bar\alpha_t}\,\mathbf{x}_0$ for the noise at level $t$
# ($\mathbf{r}_s$ at $s\ge1$), and $k=c/\sqrt{1-\bar\alpha_t}$. Up to terms without $\mathbf{r}_t$, the logarithm is
#
# $$\begin{aligned}
# &-\frac{\lVert\mathbf{r}_s-k\,\mathbf{r}_t\rVert^2}{2\sigma^2}-
# \frac{\lVert\mathbf{r}_t\rVert^2}{2(1-\bar\alpha_t)}
# &&q_\sigma \text{ and } q(\mathbf{x}_t\mid\mathbf{x}_0)\\
# &=-\frac12\Big(\frac{k^2}{\sigma^2}+\frac{1}{1-\bar\alpha_t}\Big)\lVert\mathbf{r}_t\rVert^2+
# \frac{k}{\sigma^2}\,\mathbf{r}_s^\top\mathbf{r}_t+\dots
# &&\text{expand the square}\\
# &=-\frac12\,\frac{c^2+\sigma^2}{(1-\bar\alpha_t)\,\sigma^2}\,\lVert\mathbf{r}_t\rVert^2+
# \frac{k}{\sigma^2}\,\mathbf{r}_s^\top\mathbf{r}_t+\dots
# &&k^2=c^2/(1-\bar\alpha_t)
# \end{aligned}$$

# %% [markdown]
# This is a Gaussian in $\mathbf{r}_t$. Its variance is one over the factor of
# $-\tfrac12\lVert\mathbf{r}_t\rVert^2$, its mean is variance times the factor of $\mathbf{r}_t$.
# With $c^2+\sigma^2=1-\bar\alpha_s$:
#
# $$\boxed{q_\sigma(\mathbf{x}_t\mid\mathbf{x}_s,\mathbf{x}_0)=\mathcal{N}
# \Big(\sqrt{\bar\alpha_t}\,\mathbf{x}_0+\frac{c\,\sqrt{1-\bar\alpha_t}}{1-
# \bar\alpha_s}\,(\mathbf{x}_s-\sqrt{\bar\alpha_s}\,\mathbf{x}_0),\;\frac{(1-\bar\alpha_t)\,
# \sigma^2}{1-\bar\alpha_s}\,\mathbf{I}\Big)}$$
#
# It needs $\mathbf{x}_0$ as well as $\mathbf{x}_s$: **no Markov chain**. Except once. The weight of
# $\mathbf{x}_0$ is
# $\sqrt{\bar\alpha_t}-\sqrt{\bar\alpha_s}\,c\sqrt{1-\bar\alpha_t}/(1-\bar\alpha_s)$. At $\eta=1$,
# $s=t-1$ we found $c=\sqrt{\alpha_t}(1-\bar\alpha_s)/\sqrt{1-\bar\alpha_t}$, and it is
# $\sqrt{\bar\alpha_t}-\sqrt{\bar\alpha_s\alpha_t}=0$.

# %%
show(de.q_sigma_forward)

# %% [markdown]
# Check it against the quotient of densities, and at $\eta=1$ against DDPM's forward step, which
# knows no $\mathbf{x}_0$:

# %%
t, s, sigma = 600, 400, 0.4
x_t, x_s, x0 = torch.randn(3, 50, 1, generator=seeded(5), dtype=torch.float64)
quotient = de.q_sigma(x_t, x0, t, s, sigma, sch).log_prob(x_s)
quotient = quotient + de.q_marginal(x0, t, sch).log_prob(x_t)
quotient = quotient - de.q_marginal(x0, s, sch).log_prob(x_s)
ahead = de.q_sigma_forward(x_s, x0, t, s, sigma, sch)
agree(ahead.log_prob(x_t), quotient, tol=1e-9, what="log-density by Bayes' rule, in nats")
ahead = de.q_sigma_forward(x_s, x0, 600, 599, de.ddim_sigma(600, 599, 1.0, sch), sch)
agree(ahead.mean, de.q_step(x_s, 600, sch).mean, tol=1e-9, what="eta = 1: mean of a Markov step")
agree(ahead.var, de.q_step(x_s, 600, sch).var, tol=1e-9, what="eta = 1: its variance")

# %% [markdown]
# Four walks from the same data point $x_0=2$, two with each $\eta$. At $\eta=0$ all chance is spent
# in the first step: from then on $x_t=\sqrt{\bar\alpha_t}\,x_0+\sqrt{1-\bar\alpha_t}\,\epsilon$
# with *the same* $\epsilon$. All these walks have the same marginals.


# %%
def walk_up(eta, seed, x0=2.0):
    levels, g = [1, *range(20, 1001, 20)], seeded(seed)
    known = torch.full((1, 1), x0, dtype=torch.float64)
    walk = [de.q_marginal(known, 1, sch).sample(generator=g)]
    for s, t in pairwise(levels):
        sigma = de.ddim_sigma(t, s, eta, sch)
        ahead = de.q_sigma_forward(walk[-1], known, t, s, sigma, sch)
        walk.append(ahead.sample(generator=g))
    return torch.cat(walk)[:, 0]


walks = {f"eta = {eta:.0f}, seed {n}": walk_up(eta, n) for n in (1, 4) for eta in (0.0, 1.0)}
plots.lines([1, *range(20, 1001, 20)], walks, "level t", "x_t")

# %% [markdown]
# ## Why "implicit"

# %% [markdown] tags=["covers-implicit"]
# Mohamed and Lakshminarayanan (1610.03483) call a generative model *implicit* if it draws a latent
# $\mathbf{z}$ and sends it through a deterministic function $G_\theta$ to get data. There is a
# recipe for samples, and no density is written down. A GAN is one. A *likelihood-based* model
# writes $p_\theta(\mathbf{x})$, or a bound for it, as DDPM does.
#
# With $\sigma=0$ the way back is such a function: the latent is $\mathbf{x}_T$, and
# $\mathbf{x}_0=G_\theta(\mathbf{x}_T)$ is $S$ steps without chance. And the bound breaks down:
# $\gamma_t$ has a factor $1/\sigma^2$. Hence denoising diffusion *implicit* models: the network is
# trained as DDPM's and used as an implicit model.

# %%
x_T = torch.randn(4, 2, generator=seeded(0))
for eta in (0.0, 1.0):
    first, second = (de.ddim(model, x_T, sch, 20, eta=eta, generator=seeded(run)) for run in (1, 2))
    print(f"eta = {eta}: two runs from one x_T differ by {(first - second).abs().max():.2g}")

# %% [markdown]
# ## The step
#
# When sampling, $\mathbf{x}_0$ is not known. The network $\boldsymbol\epsilon_\theta$ predicts the
# noise $\hat{\boldsymbol\epsilon}=\boldsymbol\epsilon_\theta(\mathbf{x}_t,t)$, hence the data
# $\hat{\mathbf{x}}_0$. Put them into $q_\sigma$ (DDIM eq. 12):
#
# $$\boxed{\mathbf{x}_s=\sqrt{\bar\alpha_s}\underbrace{\frac{\mathbf{x}_t-\sqrt{1-\bar\alpha_t}\,
# \hat{\boldsymbol\epsilon}}{\sqrt{\bar\alpha_t}}}_{\text{predicted }\hat{\mathbf{x}}_0}+
# \underbrace{\sqrt{1-\bar\alpha_s-\sigma^2}\;\hat{\boldsymbol\epsilon}}_{\text{direction to }
# \mathbf{x}_t}+\underbrace{\sigma\mathbf{z}}_{\text{fresh noise}}}$$
#
# Jump to the predicted data; go back out to level $s$ with what is left of the old noise; add new
# noise. Every $\bar\alpha$ with index $t$ belongs to the prediction, every one with $s$ to where
# you go. The last step has $\bar\alpha_0=1$: it returns $\hat{\mathbf{x}}_0$.

# %%
show(de.reverse_step)

# %%
x_t, eps_hat, z = torch.randn(3, 6, 2, generator=seeded(6), dtype=torch.float64)
t, s, eta = 600, 400, 0.7
a_t, a_s, sigma = sch.alpha_bar[t], sch.alpha_bar[s], de.ddim_sigma(t, s, eta, sch)
x0_hat = (x_t - (1 - a_t).sqrt() * eps_hat) / a_t.sqrt()
by_hand = a_s.sqrt() * x0_hat + (1 - a_s - sigma**2).sqrt() * eps_hat + sigma * z
agree(de.reverse_step(x0_hat, eps_hat, t, s, sch, eta=eta, z=z), by_hand, what="three terms")
agree(
    de.reverse_step(x0_hat, eps_hat, t, 0, sch, eta=eta, z=z), x0_hat, what="last step and x0_hat"
)

# %% [markdown]
# The paper's table (below) has four values of $\eta$ and a fifth row: $\hat\sigma=\sqrt{1-\bar\alpha_t/\bar\alpha_s}$ for the
# fresh noise alone, with the direction of $\eta=1$. For $s=t-1$ it is DDPM with variance $\beta_t$.
# It adds **more** than level $s$ should have. How much more? The variance of the noise at level $s$
# should be $1-\bar\alpha_s$:

# %%
pairs = [(1000, 900), (500, 400), (200, 100), (200, 199)]
rows = []
for t, s in pairs:
    excess = 1 - sch.alpha_bar[t] / sch.alpha_bar[s] - de.ddim_sigma(t, s, 1.0, sch) ** 2
    rows.append([f"{t}→{s}", 1 - sch.alpha_bar[s], 1 - sch.alpha_bar[s] + excess])
table(["step", "variance of noise at s", "with sigma-hat"], rows)

# %% [markdown]
# For neighbouring levels the two hardly differ. In the long step to level 100 the variance is
# tripled, and the network is told that it is not.

# %%
card("07.hat")

# %% [markdown]
# ## Fewer steps: which levels?
#
# $S$ steps need $S+1$ levels $\tau$, and every pair of neighbours $(t,s)$ is one step. Three rules:
# $T$ comes first, because sampling starts from pure noise; $0$ comes last, because that is clean
# data; no level twice, because a step from $t$ to $t$ is $0/0$. For $i=0,\dots,S$, going up (DDIM
# appendix D.2):
#
# $$\boxed{\text{uniform: }\lfloor T\,i/S\rfloor\qquad\text{quadratic: }\lfloor T\,(i/S)^2\rfloor}$$
#
# Quadratic levels are dense near the data, where detail is made. Near 0 some collide: the later one
# moves up by 1.

# %%
show(de.timesteps)

# %%
kinds = ("uniform", "quadratic", "trailing", "leading")
levels = {kind: de.timesteps(1000, 10, kind) for kind in kinds}
plots.lines(range(11), levels, "step", "level", markers=True)

# %% [markdown]
# (Uniform and trailing differ only where $S$ does not divide $T$.) A stride `T // S` looks simpler
# and is a well-known bug. Such code counts levels from 0 to $T-1$ and calls the network at each one
# it lists: too many calls when $S$ does not divide $T$, and, unless the stride
# divides $T-1$, none at the noisiest level.

# %%
stride = range(0, 1000, 1000 // 30)
right = de.timesteps(1000, 30)
print(f"asked for 30 calls: the stride gives {len(stride)}, the first at level {stride[-1] + 1}")
print(f"timesteps gives {len(right) - 1} steps, from {right[0]} to {right[-1]}")

# %% [markdown]
# Published code for DDIM ends its quadratic grid at $0.8\,T$, which is not in the paper. Samples of
# level $T$ are then taken for less noisy ones. Which grid is best depends on the data and on $S$.
# Here, on the swiss roll:

# %%
x_T, real = torch.randn(1000, 2, generator=seeded(0)), de.toy.swiss_roll(1000, seed=7)
rows = []
for S in (5, 10, 20):
    found = [de.ddim(model, x_T, sch, S, spacing=kind) for kind in kinds]
    rows.append([S, *(float(de.sliced_wasserstein2(x, real)) for x in found)])
table(["S", *kinds], rows, digits=2)

# %% [markdown]
# ## The sampler
#
# The whole of DDIM: from $\mathbf{x}_T$ down the levels, one call of the network and one step for
# each pair. Ask the network at the level you *are at*, $t$, then go to $s$; the next step starts
# where this one ended. Nothing is trained, so keep no graph.


# %%
@torch.no_grad()
def ddim_sample(model, x, taus, eta, schedule, g):
    for t, s in pairwise(taus.tolist()):
        eps = model(x, torch.full((len(x),), t))
        x0 = de.predict("eps", eps, x, t, schedule).x0
        z = torch.randn(x.shape, generator=g) if eta > 0 and s > 0 else None
        x = de.reverse_step(x0, eps, t, s, schedule, eta=eta, z=z)
    return x


taus = de.timesteps(1000, 20)
for eta in (0.0, 0.5):
    mine = ddim_sample(model, x_T[:50], taus, eta, sch, seeded(3))
    library = de.ddim(model, x_T[:50], sch, 20, eta=eta, generator=seeded(3))
    agree(mine, library, tol=1e-4, what=f"eta = {eta}: this loop and de.ddim")

# %% [markdown]
# ## The table of eta and steps

# %% [markdown] tags=["covers-eta-table"]
# DDIM's Table 1 is the paper in one picture: the same trained network, five amounts of noise, five
# numbers of steps. Smaller is better. The abstract's "10 to 50 times faster" are its columns 100
# and 20. Below the two published halves stands the same table for the MNIST network of this
# library. It was measured with
#
# `diffusion-edu table --model mnist --steps 10,20,50,100 --n 500`
#
# as the Fréchet distance (FD) of 500 samples in the features of a small classifier, once, with one
# seed. FD and FID are different scales: compare shapes, not numbers. For 500 *real* images the FD
# is 0.182.

# %% tags=["covers-eta-table"]
from diffusion_edu.evaluation import ddim_tables
from diffusion_edu.evaluation.table import published, shape

found = {
    "CIFAR-10, published": published(),
    "CelebA, published": ddim_tables.published_celeba(),
    "MNIST, measured": ddim_tables.measured_mnist(),
}
ddim_tables.tables(found)

# %% [markdown]
# Which features of the published table hold for ours?

# %%
claims = {name: shape(one) for name, one in found.items()}
answers = list(claims["CIFAR-10, published"])
rows = [[claim, *("yes" if c[claim] else "no" for c in claims.values())] for claim in answers]
table(["claim", *found], rows)

# %% [markdown]
# **It holds** that $\hat\sigma$ is the worst by far at $S=10$, and that $\eta=0$ is the best there,
# if only by a hair.
# **It does not hold** that $\eta=0$ is the best at 20 and at 50: on MNIST $\eta=1$ is. Nor does the
# row $\eta=0$ keep falling.
#
# A likely reason: few steps are an error of the *sampler*, which $\eta=0$ keeps small. With more
# steps the error of the *network* is what remains, and fresh noise washes out earlier mistakes. For
# a small network that point comes early. Some numbers lie below what real images get: 500 samples
# of balanced classes leave this distance noisy and biased, so make nothing of small differences.

# %% [markdown]
# Now a table you measure yourself: points of the swiss roll, sliced Wasserstein distance, every
# cell from the same $\mathbf{x}_T$.


# %%
def distance(eta, S):
    how = {"eta": 1.0, "variance": "large"} if eta == "hat" else {"eta": eta}
    x = de.ddim(model, x_T, sch, S, generator=seeded(1), **how)
    return float(de.sliced_wasserstein2(x, real))


etas, steps = (0.0, 0.2, 0.5, 1.0, "hat"), (5, 10, 20, 50)
values = [[distance(eta, S) for S in steps] for eta in etas]
names = [f"eta = {eta}" for eta in etas]
plots.heat(values, names, [str(S) for S in steps], xlabel="steps S", title="swiss roll", log=True)

# %% [markdown]
# At 5 and 10 steps $\eta=0$ is clearly better than $\eta=1$, as published. But $\hat\sigma$, by far
# the worst row on images, is the **best** here up to 20 steps. Its variance is right for data that
# fill space like $\mathcal{N}(\mathbf{0},\mathbf{I})$; that of $\eta=1$ for data in a single point
# (DDPM section 3.2). Images are thin sheets: too much noise shows as grain, in thousands of
# directions across the sheet. Across the swiss roll there is one. *A result about samplers is a
# result about data, too.*
#
# **Think.** In the published table, which row is best at $S=1000$? Does that contradict "DDIM is
# better"?

# %% [markdown] tags=["answer"]
# The row $\hat\sigma$: 3.17 against 4.04 on CIFAR-10, and 3.26 against 3.51 on CelebA. The paper's
# claim is about few steps. With all the steps there is nothing to speed up, and noise corrects
# errors.

# %% [markdown]
# ## The Keras example, in PyTorch
#
# The documentation of Keras has a DDIM example that many people read first. It says the same in
# other words:
#
# | Keras | here |
# |---|---|
# | diffusion time, 0 to 1 | $t/T$ |
# | signal rate, noise rate | $\sqrt{\bar\alpha_t}$, $\sqrt{1-\bar\alpha_t}$ |
# | `noise_rates**2`, told to the network | $1-\bar\alpha_t$ |
# | `network`, `ema_network` | weights in training, and their moving average |
# | `reverse_diffusion` | `de.ddim_continuous` |
# | KID | `de.kernel_distance` of features |
#
# Here it is, line for line, on points. First the normaliser and the schedule: an angle that grows
# evenly with time.

# %% tags=["covers-keras"]
import math

pixels = 0.5 + 0.2 * de.toy.moons(3000)  # data as they come: neither mean 0 nor variance 1
mean, std = pixels.mean(0), pixels.std(0)  # what Keras' Normalization layer adapts to


def diffusion_schedule(times, min_signal_rate=0.02, max_signal_rate=0.95):
    start, end = math.acos(max_signal_rate), math.acos(min_signal_rate)
    angle = start + times * (end - start)
    return angle.sin(), angle.cos()  # noise rates, signal rates


times = torch.linspace(0, 1, 101)
noise, signal = diffusion_schedule(times)
agree(signal**2 + noise**2, 1, what="the variances add up to 1")
agree(signal, de.signal_noise_rates(times).signal, what="this schedule and the library's")
plots.lines(times, {"signal rate": signal, "noise rate": noise}, "diffusion time", "rate")

# %% [markdown]
# Two networks of the same form. The one that is trained jumps about; the moving average of its
# weights is calm, and is used for sampling. `training` says which. The network is told the
# *variance* of the noise, not a number of a step.


# %%
class DiffusionModel:
    def __init__(self, ema=0.99):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.network, self.ema_network = de.MLP(T=1), de.MLP(T=1)
        self.ema_network.load_state_dict(self.network.state_dict())
        self.optimizer, self.ema = torch.optim.AdamW(self.network.parameters(), 5e-3), ema

    def denoise(self, noisy, noise_rates, signal_rates, training):
        network = self.network if training else self.ema_network
        pred_noises = network(noisy, (noise_rates**2).flatten())
        pred_images = (noisy - noise_rates * pred_noises) / signal_rates
        return pred_noises, pred_images


# %% [markdown]
# A training step. **Noise loss** is what is minimised. **Image loss**, the error of the predicted
# data, is only watched. The times are drawn from the whole interval $[0,1]$: no $T$ anywhere.


# %%
def train_step(self, batch, g):
    batch = (batch - mean) / std
    noises = torch.randn(batch.shape, generator=g)
    noise_rates, signal_rates = diffusion_schedule(torch.rand(len(batch), 1, generator=g))
    noisy = signal_rates * batch + noise_rates * noises
    pred_noises, pred_images = self.denoise(noisy, noise_rates, signal_rates, training=True)
    noise_loss = (pred_noises - noises).abs().mean()  # Keras compiles with the absolute error
    image_loss = (pred_images - batch).abs().mean().item()
    self.optimizer.zero_grad()
    noise_loss.backward()
    self.optimizer.step()
    with torch.no_grad():
        both = self.network.parameters(), self.ema_network.parameters()
        for w, average in zip(*both, strict=True):
            average.copy_(self.ema * average + (1 - self.ema) * w)
    return noise_loss.item(), image_loss


# %%
keras, g, losses = DiffusionModel(), seeded(8), []
for _ in range(600):
    batch = pixels[torch.randint(len(pixels), (256,), generator=g)]
    losses.append(train_step(keras, batch, g))
smooth = torch.tensor(losses).view(30, 20, 2).mean(1)
curves = {"noise loss": smooth[:, 0], "image loss": smooth[:, 1]}
plots.lines(range(20, 601, 20), curves, "training step", "mean absolute error", log="y")

# %% [markdown]
# Sampling. Split the noisy image into noise and image, and mix them again with the rates of the
# *next* time. The loop ends with the predicted images: at time 0 the schedule still has some noise,
# which nobody wants.


# %%
@torch.no_grad()
def reverse_diffusion(denoise, initial_noise, diffusion_steps, rates=diffusion_schedule):
    step_size = 1 / diffusion_steps
    next_noisy = initial_noise  # pure noise, though the signal rate at time 1 is not quite 0
    for step in range(diffusion_steps):
        times = torch.ones(len(initial_noise), 1) - step * step_size
        noise_rates, signal_rates = rates(times)
        pred_noises, pred_images = denoise(next_noisy, noise_rates, signal_rates, training=False)
        next_noise_rates, next_signal_rates = rates(times - step_size)
        next_noisy = next_signal_rates * pred_images + next_noise_rates * pred_noises
    return pred_images


initial = torch.randn(1500, 2, generator=seeded(9))
generated = reverse_diffusion(keras.denoise, initial, 20)
*_, last = de.ddim_continuous(keras.ema_network, initial, 20)
agree(generated, last.x_s, tol=1e-3, what="reverse_diffusion and de.ddim_continuous")

# %% [markdown]
# Is it *our* DDIM? Give the same loop the shipped network and the rates of its schedule. Time $t$
# is level $tT$:


# %%
def denoise(noisy, noise_rates, signal_rates, training):
    level = (1 - sch.alpha_bar - noise_rates[0].double() ** 2).abs().argmin()
    eps = model(noisy, level.expand(len(noisy)))
    return eps, (noisy - noise_rates * eps) / signal_rates


def rates(times):
    found = de.schedule_rates(sch)(times.double().clamp(0, 1))
    return found.noise.float(), found.signal.float()


mine = reverse_diffusion(denoise, x_T[:200], 20, rates)
agree(mine, de.ddim(model, x_T[:200], sch, 20), tol=1e-3, what="reverse_diffusion and de.ddim")

# %% [markdown]
# And the metric. **KID** is the kernel distance of features of an Inception network. Points need no
# features. Keras measures it on evaluation data only, because it is slow. Here both networks, and
# fresh data:

# %%
jumpy = reverse_diffusion(lambda *a, training: keras.denoise(*a, True), initial, 20)
fresh = (0.5 + 0.2 * de.toy.moons(1500, seed=3) - mean) / std
other = (0.5 + 0.2 * de.toy.moons(1500, seed=4) - mean) / std
sets = {"training network": jumpy, "EMA network": generated, "more data": other}
table(["samples", "kernel distance"], [[n, de.kernel_distance(x, fresh)] for n, x in sets.items()])

# %%
plots.clouds([jumpy, generated], ["training network", "EMA network"], behind=fresh, limit=2.2)

# %% [markdown]
# The average is far better than the network it averages. By this metric it is as near to data as
# more data are. (The estimate is unbiased, so for equal sets it is often below 0.) But a polynomial
# of degree 3 sees moments up to the third, no more; your eyes see more. The signal rate 0.95 at
# time 0 also has its price: no prediction is made from data with a noise rate below 0.31 (the last
# of 20 steps: 0.37), and fine detail is averaged away.

# %% [markdown]
# ## Errata you may meet
#
# In letters: whoever writes $\alpha$ for $\bar\alpha$ in one place and not in another gets
#
# | often printed | right | how to see it |
# |---|---|---|
# | $\sqrt{\alpha_s}/\sqrt{\alpha_t}\,(\mathbf{x}_t-\sqrt{1-\bar\alpha_t}\,\boldsymbol\epsilon)$ | $\sqrt{\bar\alpha_s}/\sqrt{\bar\alpha_t}$ | A |
# | $\sqrt{1-\alpha_t-\sigma^2}\,\boldsymbol\epsilon$ in the step | $\sqrt{1-\bar\alpha_s-\sigma^2}\,\boldsymbol\epsilon$ | A |
# | weight of $\mathbf{x}_t$ in $\tilde{\boldsymbol\mu}_t$: $\sqrt{\bar\alpha_t}\,(1-\bar\alpha_{t-1})/(1-\bar\alpha_t)$ | $\sqrt{\alpha_t}$ in front | B |
# | next noise rate in Keras' loop: $\sqrt{1-\alpha_t}$ | $\sqrt{1-\bar\alpha_s}$ | A |
# | a brace that calls $(\mathbf{x}_t-\sqrt{\alpha_t}\,\mathbf{x}_0)/\sqrt{1-\alpha_t}$ the covariance of $q_\sigma$ | it is part of the mean; the covariance is $\sigma^2\mathbf{I}$ | C |

# %% [markdown]
# A: with the true $\mathbf{x}_0$ and $\boldsymbol\epsilon$, a step with $\sigma=0$ must arrive at
# $\sqrt{\bar\alpha_s}\,\mathbf{x}_0+\sqrt{1-\bar\alpha_s}\,\boldsymbol\epsilon$.

# %%
t, s = 600, 500
x0, eps = torch.randn(2, 2000, 2, generator=seeded(10), dtype=torch.float64)
x_t, x_s = de.q_sample(x0, t, eps, sch), de.q_sample(x0, s, eps, sch)
bar, a = sch.alpha_bar, sch.alpha
clean = x_t - (1 - bar[t]).sqrt() * eps
good = (bar[s] / bar[t]).sqrt() * clean + (1 - bar[s]).sqrt() * eps
agree(good, x_s, tol=1e-9, what="A, right")
wrong = {
    "A, alpha for alpha-bar": (a[s] / a[t]).sqrt() * clean + (1 - a[t]).sqrt() * eps,
    "A, alpha in the direction": (bar[s] / bar[t]).sqrt() * clean + (1 - a[t]).sqrt() * eps,
    "A, noise rate of t": (bar[s] / bar[t]).sqrt() * clean + (1 - bar[t]).sqrt() * eps,
}
table(["wrong", "RMS error"], [[n, (x - x_s).square().mean().sqrt()] for n, x in wrong.items()])

# %% [markdown]
# B: $\tilde{\boldsymbol\mu}_t$ at $\mathbf{x}_t=\sqrt{\bar\alpha_t}\,\mathbf{x}_0$ must be
# $\sqrt{\bar\alpha_{t-1}}\,\mathbf{x}_0$: no noise, no surprise. C: the covariance of $q_\sigma$
# does not depend on $\mathbf{x}_t$.

# %%
on_x0 = bar[t - 1].sqrt() * sch.beta[t] / (1 - bar[t])
share = (1 - bar[t - 1]) / (1 - bar[t]) * bar[t].sqrt()
agree(on_x0 + a[t].sqrt() * share, bar[t - 1].sqrt(), tol=1e-12, what="B, right")
print(f"B, with the bar: {on_x0 + bar[t].sqrt() * share:.3f} in place of {bar[t - 1].sqrt():.3f}")
agree(de.q_sigma(x_t, x0, t, s, 0.3, sch).var, 0.3**2, tol=1e-12, what="C, right")

# %% [markdown]
# And in words:
#
# | often said | right |
# |---|---|
# | the forward process of DDIM is that of DDPM | only its marginals are |
# | with $\sigma=0$ the forward process is deterministic | given $\mathbf{x}_0$ and $\mathbf{x}_1$; all chance is in $\mathbf{x}_1$ |
# | the bound compares $q(\mathbf{x}_{t-1}\mid\mathbf{x}_t)$ with $p_\theta$ | $q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)$: without $\mathbf{x}_0$ nobody knows it |
# | DDIM is not Markov | the forward process is not; the way back is |
# | DDIM has the lower FID throughout | up to 100 steps. At 1000 $\hat\sigma$ has: 3.17 to 4.04 |
# | DDIM (2022) | on arXiv in October 2020, at ICLR in 2021 |
# | the Keras example minimises the squared error | it is compiled with the mean absolute error |
# | a copy of Table 1 whose row label 0.0 stands under S = 10 | shift it: 13.36 belongs to 10 |

# %% [markdown]
# ## Checkpoint
#
# Two functions of exercise E7, as you would write them. They pass. **Break one and run again**:
# drop `- sigma**2`, or exchange $t$ and $s$, and see whether `check` finds out what you did.


# %%
def ddim_sigma(t, s, eta, sch):
    noisy, cleaner = sch.alpha_bar[t], sch.alpha_bar[s]
    return eta * ((1 - cleaner) / (1 - noisy)).sqrt() * (1 - noisy / cleaner).sqrt()


def ddim_step(xt, t, s, eps_pred, z, eta, sch):
    shape = (-1, *[1] * (xt.ndim - 1))
    bar_t, bar_s = sch.alpha_bar[t].reshape(shape), sch.alpha_bar[s].reshape(shape)
    sigma = ddim_sigma(t, s, eta, sch).reshape(shape)
    x0 = (xt - (1 - bar_t).sqrt() * eps_pred) / bar_t.sqrt()
    return bar_s.sqrt() * x0 + (1 - bar_s - sigma**2).sqrt() * eps_pred + sigma * z


de.check(ddim_step)

# %% [markdown]
# The explorer takes your function and walks it beside DDIM, from the same noise with the same
# $\mathbf{z}$.

# %%
de.EtaStepsLab(step=ddim_step, eta=0.5)

# %% [markdown]
# **Think.** You have time for ten calls of the network. Would you rather take ten steps with one
# network, or five steps with a network twice as large?
#
# Now exercise [E7](exercises/E7_fewer_steps_less_noise.ipynb): levels, noise scale, step, sampler,
# and two bugs to find.

# %% [markdown] tags=["answer"]
# There is no rule; measure. With $\eta=0$ on CIFAR-10, 20 steps have an FID of 6.84 and 10 steps
# one of 13.36: that is the price of half the steps. At 1000 steps 4.04 remain: that is the price of
# this network. As long as the first is much larger, spend on steps; when both are alike, on the
# network.

# %% [markdown] tags=["notation"]
# t s tau steps x0 xt x0_hat eps eps_theta z beta alpha alpha_bar beta_tilde mu_tilde sigma eta
# q p_theta kl
