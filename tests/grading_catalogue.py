"""Forms of the functions of any exercise, as text that needs nothing of this library.

The modules of an exercise's catalogue (``mistakes*.py``) become functions of the submission that
return what the module defines, so that every form is one call: ``_e3_mistakes()["Q"].mistakes[2]``.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import textwrap
from functools import lru_cache
from types import ModuleType

from grading_forms import Form

from diffusion_edu import exercises
from diffusion_edu.exercises.judge import judge
from diffusion_edu.exercises.local import Namespace
from diffusion_edu.exercises.spec import Exercise, Graded

LIBRARY = "diffusion_edu.exercises"


def forms(key: str, secret: str) -> dict[str, list[Form]]:
    """The reference, the other right forms and the mistakes of every function."""
    exercise = exercises.load(key)
    return {spec.name: _forms(exercise, spec, secret) for spec in exercise.functions}


def _forms(exercise: Exercise, spec: Graded, secret: str) -> list[Form]:
    where = _where(exercise.key, spec)
    ways = [("", f"{where}.reference", spec.reference)]
    for i, other in enumerate(spec.alternatives):
        ways.append(("", f"{where}.alternatives[{i}]", other))
    for i, mistake in enumerate(spec.mistakes):
        ways.append((mistake.name, f"{where}.mistakes[{i}].wrong", mistake.wrong))
    found = []
    for name, expression, function in ways:
        results = judge(exercise, Namespace({spec.name: function}), secret, only=[spec.name])
        source = f"def {spec.name}(*args):\n    return {expression}(*args)\n"
        points = round(sum(r.score for r in results), 6)
        found.append(Form(spec.name, name, points, source, right=not name))
    return found


def handed_out(key: str, function: str) -> Form:
    """What a function is worth in the notebook that students get."""
    return Form(function, exercises.load(key).function(function).bug, 0.0, "", right=False)


def _where(key: str, spec: Graded) -> str:
    for module in _modules(key):
        for name, value in vars(module).items():
            if value is spec:
                return f'{_called(module.__name__)}()["{name}"]'
    raise AssertionError(f"{spec.name} is in no module of {key}")


def _called(module: str) -> str:
    return module.removeprefix(LIBRARY).replace(".", "_")


def _modules(key: str) -> list[ModuleType]:
    """All modules of the library that the catalogue of an exercise needs, but for the stubs."""
    package = f"{LIBRARY}.{key.lower()}"
    waiting, found = [f"{package}.mistakes"], {}
    exercise = exercises.load(key)
    waiting += [inspect.getmodule(f.reference).__name__ for f in exercise.functions]
    while waiting:
        name = waiting.pop()
        if name not in found and name != f"{LIBRARY}.stubs":
            found[name] = importlib.import_module(name)
            waiting += [_absolute(n, name) for n in _imports(found[name])]
    return list(found.values())


def _imports(module: ModuleType) -> list[ast.ImportFrom]:
    tree = ast.parse(inspect.getsource(module))
    return [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]


def _absolute(node: ast.ImportFrom, module: str) -> str:
    package = importlib.import_module(module).__package__
    return importlib.util.resolve_name("." * node.level + (node.module or ""), package)


@lru_cache
def support(key: str) -> str:
    """The modules of an exercise's catalogue, each as a function."""
    parts = ["import functools\n"]
    for module in _modules(key):
        tree = ast.parse(inspect.getsource(module))
        body = [line for node in tree.body for line in _inlined(node, module.__name__)]
        text = textwrap.indent("\n".join([*body, "return locals()"]), "    ")
        parts.append(f"@functools.cache\ndef {_called(module.__name__)}():\n{text}\n")
    return "\n\n".join(parts)


def _inlined(node: ast.stmt, module: str) -> list[str]:
    if not isinstance(node, ast.ImportFrom):
        return [ast.unparse(node)]
    if node.module == "__future__":
        return []
    if not node.level:
        return [ast.unparse(node)]
    target = _absolute(node, module)
    if target == f"{LIBRARY}.stubs":
        node.level, node.module = 0, "stubs"  # the file that workers have under this name
        return [ast.unparse(node)]
    return [f'{a.asname or a.name} = {_called(target)}()["{a.name}"]' for a in node.names]
