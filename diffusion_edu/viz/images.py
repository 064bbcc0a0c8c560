"""Pictures of many images at once."""

from __future__ import annotations

import math
from io import BytesIO
from pathlib import Path

import torch
from matplotlib.image import imsave
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from .._checks import check_count
from .._files import write_atomically

__all__ = ["save_image", "tile"]


def tile(images: Tensor, columns: int | None = None, gap: int = 1) -> Tensor:
    """Images (n, C, H, W) uint8 row by row on a white sheet: (C, rows (H+gap)+gap, ...).

    Args:
        columns: images per row; default: about as many as rows.

    Raises:
        ValueError: not uint8, not four dimensions, no image, columns < 1 or gap < 0.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
        raise ValueError(
            "images must be uint8 (n >= 1, C, H, W), got "
            f"{images.dtype} {tuple(images.shape)}: use to_uint8 for images in [-1, 1]"
        )
    n, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(n)) if columns is None else columns
    check_count(columns, 1, None, "columns")
    check_count(gap, 0, None, "gap")
    rows = math.ceil(n / columns)
    blank = images.new_full((rows * columns - n, channels, height, width), 255)
    framed = F.pad(torch.cat([images, blank]), (gap, 0, gap, 0), value=255)
    sheet = framed.unflatten(0, (rows, columns)).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    return F.pad(sheet, (0, gap, 0, gap), value=255)


def save_image(image: Tensor, path: Path, zoom: int = 1) -> None:
    """Write one image (1 or 3, H, W) uint8 as PNG, every pixel ``zoom`` times as large.

    Raises:
        ValueError: not uint8, another shape, or zoom < 1.
    """
    check_count(zoom, 1, None, "zoom")
    if image.dtype != torch.uint8 or image.ndim != 3 or len(image) not in (1, 3):
        raise ValueError(
            f"image must be uint8 (1 or 3, H, W), got {image.dtype} {tuple(image.shape)}"
        )
    image = image.cpu().repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)
    pixels = image.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
    buffer = BytesIO()
    imsave(buffer, pixels, format="png")
    write_atomically(path, buffer.getvalue())
