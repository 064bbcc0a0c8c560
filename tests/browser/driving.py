"""What a reader does with a player, and what is to be seen of it."""

from __future__ import annotations

import base64
import io
import time
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from torch import Tensor

from diffusion_edu.widgets.datasets import EXTENT

LOOKS = Path(__file__).with_name("looks.js")  # add_init_script(path=LOOKS) gives it to a page


def wait_until(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.03)


def frame(player: Any, panel: int = 0) -> float:
    return float(player.locator("canvas").nth(panel).get_attribute("data-frame"))


def pixels(player: Any, panel: int = 0) -> np.ndarray:
    """The canvas as (H, W, 4) uint8."""
    from PIL import Image

    url = player.locator("canvas").nth(panel).evaluate("canvas => canvas.toDataURL()")
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGBA"))


def looks(player: Any) -> list[dict[str, Any]]:
    """{"sum", "blank", "table"} of each canvas: the page does it faster than ``pixels``."""
    found: list[dict[str, Any]] = player.evaluate("player => looks.pictures(player)")
    return found


def share_drawn(picture: np.ndarray, points: Tensor) -> float:
    """Share of ``points`` (n, 2) under which the picture has ink."""
    half = len(picture) / 2
    at = np.stack([half + half / EXTENT * points[:, 0], half - half / EXTENT * points[:, 1]], 1)
    at = at[((at > 2) & (at < 2 * half - 2)).all(1)].astype(int)
    return float((picture[at[:, 1], at[:, 0], 3] > 0).mean())


def slider(player: Any, name: str) -> Any:
    return player.locator(f'input[type=range][aria-label="{name}"]')


def entry(player: Any, name: str) -> Any:
    return player.locator(f'input[type=number][aria-label="{name} (number)"]')


def status(player: Any) -> str:
    return str(player.locator("[role=status]").inner_text())


def pause(player: Any) -> None:
    button = player.get_by_role("button", name="pause")
    if button.count():
        button.click()


def write_notebook(path: Path, cells: list[str]) -> Path:
    """A notebook with these code cells."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}  # else JupyterLab asks
    code = [nbformat.v4.new_code_cell(c) for c in cells]
    nbformat.write(nbformat.v4.new_notebook(cells=code, metadata=kernel), path)
    return path
