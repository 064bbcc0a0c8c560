"""Sampling with the variance that a network of 2C channels has learned (improved DDPM eq. 15)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_edu import objectives, sampling, schedules

SCHEDULE = schedules.linear(20)


def two_heads(v):
    """A model that predicts eps = 0.3 x, with v the same everywhere."""
    return lambda x, t: torch.cat([0.3 * x, torch.full_like(x, v)], dim=1)


def one_head(x, t):
    return 0.3 * x


def walk(model, x, **options):
    g = torch.Generator().manual_seed(1)
    return [step.x_s for step in sampling.sample(model, x, SCHEDULE, generator=g, **options)]


@pytest.mark.parametrize("shape", [(5, 2), (2, 3, 8, 8)])
@pytest.mark.parametrize("steps", [20, 7])
@pytest.mark.parametrize(("v", "fixed"), [(-1.0, {"eta": 1.0}), (1.0, {"variance": "large"})])
def test_the_ends_of_v_are_the_fixed_variances(shape, steps, v, fixed):
    """v = -1 walks exactly as eta = 1 (beta_tilde), v = 1 as variance="large" (beta)."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    learned = walk(two_heads(v), x, taus=steps, variance="learned")
    for a, b in zip(learned, walk(one_head, x, taus=steps, **fixed), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


@given(st.integers(2, 20), st.floats(-1.5, 1.5))
def test_one_step_has_the_variance_of_the_bound(t, v):
    """Var(x_{t-1} | x_t) of a sampling step = learned_variance(v, t), which the bound uses."""
    x = torch.zeros(1, 2, dtype=torch.float64)
    steps = sampling.sample(
        two_heads(v),
        x,
        SCHEDULE,
        [t, t - 1],
        variance="learned",
        noise=lambda i, like: torch.ones_like(like),
    )
    wanted = objectives.learned_variance(torch.full_like(x, v), t, SCHEDULE)
    assert torch.allclose(next(steps).x_s ** 2, wanted, rtol=1e-10)  # mean 0, z = 1


def test_a_network_trained_by_l_hybrid_can_be_sampled():
    """The 2C outputs that loss_hybrid trains are those that variance="learned" reads."""
    g = torch.Generator().manual_seed(0)
    net = torch.nn.Linear(2, 4)

    def model(x, t):
        return net(x).tanh()

    x0 = torch.randint(0, 256, (8, 2), generator=g) / 127.5 - 1
    t = torch.randint(1, 21, (8,), generator=g)
    loss = objectives.loss_hybrid(model, x0, t, torch.randn(8, 2, generator=g), SCHEDULE)
    loss.backward()
    assert net.weight.grad.isfinite().all()
    last = walk(model, torch.randn(8, 2, generator=g), variance="learned")[-1]
    assert last.shape == (8, 2)
    assert last.isfinite().all()


def test_reverse_step_refuses_learned():
    """reverse_step has no v: variance="learned" there is a ValueError that names the choices."""
    x = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="variance 'learned'; choose from 'eta', 'large'"):
        sampling.reverse_step(x, x, 3, 2, SCHEDULE, variance="learned", z=x)
