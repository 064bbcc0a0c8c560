"""E1: the forward chain, one step at a time."""

from ..spec import Exercise, tests_of
from . import mistakes, mistakes_chain, test_e1

EXERCISE = Exercise(
    "E1",
    "One step of noise at a time",
    "01",
    functions=(
        mistakes.MAKE_LINEAR_BETA,
        mistakes.FORWARD_STEP,
        mistakes_chain.FORWARD_CHAIN,
        mistakes_chain.CHAIN_VARIANCE,
        mistakes_chain.NOISY_CHAIN,
    ),
    tests=tests_of(test_e1),
)
