"""Attacks on time, memory and processes, and ends that leave no answer."""

from __future__ import annotations

from attack import DENIED, Attack, body, made, says


def takes(memory: str) -> str:
    """A script that takes it at the first call, and never gives it back."""
    lines = f"global KEPT\nif KEPT is None: KEPT = {memory}\nraise ValueError(f'got {{len(KEPT)}}')"
    return body(lines, before="KEPT = None")


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
        takes("torch.empty(3 << 27, dtype=torch.int64)"),
        "memory",
        effect=says("got 402653184"),
    ),
    Attack(
        "memory_bomb_of_bytes",
        "memory bomb",
        takes("bytearray(3 << 30)"),
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
            "import time; time.sleep(0.3)"
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
ON_RESOURCES = [*TIME, *MEMORY, *PROCESSES, *SIZES, *ENDINGS]
