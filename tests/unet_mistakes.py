"""What six classic mistakes cost when published weights are loaded into a U-Net written anew.

    python tests/unet_mistakes.py [--seeds 3]

Prints the table in the docstring of ``diffusion_edu.nets.published``. Each network has the weights
of the right one and differs from it in one thing, patched here. The error is that of the output,
RMS(wrong - right) / RMS(right), over noise at eight steps t of the chain: the median over networks
with random weights, as diffusers initialises them, and with norms and biases random as well.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from statistics import median

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from diffusion_edu.nets.mlp import time_embedding
from diffusion_edu.nets.published import load_diffusers
from diffusion_edu.nets.unet import Attention, UNet

CIFAR10 = {  # config.json of google/ddpm-cifar10-32
    "sample_size": 32,
    "in_channels": 3,
    "out_channels": 3,
    "block_out_channels": (128, 256, 256, 256),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "downsample_padding": 0,
    "attention_head_dim": None,
    "norm_num_groups": 32,
    "norm_eps": 1e-6,
    "act_fn": "silu",
    "mid_block_scale_factor": 1,
    "center_input_sample": False,
}
STEPS = (1, 2, 10, 50, 200, 500, 800, 1000)


def reference(config: dict = CIFAR10, seed: int = 0, perturb: bool = True) -> UNet2DModel:
    """A diffusers network with random weights; perturbed: no norm is 1, no bias is 0 either."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = UNet2DModel(**config).eval()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters() if perturb else ():
            scale = 0.1 if p.ndim == 1 else float(p.std())
            p.add_(scale * torch.randn(p.shape, generator=g))
    return net


def symmetric_padding(net: UNet) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.ZeroPad2d):
            layer.padding = (1, 1, 1, 1)


def embed_by(net: UNet, features: Callable[[Tensor], Tensor], last: Callable = F.silu) -> None:
    net.embed = lambda t, y: last(net.time_embedding(features(t)))


def cosines_first(net: UNet) -> None:
    embed_by(net, lambda t: time_embedding(t, 128).roll(64, 1))


def no_second_silu(net: UNet) -> None:
    embed_by(net, lambda t: time_embedding(t, 128), last=lambda e: e)


def frequencies_by_64(net: UNet) -> None:
    frequencies = torch.exp(-math.log(10_000) * torch.arange(64) / 64)

    def features(t: Tensor) -> Tensor:
        angle = t[:, None] * frequencies
        return torch.cat([angle.sin(), angle.cos()], 1)

    embed_by(net, features)


def heads_of_8(net: UNet) -> None:
    for layer in net.modules():
        if isinstance(layer, Attention):
            layer.heads = layer.to_q.in_features // 8


def large_eps(net: UNet) -> None:
    for layer in net.modules():
        if isinstance(layer, nn.GroupNorm):
            layer.eps = 1e-5


MISTAKES: dict[str, Callable[[UNet], None]] = {
    "padding=1 in the stride-2 convolutions": symmetric_padding,
    "cosines before sines": cosines_first,
    "no silu before time_emb_proj": no_second_silu,
    "frequencies divided by 64, not 63": frequencies_by_64,
    "heads of 8 channels, not one head": heads_of_8,
    "GroupNorm eps 1e-5, not 1e-6": large_eps,
}


@torch.no_grad()
def costs(ref: UNet2DModel) -> dict[str, float]:
    """Relative RMS error of our U-Net with the weights of ``ref``, for each mistake; "none" too."""
    t = torch.tensor(STEPS)
    x = torch.randn(len(t), 3, 32, 32, generator=torch.Generator().manual_seed(0))
    right, result = ref(x, t - 1).sample, {}
    for name, make in {"none": lambda net: None, **MISTAKES}.items():
        net = load_diffusers(ref.state_dict())
        make(net)
        error = (net(x, t) - right).square().mean() / right.square().mean()
        result[name] = float(error.sqrt())
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = range(parser.parse_args().seeds)
    plain = [costs(reference(seed=seed, perturb=False)) for seed in seeds]
    perturbed = [costs(reference(seed=seed)) for seed in seeds]
    for name in MISTAKES:
        a, b = (100 * median(run[name] for run in runs) for runs in (plain, perturbed))
        print(f"    {name:40} {a:7.2g} % {b:7.2g} %")
    exact = max(run["none"] for run in plain + perturbed)
    print(f"without a mistake: at most {100 * exact:.1g} %, {len(seeds)} networks of each kind")


if __name__ == "__main__":
    main()
