"""Explorers: pictures of a diffusion process whose parameters can be dragged.

An explorer is a compute model in plain Python (set ``explorer.eta = 0.5``, read
``explorer.frames``) that needs neither ipywidgets nor a browser. Displayed in a notebook it appears
in the player (``player.js``): time is scrubbed in the browser, parameters are recomputed by the
kernel.

    explorer, params   the base class: checked parameters, live messages, display, files
    learner, watchdog  run a learner's own function and say where it went wrong, or hung
    jobs, saving       long work with progress; pictures and films
    forward, reverse, posterior_playground, score_field   the explorers
    view, image_view, page   anywidget, ipywidgets.Image without it, and a page without any kernel
"""

from __future__ import annotations

from .explorer import Explorer
from .forward import ForwardExplorer
from .posterior_playground import PosteriorPlayground
from .reverse import ReverseExplorer
from .score_field import ScoreField

__all__ = ["Explorer", "ForwardExplorer", "PosteriorPlayground", "ReverseExplorer", "ScoreField"]
