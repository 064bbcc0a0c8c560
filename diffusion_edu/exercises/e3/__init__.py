"""E3: the posterior of the forward process by Bayes' rule, and the trade of noise for data."""

from ..spec import Exercise, tests_of
from . import mistakes, mistakes_noise, mistakes_sample, mistakes_tables, test_e3

EXERCISE = Exercise(
    "E3",
    "Walk back with Bayes",
    "03",
    functions=(
        mistakes.POSTERIOR_MEAN,
        mistakes.POSTERIOR_VAR,
        mistakes_sample.POSTERIOR_SAMPLE,
        mistakes_noise.X0_FROM_EPS,
        mistakes_noise.EPS_FROM_X0,
        mistakes_tables.POSTERIOR_TABLES,
    ),
    tests=tests_of(test_e3),
)
