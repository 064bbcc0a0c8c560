"""The rooms of the package, what each may import, and how the tests read its files."""

import ast
from functools import cache
from pathlib import Path

import diffusion_edu

PACKAGE = Path(diffusion_edu.__file__).parent
ROOT = PACKAGE.parent
# A module of the mathematics may import those before it.
MATHS = (
    "schedules",
    "gaussian",
    "forward",
    "posterior",
    "prediction",
    "spacing",
    "objectives",
    "sampling",
    "known",
    "oracles",
    "continuous",
    "metrics",
)
# Room -> rooms it imports, functions included: no others, and none of these for nothing.
ROOMS = {
    "helpers": (),
    "maths": ("helpers",),
    "data": ("helpers",),
    "nets": ("helpers", "maths", "data"),
    "viz": ("helpers", "maths", "data"),
    "evaluation": ("helpers", "maths", "data", "nets", "viz"),
    "training": ("helpers", "maths", "data", "nets", "viz", "evaluation"),
    "widgets": ("helpers", "maths", "data", "nets", "viz", "evaluation", "training"),
    "lectures": ("helpers", "maths", "data", "nets", "viz", "evaluation", "widgets"),
    "exercises": ("helpers", "viz"),
    "grading": ("helpers", "exercises"),
    "cli": (
        "helpers",
        "data",
        "nets",
        "evaluation",
        "training",
        "lectures",
        "grading",
    ),
    # What ``import diffusion_edu`` gives; all but the first two on first use.
    "top": ("maths", "nets", "data", "viz", "training", "widgets", "lectures", "exercises"),
}
HELPERS = ("_checks", "_extras", "_files", "_options", "_parallel", "_percent", "_watchdog")
CLI = ("cli", "_handout", "_lab", "_safeguards", "__main__")


def room_of(part):
    """The room of a file or folder at the top of the package."""
    homes = {**dict.fromkeys(MATHS, "maths"), **dict.fromkeys(HELPERS, "helpers")}
    return (homes | dict.fromkeys(CLI, "cli") | {"__init__": "top"}).get(part, part)


def place(path):
    """Its parts below the package: ("widgets", "forward")."""
    return path.relative_to(PACKAGE).with_suffix("").parts


def is_code(path):
    """Whether it is code of the library: what learners are given to read and write is text."""
    return path.stem != "notebook"


FILES = sorted(filter(is_code, PACKAGE.rglob("*.py")))


@cache
def tree(path):
    """The syntax tree of a file."""
    return ast.parse(path.read_text())


def imports(path):
    """(module, name) of each import of a file, functions included; name None for the module."""
    package = [*path.relative_to(ROOT).with_suffix("").parts]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)
    if path == PACKAGE / "__init__.py":
        yield from ((target.partition(":")[0], None) for target in diffusion_edu._LAZY.values())


def own_imports(path):
    """What of this package a file imports: {"schedules", "nets", ...}, "__init__" for the top."""
    found = set()
    for module, name in imports(path):
        top, *parts = module.split(".")
        if top != "diffusion_edu" or name == "__version__":
            continue
        if not parts:
            there = (PACKAGE / f"{name}.py").exists() or (PACKAGE / str(name)).is_dir()
            parts = [name if there else "__init__"]
        found.add(parts[0])
    return found


def lines(node):
    """Lines of a function, signature and docstring included."""
    return node.end_lineno - node.lineno + 1
