"""Work of explorers that takes time: learners with a deadline, jobs, and files."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explorers import ask, oracle_explorer, scenes_of
from torch import Tensor

from diffusion_edu import q_sample
from diffusion_edu.viz.scene import Axis, Scene, layer_frame, unpack
from diffusion_edu.widgets import Explorer, ForwardExplorer, ReverseExplorer, learner
from diffusion_edu.widgets.jobs import Job
from diffusion_edu.widgets.params import Param, integer

# ---- a deadline --------------------------------------------------------------------------------


def slow(x0: Tensor, t: Any, eps: Tensor, schedule: Any) -> Tensor:
    time.sleep(0.05)
    return q_sample(x0, t, eps, schedule)


def hang(x0: Tensor, t: Any, eps: Tensor, schedule: Any) -> Tensor:
    while True:
        time.sleep(0.01)


def late_hang(x0: Tensor, t: Any, eps: Tensor, schedule: Any) -> Tensor:
    return hang(x0, t, eps, schedule) if t == 3 else q_sample(x0, t, eps, schedule)


def test_a_slow_function_is_shown_as_far_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first levels are right, the others not drawn, and the reader is told the time a call."""
    monkeypatch.setattr(learner, "PATIENCE", 0.4)
    explorer = ForwardExplorer(T=100, n=20, q_sample=slow)
    mine = explorer.mine
    done = int((~mine.isnan().flatten(1).any(1)).sum())
    assert 2 <= done <= 8
    assert torch.allclose(mine[:done], explorer.frames[:done], atol=1e-6)
    assert re.search(r"slow, about 0\.0[5-9]", explorer.notes[0])
    assert ask(explorer, T=3)[0]["scene"]["notes"][0]["text"].startswith("your q_sample agrees")


@pytest.mark.parametrize("function", [hang, late_hang])
def test_a_function_that_never_returns(monkeypatch: pytest.MonkeyPatch, function: Any) -> None:
    """The line it hangs on is named, it is not called again, and the reference lives on."""
    monkeypatch.setattr(learner, "PATIENCE", 0.3)
    explorer = ForwardExplorer(T=10, n=20, q_sample=function)
    assert "did not return within 0.3 s; it was on line" in explorer.notes[0]
    assert "time.sleep(0.01)" in explorer.notes[0]
    start = time.perf_counter()
    answer, _ = ask(explorer, T=20)
    assert time.perf_counter() - start < 0.25
    assert len(answer["scene"]["time"]["values"]) == 21
    assert "mend it" in answer["scene"]["notes"][0]["text"]


def test_a_step_that_never_returns() -> None:
    """The same for the step of ReverseExplorer."""

    def step(x: Tensor, t: int, s: int, *rest: Any) -> Tensor:
        while s < 500:
            time.sleep(0.01)
        return x

    explorer = oracle_explorer(step=step)
    assert "did not return" in explorer.notes[0]
    assert "while s < 500" in explorer.notes[0] or "time.sleep" in explorer.notes[0]
    mine = explorer.mine
    assert torch.equal(mine[1], mine[0])
    assert mine[-1].isnan().all()


# ---- jobs --------------------------------------------------------------------------------------


def test_a_job_tells_its_progress_and_its_end() -> None:
    """Steps are told in order; the last message carries what the work returned."""
    heard: list[tuple[dict[str, Any], list[bytes]]] = []
    ended: list[bool] = []

    def work(job: Job) -> tuple[dict[str, Any], list[bytes]]:
        job.step(0.5, "half")
        return {"file": "x"}, [b"abc"]

    job = Job(
        "cooking", lambda m, b: heard.append((m, b)), work, lambda: ended.append(True)
    ).start()
    assert job.wait(5)
    (half, _), (end, data) = heard
    assert half["progress"] == {"job": job.id, "label": "cooking", "done": 0.5, "text": "half"}
    assert end["progress"]["done"] == 1
    assert (end["file"], data, ended) == ("x", [b"abc"], [True])


def test_a_job_can_be_cancelled() -> None:
    """It ends at its next step, and says so."""
    heard: list[dict[str, Any]] = []
    begun = threading.Event()

    def work(job: Job) -> None:
        while True:
            job.step(0.1)
            begun.set()
            time.sleep(0.005)

    job = Job("endless", lambda m, b: heard.append(m), work).start()
    assert begun.wait(5)
    assert job.running
    job.cancel()
    assert job.wait(5)
    assert heard[-1]["progress"]["text"] == "cancelled"


def test_a_job_that_fails_says_why() -> None:
    """An exception becomes the message of the player."""
    heard: list[dict[str, Any]] = []
    assert Job("division", lambda m, b: heard.append(m), lambda job: 1 / 0).start().wait(5)  # type: ignore[arg-type, return-value]
    assert heard[-1]["progress"]["error"] == "division: division by zero"


# ---- files -------------------------------------------------------------------------------------


def pictures(path: Path) -> list[np.ndarray]:
    from PIL import Image, ImageSequence

    return [np.array(p.convert("RGB")) for p in ImageSequence.Iterator(Image.open(path))]


def test_saved_pictures_and_films(tmp_path: Path) -> None:
    """PNG is one frame, GIF and MP4 have a frame for each level, first and last are different."""
    explorer = oracle_explorer(n=50, steps=6)
    (png,) = pictures(explorer.save(tmp_path / "a.png"))
    gif = pictures(explorer.save(tmp_path / "a.gif"))
    assert len(gif) == 7
    assert png.shape == gif[0].shape
    assert (gif[0] != gif[-1]).any()
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = explorer.save(tmp_path / "a.mp4")
    count, seconds = ffmpeg.count_frames_and_secs(str(path))
    assert count >= 7
    assert 5 <= seconds <= 7.5
    with pytest.raises(ValueError, match=r"unknown format of a file 'jpg'.*png"):
        explorer.save(tmp_path / "a.jpg")


def test_a_page_has_the_settings_that_were_asked_for(tmp_path: Path) -> None:
    """All combinations; each scene is the one the explorer makes; equal buffers are kept once."""
    import base64

    explorer = oracle_explorer(n=40, steps=5, eta=0.3)
    path = explorer.to_html(tmp_path / "page.html", eta=[0, 1.0], steps=[2, 5])
    state = scenes_of(path)
    assert state["grid"] == {"eta": [0, 0.3, 1], "steps": [2, 5]}
    assert set(state["scenes"]) == {f"{e}|{s}" for e in range(3) for s in range(2)}  # places there
    assert state["at"] == {"eta": 0.3, "steps": 5}
    buffers = [base64.b64decode(text) for text in state["buffers"]]
    assert len(buffers) == len(set(buffers)) < 2 * len(state["scenes"])
    assert explorer.eta == 0.3  # and it stays as it was
    explorer.update(eta=1.0, steps=2)
    layer = state["scenes"]["2|0"]["panels"][0]["layers"][-1]
    now = explorer.scene()
    expected = layer_frame(now.panels[0]["layers"][-1], now.buffers, 2)
    assert np.array_equal(layer_frame(layer, buffers, 2), expected)
    controls = {c["name"]: c for c in state["scenes"]["2|0"]["controls"]}
    assert controls["eta"]["choices"] == ["0", "0.3", "1"]
    assert controls["eta"]["value"] == "1"
    assert not controls["seed"]["enabled"]


def test_no_text_of_a_learner_leaves_the_script_of_a_page(tmp_path: Path) -> None:
    """A comment that holds an opening tag would swallow the closing one, and the page."""
    said = "</script><img src=x onerror=alert(1)><!--<script>"

    def wrong(x0: Tensor, t: Tensor, eps: Tensor, schedule: Any) -> Tensor:
        raise ValueError(said)

    path = ForwardExplorer("moons", n=40, T=5, q_sample=wrong).to_html(tmp_path / "page.html")
    body = path.read_text("utf-8").partition("<body>")[2]
    tags = re.findall(r"<(?!style)[!/]?[a-z-]+", body.partition("</style>")[2])
    assert tags == ["<div", "<img", "</div", "<script", "</script", "</body", "</html"]
    assert any(said in note["text"] for note in scenes_of(path)["scenes"][""]["notes"])


def test_a_page_refuses_what_a_parameter_cannot_be(tmp_path: Path) -> None:
    """Names and values of a page are checked as those of the explorer are."""
    explorer = oracle_explorer(n=20)
    with pytest.raises(ValueError, match=r"eta must be .*eta=2"):
        explorer.to_html(tmp_path / "a.html", eta=[0, 2])
    with pytest.raises(ValueError, match=r"unknown parameter 'etta'.*Did you mean 'eta'"):
        explorer.to_html(tmp_path / "a.html", etta=[0])
    assert not (tmp_path / "a.html").exists()


def test_the_player_can_ask_for_files() -> None:
    """A question with "save" is answered at once; progress and the file follow to that view."""
    explorer = oracle_explorer(n=20, steps=3)
    heard: list[tuple[dict[str, Any], list[bytes]]] = []
    explorer._listeners.append(lambda m, b: heard.append((m, b)))
    answer, _ = explorer.receive({"seq": 4, "view": "v", "save": "gif", "version": 0})
    assert answer == {"seq": 4, "view": "v", "version": 0}
    for job in list(explorer._jobs.values()):
        assert job.wait(60)
    assert all(m["view"] == "v" for m, _ in heard)
    message, (data,) = heard[-1]
    assert message["file"] == {"name": "ReverseExplorer.gif", "type": "image/gif"}
    assert data.startswith(b"GIF8")
    shares = [m["progress"]["done"] for m, _ in heard]
    assert shares == sorted(shares)
    assert explorer.receive({"seq": 5, "view": "v", "save": "exe"})[0]["error"].startswith(
        "unknown"
    )


def test_closing_frees_the_view() -> None:
    """close() ends jobs and lets the widget go; asked again there is a new one."""
    pytest.importorskip("anywidget")
    explorer = oracle_explorer(n=20)
    first = explorer.view
    explorer.close()
    assert first.comm is None
    assert explorer.view is not first


# ---- scenes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 16])
def test_packing_keeps_values_and_gaps(bits: Any) -> None:
    """|unpack(pack(x)) - x| <= max|x| / (2^(bits-1) - 1) / 2, NaN and infinity come back as NaN."""
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    x[3], x[5] = torch.nan, torch.inf
    scene = Scene([0], 0, [""])
    y = torch.from_numpy(unpack(scene.pack(x, bits=bits), scene.buffers))
    good = x.isfinite()
    assert torch.equal(y.isnan(), ~good)
    step = float(x[good].abs().max()) / (2 ** (bits - 1) - 1)
    assert (y - x)[good].abs().max() <= step / 2 * 1.001


def test_curves_are_packed_without_loss() -> None:
    """float32 comes back bit for bit, as logarithmic axes need; not finite is NaN."""
    x = torch.tensor([1e-12, 1.0, 12345.678, torch.inf, torch.nan])
    scene = Scene([0], 0, [""])
    y = torch.from_numpy(unpack(scene.pack(x, bits=32, far=1e30), scene.buffers))
    assert torch.equal(y[:3], x[:3])
    assert y[3:].isnan().all()


def test_every_panel_is_json_and_has_its_picture() -> None:
    """A scene with every kind of panel has a JSON head, and matplotlib draws all of it."""
    from PIL import Image

    from diffusion_edu.viz.scene_figure import SceneFigure

    scene = Scene([0, 1], 0, ["a", "b"])
    heat = scene.heat(torch.rand(2, 5, 6), 0, 1, label="density")
    arrows = scene.arrows(torch.rand(4, 2), torch.rand(2, 4, 2))
    path = scene.path(torch.rand(1, 7, 2), dashed=True)
    dots = scene.frames(torch.rand(2, 9, 2), mark="dot", groups=[3, 5, 7, 9], tail=1)
    scene.points("all", [heat, arrows, path, dots], 2.0, pick=True)
    scene.images("pictures", scene.frames(torch.rand(2, 4, 1, 8, 8), bits=8), (4, 1, 8, 8))
    bars = scene.series("bars", torch.rand(3), draw="bars", error=torch.rand(3))
    scene.curves("bars", [bars], Axis(0, 1), Axis(0, 2, ticks=("x", "y", "z")))
    lines = [scene.series("f", torch.rand(2, 8) + 0.1, torch.linspace(1, 9, 8))]
    y = Axis(0.1, 10, "loss", log=True)
    scene.curves("lines", lines, y, Axis(1, 9, "x", log=True), at=torch.tensor([1.0, 3.0]),
                 levels=[(1.0, "one")])  # fmt: skip
    values = torch.tensor([[1.0, 2.0], [torch.nan, 4.0]])
    scene.table("table", ("eta", ["0", "1"]), ("S", ["5", "9"]), values, (0, 1), names=("a", "b"))
    json.dumps(scene.head(), allow_nan=False)
    picture = np.array(Image.open(io.BytesIO(SceneFigure().png(scene, [1]))).convert("L"))
    for part in np.array_split(picture, 5, axis=1):
        assert part.std() > 5


def test_reverse_accepts_only_known_things() -> None:
    """A mistyped name of a network is answered with the choices."""
    with pytest.raises(ValueError, match=r"model must be one of .*'digits'.*got model='swis'"):
        ReverseExplorer("swis")


def test_a_parameter_cannot_hide_what_every_explorer_has() -> None:
    """A parameter called ``view`` would take the widget's place: refused when the class is made."""
    with pytest.raises((TypeError, RuntimeError)) as error:  # Python 3.11 wraps it
        type("Bad", (Explorer,), {"view": Param(integer(0), "")})
    cause = error.value.__cause__ or error.value
    assert "Bad cannot call a parameter 'view'" in str(cause)
