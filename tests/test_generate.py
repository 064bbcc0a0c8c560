"""Samples of networks: every one once, the same from any number of processes."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from diffusion_edu import _parallel
from diffusion_edu.data.images import to_uint8
from diffusion_edu.evaluation import generate as module
from diffusion_edu.evaluation.generate import Sampling, chunks, generate
from diffusion_edu.nets import MLP
from diffusion_edu.sampling import ddim, sample
from diffusion_edu.schedules import linear
from diffusion_edu.spacing import timesteps

CHAIN, SHAPE = linear(20), (1, 4, 4)


class Toy(nn.Module):
    """eps = w(y) x_t, and w differs from class to class and without one; counts its calls."""

    def __init__(self, classes=5):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.3, 0.9, classes + 1))
        self.config = SimpleNamespace(classes=classes)
        self.calls = []

    def forward(self, x, t, y=None):
        self.calls.append(None if y is None else y.tolist())
        which = torch.full_like(t, len(self.weight) - 1) if y is None else y
        return self.weight[which].view(-1, 1, 1, 1) * x


class TwoHeads(Toy):
    """The same with v = 0.4 in as many channels more: the variance it has learned."""

    def __init__(self, classes=5):
        super().__init__(classes)
        self.config.learned_variance = True

    def forward(self, x, t, y=None):
        return torch.cat([super().forward(x, t, y), torch.full_like(x, 0.4)], 1)


def drawn(model, plan, shape=SHAPE):
    """All images and labels, one after the other, and the sizes of the chunks."""
    parts = list(generate(model, CHAIN, shape, plan, progress=False))
    images = torch.cat([x for x, _ in parts])
    labels = [y for _, y in parts]
    return images, None if labels[0] is None else torch.cat(labels), [len(x) for x, _ in parts]


# ---- how many, of which class --------------------------------------------------------------------


def test_exactly_n_images_with_a_short_last_chunk():
    """23 in chunks of 10: 10, 10, 3; uint8 in the shape asked for; image i is of class i mod K."""
    images, labels, sizes = drawn(Toy(), Sampling(n=23, steps=3, batch=10))
    assert sizes == [10, 10, 3]
    assert images.dtype == torch.uint8
    assert images.shape == (23, *SHAPE)
    assert labels.tolist() == [i % 5 for i in range(23)]
    assert labels.bincount().tolist() == [5, 5, 5, 4, 4]


def test_no_labels_without_classes_or_when_none_are_wanted():
    """An unconditional network is never told a class; labels="none" asks for the null class."""
    for model, plan in [
        (Toy(classes=0), Sampling(n=4, steps=2)),
        (Toy(), Sampling(n=4, steps=2, labels="none")),
    ]:
        _, labels, _ = drawn(model, plan)
        assert labels is None
        assert model.calls == [None, None]


def test_one_call_a_step_without_guidance():
    """guidance=1 costs S calls with the labels, another value twice that."""
    model = Toy()
    drawn(model, Sampling(n=5, steps=4))
    assert model.calls == [[0, 1, 2, 3, 4]] * 4
    model.calls.clear()
    drawn(model, Sampling(n=5, steps=4, guidance=2.0))
    assert len(model.calls) == 8
    assert model.calls.count(None) == 4


# ---- which images --------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [0.0, 1.0, 3.0])
def test_images_are_the_direct_computation(guidance):
    """DDIM on eps(x, null) + guidance (eps(x, y) - eps(x, null)), clipped, rounded to uint8."""
    model = Toy()
    images, labels, _ = drawn(model, Sampling(n=5, steps=6, guidance=guidance))
    with torch.no_grad():
        null, given = model.weight[-1], model.weight[labels].view(-1, 1, 1, 1)
        x = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))
        factor = null + guidance * (given - null)
        x = ddim(lambda x, t: factor * x, x, CHAIN, 6, clip=1.0)
    assert (images.int() - to_uint8(x).int()).abs().max() <= 1  # one rounding may tip over
    assert images.float().std() > 10


@pytest.mark.parametrize("how", [{"eta": 0.5}, {"eta": 1.0}, {"variance": "large"}])
def test_noise_and_levels_are_those_of_sample(how):
    """Uniform levels; start and steps from one generator, seeded by chunk."""
    model = Toy(classes=0)
    images, _, _ = drawn(model, Sampling(n=3, steps=7, **how))
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3, *SHAPE, generator=g)
    *_, last = sample(model, x, CHAIN, timesteps(20, 7), clip=1.0, generator=g, **how)
    assert images.equal(to_uint8(last.x_s))


def test_same_plan_same_images_another_seed_others():
    """Deterministic, chunks differ from each other, and no state of torch is touched."""
    plan = Sampling(n=20, steps=3, eta=1.0, batch=10)
    before = torch.get_rng_state()
    first, _, _ = drawn(Toy(), plan)
    assert torch.get_rng_state().equal(before)
    assert drawn(Toy(), plan)[0].equal(first)
    assert not first[:10].equal(first[10:])
    other = Sampling(n=20, steps=3, eta=1.0, batch=10, seed=1)
    assert not drawn(Toy(), other)[0].equal(first)
    more = Sampling(n=25, steps=3, eta=1.0, batch=10)  # a longer series begins as the shorter one
    assert drawn(Toy(), more)[0][:20].equal(first)


def test_without_clip_the_prediction_is_free():
    """clip=None leaves x0 to itself; images are bounded all the same."""
    free, bound = (drawn(Toy(), Sampling(n=5, steps=4, clip=c))[0] for c in (None, 0.1))
    assert int(bound.max()) <= 141  # 127.5 (1 + 0.1), rounded, and eps = 0 at the last level
    assert int(free.max()) > 141


def test_images_are_the_chunks_as_bytes():
    """generate = to_uint8 of chunks, which are float32 in [-1, 1] for clip = 1."""
    plan = Sampling(n=23, steps=4, batch=10)
    floats = list(chunks(Toy(), CHAIN, SHAPE, plan, progress=False))
    images = list(generate(Toy(), CHAIN, SHAPE, plan, progress=False))
    for (x, y), (image, label) in zip(floats, images, strict=True):
        assert x.dtype == torch.float32
        assert x.abs().max() <= 1 + 1e-6  # the last step, eps = 0 at level 0, returns x0
        assert to_uint8(x).equal(image)
        assert y.equal(label)


@pytest.mark.parametrize("how", [{}, {"eta": 1.0}, {"variance": "large"}])
def test_points_are_the_direct_computation(how):
    """clip=None, (B, 2), no classes: chunk k is sample(...) from a generator seeded by k."""
    model = MLP(width=8, depth=1, T=20)
    torch.nn.init.normal_(model.leave.weight, generator=torch.Generator().manual_seed(1))
    plan = Sampling(n=25, steps=6, batch=10, clip=None, **how)
    found = list(chunks(model, CHAIN, (2,), plan, progress=False))
    assert [len(x) for x, _ in found] == [10, 10, 5]
    for k, (points, labels) in enumerate(found):
        g = torch.Generator().manual_seed(k)
        x = torch.randn(len(points), 2, generator=g)
        *_, last = sample(model, x, CHAIN, timesteps(20, 6), generator=g, **how)
        assert points.equal(last.x_s)
        assert labels is None
    assert max(float(x.abs().max()) for x, _ in found) > 1  # clipping would show


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_learned_variance_is_that_of_sample(guidance):
    """variance="learned" of a network of 2C channels; neither end of v walks the same."""
    plan = Sampling(n=5, steps=7, variance="learned", guidance=guidance)
    images, labels, _ = drawn(TwoHeads(), plan)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(5, *SHAPE, generator=g)
    weight = Toy().weight.detach()
    factor = weight[-1] + guidance * (weight[labels].view(-1, 1, 1, 1) - weight[-1])

    def two(x, t):
        return torch.cat([factor * x, torch.full_like(x, 0.4)], 1)

    *_, last = sample(two, x, CHAIN, 7, variance="learned", clip=1.0, generator=g)
    assert (images.int() - to_uint8(last.x_s).int()).abs().max() <= 1
    for other in ({"eta": 1.0}, {"variance": "large"}):
        assert not images.equal(drawn(TwoHeads(), Sampling(n=5, steps=7, **other))[0])


@pytest.mark.parametrize("how", [{}, {"eta": 1.0}, {"variance": "large"}, {"guidance": 2.0}])
def test_other_variances_leave_the_learned_one_out(how):
    """A network of 2C channels is sampled as one that has its prediction alone."""
    plan = Sampling(n=5, steps=7, **how)
    assert drawn(TwoHeads(), plan)[0].equal(drawn(Toy(), plan)[0])


def test_bfloat16_is_near_float32():
    """Half the bits in the network: a tenth of the range at worst, under one level on average."""

    class Dense(Toy):
        """eps by a convolution, which autocast computes in bfloat16."""

        def __init__(self):
            super().__init__(classes=0)
            self.conv = nn.Conv2d(1, 1, 3, padding=1)
            g = torch.Generator().manual_seed(3)
            for p in self.conv.parameters():
                nn.init.normal_(p, std=0.2, generator=g)

        def forward(self, x, t, y=None):
            out = self.conv(x)
            self.calls.append(out.dtype)
            return out

    model = Dense()
    full = drawn(model, Sampling(n=20, steps=5))[0].int()
    half = drawn(model, Sampling(n=20, steps=5, precision="bfloat16"))[0].int()
    assert model.calls == [torch.float32] * 5 + [torch.bfloat16] * 5
    apart = (full - half).abs()
    assert 0 < apart.max() <= 25
    assert apart.float().mean() < 1


# ---- processes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_processes_together_draw_what_one_draws(monkeypatch, processes):
    """Rank r yields the chunks r, r + world, ...; in order they are those of one process."""
    plan = Sampling(n=43, steps=2, eta=1.0, batch=10)
    whole = list(generate(Toy(), CHAIN, SHAPE, plan, progress=False))
    monkeypatch.setattr(_parallel, "world", lambda: processes)
    found = {}
    for rank in range(processes):
        monkeypatch.setattr(_parallel, "rank", lambda rank=rank: rank)
        for i, chunk in enumerate(generate(Toy(), CHAIN, SHAPE, plan, progress=False)):
            found[rank + i * processes] = chunk
    assert sorted(found) == list(range(5))
    for k, (images, labels) in enumerate(whole):
        assert found[k][0].equal(images)
        assert found[k][1].equal(labels)


class Bar:
    """In place of tqdm: what it was asked, and how far it went."""

    made = ()

    def __init__(self, **options):
        self.options, self.n, self.moves = options, 0.0, 0
        Bar.made = (*Bar.made, self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def update(self, n):
        self.n, self.moves = self.n + n, self.moves + 1


def test_the_bar_moves_with_every_step_and_only_in_the_first_process(monkeypatch):
    """It counts images, a fraction of them with each step; other processes draw none."""
    monkeypatch.setattr(module, "tqdm", Bar)
    monkeypatch.setattr(Bar, "made", ())
    plan = Sampling(n=7, steps=10, batch=5)
    list(generate(Toy(), CHAIN, SHAPE, plan))
    monkeypatch.setattr(_parallel, "world", lambda: 2)
    monkeypatch.setattr(_parallel, "rank", lambda: 1)
    list(generate(Toy(), CHAIN, SHAPE, plan))
    first, second = Bar.made
    assert first.options["disable"] is None  # tqdm then looks whether there is a terminal
    assert first.options["total"] == 7
    assert first.n == pytest.approx(7)
    assert first.moves == 20
    assert second.options["disable"] is True
    assert second.options["total"] == 2


# ---- state and errors ----------------------------------------------------------------------------


def test_eval_mode_no_gradients_and_none_switched_off(device):
    """The model is left in eval mode; the caller's gradients stay on between chunks."""
    model = Toy().to(device).train()
    for images, labels in generate(model, CHAIN, SHAPE, Sampling(n=6, steps=2, batch=3)):
        assert torch.is_grad_enabled()
        assert images.device.type == labels.device.type == device
    assert not model.training
    for floats, _ in chunks(model, CHAIN, SHAPE, Sampling(n=6, steps=2, batch=3)):
        assert torch.is_grad_enabled()
        assert not floats.requires_grad  # nor is a graph kept, of every step


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be an int >= 1, got n=0"),
        ({"steps": 0}, "steps must be an int >= 1"),
        ({"batch": 2.5}, "batch must be an int >= 1, got batch=2.5"),
        ({"seed": -1}, "seed must be an int >= 0"),
        ({"eta": 1.5}, "eta=1.5"),
        ({"eta": float("nan")}, "eta=nan"),
        ({"guidance": float("inf")}, "guidance=inf"),
        ({"variance": "larg"}, "unknown variance 'larg'.*Did you mean 'large'"),
        ({"labels": "all"}, "unknown labels 'all'"),
        ({"precision": "float16"}, "unknown precision 'float16'"),
    ],
)
def test_bad_plans_are_named(options, message):
    """Argument, value and what was expected, before anything is drawn."""
    with pytest.raises(ValueError, match=message):
        Sampling(**options)


def test_what_the_network_cannot_do_is_named():
    """Guidance without classes; a variance not learned; more steps than the chain has."""
    with pytest.raises(ValueError, match=r"variance='learned' needs a network that has learned"):
        drawn(Toy(), Sampling(n=2, steps=2, variance="learned"))
    for model, labels in ((Toy(classes=0), "balanced"), (Toy(), "none")):
        with pytest.raises(ValueError, match=r"guidance=2.0 needs classes"):
            drawn(model, Sampling(n=2, steps=2, guidance=2.0, labels=labels))
    with pytest.raises(ValueError, match=r"steps must be an int in 1\.\.20, got steps=21"):
        drawn(Toy(), Sampling(n=2, steps=21))
