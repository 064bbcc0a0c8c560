"""One checkpoint file: model, averaged model, optimiser, step, generator, configuration."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .. import _parallel
from .._files import write_atomically
from ..data.loader import Loader

if TYPE_CHECKING:
    from .loop import State

__all__ = ["identity", "load_into", "read", "save"]

FORMAT = "diffusion_edu checkpoint 3"
KEYS = {
    "format",
    "identity",
    "threads",
    "step",
    "model",
    "ema",
    "updates",
    "optimizer",
    "generator",
    "noise",
    "log",
    "seconds",
    "parts",
}


def identity(state: State) -> dict[str, Any]:
    """What must be the same for a resumed run to be the same run, as plain numbers and strings."""
    data, schedule = state.data.images, state.schedule
    more = {}
    if isinstance(state.data, Loader):
        more = {"labels crc32": _crc32(state.data.labels), "flip": state.data.flip}
    return {
        "config": asdict(state.config),
        "schedule": repr(schedule),
        "schedule crc32": _crc32(schedule.alpha_bar),
        "data": f"{tuple(data.shape)} {data.dtype}",
        "data crc32": _crc32(data),
        **more,
    }


def _crc32(x: Tensor) -> int:
    return zlib.crc32(x.cpu().contiguous().numpy().tobytes())


def save(state: State, path: Path, identity: Mapping[str, Any]) -> None:
    """Write atomically: a crash at any moment leaves the old file or the new one, never a part.

    Processes that share a batch all call this, for their losses; the first one writes.
    """
    parts = _all_parts(state)
    if _parallel.rank() > 0:
        return
    content = {
        "format": FORMAT,
        "identity": dict(identity),
        "threads": torch.get_num_threads(),
        "step": state.step,
        "model": state.model.state_dict(),
        "ema": state.ema.model.state_dict(),
        "updates": state.ema.updates,
        "optimizer": state.optimizer.state_dict(),
        "generator": state.generator.get_state(),
        "noise": state.noise.get_state(),
        "log": state.log,
        "seconds": state.seconds,
        "parts": parts,
    }
    write_atomically(path, lambda file: torch.save(content, file))


def _all_parts(state: State) -> list[tuple[Tensor, Tensor]]:
    """t and losses since the last record, of all processes."""
    if _parallel.world() == 1 or not state.parts:
        return state.parts
    both = (torch.cat(p).to(state.machine.device) for p in zip(*state.parts, strict=True))
    t, losses = map(_parallel.gather, both)
    return [(t.cpu(), losses)]


def read(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint; only tensors and plain values are ever built from the file.

    Raises:
        ValueError: the file is missing, damaged, not ours, or would have to be unpickled.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}: train without resume first")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types here, and all mean the same to the user
        raise ValueError(
            f"{path} is not a readable checkpoint ({type(error).__name__}): it is damaged, "
            "or holds objects that would run code when loaded; it was not loaded"
        ) from error
    ours = isinstance(content, dict) and content.get("format") == FORMAT
    if not (ours and content.keys() >= KEYS and isinstance(content["identity"], dict)):
        raise ValueError(
            f"{path} is not a checkpoint of this library (expected {FORMAT!r}): "
            "remove it or choose another directory"
        )
    checked: dict[str, Any] = content
    return checked


def load_into(state: State, path: Path, wanted: Mapping[str, Any]) -> None:
    """Put a checkpoint into ``state``, so that the run goes on where it was written.

    Raises:
        ValueError: as ``read``, or another network, configuration, schedule, data or kind of
            device; it says which.
    """
    content = read(path)
    for key, value in wanted.items():
        if content["identity"].get(key) != value:
            raise ValueError(
                f"{path} belongs to another run: its {key} is "
                f"{content['identity'].get(key)}, this run has {value}"
            )
    if content["threads"] != torch.get_num_threads():
        warnings.warn(
            f"{path} was written with {content['threads']} threads and this run has "
            f"{torch.get_num_threads()}: results agree, but not to the last bit",
            stacklevel=4,
        )
    if content["noise"].shape != state.noise.get_state().shape:
        raise ValueError(
            f"{path} was written on another kind of device, whose noise cannot be drawn on "
            f"{state.machine.device}: go on where it was begun, a CPU or a GPU"
        )
    try:
        state.model.load_state_dict(content["model"])
        state.ema.model.load_state_dict(content["ema"])
        state.optimizer.load_state_dict(content["optimizer"])
        state.generator.set_state(content["generator"])
        state.noise.set_state(content["noise"])
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} belongs to another network: {error}") from error
    state.step, state.ema.updates = content["step"], content["updates"]
    state.log, state.seconds = content["log"], content["seconds"]
    device = state.machine.device  # where the losses to come will be; t stays on the CPU
    parts = [(t, losses, _parallel.share(len(t))) for t, losses in content["parts"]]
    state.parts = [(t[mine], losses[mine].to(device)) for t, losses, mine in parts]
