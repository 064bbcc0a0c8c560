"""check() in a notebook and in plain Python: what it says and draws; it never raises."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib.colors import to_rgb
from matplotlib.image import imread
from traitlets.config import Config

from diffusion_edu import check
from diffusion_edu.exercises import checking, load, names
from diffusion_edu.exercises.build import source, student_source
from diffusion_edu.exercises.verify import defined
from diffusion_edu.viz.checks import RIGHT, WRONG

ROOT = Path(__file__).parents[1]
PUBLIC = "hidden checks run at grading"
SOON = 8.0  # seconds: a loop is given up after 0.3, but these machines share their cores
BAR = "bar = sch.alpha_bar[t].view(-1, *[1] * (x0.ndim - 1))"
RIGHT_JUMP = f"{BAR}\n    return bar.sqrt() * x0 + (1 - bar).sqrt() * eps"
pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def ipython(tmp_path_factory):
    """A kernel without a front end, with its files in a folder of its own."""
    os.environ["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))
    config = Config()
    config.HistoryManager.enabled = False
    main = sys.modules["__main__"]  # the shell puts a module of its own there
    yield InteractiveShell.instance(config=config)
    InteractiveShell.clear_instance()
    sys.modules["__main__"] = main


class Notebook:
    """Cells that are run, with what they print and display."""

    def __init__(self, shell):
        self.shell = shell
        self.run("import math, time\nimport numpy as np\nimport torch")
        self.run("from diffusion_edu import check")

    def run(self, cell):
        """(text, PNG files) that a cell put out; it must not raise."""
        with capture_output() as got:
            result = self.shell.run_cell(cell)
        result.raise_error()
        pictures = [o.data["image/png"] for o in got.outputs if "image/png" in o.data]
        return got.stdout, pictures

    def jump(self, body, before=""):
        """What check(q_sample) puts out for a body of it."""
        self.run(f"{before}\ndef q_sample(x0, t, eps, sch):\n    {body}\n")
        return self.run("check(q_sample)")


@pytest.fixture
def notebook(ipython):
    ipython.reset(new_session=False)
    return Notebook(ipython)


# ---- what it says --------------------------------------------------------------------------------


SAYS = {
    # name: (body of q_sample, what has to be there, ...)
    "right": (RIGHT_JUMP, "  ok  q_sample: values\n", f"public checks 1/1; {PUBLIC}"),
    "named": (
        f"{BAR}\n    return bar.sqrt() * x0 + (1 - bar) * eps",
        "  XX  q_sample: values\n      8 points: largest difference ",
        "\n      var_for_std: 1 - alpha_bar is the variance of the noise. ",
        "(lecture 02, Jump to any t)",
        f"public checks 0/1; {PUBLIC}",
    ),
    "unnamed": (
        f"{BAR}\n    return 3 * bar.sqrt() * x0 + (1 - bar).sqrt() * eps",
        "8 points: largest difference ",
        ", at every t\n",
    ),
    "wrong at one t": (
        "out = x0 * 1\n    " + RIGHT_JUMP.replace("return ", "out = ") + "\n"
        "    out[t == 1] += 1\n    return out",
        "largest difference 1, at t = 1, not at 2, 3, 4, 5, 6, 7, …",
    ),
    "NaN": (
        "return x0 * math.nan",
        "8 points: it gives NaN for 16 of 16 numbers, at every t",
    ),
    "infinity": ("return x0 / (t - 3).view(-1, *[1] * (x0.ndim - 1))", "infinity for 2 of 16"),
    "wrong shape": ("return x0[:1]", "it returned shape (1, 2); wanted is (8, 2)"),
    "None": ("x0 + eps", "it returned None: is the `return` missing?"),
    "text": ("return 'x0'", "it returned a str; wanted is a tensor of shape (8, 2)"),
    "tuple": ("return x0, eps", "it returned 2 results in a tuple; wanted is a tensor"),
    "a comma": (
        f"{RIGHT_JUMP},",
        "it returned 1 result in a tuple (a comma or a bracket too many?); wanted is a",
    ),
    "named tuple": ("return torch.max(x0, dim=0)", "it returned 2 results in a tuple; wanted"),
    "list of itself": ("out = []\n    out.append(out)\n    return out", "raised RecursionError"),
    "objects": ("return np.array([None])", "it raised TypeError: can't convert np.ndarray"),
    "huge integer": ("return 10**400", "it raised OverflowError"),
    "complex": ("return x0 + 1j", "numbers of type torch.complex64; wanted are floats"),
    "integers": ("return x0.long()", "numbers of type torch.int64; wanted are floats"),
    "sparse": ("return x0.to_sparse()", "a tensor of cpu, torch.sparse_coo; wanted is cpu"),
    "elsewhere": ("return x0.to('meta')", "a tensor of meta, torch.strided; wanted is cpu"),
    "raises": (
        "y = x0 + 1\n    return y @ sch.nothing",
        "it raised AttributeError: 'Sch' object has no attribute 'nothing'; "
        "line 3:\n      return y @ sch.nothing",
    ),
    "scalar t": ("return x0 * t", "it raised RuntimeError: The size of tensor a (2) must match"),
    "exits": ("raise SystemExit(3)", "it raised SystemExit: 3; line 2: raise SystemExit(3)"),
    "interrupts": ("raise KeyboardInterrupt", "it raised KeyboardInterrupt"),
    "memory": ("raise MemoryError", "it ran out of memory"),
    "no arguments": ("return q_sample()", "it raised TypeError: q_sample() missing 4 required"),
    "recursion": ("return q_sample(x0, t, eps, sch)", "it raised RecursionError: maximum rec"),
    "not written": (
        'raise NotImplementedError("E2 q_sample")',
        "  --  q_sample: values (not written, or its cell was not run)\n",
    ),
    "in place": (
        f"{BAR}\n    x0 *= bar.sqrt()\n    x0 += (1 - bar).sqrt() * eps\n    return x0",
        "afterwards an argument is not what it should be: was it edited in place?",
    ),
    "shrinks an argument": (
        RIGHT_JUMP.replace("return", "out =") + "\n    sch.beta = sch.beta[1:]\n    return out",
        "was it edited in place?",
    ),
    "noise and a wrong shape": ("return torch.randn(3)", "it returned shape (3,); wanted is"),
    "noise of its own": (
        RIGHT_JUMP.replace("* eps", "* torch.randn_like(eps)"),
        "it gives another result each time it is called: does it draw noise of its own?",
    ),
    "float64": (RIGHT_JUMP.replace("bar.sqrt()", "bar.double().sqrt()"), "public checks 1/1"),
    "NumPy": (
        "bar = sch.alpha_bar.numpy()[t].reshape(-1, *[1] * (x0.ndim - 1))\n"
        "    return bar**0.5 * x0.numpy() + (1 - bar) ** 0.5 * eps.numpy()",
        "public checks 1/1",
    ),
    "a view": (RIGHT_JUMP.replace("return ", "return 1.0 * (") + ")[...]", "public checks 1/1"),
}


@pytest.mark.parametrize("name", SAYS)
def test_says(notebook, name):
    """Each result, and each way to have none, is said in one sentence; nothing is raised."""
    body, *wanted = SAYS[name]
    text, _ = notebook.jump(body)
    assert text.startswith("E2 · Jump to any t\n")
    assert f"; {PUBLIC}\n" in text
    assert all(len(line) <= checking.WIDE for line in text.splitlines())
    for part in wanted:
        assert part in text, text
    assert ("var_for_std" in text) == (name == "named"), "a name that is not deserved"
    solved = name in ("right", "float64", "NumPy", "a view")
    assert ("public checks 1/1" in text) == solved
    assert "passed" not in text


def test_an_exception_that_cannot_be_printed(notebook):
    """Not even its own text may break the report; a long one is cut."""
    bad = "class Bad(Exception):\n    def __str__(self):\n        return 1 / 0"
    text, _ = notebook.jump("raise Bad()", bad)
    assert "it raised Bad: (no text)" in text
    text, _ = notebook.jump("raise ValueError('ha ' * 10**6)")
    assert "it raised ValueError: ha ha ha" in text
    assert len(text) < 1_500


def test_the_line_is_the_learners(notebook):
    """An error inside a helper of another cell, or of torch, is shown at the line of q_sample."""
    notebook.run("def helper(x):\n    return torch.cat([x, None])")
    text, _ = notebook.jump("y = x0\n    return helper(y)")
    assert "; line 3: return helper(y)" in " ".join(text.split())
    assert "Traceback" not in text
    assert "site-packages" not in text


def test_unwritten_notebook(notebook):
    """The notebook as it is handed out: everything open, the bug found; then nothing defined."""
    for cell in student_source(source("E2"), "E2").split("\n# %%\n"):
        if "Explorer" not in cell:
            text, _ = notebook.run(cell)
    assert text.count("  --  ") == 4
    assert "first_alpha_bar_not_1: The tables are shifted by one" in text
    notebook.shell.reset(new_session=False)
    text, pictures = Notebook(notebook.shell).run('check("E2")')
    assert text.count("  --  ") == 5
    assert pictures == []


def test_a_result_in_place_of_the_function(notebook):
    """snr = snr(sch): said, since the function is gone."""
    notebook.run("snr = torch.ones(3)")
    text, pictures = notebook.run('check("E2")')
    assert "XX  snr: values" in text
    assert "snr is no function but a Tensor: was it assigned to?" in text
    assert pictures == []


def test_solution_of_every_exercise(notebook):
    """All public checks of all exercises pass for the solutions, in a kernel."""
    for key in names():
        notebook.shell.user_ns.update(defined(source(key)))
        text, pictures = notebook.run(f"check('{key.lower()}')")
        done, total = map(int, re.search(r"public checks (\d+)/(\d+)", text).groups())
        assert done == total >= len(load(key).functions)
        assert len(pictures) == 1


@pytest.mark.parametrize(
    "setting", ["set_default_dtype(torch.float64)", "set_default_device('meta')", "manual_seed(1)"]
)
def test_settings_of_the_notebook(notebook, setting):
    """What a notebook does to torch changes nothing; a device that is not there is the worst."""
    notebook.shell.user_ns.update(defined(source("E2")))
    try:
        notebook.run(f"torch.{setting}")
        text, pictures = notebook.run("check('E2')")
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    assert "public checks 5/5" in text
    assert len(pictures) == 1


# ---- functions that do not return ----------------------------------------------------------------


def timed(notebook, body):
    began = time.perf_counter()
    text, pictures = notebook.jump(body)
    return " ".join(text.split()), pictures, time.perf_counter() - began


def test_infinite_loop(notebook):
    """Said with the line it was in; given up soon; its thread ends."""
    text, pictures, seconds = timed(notebook, "while True:\n        t = t + 1")
    assert re.search(r"it did not return within 0\.\d+ s; line [23]: (while|t = t)", text), text
    assert seconds < SOON
    assert pictures == []
    assert threading.active_count() < 20


TRACED = pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer waits for the call")


@pytest.mark.parametrize(
    "body",
    [
        "while not stop:\n        try:\n            time.sleep(0.01)\n"
        "        except BaseException:\n            pass",
        pytest.param("time.sleep(4)", marks=TRACED),
    ],
    ids=["swallows everything", "one long call"],
)
def test_loop_that_cannot_be_stopped(notebook, body):
    """It is left behind; the report comes in time all the same."""
    notebook.run("stop = []")
    text, _, seconds = timed(notebook, body)
    notebook.run("stop.append(1)")
    assert "it did not return within 0." in text
    assert seconds < 3.9


def test_all_functions_loop(notebook):
    """Each costs its patience once, whatever the number of calls and worlds."""
    for f in load("E2").functions:
        notebook.run(f"def {f.name}(*args):\n    while True:\n        pass")
    began = time.perf_counter()
    text, _ = notebook.run("check('E2')")
    assert text.count("it did not return") == 5
    assert time.perf_counter() - began < SOON


# ---- what it draws -------------------------------------------------------------------------------


def has(picture, color):
    """Number of pixels of a PNG file that are nearly of a colour."""
    file = io.BytesIO(b64decode(picture))
    return int((np.abs(imread(file)[..., :3] - to_rgb(color)).max(-1) < 0.1).sum())


def test_picture(notebook):
    """One PNG: right points in one colour, wrong ones in another; none where nothing can be."""
    _, (right,) = notebook.jump(RIGHT_JUMP)
    _, (wrong,) = notebook.jump("return x0")
    assert has(right, RIGHT) > 20
    assert has(right, WRONG) == 0
    assert has(wrong, WRONG) > 20
    for body in ("return None", "return x0[:1]", "return 'x'", "return x0 / nothing"):
        assert notebook.jump(body)[1] == []
    for body in ("return x0 * 1e38 * 1e3", "return x0 * math.nan", "return x0.double() * 1e200"):
        assert len(notebook.jump(body)[1]) == 1


# ---- what is asked for ---------------------------------------------------------------------------


def test_what_can_be_checked(notebook):
    """check("E2"), check(q_sample), check("q_sample"), check("E2", snr=mine), check(f, g=mine)."""
    notebook.shell.user_ns.update(defined(source("E2")))
    assert "public checks 5/5" in notebook.run("check('E2')")[0]
    for what in ("q_sample", "'q_sample'"):
        text, _ = notebook.run(f"check({what})")
        assert "ok  q_sample: values" in text
        assert "public checks 1/1" in text
    notebook.run("def mine(sch):\n    return sch.alpha_bar")
    text, _ = notebook.run("check('E2', snr=mine)")
    assert "not_divided_by_noise" in text
    assert "public checks 0/1" in text
    text, _ = notebook.run("check(q_sample, snr=mine)")
    assert "ok  q_sample: values" in text
    assert "public checks 1/2" in text
    text, _ = notebook.run("def f():\n    check(snr)\nf()")
    assert "public checks 1/1" in text


def some(x):
    """No function of an exercise."""


@pytest.mark.parametrize("what", ["E99", "q_sampel", "", None, 3, some, lambda x: x, [1]])
def test_unknown_names(what):
    """ValueError: with the keys of the exercises, and what to write."""
    with pytest.raises(ValueError, match=r"E1, E2, .*try check\(\"E2\"\) or check\(q_sample\)"):
        check(what)


def test_unknown_function_of_an_exercise():
    """check("E2", name=f) with a name that E2 has not: ValueError with those it has."""
    with pytest.raises(ValueError, match=r"'q_sampl'.*'snr'.*Did you mean 'q_sample'"):
        check("E2", q_sampl=some)


def test_plain_python(capsys):
    """Without a kernel: functions of the caller's scope, the same text, no picture."""

    def snr(sch):
        return sch.alpha_bar / (1 - sch.alpha_bar)

    def q_sample(x0, t, eps, sch):
        return x0 / 0

    assert check("E2") is None
    text = capsys.readouterr().out
    assert "ok  snr: values" in text
    assert "it gives infinity for 16 of 16 numbers" in text
    check(snr)
    assert f"public checks 1/1; {PUBLIC}" in capsys.readouterr().out


def test_without_the_packages_of_notebooks():
    """A base installation has neither IPython nor ipywidgets nor anywidget."""
    script = """
        import sys
        for name in ("IPython", "ipywidgets", "anywidget", "jupytext", "nbformat"):
            sys.modules[name] = None
        from diffusion_edu import check
        def snr(sch):
            return 1 / (1 / sch.alpha_bar - 1)
        check("E2")
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert "ok  snr: values" in done.stdout, done.stderr
    assert done.stderr == ""
