"""A scene as a file: PNG, GIF or MP4 (pages: ``page``)."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from .._checks import check_choice
from ..viz.scene import Scene

__all__ = ["FORMATS", "encode", "stepping"]

FORMATS = {"png": "image/png", "gif": "image/gif", "mp4": "video/mp4", "html": "text/html"}
FRAMES = 80  # of a film, at most
SECONDS = 5  # it lasts; then it rests on the last frame for one
BAR = "{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left {postfix}"
Progress = Callable[[float, str], None]


@contextmanager
def stepping(what: str) -> Iterator[Progress]:
    """A progress bar, from one second on, for what tells how far it is."""
    from tqdm import tqdm

    with tqdm(total=1.0, desc=what, delay=1, bar_format=BAR) as bar:

        def step(done: float, text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update(done - bar.n)

        yield step


def encode(scene: Scene, kind: str, progress: Progress = lambda done, text: None) -> bytes:
    """The bytes of a picture of that kind; ``progress(share done, text)`` after every frame.

    Raises:
        ValueError: unknown kind.
        ImportError: "mp4" without imageio-ffmpeg.
    """
    check_choice(kind, ("png", "gif", "mp4"), "format of a picture")
    if kind == "png":
        from ..viz.scene_figure import SceneFigure

        return SceneFigure().png(scene, [scene.at])
    return _gif(scene, progress) if kind == "gif" else _mp4(scene, progress)


def _pictures(scene: Scene, progress: Progress) -> Iterator[Any]:
    """Frames as PIL images, evenly chosen."""
    from PIL import Image

    from ..viz.scene_figure import SceneFigure

    figure, count = SceneFigure(), len(scene.times)
    shown = min(count, FRAMES)
    for i in range(shown):
        f = round(i * (count - 1) / max(1, shown - 1))
        yield Image.open(io.BytesIO(figure.png(scene, [f]))).convert("RGB")
        progress((i + 1) / shown, f"frame {i + 1} of {shown}")


def _gif(scene: Scene, progress: Progress) -> bytes:
    pictures = [p.quantize(128) for p in _pictures(scene, progress)]
    step = 1000 * SECONDS // len(pictures)
    times = [step] * (len(pictures) - 1) + [1000 + step]
    file = io.BytesIO()
    first, *others = pictures
    first.save(file, "GIF", save_all=True, append_images=others, duration=times, loop=0)
    return file.getvalue()


def _mp4(scene: Scene, progress: Progress) -> bytes:
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise ImportError(
            "MP4 needs ffmpeg: pip install imageio-ffmpeg, or save a GIF instead"
        ) from error
    fps = min(len(scene.times), FRAMES) / SECONDS
    with tempfile.TemporaryDirectory() as folder:
        path, film = Path(folder) / "film.mp4", cast(Any, None)
        for picture in _pictures(scene, progress):
            film = film or _film(path, picture.size, fps, imageio_ffmpeg)
            film.send(np.asarray(picture))
        for _ in range(max(1, round(fps))):
            film.send(np.asarray(picture))
        film.close()
        return path.read_bytes()


def _film(path: Path, size: tuple[int, int], fps: float, ffmpeg: Any) -> Any:
    """A generator that takes pictures of that size; H.264 wants even sides, so an edge is cut."""
    even = f"crop={size[0] // 2 * 2}:{size[1] // 2 * 2}:0:0"
    film = ffmpeg.write_frames(
        str(path), size, fps=fps, macro_block_size=1, output_params=["-vf", even]
    )
    film.send(None)
    return film
