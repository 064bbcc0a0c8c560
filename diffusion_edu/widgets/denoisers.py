"""Where explorers get their denoisers: shipped networks, oracles, a model of the reader's."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import schedules
from .._checks import check_choice
from ..data import toy
from ..oracles import EmpiricalOracle, MixtureOracle
from ..prediction import Model
from ..schedules import Schedule
from . import datasets

__all__ = [
    "KNOWN",
    "MODELS",
    "POINT_NETWORKS",
    "SHIPPED",
    "check_steps",
    "denoiser",
    "denoiser_code",
    "given",
    "here",
    "resolve",
    "source",
    "with_network",
]

SHIPPED = ("swiss_roll", "moons", "gaussians", "digits", "mnist")
POINT_NETWORKS = tuple(name for name in SHIPPED if name in toy.names())
MODELS = ("network", "oracle")
KNOWN = 500  # points that the oracle of a toy set without a formula knows
ORACLE_T = 1000


def source(model: str | Path | Model, dataset: str | None) -> tuple[str, str]:
    """What ``model=`` and ``dataset=`` mean: ("network" | "oracle" | "yours", data set)."""
    if _is_file(model):
        return "yours", dataset or _from_file(str(model))[2]
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
        f"model must be one of {', '.join(map(repr, (*SHIPPED, *MODELS)))}, a file or a callable "
        f"model(x_t, t), got model={model!r}"
    )


def given(model: Any, schedule: Schedule | None) -> tuple[Model, Schedule]:
    """The reader's network and its schedule: as given, of its file or its own, else linear."""
    if _is_file(model):
        network, own, _ = _from_file(str(model))
        return network, schedule or own
    carried = getattr(model, "schedule", None)
    if schedule is None:
        schedule = carried if isinstance(carried, Schedule) else schedules.linear(ORACLE_T)
    return here(model), schedule


def here(model: Any) -> Any:
    """A network on a GPU as one on the CPU, where explorers compute; any other as it is."""
    weight = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return model if weight is None or weight.device.type == "cpu" else _Away(model, weight.device)


class _Away:
    """A network on another device, called with what lies on the CPU."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model, self.device, self.config = model, device, getattr(model, "config", None)

    def __call__(self, *args: Any) -> Tensor:
        moved = [a.to(self.device) if isinstance(a, Tensor) else a for a in args]
        out: Tensor = self.model(*moved)
        return out.cpu()


def _is_file(model: Any) -> bool:
    return isinstance(model, Path) or (isinstance(model, str) and model.endswith(".safetensors"))


@lru_cache(maxsize=4)
def _from_file(path: str) -> tuple[Model, Schedule, str]:
    """Network, schedule and data set of a file of weights."""
    from ..nets import pretrained

    model, schedule, info = pretrained(Path(path))
    return model, schedule, str(getattr(info, "data", SHIPPED[0]))


def with_network(
    values: dict[str, Any], asked: dict[str, Any], networks: tuple[str, ...]
) -> dict[str, Any]:
    """What to change where a network is ``asked`` for and none is shipped for the data.

    Whoever chose the network, among ``values``, gets data that have one; whoever chose the data
    gets their exact denoiser.
    """
    if asked["model"] != "network" or asked["dataset"] in networks:
        return {}
    return {"dataset": networks[0]} if "model" in values else {"model": "oracle"}


def denoiser_code(kind: str, dataset: str) -> str:
    """Python that makes ``model`` and ``schedule``."""
    if kind == "network":
        return f"model, schedule, info = de.pretrained({dataset!r})"
    if kind == "yours":
        return "# model, schedule: your own"
    chain = f"schedule = de.linear({ORACLE_T})"
    if dataset == "gaussians":
        return f"{chain}\nmodel = de.MixtureOracle(*de.toy.gaussians_mixture(), schedule)"
    return f"{chain}\n{datasets.code(dataset, KNOWN, 1)}\nmodel = de.EmpiricalOracle(x0, schedule)"


def denoiser(values: dict[str, Any], own: tuple[Model, Schedule] | None) -> tuple[Model, Schedule]:
    """What the values of an explorer name: the reader's ``own``, or see ``resolve``."""
    if values["model"] == "yours" and own is not None:
        return own
    return resolve(values["model"], values["dataset"])


def check_steps(steps: int, schedule: Schedule) -> None:
    """Raise ValueError for more steps than the chain has."""
    if steps > schedule.T:
        raise ValueError(f"steps must lie in 1..T = 1..{schedule.T}, got steps={steps}")


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
        return MixtureOracle(*toy.gaussians_mixture(), schedule), schedule
    return EmpiricalOracle(datasets.load(dataset, KNOWN, 1), schedule), schedule
