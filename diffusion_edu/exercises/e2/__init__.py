"""E2: the closed form of the forward process."""

from ..spec import Exercise, tests_of
from . import mistakes, mistakes_cosine, test_e2

EXERCISE = Exercise(
    "E2",
    "Jump to any t",
    "02",
    functions=(
        mistakes.ALPHA_BAR_FROM_BETA,
        mistakes_cosine.COSINE_ALPHA_BAR,
        mistakes.Q_SAMPLE,
        mistakes.SNR_,
        mistakes.CHAIN_TABLES,
    ),
    tests=tests_of(test_e2),
)
