# %% [markdown]
# # E4 · From the bound to the loss
#
# Diffusion models are trained by a bound on the likelihood. It is a sum of divergences between Gaussians, which can be
# written down exactly. What is left of them is a squared error of the noise, with a weight. Here you write the terms.
#
# **Belongs to** [lecture 04](../04_elbo.ipynb). **Takes** about 60 minutes.
#
# Every function is called with plain tensors. The batch comes first: points `(B, 2)` or images `(B, C, H, W)`. Results
# are in nats, one number for every example, `(B,)`. `t` is a tensor of B integers, one for every example. `sch` has the
# tables `beta`, `alpha`, `alpha_bar`, indexed by t itself with `alpha_bar[0] = 1`, and `T`.
#
# Fill in a function, run its cell, then the check below it, and read what that says. A function leaves the tensors
# that it is given as they are.

# %%
import math

import torch

from diffusion_edu import check

# %% [markdown]
# ## 1. KL of two Gaussians
#
# For independent dimensions with means $m$ and variances $v$ the divergence is
#
# $$\mathrm{KL}\big(N(m_1, v_1)\,\|\,N(m_2, v_2)\big)
# = \frac12 \sum_i \left[\log\frac{v_2}{v_1} + \frac{v_1 + (m_1 - m_2)^2}{v_2} - 1\right].$$
#
# All four arguments have the shape `(B, ...)`. The sum runs over everything but the batch.


# %%
def gaussian_kl(m1, v1, m2, v2):
    """KL( N(m1, v1) || N(m2, v2) ), (B,), of means and variances (B, ...)."""
    # BEGIN SOLUTION
    apart = (m1 - m2) ** 2
    each = 0.5 * (torch.log(v2) - torch.log(v1) + (v1 + apart) / v2 - 1)
    return each.reshape(each.shape[0], -1).sum(dim=1)
    # END SOLUTION


# %%
check(gaussian_kl)

# %% [markdown]
# ## 2. The first term
#
# DDPM (2006.11239) eq. 5: the bound is $L_T + \sum_{t>1} L_{t-1} + L_0$. The first term asks how far the end of the
# chain is from the noise that sampling starts with:
#
# $$L_T = \mathrm{KL}\big(q(x_T \mid x_0)\,\|\,N(0, I)\big), \qquad
# q(x_T \mid x_0) = N\big(\sqrt{\bar\alpha_T}\,x_0,\ (1-\bar\alpha_T) I\big).$$
#
# It has nothing to train, but belongs to the bound. You may call your `gaussian_kl`.


# %%
def prior_kl(x0, sch):
    """L_T, (B,), of the data x0 (B, ...)."""
    # BEGIN SOLUTION
    remains = sch.alpha_bar[sch.T]
    last_mean, unit = torch.sqrt(remains) * x0, torch.ones_like(x0)
    return gaussian_kl(last_mean, (1 - remains) * unit, torch.zeros_like(x0), unit)
    # END SOLUTION


# %%
check(prior_kl)

# %% [markdown]
# ## 3. The terms in the middle
#
# $L_{t-1} = \mathrm{KL}\big(q(x_{t-1} \mid x_t, x_0)\,\|\,p(x_{t-1} \mid x_t)\big)$ for t = 2, ..., T. By Bayes' rule
# (DDPM eq. 7, exercise E3) $q$ has
#
# $$\tilde\mu_t(x_t, x_0) = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t\,x_0
# + \sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})\,x_t}{1-\bar\alpha_t},
# \qquad \tilde\beta_t = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t.$$
#
# The model $p$ has the same mean with the $\hat x_0$ that belongs to the predicted noise `eps_pred`, where
# $x_t = \sqrt{\bar\alpha_t}\,\hat x_0 + \sqrt{1-\bar\alpha_t}\,\hat\varepsilon$; its variance is $\sigma_t^2=\beta_t$.
# (At t = 1 q is a point, and the divergence infinite. That step has a term of its own, $L_0$, which is not asked for.)


# %%
def kl_t(x0, xt, t, eps_pred, sch):
    """L_{t-1}, (B,), of x0, xt and eps_pred (B, ...); t (B,) is 2..T, sigma^2 = beta."""
    # BEGIN SOLUTION
    spread = (-1, *[1] * (x0.dim() - 1))
    beta, alpha = sch.beta[t].reshape(spread), sch.alpha[t].reshape(spread)
    now, earlier = sch.alpha_bar[t].reshape(spread), sch.alpha_bar[t - 1].reshape(spread)

    def posterior_mean(data):
        top = torch.sqrt(earlier) * beta * data + torch.sqrt(alpha) * (1 - earlier) * xt
        return top / (1 - now)

    guess = (xt - torch.sqrt(1 - now) * eps_pred) / torch.sqrt(now)
    narrow = (1 - earlier) / (1 - now) * beta * torch.ones_like(x0)
    return gaussian_kl(
        posterior_mean(x0), narrow, posterior_mean(guess), beta * torch.ones_like(x0)
    )
    # END SOLUTION


# %%
check(kl_t)

# %% [markdown]
# ## 4. What the simple loss leaves out
#
# The two means differ only by the error of the noise, so that $L_{t-1}$ is a constant plus
# $w_t\,\|\varepsilon - \hat\varepsilon\|^2$, DDPM eq. 12:
#
# $$w_t = \frac{\beta_t^2}{2\,\sigma_t^2\,\alpha_t\,(1-\bar\alpha_t)}, \qquad \sigma_t^2 = \beta_t.$$
#
# The simple loss (eq. 14) sets all $w_t$ to 1. Write $w_t$ for t from 1 to T.


# %%
def loss_weight(t, sch):
    """w_t, (B,), for t (B,), with sigma^2 = beta."""
    # BEGIN SOLUTION
    below = 2 * sch.alpha[t] * (1 - sch.alpha_bar[t])
    return sch.beta[t] / below
    # END SOLUTION


# %%
check(loss_weight)

# %% [markdown]
# All terms of the bound, for data whose likelihood is known. *Your* divergences and weights are drawn beside the
# reference:

# %%
from diffusion_edu import ElboDecomposer

ElboDecomposer(kl_t=kl_t, loss_weight=loss_weight)

# %% [markdown]
# ## 5. Bits per dimension
#
# Likelihoods of images are quoted in bits per dimension, so that images of all sizes can be compared: a nat has
# $1/\ln 2$ bits, and `dims` counts all pixels and channels of one image. `nats` is $-\log p$, one number an image.


# %%
def bits_per_dim(nats, dims):
    """Bits per dimension, (B,), of nats (B,) for examples of dims numbers."""
    # BEGIN SOLUTION
    bits = nats / math.log(2)
    return bits / dims
    # END SOLUTION


# %%
check(bits_per_dim)

# %% [markdown]
# ## 6. Find the bug
#
# The simple loss: the squared error of the noise, averaged over all numbers of all images in the batch. A
# published implementation does the same as this one. It trains, but its loss depends on the size of the images, and a
# limit on the gradient's length (clipping) that suits small images cuts every gradient of large ones. Find the line and
# mend it.


# %%
def image_loss(eps_pred, eps):
    """The simple loss, a single number, of predicted and true noise (B, ...)."""
    # BEGIN SOLUTION
    squared = (eps - eps_pred) ** 2
    per_image = squared.flatten(1).mean(dim=1)
    return per_image.mean(dim=0)
    # STUDENT: squared = (eps - eps_pred) ** 2
    # STUDENT: per_image = squared.flatten(1).sum(dim=1)
    # STUDENT: return per_image.mean(dim=0)
    # END SOLUTION


# %%
check(image_loss)

# %% [markdown]
# ## All together
#
# When every line says ok, go on with [lecture 05, *Train a noise predictor*](../05_training.ipynb).

# %%
check("E4")
