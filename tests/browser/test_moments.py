"""Moments at which the player went wrong: keys on whole numbers, a redraw, a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from driving import LOOKS, entry, frame, pause, slider, status, wait_until, write_notebook

from diffusion_edu.widgets import ForwardExplorer
from diffusion_edu.widgets.explorer import short

CELLS = [
    "from diffusion_edu.widgets import MetricLab\nlab = MetricLab(n=60)\nlab",
    "from diffusion_edu.widgets import ReverseExplorer\n"
    "walk = ReverseExplorer(steps=20, n=200)\nwalk",
]
LAB, WALK = 0, 1


@pytest.fixture(scope="module")
def played(open_notebook: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("moments") / "moments.ipynb"
    notebook = open_notebook(write_notebook(path, CELLS))
    notebook.command("notebook:run-all-cells", wait=False)
    for i in range(len(CELLS)):
        pause(notebook.player(i))
    return notebook


def test_keys_move_a_whole_number_spaced_by_powers(played: Any) -> None:
    """Each arrow is at least 1 more or less, also where a place on the slider is less than that."""
    player, seen = played.player(LAB), [60]
    handle = slider(player, "samples n")
    for key in ["ArrowRight"] * 3 + ["ArrowLeft"] * 4:
        handle.press(key)
        sign = 1 if key == "ArrowRight" else -1
        wait_until(lambda sign=sign: sign * (int(played.python("print(lab.n)")) - seen[-1]) > 0)
        seen.append(int(played.python("print(lab.n)")))
        wait_until(lambda: int(entry(player, "samples n").input_value()) == seen[-1])
    assert min(seen) < 60 < max(seen)
    assert player.locator(".dx-notes p.error").count() == 0
    assert played.errors == []


def test_a_redraw_leaves_the_time_of_who_plays(played: Any) -> None:
    """Jobs push pictures while a player plays: it goes on where it is; a t set in Python counts."""
    player = played.player(WALK)
    push = "walk._publish(lambda: None)"
    slider(player, "t").press("Home")
    wait_until(lambda: played.python("print(walk.t)").strip() == "1000")
    player.get_by_role("button", name="play").click()
    wait_until(lambda: frame(player) < 900)
    played.python(push)
    assert frame(player) < 900
    pause(player)
    wait_until(lambda: float(played.python("print(walk.t)")) == frame(player))
    left = frame(player)
    played.python(push)
    assert frame(player) == left
    played.python("walk.t = 500")
    wait_until(lambda: frame(player) == 500)
    assert played.errors == []


def test_a_page_finds_the_smallest_numbers(browser: Any, tmp_path: Path) -> None:
    """Every value that is offered shows its scene, however Python and JavaScript write it."""
    explorer = ForwardExplorer("moons", n=50, T=10)
    page = browser.new_context(offline=True).new_page()
    page.add_init_script(path=LOOKS)
    errors: list[str] = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(explorer.to_html(tmp_path / "page.html", beta_1=[5e-5, 1e-3]).as_uri())
    player = page.locator(".dx")
    pause(player)
    slider(player, "t").press("Home")
    slider(player, "t").press("ArrowRight")
    for choice, noise in {"5e-05": 5e-5, "0.001": 1e-3, "auto": 0.1 / 10}.items():
        player.locator(".dx-controls select:enabled").first.select_option(choice)
        wait_until(lambda noise=noise: f"SNR = {short(1 / noise - 1)}," in status(player))
    assert errors == []
    page.context.close()
