"""Values as bytes and back: a JSON tree that points into raw buffers. Never a pickle.

Only what is listed here can be sent; everything else is refused by name. This file also runs inside
the sandbox, where ``exercises/stubs.py`` is the module ``stubs``: nothing else is imported.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import torch
from torch import Tensor

try:
    from stubs import EpsModel, Sch, Seed, Sgd, TinyNet  # type: ignore[import-not-found]
except ImportError:
    from ...exercises.stubs import EpsModel, Sch, Seed, Sgd, TinyNet

__all__ = ["DTYPES", "MOST_BYTES", "STUBS", "Unsendable", "dumps", "loads"]

DTYPES = {
    str(d).removeprefix("torch."): d
    for d in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    )
}
DEEPEST = 6  # levels of tuples in tuples
MOST_BYTES = 8 << 20  # of one message: its JSON, as objects, takes 20 times as much
MOST_TEXT = 65_536
MOST_AXES = 16


class Unsendable(TypeError):  # noqa: N818
    """A value of a kind that does not cross."""


def dumps(value: Any) -> bytes:
    """``value`` as one message: length of the JSON, the JSON, the buffers."""
    buffers: list[bytes] = []
    head = json.dumps(_encode(value, buffers, 0)).encode()
    size = len(head) + sum(map(len, buffers))
    if size > MOST_BYTES:
        raise Unsendable(f"{size / 2**20:.0f} MiB are more than the {MOST_BYTES >> 20} allowed")
    return struct.pack("<I", len(head)) + head + b"".join(buffers)


def loads(data: bytes) -> Any:
    """The value of a message; raises ValueError for one that is not well formed."""
    try:
        (length,) = struct.unpack_from("<I", data)
        head = json.loads(data[4 : 4 + length])
        return _decode(head, memoryview(data)[4 + length :], 0)
    except (struct.error, LookupError, TypeError, ArithmeticError, RuntimeError) as error:
        raise ValueError(f"malformed message: {error}") from error


def _encode(v: Any, buffers: list[bytes], depth: int) -> Any:
    if depth > DEEPEST:
        raise Unsendable(f"more than {DEEPEST} levels of containers")
    if v is None or type(v) in (bool, int, str):
        if type(v) is int and not -(2**63) <= v < 2**63:
            raise Unsendable("an int of more than 64 bits")
        return v[:MOST_TEXT] if type(v) is str else v
    if type(v) is float:
        return v if math.isfinite(v) else {"k": "float", "v": repr(v)}
    if type(v) in (tuple, list):
        return {"k": type(v).__name__, "v": [_encode(x, buffers, depth + 1) for x in v]}
    if type(v) is dict:
        pairs = {str(k): _encode(x, buffers, depth + 1) for k, x in v.items()}
        return {"k": "dict", "v": pairs}
    if isinstance(v, Tensor):
        return _encode_tensor(v, buffers)
    return _encode_stub(v, buffers, depth)


def _encode_tensor(v: Tensor, buffers: list[bytes]) -> dict[str, Any]:
    if type(v) is not Tensor and type(v) is not torch.nn.Parameter:
        raise Unsendable(f"a subclass of Tensor, {type(v).__name__}")
    name = str(v.dtype).removeprefix("torch.")
    if name not in DTYPES or v.layout is not torch.strided:
        raise Unsendable(f"a tensor of dtype {v.dtype}, layout {v.layout}")
    if v.numel() * v.element_size() > MOST_BYTES:
        raise Unsendable(f"a tensor of {v.numel():,} numbers")
    flat = v.detach().to("cpu").contiguous().view(-1).view(torch.uint8)
    data = flat.numpy().tobytes()
    buffers.append(data)
    grad = bool(v.requires_grad)
    return {"k": "tensor", "d": name, "s": list(v.shape), "n": len(data), "grad": grad}


def _encode_stub(v: Any, buffers: list[bytes], depth: int) -> dict[str, Any]:
    def inner(*parts: Any) -> list[Any]:
        return [_encode(p, buffers, depth + 1) for p in parts]

    if isinstance(v, Sch):
        return {"k": "sch", "v": inner(v.beta, v.alpha, v.alpha_bar, v.T)}
    if isinstance(v, EpsModel):
        return {"k": "eps", "v": [v.gain.item(), v.shift.item()]}
    if isinstance(v, TinyNet):
        return {"k": "net", "v": v.numbers.tolist()}
    if isinstance(v, Sgd):
        return {"k": "sgd", "v": [v.rate]}
    if isinstance(v, Seed):
        return {"k": "seed", "v": [v.seed]}
    raise Unsendable(f"a value of type {type(v).__name__}")


STUBS = {"sch": Sch, "eps": EpsModel, "net": TinyNet, "sgd": Sgd, "seed": Seed}


class _Reader:
    """Takes the buffers one after the other, in the order they were written."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def tensor(self, node: dict[str, Any]) -> Tensor:
        dtype, shape, n = DTYPES[node["d"]], [int(s) for s in node["s"]], int(node["n"])
        if len(shape) > MOST_AXES or min([n, *shape]) < 0 or n != math.prod(shape) * dtype.itemsize:
            raise ValueError("malformed message: a tensor's size is not its shape's")
        if self.at + n > len(self.data):
            raise ValueError("malformed message: a buffer is cut short")
        raw = bytearray(self.data[self.at : self.at + n])
        self.at += n
        flat = torch.frombuffer(raw, dtype=dtype) if n else torch.empty(0, dtype=dtype)
        tensor = flat.reshape(shape)
        return tensor.requires_grad_() if node.get("grad") and dtype.is_floating_point else tensor


def _decode(node: Any, data: memoryview, depth: int, reader: _Reader | None = None) -> Any:
    reader = reader or _Reader(data)
    if depth > DEEPEST + 2:
        raise ValueError("malformed message: too deep")
    if not isinstance(node, dict):
        if node is not None and not isinstance(node, bool | int | float | str):
            raise ValueError("malformed message: a bare list")
        return node
    kind, v = node["k"], node.get("v")
    if kind == "tensor":
        return reader.tensor(node)
    if kind == "float":
        return float(str(v))
    if not isinstance(v, dict | list):
        raise ValueError(f"malformed message: a {kind} without its parts")
    if isinstance(v, dict):
        return {k: _decode(x, data, depth + 1, reader) for k, x in v.items()}
    parts = [_decode(x, data, depth + 1, reader) for x in v]
    if kind in ("tuple", "list"):
        return tuple(parts) if kind == "tuple" else parts
    return STUBS[kind](*parts)
