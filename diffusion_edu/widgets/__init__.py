"""Explorers: pictures of a diffusion process whose parameters can be dragged.

An explorer is a compute model in plain Python (set ``explorer.eta = 0.5``, read
``explorer.frames``) that needs neither ipywidgets nor a browser. Displayed in a notebook it appears
in the player (``player.js``): time is scrubbed in the browser, parameters are recomputed by the
kernel.

    explorer  the base class: checked parameters, live messages, display
    learner   runs a learner's own function and says where it went wrong
    forward, reverse   the explorers
    view, image_view, page   anywidget, ipywidgets.Image without it, and a page without any kernel
"""

from __future__ import annotations

from .explorer import Explorer
from .forward import ForwardExplorer
from .reverse import ReverseExplorer

__all__ = ["Explorer", "ForwardExplorer", "ReverseExplorer"]
