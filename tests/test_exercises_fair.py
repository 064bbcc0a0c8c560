"""Answers of students that were judged wrongly once: the right pass, no wrong name is given."""

from __future__ import annotations

import math
from typing import Any

import torch

from diffusion_edu import exercises
from diffusion_edu.exercises.judge import judge
from diffusion_edu.exercises.local import Namespace


def verdicts(key: str, secret: str = "s", **functions: Any) -> dict[str, Any]:
    """Test -> its result, for some functions of an exercise."""
    found = judge(exercises.load(key), Namespace(functions), secret=secret)
    return {r.name: r for r in found if r.function in functions}


def passed(results: dict[str, Any]) -> bool:
    return all(r.status == "passed" for r in results.values())


def test_a_score_by_transforms_of_torch() -> None:
    """torch.func, whose first use imports for a second, is no function that never ends."""

    def gmm_score(x: Any, means: Any, var: Any, w: Any, alpha_bar: Any) -> Any:
        noisy, spread = alpha_bar**0.5 * means, alpha_bar * var + 1 - alpha_bar

        def logq(one: Any) -> Any:
            squared, d = ((one - noisy) ** 2).sum(-1), len(one)
            return torch.logsumexp(w.log() - squared / (2 * spread) - d / 2 * spread.log(), 0)

        return torch.func.vmap(torch.func.grad(logq))(x)

    assert passed(verdicts("E9", gmm_score=gmm_score))


def test_a_number_is_a_number() -> None:
    """A loss as a float passes the hidden test too, which compares two of them."""
    image_loss = lambda eps, pred: ((eps - pred) ** 2).mean().item()  # noqa: E731
    assert passed(verdicts("E4", image_loss=image_loss))


def test_an_index_that_slips_is_not_called_another_variance() -> None:
    """The two formulas are one; so the name has both, and no more than half of the points."""

    def loss_weight(t: Any, sch: Any) -> Any:
        beta, alpha = sch.beta[t], sch.alpha[t]
        return beta**2 / (2 * beta * alpha * (1 - sch.alpha_bar[t - 1]))

    (first, *_) = verdicts("E4", loss_weight=loss_weight).values()
    assert first.mistake == "beta_tilde_or_alpha_bar_of_t_minus_1"
    assert first.score <= first.max_score / 2


def test_a_result_without_numbers_is_not_said_to_be_a_step_too_many() -> None:
    """All results without numbers are alike; the hint asks, and names what it may be."""

    def ddpm_sample(eps_model: Any, xT: Any, sch: Any, zs: Any) -> Any:
        return xT * math.nan

    (first, *_) = verdicts("E6", ddpm_sample=ddpm_sample).values()
    assert first.mistake == "includes_t0_or_no_number"
    hint = exercises.load("E6").function("ddpm_sample").named[first.mistake].hint
    assert "No number is left. Is t = 0 visited" in hint


def test_whose_times_are_named() -> None:
    """ "at t = ..." is said of t and s alone: of labels, or other integers, rows are named."""

    def drop_labels(y: Any, p: float, null: int, u: Any) -> Any:
        return torch.where(u <= 1 - p, torch.full_like(y, null), y)

    (first, *_) = verdicts("E9", drop_labels=drop_labels).values()
    assert "at t =" not in first.message
    assert "at entry =" in first.message


def test_a_network_that_was_not_stepped_is_no_edit_in_place() -> None:
    """The loss is right, and the network is not what a step makes of it."""
    reference = exercises.load("E5").function("train_step").reference

    def twice(model: Any, opt: Any, *others: Any) -> Any:
        loss = reference(model, opt, *others)
        opt.step()
        return loss

    (first, *_) = verdicts("E5", train_step=twice).values()
    assert "not the network afterwards: was a step left out, or made twice?" in first.message


def test_a_gradient_that_begins_at_the_result_leads_nowhere() -> None:
    """requires_grad_() silences autograd's error about a loss under no_grad; nothing learns."""
    reference = exercises.load("E5").function("ddpm_loss").reference

    def ddpm_loss(*args: Any) -> Any:
        with torch.no_grad():
            loss = reference(*args)
        return loss.requires_grad_(True)

    (first, *_) = verdicts("E5", ddpm_loss=ddpm_loss).values()
    assert (first.status, first.mistake) == ("failed", "detached_prediction")


def test_levels_of_a_float_grid_are_seen_in_the_notebook() -> None:
    """T * linspace falls just below an integer at 9 levels in 3 steps: the public test has them."""

    def timesteps(T: int, S: int, kind: str = "uniform") -> Any:
        u = torch.linspace(0, 1, S + 1)
        grid = u if kind == "uniform" else u**2
        return torch.floor(T * grid).long().flip(0)

    (first, *_) = verdicts("E7", timesteps=timesteps).values()
    assert first.status == "failed"


def test_integers_are_not_called_truth_values() -> None:
    """A mask of integers is no mask of floats: the name and its hint cover both."""

    def context_mask(u: Any, p: float) -> Any:
        return (u >= p).long()[:, None]

    (first, *_) = verdicts("E9", context_mask=context_mask).values()
    assert first.mistake == "not_floats"
