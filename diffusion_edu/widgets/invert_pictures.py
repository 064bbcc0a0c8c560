"""Pictures of InvertAndMix: two planes, or images and lengths; errors of round trips."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..viz.scene import Axis, Handle, Scene
from . import datasets
from .invert_paths import CURVE, MIXES, REACH, State, between, distance

__all__ = ["draw_errors", "draw_images", "draw_planes", "texts"]

DARK = 0.5  # contrast of the images of the other lambdas
LATENT = 2.5  # standard deviations of a latent that are white
RING = 0.14  # radius of the ring around the mix


def texts(state: State) -> list[str]:
    """One line for each lambda."""
    norms = state.mixed.flatten(1).norm(dim=1).tolist()
    ends = state.latents.flatten(1).norm(dim=1).tolist()
    off = distance(state.path[[0, -1]], state.ends).tolist()
    spread = [0.0] * len(state.times)
    if state.again:
        apart = torch.stack([distance(x, state.path) for x in state.again.values()])
        spread = apart.amax(0).tolist()
    counts, lines = ", ".join(map(str, state.again)), []
    for f, lam in enumerate(state.times):
        line = f"\u03bb = {lam:g}: |x_T| = {norms[f]:.2f} (A {ends[0]:.2f}, B {ends[1]:.2f})"
        if state.again:
            x, y = state.path[f].tolist()
            line += f", mix ({x:.2f}, {y:.2f}), crosses ({counts} steps) within {spread[f]:.2f}"
        lines.append(f"{line}; A' off {off[0]:.2f}, B' {off[1]:.2f}")
    return lines


def draw_planes(scene: Scene, state: State, mix: str) -> None:
    """The data plane with the decoded path, and the plane of latents."""
    a, b = state.ends.tolist()
    handles = [Handle("A", "ax", "ay", (a[0], a[1])), Handle("B", "bx", "by", (b[0], b[1]))]
    data = state.trips.data
    order, groups = datasets.by_colour(data)
    layers = [scene.frames(data[order][None], mark="dot", groups=groups)]
    for end, back in zip(state.ends, state.path[[0, -1]], strict=True):
        layers.append(scene.path(torch.stack([end, back])[None], colour=5, dashed=True))
    layers.append(scene.path(state.path[None], colour=4))
    if state.mine is not None:
        layers.append(scene.path(state.mine[None], colour=5, dashed=True))
    again = torch.stack(list(state.again.values()), 1) if state.again else state.path[:, None]
    layers.append(scene.frames(again, mark="cross", groups=[0] * 5 + [again.shape[1]]))
    layers.append(scene.path(_ring(state.path), colour=4))
    scene.points("data x_0: drag a ring", layers, REACH, handles=handles)
    _draw_latents(scene, state, mix)


def _draw_latents(scene: Scene, state: State, mix: str) -> None:
    order, groups = datasets.by_colour(state.trips.measured)
    layers = []
    if state.steps in state.trips.known:
        latents = state.trips.known[state.steps][0][order]
        layers.append(scene.frames(latents[None], mark="dot", groups=groups))
    circle = _ring(torch.zeros(1, 2), math.sqrt(2))
    layers.append(scene.frames(circle, mark="data", groups=[circle.shape[1]]))
    layers.append(scene.path(state.mixed[None], colour=4))
    if state.mine_mixed is not None:
        layers.append(scene.path(state.mine_mixed[None], colour=5, dashed=True))
    if state.mine_latents is not None:
        layers.append(scene.frames(state.mine_latents[None], mark="cross", groups=[0] * 5 + [2]))
    for name, at in zip("AB", state.latents, strict=True):
        layers.append(scene.path(_ring(at[None], 0.6 * RING), colour=4))
        layers.append(scene.path(_letter(name, at)[None], colour=4))
    layers.append(scene.path(_ring(state.mixed), colour=4))
    u, v = state.latents.double()
    angle = (u @ v / (u.norm() * v.norm())).clamp(-1, 1).acos().rad2deg()
    scene.points(f"latents x_T: {mix}, {float(angle):.0f}\u00b0 apart", layers, REACH)


def _ring(at: Tensor, radius: float = RING) -> Tensor:
    """Circles around at (F, 2): (F, k, 2)."""
    angle = torch.linspace(0, 2 * math.pi, 17 if radius <= RING else 65)
    return at[:, None] + radius * torch.stack([angle.cos(), angle.sin()], 1)


_LETTERS = {  # strokes, within a box 2 wide and 3 high
    "A": [(-1, -1.5), (0, 1.5), (0.65, -0.5), (-0.65, -0.5), (0.65, -0.5), (1, -1.5)],
    "B": [(-1, 0), (0.6, 0), (1, -0.5), (1, -1), (0.6, -1.5), (-1, -1.5), (-1, 1.5), (0.4, 1.5),
          (0.8, 1.1), (0.8, 0.4), (0.4, 0)],
}  # fmt: skip


def _letter(name: str, at: Tensor) -> Tensor:
    """Strokes of a letter, above and beside a place: (k, 2)."""
    return at + 0.3 + 0.11 * torch.tensor(_LETTERS[name])


def draw_images(scene: Scene, state: State) -> None:
    """A, the mix and B above what inversion and decoding make of them; and all mixes in a grid."""
    ends, back = state.ends, state.path[[0, -1]]
    F, shape = len(state.times), state.ends.shape[1:]
    fixed = [x.expand(F, *shape) for x in (ends[0], ends[1], back[0], back[1])]
    latent = (state.mixed / LATENT).clamp(-1, 1)
    six = torch.stack([fixed[0], state.path, fixed[1], fixed[2], latent, fixed[3]], 1)
    scene.images("A, mix, B; below: A', x_T, B'", scene.frames(six.flatten(2), bits=8), (6, *shape))
    _draw_row(scene, "all \u03bb" if state.mine is None else "all \u03bb, library", state.path)
    if state.mine is not None:
        _draw_row(scene, "all \u03bb, yours", state.mine)
    _draw_lengths(scene, state)


def _draw_row(scene: Scene, title: str, path: Tensor) -> None:
    """All mixes (F, *D), that of the frame shown bright and the others darker."""
    F = len(path)
    bright = DARK + (1 - DARK) * torch.eye(F).view(F, F, *[1] * (path.ndim - 1))
    shown = bright * (path.clamp(-1, 1) + 1) - 1
    scene.images(title, scene.frames(shown.flatten(2), bits=8), path.shape)


def _draw_lengths(scene: Scene, state: State) -> None:
    """|x_T| of the mixes, beside the length that Gaussian noise has."""
    a, b = state.latents.split(1)
    lams, usual = torch.tensor(state.times), math.sqrt(a.numel())
    ways = {mix: between(mix, a, b, lams) for mix in MIXES}
    if state.mine_mixed is not None:
        ways["yours"] = state.mine_mixed
    series = [
        scene.series(name, x.flatten(1).norm(dim=1), draw="dots" if name == "yours" else "line")
        for name, x in ways.items()
    ]
    longest = float(state.latents.flatten(1).norm(dim=1).max())
    y = Axis(0, min(max(1.6 * usual, longest), 100 * usual), "|x_T|")
    scene.curves("length of the latent", series, y, levels=[(usual, "usual for noise")])


def draw_errors(scene: Scene, state: State, steps: int) -> None:
    """Errors of round trips against the number of steps."""
    assert state.curve is not None
    several, rms, median = state.curve
    wide = torch.logspace(0, math.log10(max(CURVE)), 41)
    slope = median[-1] * several[-1] / wide
    unit = "per pixel" if state.images else "|x_0 - x_0'|"
    both = torch.cat([rms, median]).nan_to_num(1.0).clamp(1e-6, 1e6).log10()
    low, high = min(-2, math.floor(both.min())), max(1, math.ceil(both.max()))
    series = [
        scene.series(f"RMS of {len(state.trips.measured)}", rms, several.float()),
        scene.series("median", median, several.float()),
        scene.series("falling like 1/S", slope.where(slope <= 10.0**high, math.nan), wide),
    ]
    y = Axis(10.0**low, 10.0**high, unit, log=True)
    x = Axis(1, max(100, steps), "steps S", log=True)
    now = torch.full((len(state.times),), float(steps))
    scene.curves("error of x_0 -> x_T -> x_0'", series, y, x, at=now)
