"""A scene: everything the player needs to draw an explorer, as JSON plus binary buffers.

    scene["time"]      {"values": [level of each frame], "at": index shown, "label", "help"}
    scene["text"]      one line of text for each frame
    scene["panels"]    pictures side by side, each with layers or curves
    scene["controls"]  sliders and choices
    scene["notes"]     messages to the reader, {"level": "error" | "info", "text"}

Arrays travel as int16 times a scale: half the size of float32, and 1/32767 of the range is finer
than a pixel. A layer is either ``frames`` (an array for each frame) or ``mix`` (two arrays and two
tables: frame f is a[f] x0 + b[f] eps), so that forward noise costs 16 kB whatever the number of
frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

EMPTY = -32768  # stands for NaN and infinity, which are not drawn
FAR = 16.0  # positions are cut here, far outside every picture, lest one outlier coarsens the rest
SECTORS = 4  # points are coloured by the quarter of the plane they started in


@dataclass(frozen=True)
class Control:
    """A slider ("range") or a choice of the player.

    ``log`` spaces a slider by powers; ``enabled`` is False where the value has no effect now.
    """

    name: str
    label: str
    value: float | int | str
    kind: Literal["range", "choice"] = "range"
    low: float = 0.0
    high: float = 1.0
    step: float = 0.01
    log: bool = False
    choices: tuple[str, ...] = ()
    enabled: bool = True
    help: str = ""


def pick(
    name: str, label: str, value: str, choices: Sequence[str], help: str, enabled: bool = True
) -> Control:
    """A choice of names."""
    return Control(name, label, value, "choice", choices=tuple(choices), help=help, enabled=enabled)


def slide(
    name: str,
    label: str,
    value: float,
    span: tuple[float, float],
    help: str,
    enabled: bool = True,
    step: float = 1,
    log: bool = False,
) -> Control:
    """A slider over ``span``."""
    low, high = span
    return Control(
        name, label, value, low=low, high=high, step=step, log=log, help=help, enabled=enabled
    )


@dataclass
class Scene:
    """Collects panels and their arrays: ``head`` is JSON that points into ``buffers``."""

    times: Sequence[int]
    at: int
    text: list[str]
    label: str = "t"
    help: str = ""
    controls: list[Control] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)
    play: bool = False
    coarse: bool = False
    title: str = ""
    panels: list[dict[str, Any]] = field(default_factory=list)
    buffers: list[bytes] = field(default_factory=list)

    def head(self) -> dict[str, Any]:
        """The JSON part."""
        return {
            "title": self.title,
            "time": {
                "values": [int(t) for t in self.times],
                "at": self.at,
                "label": self.label,
                "help": self.help,
            },
            "text": self.text,
            "panels": self.panels,
            "controls": [asdict(c) for c in self.controls],
            "notes": self.notes,
            "play": self.play,
            "coarse": self.coarse,
        }

    def pack(self, x: Tensor) -> dict[str, Any]:
        """Store ``x`` as int16; returns where it is and the scale that undoes the packing."""
        good = x.isfinite()
        x = torch.where(good, x.clamp(-FAR, FAR), 0.0)
        scale = max(float(x.abs().max()) if x.numel() else 0.0, 1e-9) / 32767
        q = torch.where(good, (x / scale).round(), EMPTY).to(torch.int16)
        self.buffers.append(q.contiguous().numpy().astype("<i2").tobytes())
        return {"buffer": len(self.buffers) - 1, "scale": scale}

    def frames(self, x: Tensor, **style: Any) -> dict[str, Any]:
        """Layer with an array for each frame: x (F, n, *D); with F = 1 the same in all frames."""
        return {"codec": "frames", "size": x[0].numel(), "x": self.pack(x), **style}

    def mix(self, x0: Tensor, eps: Tensor, a: Tensor, b: Tensor, **style: Any) -> dict[str, Any]:
        """Layer whose frame f is a[f] x0 + b[f] eps, mixed by the player."""
        parts = {"x0": x0, "eps": eps, "a": a, "b": b}
        return {
            "codec": "mix",
            "size": x0.numel(),
            **{k: self.pack(v) for k, v in parts.items()},
            **style,
        }

    def panel(
        self, kind: Literal["points", "images", "curves"], title: str, **content: Any
    ) -> None:
        """Add a picture.

        points: layers, extent (half the side of the square shown).
        images: layers (one), shape (n, C, H, W).
        curves: series [{"label", "y": packed}], low, high of the vertical axis.
        """
        self.panels.append({"kind": kind, "title": title, **content})


def unpack(packed: dict[str, Any], buffers: Sequence[bytes]) -> np.ndarray:
    """Undo ``Scene.pack``: flat float32, NaN where a value was not finite."""
    q = np.frombuffer(buffers[packed["buffer"]], "<i2")
    return np.where(q == EMPTY, np.nan, q * np.float32(packed["scale"])).astype(np.float32)


def layer_frame(layer: dict[str, Any], buffers: Sequence[bytes], f: int) -> np.ndarray:
    """What a layer shows in frame ``f``, flat (size,)."""
    if layer["codec"] == "mix":
        x0, eps, a, b = (unpack(layer[k], buffers) for k in ("x0", "eps", "a", "b"))
        mixed: np.ndarray = a[f] * x0 + b[f] * eps
        return mixed
    frames = unpack(layer["x"], buffers).reshape(-1, layer["size"])
    shown: np.ndarray = frames[min(f, len(frames) - 1)]
    return shown


def sector(x: Tensor) -> Tensor:
    """Quarter of the plane of each point, 0..SECTORS-1: x (n, 2) -> (n,) int64."""
    turn = torch.atan2(x[:, 1], x[:, 0]) / (2 * torch.pi) + 0.5
    return (turn * SECTORS).long().clamp(0, SECTORS - 1)


def groups(x: Tensor) -> list[int]:
    """Where each colour ends, for points sorted by ``sector``."""
    return torch.bincount(sector(x), minlength=SECTORS).cumsum(0).tolist()
