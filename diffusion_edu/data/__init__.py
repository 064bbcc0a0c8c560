"""Data: seeded 2-D ``toy`` sets and ``images``; ``location`` says where files live."""

from __future__ import annotations

from . import images, location, toy

__all__ = ["images", "location", "toy"]
