"""Command line: it writes what the library computes; bad input is one line and exit code 2."""

import contextlib
import json
import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from jupyter_client import BlockingKernelClient, find_connection_file
from typer.main import get_command
from typer.testing import CliRunner

import diffusion_edu
from diffusion_edu import _lab, cli
from diffusion_edu.data import location
from diffusion_edu.nets import pretrained
from diffusion_edu.sampling import ddim, ddpm
from diffusion_edu.training import RECIPES, checkpoint, commands, quality, recipe

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
COMMAND = [sys.executable, "-m", "diffusion_edu"]


@pytest.fixture(autouse=True)
def threads():
    """The commands choose torch's number of threads for their process: undo that."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments], catch_exceptions=False)


def fails(capsys, monkeypatch, *arguments):
    """stderr of a command that must end with exit code 2."""
    monkeypatch.setattr(sys, "argv", ["diffusion-edu", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    return capsys.readouterr().err


def leaves(command, *path):
    """(words, command) of every command below, through the groups; ``command`` itself at the end.

    The words are those that call it, "exercise list".
    """
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, *path, name)
    if not hasattr(command, "commands"):
        yield " ".join(path), command


COMMANDS = dict(leaves(get_command(cli.app)))


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_explains_itself(words):
    """--help exits 0; below "Examples:" are command lines of this command, of options it has."""
    result = run(*words.split(), "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output
    examples = COMMANDS[words].help.partition("Examples:")[2].split("\n\n")[1:]
    assert examples
    for line in examples:
        called = re.fullmatch(r"\s*\* `.*\bdiffusion[-_]edu (.*)`\s*", line)[1]
        assert f"{called} ".startswith(f"{words} ")
        arguments = shlex.split(called.removeprefix(words))
        COMMANDS[words].make_context(words, arguments)  # reads them, and runs nothing


def test_the_commands_are_found_through_their_groups():
    """What is walked has the commands at the top, and those of every group."""
    assert run("--help").exit_code == 0
    for words in ("train", "lab", "info", "exercise new", "lectures paper-map", "data verify"):
        assert words in COMMANDS


def test_info_names_versions_and_places(monkeypatch, tmp_path):
    """info prints the versions of this package and torch, and the directory the variable names."""
    monkeypatch.setenv(location.ENV, str(tmp_path))
    output = run("info").output
    for word in (diffusion_edu.__version__, torch.__version__, str(tmp_path), "swiss_roll"):
        assert word in output


def test_sample_is_ddim(tmp_path):
    """sample --seed s writes ddim of randn(n, 2; s), the same numbers in .npy and .csv."""
    options = ["--model", "moons", "--steps", 7, "--n", 30, "--seed", 3, "--eta", 0.5]
    assert run("sample", *options, "--out", tmp_path / "a.npy").exit_code == 0
    assert run("sample", *options, "--out", tmp_path / "a.csv").exit_code == 0
    model, schedule, _ = pretrained("moons")
    g = torch.Generator().manual_seed(3)
    x = ddim(model, torch.randn(30, 2, generator=g), schedule, 7, eta=0.5, generator=g)
    assert np.allclose(np.load(tmp_path / "a.npy"), x.numpy(), atol=1e-6)
    table = np.loadtxt(tmp_path / "a.csv", delimiter=",", skiprows=1)
    assert np.allclose(table, x.numpy(), atol=1e-6)


def test_sample_is_ddpm(tmp_path):
    """sample --sampler ddpm writes ddpm with sigma^2 = beta_t of the same noise."""
    run("sample", "--sampler", "ddpm", "--steps", 9, "--n", 20, "--out", tmp_path / "a.npy")
    model, schedule, _ = pretrained("swiss_roll")
    g = torch.Generator().manual_seed(0)
    x = ddpm(model, torch.randn(20, 2, generator=g), schedule, 9, generator=g)
    assert np.allclose(np.load(tmp_path / "a.npy"), x.numpy(), atol=1e-5)


def test_sample_draws_a_picture(tmp_path):
    """A .png shows the points: the picture is not blank, and two samples give two pictures."""
    from matplotlib.image import imread

    pictures = []
    for seed in (0, 1):
        path = tmp_path / "new" / f"{seed}.png"
        assert run("sample", "--n", 200, "--steps", 5, "--seed", seed, "--out", path).exit_code == 0
        pictures.append(imread(path))
    assert pictures[0].std() > 0.01
    assert not np.array_equal(*pictures)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--recipe", "swis_roll"], "Did you mean 'swiss_roll'"),
        (["train", "--recipe", "moons", "--steps", 0], "steps"),
        (["train", "--recipe", "moons", "--threads", 0], "threads"),
        (["train", "--recipe", "moons", "--device", "foo"], "got 'foo'"),
        (["train", "--recipe", "moons", "--device", "cuda:99"], "GPUs here"),
        (["train", "--recipe", "moons", "--out", __file__], "is a file and no folder"),
        (["train", "--recipe", "moons", "--export", "x.txt"], "--export must end in .safetensors"),
        (["sample", "--model", "moons", "--out", f"{__file__}/a.png"], "is a file and no folder"),
        (["sample", "--model", "moons", "--eta", 2], "at s=980: use sigma"),
        (["train", "--recipe", "moons", "--resume", "--out", "/nonexistent"], "no checkpoint"),
        (["sample", "--model", "moon"], "Did you mean 'moons'"),
        (["sample", "--n", 0], "n must be"),
        (["sample", "--steps", 1001], "1001"),
        (["sample", "--steps", 0], "got"),
        (["sample", "--eta", 1.5], "eta"),
        (["sample", "--sampler", "ddpm", "--eta", 0.5], "eta"),
        (["sample", "--guidance", 2], "guidance=2.0 needs classes, not points"),
        (["sample", "--out", "x.jpg"], ".npy, .csv, .png"),
        (["sample", "--sampler", "dpm"], "ddim"),
        (["lab", "none.ipynb"], "none.ipynb"),
        (["lab", "--ServerApp.token="], "token"),
        (["lab", "--IdentityProvider.token=''"], "token"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(capsys, monkeypatch, arguments, words):
    """Bad input: exit code 2, and an error on stderr that names it, without a traceback."""
    message = fails(capsys, monkeypatch, *arguments)
    assert words in message
    assert "Traceback" not in message


def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(tmp_path):
    """SIGINT during train: exit code 130, the command to go on with, and a usable checkpoint."""
    out = tmp_path / "run"
    line = [*COMMAND, "train", "--recipe", "moons", "--steps", "50000", "--out", str(out)]
    process = subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.DEVNULL)  # fmt: skip
    while not (out / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"train --recipe moons --out {out} --resume" in output
    state = checkpoint.read(out / "checkpoint.pt")
    assert 0 < state["step"] < 50_000


@pytest.fixture
def quick(monkeypatch):
    """The moons recipe with small batches, and a cheap measurement of what it made."""
    monkeypatch.setitem(RECIPES, "moons", recipe("moons").with_config(batch=8, every=5, steps=20))
    monkeypatch.setattr(quality, "POINTS", 300)
    monkeypatch.setattr(quality, "null_mmd2", lambda data: 1e-4)
    return ["train", "--recipe", "moons"]


def test_train_in_two_parts_is_train_at_once(quick, tmp_path, monkeypatch):
    """Stopped, then --resume: the weights of one run, and --export writes what pretrained reads."""
    whole, parts, file = tmp_path / "whole", tmp_path / "parts", tmp_path / "moons.safetensors"
    assert run(*quick, "--steps", 15, "--out", whole).exit_code == 0
    with monkeypatch.context() as patch:
        presses = iter([False] * 11)
        patch.setattr(commands._CtrlC, "__bool__", lambda self: next(presses, True))
        assert run(*quick, "--steps", 15, "--out", parts).exit_code == 130
    assert checkpoint.read(parts / "checkpoint.pt")["step"] == 12
    assert run(*quick, "--out", parts, "--resume", "--export", file).exit_code == 0
    a, b = checkpoint.read(whole / "checkpoint.pt"), checkpoint.read(parts / "checkpoint.pt")
    assert a["step"] == b["step"] == 15
    model, _, info = pretrained(file)
    assert info.recipe["config"]["steps"] == 15
    for key, value in model.state_dict().items():
        assert torch.equal(value, a["ema"][key])


def test_train_never_overwrites_unasked(quick, tmp_path, capsys, monkeypatch):
    """A second train in the same directory needs --resume or --overwrite, and the same options."""
    assert run(*quick, "--out", tmp_path).exit_code == 0
    assert "--overwrite" in fails(capsys, monkeypatch, *quick, "--out", tmp_path)
    message = fails(capsys, monkeypatch, *quick, "--out", tmp_path, "--resume", "--seed", 9)
    assert "begun with seed=0" in message
    assert run(*quick, "--out", tmp_path, "--overwrite", "--seed", 9).exit_code == 0


# ---- lab -----------------------------------------------------------------------------------------


@pytest.fixture
def notebook(tmp_path):
    path = tmp_path / "a.ipynb"
    path.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    return path


def test_lab_passes_options_through(notebook):
    """command: the notebook, defaults that listen on 127.0.0.1, then every option unchanged."""
    line = _lab.command([str(notebook), "--no-browser", "--port", "8899"])
    assert line[1:4] == ["-m", "jupyterlab", str(notebook)]
    assert line[-3:] == ["--no-browser", "--port", "8899"]
    assert "--ServerApp.ip=127.0.0.1" in line
    assert ("--allow-root" in line) == (os.geteuid() == 0)
    assert not any("token" in word or "password" in word for word in line)
    assert "--ServerApp.ip=127.0.0.1" not in _lab.command([str(notebook), "--ip=0.0.0.0"])
    assert _lab.command(["--no-browser", "--port", "8899", str(notebook)]) == line


def test_lab_opens_the_tour_of_the_checkout_or_a_copy(notebook, tmp_path, monkeypatch, capsys):
    """Without NOTEBOOK: the tour in place in a checkout; of copies with --to, or installed."""
    monkeypatch.chdir(tmp_path)
    tour = ROOT / "notebooks" / _lab.TOUR
    assert _lab.command(["--no-browser"])[3] == str(tour)
    assert not (tmp_path / _lab.COPY).exists()
    assert _lab.command([], to=Path("course"))[3] == str(Path("course", _lab.TOUR))
    assert Path("course", _lab.TOUR).read_bytes() == tour.read_bytes()
    assert _lab.command([str(notebook)], to=Path("other"))[3] == str(notebook)
    assert Path("other", _lab.TOUR).is_file()
    monkeypatch.setattr(_lab, "PACKAGED", tour.parent)
    assert _lab.command(["--no-browser"])[3] == str(Path(_lab.COPY, _lab.TOUR))
    capsys.readouterr()
    assert _lab.tour() == Path(_lab.COPY, _lab.TOUR)
    assert capsys.readouterr().out == f"{_lab.COPY}: nothing new\n"


def test_lab_takes_its_own_options_and_leaves_jupyters(monkeypatch):
    """--to and --force are lab's wherever they stand; the rest goes on in its order."""
    given = []
    monkeypatch.setattr(_lab, "start", lambda *arguments: given.append(arguments))
    run("lab", "--port", 8899, "--to", "here", "a.ipynb", "--force", "--token=x")
    run("lab", "a.ipynb", "--no-browser")
    assert given == [
        (["--port", "8899", "a.ipynb", "--token=x"], Path("here"), True),
        (["a.ipynb", "--no-browser"], None, False),
    ]


@pytest.mark.parametrize(
    ("missing", "extra", "arguments"),
    [
        ("jupyterlab", "lab", ["lab"]),
        ("jinja2", "grade", ["grade", ".", "--exercise", "E2"]),
        ("jupytext", "grade", ["exercise", "build", "E2"]),
        ("nbformat", "grade", ["exercise", "verify", "E2"]),
        ("jupytext", "site", ["lectures", "build", "00"]),
        ("latex2mathml", "site", ["lectures", "site"]),
    ],
)
def test_a_missing_package_names_its_extra(
    capsys, monkeypatch, tmp_path, missing, extra, arguments
):
    """Without a package a command needs: exit code 2 and what to install, before it did a thing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    said = fails(capsys, monkeypatch, *arguments)
    assert f"{missing} is not installed: pip install 'diffusion_edu[{extra}]'" in said
    assert list(tmp_path.iterdir()) == []


def test_an_installed_package_does_not_write_lectures_into_itself(capsys, monkeypatch):
    """Outside a checkout `lectures build` asks for a folder."""
    monkeypatch.setattr("diffusion_edu._files.checkout", lambda: None)
    assert "--out FOLDER" in fails(capsys, monkeypatch, "lectures", "build", "00")


def status(url):
    """HTTP status; Jupyter prints its address a moment before it listens, so try for a while."""
    for _ in range(300):
        try:
            return urllib.request.urlopen(url, timeout=10).status
        except urllib.error.HTTPError as error:
            return error.code
        except urllib.error.URLError:
            time.sleep(0.1)
    raise AssertionError(f"nothing listens at {url}")


def other_addresses():
    """Of this machine, as its own loopback and the network know it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        with contextlib.suppress(OSError):  # no network
            probe.connect(("192.0.2.1", 9))  # an address of nobody; nothing is sent
        own = probe.getsockname()[0]
    return {"127.0.0.2", own} - {"127.0.0.1", "0.0.0.0"}


def run_in_lab(address, token, code, expression):
    """The value of ``expression`` after ``code``, in a kernel the server starts for a notebook."""
    asked = {"name": "", "path": "a.ipynb", "type": "notebook", "kernel": {"name": "python3"}}
    headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}
    data = json.dumps(asked).encode()
    request = urllib.request.Request(f"{address}/api/sessions", data, headers)
    kernel = json.load(urllib.request.urlopen(request, timeout=60))["kernel"]["id"]
    client = BlockingKernelClient()
    client.load_connection_file(find_connection_file(f"kernel-{kernel}.json"))
    client.start_channels()
    reply = client.execute(code, user_expressions={"it": expression}, reply=True, timeout=300)
    client.stop_channels()
    assert reply["content"]["status"] == "ok", reply["content"]
    return reply["content"]["user_expressions"]["it"]["data"]["text/plain"]


def test_lab_starts_asks_for_the_token_runs_a_notebook_and_stops(notebook):
    """lab serves on 127.0.0.1 only: 403 without the token, 200 with it; Ctrl-C ends it, code 0."""
    terminal, keyboard = pty.openpty()  # Jupyter treats Ctrl-C as such only on a terminal
    line = [*COMMAND, "lab", str(notebook), "--no-browser", "--ServerApp.port=0"]
    bare = {**ENVIRONMENT, "PATH": os.defpath}  # nobody activated the environment
    process = subprocess.Popen(line, env=bare, stderr=subprocess.PIPE, text=True,
                               stdin=keyboard)  # fmt: skip
    for text in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)/lab\S*\?token=(\w{40,})", text):
            break
    port, token = found.groups()
    for what in ("contents", "kernels", "terminals", "sessions"):
        assert status(f"http://127.0.0.1:{port}/api/{what}") == 403
    for address in other_addresses():
        with pytest.raises(OSError, match=r"refused|timed out|assign"):
            socket.create_connection((address, int(port)), 5)
    assert status(f"http://127.0.0.1:{port}/api/contents?token={token}") == 200
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/lab?token={token}", timeout=60).read()
    (disabled,) = re.findall(rb'"disabledExtensions": *(\[.*?\])', page)
    assert b"apputils-extension:announcements" in disabled  # no question lies over the notebook
    code = "import diffusion_edu as de; explorer = de.ForwardExplorer('swiss_roll', t=3)"
    code += "; import shutil; found = shutil.which('jupyter-lab')"
    it = run_in_lab(f"http://127.0.0.1:{port}", token, code, "(explorer.t, found)")
    assert it == f"(3, '{Path(sys.executable).with_name('jupyter-lab')}')"
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    os.close(terminal)
    os.close(keyboard)
