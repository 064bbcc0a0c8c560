"""What a lecture's cells call: show a function, check an identity, print a small table."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["Text", "agree", "show", "table"]


class Text:
    """Markdown with a plain form, for outputs that live in a notebook."""

    def __init__(self, markdown: str, plain: str | None = None) -> None:
        self.markdown, self.plain = markdown, plain or markdown

    def _repr_markdown_(self) -> str:
        return self.markdown

    def __repr__(self) -> str:
        return self.plain


def show(*functions: Callable[..., Any], docstring: bool = True) -> Text:
    """The source of functions of the library, as it runs: lecture and library cannot differ.

    Args:
        functions: functions, methods or classes.
        docstring: False leaves the docstrings out, for what was shown before.
    """
    code = "\n\n".join(_source(f, docstring) for f in functions)
    return Text(f"```python\n{code}\n```", code)


def _source(function: Callable[..., Any], docstring: bool) -> str:
    code = textwrap.dedent(inspect.getsource(inspect.unwrap(function))).rstrip()
    if docstring or not function.__doc__:
        return code
    start = code.index('"""')
    end = code.index('"""', start + 3) + 3
    return re.sub(r"\s+r?$", "", code[:start]) + code[end:]


def agree(a: Any, b: Any, tol: float = 1e-6, what: str = "largest difference") -> None:
    """Print the largest difference of two results, and insist that it is at most ``tol``.

    Args:
        a, b: tensors or numbers that broadcast.
        tol: absolute. For a Monte-Carlo estimate: a few of its standard errors.
        what: the start of the line.

    Raises:
        AssertionError: they differ by more than ``tol``, or one is not finite.
    """
    a, b = (torch.as_tensor(x, dtype=torch.float64) for x in (a, b))
    gap = _largest(a, b)
    if not gap <= tol:
        raise AssertionError(f"{what}: {gap:.2g}, which is more than {tol:.2g}")
    print(f"{what}: {gap:.2g} (at most {tol:.2g}) ✓")


def _largest(a: Tensor, b: Tensor) -> float:
    return float((a.detach().cpu() - b.detach().cpu()).abs().max())


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], digits: int = 4) -> Text:
    """A small table. Numbers are rounded to ``digits`` significant digits.

    Raises:
        ValueError: a row of another length than the header.
    """
    for row in rows:
        if len(row) != len(header):
            raise ValueError(f"row {list(row)} has {len(row)} cells, the header {len(header)}")
    cells = [[_cell(value, digits) for value in row] for row in rows]
    lines = [header, ["---"] * len(header), *cells]
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return Text("\n".join("| " + " | ".join(line) + " |" for line in escaped))


def _cell(value: Any, digits: int) -> str:
    if isinstance(value, Tensor) and value.ndim == 0:
        value = value.item()
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)
