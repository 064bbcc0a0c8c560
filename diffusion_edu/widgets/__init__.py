"""Explorers: pictures of a diffusion process whose parameters can be dragged.

An explorer is a compute model in plain Python (set ``explorer.eta = 0.5``, read
``explorer.frames``) that needs neither ipywidgets nor a browser. Displayed in a notebook it appears
in the player (``player.js``): time is scrubbed in the browser, parameters are recomputed by the
kernel.

    explorer, params   the base class: checked parameters, live messages, display, files
    learner            runs a learner's own function and says where it went wrong, or hung
    jobs, saving       long work with progress; pictures and films
    forward, schedule_lab, posterior_playground, elbo_decomposer, training_theatre, reverse,
    eta_steps_lab, invert_and_mix, score_field, guidance_dial, metric_lab    the explorers
    view, image_view, page   anywidget, ipywidgets.Image without it, and a page without any kernel
"""

from __future__ import annotations

from .elbo_decomposer import ElboDecomposer
from .eta_steps_lab import EtaStepsLab
from .explorer import Explorer
from .forward import ForwardExplorer
from .guidance_dial import GuidanceDial
from .invert_and_mix import InvertAndMix
from .metric_lab import MetricLab
from .posterior_playground import PosteriorPlayground
from .reverse import ReverseExplorer
from .schedule_lab import ScheduleLab
from .score_field import ScoreField
from .training_theatre import TrainingTheatre

__all__ = [
    "ElboDecomposer",
    "EtaStepsLab",
    "Explorer",
    "ForwardExplorer",
    "GuidanceDial",
    "InvertAndMix",
    "MetricLab",
    "PosteriorPlayground",
    "ReverseExplorer",
    "ScheduleLab",
    "ScoreField",
    "TrainingTheatre",
]
