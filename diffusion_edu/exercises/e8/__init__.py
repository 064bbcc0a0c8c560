"""E8: what a deterministic sampler allows, to invert it and to interpolate with it."""

from ..spec import Exercise, tests_of
from . import mistakes, mistakes_mix, mistakes_noised, mistakes_path, test_e8

EXERCISE = Exercise(
    "E8",
    "There and back again",
    "08",
    functions=(
        mistakes.DDIM_INVERT_STEP,
        mistakes.DDIM_INVERT,
        mistakes_mix.SLERP,
        mistakes_path.INTERPOLATE,
        mistakes_noised.MIX_NOISED,
    ),
    tests=tests_of(test_e8),
)
