"""The lectures as a static site: a folder of pages that works from a memory stick, without network.

site_run    notebooks -> executed notebooks, cached
site_page   executed notebook -> HTML
site_math   TeX -> MathML
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .._files import checkout
from ..widgets.page import player_style, site_script
from .site_page import Body, is_wide, render
from .site_run import execute
from .syllabus import SYLLABUS, Lecture

__all__ = ["build_site", "default_folder"]

HERE = Path(__file__).parent
FONTS = ("stix-two-math.woff2", "stix-two-text.woff2", "stix-two-text-italic.woff2", "OFL.txt")
EXTERNAL = re.compile(r"[a-z]+:|#")


@dataclass
class _Page:
    """A lecture on its way to a page."""

    name: str
    lecture: Lecture | None
    notebook: Any
    body: Body

    @property
    def number(self) -> str:
        return self.name.partition("_")[0]

    @property
    def strip(self) -> bool:
        """The index shows the middle of a very wide picture."""
        return self.body.poster is not None and is_wide(self.body.poster)

    @property
    def title(self) -> str:
        return self.body.title or (self.lecture.title if self.lecture else self.name)


def default_folder() -> Path:
    """build/site of the checkout, else ./site."""
    root = checkout()
    return (root / "build" if root else Path.cwd()) / "site"


def build_site(
    out: Path | None = None,
    notebooks: Path | None = None,
    instructor: bool = False,
    jobs: int = 2,
    cache: Path | None = None,
) -> Path:
    """Write the site; only notebooks that changed are executed again.

    Args:
        out: folder; what an earlier build left there goes. Default: build/site.
        notebooks: folder of NN_name.ipynb. Default: the lectures.
        instructor: with the answers to the questions.
        jobs: notebooks executed at once.
        cache: folder of executed notebooks. Default: site-cache beside ``out``.

    Returns:
        The index page.

    Raises:
        ValueError: a cell that fails or writes to stderr, a formula that cannot be converted, a
            link that leads nowhere; or a folder that holds something else.
    """
    from .build import folder

    out = (out or default_folder()).resolve()
    source = notebooks or folder()
    _refuse_foreign(out)
    pages = _read(source, instructor and notebooks is None)
    kind = "instructor" if instructor else "student"
    cache = cache or out.parent / "site-cache" / kind
    execute({page.name: page.notebook for page in pages}, cache, jobs)
    files: dict[str, Path] = {}  # address in the site -> file of the notebooks' folder
    for page in pages:
        link = _Links(source, {p.name for p in pages}, files)
        page.body = render(page.name, page.notebook.cells, link, instructor)
        files.setdefault(f"notebooks/{page.name}.ipynb", source / f"{page.name}.ipynb")
    _write(out, pages, files, instructor)
    return out / "index.html"


def _refuse_foreign(out: Path) -> None:
    if out.exists() and any(out.iterdir()) and not (out / "site" / "site.css").is_file():
        raise ValueError(f"{out} holds something that is no site of lectures: name another folder")


def _read(source: Path, instructor: bool) -> list[_Page]:
    import nbformat

    from .build import lecture_notebook
    from .build import source as percent

    known = {one.name: one for one in SYLLABUS}
    pages = []
    for path in sorted(source.glob("[0-9][0-9]_*.ipynb")):
        one = known.get(path.stem)
        notebook = nbformat.read(path, as_version=4)
        if instructor and one and (source / "source" / f"{path.stem}.py").is_file():
            notebook = lecture_notebook(one, percent(one), instructor=True)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        pages.append(_Page(path.stem, one, notebook, Body()))
    if not pages:
        raise ValueError(f"there are no notebooks in {source}")
    return pages


class _Links:
    """Addresses of the notebooks' links in the site; notes the files they need."""

    def __init__(self, source: Path, names: set[str], files: dict[str, Path]) -> None:
        self.source, self.names, self.files = source, names, files

    def __call__(self, href: str) -> str:
        if EXTERNAL.match(href):
            return href
        place, hash_, anchor = href.partition("#")
        if place.endswith(".ipynb") and place.removesuffix(".ipynb") in self.names:
            return f"{place.removesuffix('.ipynb')}.html{hash_}{anchor}"
        path = self.source / place
        inside = path.resolve().is_relative_to(self.source.resolve())
        if not inside or not path.is_file():
            raise ValueError(f"a link to {href}, which is not in {self.source}")
        self.files[f"notebooks/{place}"] = path
        return f"notebooks/{place}"


# ---- writing -------------------------------------------------------------------------------------


def _write(out: Path, pages: Sequence[_Page], files: dict[str, Path], instructor: bool) -> None:
    """The whole site beside its place, then into it: a reader never finds half of one."""
    new = out.parent / f".{out.name}.new"
    shutil.rmtree(new, ignore_errors=True)
    (new / "site").mkdir(parents=True)
    for name in FONTS:
        shutil.copyfile(HERE / "fonts" / name, new / "site" / name)
    for name in ("site.css", "site.js"):
        shutil.copyfile(HERE / "templates" / name, new / "site" / name)
    _text(new / "site" / "player.css", player_style())
    _text(new / "site" / "player.js", site_script())
    for address, file in files.items():
        (new / address).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, new / address)
    for i, page in enumerate(pages):
        before, after = pages[i - 1] if i else None, pages[i + 1] if i + 1 < len(pages) else None
        filled = _template("page.html").render(
            page=page, before=before, after=after, instructor=instructor
        )
        _text(new / f"{page.name}.html", filled)
        if page.body.poster:
            (new / "site" / f"{page.name}.png").write_bytes(page.body.poster)
    index = _template("index.html").render(pages=pages, instructor=instructor)
    _text(new / "index.html", index)
    shutil.rmtree(out, ignore_errors=True)
    new.rename(out)


def _text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


@lru_cache
def _template(name: str) -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(HERE / "templates")
    here = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    return here.get_template(name)
