"""Levels, what each says, and the walls one by one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from diffusion_edu import exercises
from diffusion_edu.cli import app
from diffusion_edu.exercises.judge import judge
from diffusion_edu.grading import defences
from diffusion_edu.grading import remote as remote_module
from diffusion_edu.grading.defences import OPEN, explain, policy, readable, table
from diffusion_edu.grading.inside import codec, sandbox
from diffusion_edu.grading.remote import Remote
from diffusion_edu.grading.servers import ForkServer, SpawnServer
from diffusion_edu.grading.wires import PipeWire, ThreadWire, WorkerDied

linux = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")
RIGHT = [(1, "import torch"), (2, "def snr(sch):\n    return sch.alpha_bar / (1 - sch.alpha_bar)")]
SANDBOX = Path(sandbox.__file__)


def in_a_process(code: str) -> str:
    """What it prints, run with ``sandbox`` imported by file."""
    head = (
        "import importlib.util, os, sys\n"
        f"spec = importlib.util.spec_from_file_location('sandbox', {str(SANDBOX)!r})\n"
        "sandbox = importlib.util.module_from_spec(spec); spec.loader.exec_module(sandbox)\n"
    )
    # Not measured for `make coverage`, which would write a file where none can be written.
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", head + code]
    done = subprocess.run(command, capture_output=True, text=True, env=quiet)
    return done.stdout.strip() + done.stderr[-500:]


def test_a_level_follows_from_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "landlock_abi", lambda: 5)
    monkeypatch.setattr(sandbox, "seccomp_works", lambda: True)
    assert policy().level == "strict"
    monkeypatch.setattr(sandbox, "seccomp_works", lambda: False)
    assert policy().level == "basic"
    monkeypatch.setattr(sandbox, "landlock_abi", lambda: 0)
    assert policy().level == "basic"
    monkeypatch.setattr(defences, "POSIX", False)
    assert policy().level == "none"


@pytest.mark.parametrize("level", ["basic", "none"])
def test_a_weaker_level_is_said_loudly(level: str) -> None:
    said = explain(defences.Policy(level, False, False, False, False, False))
    assert said.startswith("WARNING")
    assert "trust" in said


def test_the_command_refuses_what_is_required(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sandbox, "landlock_abi", lambda: 0)
    (tmp_path / "a.py").write_text("x = 1")
    out = str(tmp_path / "out")
    run = CliRunner().invoke(
        app, ["grade", str(tmp_path / "a.py"), "-e", "E2", "--require", "strict", "--out", out]
    )
    assert run.exit_code == 2
    assert "basic" in run.output
    assert not Path(out).exists()


def test_doctor_lists_every_defence() -> None:
    said = CliRunner().invoke(app, ["doctor"]).output
    assert f"level {policy().level}" in said
    for what, active, _ in table(policy()):
        assert f"{'yes' if active else 'NO ':3}  {what}" in said


def test_readable_by_others(tmp_path: Path) -> None:
    """Every folder on the way has to let others through."""
    open_one = tmp_path / "open"
    open_one.mkdir(mode=0o755)
    way = [tmp_path, *tmp_path.parents]
    modes = [(p, p.stat().st_mode) for p in way if os.access(p, os.W_OK) and p != Path("/")]
    try:
        for p, _ in modes:
            p.chmod(0o755)
        assert sandbox.readable_by_others([str(open_one)])
        tmp_path.chmod(0o700)
        assert not sandbox.readable_by_others([str(open_one)])
    finally:
        for p, mode in modes:
            p.chmod(mode)


@linux
@pytest.mark.skipif(not defences.is_root(), reason="only root can become another user")
def test_root_becomes_nobody(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    secret.chmod(0o600)
    code = (
        "sandbox.drop_privileges(True)\n"
        f"print(os.getuid(), os.getgid(), os.getgroups(), os.access({str(secret)!r}, os.R_OK))\n"
        "try: os.setuid(0); print('root again')\n"
        "except PermissionError: print('for good')\n"
    )
    assert in_a_process(code).split("\n") == ["65534 65534 [] False", "for good"]


@linux
@pytest.mark.skipif(not defences.is_root(), reason="only root has capabilities")
def test_root_without_capabilities() -> None:
    code = (
        "sandbox.drop_privileges(False)\n"
        "print(os.getuid(), [x for x in open('/proc/self/status') if x.startswith('CapEff')])\n"
        "try: os.chroot('/')\nexcept PermissionError: print('refused')\n"
    )
    assert in_a_process(code).split("\n") == [
        f"0 {['CapEff:' + chr(9) + '0' * 16 + chr(10)]}",
        "refused",
    ]


@linux
@pytest.mark.skipif(sandbox.landlock_abi() == 0, reason="no Landlock")
def test_landlock_alone(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("seen")
    (tmp_path / "out").write_text("hidden")
    code = (
        "sandbox.drop_privileges(False)\n"
        f"sandbox.landlock([{str(tmp_path / 'in')!r}])\n"
        f"print(open({str(tmp_path / 'in' / 'a')!r}).read())\n"
        f"for path in ({str(tmp_path / 'out')!r}, '/etc/passwd'):\n"
        "    try: open(path); print('read')\n"
        "    except PermissionError: print('denied')\n"
        f"try: open({str(tmp_path / 'in' / 'b')!r}, 'w'); print('written')\n"
        "except PermissionError: print('denied')\n"
    )
    assert in_a_process(code).split("\n") == ["seen", "denied", "denied", "denied"]


@linux
@pytest.mark.skipif(not sandbox.seccomp_works(), reason="no seccomp")
def test_seccomp_lets_torch_work() -> None:
    """Threads, autograd and an optimiser go on; a process and a socket do not."""
    code = (
        "import socket, threading, torch\n"
        "sandbox.drop_privileges(False)\n"
        "sandbox.seccomp()\n"
        "w = torch.randn(50, 50, requires_grad=True)\n"
        "opt = torch.optim.Adam([w])\n"
        "thread = threading.Thread(target=lambda: (w @ w).sum().backward()); thread.start(); "
        "thread.join(); opt.step(); print(bool(w.grad.abs().sum() > 0))\n"
        "for f in (os.fork, socket.socket, lambda: os.kill(os.getppid(), 0)):\n"
        "    try: f(); print('done')\n"
        "    except PermissionError: print('denied')\n"
        "os.kill(os.getpid(), 0); print('itself')\n"
    )
    assert in_a_process(code).split("\n") == ["True", "denied", "denied", "denied", "itself"]


@linux
@pytest.mark.skipif(not sandbox.seccomp_works(), reason="no seccomp")
@pytest.mark.skipif(sandbox.landlock_abi() == 0, reason="no Landlock")
def test_what_can_be_read_cannot_be_emptied_on_older_kernels(tmp_path: Path) -> None:
    """Before version 3, to Landlock, opening a file to read it may empty it."""
    file = tmp_path / "a"
    file.write_text("kept")
    code = (
        "sandbox.landlock_abi = lambda: 2\n"
        "sandbox.drop_privileges(False)\n"
        f"sandbox.landlock([{str(tmp_path)!r}])\n"
        "sandbox.seccomp()\n"
        f"for how in (os.O_TRUNC, os.O_TRUNC | os.O_CLOEXEC, 0):\n"
        f"    try: os.open({str(file)!r}, os.O_RDONLY | how); print('opened')\n"
        "    except PermissionError: print('denied')\n"
    )
    assert in_a_process(code).split("\n") == ["denied", "denied", "opened"]
    assert file.read_text() == "kept"


@linux
@pytest.mark.skipif(not sandbox.seccomp_works(), reason="no seccomp")
def test_calls_that_came_later_are_not_there() -> None:
    code = (
        "import ctypes\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "sandbox.drop_privileges(False)\n"
        "sandbox.seccomp()\n"
        "for n in (*range(463, 480), 1 << 30):\n"
        "    assert libc.syscall(n, -1, 0, 0, 0, 0, 0) == -1, n\n"
        "    print(ctypes.get_errno())\n"
    )
    assert set(in_a_process(code).split("\n")) == {"38"}


@linux
@pytest.mark.skipif(not defences.is_root(), reason="counts the threads of a user: not one's own")
def test_threads_are_limited_however_small() -> None:
    code = (
        "import threading\n"
        "sandbox.MOST_TASKS = 200\n"
        "sandbox.limits(1 << 30, 60)\n"
        "sandbox.drop_privileges(True)\n"
        "threading.stack_size(32768)\n"
        "stop, n = threading.Event(), 0\n"
        "try:\n"
        "    for n in range(300): threading.Thread(target=stop.wait).start()\n"
        "except RuntimeError: pass\n"
        "stop.set(); print(n < 200)\n"
    )
    assert in_a_process(code) == "True"


@linux
@pytest.mark.skipif(sandbox.landlock_abi() == 0, reason="no Landlock")
def test_a_library_beneath_what_can_be_read_is_left_out(tmp_path: Path) -> None:
    """As without a virtual environment: site-packages lie beneath the standard library."""
    packages = tmp_path / "lib" / "python3" / "site-packages"
    for name in ("torch", "diffusion_edu"):
        (packages / name).mkdir(parents=True)
        (packages / name / "a.py").write_text("x")
    (tmp_path / "lib" / "os.py").write_text("x")
    (tmp_path / "lib" / "same.py").symlink_to("os.py")
    (tmp_path / "lib" / "loop").symlink_to(tmp_path / "lib")
    (tmp_path / "link").symlink_to("lib")
    hidden = {packages.resolve() / "diffusion_edu"}
    paths = [p for top in ("lib", "link") for p in defences.without(tmp_path / top, hidden)]
    files = ["os.py", "same.py", *(f"python3/site-packages/{n}/a.py" for n in os.listdir(packages))]
    code = (
        "sandbox.drop_privileges(False)\n"
        f"sandbox.landlock({paths})\n"
        f"for name in {files}:\n"
        f"    try: open({str(tmp_path / 'lib')!r} + '/' + name); print(name)\n"
        "    except PermissionError: pass\n"
    )
    seen = in_a_process(code).split("\n")
    assert seen == [f for f in files if "diffusion_edu" not in f]
    assert len(seen) == len(files) - 1
    assert list(defences.without(packages / "torch", hidden)) == [str(packages / "torch")]
    assert list(defences.without(packages / "diffusion_edu" / "a.py", hidden)) == []


def test_the_library_is_not_among_what_can_be_read() -> None:
    assert not any(defences.PACKAGE.is_relative_to(Path(p).resolve()) for p in readable())
    assert not any(Path(p).name.startswith("diffusion_edu") for p in readable())
    assert any(Path(p).name == "torch" for p in readable())


# ---- servers and wires ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SpawnServer, pytest.param(ForkServer, marks=linux)])
def test_both_kinds_of_server_grade_alike(kind: Any) -> None:
    server = kind(policy())
    remote = Remote(server, RIGHT)
    try:
        results = judge(exercises.load("E2"), remote, secret="s", only=["snr"])
        assert [r.status for r in results] == ["passed", "passed"]
        pid = remote._worker[0]
    finally:
        remote.close()
        server.close()
    time.sleep(0.1)
    with pytest.raises(OSError, match="process"):
        os.kill(pid, 0)


@pytest.mark.parametrize("kind", [SpawnServer, pytest.param(ForkServer, marks=linux)])
def test_how_a_worker_ended_is_known(kind: Any) -> None:
    server = kind(OPEN)
    ways = {
        "os._exit(3)": "ended its process",
        "os.abort()": "signal 6",
        "os.kill(os.getpid(), 9)": "signal 9",
    }
    try:
        for line, said in ways.items():
            remote = Remote(server, [(1, f"import os\ndef snr(sch):\n    {line}")])
            outcome = remote.call("snr", (torch.ones(2),), 60.0)
            remote.close()
            assert outcome.status == "error"
            assert said in outcome.message
    finally:
        server.close()


def test_all_calls_together_have_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is in time; without it 18 calls of 9 s would keep a class waiting."""
    monkeypatch.setattr(remote_module, "CALL_SECONDS", 1.0)
    server = SpawnServer(OPEN)
    remote = Remote(server, [(1, "import time\ndef snr(sch):\n    time.sleep(0.6)\n    return 1")])
    try:
        found = [remote.call("snr", (torch.ones(2),), 10.0) for _ in range(4)]
    finally:
        remote.close()
        server.close()
    assert [o.status for o in found] == ["ok", "timeout", "timeout", "timeout"]
    assert found[-1].message == "all calls together took longer than 1 s"


@pytest.mark.parametrize("kind", [PipeWire, ThreadWire])
def test_wires(kind: Any) -> None:
    """Frames arrive whole; silence, an end and nonsense are told apart."""
    out, into = os.pipe()
    back, forth = os.pipe()
    wire = kind(out, forth)
    soon = time.monotonic() + 0.2
    with pytest.raises(WorkerDied, match="timeout"):
        wire.receive(soon)
    assert time.monotonic() - soon < 2
    for data in (b"", b"x" * 5000):
        wire.send(data, time.monotonic() + 5)
        framed = os.read(back, 10_000)
        assert framed[4:] == data
        os.write(into, framed)
        assert wire.receive(time.monotonic() + 5) == data
    os.write(into, framed)  # a deadline counts even if there is always something to read
    with pytest.raises(WorkerDied, match="timeout"):
        wire.receive(time.monotonic() - 1)
    wire.receive(time.monotonic() + 5)
    os.write(into, b"\xff" * 8)
    with pytest.raises(WorkerDied, match="too long"):
        wire.receive(time.monotonic() + 5)
    os.close(into)
    wire.close()
    os.close(back)


def test_a_wire_that_ends() -> None:
    for kind in (PipeWire, ThreadWire):
        out, into = os.pipe()
        back, forth = os.pipe()
        wire = kind(out, forth)
        os.write(into, b"\x05\x00\x00\x00abc")
        os.close(into)
        with pytest.raises(WorkerDied, match="ended"):
            wire.receive(time.monotonic() + 5)
        os.close(back)
        with pytest.raises(WorkerDied, match="ended"):
            wire.send(b"x" * 200_000, time.monotonic() + 5)
        wire.close()


def test_the_codec_has_no_pickle() -> None:
    text = Path(codec.__file__).read_text() + (SANDBOX.parent / "main.py").read_text()
    assert "import pickle" not in text
    assert "torch.load" not in text
