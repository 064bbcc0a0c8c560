"""Which levels a sampler visits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import lengths

from diffusion_edu.spacing import timesteps

SPACINGS = ("uniform", "quadratic", "trailing", "leading")


def assert_levels(levels, T, steps):
    assert levels.dtype == torch.int64
    assert levels.shape == (steps + 1,)
    assert (levels[0], levels[-1]) == (T, 0)
    assert (levels.diff() < 0).all()


@pytest.mark.parametrize("spacing", SPACINGS)
@given(T=lengths(), data=st.data())
def test_timesteps_are_what_they_promise(spacing, T, data):
    """steps+1 integers, T first, 0 last, strictly decreasing: every spacing, every steps <= T."""
    steps = data.draw(st.one_of(st.integers(1, T), st.integers(max(1, T - 3), T)))
    assert_levels(timesteps(T, steps, spacing), T, steps)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_timesteps_for_every_pair_up_to_60(spacing):
    """The same promise, exhaustively, for all 1 <= steps <= T <= 60."""
    for T in range(1, 61):
        for steps in range(1, T + 1):
            assert_levels(timesteps(T, steps, spacing), T, steps)


@pytest.mark.parametrize("spacing", SPACINGS)
@given(T=lengths())
def test_all_steps_are_all_levels(spacing, T):
    """steps = T visits T, T-1, ..., 0 whatever the spacing; steps = 1 jumps from T to 0."""
    assert timesteps(T, T, spacing).equal(torch.arange(T, -1, -1))
    assert timesteps(T, 1, spacing).tolist() == [T, 0]


def test_spacings_of_the_papers():
    """uniform, trailing: multiples of T/S; quadratic: T (i/S)^2; leading: 1, 1+k, ... below T."""
    assert timesteps(1000, 10).tolist() == list(range(1000, -1, -100))
    assert timesteps(1000, 10, "trailing").tolist() == list(range(1000, -1, -100))
    assert timesteps(1000, 10, "quadratic").tolist() == [10 * i * i for i in range(10, -1, -1)]
    assert timesteps(1000, 10, "leading").tolist() == [1000, *range(801, 0, -100), 0]
    assert len(timesteps(1000, 30)) == 31  # range(0, 1000, 1000 // 30) has 31 members, not 30
