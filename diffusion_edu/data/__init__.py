"""Data: seeded 2-D ``toy`` sets, ``images`` and their ``Loader``; where files live."""

from __future__ import annotations

from . import images, location, toy
from .loader import Loader

__all__ = ["Loader", "images", "location", "toy"]
