"""Where data files live on this machine. Nothing is created or downloaded by asking."""

from __future__ import annotations

import os
from pathlib import Path

from .._files import checkout

__all__ = ["ENV", "data_dir"]

ENV = "DIFFUSION_EDU_DATA"


def data_dir(path: str | Path | None = None) -> Path:
    """Directory for data sets: the argument, else $DIFFUSION_EDU_DATA, else the checkout's
    ``datasets/``, else the user's cache directory. It need not exist yet.
    """
    if path is not None:
        return Path(path).expanduser()
    if os.environ.get(ENV):
        return Path(os.environ[ENV]).expanduser()
    if root := checkout():
        return root / "datasets"
    import platformdirs

    return platformdirs.user_cache_path("diffusion_edu")
