"""Files that no crash leaves half of, weights with what is known of them, and the checkout."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ._checks import check_choice

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "checkout",
    "find_weights",
    "read_weights",
    "shipped",
    "write_atomically",
    "write_weights",
]


def checkout() -> Path | None:
    """Root of the source checkout this package runs from, or None when it was installed."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() else None


def write_atomically(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a new file beside ``path``, then rename it to ``path``.

    Args:
        content: the bytes, or what is called with the open file to write them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name with an empty file
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # as open() would have; mkstemp lets only the owner read
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def shipped(folder: Path) -> tuple[str, ...]:
    """Names of the weights in a folder of this package."""
    return tuple(sorted(file.stem for file in folder.glob("*.safetensors")))


def find_weights(name: str | Path, folder: Path, names: tuple[str, ...], what: str) -> Path:
    """The file meant by ``name``: a path that ends in .safetensors, or one of ``names``.

    Raises:
        ValueError: unknown name (the nearest is suggested), or no such file.
    """
    path = Path(name)
    if path.suffix != ".safetensors":
        check_choice(str(name), names, what)
        return folder / f"{name}.safetensors"
    if not path.is_file():
        raise ValueError(
            f"no file {path}: give the path of a .safetensors file, or one of {', '.join(names)}"
        )
    return path


def write_weights(
    path: Path, tensors: dict[str, Tensor], about: Mapping[str, Any], kind: str
) -> None:
    """Write a .safetensors file with the values of ``about`` as JSON metadata, atomically."""
    from safetensors.torch import save

    metadata = {"format": kind, **{key: json.dumps(value) for key, value in about.items()}}
    write_atomically(path, save(tensors, metadata=metadata))


def read_weights(
    path: Path, kind: str, foreign: str, advice: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file of ``write_weights``.

    Args:
        foreign, advice: what the error says of a file of another kind, and what to do.

    Raises:
        ValueError: the file is damaged, or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if metadata.get("format") != kind:
        raise ValueError(
            f"{path} {foreign} (its format is {metadata.get('format')!r}, not {kind!r}): {advice}"
        )
    try:
        return tensors, {k: json.loads(v) for k, v in metadata.items() if k != "format"}
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} has damaged metadata: {error}") from error
