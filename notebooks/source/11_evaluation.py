# %% [markdown]
# # Is it any good?
#
# A generator draws samples. Are they good? No single number can say. Each metric asks one question,
# answers it with an error of its own, and is blind to the rest. Here you see what each of them
# sees, and what slips through.
#
# **You will be able to**
#
# - compute MMD, sliced Wasserstein, energy and Fréchet distance, precision and recall, and say what
#   each misses;
# - explain why a Fréchet distance depends on the number of samples;
# - read the tables of DDPM and DDIM, and say what may be compared;
# - tell good samples from copies.
# %%
import torch

import diffusion_edu as de
from diffusion_edu.lectures import agree, card, show, table
from diffusion_edu.viz import plots

# %%
de.MetricLab()

# %% [markdown]
# ## Three questions
#
# Let $x_1,\dots,x_n$ be samples and $y_1,\dots,y_m$ real data, each a point in $d$ dimensions, from
# the distributions $P$ and $Q$.
#
# - **Quality**: could each sample be real?
# - **Coverage**: does everything real occur, as often as it should?
# - **Novelty**: are the samples new, or copies of what was trained on?
#
# A distance between $P$ and $Q$ mixes the first two. None of them asks the third. Choose *memorise*
# above: every distance is content.
# %% [markdown]
# ## Maximum mean discrepancy
#
# Compare averages of functions. A kernel $k(a,b)$ says how alike two points are; here
# $k(a,b)=e^{-\lVert a-b\rVert^2/(2h^2)}$ with bandwidth $h$. Such a kernel is a scalar product,
# $k(a,b)=\langle\phi(a),\phi(b)\rangle$, of features $\phi$, infinitely many of them. Take the
# distance of mean features:
#
# $$\begin{aligned}
# \lVert\mathbb{E}\,\phi(x)-\mathbb{E}\,\phi(y)\rVert^2
# &=\langle\mathbb{E}\phi(x),\mathbb{E}\phi(x')\rangle+\langle\mathbb{E}\phi(y),\mathbb{E}\phi(y')
# \rangle
# -2\langle\mathbb{E}\phi(x),\mathbb{E}\phi(y)\rangle\\
# &=\mathbb{E}\,k(x,x')+\mathbb{E}\,k(y,y')-2\,\mathbb{E}\,k(x,y)
# \end{aligned}$$
#
# with $x,x'$ independent. So a point must not be compared with itself: of the $n^2$ pairs $n$ drop
# out.
#
# $$\boxed{\mathrm{MMD}^2=\frac{1}{n(n-1)}\sum_{i\ne j}k(x_i,x_j)+\frac{1}{m(m-1)}\sum_{i\ne
# j}k(y_i,y_j)
# -\frac{2}{nm}\sum_{i,j}k(x_i,y_j)}$$
# %%
show(de.mmd2)


# %% [markdown]
# **Check.** For Gaussians $\mathcal{N}(\mu,s^2\mathbf{I})$ the means of the kernel are integrals
# with a formula: $x-y$ is Gaussian with the sum $v$ of the variances, so
#
# $$\mathbb{E}\,k(x,y)=\left(\frac{h^2}{h^2+v}\right)^{d/2}e^{-\lVert\mu_x-\mu_y
# \rVert^2/(2(h^2+v))} .$$
#
# The mean of many estimates has to agree with it. With the diagonal, $k(x_i,x_i)=1$ counts $n$
# times among $n^2$ pairs, in both clouds: that adds $2(1-\mathbb{E}\,k(x,x'))/n$ on average.
# %%
def mean_kernel(gap2, v, h, d=2):
    return (h**2 / (h**2 + v)) ** (d / 2) * torch.tensor(-gap2 / (2 * (h**2 + v))).exp()


g = torch.Generator().manual_seed(0)
h, shift, n, repeats = 1.0, torch.tensor([0.3, 0.0]), 40, 400
truth = 2 * mean_kernel(0, 2, h) - 2 * mean_kernel(0.09, 2, h)
pairs = torch.randn(repeats, 2, n, 2, generator=g, dtype=torch.float64)
found = torch.stack([de.mmd2(x + shift, y, bandwidth=h) for x, y in pairs])
agree(found.mean(), truth, 4 * found.std() / repeats**0.5, "mean of 400 estimates against formula")
x, y = pairs[:, 0] + shift, pairs[:, 1]
xx, yy, xy = ((-torch.cdist(*ab).square() / 2 / h**2).exp() for ab in ((x, x), (y, y), (x, y)))
kept = (xx + yy - 2 * xy).mean()  # all pairs, each point with itself too
agree(kept - found.mean(), 2 * (1 - mean_kernel(0, 2, h)) / n, 1e-3, "what the diagonal adds")
table(["exact", "without diagonal", "with diagonal"], [[truth, found.mean(), kept]])
# %% [markdown]
# The diagonal adds three times the whole distance. The price of leaving it out: for equal
# distributions more than half of the values are negative. And there is $h$ to choose. Watch MMD in
# the explorer with the flaw *same moments* while the bandwidth goes from 2 to 0.2: it sees what is
# as large as $h$.
# %% [markdown]
# ## Sliced Wasserstein distance
#
# How far must points be carried to turn one cloud into the other? On a line that is easy. Take
# $a\le b$ to be carried to $c\le d$:
#
# $$\begin{aligned}
# \left[(a-d)^2+(b-c)^2\right]-\left[(a-c)^2+(b-d)^2\right]
# &=2ac+2bd-2ad-2bc\\
# &=2(b-a)(d-c)\ \ge0 .
# \end{aligned}$$
#
# Paths that cross cost more. Uncross them one by one: the cheapest plan pairs points by rank, so
# **sort** both clouds. In more dimensions, project on each of $N$ random unit vectors $u$, and
# then sort. With $p_{(i)}$ and $q_{(i)}$ the sorted projections of two clouds of $n$ points,
#
# $$\boxed{\mathrm{SW}_2=\sqrt{\ \frac1N\sum_{u}\ \frac1n\sum_{i=1}^n\left(p_{(i)}-q_{(i)}\right)^2
# \ }}$$
# %%
from itertools import permutations

p, q = torch.randn(2, 6, generator=g, dtype=torch.float64)
cheapest = min(float(((p - q[list(order)]) ** 2).mean()) for order in permutations(range(6)))
agree(
    ((p.sort().values - q.sort().values) ** 2).mean(), cheapest, 1e-12, "sorted against 720 plans"
)


def sliced_w2(X, Y, dirs):
    """Sliced W2 of X and Y (n, D) along dirs (k, D), of any length."""
    axes = dirs / dirs.norm(dim=1, keepdim=True)
    ranked_x, ranked_y = (X @ axes.T).sort(0).values, (Y @ axes.T).sort(0).values
    return ((ranked_x - ranked_y) ** 2).mean().sqrt()


de.check(sliced_w2)
# %% [markdown]
# **Checkpoint.** Break it: sort before projecting, leave out one `sort`, or the division by the
# length. Each of these mistakes has a name. The library's version takes clouds of unequal sizes
# too:
# %%
show(de.sliced_wasserstein2)


# %% [markdown]
# ## Energy distance
#
# MMD with $k(a,b)=-\lVert a-b\rVert$ in place of a bell: no bandwidth. Here points *are* compared
# with themselves, which keeps it at or above 0:
#
# $$\boxed{E=2\,\mathbb{E}\lVert x-y\rVert-\mathbb{E}\lVert x-x'\rVert-\mathbb{E}\lVert y-y'
# \rVert}$$
#
# On a line it compares distribution functions $F$ and $G$. Since
# $\lvert x-y\rvert=\int\left(1_{x\le z<y}+1_{y\le z<x}\right)dz$,
#
# $$\begin{aligned}
# \mathbb{E}\lvert x-y\rvert&=\int F(1-G)+G(1-F)\,dz\\
# E&=\int 2F(1-G)+2G(1-F)-2F(1-F)-2G(1-G)\,dz=2\int(F-G)^2\,dz .
# \end{aligned}$$
# %%
def my_energy(x, y):
    """Energy distance of two clouds: yours to change."""
    across, within_x, within_y = (torch.cdist(a, b).mean() for a, b in ((x, y), (x, x), (y, y)))
    return 2 * across - within_x - within_y


x, y = (torch.randn(k, 1, generator=g, dtype=torch.float64) for k in (50, 80))
z = torch.cat([x, y]).sort(0).values[:, 0]
F, G = ((cloud <= z).double().mean(0) for cloud in (x, y))
agree(
    2 * ((F - G)[:-1] ** 2 * z.diff()).sum(), my_energy(x, y), 1e-12, "integral against distances"
)
agree(de.energy_distance(x, y), my_energy(x, y), 1e-12, "library against yours")
# %%
de.MetricLab(flaw="blur", metric=my_energy, against="energy_distance", n=150)
# %% [markdown]
# ## Precision and recall
#
# One distance cannot tell bad samples from missing ones. So ask twice. Around each real point lies
# a ball that reaches to its $k$-th nearest other real point; the union of the balls stands for the
# support of the data. In the same way for the samples.
#
# $$\boxed{\begin{aligned}
# \text{precision}&=\text{share of samples in the balls of the data}\\
# \text{recall}&=\text{share of data in the balls of the samples}
# \end{aligned}}$$
#
# They ignore how often anything occurs, and one outlier has a huge ball. (Kynkäänniemi et al.,
# 1904.06991, eq. 1 and 2.)
# %%
show(de.precision_recall, docstring=False)
# %%
data = de.toy.gaussians(300, seed=1)
fresh = de.toy.gaussians(600, seed=2)
half = fresh[fresh[:, 0] > 0][:300]  # sharp, but only the right half
blurred = fresh[:300] + 0.5 * torch.randn(300, 2, generator=g)
clouds = {"fresh": fresh[:300], "half of the modes": half, "blurred": blurred}
rows = [[name, *map(float, de.precision_recall(data, x))] for name, x in clouds.items()]
table(["samples", "precision", "recall"], rows, digits=2)
# %%
plots.clouds(list(clouds.values()), list(clouds), behind=data)
# %% [markdown]
# ## Fréchet distance
#
# Replace each cloud by a Gaussian with its mean $\mu$ and covariance $C$, and ask how far one
# Gaussian must be carried to become the other. On a line the quantiles of $\mathcal{N}(\mu,s^2)$
# are $\mu+s\,z$, so
#
# $$\int\left(\mu_1+s_1z-\mu_2-s_2z\right)^2\varphi(z)\,dz=(\mu_1-\mu_2)^2+(s_1-s_2)^2 ,$$
#
# because $z$ has mean 0 and variance 1. If the covariances have the same axes, add up over the
# axes: $\sum(s_1-s_2)^2=\sum\left(s_1^2+s_2^2-2s_1s_2\right)$. Written with matrices it is right for
# any covariances (Dowson and Landau, 1982):
#
# $$\boxed{\mathrm{FD}=\lVert\mu_1-\mu_2\rVert^2+\mathrm{tr}\left(C_1+C_2-2\,(C_1C_2)^{1/2}\right)}$$
#
# In the 2048 features of an Inception network this number is the FID (Heusel et al., 1706.08500,
# eq. 6).
# %%
show(de.frechet_distance, docstring=False)


# %%
def frechet(x, y):
    """Fréchet distance of two clouds (n, d), by their sample moments."""
    c, k = (torch.atleast_2d(cloud.T.cov()) for cloud in (x, y))
    return de.frechet_distance(x.mean(0), c, y.mean(0), k)


n = 200_000
x, y = torch.randn(n, 1, generator=g), 0.5 + 2 * torch.randn(n, 1, generator=g)
exact = 0.5**2 + (2 - 1) ** 2
agree(frechet(x, y), exact, 0.03, "sample moments against (m1-m2)² + (s1-s2)²")
agree(((x.sort(0).values - y.sort(0).values) ** 2).mean(), exact, 0.03, "sorted clouds against it")
# %%
card("11.blind")
# %% [markdown]
# ## The bias of small samples
#
# What does the distance say of two clouds that are both real?
# %%
card("11.bias")
# %% [markdown]
# Sample moments are off by chance, and in $\mathrm{FD}$ all errors count as distance. For two
# clouds of $n$ and $m$ points in $d$ dimensions from $\mathcal{N}(\mathbf{0},\mathbf{I})$ write the
# covariances as $\mathbf{I}+A$ and $\mathbf{I}+B$. For small $a$ and $b$,
# $(\sqrt{1+a}-\sqrt{1+b})^2\approx\frac14(a-b)^2$, and for matrices near $\mathbf{I}$ alike:
#
# $$\begin{aligned}
# \mathbb{E}\lVert\mu_1-\mu_2\rVert^2&=d\left(\tfrac1n+\tfrac1m\right)\\
# \tfrac14\,\mathbb{E}\lVert A-B\rVert_F^2&=\tfrac14\,(\underbrace{d(d-1)}_{\text{variance }1/n}
# +\underbrace{2d}_{d\text{ of variance }2/n})\left(\tfrac1n+\tfrac1m\right)
# \end{aligned}$$
#
# $$\boxed{\mathbb{E}\,\mathrm{FD}\approx\left(d+\frac{d^2+d}{4}\right)\left(\frac1n+\frac1m\right)}$$
#
# The number of features enters as its square. That is why FID is computed with 50,000 samples, and
# why values at different $n$ must not be compared.
# %%
d, sizes = 8, (50, 100, 200, 400, 800)


def mean_frechet(n, shift=0.0, repeats=40):
    """Mean over pairs of clouds of n points each, and its standard error."""
    clouds = torch.randn(repeats, 2, n, d, generator=g, dtype=torch.float64)
    values = torch.stack([frechet(x + shift, y) for x, y in clouds])
    return float(values.mean()), float(values.std()) / repeats**0.5


seen = [mean_frechet(n) for n in sizes]
theory = [(d + (d * d + d) / 4) * 2 / n for n in sizes]
agree(seen[-1][0], theory[-1], 4 * seen[-1][1] + 0.02 * theory[-1], "n = 800 against theory")
curves = {"measured": [mean for mean, _ in seen], "theory, ~ 1/n": theory}
plots.lines(sizes, curves, "n, points in each cloud", "Fréchet distance", log="xy", markers=True)
# %% [markdown]
# The bias falls like $1/n$, so two sizes are enough to remove most of it:
# $2\,\mathrm{FD}_{2n}-\mathrm{FD}_n$. Here the true distance is $8\cdot0.3^2=0.72$. (Chong and
# Forsyth, 1911.07023, extrapolate FID like this.)
# %%
(small, e1), (large, e2) = mean_frechet(200, 0.3, 160), mean_frechet(400, 0.3, 160)
better = 2 * large - small
agree(better, 0.72, 4 * (e1**2 + 4 * e2**2) ** 0.5 + 0.02, "extrapolated against the truth")
table(["n = 200", "n = 400", "extrapolated", "true"], [[small, large, better, 0.72]], digits=3)
# %% [markdown]
# ## What each one misses
#
# Five flaws of the explorer at full strength, 200 points a cloud. Distances are squared, and divided
# by what two clean clouds are apart: about 1 means "as good as real". (MMD has no bias, so for clean
# clouds it lies about 0, anywhere from -2 to 2.) The last column is the share of samples that are
# training points.
# %%
flaws = ("none", "drop a mode", "blur", "memorise", "outliers", "same moments")


def verdicts(flaw):
    """What the metrics say of a flaw at amount 1."""
    lab = de.MetricLab(flaw=flaw, n=200)
    shares = [lab.values[name] for name in ("precision", "recall")]
    return [flaw, *(float(v[-1]) for v in [*lab.multiples.values(), *shares, lab.copies])]


header = ["flaw", "MMD", "energy", "sliced W2", "Fréchet", "precision", "recall", "copies"]
table(header, [verdicts(flaw) for flaw in flaws], digits=2)
# %% [markdown]
# | metric | misses |
# |---|---|
# | MMD | what is much finer or wider than the bandwidth |
# | energy | fine structure: long distances dominate |
# | sliced Wasserstein | little in 2-D; in many dimensions most projections look alike |
# | Fréchet | all but mean and covariance; biased upwards by $1/n$ |
# | precision | everything that is missing |
# | recall | samples that are wrong, and how often anything occurs |
# | all of them | copies of training data |
# %% [markdown]
# ## Features of images
#
# Distances between pixels say little: move a digit by one pixel and it is far from itself. So
# distances are taken between the features of a classifier. FID uses Inception, trained on ImageNet.
# The library ships a small classifier for each of its image sets. Its numbers are *not* FIDs; they
# can be compared among themselves.
# %%
from diffusion_edu.evaluation.features import features_for
from diffusion_edu.evaluation.generate import Sampling, generate

space = features_for("digits")  # images (n, 1, 8, 8) -> 64 features, 10 logits
training, test = de.images.load("digits"), de.images.load("digits", "test")
model, schedule, info = de.pretrained("digits")
plan = Sampling(n=200, steps=10, batch=200)  # 20 of each class
fake = torch.cat([x for x, _ in generate(model, schedule, info.shape, plan, progress=False)])
plots.strip(torch.stack([fake[:10], test.images[:10]]), rows=("samples", "test set"), zoom=0.6)


# %%
def image_distance(a, b):
    return float(frechet(space(a)[0].double(), space(b)[0].double()))


def spoilt(images):
    """The same images, blurred."""
    wide = torch.nn.functional.pad(images.float(), (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.avg_pool2d(wide, 3, 1).round().to(torch.uint8)


sets = {"samples": fake, "training set": training.images, "blurred test set": spoilt(test.images)}
rows = [
    [name, image_distance(x, training.images), image_distance(x, test.images)]
    for name, x in sets.items()
]
table(["", "to the training set", "to the test set"], rows, digits=3)
# %% [markdown]
# **Training set or test set?** The samples are nearer to the training set. That need not be
# copying: the training set itself is more than half as far from the test set. Those are only 360
# images, the last of a set that was never shuffled. Always print beside a distance what *real* data
# get.
#
# For the shipped network of MNIST, `diffusion-edu evaluate mnist` found this with 10,000 samples:
# %%
known = de.pretrained("mnist")[2].metrics
rows = [[name, known[key]["fd"]] for name, key in (("samples", "samples"), ("training", "floor"))]
table(["10,000 images of MNIST", "Fréchet distance to the test set"], rows, digits=3)
# %% [markdown]
# ## Inception score
#
# An older number, without real data. A classifier gives the probability $p(y\mid x)$ of class $y$
# for an image $x$, and $p(y)$ on average:
#
# $$\boxed{\mathrm{IS}=\exp\,\mathbb{E}_x\,D_\mathrm{KL}\left(p(y\mid x)\,\Vert\,p(y)\right)}$$
#
# It is high if the classifier is sure of each image and all classes occur. Between 1 and the number
# $K$ of classes: the mean divergence is the entropy of $p(y)$, at most $\log K$, less the mean
# entropy of $p(y\mid x)$.
# %%
card("11.ten")


# %%
def inception_score(images):
    log_p = space(images)[1].double().log_softmax(1)
    overall = log_p.exp().mean(0)
    return float((log_p.exp() * (log_p - overall.log())).sum(1).mean().exp())


ten = torch.stack([test.images[test.labels == k][0] for k in range(10)])
sets = {"test set": test.images, "samples": fake, "ten images over and over": ten}
p = space(test.images)[1].double().softmax(1)
whole, single = (-torch.xlogy(q, q).sum(-1).mean() for q in (p.mean(0), p))
score = (whole - single).exp()
agree(inception_score(test.images), score, 1e-9, "divergence against entropy less mean entropy")
rows = [[name, inception_score(x)] for name, x in sets.items()]
table(["", "score from our classifier"], rows, digits=3)


# %% [markdown] tags=["covers-fid-tables"]
# ## The published tables
#
# **CIFAR-10** (DDPM, Table 1). NLL in bits per dimension: test (train). First the networks that are
# told the class, then those that are not.
#
# | model | IS, higher is better | FID, lower is better | NLL, lower is better |
# |---|---|---|---|
# | *told the class:* EBM | 8.30 | 37.9 | |
# | JEM | 8.76 | 38.4 | |
# | BigGAN | 9.22 | 14.73 | |
# | StyleGAN2 + ADA (v1) | 10.06 | 2.67 | |
# | *not told:* diffusion of 2015 | | | ≤ 5.40 |
# | Gated PixelCNN | 4.60 | 65.93 | 3.03 (2.90) |
# | Sparse Transformer | | | 2.80 |
# | PixelIQN | 5.29 | 49.46 | |
# | EBM | 6.78 | 38.2 | |
# | NCSNv2 | | 31.75 | |
# | NCSN | 8.87 ± 0.12 | 25.32 | |
# | SNGAN | 8.22 ± 0.05 | 21.7 | |
# | SNGAN-DDLS | 9.09 ± 0.10 | 15.42 | |
# | StyleGAN2 + ADA (v1) | 9.74 ± 0.05 | 3.26 | |
# | DDPM, $L$, fixed isotropic $\Sigma$ | 7.67 ± 0.13 | 13.51 | ≤ 3.70 (3.69) |
# | DDPM, $L_\text{simple}$ | 9.46 ± 0.11 | 3.17 | ≤ 3.75 (3.72) |
# %% [markdown]
# Read it row by row.
#
# - $L_\text{simple}$ has the better FID and the worse likelihood. Its weights (lecture 04) care
#   less for the lowest noise, where bits are spent on details that nobody sees: of the 3.75 bits
#   1.97 belong to the very last step (DDPM, sec. 4.3).
# - DDPM's NLL is a bound, hence ≤. On test and training images it differs by 0.03 at most: no sign
#   of overfitting. (Gated PixelCNN's differ by 0.13.)
# - Who is not told the class gets the best FID from DDPM, the best Inception score from StyleGAN2 +
#   ADA, and the best likelihood from the Sparse Transformer. No column says it all.
# %% [markdown] tags=["covers-fid-tables"]
# **One network, two FIDs** (DDPM, sec. 4.1): 3.17 to the *training* set, 5.24 to the *test* set.
# The first is what papers quote. The second is larger for two reasons at least, both of which you
# have seen: the test set is other data, and it has 10,000 images in place of 50,000, so its moments
# are noisier.
#
# How much do smaller reference sets matter? Here samples *and* reference are the same perfect
# Gaussian.
# %%
def to_reference(m, n=2000, repeats=20):
    """Mean Fréchet distance of n points to m reference points, all N(0, I) in 8 dimensions."""
    pairs = [
        (torch.randn(n, d, generator=g), torch.randn(m, d, generator=g)) for _ in range(repeats)
    ]
    return sum(float(frechet(x, y)) for x, y in pairs) / repeats


rows = [[m, to_reference(m), (d + (d * d + d) / 4) * (1 / 2000 + 1 / m)] for m in (2000, 400)]
for _, seen_here, expected in rows:
    agree(seen_here / expected, 1, 0.15, "measured over theory, off 1 by")
table(["reference points", "measured", "theory"], rows, digits=3)
# %% [markdown] tags=["covers-fid-tables"]
# **DDIM, Table 1**: FID over noise $\eta$ and number of steps $S$. $\eta=0$ is DDIM. $\hat\sigma$
# is DDPM's larger variance, $\sigma_t^2=\beta_t$ (here *hat*); for a step that skips levels, the
# $\beta$ of the long step.
# %%
from diffusion_edu.evaluation.table import PUBLISHED, PUBLISHED_STEPS

columns = [f"S={s}" for s in PUBLISHED_STEPS]
names = ["η=0 (DDIM)", "η=0.2", "η=0.5", "η=1 (DDPM)", "hat (DDPM)"]
title = "FID, CIFAR-10 (DDIM, Table 1)"
plots.heat(list(PUBLISHED.values()), names, columns, title=title, log=True, digits=5)
# %%
from diffusion_edu.evaluation.ddim_tables import CELEBA

plots.heat(
    list(CELEBA.values()),
    names,
    columns,
    title="FID, CelebA 64x64 (DDIM, Table 1)",
    log=True,
    digits=5,
)
# %% [markdown]
# Two readings. From right to left $\eta=0$ loses least: with few steps, leave out the noise. But in
# the last column $\hat\sigma$ wins, 3.17 and 3.26: with a thousand steps the larger variance pays.
# ($\eta=1$, the smaller one, is worst there.)
#
# Now ours: a swiss roll, another metric, 500 points a cell. The floor is what 500 real points get;
# other draws of 500 get 0.06 to 0.14. **Smaller differences say nothing.**
# %%
from diffusion_edu.evaluation.judges import PointJudge
from diffusion_edu.evaluation.table import Plan

roll, roll_schedule, roll_info = de.pretrained("swiss_roll")
plan = Plan(steps=(5, 10, 20, 50), n=500, batch=500)
judge = PointJudge(roll, roll_schedule, roll_info, plan.n)
cells = {key: judge(plan.sampling(*key))["SW2"] for key in plan.cells}
ours = [[cells[eta, s] for s in plan.steps] for eta in plan.etas]
title = f"sliced W2, swiss roll; real points: {judge.floor['SW2']:.3f}"
plots.heat(ours, names, [f"S={s}" for s in plan.steps], title=title)
# %% [markdown]
# More steps help here too, down to the floor. But $\hat\sigma$, the worst row of the published
# tables at few steps, is our best at $S=5$. It is right for data that fill space like
# $\mathcal{N}(\mathbf{0},\mathbf{I})$, and $\eta=1$ for data that are a single point (DDPM, sec.
# 3.2). To a long step a roll in the plane looks more like the first. Images lie on thin sheets in
# 3,072 dimensions. A table holds for its data, its network and its metric.
# %% [markdown]
# ## Copies
#
# The exact denoiser of the training set (`EmpiricalOracle`) is the network that has reached the
# lowest possible training loss. Let it draw digits.
# %%
oracle = de.EmpiricalOracle(de.images.to_float(training.images), schedule)
start = torch.randn(200, 1, 8, 8, generator=g)
stolen = de.images.to_uint8(de.ddim(oracle, start, schedule, steps=20))
rows = [
    [name, image_distance(x, test.images)] for name, x in (("network", fake), ("oracle", stolen))
]
table(["samples of", "Fréchet distance to the test set"], rows, digits=3)
# %% [markdown]
# By this number the oracle is a fine model. Now look for the nearest training image of each sample.
# A small distance alone proves nothing, for real images have near neighbours too; the yardstick is
# the same distance from *test* images.
# %%
from diffusion_edu.evaluation.memorisation import memorisation

found = {
    name: memorisation(x, test.images, training.images)
    for name, x in (("network", fake), ("oracle", stolen))
}
rows = [[name, f.ratio, f.copies] for name, f in found.items()]
agree(float(found["network"].samples.distance.min()) > 0, 1, 0, "network without a copy: off by")
table(["samples of", "distance / that of test images", "nearer than 99 % of test images"], rows)
# %%
pairs = [fake[:8], training.images[found["network"].samples.which[:8]]]
pairs += [stolen[:8], training.images[found["oracle"].samples.which[:8]]]
plots.strip(torch.stack(pairs), rows=("network", "its nearest", "oracle", "its nearest"), zoom=0.7)
# %% [markdown]
# The oracle has copied every sample, and no distance said so. None of the network's digits is a
# copy. Yet one in eight is nearer to a training image than 99 % of the test images are, where one in
# a hundred would be fair: 1,437 images are few.
# %% [markdown]
# ## Errata you may meet
#
# | often said | right | how to see it |
# |---|---|---|
# | DDPM has the best samples of all unconditional models | best FID; not the best IS | Table 1 |
# | DDIM beats DDPM | with few steps; at $S=1000$ $\hat\sigma$ wins | both tables |
# | $\eta=1$ is the DDPM of 2020 | its 3.17 is the row $\hat\sigma$ | last column |
# | DDPM's FID is 3.17 | to the training set; 5.24 to the test set | sec. 4.1 |
# | a good FID shows that no mode is lost | recall does, if anything | *drop a mode* |
# | DDPM gives the likelihood | a bound on it | ≤ in Table 1 |
# %%
rows = []
for place, S in enumerate(PUBLISHED_STEPS):
    best = min(PUBLISHED, key=lambda eta: PUBLISHED[eta][place])
    rows.append([S, best, PUBLISHED[best][place]])
table(["S", "best eta (CIFAR-10)", "FID"], rows)
# %% [markdown]
# A copy of DDIM's table goes round in which the four rows of $\eta$ slipped by one column: 0.0, a
# value of $\eta$, stands under $S=10$, and 13.36 under $S=20$. Only the row of $\hat\sigma$ is in
# place. So check a copy in another row: $\eta=1$ has 41.07 at $S=10$, right above 367.43.
# %% [markdown]
# ## Think
#
# 1. A paper reports FID 4.1 from 10,000 samples, another 4.3 from 50,000. Which model is better?
# 2. By precision, nearly all of the network's digits lie in the balls of the training set, but only
#    three in four of the test set's (`de.precision_recall`). Is the network better than reality?
# 3. Write a generator with perfect precision and recall that nobody wants.
# 4. $\mathrm{MMD}^2$ came out as -0.0003. What do you report?
# %% [markdown] tags=["answer"]
# 1. Unknown, but the first number has the larger bias: at 50,000 samples it would be lower. Compute
#    both at the same $n$.
# 2. No. It learned those very images, and it stays where they are dense. Real digits have rare
#    forms, and these are by other writers. Precision rewards a model that takes no risk.
# 3. One that returns training images.
# 4. That number, with its spread over seeds, and the spread for two halves of the real data. It is
#    no better than 0.
# %% [markdown]
# **Exercise E9**, parts 6 and 7: `mmd2_rbf` and `sliced_w2`
# ([notebook](exercises/E9_scores_guidance_and_a_verdict.ipynb)). From a terminal,
# `diffusion-edu evaluate digits` prints everything of this lecture for a network.
# %% [markdown] tags=["notation"]
# beta sigma eta steps kl L y
