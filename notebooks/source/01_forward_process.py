# %% [markdown]
# # Noise, one step at a time
#
# Before a network can learn to remove noise, somebody has to add it. The recipe is one line long:
# make the data a little smaller, add a little noise, repeat. This lecture takes that line apart.
#
# **You will be able to**
#
# - write one step of the chain and name its mean and its variance,
# - walk a picture and a cloud of points into noise,
# - show why the variance stays 1, and when it does not,
# - find the usual mistakes in this line.

# %%
import torch

import diffusion_edu as de
from diffusion_edu.lectures import agree, card, show, table
from diffusion_edu.viz import plots

# %%
de.ForwardExplorer("swiss_roll", T=50, play=True)

# %% [markdown]
# Each point walks on its own. At every step it is pulled a little towards the middle and pushed a
# little at random. (The film takes a short cut, the subject of lecture 02: it draws only one noise
# per point, so its points glide. The cloud is right at every $t$.)
#
# Stop the film and drag **t**. The small chart has three lines: how much of the data is left, how
# much noise came in, and the variance of the cloud. Two of them move. The third hardly does, and
# that is no accident.

# %% [markdown]
# What would happen if nothing made the data smaller? Commit to a guess before you look:

# %%
card("01.no_shrink")

# %% [markdown]
# Now set **factor sqrt(1 - beta)** in the picture to *off*, and look at the variance again. (There
# the betas differ from step to step; they add up to 10.)
#
# ## A beta for every step
#
# A chain has $T$ steps. The data, *clean*, are $\mathbf{x}_0$; after step $t$ they are
# $\mathbf{x}_t$. Step $t$ adds noise of variance $\beta_t$, a number between 0 and 1 that we
# choose: nothing in the forward process is learned. The list $\beta_1, \ldots, \beta_T$ is the
# **noise schedule**. The simplest schedule has one $\beta$ for all steps. DDPM (2006.11239, section
# 4) uses a straight line from $\beta_1 = 10^{-4}$ to $\beta_T = 0.02$ with $T = 1000$:
#
# $$\boxed{\beta_t = \beta_1 + \frac{t-1}{T-1}\,(\beta_T - \beta_1), \qquad t = 1, \ldots, T}$$

# %%
show(de.linear, de.constant)

# %% [markdown]
# Every table here has $T+1$ entries and is indexed by $t$ itself. Entry 0 belongs to clean data,
# so $\beta_0 = 0$: step 0 does nothing. $T$ numbers have only $T-1$ gaps between them, hence the
# denominator.

# %%
schedule = de.linear(T=1000, beta_1=1e-4, beta_T=0.02)
t = torch.arange(1, 1001, dtype=torch.float64)
agree(schedule.beta[1:], 1e-4 + (t - 1) / 999 * (0.02 - 1e-4), what="beta, by the formula")
table(["t", "beta"], [[k, f"{schedule.beta[k]:.6f}"] for k in (0, 1, 2, 500, 999, 1000)])

# %% [markdown]
# ## One step
#
# A step is a draw from a Gaussian around a slightly smaller copy of where we are (DDPM eq. 2). We
# write $q(\mathbf{x}_t \mid \mathbf{x}_{t-1})$ for the density of $\mathbf{x}_t$ when
# $\mathbf{x}_{t-1}$ is known, and $\mathcal{N}(\mathbf{x};\, \mu, v\mathbf{I})$ for the Gaussian
# density with mean $\mu$ and variance $v$ in every coordinate, all coordinates independent
# ($\mathbf{I}$ is the identity matrix):
#
# $$\boxed{q(\mathbf{x}_t \mid \mathbf{x}_{t-1}) =
# \mathcal{N}\left(\mathbf{x}_t;\ \sqrt{1-\beta_t}\; \mathbf{x}_{t-1},\ \beta_t \mathbf{I}\right)}$$

# %%
show(de.q_step)

# %% [markdown]
# **From a density to a line of code.** Let
# $\boldsymbol\epsilon_t \sim \mathcal{N}(\mathbf{0}, \mathbf{I})$: standard normal noise, drawn
# anew at every step. Try $\mathbf{x}_t = \mu + \sigma \boldsymbol\epsilon_t$. The variance
# $\text{Var}$ is that of each coordinate.
#
# $$\begin{aligned}
# \mathbb{E}[\mu + \sigma\boldsymbol\epsilon_t]
# &= \mu + \sigma\,\mathbb{E}[\boldsymbol\epsilon_t] = \mu
# && \text{the mean is linear} \\
# \text{Var}(\mu + \sigma\boldsymbol\epsilon_t)
# &= \sigma^2\,\text{Var}(\boldsymbol\epsilon_t) = \sigma^2
# && \text{a shift changes no variance, a factor enters squared}
# \end{aligned}$$
#
# A shifted, scaled Gaussian is Gaussian, so mean and variance settle everything. Ours are
# $\mu = \sqrt{1-\beta_t}\,\mathbf{x}_{t-1}$ and $\sigma^2 = \beta_t$. What multiplies the noise is
# $\sigma$, the **root** of the variance:
#
# $$\boxed{\mathbf{x}_t =
# \sqrt{1-\beta_t}\; \mathbf{x}_{t-1} + \sqrt{\beta_t}\; \boldsymbol\epsilon_t}$$


# %%
def forward_step(x, t, beta, eps):
    """One step: x is x_{t-1}, beta a table (T+1,), eps standard normal noise like x."""
    return (1 - beta[t]).sqrt() * x + beta[t].sqrt() * eps


# %%
def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


x, eps = noise(5, 2), noise(5, 2, seed=1)
law = de.q_step(x, 500, schedule)  # a Gaussian: law.mean, law.var, law.sample, law.log_prob
agree(forward_step(x, 500, schedule.beta, eps), law.sample(eps), what="one step")

# %% [markdown]
# **Checkpoint.** `de.check` runs the tests of exercise E1 on your function. Break it: remove the
# second `.sqrt()` above, run that cell and this one again, and read what it says. Then mend it.

# %%
de.check(forward_step)

# %% [markdown]
# ## The chain
#
# The next step needs only where we are now, not how we got there: the chain is a **Markov chain**.
# Write $\mathbf{x}_{1:T}$ for all of $\mathbf{x}_1, \ldots, \mathbf{x}_T$ together.
#
# $$\begin{aligned}
# q(\mathbf{x}_{1:T} \mid \mathbf{x}_0)
# &= q(\mathbf{x}_1 \mid \mathbf{x}_0)\; q(\mathbf{x}_2 \mid \mathbf{x}_1, \mathbf{x}_0) \cdots
# q(\mathbf{x}_T \mid \mathbf{x}_{T-1}, \ldots, \mathbf{x}_0)
# && \text{product rule} \\
# &= q(\mathbf{x}_1 \mid \mathbf{x}_0)\; q(\mathbf{x}_2 \mid \mathbf{x}_1) \cdots
# q(\mathbf{x}_T \mid \mathbf{x}_{T-1})
# && \mathbf{x}_t \text{ is made of } \mathbf{x}_{t-1} \text{ and new noise}
# \end{aligned}$$
#
# So $q(\mathbf{x}_t \mid \mathbf{x}_{t-1}, \mathbf{x}_0)$, which some texts write, is the same as
# $q(\mathbf{x}_t \mid \mathbf{x}_{t-1})$.
#
# $$\boxed{q(\mathbf{x}_{1:T} \mid \mathbf{x}_0) =
# \prod_{t=1}^{T} q(\mathbf{x}_t \mid \mathbf{x}_{t-1})}$$

# %%
show(de.forward_chain)

# %% [markdown]
# Is the product the joint density? From a fixed $\mathbf{x}_0$ the walk is its mean plus a matrix
# $L$ times the three noises, so $\mathbf{x}_{1:3}$ is one Gaussian in three dimensions with
# covariance $LL^\top$. Autograd finds $L$ (the derivative of the walk), PyTorch has the density. It
# must equal the product of the three steps:

# %%
short, x0 = de.constant(3, 0.2), noise(1, 1)


def walk(eps):
    return de.forward_chain(x0, short, eps)[1:].flatten()


L = torch.autograd.functional.jacobian(walk, torch.zeros(3, 1, 1).double()).reshape(3, 3)
joint = torch.distributions.MultivariateNormal(walk(0 * noise(3, 1, 1)), scale_tril=L)
x = de.forward_chain(x0, short, noise(3, 1, 1, seed=1))
steps = sum(de.q_step(x[t - 1], t, short).log_prob(x[t]) for t in (1, 2, 3))
agree(joint.log_prob(x[1:].flatten()), steps, what="log q(x_1, x_2, x_3 | x_0) in nats")

# %% [markdown]
# ### A digit in ten steps
#
# One MNIST digit, $\beta = 0.2$ at every step, $T = 10$. A picture is a point with
# $28 \times 28 = 784$ coordinates, grey levels between $-1$ (black) and $1$ (white); the step is
# the same line as before. First, a guess:

# %%
card("01.kept")

# %% tags=["covers-mnist-chain"]
tenth = de.constant(T=10, beta=0.2)
digit = de.images.to_float(de.images.mnist_sample()[5:6]).double()
chain = de.forward_chain(digit, tenth, noise(10, *digit.shape))
plots.strip(chain[:, 0], [f"t = {t}" for t in range(11)])

# %% [markdown]
# The same ten steps with the function you checked, to be sure that nothing is hidden in the
# library. Both use the same noise.

# %%
mine, eps = [digit], noise(10, *digit.shape)
for t in range(1, 11):
    mine.append(forward_step(mine[-1], t, tenth.beta, eps[t - 1]))
agree(torch.stack(mine), chain, what="ten steps of your own")

# %% [markdown]
# ### A spiral in ten steps
#
# The swiss roll, $\beta = 0.05$, $T = 10$. A colour remembers how far from the middle its point
# began. The last cloud looks round and finished. Look at the colours: is it?

# %% tags=["covers-swiss-roll-chain"]
roll = de.toy.swiss_roll(2000).double()
twentieth = de.constant(T=10, beta=0.05)
spirals = de.forward_chain(roll, twentieth, noise(10, 2000, 2))
shown = (0, 2, 4, 6, 8, 10)
plots.clouds(list(spirals[list(shown)]), [f"t = {t}" for t in shown], colour=roll.norm(dim=1))

# %% [markdown]
# **Markov, seen in the numbers.** Predict $\mathbf{x}_3$ by a straight line from $\mathbf{x}_2$
# *and* $\mathbf{x}_1$. If only the present counts, the weight of $\mathbf{x}_2$ is $\sqrt{1-\beta}$
# and the weight of $\mathbf{x}_1$ is zero. With 200,000 walks the weights are known to about
# $0.002$:

# %%
many = de.forward_chain(noise(200_000, 1), twentieth, noise(10, 200_000, 1, seed=2))[..., 0]
past = many[[2, 1]].T
weights = torch.linalg.lstsq(past, many[3]).solution
error = (0.05 * torch.linalg.inv(past.T @ past).diagonal()).sqrt().max()
agree(weights, torch.tensor([0.95**0.5, 0]), tol=4 * error, what="weights of x_2 and x_1")

# %% [markdown]
# ## Why the variance stays 1
#
# How much the data are made smaller has a short name: $\alpha_t = 1 - \beta_t$.

# %% [markdown] tags=["covers-variance-one"]
# Let the data have variance 1, and let the noise be independent of them.
#
# $$\begin{aligned}
# \text{Var}(\mathbf{x}_1)
# &= \text{Var}\left(\sqrt{\alpha_1}\,\mathbf{x}_0 + \sqrt{1-\alpha_1}\,\boldsymbol\epsilon_1\right)
# && \text{the step} \\
# &= \text{Var}\left(\sqrt{\alpha_1}\,\mathbf{x}_0\right)
# + \text{Var}\left(\sqrt{1-\alpha_1}\,\boldsymbol\epsilon_1\right)
# && \text{independent: variances add} \\
# &= \alpha_1\,\text{Var}(\mathbf{x}_0) + (1-\alpha_1)\,\text{Var}(\boldsymbol\epsilon_1)
# && \text{a factor enters squared} \\
# &= \alpha_1 \cdot 1 + (1-\alpha_1) \cdot 1 = 1
# && \text{both variances are 1}
# \end{aligned}$$
#
# Then $\mathbf{x}_1$ has variance 1 too, and so on. For any other variance subtract 1 on both sides
# of the third line, which holds at every step:
#
# $$\boxed{\text{Var}(\mathbf{x}_t) - 1 =
# (1-\beta_t)\,\left(\text{Var}(\mathbf{x}_{t-1}) - 1\right)}$$

# %%
step = forward_step(roll, 1, tenth.beta, noise(2000, 2, seed=1))  # beta = 0.2
squares = (step - step.mean(0)) ** 2
error = squares.std() / squares.numel() ** 0.5
agree(squares.mean(), 1.0, tol=4 * error, what="Var(x_1) of the swiss roll, Monte Carlo")

# %% [markdown]
# Every step multiplies the variance's distance from 1 by $1-\beta_t$, from above or from below. The
# pixels of our digit, most of them black, have a variance of only 0.44. Draw what happens to data
# of variance 4:

# %%
card("01.variance")


# %%
def chain_variance(beta, var0):
    var = [var0]
    for b in beta[1:].tolist():
        var.append((1 - b) * var[-1] + b)
    return torch.tensor(var)


curves = {f"variance {v} at first": chain_variance(tenth.beta, v) for v in (4.0, 1.0, 0.1)}
plots.lines(range(11), curves, "t", "variance of xₜ", markers=True)

# %% [markdown]
# The same on real pictures, $8 \times 8$ pixels each. Their variance is taken over all pixels of all
# pictures, and the noise is drawn, so the two columns differ by chance:

# %%
digits = de.images.to_float(de.images.load("digits").images).double()
walked = de.forward_chain(digits, tenth, noise(10, *digits.shape))
measured = walked.flatten(1).var(1)
exact = chain_variance(tenth.beta, float(digits.var()))
error = 2 / digits.numel() ** 0.5  # standard error of a variance near 1, rounded up
agree(measured, exact, tol=4 * error, what="variance of 1,437 digits of 8 x 8 pixels")
table(["t", "measured", "exact"], [[t, measured[t], exact[t]] for t in (0, 1, 2, 5, 10)])

# %% [markdown]
# ### Without the factor
#
# Leave $\sqrt{1-\beta_t}$ out:
# $\mathbf{x}_t = \mathbf{x}_{t-1} + \sqrt{\beta_t}\,\boldsymbol\epsilon_t$.
#
# $$\begin{aligned}
# \text{Var}(\mathbf{x}_t) &= \text{Var}(\mathbf{x}_{t-1}) + \beta_t
# && \text{independent: variances add} \\
# &= \text{Var}(\mathbf{x}_0) + \beta_1 + \cdots + \beta_t
# && \text{step by step down to } \mathbf{x}_0
# \end{aligned}$$
#
# It can only grow: to 11 with DDPM's betas. The factor cannot be another one either: with $a$ in
# its place, and variance 1 before the step,
# $\text{Var}(\mathbf{x}_t) = a^2 \cdot 1 + \beta_t$ is 1 only for $a^2 = 1 - \beta_t$.
#
# $$\boxed{a^2 + \beta_t = 1 \quad\Longleftrightarrow\quad a = \pm\sqrt{1-\beta_t}}$$

# %%
grown = roll
for t in range(1, 11):
    grown = grown + tenth.beta[t].sqrt() * noise(2000, 2, seed=t)
squares = (grown - grown.mean(0)) ** 2
error = squares.std() / squares.numel() ** 0.5
agree(squares.mean(), 1 + tenth.beta.sum(), tol=4 * error, what="Var(x_10) without the factor")

# %% [markdown]
# ### Your own chain on the slider
#
# The explorer accepts your function and draws it beside the reference. This one walks all $t$
# steps, with fresh noise at each: its points zigzag. Each goes another way than in the reference,
# so the message counts a large difference; yet the two clouds have the same shape at every $t$.
# Break it: write `beta[i]` for `beta[i].sqrt()`, and run the cell again.


# %%
def my_q_sample(x0, t, eps, schedule):
    beta, generator = schedule.beta.float(), torch.Generator().manual_seed(7)
    for i in range(1, t + 1):
        z = torch.randn(x0.shape, generator=generator)
        x0 = (1 - beta[i]).sqrt() * x0 + beta[i].sqrt() * z
    return x0


de.ForwardExplorer("swiss_roll", T=20, t=5, q_sample=my_q_sample)

# %% [markdown]
# ## Where the chain ends
#
# Start at one point $\mathbf{x}_0$. The noise has mean zero, so every step multiplies the mean by
# $\sqrt{1-\beta_t}$. And $1 - \beta \le e^{-\beta}$, since a tangent lies below its convex curve.
# So if the sum of all $\beta_t$ is large, hardly anything of $\mathbf{x}_0$ is left. The variance
# starts from 0 (one point has none) and comes close to 1, by the same rule as before. A sum of
# Gaussian noises is Gaussian (lecture 02). So $\mathbf{x}_T$ is nearly standard normal noise,
# *whatever the data were*: a place to start from, on the way back.
#
# $$\boxed{\mathbb{E}[\mathbf{x}_T \mid \mathbf{x}_0] =
# \mathbf{x}_0 \prod_{t=1}^{T} \sqrt{1-\beta_t},
# \qquad \prod_{t=1}^{T} \sqrt{1-\beta_t} \le e^{-\frac{1}{2}(\beta_1 + \cdots + \beta_T)}}$$

# %%
rows = []
for name, s in {"digit": tenth, "swiss roll": twentieth, "DDPM": schedule}.items():
    left, bound = (1 - s.beta).sqrt().prod(), torch.exp(-s.beta.sum() / 2)
    last = de.forward_chain(roll, s, noise(s.T, 2000, 2))[-1]
    memory = torch.corrcoef(torch.stack([roll[:, 0], last[:, 0]]))[0, 1]
    agree(memory, left, tol=4 / 2000**0.5, what=f"{name}, correlation and factor")
    rows.append([name, s.T, s.beta.sum(), left, bound, f"{memory:.2f}"])
table(["chain of the", "T", "sum of beta", "factor of x₀", "bound", "correlation"], rows)

# %% [markdown]
# The last column is measured: the correlation between where 2,000 points of the swiss roll began
# and where they ended. Both clouds have variance 1, so it is the factor, give or take
# $1/\sqrt{2000} \approx 0.02$. A cloud may look like noise while each point still remembers its
# origin. Only DDPM's chain has forgotten.

# %%
clouds = {"swiss roll at t = 10": spirals[10], "noise": noise(2000, 2, seed=8)}
twin = noise(2000, 2, seed=9)
rows = [[name, de.sliced_wasserstein2(cloud, twin)] for name, cloud in clouds.items()]
table(["2,000 points", "distance to noise, in standard deviations"], rows, digits=2)

# %% [markdown]
# A distance between clouds (lecture 11) hardly tells the two apart: it does not see the colours.

# %% [markdown]
# ## Errata you may meet
#
# | often printed | right | how to see it |
# |---|---|---|
# | $\mathbf{x}_t = \sqrt{1-\beta_t}\,\mathbf{x}_{t-1} + \beta_t\,\boldsymbol\epsilon$ | $\sqrt{\beta_t}\,\boldsymbol\epsilon$ | the variance sinks to $\beta$ |
# | $\mathbf{x}_t = \sqrt{\alpha_{t-1}}\,\mathbf{x}_{t-1} + \sqrt{1-\alpha_{t-1}}\,\boldsymbol\epsilon$ | $\alpha_t$ twice | step 1 would use $\alpha_0 = 1$: no noise |
# | $\text{Var}(X+Y) = \text{Var}(X) + \text{Var}(Y)$ | add $2\,\text{Cov}(X, Y)$ | one $\boldsymbol\epsilon$ in both: the variance is not 1 |
#
# All three are checked here:

# %%
var = [1.0]
for b in tenth.beta[1:].tolist():
    var.append((1 - b) * var[-1] + b**2)  # beta instead of its root
agree(var[-1], 0.2 + 0.8**10 * (1 - 0.2), what="variance after ten steps without the root")
first = de.q_step(digit, 1, tenth)
print(f"step 1 with alpha_0: noise of variance {tenth.beta[0]:.0f}; it should be {first.var:.1f}")
same = noise(200_000)
twice = (0.8**0.5 * same + 0.2**0.5 * same).var()  # data and noise: the same numbers
error = twice * (2 / 200_000) ** 0.5
agree(twice, 1 + 2 * 0.16**0.5, tol=4 * error, what="variance if data and noise are equal")

# %% [markdown]
# The first is what exercise E1 calls `var_for_std`. No error message, no wrong shape: the noise is
# merely too weak, seven times for $\beta = 0.02$. Some sentences are wrong as well:
#
# | often printed | right | how to see it |
# |---|---|---|
# | given $\mathbf{x}_{t-1}$, independent of $\mathbf{x}_{t-1}, \mathbf{x}_{t-3}, \ldots$ | of $\mathbf{x}_{t-2}, \mathbf{x}_{t-3}, \ldots$ | the two weights above |
# | noise comes in at every step, so $\mathbf{x}_T \sim \mathcal{N}(\mathbf{0}, \mathbf{I})$ | only with the factor | variance 3, above |
# | the model imitates the steps of $q$ | it imitates their reversal | lecture 03 |
# | DDPM (2019), DDIM (2022) | 2020, both (DDIM was revised until 2022) | 2006.11239 and 2010.02502: year, month |

# %% [markdown]
# ## Think
#
# 1. With $\beta = 1$ one single step gives perfect noise. Why do we take a thousand small ones?
# 2. The digit has variance below 1. Is its $\mathbf{x}_{10}$ brighter or darker, on average, than
#    $\mathbf{x}_0$?
# 3. Take $a = -\sqrt{1-\beta_t}$. The variance stays 1. What would the strip of the digit show?
# 4. Could a schedule go on for ever and still not destroy the data?

# %% [markdown] tags=["answer"]
# 1. The way back is what counts. After a small step, the distribution of $\mathbf{x}_{t-1}$ given
#    $\mathbf{x}_t$ is nearly Gaussian, which a network can express. After one huge step it is the
#    data distribution itself: nothing has been gained (lecture 03).
# 2. Brighter. Its mean is negative (mostly black), and every step multiplies the mean by
#    $\sqrt{0.8}$, towards 0, a middle grey.
# 3. Positive and negative in turn, as every step changes the sign. As a distribution of noise it
#    is as good; the signs cancel in every variance.
# 4. Yes, if the sum of all $\beta_t$ stays finite. For $\beta_t = 1/(t+1)^2$ the product of all
#    $1-\beta_t$ tends to $\frac{1}{2}$ (lecture 02).

# %% [markdown]
# ## Checkpoint
#
# Exercise [E1](exercises/E1_one_step_of_noise_at_a_time.ipynb) asks for the schedule, the step, the
# chain and the variance, and has a bug to find. The step was checked above; here is the variance:

# %%
de.check(chain_variance)

# %% [markdown] tags=["notation"]
# t x0 xt eps beta alpha q
