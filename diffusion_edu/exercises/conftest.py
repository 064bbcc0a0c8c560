"""Fixtures for running an exercise's tests by pytest itself: the student is the reference.

python -m pytest diffusion_edu/exercises/e2/test_e2.py
"""

from __future__ import annotations

from typing import Any

import pytest

from diffusion_edu.exercises import load
from diffusion_edu.exercises.local import Namespace
from diffusion_edu.exercises.testing import Student
from diffusion_edu.exercises.world import World, worlds

EVERY = (*worlds(), *worlds("pytest"))


@pytest.fixture
def student(request: Any) -> Student:
    """Whoever writes what the reference says."""
    exercise = load(request.module.__name__.rpartition("test_")[2].upper())
    return Student(exercise, Namespace({f.name: f.reference for f in exercise.functions}))


@pytest.fixture(params=EVERY, ids=[w.label for w in EVERY])
def case(request: Any) -> World:
    """Every public world, and some hidden ones; a hidden test has hidden worlds only."""
    world: World = request.param
    if getattr(request.function, "hidden", False) and world in worlds():
        pytest.skip("runs on hidden worlds")
    return world
