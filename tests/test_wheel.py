"""The wheel: what is in it, and that every command works where there is no checkout."""

import email
import json
import os
import re
import site
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import diffusion_edu
from diffusion_edu._handout import handouts
from diffusion_edu._lab import COPY
from diffusion_edu.exercises.build import full_source, notebook, source, student_notebook
from diffusion_edu.lectures.build import REPOSITORY

ROOT = Path(__file__).parents[1]
MEGABYTES = 60


def build(what, project, folder):
    """The file that the build backend makes of a project, without network."""
    line = [sys.executable, "-m", "hatchling", "build", "--target", what, "--directory", folder]
    subprocess.run(line, cwd=project, check=True, capture_output=True)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder that pip installed it to."""
    folder = tmp_path_factory.mktemp("installed")
    line = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([sys.executable, "-m", *line, "--target", folder, wheel], check=True)
    return folder


def in_checkout(folder):
    """Files of a folder of the checkout, without what git ignores."""
    for path in (ROOT / folder).rglob("*"):
        name = path.relative_to(ROOT / folder)
        if path.is_file() and not {"__pycache__", ".ipynb_checkpoints"} & set(name.parts):
            yield name.as_posix()


def test_the_wheel_has_the_package_and_the_notebooks(wheel):
    """Every file of both and, licences and metadata aside, nothing else."""
    names = zipfile.ZipFile(wheel).namelist()
    package = {f"diffusion_edu/{name}" for name in in_checkout("diffusion_edu")}
    notebooks = {f"diffusion_edu/_notebooks/{name}" for name in in_checkout("notebooks")}
    assert {n for n in names if ".dist-info/" not in n} == package | notebooks
    assert wheel.stat().st_size < MEGABYTES * 1e6


def test_the_sdist_makes_the_same_wheel(wheel, tmp_path):
    """Bit for bit; and it has what its tests read."""
    packed = build("sdist", ROOT, tmp_path / "sdist")
    subprocess.run(["tar", "xzf", packed, "-C", tmp_path], check=True)
    project = tmp_path / packed.name.removesuffix(".tar.gz")
    again = build("wheel", project, tmp_path / "again")
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()
    for folder in ("tests", "notebooks", ".github"):
        there = {p.relative_to(project / folder).as_posix() for p in (project / folder).rglob("*")}
        assert set(in_checkout(folder)) <= there
    kinds = ("*.md", "*.txt", "*.toml", "*.cff", "LICENSE", "Makefile", ".gitignore")
    top = {path.name for kind in kinds for path in ROOT.glob(kind)}
    assert len(top) >= 12
    assert top <= {path.name for path in project.iterdir()}


def test_what_a_package_index_shows(wheel):
    """Version, addresses and licences agree with the repository; no link is relative."""
    file = zipfile.ZipFile(wheel)
    (place,) = (n for n in file.namelist() if n.endswith(".dist-info/METADATA"))
    about = email.message_from_bytes(file.read(place))
    assert about["Version"] == diffusion_edu.__version__
    cited = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {diffusion_edu.__version__}\n" in cited
    home = f"https://github.com/{REPOSITORY}"
    assert all(home in url for url in about.get_all("Project-URL"))
    assert len(about.get_all("License-File")) == len(about["License-Expression"].split(" AND "))
    readme = about.get_payload()
    links = re.findall(r"\]\(([^)\s]+)\)", readme)
    assert len(links) == len(re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text()))
    for link in links:
        assert re.match(r"https?:|#", link), link
        ours = re.match(rf"{home}/(?:blob|raw)/main/([^#]+)", link)
        assert ours is None or (ROOT / ours[1]).exists(), link


# ---- where there is no checkout ------------------------------------------------------------------

# What the extras bring and the package itself does not.
EXTRAS = "anywidget ipykernel IPython ipywidgets jupyterlab jupytext latex2mathml mdit_py_plugins"
EXTRAS = [*EXTRAS.split(), "distributed", "imageio_ffmpeg", "nbclient", "nbformat"]
BARE = (
    ["info"],
    ["doctor"],
    ["data", "list"],
    ["exercise", "list"],
    ["gradescope-zip", "E2", "--secret", "s"],
    ["lectures", "list"],
    ["lectures", "paper-map"],
    ["sample", "--model", "colour_digits", "--n", "4", "--steps", "2", "--out", "digits.png"],
    ["train", "--recipe", "moons", "--steps", "2", "--out", "run"],
)
MORE = (  # needs extras
    ["exercise", "build", "--out", "handed_out", "--instructor", "answers"],
    ["exercise", "verify", "E2"],
    ["grade", "class", "-e", "E2", "--secret", "s", "--jobs", "1"],
    ["lectures", "build", "--out", "built", "--instructor"],
    ["lectures", "site", "site", "--notebooks", "small"],
    ["exercise", "new", "E10", "Mine"],
)
SCRIPT = """
import contextlib, io, json, sys, traceback


def run(lines):
    from diffusion_edu.cli import app
    for line in lines:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                code = app(line, standalone_mode=False) or 0
            except BaseException:
                traceback.print_exc()
                code = 1
        yield " ".join(line), code, said.getvalue()


if __name__ == "__main__":
    bare, hidden, more = json.load(sys.stdin)
    there = {name: sys.modules.get(name) for name in hidden}
    sys.modules.update(dict.fromkeys(hidden))
    done = [*run(bare)]

    import diffusion_edu as de
    from diffusion_edu.nets import pretrained_names
    networks = {name: sum(p.numel() for p in de.pretrained(name)[0].parameters())
                for name in pretrained_names()}
    de.ForwardExplorer("moons", T=3).to_html("page.html")

    for name in hidden:
        del sys.modules[name]
    done += run(more)
    files = [getattr(m, "__file__", None) for n, m in sys.modules.items() if n[:9] == "diffusion"]
    json.dump([done, networks, [f for f in files if f]], sys.stdout)
"""
CELLS = """# %% [markdown]
# # A lecture

# %%
import diffusion_edu as de
print(de.__file__)

# %%
def q_sample(x0, t, eps, schedule):
    a = schedule.alpha_bar[t].reshape(-1, *[1] * (x0.dim() - 1))
    return a.sqrt() * x0 + (1 - a) * eps

de.check(q_sample)
"""


def alone(installed, *arguments, **options):
    """Run Python where the package is the installed one: -S reads no .pth of a checkout."""
    path = os.pathsep.join([str(installed), *site.getsitepackages()])
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-S", *arguments], env=environment, check=True, stdout=subprocess.PIPE,
        text=True, **options,
    ).stdout  # fmt: skip


@pytest.fixture(scope="module")
def ran(installed, tmp_path_factory):
    """Where the commands ran, what each came to, the networks, and the files of the package."""
    place = tmp_path_factory.mktemp("anywhere")
    (place / "class").mkdir()
    right = notebook(full_source(source("E2")), "E2")
    (place / "class" / "right.ipynb").write_text(json.dumps(right))
    (place / "class" / "untouched.ipynb").write_text(student_notebook("E2"))
    (place / "small").mkdir()
    (place / "small" / "00_small.ipynb").write_text(json.dumps(notebook(CELLS, "s")))
    (place / "script.py").write_text(SCRIPT)
    given = json.dumps([BARE, EXTRAS, MORE])
    done, *rest = json.loads(alone(installed, "script.py", cwd=place, input=given))
    return place, {line: (code, said) for line, code, said in done}, *rest


@pytest.mark.parametrize("line", [*BARE, *MORE], ids=" ".join)
def test_the_command_ends_well(ran, line):
    code, said = ran[1][" ".join(line)]
    assert code == 0, said


def test_the_package_was_the_installed_one(ran, installed):
    _, _, networks, files = ran
    assert len(files) > 100
    assert all(Path(file).is_relative_to(installed) for file in files)
    assert len(networks) >= 6
    assert min(networks.values()) > 1000


def test_what_the_commands_wrote(ran, installed):
    """Grades, pages and notebooks are what they should be, not only there."""
    place, done, *_ = ran
    rows = json.loads((place / "grades" / "grades.json").read_text())["submissions"]
    assert [(r["id"], r["score"] > 0) for r in rows] == [("right", True), ("untouched", False)]
    assert len([*(place / "handed_out").iterdir()]) == 9
    assert len([*(place / "built").iterdir()]) == 12
    assert (place / "PAPER_MAP.md").read_text() == (ROOT / "PAPER_MAP.md").read_text()
    page = (place / "site" / "00_small.html").read_text()
    assert str(installed / "diffusion_edu") in page
    assert "var_for_std" in page
    assert {"player.js", "site.css", "stix-two-math.woff2"} <= set(os.listdir(place / "site/site"))
    assert "<script" in (place / "page.html").read_text()
    assert "keep a copy" in done["exercise new E10 Mine"][1]


def test_lab_hands_out_and_becomes_jupyter(installed, tmp_path):
    """One line on what was copied, then JupyterLab in place of this process."""
    said = alone(installed, "-m", "diffusion_edu", "lab", "--version", cwd=tmp_path)
    wanted = handouts(ROOT / "notebooks")
    assert said == f"{COPY}: {len(wanted)} copied\n{version('jupyterlab')}\n"
    assert handouts(tmp_path / COPY) == wanted


def test_extras_are_those_of_the_project():
    """What is hidden for the bare run is all that extras add and the package itself does not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = {re.split(r"[<>=\[]", need)[0] for key in ("lab", "grade", "site", "cluster")
             for need in extras[key]} - {"diffusion_edu"}  # fmt: skip
    brought = {"jinja2", "markdown-it-py", "pygments"}  # by torch and by rich
    modules = {name.replace("-", "_") for name in named - brought}
    assert modules | {"IPython", "ipykernel"} == set(EXTRAS)
