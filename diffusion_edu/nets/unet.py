"""DDPM's U-Net for images (Ho et al. 2006.11239, appendix B), named as published checkpoints are.

    x_t -> conv_in -> down_blocks -> mid_block -> up_blocks -> conv_norm_out, silu, conv_out -> eps
                           +------ skips -------^

Every residual block is told the time by one vector e. By default 35,746,307 parameters.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from .._checks import check_count
from .mlp import time_embedding

__all__ = ["Attention", "ResnetBlock", "Stage", "UNet", "UNetConfig", "classes_of", "has_variance"]


@dataclass(frozen=True)
class UNetConfig:
    """Shape of a U-Net, by default the paper's for CIFAR-10; ValueError for impossible ones."""

    image_channels: int = 3  # C of the images (B, C, H, W)
    channels: tuple[int, ...] = (128, 256, 256, 256)  # of each level; the next has half the size
    blocks: int = 2  # residual blocks per level on the way down; one more on the way up
    attention: tuple[int, ...] = (1,)  # levels, 0 the finest, that have it; the middle always does
    head_dim: int | None = None  # channels per attention head; None: one head, as in the paper
    dropout: float = 0.1  # inside the residual blocks, while training
    groups: int = 32  # of every GroupNorm
    eps: float = 1e-6  # of every GroupNorm
    classes: int = 0  # the null class of guidance is one more, the last; 0: no classes at all
    learned_variance: bool = False  # 2C output channels: the prediction, v of ``learned_variance``
    T: int = 1000  # the network sees 1000 t/T: its weights do not depend on the chain's length
    patch: int = 1  # squares of patch x patch pixels become one position of C patch^2 channels

    def __post_init__(self) -> None:
        for name in ("channels", "attention"):  # lists, when read from JSON
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("image_channels", "blocks", "groups", "T", "patch"):
            check_count(getattr(self, name), 1, None, name)
        check_count(self.classes, 0, None, "classes")
        check_count(head := 1 if self.head_dim is None else self.head_dim, 1, None, "head_dim")
        for c in self.channels or (0,):  # norm2 of one-channel groups would remove what e adds
            if c < max(4, 2 * self.groups) or c % 2 or c % self.groups or c % head:
                raise ValueError(
                    f"channels must be even, at least 4, multiples of groups={self.groups} (twice "
                    f"it or more) and of head_dim={self.head_dim}, got channels={self.channels}"
                )
        for level in self.attention:
            check_count(level, 0, len(self.channels) - 1, "each level of attention")


class ResnetBlock(nn.Module):
    """x + conv2(dropout(silu(norm2(conv1(silu(norm1(x))) + W e)))); x by a 1x1 if widths differ."""

    def __init__(self, c_in: int, c_out: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(config.groups, c_in, config.eps)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.time_emb_proj = nn.Linear(4 * config.channels[0], c_out)
        self.norm2 = nn.GroupNorm(config.groups, c_out, config.eps)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.conv_shortcut = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """x: (B, c_in, H, W); e: (B, 4 channels[0]), the time -> (B, c_out, H, W)."""
        h = self.conv1(F.silu(self.norm1(x), inplace=True)) + self.time_emb_proj(e)[..., None, None]
        h = self.conv2(self.dropout(F.silu(self.norm2(h), inplace=True)))
        out: Tensor = self.conv_shortcut(x) + h
        return out


class Attention(nn.Module):
    """x + W_o softmax(q k^T / sqrt(d)) v over all H W pixels; q, k, v linear in GroupNorm(x)."""

    def __init__(self, c: int, config: UNetConfig) -> None:
        super().__init__()
        self.heads = c // (config.head_dim or c)
        self.group_norm = nn.GroupNorm(config.groups, c, config.eps)
        self.to_q, self.to_k, self.to_v = nn.Linear(c, c), nn.Linear(c, c), nn.Linear(c, c)
        self.to_out = nn.Sequential(nn.Linear(c, c))

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, C, H, W) -> (B, C, H, W)."""
        h = self.group_norm(x).flatten(2).transpose(1, 2)  # (B, H W, C)
        q, k, v = (
            to(h).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, H W, C / heads)
            for to in (self.to_q, self.to_k, self.to_v)
        )
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.to_out(h).transpose(1, 2).reshape(x.shape)
        return x + out


def _downsample(c: int) -> nn.Module:
    """Half the size by stride 2, padded as TensorFlow does: on the right and below alone."""
    pad, conv = nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(c, c, 3, stride=2)
    return nn.Sequential(OrderedDict(pad=pad, conv=conv))


def _upsample(c: int) -> nn.Module:
    """Twice the size: every pixel four times, then a convolution."""
    repeat, conv = nn.Upsample(scale_factor=2.0), nn.Conv2d(c, c, 3, padding=1)
    return nn.Sequential(OrderedDict(repeat=repeat, conv=conv))


class Stage(nn.Module):
    """Residual blocks c_in -> c_out, the first ``attended`` with attention; perhaps a resize."""

    def __init__(self, c_in: list[int], c_out: int, attended: int, config: UNetConfig) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(c, c_out, config) for c in c_in)
        self.attentions = nn.ModuleList(Attention(c_out, config) for _ in range(attended))
        self.attentions.extend(nn.Identity() for _ in c_in[attended:])
        self.downsamplers, self.upsamplers = nn.ModuleList(), nn.ModuleList()  # of length 0 or 1

    def forward(self, h: Tensor, e: Tensor, skips: list[Tensor] | None = None) -> list[Tensor]:
        """All outputs, the result last. On the way up each block also takes the last skip."""
        outputs = []
        for block, attention in zip(self.resnets, self.attentions, strict=True):
            h = attention(block(torch.cat([h, skips.pop()], 1) if skips else h, e))
            outputs.append(h)
        return outputs + [resize(h) for resize in (*self.downsamplers, *self.upsamplers)]


class UNet(nn.Module):
    """model(x_t (B, C, H, W), t (B,) in 1..T, y=None) -> (B, C, H, W): the predicted noise.

    Initialised as in the paper's code: weights uniform of variance 2/(fan_in + fan_out), but zero
    where a branch ends, so that it starts closed: blocks pass x on, and the output is zero.
    """

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or UNetConfig()
        c, colours = config.channels, config.image_channels * config.patch**2
        one, two = nn.Linear(c[0], dim := 4 * c[0]), nn.Linear(dim, dim)
        self.time_embedding = nn.Sequential(OrderedDict(linear_1=one, act=nn.SiLU(), linear_2=two))
        self.class_embedding = nn.Embedding(config.classes + 1, dim) if config.classes else None
        self.conv_in = nn.Conv2d(colours, c[0], 3, padding=1)
        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        for level in range(len(c)):
            self._add_level(level)
        self.mid_block = Stage([c[-1], c[-1]], c[-1], 1, config)
        self.conv_norm_out = nn.GroupNorm(config.groups, c[0], config.eps)
        self.conv_out = nn.Conv2d(c[0], colours * (1 + config.learned_variance), 3, padding=1)
        for name, p in self.named_parameters():
            if name.endswith(("bias", "conv2.weight", "to_out.0.weight", "conv_out.weight")):
                nn.init.zeros_(p)
            elif p.ndim > 1 and name != "class_embedding.weight":
                nn.init.xavier_uniform_(p)

    def _add_level(self, i: int) -> None:
        config, c, n = self.config, self.config.channels, self.config.blocks
        finer, out, coarser = c[max(i - 1, 0)], c[i], c[min(i + 1, len(c) - 1)]
        ups = [coarser + out] + [out + out] * (n - 1) + [out + finer]  # what comes + what is taken
        attends = i in config.attention
        down = Stage([finer] + [out] * (n - 1), out, n * attends, config)
        up = Stage(ups, out, (n + 1) * attends, config)
        if i < len(c) - 1:
            down.downsamplers.append(_downsample(out))
        if i > 0:
            up.upsamplers.append(_upsample(out))
        self.down_blocks.append(down)
        self.up_blocks.insert(0, up)

    def embed(self, t: Tensor, y: Tensor | None) -> Tensor:
        """The vector e of (B, 4 channels[0]): sinusoids of t, two layers, plus the class; silu."""
        e = time_embedding(t * (1000 / self.config.T), self.config.channels[0])
        e = self.time_embedding(e.to(self.conv_in.weight.dtype))
        if self.class_embedding is not None:
            null = torch.full_like(t, self.config.classes)
            e = e + self.class_embedding(null if y is None else y)
        elif y is not None:
            raise ValueError("y was given, but this network has classes=0: leave y out")
        return F.silu(e)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """x: (B, C, H, W); t: (B,) in 1..T; y: (B,) int64 classes, None = the null class."""
        c, patch = self.config.image_channels, self.config.patch
        f = patch * 2 ** (len(self.config.channels) - 1)
        if x.ndim != 4 or x.shape[1] != c or x.shape[2] % f or x.shape[3] % f:
            raise ValueError(
                f"x must have shape (B, {c}, H, W), H and W divisible by {f}, got "
                f"{tuple(x.shape)}: pad the images, for instance 28x28 to 32x32"
            )
        e = self.embed(t, y)
        skips = [self.conv_in(F.pixel_unshuffle(x, patch))]
        for down in self.down_blocks:
            skips += down(skips[-1], e)
        h = self.mid_block(skips[-1], e)[-1]
        for up in self.up_blocks:
            h = up(h, e, skips)[-1]
        eps: Tensor = self.conv_out(F.silu(self.conv_norm_out(h), inplace=True))
        return F.pixel_shuffle(eps, patch)


def classes_of(model: nn.Module) -> int:
    """How many classes a network can be told, by its ``config``; 0: none, or there is no config."""
    return int(getattr(getattr(model, "config", None), "classes", 0))


def has_variance(model: nn.Module) -> bool:
    """Whether a network predicts the variance too, by its ``config``."""
    return bool(getattr(getattr(model, "config", None), "learned_variance", False))
