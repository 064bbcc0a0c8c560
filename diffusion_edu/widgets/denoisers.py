"""Where ReverseExplorer gets its denoisers: shipped networks, oracles, a model of the reader's."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from .. import schedules
from .._checks import check_choice
from ..oracles import EmpiricalOracle, MixtureOracle
from ..prediction import Model
from ..schedules import Schedule
from . import datasets

SHIPPED = ("swiss_roll", "moons", "gaussians")
MODELS = ("network", "oracle")
KNOWN = 500  # points that the oracle of a toy set without a formula knows
ORACLE_T = 1000


def source(model: str | Model, dataset: str | None) -> tuple[str, str]:
    """What ``model=`` and ``dataset=`` mean: ("network" | "oracle" | "yours", data set)."""
    if not isinstance(model, str):
        if not callable(model):
            raise ValueError(f"model must be a name or a callable model(x_t, t), got {model!r}")
        return "yours", dataset or SHIPPED[0]
    if model in MODELS:
        return model, dataset or SHIPPED[0]
    if model in SHIPPED:
        if dataset not in (None, model):
            raise ValueError(
                f"dataset must be {model!r} for the network {model!r}, got "
                f"dataset={dataset!r}: leave it out, or use model='oracle'"
            )
        return "network", model
    raise ValueError(
        f"model must be one of {', '.join(map(repr, (*SHIPPED, *MODELS)))} or a callable "
        f"model(x_t, t), got model={model!r}"
    )


def schedule_of(model: Any, schedule: Schedule | None) -> Schedule:
    """The schedule given, else the one the model carries, else linear with T = 1000."""
    own = getattr(model, "schedule", None)
    return schedule or (own if isinstance(own, Schedule) else schedules.linear(ORACLE_T))


@lru_cache(maxsize=8)
def resolve(kind: str, dataset: str) -> tuple[Model, Schedule]:
    """The shipped network of a data set, or its exact denoiser."""
    check_choice(kind, MODELS, "model")
    if kind == "network":
        if dataset not in SHIPPED:
            raise ValueError(
                f"dataset must be one of {', '.join(SHIPPED)} for a network, got "
                f"dataset={dataset!r}: use model='oracle'"
            )
        from ..nets import pretrained

        model, schedule, _ = pretrained(dataset)
        return model, schedule
    schedule = schedules.linear(ORACLE_T)
    if dataset == "gaussians":
        from ..data import toy

        return MixtureOracle(*toy.gaussians_mixture(), schedule), schedule
    return EmpiricalOracle(datasets.load(dataset, KNOWN, 1), schedule), schedule
