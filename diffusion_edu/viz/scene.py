"""A scene: everything the player needs to draw an explorer, as JSON plus binary buffers.

    scene["time"]      {"values": [level of each frame], "at": index shown, "label", "help"}
    scene["text"]      one line of text for each frame
    scene["panels"]    pictures side by side (see ``Scene.points`` ... ``Scene.table``)
    scene["controls"]  sliders and choices
    scene["actions"]   buttons, {"name", "label", "help", "enabled"}
    scene["notes"]     messages to the reader, {"level": "error" | "info", "text"}
    scene["code"]      Python that reproduces the picture; "{t}" stands for the level shown

Arrays travel as int16 times a scale: half the size of float32, and 1/32767 of the range is finer
than a pixel; images as int8, curves and tables as float32. What belongs to frames is given for all
of them at once, or once if it is the same in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Axis",
    "Control",
    "Handle",
    "Scene",
    "groups",
    "layer_frame",
    "note",
    "pick",
    "rows_at",
    "sector",
    "slide",
    "slide_seed",
    "unpack",
]

Bits = Literal[8, 16, 32]
BEYOND = 1e30  # for numbers that are no positions
FAR = 16.0  # positions are cut here, far outside every picture, lest one outlier coarsens the rest
SECTORS = 4  # points are coloured by the quarter of the plane they started in


@dataclass(frozen=True)
class Control:
    """A slider ("range") or a choice of the player.

    ``log`` spaces a slider by powers; a ``step`` of 1 is for whole numbers; ``enabled`` is False
    where the value has no effect now.
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


def slide_seed(value: int, help: str, enabled: bool = True) -> Control:
    """The slider of a seed: 0 to 99, or as far as it was set."""
    return slide("seed", "seed", value, (0, max(99, value)), help, enabled)


def note(level: Literal["error", "info"], text: str) -> dict[str, str]:
    """A message to the reader, for ``Scene.notes``."""
    return {"level": level, "text": text}


@dataclass(frozen=True)
class Axis:
    """An axis of ``Scene.curves``. ``ticks`` names the places 0, 1, 2, ... of bars."""

    low: float
    high: float
    label: str = ""
    log: bool = False
    ticks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Handle:
    """A marker that is dragged in a picture, and moves parameters.

    Attributes:
        label: short, drawn beside it.
        x, y: names of the parameters (of controls) that its place sets; y "" where only x counts.
        at: where it is now.
    """

    label: str
    x: str
    y: str
    at: tuple[float, float]


@dataclass
class Scene:
    """Collects panels and their arrays: ``head`` is JSON that points into ``buffers``."""

    times: Sequence[float]
    at: int
    text: list[str]
    label: str = "t"
    help: str = ""
    controls: list[Control] = field(default_factory=list)
    actions: list[dict[str, Any]] = field(default_factory=list)
    notes: list[dict[str, str]] = field(default_factory=list)
    play: bool = False
    coarse: bool = False
    title: str = ""
    code: str = ""
    panels: list[dict[str, Any]] = field(default_factory=list)
    buffers: list[bytes] = field(default_factory=list)

    def head(self) -> dict[str, Any]:
        """The JSON part."""
        return {
            "title": self.title,
            "time": {
                "values": list(self.times),
                "at": self.at,
                "label": self.label,
                "help": self.help,
            },
            "text": self.text,
            "panels": self.panels,
            "controls": [asdict(c) for c in self.controls],
            "actions": self.actions,
            "notes": self.notes,
            "play": self.play,
            "coarse": self.coarse,
            "code": self.code,
        }

    # ---- arrays ----------------------------------------------------------------------------------

    def pack(self, x: Tensor, *, bits: Bits = 16, far: float = FAR) -> dict[str, Any]:
        """Store ``x`` as int8, int16 or float32; returns where it is and what undoes the packing.

        The lowest integer stands for NaN and infinity, which are not drawn. Beyond +-``far`` values
        are cut.
        """
        good = x.isfinite()
        if bits == 32:
            packed, scale = torch.where(good, x.clamp(-far, far), torch.nan).numpy(), 1.0
            return self._place(packed.astype("<f4").tobytes(), scale, bits)
        top = 2 ** (bits - 1) - 1
        x = torch.where(good, x.clamp(-far, far), 0.0)
        scale = max(float(x.abs().max()) if x.numel() else 0.0, 1e-30) / top
        q = torch.where(good, (x / scale).round(), -top - 1).contiguous().numpy()
        return self._place(q.astype(f"<i{bits // 8}").tobytes(), scale, bits)

    def _place(self, data: bytes, scale: float, bits: int) -> dict[str, Any]:
        self.buffers.append(data)
        return {"buffer": len(self.buffers) - 1, "scale": scale, "bits": bits}

    def frames(
        self, x: Tensor, *, bits: Bits = 16, far: float = FAR, **style: Any
    ) -> dict[str, Any]:
        """Layer with an array for each frame: x (F, n, *D); with F = 1 the same in all frames."""
        packed = self.pack(x, bits=bits, far=far)
        return {"codec": "frames", "size": x[0].numel(), "x": packed, **style}

    def mix(self, x0: Tensor, eps: Tensor, a: Tensor, b: Tensor, **style: Any) -> dict[str, Any]:
        """Layer whose frame f is a[f] x0 + b[f] eps, mixed by the player.

        So forward noise costs 16 kB for 2,000 points, whatever the number of frames.
        """
        parts = {"x0": x0, "eps": eps, "a": a, "b": b}
        packed = {k: self.pack(v) for k, v in parts.items()}
        return {"codec": "mix", "size": x0.numel(), **packed, **style}

    # ---- layers of points panels -----------------------------------------------------------------

    def heat(
        self,
        values: Tensor,
        low: float,
        high: float,
        *,
        palette: Literal["sequential", "diverging"] = "sequential",
        label: str = "",
    ) -> dict[str, Any]:
        """Colours under the points: values (F, rows, columns), row 0 at the bottom of the picture.

        ``low`` and ``high`` are the ends of the colours; ``label`` names what they mean.
        """
        style = {"shape": list(values.shape[1:]), "low": low, "high": high, "palette": palette}
        return {**self.frames(values, far=BEYOND), "mark": "heat", "label": label, **style}

    def arrows(self, base: Tensor, vectors: Tensor, *, colour: int | None = None) -> dict[str, Any]:
        """Arrows from base (m, 2), vectors (F, m, 2), in the units of the picture.

        ``colour`` counts the colours of points; None: the colour of text.
        """
        packed = self.pack(base)
        return self.frames(vectors, far=BEYOND, mark="arrows", base=packed, colour=colour)

    def path(self, x: Tensor, *, colour: int = 0, dashed: bool = False) -> dict[str, Any]:
        """A line through x (F, k, 2); NaN breaks it."""
        return self.frames(x, mark="path", colour=colour, dashed=dashed)

    # ---- panels ----------------------------------------------------------------------------------

    def points(
        self,
        title: str,
        layers: list[dict[str, Any]],
        extent: float,
        *,
        handles: Sequence[Handle] = (),
        pick: bool = False,
    ) -> None:
        """A square of the plane.

        Layers of points have a ``mark`` ("dot", "data", "ghost", "cross"), ``groups`` (see
        ``groups``) and may have ``tail``: a line through that many frames before; the others come
        from ``heat``, ``arrows`` and ``path``. They are drawn in the order given.

        Args:
            extent: half the side of the square.
            handles: markers to drag.
            pick: a click on a point of the last layer of dots shows its way through all frames.
        """
        self._panel("points", title, layers=layers, extent=extent, handles=handles, pick=pick)

    def images(self, title: str, layer: dict[str, Any], shape: Sequence[int]) -> None:
        """A grid of images (n, C, H, W) in [-1, 1]; the layer has them flat, for each frame."""
        self._panel("images", title, layers=[layer], shape=list(shape))

    def curves(
        self,
        title: str,
        series: list[dict[str, Any]],
        y: Axis,
        x: Axis | None = None,
        *,
        at: Tensor | None = None,
        handles: Sequence[Handle] = (),
        levels: Sequence[tuple[float, str]] = (),
    ) -> None:
        """Functions of x, or of the frame.

        Args:
            series: from ``series``.
            x: None: x is the frame, from left to right.
            at: (F,), the x of each frame, drawn as an upright line; without ``x`` not needed.
            handles: markers on the x axis.
            levels: horizontal lines, each with its label.
        """
        more: dict[str, Any] = {"y": asdict(y), "x": None if x is None else asdict(x)}
        more["at"] = None if at is None else self.pack(at, bits=32, far=BEYOND)
        more["levels"] = [{"y": value, "label": label} for value, label in levels]
        self._panel("curves", title, series=series, handles=handles, **more)

    def series(
        self,
        label: str,
        y: Tensor,
        x: Tensor | None = None,
        *,
        draw: Literal["line", "steps", "bars", "dots", "area"] = "line",
        error: Tensor | None = None,
    ) -> dict[str, Any]:
        """One of the curves of a panel.

        Args:
            y: (k,), the same in all frames, or (F, k).
            x: (k,); None: one y for each frame, or for each place of bars.
            error: as y: half the length of an error bar.
        """
        parts = {"y": y, "x": x, "error": error}
        packed = {
            k: None if v is None else self.pack(v, bits=32, far=BEYOND) for k, v in parts.items()
        }
        return {"label": label, "size": y.shape[-1], "draw": draw, **packed}

    def table(
        self,
        title: str,
        rows: tuple[str, Sequence[str]],
        columns: tuple[str, Sequence[str]],
        values: Tensor,
        at: tuple[int, int] | None = None,
        *,
        names: tuple[str, str],
    ) -> None:
        """Numbers with colours, the lowest the best: values (rows, columns), NaN: not known yet.

        Args:
            rows, columns: what they are, and the label of each.
            at: the cell outlined.
            names: the parameters that a click on a cell sets, to the labels of its row and column.
        """
        packed = self.pack(values.flatten(), bits=32, far=BEYOND)
        parts = {"rows": rows, "columns": columns}
        heads = {k: {"label": v[0], "values": list(v[1])} for k, v in parts.items()}
        self._panel("table", title, values=packed, at=at, names=list(names), **heads)

    def _panel(self, kind: str, title: str, **content: Any) -> None:
        if "handles" in content:
            content["handles"] = [asdict(h) for h in content["handles"]]
        self.panels.append({"kind": kind, "title": title, **content})


# ---- reading a scene back ------------------------------------------------------------------------


def unpack(packed: dict[str, Any], buffers: Sequence[bytes]) -> np.ndarray:
    """Undo ``Scene.pack``: flat float32, NaN where a value was not finite."""
    bits = packed["bits"]
    if bits == 32:
        return np.frombuffer(buffers[packed["buffer"]], "<f4").astype(np.float32)
    q = np.frombuffer(buffers[packed["buffer"]], f"<i{bits // 8}")
    values = q.astype(np.float32) * np.float32(packed["scale"])
    return np.where(q == -(2 ** (bits - 1)), np.float32("nan"), values)


def layer_frame(layer: dict[str, Any], buffers: Sequence[bytes], f: int) -> np.ndarray:
    """What a layer shows in frame ``f``, flat (size,)."""
    if layer["codec"] == "mix":
        x0, eps, a, b = (unpack(layer[k], buffers) for k in ("x0", "eps", "a", "b"))
        mixed: np.ndarray = a[f] * x0 + b[f] * eps
        return mixed
    return rows_at(unpack(layer["x"], buffers), layer["size"], f)


def rows_at(values: np.ndarray, size: int, f: int) -> np.ndarray:
    """Row ``f`` of (F, size) flat values; with F = 1 the only one."""
    rows = values.reshape(-1, size)
    shown: np.ndarray = rows[min(f, len(rows) - 1)]
    return shown


def sector(x: Tensor) -> Tensor:
    """Quarter of the plane of each point, 0..SECTORS-1: x (n, 2) -> (n,) int64."""
    turn = torch.atan2(x[:, 1], x[:, 0]) / (2 * torch.pi) + 0.5
    return (turn * SECTORS).long().clamp(0, SECTORS - 1)


def groups(x: Tensor) -> list[int]:
    """Where each colour ends, for points sorted by ``sector``."""
    return torch.bincount(sector(x), minlength=SECTORS).cumsum(0).tolist()
