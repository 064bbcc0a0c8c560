# %% [markdown]
# # E9 · Scores, guidance and a verdict
#
# The noise that a network predicts is, but for a factor, the gradient of a log-density: the score. Here you write that
# factor, a score that is known exactly, and a walk that follows it. Then the trick that makes samples obey a class, and
# two numbers that say how good samples are.
#
# **Belongs to** lectures [09](../09_scores.ipynb) (parts 1 to 3), [10](../10_images_and_guidance.ipynb) (parts 4, 5 and
# 8) and [11](../11_evaluation.ipynb) (parts 6 and 7). **Takes** about 75 minutes.
#
# The batch comes first. `sch` has the tables `beta`, `alpha`, `alpha_bar`, indexed by t itself with `alpha_bar[0] = 1`,
# and `T`. Random numbers are always passed in; draw none yourself.
#
# Fill in a function, run its cell, then the check below it, and read what that says. A function leaves the tensors
# that it is given as they are.

# %%
import torch

from diffusion_edu import check

# %% [markdown]
# ## 1. The score is the noise
#
# Noisy data have the density $q(x_t)$, and its score is $\nabla_x \log q(x_t)$. For the noise that a network predicts,
# $\hat\varepsilon = E[\varepsilon \mid x_t]$, it is (Song et al. 2011.13456)
#
# $$\nabla \log q(x_t) = -\,\frac{\hat\varepsilon}{\sqrt{1-\bar\alpha_t}}.$$
#
# `eps` has the shape `(B, ...)`; `t` is a tensor of B integers.


# %%
def score_from_eps(eps, t, sch):
    """Score, (B, ...), that belongs to the noise eps (B, ...) at levels t (B,)."""
    # BEGIN SOLUTION
    spread = torch.sqrt(1 - sch.alpha_bar[t])
    return -eps / spread.reshape(-1, *[1] * (eps.dim() - 1))
    # END SOLUTION


# %%
check(score_from_eps)

# %% [markdown]
# ## 2. A score that is known exactly
#
# Let the data be a mixture of K round Gaussians, $\sum_k w_k\,N(m_k, v_k I)$. With noise each of them stays a Gaussian:
# its mean becomes $\sqrt{\bar\alpha}\,m_k$ and its variance $s_k = \bar\alpha\,v_k + 1 - \bar\alpha$. Then
#
# $$\nabla \log q(x) = \sum_k r_k\,\frac{\sqrt{\bar\alpha}\,m_k - x}{s_k}, \qquad
# r_k = \frac{w_k\,N(x;\,\sqrt{\bar\alpha}\,m_k,\,s_k I)}{\sum_j w_j\,N(x;\,\sqrt{\bar\alpha}\,m_j,\,s_j I)},
# \qquad N(x; m, s I) = (2\pi s)^{-D/2}\, e^{-\|x - m\|^2 / 2s}.$$
#
# $r_k$ is the probability that x comes from component k. Far from all components the densities are too small for
# floating point; the score is to be right there too. `x` is `(B, D)`, `means` `(K, D)`, `var` and `w` `(K,)`, and
# `alpha_bar` a float.


# %%
def gmm_score(x, means, var, w, alpha_bar):
    """Score of the noisy mixture, (B, D), at x (B, D)."""
    # BEGIN SOLUTION
    widths = alpha_bar * var + (1 - alpha_bar)
    towards = alpha_bar**0.5 * means[None, :, :] - x[:, None, :]
    exponents = -torch.sum(towards**2, dim=2) / (2 * widths)
    exponents = exponents + torch.log(w) - means.shape[1] / 2 * torch.log(widths)
    shares = torch.softmax(exponents, dim=1)
    return torch.sum(shares[:, :, None] * towards / widths[:, None], dim=1)
    # END SOLUTION


# %%
check(gmm_score)

# %% [markdown]
# The eight Gaussians of the toy data are such a mixture. *Your* score is drawn beside the exact one; drop the particle
# somewhere. The lines in between hand over the mixture and the level.

# %%
from diffusion_edu import ScoreField, toy

centres, variances, weights = toy.gaussians_mixture()


def score(x, t, schedule):
    """gmm_score of the toy data, as the explorer calls it."""
    return gmm_score(x, centres, variances, weights, float(schedule.alpha_bar[t]))


ScoreField("gaussians", score=score)

# %% [markdown]
# ## 3. Langevin dynamics
#
# Who follows the score climbs to the nearest peak. With the right amount of noise in every step one visits all places,
# each as often as its density says:
#
# $$x' = x + h\,\nabla \log q(x) + \sqrt{2h}\;z.$$
#
# `step` is the float $h$; `x`, `score` and the standard normal `z` are `(B, ...)`. (Song and Ermon, 1907.05600,
# Algorithm 1, call $2h$ the step size. It is the same walk.)


# %%
def langevin_step(x, score, step, z):
    """The next place, (B, ...), of x, where the score is score."""
    # BEGIN SOLUTION
    shake = (2.0 * step) ** 0.5
    return x + step * score + shake * z
    # END SOLUTION


# %%
check(langevin_step)

# %% [markdown]
# ## 4. Guidance without a classifier
#
# A network that was trained with and without class labels predicts two noises. The difference points towards the class;
# guidance takes more of it (Ho and Salimans, 2207.12598, eq. 6):
#
# $$\hat\varepsilon = \varepsilon_\text{uncond} + w\,(\varepsilon_\text{cond} - \varepsilon_\text{uncond}).$$
#
# So $w = 0$ is the unconditional network, $w = 1$ the conditional one, and $w > 1$ is guidance. The paper counts from
# the conditional network: its $w$ is one less. `w` is a float.


# %%
def cfg_eps(eps_cond, eps_uncond, w):
    """The guided noise, (B, ...), from two predictions (B, ...)."""
    # BEGIN SOLUTION
    towards_class = eps_cond - eps_uncond
    return eps_uncond + w * towards_class
    # END SOLUTION


# %%
check(cfg_eps)

# %% [markdown]
# Turn the dial. *Your* guidance walks from the same noise as the reference:

# %%
from diffusion_edu import GuidanceDial

GuidanceDial(cfg_eps=cfg_eps)

# %% [markdown]
# ## 5. One network for both
#
# So that one network learns both, in training some labels are replaced by a null label that stands for "no class", each
# with probability p. `y` holds B integers, `null` is the null label. The dice are passed in: `u` holds B numbers from
# [0, 1), and a label is dropped where its `u` is less than `p`. Leave the `y` that you are given as it is.


# %%
def drop_labels(y, p, null, u):
    """Labels (B,) with null in place of those that are dropped."""
    # BEGIN SOLUTION
    dropped = u < p
    return torch.where(dropped, torch.full_like(y, null), y)
    # END SOLUTION


# %%
check(drop_labels)

# %% [markdown]
# ## 6. A verdict: maximum mean discrepancy
#
# Are samples X (n, D) and data Y (m, D) draws of the same distribution? Compare how alike points are within the clouds
# and across. Without bias (Gretton et al., JMLR 2012, eq. 3) the squared MMD is
#
# $$\frac{1}{n(n-1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{m(m-1)} \sum_{i \ne j} k(y_i, y_j)
# - \frac{2}{nm} \sum_{i,j} k(x_i, y_j), \qquad k(a, b) = e^{-\|a-b\|^2 / (2\,\text{bandwidth}^2)}.$$
#
# A point is not compared with itself. For equal distributions the result is 0 on average, so it may be negative.


# %%
def mmd2_rbf(X, Y, bandwidth):
    """Squared MMD of X (n, D) and Y (m, D), a single number."""

    # BEGIN SOLUTION
    def likeness(A, B):
        squared = torch.sum((A[:, None, :] - B[None, :, :]) ** 2, dim=2)
        return torch.exp(-squared / (2 * bandwidth**2))

    def mean_of_others(table):
        count = table.shape[0]
        return (torch.sum(table) - torch.sum(torch.diagonal(table))) / (count * (count - 1))

    inside = mean_of_others(likeness(X, X)) + mean_of_others(likeness(Y, Y))
    return inside - 2 * torch.mean(likeness(X, Y))
    # END SOLUTION


# %%
check(mmd2_rbf)

# %% [markdown]
# Which flaws of samples does it see? *Your* numbers are drawn beside the library's:

# %%
from diffusion_edu import MetricLab

MetricLab(metric=lambda X, Y: mmd2_rbf(X, Y, toy.BANDWIDTH))

# %% [markdown]
# ## 7. A verdict: sliced Wasserstein distance
#
# How far must points be carried to turn one cloud into the other? On a line that is easy: in order of rank. So project
# both clouds on lines in many directions (Bonneel et al. 2015). With unit vectors $u$ and sorted projections
# $p_1 \le \ldots \le p_n$ of X and $q_1 \le \ldots \le q_n$ of Y,
#
# $$SW_2 = \sqrt{\ \operatorname*{mean}_{u}\ \frac1n \sum_{i=1}^n (p_i - q_i)^2\ }.$$
#
# X and Y are both `(n, D)`. `dirs` is `(k, D)`: k directions, whose lengths are not 1 yet.


# %%
def sliced_w2(X, Y, dirs):
    """Sliced Wasserstein-2 distance of X and Y (n, D), a single number."""
    # BEGIN SOLUTION
    axes = dirs / torch.linalg.norm(dirs, dim=1, keepdim=True)
    ranked_x = torch.sort(X @ axes.T, dim=0).values
    ranked_y = torch.sort(Y @ axes.T, dim=0).values
    return torch.sqrt(torch.mean((ranked_x - ranked_y) ** 2))
    # END SOLUTION


# %%
check(sliced_w2)

# %% [markdown]
# ## 8. Find the bug
#
# Some networks take the class as a vector, one row for every example, and drop it by multiplying the row: by 1 where
# the class is kept, by 0 where it is dropped. This function makes these factors, a column `(B, 1)` of floats; as in
# part 5 a class is dropped where `u` is less than `p`. A small published implementation made the same mistake. It
# trains, and samples show nothing, for the network never saw the classes in any other form. Find the line and mend it.


# %%
def context_mask(u, p):
    """Factors of the rows, (B, 1), for dice u (B,)."""
    # BEGIN SOLUTION
    dropped = (u < p).float()
    mask = 1 - dropped
    return mask[:, None]
    # STUDENT: dropped = (u < p).float()
    # STUDENT: mask = -1 * (1 - dropped)
    # STUDENT: return mask[:, None]
    # END SOLUTION


# %%
check(context_mask)

# %% [markdown]
# ## All together

# %%
check("E9")
