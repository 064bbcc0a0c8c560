"""Published weights in the layout of diffusers' UNet2DModel, as google/ddpm-cifar10-32 has it.

Weights fit many networks that compute something else: nothing is missing, every shape is right, and
the samples are bad. What one mistake costs, as the relative RMS error of the output of the CIFAR-10
network, for random weights as diffusers initialises them, and with norms and biases random as well
(``python tests/unet_mistakes.py``; median of 3 networks each):

    padding=1 in the stride-2 convolutions        39 %      47 %
    cosines before sines                          15 %      18 %
    no silu before time_emb_proj                  11 %      14 %
    frequencies divided by 64, not 63              8 %     9.8 %
    heads of 8 channels, not one head            2.1 %     4.7 %
    GroupNorm eps 1e-5, not 1e-6              0.0052 %  0.0022 %

Therefore ``load_diffusers`` checks all names and shapes, and every field of the configuration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .unet import UNet, UNetConfig

__all__ = ["WEIGHTS", "PublishedUNet", "load_diffusers", "translate"]

StateDict = Mapping[str, Tensor]
WEIGHTS = "diffusion_pytorch_model.safetensors"

# Before 2023 attention was named so; both names are found in the wild.
OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

# Fields of config.json that change the function computed, and what is implemented here: the paper's
# choices. A field that a file leaves out has diffusers' default, often another than the paper's.
# name: (diffusers' default, the one value supported)
FIXED: dict[str, tuple[Any, Any]] = {
    "freq_shift": (0, 1),
    "flip_sin_to_cos": (True, False),
    "downsample_padding": (1, 0),
    "center_input_sample": (False, False),
    "time_embedding_type": ("positional", "positional"),
    "time_embedding_dim": (None, None),
    "mid_block_type": ("UNetMidBlock2D", "UNetMidBlock2D"),
    "mid_block_scale_factor": (1, 1),
    "add_attention": (True, True),
    "attn_norm_num_groups": (None, None),
    "downsample_type": ("conv", "conv"),
    "upsample_type": ("conv", "conv"),
    "act_fn": ("silu", "silu"),
    "resnet_time_scale_shift": ("default", "default"),
    "class_embed_type": (None, None),
    "num_class_embeds": (None, None),
}
FREE = {  # fields that UNetConfig has, with diffusers' defaults
    "in_channels": 3, "out_channels": 3, "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2, "attention_head_dim": 8, "norm_num_groups": 32, "norm_eps": 1e-5,
    "dropout": 0.0,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
UNUSED = {"sample_size", "num_train_timesteps"}  # the first is a hint; the second needs "learned"


class PublishedUNet(UNet):
    """A UNet whose weights were trained with t counted from 0: takes t in 1..T, shows it t - 1."""

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """x: (B, C, H, W); t: (B,) in 1..T, as everywhere in this library."""
        return super().forward(x, t - 1, y)


def load_diffusers(
    source: str | Path | StateDict, config: Mapping[str, Any] | UNetConfig | None = None
) -> UNet:
    """A UNet in eval mode with the weights of a file for diffusers' UNet2DModel.

    Args:
        source: a folder with config.json and diffusion_pytorch_model.safetensors, a .safetensors
            file, or a state dict. Attention may have its names of now (to_q, ...) or of before
            2023 (query, ...). Weights are converted to float32.
        config: the content of config.json, or a UNetConfig. None: the config.json beside the file;
            where there is none, the network of google/ddpm-cifar10-32.

    Raises:
        ValueError: no such file, or not a safetensors file; a configuration that this U-Net cannot
            compute, by field and value; tensors missing, left over, or of another shape, by name.
    """
    tensors = dict(source) if isinstance(source, Mapping) else _read(Path(source))
    if config is None:
        config = UNetConfig(dropout=0.0) if isinstance(source, Mapping) else _beside(Path(source))
    if not isinstance(config, UNetConfig):
        config = translate(config)
    tensors = {_new_name(key): value for key, value in tensors.items()}
    with torch.device("meta"):
        model = PublishedUNet(config)
    _check(tensors, model.state_dict())
    weights = {key: value.to(torch.float32, copy=True) for key, value in tensors.items()}
    model.load_state_dict(weights, assign=True)
    return model.eval()


def translate(fields: Mapping[str, Any]) -> UNetConfig:
    """The UNetConfig that computes the same as UNet2DModel(**fields).

    Raises:
        ValueError: a field is unknown, or has a value that is not implemented; all are named.
    """
    fields = {key: value for key, value in fields.items() if not key.startswith("_")}
    unknown = fields.keys() - FIXED.keys() - FREE.keys() - UNUSED
    wrong = [f"unknown field {key}={fields[key]!r}" for key in sorted(unknown)]
    for key, (default, supported) in FIXED.items():
        if fields.get(key, default) != supported:
            given = "" if key in fields else ", the default where the field is missing"
            wrong.append(f"{key}={fields.get(key, default)!r}{given} (only {supported!r})")
    get = {**FREE, **fields}
    if get["out_channels"] not in (get["in_channels"], 2 * get["in_channels"]):
        wrong.append(f"out_channels={get['out_channels']} with in_channels={get['in_channels']}")
    levels, wrong_types = _attention_levels(get["down_block_types"], get["up_block_types"])
    if wrong + wrong_types:
        raise ValueError("this U-Net cannot compute " + "; ".join(wrong + wrong_types))
    return UNetConfig(
        image_channels=get["in_channels"],
        channels=get["block_out_channels"],
        blocks=get["layers_per_block"],
        attention=levels,
        head_dim=get["attention_head_dim"],
        dropout=get["dropout"],
        groups=get["norm_num_groups"],
        eps=get["norm_eps"],
        learned_variance=get["out_channels"] != get["in_channels"],
    )


def _attention_levels(
    down: tuple[str, ...], up: tuple[str, ...]
) -> tuple[tuple[int, ...], list[str]]:
    """Levels with attention, and what is wrong with the types: both ways must say the same."""
    kinds = {"DownBlock2D": False, "AttnDownBlock2D": True}
    kinds_up = {"UpBlock2D": False, "AttnUpBlock2D": True}
    down_attends = [kinds.get(kind) for kind in down]
    up_attends = [kinds_up.get(kind) for kind in reversed(up)]
    levels = tuple(i for i, attends in enumerate(down_attends) if attends)
    if None in down_attends or down_attends != up_attends:
        return levels, [f"down_block_types={list(down)} with up_block_types={list(up)}"]
    return levels, []


def _read(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"no file {file}: give a .safetensors file, or a folder with {WEIGHTS}")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(
            f"{file} is not a readable safetensors file ({error}); a .bin file is a pickle, which "
            "this library does not open: take the .safetensors file published with it"
        ) from error


def _beside(path: Path) -> Mapping[str, Any] | UNetConfig:
    file = (path if path.is_dir() else path.parent) / "config.json"
    if not file.is_file():
        return UNetConfig(dropout=0.0)
    try:
        fields = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{file} must hold a JSON object, got {type(fields).__name__}")
    return fields


def _new_name(key: str) -> str:
    stem, _, kind = key.rpartition(".")
    parent, _, layer = stem.rpartition(".")
    return f"{parent}.{OLD_NAMES[layer]}.{kind}" if layer in OLD_NAMES else key


def _check(found: StateDict, wanted: StateDict) -> None:
    """Raise ValueError unless both have the same names and shapes."""
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in wanted
        if key in found and found[key].shape != wanted[key].shape
    ]
    problems = {
        "missing": [key for key in wanted if key not in found],
        "unexpected": [key for key in found if key not in wanted],
        "of the wrong shape": shapes,
    }
    text = [f"{len(keys)} {kind}: {_some(keys)}" for kind, keys in problems.items() if keys]
    if text:
        raise ValueError(
            f"these weights do not fit the configuration; tensors {'; '.join(text)}. "
            "Pass the config.json that belongs to them"
        )


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:4]) + (", ..." if len(keys) > 4 else "")
