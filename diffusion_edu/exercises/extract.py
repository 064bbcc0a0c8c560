"""What a submitted notebook or script defines, read without running it.

Kept are imports, functions, classes and plain constants; calls, loops, magics and shell lines never
run at grading. Every cell is parsed for itself, so that a broken one costs only its own functions.
Nothing depends on ids, order or metadata of cells.
"""

from __future__ import annotations

import ast
import codecs
import io
import json
import re
import threading
import tokenize
import warnings
from dataclasses import dataclass, field
from typing import Any

__all__ = ["HEAD", "MOST_BYTES", "Code", "UngradableError", "read"]

MOST_CELLS = 5_000
MOST_BYTES = 20 << 20
MOST_CODE = 1 << 19  # characters of all cells: the grader itself parses them
ENCODINGS = ("utf-8", "utf-8-sig", "iso8859-1", "iso8859-15", "cp1252")  # as codecs call them
TRANSPARENT = ("%%time", "%%timeit", "%%capture", "%%prun")  # magics whose cell is still code
_one_at_a_time = threading.Lock()
HEAD = re.compile(r"^def[ \t]+(\w+)", re.MULTILINE)
CONFLICT = re.compile(r"^(<<<<<<<|>>>>>>>) ", re.MULTILINE)


class UngradableError(ValueError):
    """No code can be read from a file; the message says why, for the person who sent it."""


@dataclass
class Code:
    """What was read.

    Attributes:
        kept: (cell number from 1, source of one statement), in order.
        ignored: number of statements that were left out.
        assigned: names that ignored statements would have set.
        problems: what could not be read, with the cell's number.
        lost: for functions that were not read, why not.
        notes: what looks strange but costs nothing.
    """

    kept: list[tuple[int, str]] = field(default_factory=list)
    ignored: int = 0
    assigned: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read(data: bytes, name: str) -> Code:
    """The code of a .ipynb or .py file.

    Raises:
        UngradableError: it is empty, too large, not text, or no notebook.
    """
    text = _text(data)
    looks_like_json = text.lstrip()[:1] == "{"
    if name.lower().endswith(".ipynb") or (looks_like_json and '"cells"' in text):
        cells, notes = _cells(text)
    else:
        cells, notes = list(enumerate(re.split(r"^# %%.*$", text, flags=re.MULTILINE), 1)), []
    if (length := sum(len(source) for _, source in cells)) > MOST_CODE:
        raise UngradableError(f"it has {length:,} characters of code; at most {MOST_CODE:,}")
    code = Code(notes=notes)
    for number, source in cells:
        _read_cell(number, source, code)
    return code


def _text(data: bytes) -> str:
    if not data.strip():
        raise UngradableError("the file is empty")
    if len(data) > MOST_BYTES:
        raise UngradableError(f"the file has {len(data) / 2**20:.0f} MiB; at most 20 are read")
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else _encoding(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        said = f"the file is no text: byte {error.start} is not {encoding}; save it as UTF-8"
        raise UngradableError(said) from error


def _encoding(data: bytes) -> str:
    """UTF-8, or what the coding line of a script says, if that is an ordinary one."""
    try:
        said = codecs.lookup(tokenize.detect_encoding(io.BytesIO(data).readline)[0]).name
    except SyntaxError:
        return "utf-8-sig"
    return said if said in ENCODINGS else "utf-8-sig"


def _cells(text: str) -> tuple[list[tuple[int, str]], list[str]]:
    """Code cells with their numbers among all cells, and notes."""
    notebook = _json(text)
    cells = notebook.get("cells")
    if cells is None and isinstance(notebook.get("worksheets"), list):  # nbformat 3
        sheets = [_dict(sheet).get("cells") for sheet in notebook["worksheets"]]
        cells = [c for sheet in sheets if isinstance(sheet, list) for c in sheet]
    if not isinstance(cells, list):
        raise UngradableError("the file is no notebook: it has no list of cells")
    if len(cells) > MOST_CELLS:
        raise UngradableError(f"the notebook has {len(cells):,} cells; at most {MOST_CELLS:,}")
    code, notes = [], []
    for number, cell in enumerate(map(_dict, cells), 1):
        source = _source(cell)
        if cell.get("cell_type") == "code":
            code.append((number, source))
        elif re.search(r"^def \w+\(", source, re.MULTILINE):
            notes.append(f"cell {number} is no code cell but has a `def` in it: it is not read")
    return code, notes


def _json(text: str) -> dict[str, Any]:
    try:
        notebook = json.loads(text)
    except (ValueError, RecursionError) as error:  # also of a number with too many digits
        if conflict := CONFLICT.search(text):
            line = text.count("\n", 0, conflict.start()) + 1
            raise UngradableError(
                f"the notebook has an unsolved merge conflict, first on line {line}"
            ) from error
        where = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UngradableError(f"the notebook is no valid JSON{where}: {error}") from error
    if not isinstance(notebook, dict):
        raise UngradableError("the file is no notebook: its JSON is no object")
    return notebook


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    return source if isinstance(source, str) else ""


def _read_cell(number: int, source: str, code: Code) -> None:
    try:
        tree, lines = _parsed(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) else error
        kind = "merge conflict" if CONFLICT.search(source) else type(error).__name__
        problem = f"cell {number} cannot be read ({kind}, {what})"
        code.problems.append(problem)
        code.lost.update(dict.fromkeys(HEAD.findall(source), problem))
        return
    for node in tree.body:
        if _is_kept(node):
            code.kept.append((number, _with_decorators(lines, node)))
        else:
            code.ignored += 1
            code.assigned += _set_by(node)
            why = f"cell {number} has it within a statement that does not run at grading"
            inner = (n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef))
            code.lost |= dict.fromkeys(inner, f"{why}: write it at the left margin")


def _parsed(source: str) -> tuple[ast.Module, list[bytes]]:
    """The statements of a cell, and its lines."""
    as_it_is = "\n".join(_lines(source))  # a line may begin with % and go on with an expression
    # In two threads at once ast.parse may fail (Python 3.11), and filters of warnings get mixed up.
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(as_it_is), as_it_is.encode().split(b"\n")
        except SyntaxError:
            plain = _without_magics(source)
            return ast.parse(plain), plain.encode().split(b"\n")


def _lines(source: str) -> list[str]:
    """Lines as Python has them: str.splitlines also breaks at U+2028, within a string."""
    return re.split(r"\r\n|\r|\n", source)


def _segment(lines: list[bytes], node: ast.stmt | ast.expr) -> str:
    """The source of a node; ast.get_source_segment splits the whole cell for every one."""
    assert node.end_lineno is not None
    first, *more = lines[node.lineno - 1 : node.end_lineno]
    if not more:
        return first[node.col_offset : node.end_col_offset].decode()
    more[-1] = more[-1][: node.end_col_offset]
    return b"\n".join([first[node.col_offset :], *more]).decode()


def _set_by(statement: ast.stmt) -> list[str]:
    names = (n for n in ast.walk(statement) if isinstance(n, ast.Name))
    return [n.id for n in names if isinstance(n.ctx, ast.Store)]


def _with_decorators(lines: list[bytes], node: ast.stmt) -> str:
    heads = [f"@{_segment(lines, d)}\n" for d in getattr(node, "decorator_list", [])]
    return "".join(heads) + _segment(lines, node)


def _without_magics(source: str) -> str:
    """The cell with `%`, `!` and `?` lines blanked; a cell that a magic gives away, empty."""
    lines = _lines(source)
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("%%"):
        if not first.startswith(TRANSPARENT):
            return ""
        lines[next(i for i, line in enumerate(lines) if line.strip())] = ""
    return "\n".join(_blanked(line) for line in lines)


def _blanked(line: str) -> str:
    bare = line.strip()
    shell = re.match(r"[%!]|\?|\w+\s*=\s*[%!]", bare) or re.fullmatch(r"[\w.]+\?\??", bare)
    # `pass` keeps an `if` whose only line it was
    return line[: len(line) - len(line.lstrip())] + "pass" if shell and bare else line


def _is_kept(node: ast.stmt) -> bool:
    if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.Assign):
        return all(map(_is_name, node.targets)) and _is_constant(node.value)
    if isinstance(node, ast.AnnAssign):
        return _is_name(node.target) and node.value is not None and _is_constant(node.value)
    if isinstance(node, ast.Try):
        return all(isinstance(n, ast.Import | ast.ImportFrom) for n in node.body) and all(
            _is_kept(n) or isinstance(n, ast.Pass) for h in node.handlers for n in h.body
        )
    return False


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name | ast.Tuple) and all(
        isinstance(n, ast.Name | ast.Tuple | ast.Store) for n in ast.walk(node)
    )


ALLOWED = (
    ast.Constant,
    ast.Name,
    ast.Attribute,
    ast.Load,
    ast.Tuple,
    ast.List,
    ast.Dict,
    ast.Set,
    ast.UnaryOp,
    ast.BinOp,
    ast.operator,
    ast.unaryop,
)
MOST_NODES = 10_000


def _is_constant(node: ast.expr) -> bool:
    """Numbers, text, names, small sums of them, and lambdas: nothing that is called here."""
    if isinstance(node, ast.Lambda):
        return True
    nodes = list(ast.walk(node))
    if len(nodes) >= MOST_NODES or not all(isinstance(n, ALLOWED) for n in nodes):
        return False
    grown = (
        n for n in nodes if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Pow | ast.LShift)
    )
    return all(_is_small(n.left, 2**20) and _is_small(n.right, 64) for n in grown)


def _is_small(node: ast.expr, most: float) -> bool:
    """A number up to ``most``, either sign: 10**-8 is a constant, 9**9**9 never ends."""
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    value = node.value if isinstance(node, ast.Constant) else None
    return isinstance(value, int | float) and value <= most
