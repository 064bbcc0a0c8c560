"""Training: the loop is DDPM Algorithm 1, and a stopped run goes on bit for bit."""

import math
import os
import signal
import subprocess
import sys
import warnings
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from diffusion_edu import schedules
from diffusion_edu._files import write_atomically
from diffusion_edu.data import toy
from diffusion_edu.data.loader import Points
from diffusion_edu.nets import MLP
from diffusion_edu.training import (
    RECIPES,
    Config,
    Machine,
    Recipe,
    State,
    checkpoint,
    export,
    measure,
    null_mmd2,
    recipe,
    train,
)

CONFIG = Config(steps=60, batch=32, lr=3e-3, lr_end=0.0, warmup=5, ema=0.9, every=7, seed=4)
SMALL = Recipe(data="moons", pool=500, net={"dim": 2, "width": 8, "depth": 1, "time_dim": 4},
               config=CONFIG)  # fmt: skip


def begin(path, resume=False, plan=SMALL, watch=None):
    """The generator of records of a small run with its checkpoint at ``path``."""
    model, schedule = plan.network()
    data, held = plan.points()
    return train(model, data, schedule, plan.config, validation=held, checkpoint=path,
                 resume=resume, watch=watch)  # fmt: skip


def same(a, b):
    """Equal to the last bit, through nested dicts, lists and tensors."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def content(path):
    """A checkpoint without the seconds in it, which no two runs share."""
    found = checkpoint.read(path)
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in found["log"]]
    return {**found, "log": rows, "seconds": 0}


# ---- the loop ------------------------------------------------------------------------------------


def test_training_lowers_every_part_of_the_loss():
    """From eps_hat = 0 (loss 1 at every t) the loss falls for every tenth of 1..T, staying > 0."""
    config = replace(CONFIG, steps=600, every=300, batch=128, warmup=0, lr=1e-2)
    net = {"dim": 2, "width": 32, "depth": 2, "time_dim": 8}
    first, last = begin(None, plan=replace(SMALL, net=net, config=config))
    assert (first.step, last.step) == (300, 600)
    assert last.validation < 0.7
    assert (last.loss_by_t < 1).all()
    assert (last.loss_by_t > 0).all()
    assert last.loss_by_t[9] < last.loss_by_t[0]  # pure noise is easy, nearly clean data is not


def test_records_account_for_every_step():
    """loss is the mean over the steps since the last record, hence nearly the mean of its bins."""
    config = replace(CONFIG, steps=50, batch=1000, every=25)
    records = list(begin(None, plan=replace(SMALL, config=config)))
    assert [r.step for r in records] == [25, 50]
    for r in records:
        assert r.loss_by_t.shape == (10,)
        assert r.loss_by_t.mean().item() == pytest.approx(r.loss, rel=0.02)  # equal bins, nearly
    assert records[-1].lr == config.lr_at(49)


@given(st.integers(1, 200), st.integers(0, 50), st.floats(0, 1))
@settings(max_examples=30)
def test_learning_rate(steps, warmup, lr_end):
    """lr rises linearly for ``warmup`` steps, then falls from lr towards lr * lr_end."""
    config = Config(steps=steps, warmup=warmup, lr=0.5, lr_end=lr_end)
    values = [config.lr_at(k) for k in range(steps)]
    up, down = values[:warmup], values[warmup:]
    assert up == pytest.approx([0.5 * (k + 1) / warmup for k in range(len(up))])
    assert down == sorted(down, reverse=True)
    assert down == [] or down[0] == pytest.approx(0.5)
    assert all(v >= 0.5 * lr_end - 1e-12 for v in down)
    assert config.lr_at(max(steps, warmup + 1)) >= 0.5 * lr_end - 1e-12


def test_a_network_of_another_dtype_is_trained():
    """Data and noise are brought to the weights' dtype; a ``watch`` that says nothing goes on."""
    model, schedule = SMALL.network()
    data = toy.moons(50).double()
    records = train(model.double(), data, schedule, replace(CONFIG, steps=7), watch=lambda _: None)
    assert [r.step for r in records] == [7]
    assert next(model.parameters()).dtype == torch.float64


def test_all_dtypes_of_data_train_alike():
    """uint8 images and float64 give the records of float32: they are mapped batch by batch."""
    u = torch.randint(0, 256, (40, 2), dtype=torch.uint8)
    runs = []
    for data in (u, toy.from_uint8(u), toy.from_uint8(u).double()):
        model, schedule = SMALL.network()
        runs.append([r.loss for r in train(model, data, schedule, replace(CONFIG, steps=14))])
    assert runs[0] == runs[1] == runs[2]


def test_warns_when_the_chain_does_not_end_in_noise():
    """snr_T > 1e-3 warns (DDPM's betas, unscaled, at T = 100), snr_T < 1e-3 does not."""
    config = replace(CONFIG, steps=1)
    with pytest.warns(UserWarning, match="does not end in noise"):
        list(train(MLP(T=100), toy.moons(9), schedules.linear(100, 1e-4, 0.02), config))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(train(MLP(T=100), toy.moons(9), schedules.linear(100), config))


def test_the_global_generator_is_left_alone():
    """Building, drawing and training neither read nor change torch's global random state."""
    before = torch.get_rng_state()
    one = [r.loss for r in begin(None)]
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(3)
    assert one == [r.loss for r in begin(None)]


def test_samples_are_measured_where_the_network_is():
    """The noise goes to the device of the weights, as on a GPU; "meta" computes only shapes."""
    seen = set()

    class Spy(nn.Linear):
        def forward(self, x, t):
            seen.add(x.device.type)
            return super().forward(x)

    with pytest.raises(NotImplementedError, match="meta"):  # there is no data to bring back
        measure(Spy(2, 2, device="meta"), schedules.linear(100), "moons")
    assert seen == {"meta"}


def test_a_file_does_not_round_the_network(tmp_path):
    """Weights of images are float16 in the file; those in memory stay as they are."""
    plan = recipe("digits")
    model, _ = plan.network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    export(model, plan, tmp_path / "digits.safetensors", {})
    assert same(model.state_dict(), before)
    assert not same({k: v.half().float() for k, v in before.items()}, before)


# ---- checkpoints ---------------------------------------------------------------------------------


def test_losses_since_the_last_record_go_back_to_their_device(tmp_path):
    """Stopped between records on a GPU, a run has losses there, as those to come ("meta" here)."""
    path = tmp_path / "checkpoint.pt"
    list(begin(path, watch=lambda step: step == 10))  # three steps after a record
    model, schedule = SMALL.network()
    state = State(model, Points(SMALL.points()[0]), schedule, CONFIG, Machine(torch.device("cpu")))
    state.machine = Machine(torch.device("meta"))
    checkpoint.load_into(state, path, {})
    assert [(t.device.type, losses.device.type) for t, losses in state.parts] == 3 * [
        ("cpu", "meta")
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The records of a run that nothing stops, and the content of its checkpoint."""
    path = tmp_path_factory.mktemp("whole") / "whole.pt"
    return list(begin(path)), content(path)


@pytest.mark.parametrize("stop", [1, 6, 7, 8, 59, 60])
def test_stopped_at_any_step_and_resumed_equals_uninterrupted(tmp_path, whole, stop):
    """watch ends the run after any step, between records too: resumed, all bits are the same."""
    first = list(begin(tmp_path / "parts.pt", watch=lambda step: step == stop))
    assert checkpoint.read(tmp_path / "parts.pt")["step"] == stop
    rest = list(begin(tmp_path / "parts.pt", resume=True))
    assert [r.loss for r in first + rest] == [r.loss for r in whole[0]]
    assert same(whole[1], content(tmp_path / "parts.pt"))


@pytest.mark.parametrize("stop", range(8))
def test_resumed_equals_uninterrupted(tmp_path, whole, stop):
    """Training at once = until any record, stop, resume: same records, same checkpoint bits."""
    first = list(islice(begin(tmp_path / "parts.pt"), stop + 1))
    rest = list(begin(tmp_path / "parts.pt", resume=True))
    both = [(r.step, r.loss, r.validation, r.lr) for r in first + rest]
    assert both == [(r.step, r.loss, r.validation, r.lr) for r in whole[0]]
    assert same(whole[1], content(tmp_path / "parts.pt"))


SCRIPT = """
import sys, torch
from diffusion_edu.training import Config, Recipe, train

config = Config(steps=400, batch=64, lr=3e-3, lr_end=0.0, ema=0.99, every=20, seed=1)
net = dict(dim=2, width=16, depth=2, time_dim=8)
plan = Recipe(data="gaussians", pool=2000, net=net, config=config)

def records(path, resume=False):
    model, schedule = plan.network()
    return train(model, plan.points()[0], schedule, config, checkpoint=path, resume=resume)

if __name__ == "__main__":
    torch.set_num_threads(1)
    for r in records(sys.argv[1]):
        print(r.step, flush=True)
"""


@pytest.mark.usefixtures("one_thread")
def test_killed_with_sigkill_and_resumed_equals_uninterrupted(tmp_path):
    """kill -9 in the middle of a real process; resumed in another: the same final bits as without.

    The run that nothing stops is taken here too, in a process other than the one that was killed.
    """
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    victim = subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path / "killed.pt"],
                              env=environment, stdout=subprocess.PIPE, text=True)  # fmt: skip
    while int(victim.stdout.readline()) < 100:
        pass
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    victim.stdout.close()
    stopped_at = checkpoint.read(tmp_path / "killed.pt")["step"]
    assert 100 <= stopped_at < 400
    here = {"__name__": "here"}
    exec(SCRIPT, here)
    list(here["records"](tmp_path / "killed.pt", resume=True))
    list(here["records"](tmp_path / "whole.pt"))
    whole, resumed = content(tmp_path / "whole.pt"), content(tmp_path / "killed.pt")
    assert whole["step"] == 400
    assert same(whole, resumed)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    """write_atomically: after any failure the old content is there, and nothing else is."""
    path = tmp_path / "file"
    write_atomically(path, lambda f: f.write(b"old"))

    def fails(file):
        file.write(b"new")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, fails)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


class Bomb:
    """An object whose unpickling creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def good(tmp_path):
    list(begin(tmp_path / "good.pt"))
    return tmp_path / "good.pt"


def test_foreign_files_are_refused_and_never_unpickled(tmp_path, good):
    """read raises ValueError for pickled code, damage and files not ours; no code runs."""
    trap = tmp_path / "trap"
    torch.save({**checkpoint.read(good), "extra": Bomb(trap)}, tmp_path / "bomb.pt")
    content = good.read_bytes()
    (tmp_path / "short.pt").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("not a checkpoint")
    torch.save({"format": "other"}, tmp_path / "foreign.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("bomb", "short", "empty", "text", "foreign", "list", "missing"):
        with pytest.raises(ValueError, match=f"{name}.pt"):
            checkpoint.read(tmp_path / f"{name}.pt")
    assert not trap.exists()
    assert checkpoint.read(good)["step"] == CONFIG.steps


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"config": replace(CONFIG, lr=1e-3)}, "config"),
        ({"schedule": {"name": "linear", "T": 1000}}, "schedule"),
        ({"pool": 400}, "data"),
        ({"net": {**SMALL.net, "width": 16}}, "network"),
    ],
)
def test_another_run_is_refused(good, change, words):
    """Resuming with another config, schedule, data or network raises ValueError and says which."""
    with pytest.raises(ValueError, match=words):
        list(begin(good, resume=True, plan=replace(SMALL, **change)))


def test_other_numbers_of_the_same_shape_are_refused(good):
    """One number changed in 500 points, or in the schedule's table: another run, and it says so."""
    (data, held), (model, schedule) = SMALL.points(), SMALL.network()
    other, bent = data.clone(), deepcopy(schedule)
    other[77, 1] += 1e-3
    bent.alpha_bar[500] *= 1.001
    for points, chain, words in ((other, schedule, "data crc32"), (data, bent, "schedule crc32")):
        with pytest.raises(ValueError, match=f"another run: its {words}"):
            next(train(model, points, chain, CONFIG, validation=held, checkpoint=good, resume=True))


def test_another_number_of_threads_is_told(good, monkeypatch):
    """A warning at the caller's line, with both numbers; none where the number is the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(begin(good, resume=True))
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 7)
    words = f"with {threads} threads and this run has {threads + 7}: .* not to the last bit"
    with pytest.warns(UserWarning, match=words) as told:
        list(begin(good, resume=True))
    assert [warning.filename for warning in told] == [__file__]


# ---- recipes and bad input -----------------------------------------------------------------------


def test_recipes_are_plain_values():
    """recipe(name).plain() survives JSON unchanged, and rebuilds the same weights every time."""
    import json

    for name in RECIPES:
        plain = recipe(name).plain()
        assert json.loads(json.dumps(plain)) == plain
        if name.startswith("cifar10"):
            continue  # large: seconds to build
        a, b = recipe(name).network()[0], recipe(name).network()[0]
        assert same(a.state_dict(), b.state_dict())
        assert not same(a.state_dict(), recipe(name).with_config(seed=1).network()[0].state_dict())


def test_null_mmd2_scales_as_one_over_n():
    """The 95th percentile of n MMD^2 between two draws is one number for n = 100 and 400 (50 %)."""
    small, large = (null_mmd2("gaussians", pairs=100, size=size) for size in (100, 400))
    assert small == pytest.approx(large, rel=0.5)
    assert null_mmd2("gaussians", n=100, pairs=20, size=100) > 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: recipe("moon"), "Did you mean 'moons'"),
        (lambda: Config(steps=0), "steps"),
        (lambda: Points(torch.ones(3, 2, dtype=torch.int64)), "data must be float, or torch.uint8"),
        (lambda: Config(lr=math.nan), "lr"),
        (lambda: Config(lr_end=2), "lr_end"),
        (lambda: begin(None, resume=True).__next__(), "checkpoint="),
        (lambda: next(train(MLP(), torch.zeros(0, 2), schedules.linear())), "N >= 1"),
        (lambda: next(train(MLP(), torch.full((3, 2), math.nan), schedules.linear())), "finite"),
    ],
)
def test_bad_input_is_named(call, words):
    """A ValueError names the argument, its value and the fix."""
    with pytest.raises(ValueError, match=words):
        call()
