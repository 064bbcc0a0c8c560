"""Networks: the MLP is a function of (x, t, y) example by example; EMA is the average it says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from diffusion_edu import schedules
from diffusion_edu.nets import EMA, MLP, AsEps, UNet, UNetConfig
from diffusion_edu.nets.mlp import time_embedding
from diffusion_edu.nets.switches import seeded
from diffusion_edu.objectives import loss_simple
from diffusion_edu.prediction import guided, predict
from diffusion_edu.sampling import ddim
from diffusion_edu.training import Config, train


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """The same network with every weight drawn anew: nothing is zero by initialisation."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=g) / max(1, p.shape[-1]) ** 0.5)
    return model.eval()


@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_examples_do_not_see_each_other(batch, dim, num_classes):
    """model(x, t)[i] = model(x[i:i+1], t[i:i+1]), (B, dim) -> (B, dim), for every B and dim."""
    model = randomised(MLP(dim, width=8, depth=2, time_dim=4, num_classes=num_classes))
    g = torch.Generator().manual_seed(batch)
    x, t = torch.randn(batch, dim, generator=g), torch.randint(1, 1001, (batch,), generator=g)
    out = model(x, t)
    assert out.shape == x.shape
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1]) for i in range(batch)])
    assert torch.allclose(out, alone, atol=1e-5)


def test_starts_by_predicting_no_noise():
    """A new network is constant in x and t, so that the first loss is about E eps^2 = 1."""
    model = MLP()
    out = model(torch.randn(50, 2), torch.randint(1, 1001, (50,)))
    assert torch.equal(out, out[:1].expand_as(out))
    assert out.abs().max() < 0.2


def test_time_is_a_fraction_of_the_chain():
    """With equal weights, MLP(T=1000) at t and MLP(T=100) at t/10 agree: only t/T is seen."""
    long, short = randomised(MLP(T=1000)), randomised(MLP(T=100))
    x, t = torch.randn(8, 2), torch.arange(10, 90, 10)
    assert torch.allclose(long(x, 10 * t), short(x, t), atol=1e-5)
    assert not torch.allclose(long(x, t), short(x, t), atol=1e-3)


@given(st.integers(2, 32).map(lambda k: 2 * k))
@settings(max_examples=20, deadline=None)
def test_time_embedding_is_pairs_of_sine_and_cosine(dim):
    """sin^2 + cos^2 = 1 for each frequency, and different t have different features."""
    e = time_embedding(torch.arange(1, 1001), dim)
    assert e.shape == (1000, dim)
    sin, cos = e.chunk(2, 1)
    assert torch.allclose(sin**2 + cos**2, torch.ones_like(sin), atol=1e-5)
    assert torch.pdist(e).min() > 1e-3


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("num_classes", [0, 3])
def test_a_network_of_another_dtype(dtype, num_classes):
    """Weights and points of one dtype give an answer of that dtype, which is that of float32."""
    net, x, t = randomised(MLP(num_classes=num_classes)), torch.randn(4, 2), torch.arange(1, 5)
    wanted, got = net(x, t), net.to(dtype)(x.to(dtype), t)
    assert got.dtype == dtype
    assert torch.allclose(got.float(), wanted, atol=0.1 if dtype == torch.bfloat16 else 1e-5)


def test_seeding_a_block_leaves_gpus_alone(monkeypatch):
    """First weights come from the seed; the CPU's generator is put back, no GPU's is touched."""
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: pytest.fail(f"GPUs: {seed}"))
    before, drawn = torch.get_rng_state(), []
    for _ in range(2):
        with seeded(7):
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
    assert torch.equal(before, torch.get_rng_state())


def test_no_class_is_the_null_class():
    """model(x, t) = model(x, t, null); guidance 1 and 0 are the conditional and the null model."""
    model = randomised(MLP(num_classes=3))
    x, t, y = torch.randn(6, 2), torch.arange(1, 7), torch.tensor([0, 1, 2, 0, 1, 2])
    assert torch.equal(model(x, t), model(x, t, torch.full((6,), 3)))
    assert not torch.allclose(model(x, t), model(x, t, y), atol=1e-3)
    assert torch.allclose(guided(model, y, 1.0)(x, t), model(x, t, y), atol=1e-6)
    assert torch.allclose(guided(model, y, 0.0)(x, t), model(x, t), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: MLP(width=0), "width"),
        (lambda: MLP(time_dim=5), "time_dim must be even"),
        (lambda: MLP()(torch.zeros(1, 2), torch.ones(1).long(), torch.zeros(1).long()), "y was"),
        (lambda: EMA(MLP(), decay=1.0), "decay"),
    ],
)
def test_bad_input_is_named(call, words):
    """A ValueError names the argument, its value and the fix."""
    with pytest.raises(ValueError, match=words):
        call()


@given(st.floats(0, 0.9999), st.booleans(), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_ema_of_a_constant(decay, warmup, n):
    """ema_n - w = d_1 d_2 ... d_n (ema_0 - w) when every step sees the same weights w."""
    start, target = nn.Linear(3, 2).double(), nn.Linear(3, 2).double()
    ema = EMA(start, decay, warmup)
    left = 1.0
    for k in range(n):
        d = min(decay, (1 + k) / (10 + k)) if warmup else decay
        assert ema.horizon == pytest.approx(1 / (1 - d))
        left *= d
        ema.update(target)
    expected = target.weight + left * (start.weight - target.weight)
    assert torch.allclose(ema.model.weight, expected, atol=1e-12)
    assert ema.updates == n


def test_ema_is_a_copy_in_eval_mode():
    """The average shares no memory with the network, has no gradients, and copies buffers as is."""
    model = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))
    ema = EMA(model, 0.9)
    model(torch.randn(64, 2)).sum().backward()  # moves the running statistics
    ema.update(model)
    assert torch.equal(ema.model[1].running_mean, model[1].running_mean)
    assert ema.model[1].num_batches_tracked == 1
    assert not ema.model.training
    assert not any(p.requires_grad for p in ema.model.parameters())
    pairs = zip(ema.model.parameters(), model.parameters(), strict=True)
    assert all(a.data_ptr() != b.data_ptr() for a, b in pairs)


# ---- networks of another kind --------------------------------------------------------------------

CHAIN = schedules.linear(20)
KINDS = ["eps", "x0", "v", "score"]


@pytest.mark.parametrize("kind", KINDS)
def test_as_eps_is_the_prediction_of_noise(kind):
    """AsEps(net, kind)(x, t, y) is ``predict(kind, net(x, t, y), x, t).eps``; DDIM agrees too."""
    g = torch.Generator().manual_seed(0)
    net = randomised(MLP(num_classes=3)).double()
    model = AsEps(net, kind, CHAIN).double()
    x, t = torch.randn(8, 2, generator=g, dtype=torch.float64), torch.randint(1, 21, (8,))
    y = torch.arange(8) % 3
    wanted = predict(kind, net(x, t, y), x, t, CHAIN).eps
    assert torch.allclose(model(x, t, y), wanted, rtol=1e-12, atol=1e-12)
    assert torch.equal(model(x, t, y=y), model(x, t, y))  # as networks take it
    as_usual = ddim(model, x, CHAIN, 10)
    assert torch.allclose(as_usual, ddim(net, x, CHAIN, 10, kind=kind), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_as_eps_trains_in_its_own_quantity(kind):
    """A step of ``train`` is the step that ``loss_simple(kind=kind)`` of the bare network makes."""
    data = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    config = Config(steps=1, batch=16, lr=1e-2, every=1, seed=3, clip=1e9)
    bare, trained = randomised(MLP(T=20)), AsEps(randomised(MLP(T=20)), kind, CHAIN)
    list(train(trained, data, CHAIN, config))
    g = torch.Generator().manual_seed(3)
    index = torch.randint(50, (16,), generator=g)
    t = torch.randint(1, 21, (16,), generator=g)
    eps = torch.randn(16, 2, generator=g)
    loss_simple(bare, data[index], t, eps, CHAIN, kind=kind).backward()
    mine, theirs = (
        torch.cat([p.grad.flatten() for p in net.parameters()]) for net in (bare, trained)
    )
    assert (mine - theirs).norm() < 1e-3 * mine.norm()


def test_as_eps_has_the_weights_of_its_network():
    """Tables of the schedule are no weights, and the classes a sampler asks for are those within.

    In bfloat16 autocast the copy of the input is still exact: at t = T the noise predicted by an
    untrained network (v = 0) is b x_t to float32.
    """
    net = UNet(UNetConfig(image_channels=1, channels=(8,), groups=4, classes=5, attention=()))
    model = AsEps(net, "v", CHAIN)
    assert set(model.state_dict()) == {f"net.{key}" for key in net.state_dict()}
    assert model.config.classes == 5
    assert AsEps(nn.Identity(), "v", CHAIN).config is None
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([20, 20])
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.allclose(model(x, t), CHAIN.sqrt_one_minus_alpha_bar[20].float() * x)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: AsEps(MLP(), "x_0", CHAIN), ["kind", "x_0"]),
        (lambda: AsEps(MLP(), "v", schedules.zero_terminal_snr(CHAIN)), ["alpha_bar_t = 0"]),
        (
            lambda: AsEps(UNet(UNetConfig(channels=(8,), groups=4, attention=(),
                                          learned_variance=True)), "v", CHAIN),
            ["learned_variance", "kind='v'"],
        ),
    ],
)  # fmt: skip
def test_as_eps_bad_input_is_named(call, words):
    """Errors say what was wrong."""
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call()
    assert all(word in str(error.value) for word in words)
