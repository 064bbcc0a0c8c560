"""The table of DDIM as a picture, and the command that makes it."""

import pytest
from test_table import Interrupted
from typer import Typer
from typer.testing import CliRunner

from diffusion_edu.evaluation import table_run
from diffusion_edu.evaluation.table import HAT, PUBLISHED, PUBLISHED_STEPS, Table, published
from diffusion_edu.evaluation.table_command import table as command
from diffusion_edu.viz.table import Heat, save_table, table_figure

pytestmark = pytest.mark.usefixtures("one_thread")


def test_picture(tmp_path):
    """Numbers in every cell, one marked curve for each eta, a picture whatever the numbers."""
    rows, columns = ("0", "1", HAT), (10, 100)
    ours = Heat("ours", "FD", rows, columns, [[3.0, 2.0], [-1e-4, None], [1234.0, 0.0]], 0.5)
    paper = published().grid(tuple(PUBLISHED), PUBLISHED_STEPS)
    theirs = Heat("paper", "FID", tuple(PUBLISHED), PUBLISHED_STEPS, paper)
    figure = table_figure(ours, theirs, "a title")
    left, middle, right = figure.axes
    assert [t.get_text() for t in left.texts] == ["3", "2", "-1.0e-4", "1.2e3", "0"]
    assert len(middle.texts) == 25
    assert len({(line.get_marker(), line.get_color()) for line in right.lines}) == 4
    save_table(ours, theirs, "a title", tmp_path / "t.png")
    assert (tmp_path / "t.png").read_bytes().startswith(b"\x89PNG")
    one = Heat("one", "FD", ("0",), (10,), [[None]])
    table_figure(one, one, "nothing yet")


def run(*arguments):
    app = Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "100"})


def test_command(tmp_path):
    """Prints both metrics with n and floor, answers the claims, writes picture and numbers."""
    out = tmp_path / "roll.png"
    options = ["--model", "swiss_roll", "--n", 100, "--device", "cpu", "--out", out]
    result = run(*options, "--steps", "10,20", "--eta", "0,hat")
    assert result.exit_code == 0, result.output
    for part in ("MMD2", "SW2", "100 samples a cell", "100 fresh points", "S=20"):
        assert part in result.output
    assert "yes  eta=0 falls with S" in result.output or "no   eta=0 falls" in result.output
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "NOT" not in result.output
    assert len(Table.load(out.with_suffix(".json")).values) == 4
    again = run(*options, "--steps", "10,20", "--eta", "0,hat")
    assert isinstance(again.exception, FileExistsError)
    assert run(*options, "--steps", "10", "--eta", "0,1", "--resume").exit_code == 0
    assert len(Table.load(out.with_suffix(".json")).values) == 5


def test_command_names_what_is_wrong(tmp_path):
    """Bad options are refused before anything is measured."""
    for options, message in [
        (["--out", "t.jpg"], "--out must end in .png, got 't.jpg'"),
        (["--eta", "0,x"], "got 'x'"),
        (["--resume", "--overwrite"], "exclude each other"),
    ]:
        result = run("--model", "swiss_roll", *options)
        assert isinstance(result.exception, ValueError)
        assert message in str(result.exception)


def test_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch):
    """The command names the file with the finished cells."""
    monkeypatch.setattr(Interrupted, "calls", 0)
    monkeypatch.setattr(table_run, "PointJudge", Interrupted)
    out = tmp_path / "t.png"
    result = run("--model", "swiss_roll", "--n", 50, "--steps", "5,6", "--out", out)
    assert result.exit_code != 0
    assert f"the cells done are in {out.with_suffix('.json')}" in result.output.replace("\n", "")
    assert len(Table.load(out.with_suffix(".json")).values) == 3
