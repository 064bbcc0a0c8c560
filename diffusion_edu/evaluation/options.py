"""Choices that several commands offer, as typer wants them."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Labels", "Precision", "Variance"]


class Labels(StrEnum):
    """Which classes samples are asked to have."""

    balanced = "balanced"
    none = "none"


class Variance(StrEnum):
    """Noise of a step."""

    eta = "eta"
    large = "large"
    learned = "learned"


class Precision(StrEnum):
    """What the network computes in while sampling."""

    float32 = "float32"
    bfloat16 = "bfloat16"
