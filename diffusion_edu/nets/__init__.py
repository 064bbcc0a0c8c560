"""Networks: ``MLP`` for points, ``UNet`` for images, ``EMA``; shipped and published weights."""

from __future__ import annotations

from .as_eps import AsEps
from .ema import EMA
from .mlp import MLP
from .pretrained import pretrained, pretrained_names
from .published import PublishedUNet, load_diffusers
from .unet import UNet, UNetConfig

__all__ = [
    "EMA",
    "MLP",
    "AsEps",
    "PublishedUNet",
    "UNet",
    "UNetConfig",
    "load_diffusers",
    "pretrained",
    "pretrained_names",
]
