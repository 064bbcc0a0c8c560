"""What crosses to and from a worker, and 2,000 damaged files: no crash, no hang, one row each."""

from __future__ import annotations

import copy
import json
import math
import random
import struct
import time
from collections import Counter

import pytest
import torch
from grading_class import make_class
from grading_dresses import packed
from hypothesis import given
from hypothesis import strategies as st

from diffusion_edu.exercises.build import student_notebook
from diffusion_edu.exercises.extract import Code, UngradableError, read
from diffusion_edu.exercises.stubs import EpsModel, Sch, Seed, Sgd, TinyNet
from diffusion_edu.grading import grading, run
from diffusion_edu.grading.defences import OPEN
from diffusion_edu.grading.grading import Task
from diffusion_edu.grading.inside import codec
from diffusion_edu.grading.submissions import find, members

# ---- the codec -----------------------------------------------------------------------------------

NUMBERS = st.floats(width=32, allow_nan=False)
SHAPES = st.lists(st.integers(0, 3), max_size=4)


@st.composite
def tensors(draw):
    dtype = draw(st.sampled_from(sorted(codec.DTYPES.values(), key=str)))
    shape = draw(SHAPES)
    n = math.prod(shape)
    raw = draw(st.binary(min_size=n * dtype.itemsize, max_size=n * dtype.itemsize))
    if dtype is torch.bool:
        raw = bytes(b & 1 for b in raw)
    flat = torch.frombuffer(bytearray(raw), dtype=dtype) if n else torch.empty(0, dtype=dtype)
    made = flat.reshape(shape)
    made = made.transpose(0, -1) if draw(st.booleans()) and shape else made  # not contiguous
    return made.requires_grad_() if dtype.is_floating_point and draw(st.booleans()) else made


LEAVES = st.one_of(
    *(st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), tensors()),
    st.text(st.characters(exclude_categories=()), max_size=50),
    st.builds(Seed, st.integers(0, 2**40)),
    st.builds(Sgd, NUMBERS),
    st.builds(EpsModel, NUMBERS, NUMBERS),
    st.builds(TinyNet, NUMBERS, NUMBERS, NUMBERS),
    st.builds(Sch, tensors(), tensors(), tensors(), st.integers(0, 100)),
)


def trees(depth):
    if depth == 0:
        return LEAVES
    inner = st.lists(trees(depth - 1), max_size=3)
    return st.one_of(
        LEAVES, inner, inner.map(tuple), st.dictionaries(st.text(), trees(depth - 1), max_size=2)
    )


def same(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert (a.shape, a.dtype, a.requires_grad) == (b.shape, b.dtype, b.requires_grad)
        bits = [x.detach().contiguous().view(-1).view(torch.uint8) for x in (a, b)]
        assert torch.equal(*bits)
    elif isinstance(a, torch.nn.Module):
        assert all(map(same, a.parameters(), b.parameters()))
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        assert all(map(same, a, b))
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        assert all(same(a[k], b[k]) for k in a)
    elif isinstance(a, (Sch, Sgd)):
        assert all(same(vars(a)[k], vars(b)[k]) for k in vars(a))
    else:
        assert a == b or (a != a and b != b)
    return True


@given(trees(3))
def test_what_is_sent_is_what_arrives(value):
    same(codec.loads(codec.dumps(value)), value)


class Sub(torch.Tensor):
    pass


class Text(str):
    pass


@pytest.mark.parametrize(
    "value",
    [
        *(object(), {1}, b"x", 2**63, 1j, torch.Generator(), lambda: 0, torch.float32, [[{1}]]),
        *(torch.ones(2, dtype=torch.complex64), torch.eye(2).to_sparse(), Text("x")),
        *(torch.ones(2).as_subclass(Sub), [[[[[[[[1]]]]]]]], torch.nn.Linear(1, 1)),
        *(torch.empty(1, 1).expand(1 << 14, 1 << 13), [torch.zeros(9 << 20)] * 2),
    ],
    ids=lambda v: type(v).__name__,
)
def test_what_cannot_be_sent(value):
    with pytest.raises(codec.Unsendable):
        codec.dumps(value)


GOOD = codec.dumps(({"a": torch.ones(2, 3), "b": [1.5, math.inf, "x", None]}, EpsModel(), Sgd()))
JSON = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
        st.sampled_from([*codec.DTYPES, *codec.STUBS, "tuple", "list", "dict", "float", "tensor"]),
        st.sampled_from([10**400, 2**62, -1, 1 << 40]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["k", "v", "d", "s", "n", "grad"]), inner, max_size=6),
        st.fixed_dictionaries({"k": st.sampled_from([*codec.STUBS, "tuple", "dict"]), "v": inner}),
        st.fixed_dictionaries(
            {"k": st.just("tensor"), "d": st.just("float32"), "s": inner, "n": st.just(4)}
        ),
    ),
    max_leaves=12,
)


def loads(data):
    """Only ValueError is for the reader to expect."""
    try:
        codec.loads(data)
    except ValueError:
        return False
    return True


@given(st.data())
def test_damaged_messages_are_value_errors(data):
    message = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(message) - 1))
        message[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
        message = message or bytearray(b"x")
    loads(bytes(message[: data.draw(st.integers(0, len(message)))]))


@given(JSON, st.binary(max_size=16))
def test_forged_messages_are_value_errors(tree, buffers):
    head = json.dumps(tree).encode()
    loads(struct.pack("<I", len(head)) + head + buffers)


def test_forged_messages_of_known_kinds():
    def forged(text, body=b"1234"):
        return struct.pack("<I", len(text)) + text.encode() + body

    node = '{"k": "tensor", "d": "float32", "s": %s, "n": %s}'
    assert loads(forged(node % ("[1]", 4)))
    for shape, n in [
        *(("[Infinity]", 4), ("[1]", "NaN"), ("[2]", 8), ("[1]", 8), ("[-1, -1]", 4), ("[0]", 4)),
        *(("[1" + ", 1" * 16 + "]", 4), (f"[0, {2**70}]", 0), ("[[1]]", 4), ("null", 4)),
    ]:
        assert not loads(forged(node % (shape, n)))
    deep = '{"k": "list", "v": [' * 10 + "]}" * 10
    for text in ("[1]", "[" * 10**5, "1" * 5000, "", deep, '{"k": "eps", "v": [1, {}]}', "{"):
        assert not loads(forged(text))
    assert not loads(b"")
    assert not loads(b"\xff\xff\xff\xff")


# ---- damaged files -------------------------------------------------------------------------------

N = 2_000
TOKENS = [
    *(b"\xff", b"\0", b'"', b"{", b"[", b"]", b"}", b",", b"\\", b"<<<<<<< ", b"NaN", b"1e999"),
    *(b"\\ud800", b"%%bash\\n", b"\\n!", b"9" * 5000, b"\xef\xbb\xbf", b"PK\1\2", b"PK\3\4", b"("),
    *(b"def f(", b"'''", b"@", b"\\n\\t ", b"lambda:", b"**9**9**9", b"\r", b"\xe2\x80\xa8"),
]
ODD = [
    *(None, True, 0, -1, 1e308, "", "code", "x" * 5000, [], {}, [[]], {"cells": []}, ["x", 7]),
    *("\ud800", "(" * 3000, "x = " + "-" * 9000 + "1", "1+" * 3000, "def f(\n" * 500, "%%"),
    *("x=1;" * 5000, "\n" * 9999, "raw", "é" * 99, "<<<<<<< HEAD\n", "!" * 9999, "\0"),
    *("@a\n" * 999, "#" * 10**5),
]


def bitten(data, r):
    """Bytes with a few places changed."""
    data = bytearray(data)
    for _ in range(r.choice([1, 1, 2, 8, 40])):
        i = r.randrange(len(data) + 1)
        j = min(len(data), i + r.choice([0, 1, 4, 100]))
        piece = data[i:j] * 2
        data[i:j] = r.choice([b"", piece, r.choice(TOKENS), r.randbytes(j - i)])
    return bytes(data[: r.randrange(len(data) + 1)] if r.random() < 0.1 else data)


def nodes(tree):
    """(container, key) of everything in a JSON tree."""
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree))
    for k in list(keys):
        yield tree, k
        if isinstance(tree[k], (dict, list)):
            yield from nodes(tree[k])


def bent(text, r):
    """A notebook whose structure is changed in a few places."""
    tree = json.loads(text)
    for _ in range(r.choice([1, 1, 2, 8])):
        around, k = r.choice(list(nodes(tree)) or [({"x": 0}, "x")])
        old = around[k]
        match r.randrange(6):
            case 0:
                around[k] = copy.deepcopy(r.choice(ODD))
            case 1:
                del around[k]
            case 2:
                around[k] = [old, old]
            case 3 if isinstance(around, list):
                around[k:k] = [old] * r.choice([1, 50])
            case 4 if isinstance(old, list):
                r.shuffle(old)
            case _ if isinstance(around, dict):
                around[str(r.choice(["cells", "source", "input", "cell_type", ""]))] = old
    return json.dumps(tree, ensure_ascii=r.random() < 0.7).encode("utf-8", "replace")


def damaged(whole, r):
    """A name's ending and bytes."""
    text = r.choice(whole)
    notebook = bent(text, r) if r.random() < 0.6 else bitten(text.encode(), r)
    if r.random() < 0.6:
        return r.choice([".ipynb", ".ipynb", ".py"]), notebook
    names = ["E2.ipynb", "a/b.py", "../x.py", "x.zip", ".", "é\u2028.py", "/", "C:a.py", "a" * 300]
    inner = packed(*dict.fromkeys(r.sample(names, 3), notebook).items(), ("E2.py", text))
    return ".zip", inner if r.random() < 0.2 else bitten(inner, r)


@pytest.fixture(scope="module")
def wrecks(tmp_path_factory):
    """2,000 damaged files in a folder."""
    r = random.Random(5)
    folder, good = tmp_path_factory.mktemp("wrecks"), tmp_path_factory.mktemp("good")
    make_class(good, 60, seed=1)
    whole = [student_notebook("E2")]
    for path in sorted(good.glob("student*.ipynb")):
        if path.read_bytes()[:1] == b"{" and path.stat().st_size < 30_000:
            text = path.read_text()
            whole += [text] if json_is_whole(text) else []
    assert len(whole) > 10
    for i in range(N):
        ending, data = damaged(whole, r)
        (folder / f"{i:04}{ending}").write_bytes(data)
    return folder


def json_is_whole(text):
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def test_damaged_files_get_one_row_each(wrecks, monkeypatch):
    """All of grading but the calls: nothing raises, nothing takes long, every file has its row."""
    monkeypatch.setattr(
        grading,
        "_graded",
        lambda task, walls, code: grading._row(task, walls.level, "graded", "", [], code),
    )
    began = time.process_time()
    found = find([wrecks], "E2")
    assert [s.id for s in found] == [f"{i:04}" for i in range(N)]
    statuses, slowest = Counter(), 0.0
    for s in found:
        start = time.process_time()
        row = run._guarded(Task(s, "E2", "s", walls=OPEN))
        slowest = max(slowest, time.process_time() - start)
        assert row["id"] == s.id
        assert row["status"] in ("graded", "ungradable"), row["reason"]
        assert (row["reason"] == "") == (row["status"] == "graded")
        json.dumps(row)
        statuses[row["status"]] += 1
    assert min(statuses.values()) > N / 10, statuses  # neither all whole nor all beyond repair
    assert slowest < 5
    assert time.process_time() - began < 40


def test_damaged_files_raise_what_is_documented(wrecks):
    left, problems = 0, 0
    for path in sorted(wrecks.iterdir()):
        data = path.read_bytes()
        if path.suffix == ".zip":
            try:
                found = members(data)
                left += sum(bool(why) for _, _, why in found)
            except ValueError:
                continue
        else:
            try:
                code = read(data, path.name)
            except UngradableError:
                continue
            assert isinstance(code, Code)
            problems += len(code.problems)
    assert left > 20
    assert problems > 100


def test_damaged_exports_are_rows_or_one_error(wrecks, tmp_path):
    r = random.Random(6)
    files = sorted(wrecks.iterdir())
    outcomes = Counter()
    for i in range(100):
        some = [(f"{k}_{p.name}", p.read_bytes()) for k, p in enumerate(r.sample(files, 5))]
        path = tmp_path / f"{i}.zip"
        whole = packed(*some)
        path.write_bytes(bitten(whole, r) if i % 2 else whole)
        try:
            found = find([path], "E2")
        except ValueError:
            outcomes["error"] += 1
            assert i % 2
            continue
        outcomes["rows"] += 1
        assert len({s.id for s in found}) == len(found)
        assert i % 2 or len(found) == 5
    assert min(outcomes["error"], outcomes["rows"] - 50) > 5


def test_damaged_notebooks_in_a_worker(wrecks):
    """Some of those that can be read, really graded."""
    rows = [run._guarded(Task(s, "E2", "s")) for s in find([wrecks], "E2")[:60] if not s.reason]
    assert {r["status"] for r in rows} == {"graded", "ungradable"}
    assert any(r["score"] for r in rows)
    grading._server.close()
    grading._server = None
