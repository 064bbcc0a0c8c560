"""E7: DDIM, the sampler that skips levels and needs no noise."""

from ..spec import Exercise, tests_of
from . import mistakes, mistakes_bugs, mistakes_sample, mistakes_step, test_e7

EXERCISE = Exercise(
    "E7",
    "Fewer steps, less noise",
    "07",
    functions=(
        mistakes.TIMESTEPS,
        mistakes_step.DDIM_SIGMA,
        mistakes_step.DDIM_STEP,
        mistakes_sample.DDIM_SAMPLE,
        mistakes_bugs.LEVEL_PAIRS,
        mistakes_bugs.LEVEL_TABLES,
    ),
    tests=tests_of(test_e7),
)
