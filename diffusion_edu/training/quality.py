"""Measure a trained network against fresh data, and write it as a file ``pretrained`` can read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .._files import write_atomically
from ..data import toy
from ..metrics import mmd2
from ..nets.pretrained import FORMAT
from ..sampling import ddim
from ..schedules import Schedule
from .loop import evaluate, validation_set
from .recipes import Recipe

__all__ = ["BANDWIDTH", "export", "measure", "null_mmd2"]

FRESH_SEED = 4_000_000_000  # of the draws that samples are compared with
POINTS, STEPS = 10_000, 50
BANDWIDTH = 1.8  # about the median distance between two points of a standardised set


def measure(model: nn.Module, schedule: Schedule, data: str, seed: int = 0) -> float:
    """MMD^2 (unbiased) between 10,000 samples, DDIM in 50 steps, and 10,000 fresh points.

    ``seed`` picks both the starting noise and the fresh draw.
    """
    g = torch.Generator().manual_seed(seed)
    samples = ddim(model, torch.randn(POINTS, 2, generator=g), schedule, STEPS)
    return float(mmd2(samples, toy.load(data, POINTS, FRESH_SEED + seed), bandwidth=BANDWIDTH))


def null_mmd2(data: str, n: int = POINTS, pairs: int = 400, size: int = 1000) -> float:
    """95th percentile of MMD^2 between two fresh draws of n points: what chance alone reaches.

    n MMD^2 has the same law for every large n when both draws come from one distribution (Gretton
    et al., JMLR 2012, thm 12), so many pairs of ``size`` points tell it better than few of n.
    """
    first, second = toy.load(data, 2 * pairs * size, FRESH_SEED - 1).view(2, pairs, size, 2)
    values = [float(mmd2(a, b, bandwidth=BANDWIDTH)) for a, b in zip(first, second, strict=True)]
    return torch.tensor(values).quantile(0.95).item() * size / n


def export(model: nn.Module, recipe: Recipe, path: Path, seeds: int = 5) -> dict[str, Any]:
    """Write weights (float32) and what is known of them to a .safetensors file, atomically.

    Returns:
        The metadata as written, before JSON: name, recipe, loss, mmd2, mmd2_null, torch.
    """
    from safetensors.torch import save

    _, schedule = recipe.network()
    about = {
        "name": recipe.data,
        "recipe": recipe.plain(),
        "loss": evaluate(model, validation_set(recipe.points()[1], schedule), schedule),
        "mmd2": [measure(model, schedule, recipe.data, seed) for seed in range(seeds)],
        "mmd2_null": null_mmd2(recipe.data),
        "torch": torch.__version__,
    }
    text = {"format": FORMAT, **{key: json.dumps(value) for key, value in about.items()}}
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    write_atomically(path, lambda file: file.write(save(weights, metadata=text)))
    return about
