# %% [markdown]
# # A tour of diffusion, in pictures
#
# A diffusion model learns to make pictures by learning to *remove noise*. This tour shows the whole
# idea in a few short cells, without a single formula.
#
# Run all the cells (in the menu: *Run*, then *Run All Cells*), then play with the sliders. Nothing
# here can break: **Reset** brings every picture back.

# %%
import torch

import diffusion_edu as de

de.__version__

# %% [markdown]
# ## 1. Destroying data is easy
#
# Below are 2,000 points that form a spiral (a "swiss roll"). At every step each point is pulled a
# little towards the middle and pushed a little at random. After enough steps nothing of the spiral
# is left: a round cloud of pure noise.
#
# Press the pause button, then drag **t** or use the arrow keys. The small chart shows how much of
# the spiral and how much noise each picture holds.

# %%
forward = de.ForwardExplorer("swiss_roll", play=True)
forward

# %% [markdown]
# Things to try:
#
# - Choose other data. Can you still tell the sets apart halfway? At the end?
# - Make **steps T** small, or the steps stronger (**beta_T**). When does the cloud look finished?
# - The colours only remember in which quarter of the plane a point began.

# %% [markdown]
# ## 2. The same with pictures
#
# A picture is also a point, only with more coordinates: these digits have 64 each. The recipe is
# exactly the same. Drag **t** and watch for the moment when you can no longer read them. Which
# digits survive longest?

# %%
digits = de.ForwardExplorer("digits", schedule="cosine", t=25)
digits

# %% [markdown]
# ## 3. Undoing it is the clever part
#
# Nobody can tell which way a single point was pushed. But a small neural network that has seen many
# noisy spirals can make a good guess of *which part is noise*. Take a little of that guess away,
# and repeat. Here 2,000 points start as pure noise, and in twenty steps the network walks them
# home. The grey dots behind are the goal.

# %%
reverse = de.ReverseExplorer("swiss_roll", steps=20, play=True)
reverse

# %% [markdown]
# Drag **t**, or press play. Then try:
#
# - **steps**: with two steps the result is poor. How many are enough?
# - **eta**: at 0 the walk is fixed by its start; at 1 fresh noise is added on the way. The start is
#   the same, so you see just what the new noise does.
# - **prediction**: shows where the network expects each point to end up.
# - **denoiser**: compare the trained network with the exact answer.

# %% [markdown]
# ## 4. New digits, out of noise
#
# The walk home works for pictures too. A larger network has seen 60,000 handwritten digits with all
# kinds of noise on them. Here it is told which digit we want, 0 to 9, and takes the noise away in
# fifty steps, adding a little fresh noise on the way. Nobody wrote the digits in the last row:
# change the number in `manual_seed`, and other hands write them.

# %% tags=["cover"]
from diffusion_edu.viz import plots

model, schedule, info = de.pretrained("mnist")
random = torch.Generator().manual_seed(1)
noise = torch.randn(10, *info.shape, generator=random)
wanted = de.guided(model, torch.arange(10))
walk = list(de.sample(wanted, noise, schedule, 50, eta=1.0, clip=1.0, generator=random))
rows = [noise, walk[24].x_s, walk[34].x_s, walk[-1].x_s]
plots.strip(torch.stack(rows), rows=["noise", "25 steps", "35 steps", "50 steps"])

# %% [markdown]
# ## 5. Your own function, on the same slider
#
# The explorers accept *your* code and draw it beside the reference. This little function mixes a
# picture with noise: all data at first, all noise at the end, in a straight line between. It looks
# reasonable, but is it the same?


# %%
def my_noise(x0, t, eps, schedule):
    share = t / schedule.T
    return (1 - share) * x0 + share * eps


mine = de.ForwardExplorer("swiss_roll", q_sample=my_noise, t=100)
mine

# %% [markdown]
# Look at the middle of the slider: your cloud is smaller. Half of one thing plus half of an
# unrelated one has less spread than either. The real recipe makes up for that. (Curious? Replace
# the two shares by their square roots, run the cell again, and compare the two clouds. If your code
# has a mistake, the message appears under the picture.)
#
# ## 6. Sliders are variables
#
# Every slider is also an attribute of its explorer, and every picture an array. Drag a slider in
# section 3, then run the next cell again. After that, write `reverse.steps = 5` as its first line
# and watch the picture change.

# %%
print(reverse.steps, "steps, eta", reverse.eta, ", now at t =", reverse.t)
print("pictures, points, coordinates:", tuple(reverse.frames.shape))

# %% [markdown]
# With twenty steps there are 21 pictures: the noise, and one after each step.

# %% [markdown]
# ## Where to go next
#
# Eleven lectures take these pictures apart, formula by formula, line by line. An exercise checks
# your own functions and names the mistake; E9 belongs to the last three lectures.
#
# - [01 Noise, one step at a time](01_forward_process.ipynb),
#   [E1](exercises/E1_one_step_of_noise_at_a_time.ipynb)
# - [02 Jump to any t](02_jump_to_any_t.ipynb),
#   [E2](exercises/E2_jump_to_any_t.ipynb)
# - [03 One step back, by Bayes' rule](03_posterior.ipynb),
#   [E3](exercises/E3_walk_back_with_bayes.ipynb)
# - [04 From the likelihood to a loss](04_elbo.ipynb),
#   [E4](exercises/E4_from_the_bound_to_the_loss.ipynb)
# - [05 Train a noise predictor](05_training.ipynb),
#   [E5](exercises/E5_learn_to_see_the_noise.ipynb)
# - [06 Walk back: DDPM](06_ddpm_sampling.ipynb),
#   [E6](exercises/E6_walk_back_without_the_answer.ipynb)
# - [07 Fewer steps: DDIM](07_ddim.ipynb),
#   [E7](exercises/E7_fewer_steps_less_noise.ipynb)
# - [08 There and back again](08_inversion_and_interpolation.ipynb),
#   [E8](exercises/E8_there_and_back_again.ipynb)
# - [09 Scores, and time without steps](09_scores.ipynb)
# - [10 Images, and what they should show](10_images_and_guidance.ipynb)
# - [11 Is it any good?](11_evaluation.ipynb),
#   [E9](exercises/E9_scores_guidance_and_a_verdict.ipynb)

# %% [markdown]
# To look around first:
#
# - `help(de.ForwardExplorer)` and `help(de.ReverseExplorer)` list everything these pictures can
#   show.
# - `de.q_sample`, `de.predict` and `de.sample` are the three functions behind them. Each is a few
#   lines long: read one with `de.q_sample??`.
# - In a terminal, `diffusion-edu train --recipe swiss_roll` trains the network of section 3.
#
# *Text: CC BY 4.0. Code: MIT.*
