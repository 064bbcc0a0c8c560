"""Wrong answers that nobody foresaw are caught, and never given a name that they do not deserve."""

from __future__ import annotations

import inspect
import random
from dataclasses import replace

import exercise_mutants
import pytest
from exercise_mutants import mutants, survey, verdict

from diffusion_edu.exercises import judge, load, names

EACH = 8  # mutants of a function that give numbers
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch, about what the mutants do


def test_random_changes_of_the_references(capsys):
    """Of those that differ by 1e-3 anywhere, 99.5 % are caught; none is called by a wrong name."""
    verdicts, skipped = survey(names(), EACH)
    numbers = [v for v in verdicts if v.numbers]
    missed = [v for v in verdicts if not v.caught]
    named = [v for v in verdicts if v.given]
    wrongly = [v for v in named if not v.given <= v.deserved]
    with capsys.disabled():
        print(
            f"\n{len(verdicts)} mutants, {len(numbers)} of them give numbers; "
            f"{len(verdicts) - len(missed)} are caught; "
            f"{len(named)} are given a name, {len(wrongly)} of them wrongly; "
            f"{len(skipped)} functions without a source"
        )
    functions = [f.name for key in names() for f in load(key).functions]
    assert len(skipped) <= len(functions) // 10
    assert {v.function for v in numbers} | set(skipped) == set(functions)
    assert len(numbers) >= 200
    assert len(named) >= len(numbers) // 20, "the mutants are too unlike what people write"
    assert len(missed) <= 0.005 * len(verdicts), [(v.function, v.source) for v in missed]
    assert [(v.function, v.given, v.deserved, v.source) for v in wrongly] == []


# ---- the measurement can fail --------------------------------------------------------------------


E2 = load("E2")
SNR = E2.function("snr")
INVERTED = "def snr(sch):\n    return (1 - sch.alpha_bar) / sch.alpha_bar"
TRIPLE = "def snr(sch):\n    return 3 * sch.alpha_bar / (1 - sch.alpha_bar)"


def test_mutants_are_many_and_always_the_same():
    """A fixed seed gives the same sources, all different, none of them the reference."""
    two = [list(mutants(SNR.reference, random.Random(3))) for _ in range(2)]
    assert two[0] == two[1]
    assert len(set(two[0])) == len(two[0]) > 50
    assert not any(x.endswith("return sch.alpha_bar / (1 - sch.alpha_bar)") for x in two[0])
    assert two[0] != list(mutants(SNR.reference, random.Random(4)))


def test_verdicts():
    """A mistake has its name and deserves it; another wrong form has none; a right one is none."""
    one = verdict(E2, SNR, INVERTED)
    assert (one.caught, one.given, one.deserved) == (True, {"inverted"}, {"inverted"})
    one = verdict(E2, SNR, TRIPLE)
    assert (one.caught, one.given, one.numbers) == (True, set(), True)
    one = verdict(E2, SNR, "def snr(sch):\n    return sch.gamma")
    assert (one.caught, one.given, one.numbers) == (True, set(), False)
    assert verdict(E2, SNR, "def snr(sch):\n    return 1 / (1 / sch.alpha_bar - 1)") is None
    assert verdict(E2, SNR, "def snr(sch:\n") is None
    assert verdict(E2, SNR, inspect.getsource(SNR.reference)) is None


def test_a_wrong_name_is_noticed(monkeypatch):
    """A judge that calls every wrong answer by the first name it knows is found out."""
    monkeypatch.setattr(judge, "mistake_of", lambda spec, records: spec.mistakes[0].name)
    one = verdict(E2, SNR, TRIPLE)
    assert one.given == {"snr_of_one_step"}
    assert one.deserved == set()


def test_a_mutant_that_slips_through_is_noticed(monkeypatch):
    """Tests that accept everything catch nothing; so do those that never leave one world."""
    lax = replace(SNR, tolerance=100.0)
    functions = tuple(lax if f.name == "snr" else f for f in E2.functions)
    assert not verdict(replace(E2, functions=functions), lax, TRIPLE).caught
    elsewhere = (
        "def snr(sch):\n    wrong = not 0.049 < float(sch.beta[1]) < 0.051\n"
        "    return sch.alpha_bar / (1 - sch.alpha_bar) + wrong"
    )
    assert verdict(E2, SNR, elsewhere).caught  # by the hidden cases
    monkeypatch.setattr(exercise_mutants, "SECRET", None)
    assert not verdict(E2, SNR, elsewhere).caught
