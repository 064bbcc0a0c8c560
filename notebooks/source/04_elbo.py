# %% [markdown]
# # From the likelihood to a loss
#
# How good is a denoiser? As good as it makes the data probable. That probability is out of reach,
# but a bound on it is not. It splits into one comparison of Gaussians per step, and in the end a
# squared error of the noise is left.
#
# **You will be able to**
#
# - derive the bound in twelve steps, each with its reason,
# - say what its three kinds of terms mean, and which can be trained,
# - derive the weight that the simple loss leaves out,
# - read bits per dimension.

# %%
import math

import torch

import diffusion_edu as de
from diffusion_edu.lectures import agree, card, show, table
from diffusion_edu.viz import plots

# %%
de.ElboDecomposer()

# %% [markdown]
# Here the data are a mixture of Gaussians, so $-\log p$ is known: the level in the second picture.
#
# - First picture: one term for every step. They are added up in the second. The bars are
#   standard errors. Only the last term, at $t=1$, may be negative; then it is left out here, where
#   the axis is logarithmic, and the line of text has it.
# - Make **steps T** larger. The terms shrink, and the sum comes closer to the level, from above.
# - Third picture: how much the squared error of each step counts in the bound, and in simpler
#   losses that do without it.
#
# All numbers are in *nats*, the unit of natural logarithms, until the last section.

# %% [markdown] tags=["covers-background"]
# ## Two kinds of generative models
#
# - **Likelihood-based** models assign a probability to every example, and are trained to make data
#   probable. Autoregressive models and normalising flows compute it exactly. Variational
#   autoencoders and diffusion models have hidden variables, and compute a bound on it.
# - **Implicit** models only say how to draw an example: a fixed function of noise. Generative
#   adversarial networks are trained by a critic that compares draws with data. (The I in DDIM means
#   this: lecture 07.)
#
# Four tools are enough for the rest: Bayes' rule, averages by Monte-Carlo, the KL divergence, and
# the evidence lower bound.

# %% [markdown]
# ## Bayes' rule and Monte-Carlo
#
# Let $z$ be hidden and $x$ be seen; $p(z)$ is the *prior*, $p(x\mid z)$ the *likelihood* (how well
# $z$ explains $x$), $p(x)$ the *evidence* and $p(z\mid x)$ the *posterior*:
#
# $$p(z\mid x)=\frac{p(x\mid z)\,p(z)}{p(x)}$$
#
# Below we take $z\sim\mathcal{N}(0,1)$ and $x\mid z\sim\mathcal{N}(z,0.5)$, so that
# $x\sim\mathcal{N}(0,1.5)$.
#
# *Monte-Carlo*: an average over a distribution $q$ is estimated from K draws. The standard error is
# the standard deviation of the values $f(z_k)$, over $\sqrt{K}$.
#
# $$\boxed{\mathbb{E}_{z\sim q}[f(z)]=\int q(z)f(z)\,dz\approx\frac1K\sum_{k=1}^{K}f(z_k),
# \qquad z_k\sim q}$$


# %%
def number(x):
    return torch.tensor([[x]], dtype=torch.float64)  # (1, 1)


def normal(mean, var):
    return de.Gaussian(number(mean), number(var))


g, K, x = torch.Generator().manual_seed(0), 100_000, 1.2
z = torch.randn(K, 1, generator=g).double()  # draws of the prior
f = (-((x - z) ** 2)).exp() / math.sqrt(math.pi)  # p(x | z) at x, variance 0.5
evidence = normal(0.0, 1.5).log_prob(number(x)).exp()
agree(f.mean(), evidence, 4 * f.std() / K**0.5, "p(x) by Monte-Carlo, four standard errors")

# %% [markdown]
# ## KL divergence
#
# How different are two distributions? Average the difference of their log-densities over the
# *first* one:
#
# $$D_\mathrm{KL}(q\,\Vert\,p)=\mathbb{E}_{q}\left[\log\frac{q}{p}\right]
# =-\mathbb{E}_{q}\left[\log\frac{p}{q}\right]=\underbrace{\mathbb{E}_q[-
# \log p]}_{\text{cross-entropy}}
# -\underbrace{\mathbb{E}_q[-\log q]}_{\text{entropy of }q}$$
#
# It is never negative, because $\log u\le u-1$:
#
# $$-D_\mathrm{KL}(q\,\Vert\,p)=\mathbb{E}_q\left[\log\frac pq\right]\le\mathbb{E}_q
# \left[\frac pq-1\right]
# \le\int p-\int q=0$$
#
# Equality needs $p=q$. If $q$ may be chosen, the entropy pulls it wide and the cross-entropy pulls
# it onto the peak of $p$. It is no distance: swapping $q$ and $p$ changes it.

# %%
card("04.kl")

# %% [markdown]
# ## KL of two Gaussians
#
# Let $q=\mathcal{N}(m_1,v_1)$ and $p=\mathcal{N}(m_2,v_2)$; $v$ are *variances*, neither deviations
# nor logarithms.
#
# $$\begin{aligned}
# \log q(x)-\log p(x)&=\tfrac12\log\frac{v_2}{v_1}+\tfrac12
# \left[\frac{(x-m_2)^2}{v_2}-\frac{(x-m_1)^2}{v_1}\right]
# &&\text{two log-densities}\\
# \mathbb{E}_q[(x-m_1)^2]&=v_1,\qquad\mathbb{E}_q[(x-m_2)^2]=v_1+(m_1-m_2)^2
# &&\text{averages over }q
# \end{aligned}$$
#
# The factor ½ belongs to all three terms. Distances are measured in units of the *second* variance.
# The $-1$ is the average of $-(x-m_1)^2/v_1$. Log-densities of independent dimensions add up, hence
# a *sum* over dimensions $i$, not an average; and one number for each example of a batch.
#
# $$\boxed{D_\mathrm{KL}=\frac12\sum_i\left[\log\frac{v_2}{v_1}+\frac{v_1
# +(m_1-m_2)^2}{v_2}-1\right]}$$

# %%
show(de.Gaussian.kl)

# %%
q, p = normal(0.3, 0.5), normal(-0.4, 1.2)
u = torch.linspace(-12, 12, 24001, dtype=torch.float64)[:, None]
log_q, log_p = (de.Gaussian(w.mean.expand_as(u), w.var).log_prob(u) for w in (q, p))
agree(torch.trapezoid(log_q.exp() * (log_q - log_p), u[:, 0]), q.kl(p), 1e-9, "KL by quadrature")

draws = 0.3 + math.sqrt(0.5) * z
log_q, log_p = (de.Gaussian(w.mean.expand_as(z), w.var).log_prob(draws) for w in (q, p))
agree((log_q - log_p).mean(), q.kl(p), 4 * (log_q - log_p).std() / K**0.5, "KL by Monte-Carlo")

# %% [markdown]
# ## The evidence lower bound
#
# We want $\log p(x)$, but the integral over $z$ is out of reach in general. Take any distribution
# $q(z\mid x)$ that we *can* handle, and compare it with the posterior:
#
# $$\begin{aligned}
# D_\mathrm{KL}(q(z\mid x)\,\Vert\,p(z\mid x))&=\mathbb{E}_q\left[\log\frac{q(z\mid x)}{p(z
# \mid x)}\right]\\
# &=\mathbb{E}_q\left[\log\frac{q(z\mid x)\,p(x)}{p(x\mid z)\,p(z)}\right]&&\text{Bayes' rule}\\
# &=\log p(x)+D_\mathrm{KL}(q(z\mid x)\,\Vert\,p(z))-\mathbb{E}_q[\log p(x\mid z)]
# &&p(x)\text{ has no }z
# \end{aligned}$$
#
# The left side is not negative. Leaving it out gives a bound, and the gap is exactly what was left
# out: the bound is as good as $q$.
#
# $$\boxed{\log p(x)\ \ge\ \mathbb{E}_q[\log p(x\mid z)]-D_\mathrm{KL}(q(z\mid x)\,\Vert\,p(z))
# =\text{ELBO}}$$

# %%
m, v = 0.5, 0.3  # q(z | x) = N(m, v), chosen badly
log_evidence = normal(0.0, 1.5).log_prob(number(x))
log_likelihood = -0.5 * ((x - m) ** 2 + v) / 0.5 - 0.5 * math.log(2 * math.pi * 0.5)
bound = log_likelihood - normal(m, v).kl(normal(0.0, 1.0))
posterior = normal(x / 1.5, 1 / 3)  # by lecture 03: precisions 1 and 2 add up
agree(log_evidence - bound, normal(m, v).kl(posterior), 1e-9, "gap = KL(q || posterior)")

# %% [markdown]
# **The loss of a variational autoencoder** is minus this bound. An encoder gives $q_\phi(z\mid x)$,
# a decoder $p_\theta(x\mid z)$, and both are trained at once:
#
# $$-\log p_\theta(x)\ \le\ \underbrace{D_\mathrm{KL}(q_\phi(z\mid x)\,
# \Vert\,p(z))}_{\text{regularisation}}
# +\underbrace{\mathbb{E}_{q_\phi}[-\log p_\theta(x\mid z)]}_{\text{reconstruction error}}$$
#
# Or in turns (expectation-maximisation): first the $\phi$ that closes the gap, then, with $\phi$
# fixed, the $\theta$ that raises the bound.
#
# A diffusion model is the same with T hidden variables $\mathbf{x}_1,\dots,\mathbf{x}_T$ instead of
# $z$, and with an encoder that has nothing to learn: the noising chain
# $q(\mathbf{x}_{1:T}\mid\mathbf{x}_0)=\prod_t q(\mathbf{x}_t\mid\mathbf{x}_{t-1})$.

# %% [markdown]
# ## A model where all is known
#
# The decoder starts from noise, $p(\mathbf{x}_T)=\mathcal{N}(\mathbf{0},\mathbf{I})$, and takes T
# steps back:
#
# $$p_\theta(\mathbf{x}_{t-1}\mid\mathbf{x}_t)
# =\mathcal{N}(\mathbf{x}_{t-1};\boldsymbol\mu_\theta(\mathbf{x}_t,t),\sigma_t^2\mathbf{I})$$
#
# To check every line of the derivation, take data $\mathcal{N}(0,0.25)$ in one dimension, $T=5$
# steps with $\beta=0.3$, and the best possible $\boldsymbol\mu_\theta$: the posterior's mean with
# $\hat{\mathbf{x}}_0=\mathbb{E}[\mathbf{x}_0\mid\mathbf{x}_t]$, with $\sigma_t^2=\beta_t$. It is
# linear in $\mathbf{x}_t$, so everything is Gaussian, and $-\log p_\theta(\mathbf{x}_0)$ is known.

# %%
schedule, T, B = de.constant(5, 0.3), 5, 20_000
one = torch.ones(1).double()
denoiser = de.MixtureOracle(number(0.0), 0.25 * one, one, schedule)


def p_step(x_t, t):
    """p(x_{t-1} | x_t)."""
    mean = de.q_posterior(x_t, denoiser.x0(x_t, t), t, schedule).mean
    return de.Gaussian(mean, schedule.beta[t])


# %% [markdown]
# The model's own chain is linear: $x_{t-1}=c_tx_t+\sqrt{\beta_t}\,z$. So $(x_0,\dots,x_T)$ is a
# Gaussian vector. Its covariance gives $-\log p_\theta(x_0)$, and the posterior
# $p_\theta(x_{1:T}\mid x_0)$ by conditioning.

# %%
x0 = number(0.8)
mix = torch.zeros(T + 1, T + 1).double()  # x_t = sum over j of mix[t, j] z_j
mix[T, T] = 1
for t in range(T, 0, -1):
    mix[t - 1] = p_step(one[:, None], t).mean.item() * mix[t]
    mix[t - 1, t - 1] = schedule.beta[t].sqrt()
cov = mix @ mix.T
nll = -de.Gaussian(number(0.0), cov[:1, :1]).log_prob(x0)  # -log p(x_0)

gain = cov[1:, :1] / cov[0, 0]
Normal = torch.distributions.MultivariateNormal
p_rest = Normal((gain * x0)[:, 0], cov[1:, 1:] - gain @ cov[:1, 1:])  # p(x_1, ..., x_T | x_0)
print(f"-log p(x_0) = {nll.item():.4f} nats")

# %% [markdown] tags=["covers-twelve-steps"]
# ## The bound in twelve steps
#
# $\mathbb{E}_q$ is the average over $\mathbf{x}_{1:T}\sim q(\mathbf{x}_{1:T}\mid\mathbf{x}_0)$.
# What does not depend on $\mathbf{x}_{1:T}$ is its own average. **Steps 1 to 4: make it an average,
# and bound it.**
#
# $$\begin{aligned}
# -\log p_\theta(\mathbf{x}_0)
# &\overset{1}{=}\mathbb{E}_q\left[-\log\frac{p_\theta(\mathbf{x}_{0:T})}{p_\theta(\mathbf{x}_{1:T}
# \mid\mathbf{x}_0)}\right]
# &&\text{Bayes' rule}\\
# &\overset{2}{=}\mathbb{E}_q\left[-\log\left(\frac{p_\theta(\mathbf{x}_{0:T})}{q(\mathbf{x}_{1:T}
# \mid\mathbf{x}_0)}
# \cdot\frac{q(\mathbf{x}_{1:T}\mid\mathbf{x}_0)}{p_\theta(\mathbf{x}_{1:T}
# \mid\mathbf{x}_0)}\right)\right]
# &&\text{times 1}\\
# &\overset{3}{=}\mathbb{E}_q\left[-\log\frac{p_\theta(\mathbf{x}_{0:T})}{q(\mathbf{x}_{1:T}
# \mid\mathbf{x}_0)}\right]
# -D_\mathrm{KL}(q(\mathbf{x}_{1:T}\mid\mathbf{x}_0)\,\Vert\,p_\theta(\mathbf{x}_{1:T}
# \mid\mathbf{x}_0))
# &&\text{split the logarithm}\\
# &\overset{4}{\le}\mathbb{E}_q\left[\log\frac{q(\mathbf{x}_{1:T}
# \mid\mathbf{x}_0)}{p_\theta(\mathbf{x}_{0:T})}\right]=:L
# &&D_\mathrm{KL}\ge0
# \end{aligned}$$
#
# Only step 4 loses anything. $L$ is minus the ELBO: an *upper* bound, to be made small. Both chains
# are Markov:
#
# $$q(\mathbf{x}_{1:T}\mid\mathbf{x}_0)=\prod_{t=1}^{T}q(\mathbf{x}_t\mid\mathbf{x}_{t-1}),\qquad
# p_\theta(\mathbf{x}_{0:T})=p(\mathbf{x}_T)\prod_{t=1}^{T}p_\theta(\mathbf{x}_{t-1}
# \mid\mathbf{x}_t)$$

# %% [markdown]
# We check the lines on 20,000 paths of $q$, path by path. Lines 1 and 2 must give the same number
# on *every* path.

# %%
g = torch.Generator().manual_seed(1)
path = de.forward_chain(x0.expand(B, 1), schedule, generator=g)  # path[t] is x_t, (B, 1)
start = de.Gaussian(torch.zeros(B, 1).double(), one).log_prob(path[T])  # log p(x_T)
steps = range(1, T + 1)
p_log = {t: p_step(path[t], t).log_prob(path[t - 1]) for t in steps}  # log p(x_{t-1} | x_t)
q_log = {t: de.q_step(path[t - 1], t, schedule).log_prob(path[t]) for t in steps}
joint, forward = start + sum(p_log.values()), sum(q_log.values())
rest = p_rest.log_prob(path[1:, :, 0].T)

agree(-(joint - rest), nll, 1e-9, "line 1 on every path, against -log p(x_0)")
agree(-((joint - forward) + (forward - rest)), nll, 1e-9, "line 2 on every path")

# %% [markdown]
# Line 3 is where the divergence appears. Both distributions are Gaussian vectors, so it is known
# exactly. Given $x_0$, the covariance of $x_s$ and $x_t$ ($s\le t$) is
# $\sqrt{\bar\alpha_t/\bar\alpha_s}\,(1-\bar\alpha_s)$.

# %%
i = torch.arange(1, T + 1)
early, late = torch.minimum(i[:, None], i), torch.maximum(i[:, None], i)
a = schedule.alpha_bar
q_rest = Normal(a[1:].sqrt() * x0[0], (a[late] / a[early]).sqrt() * (1 - a[early]))
lost = torch.distributions.kl_divergence(q_rest, p_rest)

L_exact, line_4 = nll + lost, forward - joint
agree(line_4.mean(), L_exact, 4 * line_4.std() / B**0.5, "line 4 by Monte-Carlo, against 3")
print(f"-log p = {nll.item():.4f}, lost in step 4: {lost:.4f}, L = {L_exact.item():.4f} nats")

# %% [markdown]
# **Steps 5 to 8: products become sums.**
#
# $$\begin{aligned}
# L&\overset{5}{=}\mathbb{E}_q\left[\log\frac{\prod_{t=1}^{T}q(\mathbf{x}_t\mid\mathbf{x}_{t-1})}
# {p(\mathbf{x}_T)\prod_{t=1}^{T}p_\theta(\mathbf{x}_{t-1}\mid\mathbf{x}_t)}\right]
# &&\text{both are Markov}\\
# &\overset{6}{=}\mathbb{E}_q\left[-\log p(\mathbf{x}_T)
# +\sum_{t=1}^{T}\log\frac{q(\mathbf{x}_t\mid\mathbf{x}_{t-1})}{p_\theta(\mathbf{x}_{t-1}
# \mid\mathbf{x}_t)}\right]
# &&\text{logarithm of a product}\\
# &\overset{7}{=}\mathbb{E}_q\left[-\log p(\mathbf{x}_T)
# +\sum_{t=1}^{T}\log\frac{q(\mathbf{x}_t\mid\mathbf{x}_{t-1},\mathbf{x}_0)}
# {p_\theta(\mathbf{x}_{t-1}\mid\mathbf{x}_t)}\right]
# &&\text{Markov: }\mathbf{x}_0\text{ adds nothing}\\
# &\overset{8}{=}\mathbb{E}_q\left[-\log p(\mathbf{x}_T)
# +\sum_{t=2}^{T}\log\frac{q(\mathbf{x}_t\mid\mathbf{x}_{t-1},\mathbf{x}_0)}
# {p_\theta(\mathbf{x}_{t-1}\mid\mathbf{x}_t)}
# +\log\frac{q(\mathbf{x}_1\mid\mathbf{x}_0)}{p_\theta(\mathbf{x}_0\mid\mathbf{x}_1)}\right]
# &&\text{set }t=1\text{ aside}
# \end{aligned}$$
#
# Why set $t=1$ aside? Step 9 turns each $q$ around, and at $t=1$ it would divide by
# $q(\mathbf{x}_0\mid\mathbf{x}_0)$, which is a point, not a density.

# %%
line_6 = -start + sum(q_log[t] - p_log[t] for t in steps)
line_8 = -start + sum(q_log[t] - p_log[t] for t in range(2, T + 1)) + q_log[1] - p_log[1]
agree(line_6, line_4, 1e-9, "line 6 against line 4, every path")
agree(line_8, line_4, 1e-9, "line 8 against line 4, every path")

# %% [markdown]
# **Steps 9 to 12: turn q around.** Step 9 is the heart: Bayes' rule of lecture 03 makes $q$ speak
# about $\mathbf{x}_{t-1}$ given $\mathbf{x}_t$, as $p_\theta$ does.
#
# $$\begin{aligned}
# L&\overset{9}{=}\mathbb{E}_q\left[-\log p(\mathbf{x}_T)
# +\sum_{t=2}^{T}\log\left(\frac{q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)}
# {p_\theta(\mathbf{x}_{t-1}\mid\mathbf{x}_t)}
# \cdot\frac{q(\mathbf{x}_t\mid\mathbf{x}_0)}{q(\mathbf{x}_{t-1}\mid\mathbf{x}_0)}\right)
# +\log\frac{q(\mathbf{x}_1\mid\mathbf{x}_0)}{p_\theta(\mathbf{x}_0\mid\mathbf{x}_1)}\right]\\
# &\overset{10}{=}\mathbb{E}_q\left[-\log p(\mathbf{x}_T)
# +\sum_{t=2}^{T}\log\frac{q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)}
# {p_\theta(\mathbf{x}_{t-1}\mid\mathbf{x}_t)}
# +\sum_{t=2}^{T}\log\frac{q(\mathbf{x}_t\mid\mathbf{x}_0)}{q(\mathbf{x}_{t-1}\mid\mathbf{x}_0)}
# +\log\frac{q(\mathbf{x}_1\mid\mathbf{x}_0)}{p_\theta(\mathbf{x}_0\mid\mathbf{x}_1)}\right]\\
# &\overset{11}{=}\mathbb{E}_q\left[-\log p(\mathbf{x}_T)
# +\sum_{t=2}^{T}\log\frac{q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)}
# {p_\theta(\mathbf{x}_{t-1}\mid\mathbf{x}_t)}
# +\log\frac{q(\mathbf{x}_T\mid\mathbf{x}_0)}{q(\mathbf{x}_1\mid\mathbf{x}_0)}
# +\log\frac{q(\mathbf{x}_1\mid\mathbf{x}_0)}{p_\theta(\mathbf{x}_0\mid\mathbf{x}_1)}\right]\\
# &\overset{12}{=}\mathbb{E}_q\left[\log\frac{q(\mathbf{x}_T\mid\mathbf{x}_0)}{p(\mathbf{x}_T)}
# +\sum_{t=2}^{T}\log\frac{q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)}
# {p_\theta(\mathbf{x}_{t-1}\mid\mathbf{x}_t)}-\log p_\theta(\mathbf{x}_0\mid\mathbf{x}_1)\right]
# \end{aligned}$$
#
# Step 10 splits the logarithm. In step 11 the middle sum telescopes: the numerator at $t$ is the
# denominator at $t+1$. Step 12 cancels $q(\mathbf{x}_1\mid\mathbf{x}_0)$ and collects.

# %%
start_x0 = x0.expand(B, 1)
m_log = {t: de.q_marginal(start_x0, t, schedule).log_prob(path[t]) for t in steps}  # q(x_t | x_0)
backward = {t: de.q_posterior(path[t], start_x0, t, schedule) for t in range(2, T + 1)}
b_log = {t: q.log_prob(path[t - 1]) for t, q in backward.items()}
turned = {t: b_log[t] + m_log[t] - m_log[t - 1] for t in b_log}
agree(turned[3], q_log[3], 1e-9, "step 9 at t = 3, every path")
agree(sum(m_log[t] - m_log[t - 1] for t in b_log), m_log[T] - m_log[1], 1e-9, "step 11, every path")
line_12 = m_log[T] - start + sum(b_log[t] - p_log[t] for t in b_log) - p_log[1]
agree(line_12, line_4, 1e-9, "line 12 against line 4, every path")

# %% [markdown]
# Now average inside: over $\mathbf{x}_{t-1}$ given $\mathbf{x}_t$ and $\mathbf{x}_0$ each logarithm
# becomes a KL divergence, and the outer average is over
# $\mathbf{x}_t\sim q(\mathbf{x}_t\mid\mathbf{x}_0)$ alone (DDPM eq. 5):
#
# $$\boxed{L=\underbrace{D_\mathrm{KL}(q(\mathbf{x}_T\mid\mathbf{x}_0)\,
# \Vert\,p(\mathbf{x}_T))}_{L_T}
# +\sum_{t=2}^{T}\underbrace{\mathbb{E}_q\,D_\mathrm{KL}(q(\mathbf{x}_{t-1}
# \mid\mathbf{x}_t,\mathbf{x}_0)\,\Vert\,
# p_\theta(\mathbf{x}_{t-1}\mid\mathbf{x}_t))}_{L_{t-1}}
# +\underbrace{\mathbb{E}_q[-\log p_\theta(\mathbf{x}_0\mid\mathbf{x}_1)]}_{L_0}}$$

# %%
show(de.elbo, de.objectives.bound_term)

# %% [markdown]
# The whole, without any Monte-Carlo: in our model each term is a polynomial of degree 2 in the
# noise, so three well-chosen noises with weights $\tfrac16,\tfrac23,\tfrac16$ give its exact
# average (Gauss-Hermite quadrature).

# %%
nodes = torch.tensor([-(3**0.5), 0, 3**0.5], dtype=torch.float64)
weights = torch.tensor([1, 4, 1]).double() / 6
eps = nodes.view(1, 3, 1).expand(T, 3, 1)  # the same three noises at every t
terms = de.elbo(denoiser, x0.expand(3, 1), schedule, decoder="gaussian", eps=eps)
L = (weights * terms.total).sum()
agree(L, L_exact, 1e-9, "L_T + sum of L_{t-1} + L_0, against lines 3 and 4")

# %% [markdown]
# What was the rearranging good for? Lines 6 and 12 have the same sum, split into terms in different
# ways. Training draws *one* $t$ at a time, and then a single term has to do. Those of line 6 are
# all noise: their standard deviation is many times their mean. The divergences are nearly steady.

# %%
raw, g = {t: q_log[t] - p_log[t] for t in b_log}, torch.Generator().manual_seed(2)
many = de.elbo(denoiser, start_x0, schedule, decoder="gaussian", generator=g)
rows = []
for t in raw:
    kl = many.L_t[:, t - 2]
    rows.append((t, raw[t].mean(), raw[t].std(), kl.mean(), kl.std()))
table(["t", "line 6: mean", "std", "L of t-1: mean", "std"], rows, 2)

# %% [markdown] tags=["covers-three-terms"]
# ## The three terms of the bound
#
# - $L_T$: is the end of the noising chain really the noise that sampling starts from? Nothing in it
#   can be trained: $\beta$ is fixed, so $q$ has no parameters, and neither has $p(\mathbf{x}_T)$.
#   It is constant for *that* reason, not because it is zero. (In a VAE: the regularisation.)
# - $L_{t-1}$ for $t=2,\dots,T$: does the model's step back match Bayes' rule? This is where the
#   network learns.
# - $L_0$: how well is $\mathbf{x}_0$ recovered from $\mathbf{x}_1$, which has hardly any noise? (In
#   a VAE: the reconstruction error.)

# %% [markdown]
# For $L_T$ put $q(\mathbf{x}_T\mid\mathbf{x}_0)$, with mean $\sqrt{\bar\alpha_T}\,\mathbf{x}_0$ and
# variance $1-\bar\alpha_T$, and $\mathcal{N}(\mathbf{0},\mathbf{I})$ into the formula. The mean has
# the *root* of $\bar\alpha_T$, and all T steps lead there, so it is $\bar\alpha_T$, not $\alpha_T$.
#
# Guess its size first, for DDPM's schedule: $\beta$ from 0.0001 to 0.02 in 1,000 steps.
#
# $$\boxed{L_T=\frac12\sum_i\left[\bar\alpha_T\,x_{0,i}^2-\bar\alpha_T-\log(1-\bar\alpha_T)
# \right]}$$

# %%
card("04.prior")

# %%
ddpm, cut = de.linear(1000), de.linear(100, 1e-4, 0.02)  # same ends
unit = normal(0.0, 1.0)
at_end = {s.T: de.q_marginal(one[:, None], s.T, s).kl(unit) for s in (ddpm, cut)}
end = ddpm.alpha_bar[1000]
exact = de.q_marginal(number(2.0), 1000, ddpm).kl(unit)
agree(exact, 0.5 * (4 * end - end - (1 - end).log()), 1e-12, "the formula, x_0 = 2")
print("L_T in nats for x_0 = 1:", {T: f"{nats.item():.2g}" for T, nats in at_end.items()})

# %% [markdown]
# $L_{t-1}$ compares $q=\mathcal{N}(\tilde{\boldsymbol\mu}_t,\tilde\beta_t\mathbf{I})$ with
# $p_\theta=\mathcal{N}(\boldsymbol\mu_\theta,\sigma_t^2\mathbf{I})$. The model's mean needs
# predicted data. The predicted noise $\boldsymbol\epsilon_\theta(\mathbf{x}_t,t)$ is not yet that;
# it has to be taken away, and the rest scaled up again:
#
# $$\hat{\mathbf{x}}_0=\frac{\mathbf{x}_t-\sqrt{1-\bar\alpha_t}\,
# \boldsymbol\epsilon_\theta(\mathbf{x}_t,t)}{\sqrt{\bar\alpha_t}}$$
#
# There are two variances, so a constant stands beside the means. It is 0 only for
# $\sigma_t^2=\tilde\beta_t$, and counts once *per dimension*. With $r=\tilde\beta_t/\sigma_t^2$ and
# D dimensions
#
# $$\boxed{L_{t-1}=\frac{1}{2\sigma_t^2}\,\mathbb{E}_q\lVert\tilde{\boldsymbol\mu}_t
# -\boldsymbol\mu_\theta\rVert^2+\frac D2\left[r-1-\log r\right]}$$

# %%
network, trained, _ = de.pretrained("gaussians")
levels = de.timesteps(trained.T, 20)  # 20 levels of its 1,000
chain = de.respace(trained, levels)


def model(x_t, t):
    return network(x_t, levels.flip(0)[t]).detach()


g, data = torch.Generator().manual_seed(3), de.toy.gaussians(500)
eps = torch.randn(20, 500, 2, generator=g)
terms = de.elbo(model, data, chain, decoder="gaussian", eps=eps)
exact = -de.MixtureOracle(*de.toy.gaussians_mixture(), chain).log_prob(data, 0)  # of the data
shown = (terms.L_T, terms.L_t.sum(1), terms.L_0, terms.total, exact)
table(
    ["L_T", "sum of L_{t-1}", "L_0", "total, nats", "-log q(x_0)"],
    [[x.mean() for x in shown]],
)

# %% [markdown]
# $L_0$ is negative here: minus the logarithm of a *density*, and densities may exceed 1. The total
# stays above $-\log q(\mathbf{x}_0)$: the chain is short, and the network not perfect.
#
# How far is the bound, with a perfect denoiser, from the average of $-\log q(x_0)$, below which no
# model gets? For data $\mathcal{N}(0,0.25)$ that average is known: $\tfrac12\log(2\pi e\cdot0.25)$.
# The true step back has a variance between $\tilde\beta_t$ and $\beta_t$ (lecture 03), and the
# model takes $\beta_t$. Smaller steps make that matter less: from $T=20$ on the gap falls like
# $1/T$.


# %%
def gap(T):
    """Average of L minus that of -log q(x_0), in nats; nine pairs of data and noise are exact."""
    short = de.linear(T)
    best = de.MixtureOracle(number(0.0), 0.25 * one, one, short)
    data, eps = 0.5 * nodes.repeat_interleave(3)[:, None], nodes.repeat(3).view(1, 9, 1)
    L = de.elbo(best, data, short, decoder="gaussian", eps=eps.expand(T, 9, 1)).total
    mean = (weights[:, None] * weights).flatten() @ L.to(weights)
    return mean.item() - 0.5 * math.log(2 * math.pi * math.e * 0.25)


table(["T", "gap, nats", "T times gap"], [(T, gap(T), T * gap(T)) for T in (10, 20, 40, 80)], 3)

# %% [markdown]
# ## From the bound to the loss
#
# Lecture 03 wrote the posterior's mean with the noise that is in $\mathbf{x}_t$. Give the model's
# mean the same form, with the predicted noise. Then only the noises differ:
#
# $$\begin{aligned}
# \tilde{\boldsymbol\mu}_t-\boldsymbol\mu_\theta
# &=\frac{1}{\sqrt{\alpha_t}}\left(\mathbf{x}_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}
# \boldsymbol\epsilon\right)
# -\frac{1}{\sqrt{\alpha_t}}\left(\mathbf{x}_t-\frac{\beta_t}{\sqrt{1-\bar\alpha_t}}
# \boldsymbol\epsilon_\theta\right)\\
# &=-\frac{\beta_t}{\sqrt{\alpha_t}\sqrt{1-\bar\alpha_t}}\,(\boldsymbol\epsilon-\boldsymbol\epsilon_
# \theta)
# &&\mathbf{x}_t\text{ cancels}\\
# \frac{1}{2\sigma_t^2}\lVert\tilde{\boldsymbol\mu}_t-\boldsymbol\mu_\theta\rVert^2
# &=\frac{\beta_t^2}{2\sigma_t^2\,\alpha_t(1-\bar\alpha_t)}\,
# \lVert\boldsymbol\epsilon-\boldsymbol\epsilon_\theta\rVert^2
# &&\text{square, divide by }2\sigma_t^2
# \end{aligned}$$
#
# This is DDPM eq. 12. With $\sigma_t^2=\beta_t$ one $\beta_t$ remains on top.
#
# $$\boxed{L_{t-1}=w_t\,\mathbb{E}\lVert\boldsymbol\epsilon-\boldsymbol\epsilon_\theta(
# \mathbf{x}_t,t)\rVert^2
# +\text{const},\qquad w_t=\frac{\beta_t^2}{2\sigma_t^2\,\alpha_t(1-\bar\alpha_t)}}$$

# %%
show(de.loss_weight)

# %%
t = torch.arange(2, 21)
x_t = [de.q_sample(data, k, eps[k - 1], chain) for k in t.tolist()]
predicted = [model(x, torch.full((500,), k)) for x, k in zip(x_t, t.tolist(), strict=True)]
error = ((eps[1:] - torch.stack(predicted)) ** 2).sum(2)  # ||eps - eps_theta||^2, (19, 500)
r = (chain.beta_tilde / chain.beta)[t]
by_weight = de.loss_weight(t, chain)[:, None] * error + (r - 1 - r.log())[:, None]  # D = 2
agree(by_weight / terms.L_t.T, 1.0, 1e-3, "weight x error + constant, over L_{t-1} (float32)")

# %% [markdown]
# **Every factor has its place.** The weight is quadratic, so the roots of the mean are gone and a ½
# has come from the Gaussian. $\alpha_t$ has no bar (the mean goes back *one* step);
# $1-\bar\alpha_t$ has one (all the noise in $\mathbf{x}_t$). With $\sigma_t^2=\tilde\beta_t$ the
# weight is infinite at $t=1$, where $q$ is a point; so $L_0$ is treated apart. And the error of
# $\mathbf{x}_0$ instead of the noise would need another weight. With
# $\mathrm{SNR}(t)=\bar\alpha_t/(1-\bar\alpha_t)$
#
# $$\lVert\boldsymbol\epsilon-\boldsymbol\epsilon_\theta\rVert^2
# =\mathrm{SNR}(t)\,\lVert\mathbf{x}_0-\hat{\mathbf{x}}_0\rVert^2$$
#
# How does the weight change with t?

# %%
card("04.weight")

# %%
t = torch.arange(1, 1001)
curves = {"in the bound": de.loss_weight(t, ddpm), "in L_simple": torch.ones(1000)}
plots.lines(t, curves, "t", "weight of the squared error", log="y")

# %% [markdown] tags=["covers-loss-coefficient"]
# **Dropping the weight** $\beta_t^2/(2\sigma_t^2\alpha_t(1-\bar\alpha_t))$ gives the simple loss
# (DDPM eq. 14). The first few levels are no longer favoured. There the noise is too faint to see:
# hardly anything can be learned, and hardly anything is visible. The effort moves to the noisier
# levels, which decide what a picture shows.
#
# DDPM's samples improved from FID 13.51 to 3.17 (smaller is better). Its bits per dimension got
# slightly worse, 3.70 to 3.75: the simple loss is no bound any more.
#
# $$\boxed{L_\mathrm{simple}=\mathbb{E}_{t,\mathbf{x}_0,\boldsymbol\epsilon}
# \lVert\boldsymbol\epsilon-\boldsymbol\epsilon_\theta(\mathbf{x}_t,t)\rVert^2,
# \qquad t\text{ uniform in }1,\dots,T}$$

# %%
show(de.loss_simple)

# %%
t, g = torch.arange(1, 1001).repeat(8), torch.Generator().manual_seed(4)
many, eps = de.toy.gaussians(8000), torch.randn(8000, 2, generator=g)
error = ((eps - network(de.q_sample(many, t, eps, trained), t).detach()) ** 2).sum(1)
shares = {"bound": de.loss_weight(t, trained) * error, "L_simple": error}
rows = [
    (f"1 to {k}", *(f"{x[t <= k].sum() / x.sum():.0%}" for x in shares.values()))
    for k in (10, 100, 300)
]
table(["levels t", "share of the bound's terms", "share of L_simple"], rows)

# %% [markdown]
# A practical point. The formula has a norm, a *sum* over pixels, but code takes the *mean* over
# pixels and batch, one number. The minimum is the same. The scale is not: a sum grows with the size
# of the images, and so do its gradients. A limit on their length (gradient clipping at 1, say) that
# hardly touches small images would then cut every step for large ones.


# %%
def zeros(x_t, t):
    """A network that predicts no noise at all."""
    return torch.zeros_like(x_t)


losses, g = [], torch.Generator().manual_seed(5)
for side in (8, 32, 128):
    x, eps = torch.zeros(64, 1, side, side), torch.randn(64, 1, side, side, generator=g)
    mean = de.loss_simple(zeros, x, 500, eps, ddpm)
    losses.append((f"{side} by {side}", mean, mean * side**2))
table(["image", "mean over pixels", "sum over pixels"], losses, 5)

# %% [markdown]
# ## Bits per dimension
#
# Pixels are whole numbers, 0 to 255. A *density* is no probability for them, so DDPM's last step
# gives each of the 256 values in $[-1,1]$ the mass of the interval around it, half a level
# $\tfrac1{255}$ to each side. The outermost two own all beyond (DDPM eq. 13):
#
# $$p_\theta(\mathbf{x}_0\mid\mathbf{x}_1)=\prod_{i=1}^{D}\int_{\delta_-(x_{0,i})}^{
# \delta_+(x_{0,i})}
# \mathcal{N}(u;\mu_{\theta,i}(\mathbf{x}_1,1),\sigma_1^2)\,du$$
#
# Then $L$ is the length of a code, which depends neither on units nor on image size once it is
# divided by D and by $\ln2$ (a nat is $1/\ln2=1.44$ bits):
#
# $$\boxed{\text{bits per dimension}=\frac{L}{D\,\ln2}}$$

# %%
show(de.discretized_log_prob, de.bits_per_dim)

# %%
grid = torch.linspace(-1, 1, 256, dtype=torch.float64)[:, None]
for mean, var in [(0.2, 0.01), (0.95, 0.2), (-3.0, 1e-4)]:
    mass = de.discretized_log_prob(grid, torch.full_like(grid, mean), number(var))
    agree(mass.exp().sum(), 1.0, 1e-9, f"256 probabilities, mean {mean}, variance {var}")

# %% [markdown]
# **Where 7 bits come from.** A smooth density times the width of a level is nearly its mass. So a
# density of pixels in $[-1,1]$ becomes bits by adding $-\log_2\tfrac{2}{255}=6.99$. Add it to
# *densities* only: the nats of a discretised decoder are those of a probability already, and they
# are positive, $-\log p$.

# %%
inner, wide = grid[64:192], number(0.09)
mean = torch.zeros_like(inner)
density = -de.Gaussian(mean, wide).log_prob(inner)  # nats, of a density
mass = -de.discretized_log_prob(inner, mean, wide)  # nats, of a probability
agree(de.bits_per_dim(mass, 1), de.bits_per_dim(density, 1) - math.log2(2 / 255), 1e-3, "bits")

# %% [markdown]
# The shipped MNIST network was measured in this way. Nearly half of its bits go into $L_0$: the
# last shade of each pixel, which no eye sees. (In DDPM on CIFAR-10 it is more than half: 1.97 of
# 3.75.) This is why good bits and good pictures are not the same goal.

# %%
bits = de.pretrained("mnist")[2].metrics["bits"]
names = ("L_T", "L_t", "L_0", "total")
rows = [(name, bits[name]["mean"], bits[name]["error"]) for name in names]
table(["term", "bits/dim", "standard error"], rows, 3)

# %% [markdown]
# ## Check yours
#
# Two functions of exercise E4, written out. Run the cells. Then break them and run them again. In
# the first, drop a ½ or swap the variances: the check names the mistake. In the second, give $q$
# the variance $\beta_t$: the explorer draws *your* terms beside the exact ones. The rest is in
# [E4](exercises/E4_from_the_bound_to_the_loss.ipynb).


# %%
def gaussian_kl(m1, v1, m2, v2):
    each = 0.5 * (torch.log(v2 / v1) + (v1 + (m1 - m2) ** 2) / v2 - 1)
    return each.flatten(1).sum(1)


de.check(gaussian_kl)


# %%
def kl_t(x0, x_t, t, eps_hat, schedule):
    """L_{t-1}, (B,): t (B,) is 2..T, sigma^2 = beta."""
    guess = de.predict("eps", eps_hat, x_t, t, schedule).x0
    q = de.q_posterior(x_t, x0, t, schedule)
    p = de.q_posterior(x_t, guess, t, schedule).mean
    beta = schedule.beta[t][:, None].to(p)
    return gaussian_kl(q.mean, q.var.expand_as(p), p, beta.expand_as(p))


de.ElboDecomposer(kl_t=kl_t)

# %% [markdown]
# ## Errata you may meet
#
# | often printed | right | how to see it |
# |---|---|---|
# | $-D_\mathrm{KL}(q\,\Vert\,p(x,z))$ as ELBO | $\mathbb{E}_q[\log p(x,z)-\log q]$ | no KL: (a) |
# | $-\mathbb{E}[\log p(x_T)+\sum\log q/p]$ | $-\mathbb{E}[-\log p(x_T)+\dots]$ | line 6: (b) |
# | $\sum_{t=1}^{T}$ of KL | from $t=2$; $L_0$ is no KL | infinite at $t=1$: (c) |
# | $p_\theta=\mathcal{N}(\mu_\theta,\mathbf{I})$ | $\sigma_t^2\mathbf{I}$ | a worse bound: (d) |
# | $w_t$ "falls as t grows" | up to $t=349$, then it doubles | (e) |
# | "$L_T$ is constant as $\beta$ is, in time" | $\beta_t$ is not *learned* | two networks: (f) |

# %%
# As a function of z, p(x, z) has the integral p(x) and not 1: no KL, and it may be negative.
narrow = de.Gaussian(0 * u, number(0.01))  # z ~ N(0, 0.01), x | z ~ N(z, 0.01), here at x = 0
best_q = de.Gaussian(0 * u, number(0.005)).log_prob(u)  # the posterior
integrand = best_q.exp() * (best_q - 2 * narrow.log_prob(u))  # log p(x, z): twice the same
print(f"(a) that 'KL' with the best q: {torch.trapezoid(integrand, u[:, 0]):.2f} nats, below 0")
wrong = -(start + sum(q_log[t] - p_log[t] for t in steps)).mean()
print(f"(b) wrong sign: {wrong:.2f}, above log p = {-nll.item():.2f}; ELBO {-L.item():.2f} nats")
first = de.q_posterior(path[1][:1], x0, 1, schedule).kl(p_step(path[1][:1], 1))
print(f"(c) KL at t = 1: {first.item()}")

# %%
exact, p = {}, {t: p_step(path[t], t).mean for t in steps}
for name, var in {"beta": schedule.beta, "1": torch.ones(T + 1).double()}.items():
    logs = [de.Gaussian(p[t], var[t]).log_prob(path[t - 1]) for t in steps]
    exact[name] = (forward - start - sum(logs)).mean().item()
print(f"(d) bound with variance beta {exact['beta']:.2f}, with variance 1 {exact['1']:.2f} nats")
w = de.loss_weight(torch.arange(1, 1001), ddpm)
print(f"(e) smallest at t = {w.argmin() + 1}: {w.min():.4f}; at t = 1000: {w[-1]:.4f}")
other = de.elbo(zeros, data, chain, decoder="gaussian", eps=torch.zeros(20, 500, 2))
agree(other.L_T, terms.L_T, 0.0, "(f) L_T of two networks")

# %% [markdown]
# And some that a line of thought settles:
#
# | often printed | right |
# |---|---|
# | step 2 with $q(x_T\mid x_0)$ | all hidden variables: $q(x_{1:T}\mid x_0)$ |
# | step 9 by the Markov property | that was step 7; step 9 is Bayes' rule |
# | $\sum_t\lVert\tilde\mu-\mu_\theta\rVert^2$, hence $\sum_t\lVert\epsilon-\epsilon_\theta\rVert^2$ | a factor $\beta_t^2/(\alpha_t(1-\bar\alpha_t))$ lies between |
# | "the approximate step $q(x_{t-1}\mid x_t,x_0)$" | it is exact; $p_\theta$ is not |
# | KL of $p_\theta(x_0\mid x_T)$ and $q(x_T\mid x_0)$ | different variables have no KL |
# | KL with $q(x_{t-1}\mid x_t)$ | given $x_0$ too; else $q$ is unknown |
# | $L_{T-1}=\sum_{t>1}\dots$ | $L_{t-1}$, one of $T-1$ terms |
# | "minimise the ELBO" | minimise $L$, minus the ELBO |
# | "reconstruction error $\mathbb{E}\log p(x\mid z)$" | minus that |
# | "$L_0$ is a squared error" | $-\log$ of a mass; alike if $\sigma_1$ spans many levels |

# %% [markdown]
# ## Think
#
# 1. In the first explorer, set **variance** to `beta_tilde`. Which term grows, and why? (Lecture
#    03: for which data is $\tilde\beta_t$ right?)
# 2. The network is perfect. Which of $L_T$, $L_{t-1}$, $L_0$ and $L_\mathrm{simple}$ are 0?
# 3. All weights $w_t$ are multiplied by 10. Does the best network change? Does the best network
#    change if they are multiplied by different numbers?

# %% [markdown] tags=["answer"]
# 1. All $L_{t-1}$, and most of all that of $t=2$, where the two variances differ most: the step
#    back is too sure of itself. $\tilde\beta_t$ is right for data at one point, and these are
#    spread out.
# 2. None. $\mathbf{x}_t$ does not determine the noise, so an error remains in all of them; $L_T$
#    does not depend on the network.
# 3. No. And no again, if the network is free to be right at every level: each level has its own
#    minimum. A network of limited size must divide its effort, and then the weights decide.

# %% [markdown] tags=["notation"]
# t x0 xt x0_hat eps eps_theta beta alpha alpha_bar snr beta_tilde mu_tilde q p_theta sigma kl L
