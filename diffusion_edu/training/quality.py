"""Measure a trained network against fresh data, and write it as a file ``pretrained`` can read."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import _parallel
from .._files import write_weights
from ..data import toy
from ..metrics import mmd2
from ..nets.pretrained import FORMAT
from ..sampling import ddim
from ..schedules import Schedule
from .heldout import evaluate
from .recipes import ImageRecipe, Recipe

__all__ = ["export", "measure", "measure_points", "null_mmd2"]

FRESH_SEED = 4_000_000_000  # of the draws that samples are compared with
POINTS, STEPS, SEEDS = 10_000, 50, 5


def measure(model: nn.Module, schedule: Schedule, data: str, seed: int = 0) -> float:
    """MMD^2 (unbiased) between 10,000 samples, DDIM in 50 steps, and 10,000 fresh points.

    ``seed`` picks both the starting noise and the fresh draw.
    """
    g = torch.Generator().manual_seed(seed)
    x_T = torch.randn(POINTS, 2, generator=g).to(next(model.parameters()).device)
    samples = ddim(model, x_T, schedule, STEPS).cpu()
    return float(mmd2(samples, toy.load(data, POINTS, FRESH_SEED + seed), bandwidth=toy.BANDWIDTH))


def null_mmd2(data: str, n: int = POINTS, pairs: int = 400, size: int = 1000) -> float:
    """95th percentile of MMD^2 between two fresh draws of n points: what chance alone reaches.

    n MMD^2 has the same law for every large n when both draws come from one distribution (Gretton
    et al., JMLR 2012, thm 12), so many pairs of ``size`` points tell it better than few of n.
    """
    first, second = toy.load(data, 2 * pairs * size, FRESH_SEED - 1).view(2, pairs, size, 2)
    values = [
        float(mmd2(a, b, bandwidth=toy.BANDWIDTH)) for a, b in zip(first, second, strict=True)
    ]
    return torch.tensor(values).quantile(0.95).item() * size / n


def measure_points(model: nn.Module, schedule: Schedule, data: str) -> dict[str, Any]:
    """The metrics written with a network for points: ``measure`` for seeds 0..4, ``null_mmd2``."""
    values = [measure(model, schedule, data, seed) for seed in range(SEEDS)]
    return {"mmd2": values, "mmd2_null": null_mmd2(data)}


def export(
    model: nn.Module, recipe: Recipe | ImageRecipe, path: Path, metrics: Mapping[str, Any]
) -> dict[str, Any]:
    """Write weights and what is known of them to a .safetensors file, atomically.

    Processes that share the job all call this, for the loss; the first one writes.

    Weights of points are float32; of images float16, half the size, which changes a prediction by
    about one part in a thousand: the loss written is that of the rounded weights.

    Args:
        metrics: what was measured on samples (see ``Pretrained``).

    Returns:
        The metadata as written, before JSON: the fields of ``Pretrained`` without its path.
    """
    half = isinstance(recipe, ImageRecipe)
    weights = _rounded(model, torch.float16 if half else torch.float32)
    model = copy.deepcopy(model)
    model.load_state_dict(weights)
    _, schedule = recipe.network()
    data, held = recipe.load(schedule)
    about = {
        "data": recipe.data,
        "official": getattr(data, "official", True),
        "shape": list(held[0].shape[1:]),
        "recipe": recipe.plain(),
        "images": recipe.config.steps * recipe.config.batch,
        "loss": evaluate(model, held, schedule),
        "metrics": dict(metrics),
        "torch": torch.__version__,
    }
    if _parallel.rank() == 0:
        write_weights(path, weights, about, FORMAT)
    return about


def _rounded(model: nn.Module, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """The weights as they will be in the file."""
    state = model.state_dict()
    return {key: value.detach().cpu().to(dtype).contiguous() for key, value in state.items()}
