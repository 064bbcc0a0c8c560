"""The two binary formats of the image sets, read strictly: what is not exactly right is an error.

Nothing here unpickles or runs anything found in a file: bytes go in, uint8 tensors come out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["CIFAR10_BATCH", "CIFAR10_RECORD", "parse_cifar10", "parse_idx", "parse_mnist"]

UBYTE = 0x08  # IDX's code for unsigned bytes, the only type these sets use
MNIST_SIDE = 28
CIFAR10_BATCH = 10_000  # images in a file
CIFAR10_RECORD = 1 + 3 * 32 * 32  # label, then red, green and blue planes row by row
CLASSES = 10


def parse_idx(data: bytes, shape: Sequence[int], what: str = "data") -> Tensor:
    """Unsigned bytes of an IDX file, uint8 of the given shape.

    IDX (LeCun, Cortes, Burges: The MNIST database, "the IDX file format"): two zero bytes, a type
    code, the number of dimensions, each dimension as 4 bytes big-endian, then the values, last
    dimension fastest.

    Args:
        data: the whole file, not compressed.
        shape: the dimensions the header must state.
        what: the file's name for messages.

    Raises:
        ValueError: another magic number, other dimensions, or too few or too many bytes.
    """
    magic = bytes([0, 0, UBYTE, len(shape)])
    if data[:4] != magic:
        raise ValueError(
            f"{what} must begin with the IDX magic number {magic.hex()} "
            f"({len(shape)}-D unsigned bytes), got {data[:4].hex() or 'an empty file'}"
        )
    start = 4 + 4 * len(shape)
    if len(data) < start:
        raise ValueError(f"{what} ends within its header: {len(data)} of {start} bytes")
    stated = tuple(int.from_bytes(data[k : k + 4], "big") for k in range(4, start, 4))
    if stated != tuple(shape):
        raise ValueError(f"{what} must state the dimensions {tuple(shape)}, got {stated}")
    if len(data) != start + math.prod(shape):
        raise ValueError(f"{what} must have {start + math.prod(shape)} bytes, got {len(data)}")
    return _bytes(data)[start:].view(*shape)


def parse_mnist(files: Sequence[bytes], n: int) -> tuple[Tensor, Tensor]:
    """[images file, labels file] of MNIST's layout -> uint8 (n, 1, 28, 28), int64 (n,).

    Raises:
        ValueError: see ``parse_idx``; or a label above 9.
    """
    images, labels = files
    pixels = parse_idx(images, (n, MNIST_SIDE, MNIST_SIDE), "the images file")
    return pixels[:, None], _labels(parse_idx(labels, (n,), "the labels file"))


def parse_cifar10(files: Sequence[bytes], n: int) -> tuple[Tensor, Tensor]:
    """Files of CIFAR-10's binary version -> uint8 (n, 3, 32, 32), int64 (n,).

    Each record is one label byte and 3,072 pixel bytes: 32 x 32 red, then green, then blue.

    Raises:
        ValueError: a file that is not a whole batch of records, not n images, or a label above 9.
    """
    for k, data in enumerate(files):
        if len(data) != CIFAR10_BATCH * CIFAR10_RECORD:
            raise ValueError(
                f"file {k} must hold {CIFAR10_BATCH} records of {CIFAR10_RECORD} bytes = "
                f"{CIFAR10_BATCH * CIFAR10_RECORD}, got {len(data)} bytes"
            )
    records = torch.cat([_bytes(data).view(-1, CIFAR10_RECORD) for data in files])
    if len(records) != n:
        raise ValueError(f"files must hold {n} images together, got {len(records)}")
    return records[:, 1:].reshape(n, 3, 32, 32), _labels(records[:, 0])


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)  # a copy torch may write to


def _labels(labels: Tensor) -> Tensor:
    if len(labels) and int(labels.max()) >= CLASSES:
        raise ValueError(f"labels must lie in 0..{CLASSES - 1}, got {int(labels.max())}")
    return labels.long()
