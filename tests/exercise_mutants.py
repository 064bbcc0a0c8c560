"""Random small changes of the references of all exercises, judged as answers of a learner.

python tests/exercise_mutants.py [E2 ...]   prints every mutant, and what became of it
"""

from __future__ import annotations

import ast
import copy
import inspect
import random
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from diffusion_edu.exercises import load, names
from diffusion_edu.exercises.judge import judge
from diffusion_edu.exercises.local import Namespace, timed
from diffusion_edu.exercises.outcome import distance, trusted
from diffusion_edu.exercises.spec import Exercise, Graded
from diffusion_edu.exercises.testing import calls, known
from diffusion_edu.exercises.world import worlds

SECRET = "mutants"  # of the hidden cases they are judged by
FRESH = ("one", "two", "three")  # of the cases by which it is decided what is true
DIFFERS = 1e-3
SAME = 1e-6  # in float64
PATIENCE = 1.0  # seconds a call may take

METHODS = {
    "sum": ("mean",), "mean": ("sum",), "cumprod": ("cumsum",), "cumsum": ("cumprod",),
    "log": ("exp",), "exp": ("log",), "log1p": ("log",), "expm1": ("exp",), "sin": ("cos",),
    "cos": ("sin",), "sqrt": ("square", "abs"), "square": ("sqrt", "abs"), "min": ("max",),
    "max": ("min",), "flip": ("clone",), "sort": ("max",),
}  # fmt: skip
TABLES = ("beta", "alpha", "alpha_bar")
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div)
COMPARES = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq}


# ---- how a function is changed -------------------------------------------------------------------


def variants(node: ast.AST, arguments: list[str]) -> Iterator[ast.AST]:
    """What may stand in place of an expression."""
    if isinstance(node, ast.BinOp):
        a, b = node.left, node.right
        yield from (ast.BinOp(a, op(), b) for op in OPERATORS if not isinstance(node.op, op))
        yield ast.BinOp(b, node.op, a)
        yield a
        yield b
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        for name in METHODS.get(node.func.attr, ()):
            yield ast.Call(ast.Attribute(node.func.value, name, ast.Load()), node.args, [])
        yield node.args[0] if node.args else node.func.value  # x.sqrt() -> x, torch.exp(x) -> x
    elif isinstance(node, ast.Attribute) and node.attr in TABLES:
        yield from (ast.Attribute(node.value, t, ast.Load()) for t in TABLES if t != node.attr)
    elif isinstance(node, ast.Name) and node.id in arguments:
        yield from (ast.Name(a, ast.Load()) for a in arguments if a != node.id)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        yield from (ast.Constant(v) for v in (node.value + 1, node.value - 1, node.value * 2))
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARES:
        yield ast.Compare(node.left, [COMPARES[type(node.ops[0])]()], node.comparators)
    if isinstance(node, ast.BinOp | ast.Call | ast.Attribute) or _is_time(node):
        one, two = ast.Constant(1), ast.Constant(2)
        yield ast.UnaryOp(ast.USub(), node)
        yield ast.BinOp(node, ast.Pow(), two)
        yield ast.BinOp(node, ast.Pow(), ast.Constant(0.5))
        yield from (ast.BinOp(node, op, one) for op in (ast.Add(), ast.Sub()))
        yield ast.BinOp(one, ast.Sub(), node)


def _is_time(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("t", "s") and isinstance(node.ctx, ast.Load)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else super().generic_visit(node)


def mutants(function: Callable[..., Any], draw: random.Random) -> Iterator[str]:
    """Sources of the function with one expression changed, or two, in random order, no two alike.

    Raises:
        OSError, TypeError, ValueError: it is no plain function with a source.
    """
    text = textwrap.dedent(inspect.getsource(function))
    tree = ast.parse(text)
    if not isinstance(tree.body[0], ast.FunctionDef):
        raise ValueError("no plain function")
    tree.body[0].decorator_list = []
    if isinstance(tree.body[0].body[0], ast.Expr):
        del tree.body[0].body[0]  # the docstring
    seen = {ast.unparse(tree)}
    for _ in range(400):
        changed = copy.deepcopy(tree)
        for _ in range(draw.choice((1, 1, 1, 2))):
            _change(changed, draw)
        source = ast.unparse(ast.fix_missing_locations(changed))
        if source not in seen:
            seen.add(source)
            yield source


def _change(tree: ast.Module, draw: random.Random) -> None:
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    arguments = [a.arg for a in function.args.args]
    inside = [n for statement in function.body for n in ast.walk(statement)]
    choices = [(n, v) for n in inside for v in variants(n, arguments)]
    if choices:
        old, new = draw.choice(choices)
        _Replace(old, copy.deepcopy(new)).visit(tree)


def compiled(source: str, like: Callable[..., Any]) -> Callable[..., Any] | None:
    """The function of a source, with all that another sees; None if it is no Python."""
    plain = inspect.unwrap(like)
    around = zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True)
    space = plain.__globals__ | {name: cell.cell_contents for name, cell in around}
    try:
        exec(compile(source, "<mutant>", "exec"), space)
    except (SyntaxError, ValueError, TypeError):
        return None
    function: Callable[..., Any] = space[plain.__name__]
    return function if plain is like else torch.no_grad()(function)  # all wrappers are this one


# ---- what becomes of it --------------------------------------------------------------------------


@dataclass
class Verdict:
    """One mutant: whether it was caught, the names it was given, and those it deserves."""

    exercise: str
    function: str
    source: str
    numbers: bool  # it returns something for some input
    caught: bool
    given: set[str]
    deserved: set[str]


def differs(spec: Graded, function: Callable[..., Any]) -> tuple[bool, bool] | None:
    """(differs from the reference anywhere, returns something anywhere); None: it hangs."""
    far = answered = False
    for world in (w for secret in (None, SECRET, *FRESH) for w in worlds(secret)):
        for args in calls(spec, world):
            wanted = known(spec.reference, args)
            got = timed(function, args, PATIENCE)
            if got.status in ("timeout", "memory"):
                return None
            off = distance(got, wanted)
            far |= off is None or off > DIFFERS
            answered |= got.status == "ok"
            if far and answered:
                return far, answered
    return far, answered


def deserved(spec: Graded, function: Callable[..., Any]) -> set[str]:
    """Names of the mistakes whose numbers are the function's in all fresh worlds, in float64."""
    inputs = [args for secret in FRESH for w in worlds(secret) for args in calls(spec, w)]
    mine = [trusted(function, args) for args in inputs]

    def same(wrong: Callable[..., Any]) -> bool:
        pairs = zip(mine, (known(wrong, args) for args in inputs), strict=True)
        return all((off := distance(a, b)) is not None and off < SAME for a, b in pairs)

    return {m.name for m in spec.mistakes if same(m.wrong)}


def verdict(exercise: Exercise, spec: Graded, source: str) -> Verdict | None:
    """What becomes of a mutant; None if it is none, or never ends."""
    function = compiled(source, spec.reference)
    found = differs(spec, function) if function is not None else None
    if function is None or found is None or not found[0]:
        return None
    backend = Namespace({spec.name: function}, PATIENCE)
    given: set[str] = set()
    caught = False
    for secret in (None, SECRET):  # as check does, and as the grader does
        results = judge(exercise, backend, secret, only=[spec.name])
        given |= {r.mistake for r in results if r.mistake}
        caught = any(r.status != "passed" for r in results)
    earned = deserved(spec, function) if given else set()
    return Verdict(exercise.key, spec.name, source, found[1], caught, given, earned)


def survey(keys: tuple[str, ...], each: int, seed: int = 0) -> tuple[list[Verdict], list[str]]:
    """Verdicts on up to ``each`` mutants a function, and the functions that have no source."""
    found: list[Verdict] = []
    skipped = []
    for key in keys:
        exercise = load(key)
        for spec in exercise.functions:
            draw = random.Random(f"{seed} {spec.name}")
            kept = 0
            try:
                for source in mutants(spec.reference, draw):
                    one = verdict(exercise, spec, source)
                    if one is not None:
                        found.append(one)
                        kept += one.numbers  # those that only raise are easily caught
                    if kept == each:
                        break
            except (OSError, TypeError, ValueError):
                skipped.append(spec.name)
    return found, skipped


if __name__ == "__main__":
    for one in survey(tuple(sys.argv[1:]) or names(), 8)[0]:
        print(f"# {one.exercise} caught={one.caught} given={one.given} deserved={one.deserved}")
        print(one.source, "\n")
