"""Helpers for the tests of the explorers, and what all of them have to do, whatever they show."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusion_edu.viz.scene import unpack
from diffusion_edu.widgets import ReverseExplorer, learner


def ask(explorer: Any, **values: Any) -> tuple[dict[str, Any], list[bytes]]:
    return explorer.receive({"seq": 1, "view": "v", "values": values, "final": True})


def drag(explorer: Any, **values: Any) -> dict[str, Any]:
    """The scene while sliders are held."""
    answer, _ = explorer.receive({"seq": 1, "view": "v", "values": values, "final": False})
    assert "error" not in answer, answer["error"]
    return answer["scene"]


def release(explorer: Any) -> dict[str, Any]:
    """The scene when they are let go."""
    answer, _ = ask(explorer)
    assert "error" not in answer, answer["error"]
    return answer["scene"]


def layout(scene: dict[str, Any]) -> list[tuple[str, str]]:
    return [(panel["kind"], panel["title"]) for panel in scene["panels"]]


def oracle_explorer(**options: Any) -> ReverseExplorer:
    return ReverseExplorer("oracle", "gaussians", **{"n": 200, "steps": 10, **options})


def run_code(explorer: Any, **names: Any) -> dict[str, Any]:
    """The names that "copy as code" leaves behind."""
    exec(explorer.code, names)
    return names


def curve(scene: Any, panel: int, label: str, of: str = "y") -> Tensor:
    """What the player draws of a curve, flat; of="error": its error bars."""
    series = next(s for s in scene.panels[panel]["series"] if s["label"] == label)
    return torch.from_numpy(unpack(series[of], scene.buffers))


# ---- parameters --------------------------------------------------------------------------------


def each_end(explorer: Any, skip: str = "") -> Iterator[tuple[str, dict[str, Any], list[bytes]]]:
    """Each slider at both ends and each choice in turn, then where it was: name, scene, buffers.

    Checked on the way: there is no error, JSON holds the scene, and the slider is where it was put.
    """
    for control in explorer.scene().controls:
        ends = control.choices if control.kind == "choice" else (control.low, control.high)
        for value in (*ends, control.value):
            if control.name == skip:
                continue
            place = f"{control.name} = {value}"
            answer, buffers = ask(explorer, **{control.name: type(control.value)(value)})
            assert "error" not in answer, f"{place}: {answer['error']}"
            json.dumps(answer, allow_nan=False)
            now = {c["name"]: c for c in answer["scene"]["controls"]}[control.name]
            assert now["value"] == value, f"{place}: it is at {now['value']}"
            yield control.name, answer["scene"], buffers


def check_refused(explorer: Any, values: dict[str, Any], words: str) -> None:
    """ValueError with the name, the value and what is allowed; the explorer stays as it was."""
    before, version = repr(explorer), explorer.version
    with pytest.raises(ValueError, match=words):
        explorer.update(**values)
    assert (repr(explorer), explorer.version) == (before, version)


def check_reset(explorer: Any, **changes: Any) -> None:
    """After changes Reset gives the parameters and the picture of the beginning."""
    before, first = repr(explorer), explorer.scene()
    answer, buffers = ask(explorer, **changes)
    assert "error" not in answer, answer["error"]
    assert repr(explorer) != before
    assert buffers != first.buffers
    answer, buffers = explorer.receive({"seq": 2, "view": "v", "reset": True})
    assert repr(explorer) == before
    assert answer["scene"] == first.head()
    assert buffers == first.buffers


def scenes_of(path: Path) -> dict[str, Any]:
    """The JSON that a page's stub of a kernel answers from."""
    text = path.read_text("utf-8")
    return json.loads(re.search(r"offlineModel\((\{.*\})\), el:", text)[1])


def check_same_seed(make: Callable[..., Any]) -> None:
    """Explorers of one seed show the same, byte for byte; of another seed, something else."""
    one, same, other = (make(seed=seed).scene() for seed in (5, 5, 6))
    assert one.head() == same.head()
    assert one.buffers == same.buffers
    assert one.buffers != other.buffers


# ---- a function of the learner's ---------------------------------------------------------------


def check_explained(explorer: Any, words: list[str], **change: Any) -> dict[str, Any]:
    """A note has these words; the reference is drawn all the same, also after a change: its scene.

    The explorer may have other notes, which are no errors.
    """
    note = next(note["text"] for note in explorer._state.notes if note["level"] == "error")
    for word in words:
        assert word in note, f"{word!r} is not in {note!r}"
    json.dumps(explorer.scene().head(), allow_nan=False)
    answer, _ = ask(explorer, **change)
    assert "error" not in answer, answer["error"]
    assert "error" in [note["level"] for note in answer["scene"]["notes"]]
    json.dumps(answer, allow_nan=False)
    return answer["scene"]


def slowed(function: Callable[..., Any], seconds: float) -> Callable[..., Any]:
    """The same, and each call takes so long."""

    def slow(*args: Any) -> Any:
        time.sleep(seconds)
        return function(*args)

    return slow


def check_hanging(
    make: Callable[[Callable[..., Any]], Any], monkeypatch: pytest.MonkeyPatch, **change: Any
) -> Any:
    """make(function) with a function that never returns: given up, and not called again."""
    monkeypatch.setattr(learner, "PATIENCE", 0.2)
    calls = []

    def hang(*args: Any) -> Any:
        calls.append(args)
        while True:
            time.sleep(0.01)

    explorer = make(hang)
    check_explained(explorer, ["did not return within 0.2 s", "mend it"])
    count = len(calls)
    check_explained(explorer, ["did not return", "mend it"], **change)
    assert len(calls) == count, "it was called again"
    return explorer


# ---- files -------------------------------------------------------------------------------------


def check_png(explorer: Any, path: Path) -> None:
    """``save`` writes a picture, which is not empty."""
    from PIL import Image

    data = explorer.save(path).read_bytes()
    assert data.startswith(b"\x89PNG")
    picture = np.array(Image.open(io.BytesIO(data)).convert("L"))
    assert min(picture.shape) > 100
    assert picture.std() > 5


def check_page(explorer: Any, path: Path, most: int = 3_000_000, **offered: Any) -> str:
    """``to_html`` writes a page of at most so many bytes, its text; the explorer stays as it is."""
    before = repr(explorer)
    page = explorer.to_html(path, **offered)
    assert 10_000 < page.stat().st_size <= most
    assert repr(explorer) == before
    return page.read_text("utf-8")
