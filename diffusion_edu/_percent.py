"""Notebooks made from percent sources, the same every time, and the files they go to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._files import write_atomically

__all__ = ["tidied", "write_files", "written"]


def tidied(made: Any, cells: list[Any], prefix: str, kernel: str = "Python 3") -> Any:
    """The notebook of these cells: no metadata but the kernel's and tags, steady ids."""
    import nbformat

    for number, cell in enumerate(cells, 1):
        tags = list(cell.metadata.get("tags", []))
        cell.metadata = nbformat.NotebookNode({"tags": tags} if tags else {})
        cell["id"] = f"{prefix}-{number:02}"
    spec = {"name": "python3", "display_name": kernel, "language": "python"}
    made.cells, made.metadata = cells, nbformat.NotebookNode({"kernelspec": spec})
    made.nbformat, made.nbformat_minor = 4, 5
    nbformat.validate(made)
    return made


def written(made: Any) -> str:
    """The text of a notebook's file."""
    import nbformat

    return str(nbformat.writes(made)) + "\n"


def write_files(files: dict[Path, str]) -> list[Path]:
    """Write texts to files, each atomically; their folders are made.

    Returns:
        The files written.
    """
    for path, text in files.items():
        write_atomically(path, text.encode())
    return list(files)
