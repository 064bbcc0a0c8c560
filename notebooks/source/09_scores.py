# %% [markdown]
# # Scores, and time without steps
#
# A network that predicts noise knows something else too: in which direction data become more
# likely. That arrow is called the *score*. With it, sampling becomes a walk uphill, and a thousand
# small steps become a differential equation.
#
# **You will be able to**
#
# - turn predicted noise into a score and back, and say why training finds the score;
# - write down the exact score of a Gaussian mixture;
# - walk by Langevin dynamics, and say what DDPM's step shares with it;
# - derive the reverse SDE and the probability-flow ODE, and recognise DDIM in it.
# %%
import torch

import diffusion_edu as de
from diffusion_edu.lectures import agree, card, show, table
from diffusion_edu.viz import l09, plots

# %%
de.ScoreField("gaussians")

# %% [markdown]
# ## What a score is
#
# The arrows above are scores, in units of the noise (long ones are drawn shorter). For a density
# $q(\mathbf{x})$ the score is the gradient of its logarithm. ($\nabla$ is always the gradient in
# the point $\mathbf{x}$ or $\mathbf{x}_t$, never in data or weights.)
#
# $$\nabla\log q(\mathbf{x})=\frac{\nabla q(\mathbf{x})}{q(\mathbf{x})}.$$
#
# It points uphill. A density known only up to a factor, $q=\tilde q/Z$, has the score
# $\nabla\log\tilde q$: the constant $\log Z$ has gradient zero. So a score can be learned where a
# density cannot.
#
# As before $\mathbf{x}_0$ is data, $t=0,\dots,T$ is the level of noise, and with
# $\boldsymbol\epsilon\sim\mathcal{N}(\mathbf{0},\mathbf{I})$
#
# $$\mathbf{x}_t=\sqrt{\bar\alpha_t}\,\mathbf{x}_0+\sqrt{1-\bar\alpha_t}\,\boldsymbol\epsilon .$$
#
# $q_t$ is the density of $\mathbf{x}_t$ over all data and all noise.
# %% [markdown]
# ## The score is the noise
#
# Fix the data point $\mathbf{x}_0$. Then $\mathbf{x}_t$ is Gaussian, and its logarithm a parabola:
#
# $$\begin{aligned}
# \log q(\mathbf{x}_t\mid\mathbf{x}_0)&=-\frac{\lVert\mathbf{x}_t-\sqrt{\bar\alpha_t}\,\mathbf{x}_0
# \rVert^2}
# {2(1-\bar\alpha_t)}+\text{const}\\
# \nabla\log q(\mathbf{x}_t\mid\mathbf{x}_0)&=-\frac{\mathbf{x}_t-\sqrt{\bar\alpha_t}\,
# \mathbf{x}_0}{1-\bar\alpha_t}
# =-\frac{\sqrt{1-\bar\alpha_t}\,\boldsymbol\epsilon}{1-\bar\alpha_t}
# \end{aligned}$$
#
# The minus sign: noise leads away from the data, the score leads back. One root of the variance
# cancels, one stays. So the less noise, the longer the arrow.
#
# $$\boxed{\nabla\log q(\mathbf{x}_t\mid\mathbf{x}_0)=-\frac{\boldsymbol\epsilon}{\sqrt{1-
# \bar\alpha_t}}}$$
# %%
schedule = de.linear(1000)


def score_from_eps(eps, t, sch):
    """The score that belongs to noise eps (B, ...) at levels t (B,)."""
    spread = torch.sqrt(1 - sch.alpha_bar[t])
    return -eps / spread.reshape(-1, *[1] * (eps.dim() - 1))


# %% [markdown]
# Is that the gradient? Automatic differentiation knows the rule for gradients and nothing about our
# formula. Each of the 500 points has its own level $t$.
# %%
g = torch.Generator().manual_seed(0)
t = torch.randint(1, 1001, (500,), generator=g)
x0, eps = torch.randn(2, 500, 2, generator=g, dtype=torch.float64)
x_t = de.q_sample(x0, t, eps, schedule).requires_grad_()
law = de.q_marginal(x0, t, schedule)
log_q = -((x_t - law.mean) ** 2 / (2 * law.var)).sum()
(gradient,) = torch.autograd.grad(log_q, x_t)
agree(gradient, score_from_eps(eps, t, schedule), 1e-9, "autograd against the formula")
# %% [markdown]
# **Checkpoint.** Run the next cell as it is. Then break `score_from_eps`: drop the minus, or the
# square root, and run both again. In exercise E9 you write it yourself.
# %%
de.check(score_from_eps)
# %% [markdown]
# That was the score *given* the data point. A sampler does not know the data point. It needs the
# score of $q_t$.
# %%
card("09.between")
# %% [markdown] tags=["covers-score-matching"]
# ## Denoising score matching
#
# **Claim.** The score of $q_t$ is the mean of the scores we know:
#
# $$\begin{aligned}
# \nabla\log q_t(\mathbf{x})
# &=\frac{\nabla q_t(\mathbf{x})}{q_t(\mathbf{x})} &&\text{(chain rule)}\\
# &=\frac{1}{q_t(\mathbf{x})}\nabla\!\int q(\mathbf{x}\mid\mathbf{x}_0)\,q(\mathbf{x}_0)\,d
# \mathbf{x}_0
# &&\text{(sum over all data)}\\
# &=\frac{1}{q_t(\mathbf{x})}\int \nabla q(\mathbf{x}\mid\mathbf{x}_0)\,q(\mathbf{x}_0)\,d
# \mathbf{x}_0
# &&\text{(Gaussian: smooth and bounded)}\\
# &=\int \nabla\log q(\mathbf{x}\mid\mathbf{x}_0)\,
# \frac{q(\mathbf{x}\mid\mathbf{x}_0)\,q(\mathbf{x}_0)}{q_t(\mathbf{x})}\,d\mathbf{x}_0
# &&(\nabla q=q\,\nabla\log q)\\
# &=\int \nabla\log q(\mathbf{x}\mid\mathbf{x}_0)\;q(\mathbf{x}_0\mid\mathbf{x}_t=\mathbf{x})\,d
# \mathbf{x}_0
# &&\text{(Bayes' rule)}
# \end{aligned}$$
#
# $$\boxed{\nabla\log q_t(\mathbf{x})=\mathbb{E}\left[\nabla\log q(\mathbf{x}_t\mid\mathbf{x}_0)
# \mid\mathbf{x}_t=\mathbf{x}\right]}$$
#
# Elsewhere, with $p$ for $q$ and $k$ for $t$:
# $\nabla\log p_k=\mathbb{E}_{p_{0\mid k}(\cdot\mid x_k)}[\nabla\log p_{k\mid 0}(x_k\mid X_0)]$.
# %% [markdown]
# **Check by quadrature.** Data on a line: 80 % in a bump at -1.5, 20 % at 1. The right side of the
# claim is an integral over $x_0$: a sum over a fine grid. The left side is the gradient of
# $\log q_t$, by autograd.
# %%
centres = torch.tensor([[-1.5], [1.0]], dtype=torch.float64)
line = de.MixtureOracle(centres, torch.tensor([0.04, 0.04]), torch.tensor([0.8, 0.2]), schedule)
t, points = 300, torch.linspace(-3, 3, 61, dtype=torch.float64)[:, None].requires_grad_()
(left,) = torch.autograd.grad(line.log_prob(points, t).sum(), points)

grid = torch.linspace(-5, 5, 4001, dtype=torch.float64)
law = de.q_marginal(grid, t, schedule)  # of x_t, for each x_0 of the grid
posterior = (line.log_prob(grid[:, None], 0) - (points - law.mean) ** 2 / (2 * law.var)).softmax(1)
right = (posterior * (law.mean - points) / law.var).sum(1, keepdim=True)
agree(left, right, 1e-9, "gradient against conditional mean")
# %% [markdown]
# **Check by Monte-Carlo**, in two dimensions: draw data, weight each by
# $q(\mathbf{x}\mid\mathbf{x}_0)$, and average. The tolerance is four standard errors.
# %%
mixture = de.MixtureOracle(*de.toy.gaussians_mixture(), schedule)
x, draws = torch.tensor([[0.4, 0.2]], dtype=torch.float64), mixture.sample(200_000, g)
law = de.q_marginal(draws, 300, schedule)
weight = (-((x - law.mean) ** 2).sum(1) / (2 * law.var)).softmax(0)[:, None]
known = (law.mean - x) / law.var
estimate = (weight * known).sum(0)
error = (weight * (known - estimate)).square().sum(0).sqrt().max()
agree(estimate, mixture.score(x, 300)[0], 4 * float(error), "weighted mean against score")
# %% [markdown] tags=["covers-score-matching"]
# ## A mean is a projection
#
# Why should training find that mean? Let $X$ and $U$ be random, $X$ of finite variance, and let
# $L^2(U)$ hold all functions $f(U)$ with finite variance. Write $m(U)=\mathbb{E}[X\mid U]$. For any
# $h(U)$ in $L^2(U)$
#
# $$\begin{aligned}
# \mathbb{E}\left[(X-m(U))\,h(U)\right]
# &=\mathbb{E}\left[\,\mathbb{E}[X-m(U)\mid U]\;h(U)\right] &&\text{(average over }X
# \text{ first; }h(U)\text{ is fixed then)}\\
# &=\mathbb{E}\left[(m(U)-m(U))\,h(U)\right]=0 .
# \end{aligned}$$
#
# The error is orthogonal to every function of $U$. With $h=m-f$,
#
# $$\begin{aligned}
# \mathbb{E}\lVert X-f\rVert^2
# &=\mathbb{E}\lVert X-m\rVert^2+2\,\mathbb{E}[(X-m)\cdot(m-f)]+\mathbb{E}\lVert m-f\rVert^2\\
# &=\mathbb{E}\lVert X-m\rVert^2+\mathbb{E}\lVert m-f\rVert^2 ,
# \end{aligned}$$
#
# which is Pythagoras. The first term does not know $f$; the second is least, 0, for $f=m$:
#
# $$\boxed{\mathbb{E}[X\mid U]=\arg\min_{f\in L^2(U)}\ \mathbb{E}\lVert X-f(U)\rVert^2}$$
# %% [markdown]
# **Check.** $X$ is the score given the data point, $U=\mathbf{x}_t$, $m$ the exact score of the
# eight Gaussians, and $f$ a trained network's.
# %%
model, own, _ = de.pretrained("gaussians")  # with a schedule of its own
exact = de.MixtureOracle(*de.toy.gaussians_mixture(), own)
t, x0 = 300, exact.sample(20_000, g)
eps = torch.randn(x0.shape, generator=g, dtype=x0.dtype)
x_t, b = de.q_sample(x0, t, eps, own), own.sqrt_one_minus_alpha_bar[t]
X, m = -eps / b, exact.score(x_t, t)
f = -model(x_t.float(), torch.full((20_000,), t)).double() / b
cathetus, other, hypotenuse = ((u**2).sum(1) for u in (X - m, m - f, X - f))
gap = hypotenuse - cathetus - other
agree(gap.mean(), 0.0, 4 * float(gap.std()) / 20_000**0.5, "Pythagoras")
table(["E‖X-f‖²", "E‖X-m‖²", "E‖m-f‖²"], [[v.mean() for v in (hypotenuse, cathetus, other)]])
# %% [markdown]
# The network's error, on the right, is a thousandth of its loss. The rest is the noise that nobody
# can know from $\mathbf{x}_t$. A loss that stops falling is no sign that the network stopped
# learning.
# %% [markdown] tags=["covers-score-matching"]
# ## What the loss finds
#
# Put both together. With $X=\nabla\log q(\mathbf{x}_t\mid\mathbf{x}_0)$ and $U=\mathbf{x}_t$, the
# projection is the score:
#
# $$\nabla\log q_t=\arg\min_{f}\ \mathbb{E}\lVert f(\mathbf{x}_t)-\nabla\log q(\mathbf{x}_t\mid
# \mathbf{x}_0)\rVert^2 .$$
#
# Divide the noise loss of lecture 05 by $1-\bar\alpha_t$, with
# $f=-\boldsymbol\epsilon_\theta/\sqrt{1-\bar\alpha_t}$:
#
# $$\frac{\lVert\boldsymbol\epsilon-\boldsymbol\epsilon_\theta\rVert^2}{1-\bar\alpha_t}
# =\left\lVert f-\nabla\log q(\mathbf{x}_t\mid\mathbf{x}_0)\right\rVert^2 .$$
#
# At each level it is the same minimiser; only the weight of the level differs. So the best network
# is
#
# $$\boxed{\boldsymbol\epsilon^\ast(\mathbf{x}_t,t)=\mathbb{E}[\boldsymbol\epsilon\mid\mathbf{x}_t]
# =-\sqrt{1-\bar\alpha_t}\;\nabla\log q_t(\mathbf{x}_t)}$$
# %%
show(de.predict)
# %% [markdown]
# **See it happen, without a network.** Forty bumps on a line, a linear regression, and targets
# $-\epsilon/\sqrt{1-\bar\alpha_t}$, a quarter of whose variance nobody can know from $x_t$. What
# comes out is the score.
# %%
t = 150
x0, b = line.sample(200_000, g), schedule.sqrt_one_minus_alpha_bar[t]
eps = torch.randn(x0.shape, generator=g, dtype=x0.dtype)
x_t = de.q_sample(x0, t, eps, schedule)


def bumps(x):
    return torch.exp(-((x - torch.linspace(-3.5, 3.5, 40)) ** 2) / (2 * 0.25**2))


A = bumps(x_t)
ridge = 1e-6 * torch.eye(40, dtype=A.dtype)
weights = torch.linalg.solve(A.T @ A + ridge, A.T @ (-eps / b))
# %%
share = float(((-eps / b - line.score(x_t, t)) ** 2).mean() / (eps / b).var())
print(f"noise in the targets: {100 * share:.0f} % of their variance")
x = torch.linspace(-2.4, 2.0, 200, dtype=torch.float64)[:, None]
fit, exact = (bumps(x) @ weights)[:, 0], line.score(x, t)[:, 0]
likely = line.log_prob(x, t).exp()
agree((likely * (fit - exact).abs()).sum() / likely.sum(), 0.0, 0.03, "mean error of the fit")
plots.lines(x[:, 0], {"exact score": exact, "regression": fit}, "x", "score at t = 150")
# %% [markdown]
# The noise also says where the data were: solve
# $\mathbf{x}_t=\sqrt{\bar\alpha_t}\,\mathbf{x}_0+\sqrt{1-\bar\alpha_t}\, \boldsymbol\epsilon$ for
# $\mathbf{x}_0$ and take the mean given $\mathbf{x}_t$. This is known as Tweedie's formula:
#
# $$\boxed{\mathbb{E}[\mathbf{x}_0\mid\mathbf{x}_t]
# =\frac{\mathbf{x}_t+(1-\bar\alpha_t)\,\nabla\log q_t(\mathbf{x}_t)}{\sqrt{\bar\alpha_t}}}$$
# %%
a2 = float(schedule.alpha_bar[300])  # the posterior above is that of level 300
tweedie = (points + (1 - a2) * line.score(points, 300)) / a2**0.5
agree(tweedie[:, 0], posterior @ grid, 1e-9, "Tweedie against quadrature")
# %% [markdown]
# ## A score that is known exactly
#
# Data from a mixture of $K$ round Gaussians,
# $\sum_k w_k\,\mathcal{N}(\mathbf{m}_k, v_k\mathbf{I})$. What does noise do to them? Given
# component $k$, the data are $\mathbf{m}_k+\sqrt{v_k}\,\boldsymbol\epsilon'$, so
#
# $$\mathbf{x}_t=\sqrt{\bar\alpha_t}\,\mathbf{m}_k+\sqrt{\bar\alpha_t v_k}\,\boldsymbol\epsilon'
# +\sqrt{1-\bar\alpha_t}\,\boldsymbol\epsilon .$$
#
# Two independent Gaussians merge, and variances add: the data's variance, made smaller by
# $\bar\alpha_t$, and that of the noise. With $s_k=\bar\alpha_t v_k+1-\bar\alpha_t$,
#
# $$\boxed{q_t(\mathbf{x})=\sum_k w_k\,\mathcal{N}\left(\mathbf{x};\ \sqrt{\bar\alpha_t}\,
# \mathbf{m}_k,\ s_k\mathbf{I}\right)}$$
# %% [markdown]
# Now the gradient of $\log q_t$. Each component pulls towards its own mean, divided by its own
# variance:
#
# $$\begin{aligned}
# \nabla\log q_t(\mathbf{x})
# &=\frac{1}{q_t(\mathbf{x})}\sum_k w_k\,\mathcal{N}(\mathbf{x};\dots)\;\nabla\log\mathcal{N}(
# \mathbf{x};\dots)\\
# &=\sum_k r_k(\mathbf{x})\,\frac{\sqrt{\bar\alpha_t}\,\mathbf{m}_k-\mathbf{x}}{s_k}
# \end{aligned}$$
#
# $$\boxed{r_k(\mathbf{x})=\frac{w_k\,\mathcal{N}(\mathbf{x};\sqrt{\bar\alpha_t}\,\mathbf{m}_k,s_k
# \mathbf{I})}
# {\sum_j w_j\,\mathcal{N}(\mathbf{x};\sqrt{\bar\alpha_t}\,\mathbf{m}_j,s_j\mathbf{I})}}$$
#
# $r_k$ is the probability that $\mathbf{x}$ came from component $k$. It needs the weight, and the
# factor $(2\pi s_k)^{-D/2}$ in $D$ dimensions: wide components are low. Far away all densities
# underflow, so stay with logarithms and a softmax.
# %%
show(de.MixtureOracle._evaluate)
# %%
x = torch.tensor([[0.3, 0.1], [-1.0, 2.0], [60.0, -80.0]], dtype=torch.float64).requires_grad_()
(gradient,) = torch.autograd.grad(mixture.log_prob(x, 50).sum(), x)
agree(gradient, mixture.score(x, 50), 1e-9, "autograd, also far away")
# %% [markdown]
# **Yours.** A score by autograd, from a density you write down yourself, drawn beside the exact
# one. Widen the components by hand (`widths * 2`) and watch the error map.
# %%
means, variances, shares = de.toy.gaussians_mixture()


def my_score(x, t, schedule):
    """Gradient of my log-density at x (B, 2), level t."""
    a2 = float(schedule.alpha_bar[t])
    widths = a2 * variances + 1 - a2
    with torch.enable_grad():
        x = x.detach().double().requires_grad_()
        distance = ((x[:, None] - a2**0.5 * means) ** 2).sum(2)
        logs = shares.log() - widths.log() - distance / (2 * widths)
        return torch.autograd.grad(logs.logsumexp(1).sum(), x)[0]


de.ScoreField("gaussians", score=my_score)


# %% [markdown] tags=["covers-langevin"]
# ## Langevin dynamics
#
# Suppose we know only the score of a density $q$. Start anywhere; take a step $h$ along the score,
# and shake with fresh noise $\mathbf{z}\sim\mathcal{N}(\mathbf{0},\mathbf{I})$:
#
# $$\boxed{\mathbf{x}'=\mathbf{x}+h\,\nabla\log q(\mathbf{x})+\sqrt{2h}\;\mathbf{z}}$$
#
# Without noise every point climbs to the nearest peak and stays. With the right noise each place is
# visited as often as $q$ says. Variances of steps add up, so the noise goes with the root of $h$;
# why the factor is 2 comes next.
#
# Song and Ermon (1907.05600, Algorithm 1) call $\alpha=2h$ the step size: half of it on the score,
# its root on the noise.
# %%
def langevin_step(x, score, step, z):
    """The next place (B, ...) of x, where the score is score."""
    return x + step * score + (2 * step) ** 0.5 * z


de.check(langevin_step)
# %% [markdown]
# **Break it**: write `step ** 0.5` for the noise, or leave the noise out, and run the cell again.
# %% [markdown]
# ## How a density moves
#
# Let a cloud with density $q$ take a small step
# $\mathbf{x}'=\mathbf{x}+h\,\mathbf{v}(\mathbf{x})+\sqrt{2hc}\,\mathbf{z}$. Here $\mathbf{v}$ is a
# velocity, $c\ge0$ the strength of the noise, and $\Delta$ the sum of second derivatives. For any
# smooth test function $\varphi$ that is 0 far away, by Taylor, with $\mathbb{E}[\mathbf{z}]=0$ and
# $\mathbb{E}[\mathbf{z}\mathbf{z}^\top]=\mathbf{I}$,
#
# $$\begin{aligned}
# \mathbb{E}\,\varphi(\mathbf{x}')-\mathbb{E}\,\varphi(\mathbf{x})
# &=h\,\mathbb{E}\left[\mathbf{v}\cdot\nabla\varphi+c\,\Delta\varphi\right]+O(h^2)\\
# &=h\int\left(-\nabla\cdot(q\mathbf{v})+c\,\Delta q\right)\varphi\,d\mathbf{x}+O(h^2),
# \end{aligned}$$
#
# integrating by parts. This holds for every $\varphi$. Divide by $h$ and let it go to 0: the
# Fokker-Planck equation
#
# $$\partial_t q=-\nabla\cdot(q\,\mathbf{v})+c\,\Delta q .$$
#
# Langevin has $c=1$, and $\mathbf{v}=\nabla\log q$ once the cloud has the density $q$. Since
# $q\,\nabla\log q=\nabla q$,
#
# $$\boxed{\partial_t q=-\nabla\cdot\nabla q+\Delta q=0}$$
#
# Noise spreads exactly as much as the score gathers: the cloud stays. With any other factor than 2
# the two do not cancel. (That a cloud also *gets* there, in the end, is another theorem. How long
# it takes is another story.)
# %%
card("09.width")


# %% [markdown]
# **Check.** On $\mathcal{N}(0,1)$ the score is $-x$, and a step is $x'=(1-h)x+\sqrt{2h}\,z$. Its
# variance repeats when $v=(1-h)^2v+2h$, that is $v=1/(1-h/2)$: exact for small steps only.
# %%
def settled(h, n=100_000, steps=60):
    x, noise = torch.zeros(n), torch.Generator().manual_seed(2)
    for _ in range(steps):
        x = langevin_step(x, -x, h, torch.randn(n, generator=noise))
    return float(x.var())


rows = [[h, settled(h), 1 / (1 - h / 2)] for h in (0.5, 0.25, 0.1)]
for _, seen, exact in rows:
    agree(seen, exact, 4 * exact * (2 / 100_000) ** 0.5, "variance")
table(["step h", "variance of the walk", "1/(1-h/2)"], rows)
# %% [markdown]
# ## Valleys, and annealing
#
# Data rarely form one hill. Between two modes the density is almost 0, no walker crosses, and the
# score on either side says nothing about how heavy the other mode is.
#
# Noise fills valleys. *Annealed* Langevin dynamics begins where the noise is strong, walks there,
# and lowers the level bit by bit. All levels share one network: the noise predictor.
# %%
card("09.modes")
# %%
show(de.annealed_langevin)
# %%
modes = torch.tensor([[-1.4, 0.0], [1.4, 0.0]])
pair = de.MixtureOracle(modes, torch.tensor([0.1, 0.1]), torch.tensor([0.8, 0.2]), schedule)
sde = de.VPSDE()  # DDPM's noising in continuous time: a section below
score = de.oracle_score(pair, sde)
start = torch.randn(2000, 2, generator=g, dtype=torch.float64)


def last(walk):
    return [step.x_s for step in walk][-1]


plain = last(de.annealed_langevin(score, start, [0.03], sde, steps=300, generator=g))
levels = torch.linspace(1.0, 0.03, 15)
annealed = last(de.annealed_langevin(score, start, levels, sde, steps=20, generator=g))
# %%
clouds = {"start": start, "plain": plain, "annealed": annealed, "data": pair.sample(2000, g)}
rows = [[name, float((x[:, 0] > 0).double().mean())] for name, x in clouds.items()]
table(["cloud", "share on the right"], rows)
# %%
plots.clouds(list(clouds.values()), list(clouds))
# %% [markdown]
# Plain, each mode has its shape, but the shares are those of the start. Annealed, they come close;
# with 20 steps a level not all walkers change sides in time. Try 80.


# %% [markdown] tags=["covers-langevin"]
# ## What DDPM's step shares with Langevin
#
# Put $\boldsymbol\epsilon_\theta=-\sqrt{1-\bar\alpha_t}\;\mathbf{s}$, where $\mathbf{s}$ is the
# score, into DDPM's step (Algorithm 2), with $1-\alpha_t=\beta_t$:
#
# $$\begin{aligned}
# \mathbf{x}_{t-1}&=\frac{1}{\sqrt{\alpha_t}}\left(\mathbf{x}_t-\frac{1-\alpha_t}{\sqrt{1-
# \bar\alpha_t}}\,
# \boldsymbol\epsilon_\theta\right)+\sigma_t\,\mathbf{z}
# =\frac{\mathbf{x}_t+\beta_t\,\mathbf{s}}{\sqrt{1-\beta_t}}+\sigma_t\,\mathbf{z}
# \end{aligned}$$
#
# With $1/\sqrt{1-\beta}\approx1+\beta/2$ and $\sigma_t^2=\beta_t$ this is, but for terms of size
# $\beta_t^2$,
#
# $$\boxed{\mathbf{x}_{t-1}\approx\mathbf{x}_t+\underbrace{\tfrac{\beta_t}{2}(\mathbf{x}_t+
# \mathbf{s})}_{\text{down to level }t-1}
# +\underbrace{\tfrac{\beta_t}{2}\,\mathbf{s}+\sqrt{\beta_t}\,\mathbf{z}}_{\text{Langevin, }h=
# \beta_t/2}}$$
# %% [markdown]
# So one half of the score is a Langevin step with $h=\beta_t/2$. The other half is not: it carries
# the cloud from level $t$ to the next, and needs no noise.
#
# | | Langevin | DDPM's step |
# |---|---|---|
# | follows the score | yes | yes |
# | fresh noise in each step | yes | yes, but for the last |
# | aims at | the same density for ever | the next level, each step once |
# | score per variance of noise | 1/2 | 1 |
# | stretches $\mathbf{x}$ | no | by $1/\sqrt{\alpha_t}$ |
# | if there are more steps | gets nearer to its density | needs another schedule |
# %%
def gap(T):
    """Largest gap between DDPM's mean and the two half-steps, at t = 0.3 T."""
    fine, t = de.discretize(sde, T), 3 * T // 10
    beta, s = fine.beta[t], line.evaluate(points, fine.alpha_bar[t]).score
    found = de.predict("score", s, points, t, fine)
    zero = torch.zeros_like(points)
    ddpm = de.reverse_step(found.x0, found.eps, t, t - 1, fine, variance="large", z=zero)
    agree(ddpm, (points + beta * s) / (1 - beta).sqrt(), 1e-9, "Algorithm 2, by the score")
    return float((ddpm - points - beta / 2 * (points + s) - beta / 2 * s).abs().max() / beta**2)


points = points.detach()
table(["T", "gap / beta²"], [[T, gap(T)] for T in (100, 1000, 10_000)])
# %% [markdown]
# ## Time without steps
#
# Let there be $T$ steps in one unit of time, $dt=1/T$, with $\beta_t=\beta(t)\,dt$ and $t$ now
# running from 0 to 1. The forward step becomes
#
# $$\begin{aligned}
# \mathbf{x}_{t+dt}&=\sqrt{1-\beta(t)\,dt}\;\mathbf{x}_t+\sqrt{\beta(t)\,dt}\;\mathbf{z}\\
# &=\mathbf{x}_t-\tfrac12\beta(t)\,\mathbf{x}_t\,dt+\sqrt{\beta(t)}\,\sqrt{dt}\,\mathbf{z}+O(dt^2).
# \end{aligned}$$
#
# $\sqrt{dt}\,\mathbf{z}$ is a step $d\mathbf{w}$ of Brownian motion. This is the
# variance-preserving SDE (Song et al., 2011.13456, eq. 11). And $\bar\alpha_t$, a product of
# $1-\beta(t)\,dt$, becomes an exponential:
#
# $$\boxed{d\mathbf{x}=-\tfrac12\beta(t)\,\mathbf{x}\,dt+\sqrt{\beta(t)}\,d\mathbf{w},\qquad
# \bar\alpha(t)=\exp\left(-\int_0^t\beta(t')\,dt'\right)}$$
# %%
show(de.VPSDE.alpha_bar, de.VPSDE._spent, de.VPSDE.drift, docstring=False)


# %%
def apart(T):
    """Largest gap between DDPM's schedule and the SDE's."""
    return float((de.discretize(sde, T).alpha_bar - de.linear(T).alpha_bar).abs().max())


rows = [[T, apart(T)] for T in (100, 1000, 10_000)]
agree(rows[-1][1], 0.0, 1e-4, "linear(10000) against the SDE")
table(["T", "largest gap of alpha-bar"], rows)
# %% [markdown]
# ## Backwards: a family of processes
#
# The density follows $\partial_t q=-\nabla\cdot(\mathbf{f}q)+\tfrac\beta2\Delta q$ with
# $\mathbf{f}=-\tfrac\beta2\mathbf{x}$. Let $\mathbf{s}$ be the score. Since
# $\Delta q=\nabla\cdot(q\,\mathbf{s})$, for any number $\lambda\ge0$
#
# $$\begin{aligned}
# \tfrac\beta2\Delta q&=\tfrac\beta2(1+\lambda^2)\,\nabla\cdot(q\,\mathbf{s})-\tfrac\beta2\lambda^2
# \,\Delta q\\
# \partial_t q&=-\nabla\cdot\left(\left[\mathbf{f}-\tfrac\beta2(1+\lambda^2)\,\mathbf{s}\right]q
# \right)
# -\tfrac\beta2\lambda^2\,\Delta q .
# \end{aligned}$$
#
# Run time backwards, $u=1-t$, and all signs turn:
#
# $$\partial_u q=-\nabla\cdot\left(\left[-\mathbf{f}+\tfrac\beta2(1+\lambda^2)\,\mathbf{s}
# \right]q\right)
# +\tfrac\beta2\lambda^2\,\Delta q .$$
#
# This is how the density of another process moves:
#
# $$\boxed{d\mathbf{x}=\left[\tfrac\beta2\,\mathbf{x}+\tfrac\beta2(1+\lambda^2)\,\nabla\log q_t(
# \mathbf{x})\right]du
# +\lambda\sqrt\beta\,d\mathbf{w}}$$
# %% [markdown]
# Started from the density at $t=1$, all of them have the same $q_t$ at every time. $\lambda=1$ is
# the **reverse SDE** (Song et al., eq. 6). Its Euler step is
# $\mathbf{x}+\tfrac{\beta}{2}\mathbf{x}+\beta\,\mathbf{s}+\sqrt\beta\,\mathbf{z}$ with $\beta_t$
# for $\beta\,du$: that of DDPM, but for terms of size $\beta_t^2$, as two sections above.
# $\lambda=0$ has no noise at all: the **probability-flow ODE** (eq. 13).
# %%
show(de.reverse_sde, de.probability_flow)


# %% [markdown]
# **Check.** For $\lambda=0$ the claim is $\partial_t q=-\nabla\cdot(q\,\mathbf{v})$ with
# $\mathbf{v}=-\tfrac\beta2(\mathbf{x}+\mathbf{s})$. Both sides by finite differences, for the two
# bumps on the line.
# %%
def density(x, t):
    return line.evaluate(x, float(sde.alpha_bar(t))).log_prob.exp()


def flux(x, t=0.4):
    s = line.evaluate(x, float(sde.alpha_bar(t))).score
    return -0.5 * float(sde.beta(t)) * (x + s)[:, 0] * density(x, t)


d = 1e-4
in_time = (density(points, 0.4 + d) - density(points, 0.4 - d)) / (2 * d)
in_space = (flux(points + d) - flux(points - d)) / (2 * d)
agree(in_time, -in_space, 1e-6, "change in time against flow in space")
# %%
score = de.oracle_score(line, sde)
start = torch.randn(400, 1, generator=g, dtype=torch.float64)
ode = torch.stack([step.x_s for step in de.probability_flow(score, start, sde, 200)])
chance = torch.stack([step.x_s for step in de.reverse_sde(score, start, sde, 200, g)])
place = {
    "exact": 0.2,
    "ODE": (ode[-1] > 0).double().mean(),
    "SDE": (chance[-1] > 0).double().mean(),
}
agree(torch.stack([place["ODE"], place["SDE"]]), 0.2, 4 * 0.4 / 400**0.5, "share on the right")
# %%
shown = {"ODE: paths never cross": ode[:, :20, 0], "SDE: pushed about": chance[:, :20, 0]}
l09.over_time(shown, torch.linspace(1, 0, 200))
# %% [markdown]
# Noise is on the left, data on the right; each line is one particle. Paths of an ODE cannot cross:
# where two met, they would have one future and one past, and be the same path. On a line the
# particles therefore keep their order. With noise they do not.
# %%
order = start[:, 0].argsort()
agree(ode[-1, :, 0].argsort(), order, 0, "order kept by the ODE: rank differences")
moved = (chance[-1, :, 0].argsort() != order).double().mean()
print(f"the SDE gave {100 * float(moved):.0f} % of the particles another rank")
# %% [markdown]
# ## DDIM's step is a step of this ODE
#
# Measure $\mathbf{x}$ in units of the signal, $\mathbf{y}=\mathbf{x}/\sqrt{\bar\alpha}$, and let
# the clock be $\kappa=\sqrt{1-\bar\alpha}/\sqrt{\bar\alpha}$, noise over signal. With
# $\dot{\bar\alpha}=-\beta\bar\alpha$, $\mathbf{s}=-\boldsymbol\epsilon^\ast/\sqrt{1-\bar\alpha}$
# and the ODE $\dot{\mathbf{x}}=-\tfrac\beta2(\mathbf{x}+\mathbf{s})$,
#
# $$\begin{aligned}
# \dot{\mathbf{y}}&=\frac{\dot{\mathbf{x}}+\tfrac\beta2\mathbf{x}}{\sqrt{\bar\alpha}}
# =-\frac{\beta}{2\sqrt{\bar\alpha}}\,\mathbf{s}=\frac{\beta}{2\sqrt{\bar\alpha}\sqrt{1-
# \bar\alpha}}\,\boldsymbol\epsilon^\ast\\
# \kappa^2&=\frac1{\bar\alpha}-1\ \Rightarrow\ 2\kappa\,\dot\kappa=\frac{\beta}{\bar\alpha}
# \ \Rightarrow\ \dot\kappa=\frac{\beta}{2\sqrt{\bar\alpha}\sqrt{1-\bar\alpha}}
# \end{aligned}$$
#
# Divide: all of $\beta$ is gone, and Euler's step from $t$ to $s$ is DDIM's (DDIM, sec. 4.3; its
# $\alpha$ is our $\bar\alpha$):
#
# $$\boxed{\frac{d\mathbf{y}}{d\kappa}=\boldsymbol\epsilon^\ast,\qquad
# \frac{\mathbf{x}_s}{\sqrt{\bar\alpha_s}}=\frac{\mathbf{x}_t}{\sqrt{\bar\alpha_t}}+(\kappa_s-
# \kappa_t)\,\boldsymbol\epsilon^\ast}$$
# %%
kappa = ((1 - schedule.alpha_bar) / schedule.alpha_bar).sqrt()
t, s, x_t = 700, 600, torch.randn(100, 2, generator=g, dtype=torch.float64)
found = de.predict("eps", mixture(x_t, t), x_t, t, schedule)
euler = x_t / schedule.sqrt_alpha_bar[t] + (kappa[s] - kappa[t]) * found.eps
ddim = de.reverse_step(found.x0, found.eps, t, s, schedule, eta=0)
agree(ddim, euler * schedule.sqrt_alpha_bar[s], 1e-9, "DDIM against Euler's step in kappa")
# %% [markdown]
# Twice as many steps, about half the error: that is Euler's method, and DDIM. With Heun's method
# (two scores per step) it is about a quarter, once the steps are small. The error is against 400
# steps of Heun's.
# %%
fine = de.discretize(sde, 1000)
eight = de.MixtureOracle(means, variances, shares, fine)
score, start = de.oracle_score(eight, sde), torch.randn(100, 2, generator=g, dtype=torch.float64)


def flow(n, method):
    return last(de.probability_flow(score, start, sde, n, method, t_end=0.01))


def errors(n):
    ddim = last(de.sample(eight, start, fine, [1000 - 990 * i // n for i in range(n + 1)]))
    ways = (ddim, flow(n, "euler"), flow(n, "heun"))
    return [float((way - truth).norm(dim=1).mean()) for way in ways]


truth = flow(400, "heun")
counts = [10, 20, 40, 80]
curves = torch.tensor([errors(n) for n in counts]).T
names = ["DDIM", "Euler in t", "Heun in t (2 scores a step)"]
plots.lines(counts, dict(zip(names, curves, strict=True)), "steps", "error", log="xy", markers=True)
# %% [markdown]
# **Three walks from the same three places**, over the eight Gaussians: along the ODE, along the
# SDE, and by Langevin dynamics that stays at one level ($t=0.3$, a cloud wider than the data).
# %% tags=["cover"]
start, steps = torch.tensor([[2.0, 1.6], [-1.8, 0.4], [0.2, -2.2]], dtype=torch.float64), 150
walks = {
    "probability-flow ODE": de.probability_flow(score, start, sde, steps),
    "reverse SDE": de.reverse_sde(score, start, sde, steps, g),
    "Langevin at one level": de.annealed_langevin(
        score, start, [0.3], sde, steps=steps, generator=g
    ),
}
trails = {name: torch.stack([start, *(step.x_s for step in walk)]) for name, walk in walks.items()}
plots.paths(trails, behind=eight.sample(800, g), limit=3.2)
# %% [markdown]
# ## Errata you may meet
#
# | often printed | right | how to see it |
# |---|---|---|
# | $x_t=\sqrt{1-\beta_t}\,x_{t-1}+\beta_t\epsilon$ | $\sqrt{\beta_t}\,\epsilon$ | (a) |
# | $\mathbb{E}[\nabla\log p_{k\mid0}(x_k\mid X_0)]$ over all data | given $x_k$ | (b) |
# | DDPM walks back by Langevin dynamics | ancestral sampling, alike | (c) |
# | the likelihood gives this loss | gives it with weights | lecture 04 |
# | the loss of the score for $k=0,\dots,T$ | $k=1,\dots,T$ | $1-\bar\alpha_0=0$: no score |
# | DDIM's forward process is DDPM's | its $q(x_t\mid x_0)$ are | lecture 07 |
# | DDPM is of 2019, DDIM of 2022 | June and October 2020 | arXiv 2006, 2010 |
# %% [markdown]
# (a) $\beta_t$ is a variance. With $\beta_t$ as the factor of the noise the cloud shrinks to a
# seventh of its width. (b) Over all data the mean is the score of a single Gaussian. (c) The score
# has the factor $\beta_t$, not $\beta_t/2$, and each step aims at another density. Langevin
# dynamics with learned scores is Song and Ermon's, of 2019.
# %%
variance = 1.0
for beta in schedule.beta[1:].tolist():
    variance = (1 - beta) * variance + beta**2  # with beta in place of its root
print(f"variance after 1000 wrong steps: {variance:.3f}; it should be 1")

at, where = 300, torch.tensor([[0.5]], dtype=torch.float64)
law = de.q_marginal(line.sample(100_000, g), at, schedule)
wrong = ((law.mean - where) / law.var).mean()
print(f"mean over all data {wrong:.2f}, score {line.score(where, at).item():.2f}")
# %% [markdown]
# ## Think
#
# 1. Multiply a density by 7. What happens to its score? What does that say about Langevin dynamics
#    and the share of each mode?
# 2. The exact score of a finite data set is known too (`de.EmpiricalOracle`). Why would a sampler
#    with that score be useless, and what saves the network from finding it?
# 3. Leave the noise out of the reverse SDE, but keep its whole score. What do the samples look
#    like?
# 4. You may spend 20 calls of the network. DDIM, Heun, or DDPM?
# %% [markdown] tags=["answer"]
# 1. Nothing: the factor is a constant in the logarithm. Between well separated modes the score
#    carries hardly any trace of their weights, so a short walk cannot get the shares right.
# 2. It would return the training data. The loss does not save us: that score is its minimum. A
#    network of limited size, trained for a limited time, is too smooth to reach it where the noise
#    is low and the score steep.
# 3. The score pulls twice as hard as in the ODE, and nothing spreads: points gather in small clumps,
#    much narrower than the modes. (With the eight Gaussians the clumps also lie a little nearer to
#    the middle of the ring.)
# 4. With Heun that is 10 steps: in the picture of errors about as good as 20 of DDIM, and worse
#    than 20 of Euler in $t$. A higher order pays with many steps. DDPM needs hundreds.
# %% [markdown]
# **Exercise E9**, parts 1 to 3: `score_from_eps`, `gmm_score`, `langevin_step`
# ([notebook](exercises/E9_scores_guidance_and_a_verdict.ipynb)).
# %% [markdown] tags=["notation"]
# t s x0 xt eps eps_theta z beta alpha alpha_bar sigma q score
