"""PAPER_MAP.md: what docstrings cite, what pins it and where it is shown all exist."""

import ast

import pytest
from rooms import MATHS, PACKAGE, ROOT

import diffusion_edu
from diffusion_edu.lectures.paper_map import (
    CITED,
    EQUATIONS,
    MODULES,
    citations,
    lectures_showing,
    paper_map,
)

KEYS = [(e.paper, e.number) for e in EQUATIONS]


def test_the_file_is_what_the_command_writes():
    assert (ROOT / "PAPER_MAP.md").read_text() == paper_map()


def test_every_cited_equation_is_in_the_map_and_no_other():
    assert sorted(citations()) == sorted(set(KEYS))
    assert len(set(KEYS)) == len(KEYS)


def test_every_module_that_cites_an_equation_is_read():
    citing = {name for name in MATHS if CITED.search((PACKAGE / f"{name}.py").read_text())}
    assert citing == {module.__name__.rpartition(".")[2] for module in MODULES}


def names_in(function):
    """Names and attributes that a function's text mentions."""
    nodes = ast.walk(function)
    return {name for n in nodes for name in (getattr(n, "id", ""), getattr(n, "attr", "")) if name}


@pytest.mark.parametrize("equation", EQUATIONS, ids=[f"{p} {n}" for p, n in KEYS])
def test_the_test_of_an_equation_exists_and_calls_its_function(equation):
    file, _, name = equation.test.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text())
    functions = {f.name: f for f in tree.body if isinstance(f, ast.FunctionDef)}
    assert name in functions
    words = names_in(functions[name])
    for helper in words & set(functions):
        words = words | names_in(functions[helper])
    targets = {f.split(".")[-1] for f in citations()[equation.paper, equation.number]}
    targets |= {f.split(".")[1] for f in citations()[equation.paper, equation.number]}
    assert words & targets, f"{name} names none of {targets}"


@pytest.mark.parametrize("equation", EQUATIONS, ids=[f"{p} {n}" for p, n in KEYS])
def test_some_lecture_shows_the_function_of_an_equation(equation):
    shown = lectures_showing()
    names = [f.split(".")[-1] for f in citations()[equation.paper, equation.number]]
    names += [f.split(".")[1] for f in citations()[equation.paper, equation.number]]
    assert any(n in shown for n in names), f"no lecture has show(de.{names[0]})"


def test_functions_of_the_map_are_public():
    for names in citations().values():
        for name in names:
            module, member, *_ = name.split(".")
            assert hasattr(getattr(diffusion_edu, module), member)
