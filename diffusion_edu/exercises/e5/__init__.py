"""E5: the loss of DDPM, and training with it."""

from ..spec import Exercise, tests_of
from . import mistakes, mistakes_epoch, mistakes_pairs, mistakes_training, test_e5

EXERCISE = Exercise(
    "E5",
    "Learn to see the noise",
    "05",
    functions=(
        mistakes.TIME_EMBEDDING,
        mistakes_pairs.DRAW_T,
        mistakes_pairs.TRAIN_PAIR,
        mistakes.DDPM_LOSS,
        mistakes_training.TRAIN_STEP,
        mistakes_epoch.TRAIN_EPOCH,
        mistakes_epoch.EMA_UPDATE,
        mistakes_pairs.V_TARGET,
    ),
    tests=tests_of(test_e5),
)
