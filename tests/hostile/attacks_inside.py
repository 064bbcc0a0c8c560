"""More submissions that try to harm, to spy or to cheat: past the kernel's walls and limits."""

from __future__ import annotations

from attack import DENIED, SECRET, SYSCALL, Attack, body, made, says

NOT_THERE = "not_implemented"

# What Landlock does not see, or only on newer kernels.
PAST_LANDLOCK = [
    Attack(
        "reads_shared_memory",
        "memory of other programs",
        body(
            "l = libc()\n"
            "l.shmat.restype = ctypes.c_void_p\n"
            "at = l.shmat({SHM}, None, 0o10000)\n"
            "if at == ctypes.c_void_p(-1).value:\n"
            "    raise OSError(ctypes.get_errno(), 'shmat')\n"
            "raise ValueError(ctypes.string_at(at))",
            SYSCALL,
        ),
        DENIED,
        effect=says(SECRET),
    ),
    Attack(
        "watches_a_folder",
        "reading tests, other students",
        body(
            "l = libc()\n"
            "failed('watching', l.inotify_add_watch(l.inotify_init(), b'{LOOT}', 0x100))",
            SYSCALL,
        ),
        DENIED,
        effect=says("watching worked"),
    ),
    Attack(
        "lists_attributes",
        "reading tests, other students",
        body("raise ValueError(f\"attributes {os.listxattr('{LOOT}/secret')}\")"),
        DENIED,
        effect=says("attributes ["),
    ),
    Attack(
        "empties_by_name",
        "altering files",
        body("failed('truncate', libc().truncate(b'{LOOT}/secret', ctypes.c_long(0)))", SYSCALL),
        DENIED,
        effect=lambda loot, said: not (loot / "secret").read_text(),
    ),
    Attack(
        "asks_a_device",
        "altering files",
        body(
            "import fcntl, termios\n"
            "r, w = os.pipe()\n"
            "raise ValueError(f\"ioctl {fcntl.ioctl(r, termios.FIONREAD, b'1234')}\")"
        ),
        DENIED,
        effect=says("ioctl b"),
    ),
]
# What a process can do to others of the same user without any file or socket.
OTHERS = [
    Attack(
        "signals_through_a_pipe",
        "kill of the grader",
        body(
            "import fcntl\n"
            "r, w = os.pipe()\n"
            "fcntl.fcntl(r, 8, os.getppid())  # F_SETOWN; with F_SETSIG any signal\n"
            "raise ValueError(f'owner {fcntl.fcntl(r, 9) == os.getppid()}')"
        ),
        DENIED,
        effect=says("owner True"),
    ),
    Attack(
        "chooses_the_signal",
        "kill of the grader",
        body("import fcntl\nfcntl.fcntl(os.pipe()[0], 10, 9)\nraise ValueError('kill -9')"),
        DENIED,
        effect=says("kill -9"),
    ),
    Attack(
        "slows_the_grader",
        "kill of the grader",
        body("os.sched_setaffinity(os.getppid(), {0})\nraise ValueError('pinned')"),
        DENIED,
        effect=says("pinned"),
    ),
    Attack(
        "outlives_the_grader",
        "daemon left behind",
        body("failed('PR_SET_PDEATHSIG', libc().prctl(1, 0, 0, 0, 0))", SYSCALL),
        DENIED,
        effect=says("PR_SET_PDEATHSIG worked"),
    ),
    Attack(
        "dumps_core",
        "writing files",
        body("failed('PR_SET_DUMPABLE', libc().prctl(4, 1, 0, 0, 0))", SYSCALL),
        DENIED,  # where a core goes to a program, no limit of size keeps it from being written
        effect=says("PR_SET_DUMPABLE worked"),
    ),
    Attack(
        "talks_to_itself",
        "network",
        body("import socket\nsocket.socketpair()\nraise ValueError('a pair')"),
        DENIED,
        effect=says("a pair"),
    ),
]
# Code that runs while definitions are loaded.
DEFINITIONS = [
    Attack(
        "decorator",
        "top-level loops",
        "import torch\n@(lambda f: open('{LOOT}/decorator', 'w'))\n"
        "def q_sample(x0, t, eps, sch): return x0\n",
        NOT_THERE,
        effect=made("decorator"),
    ),
    Attack(
        "annotation",
        "top-level loops",
        "import torch\ndef q_sample(x0: open('{LOOT}/annotation', 'w'), t, eps, sch): return x0\n",
        "failed",
        "",
        why="annotations stay text",
    ),
    Attack(
        "walrus",
        "top-level loops",
        "import torch\n"
        "def q_sample(x0, t, eps, sch, a=(b := open('{LOOT}/walrus', 'w'))): return x0\n",
        NOT_THERE,
        effect=made("walrus"),
    ),
    Attack(
        "format_in_a_default",
        "top-level loops",
        "import torch\n"
        "def q_sample(x0, t, eps, sch, a=f\"{open('{LOOT}/format', 'w')}\"): return x0\n",
        NOT_THERE,
        effect=made("format"),
    ),
    Attack(
        "init_subclass",
        "top-level loops",
        "class A:\n    def __init_subclass__(cls): open('{LOOT}/subclass', 'w')\n"
        "class B(A): pass\n",
        NOT_THERE,
        effect=made("subclass"),
    ),
    Attack(
        "metaclass",
        "top-level loops",
        "class M(type):\n    def __new__(m, *rest): open('{LOOT}/meta', 'w')\n"
        "class B(metaclass=M): pass\n",
        NOT_THERE,
        effect=made("meta"),
    ),
]
TO_THE_PIPES = (
    "def everywhere(frame, times=1):\n"
    "    for fd in range(3, 30):\n"
    "        try:\n"
    "            for _ in range(times):\n"
    "                left = memoryview(frame)\n"
    "                while left: left = left[os.write(fd, left):]\n"
    "        except OSError: pass\n"
    "import struct\n"
    "def framed(data): return struct.pack('<I', len(data)) + data\n"
)
# Too much of something.
MUCH = [
    Attack(
        "endless_answers",
        "faking replies",
        body(
            'head = b\'{"k": "dict", "v": {"seq": -1}}\'\n'
            "everywhere(framed(framed(head)) * 1000, 10**9)",
            TO_THE_PIPES,
        ),
        "timeout",
        "",
        why="a deadline holds however much there still is to read",
    ),
    Attack(
        "answer_of_lists",
        "faking replies",
        body("everywhere(framed(framed(b'[' + b'[],' * (20 << 20) + b'0]')))", TO_THE_PIPES),
        "error.*too long",
        "",
        why="JSON is never longer than what the grader has memory for",
    ),
    Attack(
        "large_tensors",
        "huge returned tensor",
        body("return torch.zeros(60 << 20, dtype=torch.uint8)"),
        "error.*cannot be graded",
        "",
        why="results are kept until mistakes are looked for: none may be large",
    ),
    Attack(
        "thousands_of_errors",
        "huge traceback",
        "\n".join(f"class C{i}: raise ValueError('x' * 5000)" for i in range(3000))
        + "\n"
        + body("return x0"),
        "failed",
        "",
        why="a row has the first few",
    ),
    Attack(
        "name_of_an_error",
        "huge traceback",
        body("raise type('<img src=x>' * 100_000, (Exception,), {})()"),
        "error.*<img",
        "",
        why="names are cut like messages, and escaped",
    ),
    Attack(
        "error_without_words",
        "sys.exit",
        body("raise E()", "class E(Exception):\n    def __str__(self): raise E()\n"),
        "error.*ended its process",
        "",
        why="what happens while an error is reported costs the process, and no more",
    ),
    Attack(
        "endless_shape",
        "huge returned tensor",
        body("return torch.zeros(0, 1 << 40, 1 << 20)"),
        "failed.*shape",
        "",
        why="it has no numbers, and its shape is compared first",
    ),
    Attack(
        "hook_on_a_result",
        "monkeypatching",
        body(
            "x = torch.zeros_like(x0, requires_grad=True)\n"
            "x.register_hook(lambda g: os._exit(1))\nreturn x"
        ),
        "failed.*largest difference",
        "",
        why="only numbers cross",
    ),
]
INSIDE = [*PAST_LANDLOCK, *OTHERS, *DEFINITIONS, *MUCH]
