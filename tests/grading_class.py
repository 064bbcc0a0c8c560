"""A class of submissions whose grades are known before they are graded.

    truth = make_class(folder, 60, seed=0)

Every submission has one form for each function (right, wrong with a name, wrong without one), at
most one damage (a cell deleted, retyped, in conflict, ...) and one dress (how the file is packed
and named). For E2 the forms are written by hand (``grading_forms``); for other exercises they come
from the exercise's own catalogue, as text.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import grading_catalogue
import grading_dresses
import grading_forms
from grading_forms import Form

from diffusion_edu.exercises.build import full_source, notebook, source, student_notebook

SECRET = "a secret of the class"


@dataclass
class Cell:
    """A cell, and the function that it defines."""

    kind: str
    source: str
    defines: str = ""


@dataclass
class Draft:
    """A submission that is being made."""

    key: str
    cells: list[Cell]
    forms: dict[str, Form]
    lost: set[str] = field(default_factory=set)

    def pick(self, r: random.Random) -> Cell:
        """A cell with a function that is still there."""
        return r.choice([c for c in self.cells if c.defines and c.defines not in self.lost])


@dataclass(frozen=True)
class Truth:
    """What a row has to say; ``reason`` is a regular expression."""

    status: str
    score: float
    mistakes: frozenset[str] = frozenset()
    reason: str = ""


def _with_first_line(cell: Cell, line: str) -> str:
    """The cell with a line more at the beginning of its function."""
    head = re.compile(rf"^def {cell.defines}\(.*?\):\n", re.MULTILINE | re.DOTALL)
    return head.sub(lambda m: f"{m[0]}    {line}\n", cell.source, count=1)


# ---- damages -------------------------------------------------------------------------------------


def deleted(d: Draft, r: random.Random) -> None:
    cell = d.pick(r)
    d.cells.remove(cell)
    d.lost.add(cell.defines)


def duplicated(d: Draft, r: random.Random) -> None:
    cell = d.pick(r)
    d.cells.insert(r.randrange(len(d.cells)), Cell("code", cell.source))


def rewritten_below(d: Draft, r: random.Random) -> None:
    """A first attempt stands above; the last definition counts."""
    cell = d.pick(r)
    d.cells.insert(0, Cell("code", _with_first_line(cell, "return None")))


def reordered(d: Draft, r: random.Random) -> None:
    d.cells.reverse()


def shuffled(d: Draft, r: random.Random) -> None:
    r.shuffle(d.cells)


def one_cell(d: Draft, r: random.Random) -> None:
    code = "\n\n".join(c.source for c in d.cells if c.kind == "code")
    d.cells[:] = [Cell("code", code, next(iter(d.forms)))]


def retyped(kind: str) -> Callable[[Draft, random.Random], None]:
    def change(d: Draft, r: random.Random) -> None:
        cell = d.pick(r)
        cell.kind = kind
        d.lost.add(cell.defines)

    return change


def conflict(d: Draft, r: random.Random) -> None:
    cell = d.pick(r)
    cell.source = f"<<<<<<< HEAD\n{cell.source}\n=======\n{cell.source}\n>>>>>>> origin/main\n"
    d.lost.add(cell.defines)


def typo(d: Draft, r: random.Random) -> None:
    cell = d.pick(r)
    cell.source = cell.source.replace("):\n", ")\n", 1)
    d.lost.add(cell.defines)


def written_to_a_file(d: Draft, r: random.Random) -> None:
    cell = d.pick(r)
    cell.source = f"%%writefile {cell.defines}.py\n{cell.source}"
    d.lost.add(cell.defines)


def renamed(d: Draft, r: random.Random) -> None:
    cell = d.pick(r)
    cell.source = cell.source.replace(f"def {cell.defines}(", f"def my_{cell.defines}(", 1)
    d.lost.add(cell.defines)


def stubs(d: Draft, r: random.Random) -> None:
    for _ in range(2):
        cell = d.pick(r)
        cell.source = _with_first_line(cell, f'raise NotImplementedError("{d.key} {cell.defines}")')
        d.lost.add(cell.defines)


def global_from_a_call(d: Draft, r: random.Random) -> None:
    """Code that does not run at grading sets a name that the function uses."""
    cell = d.pick(r)
    cell.source = f"T_STEPS = int('8')\n{_with_first_line(cell, 'assert T_STEPS == 8')}"
    d.lost.add(cell.defines)


def global_constant(d: Draft, r: random.Random) -> None:
    cell = d.pick(r)
    cell.source = f"T_STEPS: int = 2 * 4\n{_with_first_line(cell, 'assert T_STEPS == 8')}"


def magics(d: Draft, r: random.Random) -> None:
    cell = d.pick(r)
    top = "%%time\n%matplotlib inline\n!pip install -q torch\nfiles = !ls\nif 1:\n    %cd /tmp\n"
    cell.source = f"{top}{cell.source}\ntorch.cumprod?\n"
    d.cells.insert(0, Cell("code", "%%bash\nrm -rf build; exit 1"))


def loops(d: Draft, r: random.Random) -> None:
    top = "from google.colab import drive\nimport wandb, matplotlib.pyplot as plt\n"
    top += "drive.mount('/content')\nname = input()\nplt.show()\nwhile True:\n    pass\nexit()\n"
    d.cells.insert(0, Cell("code", top))
    cell = d.pick(r)
    cell.source += "\nfor step in range(10**9):\n    loss = train()\nassert loss < 0.1\n"


def untouched(d: Draft, r: random.Random) -> None:
    """As it is handed out; functions with a bug to find have it."""
    import json

    made = json.loads(student_notebook(d.key))
    d.cells[:] = [Cell(c["cell_type"], "".join(c["source"])) for c in made["cells"]]
    d.forms = {f: grading_catalogue.handed_out(d.key, f) for f in d.forms}


def none(d: Draft, r: random.Random) -> None:
    pass


DAMAGES = [
    *(none, deleted, duplicated, rewritten_below, reordered, shuffled, retyped("markdown")),
    *(retyped("raw"), conflict, typo, written_to_a_file, renamed, stubs, global_from_a_call),
    *(global_constant, magics, loops, untouched, one_cell, none),
]


# ---- a class -------------------------------------------------------------------------------------


def make_class(folder: Path, n: int, seed: int, key: str = "E2") -> dict[str, Truth]:
    """Write ``n`` submissions to a folder; what each has to get, by the name of its row."""
    r = random.Random(f"{seed} {key}")
    folder.mkdir(parents=True, exist_ok=True)
    broken, dresses = grading_dresses.BROKEN, grading_dresses.DRESSES
    plan: list[tuple[Callable, Callable]] = [(b, none) for b in broken]
    plan += [(dresses[i % len(dresses)], d) for i, d in enumerate(DAMAGES)]
    plan += [(d, r.choice(DAMAGES)) for d in dresses]
    plan = [plan[i % len(plan)] for i in range(n)]
    r.shuffle(plan)
    return dict(_write(folder, i, key, *plan[i], r) for i in range(n))


def _write(
    folder: Path, i: int, key: str, dress: Callable, damage: Callable, r: random.Random
) -> tuple[str, Truth]:
    d = Draft(key, *_cells(key, r))
    damage(d, r)
    who = dress(folder, i, d, r)
    if dress in grading_dresses.BROKEN:
        return who, Truth("ungradable", 0.0, reason=grading_dresses.BROKEN[dress])
    left = [f for f in d.forms.values() if f.function not in d.lost]
    named = frozenset(f"{f.function}:{f.mistake}" for f in left if f.mistake)
    return who, Truth("graded", round(sum(f.points for f in left), 6), named)


def _cells(key: str, r: random.Random) -> tuple[list[Cell], dict[str, Form]]:
    """The cells of a notebook with a form drawn for every function; three in four are right."""
    catalogue = forms_of(key)
    drawn = {}
    for name, forms in catalogue.items():
        right, wrong = [f for f in forms if f.right], [f for f in forms if not f.right]
        drawn[name] = r.choice(right if r.random() < 0.75 or not wrong else wrong)
    cells = [Cell(c.kind, c.source, c.defines) for c in _solved(key)]
    for cell in cells:
        if cell.defines:
            cell.source = _replaced(cell.source, cell.defines, drawn[cell.defines].source)
    if extra := grading_catalogue.support(key) if key != "E2" else "":
        cells.insert(0, Cell("code", extra))
    return cells, drawn


@lru_cache
def forms_of(key: str) -> dict[str, list[Form]]:
    """All forms of all functions."""
    if key != "E2":
        return grading_catalogue.forms(key, SECRET)
    found: dict[str, list[Form]] = {name: [] for name in grading_forms.POINTS}
    for form in (*grading_forms.RIGHT, *grading_forms.NAMED, *grading_forms.UNNAMED):
        found[form.function].append(form)
    for cell in _solved(key):
        if cell.defines:
            points = grading_forms.POINTS[cell.defines]
            found[cell.defines].append(Form(cell.defines, "", points, cell.source, right=True))
    return found


@lru_cache
def _solved(key: str) -> list[Cell]:
    """The cells of the solved notebook."""
    names = [f.name for f in grading_catalogue.exercises.load(key).functions]
    cells = []
    for c in notebook(full_source(source(key)), key).cells:
        own = [n for n in names if re.search(rf"^def {n}\(", c.source, re.MULTILINE)]
        assert len(own) < 2, f"{key}: a cell defines {own}"
        cells.append(Cell(c.cell_type, c.source, own[0] if own and c.cell_type == "code" else ""))
    return cells


def _replaced(text: str, name: str, by: str) -> str:
    """The source with another definition of one of its functions."""
    own = re.compile(rf"^def {name}\(.*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
    return own.sub(lambda m: by.rstrip() + "\n", text, count=1)
