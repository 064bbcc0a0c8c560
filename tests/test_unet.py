"""The U-Net by itself: shapes, classes, time, its start, number formats and memory layouts."""

import json

import pytest
import torch
from torch import nn

from diffusion_edu import schedules
from diffusion_edu.nets.switches import seeded
from diffusion_edu.nets.unet import UNet, UNetConfig
from diffusion_edu.objectives import loss_hybrid, loss_simple
from diffusion_edu.prediction import guided

SMALL = UNetConfig(1, (8, 16), blocks=1, groups=4, dropout=0.0)


@pytest.fixture(autouse=True)
def same_start():
    """New networks and dropout draw from torch's global generator: always the same here."""
    with seeded(0):
        yield


def randomised(config: UNetConfig, seed: int = 0) -> UNet:
    """A network with every parameter random, biases and norms too: nothing is zero by accident."""
    net, g = UNet(config).eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            noise = torch.randn(p.shape, generator=g)
            p.copy_(noise / p[0].numel() ** 0.5 if p.ndim > 1 else p + 0.1 * noise)
    return net


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def images(batch: int = 4, channels: int = 1, size: int = 8, seed: int = 0) -> torch.Tensor:
    return normal(batch, channels, size, size, seed=seed)


# --- the network by itself ------------------------------------------------------------------------


@pytest.mark.parametrize("learned_variance", [False, True])
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("size", [(4, 4), (28, 28), (12, 20)])
@torch.no_grad()
def test_examples_do_not_see_each_other(size, classes, learned_variance):
    """net(x, t)[i] = net(x[i:i+1], t[i:i+1]), of C or 2C channels, for sizes divisible by 4."""
    net = randomised(
        UNetConfig(2, (8, 8, 16), 1, (1,), groups=4, classes=classes,
                   learned_variance=learned_variance)
    )  # fmt: skip
    x, t = normal(3, 2, *size), torch.tensor([1, 30, 1000])
    out = net(x, t)
    assert out.shape == (3, 4 if learned_variance else 2, *size)
    alone = torch.cat([net(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    assert torch.allclose(out, alone, atol=1e-4 * float(out.std()))  # rounding: a few 1e-6
    assert not torch.allclose(out, net(x, t.flip(0)), atol=1e-2 * float(out.std()))


@pytest.mark.parametrize("shape", [(1, 1, 28, 31), (1, 1, 30, 28), (1, 3, 28, 28), (1, 28, 28)])
def test_impossible_images(shape):
    """Sizes not divisible by 2^(levels - 1), and wrong channels, are named, with what to do."""
    net = UNet(UNetConfig(1, (8, 8, 16), groups=4))
    with pytest.raises(ValueError, match=r"x must .* divisible by 4, got .*pad the images"):
        net(torch.zeros(shape), torch.ones(1).long())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"channels": ()}, "channels"),
        ({"channels": (32,)}, "channels must .*groups=32"),  # one channel per group
        ({"channels": (64, 100)}, "channels must"),
        ({"channels": (65,), "groups": 1}, "channels must be even"),
        ({"head_dim": 48}, "head_dim=48"),
        ({"head_dim": 0}, "head_dim"),
        ({"attention": (4,)}, "attention must be an int in 0..3"),
        ({"blocks": 0}, "blocks"),
        ({"classes": -1}, "classes"),
        ({"T": 0}, "T must"),
    ],
)
def test_impossible_configurations(options, words):
    """A configuration that no network has is a ValueError that names the argument."""
    with pytest.raises(ValueError, match=words):
        UNetConfig(**options)


def test_configuration_survives_json():
    """UNetConfig(**json of its fields) is the same configuration."""
    config = UNetConfig(1, (16, 32), attention=(0, 1), head_dim=8, groups=8, classes=10)
    assert UNetConfig(**json.loads(json.dumps(vars(config)))) == config


def test_y_without_classes():
    """A class given to a network without classes is an error, not ignored."""
    with pytest.raises(ValueError, match="y was given"):
        UNet(SMALL)(images(1), torch.ones(1).long(), torch.zeros(1).long())


@torch.no_grad()
def test_no_class_is_the_null_class():
    """net(x, t) = net(x, t, null); guidance 1 and 0 are the conditional and the null network."""
    net = randomised(UNetConfig(1, (8, 16), blocks=1, groups=4, classes=3))
    x, t, y = images(6), torch.arange(1, 7), torch.tensor([0, 1, 2, 0, 1, 2])
    assert torch.equal(net(x, t), net(x, t, torch.full((6,), 3)))
    assert not torch.allclose(net(x, t), net(x, t, y), atol=1e-3)
    with pytest.raises(IndexError):  # the null class is the last
        net(x, t, torch.full((6,), 4))
    assert torch.allclose(guided(net, y, 1.0)(x, t), net(x, t, y), atol=1e-5)
    assert torch.allclose(guided(net, y, 0.0)(x, t), net(x, t), atol=1e-5)


@torch.no_grad()
def test_time_is_a_fraction_of_the_chain():
    """With equal weights, T = 1000 at t and T = 100 at t/10 agree: only t/T is seen."""
    long = randomised(SMALL)
    short = UNet(UNetConfig(**{**vars(SMALL), "T": 100})).eval()
    short.load_state_dict(long.state_dict())
    x, t = images(8), torch.arange(10, 90, 10)
    assert torch.allclose(long(x, 10 * t), short(x, t), atol=1e-4)


@torch.no_grad()
def test_all_pixels_reach_all_others():
    """With attention in the middle, every output pixel depends on every input pixel."""
    net, t = randomised(UNetConfig(1, (8, 16), blocks=1, attention=(), groups=4)), torch.tensor([9])
    x = images(1, size=16)
    moved = x.clone()
    moved[..., 0, 0] += 1
    assert ((net(x, t) - net(moved, t)).abs() > 0).all()


# --- at the start of training ---------------------------------------------------------------------


def test_starts_by_predicting_no_noise():
    """A new network is 0 everywhere, so that the first L_simple is the mean of eps^2."""
    net, x, eps = UNet(SMALL), images(), images(seed=1)
    t = torch.tensor([1, 10, 100, 1000])
    assert not net(x, t).any()
    loss = loss_simple(net, x, t, eps, schedules.linear(1000))
    assert torch.allclose(loss, eps.square().mean())


def test_initial_branches_are_closed():
    """Before training a residual block and an attention return x: their branches end in zeros."""
    net, e = UNet(), normal(2, 512)
    x = normal(2, 128, 8, 8)
    assert torch.equal(net.down_blocks[0].resnets[0](x, e), x)
    x = normal(2, 256, 8, 8)
    assert torch.equal(net.mid_block.attentions[0](x), x)


def test_initial_variance():
    """Weights not at the end of a branch have variance 2/(fan_in + fan_out); biases are zero."""
    for name, layer in UNet().named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert not layer.bias.any()
            w = layer.weight.detach()
            area = w[0, 0].numel()
            if w.any() and w.numel() > 10_000:
                wanted = 2 / (area * (w.shape[0] + w.shape[1]))
                assert float(w.var()) == pytest.approx(wanted, rel=0.1), name


@pytest.mark.parametrize("learned_variance", [False, True])
def test_gradients_reach_every_parameter(learned_variance):
    """First only the last layer has a gradient; three steps later all have, but the keys' bias.

    Adding b to all keys adds q b to all scores of a query: softmax does not see it.
    """
    net = UNet(UNetConfig(**{**vars(SMALL), "learned_variance": learned_variance, "classes": 2}))
    t, y, chain = torch.tensor([2, 10, 300, 900]), torch.tensor([0, 1, 0, 2]), schedules.linear()
    g = torch.Generator().manual_seed(0)
    x = torch.randint(256, (4, 1, 8, 8), generator=g) / 127.5 - 1
    eps, loss = images(seed=1), loss_hybrid if learned_variance else loss_simple
    for step in range(4):
        net.zero_grad()
        loss(lambda x, t: net(x, t, y), x, t, eps, chain).backward()
        moved = {name for name, p in net.named_parameters() if p.grad.abs().max() > 1e-7}
        if step == 0:
            assert moved == {"conv_out.weight", "conv_out.bias"}
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.1 * p.grad
    still = {name for name, _ in net.named_parameters()} - moved
    assert still == {name for name in net.state_dict() if name.endswith("to_k.bias")}


def test_dropout_only_in_training():
    """In eval mode the output is a function of the input; in training dropout changes it."""
    net = randomised(UNetConfig(1, (8, 16), blocks=1, groups=4, dropout=0.5))
    x, t = images(), torch.tensor([1, 9, 99, 999])
    assert torch.equal(net(x, t), net(x, t))
    net.train()
    assert not torch.allclose(net(x, t), net(x, t), atol=1e-2)


# --- number formats and memory layouts ------------------------------------------------------------


@torch.no_grad()
def test_channels_last(device):
    """The memory format changes neither the values nor, on the way out, itself."""
    net = randomised(UNetConfig(3, (32, 64), groups=8)).to(device)
    x, t = images(4, 3, 16).to(device), torch.tensor([1, 9, 99, 999], device=device)
    right = net(x, t)
    last = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), t)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(last, right, atol=1e-5 * float(right.std()), rtol=1e-4)


@pytest.mark.parametrize("how", ["weights", "autocast"])
@torch.no_grad()
def test_bfloat16(device, how):
    """In bfloat16 (8 bits of mantissa) the output is that of float32 to a few percent."""
    net = randomised(UNetConfig(3, (32, 64), groups=8, classes=3)).to(device)
    x, t = images(4, 3, 16).to(device), torch.tensor([1, 9, 99, 999], device=device)
    right = net(x, t)
    if how == "weights":
        out = net.bfloat16()(x.bfloat16(), t)
    else:
        with torch.autocast(device, torch.bfloat16):
            out = net(x, t)
    assert out.dtype == torch.bfloat16
    assert (out.float() - right).square().mean().sqrt() < 0.03 * right.std()


@torch.no_grad()
def test_float64():
    """In float64 the weights' function is that of float32 to its precision."""
    net = randomised(SMALL)
    x, t = images(), torch.tensor([1, 9, 99, 999])
    right = net(x, t)
    assert torch.allclose(net.double()(x.double(), t), right.double(), atol=1e-5)


@pytest.mark.parametrize("patch", [1, 2, 4])
@torch.no_grad()
def test_patches_are_channels(patch):
    """With patch p: pixel_shuffle of an ordinary network on pixel_unshuffle(x)."""
    net = randomised(UNetConfig(2, (8, 16), 1, (), groups=4, patch=patch))
    inner = UNet(UNetConfig(2 * patch**2, (8, 16), 1, (), groups=4)).eval()
    inner.load_state_dict(net.state_dict())
    x, t = normal(3, 2, 8 * patch, 4 * patch), torch.tensor([1, 500, 1000])
    squares = nn.functional.pixel_unshuffle(x, patch)
    assert torch.equal(net(x, t), nn.functional.pixel_shuffle(inner(squares, t), patch))
