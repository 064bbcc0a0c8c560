# %% [markdown]
# # One step back, by Bayes' rule
#
# A generative model walks against the noise. From $\mathbf{x}_t$ alone the step back is unknown:
# many points could have led there. But in training we know where the walk began. Then Bayes' rule
# answers exactly, and every diffusion model is trained to copy that answer.
#
# **You will be able to**
#
# - derive mean and variance of the step back by completing a square,
# - spot a missing root or a wrong index in them,
# - trade data for noise and noise for data,
# - say what changes when $\mathbf{x}_0$ is not known.

# %%
import torch

import diffusion_edu as de
from diffusion_edu.lectures import agree, card, show, table
from diffusion_edu.viz import plots

# %%
de.PosteriorPlayground()

# %% [markdown]
# Drag $\mathbf{x}_0$ and $\mathbf{x}_t$ in the pictures, and move **t**.
#
# - *Prior*: where $\mathbf{x}_{t-1}$ may be if only $\mathbf{x}_0$ is known. *Likelihood*: which
#   $\mathbf{x}_{t-1}$ explain $\mathbf{x}_t$. Their product, scaled to area 1, is the *posterior*.
# - At $t=2$, the smallest here, $\mathbf{x}_0$ and $\mathbf{x}_t$ count alike. (At $t=1$ the
#   posterior is $\mathbf{x}_0$ itself.) Large $t$: it follows $\mathbf{x}_t$.
# - Change **beta**. Whatever it is, the posterior is never wider than the other two.
#
# The symbols, from lectures [01](01_forward_process.ipynb) and [02](02_jump_to_any_t.ipynb):
# $\mathbf{x}_0$ is data, $\mathbf{x}_t$ has the noise of $t$ steps. Step $t$ adds noise of variance
# $\beta_t$ and keeps the share $\alpha_t=1-\beta_t$ of the variance. Over $t$ steps the share is
# $\bar\alpha_t=\alpha_1\cdots\alpha_t$, and $\bar\alpha_0=1$.

# %%
card("03.width")

# %% [markdown]
# ## Bayes' rule: the mean
#
# We look for $q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)$. Bayes' rule, with everything given
# $\mathbf{x}_0$:
#
# $$q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)
# =\frac{q(\mathbf{x}_t\mid\mathbf{x}_{t-1},\mathbf{x}_0)\;q(\mathbf{x}_{t-1}\mid\mathbf{x}_0)}
# {q(\mathbf{x}_t\mid\mathbf{x}_0)}$$
#
# The chain is Markov: once $\mathbf{x}_{t-1}$ is known, $\mathbf{x}_0$ adds nothing. So all three
# on the right are known Gaussians:
#
# $$\begin{aligned}
# \text{likelihood}\quad q(\mathbf{x}_t\mid\mathbf{x}_{t-1})
# &=\mathcal{N}(\mathbf{x}_t;\sqrt{\alpha_t}\,\mathbf{x}_{t-1},\ \beta_t\mathbf{I})\\
# \text{prior}\quad q(\mathbf{x}_{t-1}\mid\mathbf{x}_0)
# &=\mathcal{N}(\mathbf{x}_{t-1};\sqrt{\bar\alpha_{t-1}}\,\mathbf{x}_0,\ (1-\bar\alpha_{t-1})
# \mathbf{I})\\
# \text{evidence}\quad q(\mathbf{x}_t\mid\mathbf{x}_0)
# &=\mathcal{N}(\mathbf{x}_t;\sqrt{\bar\alpha_t}\,\mathbf{x}_0,\ (1-\bar\alpha_t)\mathbf{I})
# \end{aligned}$$
#
# Before any algebra, take numbers: multiply the curves on a fine grid, and divide by the area.

# %%
schedule, t = de.constant(10, 0.2), 4
x0, x_t = (torch.tensor([[v]], dtype=torch.float64) for v in (1.4, -0.6))

x = torch.linspace(-8, 8, 16001, dtype=torch.float64)[:, None]  # candidates for x_{t-1}
noise_before = 1 - schedule.alpha_bar[t - 1]
prior = de.Gaussian((schedule.alpha_bar[t - 1].sqrt() * x0).expand_as(x), noise_before)
likelihood = de.q_step(x, t, schedule)
product = (prior.log_prob(x) + likelihood.log_prob(x_t.expand_as(x))).exp()
evidence = torch.trapezoid(product, x[:, 0])
agree(evidence, de.q_marginal(x0, t, schedule).log_prob(x_t).exp(), what="area of the product")

# %% [markdown] tags=["covers-posterior-bayes"]
# **Completing the square.** All covariances are multiples of $\mathbf{I}$, so one coordinate is
# enough. Write $x$ for the unknown $x_{t-1}$. The evidence does not contain $x$; it goes into the
# constants.
#
# $$\begin{aligned}
# \log q(x\mid x_t,x_0)
# &=-\frac12\left[\frac{(x_t-\sqrt{\alpha_t}\,x)^2}{\beta_t}
# +\frac{(x-\sqrt{\bar\alpha_{t-1}}\,x_0)^2}{1-\bar\alpha_{t-1}}\right]+c_1
# &&\text{logarithms of Gaussians}\\
# &=-\frac12\left[\underbrace{\left(\frac{\alpha_t}{\beta_t}
# +\frac{1}{1-\bar\alpha_{t-1}}\right)}_{A}x^2
# -2\underbrace{\left(\frac{\sqrt{\alpha_t}\,x_t}{\beta_t}
# +\frac{\sqrt{\bar\alpha_{t-1}}\,x_0}{1-\bar\alpha_{t-1}}\right)}_{B}x\right]+c_2
# &&\text{collect powers of }x\\
# &=-\frac{A}{2}\left(x-\frac{B}{A}\right)^2+c_3
# &&\text{complete the square}
# \end{aligned}$$
#
# That is the logarithm of a Gaussian, and we can read off its parameters:
#
# $$\boxed{q(x_{t-1}\mid x_t,x_0)=\mathcal{N}\left(x_{t-1};\ \frac{B}{A},\ \frac{1}{A}\right)}$$

# %%
A = schedule.alpha[t] / schedule.beta[t] + 1 / noise_before
B = schedule.alpha[t].sqrt() * x_t / schedule.beta[t]
B = B + schedule.alpha_bar[t - 1].sqrt() * x0 / noise_before

by_algebra = de.Gaussian((B / A).expand_as(x), 1 / A).log_prob(x).exp()
agree(product / evidence, by_algebra, 1e-8, "curve by quadrature against B/A and 1/A")

# %% [markdown]
# Autograd sees the same two numbers. The logarithm of the product is a parabola in $x$: its slope
# at $x=0$ is $B$, and its second derivative is $-A$ everywhere.

# %%
at_zero = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
likelihood_0 = de.q_step(at_zero, t, schedule).log_prob(x_t)
prior_0 = de.Gaussian(schedule.alpha_bar[t - 1].sqrt() * x0, noise_before).log_prob(at_zero)
(slope,) = torch.autograd.grad((likelihood_0 + prior_0).sum(), at_zero, create_graph=True)
(curvature,) = torch.autograd.grad(slope.sum(), at_zero)
agree(slope, B, what="slope at 0 against B")
agree(curvature, -A, what="second derivative against -A")

# %% [markdown]
# **Tidy up.** Multiply $A$ and $B$ by $\beta_t(1-\bar\alpha_{t-1})$, which clears the fractions:
#
# $$\begin{aligned}
# A\,\beta_t(1-\bar\alpha_{t-1})&=\alpha_t(1-\bar\alpha_{t-1})+\beta_t\\
# &=\alpha_t-\bar\alpha_t+1-\alpha_t
# &&\text{as }\alpha_t\bar\alpha_{t-1}=\bar\alpha_t\text{ and }\beta_t=1-\alpha_t\\
# &=1-\bar\alpha_t\\
# B\,\beta_t(1-\bar\alpha_{t-1})&=\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})\,x_t
# +\sqrt{\bar\alpha_{t-1}}\,\beta_t\,x_0
# \end{aligned}$$
#
# The mean is the second divided by the first (DDPM eq. 7). The tilde marks what belongs to the step
# back.
#
# $$\boxed{\tilde{\boldsymbol\mu}_t(\mathbf{x}_t,\mathbf{x}_0)
# =\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,\mathbf{x}_0
# +\frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,\mathbf{x}_t}$$

# %%
show(de.q_posterior)

# %%
posterior = de.q_posterior(x_t, x0, t, schedule)
agree(posterior.mean, B / A, 1e-12, "mean, library against B/A")
agree(posterior.var, 1 / A, 1e-12, "variance, library against 1/A")
agree(torch.trapezoid(x[:, 0] * product / evidence, x[:, 0]), posterior.mean, 1e-8, "by quadrature")

# %% [markdown]
# **Read the mean.** Two guesses are weighed against each other.
#
# - The prior is about $\mathbf{x}_{t-1}$, so $\mathbf{x}_0$ comes with the root of
#   $\bar\alpha_{t-1}$, the level *before*, not of $\bar\alpha_t$.
# - Between $\mathbf{x}_{t-1}$ and $\mathbf{x}_t$ lies *one* step, so $\mathbf{x}_t$ comes with the
#   root of $\alpha_t$, without a bar.
# - Both need roots: they scale points, and $\alpha$ and $\bar\alpha$ are variances.
# - At $t=1$ the prior is a point, and the weights are exactly 1 and 0. Code that divides by
#   $1-\bar\alpha_{t-1}$, as $A$ and $B$ do, divides by 0 there: $B/A$ is not a number. The boxed
#   form has no such division.

# %%
card("03.weights")

# %% [markdown]
# **A test for the roots.** A point without noise, $\mathbf{x}_t=\sqrt{\bar\alpha_t}\,\mathbf{x}_0$,
# must go back to $\sqrt{\bar\alpha_{t-1}}\,\mathbf{x}_0$. Indeed
#
# $$\begin{aligned}
# \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t+\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})\sqrt{
# \bar\alpha_t}}{1-\bar\alpha_t}
# &=\sqrt{\bar\alpha_{t-1}}\;\frac{\beta_t+\alpha_t(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}
# &&\text{as }\sqrt{\alpha_t\bar\alpha_t}=\alpha_t\sqrt{\bar\alpha_{t-1}}\\
# &=\sqrt{\bar\alpha_{t-1}}
# &&\text{as above}
# \end{aligned}$$
#
# Formulas with a wrong root or a wrong index fail it. Keep it for the errata below.

# %%
levels, one = torch.arange(1, 11), torch.ones(10, 1).double()
quiet = schedule.alpha_bar[levels].sqrt()[:, None]  # x_t without noise, from x_0 = 1
back = de.q_posterior(quiet, one, levels, schedule).mean
agree(back[:, 0], schedule.alpha_bar[levels - 1].sqrt(), 1e-12, "without noise, all t")

# %% [markdown]
# ## Bayes' rule: the variance
#
# $1/A$ is ready too. A *precision* is one over a variance, and $A$ says that precisions add up:
# that of the likelihood as a statement about $\mathbf{x}_{t-1}$, plus that of the prior. The
# likelihood says $\mathbf{x}_{t-1}\approx\mathbf{x}_t/\sqrt{\alpha_t}$, give or take
# $\sqrt{\beta_t/\alpha_t}$: hence $\alpha_t/\beta_t$, not $1/\beta_t$.
#
# $$\frac1{\tilde\beta_t}=\frac{\alpha_t}{\beta_t}+\frac1{1-\bar\alpha_{t-1}}
# =\frac{1-\bar\alpha_t}{\beta_t(1-\bar\alpha_{t-1})}$$
#
# So the variance is a ratio of two noise *variances*, the smaller one on top, times $\beta_t$. It
# depends on $t$ alone, is 0 at $t=1$, and always below $\beta_t$. (Without the division it would be
# too small, at small $t$ by far; upside down it would exceed $\beta_t$.)
#
# $$\boxed{\tilde\beta_t=\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t}$$

# %%
show(de.Schedule.beta_tilde.func)  # one table for all t

# %%
long = de.linear(1000)  # DDPM's: beta from 1e-4 to 0.02
picked = [1, 2, 3, 10, 100, 1000]
rows = [(k, long.beta[k], long.beta_tilde[k], long.beta_tilde[k] / long.beta[k]) for k in picked]
table(["t", r"$\beta_t$", r"$\tilde\beta_t$", "ratio"], rows)

# %% [markdown]
# The two differ much at the first steps only. Which one is right for a model that does *not* know
# $\mathbf{x}_0$? Let the data be $\mathcal{N}(0,v)$. Then $x_{t-1}$ has variance
# $s=\bar\alpha_{t-1}v+1-\bar\alpha_{t-1}$, and the same square gives the precision
# $\alpha_t/\beta_t+1/s$.
#
# - $v=0$, all data at one point: $s=1-\bar\alpha_{t-1}$, and we are back at $\tilde\beta_t$.
# - $v=1$, data like the noise: $s=1$, and $1/(\alpha_t/\beta_t+1)=\beta_t$.
#
# Data of variance 1 in every coordinate lie in between: for the entropy of the step back these are
# the two bounds. DDPM (sec. 3.2) tried both.

# %%
s = torch.stack([1 - long.alpha_bar[:-1], torch.ones(1000).double()])  # v = 0 and v = 1
variance = 1 / (long.alpha[1:] / long.beta[1:] + 1 / s)
agree(variance[0], long.beta_tilde[1:], 1e-12, "data at a point: beta_tilde")
agree(variance[1], long.beta[1:], 1e-12, "data N(0, 1): beta")

# %% [markdown]
# ## One step back
#
# A sample of a Gaussian is its mean plus its *standard deviation* times fresh standard normal noise
# $\mathbf{z}$. Not $\tilde\beta_t\mathbf{z}$: a variance is no length. Not
# $\sqrt{1-\bar\alpha_{t-1}}\,\mathbf{z}$ either: that is the spread when only $\mathbf{x}_0$ is
# known, and $\mathbf{x}_t$ narrows it down. And every example gets a $\mathbf{z}$ of its own.
#
# Below, the swiss roll: 10 steps of $\beta=0.05$ forward, then 10 steps back, each point told its
# own $\mathbf{x}_0$.
#
# $$\boxed{\mathbf{x}_{t-1}=\tilde{\boldsymbol\mu}_t(\mathbf{x}_t,\mathbf{x}_0)
# +\sqrt{\tilde\beta_t}\;\mathbf{z},\qquad\mathbf{z}\sim\mathcal{N}(\mathbf{0},\mathbf{I})}$$

# %%
show(de.Gaussian.sample)

# %%
roll, g = de.toy.swiss_roll(3000).double(), torch.Generator().manual_seed(0)
short = de.constant(10, 0.05)
forth = de.forward_chain(roll, short, generator=g)  # (T+1, B, 2)
walk = [forth[10]]
for k in range(10, 0, -1):
    walk.append(de.q_posterior(walk[-1], roll, k, short).sample(generator=g))
walk = torch.stack(walk[::-1])  # walk[t] is x_t again
agree(walk[0], roll, 1e-12, "the last step ends at x_0")

# %% tags=["covers-posterior-swiss-roll"]
shown = [10, 8, 6, 4, 2, 0]
plots.clouds([walk[k] for k in shown], [f"t = {k}" for k in shown], behind=roll, colour=roll[:, 0])

# %% [markdown]
# The way back passes through the same clouds as the way forth. This is Bayes' rule once more:
# $q(\mathbf{x}_t\mid\mathbf{x}_0)$ times the posterior is the joint distribution of
# $\mathbf{x}_{t-1}$ and $\mathbf{x}_t$ given $\mathbf{x}_0$, so $\mathbf{x}_{t-1}$ must have its
# old distribution. We check it exactly. Push $\mathcal{N}(\sqrt{\bar\alpha_t}\,x_0,\ 1-\bar\alpha_t)$ through one step
# back and compare mean and variance. The mean is the test for roots above; for the variance let $w$
# be the weight of $x_t$:
#
# $$w^2\,(1-\bar\alpha_t)+\tilde\beta_t=1-\bar\alpha_{t-1}$$

# %%
zero = torch.zeros(10, 1).double()
w = de.q_posterior(one, zero, levels, short).mean[:, 0]  # the weight of x_t
spread = w**2 * (1 - short.alpha_bar[levels]) + short.beta_tilde[levels]
agree(spread, 1 - short.alpha_bar[levels - 1], 1e-12, "variance of x_{t-1}, exactly")
error = (2 * 2 / 3000) ** 0.5  # standard error of the difference of two variances near 1
agree(walk.var(1), forth.var(1), 4 * error, "variances of both walks, 3,000 points")

# %% [markdown]
# One step, seen close: a single $\mathbf{x}_0$, a single $\mathbf{x}_t$, 2,000 candidates for
# $\mathbf{x}_{t-1}$. With the posterior they form a small disc. If only $\mathbf{x}_0$ were known,
# the disc would be that of the prior.

# %% tags=["cover"]
here, there = roll[:1].expand(2000, 2), forth[5, :1].expand(2000, 2)
candidates = de.q_posterior(there, here, 5, short).sample(generator=g)
before = de.q_marginal(here, 4, short)
before = before.mean + before.var.sqrt() * torch.randn(2000, 2, generator=g).double()
titles = ["x₀ and x₅ known", "only x₀ known"]
plots.clouds([candidates, before], titles, behind=roll, limit=2.5)

# %% [markdown]
# ## When the data are not known
#
# A model that generates has no $\mathbf{x}_0$. It needs $q(\mathbf{x}_{t-1}\mid\mathbf{x}_t)$, an
# average of our posteriors over all $\mathbf{x}_0$ that could have led to $\mathbf{x}_t$:
#
# $$q(\mathbf{x}_{t-1}\mid\mathbf{x}_t)
# =\mathbb{E}_{\mathbf{x}_0\sim q(\mathbf{x}_0\mid\mathbf{x}_t)}
# \left[q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)\right]$$
#
# An average of Gaussians is no Gaussian in general. Let the data be two points, $-1$ and $+1$. At
# level $t-1$, $\bar\alpha_{t-1}=0.9$; then comes one step with $\beta_t$, and we find $x_t=0.3$.

# %%
card("03.unknown")

# %%
from diffusion_edu.viz import l03

curves, distances = l03.unknown_steps([0.9, 0.1, 0.01])
plots.lines(*curves, "xₜ₋₁ minus its mean, in standard deviations", "density")

# %%
table(["β", "KL to the nearest Gaussian, nats"], distances, 2)

# %%
show(l03.step_back)

# %% [markdown]
# The smaller the step, the closer the step back is to a Gaussian. This is why diffusion takes many
# small steps: a network that returns one mean is then enough. With one large step it would have to
# draw several bumps.
#
# So DDPM models the step back as
# $p_\theta(\mathbf{x}_{t-1}\mid\mathbf{x}_t)=\mathcal{N}(\mu_\theta,\sigma_t^2\mathbf{I})$: the
# posterior's form, with a network's guess in place of $\mathbf{x}_0$. No reference image is needed
# to generate.

# %% [markdown]
# ## Noise and data, each from the other
#
# The guess can be one of the data or one of the noise. Let $\boldsymbol\epsilon$ be the noise in
# $\mathbf{x}_t=\sqrt{\bar\alpha_t}\,\mathbf{x}_0+\sqrt{1-\bar\alpha_t}\,\boldsymbol\epsilon$. Solve
# for either one (DDPM eq. 15). All factors are those of level $t$ itself, and with bars: $t$ steps lie
# between $\mathbf{x}_0$ and $\mathbf{x}_t$.
#
# The second formula is needed whenever somebody changes $\hat{\mathbf{x}}_0$, the predicted data,
# say by clipping: the noise has to follow.
#
# $$\boxed{\mathbf{x}_0=\frac{\mathbf{x}_t-\sqrt{1-\bar\alpha_t}\,\boldsymbol\epsilon}{\sqrt{
# \bar\alpha_t}},\qquad
# \boldsymbol\epsilon=\frac{\mathbf{x}_t-\sqrt{\bar\alpha_t}\,\mathbf{x}_0}{\sqrt{1-
# \bar\alpha_t}}}$$

# %%
show(de.predict)

# %%
eps = torch.randn(3000, 2, generator=g).double()
x_500 = de.q_sample(roll, 500, eps, long)
agree(de.predict("eps", eps, x_500, 500, long).x0, roll, 1e-12, "data from noise")
agree(de.predict("x0", roll, x_500, 500, long).eps, eps, 1e-12, "noise from data")

# %% [markdown]
# **The mean in terms of the noise.** Put the first into $\tilde{\boldsymbol\mu}_t$ and collect:
#
# $$\begin{aligned}
# \text{factor of }\mathbf{x}_t:\quad
# &\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{(1-\bar\alpha_t)\sqrt{\bar\alpha_t}}
# +\frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\\
# &=\frac{\beta_t+\alpha_t(1-\bar\alpha_{t-1})}{(1-\bar\alpha_t)\sqrt{\alpha_t}}
# =\frac{1}{\sqrt{\alpha_t}}
# &&\text{as }\sqrt{\bar\alpha_{t-1}/\bar\alpha_t}=1/\sqrt{\alpha_t}\\
# \text{factor of }\boldsymbol\epsilon:\quad
# &-\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}
# \cdot\frac{\sqrt{1-\bar\alpha_t}}{\sqrt{\bar\alpha_t}}
# =-\frac{1}{\sqrt{\alpha_t}}\cdot\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}
# \end{aligned}$$
#
# This is the mean of DDPM's Algorithm 2 (eq. 11). It wants *noise*; do not feed it $\mathbf{x}_0$.
#
# $$\boxed{\tilde{\boldsymbol\mu}_t=\frac{1}{\sqrt{\alpha_t}}\left(\mathbf{x}_t
# -\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\boldsymbol\epsilon\right)}$$

# %%
step = long.beta[500] / (1 - long.alpha_bar[500]).sqrt()
by_noise = (x_500 - step * eps) / long.alpha[500].sqrt()
agree(by_noise, de.q_posterior(x_500, roll, 500, long).mean, 1e-12, "eq. 11 against eq. 7")

# %% [markdown]
# ## The logarithm of the variance
#
# Some code keeps $\log\tilde\beta_t$, because a network that learns variances works with
# logarithms. At $t=1$ the variance is 0 and its logarithm $-\infty$, so something must stand in.
# Two habits:
#
# - The logarithm of a tiny number such as $10^{-20}$. It is finite, but $-46$ is far from every
#   other entry.
# - The entry of $t=2$, of the same order as those that follow. Use this one.
#
# Only the table of *logarithms* needs it. The variance itself stays 0 at $t=1$, and samplers add no
# noise there.

# %%
safe, tiny = long.beta_tilde.clone(), long.beta_tilde.clamp(min=1e-20)
safe[:2] = long.beta_tilde[2]
rows = [(k, long.beta_tilde[k], tiny[k].log(), safe[k].log()) for k in (1, 2, 3, 10, 1000)]
table(["t", r"$\tilde\beta_t$", "log, at least log 1e-20", "log, entry 2 stands in"], rows)

# %%
lowest = torch.full((1, 2), -1.0).double()  # v = -1 asks for beta_tilde
agree(de.learned_variance(lowest, 1, long), safe[1], 1e-12, "what learned_variance takes at t = 1")

# %% [markdown]
# ## Check yours
#
# Here is the mean as exercise E3 asks for it: `t` has one entry for each example, hence `pick`. Run
# both cells. Then break it: drop a root, or write `sch.alpha_bar[t]` for `sch.alpha_bar[t - 1]`,
# and run them again. The check names the mistake, and the explorer shows what it does to the step
# back. The rest is in [E3](exercises/E3_walk_back_with_bayes.ipynb).


# %%
def posterior_mean(x0, xt, t, sch):
    def pick(values):
        return values.reshape(-1, *[1] * (x0.dim() - 1))

    before, now = pick(sch.alpha_bar[t - 1]), pick(sch.alpha_bar[t])
    on_x0 = before.sqrt() * pick(sch.beta[t]) / (1 - now)
    on_xt = pick(sch.alpha[t]).sqrt() * (1 - before) / (1 - now)
    return on_x0 * x0 + on_xt * xt


de.check(posterior_mean)


# %%
def my_posterior(x_t, x0, t, schedule):
    t = torch.full((len(x0),), t)
    return posterior_mean(x0, x_t, t, schedule), schedule.beta_tilde[t][:, None]


de.PosteriorPlayground(q_posterior=my_posterior)

# %% [markdown]
# ## Errata you may meet
#
# | often printed | right | how to see it |
# |---|---|---|
# | root of $\bar\alpha_t$ in the factor of $x_t$ | of $\alpha_t$: one step | test for roots |
# | eq. 11 divided by $\sqrt{\bar\alpha_t}$ | by $\sqrt{\alpha_t}$ | test for roots, $\epsilon=0$ |
# | "$q(x_{t-1})$ and $q(x_t)$ are normal" | only given $x_0$ | data at two points: two bumps |
# | Bayes' rule without $x_0$, its result with it | $x_0$ in all four terms | Bayes' rule, above |
# | "to generate, an image $x_0$ is needed" | in training; then $\hat x_0$ | lecture 06 has none |
# | code: "t = 0 is noised once" | counted from 0; here it is $t=1$ | $\tilde\beta=0$ comes first |

# %%
other_root = (schedule.alpha_bar[levels] / schedule.alpha[levels]).sqrt()
w_x0 = de.q_posterior(zero, one, levels, schedule).mean[:, 0]
w_xt = de.q_posterior(one, zero, levels, schedule).mean[:, 0] * other_root
reached = w_x0 + w_xt * schedule.alpha_bar[levels].sqrt()  # without noise, from x_0 = 1
wanted = schedule.alpha_bar[levels - 1].sqrt()
rows = list(zip(levels.tolist(), reached, wanted, strict=True))
table(["t", r"with the root of $\bar\alpha_t$", "should be"], rows[:5])

# %%
points = de.EmpiricalOracle(torch.tensor([[-1.0], [1.0]]).double(), schedule)
bell = de.Gaussian(torch.zeros_like(x), torch.ones(1).double())  # its mean, its variance
apart = (points.log_prob(x, 2) - bell.log_prob(x)) * points.log_prob(x, 2).exp()
given = de.q_posterior(x_t, x0, t, schedule).var
unknown = l03.variance_of_step(points, x_t, t)
agree(torch.trapezoid(points.log_prob(x, 2).exp(), x[:, 0]), 1.0, what="a density")
kl = ("KL of q(x₂) from the Gaussian of its mean and variance", torch.trapezoid(apart, x[:, 0]))
known = ("variance of the step back, x₀ known", given)
table(["", "value"], [kl, known, ("variance of the step back, x₀ unknown", unknown)])

# %% [markdown]
# ## Think
#
# 1. $\mathbf{x}_t$ is moved by 1. How far does the posterior mean move at $t=1$, and how far at
#    large $t$?
# 2. For which data does the step back *without* $\mathbf{x}_0$ have variance $\beta_t$ exactly? And
#    for which is it $\tilde\beta_t$?
# 3. Switch the first explorer to the law `q_sigma` and move **eta**. Mean and width change. What
#    does not? (Lecture 07 builds DDIM on that.)

# %% [markdown] tags=["answer"]
# 1. Not at all at $t=1$: the weight of $\mathbf{x}_t$ is 0. At large $t$ by
#    $\sqrt{\alpha_t}(1-\bar\alpha_{t-1})/(1-\bar\alpha_t)\to\sqrt{\alpha_t}$.
# 2. $\beta_t$ for $\mathcal{N}(\mathbf{m},\mathbf{I})$, whatever the mean; $\tilde\beta_t$ for a
#    single point.
# 3. The distribution of $\mathbf{x}_{t-1}$ given $\mathbf{x}_0$ alone: the marginal, which the
#    explorer integrates.

# %% [markdown] tags=["notation"]
# t x0 xt x0_hat eps z beta alpha alpha_bar beta_tilde mu_tilde q p_theta sigma
