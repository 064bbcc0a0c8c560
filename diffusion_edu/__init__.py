"""diffusion_edu: diffusion models, one readable function per formula.

    schedules    how much noise each step adds          forward      q(x_t | x_0)
    posterior    q(x_{t-1} | x_t, x_0), DDIM's family   prediction   eps, x0, v, score; guidance
    objectives   L_simple, the ELBO, weights            sampling     levels, DDPM, DDIM, inversion
    known        inpainting, colouring                  oracles      exact denoisers
    continuous   VP-SDE, probability flow, Langevin     metrics      MMD, Wasserstein, ...
    nets         MLP, U-Net, EMA, shipped networks      training     the loop and its recipes
    data         2-D toys, image sets                   widgets      explorers for notebooks
    cli          diffusion-edu lab, train, ...

Importing this package costs next to nothing beyond ``import torch``: data, training and widgets
load on first use.
"""

import importlib
from typing import Any

from . import (
    continuous,
    forward,
    gaussian,
    known,
    metrics,
    nets,
    objectives,
    oracles,
    posterior,
    prediction,
    sampling,
    schedules,
)
from .continuous import *  # noqa: F403
from .forward import *  # noqa: F403
from .gaussian import *  # noqa: F403
from .known import *  # noqa: F403
from .metrics import *  # noqa: F403
from .nets import *  # noqa: F403
from .objectives import *  # noqa: F403
from .oracles import *  # noqa: F403
from .posterior import *  # noqa: F403
from .prediction import *  # noqa: F403
from .sampling import *  # noqa: F403
from .schedules import *  # noqa: F403

__version__ = "1.0.0"

# Loaded on first use: they need scikit-learn, matplotlib, tqdm or ipywidgets, or time.
_LAZY = {
    "toy": "diffusion_edu.data.toy",
    "images": "diffusion_edu.data.images",
    "data": "diffusion_edu.data",
    "training": "diffusion_edu.training",
    "viz": "diffusion_edu.viz",
    "widgets": "diffusion_edu.widgets",
    "ElboDecomposer": "diffusion_edu.widgets:ElboDecomposer",
    "EtaStepsLab": "diffusion_edu.widgets:EtaStepsLab",
    "ForwardExplorer": "diffusion_edu.widgets:ForwardExplorer",
    "GuidanceDial": "diffusion_edu.widgets:GuidanceDial",
    "InvertAndMix": "diffusion_edu.widgets:InvertAndMix",
    "MetricLab": "diffusion_edu.widgets:MetricLab",
    "PosteriorPlayground": "diffusion_edu.widgets:PosteriorPlayground",
    "ReverseExplorer": "diffusion_edu.widgets:ReverseExplorer",
    "ScheduleLab": "diffusion_edu.widgets:ScheduleLab",
    "ScoreField": "diffusion_edu.widgets:ScoreField",
    "TrainingTheatre": "diffusion_edu.widgets:TrainingTheatre",
    "exercises": "diffusion_edu.exercises",
    "lectures": "diffusion_edu.lectures",
    "check": "diffusion_edu.exercises.checking:check",
}

_MATHS = (
    schedules,
    gaussian,
    forward,
    posterior,
    prediction,
    objectives,
    sampling,
    known,
    continuous,
    oracles,
    metrics,
    nets,
)
__all__ = sorted({name for module in _MATHS for name in module.__all__} | set(_LAZY))


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'diffusion_edu' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    value = importlib.import_module(module)
    return getattr(value, attribute) if attribute else value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
