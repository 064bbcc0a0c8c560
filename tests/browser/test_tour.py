"""The tour in a real JupyterLab: what a reader sees and drags."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from driving import (
    entry,
    frame,
    pause,
    pixels,
    share_drawn,
    slider,
    status,
    wait_until,
    write_notebook,
)

from diffusion_edu import ForwardExplorer, ReverseExplorer

TOUR = Path(__file__).resolve().parents[2] / "notebooks" / "00_tour.ipynb"
FORWARD, DIGITS, REVERSE, MINE = 2, 3, 4, 6  # code cells of the tour; 0 is for Colab


@pytest.fixture(scope="module")
def tour(open_notebook: Any) -> Any:
    """The tour with all cells run; ``moving_after``: seconds until the first picture had moved."""
    notebook = open_notebook(TOUR)
    start = time.monotonic()
    notebook.command("notebook:run-all-cells", wait=False)
    player = notebook.player(FORWARD)
    first = frame(player)
    wait_until(lambda: frame(player) != first)
    notebook.moving_after = time.monotonic() - start
    notebook.player(MINE)
    return notebook


@pytest.fixture(autouse=True)
def no_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test ends with an empty console."""
    yield
    if "tour" in request.fixturenames:
        assert request.getfixturevalue("tour").errors == []


def reset(notebook: Any, code_cell: int) -> Any:
    """The player of a cell, paused and with the settings its cell gave it."""
    player = notebook.player(code_cell)
    pause(player)
    player.get_by_role("button", name="Reset").click()
    notebook.page.wait_for_timeout(300)
    return player


def test_the_committed_tour_is_clean() -> None:
    """Eight code cells, at most ten lines each, valid nbformat 4.5, no outputs, no widget state."""
    notebook = nbformat.read(TOUR, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert (notebook.nbformat, notebook.nbformat_minor, len(code)) == (4, 5, 8)
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert all(len(cell.source.splitlines()) <= 10 for cell in code)
    assert "widgets" not in notebook.metadata
    assert notebook.metadata.kernelspec.name == "python3"


def test_a_picture_moves_soon(tour: Any, record_property: Any) -> None:
    """From "run all" to a moving picture: 10 s is the aim, doubled for machines that are shared."""
    record_property("moving_after_s", round(tour.moving_after, 1))
    assert tour.moving_after < 20


def test_arrow_keys_move_t_and_the_picture_is_of_that_t(tour: Any) -> None:
    """After k key presses t = k: data-frame says so, and the ink lies on frames[k]."""
    player = reset(tour, FORWARD)
    frames = ForwardExplorer().frames
    slider(player, "t").focus()
    tour.page.keyboard.press("Home")
    assert frame(player) == 0
    seen = {pixels(player).tobytes()}
    for t in range(1, 31):
        tour.page.keyboard.press("ArrowRight")
        assert frame(player) == t
        seen.add(pixels(player).tobytes())
    assert len(seen) == 31
    assert status(player).startswith("t = 30 of 200, SNR = ")
    assert share_drawn(pixels(player), frames[30]) > 0.99
    assert share_drawn(pixels(player), frames[20]) < 0.8
    for key, t in (("PageUp", 50), ("ArrowLeft", 49), ("End", 200), ("PageDown", 180)):
        tour.page.keyboard.press(key)
        assert frame(player) == t
    assert share_drawn(pixels(player), frames[180]) > 0.99
    assert entry(player, "t").input_value() == "180"


def test_typing_t_shows_that_t(tour: Any) -> None:
    """The number beside the slider sets the frame, and Python hears of it."""
    player = reset(tour, FORWARD)
    entry(player, "t").fill("77")
    entry(player, "t").press("Enter")
    assert frame(player) == 77
    assert slider(player, "t").input_value() == "77"
    wait_until(lambda: tour.python("print(forward.t)").strip() == "77")


def test_digits_are_drawn_pixel_by_pixel(tour: Any) -> None:
    """The centre of each block of the canvas is the grey of frames[t], to 3 of 255 levels."""
    player = reset(tour, DIGITS)
    explorer = ForwardExplorer("digits", schedule="cosine", t=25)
    for t in (25, 26):
        assert frame(player) == t
        picture = pixels(player)
        block = round(len(picture) / 71)  # eight images of eight pixels, seven gaps of one
        assert len(picture) == 71 * block
        centres = picture[block // 2 :: block, block // 2 :: block, 0].astype(float)
        for k, image in enumerate(explorer.frames[t, :, 0]):
            top, left = k // 8 * 9, k % 8 * 9
            shown = centres[top : top + 8, left : left + 8]
            grey = ((image + 1) * 127.5).clamp(0, 255).numpy()
            assert abs(shown - grey).max() < 3
        slider(player, "t").press("ArrowRight")


def test_forward_parameters_make_the_round_trip(tour: Any) -> None:
    """A slider of the player changes the kernel's explorer, and the picture is of the new value."""
    player = reset(tour, FORWARD)
    entry(player, "t").fill("40")
    entry(player, "t").press("Enter")
    player.get_by_label("data", exact=True).select_option("moons")
    wait_until(lambda: player.locator("figcaption").first.inner_text() == "moons")
    steps = slider(player, "steps T")
    steps.focus()
    for _ in range(20):  # faster than answers come: the newest must win
        tour.page.keyboard.press("ArrowLeft")
    wait_until(lambda: "of 180" in status(player))
    assert steps.input_value() == "180"
    entry(player, "last step, beta_T").fill("0.3")
    entry(player, "last step, beta_T").press("Enter")
    wait_until(lambda: tour.python("print(forward.T, forward.beta_T)").split() == ["180", "0.3"])
    expected = ForwardExplorer("moons", T=180, beta_1=None, beta_T=0.3).frames[40]
    wait_until(lambda: share_drawn(pixels(player), expected) > 0.99)
    assert frame(player) == 40


def test_python_moves_the_player(tour: Any) -> None:
    """forward.update(T=60, t=30) in a cell: the slider ends at 60 and stands at 30."""
    player = reset(tour, FORWARD)
    tour.python("forward.update(T=60, t=30)")
    wait_until(lambda: frame(player) == 30)
    assert slider(player, "t").get_attribute("max") == "60"
    assert slider(player, "steps T").input_value() == "60"


def test_reverse_walks_from_noise_to_data(tour: Any) -> None:
    """t falls from T to 0 along the slider; the last picture is the sample that Python computes."""
    tour.python("reverse.update(steps=20, eta=0.0, sampler='ddim', t=1000)")
    player = tour.player(REVERSE)
    pause(player)
    explorer = ReverseExplorer("swiss_roll", steps=20)
    slider(player, "t").focus()
    tour.page.keyboard.press("Home")
    assert frame(player) == 1000
    noise = pixels(player)
    tour.page.keyboard.press("ArrowRight")
    assert frame(player) == 950
    tour.page.keyboard.press("End")
    assert frame(player) == 0
    assert not np.array_equal(pixels(player), noise)
    assert share_drawn(pixels(player), explorer.frames[-1]) > 0.99
    assert share_drawn(noise, explorer.frames[0]) > 0.99


def test_reverse_parameters_make_the_round_trip(tour: Any) -> None:
    """Dragging eta and steps recomputes the walk; slider, kernel and picture agree in the end."""
    tour.python("reverse.update(steps=20, eta=0.0, sampler='ddim', t=0)")
    player = tour.player(REVERSE)
    pause(player)
    wait_until(lambda: frame(player) == 0)
    eta = slider(player, "eta")
    eta.scroll_into_view_if_needed()
    box = eta.bounding_box()
    tour.page.mouse.move(box["x"] + 8, box["y"] + box["height"] / 2)
    tour.page.mouse.down()
    for i in range(40):
        tour.page.mouse.move(
            box["x"] + 8 + i / 39 * (box["width"] / 2), box["y"] + box["height"] / 2
        )
    tour.page.mouse.up()
    wait_until(lambda: float(tour.python("print(reverse.eta)")) == float(eta.input_value()))
    value = float(eta.input_value())
    assert 0.4 < value < 0.6
    expected = ReverseExplorer("swiss_roll", steps=20, eta=value).frames[-1]
    wait_until(lambda: share_drawn(pixels(player), expected) > 0.99)
    slider(player, "steps").press("ArrowLeft")
    wait_until(lambda: "step 19 of 19" in status(player))
    player.get_by_label("sampler").select_option("ddpm")
    wait_until(lambda: eta.is_disabled())
    assert player.locator("figcaption").first.inner_text() == "DDPM"


def test_pictures_never_go_blank_while_parameters_change(tour: Any) -> None:
    """In every animation frame of 30 changes of T the canvas has ink, and its height stays."""
    player = reset(tour, FORWARD)
    player.locator("canvas").first.evaluate(
        """canvas => {
          const seen = (window.watched = { least: Infinity, heights: new Set(), frames: 0 });
          const look = () => {
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            let ink = 0;
            for (let i = 3; i < data.length; i += 4) ink += data[i] > 0;
            seen.least = Math.min(seen.least, canvas.isConnected ? ink : 0);
            seen.heights.add(canvas.closest(".dx").offsetHeight);
            seen.frames++;
            seen.ticket = requestAnimationFrame(look);
          };
          look();
        }"""
    )
    slider(player, "steps T").focus()
    for _ in range(30):
        tour.page.keyboard.press("ArrowRight")
    wait_until(lambda: "of 230" in status(player))
    seen = tour.page.evaluate(
        "() => { cancelAnimationFrame(watched.ticket);"
        " return [watched.least, watched.heights.size, watched.frames]; }"
    )
    least, heights, frames = seen
    assert least > 500
    assert heights == 1
    assert frames > 5


def test_a_learners_function_is_driven_by_the_slider(tour: Any) -> None:
    """Section 5: the second picture follows t and shows the learner's frames."""
    player = tour.player(MINE)
    assert frame(player, 1) == 100
    explorer = ForwardExplorer(q_sample=lambda x0, t, eps, s: (1 - t / s.T) * x0 + t / s.T * eps)
    slider(player, "t").focus()
    tour.page.keyboard.press("ArrowRight")
    assert frame(player, 1) == 101
    assert share_drawn(pixels(player, 1), explorer.mine[101]) > 0.99
    assert "differs from the reference" in player.locator(".dx-notes").inner_text()


def use_theme(notebook: Any, theme: str) -> None:
    """Change the theme and wait: JupyterLab itself stumbles over a change during a change."""
    call = "theme => jupyterapp.commands.execute('apputils:change-theme', { theme })"
    notebook.page.evaluate(call, theme)
    notebook.page.wait_for_function("t => document.body.dataset.jpThemeName === t", arg=theme)
    notebook.page.wait_for_timeout(500)


def test_text_in_pictures_follows_the_theme(tour: Any) -> None:
    """After a change to the dark theme the numbers beside curves are light, on screen or not."""
    on_screen = tour.player(FORWARD)
    pause(on_screen)
    use_theme(tour, "JupyterLab Dark")
    try:
        for player in (on_screen, tour.player(MINE)):
            curves = player.locator("canvas").count() - 1

            def brightest(player: Any = player, curves: int = curves) -> int:
                ink = pixels(player, curves)[:, :25]  # left of the axis: only its numbers
                return int(ink[ink[..., 3] > 200][:, :3].min(1).max(initial=0))

            wait_until(lambda: brightest() > 150)
    finally:
        use_theme(tour, "JupyterLab Light")


def test_every_slider_has_a_name_and_every_canvas_a_description(tour: Any) -> None:
    """aria-label on sliders, numbers and canvases; key presses are kept from JupyterLab."""
    for cell in (FORWARD, DIGITS, REVERSE, MINE):
        player = tour.player(cell)
        pause(player)
        for control in player.locator("input, select").all():
            assert control.get_attribute("aria-label")
            assert control.get_attribute("data-lm-suppress-shortcuts") == "true"
        for canvas in player.locator("canvas").all():
            assert canvas.get_attribute("role") == "img"
            assert f"t = {frame(player):g}" in canvas.get_attribute("aria-label")


def test_errors_are_shown_and_sliders_live_on(open_notebook: Any, tmp_path: Path) -> None:
    """A learner's function that raises: its line under the picture, and t and T still work."""
    code = [
        "def broken(x0, t, eps, schedule):\n    share = t / schedule.T\n    return share * x_0",
        "import diffusion_edu as de\nde.ForwardExplorer(T=50, q_sample=broken)",
    ]
    source = write_notebook(tmp_path / "broken.ipynb", code)
    notebook = open_notebook(source, reduced_motion="reduce")
    notebook.command("notebook:run-all-cells", wait=False)
    player = notebook.player(1)
    note = player.locator(".dx-notes").inner_text()
    assert "NameError on line 3: return share * x_0" in note
    assert "name 'x_0' is not defined" in note
    slider(player, "t").press("ArrowRight")
    assert frame(player) == 1
    slider(player, "steps T").press("ArrowRight")
    wait_until(lambda: "of 51" in status(player))
    assert notebook.errors == []


def test_reduced_motion(open_notebook: Any) -> None:
    """Who wants no motion gets no autoplay, and a player that is live."""
    notebook = open_notebook(TOUR, reduced_motion="reduce")
    notebook.command("notebook:run-all-cells", wait=False)
    player = notebook.player(FORWARD)
    notebook.page.wait_for_timeout(700)
    assert frame(player) == 0
    slider(player, "steps T").press("ArrowRight")
    wait_until(lambda: "of 201" in status(player))
    assert notebook.errors == []


def test_a_page_without_kernel_plays_on_a_phone(browser: Any, tmp_path: Path) -> None:
    """explorer.to_html(path) opened from a file, 390 px wide: t moves and nothing sticks out."""
    page = browser.new_context(viewport={"width": 390, "height": 800}, offline=True).new_page()
    errors: list[str] = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    explorer = ReverseExplorer("oracle", "gaussians", steps=10, n=500, ghost=True)
    page.goto(explorer.to_html(tmp_path / "page.html").as_uri())
    player = page.locator(".dx")
    player.locator("canvas[data-frame]").wait_for()
    slider(player, "t").press("End")
    assert frame(player) == 0
    assert share_drawn(pixels(player), explorer.frames[-1]) > 0.99
    assert slider(player, "seed").is_disabled()
    assert player.locator('select[aria-label="eta"]').is_enabled()  # a page has some values of it
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390
    assert errors == []
    page.context.close()
