"""Submissions that try to harm, to spy or to cheat: one or more for every threat.

Each is a script whose q_sample does something else than it should. ``on`` is what its row must say
behind walls; ``off`` shows that the attack works where they are missing, by one of

    "walls"   graded with the walls down, its effect is there (``effect``)
    "naive"   a grader that runs the script in its own process is fooled, stuck or killed
    ""        it is a file that cannot be read, or harmless by construction (``why``)

{LOOT} is a folder it should not touch, {TCP}, {UDP} and {UNIX} lead to listening sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
SECRET = "the secret of the class"


@dataclass(frozen=True)
class Attack:
    name: str
    threat: str
    code: str
    on: str  # regular expression: status and message of the tests of q_sample, one after the other
    off: str = "walls"
    effect: Callable[[Path, str], bool] = lambda loot, said: False
    why: str = ""


def body(lines: str, before: str = "") -> str:
    """A script whose q_sample is these lines."""
    indented = "\n".join("    " + line for line in lines.strip().splitlines())
    return f"import os, sys, torch\n{before}\ndef q_sample(x0, t, eps, sch):\n{indented}\n"


def made(name: str) -> Callable[[Path, str], bool]:
    return lambda loot, said: (loot / name).exists()


def says(text: str) -> Callable[[Path, str], bool]:
    return lambda loot, said: text in said


def received(kind: str) -> Callable[[Path, str], bool]:
    return lambda loot, said: f"packet {kind}" in said


DENIED = r"error.*PermissionError"
SYSCALL = (
    "import ctypes\n"
    "def libc(): return ctypes.CDLL(None, use_errno=True)\n"
    "def failed(what, result):\n"
    "    if result < 0: raise OSError(ctypes.get_errno(), what)\n"
    "    raise ValueError(f'{what} worked')\n"
)

TIME = [
    Attack("endless_loop", "infinite loop", body("while True: pass"), "timeout", "naive"),
    Attack("sleeps", "infinite loop", body("import time; time.sleep(1e6)"), "timeout", "naive"),
    Attack(
        "cannot_be_stopped",
        "infinite loop",
        body(
            "import signal\n"
            "for s in (2, 14, 15): signal.signal(s, signal.SIG_IGN)\n"
            "while True:\n"
            "    try:\n"
            "        while True: pass\n"
            "    except BaseException: pass"
        ),
        "timeout",
        "naive",
    ),
]
MEMORY = [
    Attack(
        "memory_bomb",
        "memory bomb",
        body("x = torch.empty(3 << 27, dtype=torch.int64)\nraise ValueError(f'got {x.numel()}')"),
        "memory",
        effect=says("got 402653184"),
    ),
    Attack(
        "memory_bomb_of_bytes",
        "memory bomb",
        body("x = bytearray(3 << 30)\nraise ValueError(f'got {len(x)}')"),
        "memory",
        effect=says("got 3221225472"),
    ),
    Attack(
        "endless_recursion",
        "memory bomb",
        body("return q_sample(x0, t, eps, sch)"),
        "error.*RecursionError",
        "",
        why="Python ends it",
    ),
    Attack(
        "thread_bomb",
        "memory bomb",
        body(
            "import threading, time\n"
            "for i in range(3000):\n"
            "    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
            "raise ValueError('3000 threads')"
        ),
        "error.*thread|memory",
        effect=says("3000 threads"),
    ),
]
PROCESSES = [
    Attack(
        "fork_bomb",
        "fork bomb",
        body("pid = os.fork()\nif pid == 0: os._exit(0)\nraise ValueError(f'child {pid}')"),
        DENIED,
        effect=says("child "),
    ),
    Attack(
        "daemon",
        "daemon left behind",
        body(
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    if os.fork() == 0:\n"
            "        open('{LOOT}/daemon', 'w').write(str(os.getpid()))\n"
            "        import time; time.sleep(40)\n"
            "    os._exit(0)\n"
            "import time; time.sleep(1)"
        ),
        DENIED,
        effect=made("daemon"),
    ),
    Attack(
        "subprocess",
        "fork bomb",
        body("import subprocess; subprocess.run(['/bin/touch', '{LOOT}/sub'])"),
        DENIED,
        effect=made("sub"),
    ),
    Attack(
        "shell",
        "fork bomb",
        body("raise ValueError(f'shell {os.system(\"true\")}')"),
        "error.*shell -1|error.*shell [1-9]",
        effect=says("shell 0"),
    ),
    Attack(
        "new_program",
        "fork bomb",
        body("os.execv('/bin/touch', ['touch', '{LOOT}/exec'])"),
        DENIED,
        effect=made("exec"),
    ),
]
ENDINGS = [
    Attack("os_exit", "os._exit", body("os._exit(0)"), "error.*ended its process", "naive"),
    Attack("sys_exit", "sys.exit", body("sys.exit(0)"), "error.*SystemExit", "naive"),
    Attack(
        "exit_at_load",
        "sys.exit",
        "import os, torch\nclass Bye:\n    os._exit(0)\n",
        "error.*ended its process",
        "naive",
    ),
    Attack(
        "segfault",
        "segfault",
        body("import ctypes; ctypes.string_at(0)"),
        "error.*killed, signal 11",
        "naive",
    ),
    Attack("abort", "segfault", body("os.abort()"), "error.*killed, signal 6", "naive"),
    Attack("kills_itself", "segfault", body("os.kill(os.getpid(), 9)"), "signal 9", "naive"),
]
FAKES = [
    Attack(
        "patches_allclose",
        "monkeypatching",
        body(
            "return torch.zeros_like(x0)",
            "class Patch:\n    torch.allclose = torch.equal = lambda *a, **k: True\n",
        ),
        "failed.*largest difference",
        "naive",
    ),
    Attack(
        "patches_operators",
        "monkeypatching",
        body(
            "return torch.zeros_like(x0)",
            "class Patch:\n"
            "    torch.allclose = lambda *a, **k: True\n"
            "    torch.Tensor.__sub__ = lambda a, b: torch.zeros(1)\n"
            "    torch.Tensor.abs = lambda a: torch.zeros(1)\n",
        ),
        "failed|error",
        "naive",
    ),
    Attack(
        "equal_to_everything",
        "__eq__ tricks, subclasses",
        body(
            "return x0.as_subclass(Same)",
            "class Same(torch.Tensor):\n"
            "    @classmethod\n"
            "    def __torch_function__(cls, f, types, args=(), kwargs=None):\n"
            "        return True if f is torch.allclose else torch.zeros(())\n",
        ),
        "error.*subclass",
        "naive",
    ),
    Attack(
        "prints_a_result",
        "printing a fake result",
        body("print('PASS'); os.write(1, b'PASS\\n'); os._exit(0)"),
        "error.*ended",
        "naive",
    ),
    Attack(
        "answers_for_itself",
        "faking replies",
        body(
            "import json, struct\n"
            "head = json.dumps({'k': 'dict', 'v': {'status': 'ok', 'value': None}}).encode()\n"
            "frame = struct.pack('<I', len(head)) + head\n"
            "for fd in range(3, 30):\n"
            "    try: os.write(fd, struct.pack('<I', len(frame)) + frame)\n"
            "    except OSError: pass\n"
            "return torch.zeros_like(x0)"
        ),
        "failed.*largest difference",
        "",
        why="an answer without the token of its question is dropped",
    ),
    Attack(
        "garbage_in_the_pipe",
        "faking replies",
        body(
            "for fd in range(3, 30):\n"
            "    try: os.write(fd, b'\\xff' * 100)\n"
            "    except OSError: pass\n"
            "return torch.zeros_like(x0)"
        ),
        "error.*malformed",
        "",
        why="a frame that cannot be read ends the worker",
    ),
    Attack(
        "changes_the_codec",
        "faking replies",
        body(
            "import codec\n"
            "plain = codec.dumps\n"
            "codec.dumps = lambda v: plain({**v, 'status': 'ok', 'value': 1.0, 'score': 99})\n"
            "return x0"
        ),
        "failed.*returned",
        "",
        why="whatever the worker sends is only a value to compare",
    ),
    Attack(
        "looks_for_the_reference",
        "inspect, gc, frames",
        body(
            "import gc, types\n"
            "for f in gc.get_objects():\n"
            "    if isinstance(f, types.FunctionType) and f.__name__ == 'reference':\n"
            "        return f(x0, t, eps, sch)\n"
            "raise ValueError('no reference')"
        ),
        "error.*no reference",
        "naive",
    ),
    Attack(
        "looks_through_frames",
        "inspect, gc, frames",
        body(
            "f = sys._getframe()\n"
            "while f:\n"
            "    if 'wanted' in f.f_locals: return f.f_locals['wanted']\n"
            "    f = f.f_back\n"
            "raise ValueError('nothing wanted')"
        ),
        "error.*nothing wanted",
        "naive",
    ),
    Attack(
        "hard_coded",
        "hard-coded public answers",
        body("wanted = {PUBLIC}\nreturn torch.tensor(wanted[tuple(x0.shape)])"),
        "passed.*error.*KeyError",
        "",
        why="it passes the public tests and fails the hidden ones",
    ),
    Attack(
        "never_the_same",
        "non-determinism",
        body("import random, time; return x0 + random.random() + time.time() % 1"),
        "failed.*another result each time",
        "",
        why="it is wrong, and its row says why",
    ),
    Attack(
        "edits_its_input",
        "in-place edits",
        body(
            "a = sch.alpha_bar[t].view(-1, *[1] * (x0.ndim - 1))\n"
            "out = a.sqrt() * x0 + (1 - a).sqrt() * eps\n"
            "x0.zero_(); return out"
        ),
        "failed.*in place",
        "",
        why="arguments are copies, compared after the call",
    ),
]
FILES = [
    Attack(
        "reads_a_secret",
        "reading tests, other students",
        body("raise ValueError(open('{LOOT}/secret').read())"),
        DENIED,
        effect=says(SECRET),
    ),
    Attack(
        "lists_a_folder",
        "reading tests, other students",
        body("raise ValueError(str(os.listdir('{LOOT}')))"),
        DENIED,
        effect=says("'secret'"),
    ),
    Attack(
        "reads_the_references",
        "reading tests, other students",
        body("raise ValueError(open('{PACKAGE}/exercises/e2/mistakes.py').read())"),
        DENIED,
        effect=says("E2: the right functions"),
    ),
    Attack(
        "imports_the_library",
        "calling the library's reference",
        body(
            "sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != '_Finder']\n"
            "sys.path.insert(0, '{PACKAGE}/..')\n"
            "import diffusion_edu.forward\n"
            "raise ValueError('found the library')"
        ),
        "error.*(ImportError|ModuleNotFoundError|PermissionError)",
        effect=says("found the library"),
    ),
    Attack(
        "asks_the_library",
        "calling the library's reference",
        body("from diffusion_edu import q_sample as right\nreturn right(x0, t, eps, sch)"),
        "error.*write the function yourself",
        "",
        why="the worker has a stand-in for it",
    ),
    Attack(
        "reads_the_grader",
        "ptrace, process memory",
        body("raise ValueError('read ' + open(f'/proc/{os.getppid()}/cmdline').read())"),
        DENIED,
        effect=says("read "),
    ),
    Attack("writes", "writing files", body("open('{LOOT}/new', 'w')"), DENIED, effect=made("new")),
    Attack(
        "writes_here",
        "writing files",
        body("open('here', 'w')"),
        DENIED + "|error.*OSError",
        "",
        why="the working folder is /, and nothing can be written",
    ),
    Attack(
        "fills_the_disk",
        "writing files",
        body(
            "f = open('/tmp/hostile_filler', 'wb'); f.write(b'x' * 1000)\nraise ValueError('wrote')"
        ),
        DENIED,
        effect=says("wrote"),
    ),
    Attack(
        "deletes",
        "deleting files",
        body("os.remove('{LOOT}/secret')"),
        DENIED,
        effect=lambda loot, said: not (loot / "secret").exists(),
    ),
    Attack(
        "renames",
        "altering files",
        body("os.rename('{LOOT}/secret', '{LOOT}/moved')"),
        DENIED,
        effect=made("moved"),
    ),
    Attack(
        "truncates",
        "altering files",
        body("os.truncate('{LOOT}/secret', 0)"),
        DENIED,
        effect=lambda loot, said: not (loot / "secret").read_text(),
    ),
    Attack(
        "changes_modes",
        "altering files",
        body("os.chmod('{LOOT}/secret', 0o777)"),
        DENIED,
        effect=lambda loot, said: (loot / "secret").stat().st_mode & 0o777 == 0o777,
    ),
    Attack(
        "changes_times",
        "altering files",
        body("os.utime('{LOOT}/secret', (1, 1))"),
        DENIED,
        effect=lambda loot, said: (loot / "secret").stat().st_mtime == 1,
    ),
    Attack(
        "makes_a_link",
        "altering files",
        body("os.symlink('/etc/passwd', '{LOOT}/link')"),
        DENIED,
        effect=lambda loot, said: (loot / "link").is_symlink(),
    ),
    Attack(
        "makes_a_folder",
        "altering files",
        body("os.mkdir('{LOOT}/folder')"),
        DENIED,
        effect=made("folder"),
    ),
]
NETWORK = [
    Attack(
        "tcp",
        "network",
        body("import socket; socket.create_connection(('127.0.0.1', {TCP}), 2).send(b'packet')"),
        DENIED,
        effect=received("tcp"),
    ),
    Attack(
        "udp",
        "network",
        body(
            "import socket\n"
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "s.sendto(b'packet', ('127.0.0.1', {UDP}))"
        ),
        DENIED,
        effect=received("udp"),
    ),
    Attack(
        "unix_socket",
        "network",
        body(
            "import socket\n"
            "s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)\n"
            "s.connect('{UNIX}'); s.send(b'packet')"
        ),
        DENIED,
        effect=received("unix"),
    ),
    Attack(
        "listens",
        "network",
        body(
            "import socket\n"
            "s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n"
            "raise ValueError('listening')"
        ),
        DENIED,
        effect=says("listening"),
    ),
    Attack(
        "socket_by_number",
        "network",
        body("failed('socket', libc().socket(2, 1, 0))", SYSCALL),
        DENIED,
        effect=says("socket worked"),
    ),
    Attack(
        "io_uring",
        "network",
        body(
            "params = ctypes.create_string_buffer(120)\n"
            "failed('io_uring', libc().syscall(425, 4, params))",
            SYSCALL,
        ),
        DENIED,
        effect=lambda loot, said: (
            "io_uring worked" in said or "Errno 38" in said or "Errno 1]" in said
        ),  # some kernels have it off
    ),
]
SPIES = [
    Attack(
        "signals_the_parent",
        "kill of the grader",
        body("os.kill(os.getppid(), 0)\nraise ValueError('signalled')"),
        DENIED,
        effect=says("signalled"),
    ),
    Attack(
        "signals_the_group",
        "kill of the grader",
        body("import signal\nos.kill(0, 0)\nraise ValueError('signalled')"),
        DENIED,
        effect=says("signalled"),
    ),
    Attack(
        "limits_the_parent",
        "kill of the grader",
        body(
            "import resource\n"
            "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)\n"
            "raise ValueError('prlimit worked')"
        ),
        DENIED,
        effect=says("prlimit worked"),
    ),
    Attack(
        "traces_itself",
        "ptrace",
        body("failed('ptrace', libc().ptrace(0, 0, None, None))", SYSCALL),
        DENIED,
        effect=says("ptrace worked"),
    ),
    Attack(
        "leaves_shared_memory",
        "what stays behind",
        body("failed('shmget', libc().shmget(77, 4096, 0o1666))", SYSCALL),
        DENIED,
        effect=says("shmget worked"),
    ),
]
SIZES = [
    Attack(
        "huge_message",
        "huge traceback",
        body("raise ValueError('x' * 50_000_000)"),
        "error.*ValueError",
        "naive",
    ),
    Attack(
        "huge_output",
        "huge stdout",
        body("for _ in range(50): print('x' * 1_000_000)\nraise ValueError('printed')"),
        "error.*printed",
        "naive",
    ),
    Attack(
        "huge_tensor",
        "huge returned tensor",
        body("return torch.zeros(1).expand(1 << 34)"),
        "error.*cannot be graded",
        "",
        why="its size is looked at before anything is copied",
    ),
    Attack(
        "deep_tuple",
        "huge returned tensor",
        body("v = ()\nfor _ in range(10_000): v = (v,)\nreturn v"),
        "error.*(cannot be graded|RecursionError)",
        "",
        why="the codec sends a few levels only",
    ),
    Attack(
        "script_in_a_message",
        "stored script",
        body("raise ValueError('<script>alert(1)</script><img src=x onerror=alert(1)>')"),
        "error.*<script>",
        "",
        why="pages escape all text",
    ),
]
LOADING = [
    Attack(
        "shell_escapes",
        "magics and shell",
        "!touch {LOOT}/shell\n%%bash\ntouch {LOOT}/bash\n%run {LOOT}/x.py\n" + body("return x0"),
        "failed",
        "",
        why="such lines are blanked",
    ),
    Attack(
        "trains_at_the_top",
        "top-level loops",
        "import torch\nwhile True: pass\nopen('{LOOT}/top', 'w')\n" + body("return x0"),
        "failed",
        "naive",
    ),
    Attack(
        "default_argument",
        "top-level loops",
        "import os, torch\n"
        "def q_sample(x0, t, eps, sch, a=open('{LOOT}/default', 'w')):\n    return x0\n",
        "not_implemented",
        effect=made("default"),
    ),
    Attack(
        "asks",
        "input()",
        body("return float(input('?')) * x0"),
        "error.*EOFError",
        "",
        why="there is nobody to ask",
    ),
]
ATTACKS = [
    *TIME,
    *MEMORY,
    *PROCESSES,
    *ENDINGS,
    *FAKES,
    *FILES,
    *NETWORK,
    *SPIES,
    *SIZES,
    *LOADING,
]
