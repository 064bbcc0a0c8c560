"""PAPER_MAP.md: each numbered equation the library uses -> function -> test -> lecture.

Functions are found by the citations in their docstrings ("DDPM eq. 6-7"), lectures by what their
cells show. What is written down here is what an equation says and the test that pins it.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from .. import (
    forward,
    gaussian,
    objectives,
    posterior,
    prediction,
    sampling,
    schedules,
)
from .build import source
from .syllabus import SYLLABUS

__all__ = [
    "CITED",
    "EQUATIONS",
    "MODULES",
    "Equation",
    "citations",
    "lectures_showing",
    "paper_map",
]

MODULES = (
    schedules,
    gaussian,
    forward,
    posterior,
    prediction,
    objectives,
    sampling,
)
PAPERS = {
    "DDPM": "Denoising diffusion probabilistic models, arXiv 2006.11239",
    "DDIM": "Denoising diffusion implicit models, arXiv 2010.02502",
    "improved DDPM": "Improved denoising diffusion probabilistic models, arXiv 2102.09672",
}
# "improved DDPM (2102.09672) eq. 17", "DDPM eq. 6-7"
CITED = re.compile(r"((?:[Ii]mproved )?DDPM|DDIM)\s*(?:\(\d+\.\d+\))?\s+eq\.\s+(\d+)(?:-(\d+))?")


@dataclass(frozen=True)
class Equation:
    """One numbered equation.

    Attributes:
        paper: a key of ``PAPERS``.
        number: of the equation.
        says: in a few words.
        test: file and function, below ``tests/``, that pins it.
    """

    paper: str
    number: int
    says: str
    test: str


def _of(paper: str, *rows: tuple[int, str, str]) -> tuple[Equation, ...]:
    return tuple(Equation(paper, *row) for row in rows)


EQUATIONS = (
    *_of(
        "DDPM",
        (2, "one step of noise", "test_forward.py::test_q_step_is_the_formula_in_float64"),
        (4, "t steps of noise at once", "test_forward.py::test_steps_compose_to_the_marginal"),
        (
            5,
            "the bound as L_T + sum L_(t-1) + L_0",
            "test_bound.py::test_vlb_terms_summed_over_t_are_the_elbo",
        ),
        (6, "the posterior is Gaussian", "test_posterior.py::test_the_posterior_is_bayes_rule"),
        (7, "its mean and variance", "test_posterior.py::test_the_posterior_is_bayes_rule"),
        (
            8,
            "L_(t-1) as a distance of means",
            "test_gaussian.py::test_kl_is_that_of_torch_distributions",
        ),
        (11, "the mean of a step back", "test_reverse_step.py::test_large_is_ddpm_with_beta"),
        (
            12,
            "L_(t-1) as a weighted error of the noise",
            "test_bound.py::test_the_kl_is_the_weighted_error_of_the_noise",
        ),
        (13, "the discretised decoder", "test_gaussian.py::test_the_decoder_sums_to_one"),
        (14, "L_simple", "test_objectives.py::test_loss_simple_is_the_mean_square"),
        (15, "data from noise", "test_prediction.py::test_the_four_forms_are_consistent"),
    ),
    *_of(
        "DDIM",
        (7, "the family q_sigma", "test_posterior.py::test_every_sigma_keeps_the_marginals"),
        (
            8,
            "its forward process, by Bayes' rule",
            "test_posterior.py::test_the_non_markovian_forward_is_bayes_rule",
        ),
        (9, "the predicted data", "test_prediction.py::test_the_four_forms_are_consistent"),
        (12, "one step of the sampler", "test_reverse_step.py::test_eta_1_samples_the_posterior"),
        (
            14,
            "the ODE, run upwards",
            "test_inversion.py::test_inversion_walks_the_levels_upwards",
        ),
        (16, "sigma for eta", "test_posterior.py::test_ddim_sigma_is_eta_times_sqrt_beta_tilde"),
        (67, "spherical interpolation", "test_inversion.py::test_slerp_stays_on_the_sphere"),
    ),
    *_of(
        "improved DDPM",
        (
            15,
            "a variance between beta-tilde and beta",
            "test_objectives.py::test_learned_variance_runs_from_beta_tilde_to_beta",
        ),
        (16, "L_hybrid", "test_objectives.py::test_hybrid_is_the_sum_of_its_parts"),
        (
            17,
            "the cosine schedule",
            "test_schedules.py::test_cosine_is_the_closed_form_until_the_cap",
        ),
        (
            18,
            "t by importance",
            "test_objectives.py::test_importance_sampling_is_unbiased",
        ),
        (
            19,
            "betas of a shorter chain",
            "test_schedules.py::test_respace_keeps_levels_and_multiplies_alphas",
        ),
    ),
)


def citations() -> dict[tuple[str, int], list[str]]:
    """(paper, number) -> names of the functions whose docstrings cite the equation."""
    found: dict[tuple[str, int], list[str]] = {}
    for module in MODULES:
        for name, thing in _documented(module):
            for paper, first, last in CITED.findall(inspect.getdoc(thing) or ""):
                paper = paper.replace("Improved", "improved")
                for number in range(int(first), int(last or first) + 1):
                    names = found.setdefault((paper, number), [])
                    if name not in names:
                        names.append(name)
    return found


def _documented(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Public functions and classes of a module, and the classes' own methods and properties."""
    short = module.__name__.rpartition(".")[2]
    for name in module.__all__:
        thing = getattr(module, name)
        if not callable(thing):
            continue
        yield f"{short}.{name}", thing
        if inspect.isclass(thing) and thing.__module__ == module.__name__:
            for member, value in vars(thing).items():
                if not member.startswith("_") and inspect.getdoc(value):
                    yield f"{short}.{name}.{member}", value


def lectures_showing() -> dict[str, list[str]]:
    """Function -> numbers of the lectures that show its source, in order."""
    found: dict[str, list[str]] = {}
    for one in SYLLABUS:
        for name in sorted(_shown(source(one))):
            found.setdefault(name, []).append(one.number)
    return found


def _shown(text: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "show":
            names |= {a.attr for a in node.args if isinstance(a, ast.Attribute)}
    return names


def paper_map() -> str:
    """The text of PAPER_MAP.md."""
    lines = [
        "# From equation to code",
        "",
        "Every numbered equation of the three papers that the library uses: the function that is",
        "the equation, the test that pins it, and the lectures that show it. Made by",
        "`diffusion-edu lectures paper-map` from citations in docstrings; a test holds it to them.",
    ]
    cited, shown = citations(), lectures_showing()
    names = {one.number: one.name for one in SYLLABUS}
    for paper, title in PAPERS.items():
        lines += ["", f"## {paper}: {title}", "", "| eq. | says | function | test | lecture |"]
        lines.append("|---|---|---|---|---|")
        for e in EQUATIONS:
            if e.paper == paper:
                functions = cited.get((paper, e.number), [])
                lines.append(_row(e, functions, shown, names))
    return "\n".join(lines) + "\n"


def _row(
    e: Equation, functions: list[str], shown: dict[str, list[str]], names: dict[str, str]
) -> str:
    numbers = sorted({n for f in functions for n in shown.get(f.rpartition(".")[2], [])})
    files = [f"[`{f}`](diffusion_edu/{f.partition('.')[0]}.py)" for f in functions]
    lectures = [f"[{n}](notebooks/{names[n]}.ipynb)" for n in numbers]
    file, _, name = e.test.partition("::")
    test = f"[`{name}`](tests/{file})"
    return f"| {e.number} | {e.says} | {', '.join(files)} | {test} | {', '.join(lectures)} |"
