"""What the lectures are made of: their syllabus, their cards, and the build of their notebooks.

syllabus    the lectures, with title, minutes and what comes before
notation    the symbols, one table for all footers
build       percent sources (notebooks/source) -> notebooks
cells       show, agree, table: what a lecture's cells call
cards       predict cards: commit to a guess, lock it, then see
"""

from __future__ import annotations

from .cards import card
from .cells import agree, show, table

__all__ = ["agree", "card", "show", "table"]
