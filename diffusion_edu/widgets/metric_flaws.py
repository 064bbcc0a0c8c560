"""Samples with a flaw, for MetricLab: how they are drawn, and the same as code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data import toy
from . import datasets

__all__ = [
    "CHECK",
    "CLEAN",
    "DATA",
    "FEW",
    "FLAWS",
    "LAST_SEED",
    "TRAIN",
    "amounts",
    "draw",
    "draw_seed",
    "flaw_code",
    "flawed",
]

FLAWS = {
    "drop a mode": "One mode dies out, the others get its samples. Precision cannot see that; "
    "recall only once hardly a sample is left there.",
    "blur": "Noise on all samples, at amount 1 of sd 0.5. Precision falls first where the data are "
    "sharp; what looks at mean and spread is late.",
    "memorise": "Copies of training points instead of new samples. Against held-out data they are "
    "as good as real: only comparing with the training set tells.",
    "shift": "All samples moved to the right, at amount 1 by 0.5. In the end every metric sees it.",
    "collapse": "One sample over and over. Precision even rises; recall falls at the very end.",
    "outliers": "Samples from anywhere. Precision tells; recall hardly does, for the balls around "
    "outliers are large.",
    "same moments": "Samples of a Gaussian with the mean and covariance of the data. Fr\u00e9chet "
    "distance knows only those two: it sees nothing. Nor does MMD until its bandwidth is small.",
    "none": "Nothing is wrong: fresh samples at every amount. So much do metrics vary by chance.",
}
BLUR, SHIFT = 0.5, 0.5  # at amount 1
WEDGE = math.pi / 8  # half the angle of what is lost: exactly one mode of "gaussians"
REACH = 2.5  # outliers are uniform in a square of twice this side
MANY = 20_000  # points whose mean and covariance "same moments" has
FEW = 350  # samples up to which metrics are quick
FINE, ROUGH = 21, 11  # amounts, for few and many samples
LAST_SEED = 2**32 - 1
# What a draw is for; FRESH and CHECK are the first of many.
DATA, TRAIN, CLEAN, SPARE, FRESH, CHECK = 0, 1, 2, 3, 8, 32
NORMAL, UNIFORM = 0, 1  # what a noise is for


def amounts(n: int) -> list[float]:
    """How much of the flaw there is in each frame: fewer where n makes each one costly."""
    frames = FINE if n <= FEW else ROUGH
    return [round(f / (frames - 1), 2) for f in range(frames)]


def draw_seed(seed: int, what: int) -> int:
    """Seed of the toy set for one purpose; different purposes are independent."""
    return (64 * seed + what) % LAST_SEED


def draw(name: str, n: int, seed: int, what: int) -> Tensor:
    """(n, 2) clean points."""
    return toy.load(name, n, draw_seed(seed, what))


def _lost(x: Tensor) -> Tensor:
    """(n,) bool: points within the angle that "drop a mode" empties."""
    return torch.atan2(x[:, 1], x[:, 0]).abs() < WEDGE


def flawed(values: dict[str, Any], times: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Samples (F, n, 2) with more and more of the flaw, and which of them are wrong (F, n)."""
    flaw, n = values["flaw"], values["n"]
    name, seed = values["dataset"], values["seed"]
    clean, nothing = draw(name, n, seed, CLEAN), torch.zeros(len(times), n, dtype=torch.bool)
    share = torch.tensor(times)[:, None, None]
    if flaw == "none":
        fresh = [draw(name, n, seed, FRESH + f) for f in range(len(times))]
        return torch.stack(fresh), nothing
    if flaw in ("blur", "shift"):
        z = BLUR * datasets.noise((n, 2), seed, NORMAL)
        return clean + share * (z if flaw == "blur" else torch.tensor([SHIFT, 0.0])), nothing
    if flaw == "drop a mode":
        inside, spare = _lost(clean), draw(name, 2 * n, seed, SPARE)
        clean, other = torch.cat([clean[inside], clean[~inside]]), spare[~_lost(spare)]
        replaced = [round(a * int(inside.sum())) for a in times]
        return _replace(clean, other, replaced), nothing
    replaced = [round(a * n) for a in times]
    wrong = torch.arange(n) < torch.tensor(replaced)[:, None]
    return _replace(clean, _others(flaw, name, n, seed, clean), replaced), wrong


def _replace(clean: Tensor, other: Tensor, counts: Sequence[int]) -> Tensor:
    """The first k of ``clean`` replaced by those of ``other``, for each k."""
    return torch.stack([torch.cat([other[:k], clean[k:]]) for k in counts])


def _others(flaw: str, name: str, n: int, seed: int, clean: Tensor) -> Tensor:
    """(n, 2): what takes the place of samples."""
    if flaw == "memorise":
        return draw(name, n, seed, TRAIN)
    if flaw == "collapse":
        return clean[:1].expand(n, 2)
    if flaw == "outliers":
        generator = torch.Generator().manual_seed(datasets.noise_seed(seed, UNIFORM))
        return REACH * (2 * torch.rand(n, 2, generator=generator) - 1)
    many = draw(name, MANY, seed, SPARE)
    root = torch.linalg.cholesky(many.T.cov())
    return many.mean(0) + datasets.noise((n, 2), seed, NORMAL) @ root.T


def flaw_code(values: dict[str, Any]) -> str:
    """Python for one frame of ``_flawed``, from ``clean`` and ``train``."""
    flaw, n, seed, name = (values[k] for k in ("flaw", "n", "seed", "dataset"))
    if flaw == "none":
        first, frames = draw_seed(seed, FRESH), len(amounts(n)) - 1
        return f"x = de.toy.load({name!r}, {n}, seed={first} + round(amount * {frames}))\n"
    if flaw == "blur":
        return f"{_normal_code(n, seed)}x = clean + amount * ({BLUR} * z)\n"
    if flaw == "shift":
        return f"x = clean + amount * torch.tensor([{SHIFT}, 0.0])\n"
    if flaw == "drop a mode":
        return (
            f"spare = de.toy.load({name!r}, {2 * n}, seed={draw_seed(seed, SPARE)})\n"
            "mode, other = (torch.atan2(c[:, 1], c[:, 0]).abs() < torch.pi / 8"
            " for c in (clean, spare))\n"
            "k = round(amount * int(mode.sum()))\n"
            "x = torch.cat([spare[~other][:k], clean[mode][k:], clean[~mode]])\n"
        )
    others = _others_code(flaw, name, n, seed)
    return f"{others}k = round(amount * {n})\nx = torch.cat([other[:k], clean[k:]])\n"


def _others_code(flaw: str, name: str, n: int, seed: int) -> str:
    if flaw == "memorise":
        return "other = train\n"
    if flaw == "collapse":
        return f"other = clean[:1].expand({n}, 2)\n"
    if flaw == "outliers":
        return (
            f"generator = torch.Generator().manual_seed({datasets.noise_seed(seed, UNIFORM)})\n"
            f"other = {REACH} * (2 * torch.rand({n}, 2, generator=generator) - 1)\n"
        )
    return (
        f"many = de.toy.load({name!r}, {MANY}, seed={draw_seed(seed, SPARE)})\n"
        f"{_normal_code(n, seed)}"
        f"other = many.mean(0) + z @ torch.linalg.cholesky(many.T.cov()).T\n"
    )


def _normal_code(n: int, seed: int) -> str:
    generator = f"torch.Generator().manual_seed({datasets.noise_seed(seed, NORMAL)})"
    return f"z = torch.randn({n}, 2, generator={generator})\n"
