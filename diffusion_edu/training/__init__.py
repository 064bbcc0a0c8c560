"""Training: one loop, checkpoints that survive anything, recipes, and export of the result."""

from __future__ import annotations

from .config import Config, draw_times
from .heldout import evaluate, validation_set
from .loop import Record, State, train
from .machine import Machine
from .quality import export, measure, null_mmd2
from .recipes import RECIPES, ImageRecipe, Recipe, recipe

__all__ = [
    "RECIPES",
    "Config",
    "ImageRecipe",
    "Machine",
    "Recipe",
    "Record",
    "State",
    "draw_times",
    "evaluate",
    "export",
    "measure",
    "null_mmd2",
    "recipe",
    "train",
    "validation_set",
]
