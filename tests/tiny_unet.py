"""A tiny U-Net with classes, and images for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from diffusion_edu import schedules
from diffusion_edu.nets import UNet, UNetConfig

CONFIG = UNetConfig(
    image_channels=1, channels=(8, 16), groups=4, attention=(), blocks=1, classes=10, T=20
)
CHAIN = schedules.linear(20)


def unet(**changes: Any) -> UNet:
    """A tiny U-Net whose output is not zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = UNet(replace(CONFIG, **changes))
        torch.nn.init.normal_(model.conv_out.weight, std=0.1)
    return model.eval()


def some_images(n: int, *shape: int, seed: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, *shape), dtype=torch.uint8, generator=g)
