"""Samplers: trajectories, generators, the papers' names."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import sine_net as net
from strategies import POSITIVE, SCHEDULES, schedule_of

from diffusion_edu import sampling, schedules
from diffusion_edu.prediction import predict
from diffusion_edu.sampling import reverse_step, sample, timesteps


def final(steps):
    *_, last = steps
    return last.x_s


def close(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# ---- trajectories -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize(
    "options", [{}, {"eta": 0.4}, {"eta": 1.0}, {"variance": "large"}, {"clip": 1.0, "eta": 0.4}]
)
def test_sample_is_a_chain_of_reverse_steps(name, options, randn):
    """Every Step: (eps, x0) from the model at x_t, x_s = reverse_step, x_s the next x_t."""
    schedule, x, z = schedule_of(name, 20), randn(3, 2), randn(20, 3, 2)
    steps = list(sample(net, x, schedule, 8, noise=lambda i, like: z[i], **options))
    assert [(a.t, a.s) for a in steps] == list(pairwise(timesteps(20, 8).tolist()))
    assert steps[0].x_t is x
    step_options = {k: v for k, v in options.items() if k != "clip"}
    for i, step in enumerate(steps):
        if "clip" not in options:
            truth = predict(
                "eps", net(step.x_t, torch.full((3,), step.t)), step.x_t, step.t, schedule
            )
            close(step.eps, truth.eps)
            torch.testing.assert_close(step.x0, truth.x0, rtol=1e-9, atol=1e-6)
        x_s = reverse_step(step.x0, step.eps, step.t, step.s, schedule, z=z[i], **step_options)
        close(step.x_s, x_s)
        if i + 1 < len(steps):
            assert steps[i + 1].x_t.equal(step.x_s)


@pytest.mark.parametrize("name", POSITIVE)
def test_clipping_keeps_the_pair_consistent(name, randn):
    """With clip, x0 stays in bounds and x_t = a x0 + b eps still holds in every step."""
    schedule, x = schedule_of(name, 50), 3 * randn(5, 2)
    for clip, low, high in ((1.0, -1, 1), ((-0.5, 2.0), -0.5, 2.0)):
        touched = False
        for step in sample(net, x, schedule, 10, clip=clip):
            assert step.x0.min() >= low
            assert step.x0.max() <= high
            touched |= bool((step.x0 == low).any() | (step.x0 == high).any())
            alpha_bar = schedule.alpha_bar[step.t]
            close(alpha_bar.sqrt() * step.x0 + (1 - alpha_bar).sqrt() * step.eps, step.x_t)
        assert touched  # else this test clips nothing


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_all_kinds_of_model_walk_the_same_path(eta, randn):
    """A network read as eps, x0, v or score gives the same trajectory."""
    schedule, x, z = schedules.linear(30), randn(4, 2), randn(4, 2)

    def as_kind(kind):
        def model(x_t, t):
            return getattr(predict("eps", net(x_t, t), x_t, t, schedule), kind)

        options = {"eta": eta, "kind": kind, "noise": lambda i, like: z}
        return [step.x_s for step in sample(model, x, schedule, 10, **options)]

    expected = as_kind("eps")
    for kind in ("x0", "v", "score"):
        for a, b in zip(as_kind(kind), expected, strict=True):
            close(a, b, 1e-8)


@pytest.mark.parametrize("name", ["jsd", "zero_terminal_snr"])
def test_pure_noise_is_a_fine_start_for_x0_and_v(name, randn):
    """alpha_bar_T = 0: a model that knows x0 (as x0 or v) ends at it from any noise."""
    schedule, x0, x = schedule_of(name, 12), randn(3, 2), randn(3, 2)
    models = {
        "x0": lambda x_t, t: x0,
        "v": lambda x_t, t: predict("x0", x0, x_t, t, schedule).v,
    }
    for kind, model in models.items():
        for eta in (0.0, 1.0):
            g = torch.Generator().manual_seed(0)
            close(final(sample(model, x, schedule, kind=kind, eta=eta, generator=g)), x0)


def test_taus_of_every_form(randn):
    """taus as None, int, list, range and tensor are the levels they stand for."""
    schedule, x = schedules.linear(12), randn(2, 2)
    everything = final(sample(net, x, schedule))
    for taus in (12, range(12, -1, -1), list(range(12, -1, -1)), timesteps(12, 12)):
        assert final(sample(net, x, schedule, taus)).equal(everything)
    assert final(sample(net, x, schedule, [12, 8, 4, 0])).equal(final(sample(net, x, schedule, 3)))


@given(st.integers(1, 29), st.floats(0, 1))
def test_partial_chains_compose(k, eta):
    """T -> k, then k -> 0, is T -> 0: a chain may start below T and stop above 0."""
    schedule, g = schedules.cosine(30), torch.Generator().manual_seed(k)
    x, z = torch.randn(2, 3, 2, generator=g, dtype=torch.float64)
    options = {"eta": eta, "noise": lambda i, like: z}
    middle = final(sample(net, x, schedule, range(30, k - 1, -1), **options))
    end = final(sample(net, middle, schedule, range(k, -1, -1), **options))
    close(end, final(sample(net, x, schedule, **options)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", SCHEDULES)
def test_any_shape_any_schedule(name, dtype, generator):
    """Samples are finite, of x_T's shape and dtype, for points and images and every schedule."""
    for shape in ((2, 2), (3, 1, 8, 8), (3, 3, 8, 8)):
        x = torch.randn(shape, generator=generator, dtype=dtype)
        steps = sample(net, x, schedule_of(name, 25), 6, kind="v", eta=0.5, generator=generator)
        x_0 = final(steps)
        assert x_0.shape == x.shape
        assert x_0.dtype == dtype
        assert x_0.isfinite().all()


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "score"])
def test_a_network_in_half_precision_leaves_the_state_as_it_was(kind, randn):
    """Under autocast a network answers in bfloat16; the chain stays in float32, step by step."""
    schedule, x_T = schedules.linear(20), randn(4, 2, dtype=torch.float32)
    walk = sample(lambda x, t: net(x, t).bfloat16(), x_T, schedule, 5, eta=0.0, kind=kind)
    for step in walk:
        assert {x.dtype for x in (step.eps, step.x0, step.x_s)} == {torch.float32}
        expected = reverse_step(step.x0, step.eps, step.t, step.s, schedule)
        torch.testing.assert_close(step.x_s, expected, rtol=1e-5, atol=1e-5)


def test_the_network_is_asked_with_int64_batches(randn):
    """model(x_t (B, *D), t (B,) int64): one call a step, t in 1..T, never 0."""
    seen = []

    def spy(x_t, t):
        assert t.shape == (3,)
        assert t.dtype == torch.int64
        seen.append(t.unique().item())
        return x_t

    final(sample(spy, randn(3, 2), schedules.linear(10), 5))
    assert seen == [10, 8, 6, 4, 2]


# ---- generators: lazy, and gradients ------------------------------------------------------------


def counting(calls):
    def model(x_t, t):
        calls.append(int(t[0]))
        return net(x_t, t)

    return model


def test_sampling_is_lazy(randn):
    """No network call before the first next(), and one per step after that."""
    calls = []
    steps = sample(counting(calls), randn(2, 2), schedules.linear(10))
    assert calls == []
    assert next(steps).t == 10
    assert calls == [10]
    next(steps)
    assert calls == [10, 9]


@pytest.mark.parametrize("start", [sample, sampling.invert])
def test_no_grad_stays_inside_the_generator(start, randn):
    """The samplers build no graph, and between their steps the caller's gradients are on."""
    weight = torch.nn.Parameter(torch.tensor(0.5, dtype=torch.float64))
    steps = start(lambda x, t: weight * x, randn(2, 2), schedules.linear(4))
    assert torch.is_grad_enabled()
    for step in steps:
        assert torch.is_grad_enabled()
        assert not any(v.requires_grad for v in (step.eps, step.x0, step.x_s))
        (weight * step.x_s.sum()).backward()
    assert torch.is_grad_enabled()
    assert weight.grad is not None


def test_an_abandoned_generator_leaves_gradients_on(randn):
    """Closing a sampler half way does not leave torch in no_grad mode."""
    steps = sample(net, randn(2, 2), schedules.linear(4))
    next(steps)
    steps.close()
    assert torch.is_grad_enabled()


# ---- the papers' names --------------------------------------------------------------------------


def test_ddpm_and_ddim_are_sample(randn):
    """ddpm: eta = 1, or "large"; ddim: eta on spaced levels; the same generator, the same x_0."""
    schedule, x = schedules.linear(60), randn(3, 2)

    def g():
        return torch.Generator().manual_seed(1)

    for sigma2, variance in (("beta", "large"), ("beta_tilde", "eta")):
        got = sampling.ddpm(net, x, schedule, sigma2=sigma2, generator=g())
        expected = final(sample(net, x, schedule, eta=1.0, variance=variance, generator=g()))
        assert got.equal(expected)
    for spacing in ("uniform", "quadratic", "trailing", "leading"):
        taus = timesteps(60, 7, spacing)
        got = sampling.ddim(net, x, schedule, 7, eta=0.3, spacing=spacing, generator=g())
        assert got.equal(final(sample(net, x, schedule, taus, eta=0.3, generator=g())))
    assert sampling.ddim(net, x, schedule).equal(final(sample(net, x, schedule, 50)))


def test_ddim_of_gaussian_data_has_the_right_spread(gaussian_denoiser):
    """Exact denoiser of N(0.3, 0.25): DDIM maps N(0, 1) affinely to N(0.3, 0.25) as S grows."""
    schedule = schedules.linear(1000)
    model = gaussian_denoiser(schedule, 0.3, 0.25)
    x = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    errors = []
    for steps in (10, 100, 1000):
        low, middle, high = sampling.ddim(model, x, schedule, steps).flatten().tolist()
        assert high - middle == pytest.approx(middle - low)  # affine
        errors.append(abs((high - low) / 2 - 0.5) + abs(middle - 0.3))
    assert errors[2] < 0.02
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_ddpm_of_gaussian_data_has_the_right_moments(gaussian_denoiser, generator):
    """Exact denoiser of N(0.3, 0.25), all T steps: mean and variance of 20,000 samples."""
    schedule, n = schedules.linear(200), 20_000
    model = gaussian_denoiser(schedule, 0.3, 0.25)
    x = torch.randn(n, 1, generator=generator, dtype=torch.float64)
    x_0 = sampling.ddpm(model, x, schedule, generator=generator)
    assert abs(x_0.mean() - 0.3) < 5 * 0.5 / n**0.5 + 0.005  # + what T = 200 leaves of x_T
    assert abs(x_0.var() / 0.25 - 1) < 5 * (2 / n) ** 0.5 + 0.02


def test_progressive_x0_are_the_predictions_of_the_chain(randn):
    """(steps, B, *D), the x0 of every Step; the last one is the sample itself when s = 0."""
    schedule, x = schedules.linear(20), randn(3, 1, 2, 2)
    got = sampling.progressive_x0(net, x, schedule, 5)
    steps = list(sample(net, x, schedule, 5))
    assert got.shape == (5, 3, 1, 2, 2)
    assert got.equal(torch.stack([step.x0 for step in steps]))
    close(got[-1], steps[-1].x_s)


def test_samples_from_one_frozen_state(randn, generator):
    """(n, *D) from one x_t: different draws, except from t = 1, where nothing is left to decide."""
    schedule, x_t = schedules.linear(20), randn(1, 2, 2)
    many = sampling.from_frozen(net, x_t, 20, 6, schedule, generator=generator)
    assert many.shape == (6, 1, 2, 2)
    assert torch.pdist(many.flatten(1)).min() > 1e-3
    one = sampling.from_frozen(net, x_t, 1, 6, schedule, generator=generator)
    assert one.std(0).max() < 1e-12


def test_a_frozen_state_is_sampled_level_by_level(randn):
    """from_frozen = n copies of x_t, then every level t, t-1, ..., 0 with eta = 1."""
    schedule, x_t, g = schedules.linear(20), randn(2), torch.Generator().manual_seed(3)
    expected = final(
        sample(net, x_t.expand(6, 2), schedule, range(9, -1, -1), eta=1.0, generator=g)
    )
    got = sampling.from_frozen(net, x_t, 9, 6, schedule, generator=g.manual_seed(3))
    assert got.equal(expected)
    one = sampling.from_frozen(net, x_t, 9, 1, schedule, generator=g.manual_seed(3))
    assert one.shape == (1, 2)


def test_frozen_states_share_more_the_later_they_freeze(gaussian_denoiser, generator):
    """The variance of x_0 given x_t is that of Bayes: v(1-ab)/(ab v + 1-ab), within 10 percent."""
    schedule, v = schedules.linear(200), 0.25
    model = gaussian_denoiser(schedule, 0.3, v)
    x_t = torch.tensor([0.2], dtype=torch.float64)
    for t in (20, 60, 120, 200):
        draws = sampling.from_frozen(
            model, x_t, t, 5000, schedule, generator=generator, variance="large"
        )
        noise = 1 - schedule.alpha_bar[t]
        expected = v * noise / (schedule.alpha_bar[t] * v + noise)
        assert draws.var().item() == pytest.approx(expected.item(), rel=0.1)


def test_shared_noise_keeps_copies_together(randn, generator):
    """Equal x_T and shared noise for k steps: rows agree after k steps and differ after k + 1."""
    schedule, k = schedules.linear(10), 4
    x = randn(1, 2).expand(5, 2)
    noise = sampling.shared_noise(k, generator)
    for i, step in enumerate(sample(net, x, schedule, eta=1.0, noise=noise)):
        spread = step.x_s.std(0).max()
        assert (spread < 1e-12) == (i < k)


def test_same_generator_same_samples(randn):
    """Equal seeds, equal samples; other seeds, other samples; the global state is not touched."""
    schedule, x = schedules.linear(10), randn(3, 2)
    before = torch.get_rng_state()
    a, b, c = (
        sampling.ddpm(net, x, schedule, generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert a.equal(b)
    assert not a.equal(c)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    "call",
    [
        lambda x, s, **o: sampling.ddpm(net, x, s, **o),
        lambda x, s, **o: sampling.ddim(net, x, s, **o),
        lambda x, s, **o: sampling.progressive_x0(net, x, s, **o),
        lambda x, s, **o: sampling.from_frozen(net, x[0], 7, 4, s, **o),
        lambda x, s, **o: sampling.interpolate(net, x, -x + 1, [0.3], s, **o),
        lambda x, s, **o: sampling.interpolate_ddpm(net, x, -x + 1, [0.3], 7, s, **o),
    ],
    ids=["ddpm", "ddim", "progressive_x0", "from_frozen", "interpolate", "interpolate_ddpm"],
)
def test_options_reach_the_sampler(call, randn):
    """clip bounds what every sampler returns: a last step ends at the clipped x0."""
    schedule, x = schedules.linear(10), 3 * randn(4, 2)
    assert call(x, schedule).abs().max() > 0.1
    assert call(x, schedule, clip=0.1).abs().max() <= 0.1 + 1e-12


@pytest.mark.parametrize(
    "call",
    [
        lambda x, s, g: sampling.from_frozen(net, x[0], 7, 4, s, generator=g),
        lambda x, s, g: sampling.interpolate_ddpm(net, x, -x, [0.3], 7, s, generator=g),
        lambda x, s, g: sampling.interpolate_ddpm(net, x, -x, [0.3], 1, s, generator=g),
    ],
    ids=["from_frozen", "interpolate_ddpm", "interpolate_ddpm, level 1"],
)
def test_other_samplers_draw_from_their_generator(call, randn):
    """Equal seeds, equal samples; other seeds, other samples; the global state is not touched."""
    schedule, x, before = schedules.linear(10), randn(3, 2), torch.get_rng_state()
    a, b, c = (call(x, schedule, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert a.equal(b)
    assert not a.equal(c)
    assert torch.get_rng_state().equal(before)


def test_samplers_on_the_device(device):
    """Everything runs where x_T is, with a generator of the CPU or of the device."""
    schedule = schedules.linear(10)
    x = torch.ones(3, 2, device=device)
    for place in {"cpu", device}:
        g = torch.Generator(place).manual_seed(0)
        assert sampling.ddpm(net, x, schedule, generator=g).device == x.device
    assert sampling.reconstruct(net, x, schedule, 5).device == x.device
    assert sampling.interpolate(net, x, -x, [0.2], schedule, 5).device == x.device
    t, s = torch.tensor([2, 5, 10], device=device), torch.tensor([1, 1, 4], device=device)
    assert reverse_step(x, x, t, s, schedule, eta=0.5, z=x).device == x.device


def test_examples_of_a_batch_do_not_mix():
    """A batch is its rows, one by one: no example sees another."""
    schedule = schedules.cosine(15)
    x = torch.tensor([[3.0, -1.0], [0.2, 0.4], [-2.0, 1.0]], dtype=torch.float64)
    together = final(sample(net, x, schedule))
    alone = torch.cat([final(sample(net, row[None], schedule)) for row in x])
    close(together, alone)
