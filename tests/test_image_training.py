"""Training on images: labels, times, number formats, and the run's folder."""

import csv
import shutil
from dataclasses import replace

import matplotlib.image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import CONFIG, NET, TINY, begin, equal, weights

from diffusion_edu.data import Loader, images
from diffusion_edu.evaluation.evaluate import Wanted, evaluate
from diffusion_edu.evaluation.generate import Sampling
from diffusion_edu.nets import UNet, UNetConfig
from diffusion_edu.training import RECIPES, ImageRecipe, Machine, draw_times, recipe, train
from diffusion_edu.training.run import Run

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
