"""Predict cards: the reader commits to a guess, locks it, then sees.

A lecture's cards are in ``l01.py``, ``l02.py``, …: a dictionary CARDS of name -> Card. Answers are
computed by the library when they are revealed, never typed in.
"""

from __future__ import annotations

import importlib

from .kinds import Card, Choice, Curve, Number

__all__ = ["Card", "Choice", "Curve", "Number", "card", "cards_of"]


def cards_of(number: str) -> dict[str, Card]:
    """The cards of a lecture, "02", by name. Empty where a lecture has none."""
    name = f"{__name__}.l{number}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return {}
    return dict(module.CARDS)


def card(key: str) -> Card:
    """The card named "02.variance": lecture, dot, name.

    Raises:
        ValueError: there is none; the message lists what the lecture has.
    """
    number, _, name = key.partition(".")
    known = cards_of(number)
    if name not in known:
        raise ValueError(f"no card {key!r}: lecture {number} has {', '.join(known) or 'none'}")
    return known[name]
