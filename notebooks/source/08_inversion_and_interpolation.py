# %% [markdown]
# # There and back again
#
# With $\eta=0$ the sampler of lecture 07 is a function: one noise, one picture. A function can be
# computed more or less finely, run backwards, and fed with inputs that lie between two others. DDPM
# throws dice in every step, and can do the last only roughly.
#
# **You will be able to**
#
# - derive the differential equation behind DDIM, and say why the number of steps hardly matters,
# - find the latent of given data, and say how well it leads back,
# - mix latents without leaving the place where noise lives,
# - interpolate in DDPM's way, and say what the level $t$ does.

# %%
from itertools import pairwise

import torch

import diffusion_edu as de
from diffusion_edu.lectures import agree, card, show, table
from diffusion_edu.viz import plots

# %%
de.InvertAndMix()

# %% [markdown]
# Two points A and B of the data go up to noise, are mixed there, and come down. Drag A and B, then
# the place $\lambda$ between them: 0 is A, 1 is B. Set **mix** to lerp. Set **steps** to 2: do A
# and B still come back to themselves?
#
# ## One latent, any number of steps

# %% [markdown] tags=["covers-consistency"]
# Let $\mathbf{x}_T\sim\mathcal{N}(\mathbf{0},\mathbf{I})$ be the *latent*, the noise a walk starts
# from, and $S$ the number of its steps. Sample the same eight latents with several $S$. The network
# is the shipped one for scikit-learn's digits (8 by 8 pixels), without a class. The last row has
# DDPM's noise, $\eta=1$.

# %%
card("08.same")

# %%
net, sch, info = de.pretrained("digits")


def digits(x_t, t):
    return net(x_t, t, None)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


x_T = torch.randn(8, 1, 8, 8, generator=seeded(0))
rows = {f"S = {S}": de.ddim(digits, x_T, sch, S, clip=1.0) for S in (5, 10, 20, 40)}
rows["eta = 1"] = de.ddim(digits, x_T, sch, 10, eta=1.0, generator=seeded(1), clip=1.0)
plots.strip(torch.stack(list(rows.values())), rows=list(rows), zoom=0.6)

# %% [markdown]
# $\mathbf{x}_T$ decides the digit, nearly; more steps draw it better (DDIM section 5.2). With
# $\eta=1$ every step throws the dice again, and the latent decides little. Why is that?
#
# ## The curve behind the steps
#
# The step with $\sigma=0$ from level $t$ to level $s<t$, with the predicted data
# $\hat{\mathbf{x}}_0$ and noise $\hat{\boldsymbol\epsilon}$ (lecture 07):
#
# $$\mathbf{x}_s=\sqrt{\bar\alpha_s}\,\hat{\mathbf{x}}_0+\sqrt{1-\bar\alpha_s}\,
# \hat{\boldsymbol\epsilon},\qquad\mathbf{x}_t=\sqrt{\bar\alpha_t}\,\hat{\mathbf{x}}_0+\sqrt{1-
# \bar\alpha_t}\,\hat{\boldsymbol\epsilon}.$$
#
# Take out the shrinking: let $\mathbf{y}=\mathbf{x}/\sqrt{\bar\alpha}$, and
# $r=\sqrt{(1-\bar\alpha)/\bar\alpha}$, the noise for each unit of signal.

# %% [markdown]
# $$\begin{aligned}
# \mathbf{y}_s&=\hat{\mathbf{x}}_0+r_s\,\hat{\boldsymbol\epsilon}
# &&\text{divide by }\sqrt{\bar\alpha_s}\\
# \mathbf{y}_t&=\hat{\mathbf{x}}_0+r_t\,\hat{\boldsymbol\epsilon}
# &&\text{the same at }t\\
# \mathbf{y}_s&=\mathbf{y}_t+(r_s-r_t)\,\hat{\boldsymbol\epsilon}
# &&\text{subtract: }\hat{\mathbf{x}}_0\text{ is gone}
# \end{aligned}$$
#
# This is a step of **Euler's method**: go straight in the direction $\hat{\boldsymbol\epsilon}$, by
# the change of $r$. For ever smaller steps it is an ordinary differential equation (DDIM eq. 14;
# the network is given $\mathbf{x}=\mathbf{y}/\sqrt{1+r^2}$, since $\bar\alpha=1/(1+r^2)$):
#
# $$\boxed{\frac{d\mathbf{y}}{dr}=
# \boldsymbol\epsilon_\theta\Big(\frac{\mathbf{y}}{\sqrt{1+r^2}},\,t(r)\Big)}$$
#
# Through each point there is one curve. $\mathbf{x}_T$ picks it; $S$ only says how finely it is
# followed.

# %%
points = torch.randn(5, 2, generator=seeded(2), dtype=torch.float64)
oracle = de.MixtureOracle(*de.toy.gaussians_mixture(), sch)  # the exact eps for eight Gaussians
r = ((1 - sch.alpha_bar) / sch.alpha_bar).sqrt()
t, s = 700, 500
eps = oracle(points, t)
euler = points / sch.alpha_bar[t].sqrt() + (r[s] - r[t]) * eps
x0_hat = oracle.x0(points, t)
step = de.reverse_step(x0_hat, eps, t, s, sch)
agree(euler * sch.alpha_bar[s].sqrt(), step, tol=1e-12, what="Euler's step and DDIM's")

# %% [markdown]
# ### A curve we can write down
#
# For one Gaussian, $x_0\sim\mathcal{N}(0,v)$, the equation can be solved. The exact noise
# prediction is linear, $\epsilon=\sqrt{1-\bar\alpha}\;x/(\bar\alpha v+1-\bar\alpha)$: the covariance
# of $\epsilon$ and $x$ over the variance of $x$.
#
# $$\begin{aligned}
# \frac{dy}{dr}&=\frac{r\sqrt{\bar\alpha}\cdot\sqrt{\bar\alpha}\,y}{\bar\alpha v+\bar\alpha r^2}
# &&x=\sqrt{\bar\alpha}\,y,\ \sqrt{1-\bar\alpha}=r\sqrt{\bar\alpha}\\
# &=\frac{r\,y}{v+r^2}
# &&\bar\alpha\text{ cancels}\\
# \frac{d\log y}{dr}&=\frac12\,\frac{d\log(v+r^2)}{dr}
# &&\text{chain rule, both sides; let } y>0\\
# y(r)&=y(0)\,\sqrt{\frac{v+r^2}{v}}
# &&\text{integrate from }0\text{ to }r
# \end{aligned}$$
#
# Back in $x$, with $y(0)=x_0$: $\;x_T=x_0\sqrt{(\bar\alpha_Tv+1-\bar\alpha_T)/v}$. The map only
# rescales: a point two standard deviations out stays two standard deviations out.

# %%
v, x0 = 0.25, torch.linspace(-1.5, 1.5, 7, dtype=torch.float64)[:, None]
one = (torch.zeros(1, 1), torch.tensor([v]), torch.ones(1))
gauss = de.MixtureOracle(*(part.double() for part in one), sch)
exact = x0 * ((sch.alpha_bar[-1] * v + 1 - sch.alpha_bar[-1]) / v).sqrt()
errors = {}
for S in (10, 20, 50, 100, 200, 1000):
    *_, last = de.invert(gauss, x0, sch, S)
    errors[S] = float((last.x_s - exact).abs().max())
agree(errors[1000], 0, tol=0.01, what="latents in 1000 steps and the formula")
table(["S", *map(str, errors)], [["largest error", *errors.values()]], digits=2)

# %% [markdown]
# Twice the steps, half the error: Euler's method errs by about $h^2$ in a step of size $h$, and
# there are $1/h$ steps.
#
# Now the consistency in numbers: how far, in the root mean square, from where 200 steps lead?

# %%
x_T = torch.randn(500, 2, generator=seeded(0), dtype=torch.float64)
fine, rows = de.ddim(oracle, x_T, sch, 200), []
for S in (5, 10, 20, 50):
    ways = [de.ddim(oracle, x_T, sch, S, eta=eta, generator=seeded(1)) for eta in (0.0, 1.0)]
    rows.append([S, *((x - fine).square().mean().sqrt() for x in ways)])
table(["S", "eta = 0", "eta = 1"], rows, digits=2)

# %% [markdown]
# With $\eta=1$ the distance is that of two unrelated samples, whatever $S$.
#
# ## One step up
#
# Euler's step works in both directions. To go *up*, from level $s$ to a higher level $t$, exchange
# the two (DDIM section 4.3): read the noise
# $\hat{\boldsymbol\epsilon}=\boldsymbol\epsilon_\theta(\mathbf{x}_s,s)$ where you are, take it out,
# and put more of *the same noise* back in.
#
# $$\boxed{\mathbf{x}_t=\sqrt{\bar\alpha_t}\,\frac{\mathbf{x}_s-\sqrt{1-\bar\alpha_s}\,
# \hat{\boldsymbol\epsilon}}{\sqrt{\bar\alpha_s}}+\sqrt{1-\bar\alpha_t}\,
# \hat{\boldsymbol\epsilon}}$$
#
# No fresh noise: that would be the forward process $q$, which forgets the way back. And $\eta=0$,
# or there is no single way up.


# %%
def step_up(x_s, s, t, eps):
    a_s, a_t = sch.alpha_bar[s], sch.alpha_bar[t]
    return a_t.sqrt() * (x_s - (1 - a_s).sqrt() * eps) / a_s.sqrt() + (1 - a_t).sqrt() * eps


s, t = 500, 700
eps = oracle(points, s)
euler = points / sch.alpha_bar[s].sqrt() + (r[t] - r[s]) * eps
up = step_up(points, s, t, eps)
agree(up / sch.alpha_bar[t].sqrt(), euler, tol=1e-12, what="one step up and Euler's step")
down = de.reverse_step(oracle.x0(up, t), oracle(up, t), t, s, sch)
print(f"up and down again misses by {(down - points).abs().max():.3f}, in one step of 200 levels")

# %% [markdown]
# Up uses the noise seen at $s$, down the noise seen at $t$. They differ by about one step's length,
# so a round trip of one step misses by its square.
#
# ## From data to their noise
#
# Chain the steps: $\mathbf{x}_0\to\dots\to\mathbf{x}_T$, over the same levels $\tau$ as the
# sampler, from 0 up. The noise is always read at the level that is *left*. At level 0 no network is
# defined (it never saw clean data): it is told $t=1$ there, and the data stand for their own
# prediction.

# %%
show(de.invert)

# %%
taus = de.timesteps(1000, 50).flip(0).tolist()
x = data = de.toy.gaussians(1000, seed=1).double()
for s, t in pairwise(taus):
    eps = oracle(x, max(s, 1))
    x = step_up(x, s, t, eps)
*_, last = de.invert(oracle, data, sch, 50)
agree(x, last.x_s, tol=1e-12, what="this loop and de.invert")

# %% [markdown]
# Are the latents standard normal, as the sampler's start should be? Mean and variance of each
# coordinate:

# %%
rows = []
for S in (10, 20, 50, 200):
    *_, last = de.invert(oracle, data, sch, S)
    rows.append([S, *last.x_s.mean(0), *last.x_s.var(0)])
table(["S", "mean 1", "mean 2", "variance 1", "variance 2"], rows, digits=2)

# %% [markdown]
# With many steps they are. With few, they are *too short*: the first long step starts at clean
# data, where there is hardly any noise to be seen, and then puts in too little. On images it is the
# same. The way down makes up for it, on the same levels; but such a latent is not typical noise.
#
# The picture: points of the eight Gaussians, coloured by angle, and where they go. Neighbours stay
# neighbours, and the clusters are stretched until no empty space is left between them.

# %%
angle = torch.atan2(data[:, 1], data[:, 0])
frames = {0: data, **{s.s: s.x_s for s in de.invert(oracle, data, sch, 200)}}
shown = (0, 100, 200, 400, 1000)
plots.clouds([frames[t] for t in shown], [f"t = {t}" for t in shown], colour=angle, limit=3)

# %% [markdown]
# ## Round trip

# %% [markdown] tags=["covers-reconstruction"]
# Up, then down on the same levels:
#
# $$\mathbf{x}_0\to\mathbf{x}_T\to\mathbf{x}_0'\approx\mathbf{x}_0.$$
#
# Only nearly, because both ways are Euler's method and see the noise at different places. The
# denoiser is exact here (eight Gaussians), so what you will see is the error of the sampler alone.
# DDIM's section 5.4 measures the same on CIFAR-10.

# %%
card("08.trip")

# %%
x0, steps, mse = data[:300], (10, 20, 50, 100, 200), []
for S in steps:
    back = de.reconstruct(oracle, x0, sch, S)
    mse.append(float((back - x0).square().mean()))
law = [mse[-1] * (steps[-1] / S) ** 2 for S in steps]
curves = {"measured": mse, "falling like 1/S²": law}
plots.lines(steps, curves, "steps S", "mean squared error", log="xy", markers=True)

# %% [markdown]
# Each way errs by about $1/S$, so the mean *squared* error falls like $1/S^2$, once steps are small.
#
# A network in place of the exact denoiser makes little difference: *it need not be right, only
# smooth*. Any function $\boldsymbol\epsilon_\theta$ has its curves, and curves can be walked both
# ways. What hurts is a denoiser that is not smooth. The exact denoiser of *a finite set of points*
# pulls every curve to one of them; a point that is not in the set cannot come back.

# %%
trained, trained_sch, _ = de.pretrained("gaussians")
memory = de.EmpiricalOracle(de.toy.gaussians(300, seed=2), sch)
rows, some = [], x0[:100].float()
for S in (10, 30, 100):
    ways = [(trained, trained_sch), (memory, sch)]
    errors = [(de.reconstruct(m, some, z, S) - some).square().mean() for m, z in ways]
    rows.append([S, *errors])
table(["S", "trained network", "exact for 300 other points"], rows, digits=2)

# %% [markdown]
# Images, from the test set: the digits, their latents after 20 steps, and what these decode to in
# 20 steps; below, the same with 40.

# %%
test = de.images.load("digits", "test")
real = de.images.to_float(test.images[:6])
rows = {"data": real}
for S in (20, 40):
    *_, last = de.invert(digits, real, sch, S)
    back = de.ddim(digits, last.x_s, sch, S)
    rows |= {f"latent, S = {S}": last.x_s / 2, f"back, S = {S}": back}
    print(f"S = {S}: root mean square error of a pixel {(back - real).square().mean().sqrt():.3f}")
plots.strip(torch.stack(list(rows.values())), rows=list(rows), zoom=0.6)

# %% [markdown]
# ## Mixing latents
#
# Where does noise live? $\lVert\mathbf{x}_T\rVert^2$ is a sum of $D$ squares of mean 1 and variance
# 2: it is $D$ up to about $\sqrt{2D}$. So in $D$ dimensions nearly all noise lies near a sphere of
# radius $\sqrt D$, and two independent noises $\mathbf{a},\mathbf{b}$ are nearly at right angles.

# %%
card("08.length")

# %% [markdown]
# The straight mix (*lerp*) leaves the sphere:
#
# $$\mathbb{E}\,\lVert(1-\lambda)\,\mathbf{a}+\lambda\,\mathbf{b}\rVert^2=\big((1-\lambda)^2+
# \lambda^2\big)\,D .$$
#
# In the middle that is half: such noise never occurs.

# %% [markdown]
# Go along the arc instead (*slerp*). Let both have length $\rho$ and let $\theta$ be the angle
# between them. We want $\mathbf{p}=A\,\mathbf{a}+B\,\mathbf{b}$ of length $\rho$, at the angle
# $\lambda\theta$ from $\mathbf{a}$ and $(1-\lambda)\theta$ from $\mathbf{b}$:
#
# $$\begin{aligned}
# A+B\cos\theta&=\cos\lambda\theta
# &&\mathbf{p}\cdot\mathbf{a}/\rho^2\\
# A\cos\theta+B&=\cos(1-\lambda)\theta
# &&\mathbf{p}\cdot\mathbf{b}/\rho^2\\
# A\,(1-\cos^2\theta)&=\cos\lambda\theta-\cos\theta\cos(1-\lambda)\theta
# &&\text{first minus }\cos\theta\text{ times second}\\
# A\,\sin^2\theta&=\sin\theta\,\sin(1-\lambda)\theta
# &&\lambda\theta=\theta-(1-\lambda)\theta\text{, cosine of a difference}
# \end{aligned}$$

# %% [markdown]
# So $A=\sin((1-\lambda)\theta)/\sin\theta$, and $B$ by exchanging the roles (DDIM eq. 67):
#
# $$\boxed{\mathrm{slerp}(\mathbf{a},\mathbf{b},\lambda)=\frac{\sin((1-\lambda)\theta)}{\sin\theta}
# \,\mathbf{a}+\frac{\sin(\lambda\theta)}{\sin\theta}\,\mathbf{b},\qquad\cos\theta=\frac{\mathbf{a}
# \cdot\mathbf{b}}{\lVert\mathbf{a}\rVert\,\lVert\mathbf{b}\rVert}}$$
#
# Every example has its own $\theta$: flatten everything but the batch. Parallel vectors give $0/0$;
# the limit is the straight line, for those examples only.

# %%
show(de.slerp)

# %%
a, b = torch.randn(2, 500, 1024, generator=seeded(3), dtype=torch.float64)
print(f"length over root D: {a.norm(dim=1).mean() / 32:.3f} ± {a.norm(dim=1).std() / 32:.3f}")
b = b * (a.norm(dim=1) / b.norm(dim=1))[:, None]  # equal lengths
p = de.slerp(a, b, 0.3)
agree(p.norm(dim=1), a.norm(dim=1), tol=1e-10, what="slerp keeps the length")


def angle_between(x, y):
    return torch.nn.functional.cosine_similarity(x, y).acos()


agree(angle_between(a, p), 0.3 * angle_between(a, b), tol=1e-7, what="at 0.3 of the angle")

# %% [markdown]
# Does it matter for samples? Take 100 pairs of noises in the 64 dimensions of the digits, mix them
# half and half, decode in 10 steps. *Precision*: the share of samples that look like data.
# *Recall*: the share of the data that the samples cover. The row "noise" has no mix at all.

# %%
a, b = torch.randn(2, 100, 1, 8, 8, generator=seeded(5))
mixes = {"noise": a, "slerp": de.slerp(a, b, 0.5), "lerp": torch.lerp(a, b, 0.5)}
train = de.images.to_float(de.images.load("digits").images).flatten(1)
rows = []
for name, z in mixes.items():
    x = de.ddim(digits, z, sch, 10, clip=1.0).flatten(1)
    found = de.precision_recall(train[:300], x)
    rows.append([name, z.flatten(1).norm(dim=1).mean() / 8, *found, x.var(0).sum()])
table(["latent", "length", "precision", "recall", "total variance of samples"], rows, digits=3)

# %% [markdown]
# Samples from slerp are like samples from noise. Those from lerp are not worse to look at: their
# precision is even higher. But they are *more alike*: latents nearer to the centre decode to what is
# common. Less variety, not worse pictures, is the price of being too short.
#
# ## A path through the data

# %% [markdown] tags=["covers-latent-interpolation"]
# Now all together (DDIM section 5.3). Invert two data points, mix their latents by slerp, walk down
# with $\eta=0$.
#
# $$\mathbf{x}_0^{(\lambda)}=G_\theta\big(\mathrm{slerp}(\mathbf{x}_T,\mathbf{x}_T',\lambda)\big)$$
#
# where $G_\theta$ is the sampler. Because $G_\theta$ is continuous, the result moves without a
# jump; because each mix is again plausible noise, each result is plausible data.

# %%
show(de.interpolate)

# %% tags=["cover"]
roll, roll_sch, _ = de.pretrained("swiss_roll")
ends = torch.tensor([[-1.3, -1.1], [1.4, -0.6]])
*_, last = de.invert(roll, ends, roll_sch, 100)
lams = torch.linspace(0, 1, 61)
walk = de.interpolate(roll, last.x_s[:1], last.x_s[1:], lams, roll_sch, 100)
straight = torch.stack([torch.lerp(ends[:1], ends[1:], float(lam)) for lam in lams])
ways = {"through the latents": walk, "straight, in the data": straight}
plots.paths(ways, behind=de.toy.swiss_roll(1500), limit=2.4)

# %% [markdown]
# The same with two real MNIST digits and the shipped MNIST network: between a 3 and an 8.

# %%
mnist, mnist_sch, info = de.pretrained("mnist")
pair = de.images.to_float(de.images.mnist_sample())[[3, 8]]
pair = torch.nn.functional.pad(pair, (info.pad,) * 4, value=-1.0)
lams = [i / 6 for i in range(7)]


def drawn(x, t):
    return mnist(x, t, None)


*_, last = de.invert(drawn, pair, mnist_sch, 20)
between = de.interpolate(drawn, *last.x_s.split(1), lams, mnist_sch, 20)[:, 0]
pixels = torch.stack([torch.lerp(*pair, lam) for lam in lams])
titles = [f"{lam:.2f}" for lam in lams]
plots.strip(torch.stack([between, pixels]), titles, rows=["latents", "pixels"])

# %% [markdown]
# Mixed pixels are two digits at once. Mixed latents are one digit at a time, though not always one
# of the two: on the arc between a 3 and an 8 there may lie a 6.
#
# ## Interpolation with noise

# %% [markdown] tags=["covers-ddpm-interpolate"]
# DDPM has no latents, but there is an older way (DDPM section 4.4). Noise both images to a level
# $t$ with the stochastic forward process $q$, mix there on the straight line, and let the sampler
# walk down from $t$. With the same noise $\boldsymbol\epsilon$ for both:
#
# $$\begin{aligned}
# \mathbf{x}_t^{(\lambda)}&=(1-\lambda)\big(\sqrt{\bar\alpha_t}\,\mathbf{x}_0+\sqrt{1-\bar\alpha_t}
# \,\boldsymbol\epsilon\big)+\lambda\big(\sqrt{\bar\alpha_t}\,\mathbf{x}_0'+\sqrt{1-\bar\alpha_t}\,
# \boldsymbol\epsilon\big)\\
# &=\sqrt{\bar\alpha_t}\,\big((1-\lambda)\,\mathbf{x}_0+\lambda\,\mathbf{x}_0'\big)+\sqrt{1-
# \bar\alpha_t}\,\boldsymbol\epsilon
# \end{aligned}$$
#
# $$\boxed{\text{mix, then noise}=\text{noise, then mix: noise of exactly level }t}$$
#
# With two *independent* noises, as in the published code, their variance is
# $((1-\lambda)^2+\lambda^2)(1-\bar\alpha_t)$: too little for level $t$. With the same noise the
# straight line is right, and an arc would be wrong. Start the walk down at $t$ itself: that is the
# noise there is.

# %%
show(de.interpolate_ddpm)

# %%
t, lam, g = 400, 0.5, seeded(7)
x0_a, x0_b = torch.ones(20_000, 1), -torch.ones(20_000, 1)
eps, other = torch.randn(2, 20_000, 1, generator=g)
a, b_same, b_other = (
    de.q_sample(*pair, sch) for pair in ((x0_a, t, eps), (x0_b, t, eps), (x0_b, t, other))
)
level = float(1 - sch.alpha_bar[t])
error = level * (2 / 20_000) ** 0.5  # standard error of a variance
agree(torch.lerp(a, b_same, lam).var(), level, tol=4 * error, what="same noise: the level's")
less = level * ((1 - lam) ** 2 + lam**2)
agree(torch.lerp(a, b_other, lam).var(), less, tol=4 * error, what="two noises: half of it")

# %% [markdown]
# $t$ decides how much survives. At $t=0$ it is a mix of pixels. In the middle, coarse features of
# both remain and the sampler makes up the details. At $t=T$ both are forgotten, and each column is
# a digit of its own. To save time: a chain of 25 long steps, made by `respace`, with the network
# told the level in the long chain.

# %%
levels = de.timesteps(1000, 25)
short, told = de.respace(sch, levels), levels.flip(0)


def quick(x, t):
    return digits(x, told[t])


other_end, rows = de.images.to_float(test.images[8:9]), {}
for t in (0, 5, 10, 15, 25):
    mixed = de.interpolate_ddpm(
        quick, real[3:4], other_end, lams, t, short, generator=seeded(0), clip=1.0
    )
    rows[f"t = {told[t]}"] = mixed[:, 0]
plots.strip(torch.stack(list(rows.values())), titles, rows=list(rows), zoom=0.6)

# %% [markdown]
# **Think.** The ends of the rows, $\lambda=0$ and $\lambda=1$, are not the two digits once $t$ is
# large. Why not? And could you make DDPM's way give the ends back exactly?

# %% [markdown] tags=["answer"]
# The forward process $q$ is a random encoder, and the way back is random too: nothing ties them
# together. The ends come back, up to $1/S$, if both are made deterministic: encode with `invert`
# up to level $t$, decode with $\eta=0$. Then it is DDIM's interpolation, started at level $t$ in
# place of $T$. (Or draw a whole noisy path up to $\mathbf{x}_t$ with $q$, find the $\mathbf{z}$ that
# takes the sampler from each of its points to the one below, and use these again. Only the last
# step, which has no noise, can then miss.)

# %% [markdown]
# ## Errata you may meet
#
# | often printed | right | see |
# |---|---|---|
# | $\bar{\mathbf{x}}_t=(1-\lambda)\mathbf{x}_0+\lambda\mathbf{x}_0'$ (DDPM 4.4) | $(1-\lambda)\mathbf{x}_t+\lambda\mathbf{x}_t'$ | its text |
# | "constant variance": $\sqrt{1-\lambda^2}\,\mathbf{x}_t+\lambda\,\mathbf{x}_t'$ | the signal grows | A |
# | noise to level $t$, walk down from $t-1$ | from $t$ | B |
# | $t=0$ is "diffused for 1 step" | counts from 0: that is $t=1$ here | index |
# | $\mathbf{x}_0'=\mathbf{x}_0$ for DDIM | only as $S\to\infty$, smooth $\boldsymbol\epsilon_\theta$ | Round trip |
#
# A: at $\lambda=1/\sqrt2$ the weights add up to 1.41, so equal images come out 1.41 times too
# bright. B: the image has more noise than the network is told, and what it is not told stays in the
# picture. At $t=1$ nobody takes any of it out.

# %%
lam = 0.5**0.5
same = de.q_sample(x0_a, 400, eps, sch), de.q_sample(x0_a, 400, other, sch)
mixed = (1 - lam**2) ** 0.5 * same[0] + lam * same[1]
gain = mixed.mean() / same[0].mean()
agree(mixed.var(), level, tol=4 * error, what="A: the variance of the noise is right")
error = (level / sch.alpha_bar[400] / 20_000) ** 0.5  # standard error of this quotient
agree(gain, 2**0.5, tol=4 * error, what="A: but the signal has grown by 1.41")

# %%
noise = 1 - short.alpha_bar
rows = [[f"{t} of 25", noise[t], noise[t - 1]] for t in (1, 2, 5, 10, 15)]
table(["B: mixed at level", "variance of its noise", "what the network is told"], rows, digits=2)

# %% [markdown]
# ## Checkpoint
#
# `slerp` as exercise E8 asks for it. It passes. **Break it and run again**: take the angle of the
# whole batch, or leave out the limit for parallel vectors.


# %%
def slerp(a, b, lam):
    u, v = a.flatten(1), b.flatten(1)
    cos = (u * v).sum(1) / (u.norm(dim=1) * v.norm(dim=1))
    theta = cos.clamp(-1, 1).acos().reshape(-1, *[1] * (a.ndim - 1))
    flat = theta.sin() < 1e-4  # parallel: 0/0, take the straight line
    below = torch.where(flat, torch.ones_like(theta), theta.sin())
    on_a = torch.where(flat, 1 - lam, ((1 - lam) * theta).sin() / below)
    on_b = torch.where(flat, lam, (lam * theta).sin() / below)
    return on_a * a + on_b * b


de.check(slerp)

# %% [markdown]
# The explorer draws your path beside its own.

# %%
de.InvertAndMix(slerp=slerp)

# %% [markdown]
# **Think.** Latents found in 20 steps are too short (see above). What do they decode to *in 200
# steps*? Guess, then measure: give the two lines of the cell under "Round trip" different numbers.
#
# Now exercise [E8](exercises/E8_there_and_back_again.ipynb): one step up, inversion, slerp, a
# path, and a bug to find.

# %% [markdown] tags=["answer"]
# For 16 test digits the error of a pixel is 0.04. With 20 steps both ways it is 0.07: the finer way
# down gains more than the mismatch costs. But the total variance of the images is 13.9, that of the
# data 15.0. Short latents pull towards what is common, a little.

# %% [markdown] tags=["notation"]
# t s tau steps x0 xt x0_hat eps eps_theta alpha_bar eta q lam
