"""The rooms of the package: which imports which, what is public, and how long things are."""

import ast
import re
import sys
from pathlib import Path

import pytest
from rooms import (
    FILES,
    MATHS,
    PACKAGE,
    ROOMS,
    ROOT,
    imports,
    lines,
    own_imports,
    place,
    room_of,
    tree,
)

import diffusion_edu

# ---- which way imports point ---------------------------------------------------------------------


def graph():
    """Room -> rooms it imports, as the code has it."""
    found = {room: set() for room in ROOMS}
    for path in FILES:
        room = room_of(place(path)[0])
        found.setdefault(room, set()).update(map(room_of, own_imports(path)))
    return {room: others - {room} for room, others in found.items()}


def test_rooms_import_what_the_table_allows_and_all_of_it():
    """No import against the table, no allowance that nobody uses, no room that it does not know."""
    assert graph() == {room: set(others) for room, others in ROOMS.items()}


def test_the_table_points_one_way():
    """A room may import only rooms that stand before it in the table: nothing goes in circles."""
    before = []
    for room, others in ROOMS.items():
        assert set(others) <= set(before), room
        before.append(room)


@pytest.mark.parametrize("name", MATHS)
def test_the_mathematics_imports_only_torch_and_what_came_before(name):
    """Maths modules know torch, the standard library, _checks and the maths modules before."""
    path = PACKAGE / f"{name}.py"
    outside = {module.split(".")[0] for module, _ in imports(path)} - {"diffusion_edu", "torch"}
    assert outside <= set(sys.stdlib_module_names) | {"__future__"}
    assert own_imports(path) <= {"_checks", *MATHS[: MATHS.index(name)]}


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("ipywidgets", {"widgets"}),
        ("anywidget", {"widgets"}),
        ("matplotlib", {"viz"}),
        ("sklearn", {"data"}),
        ("typer", {"helpers", "data", "evaluation", "training", "lectures", "grading", "cli"}),
        ("diffusers", set()),
    ],
)
def test_heavy_packages_have_one_home(package, rooms):
    """Only widgets/ imports ipywidgets, only viz/ matplotlib; typer is for commands alone."""
    users = [p for p in FILES if package in {module.split(".")[0] for module, _ in imports(p)}]
    assert {room_of(place(path)[0]) for path in users} == rooms
    if package == "typer":
        inner = {p.stem for p in users if room_of(place(p)[0]) != "cli"}
        assert all("command" in name or "options" in name for name in inner)


def test_nobody_imports_what_is_private():
    """A name with an underscore is its module's own; so is a module within its room."""
    taken = [
        (str(path.relative_to(ROOT)), module, name)
        for path in FILES
        for module, name in imports(path)
        if module.startswith("diffusion_edu") and name != "__version__"
        for part in [*module.split(".")[2:], *([name] if module != "diffusion_edu" else [])]
        if part and part.startswith("_")
    ]
    assert taken == []


# ---- what is public ------------------------------------------------------------------------------

# What an exercise is made of has the names that learners write; pytest and python -m need no list.
LISTED = [
    path
    for path in FILES
    if not re.fullmatch(r"e\d+", path.parent.name) and path.stem not in ("conftest", "__main__")
]
# What these list is what ``import diffusion_edu`` gives; what only the package uses is not in it.
AT_THE_TOP = {f"diffusion_edu.{name}" for name in MATHS}


def module_name(path):
    """diffusion_edu.widgets.forward"""
    parts = [p for p in place(path) if p != "__init__"]
    return ".".join(["diffusion_edu", *parts])


def listed(path):
    """Names in a module's __all__; None if it has none."""
    if path == PACKAGE / "__init__.py":
        return diffusion_edu.__all__
    for node in tree(path).body:
        named = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if getattr(named[0], "id", "") == "__all__":
            return ast.literal_eval(node.value)
    return None


def defined(path):
    """Functions and classes of a module that have no underscore."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    nodes = (node for node in tree(path).body if isinstance(node, kinds))
    return {node.name: node for node in nodes if not node.name.startswith("_")}


def imported_names():
    """module -> names that other modules of the package take from it."""
    taken = {}
    for path in FILES:
        for module, name in imports(path):
            taken.setdefault(module, set()).add(name)
    return taken


def test_every_module_lists_what_is_public():
    """Each has an __all__, without repetitions."""
    assert [str(p.relative_to(ROOT)) for p in LISTED if listed(p) is None] == []
    assert [
        str(p.relative_to(ROOT))
        for p in LISTED
        if len(set(listed(p) or ())) != len(listed(p) or ())
    ] == []


def test_functions_and_classes_are_listed_or_private():
    """What has no underscore is in __all__, or, in the maths, used elsewhere or in a lecture."""
    taken = imported_names()
    for lecture in (ROOT / "notebooks" / "source").glob("*.py"):
        for module, name in re.findall(r"\bde\.(\w+)\.(\w+)", lecture.read_text()):
            taken.setdefault(f"diffusion_edu.{module}", set()).add(name)
    hidden = {}
    for path in LISTED:
        module = module_name(path)
        known = set(listed(path) or ()) | (
            taken.get(module, set()) if module in AT_THE_TOP else set()
        )
        if missing := set(defined(path)) - known:
            hidden[module] = sorted(missing)
    assert hidden == {}


def test_what_other_modules_take_is_listed():
    """Names that are imported from a module, constants too, are in its __all__."""
    modules = {module_name(path): path for path in LISTED}
    unlisted = {}
    for module, names in imported_names().items():
        if module in modules and module not in AT_THE_TOP | {"diffusion_edu"}:
            rest = {n for n in names - {None, "*"} if f"{module}.{n}" not in modules}
            if missing := rest - set(listed(modules[module]) or ()):
                unlisted[module] = sorted(missing)
    assert unlisted == {}


def test_what_is_listed_is_documented():
    """Public functions, classes and their methods have docstrings."""
    silent = []
    for path in LISTED:
        for name, node in defined(path).items():
            inner = node.body if isinstance(node, ast.ClassDef) else []
            methods = [m for m in inner if isinstance(m, ast.FunctionDef) and m.name[0] != "_"]
            bare = [one.name for one in (node, *methods) if not ast.get_docstring(one)]
            silent += [f"{module_name(path)}.{name}: {one}" for one in bare]
    assert silent == []


# ---- size and style ------------------------------------------------------------------------------

EVERY = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")])
SCRIPTS = sorted([*PACKAGE.rglob("*.js"), *PACKAGE.rglob("*.css")])
MOST_LINES, MOST_OF_A_FUNCTION = 400, 40


def test_files_fit_on_a_few_pages():
    """At most 400 lines a file: of the package, its scripts, its tests."""
    long = {
        str(p.relative_to(ROOT)): count
        for p in [*EVERY, *SCRIPTS]
        if (count := len(p.read_text().splitlines())) > MOST_LINES
    }
    assert long == {}


def test_functions_fit_on_a_page():
    """At most 40 lines a function of the package, signature and docstring included."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = {
        f"{path.relative_to(PACKAGE)}: {node.name}": lines(node)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(tree(path))
        if isinstance(node, functions) and lines(node) > MOST_OF_A_FUNCTION
    }
    assert long == {}


def speaks_to_readers(path):
    """Cards, tables and pictures of lectures show symbols: there a beta is a letter."""
    return "lectures" in path.parts or re.fullmatch(r"l\d\d\.py", path.name)


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if not speaks_to_readers(p.relative_to(PACKAGE))],
    ids=lambda p: str(Path(p).relative_to(PACKAGE)),
)
def test_source_is_plain_ascii(path):
    """Code and docstrings need no special fonts or keyboards: sqrt, alpha_bar, eps in words."""
    assert path.read_text().isascii()
