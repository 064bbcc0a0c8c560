# %% [markdown]
# # Images, and what they should show
#
# Nothing in the last nine lectures asked what a data point looks like. For pictures two things are
# new: the network, and the wish to say **which** picture. This lecture opens the network, then
# asks it for a digit, for a missing half, for colours, and for what was there before the noise.
#
# **You will be able to**
#
# - name the parts of a U-Net and write a small one that learns,
# - derive guidance without a classifier, and say what it costs,
# - fill in pictures with a network that was never trained for it, and say how wrong that is,
# - draw from the posterior of a noisy picture.

# %%
import torch

import diffusion_edu as de
from diffusion_edu.data.images import hue_of, tint
from diffusion_edu.evaluation.features import features_for
from diffusion_edu.lectures import agree, card, show, table
from diffusion_edu.nets.mlp import time_embedding
from diffusion_edu.nets.unet import Attention, ResnetBlock, UNet, UNetConfig
from diffusion_edu.viz import l10, plots

# %%
de.GuidanceDial(play=True, steps=8, curves=False)

# %% [markdown]
# Thirty digits from the same noise: three of each class. Turn **guidance**. The same images
# change: at 0 the class asked for is ignored, at 1 the network follows it as it learned to, beyond
# 1 it exaggerates. Images that a separate classifier does not read as asked are underlined.
#
# Before you look at the numbers:

# %%
card("10.dial")

# %% [markdown]
# ## What goes in, what comes out
#
# For a point in the plane the network was a stack of dense layers. A picture is a point too,
# $\mathbf{x}_t$ with $C \times H \times W$ coordinates, at level $t$. The network
# $\boldsymbol\epsilon_\theta$ with weights $\theta$ must say for **each** coordinate how much
# noise is in it. So what comes out has the shape of what goes in:
#
# $$\boxed{\boldsymbol\epsilon_\theta:\ \mathbb{R}^{C\times H\times W}\times\{1,\ldots,T\}
# \to \mathbb{R}^{C\times H\times W}}$$
#
# Most of it is visible locally. Some is not: whether a stroke belongs to a 3 or to an 8 is decided
# ten pixels away. The **U-Net** looks at both scales.

# %%
mnist, schedule, info = de.pretrained("mnist")
generator = torch.Generator().manual_seed(0)
x, t = torch.randn(2, *info.shape, generator=generator), torch.tensor([10, 900])
print(mnist(x, t).shape == x.shape, f"{sum(p.numel() for p in mnist.parameters()):,} weights")
l10.u_shape(mnist, x)

# %% [markdown] tags=["covers-unet"]
# Read the picture from left to right. Going **down**, a convolution of stride 2 halves height and
# width, so that a filter of $3 \times 3$ sees twice as far, and there are more channels to
# remember what it saw. In the **middle**, $4 \times 4$ places are left, and each looks at all
# others. Going **up**, the size doubles again. What was lost by halving, the exact place of an
# edge, arrives through the arrows, the **skips**: outputs of the way down, appended as more
# channels.
#
# The shipped network takes MNIST padded from 28 to 32 pixels, and first turns squares of
# $2 \times 2$ pixels into one place with 4 channels. The table is measured while it runs. More
# than half of the weights sit where the picture is smallest.

# %%
table(*l10.shapes(mnist, x))

# %% [markdown]
# ## What time it is, in every block
#
# One network serves all $T$ levels, so it must be told $t$. As a single number, $t/T$ say, two
# neighbours would be 0.001 apart and hard to tell from each other. Instead $t$ becomes a vector of
# $d$ sines and cosines. The fast ones tell neighbours apart, the slow ones early from late:
#
# $$\boxed{\mathbf{e}(t) = \left(\sin\omega_k t,\ \cos\omega_k t\right)_{k=0}^{d/2-1}, \qquad
# \omega_k = 10^{-4k/(d/2-1)}}$$
#
# Two small layers follow, and the result is handed to every residual block.

# %%
show(time_embedding)

# %% [markdown]
# **Why sines?** Compare two levels by the scalar product of their vectors:
#
# $$\begin{aligned}
# \mathbf{e}(t)^\top \mathbf{e}(t')
# &= \sum_k \sin\omega_k t \,\sin\omega_k t' + \cos\omega_k t\,\cos\omega_k t'
# && \text{by definition} \\
# &= \sum_k \cos\left(\omega_k (t - t')\right) && \text{cosine of a difference}
# \end{aligned}$$
#
# Only the distance of the levels matters, not where they are. With $t = t'$ every cosine is 1, so
# all vectors have the same length $\sqrt{d/2}$.

# %%
e = time_embedding(torch.arange(1, 1001), 32).double()
omega = 10 ** (-4 * torch.arange(16, dtype=torch.float64) / 15)
apart = (omega * torch.arange(0, 300, 20)[:, None]).cos().sum(1)
agree(e[400:700:20] @ e[400], apart, 2e-3, "e(t)·e(401) by the distance alone")
agree(e.norm(dim=1), 16**0.5, 1e-5, "length of e(t)")

# %% [markdown]
# ## A residual block
#
# The block takes channels $\mathbf{h}$, computes a *change* and adds it. The vector of the time,
# $\mathbf{e}$, enters in between, the same at every pixel. With $\mathrm{N}$ for group
# normalisation, $\text{silu}(u) = u/(1+e^{-u})$ and a matrix $W$:
#
# $$\boxed{\mathbf{h} \mapsto \mathbf{h} + \text{conv}_2\left(\text{silu}\,\mathrm{N}\left(
# \text{conv}_1(\text{silu}\,\mathrm{N}(\mathbf{h})) + W\mathbf{e}\right)\right)}$$
#
# Where the number of channels changes, a $1 \times 1$ convolution of $\mathbf{h}$ takes the place
# of the first $\mathbf{h}$ (`conv_shortcut`). The `UNet` starts the last convolution of each block
# at zero: a fresh block of equal widths passes its input on unchanged, however many blocks there
# are, and learning starts from there.

# %%
show(ResnetBlock.forward)


# %%
def seeded(make, *what):
    """make(*what) with the same random weights at every run."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(*what)


fresh = seeded(UNet, UNetConfig(channels=(32, 48), groups=8))
h, e = torch.randn(2, 32, 8, 8, generator=generator), torch.randn(2, 128, generator=generator)
agree(fresh.down_blocks[0].resnets[0](h, e), h, what="a fresh block changes nothing")
agree(fresh(h[:, :3], t), 0.0, what="a fresh network predicts no noise")

# %% [markdown]
# ## Self-attention
#
# A convolution of $3 \times 3$ carries news one pixel further. Attention carries it everywhere at
# once. Each of the $n = HW$ places asks a question $\mathbf{q}_i$, offers a key $\mathbf{k}_j$ and
# a value $\mathbf{v}_j$, all linear in its $d$ channels. Place $i$ receives the values, weighted
# by how well their keys answer:
#
# $$\boxed{\mathbf{a}_i = \sum_{j=1}^{n} w_{ij}\,\mathbf{v}_j, \qquad
# w_{ij} = \frac{\exp(\mathbf{q}_i^\top\mathbf{k}_j/\sqrt d)}
# {\sum_{l}\exp(\mathbf{q}_i^\top\mathbf{k}_l/\sqrt d)}}$$

# %%
show(Attention.forward)

# %% [markdown]
# **Why divide by $\sqrt d$?** Let the entries of $\mathbf{q}$ and $\mathbf{k}$ be independent, of
# mean 0 and variance 1.
#
# $$\begin{aligned}
# \text{Var}\left(\mathbf{q}^\top\mathbf{k}\right)
# &= \sum_{c=1}^d \text{Var}(q_c k_c) && \text{independent terms} \\
# &= \sum_{c=1}^d \mathbb{E}[q_c^2]\,\mathbb{E}[k_c^2] = d
# && \text{means are 0}
# \end{aligned}$$
#
# Undivided, the exponents would grow with $\sqrt d$: one weight would be nearly 1, the others
# nearly 0, and hardly any gradient would reach them.
#
# The cell checks this, then the layer by hand, then what it does not know: shuffle the places, and
# the result is shuffled alike. Attention alone is blind to *where*.

# %%
q, k = torch.randn(2, 20_000, 48, generator=generator)
agree((q * k).sum(1).var(), 48.0, 4 * 48 * (2 / 20_000) ** 0.5, "variance of q·k, d = 48")

layer = seeded(Attention, 48, UNetConfig(channels=(48,), groups=8, attention=()))
torch.nn.init.normal_(layer.to_out[0].weight, std=0.1, generator=generator)
x = torch.randn(2, 48, 4, 4, generator=generator)
flat = layer.group_norm(x).flatten(2).transpose(1, 2)
q, k, v = layer.to_q(flat), layer.to_k(flat), layer.to_v(flat)
by_hand = layer.to_out((q @ k.transpose(1, 2) / 48**0.5).softmax(2) @ v)
agree(layer(x), x + by_hand.transpose(1, 2).reshape(x.shape), 1e-5, "attention by hand")
order = torch.randperm(16, generator=generator)
shuffled = x.flatten(2)[..., order].reshape(x.shape)
agree(layer(shuffled).flatten(2), layer(x).flatten(2)[..., order], 1e-5, "shuffled places")

# %% [markdown]
# ## The skeleton
#
# Now the smallest network that has it all: time in every block, down, attention in the middle, up,
# one skip, and the same shape out as in. It is built of the library's parts; the wiring is yours
# to read, and to break.


# %% tags=["covers-unet"]
class Skeleton(torch.nn.Module):
    def __init__(self, colours=1, c=16):
        super().__init__()
        plan = UNetConfig(channels=(c, 2 * c), groups=8, dropout=0.0)
        self.time = torch.nn.Sequential(torch.nn.Linear(c, 4 * c), torch.nn.SiLU())
        self.enter = torch.nn.Conv2d(colours, c, 3, padding=1)
        self.down = ResnetBlock(c, c, plan)
        self.halve = torch.nn.Conv2d(c, c, 3, stride=2, padding=1)
        self.middle = ResnetBlock(c, 2 * c, plan)
        self.look = Attention(2 * c, plan)
        self.grow = torch.nn.Upsample(scale_factor=2.0)
        self.up = ResnetBlock(2 * c + c, c, plan)  # + c: the skip
        self.leave = torch.nn.Conv2d(c, colours, 3, padding=1)

    def forward(self, x, t):
        e = self.time(time_embedding(t, self.enter.out_channels))
        skip = self.down(self.enter(x), e)
        h = self.look(self.middle(self.halve(skip), e))
        h = self.up(torch.cat([self.grow(h), skip], 1), e)
        return self.leave(h)


# %% [markdown]
# Does it learn? The training step is that of lecture 05, on the $8 \times 8$ digits: draw levels
# and noise, let the network guess the noise. Guessing nothing costs 1.


# %%
def train(net, steps=50, batch=32, lr=3e-3):
    g = torch.Generator().manual_seed(0)
    digits = de.images.to_float(de.images.load("digits").images)
    optimiser, losses = torch.optim.Adam(net.parameters(), lr), []
    for _ in range(steps):
        x0 = digits[torch.randint(len(digits), (batch,), generator=g)]
        t = torch.randint(1, 1001, (batch,), generator=g)
        loss = de.loss_simple(net, x0, t, torch.randn(x0.shape, generator=g), schedule)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return torch.tensor(losses)


smooth = train(seeded(Skeleton)).unfold(0, 10, 1).mean(1)
print(f"first ten steps: {smooth[0]:.2f}, last ten: {smooth[-1]:.2f}")
plots.lines(torch.arange(len(smooth)) + 10, {"": smooth}, "step", "L_simple, mean of 10 steps")

# %% [markdown]
# **Think.** Multiply `skip` by 0 in `torch.cat` and train again. At which levels does the loss get
# worse, in proportion: at small $t$ or at large $t$? And what would one see in samples?

# %% [markdown] tags=["answer"]
# At large $t$. After 300 steps: at $t=20$ from 0.68 to 0.77, at $t=200$ from 0.22 to 0.25, at
# $t=800$ from 0.004 to 0.022. Where nearly all is noise, the noise is nearly the input itself, and
# each pixel has to get through unchanged. Past the halving four pixels share one place, and to
# pack and unpack them exactly is hard to learn. In $\hat{\mathbf{x}}_0$ that error counts
# $\sqrt{1-\bar\alpha_t}/\sqrt{\bar\alpha_t}$ times, 25 at $t=800$: what is drawn goes wrong, not
# only its sharpness. A network that predicts $\mathbf{v}$, as the shipped MNIST network does, is
# spared the copying.

# %% [markdown]
# ## Guidance without a classifier
#
# We want pictures of a class $y$. Let $p(\mathbf{x}_t)$ be the density of noisy data. A classifier
# that reads noisy pictures gives $p(y \mid \mathbf{x}_t)$. By Bayes' rule:
#
# $$\begin{aligned}
# \log p(\mathbf{x}_t \mid y) &= \log p(\mathbf{x}_t) + \log p(y \mid \mathbf{x}_t) - \log p(y)
# && \text{Bayes, logarithm} \\
# \nabla \log p(\mathbf{x}_t \mid y) &= \nabla\log p(\mathbf{x}_t)
# + \nabla\log p(y \mid \mathbf{x}_t) && p(y)\ \text{does not depend on}\ \mathbf{x}_t
# \end{aligned}$$
#
# Gradients are with respect to $\mathbf{x}_t$. To insist on the class, count the classifier $g$
# times; $g$ is the **guidance**:
#
# $$\boxed{\mathbf{s}_g = \nabla\log p(\mathbf{x}_t) + g\,\nabla\log p(y \mid \mathbf{x}_t)}$$

# %% [markdown]
# But we have no classifier, and need none. Read Bayes' rule backwards: two densities *are* one.
#
# $$\begin{aligned}
# \nabla\log p(y \mid \mathbf{x}_t) &= \nabla\log p(\mathbf{x}_t \mid y)
# - \nabla\log p(\mathbf{x}_t) && \text{the line before, solved} \\
# \mathbf{s}_g &= \nabla\log p(\mathbf{x}_t) + g\left(\nabla\log p(\mathbf{x}_t\mid y)
# - \nabla\log p(\mathbf{x}_t)\right) && \text{inserted}
# \end{aligned}$$
#
# Lecture 09: score $= -\boldsymbol\epsilon/\sqrt{1-\bar\alpha_t}$. The factor is common to all
# terms and drops out. With $\boldsymbol\epsilon_\theta(\mathbf{x}_t, t, y)$ for a network that is
# told the class (Ho and Salimans, 2207.12598, eq. 6):
#
# $$\boxed{\boldsymbol\epsilon_g = \boldsymbol\epsilon_\theta(\mathbf{x}_t, t)
# + g\left(\boldsymbol\epsilon_\theta(\mathbf{x}_t, t, y)
# - \boldsymbol\epsilon_\theta(\mathbf{x}_t, t)\right)}$$

# %%
show(de.guided)

# %% [markdown]
# **Check**, where all is exact: two classes on a line, $\mathcal{N}(-1, \tfrac14)$ and
# $\mathcal{N}(1, \tfrac14)$. An oracle is the perfect network, and it knows its density. The
# classifier's gradient comes from autograd, the difference from the two oracles.

# %%
means, v = torch.tensor([[-1.0], [1.0]]).double(), torch.full((2,), 0.25).double()
both = de.MixtureOracle(means, v, torch.ones(2).double(), schedule)
right = de.MixtureOracle(means[1:], v[1:], torch.ones(1).double(), schedule)

x = torch.linspace(-3, 3, 13).double()[:, None].requires_grad_()
log_classifier = right.log_prob(x, 300) + torch.tensor(0.5).log() - both.log_prob(x, 300)
(gradient,) = torch.autograd.grad(log_classifier.sum(), x)
agree(gradient, right.score(x, 300) - both.score(x, 300), 1e-9, "gradient of log p(y | x_t)")

# %% [markdown]
# **Checkpoint.** One line to write. `w` is our $g$: 0 is the unconditional prediction, 1 the
# conditional one. Break it: swap the two predictions, or forget to subtract, and run the check
# again. Your function also drives the dial below.


# %%
def cfg_eps(eps_cond, eps_uncond, w):
    """The guided noise, from two predictions of the same shape."""
    return eps_uncond + w * (eps_cond - eps_uncond)


de.check(cfg_eps)

# %%
de.GuidanceDial(cfg_eps=cfg_eps, label=3, guidance=2.0, steps=6)

# %% [markdown]
# What the values of $g$ mean:
#
# | $g$ | prediction | samples |
# |---|---|---|
# | 0 | $\boldsymbol\epsilon_\theta(\mathbf{x}_t,t)$ | any class, as often as in the data |
# | 1 | $\boldsymbol\epsilon_\theta(\mathbf{x}_t,t,y)$ | the class, as the network learned it |
# | above 1 | beyond the conditional one, on the same line | typical of the class, less varied |
# | below 0 | on the other side | pushed away from the class |
#
# The two factors, $g$ and $1-g$, always add up to 1. At 0 and at 1 one evaluation is enough; all
# other values cost two for each step.
#
# **What is sampled?** The scores above belong, at each level, to the density
#
# $$\boxed{p_g(\mathbf{x}) \propto p(\mathbf{x})\,p(y\mid\mathbf{x})^g
# \propto p(\mathbf{x})^{1-g}\,p(\mathbf{x}\mid y)^g}$$
#
# It is tempting to think that samples follow $p_g$ of clean data. They would if adding noise to
# $p_g$ gave the $p_g$ of noisy data. It does not: a power of a mean is not the mean of the powers.
# The two classes on the line, with $g = 3$:

# %%
grid = torch.linspace(-3, 4, 2001).double()[:, None]
tilted = (3 * right.log_prob(grid, 0) - 2 * both.log_prob(grid, 0)).softmax(0)


def told(x, t, y=None):
    return both(x, t) if y is None else right(x, t)


mean = (tilted * grid[:, 0]).sum()
print(f"p_3: mean {mean:.2f}, std {(tilted * (grid[:, 0] - mean) ** 2).sum().sqrt():.2f}")
x_T = torch.randn(4000, 1, generator=generator, dtype=torch.float64)
samples = {f"g = {g}": de.ddim(de.guided(told, 1, g), x_T, schedule, 50) for g in (0, 1, 3)}
print(f"g = 3: mean {samples['g = 3'].mean():.2f}, std {samples['g = 3'].std():.2f}")
top = [oracle.x0(torch.zeros(1, 1).double(), 1000) for oracle in (both, right)]
agree(cfg_eps(top[1], top[0], 3), 3.0, 0.01, "where g = 3 points at the top level")
plots.histogram(samples, "x", density=(grid, tilted / (grid[1] - grid[0])), title="black: p_3")

# %% [markdown]
# The samples for $g = 3$ lie further out than $p_3$ does, and are too narrow. The push is too
# large at the upper levels: there the two oracles expect 0 and 1, so the guided
# $\hat{\mathbf{x}}_0$ is $0 + 3\,(1 - 0) = 3$, where $p_3$ has its mean at 1.05. So guidance is a
# useful distortion, not a sampler of some tidy density. In pictures it shows as contrast: too much
# guidance saturates.

# %% [markdown]
# ## One network for both
#
# Two predictions, but one network: in training some labels, each with probability $p$, are
# replaced by a **null label** that stands for "no class". It has an embedding of its own, the
# last. With independent uniform $u_i \in [0, 1)$:
#
# $$\boxed{y_i \leftarrow \text{null} \quad \text{where} \quad u_i < p}$$
#
# Every label has its own die: one for the whole batch would make whole batches unlabelled, right on
# average but noisier. Label 0 instead of null would spoil class 0, and dropping the *example* would
# leave the null label untrained. The shipped networks used $p = 0.2$ (digits) and $0.25$ (MNIST).


# %%
def drop_labels(y, p, null, u):
    """Labels (B,) with null in place of those that are dropped. y stays as it is."""
    return torch.where(u < p, null, y)


de.check(drop_labels)

# %%
digits, schedule, info = de.pretrained("digits")
x, t, null = torch.randn(4, *info.shape, generator=generator), torch.full((4,), 500), 10
agree(digits(x, t), digits(x, t, torch.full((4,), null)), 0.0, "no label = the null label")
halfway = de.guided(digits, torch.arange(4), 0.5)(x, t)
agree(halfway, (digits(x, t) + digits(x, t, torch.arange(4))) / 2, 1e-6, "g = 0.5 is the middle")

# %% [markdown]
# ## Fidelity against diversity
#
# *Fidelity*: the share of samples that a separate classifier reads as the class asked for.
# *Diversity*: the mean distance of two samples of a class in that classifier's features, divided
# by that of real test images. Sixty digits in five steps, from the same noise for every $g$:

# %%
judge, y, test = features_for("digits"), torch.arange(60) % 10, de.images.load("digits", "test")
x_T = torch.randn(60, *info.shape, generator=torch.Generator().manual_seed(1))


def scores(images, y):
    features, logits = judge(images)
    wide = torch.stack([torch.pdist(features[y == c]).mean() for c in range(10)]).mean()
    return (logits.argmax(1) == y).float().mean().item(), wide.item()


rows, real = [], scores(test.images, test.labels)[1]
for g in (0, 0.5, 1, 3):
    made = de.ddim(de.guided(digits, y, g), x_T, schedule, 5, clip=1.0)
    share, wide = scores(de.images.to_uint8(made), y)
    rows.append([g, share, wide / real])
table(["g", "fidelity", "diversity"], rows, 2)

# %% [markdown]
# At $g = 0$ one in ten is right by luck, and "diversity within a class" is that of all digits. On
# the way up, fidelity rises and diversity falls. These digits are easy: from $g = 1$ there is
# hardly any fidelity left to win, and the diversity goes on falling. No single $g$ is best: it
# depends on what the pictures are for. The second dial has both curves, with error bars (in
# a running notebook, press *Measure the curves*).

# %% [markdown]
# ## Part of the picture is known
#
# Half of a photograph, or a gray one: we know a linear picture $\Pi\mathbf{x}_0$ of the data and
# want the rest. Let $\Pi$ be an *orthogonal projection*: applied twice it does nothing more, and
# it equals its transpose, so that noise in $\Pi\mathbf{x}$ and noise in the rest are independent.
# For a repair, $\Pi$ keeps the known pixels; for colouring, it puts the mean of the channels into
# each channel.
#
# A step from level $t$ to $s < t$ uses $\mathbf{x}_t$ and the network's $\hat{\mathbf{x}}_0$
# (lecture 07), because $\mathbf{x}_0$ is unknown. Where it is known, put it in:
#
# $$\boxed{\hat{\mathbf{x}}_0' = \hat{\mathbf{x}}_0 + \Pi\left(\mathbf{x}_0 -
# \hat{\mathbf{x}}_0\right)}$$

# %%
show(de.holding, de.pixels, de.gray)

# %% [markdown]
# No training, no labels: the unconditional network is wrapped, and every sampler takes the wrapped
# one. (The original form, as in 2011.13456 and RePaint, 2201.09865, overwrites $\Pi\mathbf{x}_s$
# with freshly noised data at every level. In the known part both have the right law at each level;
# here its noise is also that of one walk, not drawn anew.)

# %% [markdown]
# ## Colours for a gray picture
#
# The data: the digits as light of one hue each on black, $3 \times 8 \times 8$, all hues equally
# often. The mean of the channels is half the digit *whatever the hue*, so a gray picture says
# nothing about its hue, and we know what perfect colouring is: one hue for all of the digit, and
# over many trials every hue alike. A network of 0.46 million weights was trained on them,
# unconditionally.

# %%
card("10.hue")

# %% tags=["covers-colourisation"]
painter, schedule, info = de.pretrained("colour_digits")
chosen, g = [0, 2, 4, 6, 7], torch.Generator().manual_seed(0)
held_out = de.images.to_float(de.images.load("colour_digits", "test").images[chosen])
many = held_out.repeat_interleave(7, 0)  # its gray part is all that is used
x_T = torch.randn(many.shape, generator=g)
agree(de.gray(de.gray(x_T)), de.gray(x_T), what="gray of gray")
agree((de.gray(x_T) * many).sum(), (x_T * de.gray(many)).sum(), 1e-2, "gray is its transpose")
coloured = de.fill_in(painter, x_T, many, de.gray, schedule, 12, generator=g)
agree(de.gray(coloured), de.gray(many), 1e-5, "gray of the result")
columns = [held_out[:, None], de.gray(held_out)[:, None], coloured.view(5, 7, 3, 8, 8)]
plots.strip(torch.cat(columns, 1), ["true", "given", *map(str, range(1, 8))], zoom=0.7)

# %% [markdown]
# None of these digits was seen in training. Each answer is plausible, none is *the* answer: a
# network trained to give the mean would have said gray. (A gray patch, as in the 4, is ink where
# the walk had imagined none.) Three numbers: how far the light is of one hue (1 if all is); how far
# the picture is from the perfect answer, the given digit in the hue that was chosen; and whether
# the hues are spread evenly. Of $n$ even hues, as arrows on a circle, the mean arrow is longer than
# $\sqrt{7/n}$ once in a thousand times only.

# %%
hue, one = hue_of(coloured.clamp(-1, 1))
given = de.images.load("digits", "test").images[chosen].repeat_interleave(7, 0)
error = (coloured - de.images.to_float(tint(given, hue))).square().mean().sqrt()
print(f"light of one hue, the median digit: {one.median():.3f}; from perfect: {error:.3f}")
turn = 2 * torch.pi * hue
agree(turn.cos().mean().hypot(turn.sin().mean()), 0.0, (7 / len(hue)) ** 0.5, "mean arrow")

# %% [markdown]
# ## A missing half
#
# The same wrapper, another projection. Ten MNIST digits come with the library; of five, the lower
# half is hidden, and the shipped network fills it in without being told a class. Most strokes go on
# where they were cut; look for those that do not.

# %% tags=["cover"]
originals = de.images.to_float(de.images.mnist_sample()[[2, 3, 5, 7, 8]])
padded = torch.nn.functional.pad(originals, (2, 2, 2, 2), value=-1.0)
upper = de.pixels((torch.arange(32) < 15).float()[:, None])
noise = torch.randn(padded.shape, generator=torch.Generator().manual_seed(3))
g = torch.Generator().manual_seed(4)
filled = de.fill_in(mnist, noise, padded, upper, schedule, 10, clip=1.0, generator=g)
plots.strip([padded, upper(padded), filled], rows=["true", "given", "filled in"], zoom=0.8)

# %% [markdown]
# ## How wrong is it?
#
# Write $\mathbf{c}$ for the known part. The rest should follow
# $\mathbb{E}[\mathbf{x}_0\mid\mathbf{x}_t,\mathbf{c}]$. The network says
# $\mathbb{E}[\mathbf{x}_0\mid\mathbf{x}_t]$: it sees $\mathbf{c}$ only under the noise of level
# $t$. By the tower rule it averages over every $\mathbf{c}'$ that may hide in that noise:
#
# $$\boxed{\mathbb{E}[\mathbf{x}_0\mid\mathbf{x}_t] =
# \int \mathbb{E}[\mathbf{x}_0\mid\mathbf{x}_t,\mathbf{c}']\; p(\mathbf{c}'\mid\mathbf{x}_t)\,
# d\mathbf{c}'}$$
#
# At large $t$ the average is over nearly all data, and there the walk decides on the rest. Later
# $\mathbf{c}$ becomes visible, often too late to change course. For the hue of a digit the average
# does no harm: gray says nothing about it.

# %% [markdown]
# **Test it** with no network at all. Three round clusters in the plane; the first coordinate is
# known, $c=-0.3$, and the second wanted. The clusters' weights given $c$ follow from Bayes' rule,
# so the *rest* has an exact oracle of its own, a mixture on a line. First the tower rule, by
# quadrature over $c'$ at one $\mathbf{x}_t$:

# %%
centres = torch.tensor([[-1.0, -0.5], [0.0, 0.5], [1.0, -1.5]]).double()
weights, v = torch.tensor([0.45, 0.25, 0.30]).double(), torch.full((3,), 0.04).double()
plane = de.MixtureOracle(centres, v, weights, schedule)


def rest_given(c):
    """The oracle of the second coordinate when the first is known to be c."""
    left = (weights.log() - (c - centres[:, 0]) ** 2 / (2 * 0.04)).softmax(0)
    return de.MixtureOracle(centres[:, 1:], v, left, schedule)


x_t, ab = torch.tensor([[0.3, -0.2]]).double(), schedule.alpha_bar[300]
cs = torch.linspace(-3, 3, 201).double()[:, None]
prior = de.MixtureOracle(centres[:, :1], v, weights, schedule).log_prob(cs, 0)
under_noise = -((x_t[0, 0] - ab.sqrt() * cs[:, 0]) ** 2) / (2 * (1 - ab))
rests = [rest_given(float(c)) for c in cs]
the_rest = torch.cat([rest.log_prob(x_t[:, 1:], 300) for rest in rests])
share = (prior + under_noise + the_rest).softmax(0)  # p(c' | x_t)
means_given = torch.cat([rest.x0(x_t[:, 1:], 300)[0] for rest in rests])
agree(share @ means_given, plane.x0(x_t, 300)[0, 1], 1e-6, "tower rule, by quadrature")

# %% [markdown]
# Now 2,000 walks: with the oracle of the rest, which knows $c$; with the oracle of the plane,
# held; and held, with every step made eight times. In which cluster do they end?

# %%
known, part = torch.tensor([[-0.3, 0.0]]).double(), de.pixels(torch.tensor([1.0, 0.0]))
x_T, rest = torch.randn(2000, 2, generator=generator).double(), rest_given(-0.3)
how = {"schedule": schedule, "generator": generator}
exact = de.ddim(rest, x_T[:, 1:], steps=30, eta=1.0, **how)
held = de.fill_in(plane, x_T, known, part, taus=30, **how)
again = de.fill_in(plane, x_T, known, part, taus=30, repeats=8, **how)


def near(x):
    """Share of numbers (n,) nearest to each cluster's second coordinate."""
    return torch.bincount((x[:, None] - centres[:, 1]).abs().argmin(1), minlength=3) / len(x)


agree(near(exact[:, 0]), rest.weights, 0.02, "oracle of the rest against Bayes")
shares = {"Bayes": rest.weights, "oracle of the rest": near(exact[:, 0])}
shares |= {"held": near(held[:, 1]), "held, 8 repeats": near(again[:, 1])}
table(["cluster at", "-0.5", "0.5", "-1.5"], [[k, *map(float, s)] for k, s in shares.items()], 2)

# %% [markdown]
# Given $c$, nearly all belongs to the second cluster. Half of the held walks end in the first,
# which the *data* prefer, some even in the third: the choice was made before $c$ could be seen.
# **Repeats** (RePaint, Algorithm 1) put the noise of a step back, by
# $q(\mathbf{x}_t\mid\mathbf{x}_s)$, and make the step again, so that the rest can come to terms
# with the known part. That nearly clears the third cluster and moves many walks over to the second,
# at eight times the work. It is still not exact. Many walks with weights (particles) do become
# exact as their number grows (2206.04119).

# %% [markdown]
# What *is* exact is the known part, on its way too. Each step there is
# $q(\mathbf{x}_s\mid\mathbf{x}_t,\mathbf{x}_0)$ with the true $\mathbf{x}_0$, and lecture 07
# showed that this keeps $q(\mathbf{x}_s \mid \mathbf{x}_0)$, of mean
# $\sqrt{\bar\alpha_s}\,\mathbf{x}_0$ and variance $1-\bar\alpha_s$, at every level $s$:

# %%
walk = de.sample(de.holding(plane, known, part, schedule), x_T, taus=40, eta=1.0,
                 schedule=schedule, generator=generator)  # fmt: skip
seen, ab = next(step.x_s[:, 0] for step in walk if step.s == 500), schedule.alpha_bar[500]
agree(seen.mean(), ab.sqrt() * -0.3, 4 * float((1 - ab) / 2000) ** 0.5, "mean at s = 500")
agree(seen.var(), 1 - ab, 4 * float(1 - ab) * (2 / 2000) ** 0.5, "variance at s = 500")

# %% [markdown]
# ## Held-out pictures under noise of variance 1
#
# The first paper on diffusion models (Sohl-Dickstein et al., 1503.03585, figure 3) shows four
# rows: held-out images; the same under Gaussian noise of variance 1; denoised ones, drawn from the
# posterior; fresh samples. Received is $\mathbf{r} = \mathbf{x}_0 + \mathbf{n}$ with
# $\mathbf{n}\sim\mathcal{N}(\mathbf{0},\mathbf{I})$. Which level is that?
#
# $$\begin{aligned}
# \sqrt{\bar\alpha_t}\,\mathbf{r} &= \sqrt{\bar\alpha_t}\,\mathbf{x}_0
# + \sqrt{\bar\alpha_t}\,\mathbf{n} && \text{scaled} \\
# \mathbf{x}_t &= \sqrt{\bar\alpha_t}\,\mathbf{x}_0 + \sqrt{1-\bar\alpha_t}\,\boldsymbol\epsilon
# && \text{lecture 02}
# \end{aligned}$$
#
# They have the same law where $\bar\alpha_t = 1-\bar\alpha_t$:
#
# $$\boxed{\mathbf{x}_t = \sqrt{\bar\alpha_t}\,\mathbf{r}, \qquad
# \mathrm{SNR}(t) = \frac{\bar\alpha_t}{1-\bar\alpha_t} = 1}$$

# %%
level = int(schedule.log_snr[1:].abs().argmin()) + 1
print(f"t = {level}, alpha_bar = {schedule.alpha_bar[level]:.4f}")
agree(schedule.snr[level], 1.0, 0.01, "SNR against 1")

# %% [markdown]
# From this level walk back with the noise of DDPM, $\eta = 1$. Its steps are nearly those of
# $p(\mathbf{x}_s\mid\mathbf{x}_t)$, the better the smaller they are (lecture 03), so its end is
# **a draw from $p(\mathbf{x}_0\mid\mathbf{x}_t)$**, the posterior. Check it where the posterior is
# known: the data are $-1$ and $+1$, and $r = 0.3$ was received. Bayes' rule gives $+1$ the
# probability $e^{r}/(e^{r}+e^{-r}) = (1+\tanh r)/2$.

# %%
coin = de.EmpiricalOracle(torch.tensor([[-1.0], [1.0]]).double(), schedule)


def draw(model, x_t, n_levels, seed=0):
    """x_0 given x_t at the level of SNR 1, by DDPM on so many steps."""
    taus = torch.linspace(level, 0, n_levels + 1).round().long()
    g = torch.Generator().manual_seed(seed)
    *_, last = de.sample(model, x_t, schedule, taus, eta=1.0, generator=g)
    return last.x_s


r = torch.full((4000, 1), 0.3).double()
plus = (draw(coin, schedule.alpha_bar[level].sqrt() * r, 130) > 0).double().mean()
agree(plus, (1 + r[0, 0].tanh()) / 2, 4 * (0.25 / 4000) ** 0.5, "share of +1")

# %% [markdown]
# Now the four rows, with $8 \times 8$ digits that were held out of training and the network
# without a class. All come back with clean strokes, most as what they were. Some become another
# digit that fits the noisy picture too: a draw from the posterior is plausible, not always right.

# %% tags=["covers-holdout"]
some = [0, 2, 4, 6, 7, 8, 12, 13]
x0 = de.images.to_float(test.images[some])
received = x0 + torch.randn(x0.shape, generator=torch.Generator().manual_seed(5))
scale = schedule.alpha_bar[level].sqrt().float()
denoised = draw(digits, scale * received, 16)
fresh_noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(6))
new = de.ddim(digits, fresh_noise, schedule, 10, clip=1.0)
read_as = judge(de.images.to_uint8(denoised))[1].argmax(1)
print("labels in (a):", test.labels[some].tolist(), " read in (c):", read_as.tolist())
rows = ["(a) held out", "(b) with noise", "(c) denoised", "(d) new"]
plots.strip([x0, received, denoised, new], rows=rows, zoom=0.75)

# %%
card("10.twice")

# %% [markdown]
# **A draw or the mean?** Let $\mathbf{m} = \mathbb{E}[\mathbf{x}_0\mid\mathbf{r}]$, and
# $\mathbf{x}'$ a draw from the posterior. Given $\mathbf{r}$, it and the true $\mathbf{x}_0$ are
# independent and have the same law.
#
# $$\begin{aligned}
# \mathbb{E}\lVert\mathbf{x}'-\mathbf{x}_0\rVert^2
# &= \mathbb{E}\lVert(\mathbf{x}'-\mathbf{m})-(\mathbf{x}_0-\mathbf{m})\rVert^2
# && \text{add and subtract} \\
# &= \mathbb{E}\lVert\mathbf{x}'-\mathbf{m}\rVert^2
# + \mathbb{E}\lVert\mathbf{x}_0-\mathbf{m}\rVert^2 && \text{cross term 0: independent, means 0}
# \end{aligned}$$
#
# Both terms are equal, and the second is the error of $\mathbf{m}$:
#
# $$\boxed{\mathbb{E}\lVert\mathbf{x}'-\mathbf{x}_0\rVert^2
# = 2\;\mathbb{E}\lVert\mathbf{m}-\mathbf{x}_0\rVert^2}$$
#
# Sharpness costs a factor of two. The mean is closest, and blurred: no data look like it.

# %%
truth = torch.randint(0, 2, (4000, 1), generator=generator).double() * 2 - 1
x_t = de.q_sample(truth, level, torch.randn(truth.shape, generator=generator).double(), schedule)
drawn, mean = (draw(coin, x_t, 130) - truth) ** 2, (coin.x0(x_t, level) - truth) ** 2
error = float((drawn - 2 * mean).std()) / 4000**0.5
agree(drawn.mean(), 2 * mean.mean(), 4 * error, "error of a draw, against twice the mean's")
table(["answer", "mean squared error"], [["draw", drawn.mean()], ["mean", mean.mean()]])

# %% [markdown]
# ## Errata you may meet
#
# | often printed | right | how to see it |
# |---|---|---|
# | `(1+w) eps_y - w eps`: w is our g | g = 1 + w | w = 0 is the class, g = 0 is none |
# | `eps_y + w (eps - eps_y)` | the difference is class minus none | more w, less class |
# | samples follow $p(\mathbf{x})\,p(y\mid\mathbf{x})^g$ | only the scores do | see the histogram |
# | noise of variance 1, so SNR 1 | signal to noise is 1 if the data have variance 1 | ours: below |
# | output shaped like the input | twice the channels with a learned variance | below |
# | frequencies $10^{-4k/(d/2)}$ | here $d/2-1$; both are in use | weights do not carry over |

# %%
cond, free = torch.randn(2, 5, generator=generator)
agree((1 + 0.5) * cond - 0.5 * free, cfg_eps(cond, free, 1.5), what="w = 0.5 is g = 1.5")
learned = seeded(UNet, UNetConfig(channels=(16,), groups=8, attention=(), learned_variance=True))
three = fresh_noise[:2].expand(-1, 3, -1, -1)
print(f"{tuple(three.shape)}, with a learned variance {tuple(learned(three, t[:2]).shape)}")
print(f"variance of the digits in [-1, 1]: {de.images.to_float(test.images).var():.2f}")

# %% [markdown]
# **Think.** "Guide" a denoiser of the noisy digits above with the right class and $g = 3$. Will
# the mean squared error fall?

# %% [markdown] tags=["answer"]
# With $g = 1$ it falls: the class is information, and a posterior given more is narrower. Beyond 1
# the walk no longer draws from a posterior: samples become more typical of the class than the true
# image is. For 120 digits: 0.19 without a class, 0.15 at $g=1$, 0.16 at $g=3$, 0.18 at $g=5$. (The
# posterior *mean*, without a class: 0.11.)

# %% [markdown]
# **Next.** Exercise E9 asks for `cfg_eps` and `drop_labels`, with a broken mask to mend. Lecture
# 11 asks what you may have wondered about above: are the pictures any good, and how would one
# know?

# %% [markdown] tags=["notation"]
# t s x0 xt x0_hat eps eps_theta alpha_bar snr score eta y g
