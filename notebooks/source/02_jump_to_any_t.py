# %% [markdown]
# # Jump to any t
#
# Training needs noisy data at random levels, millions of times. Walking there step by step would
# take for ever. But Gaussians merge: many small steps are one jump.
#
# **You will be able to**
#
# - merge independent Gaussian noises, and so derive the jump to any $t$,
# - compare schedules by $\bar\alpha_t$ and the signal-to-noise ratio,
# - jump with a $t$ of its own for every example,
# - get data back from noise, and say when not to trust that.

# %%
import torch

import diffusion_edu as de
from diffusion_edu.lectures import agree, card, show, table
from diffusion_edu.viz import plots

# %%
de.ScheduleLab(play=True)

# %% [markdown]
# Stop the film and look at the histograms. The filled one is made step by step, $t$ steps of
# lecture 01. The outline is made in one jump. They are different draws, but of the same
# distribution, at every $t$. The line below says how far apart they are (KS, the largest gap
# between their cumulative curves), and what chance alone exceeds in only 5% of cases.
#
# Recall one step, with $\alpha_t = 1 - \beta_t$ and fresh noise
# $\boldsymbol\epsilon_t \sim \mathcal{N}(\mathbf{0}, \mathbf{I})$:
#
# $$\mathbf{x}_t = \sqrt{\alpha_t}\;\mathbf{x}_{t-1} + \sqrt{1-\alpha_t}\;\boldsymbol\epsilon_t$$

# %%
card("02.merge")

# %% [markdown]
# ## Merging Gaussians
#
# Let $\boldsymbol\epsilon_1, \boldsymbol\epsilon_2$ be independent, and
# $\mathbf{z} = a\,\boldsymbol\epsilon_1 + b\,\boldsymbol\epsilon_2$. In each coordinate, for every
# number $u$ (and $i^2 = -1$):
#
# $$\begin{aligned}
# \mathbb{E}\left[e^{iuz}\right]
# &= \mathbb{E}\left[e^{iua\epsilon_1}\right]\,\mathbb{E}\left[e^{iub\epsilon_2}\right]
# && \text{independent} \\
# &= e^{-\frac{1}{2}a^2u^2}\;e^{-\frac{1}{2}b^2u^2}
# && \text{characteristic function of a Gaussian} \\
# &= e^{-\frac{1}{2}(a^2+b^2)u^2}
# && \text{again that of a Gaussian}
# \end{aligned}$$
#
# No two distributions share a characteristic function, so $\mathbf{z}$ *is* Gaussian:
#
# $$\boxed{a\,\boldsymbol\epsilon_1 + b\,\boldsymbol\epsilon_2 \sim
# \mathcal{N}\left(\mathbf{0},\ (a^2+b^2)\,\mathbf{I}\right)}$$


# %%
def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


z = 0.6 * noise(200_000) + 0.8 * noise(200_000, seed=1)
u = torch.tensor([0.5, 1.0, 2.0]).double()
measured = torch.cos(u[:, None] * z).mean(1)  # the sines have mean 0
agree(measured, (-(u**2) / 2).exp(), tol=4 / 200_000**0.5, what="characteristic function")

# %% [markdown] tags=["covers-merging-gaussians"]
# Now two steps of the chain:
#
# $$\begin{aligned}
# \mathbf{x}_1 &= \sqrt{\alpha_1}\,\mathbf{x}_0 + \sqrt{1-\alpha_1}\,\boldsymbol\epsilon_1
# && \text{first step} \\
# \mathbf{x}_2 &= \sqrt{\alpha_2}\,\mathbf{x}_1 + \sqrt{1-\alpha_2}\,\boldsymbol\epsilon_2
# && \text{second step} \\
# &= \sqrt{\alpha_2}\left(\sqrt{\alpha_1}\,\mathbf{x}_0
# + \sqrt{1-\alpha_1}\,\boldsymbol\epsilon_1\right) + \sqrt{1-\alpha_2}\,\boldsymbol\epsilon_2
# && \text{insert } \mathbf{x}_1 \\
# &= \sqrt{\alpha_1\alpha_2}\,\mathbf{x}_0
# + \underbrace{\sqrt{\alpha_2(1-\alpha_1)}\,\boldsymbol\epsilon_1
# + \sqrt{1-\alpha_2}\,\boldsymbol\epsilon_2}_{\mathbf{z}}
# && \text{multiply out} \\
# \mathbb{E}[\mathbf{z}] &= \mathbf{0}
# && \text{both noises have mean 0} \\
# \text{Var}(\mathbf{z}) &= \alpha_2(1-\alpha_1) + (1-\alpha_2)
# && \text{merge: the squares add} \\
# &= \alpha_2 - \alpha_1\alpha_2 + 1 - \alpha_2 = 1 - \alpha_1\alpha_2
# && \alpha_2 \text{ cancels}
# \end{aligned}$$
#
# With new standard normal noise
# $\tilde{\boldsymbol\epsilon} = \mathbf{z} / \sqrt{1-\alpha_1\alpha_2}$:
#
# $$\boxed{\mathbf{x}_2 = \sqrt{\alpha_1\alpha_2}\;\mathbf{x}_0
# + \sqrt{1-\alpha_1\alpha_2}\;\tilde{\boldsymbol\epsilon}}$$

# %% [markdown]
# Two checks. By quadrature: the density of $\mathbf{x}_2$ is that of both steps, with
# $\mathbf{x}_1$ integrated out. By drawing: the variance of $\mathbf{z}$.

# %%
s = de.from_betas([0.1, 0.3])
x0, x1 = 0.7 * torch.ones(1, 1).double(), torch.linspace(-8, 8, 4001).double()[:, None]
first = de.q_step(x0.expand_as(x1), 1, s).log_prob(x1).exp()
for value in (-1.0, 0.0, 2.0):
    second = de.q_step(x1, 2, s).log_prob(torch.full_like(x1, value)).exp()
    integral = torch.trapezoid(first * second, x1[:, 0])
    merged = de.Gaussian(0.63**0.5 * x0, 0.37 * torch.ones_like(x0))  # 0.9 times 0.7 is 0.63
    density = merged.log_prob(torch.full_like(x0, value)).exp()
    agree(integral, density, tol=1e-9, what=f"density of x_2 at {value}")

# %%
z = (0.7 * 0.1) ** 0.5 * noise(200_000) + 0.3**0.5 * noise(200_000, seed=1)
error = 0.37 * (2 / 200_000) ** 0.5  # of a variance measured on 200,000 Gaussian numbers
agree(z.var(), 0.37, tol=4 * error, what="Var(z), Monte Carlo")

# %% [markdown]
# ## alpha-bar: all steps in one number
#
# The product of all factors up to $t$ gets a name, $\bar\alpha_t$. It starts at clean data, so the
# table has $T+1$ entries; since $\beta_0 = 0$, entry 0 needs no special case. The product ends at
# $t$, not at $T$, and multiplies the $\alpha_i$: what *survives* a step.
#
# $$\boxed{\bar\alpha_t = \alpha_1\,\alpha_2 \cdots \alpha_t = \prod_{i=1}^{t} (1-\beta_i),
# \qquad \bar\alpha_0 = 1}$$

# %%
show(de.from_betas)


# %%
def alpha_bar_from_beta(beta):
    """alpha_bar (T+1,) of beta (T+1,), beta[0] = 0."""
    return (1 - beta).cumprod(0)


schedule = de.linear(T=1000, beta_1=1e-4, beta_T=0.02)
agree(alpha_bar_from_beta(schedule.beta), schedule.alpha_bar, what="alpha_bar")
de.check(alpha_bar_from_beta)

# %% [markdown]
# The claim, for every $t \ge 1$ and some standard normal $\boldsymbol\epsilon$:
# $\mathbf{x}_t = \sqrt{\bar\alpha_t}\,\mathbf{x}_0 + \sqrt{1-\bar\alpha_t}\,\boldsymbol\epsilon$.
# By induction: for $t = 1$ it is the first step. Suppose it holds for $t-1$, with some standard
# normal $\tilde{\boldsymbol\epsilon}$. That is made of the first $t-1$ noises, hence independent
# of $\boldsymbol\epsilon_t$.
#
# $$\begin{aligned}
# \mathbf{x}_t &= \sqrt{\alpha_t}\,\mathbf{x}_{t-1} + \sqrt{1-\alpha_t}\,\boldsymbol\epsilon_t
# && \text{the step} \\
# &= \sqrt{\alpha_t}\left(\sqrt{\bar\alpha_{t-1}}\,\mathbf{x}_0
# + \sqrt{1-\bar\alpha_{t-1}}\,\tilde{\boldsymbol\epsilon}\right)
# + \sqrt{1-\alpha_t}\,\boldsymbol\epsilon_t
# && \text{the claim for } t-1 \\
# &= \sqrt{\bar\alpha_t}\,\mathbf{x}_0
# + \sqrt{\alpha_t(1-\bar\alpha_{t-1})}\,\tilde{\boldsymbol\epsilon}
# + \sqrt{1-\alpha_t}\,\boldsymbol\epsilon_t
# && \alpha_t\,\bar\alpha_{t-1} = \bar\alpha_t \\
# &= \sqrt{\bar\alpha_t}\,\mathbf{x}_0 + \sqrt{1-\bar\alpha_t}\,\boldsymbol\epsilon
# && \text{merge: } \alpha_t - \bar\alpha_t + 1 - \alpha_t = 1 - \bar\alpha_t
# \end{aligned}$$

# %% [markdown]
# ## Jump to any t
#
# As a density (DDPM eq. 4), and as a recipe:
#
# $$\boxed{\begin{aligned}
# q(\mathbf{x}_t \mid \mathbf{x}_0)
# &= \mathcal{N}\left(\mathbf{x}_t;\ \sqrt{\bar\alpha_t}\,\mathbf{x}_0,\;
# (1-\bar\alpha_t)\,\mathbf{I}\right) \\
# \mathbf{x}_t &= \sqrt{\bar\alpha_t}\;\mathbf{x}_0 + \sqrt{1-\bar\alpha_t}\;\boldsymbol\epsilon,
# \qquad \boldsymbol\epsilon \sim \mathcal{N}(\mathbf{0}, \mathbf{I})
# \end{aligned}}$$

# %%
show(de.q_marginal, de.q_sample)

# %% [markdown]
# Carry mean and variance through all thousand steps of lecture 01, exactly, without drawing a
# single number. They arrive where one jump does:

# %%
x0 = 0.7 * torch.ones(1, 1).double()
mean, var = x0, torch.zeros(1, 1).double()
for t in range(1, 1001):
    law = de.q_step(mean, t, schedule)  # the law of x_t if x_{t-1} were its mean
    mean, var = law.mean, schedule.alpha[t] * var + law.var
jump = de.q_marginal(x0, 1000, schedule)
agree(mean, jump.mean, what="mean: 1,000 steps and one jump")
agree(var, jump.var, what="variance: 1,000 steps and one jump")

# %% [markdown]
# ## A t for every example
#
# In training each example of a batch has a level of its own: `t` is a tensor of $B$ integers, `x0`
# has the shape `(B, 2)` or `(B, C, H, W)`. The table gives $B$ numbers, and each must multiply
# *its* example: the first axis. PyTorch lines shapes up at the *last* axis. So the numbers need the
# shape `(B, 1, ..., 1)`. One helper does that in the whole library:

# %%
show(de.schedules.at, de.schedules.per_example)


# %%
def q_sample(x0, t, eps, sch):
    kept = sch.alpha_bar[t].to(x0.dtype)
    kept = kept.reshape(-1, *[1] * (x0.ndim - 1))  # (B,) -> (B, 1, ..., 1)
    return kept.sqrt() * x0 + (1 - kept).sqrt() * eps


# %% [markdown]
# **Checkpoint.** Break it: take the line with `reshape` away and run both cells again. PyTorch
# objects, and the check knows why. But PyTorch does not always object.

# %%
de.check(q_sample)

# %% [markdown]
# Two points in two dimensions: $B = D = 2$. Without `reshape` nothing is raised. The first
# *coordinate* of both points gets the level of the first point:

# %%
points, eps, t = torch.ones(2, 2), torch.zeros(2, 2), torch.tensor([1, 1000])
wrong = schedule.alpha_bar[t].sqrt().float() * points
right = de.q_sample(points, t, eps, schedule)
print("right: a row a point\n", right, "\nwrong: a column a level\n", wrong)

# %% [markdown]
# Your function makes the outlined histogram here. Put the mistake $1-\bar\alpha_t$ for its root
# into it, and watch where the two histograms part:

# %%
de.ScheduleLab("swiss_roll", q_sample=q_sample, T=50, t=8)

# %% [markdown]
# ## How much is left in the end?
#
# DDPM: $T = 1000$, $\beta$ from $10^{-4}$ to $0.02$. The thousand factors multiply to

# %% tags=["covers-final-marginal"]
signal, variance = schedule.sqrt_alpha_bar[1000], 1 - schedule.alpha_bar[1000]
agree(signal, 0.00635, tol=0.5e-5, what="factor of x_0, to five decimals")
agree(variance, 0.99996, tol=0.5e-5, what="variance, to five decimals")
print(f"q(x_T | x_0) = N({signal:.6f} x_0, {variance:.7f} I)")

# %% [markdown]
# So $q(\mathbf{x}_T \mid \mathbf{x}_0) = \mathcal{N}(0.00635\,\mathbf{x}_0,\ 0.99996\,\mathbf{I})$:
# hardly to be told from $\mathcal{N}(\mathbf{0}, \mathbf{I})$, whatever $\mathbf{x}_0$ is.
#
# A rule of thumb: what counts is the *sum* of the betas. The logarithm lies below its tangent,
# $\log(1-\beta) \le -\beta$, and hardly below it where $\beta$ is small. So, nearly with equality,
#
# $$\boxed{\bar\alpha_t = e^{\,\log(1-\beta_1) + \cdots + \log(1-\beta_t)}
# \le e^{-(\beta_1 + \cdots + \beta_t)}}$$

# %%
card("02.short")

# %%
rows = []
for T in (50, 100, 200, 500, 1000):
    literal, scaled = de.linear(T, 1e-4, 0.02), de.linear(T)
    thumb = torch.exp(-literal.beta.sum())
    rows.append([T, literal.alpha_bar[-1], thumb, scaled.alpha_bar[-1]])
table(["T", "alpha_bar_T, betas as given", "rule of thumb", "betas times 1000/T"], rows, digits=2)

# %% [markdown]
# The second column is a mistake that people really make: they take DDPM's betas and fewer steps.
# The chain then ends with much of the data still in sight, but sampling starts from pure noise.
#
# ## Signal to noise
#
# If the data have variance 1, $\mathbf{x}_t$ has two parts: signal of variance $\bar\alpha_t$,
# noise of variance $1-\bar\alpha_t$. Their ratio says how hard it is to see through the noise. It
# is infinite at $t = 0$, falls at every step, and compares *variances*, not amplitudes. The second
# formula, $\bar\alpha_t$ from the ratio, is the logistic function of $\log \mathrm{SNR}$.
#
# $$\boxed{\mathrm{SNR}(t) = \frac{\bar\alpha_t}{1-\bar\alpha_t}, \qquad
# \bar\alpha_t = \frac{\mathrm{SNR}(t)}{1+\mathrm{SNR}(t)}}$$

# %%
show(de.Schedule.snr.func, de.Schedule.log_snr.func)

# %%
agree(torch.sigmoid(schedule.log_snr), schedule.alpha_bar, what="alpha_bar from log SNR")
x0, eps = de.toy.swiss_roll(20_000).double(), noise(20_000, 2)
for t in (100, 259, 500):
    signal = de.q_sample(x0, t, 0 * eps, schedule).square()
    rest = de.q_sample(0 * x0, t, eps, schedule).square()
    ratio = signal.mean() / rest.mean()
    error = ratio * sum((x.std() / x.mean()) ** 2 / x.numel() for x in (signal, rest)) ** 0.5
    agree(ratio, schedule.snr[t], tol=4 * error, what=f"t = {t}: SNR {ratio:.3f}, off by")

# %% [markdown]
# Signal and noise are equally strong, SNR = 1, at about $t = 259$ of 1000 in DDPM's schedule: after
# a quarter of the walk more than half is noise.
#
# ## Other schedules
#
# Improved DDPM (2102.09672, eq. 17) chooses $\bar\alpha_t$ itself, so that it falls evenly in the
# middle and gently at both ends. The division by $f(0)$ makes $\bar\alpha_0 = 1$. The offset
# $s = 0.008$ (a number, not a level) keeps the first steps from being too small. The limit $0.999$
# is for the last step: $f(T) = 0$, so without it $\beta_T = 1$, and the way back would divide by
# zero. With the limit, $\bar\alpha_t$ is once more the product of the $1-\beta_i$.
#
# $$\boxed{\bar\alpha_t = \frac{f(t)}{f(0)}, \qquad
# f(t) = \cos^2\left(\frac{t/T + s}{1+s}\cdot\frac{\pi}{2}\right), \qquad
# \beta_t = \min\left(1 - \frac{\bar\alpha_t}{\bar\alpha_{t-1}},\ 0.999\right)}$$

# %%
show(de.cosine)


# %%
def cosine_alpha_bar(T, s=0.008):
    position = torch.arange(T + 1, dtype=torch.float64) / T
    f = torch.cos((position + s) / (1 + s) * torch.pi / 2) ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return torch.cat([torch.ones(1), (1 - beta).cumprod(0)])


de.check(cosine_alpha_bar)

# %% [markdown]
# Four more that have been published, drawn below:
#
# - *quadratic*: $\sqrt{\beta_t}$ grows in equal steps (DDPM's code),
# - *sigmoid*: $\beta_t$ follows an S-shaped curve (2203.02923),
# - *sigmoid_alpha_bar*: $\bar\alpha_t$ follows one, downwards (2212.11972),
# - *jsd*, the oldest: $\bar\alpha_t = 1 - t/T$ (1503.03585).

# %% tags=["cover"]
agree(cosine_alpha_bar(1000), de.cosine(1000).alpha_bar, what="cosine schedule")
first = [1 - cosine_alpha_bar(1000, s)[1] for s in (0.0, 0.008)]
print(f"first beta: {first[0]:.1e} without the offset, {first[1]:.1e} with it")
names = ("linear", "quadratic", "sigmoid", "cosine", "sigmoid_alpha_bar", "jsd")
curves = {name: getattr(de, name)(1000).alpha_bar for name in names}
plots.lines(range(1001), curves, "t", "alpha_bar")

# %% [markdown]
# The same digit, the same noise. Under the linear schedule the second half of the strip looks like
# noise already; the cosine schedule spreads the work more evenly:

# %%
cosine, times = de.cosine(1000), torch.arange(100, 1001, 100)
digit = de.images.to_float(de.images.mnist_sample()[5:6]).double()
ten, eps = digit.expand(10, -1, -1, -1), noise(1, 1, 28, 28).expand(10, -1, -1, -1)
noisy = [de.q_sample(ten, times, eps, s) for s in (schedule, cosine)]
plots.strip(torch.stack(noisy), [f"t = {t}" for t in times], rows=["linear", "cosine"])

# %% [markdown]
# A schedule of your own, beside two others: change `my_alpha_bar` and run the cell again. It must
# start at 1 and never rise.


# %%
def my_alpha_bar(T):
    left = torch.sigmoid(torch.linspace(7, -7, T + 1, dtype=torch.float64))
    return left / left[0]


de.ScheduleLab(alpha_bar=my_alpha_bar, against="cosine", t=35)

# %% [markdown]
# ## Back to the data
#
# The jump has three quantities. Any two give the third. Solve it for $\mathbf{x}_0$:
#
# $$\begin{aligned}
# \mathbf{x}_t &= \sqrt{\bar\alpha_t}\,\mathbf{x}_0 + \sqrt{1-\bar\alpha_t}\,\boldsymbol\epsilon
# && \text{the jump} \\
# \mathbf{x}_t - \sqrt{1-\bar\alpha_t}\,\boldsymbol\epsilon &= \sqrt{\bar\alpha_t}\,\mathbf{x}_0
# && \text{take the noise away} \\
# \frac{\mathbf{x}_t - \sqrt{1-\bar\alpha_t}\,\boldsymbol\epsilon}{\sqrt{\bar\alpha_t}}
# &= \mathbf{x}_0
# && \text{divide}
# \end{aligned}$$
#
# Only the true $\boldsymbol\epsilon$ gives the true $\mathbf{x}_0$. A network sees
# $\mathbf{x}_t$ alone and *guesses* the noise, $\boldsymbol\epsilon_\theta(\mathbf{x}_t, t)$, with
# weights $\theta$. Its guess gives an estimate, which gets a hat:
#
# $$\boxed{\hat{\mathbf{x}}_0 = \frac{\mathbf{x}_t
# - \sqrt{1-\bar\alpha_t}\;\boldsymbol\epsilon_\theta(\mathbf{x}_t, t)}{\sqrt{\bar\alpha_t}}}$$

# %%
show(de.predict)

# %%
card("02.error")

# %% [markdown]
# How far is $\hat{\mathbf{x}}_0$ off? Subtract the true line from the estimated one; $\mathbf{x}_t$
# is the same in both and cancels:
#
# $$\boxed{\hat{\mathbf{x}}_0 - \mathbf{x}_0
# = -\frac{\sqrt{1-\bar\alpha_t}}{\sqrt{\bar\alpha_t}}
# \left(\boldsymbol\epsilon_\theta - \boldsymbol\epsilon\right)
# = -\frac{\boldsymbol\epsilon_\theta - \boldsymbol\epsilon}{\sqrt{\mathrm{SNR}(t)}}}$$

# %% tags=["covers-x0-from-eps"]
model, sch, _ = de.pretrained("mnist")  # 32 x 32 pixels; may be told the class
times = torch.tensor([20, 100, 250, 400, 550, 700, 850, 999])
x0 = torch.nn.functional.pad(digit.float(), (2, 2, 2, 2), value=-1).expand(8, -1, -1, -1)
eps = noise(1, 1, 32, 32).float().expand_as(x0)
x_t = de.q_sample(x0, times, eps, sch)
with torch.no_grad():
    guess = model(x_t, times, None)  # eps_theta; None: it is not told the class
x0_hat = de.predict("eps", guess, x_t, times, sch).x0
agree(de.predict("eps", eps, x_t, times, sch).x0, x0, tol=1e-3, what="x_0 from the true noise")
plots.strip(torch.stack([x_t, x0_hat]), [f"t = {t}" for t in times], rows=["xₜ", "guess of x₀"])

# %%
off_eps, off_x0 = (d.square().mean((1, 2, 3)).sqrt() for d in (guess - eps, x0_hat - x0))
root = sch.snr[times].sqrt()
agree(off_x0, off_eps / root, tol=1e-5, what="error of x0 hat")
rows = list(zip(times.tolist(), off_eps, off_x0, root, strict=True))
table(["t", "error of ε", "error of the guess of x₀", "root of SNR"], rows, digits=2)

# %% [markdown]
# The network's noise is *best* at high $t$, where nearly everything is noise. Its
# $\hat{\mathbf{x}}_0$ is worst there: at $t = 400$ a digit written by another hand, at $t = 700$ a
# blur of all digits. That is why sampling takes many small steps instead of this one big one
# (lecture 06). The card's error of 16 does not occur: this network knows how large a digit can be.

# %% [markdown]
# ## Errata you may meet
#
# | often printed | right | how to see it |
# |---|---|---|
# | $\bar\alpha_t = \prod_{i=0}^{t} \alpha_i$ | from $i = 1$ | in code that counts from 0, clean data get noise |
# | $\mathbf{x}_t = \sqrt{\alpha_t}\,\mathbf{x}_0 + \sqrt{1-\alpha_t}\,\boldsymbol\epsilon$ beside $\bar\alpha_t$ | $\bar\alpha_t$ in both: the $\alpha_t$ of DDIM's paper is $\bar\alpha_t$ | with DDPM's $\alpha_{1000}$, 98% would be left |
# | $\mathcal{N}(0.00635\,\mathbf{x}_0,\ 0.99995\,\mathbf{I})$ | $0.99996$ | $1 - 0.00635^2$ |
# | $0 \le \alpha_t \le 1$, hence $\bar\alpha_t \to 0$ | only if the betas add up to infinity | $\beta_t = 1/(t+1)^2$ ends at $\tfrac{1}{2}$ |

# %%
shifted = (1 - schedule.beta[1:]).cumprod(0)  # index 0 holds beta_1
print(f"counted from 0: clean data keep {shifted[0]:.4f} of their variance, not 1")
print(f"alpha_1000 = {schedule.alpha[1000]:.2f}, alpha_bar_1000 = {schedule.alpha_bar[1000]:.1e}")
print(f"1 - 0.00635^2 = {1 - 0.00635**2:.6f}")
slow = de.from_betas([1 / (t + 1) ** 2 for t in range(1, 100_001)])
agree(slow.alpha_bar[-1], 0.5, tol=1e-5, what="alpha_bar after 100,000 steps of 1/(t+1)^2")

# %% [markdown]
# Four more, in which one letter stands for two things:
#
# | often printed | right | how to see it |
# |---|---|---|
# | $\tilde{\boldsymbol\epsilon}$ for the sum of the two noises, with variance $1-\alpha_1\alpha_2$, *and* for noise of variance 1 | $\mathbf{z} = \sqrt{1-\alpha_1\alpha_2}\,\tilde{\boldsymbol\epsilon}$ | the variance of $\mathbf{z}$ above: 0.37 |
# | $\boldsymbol\epsilon_0$ for the first step's noise *and* for the merged noise | the merged noise is another variable | their correlation, below |
# | $\mathbf{x}_T = \boldsymbol\epsilon$ | nearly | 0.00635 of $\mathbf{x}_0$ is left |
# | $\mathbf{x}_0$ computed from $\boldsymbol\epsilon_\theta$ | $\hat{\mathbf{x}}_0$ | the table above |

# %%
s, steps, x0 = de.constant(10, 0.2), noise(10, 200_000, 1, seed=3), noise(200_000, 1, seed=4)
x_10, bar = de.forward_chain(x0, s, steps)[10], s.alpha_bar[10]
merged = (x_10 - bar.sqrt() * x0) / (1 - bar).sqrt()
share = (bar / s.alpha[1] * s.beta[1] / (1 - bar)).sqrt()  # what nine steps leave of the first
found = (merged * steps[0]).mean()
agree(found, share, tol=4 / 200_000**0.5, what=f"correlation {found:.3f}, off by")

# %% [markdown]
# ## Think
#
# 1. Chain and jump agree at every single $t$. Are $\mathbf{x}_5$ and $\mathbf{x}_6$, made by two
#    jumps with the *same* $\boldsymbol\epsilon$ (as in the film of lecture 01), distributed as in
#    the chain?
# 2. Two schedules have the same $\bar\alpha_T$. What can still differ, and does it matter?
# 3. You scale all images to half their contrast. Which SNR do they have at level $t$ now?
# 4. In which column of the strip could *you* still name the digit? And the network?

# %% [markdown] tags=["answer"]
# 1. Each alone, yes. Together, no: in the chain $\mathbf{x}_6$ given $\mathbf{x}_5$ has fresh
#    noise; with one $\boldsymbol\epsilon$ it is fixed by $\mathbf{x}_5$ and $\mathbf{x}_0$. The
#    marginals do not determine the joint law. DDIM is built on that freedom (lecture 07).
# 2. The way there: how many levels lie at which SNR. Training and sampling spend their effort
#    where the levels are.
# 3. A quarter, as it is a ratio of variances. The same schedule is then a noisier one, which is why
#    data are scaled to a standard range.
# 4. Readers differ. The network's estimate is often right one or two columns further.

# %% [markdown]
# ## Checkpoint
#
# Exercise [E2](exercises/E2_jump_to_any_t.ipynb) has five functions. Three you have on this page;
# the ratio and a bug to find are left:

# %%
de.check("E2")

# %% [markdown] tags=["notation"]
# t x0 xt x0_hat eps eps_theta beta alpha alpha_bar snr q
