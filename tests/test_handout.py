"""Copies of notebooks in a learner's folder: brought up to date, and nothing of theirs is lost."""

import contextlib
import json
import os
import pty
import re
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_edu import _handout, _lab
from diffusion_edu._handout import RECORD, hand_out, handouts, said

ROOT = Path(__file__).parents[1]
NAMES = ("exercises/E1.ipynb", "LICENSE.md")


def notebook(text, release=1, outputs=()):
    """A notebook that says ``text``, of a release of the package, which its Colab cell names."""
    colab = {"cell_type": "code", "source": f"%pip install diffusion_edu=={release}",
             "metadata": {"tags": ["colab"]}, "outputs": []}  # fmt: skip
    cell = {"cell_type": "code", "source": [text], "metadata": {}, "outputs": list(outputs)}
    return json.dumps({"cells": [colab, cell], "nbformat": 4}).encode()


def contents(folder):
    """Every file of a folder but the record, by name."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != RECORD)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def never(names):
    raise AssertionError(f"asked about {names}")


class Learner:
    """A folder of copies, what was published so far, and what of it the learner was shown.

    What the learner wrote are the bytes that no release has under that name.
    """

    def __init__(self, folder):
        self.folder, self.number, self.stopped = folder, 0, False
        self.text, self.upstream = dict.fromkeys(NAMES, "text 0"), {}
        self.published = {name: set() for name in NAMES}  # bytes
        self.shown = {name: set() for name in NAMES}  # texts
        self.release(())

    def fresh(self):
        self.number += 1
        return self.number

    def release(self, names):
        """A new version of the package, which says something new in some of the files."""
        number = self.fresh()
        for name in NAMES:
            if name in names:
                self.text[name] = f"text {number}"
            text = self.text[name]
            self.upstream[name] = text.encode() if name[-1] == "d" else notebook(text, number)
            self.published[name].add(self.upstream[name])

    def act(self, what, which):
        """Do something to one of the files that are there."""
        files = sorted(contents(self.folder))
        path = self.folder / files[which % len(files)]
        if what == "edit":
            path.write_bytes(notebook(f"mine {self.fresh()}"))
        elif what == "damage":
            path.write_text(f"mine {self.fresh()}")
        elif what == "run" and path.read_bytes().startswith(b"{"):  # JupyterLab saves outputs
            made = json.loads(path.read_bytes())
            made["cells"][-1]["outputs"] = [self.fresh()]
            path.write_text(json.dumps(made, indent=1))
        elif what == "take the new":
            path.rename(path.with_name(re.sub(r"\.new\d*", "", path.name)))
        elif what == "delete" and len(files) > 1:
            path.unlink()

    def theirs(self):
        """What the learner wrote, as often as it is there."""
        kept = Counter()
        for name, data in contents(self.folder).items():
            whose = re.sub(r"\.(new|mine)\d*\.", ".", name)
            kept[data] += data not in self.published[whose]
        return +kept

    def expected(self):
        """The files that lab has to ask about: theirs, and a text that they were not shown."""
        found = contents(self.folder)
        for name in NAMES:
            if name in found and found[name] not in self.published[name]:
                same = said(name, found[name]) == said(name, self.upstream[name])
                if self.text[name] not in self.shown[name] and not same:
                    yield name

    def lab(self, answer):
        before, expected, asked = self.theirs(), list(self.expected()), []
        hand_out(self.upstream, self.folder, lambda names: asked.extend(names) or answer)
        after = contents(self.folder)
        assert not before - Counter(after.values())
        assert asked == expected or self.stopped
        for name in NAMES:
            current = after[name] == self.upstream[name]
            assert current or after[name] not in self.published[name]  # untouched: up to date
            assert name not in asked or current == answer
            assert name not in asked or self.upstream[name] in after.values()
            self.shown[name].add(self.text[name])
        assert hand_out(self.upstream, self.folder, never).endswith(": nothing new")
        assert contents(self.folder) == after

    def stopped_lab(self, answer, writes, late):
        """Ctrl-C before or after a write, the record's included."""
        before, left, write = self.theirs(), [writes], _handout.write_atomically

        def counted(path, data):
            left[0] -= 1
            if late or left[0] >= 0:
                write(path, data)
            if left[0] < 0:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(_handout, "write_atomically", counted)
            hand_out(self.upstream, self.folder, lambda names: answer)
        self.stopped = True
        assert not before - Counter(contents(self.folder).values())


ACTS = st.tuples(
    st.sampled_from(["edit", "damage", "run", "take the new", "delete"]), st.integers(0, 7)
)
STOP = st.none() | st.tuples(st.integers(0, 3), st.booleans())
ROUNDS = st.tuples(st.lists(ACTS, max_size=3), st.sets(st.sampled_from(NAMES)), st.booleans(), STOP)


@given(st.lists(ROUNDS, min_size=2, max_size=6))
def test_nothing_of_the_learners_is_lost(rounds):
    """They edit, run, rename and delete; the package is released; lab is stopped, and runs."""
    with TemporaryDirectory() as folder:
        learner = Learner(Path(folder, "notebooks"))
        learner.lab(answer=False)
        for acts, released, answer, stop in rounds:
            for what, which in acts:
                learner.act(what, which)
            learner.release(released)
            if stop is not None:
                learner.stopped_lab(answer, *stop)
            learner.lab(answer)


# ---- what it says, and to whom -------------------------------------------------------------------


def two(text="a", release=1):
    return {"x.ipynb": notebook(text, release), "y.ipynb": notebook("never changes", release)}


def test_one_line_says_what_was_done(tmp_path):
    """Copied, nothing new, updated, beside, in place: each has its words, and its files."""
    here = tmp_path / "here"
    assert hand_out(two(), here, never) == f"{here}: 2 copied"
    assert hand_out(two(), here, never) == f"{here}: nothing new"
    assert hand_out(two(release=2), here, never) == f"{here}: 2 updated"
    (here / "x.ipynb").write_bytes(notebook("mine"))
    assert hand_out(two(release=3), here, never) == f"{here}: 1 updated"  # it says nothing new
    line = hand_out(two("b", 3), here, lambda names: False)
    assert line == f"{here}: new versions beside yours: x.new.ipynb"
    assert contents(here)["x.new.ipynb"] == notebook("b", 3)
    line = hand_out(two("c", 3), here, lambda names: True)
    assert line == f"{here}: new versions in place, yours kept as x.mine.ipynb"
    assert contents(here)["x.mine.ipynb"] == notebook("mine")
    assert contents(here)["x.ipynb"] == notebook("c", 3)


def test_saved_outputs_are_the_learners(tmp_path):
    """A copy that was only run: kept while nothing new is said, then kept with the new beside."""
    hand_out(two(), tmp_path, never)
    ran = notebook("a", outputs=["a picture"])
    (tmp_path / "x.ipynb").write_bytes(ran)
    assert hand_out(two(), tmp_path, never).endswith("nothing new")
    assert hand_out(two(release=2), tmp_path, never).endswith(": 1 updated")  # y
    hand_out(two("b", 2), tmp_path, lambda names: False)
    assert (tmp_path / "x.ipynb").read_bytes() == ran
    assert (tmp_path / "x.new.ipynb").read_bytes() == notebook("b", 2)


@pytest.mark.parametrize("record", [b"", b"{", b"[1]", b'{"x.ipynb": 3}', b'{"x.ipynb": {}}'])
def test_a_damaged_record_loses_nothing(tmp_path, record):
    """Nothing is known then: a file that differs is the learner's."""
    hand_out(two(), tmp_path, never)
    (tmp_path / RECORD).write_bytes(record)
    hand_out(two("b"), tmp_path, lambda names: False)
    assert (tmp_path / "x.ipynb").read_bytes() == notebook("a")
    assert (tmp_path / "x.new.ipynb").read_bytes() == notebook("b")


def test_learners_get_all_but_the_sources(tmp_path):
    """Every notebook of lectures and exercises, with links that lead somewhere; no sources."""
    source = ROOT / "notebooks"
    made = handouts(source)
    wanted = {p.relative_to(source).as_posix() for p in source.rglob("*.ipynb")}
    wanted = {name for name in wanted if ".ipynb_checkpoints" not in name}
    assert set(made) == wanted | {"README.md", "LICENSE.md"}
    hand_out(made, tmp_path, never)
    texts = {name: data.decode() for name, data in made.items()}
    for name, text in texts.items():
        for link in re.findall(r"\]\((?![a-z]+:|#)([^)#\s]+\.(?:ipynb|md))\)", text):
            assert (tmp_path / name).parent.joinpath(link).is_file(), (name, link)


@pytest.mark.parametrize(
    ("answer", "force", "taken"),
    [(b"y\n", False, True), (b"\n", False, False), (None, False, False), (None, True, True)],
)
def test_asks_on_a_terminal_only(tmp_path, monkeypatch, capsys, answer, force, taken):
    """y takes the new one, Enter keeps yours; so does a stdin that is no terminal."""
    hand_out(two(), tmp_path / "here", never)
    (tmp_path / "here" / "x.ipynb").write_bytes(notebook("mine"))
    (tmp_path / "x.ipynb").write_bytes(notebook("b"))
    monkeypatch.setattr(_lab, "folder", lambda: tmp_path)
    terminal, keyboard = pty.openpty()
    with open(os.devnull if answer is None else keyboard) as stdin, monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", stdin)
        os.write(terminal, answer or b"")
        _lab.tour(tmp_path / "here", force)
    os.close(terminal)
    assert ("you changed: x.ipynb" in capsys.readouterr().out) == (answer is not None)
    current, beside = ("b", "x.mine.ipynb") if taken else ("mine", "x.new.ipynb")
    assert (tmp_path / "here" / "x.ipynb").read_bytes() == notebook(current)
    assert (tmp_path / "here" / beside).read_bytes() == notebook("mine" if taken else "b")
