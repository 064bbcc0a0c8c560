"""The runner of the benchmarks: what it writes, and the table that the README has from it."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

import measure
import run

ROOT = Path(__file__).parents[1]
HERE = ROOT / "tests" / "benchmarks"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def cells(line):
    """The cells of a line of a table."""
    assert line.startswith("| ")
    assert line.endswith(" |")
    return [cell.strip() for cell in line.replace("\\|", "").strip("|").split("|")]


@given(st.text(), st.text(), st.text(), st.text())
def test_only_what_stands_between_the_markers_is_changed(before, old, new, after):
    """Whatever the text: before and after stay byte for byte, and a second time changes nothing."""
    text = f"{before}{run.BEGIN}{old}{run.END}{after}"
    once = run.written(text, new)
    assert once == f"{before}{run.BEGIN}\n{new}\n{run.END}{after}"
    assert run.written(once, new) == once


@pytest.mark.parametrize(
    "text",
    ["", run.BEGIN, run.END, run.END + run.BEGIN, 2 * run.BEGIN + run.END],
    ids=["none", "no end", "no beginning", "wrong order", "twice"],
)
def test_a_text_without_the_two_markers_is_refused(text):
    with pytest.raises(ValueError, match="once"):
        run.written(text, "new")


positive = st.floats(1e-6, 1e6)


@given(st.text(), st.lists(st.tuples(positive, positive, positive), min_size=1, max_size=9))
def test_rows_have_as_many_cells_as_the_table_has_columns(what, rounds):
    """Any text, with bars and line ends too, and any figures."""
    ours, theirs, least = zip(*rounds, strict=True)
    line = measure.row(what, ours, "peer", theirs, "limit", least).markdown()
    assert "\n" not in line
    assert len(cells(line)) == len(measure.COLUMNS)
    assert all(len(cells(head)) == len(measure.COLUMNS) for head in measure.heading().splitlines())


def test_a_ratio_is_that_of_its_round():
    """A machine twice as slow in the second round: the ratios are 2 in both, not 1 and 4."""
    made = measure.row("what", [2.0, 4.0], "peer", [1.0, 2.0], "limit", [0.5, 1.0])
    assert made.to_peer == (2.0, 2.0)
    assert made.to_limit == (4.0, 4.0)
    assert cells(made.markdown()) == [
        "what", "3.00 s", "peer", "2.00 (2.00 to 2.00; 2)", "limit", "4.00 (4.00 to 4.00; 2)",
    ]  # fmt: skip


def test_calls_are_made_in_turn():
    """A B A B, the warm-up left out of the times."""
    order = []
    columns = measure.in_turn([lambda: order.append("a"), lambda: order.append("b")], rounds=3)
    assert order == ["a", "b"] * 4
    assert [len(column) for column in columns] == [3, 3]


def growth_of_two_copies():
    """Of 64 MiB, in a process where nothing was freed before that could be used again."""

    def work():
        first = bytearray(b"x") * (64 * measure.MIB)
        return len(bytes(first))

    return measure.growth(work)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads /proc")
def test_growth_is_what_a_call_holds_at_its_worst_moment():
    """64 MiB are held twice for a moment and freed: 128 MiB, to within a tenth."""

    assert 118 < measure.fresh(growth_of_two_copies) / measure.MIB < 140


def test_a_benchmark_that_lacks_something_says_so_in_its_row(monkeypatch, capsys):
    def of_memory(options):
        yield measure.Row("one")
        raise measure.MissingError("no Chromium")

    def other(options):
        yield measure.Row("two")

    monkeypatch.setattr(sys, "argv", ["bench"])
    measure.main("", [of_memory, other], measure.argparse.ArgumentParser(), rounds=1)
    _, _, *lines = capsys.readouterr().out.splitlines()
    assert [cells(line)[:2] for line in lines] == [
        ["one", "-"], ["of memory", "not run: no Chromium"], ["two", "-"],
    ]  # fmt: skip


def test_a_benchmark_that_fails_is_a_row_too(monkeypatch, tmp_path, capsys):
    """Its rows so far, and the last line of its error; the run as a whole has failed."""
    monkeypatch.setattr(run, "HERE", tmp_path)
    script = "print('| what |'); print('| --- |'); print('| one |'); raise ValueError('no | good')"
    (tmp_path / "bench_bad.py").write_text(script)
    block, fine = run.table(["bad"], [])
    *_, first, second = block.splitlines()
    assert not fine
    assert first == "| bad | one |"
    assert cells(second)[:3] == ["bad", "bad", "failed: ValueError: no  good"]


def test_the_table_of_the_readme_was_made_by_the_runner():
    """Its benchmarks are those that exist, in the runner's order, and every row is complete."""
    _, _, rest = README.partition(run.BEGIN)
    machine, empty, head, rule, *rows = rest.partition(run.END)[0].strip().splitlines()
    assert "torch" in machine
    assert empty == ""
    assert cells(head) == ["benchmark", *measure.COLUMNS]
    assert set(cells(rule)) == {"---"}
    assert {len(cells(row)) for row in rows} == {len(measure.COLUMNS) + 1}
    assert list(dict.fromkeys(cells(row)[0] for row in rows)) == run.NAMES


def test_each_explains_itself():
    """--help of all files, in one process: torch is imported once."""
    files = [str(HERE / f"bench_{name}.py") for name in run.NAMES] + [str(HERE / "run.py")]
    done = subprocess.run([sys.executable, "-c", HELP, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  --rounds ROUNDS") == len(files)
    for file in files:
        assert f"python tests/benchmarks/{Path(file).name}" in done.stdout


HELP = """
import runpy, sys
from pathlib import Path
files = sys.argv[1:]
sys.path.insert(0, str(Path(files[0]).parent))
for file in files:
    sys.argv = [file, "--help"]
    try:
        runpy.run_path(file, run_name="__main__")
    except SystemExit as end:
        assert end.code == 0, file
"""
