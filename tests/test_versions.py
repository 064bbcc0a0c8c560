"""The versions pyproject.toml admits: one list of the oldest, and what is installed lies within."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LISTS = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
# Not in this environment: tools that look at the source, and torch-fidelity, which needs a
# torchvision built for the very torch that is installed.
TESTED = [r for extra, rs in LISTS.items() if extra not in ("dev", "fid") for r in rs]
REQUIREMENTS = {r.name: r for r in map(Requirement, TESTED) if r.name != PROJECT["name"]}


def test_the_oldest_versions_are_the_lower_bounds():
    """constraints-oldest.txt pins what pyproject.toml asks for to the least it asks for."""
    text = (ROOT / "constraints-oldest.txt").read_text()
    pins = dict(re.findall(r"^([\w-]+)==(\S+)$", text, flags=re.MULTILINE))
    bounds = {
        name: bound.version
        for name, requirement in REQUIREMENTS.items()
        for bound in requirement.specifier
        if bound.operator == ">="
    }
    assert set(bounds) == set(REQUIREMENTS)
    del pins["notebook"], bounds["torch"]  # the file says why
    assert pins == bounds


def test_lists_agree():
    """A package that several extras ask for has one range."""
    ranges = {}
    for requirement in map(Requirement, TESTED):
        name = requirement.name
        assert ranges.setdefault(name, requirement.specifier) == requirement.specifier, name


@pytest.mark.parametrize("name", sorted(REQUIREMENTS))
def test_what_is_installed_is_admitted(name):
    """Under `make test` the newest, under `make oldest` the oldest: each in its range."""
    assert REQUIREMENTS[name].specifier.contains(version(name), prereleases=True)
