"""Mistakes of learners, and what the messages about them must say."""

import pytest
import torch

from diffusion_edu import schedules

S = schedules.linear(10)
JSD = schedules.jsd(10)
X = torch.zeros(3, 2)
NAN = float("nan")


def net(x_t, t):
    return x_t


def longs(*values):
    return torch.tensor(values)


def cases(**tables):
    """Each case: what is called, and what its message must contain: argument, value, fix."""
    return [
        pytest.param(call, words, id=f"{table}: {name}")
        for table, entries in tables.items()
        for name, (call, words) in entries.items()
    ]


def assert_message(call, words):
    """ValueError (no other exception) whose message contains every given word."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the words are the match
        call()
    message = str(caught.value)
    assert "Tensor" not in message.replace("torch tensor", "")  # no dump of a whole tensor
    for word in words:
        assert word in message, message
