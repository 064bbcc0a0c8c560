"""An executed notebook as a piece of HTML: text, formulas, code, outputs."""

from __future__ import annotations

import base64
import html
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from .site_math import mathml
from .site_run import cell_name

__all__ = ["Body", "is_wide", "render"]

Link = Callable[[str], str]  # href -> href in the site; ValueError where it leads nowhere
HIDDEN = ("colab",)  # tags of cells that have no place on a page
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_RAW = re.compile(r"\$|\\[A-Za-z]+")
# No line begins with the stop after a formula, or ends with the bracket before it.
_BEFORE = re.compile(r"([(\[])(<math|<span class=.formula)")
_AFTER = re.compile(r"(<math(?:(?!<math).)*?</math>)(</span>)?([.,;:!?)\]]+)", re.DOTALL)
_STYLE = re.compile(r"<style[^>]*>.*?</style>", re.DOTALL)


@dataclass
class Body:
    """What a page is made of.

    Attributes:
        html: all cells.
        title: the text of the first # heading.
        sections: (id, text as HTML) of the ## headings.
        poster: a PNG for the index: that of the cell tagged "cover", else the first explorer's,
            else the first picture; or None.
    """

    html: str = ""
    title: str = ""
    sections: list[tuple[str, str]] = field(default_factory=list)
    poster: bytes | None = None


def render(name: str, cells: Sequence[Any], link: Link, answers: bool = False) -> Body:
    """The page of the executed ``cells``.

    Args:
        name: of the notebook, for messages.
        link: makes the address of a link in the site from that in the notebook.
        answers: show the cells tagged "answer".

    Raises:
        ValueError: a formula that cannot be converted, or TeX outside of one; names the cell.
    """
    body = Body()
    writer = _Writer(body, link)
    parts = []
    for i, cell in enumerate(cells):
        tags = cell.metadata.get("tags", [])
        if any(tag in HIDDEN for tag in tags) or ("answer" in tags and not answers):
            continue
        try:
            parts.append(writer.cell(cell, tags))
        except ValueError as error:
            raise ValueError(f"{name}, {cell_name(cells, i)}: {error}") from error
    body.html = _each_style_once("\n".join(part for part in parts if part))
    return body


def _each_style_once(page: str) -> str:
    """Outputs bring their style sheets along; one of each is enough."""
    seen: set[str] = set()

    def first(match: re.Match[str]) -> str:
        known = match[0] in seen
        seen.add(match[0])
        return "" if known else match[0]

    return _STYLE.sub(first, page)


class _Writer:
    """Writes cells, and notes headings and pictures in ``body``."""

    def __init__(self, body: Body, link: Link) -> None:
        self.body, self.link = body, link
        self.ids: set[str] = set()
        self.posters, self.cover = 0, False
        self.markdown_it = _parser(self)

    def cell(self, cell: Any, tags: Sequence[str]) -> str:
        if cell.cell_type == "markdown":
            kind = next((t for t in tags if t in ("answer", "notation")), "")
            return f'<section class="text {kind}">\n{self.markdown(cell.source)}</section>'
        if cell.cell_type != "code" or not cell.source.strip():
            return ""
        self.cover = "cover" in tags
        outputs = "".join(self.output(o) for o in _joined(cell.get("outputs", [])))
        code = "" if "hide-input" in tags else _code(cell.source, "python")
        out = f'<div class="out">\n{outputs}</div>' if outputs else ""
        return f'<section class="code">\n{code}{out}</section>'

    # ---- text
    def markdown(self, text: str) -> str:
        tokens = self.markdown_it.parse(text)
        for token in tokens:
            for child in token.children or []:
                if child.type == "text" and (raw := _RAW.search(child.content)):
                    raise ValueError(f"TeX outside of a formula, {raw[0]!r} in {child.content!r}")
        self._note_headings(tokens)
        page = self.markdown_it.renderer.render(tokens, self.markdown_it.options, {})
        page = _BEFORE.sub("\\1\u2060\\2", str(page))
        page = _AFTER.sub(r'<span class="stay">\1\3</span>\2', page)
        return re.sub(
            r"<table>.*?</table>",
            lambda m: f'<div class="wide" tabindex="0" role="group">{m[0]}</div>',
            page,
            flags=re.DOTALL,
        )

    def _note_headings(self, tokens: Sequence[Any]) -> None:
        for token, inline in pairwise(tokens):
            if token.type != "heading_open":
                continue
            plain = "".join(c.content for c in inline.children if c.type in ("text", "code_inline"))
            anchor = re.sub(r"\W+", "-", plain.lower()).strip("-") or "section"
            while anchor in self.ids:
                anchor += "-again"
            self.ids.add(anchor)
            token.attrSet("id", anchor)
            options = self.markdown_it.options
            inner = self.markdown_it.renderer.renderInline(inline.children, options, {})
            if token.tag == "h1" and not self.body.title:
                self.body.title = plain
            if token.tag == "h2":
                self.body.sections.append((anchor, inner))

    # ---- outputs
    def output(self, output: Any) -> str:
        if output.output_type == "stream":
            return _plain(output.text)
        data = output.get("data", {})
        if "image/png" in data:
            self._note_poster(data)
        if "text/html" in data:
            return f'<div class="html">{data["text/html"]}</div>\n'
        if "text/markdown" in data:
            return f'<div class="text">{self.markdown(data["text/markdown"])}</div>\n'
        if "text/latex" in data:
            return _equation(data["text/latex"].strip().strip("$"))
        if "image/svg+xml" in data:
            return f'<div class="picture">{data["image/svg+xml"]}</div>\n'
        if "image/png" in data:
            return _image(data, output.get("metadata", {}))
        if "text/plain" in data:
            return _plain(data["text/plain"])
        raise ValueError(f"an output that no page can show: {', '.join(data)}")

    def _note_poster(self, data: Any) -> None:
        explorer = 'class="explorer"' in data.get("text/html", "")
        rank = 3 if self.cover else 2 if explorer else 1
        if rank > self.posters:
            self.posters = rank
            self.body.poster = base64.b64decode(data["image/png"])


def _joined(outputs: Sequence[Any]) -> list[Any]:
    """Text that was printed in several pieces is one."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last is not None and output.output_type == last.output_type == "stream":
            last.text += output.text
        else:
            joined.append(output.copy())
    return joined


def _plain(text: str) -> str:
    clean = html.escape(_ANSI.sub("", text).rstrip("\n"))
    return f'<pre class="plain" tabindex="0">{clean}</pre>\n' if clean.strip() else ""


def _image(data: Any, metadata: Any) -> str:
    alt = html.escape(str(data.get("text/plain", "picture")), quote=True)
    size = metadata.get("image/png", {})
    width = f' width="{size["width"]}"' if "width" in size else ""
    picture = "".join(data["image/png"].split())
    source = f"data:image/png;base64,{picture}"
    wide = is_wide(base64.b64decode(picture[:32]))
    kind = '"picture long" tabindex="0" role="group"' if wide else '"picture"'
    return f'<div class={kind}><img alt="{alt}"{width} src="{source}"></div>\n'


def is_wide(png: bytes) -> bool:
    """Whether a PNG is a strip, by the size in its first chunk: more than three times as wide."""
    size = png[16:24]
    width, height = struct.unpack(">II", size) if len(size) == 8 else (1, 1)
    return bool(width > 3 * height)


def _equation(tex: str) -> str:
    return f'<div class="equation" tabindex="0" role="group">{_formula(tex, display=True)}</div>\n'


def _formula(tex: str, display: bool = False) -> str:
    try:
        return mathml(tex, display=display)
    except ValueError as error:
        raise ValueError(f"{error} in the formula {' '.join(tex.split())!r}") from error


def _code(text: str, language: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language or "text", stripnl=False)
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    coloured = highlight(text.rstrip(), lexer, HtmlFormatter(nowrap=True))
    return f'<pre class="hl" tabindex="0"><code>{coloured.rstrip()}</code></pre>\n'


def _parser(writer: _Writer) -> Any:
    """Markdown as Jupyter has it: CommonMark, tables, $formulas$."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    parser: Any = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    dollarmath_plugin(parser, allow_labels=False, double_inline=True)

    def link_open(tokens: Any, i: int, options: Any, env: Any) -> str:
        href = writer.link(tokens[i].attrs["href"])
        tokens[i].attrSet("href", href)
        if "://" in href:
            tokens[i].attrSet("rel", "noopener")
        return str(parser.renderer.renderToken(tokens, i, options, env))

    def image(tokens: Any, i: int, options: Any, env: Any) -> str:
        source = str(tokens[i].attrs["src"])
        words = html.escape(tokens[i].content or "picture", quote=True)
        if "://" in source:  # the page must be whole without a network
            return words
        return f'<img alt="{words}" src="{html.escape(writer.link(source), quote=True)}">'

    rules = parser.renderer.rules
    rules["link_open"], rules["image"] = link_open, image
    rules["fence"] = lambda tokens, i, *_: _code(tokens[i].content, tokens[i].info.strip())
    rules["math_inline"] = lambda tokens, i, *_: _formula(tokens[i].content)
    rules["math_inline_double"] = lambda tokens, i, *_: (
        f'<span class="equation" tabindex="0">{_formula(tokens[i].content, display=True)}</span>'
    )
    rules["math_block"] = lambda tokens, i, *_: _equation(tokens[i].content)
    return parser
