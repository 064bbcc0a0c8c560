"""The site of the lectures as a reader has it: files on a disk, no server, no network."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from driving import LOOKS
from executed import CACHE

from diffusion_edu.lectures.build import folder

PAGES = ["index", *(path.stem for path in sorted(folder().glob("[0-9][0-9]_*.ipynb")))]
LECTURES = PAGES[1:]


@pytest.fixture(scope="session")
def site() -> Path:
    """Built once, beside the cache that the tests of lectures fill too, as `make site` does.

    $DIFFUSION_EDU_BUILT_SITE is one that is there already.
    """
    if built := os.environ.get("DIFFUSION_EDU_BUILT_SITE"):
        return Path(built)
    pytest.importorskip("latex2mathml")
    out = CACHE.parents[1] / "site-under-test"
    command = [sys.executable, "-m", "diffusion_edu", "lectures", "site", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


class Reader:
    """A page, and what went wrong on it."""

    def __init__(self, browser: Any, site: Path, **options: Any) -> None:
        self.site, self.errors = site, list[str]()
        viewport = {"width": 1280, "height": 900}
        self.page = browser.new_context(
            **{"viewport": viewport, "offline": True, **options}
        ).new_page()
        self.page.add_init_script(path=LOOKS)
        self.page.on("pageerror", lambda e: self.errors.append(str(e.stack)))
        self.page.on(
            "console", lambda m: m.type in ("error", "warning") and self.errors.append(m.text)
        )
        self.page.on("requestfailed", lambda r: self.errors.append(f"failed: {r.url}"))

    def open(self, name: str) -> Any:
        self.errors.clear()
        self.page.goto(f"file://{self.site}/{name}.html")
        self.page.evaluate("document.fonts.ready")
        return self.page

    def start_all(self) -> Any:
        """Scroll until every explorer has started."""
        for place in self.page.locator(".explorer").all():
            place.scroll_into_view_if_needed()
            place.locator(".dx canvas[data-frame]").first.wait_for(timeout=20_000)
        return self.page.locator(".dx").all()


@pytest.fixture(scope="module")
def reader(browser: Any, site: Path) -> Iterator[Reader]:
    one = Reader(browser, site)
    yield one
    one.page.context.close()


@pytest.fixture(scope="module")
def phone(browser: Any, site: Path) -> Iterator[Reader]:
    one = Reader(browser, site, viewport={"width": 390, "height": 844}, color_scheme="dark")
    yield one
    one.page.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole(reader: Reader, name: str) -> None:
    """Fonts, formulas and pictures are there; every link inside the site leads somewhere."""
    page = reader.open(name)
    assert page.evaluate("document.fonts.load('16px \"STIX Two Math\"').then((f) => f.length)") == 1
    for look in ("emptyFormulas", "rawTex", "blankPictures", "lostAnchors"):
        assert page.evaluate(f"looks.{look}()") == [], look
    for address in page.evaluate("looks.addresses()"):
        assert (reader.site / address).is_file(), address
    assert reader.errors == []


@pytest.mark.parametrize("name", LECTURES)
def test_every_live_control_moves_its_picture(reader: Reader, name: str) -> None:
    """To both ends and back: no exception, and one of the pictures or numbers is another."""
    page = reader.open(name)
    for i, player in enumerate(reader.start_all()):
        player.scroll_into_view_if_needed()
        assert player.evaluate("player => looks.moveAll(player, true)") == [], f"explorer {i}"
    assert page.locator(".explorer > img").count() == 0
    assert reader.errors == []


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_scrolls_down_only(phone: Reader, name: str) -> None:
    """At 390 pixels wide formulas and tables scroll in themselves; in dark colours."""
    page = phone.open(name)
    phone.start_all()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, page.evaluate(
        "looks.tooWide()"
    )
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 24, 27)"
    assert phone.errors == []


def test_the_keyboard_reaches_everything(reader: Reader) -> None:
    """The first stop leads past the frame; contents and colours work without a mouse."""
    page = reader.open(LECTURES[0])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.focus("#theme")
    page.keyboard.press("Enter")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before  # it is kept
    page.focus("#theme")
    page.keyboard.press("Enter")
    page.goto(f"file://{reader.site}/index.html")
    page.locator(".lectures a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{LECTURES[0]}.html")
    assert reader.errors == []


def test_a_handout_has_text_and_pictures_only(reader: Reader) -> None:
    page = reader.open(LECTURES[0])
    reader.start_all()
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for part in (".bar", ".onward", ".dx-controls", ".dx-tools"):
        assert not page.locator(part).first.is_visible()
    page.emulate_media(media="screen", color_scheme="light")
