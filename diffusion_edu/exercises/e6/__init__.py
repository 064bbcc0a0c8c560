"""E6: DDPM's sampler."""

from ..spec import Exercise, tests_of
from . import mistakes, mistakes_bugs, mistakes_clipped, mistakes_loops, test_e6

EXERCISE = Exercise(
    "E6",
    "Walk back without the answer",
    "06",
    functions=(
        mistakes.DDPM_MEAN,
        mistakes.DDPM_STEP,
        mistakes_loops.DDPM_SAMPLE,
        mistakes_clipped.DDPM_MEAN_CLIPPED,
        mistakes_bugs.LAST_STEPS,
        mistakes_bugs.WALK_DOWN,
    ),
    tests=tests_of(test_e6),
)
