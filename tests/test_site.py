"""The lectures as a site: formulas, cells as HTML, what fails with which words, the cache."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

pytest.importorskip("latex2mathml")

from diffusion_edu.cli import app
from diffusion_edu.lectures import site_run
from diffusion_edu.lectures.site import build_site
from diffusion_edu.lectures.site_math import mathml
from diffusion_edu.lectures.site_page import render
from diffusion_edu.lectures.site_run import key

# ---- formulas ------------------------------------------------------------------------------------

ATOMS = (
    r"\mathbf{x}_t",
    r"\bar\alpha_{t-1}",
    r"\tilde{\boldsymbol\mu}_t",
    r"\boldsymbol{\epsilon}_\theta(\mathbf{x}_t,t)",
    r"\mathcal{N}(\mathbf{0},\mathbf{I})",
    r"\mathbb{E}_q",
    r"\lVert x\rVert^2",
    r"\hat{\mathbf{x}}_0",
    r"\mathrm{KL}",
    r"\log p",
    "x'",
    "2",
    r"\text{a word}",
)
FRAMES = (
    r"\sqrt{%s}",
    r"\tfrac12 %s",
    r"\frac{%s}{1-\beta_t}",
    r"\left(%s\right)",
    r"\boxed{%s}",
    r"\underbrace{%s}_{L_T}",
    r"\sum_{t=1}^T %s",
    r"\begin{aligned} a &= %s \\ &= b \end{aligned}",
    r"\bigl[%s\bigr]",
    r"x^{%s}",
)
JOINS = ("=", "+", r"\,", r"\mid ", r"\sim ", r"\le ", r"\,\Vert\,", ",")


@st.composite
def formulas(draw: st.DrawFn) -> str:
    """TeX as the lectures write it, up to three frames deep."""
    text = draw(st.sampled_from(ATOMS))
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            text = text + draw(st.sampled_from(JOINS)) + draw(st.sampled_from(ATOMS))
        else:
            text = draw(st.sampled_from(FRAMES)).replace("%s", text)
    return text


@given(formulas(), st.booleans())
def test_a_formula_becomes_mathml_core(tex: str, display: bool) -> None:
    """Well-formed, only elements that browsers draw, and nothing of the TeX left."""
    root = ElementTree.fromstring(f"<p>{mathml(tex, display)}</p>".replace("<wbr>", "<wbr/>"))
    core = {
        *("math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "msub", "msup", "msubsup", "munder"),
        *("mover", "munderover", "mfrac", "msqrt", "mtable", "mtr", "mtd", "mstyle"),
    }
    assert {e.tag for e in root.iter()} <= core | {"p", "span", "wbr"}
    text = "".join(root.itertext())
    assert not re.search(r"[\\$&]|#x", text)
    shown = {e.get("mathvariant") for e in root.iter()} - {None}
    assert shown <= {"normal"}  # browsers know no other


@given(
    formulas(),
    st.sampled_from([r"\foo", r"\dfoo{x}", r"\label{a}", r"\begin{nowhere}x\end{nowhere}"]),
)
def test_an_unknown_command_is_named(tex: str, bad: str) -> None:
    with pytest.raises(ValueError, match=re.escape(bad[:4])):
        mathml(f"{tex} {bad}")


@pytest.mark.parametrize(
    ("tex", "said"),
    [
        ("x^{", "super script"),
        (r"\frac{a}", "misses"),
        ("a & b", "aligned"),
        (r"a \\ b", "aligned"),
        (" ", "empty"),
        (r"\color{red}{x}", "colour"),
        (r"\text{if $x$ is}", r"\$"),
        (r"\left( x", "right"),
    ],
)
def test_tex_that_cannot_be_shown_is_refused(tex: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        mathml(tex)


def shown(tex: str) -> str:
    return "".join(ElementTree.fromstring(f"<p>{mathml(tex, True)}</p>").itertext())


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"\mathbf{xI0}", "𝐱𝐈𝟎"),
        (r"\boldsymbol{\epsilon\mu}", "𝝐𝝁"),
        (r"\mathbb{E}\mathbb{R}\mathbb{1}", "𝔼ℝ𝟙"),
        (r"\mathcal{NL}", "𝒩ℒ"),
        (r"x \sim y", "x∼y"),
    ],
)
def test_letters_of_other_alphabets_are_characters(tex: str, text: str) -> None:
    assert shown(tex) == text


def test_a_long_inline_formula_may_break_at_its_relations() -> None:
    long = r"q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)=\mathcal{N}(\mathbf{x};\mu,\sigma)"
    assert mathml(long).count("<wbr>") >= 1
    assert "<wbr>" not in mathml(r"\bar\alpha_t=1")
    assert "<wbr>" not in mathml(long, display=True)


# ---- cells ---------------------------------------------------------------------------------------


def page(*cells: Any, answers: bool = False) -> Any:
    return render("01_test", cells, lambda href: href, answers)


def text(source: str, *tags: str) -> Any:
    return nbformat.v4.new_markdown_cell(source, metadata={"tags": list(tags)})


def code(source: str, *outputs: Any) -> Any:
    return nbformat.v4.new_code_cell(source, outputs=list(outputs))


def result(**data: str) -> Any:
    named = {kind.replace("_", "/", 1): value for kind, value in data.items()}
    return nbformat.v4.new_output("display_data", data=named)


def test_headings_are_the_contents() -> None:
    body = page(
        text("# Title"), text("## One $x_t$\n\ntext\n\n## One\n\n### Small"), text("## One")
    )
    assert body.title == "Title"
    ids = [anchor for anchor, _ in body.sections]
    assert len(ids) == len(set(ids)) == 3
    assert all(f'id="{anchor}"' in body.html for anchor in ids)
    assert "<math" in body.sections[0][1]


def test_answers_are_for_instructors() -> None:
    cells = text("# T"), text("Because.", "answer"), code("secret()")
    cells[2].metadata["tags"] = ["answer"]
    assert "Because" not in page(*cells).html
    assert "secret" not in page(*cells).html
    assert "Because" in page(*cells, answers=True).html


def test_html_wins_over_pictures_and_the_first_explorer_is_the_poster() -> None:
    png = "iVBORw0KGgo="
    body = page(
        code("a", result(image_png=png, text_plain="a <picture>")),
        code("b", result(image_png="AAAA", text_html='<div class="explorer" id="e"></div>')),
        code("c", nbformat.v4.new_output("stream", name="stdout", text="\x1b[31m1 < 2\x1b[0m\n")),
    )
    assert f"base64,{png}" in body.html
    assert 'alt="a &lt;picture&gt;"' in body.html
    assert body.html.count("base64") == 1
    assert body.poster == b"\0\0\0"
    assert "1 &lt; 2" in body.html


def test_markdown_outputs_are_code_and_tables() -> None:
    fence = "```python\ndef f(x):\n    return x\n```"
    body = page(code("show(f)", result(text_markdown=f"{fence}\n\n| a |\n|---|\n| $x_t$ |")))
    assert '<span class="k">def</span>' in body.html
    assert '<div class="wide"' in body.html
    assert "<math" in body.html


def test_a_style_that_every_output_brings_is_kept_once() -> None:
    style = "<style>.card { color: red }</style>"
    body = page(*(code("card", result(text_html=f"{style}<p>{i}</p>")) for i in range(3)))
    assert body.html.count("<style>") == 1


def test_pictures_from_the_network_are_words() -> None:
    body = page(text("[![Open in Colab](https://a.b/c.svg)](https://colab)"))
    assert "<img" not in body.html
    assert "Open in Colab" in body.html


@pytest.mark.parametrize(
    "source",
    [
        r"a $\foo$ b",
        "$$\n\\foo\n$$",
        "$$\\foo$$ b",
        r"costs $5",
        r"then \alpha is",
        "## $\\foo$",
        "| $\\foo$ |\n|---|",
    ],
)
def test_a_bad_formula_fails_with_cell_and_formula(source: str) -> None:
    with pytest.raises(ValueError, match=r"01_test, cell 2 \(.*\): .*(\\foo|\$|\\alpha)"):
        page(text("# T"), text(source))


# ---- execution -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "notebooks" / "exercises").mkdir(parents=True)
    (tmp_path / "notebooks" / "exercises" / "E1.ipynb").write_text("{}")
    return tmp_path / "notebooks"


def write(folder: Path, name: str, *cells: Any) -> None:
    nbformat.write(nbformat.v4.new_notebook(cells=list(cells)), folder / f"{name}.ipynb")


def build(folder: Path, **options: Any) -> str:
    index = build_site(folder.parent / "site", folder, **options)
    return index.read_text(encoding="utf-8")


def test_only_what_changed_is_executed_again(folder: Path, capsys: Any) -> None:
    link = "[next](02_b.ipynb#end) [do](exercises/E1.ipynb) [far](https://a.b)"
    write(folder, "01_a", text(f"# First\n\n{link}"), code("import time\ntime.time_ns()"))
    write(folder, "02_b", text("# Second\n\n## End"), code("print('two')"))
    index = build(folder)
    assert index.index("First") < index.index("Second")
    site = folder.parent / "site"
    first = (site / "01_a.html").read_text()
    for href in ("02_b.html#end", "notebooks/exercises/E1.ipynb", "https://a.b"):
        assert f'href="{href}"' in first
    addresses = re.findall(r'(?:href|src)="([^":#]+)"', first)
    assert addresses
    assert all((site / address).is_file() for address in addresses)
    said = capsys.readouterr().out
    assert re.search(r"01_a +\d+\.\d s", said)
    write(folder, "02_b", text("# Second\n\n## End"), code("print('three')"))
    build(folder)
    said = capsys.readouterr().out
    assert re.search(r"01_a +known", said)
    assert re.search(r"02_b +\d+\.\d s", said)
    assert (site / "01_a.html").read_text() == first
    assert "three" in (site / "02_b.html").read_text()


def test_failures_name_their_cells_and_the_old_site_stays(folder: Path) -> None:
    write(folder, "01_a", text("# A"), code("print('well')"))
    before = build(folder)
    write(folder, "02_b", text("# B"), code("x = 1"), code("\nx / 0  # oh"), code("print(2)"))
    write(folder, "03_c", text("# C"), code("import warnings\nwarnings.warn('old')"))
    said = CliRunner().invoke(
        app, ["lectures", "site", str(folder.parent / "site"), "--notebooks", str(folder)]
    )
    message = str(said.exception)
    assert "02_b, cell 3 (x / 0  # oh): ZeroDivisionError: division by zero" in message
    assert re.search(r"03_c, cell 2 \(import warnings\) writes to stderr: .*old", message, re.S)
    assert "01_a" not in message
    assert (folder.parent / "site" / "index.html").read_text() == before


def test_a_link_that_leads_nowhere_fails(folder: Path) -> None:
    write(folder, "01_a", text("# A\n\n[gone](exercises/E7.ipynb)"))
    with pytest.raises(ValueError, match=r"cell 1 .*exercises/E7\.ipynb"):
        build(folder)
    write(folder, "01_a", text("# A\n\n[out](../../secret.txt)"))
    with pytest.raises(ValueError, match="secret"):
        build(folder)


def test_a_folder_with_something_else_is_left_alone(folder: Path) -> None:
    write(folder, "01_a", text("# A"))
    (folder.parent / "site").mkdir()
    (folder.parent / "site" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="no site"):
        build(folder)
    assert (folder.parent / "site" / "thesis.txt").read_text() == "years of work"


def test_the_cache_knows_code_tags_and_package(monkeypatch: pytest.MonkeyPatch) -> None:
    one = nbformat.v4.new_notebook(cells=[code("a")])
    same = nbformat.v4.new_notebook(cells=[code("a", result(text_plain="an output"))])
    assert key(one) == key(same)
    assert key(one) != key(nbformat.v4.new_notebook(cells=[code("b")]))
    before = key(one)
    monkeypatch.setattr(site_run, "_package", lambda: "another version")
    assert key(one) != before


def test_an_explorer_in_a_site_has_its_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusion_edu.widgets import ForwardExplorer
    from diffusion_edu.widgets.page import SITE

    monkeypatch.setenv(SITE, "1")
    data, _ = ForwardExplorer(n=50, T=10)._repr_mimebundle_()
    assert {"text/html", "image/png", "text/plain"} == set(data)
    assert 'class="explorer"' in data["text/html"]
    assert "<style" not in data["text/html"]
    assert data["text/html"].count('"controls"') > 10
