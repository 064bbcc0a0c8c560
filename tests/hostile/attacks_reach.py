"""Attacks on files, networks and other processes that are none of its business."""

from __future__ import annotations

from attack import DENIED, SECRET, SYSCALL, Attack, body, made, received, says

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
REACHING_OUT = [*FILES, *NETWORK, *SPIES]
