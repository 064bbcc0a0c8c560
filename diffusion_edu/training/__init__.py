"""Training: one loop, checkpoints that survive anything, recipes, and export of the result."""

from __future__ import annotations

from .loop import Config, Record, State, evaluate, train, validation_set
from .quality import export, measure, null_mmd2
from .recipes import RECIPES, Recipe, recipe

__all__ = [
    "RECIPES",
    "Config",
    "Recipe",
    "Record",
    "State",
    "evaluate",
    "export",
    "measure",
    "null_mmd2",
    "recipe",
    "train",
    "validation_set",
]
