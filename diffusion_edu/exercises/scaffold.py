"""A new exercise that is sound from the start, to be filled with one's own functions."""

from __future__ import annotations

import re
from pathlib import Path

from . import names

__all__ = ["scaffold"]

HERE = Path(__file__).parent
FILES = {
    "__init__.py": '''"""{key}: {title}."""

from ..spec import Exercise, tests_of
from . import mistakes, {test}

EXERCISE = Exercise(
    "{key}",
    "{title}",
    "00",  # the lecture it belongs to
    functions=(mistakes.ADD_NOISE,),
    tests=tests_of({test}),
)
''',
    "mistakes.py": '''"""{key}: the right functions, and the wrong ones that have a name."""

from __future__ import annotations

from torch import Tensor

from ..spec import Graded, Mistake


def add_noise_{low}(x0: Tensor, eps: Tensor, variance: float) -> Tensor:
    """x0 with noise of a variance."""
    return x0 + variance**0.5 * eps


ADD_NOISE = Graded(
    "add_noise_{low}",
    add_noise_{low},
    lambda world: [(world.x0, world.eps, 0.3)],
    (
        Mistake(
            "var_for_std",
            lambda x0, eps, variance: x0 + variance * eps,
            "What multiplies eps is a standard deviation.",
            "00, a section of the lecture",
            credit=0.25,
        ),
    ),
    # Three other right ways of writing it.
    (
        lambda x0, eps, variance: x0.add(eps, alpha=variance**0.5),
        lambda x0, eps, variance: x0 - variance**0.5 * -eps,
        lambda x0, eps, variance: (x0 / variance**0.5 + eps) * variance**0.5,
    ),
)
''',
    "test_{low}.py": '''"""Tests of {key}, {title}."""

from __future__ import annotations

from diffusion_edu.exercises.testing import Student, expect, points
from diffusion_edu.exercises.world import World


@points(2)
def test_add_noise_{low}__values(student: Student, case: World) -> None:
    expect(student.add_noise_{low}, case)
''',
    "notebook.py": '''# %% [markdown]
# # {key} \u00b7 {title}

# %%
from diffusion_edu import check

# %% [markdown]
# ## 1. Add noise
#
# $x = x_0 + \\sigma \\varepsilon$, where `variance` is $\\sigma^2$.


# %%
def add_noise_{low}(x0, eps, variance):
    """x0 with noise of a variance."""
    # BEGIN SOLUTION
    sigma = variance**0.5
    return x0 + sigma * eps
    # END SOLUTION


# %%
check("{key}")
''',
}


def scaffold(key: str, title: str) -> list[Path]:
    """Write the files of a new exercise beside the others.

    Raises:
        ValueError: the key is none, or is taken.
        PermissionError: the package lies where nothing can be written; work in a checkout.
    """
    key = key.upper()
    if not re.fullmatch(r"E[1-9]\d*", key):
        raise ValueError(f"the key of an exercise is E and a number, got {key!r}: try E10")
    if key in names() or (HERE / key.lower()).exists():
        raise ValueError(f"{key} is there already: {', '.join(names())}")
    if not re.fullmatch(r"[^\"\\{}\n]+", title):
        raise ValueError(f"a title is one line without quotes and braces, got {title!r}")
    words = {"key": key, "low": key.lower(), "title": title, "test": f"test_{key.lower()}"}
    folder = HERE / key.lower()
    folder.mkdir()
    made = []
    for name, text in FILES.items():
        path = folder / name.format(**words)
        path.write_text(_filled(text, words), encoding="utf-8")
        made.append(path)
    return made


def _filled(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(f"{{{word}}}", value)
    return text
