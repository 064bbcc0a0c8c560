"""Training on images: labels, times, number formats, several processes, and the run's folder."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_edu.data import Loader, images
from diffusion_edu.evaluation.evaluate import Wanted, evaluate
from diffusion_edu.evaluation.generate import Sampling
from diffusion_edu.nets import UNet, UNetConfig
from diffusion_edu.training import (
    RECIPES,
    Config,
    ImageRecipe,
    Machine,
    checkpoint,
    draw_times,
    recipe,
    train,
)
from diffusion_edu.training.run import Run

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
CONFIG = Config(steps=6, batch=8, lr=1e-3, warmup=2, ema=0.9, every=3, seed=1, times="stratified",
                drop_label=0.25)  # fmt: skip
NET = {"type": "UNet", "image_channels": 1, "channels": [8, 16], "blocks": 1, "attention": [],
       "groups": 4, "dropout": 0.3, "classes": 10}  # fmt: skip
TINY = ImageRecipe(data="digits", net=NET, schedule={"name": "linear", "T": 50}, config=CONFIG,
                   threads=1, held=20, pictures=1)  # fmt: skip


def begin(path=None, plan=TINY, **options):
    model, schedule = plan.network()
    data, held = plan.load(schedule)
    records = train(model, data, schedule, plan.config, validation=held, checkpoint=path, **options)
    return model, records


def weights(path, part="ema"):
    return checkpoint.read(path)[part]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ---- times ---------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 2000), st.integers(0, 99))
def test_stratified_times_cover_the_chain_evenly(n, T, seed):
    """For each m the number of t <= m is n m/T to within 1: no other n times are more even."""
    t = draw_times(n, T, "stratified", torch.Generator().manual_seed(seed))
    assert t.shape == (n,)
    assert t.dtype == torch.int64
    assert 1 <= int(t.min()) <= int(t.max()) <= T
    below = (t[:, None] <= torch.arange(1, T + 1)).sum(0)
    expected = n * torch.arange(1, T + 1, dtype=torch.float64) / T
    assert (below - expected).abs().max() < 1 + 1e-9


@pytest.mark.parametrize("times", ["uniform", "stratified"])
def test_each_time_is_equally_likely(times):
    """Over 4,000 batches every t of 1..10 occurs in a tenth of the draws, to 5 standard errors."""
    g = torch.Generator().manual_seed(0)
    t = torch.stack([draw_times(3, 10, times, g) for _ in range(4000)])
    share = torch.bincount(t.flatten(), minlength=11)[1:] / t.numel()
    assert (share - 0.1).abs().max() < 5 * (0.1 * 0.9 / 4000) ** 0.5


def test_stratified_times_steady_the_loss():
    """The spread of the mean over a batch of f(t) = t/T is smaller by more than a factor of 5."""
    g, spread = torch.Generator().manual_seed(0), {}
    for times in ("uniform", "stratified"):
        means = [draw_times(32, 1000, times, g).double().mean() / 1000 for _ in range(400)]
        spread[times] = torch.stack(means).std()
    assert spread["stratified"] < spread["uniform"] / 5


# ---- labels, dropout, number formats -------------------------------------------------------------


def test_labels_reach_the_network_and_some_are_dropped():
    """The network sees the labels of its images, or the null class for about a quarter of them."""
    seen, data = [], Loader(images.load("digits"))
    known = {
        tuple(x.flatten().tolist()): int(y) for x, y in zip(data.images, data.labels, strict=True)
    }

    class Spy(UNet):
        def forward(self, x, t, y=None):
            seen.append(y)
            return super().forward(x, t, y)

    _, schedule = TINY.network()
    spy = Spy(UNet(TINY.network()[0].config).config)
    config = replace(CONFIG, steps=50, batch=32, every=50)
    list(train(spy, data, schedule, config, validation=TINY.load(schedule)[1]))
    y = torch.cat([one for one in seen[:-1] if one is not None and len(one) == 32])
    dropped = (y == 10).double().mean().item()
    assert dropped == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / len(y)) ** 0.5)
    # the kept ones are the labels of the drawn images
    g = torch.Generator().manual_seed(CONFIG.seed)
    index, _ = data.draw(32, g)
    wanted = torch.tensor([known[tuple(x.flatten().tolist())] for x in data.images[index]])
    kept = seen[0] != 10
    assert torch.equal(seen[0][kept], wanted[kept])


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_dropout_resumes_bit_for_bit(tmp_path, stop):
    """With dropout, labels and bfloat16: stopped after any step and resumed, the same bits."""
    plan = replace(TINY, config=replace(CONFIG, precision="bfloat16"))
    list(begin(tmp_path / "whole.pt", plan)[1])
    before = torch.get_rng_state()
    list(begin(tmp_path / "parts.pt", plan, watch=lambda step: step == stop)[1])
    assert torch.equal(before, torch.get_rng_state())  # the global generator is left alone
    torch.rand(7)
    list(begin(tmp_path / "parts.pt", plan, resume=True)[1])
    for part in ("model", "ema"):
        assert equal(weights(tmp_path / "whole.pt", part), weights(tmp_path / "parts.pt", part))


def test_dropout_is_drawn_anew_each_step():
    """Two steps on the same data and noise with other seeds of dropout differ; p = 0 draws none."""
    runs = []
    for dropout in (0.0, 0.3):
        plan = replace(TINY, net={**NET, "dropout": dropout})
        runs.append([r.loss for r in begin(plan=plan)[1]])
    assert runs[0] != runs[1]


def test_bfloat16_is_near_float32():
    """Losses in half the bits are those in float32 to 2 %; weights and averages stay float32."""
    losses = {}
    for precision in ("float32", "bfloat16"):
        plan = replace(TINY, config=replace(CONFIG, steps=3, precision=precision))
        model, records = begin(plan=plan)
        losses[precision] = [r.loss for r in records]
        assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["bfloat16"] != losses["float32"]


def test_memory_order_and_compiler_change_nothing_but_speed():
    """channels_last and torch.compile give the losses of plain training to 1e-4 (no dropout)."""
    net = {**NET, "channels": [8], "dropout": 0.0}
    plan = replace(TINY, net=net, config=replace(CONFIG, precision="float32"))
    cpu = torch.device("cpu")
    machines = [Machine(cpu), Machine(cpu, channels_last=True)]
    if shutil.which("g++") or shutil.which("c++"):  # what torch.compile needs on a CPU
        machines.append(Machine(cpu, compile=True, channels_last=True))
    runs = [[r.loss for r in begin(plan=plan, machine=machine)[1]] for machine in machines]
    for run in runs[1:]:
        assert run == pytest.approx(runs[0], rel=1e-4)


def test_labels_are_asked_for():
    """drop_label with plain tensors is an error that says so."""
    _, schedule = TINY.network()
    with pytest.raises(ValueError, match=r"drop_label=0\.25 needs labels"):
        next(train(TINY.network()[0], torch.zeros(3, 1, 8, 8), schedule, CONFIG))


# ---- several processes ---------------------------------------------------------------------------

GRADIENT = """
import sys, torch
from dataclasses import replace
from diffusion_edu import _parallel
from diffusion_edu.training import train
sys.path.insert(0, {tests!r})
from test_image_training import TINY, NET, CONFIG
torch.set_num_threads(1)
config = replace(CONFIG, steps=1, every=1, clip=1e9, precision="float32")
plan = replace(TINY, net={{**NET, "dropout": 0.0}}, config=config)
with _parallel.together():
    model, schedule = plan.network()
    data, held = plan.load(schedule)
    record, = train(model, data, schedule, config, validation=held)
    if _parallel.rank() == 0:
        grads = {{name: p.grad for name, p in model.named_parameters()}}
        torch.save([grads, record.loss, record.validation, record.loss_by_t], sys.argv[1])
"""


def torchrun(processes, *arguments):
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
            str(processes), *map(str, arguments)]  # fmt: skip
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_two_processes_have_the_gradient_of_one(tmp_path):
    """Two gloo processes, half of the batch each: gradients and losses of one with all of it."""
    script = tmp_path / "gradient.py"
    script.write_text(GRADIENT.format(tests=str(ROOT / "tests")))
    subprocess.run([sys.executable, script, tmp_path / "one.pt"], check=True, env=ENVIRONMENT)
    torchrun(2, script, tmp_path / "two.pt")
    one, two = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")
    largest = max(float(g.abs().max()) for g in one[0].values())
    for name, gradient in one[0].items():
        assert torch.allclose(gradient, two[0][name], rtol=1e-4, atol=1e-6 * largest), name
    assert two[1:3] == pytest.approx(one[1:3], rel=1e-5)
    assert torch.allclose(one[3], two[3], rtol=1e-5, equal_nan=True)


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch):
    """A batch of 8 among 3 processes is an error that names both."""
    from diffusion_edu import _parallel

    monkeypatch.setattr(_parallel, "world", lambda: 3)
    with pytest.raises(ValueError, match="8 cannot be shared evenly by 3 processes"):
        next(begin()[1])


def test_torchrun_trains_from_the_command_line(tmp_path):
    """torchrun -m diffusion_edu train: one folder, one bar; weights as of one process to 1e-3."""
    options = ["-m", "diffusion_edu", "train", "--recipe", "digits", "--steps", "4", "--every", "2",
               "--batch", "8"]  # fmt: skip
    torchrun(2, *options, "--out", tmp_path / "two")
    done = subprocess.run([sys.executable, *options, "--out", str(tmp_path / "one")],
                          env=ENVIRONMENT, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "two" / "metrics.csv").open()))
    assert [row["step"] for row in rows] == ["2", "4"]
    one, two = (weights(tmp_path / name / "checkpoint.pt", "model") for name in ("one", "two"))
    assert one.keys() == two.keys()
    # dropout differs between the processes: only the size of the change must agree
    change = max(float((one[k] - two[k]).abs().max()) for k in one)
    assert change < 5e-3


# ---- interruptions -------------------------------------------------------------------------------


def test_killed_ten_times_equals_uninterrupted(tmp_path):
    """kill -9 at ten random moments; --resume goes on each time, and the final bits are the same.

    The moments fall while checkpoints, metrics and pictures are written too: with a record every
    second step nearly all of the time goes into them.
    """
    options = ["train", "--recipe", "digits", "--batch", "8", "--every", "2", "--steps", "90"]
    line = [sys.executable, "-m", "diffusion_edu", *options]
    subprocess.run([*line, "--out", tmp_path / "whole"], check=True, env=ENVIRONMENT,
                   capture_output=True)  # fmt: skip
    folder, moments, steps = tmp_path / "killed", random.Random(0), []
    kills = 0
    while kills < 10:
        begun = (folder / "checkpoint.pt").exists()
        victim = subprocess.Popen([*line, "--out", folder, *(["--resume"] if begun else [])],
                                  env=ENVIRONMENT, stderr=subprocess.DEVNULL)  # fmt: skip
        known = steps[-1] if steps else 0
        while victim.poll() is None and _step(folder) <= known:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.4))
        victim.send_signal(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL, "it ended before it was killed: more steps"
        steps.append(_step(folder))
        kills += 1
    assert steps == sorted(steps)
    assert steps[0] > 0
    assert steps[-1] < 90
    subprocess.run([*line, "--out", folder, "--resume"], check=True, env=ENVIRONMENT,
                   capture_output=True)  # fmt: skip
    for part in ("model", "ema"):
        assert equal(*(weights(tmp_path / name / "checkpoint.pt", part)
                       for name in ("whole", "killed")))  # fmt: skip
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(2, 91, 2))


def _step(folder):
    """Steps in the checkpoint, which must be readable at every moment; 0 before there is one."""
    path = folder / "checkpoint.pt"
    return checkpoint.read(path)["step"] if path.exists() else 0


# ---- the folder of a run -------------------------------------------------------------------------


def test_the_folder_of_a_run(tmp_path):
    """metrics.csv has a row per record; the grids have 10 x 8 images; the curves are a picture."""
    model, schedule = TINY.network()
    data, held = TINY.load(schedule)
    run = Run(tmp_path, TINY, schedule)
    records = []
    for record in train(model, data, schedule, CONFIG, validation=held):
        run.write(record, (1, 8, 8))
        records.append(record)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [float(row["loss"]) for row in rows] == [r.loss for r in records]
    assert [int(row["images"]) for row in rows] == [24, 48]
    assert 0 < float(rows[0]["seconds"]) < float(rows[1]["seconds"])
    for step in (3, 6):
        picture = matplotlib.image.imread(tmp_path / "samples" / f"{step:08}.png")
        assert picture.shape[:2] == (8 * (8 * 9 + 1), 8 * (10 * 9 + 1))
    curves = matplotlib.image.imread(tmp_path / "curves.png")
    assert curves.std() > 0.05
    assert min(curves.shape[:2]) > 300


def test_distance_over_seconds(tmp_path):
    """fd.csv: the FD of the averaged weights at each grid, as ``evaluate`` finds it, and the floor.

    A resumed run adds to the rows that are there.
    """
    model, schedule = TINY.network()
    run = Run(tmp_path, TINY, schedule, fd=30)
    for record in begin(tmp_path / "checkpoint.pt")[1]:
        run.write(record, (1, 8, 8))
        if record.step == 3:
            break
    again = Run(tmp_path, TINY, schedule, fd=30)
    for record in begin(tmp_path / "checkpoint.pt", resume=True)[1]:
        again.write(record, (1, 8, 8))
    rows = list(csv.DictReader((tmp_path / "fd.csv").open()))
    assert [tuple(r[key] for key in ("step", "images", "n")) for r in rows] == [
        ("3", "24", "30"), ("6", "48", "30"),
    ]  # fmt: skip
    assert float(rows[0]["seconds"]) < float(rows[1]["seconds"])
    model.load_state_dict(weights(tmp_path / "checkpoint.pt"))
    report = evaluate(model, schedule, "digits", Sampling(n=30), Wanted(bits=0, neighbours=2))
    assert float(rows[1]["FD"]) == pytest.approx(report.samples.fd, rel=1e-6)
    assert float(rows[1]["floor"]) == pytest.approx(report.floor.fd, rel=1e-6)
    assert matplotlib.image.imread(tmp_path / "fd.png").std() > 0.02


def test_distance_needs_a_classifier(tmp_path):
    """Refused before training, not at the first grid after it."""
    with pytest.raises(ValueError, match=r"fd=10 .*fashion_mnist.*digits, mnist"):
        Run(tmp_path, recipe("fashion_mnist"), TINY.network()[1], fd=10)
    with pytest.raises(ValueError, match=r"fd=10 .*moons"):
        Run(tmp_path, recipe("moons"), TINY.network()[1], fd=10)


def without_data(plan):
    """The recipe's network with shapes but no numbers: built at once, whatever its size."""
    net = {key: value for key, value in plan.net.items() if key not in ("type", "predicts")}
    with torch.device("meta"):
        return UNet(UNetConfig(**net))


# ---- recipes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("digits", 1e5, 2.5e6),
        ("mnist", 1e6, 2.5e6),
        ("fashion_mnist", 1e6, 2.5e6),
        ("cifar10-small", 3e6, 7.5e6),
        ("cifar10", 35_746_307, 35_746_307),
    ],
)
def test_sizes_of_the_networks(name, low, high):
    """Parameter counts of the image recipes; the paper's network has the paper's 35.7 M."""
    model = without_data(recipe(name))
    assert low <= sum(p.numel() for p in model.parameters()) <= high


@pytest.mark.parametrize("name", [n for n, r in RECIPES.items() if isinstance(r, ImageRecipe)])
def test_image_recipes_fit_their_images(name):
    """Each network of a recipe takes its data's images, padded as the recipe says."""
    plan = recipe(name)
    size = {"digits": 8, "mnist": 28, "fashion_mnist": 28}.get(plan.data, 32) + 2 * plan.pad
    model = without_data(plan)
    x = torch.zeros(2, model.config.image_channels, size, size, device="meta")
    assert model(x, torch.ones(2, dtype=torch.int64, device="meta")).shape == x.shape
    assert (plan.config.drop_label is not None) == (model.config.classes > 0)
