"""What the README shows must run."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diffusion_edu import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_of_the_readme_runs(tmp_path):
    """Every Python block of the README, run top to bottom in one fresh process, ends well."""
    code = "\n".join(blocks("python"))
    assert "de.sample" in code
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr.decode()


def test_commands_of_the_readme_exist():
    """Each make target, subcommand, option, extra and script the README names is there."""
    shell = "\n".join(blocks("sh"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"make (\w+)", README):
        assert f"\n{target}:" in makefile, target
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert set(re.findall(r"\.\[(\w+)\]", shell)) <= set(extras)
    for script in re.findall(r"python (\S+\.py)", shell):
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize("line", re.findall(r"diffusion-edu ([^\n#]+)", "\n".join(blocks("sh"))))
def test_command_lines_of_the_readme_are_understood(line):
    """Subcommand and options of each diffusion-edu line appear in that subcommand's --help."""
    name, *words = line.split()
    options = [word for word in words if word.startswith("--")]
    path = [name, words[0]] if name in ("data", "exercise", "lectures") else [name]
    command = [*path, "--help"] if not name.startswith("-") else ["--help"]
    wide = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    done = CliRunner().invoke(cli.app, command, env=wide, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert all(option in done.output for option in options)
