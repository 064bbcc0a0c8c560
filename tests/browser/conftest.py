"""A JupyterLab of our own and a headless Chromium that looks at it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from driving import LOOKS

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Console errors that JupyterLab causes by itself, as substrings; anything else fails a test.
LAB_NOISE = (
    "Could not restore the debugger state",  # when a kernel is restarted while it is being asked
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not os.access(CHROMIUM, os.X_OK):
        pytest.skip(f"no Chromium at {CHROMIUM}: install it, or set CHROMIUM to its path")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Lab:
    """A running JupyterLab whose files lie in ``folder``."""

    url: str
    token: str
    folder: Path

    def address(self, notebook: str) -> str:
        return f"{self.url}/lab/tree/{notebook}?token={self.token}&reset"

    def put(self, source: Path) -> str:
        """A copy of a notebook among its files; the name of it."""
        name = f"{secrets.token_hex(4)}_{source.name}"
        shutil.copyfile(source, self.folder / name)
        return name


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("notebooks")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    lab = Lab(f"http://127.0.0.1:{port}", secrets.token_hex(16), folder)
    log = home / "lab.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            _command(port, lab), env=_environment(home), stdout=out, stderr=out
        )
        try:
            _await_server(lab, process, log)
            yield lab
        finally:
            process.terminate()  # ends its kernels too
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _command(port: int, lab: Lab) -> list[str]:
    return [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={lab.token}",
        f"--ServerApp.root_dir={lab.folder}",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
    ]


def _environment(home: Path) -> dict[str, str]:
    """Settings, workspaces and history of its own: neither the tester's nor left behind."""
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"checkForUpdates": False, "doNotDisturbMode": True, "fetchNews": "false"}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    own = {
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "IPYTHONDIR": "ipython",
    }
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    # Browser and server need a core too: two threads of a kernel would wait for each other.
    threads = {"OMP_NUM_THREADS": "1"}
    return threads | os.environ | {k: str(home / v) for k, v in own.items()} | {"PYTHONPATH": path}


def _await_server(lab: Lab, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{lab.url}/api?token={lab.token}", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail("JupyterLab did not start:\n" + log.read_text()[-3000:])


@dataclass
class Notebook:
    """A notebook open in JupyterLab, and the console errors seen since."""

    page: Any
    lab: Lab
    errors: list[str] = field(default_factory=list)
    closed: bool = False

    def command(self, name: str, wait: bool = True) -> None:
        """Run a command of JupyterLab, the one its menus run."""
        call = f"jupyterapp.commands.execute({json.dumps(name)})"
        self.page.evaluate(f"async () => {{ await {call}; }}" if wait else f"() => {{ {call}; }}")

    def player(self, code_cell: int) -> Any:
        """The (first) player in the output of a code cell, counted from 0; in view, and drawn.

        It draws in view only, and "run all" scrolls to the last cell at some time of its own.
        """
        player = self.page.locator(".jp-CodeCell").nth(code_cell).locator(".dx").first
        player.wait_for(state="attached", timeout=60_000)
        player.evaluate("player => player.scrollIntoView({ block: 'nearest' })")
        player.locator("canvas[data-frame]").first.wait_for(timeout=60_000)
        return player

    def add_cell(self, code: str) -> None:
        """Append a code cell and run it."""
        self.page.evaluate(_APPEND, code)

    def python(self, code: str) -> str:
        """Run code in the notebook's kernel, outside any cell; what it printed."""
        out = self.page.evaluate(_EXECUTE, code)
        assert "Traceback" not in out, out
        return str(out)

    def turn_to(self, source: Path) -> None:
        """Another notebook and another kernel in the same page, which takes seconds to load."""
        self.page.evaluate(_SHUT_DOWN)
        self.errors.clear()
        self.page.evaluate(_OPEN, self.lab.put(source))

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.page.evaluate(_SHUT_DOWN)
        self.page.context.close()


_SHUT_DOWN = "() => jupyterapp.shell.currentWidget.sessionContext.shutdown()"

_OPEN = """async path => {
  jupyterapp.shell.currentWidget.dispose();
  const notebook = await jupyterapp.commands.execute("docmanager:open", { path });
  await notebook.context.ready;
  await notebook.sessionContext.ready;
}"""

_APPEND = """async code => {
  const notebook = jupyterapp.shell.currentWidget;
  notebook.content.activeCellIndex = notebook.content.widgets.length - 1;
  await jupyterapp.commands.execute("notebook:insert-cell-below");
  notebook.content.activeCell.model.sharedModel.setSource(code);
  await jupyterapp.commands.execute("notebook:run-cell");
}"""

_EXECUTE = """async code => {
  const { kernel } = jupyterapp.shell.currentWidget.sessionContext.session;
  const future = kernel.requestExecute({ code, store_history: false });
  let text = "";
  future.onIOPub = ({ header, content }) => {
    if (header.msg_type === "stream") text += content.text;
    if (header.msg_type === "error") text += "Traceback " + content.evalue;
  };
  await future.done;
  return text;
}"""


@pytest.fixture(scope="module")
def open_notebook(browser: Any, lab: Lab) -> Iterator[Any]:
    """open_notebook(path, **context options) -> Notebook, on a copy, with its kernel started."""
    opened: list[Notebook] = []

    def open_it(source: Path, **options: Any) -> Notebook:
        name = lab.put(source)
        page = browser.new_context(
            **{"viewport": {"width": 1200, "height": 900}, **options}
        ).new_page()
        page.add_init_script(path=LOOKS)
        notebook = Notebook(page, lab)
        opened.append(notebook)
        page.on("pageerror", lambda e: notebook.errors.append(f"page error: {e.stack}"))
        page.on("console", lambda m: _note(notebook, m))
        page.goto(lab.address(name), timeout=90_000)
        page.wait_for_function(
            "name => window.jupyterapp?.shell?.currentWidget?.context?.path === name",
            arg=name,
            timeout=90_000,
        )
        page.evaluate(
            "async () => { const w = jupyterapp.shell.currentWidget;"
            " await w.context.ready; await w.sessionContext.ready;"
            " if (!jupyterapp.shell.leftCollapsed) jupyterapp.shell.collapseLeft(); }"
        )
        return notebook

    yield open_it
    # Kernels are shut down here, while the pages that show their state still exist.
    for notebook in opened:
        notebook.close()


def _note(notebook: Notebook, message: Any) -> None:
    if message.type == "error" and not any(noise in message.text for noise in LAB_NOISE):
        notebook.errors.append(f"{message.text} ({message.location.get('url')})")
