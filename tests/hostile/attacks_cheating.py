"""Forged results, and what runs while a submission is read."""

from __future__ import annotations

from attack import Attack, body, made

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
CHEATING = [*FAKES, *LOADING]
