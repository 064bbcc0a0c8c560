"""Pictures and tables of lecture 10: the inside of a U-Net, measured while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import Tensor, nn

from .plots import COLOURS, GREY, Picture, new_figure

__all__ = ["shapes", "u_shape"]

Stage = tuple[str, tuple[int, ...], int]  # name, (C, H, W) that comes out, weights in it


def shapes(model: nn.Module, x: Tensor) -> tuple[list[str], list[list[Any]]]:
    """Header and rows of a table: what comes out of each stage of a U-Net that is fed x (B, *D)."""
    rows: list[list[Any]] = [["image", _times(x.shape[1:]), x[0].numel(), ""]]
    for name, shape, weights in _stages(model, x):
        rows.append([name, _times(shape), torch.Size(shape).numel(), f"{weights:,}"])
    return ["stage", "C x H x W", "numbers", "weights"], rows


def u_shape(model: nn.Module, x: Tensor) -> Picture:
    """The stages drawn to scale: height is H, width the channels; arrows are the skips."""
    every = [one for one in _stages(model, x) if len(one[1]) == 3]
    figure, ((axis,),) = new_figure(size=(8.0, 3.2))
    scale = 2.2 / max(shape[1] for _, shape, _ in every)
    left = 0.0
    places: dict[str, tuple[float, float]] = {}
    for name, (c, h, _), _ in every:
        width, height = 0.25 + c / 130, h * scale
        colour = COLOURS[0] if "down" in name else COLOURS[1] if "up" in name else COLOURS[2]
        axis.add_patch(Rectangle((left, -height / 2), width, height, color=colour, alpha=0.8))
        axis.text(left + width / 2, -1.25, f"{name}\n{c}x{h}x{h}", ha="center", va="top", size=8.5)
        places[name] = (left + width / 2, height / 2)
        left += width + 0.8
    levels = sum("down" in name for name in places)
    for i in range(levels):
        _skip(axis, places[f"down {i}"], places[f"up {i}"])
    _skip(axis, places["in"], places["up 0"])
    axis.set(xlim=(-0.4, left - 0.3), ylim=(-1.9, 2.3))
    axis.set_axis_off()
    words = ", ".join(f"{name} {_times(shape)}" for name, shape, _ in every)
    return Picture(figure, f"The U-Net's stages: {words}; skips lead from each down to its up")


@torch.no_grad()
def _stages(model: nn.Module, x: Tensor) -> list[Stage]:
    """Name, output and weights of the stages of a UNet (or one inside AsEps), in running order.

    Those on the way down and up before they are halved or doubled in size.
    """
    net: Any = getattr(model, "net", model)
    found: list[Stage] = []
    hooks = [
        module.register_forward_hook(_note(found, name)) for name, module in _named(net) if module
    ]
    try:
        model(x, torch.ones(len(x), dtype=torch.int64))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _named(net: Any) -> list[tuple[str, nn.Module]]:
    last = len(net.up_blocks) - 1
    return [
        ("time", net.time_embedding),
        ("in", net.conv_in),
        *((f"down {i}", block) for i, block in enumerate(net.down_blocks)),
        ("middle", net.mid_block),
        *((f"up {last - i}", block) for i, block in enumerate(net.up_blocks)),
        ("out", net.conv_out),
    ]


def _note(found: list[Stage], name: str) -> Any:
    def hook(module: Any, _: Any, output: Tensor | list[Tensor]) -> None:
        # A stage gives all its outputs; those after its residual blocks have been resized.
        result = output[len(module.resnets) - 1] if isinstance(output, list) else output
        weights = sum(p.numel() for p in module.parameters())
        found.append((name, tuple(result.shape[1:]), weights))

    return hook


def _skip(axis: Any, a: tuple[float, float], b: tuple[float, float]) -> None:
    how: dict[str, Any] = {"arrowstyle": "->", "mutation_scale": 9, "color": GREY, "lw": 1.2}
    bend = "arc3,rad=-0.25"
    axis.add_patch(FancyArrowPatch(a, b, connectionstyle=bend, **how))


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
