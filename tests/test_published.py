"""Published weights: the U-Net computes what diffusers' does, and nothing else is loaded."""

import json
import re

import pytest
import torch
from diffusers import UNet2DModel
from safetensors.torch import save_file
from unet_mistakes import CIFAR10, MISTAKES, costs, reference

from diffusion_edu.nets import published
from diffusion_edu.nets.published import load_diffusers, translate
from diffusion_edu.nets.unet import UNet, UNetConfig

SMALL = UNetConfig(1, (8, 16), blocks=1, groups=4, dropout=0.0)
SMALL_FILE = {
    **CIFAR10,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "norm_num_groups": 4,
}


@pytest.fixture(scope="module")
def theirs() -> UNet2DModel:
    """Their network of google/ddpm-cifar10-32, every parameter random."""
    return reference()


def images(batch: int = 4, channels: int = 1, size: int = 8, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, size, size, generator=g)


def old_names(state: dict) -> dict:
    """The same weights under the names that attention had before 2023."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, old in names.items():
        state = {key.replace(f".{new}.", f".{old}."): value for key, value in state.items()}
    return state


# --- the same function as diffusers' ------------------------------------------------------------


@torch.no_grad()
def test_published_network_of_cifar10(theirs):
    """load_diffusers(theirs)(x, t) = theirs(x, t - 1) for t = 1, 500, 1000, all weights random."""
    assert not any(bool((p == p.flatten()[0]).all()) for p in theirs.parameters())
    ours = load_diffusers(theirs.state_dict(), CIFAR10)
    assert sum(p.numel() for p in ours.parameters()) == 35_746_307
    assert len(ours.state_dict()) == 328
    x, t = images(3, 3, 32), torch.tensor([1, 500, 1000])
    a, b = ours(x, t), theirs(x, t - 1).sample
    assert b.std() > 0.1
    assert (a - b).abs().max() < 1e-5
    assert not torch.allclose(a, UNet.forward(ours, x, t), atol=1e-3)  # t in place of t - 1


def test_default_configuration_is_the_published_one():
    """UNetConfig() is that of google/ddpm-cifar10-32, with dropout 0.1 as the paper trained."""
    assert translate({**CIFAR10, "dropout": 0.1}) == UNetConfig()


@pytest.fixture(scope="module")
def measured(theirs) -> dict[str, tuple[float, float]]:
    plain, perturbed = costs(reference(perturb=False)), costs(theirs)
    return {name: (plain[name], perturbed[name]) for name in plain}


@pytest.mark.parametrize("name", MISTAKES)
def test_table_of_mistakes(measured, name):
    """Each mistake costs what the docstring of ``published`` says, to 25 %; none costs nothing."""
    row = re.search(re.escape(name) + r" +([\d.]+) % +([\d.]+) %", published.__doc__)
    assert row, f"no row {name!r} in the table"
    for error, exact, stated in zip(measured[name], measured["none"], row.groups(), strict=True):
        assert 100 * error == pytest.approx(float(stated), rel=0.25)
        assert error > 10 * exact
        assert exact < 5e-6


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"layers_per_block": 3, "in_channels": 1, "out_channels": 1},
        {"out_channels": 6, "norm_eps": 1e-3, "attention_head_dim": 8},
        {
            "block_out_channels": (8, 8, 16, 16, 24, 24),  # the layout of the 256x256 networks
            "down_block_types": (*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4),
        },
        {
            "block_out_channels": (16,),
            "down_block_types": ("DownBlock2D",),
            "up_block_types": ("UpBlock2D",),
        },
    ],
    ids=["small", "deep, grey", "heads of 8, learned variance", "celebahq layout", "one level"],
)
@torch.no_grad()
def test_other_configurations(change):
    """load_diffusers(theirs, config) = theirs for other widths, depths, heads and levels too."""
    config = {**SMALL_FILE, **change}
    theirs = reference(config)
    ours = load_diffusers(theirs.state_dict(), config)
    x, t = images(3, config["in_channels"], 64), torch.tensor([1, 500, 1000])
    right = theirs(x, t - 1).sample
    assert torch.allclose(ours(x, t), right, atol=1e-5 * float(right.std()))


@pytest.mark.parametrize("names", ["new", "old"])
@pytest.mark.parametrize("given", ["folder", "file", "state dict"])
@torch.no_grad()
def test_files(tmp_path, names, given):
    """A folder, its file, and the state dict give one network, under old and new names."""
    theirs = reference(SMALL_FILE)
    state = theirs.state_dict()
    if names == "old":
        state = old_names(state)
        assert any(".proj_attn." in key for key in state)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file(state, file)
    (tmp_path / "config.json").write_text(json.dumps(SMALL_FILE))
    source = {"folder": tmp_path, "file": str(file), "state dict": state}[given]
    ours = load_diffusers(source, SMALL_FILE if given == "state dict" else None)
    assert not ours.training
    x, t = images(2, 3, 16), torch.tensor([1, 1000])
    assert torch.allclose(ours(x, t), theirs(x, t - 1).sample, atol=1e-5)


def test_loaded_weights_are_a_copy():
    """Training the loaded network leaves the given state dict as it was; half becomes float32."""
    state = {k: v.half() for k, v in UNet(SMALL).state_dict().items()}
    before = {k: v.clone() for k, v in state.items()}
    net = load_diffusers(state, SMALL)
    with torch.no_grad():
        for p in net.parameters():
            assert p.dtype == torch.float32
            assert p.requires_grad
            p.add_(1)
    assert all(torch.equal(state[k], before[k]) for k in state)


# --- nothing else loads ---------------------------------------------------------------------------


def without(key: str) -> dict:
    return {k: v for k, v in UNet(SMALL).state_dict().items() if k != key}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (without("conv_out.bias"), "1 missing: conv_out.bias"),
        ({**without(""), "conv_out.scale": torch.ones(1)}, "1 unexpected: conv_out.scale"),
        (
            {**without(""), "conv_in.bias": torch.zeros(5)},
            r"1 of the wrong shape: conv_in.bias \(5,\) instead of \(8,\)",
        ),
        ({}, r"missing: .*, \.\.\."),
    ],
)
def test_strict_loading(state, words):
    """Weights with a name too few, too many, or a wrong shape are refused, by name."""
    with pytest.raises(ValueError, match=words):
        load_diffusers(state, SMALL)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("freq_shift", 0),
        ("flip_sin_to_cos", True),
        ("downsample_padding", 1),
        ("center_input_sample", True),
        ("time_embedding_type", "fourier"),
        ("act_fn", "gelu"),
        ("resnet_time_scale_shift", "scale_shift"),
        ("mid_block_scale_factor", 2),
        ("add_attention", False),
        ("num_class_embeds", 10),
        ("downsample_type", "resnet"),
        ("out_channels", 4),
        ("unheard_of", 1),
        ("down_block_types", ["SkipDownBlock2D", "AttnDownBlock2D"]),
        ("up_block_types", ["UpBlock2D", "AttnUpBlock2D"]),
    ],
)
def test_unsupported_configurations_are_refused(field, value):
    """A field that would change the function computed is refused by its name and value."""
    with pytest.raises(ValueError, match=re.escape(f"{field}={value!r}")):
        translate({**SMALL_FILE, field: value})


def test_absent_fields_have_their_default():
    """An empty config.json means what UNet2DModel() is: among others, cosines first."""
    with pytest.raises(ValueError, match="flip_sin_to_cos=True, the default where the field is"):
        translate({})


def test_unknown_fields_of_the_installed_diffusers():
    """Every argument of UNet2DModel is known to ``translate``: none is silently ignored."""
    fields = {k: v for k, v in UNet2DModel(**SMALL_FILE).config.items() if not k.startswith("_")}
    assert translate(fields) == translate(SMALL_FILE)


def test_unreadable_files(tmp_path):
    """A missing file, a pickle and a damaged configuration are ValueErrors that name the file."""
    with pytest.raises(ValueError, match=r"no file .*diffusion_pytorch_model\.safetensors"):
        load_diffusers(tmp_path)
    torch.save(UNet(SMALL).state_dict(), tmp_path / "model.bin")
    with pytest.raises(ValueError, match=r"model.bin is not .* pickle"):
        load_diffusers(tmp_path / "model.bin")
    save_file(UNet(SMALL).state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    for text in ("{", "[]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"config\.json"):
            load_diffusers(tmp_path)
