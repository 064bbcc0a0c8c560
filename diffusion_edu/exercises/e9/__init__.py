"""E9: scores, guidance, and distances that judge samples."""

from ..spec import Exercise, tests_of
from . import mistakes, mistakes_metrics, mistakes_walk, test_e9

EXERCISE = Exercise(
    "E9",
    "Scores, guidance and a verdict",
    "09",
    functions=(
        mistakes.SCORE_FROM_EPS,
        mistakes.GMM_SCORE,
        mistakes_walk.LANGEVIN_STEP,
        mistakes_walk.CFG_EPS,
        mistakes_walk.DROP_LABELS,
        mistakes_metrics.MMD2_RBF,
        mistakes_metrics.SLICED_W2,
        mistakes_walk.CONTEXT_MASK,
    ),
    tests=tests_of(test_e9),
)
