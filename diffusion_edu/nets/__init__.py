"""Networks: ``MLP`` for points, ``EMA`` of weights, shipped ones by ``pretrained(name)``."""

from __future__ import annotations

from .ema import EMA
from .mlp import MLP
from .pretrained import pretrained, pretrained_names

__all__ = ["EMA", "MLP", "pretrained", "pretrained_names"]
