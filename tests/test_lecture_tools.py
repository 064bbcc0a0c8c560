"""What lectures are built from: notebooks of sources, and what their cells call."""

import inspect
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import diffusion_edu as de
from diffusion_edu.cli import app
from diffusion_edu.lectures import agree, show, table
from diffusion_edu.lectures.build import build, lecture_notebook, source
from diffusion_edu.lectures.notation import SYMBOLS, footer
from diffusion_edu.lectures.syllabus import SYLLABUS, lecture

SOURCE = """# %% [markdown]
# # A title
#
# What it is about.

# %%
1 + 1

# %% [markdown] tags=["answer"]
# The answer is 2.

# %% [markdown] tags=["notation"]
# t beta alpha_bar
"""


def notebook(instructor=False):
    return lecture_notebook(lecture("02"), SOURCE, instructor)


def test_the_line_under_the_title_says_what_the_syllabus_says():
    title, _, line = notebook().cells[0].source.partition("\n\n")
    assert title == "# A title"
    for part in ("Lecture 02", "50 minutes", "(01_forward_process.ipynb)", "E2", "Colab"):
        assert part in line


def test_the_second_cell_does_nothing_but_on_colab():
    import sys

    cell = notebook().cells[1]
    assert cell.metadata.tags == ["colab"]
    assert f"diffusion_edu[lab]=={de.__version__}" in cell.source
    assert "google.colab" not in sys.modules
    plain = "\n".join(x for x in cell.source.splitlines() if not x.strip().startswith("%"))
    exec(plain + "\n    raise RuntimeError", {})


def test_answers_are_for_instructors():
    student, teacher = notebook(), notebook(instructor=True)
    assert "The answer" not in str(student)
    assert [c.source for c in teacher.cells if c.metadata.get("tags") == ["answer"]] == [
        "The answer is 2."
    ]


def test_notebooks_have_no_outputs_and_steady_ids():
    cells = notebook().cells
    assert [c["id"] for c in cells] == [f"l02-{n:02}" for n in range(1, len(cells) + 1)]
    assert all(not c.get("outputs") and not c.get("execution_count") for c in cells)
    assert notebook() == notebook()


def test_a_source_without_title_is_refused():
    with pytest.raises(ValueError, match="must begin with '# Jump to any t'"):
        lecture_notebook(lecture("02"), "# %%\n1 + 1\n")


def test_build_writes_what_it_says(tmp_path):
    files = build(["00"], tmp_path)
    assert [f.name for f in files] == ["00_tour.ipynb"]
    assert files[0].read_text().startswith("{")
    assert source(lecture("00")).lstrip("# -").strip()


def test_answers_never_land_among_the_lectures():
    from typer.testing import CliRunner

    result = CliRunner().invoke(app, ["lectures", "build", "--instructor"])
    assert isinstance(result.exception, ValueError)
    assert "--out" in str(result.exception)


@given(st.lists(st.sampled_from(sorted(SYMBOLS)), unique=True))
def test_footers_have_a_row_for_each_symbol(names):
    rows = [x for x in footer(names).splitlines() if x.startswith("|")]
    assert len(rows) == 2 + len(names)
    assert all(x.replace(r"\|", "").count("|") == 4 for x in rows)


def test_unknown_symbols_and_lectures_are_named():
    with pytest.raises(ValueError, match="no symbol 'alhpa'"):
        footer(["alhpa"])
    with pytest.raises(ValueError, match="no lecture '12'"):
        lecture("12")


def test_the_syllabus_is_in_order_and_needs_what_comes_before():
    numbers = [one.number for one in SYLLABUS]
    assert numbers == [f"{n:02}" for n in range(len(SYLLABUS))]
    for one in SYLLABUS:
        assert all(n < one.number for n in one.needs)
        assert one.exercise in ("", *de.exercises.names())


@pytest.mark.parametrize("function", [de.q_sample, de.Schedule, de.slerp, de.sample])
def test_show_is_the_source_itself(function):
    text = repr(show(function))
    assert text == inspect.getsource(inspect.unwrap(function)).rstrip()
    assert show(function)._repr_markdown_() == f"```python\n{text}\n```"
    short = repr(show(function, docstring=False))
    assert '"""' not in short.split("\n    def ")[0]
    assert short.splitlines()[-1] == text.splitlines()[-1]


@given(st.floats(-1e6, 1e6), st.floats(1e-9, 1))
def test_agree_accepts_up_to_tol_and_no_further(a, tol):
    agree(a, a, tol=tol)
    far = torch.tensor([a, a], dtype=torch.float64) + torch.tensor([0, 3 * tol + 1e-3])
    with pytest.raises(AssertionError, match="more than"):
        agree(a, far, tol=tol)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_agree_refuses_what_is_not_finite(bad):
    with pytest.raises(AssertionError):
        agree(bad, 1.0, tol=1e300)


def test_table_is_markdown_with_rounded_numbers():
    text = repr(table(["a", "b"], [[1, 2.34567], ["x", torch.tensor(0.5)]]))
    assert text.splitlines() == ["| a | b |", "| --- | --- |", "| 1 | 2.346 |", "| x | 0.5 |"]
    with pytest.raises(ValueError, match="has 1 cells, the header 2"):
        table(["a", "b"], [[1]])


def test_ten_real_digits_are_shipped():
    digits = de.images.mnist_sample()
    assert digits.shape == (10, 1, 28, 28)
    assert digits.dtype == torch.uint8
    ink = digits.flatten(1).float().mean(1) / 255
    assert ((ink > 0.03) & (ink < 0.3)).all()
    if de.images.is_here("mnist", "test"):
        real = de.images.load("mnist", "test", download=False)
        first = [int((real.labels == c).nonzero()[0]) for c in range(10)]
        assert torch.equal(real.images[first], digits)


def test_a_raw_docstring_leaves_nothing_behind() -> None:
    code = show(de.frechet_distance, docstring=False).plain
    assert code.splitlines()[1].strip().startswith("(m1, c1)")


def test_a_bar_does_not_end_a_cell() -> None:
    assert table(["|x|"], [[1]]).plain.splitlines()[0] == r"| \|x\| |"


def test_answers_in_notebooks_say_for_whom_they_are(tmp_path):
    """A lecturer who projects the instructor's notebook sees it coming."""
    (path,) = build(["07"], tmp_path, instructor=True)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    answers = [c for c in cells if "answer" in c["metadata"].get("tags", [])]
    assert answers
    assert all("for instructors" in c["source"][0] for c in answers)
    (path,) = build(["07"], tmp_path)
    assert "for instructors" not in path.read_text(encoding="utf-8")
