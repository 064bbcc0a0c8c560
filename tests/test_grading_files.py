"""Reading the code of a file, names, and folders: every rule, and what breaks it."""

from __future__ import annotations

import gc
import json
import os
import threading
import time

import pytest

from diffusion_edu.exercises.extract import UngradableError, read
from diffusion_edu.grading import submissions
from diffusion_edu.grading.run import file_name
from diffusion_edu.grading.submissions import find, identity, of_folder

DEF = "def f(x):\n    return x"


def nb(*cells, **more):
    """A notebook of (kind, source) or of code."""
    pairs = [c if isinstance(c, tuple) else ("code", c) for c in cells]
    made = [{"cell_type": kind, "source": source} for kind, source in pairs]
    return json.dumps({"cells": made, "nbformat": 4, **more}).encode()


def kept(source):
    """What is kept of one cell."""
    code = read(nb(source), "a.ipynb")
    assert code.problems == []
    return [text for _, text in code.kept]


# ---- statements ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        *("import torch", "from torch import Tensor as T, nn", DEF, "x: int = 3", "a = b = 1"),
        *("class A(B):\n    x = call()", "T, S = 8, 4", "x = -1.5e-3 + 2 * (3 // 4)", "x = None"),
        *("x = 10**-8", "x = 3 * 2**10 - 1", "x = 1 << 8"),
        *("names = ['a', ('b', 1.0), {'k': {1, 2}}]", "f = lambda x: x(3)", "g = f", "f = nn.f"),
        "try:\n    import tqdm\nexcept ImportError:\n    tqdm = None",
        "try:\n    import tqdm\nexcept ImportError:\n    pass",
        '"""A cell that begins with text."""'.join(["x = ", ""]),
    ],
)
def test_kept(source):
    assert kept(source) == [source]


@pytest.mark.parametrize(
    "source",
    [
        *("train(model)", "x = torch.ones(3)", "x += 1", "x.y = 3", "x[0] = 3", "del x", "x: int"),
        *("for i in range(3):\n    pass", "while True:\n    pass", "with a:\n    pass", "assert x"),
        *("if True:\n    def f(): pass", "x = [i for i in y]", "x = y[0]", "x = a if b else c"),
        *("x = 9 ** 9 ** 9", "x = 1 << 10 ** 10", "x = 9 ** 65", "x = 'a' ** 2", "x = y ** 2"),
        *("x = a < b", "(x := 3)", "x = f'{y}'", "'text'"),
        *("async def f(): pass", "try:\n    x()\nexcept A:\n    pass", "global x", "a, b.c = 1, 2"),
        "try:\n    import a\nexcept ImportError:\n    install('a')",
        "x = " + "1 + " * 200 + "call()",
    ],
)
def test_ignored(source):
    code = read(nb(source, DEF), "a.ipynb")
    assert code.kept == [(2, DEF)]
    assert code.ignored == 1
    assert code.problems == []


def test_names_that_ignored_code_would_have_set():
    source = "betas = linspace(0, 1)\nfor i, (a, b) in x: c = 1\nwith d as e: pass"
    code = read(nb(source), "a.ipynb")
    assert set(code.assigned) == {"betas", "i", "a", "b", "c", "e"}


def test_decorators_and_positions():
    source = '@a.b(1,\n     "é")\n@c\ndef f(x="é"): return x\nclass A: pass; y = 1\nx = "ü"; z = 2'
    decorated = '@a.b(1,\n     "é")\n@c\ndef f(x="é"): return x'
    assert kept(source) == [decorated, "class A: pass; y = 1", 'x = "ü"', "z = 2"]


def test_the_number_of_a_cell_counts_all_cells():
    code = read(nb(("markdown", "# x"), "x = 1", "", "def g(:", DEF), "a.ipynb")
    assert code.kept == [(2, "x = 1"), (5, DEF)]
    assert code.problems == ["cell 4 cannot be read (SyntaxError, line 1: invalid syntax)"]
    assert code.lost == {"g": code.problems[0]}
    script = read(b"x = 1\n# %%\ndef f(:\n# %% [markdown]\n# # y\n# %%\ny = 2\n", "a.py")
    assert script.kept == [(1, "x = 1"), (4, "y = 2")]
    assert script.problems == ["cell 2 cannot be read (SyntaxError, line 2: invalid syntax)"]


# ---- magics --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["%pip install x", "!ls -l", "?torch", "f?", "torch.f??", "x = !ls", "y = %time z"]
)
def test_lines_that_are_not_python(line):
    assert kept(f"{line}\n{DEF}") == [DEF]
    assert kept(f"{DEF}\n{line}") == [DEF]
    assert kept(f"x = 1\nif x:\n    {line}\ny = 2") == ["x = 1", "y = 2"]


@pytest.mark.parametrize("magic", ["%%time", "%%timeit -n 3", "%%capture out", "%%prun"])
def test_magics_whose_cell_is_code(magic):
    assert kept(f"\n  {magic}\n{DEF}") == [DEF]


@pytest.mark.parametrize("magic", ["%%bash", "%%writefile f.py", "%%html", "%%javascript", "%%R"])
def test_magics_whose_cell_is_none(magic):
    assert kept(f"{magic}\n{DEF}") == []


@pytest.mark.parametrize(
    "source",
    [
        "def f(a, b):\n    return (\n        a\n        % b\n    )",
        'x = """\n!not a shell\n% of all\nwhat?\n"""',
        "x = 'one\u2028line \x0c \x85'",
    ],
)
def test_what_only_looks_like_a_magic_or_a_line(source):
    assert kept(source) == [source]
    assert kept(source.replace("\n", "\r\n")) == [source]


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("name", ["a.ipynb", "a.IPYNB", "a.py", "a"])
def test_encodings_and_endings(encoding, name):
    text = json.dumps({"cells": [{"cell_type": "code", "source": "x = 'ü'"}]}, ensure_ascii=False)
    if encoding == "utf-16-le":
        text = "\ufeff" + text
    assert read(text.encode(encoding), name).kept == [(1, "x = 'ü'")]


@pytest.mark.parametrize("coding", ["latin-1", "cp1252", "iso-8859-15"])
def test_a_script_says_its_encoding(coding):
    """As Python has it; one that may take forever to read, or that is none, is not used."""
    script = f"# -*- coding: {coding} -*-\nx = 'ü'"
    assert read(script.encode(coding), "a.py").kept == [(1, "x = 'ü'")]
    assert read(b"\xef\xbb\xbf" + script.encode(), "a.py").kept == [(1, "x = 'ü'")]
    for other in ("idna", "rot13", "nothing"):
        with pytest.raises(UngradableError, match=r"byte \d+ is not utf-8-sig; save it"):
            read(script.replace(coding, other).encode("latin-1"), "a.py")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xff\xfe\x00", "not utf-16"),
        (b"\x80abc", "byte 0 is not utf-8"),
        (b"[]", "no object"),
        (b"{}", "no list of cells"),
        (b'{"cells": {}}', "no list of cells"),
        (b'{"worksheets": 3}', "no list of cells"),
        (b'{"cells": [\n{]}', "no valid JSON, line 2"),
        (b'{"cells": [1' + b"1" * 5000 + b"]}", "no valid JSON"),
        (b'{"cells": ' + b"[" * 100_000, "no valid JSON"),
        (b'{"cells": [\n<<<<<<< HEAD\n=======\n>>>>>>> x\n]}', "merge conflict, first on line 2"),
        (b'{"cells": [\n>>>>>>> x\n]}', "merge conflict, first on line 2"),
        (b'{"cells": [' + b"{}," * 5000 + b"{}]}", "5,001 cells; at most 5,000"),
        (nb("x = 1\n" * 100_000), "600,000 characters of code"),
        (b" " * (20 << 20) + b"1", "20 MiB; at most 20"),
    ],
)
def test_what_cannot_be_read(data, said):
    with pytest.raises(UngradableError, match=said):
        read(data, "a.ipynb")


def test_odd_but_readable_notebooks():
    old = {"worksheets": [{"cells": [{"cell_type": "code", "input": ["x = 1\n", "y = 2"]}]}, 7, {}]}
    old["worksheets"].append({"cells": 7})
    assert read(json.dumps(old).encode(), "a.ipynb").kept == [(1, "x = 1"), (1, "y = 2")]
    assert read(nb(["x = 1\n", 7, None, "y = 2"]), "a.ipynb").kept == [(1, "x = 1"), (1, "y = 2")]
    odd = b'{"cells": [7, null, {}, {"cell_type": "code", "source": 7}]}'
    assert read(odd, "a.ipynb").kept == []
    assert read(nb(("raw", DEF), ("markdown", "We def it")), "a.ipynb").notes == [
        "cell 1 is no code cell but has a `def` in it: it is not read"
    ]
    surrogate = read(nb("x = '\ud800'", DEF), "a.ipynb")
    assert surrogate.kept == [(2, DEF)]
    assert len(surrogate.problems) == 1
    inside = read(nb(f"<<<<<<< HEAD\n{DEF}\n=======\n{DEF}\n>>>>>>> x", "y = 1"), "a.ipynb")
    assert inside.kept == [(2, "y = 1")]
    assert "merge conflict, line 1" in inside.problems[0]
    for deep in ("(" * 10_000, "-" * 100_000 + "1", "x" + "()" * 50_000, "\0", "1+" * 100_000):
        assert "cell 1 cannot be read" in read(nb(f"x = {deep}", DEF), "a.ipynb").problems[0]


def test_reading_takes_time_in_proportion_to_the_text():
    """A grader that a submission can keep busy for an hour is no grader."""
    began = time.process_time()
    assert len(read(nb("x = 1\n" * 20_000), "a.ipynb").kept) == 20_000
    assert len(read(nb("x=1;" * 20_000), "a.ipynb").kept) == 20_000
    read(nb(("markdown", "def f(" + ")" * 400_000)), "a.ipynb")
    read(nb("w" * 100_000 + " " * 100_000 + "?" * 100_000), "a.ipynb")
    assert time.process_time() - began < 20  # 3 s here; quadratic would be minutes


def test_reading_in_threads():
    """A worker of a cluster reads in several; ast.parse of Python 3.11 cannot be interrupted."""
    source = nb("\n".join(f"def f{i}(x):\n    return [x + {i}, x][0] * 3" for i in range(60)))
    found = []

    def work():
        for _ in range(30):
            found.append(len(read(source, "a.ipynb").kept))

    go = [threading.Thread(target=work) for _ in range(4)]
    before = gc.get_threshold()
    let_others = lambda phase, info: time.sleep(0)  # noqa: E731, in the middle of ast.parse
    gc.callbacks.append(let_others)
    gc.set_threshold(200)
    try:
        for thread in go:
            thread.start()
        for thread in go:
            thread.join()
    finally:
        gc.callbacks.remove(let_others)
        gc.set_threshold(*before)
    assert found == [60] * 120


# ---- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "who", "number"),
    [
        ("ann.ipynb", "ann", ""),
        ("smithjohn_1234_5678_E2.ipynb", "smithjohn", "1234"),
        ("smithjohn_LATE_1234_5678_my_file-2.ipynb", "smithjohn", "1234"),
        ("Zoë O'Neil_77_assignsubmission_file", "Zoë O'Neil", "77"),
        ("Zoë O'Neil_77_assignsubmission_file_", "Zoë O'Neil", "77"),
        ("Ann Lee_77_assignsubmission_file_E2.ipynb", "Ann Lee", "77"),
        *[("my_e2_work.py", "my_e2_work", ""), ("a_1_b.py", "a_1_b", ""), (".ipynb", ".ipynb", "")],
    ],
)
def test_names_of_platforms(name, who, number):
    assert identity(name) == (who, number)


def test_names_of_rows_and_files(tmp_path):
    for name in ("a.py", "a.ipynb", "a (2).py", "b\x1b[31m\n.py", "\udcff.py"):
        (tmp_path / name).write_text("x = 1")
    assert [s.id for s in find([tmp_path], "E2")] == ["a (2)", "a", "a (3)", "b?[31m?", "?"]
    names = [
        "a",
        "A b",
        "A/b",
        "..",
        ".",
        "",
        "_",
        "\U00020000" * 100,
        "\U00020000" * 101,
        "\udcff",
        "x" * 300,
    ]
    files = [file_name(n) for n in names]
    assert len(set(files)) == len(names)
    assert files[0] == "a"
    assert all(0 < len(f.encode()) < 100 and "/" not in f and f[0] != "." for f in files)


# ---- folders -------------------------------------------------------------------------------------


def one(folder, key="E2"):
    (found,) = find([folder], key)
    return found


def test_of_several_files_the_one_that_names_the_exercise(tmp_path):
    own = tmp_path / "class" / "ann"
    for best in ("z.py", "z.ipynb", "E20.ipynb", "a.ipynb", "deep/e2.py", "deep/my-E2.ipynb"):
        path = own / best
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(best)
        (own / ".ipynb_checkpoints").mkdir(exist_ok=True)
        (own / ".ipynb_checkpoints" / "E2-checkpoint.ipynb").write_text("old")
        assert one(own.parent).file == best
        assert any("was graded; not" in note for note in one(own.parent).notes)
        assert of_folder(own, "E2").data == one(own.parent).data == best.encode()


def test_what_a_folder_may_not_hold(tmp_path):
    own = tmp_path / "class" / "ann"
    own.mkdir(parents=True)
    (tmp_path / "secret.py").write_text("x = 1")
    (own / "link.py").symlink_to(tmp_path / "secret.py")
    (own / "folder").symlink_to(tmp_path)
    assert "no notebook or script in it, but nothing" in one(own.parent).reason
    (own / "report.pdf").write_text("x")
    assert "but .pdf" in one(own.parent).reason
    os.mkfifo(own / "pipe.py")
    assert "no regular file" in one(own.parent).reason
    (own.parent / "bob.py").symlink_to(tmp_path / "secret.py")
    os.mkfifo(own.parent / "eve.ipynb")
    (own.parent / ".hidden.py").write_text("x = 1")
    reasons = {s.id: s.reason for s in find([own.parent], "E2")}
    assert set(reasons) == {"ann", "bob", "eve"}
    assert "symbolic link" in reasons["bob"]
    assert "no regular file" in reasons["eve"]


def test_limits_of_a_folder(tmp_path, monkeypatch):
    own = tmp_path / "ann"
    own.mkdir()
    for i in range(4):
        (own / f"{i}.py").write_bytes(b"#" * 100)
    assert one(tmp_path).reason == ""
    for name, value in [("MOST_BYTES", 99), ("MOST_UNPACKED", 399), ("MOST_ENTRIES", 3)]:
        with monkeypatch.context() as patch:
            patch.setattr(submissions, name, value)
            assert "more than" in one(tmp_path).reason
