"""E4: the terms of the variational bound, and what the training loss leaves of them."""

from ..spec import Exercise, tests_of
from . import mistakes, mistakes_loss, mistakes_steps, test_e4

EXERCISE = Exercise(
    "E4",
    "From the bound to the loss",
    "04",
    functions=(
        mistakes.GAUSSIAN_KL,
        mistakes.PRIOR_KL,
        mistakes_steps.KL_T,
        mistakes_loss.LOSS_WEIGHT,
        mistakes_loss.BITS_PER_DIM,
        mistakes_loss.IMAGE_LOSS,
    ),
    tests=tests_of(test_e4),
)
