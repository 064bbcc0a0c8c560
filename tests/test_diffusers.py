"""Equality with the schedulers of the diffusers package, and where it is diffusers that errs.

Their timestep k = t - 1 counts from 0. Networks get the same x and the same noise on both sides, so
any difference is one of formulas. Where the two differ, an identity that knows neither of them
decides: the docstrings say which one is right. Tests of that kind say "differs": they assert only
that *this* library satisfies the identity, and report a diffusers that has been mended as a pass.
"""

import inspect

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from strategies import POSITIVE, schedule_of

from diffusion_edu import sampling, schedules
from diffusion_edu.forward import q_marginal
from diffusion_edu.posterior import q_posterior
from diffusion_edu.prediction import predict
from diffusion_edu.sampling import sample

T = 1000
LINEAR = schedules.linear(T)


def net(x_t, t):
    """A fixed nonlinear network in this library's time, 1..T."""
    return 0.9 * x_t + 0.3 * (x_t + t.view(-1, *[1] * (x_t.ndim - 1)).to(x_t) / 300).sin()


def make(cls, schedule=LINEAR, exact=False, **config):
    """Their scheduler on our betas; exact=True gives it our float64 table for its float32."""
    scheduler = cls(
        num_train_timesteps=schedule.T,
        trained_betas=schedule.beta[1:].tolist(),
        **{"clip_sample": False, **config},
    )
    if exact:
        scheduler.alphas_cumprod = schedule.alpha_bar[1:].clone()
        scheduler.one = torch.ones((), dtype=torch.float64)
    return scheduler


def levels_of(scheduler):
    """Their timesteps as our levels: k + 1, and 0 at the end."""
    return [int(k) + 1 for k in scheduler.timesteps] + [0]


def theirs(scheduler, x, generator=None, model=net, **options):
    """Their whole sampling loop; returns every x on the way."""
    path = []
    for k in scheduler.timesteps:
        output = model(x, torch.full((len(x),), int(k) + 1))
        x = scheduler.step(output, int(k), x, generator=generator, **options).prev_sample
        path.append(x)
    return path


def seeded(seed=3):
    return torch.Generator().manual_seed(seed)


def start(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(0), dtype=dtype)


def assert_same_path(got, expected, tolerance=1e-8):
    """Relative to the size of each state, at every step; float32 needs a tolerance of 1e-5."""
    for step, x in zip(got, expected, strict=True):
        assert (step.x_s - x).abs().max() <= tolerance * max(1.0, x.abs().max().item())


# ---- where they are right: equality --------------------------------------------------------------


@pytest.mark.parametrize(("kind", "variance"), [("fixed_small", "eta"), ("fixed_large", "large")])
@pytest.mark.parametrize("shape", [(16, 2), (2, 1, 8, 8)])
def test_all_steps_of_ddpm(kind, variance, shape):
    """DDPM, all 1000 steps, beta_tilde and beta: the same path as DDPMScheduler."""
    scheduler = make(DDPMScheduler, exact=True, variance_type=kind)
    scheduler.set_timesteps(T)
    x = start(*shape)
    got = sample(net, x, LINEAR, eta=1.0, variance=variance, generator=seeded())
    assert_same_path(got, theirs(scheduler, x, seeded()))


@pytest.mark.parametrize(("kind", "variance"), [("fixed_small", "eta"), ("fixed_large", "large")])
@pytest.mark.parametrize("steps", [10, 50, 7, 30, 334])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddpm_on_fewer_steps(kind, variance, steps, spacing):
    """DDPM on respaced chains, S dividing T or not: DDPMScheduler's path, noise included.

    ("trailing" with "fixed_large" is compared up to the last step; see the test of final noise.)
    """
    scheduler = make(DDPMScheduler, exact=True, variance_type=kind, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    x, taus = start(8, 2), levels_of(scheduler)
    got = list(sample(net, x, LINEAR, taus, eta=1.0, variance=variance, generator=seeded()))
    expected = theirs(scheduler, x, seeded())
    if spacing == "trailing":
        got, expected = got[:-1], expected[:-1]
    assert_same_path(got, expected)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [10, 50, 7, 30, 334, 1000])
def test_ddim_leading(eta, steps):
    """DDIM, leading levels, S dividing T or not, eta = 0, .3, 1: DDIMScheduler's path.

    Their previous level is t - T // S, which on the leading grid is the next level.
    """
    scheduler = make(DDIMScheduler, exact=True, timestep_spacing="leading")
    scheduler.set_timesteps(steps)
    x, taus = start(8, 2), levels_of(scheduler)
    got = sample(net, x, LINEAR, taus, eta=eta, generator=seeded())
    assert_same_path(got, theirs(scheduler, x, seeded(), eta=eta))


@pytest.mark.parametrize("name", POSITIVE)
def test_any_schedule(name):
    """Whatever the betas: DDIM (eta = .3) and DDPM agree with theirs on every schedule, T = 60."""
    schedule, x = schedule_of(name, 60), start(8, 2)
    for cls, eta in ((DDIMScheduler, 0.3), (DDPMScheduler, 1.0)):
        scheduler = make(cls, schedule, exact=True)
        scheduler.set_timesteps(13)
        options = {"eta": eta} if cls is DDIMScheduler else {}
        got = sample(net, x, schedule, levels_of(scheduler), eta=eta, generator=seeded())
        assert_same_path(got, theirs(scheduler, x, seeded(), **options))


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [10, 50, 250, 1000])
def test_ddim_trailing_where_steps_divide_T(eta, steps):
    """DDIM, trailing levels, S dividing T: DDIMScheduler's path, on the levels of timesteps()."""
    scheduler = make(DDIMScheduler, exact=True, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    x = start(8, 2)
    assert levels_of(scheduler) == sampling.timesteps(T, steps, "trailing").tolist()
    got = sample(net, x, LINEAR, levels_of(scheduler), eta=eta, generator=seeded())
    assert_same_path(got, theirs(scheduler, x, seeded(), eta=eta))


@pytest.mark.parametrize("steps", [7, 30, 334, 999])
def test_trailing_levels_are_the_same_for_every_number_of_steps(steps):
    """timesteps(T, S, "trailing") = DDIMScheduler's trailing levels, S dividing T or not."""
    scheduler = make(DDIMScheduler, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    assert levels_of(scheduler) == sampling.timesteps(T, steps, "trailing").tolist()


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_as_it_comes_in_float32(eta):
    """Without any patching: their float32 tables and float32 data, 50 steps, still within 1e-5."""
    scheduler = make(DDIMScheduler)
    scheduler.set_timesteps(50)
    x, taus = start(16, 2, dtype=torch.float32), levels_of(scheduler)
    got = sample(net, x, LINEAR, taus, eta=eta, generator=seeded())
    assert_same_path(got, theirs(scheduler, x, seeded(), eta=eta), 1e-5)


@pytest.mark.parametrize(("kind", "variance"), [("fixed_small", "eta"), ("fixed_large", "large")])
def test_single_ddpm_steps_as_they_come(kind, variance):
    """Unpatched DDPMScheduler: one step from every 37th level, float32, <= 1e-5 of its size."""
    scheduler = make(DDPMScheduler, variance_type=kind)
    x = start(16, 2, dtype=torch.float32)
    for t in range(1, T + 1, 37):
        output = net(x, torch.full((16,), t))
        expected = scheduler.step(output, t - 1, x, generator=seeded()).prev_sample
        (step,) = sample(net, x, LINEAR, [t, t - 1], eta=1.0, variance=variance, generator=seeded())
        assert_same_path([step], [expected], 1e-5)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_clipping_with_eps_derived_anew(eta):
    """clip=1 is their clip_sample with use_clipped_model_output=True: the consistent pair."""
    scheduler = make(DDIMScheduler, exact=True, clip_sample=True)
    scheduler.set_timesteps(50)
    x, taus = 2 * start(8, 2), levels_of(scheduler)
    got = list(sample(net, x, LINEAR, taus, eta=eta, clip=1.0, generator=seeded()))
    expected = theirs(scheduler, x, seeded(), eta=eta, use_clipped_model_output=True)
    assert_same_path(got, expected)
    plain = list(sample(net, x, LINEAR, taus, eta=eta, generator=seeded()))
    moved = max((a.x_s - b.x_s).abs().max() for a, b in zip(got, plain, strict=True))
    assert moved > 0.1  # it did clip


@pytest.mark.parametrize(("kind", "variance"), [("fixed_small", "eta"), ("fixed_large", "large")])
def test_clipped_ddpm(kind, variance):
    """clip=1 equals DDPMScheduler with clip_sample=True, whose mean is made from x0 and x_t."""
    scheduler = make(DDPMScheduler, exact=True, clip_sample=True, variance_type=kind)
    scheduler.set_timesteps(100)
    x, taus = 2 * start(8, 2), levels_of(scheduler)
    got = sample(net, x, LINEAR, taus, eta=1.0, variance=variance, clip=1.0, generator=seeded())
    assert_same_path(got, theirs(scheduler, x, seeded()))


@pytest.mark.parametrize(("ours", "name"), [("v", "v_prediction"), ("x0", "sample")])
def test_v_and_x0_prediction(ours, name):
    """kind="v" and kind="x0" are their v_prediction and sample, DDIM and DDPM alike."""
    x = start(8, 2)
    for cls, eta in ((DDIMScheduler, 0.3), (DDPMScheduler, 1.0)):
        scheduler = make(cls, exact=True, prediction_type=name, timestep_spacing="leading")
        scheduler.set_timesteps(20)
        options = {"eta": eta} if cls is DDIMScheduler else {}
        taus = levels_of(scheduler)
        got = sample(net, x, LINEAR, taus, eta=eta, kind=ours, generator=seeded())
        assert_same_path(got, theirs(scheduler, x, seeded(), **options))


def test_v_target():
    """v of predict = get_velocity: sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0."""
    scheduler = make(DDPMScheduler, exact=True)
    x0, eps = start(2, 10, 3)
    t = torch.arange(1, 1000, 100)
    x_t = scheduler.add_noise(x0, eps, t - 1)
    v = predict("x0", x0, x_t, t, LINEAR).v
    torch.testing.assert_close(v, scheduler.get_velocity(x0, eps, t - 1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("length", [10, 100, 1000])
def test_cosine_betas(length):
    """cosine(T) has the betas of squaredcos_cap_v2."""
    betas = DDPMScheduler(length, beta_schedule="squaredcos_cap_v2").betas
    torch.testing.assert_close(
        schedules.cosine(length).beta[1:], betas.double(), rtol=1e-6, atol=1e-7
    )


def test_linear_betas():
    """linear(1000) has the betas of their default "linear"."""
    betas = DDPMScheduler(1000).betas
    torch.testing.assert_close(LINEAR.beta[1:], betas.double(), rtol=1e-6, atol=1e-9)


def test_sigmoid_betas():
    """sigmoid(T, beta_1, beta_T) has the betas of their "sigmoid" (GeoDiff)."""
    betas = DDPMScheduler(500, beta_schedule="sigmoid", beta_start=1e-4, beta_end=0.02).betas
    ours = schedules.sigmoid(500, 1e-4, 0.02).beta[1:]
    torch.testing.assert_close(ours, betas.double(), rtol=1e-5, atol=1e-9)


def test_zero_terminal_snr_betas():
    """zero_terminal_snr has the betas of rescale_zero_terminal_snr (float32 tolerance)."""
    scheduler = make(DDIMScheduler, rescale_betas_zero_snr=True)
    ours = schedules.zero_terminal_snr(LINEAR)
    torch.testing.assert_close(ours.beta[1:], scheduler.betas.double(), rtol=0, atol=2e-4)
    torch.testing.assert_close(
        ours.alpha_bar[1:], scheduler.alphas_cumprod.double(), rtol=0, atol=1e-5
    )


# ---- where they differ: which of the two is right ------------------------------------------------


def test_clipping_alone_differs():
    """eta = 1, s = t-1 with clipping is DDPM's posterior: ours always, theirs only on request.

    By default DDIMScheduler clamps x0 and keeps the old eps, so x_t = a x0 + b eps no longer holds
    and its eta = 1 is not DDPM. The judge is q_posterior(x_t, clamped x0), Bayes' rule.
    """
    scheduler = make(DDIMScheduler, exact=True, clip_sample=True)
    scheduler.set_timesteps(T)
    x, z, t = 3 * start(64, 2), start(64, 2).flip(0), 500
    x0 = predict("eps", net(x, torch.full((64,), t)), x, t, LINEAR).x0.clamp(-1, 1)
    bayes = q_posterior(x, x0, t, LINEAR).sample(z)
    (step,) = sample(net, x, LINEAR, [t, t - 1], eta=1.0, clip=1.0, noise=lambda i, like: z)
    assert (step.x_s - bayes).abs().max() < 1e-9
    output = net(x, torch.full((64,), t))
    fixed, default = (
        scheduler.step(
            output, t - 1, x, eta=1.0, variance_noise=z, use_clipped_model_output=flag
        ).prev_sample
        for flag in (True, False)
    )
    assert (fixed - bayes).abs().max() < 1e-5
    if (default - bayes).abs().max() < 1e-5:
        pytest.skip("this diffusers derives eps anew by default: the deviation is gone")


def test_clipping_by_default_differs():
    """Data beyond [-1, 1] must be reachable: ours does not clip unless asked, theirs does.

    The judge is a model that knows the data point (2.5, -1.7): sampling must end there.
    """
    point = torch.tensor([[2.5, -1.7]], dtype=torch.float64)

    def knows(x_t, t):
        return predict("x0", point.expand_as(x_t), x_t, int(t[0]), LINEAR).eps

    x = start(4, 2)
    assert (sampling.ddim(knows, x, LINEAR, 20) - point).abs().max() < 1e-9
    assert inspect.signature(sample).parameters["clip"].default is None
    scheduler = DDIMScheduler(T, beta_start=1e-4, beta_end=0.02)
    scheduler.set_timesteps(20)
    end = theirs(scheduler, x, model=knows)[-1]
    if scheduler.config.clip_sample:
        assert end.abs().max() <= 1 + 1e-5


@pytest.mark.parametrize(("spacing", "steps"), [("linspace", 10), ("trailing", 7)])
def test_the_previous_level_of_ddim_differs(spacing, steps):
    """A step must end at the level where the next one starts: ours does, theirs need not.

    DDIMScheduler *computes* t - T // S instead of looking the next level up. On "linspace", and on
    "trailing" where S does not divide T, the state is then at another level than the one the
    network is told. The judge is a model that knows x0: from x_t = a_t x0 + b_t eps the state at
    the next level must be a_s x0 + b_s eps, the same eps.
    """
    x0, eps = start(2, 16, 2)

    def knows(x_t, t):
        return eps

    scheduler = make(DDIMScheduler, exact=True, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    taus = levels_of(scheduler)
    alpha_bar = LINEAR.alpha_bar
    x = alpha_bar[taus[0]].sqrt() * x0 + (1 - alpha_bar[taus[0]]).sqrt() * eps
    truth = [alpha_bar[s].sqrt() * x0 + (1 - alpha_bar[s]).sqrt() * eps for s in taus[1:]]
    assert_same_path(sample(knows, x, LINEAR, taus), truth, 1e-9)
    off = [
        (a - b).abs().max().item()
        for a, b in zip(theirs(scheduler, x, model=knows), truth, strict=True)
    ]
    if max(off) < 1e-5:
        pytest.skip("this diffusers looks the previous level up: the deviation is gone")
    assert max(off) > 1e-3


def test_noise_on_the_final_image_differs():
    """The last step ends at level 0, where q has no variance: ours adds none, theirs may.

    DDPMScheduler guards with t > 0 instead of s > 0. On trailing levels the last step leaves from
    k = 19, so "fixed_large" adds noise of standard deviation 0.0747 to the finished sample. The
    judge is a model that knows x0: q_marginal(x0, 0) is the point mass at x0.
    """
    x0 = start(20_000, 1)

    def knows(x_t, t):
        return predict("x0", x0, x_t, int(t[0]), LINEAR).eps

    x = start(20_000, 1).flip(0)
    assert (q_marginal(x0, 0, LINEAR).var == 0).all()
    end = sampling.ddim(
        knows, x, LINEAR, 50, spacing="trailing", variance="large", generator=seeded()
    )
    assert (end - x0).abs().max() < 1e-9
    scheduler = make(
        DDPMScheduler, exact=True, variance_type="fixed_large", timestep_spacing="trailing"
    )
    scheduler.set_timesteps(50)
    noise = (theirs(scheduler, x, seeded(), model=knows)[-1] - x0).std().item()
    if noise < 1e-5:
        pytest.skip("this diffusers adds no noise at the last step: the deviation is gone")
    assert noise == pytest.approx((1 - LINEAR.alpha_bar[20].item()) ** 0.5, rel=0.02)


def test_fixed_large_log_differs():
    """DDPM with sigma^2 = beta is finite at every step: ours is, their fixed_large_log is NaN.

    Their "fixed_large_log" takes the square root of a log-variance, which is negative. The judge
    is their own fixed_large, which means the same variance.
    """
    x, t = start(4, 2), 500
    output = net(x, torch.full((4,), t))
    plain, log = (
        make(DDPMScheduler, exact=True, variance_type=kind)
        .step(output, t - 1, x, generator=seeded())
        .prev_sample
        for kind in ("fixed_large", "fixed_large_log")
    )
    (step,) = sample(net, x, LINEAR, [t, t - 1], variance="large", generator=seeded())
    assert (step.x_s - plain).abs().max() < 1e-9
    if (log - plain).abs().max() < 1e-5:
        pytest.skip("this diffusers has mended fixed_large_log: the deviation is gone")
    assert log.isnan().all()
