"""All explorers in a real JupyterLab and as pages of their own: every control, no blank frame."""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from driving import (
    LOOKS,
    entry,
    frame,
    looks,
    pause,
    pixels,
    slider,
    status,
    wait_until,
    write_notebook,
)

from diffusion_edu import widgets

NAMES = [name for name in widgets.__all__ if name != "Explorer"]
MAX_PAGE = 3_000_000


# Less to compute than by default: what is driven here is the player. The lectures have the rest.
SMALL: dict[str, dict[str, Any]] = {
    "ElboDecomposer": {"draws": 64},
    "EtaStepsLab": {"n": 300},
    "ForwardExplorer": {"n": 500},
    "GuidanceDial": {"steps": 4, "curves": False},
    "InvertAndMix": {"steps": 8},
    "MetricLab": {"n": 100},
    "ScoreField": {"steps": 8},
    "TrainingTheatre": {"steps": 50},
}


def variable(name: str) -> str:
    return f"the_{name.lower()}"


def cell(name: str) -> str:
    options = ", ".join(f"{key}={value}" for key, value in SMALL.get(name, {}).items())
    made = f"{variable(name)} = {name}({options})"
    return f"from diffusion_edu.widgets import {name}\n{made}\n{variable(name)}"


@pytest.fixture(scope="module")
def gallery(open_notebook: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A notebook with one explorer a cell, all run."""
    path = tmp_path_factory.mktemp("gallery") / "gallery.ipynb"
    notebook = open_notebook(
        write_notebook(path, [cell(name) for name in NAMES]), reduced_motion="reduce"
    )
    notebook.command("notebook:run-all-cells", wait=False)
    for i in range(len(NAMES)):
        notebook.player(i)
    return notebook


def settle(notebook: Any, player: Any, name: str) -> None:
    """Wait until nothing is asked any more and the player shows the version the kernel has."""

    def settled() -> bool:
        if player.get_attribute("data-idle") != "true":
            return False
        shown = player.get_attribute("data-version")
        return bool(notebook.python(f"print({variable(name)}.version)").strip() == shown)

    wait_until(settled)


def value(notebook: Any, name: str, control: str) -> Any:
    code = f"import json; print(json.dumps({variable(name)}.scene().head()['controls']))"
    found = {c["name"]: c["value"] for c in json.loads(notebook.python(code))}
    return found[control]


def check_pictures(player: Any) -> None:
    """Every canvas has ink of at least two shades, and belongs to the level in the entry."""
    blank = [i for i, look in enumerate(looks(player)) if look["blank"]]
    assert not blank, f"blank pictures {blank}"
    if entry_of_time(player).is_visible():
        assert frame(player) == float(entry_of_time(player).input_value())


def entry_of_time(player: Any) -> Any:
    return player.locator(".dx-time input[type=number]")


def controls(notebook: Any, name: str) -> list[dict[str, Any]]:
    code = f"import json; print(json.dumps({variable(name)}.scene().head()['controls']))"
    found: list[dict[str, Any]] = json.loads(notebook.python(code))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_control_to_both_ends_and_back(gallery: Any, name: str) -> None:
    """Keys, pointer and typed numbers: slider, number, kernel and picture agree after each."""
    player = gallery.player(NAMES.index(name))
    pause(player)
    alive = [c for c in controls(gallery, name) if c["enabled"]]
    first = next(c for c in alive if c["kind"] != "choice")
    for control in alive:
        if control["kind"] == "choice":
            drive_choice(gallery, player, name, control)
        else:
            drive_slider(gallery, player, name, control, click=control is first)
    assert player.locator(".dx-notes p.error").count() == 0
    assert gallery.errors == []


def drive_choice(gallery: Any, player: Any, name: str, control: dict[str, Any]) -> None:
    select = player.get_by_label(control["label"], exact=True).first
    for option in [*control["choices"], control["value"]]:
        select.select_option(option)
        wait_until(lambda option=option: value(gallery, name, control["name"]) == option)
        settle(gallery, player, name)
        check_pictures(player)


def drive_slider(
    gallery: Any, player: Any, name: str, control: dict[str, Any], click: bool
) -> None:
    label, key = control["label"], control["name"]
    handle, number = slider(player, label), entry(player, label)
    ends = []
    for press in ("Home", "End"):
        handle.focus()
        gallery.page.keyboard.press(press)
        gallery.page.keyboard.press("Tab")  # lets go: the full picture is computed
        settle(gallery, player, name)
        ends.append(value(gallery, name, key))
        assert float(number.input_value()) == pytest.approx(ends[-1], rel=1e-3, abs=1e-9)
        check_pictures(player)
    assert ends[0] < ends[1]
    if click:  # what a pointer does, is the same for all of them
        box = handle.bounding_box()
        gallery.page.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + box["height"] / 2)
        settle(gallery, player, name)
        assert ends[0] < value(gallery, name, key) < ends[1]
    number.fill(str(control["value"]))
    number.press("Enter")
    wait_until(
        lambda: value(gallery, name, key) == pytest.approx(control["value"], rel=1e-3, abs=1e-9)
    )
    settle(gallery, player, name)
    check_pictures(player)


@pytest.mark.parametrize("name", NAMES)
def test_time_by_keys_and_by_number(gallery: Any, name: str) -> None:
    """Home, End, an arrow and a typed level: the frame drawn is the level shown."""
    player = gallery.player(NAMES.index(name))
    pause(player)
    time = player.locator(".dx-time input[type=range]")
    if not time.is_visible():
        pytest.skip(f"{name} has one frame")
    values = json.loads(
        gallery.python(f"import json; print(json.dumps({variable(name)}.scene().head()['time']))")
    )["values"]
    for press, f in (("Home", 0), ("ArrowRight", 1), ("End", len(values) - 1)):
        time.press(press)
        assert frame(player) == pytest.approx(values[f])
        check_pictures(player)
    middle = values[len(values) // 2]
    entry_of_time(player).fill(str(middle))
    entry_of_time(player).press("Enter")
    assert frame(player) == pytest.approx(middle)
    assert status(player)
    assert gallery.errors == []


WATCH = """root => {
  const seen = (window.watched = { blank: 0, heights: new Set(), frames: 0 });
  const small = Object.assign(document.createElement("canvas"), { width: 24, height: 24 });
  const ctx = small.getContext("2d", { willReadFrequently: true });
  const look = () => {
    for (const canvas of root.querySelectorAll("canvas")) {
      ctx.clearRect(0, 0, 24, 24);
      if (canvas.width && canvas.height) ctx.drawImage(canvas, 0, 0, 24, 24);
      if (!ctx.getImageData(0, 0, 24, 24).data.some((v, i) => i % 4 === 3 && v > 0)) seen.blank++;
    }
    seen.heights.add(root.offsetHeight);
    seen.frames++;
    seen.ticket = requestAnimationFrame(look);
  };
  look();
}"""


@pytest.mark.parametrize("name", NAMES)
def test_no_blank_frame_while_a_slider_is_dragged(gallery: Any, name: str) -> None:
    """In every animation frame of a drag each canvas has ink."""
    player = gallery.player(NAMES.index(name))
    pause(player)
    sliders = [c for c in controls(gallery, name) if c["kind"] == "range" and c["enabled"]]
    player.evaluate(WATCH)
    drag(gallery.page, slider(player, sliders[0]["label"]), seconds=1.5)
    settle(gallery, player, name)
    blank, frames = gallery.page.evaluate(
        "() => { cancelAnimationFrame(watched.ticket); return [watched.blank, watched.frames]; }"
    )
    assert blank == 0
    assert frames > 10
    player.get_by_role("button", name="Reset").click()
    settle(gallery, player, name)


def drag(page: Any, handle: Any, seconds: float) -> None:
    """Move a slider to and fro for so long, 60 events a second where the machine can."""
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 10, y)
    page.mouse.down()
    start = monotonic()
    while (passed := monotonic() - start) < seconds:
        share = abs(passed % 2 - 1)
        page.mouse.move(box["x"] + 10 + share * (box["width"] - 20), y)
        page.wait_for_timeout(max(0.0, 1000 * (passed + 1 / 60 - (monotonic() - start))))
    page.mouse.up()


def test_a_long_drag_leaves_no_backlog(gallery: Any, record_property: Any) -> None:
    """30 s at 60 events a second: the picture of the last value is there soon after the last one.

    The aim is 150 ms on a quiet machine; ten times that is allowed on one that is shared.
    """
    name = "ReverseExplorer"
    player = gallery.player(NAMES.index(name))
    pause(player)
    drag(gallery.page, slider(player, "eta"), seconds=30)
    late = gallery.page.evaluate(
        """root => new Promise((done) => {
          const start = performance.now();
          const look = () => (root.dataset.idle === "true" ? done(performance.now() - start)
            : requestAnimationFrame(look));
          look();
        })""",
        player.element_handle(),
    )
    record_property("late_ms", round(late))
    shown = float(entry(player, "eta").input_value())
    assert value(gallery, name, "eta") == pytest.approx(shown)
    assert late < 1500


CHANGES = """async ([root, label, times]) => {
  const input = root.querySelector(`input[type=range][aria-label="${label}"]`);
  const idle = () => new Promise((done) => {
    const look = () => (root.dataset.idle === "true" ? done() : setTimeout(look, 2));
    look();
  });
  const span = Number(input.max) - Number(input.min);
  for (let i = 0; i < times; i++) {
    input.value = Number(input.min) + (span * ((i * 7) % 100)) / 99;
    input.dispatchEvent(new Event("input"));
    await idle();
    if (i % 10 === 9) { input.dispatchEvent(new Event("change")); await idle(); }
  }
}"""


def memory(gallery: Any) -> tuple[float, float]:
    """Bytes of the kernel (resident) and of the page's JavaScript (after a collection)."""
    kernel = gallery.python(
        "import gc, os; gc.collect()\n"
        "print(int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE'))"
    )
    client = gallery.page.context.new_cdp_session(gallery.page)
    client.send("HeapProfiler.collectGarbage")
    used = client.send("Runtime.getHeapUsage")
    client.detach()
    return float(kernel), float(used["usedSize"] + used["backingStorageSize"])


@pytest.mark.parametrize(
    ("name", "label"), [("ForwardExplorer", "steps T"), ("ReverseExplorer", "eta")]
)
def test_memory_stays_level(gallery: Any, record_property: Any, name: str, label: str) -> None:
    """After 500 changes of a setting kernel and page hold what they held after the first 50."""
    player = gallery.player(NAMES.index(name))
    pause(player)
    if name == "ReverseExplorer":
        gallery.python(f"{variable(name)}.steps = 5")  # not what takes memory
    root = player.element_handle()
    gallery.page.evaluate(CHANGES, [root, label, 50])
    before = memory(gallery)
    gallery.page.evaluate(CHANGES, [root, label, 450])
    after = memory(gallery)
    record_property("memory_ratio", [round(b / a, 3) for a, b in zip(before, after, strict=True)])
    assert all(b < 1.1 * a for a, b in zip(before, after, strict=True)), (before, after)


def test_closing_frees_the_buffers(gallery: Any) -> None:
    """close() takes the player off the page, and its memory is given back."""
    code = "from diffusion_edu.widgets import ForwardExplorer\n"
    made = "big = [ForwardExplorer(n=20_000, seed=s) for s in range(10)]\nfor b in big: display(b)"
    index = len(NAMES)
    gallery.add_cell(code + made)
    players = gallery.page.locator(".jp-CodeCell").nth(index).locator(".dx")
    wait_until(lambda: players.count() == 10)
    gallery.player(index)
    with_them = memory(gallery)[1]
    gallery.python("for b in big: b.close()")
    wait_until(lambda: players.count() == 0)
    buffers = 10 * 20_000 * 2 * 2 * 2  # x0 and eps, int16; the page also holds them unpacked
    assert memory(gallery)[1] < with_them - 0.5 * buffers


def test_after_a_restart_everything_works_again(gallery: Any) -> None:
    """Kernel restarted, all cells run: every player is live."""
    gallery.python("")
    gallery.page.evaluate(
        "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()"
    )
    gallery.python("")
    gallery.command("notebook:clear-all-cell-outputs")
    gallery.command("notebook:run-all-cells", wait=False)
    for i, name in enumerate(NAMES):
        player = gallery.player(i)
        first = next(c for c in controls(gallery, name) if c["kind"] == "range" and c["enabled"])
        slider(player, first["label"]).focus()
        gallery.page.keyboard.press("Home")
        gallery.page.keyboard.press("Tab")
        settle(gallery, player, name)
        check_pictures(player)
    assert gallery.errors == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_of_its_own(browser: Any, tmp_path: Path, name: str) -> None:
    """file://, no network, 390 px: it plays, scrubs, its settings live; at most 3 MB."""
    path = getattr(widgets, name)(**SMALL.get(name, {})).to_html(tmp_path / f"{name}.html")
    assert path.stat().st_size <= MAX_PAGE
    page = browser.new_context(viewport={"width": 390, "height": 800}, offline=True).new_page()
    page.add_init_script(path=LOOKS)
    errors: list[str] = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.goto(path.as_uri())
    player = page.locator(".dx")
    player.locator("canvas[data-frame]").first.wait_for()
    pause(player)
    time = player.locator(".dx-time input[type=range]")
    if time.is_visible():
        time.press("Home")
        first = frame(player)
        player.get_by_role("button", name="play").click()
        wait_until(lambda: frame(player) != first)
        pause(player)
    for select in player.locator(".dx-controls select:enabled").all():
        for option in select.locator("option").all():
            select.select_option(option.get_attribute("value"))
            page.wait_for_timeout(100)
            check_pictures(player)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert errors == []
    page.context.close()


def test_a_click_on_a_point_shows_its_path(gallery: Any) -> None:
    """The picture of a walk gets more ink where a path is drawn; Escape takes it away."""
    name = "ReverseExplorer"
    player = gallery.player(NAMES.index(name))
    player.get_by_role("button", name="Reset").click()
    settle(gallery, player, name)
    canvas = player.locator("canvas").first
    before = pixels(player)
    ys, xs = np.nonzero(before[..., 2] > 120)
    box, ratio = canvas.bounding_box(), len(before) / canvas.bounding_box()["height"]
    k = len(xs) // 2
    canvas.click(position={"x": xs[k] / ratio, "y": ys[k] / ratio})
    assert box is not None
    assert (pixels(player) != before).any()
    canvas.press("Escape")
    assert np.array_equal(pixels(player), before)
