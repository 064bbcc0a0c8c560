# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train a noise predictor
#
# A diffusion model is trained by a game that takes ten lines: make data noisy, let a network guess
# the noise, correct it. Here it is played on a swiss roll, and every choice in those lines is
# looked at.
#
# **You will be able to**
#
# - write DDPM's training step, and say what its loss can reach;
# - tell a network the time, and average its weights;
# - convert between noise, data, v and mean, and say how their losses differ;
# - repeat DDPM's table of variants in the plane, and use what improved DDPM added.

# %%
import copy
from functools import partial

import torch

import diffusion_edu as de
from diffusion_edu.lectures import ablation, agree, card, show, table
from diffusion_edu.viz import plots

# %%
de.TrainingTheatre(steps=50)

# %% [markdown]
# Grey is the data; the points are samples of the network as it is now. The arrows point against the
# noise that it sees. Press the button to train on, then drag the training step back and forth. Drag
# the ring in the third picture too, or set **noise level**: where is the network right at once, and
# where does it need long?

# %% [markdown]
# ## The loss
#
# $\mathbf{x}_0$ is data and $t\in\{1,\dots,T\}$ a level of noise. With $\bar\alpha_t$ from lecture
# 02, standard normal noise $\boldsymbol\epsilon$ makes
# $\mathbf{x}_t=\sqrt{\bar\alpha_t}\,\mathbf{x}_0+\sqrt{1-\bar\alpha_t}\, \boldsymbol\epsilon$. A
# network $\boldsymbol\epsilon_\theta$ sees $\mathbf{x}_t$ and $t$, and guesses
# $\boldsymbol\epsilon$. Lecture 04 dropped the weights of the bound; what is left is DDPM eq. 14:
#
# $$\boxed{L_\text{simple}=\mathbb{E}_{t,\mathbf{x}_0,\boldsymbol\epsilon}\left[\left\lVert
# \boldsymbol\epsilon-
# \boldsymbol\epsilon_\theta\left(\sqrt{\bar\alpha_t}\,\mathbf{x}_0+\sqrt{1-\bar\alpha_t}\,
# \boldsymbol\epsilon,\,
# t\right)\right\rVert^2\right]}$$
#
# The code takes the **mean** over batch and dimensions, not the sum. Then the loss, and a good step
# size, do not depend on the size of the images. The network is told $t$ itself, the whole number;
# what it makes of it comes in "What time it is".

# %%
show(de.loss_simple, de.objectives.loss_per_example)

# %% [markdown]
# A network that always answers "no noise" pays $\mathbb{E}[\epsilon^2]=1$ per dimension. That is
# where training starts (the last layer of our networks has weights 0 at first), and a loss that
# stays at 1 means that nothing is being learned.

# %%
roll = de.toy.swiss_roll(20_000)
generator = torch.Generator().manual_seed(0)
noise = torch.randn(roll.shape, generator=generator)
no_noise = de.loss_simple(lambda x, t: torch.zeros_like(x), roll, 500, noise, de.linear())
agree(no_noise, 1, tol=4 * (2 / noise.numel()) ** 0.5, what="loss of 'no noise' against 1")

# %% [markdown]
# ## A t for every example
#
# Each example of a batch gets a level of its own, uniform on $1,\dots,T$:
#
# - not one level for the whole batch: loss and gradient are right on average, but far noisier;
# - both ends count. `torch.randint` leaves out its upper end, so it is `randint(1, T + 1)`. Without
#   the 1 the last step of the sampler is never learned, without $T$ the first. (Much code counts
#   the levels from 0 and draws `randint(0, T)`; its 0 is our 1);
# - not $t=0$: there is no noise to predict;
# - whole numbers, and coefficients of shape `(B, 1, …)`: `(B,)` would multiply the last axis.
#
# How much noisier is the loss with one level for all? The cell draws it 300 times, both ways, for
# one network.

# %%
network, schedule, info = de.pretrained("swiss_roll")


def one_batch(shared, n=64):
    t = torch.randint(1, schedule.T + 1, (1 if shared else n,), generator=generator).expand(n)
    x0 = roll[torch.randint(len(roll), (n,), generator=generator)]
    return de.loss_simple(network, x0, t, torch.randn(x0.shape, generator=generator), schedule)


with torch.no_grad():
    own, shared = (torch.stack([one_batch(s) for _ in range(300)]).std() for s in (False, True))
table(["t", "standard deviation of the loss"], [["each its own", own], ["one for all", shared]])

# %% [markdown]
# ## What goes in and what comes out
#
# The noise that is mixed into $\mathbf{x}_t$ is the noise to be guessed: **one draw, used twice**.
# If the target is drawn anew, it has nothing to do with what the network sees, and the best guess
# is its mean, 0: the loss goes to 1 and stays there.
#
# In $\mathbf{x}_t$ the noise stands with its standard deviation $\sqrt{1-\bar\alpha_t}$, not with
# its variance. The target is $\boldsymbol\epsilon$ without that factor, so that it has variance 1
# at every level.
#
# What goes in is $\mathbf{x}_t$ and $t$, never $\mathbf{x}_0$. Data keep the scale the schedule was
# made for: images in $[-1,1]$, not $[0,1]$; points with mean 0 and variance 1.

# %% [markdown]
# ## One training step
#
# DDPM's Algorithm 1 line by line, written so that the exercise's checks understand it too: `sch`
# has the table `alpha_bar`, indexed by t. Three things to mind: the noise is Gaussian (`randn`, not
# `rand`); gradients pile up in torch, so they are cleared once per step; what is kept is a float,
# because a tensor would keep its whole graph.


# %%
def ddpm_loss(eps_model, x0, t, eps, sch):
    """L_simple: noise x0 to its level, let the network guess, compare."""
    alpha_bar = sch.alpha_bar[t].to(x0.dtype).view(-1, *[1] * (x0.ndim - 1))
    x_t = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps
    return torch.nn.functional.mse_loss(eps_model(x_t, t), eps)


def train_step(model, opt, x0, sch, generator):
    """DDPM Algorithm 1: one step down the gradient; the loss before it."""
    t = torch.randint(1, sch.T + 1, (len(x0),), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    loss = ddpm_loss(model, x0, t, eps, sch)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss.item()


# %% [markdown]
# Now for real: a new network of 41,794 weights, 500 steps of 256 points, a few seconds on one core.
# The shipped network had the same start, 10,000 steps of 1,024 points and a step size that falls to
# 0 in the end. `EMA` averages the weights (see "An average of the weights").

# %% tags=["covers-training-step"]
model, schedule = de.training.recipe("swiss_roll").network()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
ema = de.EMA(model, decay=0.98)
losses = []
with ablation.one_thread():  # a network this small gains nothing from more
    for step in range(500):
        x0 = roll[torch.randint(len(roll), (256,), generator=generator)]
        losses.append(train_step(model, opt, x0, schedule, generator))
        ema.update(model)
        if step == 99:
            early = copy.deepcopy(ema.model)

# %%
smooth = torch.tensor(losses).unfold(0, 40, 20).mean(1)
plots.lines(20 + 20 * torch.arange(len(smooth)), {"mean of 40 steps": smooth}, "step", "loss")

# %% [markdown]
# The loss falls to 0.47 in a hundred steps, and then creeps: its floor is about 0.41, as the
# theatre says. Do the samples still improve?

# %% tags=["cover"]
x_T = torch.randn(2000, 2, generator=generator)
samples = [de.ddim(m, x_T, schedule, steps=25) for m in (early, ema.model, model, network)]
titles = ["averaged, 100 steps", "averaged, 500 steps", "last weights, 500 steps", "shipped"]
plots.clouds(samples, titles, behind=roll[:2000])

# %% [markdown]
# They do: what was a ring becomes a spiral. And with the average fewer points go astray than with
# the last weights. (The shipped network had twenty times as many steps.)
#
# ## The floor of the loss
#
# Many pairs of data and noise give the same $\mathbf{x}_t$. No network can tell which it was. At
# one level $t$ write $m=\mathbb{E}[\boldsymbol\epsilon\mid\mathbf{x}_t]$, and $f$ for any
# function of $\mathbf{x}_t$. Then, step by step,
#
# $$\begin{aligned}
# \mathbb{E}\lVert\boldsymbol\epsilon-f\rVert^2
# &=\mathbb{E}\lVert(\boldsymbol\epsilon-m)+(m-f)\rVert^2 &&\text{add and subtract } m\\
# &=\mathbb{E}\lVert\boldsymbol\epsilon-m\rVert^2+2\,\mathbb{E}\left[(\boldsymbol\epsilon-m)
# \cdot(m-f)\right]
# +\mathbb{E}\lVert m-f\rVert^2 &&\text{multiply out}\\
# \mathbb{E}\left[(\boldsymbol\epsilon-m)\cdot(m-f)\right]
# &=\mathbb{E}\left[\mathbb{E}[\boldsymbol\epsilon-m\mid\mathbf{x}_t]\cdot(m-f)\right]
# &&m-f\text{ depends on }\mathbf{x}_t\text{ alone}\\
# &=0 &&\mathbb{E}[\boldsymbol\epsilon\mid\mathbf{x}_t]-m=0
# \end{aligned}$$
#
# $$\boxed{\mathbb{E}\lVert\boldsymbol\epsilon-f\rVert^2=\underbrace{\mathbb{E}\lVert
# \boldsymbol\epsilon-
# \mathbb{E}[\boldsymbol\epsilon\mid\mathbf{x}_t]\rVert^2}_{\text{floor}}+\mathbb{E}\lVert
# \mathbb{E}[\boldsymbol\epsilon\mid\mathbf{x}_t]-f\rVert^2}$$
#
# So $m$ is the best guess, and even it pays the floor.

# %%
card("05.floor")

# %% [markdown]
# For a mixture of Gaussians $\mathbb{E}[\boldsymbol\epsilon\mid\mathbf{x}_t]$ is known exactly
# (`MixtureOracle`). So the identity can be checked with the shipped network of that data: the gap
# is the mean of the cross term, which must be 0 within four standard errors.

# %%
trained, chain, _ = de.pretrained("gaussians")
oracle = de.MixtureOracle(*de.toy.gaussians_mixture(), chain)
x0 = oracle.sample(40_000, generator).float()
t = torch.randint(1, chain.T + 1, (len(x0),), generator=generator)
eps = torch.randn(x0.shape, generator=generator)
x_t = de.q_sample(x0, t, eps, chain)
best, guess = oracle(x_t, t), trained(x_t, t)
cross = (eps - best) * (best - guess)
left, right = (eps - guess) ** 2, (eps - best) ** 2 + (best - guess) ** 2
error = 2 * cross.std() / cross.numel() ** 0.5
agree(left.mean(), right.mean(), tol=4 * error, what="loss against floor + gap")
parts = [((eps - best) ** 2).mean(), ((best - guess) ** 2).mean()]
table(["loss", "floor", "network above the floor"], [[left.mean(), *parts]])

# %% [markdown]
# Nearly all of the loss is floor. So look at samples, at held-out losses by level, or, where there
# is one, at the distance to the exact answer; never at the training loss alone.
#
# Let the theatre train your own loss beside $L_\text{simple}$, on the same batches. Then break it
# (leave out a square root, draw the target anew) and run the cell again.


# %%
def my_loss(model, x0, t, eps, schedule):
    """My L_simple; change something."""
    return ddpm_loss(model, x0, t, eps, schedule)


de.TrainingTheatre(loss=my_loss, steps=50)

# %% [markdown]
# ## What time it is
#
# A number from 1 to 1000 is a poor input: 500 and 501 look alike, and 1000 is huge. Networks get
# sines and cosines of $t$ instead, with $h$ frequencies from 1 down to 1/10000 in equal ratios:
#
# $$\boxed{e(t)=\left(\sin\omega_0t,\dots,\sin\omega_{h-1}t,\ \cos\omega_0t,\dots,\cos
# \omega_{h-1}t\right),\quad
# \omega_k=10000^{-k/(h-1)}}$$
#
# Fast ones tell neighbours apart, slow ones early from late. Conventions differ: cosines first, or
# $k/h$. Trained weights know only theirs.

# %%
show(de.nets.mlp.time_embedding)

# %% [markdown]
# How alike are two times? By $\cos a\cos b+\sin a\sin b=\cos(a-b)$, frequency by frequency,
#
# $$e(t)\cdot e(t')=\sum_{k}\left(\sin\omega_kt\,\sin\omega_kt'+\cos\omega_kt\,\cos\omega_kt'\right)
# =\sum_{k}\cos\omega_k(t-t').$$
#
# It depends on the distance of the times alone, and is largest, $h$, where they are equal. Below,
# the curves for two $t'$ are one:

# %%
times = torch.arange(1, 1001)
e = de.nets.mlp.time_embedding(times.double(), 32).double()
omega = 10_000.0 ** (-torch.arange(16) / 15)
by_distance = torch.cos((times - 500)[:, None] * omega).sum(1)
agree(e @ e[499], by_distance, tol=2e-3, what="e(t)·e(500)")
near = torch.arange(-100, 101)
likeness = {f"t' = {t}": e[t - 1 + near] @ e[t - 1] for t in (500, 850)}
plots.lines(near, likeness, "t - t'", "e(t)·e(t')")

# %% [markdown]
# ## An average of the weights
#
# With a constant step size the weights never rest: each batch pushes them another way. DDPM samples
# with their exponential moving average $\bar w$, where $d$ is the decay. Put the rule into itself,
# again and again:
#
# $$\begin{aligned}
# \bar w_n&=d\,\bar w_{n-1}+(1-d)\,w_n &&\text{the rule}\\
# &=d^2\,\bar w_{n-2}+(1-d)\left(w_n+d\,w_{n-1}\right) &&\text{once more}\\
# &=d^n\,\bar w_0+(1-d)\sum_{k=0}^{n-1}d^k\,w_{n-k} &&\text{to the end}
# \end{aligned}$$
#
# $$\boxed{\bar w_n\leftarrow d\,\bar w_{n-1}+(1-d)\,w_n,\qquad
# \text{weights of the past }(1-d)\,d^k}$$
#
# The mean age is $d/(1-d)$: about 10,000 steps for DDPM's $d=0.9999$.

# %%
show(de.EMA.update, de.EMA.rate.fget)

# %% [markdown]
# That is why early samples of a run are noise: the average still holds the random start, with
# weight $d^n$. The library therefore warms up: after $n$ updates it takes
# $\min(d,(1+n)/(10+n))$ for $d$. If the $w$ jitter independently with variance 1, their average has
# variance $(1-d)^2\sum_kd^{2k}=(1-d)^2/(1-d^2)=(1-d)/(1+d)$. The cell checks the long sum and this
# variance.

# %%
decay, w = 0.95, torch.randn(500, 4000, generator=generator, dtype=torch.float64)
average = torch.zeros(4000, dtype=torch.float64)
for new in w:
    average = decay * average + (1 - decay) * new
past = (1 - decay) * decay ** torch.arange(499, -1, -1, dtype=torch.float64)
agree(average, past @ w, tol=1e-12, what="the rule, and the sum it unrolls to")
expected = (1 - decay) / (1 + decay)
error = expected * (2 / 4000) ** 0.5
agree(average.var(), expected, tol=4 * error, what="variance of the average")

# %% [markdown]
# The Keras example of DDIM keeps two networks, as here: `network` is trained; `ema_network`,
# updated at the end of every `train_step`, samples. Save both: training goes on from the first,
# pictures come from the second.

# %% [markdown]
# ## Noise, data, or v
#
# Since $\mathbf{x}_t$ is known, the noise and the data are two names for one guess. With
# $\sqrt{\bar\alpha_t}=\cos\varphi$ and $\sqrt{1-\bar\alpha_t}=\sin\varphi$, $\mathbf{x}_t$ runs
# along a quarter circle, in the plane whose axes are $\mathbf{x}_0$ and $\boldsymbol\epsilon$. Its
# velocity is v (Salimans & Ho, 2202.00512):
#
# $$\begin{aligned}
# \mathbf{x}_t&=\cos\varphi\,\mathbf{x}_0+\sin\varphi\,\boldsymbol\epsilon &&\text{the jump}\\
# \mathbf{v}=\tfrac{d}{d\varphi}\mathbf{x}_t&=-\sin\varphi\,\mathbf{x}_0+\cos\varphi\,
# \boldsymbol\epsilon
# &&\text{differentiate}\\
# \cos\varphi\,\mathbf{x}_t-\sin\varphi\,\mathbf{v}&=(\cos^2\varphi+\sin^2\varphi)\,\mathbf{x}_0=
# \mathbf{x}_0
# &&\boldsymbol\epsilon\text{ cancels}\\
# \sin\varphi\,\mathbf{x}_t+\cos\varphi\,\mathbf{v}&=(\sin^2\varphi+\cos^2\varphi)\,
# \boldsymbol\epsilon
# =\boldsymbol\epsilon &&\mathbf{x}_0\text{ cancels}
# \end{aligned}$$
#
# $$\boxed{\mathbf{v}=\sqrt{\bar\alpha_t}\,\boldsymbol\epsilon-\sqrt{1-\bar\alpha_t}\,
# \mathbf{x}_0}$$

# %%
show(de.predict, de.prediction.eps_and_x0)

# %%
linear = de.linear()
x0, eps = roll[:1000].double(), noise[:1000].double()
t = torch.randint(1, 1001, (1000,), generator=generator)
a, b = (c[t][:, None] for c in (linear.sqrt_alpha_bar, linear.sqrt_one_minus_alpha_bar))
x_t = a * x0 + b * eps
agree(de.predict("v", a * eps - b * x0, x_t, t, linear).x0, x0, 1e-12, "x0 from v")
agree(de.predict("v", a * eps - b * x0, x_t, t, linear).eps, eps, 1e-12, "eps from v")
phi = torch.acos(a).requires_grad_()
(slope,) = torch.autograd.grad((phi.cos() * x0 + phi.sin() * eps)[:, 0].sum(), phi)
agree(slope[:, 0], (a * eps - b * x0)[:, 0], 1e-9, "v by autograd")

# %% [markdown]
# One guess, but not one loss. For two guesses at the same $\mathbf{x}_t$ let $\Delta$ be their
# difference. Write $a=\sqrt{\bar\alpha_t}$ and $b=\sqrt{1-\bar\alpha_t}$, so that
# $\mathbf{x}_t=a\,\mathbf{x}_0+b\,\boldsymbol\epsilon$. It is the same for both:
# $0=a\,\Delta\mathbf{x}_0+b\,\Delta\boldsymbol\epsilon$, so
#
# $$\begin{aligned}
# \Delta\mathbf{x}_0&=-\tfrac{b}{a}\,\Delta\boldsymbol\epsilon
# &&\text{solve for }\Delta\mathbf{x}_0\\
# \Delta\mathbf{v}=a\,\Delta\boldsymbol\epsilon-b\,\Delta\mathbf{x}_0
# &=\left(a+\tfrac{b^2}{a}\right)\Delta\boldsymbol\epsilon=\tfrac1a\,\Delta\boldsymbol\epsilon
# &&a^2+b^2=1
# \end{aligned}$$
#
# $$\boxed{\lVert\Delta\boldsymbol\epsilon\rVert^2=\frac{\bar\alpha_t}{1-\bar\alpha_t}\lVert\Delta
# \mathbf{x}_0\rVert^2
# =\bar\alpha_t\,\lVert\Delta\mathbf{v}\rVert^2}$$
#
# To choose what to predict, with a plain squared error, is to choose weights for the levels. A
# comment in DDPM's code says that the loss of the noise "seems to be weighted naturally like SNR".
# It is, exactly: $\bar\alpha_t/(1-\bar\alpha_t)$ is the ratio of signal to noise (lecture 02).

# %%
other = de.predict("eps", eps + 0.1 * noise[1000:2000].double(), x_t, t, linear)
mine = de.predict("eps", eps, x_t, t, linear)
squared = (other.eps - mine.eps) ** 2
for_x0, for_v = (de.snr_weight(t, linear, kind)[:, None] for kind in ("x0", "v"))
agree(for_x0 * (other.x0 - mine.x0) ** 2 / squared, 1, 1e-6, "weighted x0 error / eps error")
agree(for_v * (other.v - mine.v) ** 2 / squared, 1, 1e-6, "weighted v error / eps error")

# %%
card("05.amplified")

# %% [markdown]
# ### The mean of a step
#
# A fourth choice, DDPM's own baseline ($\beta_t$: variance of step $t$, $\alpha_t=1-\beta_t$):
# predict the mean $\tilde{\boldsymbol\mu}_t$ of $q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)$
# itself (lecture 03). It is linear in $\mathbf{x}_0$ and $\mathbf{x}_t$,
#
# $$\tilde{\boldsymbol\mu}_t=\underbrace{\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-
# \bar\alpha_t}}_{c_t}\mathbf{x}_0+
# \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\mathbf{x}_t
# \quad\Rightarrow\quad\boxed{\lVert\Delta\tilde{\boldsymbol\mu}\rVert^2=c_t^2\,\lVert\Delta
# \mathbf{x}_0\rVert^2
# =\frac{\beta_t^2}{\alpha_t(1-\bar\alpha_t)}\lVert\Delta\boldsymbol\epsilon\rVert^2}$$
#
# The last step uses the box above, and $\bar\alpha_t=\alpha_t\bar\alpha_{t-1}$. The mean is nearly
# $\mathbf{x}_t$: what is left to learn is a small correction.


# %%
mu, mu_other = (de.q_posterior(x_t, p.x0, t, linear).mean for p in (mine, other))
factor = (linear.beta**2 / (linear.alpha * (1 - linear.alpha_bar)))[t][:, None]
agree((mu - mu_other) ** 2 / (factor * squared), 1, 1e-6, "error of the mean, ratio")
far = ((mu - x_t) ** 2).mean().sqrt()
table(["typical size of mu - x_t", "typical size of x_t"], [[far, (x_t**2).mean().sqrt()]])

# %% [markdown]
# ## DDPM's table 2, in the plane
#
# DDPM trained six variants on CIFAR-10 (FID, lower is better):
#
# | loss | predicts $\tilde{\boldsymbol\mu}$ | predicts $\boldsymbol\epsilon$ |
# |---|---|---|
# | $L$, learned $\boldsymbol\Sigma$ | 23.69 | unstable |
# | $L$, fixed $\boldsymbol\Sigma$ | 13.22 | 13.51 |
# | plain squared error | unstable | **3.17** |
#
# "Unstable" is an empty place in the paper: bad samples, scores out of range. $L$ is the bound with
# its weights (lecture 04); $\boldsymbol\Sigma$ is the variance of a step, learned per coordinate or
# fixed. The plain squared error of $\boldsymbol\epsilon$ is $L_\text{simple}$. Which of this
# survives in two dimensions?

# %%
show(ablation.trained, ablation.objective)

# %% [markdown]
# Each variant is trained for 100 steps, with four seeds at once, on a chain of 50 steps; then its
# bound (nats, lower is better) and the sliced Wasserstein distance of 250 DDPM samples to data are
# measured; 250 points of the data themselves are at 0.10. The fixed variance is $\beta_t$; the
# learned one lies between $\tilde\beta_t$ and $\beta_t$, as improved DDPM has it.

# %% tags=["covers-ablation"]
short, fresh, results = de.linear(50), de.toy.swiss_roll(1000, seed=7), []
for predicts in ("mean", "eps"):
    for name in ("L, learned", "L, fixed", "simple"):
        model = ablation.trained(predicts, name, roll, short, steps=100)
        measured = ablation.bound_and_distance(model, fresh, short, predicts, name)
        found = [f"{x.mean():.3f} ± {x.std() / 2:.3f}" for x in measured]
        results.append([predicts, name, *found])
table(["predicts", "loss", "bound, nats", "distance of samples"], results)

# %% [markdown]
# What this resolves (± is one standard error over four seeds):
#
# - **Like DDPM's FID**: in the bound, learning the variance as well is worst, with either prediction.
# - **Unlike DDPM** (13.51, 13.22): in the bound, $\boldsymbol\epsilon$ beats the mean.
# - **Not resolved**: $L$ with fixed variance against $L_\text{simple}$, for $\boldsymbol\epsilon$.
#   DDPM's gain from 13.51 to 3.17 does not show. $L_\text{simple}$ takes weight from levels with
#   little noise; in images those hold details that nobody sees, in the plane they do not.
# - **Unlike DDPM**: nothing is unstable, and the mean with a plain error even samples best. (With
#   `de.linear(20)` samples by $\boldsymbol\epsilon$ run away, to a distance of infinity.)
#
# All are at the start of their training. Do not carry a table from one size of problem to another.

# %% [markdown]
# ## Improved DDPM
#
# Nichol & Dhariwal (2102.09672) still predict the noise, and add four things: a learned variance, a
# cosine schedule, importance-sampled $t$, and sampling in fewer steps. We take them one by one, on
# data with an exact denoiser, so that nothing but the addition is measured. (They also report that
# their models miss less of the data than a GAN of like quality, and improve smoothly with size and
# computing time.)
#
# ### The best variance
#
# The step back $p_\theta(\mathbf{x}_{t-1}\mid\mathbf{x}_t)$ has mean $\boldsymbol\mu_\theta$ and
# variance $\sigma^2$; $\tilde{\boldsymbol\mu}_t,\tilde\beta_t$ are those of
# $q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)$, $D$ is the number of dimensions and
# $e^2=\mathbb{E}\lVert\tilde{\boldsymbol\mu}_t-\boldsymbol\mu_\theta\rVert^2/D$. Per dimension,
# lecture 04's KL is
#
# $$\begin{aligned}
# K(\sigma^2)&=\tfrac12\left[\log\frac{\sigma^2}{\tilde\beta_t}+
# \frac{\tilde\beta_t+e^2}{\sigma^2}-1\right]
# &&\text{KL of two Gaussians}\\
# K'(\sigma^2)&=\tfrac12\left[\frac1{\sigma^2}-\frac{\tilde\beta_t+e^2}{\sigma^4}\right]=0
# &&\text{differentiate}
# \end{aligned}$$
#
# $K'$ is negative below its zero and positive above, so the zero is the minimum:
#
# $$\boxed{\sigma_*^2=\tilde\beta_t+\mathbb{E}\lVert\tilde{\boldsymbol\mu}_t-\boldsymbol\mu_\theta
# \rVert^2/D}$$

# %%
card("05.variance")

# %%
short = de.linear(20)
oracle = de.MixtureOracle(*de.toy.gaussians_mixture(), short)
points, t = oracle.sample(4000, generator), 3
x_t = de.q_sample(points, t, noise[:4000].double(), short)
q = de.q_posterior(x_t, points, t, short)
mean = de.q_posterior(x_t, oracle.x0(x_t, t), t, short).mean
best = q.var + ((q.mean - mean) ** 2).mean()
sigma2 = best.clone().requires_grad_()
(slope,) = torch.autograd.grad(q.kl(de.Gaussian(mean, sigma2)).mean() * best, sigma2)
agree(slope, 0, 1e-9, "slope of the mean KL at the best variance")
table(["beta_tilde", "best", "beta"], [[short.beta_tilde[t], best, short.beta[t]]])

# %% [markdown]
# With the exact mean, and data of variance 1, it lies between $\tilde\beta_t$ (data that are one
# point, $e=0$) and $\beta_t$ (standard normal data): lecture 06 proves it. So improved DDPM lets
# the network say where, by a second output per coordinate, here $v$ (a number for the variance, no
# velocity; their eq. 15 has our $u$):
#
# $$\sigma_t^2=\exp\left(u\log\beta_t+(1-u)\log\tilde\beta_t\right),\qquad u=\tfrac{1+v}{2}.$$
#
# $L_\text{simple}$ does not know the variance, and the whole bound $L_\text{vlb}$ is hard to train.
# Hence the sum, in which the bound trains $v$ alone (the mean is detached), with $\lambda=0.001$:
#
# $$\boxed{L_\text{hybrid}=L_\text{simple}+\lambda\,L_\text{vlb}}$$

# %%
show(de.loss_hybrid, de.learned_variance)

# %% [markdown]
# The exact denoiser gives the mean, a small network learns $v$ on a chain of 20 steps. The bound of
# the same 2,000 points with the same noise, for three variances, as it lies above the exact
# $-\log p$, below which none can get on average:


# %% tags=["covers-improved-ddpm"]
def with_variance(net):
    """The exact mean, and what net says of the variance."""
    return lambda x, t: torch.cat([oracle(x, t), net(x, t)], 1)


data, held = (oracle.sample(n, generator).float() for n in (20_000, 2000))
hybrid = partial(de.loss_hybrid, schedule=short, decoder="gaussian")
net = ablation.Several(partial(de.MLP, 2, 32, 2, T=20), seeds=1)
learned = ablation.fit(net, hybrid, data, short.T, steps=150, wrap=with_variance)
models = {"beta": oracle, "beta_tilde": oracle, "learned": learned}
eps, rows = torch.randn(20, *held.shape, generator=generator), []
for s, m in models.items():
    above = de.elbo(m, held, short, sigma2=s, decoder="gaussian", eps=eps).total
    above = above + oracle.log_prob(held, 0)
    rows.append([s, above.mean(), above.std() / len(held) ** 0.5])
table(["variance", "bound above -log p, nats", "standard error"], rows, digits=2)

# %% [markdown]
# The learned variance beats both (with the same noise, so by more than the errors say). Which one
# is near it? $\beta_t$, not $\tilde\beta_t$: a variance
# that is too small is punished without limit, by $e^2/\sigma^2$. With images, where nearly every
# step has $\tilde\beta_t\approx\beta_t$, the gain is in the few steps next to the data.
#
# ### Fewer steps
#
# On a chain of few steps the two variances are far apart, so there the learned one should help
# samples too. The chain is respaced: all 20 levels, or every fourth. The distance to data, for four
# times 1,000 samples; 1,000 fresh points of the data are at 0.07:

# %%
kinds = {"beta": "large", "beta_tilde": "eta", "learned": "learned"}
x_T, rows = torch.randn(4000, 2, generator=generator), []
for s, m in models.items():
    for steps in (20, 5):
        same = torch.Generator().manual_seed(9)  # the same noise for all
        how = {"eta": 1.0, "variance": kinds[s], "generator": same}
        *_, last = de.sample(m, x_T, short, steps, **how)
        gaps = torch.stack([de.sliced_wasserstein2(x, held) for x in last.x_s.split(1000)])
        rows.append([s, steps, f"{gaps.mean():.3f}", f"{gaps.std() / 2:.3f}"])
table(["variance", "steps", "distance", "standard error"], rows, digits=2)

# %% [markdown]
# With 20 steps all are at the data. With five $\tilde\beta_t$ is clearly worst, and the learned
# variance is no better than $\beta_t$: what has improved here is the bound. On images improved DDPM
# found more: with its learned variance 100 steps gave nearly the FID of all 4,000.
#
# ### Cosine schedule
#
# With linear betas the signal is gone long before $T$: the last levels hold nothing to learn. The
# cosine schedule (lecture 02) spreads the loss of signal evenly. How far is level $t$ from pure
# noise, in nats per dimension, for data of variance 1? That is the mean of
# $D_\mathrm{KL}(q(\mathbf{x}_t\mid\mathbf{x}_0)\,\Vert\,\mathcal{N}(0,\mathbf{I}))$, which lecture
# 04 computes; with $\mathbb{E}[x_0^2]=1$ the terms with $\bar\alpha_t$ cancel:
#
# $$\tfrac12\left[\bar\alpha_t+(1-\bar\alpha_t)-1-\log(1-\bar\alpha_t)\right]=-\tfrac12\log(1-
# \bar\alpha_t).$$

# %%
curves = {s.name: -0.5 * (1 - s.alpha_bar[1:]).log() for s in (de.linear(), de.cosine())}
unit = torch.randn(100_000, 1, generator=generator, dtype=torch.float64)
kl = de.q_marginal(unit, 600, de.linear()).kl(de.Gaussian(torch.zeros_like(unit), torch.ones(1)))
error = kl.std() / len(kl) ** 0.5
agree(kl.mean(), curves["linear"][599], tol=4 * error, what="KL to noise at t = 600")
plots.lines(torch.arange(1, 1001), curves, "t", "still known, nats per dimension", log="y")

# %% [markdown]
# ### Importance-sampled t
#
# The terms of the bound differ by orders of magnitude, so uniform $t$ gives a noisy gradient. Let
# $L_t$ be one draw of the term at level $t$, as in the paper (lecture 04 counts it as $L_{t-1}$).
# Draw $t$ with probability $p_t>0$ and weigh its loss by $1/(Tp_t)$. The mean stays,
# $\sum_tp_t\,\mathbb{E}L_t/(Tp_t)=\tfrac1T\sum_t\mathbb{E}L_t$; the second moment does not:
#
# $$\begin{aligned}
# \mathbb{E}\left[\left(\tfrac{L_t}{Tp_t}\right)^2\right]
# &=\frac1{T^2}\sum_tp_t\left(\frac{\sqrt{\mathbb{E}L_t^2}}{p_t}\right)^2 &&\text{sum over }t\\
# &\ge\frac1{T^2}\left(\sum_tp_t\,\frac{\sqrt{\mathbb{E}L_t^2}}{p_t}\right)^2
# &&\text{Jensen: }\mathbb{E}[Y^2]\ge(\mathbb{E}Y)^2
# \end{aligned}$$
#
# a bound without $p_t$, which is reached if the fraction is the same for all $t$:
#
# $$\boxed{p_t\propto\sqrt{\mathbb{E}[L_t^2]}}$$
#
# The expectation is estimated from the last losses of each $t$: ten in the paper, 200 here. The
# paper needs this to train by $L_\text{vlb}$ alone; with $L_\text{hybrid}$ it did not help.

# %%
show(de.ImportanceSampler)


# %%
def draw_losses(sampler, n):
    """n weighted terms of the bound; the sampler sees them unweighted."""
    t, weight = sampler.sample(n, generator)
    x0 = data[torch.randint(len(data), (n,), generator=generator)]
    eps = torch.randn(x0.shape, generator=generator)
    terms = de.loss_vlb(oracle, x0, t, eps, short, sigma2="beta", decoder="gaussian").double()
    sampler.update(t, terms)
    return weight * terms


important = de.ImportanceSampler(short.T, history=200)
uniform = de.ImportanceSampler(short.T, history=10**5)  # never sees enough: stays uniform
draw_losses(important, 6000)
by = {"uniform": draw_losses(uniform, 6000), "importance": draw_losses(important, 6000)}
error = (sum(x.var() for x in by.values()) / 6000).sqrt()
agree(by["uniform"].mean(), by["importance"].mean(), tol=4 * error, what="the two means")
table(["t drawn", "standard deviation of a term"], [[name, x.std()] for name, x in by.items()])

# %% [markdown]
# ## Checkpoint
#
# The functions above are two of exercise E5. Break one (draw $t$ from `randint(0, sch.T)`, leave
# out `opt.step()`, compare with fresh noise), run its cell and this one again, and read what it is
# called. (That `zero_grad` is missing shows from the second step on: E5's `train_epoch`.)

# %%
de.check(train_step, ddpm_loss=ddpm_loss)

# %% [markdown]
# ## Errata you may meet
#
# | often printed | right | how to see it |
# |---|---|---|
# | all of `p_loss` under `if noise is None:` | only the draw | given noise, it returns None |
# | improved DDPM learns $\beta$ | it learns the step's variance | the schedule is an input |
# | an empty place in DDPM's table 2: a very bad score | no score: unstable to train | its caption |
# | it is better to predict the noise than the mean | only with $L_\text{simple}$ | 13.51, 13.22 |
# | the weight of $L_{t-1}$ falls with $t$ | it falls, then rises again | next cell |

# %%
weight = de.loss_weight(torch.arange(1, 1001), de.linear())
lowest = int(weight.argmin()) + 1
agree(weight[0], 0.5, 1e-3, "weight at t = 1, against 1/2")


def p_loss_as_printed(model, x_0, t, noise=None):
    """The listing, its indentation as printed."""
    if noise is None:
        noise = torch.randn_like(x_0)
        x_noise = de.q_sample(x_0, t, noise, schedule)
        return torch.nn.functional.mse_loss(model(x_noise, t), noise)


assert p_loss_as_printed(network, roll[:5], torch.ones(5).long(), noise[:5]) is None
table(["least at t =", "weight there", "weight at T"], [[lowest, weight.min(), weight[-1]]])

# %% [markdown]
# ## Think
#
# 1. Your loss sits at 0.98 after an hour. Name three mistakes that would do this, and how to tell
#    them apart.
# 2. A friend trains twice as long and the loss does not move, yet the samples improve. Why is that
#    no contradiction?
# 3. At $t=T$, where $\mathbf{x}_T$ is nearly noise: what should a network answer that predicts
#    $\boldsymbol\epsilon$, $\mathbf{x}_0$, v? Which of the three answers is hard to get *precisely*
#    right, and does it matter?
# 4. Why does $L_\text{hybrid}$ detach the mean? What would the bound's gradient do to it?

# %% [markdown] tags=["answer"]
# 1. Fresh noise as the target, or $\mathbf{x}_0$ in place of $\mathbf{x}_t$ as the input: weights
#    move, the loss tends to 1. With one fixed batch, level and noise the second can be learned by
#    heart, the first cannot. Or the optimiser holds another network's weights, or `step` is
#    missing: then no weight moves.
# 2. Most of the loss is floor. What the network can still gain is a few per cent, at few levels,
#    drowned by the noise of the batches; a fixed validation set, or the exact denoiser, shows it.
# 3. $\mathbf{x}_T$, the mean of the data, and minus the mean of the data. The first: an error of
#    0.01 is multiplied by 157 in $\hat{\mathbf{x}}_0$. It matters for samplers that trust
#    $\hat{\mathbf{x}}_0$ at large $t$: clip, or predict v.
# 4. The bound weighs the level nearest to the data a hundred times more than those in the middle
#    (1/2 against 0.005), so its gradients are noisy and would take the mean away from what
#    $L_\text{simple}$ wants.

# %% [markdown] tags=["notation"]
# t x0 xt eps eps_theta beta alpha alpha_bar snr beta_tilde mu_tilde q p_theta sigma v L kl x0_hat
