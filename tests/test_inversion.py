"""What determinism buys: inversion, reconstruction and interpolation."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from networks import sine_net as net

from diffusion_edu import sampling, schedules
from diffusion_edu.forward import q_sample
from diffusion_edu.prediction import predict
from diffusion_edu.sampling import sample


def final(steps):
    *_, last = steps
    return last.x_s


def close(a, b, tolerance=1e-9):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# ---- inversion ----------------------------------------------------------------------------------


def test_inversion_walks_the_levels_upwards(randn):
    """The levels of taus in reverse; s > t; x_s = a_s x0 + b_s eps; starts at the data."""
    schedule, x0 = schedules.linear(20), randn(3, 2)
    steps = list(sampling.invert(net, x0, schedule, 5))
    assert [(step.t, step.s) for step in steps] == list(pairwise([0, 4, 8, 12, 16, 20]))
    assert steps[0].x_t.equal(x0)
    for step in steps:
        alpha_bar = schedule.alpha_bar[step.s]
        close(step.x_s, alpha_bar.sqrt() * step.x0 + (1 - alpha_bar).sqrt() * step.eps)


@pytest.mark.parametrize("kind", ["eps", "x0", "v", "score"])
def test_inversion_reads_the_network_at_the_level_it_leaves(kind, randn):
    """(eps, x0) are those of ``predict`` at x_t and t; at t = 0 eps is read at 1, and x0 is x_t."""
    schedule, x0, seen = schedules.linear(20), randn(3, 2), []

    def spy(x_t, t):
        seen.append(t.tolist())
        return net(x_t, t)

    steps = list(sampling.invert(spy, x0, schedule, [20, 7, 2, 1, 0], kind=kind))
    assert seen == [[1] * 3, [1] * 3, [2] * 3, [7] * 3]
    for step in steps:
        t = max(step.t, 1)
        truth = predict(kind, net(step.x_t, torch.full((3,), t)), step.x_t, t, schedule)
        close(step.eps, truth.eps)
        close(step.x0, truth.x0 if step.t > 0 else step.x_t)
    for before, after in pairwise(steps):
        assert after.x_t.equal(before.x_s)


def test_inversion_then_sampling_reconstructs(gaussian_denoiser, randn):
    """MSE of x0 -> latent -> x0' falls by more than 5 with every tenfold number of steps."""
    schedule, x0 = schedules.linear(1000), 0.3 + 0.5 * randn(100, 2)
    model = gaussian_denoiser(schedule)
    errors = [
        ((sampling.reconstruct(model, x0, schedule, S) - x0) ** 2).mean().item()
        for S in (10, 100, 1000)
    ]
    assert errors[0] > 5 * errors[1] > 25 * errors[2]
    assert errors[2] < 1e-5


def test_reconstruction_goes_up_and_down_the_same_levels(randn):
    """reconstruct = sample from the last state of invert, on the levels and of the kind given."""
    schedule, x0 = schedules.linear(20), randn(3, 2)
    for options in ({}, {"kind": "v"}):
        latent = final(sampling.invert(net, x0, schedule, [20, 7, 0], **options))
        expected = final(sample(net, latent, schedule, [20, 7, 0], **options))
        assert sampling.reconstruct(net, x0, schedule, [20, 7, 0], **options).equal(expected)


def test_inversion_gaussianises(gaussian_denoiser, randn):
    """The latents of N(0.3, 0.25) data have mean 0 and variance 1 (DDIM's encoder)."""
    schedule, x0 = schedules.linear(300), 0.3 + 0.5 * randn(5000, 1)
    latent = final(sampling.invert(gaussian_denoiser(schedule), x0, schedule))
    assert abs(latent.mean()) < 5 / 5000**0.5 + 0.01
    assert abs(latent.var() - 1) < 5 * (2 / 5000) ** 0.5 + 0.02


def test_inversion_undoes_a_constant_prediction(randn):
    """For eps that does not depend on x, inversion and sampling are exact inverses."""
    schedule, x0, eps = schedules.cosine(50), randn(4, 2), randn(4, 2)
    close(sampling.reconstruct(lambda x, t: eps, x0, schedule, 10), x0, 1e-6)


# ---- interpolation ------------------------------------------------------------------------------

vectors = st.integers(0, 2**20).map(
    lambda seed: torch.randn(
        2, 4, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
)


def angle(a, b):
    """Angle between the examples of a and b, (B,), accurate near 0 and pi."""
    a, b = a.flatten(1), b.flatten(1)
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    return 2 * torch.atan2((a - b).norm(dim=1), (a + b).norm(dim=1))


@given(vectors, st.floats(0, 1))
def test_slerp_stays_on_the_sphere(ab, lam):
    """Equal norms are kept, and the angle to a is lam theta, example by example."""
    a, b = ab
    b = b * (a.norm(dim=1) / b.norm(dim=1))[:, None]
    got = sampling.slerp(a, b, lam)
    close(got.norm(dim=1), a.norm(dim=1))
    close(angle(a, got), lam * angle(a, b), 1e-6)
    close(angle(got, b), (1 - lam) * angle(a, b), 1e-6)


@given(vectors)
def test_slerp_ends(ab):
    """lam = 0 gives a and lam = 1 gives b, of any norm; lam may differ for every example."""
    a, b = ab
    close(sampling.slerp(a, b, 0), a)
    close(sampling.slerp(a, b, 1.0), b)
    mixed = sampling.slerp(a, b, torch.tensor([0.0, 1.0, 0.0, 1.0]))
    close(mixed, torch.stack([a[0], b[1], a[2], b[3]]))


@given(vectors, st.floats(0, 1), st.floats(0, 1e-3))
def test_slerp_of_parallel_vectors_is_linear(ab, lam, gap):
    """theta -> 0: (1-lam) a + lam b; also between two lengths of one direction."""
    a, other = ab
    for b in (a, 2 * a, a + gap * other):
        expected = (1 - lam) * a + lam * b
        bound = 1e-8 + 0.2 * (angle(a, b).max() ** 2) * (a.abs().max() + b.abs().max())
        assert (sampling.slerp(a, b, lam) - expected).abs().max() <= bound


@given(vectors, st.sampled_from([torch.float32, torch.float64]))
def test_slerp_of_opposite_vectors_is_linear(ab, dtype):
    """b = -a has no direction to turn to: the mix goes through 0, in float32 too."""
    a = ab[0].to(dtype)
    for lam in (0.0, 0.3, 0.5, 1.0):
        torch.testing.assert_close(sampling.slerp(a, -a, lam), (1 - 2 * lam) * a)
    zero = torch.zeros_like(a)
    assert sampling.slerp(zero, a, 0.5).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_slerp_of_images_keeps_dtype_and_shape(dtype, randn):
    """One angle per image: (B, C, H, W) interpolates like its flattened vectors."""
    a, b = randn(3, 2, 4, 4, dtype=dtype), randn(3, 2, 4, 4, dtype=dtype)
    got = sampling.slerp(a, b, 0.4)
    assert got.dtype == dtype
    torch.testing.assert_close(got.flatten(1), sampling.slerp(a.flatten(1), b.flatten(1), 0.4))


def test_interpolation_ends_at_the_two_samples(randn):
    """interpolate(lams = [0, .5, 1]): (L, B, *D), ends equal to the samples of the latents."""
    schedule, a, b = schedules.linear(20), randn(3, 1, 2, 2), randn(3, 1, 2, 2)
    path = sampling.interpolate(net, a, b, [0, 0.5, 1], schedule, 5)
    assert path.shape == (3, 3, 1, 2, 2)
    close(path[0], final(sample(net, a, schedule, 5)))
    close(path[2], final(sample(net, b, schedule, 5)))
    close(path[1], final(sample(net, sampling.slerp(a, b, 0.5), schedule, 5)))


def test_stochastic_interpolation_starts_on_its_level(randn, generator):
    """The mix at level t is q_sample of the mixed data: variance 1 - alpha_bar_t for any lam."""
    schedule, t, lams = schedules.linear(20), 12, [0.0, 0.25, 0.5, 1.0]
    a, b = randn(5, 2), randn(5, 2)
    first = []

    def spy(x_t, times):
        if times[0] == t:
            first.append(x_t)
        return net(x_t, times)

    path = sampling.interpolate_ddpm(spy, a, b, lams, t, schedule, generator=generator)
    assert path.shape == (4, 5, 2)
    x_t = first[0].view(4, 5, 2)
    alpha_bar = schedule.alpha_bar[t]
    mixed = torch.stack([(1 - lam) * a + lam * b for lam in lams])
    noise = (x_t - alpha_bar.sqrt() * mixed) / (1 - alpha_bar).sqrt()
    close(noise, noise[:1].expand_as(noise))  # one eps for all lams ...
    close(q_sample(mixed[0], t, noise[0], schedule), x_t[0])
    many = torch.zeros(20_000, 1, dtype=torch.float64)
    first.clear()
    sampling.interpolate_ddpm(spy, many, many, [0.5], t, schedule, generator=generator)
    ratio = first[0].var() / (1 - alpha_bar)  # ... of unit variance
    assert abs(ratio - 1) < 5 * (2 / 20_000) ** 0.5


@pytest.mark.parametrize("t", [1, 7])
def test_stochastic_interpolation_is_ancestral_sampling_of_the_mix(t, randn):
    """One noise for both ends, then every level t, t-1, ..., 0 with eta = 1, from one generator."""
    schedule, a, b, lams = schedules.linear(10), randn(3, 2), randn(3, 2), [0.0, 0.3, 1.0]
    g = torch.Generator().manual_seed(5)
    eps = torch.randn(3, 2, generator=g, dtype=torch.float64)
    mix = q_sample(
        torch.cat([(1 - lam) * a + lam * b for lam in lams]), t, eps.repeat(3, 1), schedule
    )
    expected = final(sample(net, mix, schedule, range(t, -1, -1), eta=1.0, generator=g))
    g.manual_seed(5)
    got = sampling.interpolate_ddpm(net, a, b, lams, t, schedule, generator=g)
    close(got, expected.view(3, 3, 2))


def test_stochastic_interpolation_at_level_0_mixes_the_data(randn):
    """t = 0: (1-lam) a + lam b, untouched by any network."""
    a, b = randn(2, 2), randn(2, 2)

    def no_network(x_t, t):
        raise AssertionError("the network was called")

    path = sampling.interpolate_ddpm(no_network, a, b, [0.0, 0.3, 1.0], 0, schedules.linear(5))
    close(path, torch.stack([a, 0.7 * a + 0.3 * b, b]))
