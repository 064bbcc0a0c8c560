"""What ``diffusion-edu lab`` does not pass on to Jupyter."""

from __future__ import annotations

import json

import pytest

from diffusion_edu._safeguards import checked


@pytest.fixture(autouse=True)
def config(tmp_path, monkeypatch):
    """The user's configuration of Jupyter: empty."""
    folder = tmp_path / "config"
    folder.mkdir()
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(folder))
    monkeypatch.delenv("JUPYTER_TOKEN_FILE", raising=False)
    monkeypatch.chdir(tmp_path)  # Jupyter looks in the current folder too
    return folder


OPEN = [
    "--ServerApp.token=",
    "--IdentityProvider.token=''",
    "--NotebookApp.token",
    "--ServerApp.disable_check_xsrf=True",
    "--ServerApp.disable_check_xsrf True",
    "--ServerApp.allow_origin=*",
    "--ServerApp.allow_origin_pat=.*",
]


@pytest.mark.parametrize("option", OPEN)
def test_an_option_that_lets_others_in_is_refused(option):
    with pytest.raises(ValueError, match=r"would let any .* run code as you: leave it out"):
        checked(["--no-browser", *option.split(), "--port", "8899"])


def test_other_options_are_read_as_jupyter_reads_them():
    words = ["--port", "8899", "--no-browser", "--IdentityProvider.token=abc"]
    words += ["--ServerApp.disable_check_xsrf=False", "--ServerApp.allow_origin=https://a.example"]
    assert checked(words) == {
        "--port": "8899",
        "--no-browser": "",
        "--IdentityProvider.token": "abc",
        "--ServerApp.disable_check_xsrf": "False",
        "--ServerApp.allow_origin": "https://a.example",
    }


@pytest.mark.parametrize("name", ["jupyter_server_config", "jupyter_lab_config", "jupyter_config"])
@pytest.mark.parametrize("kind", ["py", "json"])
def test_so_is_a_setting_in_a_file_unless_an_option_replaces_it(config, name, kind):
    setting = {"IdentityProvider": {"token": ""}}
    text = json.dumps(setting) if kind == "json" else "c.IdentityProvider.token = ''\n"
    (config / f"{name}.{kind}").write_text(text)
    with pytest.raises(ValueError, match=r"IdentityProvider\.token= in your Jupyter configuration"):
        checked([])
    assert checked(["--ServerApp.token=abc"]) == {"--ServerApp.token": "abc"}


@pytest.mark.parametrize("option", ["--config", "--LabApp.config_file", "--config="])
def test_so_is_a_setting_in_a_file_that_an_option_names(tmp_path, option):
    file = tmp_path / "mine.py"
    file.write_text("c.IdentityProvider.token = ''\n")
    words = [f"{option}{file}"] if option.endswith("=") else [option, str(file)]
    with pytest.raises(ValueError, match=r"IdentityProvider\.token= in your Jupyter configuration"):
        checked(words)
    file.write_text("c.ServerApp.port = 8899\n")
    checked(words)


def test_so_is_a_file_for_the_token_that_is_empty(config, monkeypatch):
    file = config / "token"
    file.write_text("\n")
    monkeypatch.setenv("JUPYTER_TOKEN_FILE", str(file))
    monkeypatch.setenv("JUPYTER_TOKEN", "abc")  # comes first
    assert checked([]) == {}
    monkeypatch.setenv("JUPYTER_TOKEN", "")
    with pytest.raises(ValueError, match=r"token= in your Jupyter configuration"):
        checked([])
    file.write_text("abc\n")
    assert checked([]) == {}


def test_an_address_that_others_reach_is_a_warning(capsys):
    checked(["--ip=127.0.0.1"])
    assert capsys.readouterr().err == ""
    for words in (["--ip=0.0.0.0"], ["--ServerApp.ip", "*"], ["--ip="], ["--NotebookApp.ip=::"]):
        checked(words)
        assert "WARNING: ip=" in capsys.readouterr().err
