"""Training on images: labels, times, number formats, and the run's folder."""

import csv
from copy import deepcopy
from dataclasses import replace
from functools import partial

import matplotlib.image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_run import CONFIG, NET, TINY, begin, equal, plain, weights
from torch import nn

from diffusion_edu.data import Loader, images
from diffusion_edu.data.images import ImageSet
from diffusion_edu.evaluation.evaluate import Wanted, evaluate
from diffusion_edu.evaluation.generate import Sampling, generate
from diffusion_edu.nets import UNet, UNetConfig
from diffusion_edu.training import (
    RECIPES,
    ImageRecipe,
    Machine,
    draw_times,
    heldout,
    recipe,
    run,
    train,
    validation_set,
)
from diffusion_edu.training.machine import dropout
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


# ---- labels and mirrors --------------------------------------------------------------------------


class Spy(nn.Module):
    """x_t times a weight; it keeps what it is called with, and its average what that is."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(())), []

    def forward(self, x, t, y=None):
        self.seen.append((x, t, y))
        return self.weight * x


def test_labels_reach_the_network_and_some_are_dropped():
    """The network sees the labels of its images, or the null class for about a quarter of them.

    The validation loss is that of a network which is told all labels.
    """
    data, (_, schedule) = Loader(images.load("digits")), TINY.network()
    spy, held = Spy(), TINY.load(schedule)[1]
    config = replace(CONFIG, steps=50, batch=32, every=50)
    (record,) = train(spy, data, schedule, config, validation=held)
    y = torch.cat([y for _, _, y in spy.seen])
    assert len(y) == 50 * 32
    dropped = (y == 10).double().mean().item()
    assert dropped == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / len(y)) ** 0.5)
    # the kept ones are the labels of the drawn images
    index, _ = data.draw(32, torch.Generator().manual_seed(CONFIG.seed))
    kept = y[:32] != 10
    assert torch.equal(y[:32][kept], images.load("digits").labels[index][kept])
    assert torch.equal(record.ema.seen[-1][2], held[3])


def test_the_held_out_loss_is_of_a_network_that_is_told_the_labels():
    """If eps_hat(x, t, y) = y, the loss is the mean of (eps - y)^2."""
    schedule, labels = TINY.network()[1], torch.arange(300) % 10

    class Says(nn.Linear):
        def forward(self, x, t, y):
            return y.to(x)[:, None, None, None].expand_as(x)

    held = validation_set(torch.zeros(300, 1, 4, 4), schedule, 300, labels)
    wanted = (held[2] - labels[:, None, None, None]).square().mean().item()
    assert heldout.evaluate(Says(1, 1), held, schedule) == pytest.approx(wanted, rel=1e-5)


def test_mirrored_images_reach_the_network():
    """It sees those images mirrored that the loader says, and the others as they are.

    The image is bright on the left, so that the sign of left - right tells at early t.
    """
    side = torch.tensor([255] * 4 + [0] * 4, dtype=torch.uint8)
    bright = ImageSet(side.expand(9, 1, 8, 8).contiguous(), torch.zeros(9).long(), ("0",))
    data, spy, (_, schedule) = Loader(bright, flip=True), Spy(), TINY.network()
    config = replace(CONFIG, steps=1, batch=400, every=1)
    list(train(spy, data, schedule, config, validation=torch.zeros(1, 1, 8, 8)))
    x, t, _ = spy.seen[0]
    early = t <= 10  # of 50
    _, flip = data.draw(400, torch.Generator().manual_seed(CONFIG.seed))
    mirrored = x[..., :4].mean((1, 2, 3)) < x[..., 4:].mean((1, 2, 3))
    assert 20 < int(flip[early].sum()) < int(early.sum()) - 20
    assert torch.equal(mirrored[early], flip[early])


# ---- dropout, number formats, machines -----------------------------------------------------------


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


def test_other_labels_and_mirrored_images_are_another_run(tmp_path):
    """Resuming needs the same images, labels and recipe; the error says what differs."""
    path = tmp_path / "checkpoint.pt"
    next(begin(path)[1])
    with pytest.raises(ValueError, match="another run: its flip is False, this run has True"):
        next(begin(path, replace(TINY, flip=True), resume=True)[1])
    model, schedule = TINY.network()
    data, held = TINY.load(schedule)
    data.labels = data.labels.roll(1)
    with pytest.raises(ValueError, match="another run: its labels crc32"):
        next(train(model, data, schedule, CONFIG, validation=held, checkpoint=path, resume=True))


def test_dropout_is_drawn_anew_each_step():
    """No two steps drop the same units, but each about p of them; p = 0 draws no seed at all."""
    model, schedule = TINY.network()
    data, held = TINY.load(schedule)
    masks = []

    def look(module, args, result):
        if module.training:
            masks[-1].append((result == 0).flatten())

    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(look)
    model.register_forward_pre_hook(lambda module, args: masks.append([]))
    list(train(model, data, schedule, replace(CONFIG, steps=4), validation=held))
    first, *others = [torch.cat(mask) for mask in masks if mask]
    assert len(others) == 3
    n = len(first)
    for other in others:
        assert other.double().mean().item() == pytest.approx(0.3, abs=5 * (0.21 / n) ** 0.5)
        # where both are drawn apart they agree in 0.3^2 + 0.7^2 of the places
        assert (first == other).double().mean().item() == pytest.approx(0.58, abs=0.03)
    for p, drawn in ((0.0, False), (0.3, True)):
        g = torch.Generator().manual_seed(0)
        before = g.get_state()
        with dropout(nn.Sequential(nn.Dropout(p)), g, torch.device("cpu")):
            assert torch.equal(before, g.get_state()) != drawn


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


CPU = torch.device("cpu")


def test_memory_order_and_compiler_change_nothing_but_speed(monkeypatch):
    """channels_last and torch.compile give the losses of plain training to 1e-5 (no dropout).

    The compiler sees the network as one graph, which is here run as it is: a compiler of one's own
    saves a minute, and what torch's makes of the graph is torch's to test.
    """
    graphs, losses = [], []
    plan = replace(plain(steps=3), net={**NET, "channels": [8], "dropout": 0.0})

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    for last, compiled in ((False, False), (True, False), (True, True)):
        machine = Machine(CPU, channels_last=last, compile=compiled)
        model, records = begin(plan=plan, machine=machine)
        losses.append([r.loss for r in records])
        assert model.conv_out.weight.is_contiguous(memory_format=torch.channels_last) == last
        assert len(graphs) == compiled
    for run_losses in losses[1:]:
        assert run_losses == pytest.approx(losses[0], rel=1e-5)


def test_the_switches_of_a_machine():
    """channels_last orders weights and batches as (H, W, C), compile compiles; neither, neither."""
    plain_one, quick = Machine(CPU), Machine(CPU, compile=True, channels_last=True)
    model, x = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 5, 5)
    for machine, last in ((plain_one, False), (quick, True)):
        placed = deepcopy(model)
        machine.place(placed)
        for tensor, same in ((placed.weight, model.weight), (machine.arrange(x), x)):
            assert tensor.is_contiguous(memory_format=torch.channels_last) == last
            assert tensor.is_contiguous() != last
            assert torch.equal(tensor, same)
        compiled = isinstance(machine.runner(placed), torch._dynamo.OptimizedModule)
        assert compiled == last
    assert plain_one.runner(model) is model


def test_batches_are_arranged():
    """What the network is called with is in the order of the machine."""
    grey, (_, schedule) = images.load("digits"), TINY.network()
    data = Loader(replace(grey, images=grey.images.expand(-1, 3, -1, -1).contiguous()))
    for last in (False, True):
        spy, machine = Spy(), Machine(CPU, channels_last=last)
        held = torch.zeros(1, 3, 8, 8)
        list(train(spy, data, schedule, replace(CONFIG, steps=1), machine=machine, validation=held))
        assert spy.seen[0][0].is_contiguous(memory_format=torch.channels_last) == last


def test_labels_are_asked_for():
    """drop_label with plain tensors is an error that says so."""
    _, schedule = TINY.network()
    with pytest.raises(ValueError, match=r"drop_label=0\.25 needs labels"):
        next(train(TINY.network()[0], torch.zeros(3, 1, 8, 8), schedule, CONFIG))


# ---- the folder of a run -------------------------------------------------------------------------


def test_the_folder_of_a_run(tmp_path, monkeypatch):
    """metrics.csv has a row per record; the curves are a picture.

    With pictures = 2 there is a grid at every second record and at the last: 10 x 8 samples of the
    averaged weights, always of the same noise, with a column for each class.
    """
    quick = partial(Sampling, steps=5)
    monkeypatch.setattr(run, "Sampling", quick)
    plan = replace(TINY, pictures=2, config=replace(CONFIG, every=2))
    model, schedule = plan.network()
    data, held = plan.load(schedule)
    folder, records = Run(tmp_path, plan, schedule), []
    for record in train(model, data, schedule, plan.config, validation=held):
        folder.write(record, (1, 8, 8))
        path = tmp_path / "samples" / f"{record.step:08}.png"
        assert path.exists() == (record.step in (4, 6))
        if path.exists():
            ((wanted, y),) = generate(record.ema, schedule, (1, 8, 8), quick(n=80, batch=80))
            assert torch.equal(pictures(path), wanted[:, 0])
            assert torch.equal(y, torch.arange(80) % 10)
            assert wanted.double().std() > 10
        records.append(record)
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert [float(row["loss"]) for row in rows] == [r.loss for r in records]
    assert [int(row["images"]) for row in rows] == [16, 32, 48]
    seconds = [float(row["seconds"]) for row in rows]
    assert 0 < seconds[0] < seconds[1] < seconds[2]
    curves = matplotlib.image.imread(tmp_path / "curves.png")
    assert curves.std() > 0.05
    assert min(curves.shape[:2]) > 300


def pictures(path):
    """The images (80, 8, 8) uint8 of a grid, row by row: pixels of 8 x 8, white lines between."""
    sheet = torch.from_numpy(matplotlib.image.imread(path))[..., 0].mul(255).round().byte()
    assert sheet.shape == (8 * (8 * 9 + 1), 8 * (10 * 9 + 1))
    small = sheet[::8, ::8]
    assert torch.equal(small.repeat_interleave(8, 0).repeat_interleave(8, 1), sheet)
    assert (small[::9] == 255).all()
    assert (small[:, ::9] == 255).all()
    return small[1:, 1:].unfold(0, 8, 9).unfold(1, 8, 9).flatten(0, 1)


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
