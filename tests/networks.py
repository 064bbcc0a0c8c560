"""Stand-ins for networks: formulas, so that the same x_t and t always give the same answer."""

import torch


def linear_net(x_t, t):
    """Some network: different at every t."""
    return 0.3 * x_t + t.view(-1, *[1] * (x_t.ndim - 1)).to(x_t) / 1000


def two_headed(x_t, t):
    """A network with learned variance: 2C channels, prediction then v."""
    return torch.cat([linear_net(x_t, t), (x_t * 0.2).tanh()], 1)


def sine_net(x_t, t):
    """A nonlinear one, different at every t."""
    return (x_t + t.view(-1, *[1] * (x_t.ndim - 1)).to(x_t) / 100).sin()
