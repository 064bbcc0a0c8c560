"""Explorers without a browser: live messages, the views, and pages without a kernel."""

from __future__ import annotations

import base64
import builtins
import subprocess
import sys
import threading
from typing import Any

import pytest
import torch
from explorers import ask, oracle_explorer

from diffusion_edu.viz.scene import layer_frame, sector
from diffusion_edu.widgets import ForwardExplorer, ReverseExplorer

# ---- live protocol -----------------------------------------------------------------------------


def test_every_question_gets_an_answer_with_its_number() -> None:
    """seq and view come back for good values, bad ones and nonsense: no credit is lost."""
    explorer = oracle_explorer()
    messages: list[dict[str, Any]] = [
        {"values": {"eta": 0.5}}, {"values": {"eta": 7}}, {"values": {"nonsense": 1}}, {},
        {"values": None},
        {"reset": True}, {"values": {"steps": 3.5}}, {"values": {"t": 1e9}}, {"final": True},
        {"values": {"steps": "ten"}}, {"values": {"t": "x"}},
    ]  # fmt: skip
    for seq, message in enumerate(messages):
        answer, _ = explorer.receive({"seq": seq, "view": "w", **message})
        assert (answer["seq"], answer["view"]) == (seq, "w")
    assert ask(explorer, eta=7)[0]["error"] == "eta must be a number in [0, 1], got eta=7"
    assert ask(explorer, eta=7)[0]["controls"][3]["value"] == explorer.eta


def test_moving_t_costs_no_scene() -> None:
    """A message with t alone is answered without arrays, and explorer.t follows the browser."""
    explorer = oracle_explorer()
    answer, buffers = explorer.receive(
        {"seq": 1, "values": {"t": 300}, "version": explorer.version}
    )
    assert "scene" not in answer
    assert buffers == []
    assert explorer.t == 300


def test_a_stale_player_is_brought_up_to_date() -> None:
    """A question with an old version gets the whole scene even if it asks for nothing."""
    explorer = ForwardExplorer(n=10)
    old = explorer.version
    explorer.T = 30
    answer, _ = explorer.receive({"seq": 1, "version": old})
    assert len(answer["scene"]["text"]) == 31


def test_reset_brings_back_the_first_settings() -> None:
    """After any changes reset gives the parameters the explorer was made with."""
    explorer = ForwardExplorer("moons", T=30, t=7, n=10)
    first = repr(explorer)
    ask(explorer, dataset="circles", T=99, beta_T=0.3, t=50)
    assert repr(explorer) != first
    explorer.receive({"seq": 2, "reset": True})
    assert repr(explorer) == first


def test_dragging_is_coarse_and_release_is_not() -> None:
    """While dragging a costly walk moves every k-th point, the same ones as the full walk."""
    explorer = ReverseExplorer("oracle", "swiss_roll", n=2000, steps=20)
    explorer._state.seconds = 1e-4  # as if one point and one step took this long
    answer, _ = explorer.receive({"seq": 1, "values": {"eta": 0.5}})
    assert answer["scene"]["coarse"]
    assert len(explorer._state.x[0]) == 200
    coarse = torch.stack(explorer._state.x)
    assert explorer.frames.shape == (21, 2000, 2)  # Python always reads all points
    assert torch.allclose(explorer.frames[:, ::10], coarse, atol=1e-4)
    explorer.receive({"seq": 2, "final": True})
    assert not explorer._state.coarse


def test_a_view_hears_of_changes_made_in_python() -> None:
    """explorer.T = 30 sends one new state, whose scene has 31 lines of text."""
    pytest.importorskip("anywidget")
    explorer = ForwardExplorer(n=10)
    view = explorer.view
    sent: list[dict[str, Any]] = []
    view.send_state = lambda key=None: sent.append(view.get_state(key))
    explorer.T = 30
    (state,) = sent
    assert len(state["state"]["scene"]["text"]) == 31
    assert state["state"]["version"] == explorer.version
    assert all(isinstance(b, bytes) for b in state["state"]["buffers"])


def test_the_users_torch_threads_and_random_state_are_left_alone() -> None:
    """Threads, grad mode and the global seed are the same after a computation in another thread."""
    explorer = oracle_explorer()
    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    worker = threading.Thread(target=lambda: ask(explorer, eta=0.9))
    worker.start()
    worker.join()
    explorer.seed = 8
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    assert not explorer.frames.is_inference()


# ---- pages and fallbacks -----------------------------------------------------------------------


def test_mimebundle_has_a_player_a_poster_and_text() -> None:
    """HTML, PNG and text come with the widget, so a reader without a kernel sees something."""
    pytest.importorskip("anywidget")
    data, _ = oracle_explorer()._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    page = data["text/html"]
    assert page.count("</script>") == 1  # nothing inside ends the script early
    assert "export default" not in page
    assert "http" not in page  # works without a network
    assert "t = 1000 of 1000" in data["text/plain"]


def test_importing_needs_no_notebook_packages() -> None:
    """Explorers compute without ipywidgets, anywidget and matplotlib being imported."""
    code = (
        "import sys; from diffusion_edu import ForwardExplorer; ForwardExplorer(n=5).frames;"
        "print([m for m in ('ipywidgets', 'anywidget', 'matplotlib') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    real = builtins.__import__

    def guarded(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.split(".")[0] in names:
            raise ImportError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", guarded)


def test_without_anywidget_an_image_follows_the_sliders(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fallback draws other pictures for other t and eta, and shows errors instead of dying."""
    widgets = pytest.importorskip("ipywidgets")
    without(monkeypatch, "anywidget")
    explorer = oracle_explorer()
    picture, time, status, message, *inputs = explorer.view.children
    assert isinstance(picture, widgets.Image)
    controls = {c.description: c for c in inputs}
    first = picture.value
    time.value = 10
    at_end = picture.value
    assert status.value.startswith("t = 0 of 1000")
    assert explorer.t == 0
    controls["eta"].value = 1.0
    assert explorer.eta == 1.0
    assert len({first, at_end, picture.value}) == 3
    controls["sampler"].value = "ddpm"
    assert controls["eta"].disabled
    explorer.steps = 4
    assert time.max == 4
    assert message.value == ""


def test_without_ipywidgets_there_is_still_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a plain Python with neither widget library the HTML player and the poster remain.

    A widget asked for by name is an error that says what to install.
    """
    without(monkeypatch, "anywidget", "ipywidgets")
    monkeypatch.delitem(sys.modules, "diffusion_edu.widgets.image_view", raising=False)
    explorer = ForwardExplorer(n=20)
    data, _ = explorer._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html", "image/png"}
    with pytest.raises(ImportError, match=r"pip install 'diffusion_edu\[lab\]'"):
        _ = explorer.view


def test_points_of_one_colour_are_neighbours_in_memory() -> None:
    """Drawn points are sorted by sector: each colour is one run, and ``groups`` says where."""
    scene = oracle_explorer(n=403).scene()
    layer = scene.panels[0]["layers"][-1]
    x = torch.from_numpy(layer_frame(layer, scene.buffers, 0)).view(-1, 2)
    assert (sector(x).diff() >= 0).all()
    assert layer["groups"] == torch.bincount(sector(x), minlength=4).cumsum(0).tolist()
    assert layer["groups"][-1] == 403
