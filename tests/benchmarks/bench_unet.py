"""Our U-Net beside diffusers' UNet2DModel: forward, training step, DDIM, memory.

    python tests/benchmarks/bench_unet.py                          # a small net, and the paper's
    python tests/benchmarks/bench_unet.py --net cifar10 --batch 512 --dtype bfloat16 \\
        --channels-last --compile                                  # as one trains it on a GPU
    python tests/benchmarks/bench_unet.py --ddp      # denoising-diffusion-pytorch's Unet as well

Each library with its own sampler; a training step is mean squared error, backward, Adam. Diffusers
gets our configuration, so it does the same arithmetic. The third is another architecture, and comes
twice, with its default widths per level and with ours, each in the size of nearest parameter count.
Batch, number format (by autocast) and memory format are the same for all.

The limit is our FLOPs, as PyTorch counts them, at the speed of the machine's matrix product in the
same round. Peak memory of training is what a fresh process grows by when it makes the network and
two steps; its limit is what has to be there when backward begins: the weights, Adam's two moments
of each, and the tensors that autograd saved.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version

import torch
from measure import MissingError, Row, as_memory, compare, fresh, growth, main, product, row
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import diffusion_edu as de
from diffusion_edu.nets.unet import UNet, UNetConfig

T, SCHEDULE = 1000, de.linear(1000)
NETS = {
    "tiny": UNetConfig(3, (16, 32), blocks=1, groups=8, dropout=0.0),
    "small": UNetConfig(3, (64, 128, 128, 128), dropout=0.0),
    "cifar10": UNetConfig(dropout=0.0),
}


@dataclass
class Side:
    """One library's network in one mode, with its ways to predict noise and to sample."""

    name: str
    net: nn.Module
    predict: Callable[[nn.Module, Tensor, Tensor], Tensor]  # t counts from 0
    sample: Callable[[nn.Module, Tensor, int], Tensor]


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def ours(config: UNetConfig) -> Side:
    def sample(net: nn.Module, x: Tensor, steps: int) -> Tensor:
        return de.ddim(net, x, SCHEDULE, steps, clip=1.0)

    return Side("diffusion_edu", UNet(config), lambda net, x, t: net(x, t + 1), sample)


def diffusers_name() -> str:
    return f"diffusers {version('diffusers')} UNet2DModel"


def of_diffusers(config: UNetConfig) -> Side:
    from diffusers import DDIMScheduler, UNet2DModel

    attends = [i in config.attention for i in range(len(config.channels))]
    net = UNet2DModel(
        in_channels=config.image_channels, out_channels=config.image_channels,
        block_out_channels=config.channels, layers_per_block=config.blocks,
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        freq_shift=1, flip_sin_to_cos=False, downsample_padding=0, attention_head_dim=None,
        norm_num_groups=config.groups, norm_eps=config.eps,
    )  # fmt: skip
    scheduler = DDIMScheduler(T, 1e-4, 0.02, "linear", timestep_spacing="trailing")

    def sample(net: nn.Module, x: Tensor, steps: int) -> Tensor:
        scheduler.set_timesteps(steps, device=x.device)
        for t in scheduler.timesteps:
            x = scheduler.step(net(x, t).sample, t, x).prev_sample
        return x

    return Side(diffusers_name(), net, lambda net, x, t: net(x, t).sample, sample)


def of_ddp(config: UNetConfig, size: int, mults: tuple[int, ...]) -> Side:
    """denoising-diffusion-pytorch's Unet of the nearest number of parameters."""
    try:
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet
        from denoising_diffusion_pytorch import denoising_diffusion_pytorch as package
    except RuntimeError as error:  # its torchvision does not fit torch
        raise MissingError(f"denoising-diffusion-pytorch cannot be imported: {error}") from error
    package.tqdm = lambda steps, **_: steps  # no progress bars
    make = partial(Unet, channels=config.image_channels, dim_mults=mults)
    with torch.device("meta"):
        wanted = count(UNet(config))
        dim = min(range(16, 257, 16), key=lambda dim: abs(count(make(dim)) - wanted))

    @cache
    def chain(net: nn.Module, steps: int, device: torch.device) -> nn.Module:
        return GaussianDiffusion(net, image_size=size, sampling_timesteps=steps).to(device)

    def sample(net: nn.Module, x: Tensor, steps: int) -> Tensor:
        return chain(net, steps, x.device).ddim_sample(tuple(x.shape))

    return Side(f"ddp Unet({dim}, {mults})", make(dim), lambda net, x, t: net(x, t), sample)


# ---- what is timed -------------------------------------------------------------------------------


class Job:
    """A side in one mode (eager or compiled), and the three things that are timed."""

    def __init__(self, side: Side, net: str, batch: int, options: argparse.Namespace) -> None:
        self.side, self.options = side, options
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        self.net = side.net.to(options.device, memory_format=layout)
        self.optimiser = torch.optim.Adam(self.net.parameters(), 2e-4, fused=self.on_gpu)
        g = torch.Generator().manual_seed(0)
        x = torch.randn(batch, NETS[net].image_channels, options.size, options.size, generator=g)
        self.x = x.to(options.device, memory_format=layout)
        self.t = torch.randint(T, (batch,), generator=g).to(options.device)

    @property
    def on_gpu(self) -> bool:
        return bool(self.options.device == "cuda")

    def compiled(self) -> Job:
        """The same with its network compiled."""
        job = copy.copy(self)
        job.net = torch.compile(self.net)
        return job

    def amp(self) -> torch.autocast:
        dtype = getattr(torch, self.options.dtype)
        return torch.autocast(self.options.device, dtype, enabled=dtype != torch.float32)

    def forward(self) -> None:
        with torch.no_grad(), self.amp():
            self.side.predict(self.net, self.x, self.t)
        self.wait()

    def train(self) -> None:
        with self.amp():
            eps = self.side.predict(self.net, self.x, self.t)
        (eps.float() - self.x).square().mean().backward()
        self.optimiser.step()
        self.optimiser.zero_grad()
        self.wait()

    def sample(self) -> None:
        with torch.no_grad(), self.amp():
            self.side.sample(self.net, self.x, self.options.steps)
        self.wait()

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()


def flops(call: Callable[[], object]) -> int:
    """Floating-point operations of one call, counted by PyTorch: products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def peers(config: UNetConfig, options: argparse.Namespace) -> Iterator[Side]:
    yield of_diffusers(config)
    if options.ddp:
        relative = tuple(c // config.channels[0] for c in config.channels)
        for widths in dict.fromkeys([(1, 2, 4, 8)[: len(relative)], relative]):
            yield of_ddp(config, options.size, widths)


def times(options: argparse.Namespace) -> Iterator[Row]:
    if options.threads:
        torch.set_num_threads(options.threads)
    for net in [options.net] if options.net else ["small", "cifar10"]:
        batch = options.batch or (2 if net == "cifar10" else 16)
        sides = ours(NETS[net]), *peers(NETS[net], options)
        mine, *others = (Job(side, net, batch, options) for side in sides)
        for other in others:
            yield from rows(net, mine, other)
            if options.compile:
                yield from rows(f"{net}, compiled", mine.compiled(), other.compiled(), mine)


def rows(net: str, mine: Job, other: Job, eager: Job | None = None) -> Iterator[Row]:
    """Forward, training step and sampling of a pair; a compiled network cannot be counted."""
    options, batch = mine.options, len(mine.x)
    n = 8192 if mine.on_gpu else 1024
    least = product(n, options.device, getattr(torch, options.dtype))
    for name, what, steps in (
        ("forward", "forward", 1),
        ("train", "training step", 1),
        ("sample", f"DDIM, {options.steps} steps", options.steps),
    ):
        counted = "forward" if name == "sample" else name
        work = flops(getattr(eager or mine, counted)) * steps
        yield compare(
            f"U-Net {net}, batch {batch}, {options.size}x{options.size}: {what}",
            options.rounds,
            getattr(mine, name),
            other.side.name,
            getattr(other, name),
            f"its {work / batch / 1e9:.2f} GFLOP an image",
            least,
            work / (2 * n**3),
        )


# ---- memory --------------------------------------------------------------------------------------


def held(make: Callable[[UNetConfig], Side], options: argparse.Namespace) -> tuple[int, int]:
    """(bytes that a network and two training steps need at their peak, those of the limit)."""
    if options.threads:
        torch.set_num_threads(options.threads)
    Job(make(NETS["tiny"]), "tiny", 1, options).train()  # loads what a step uses
    jobs: list[Job] = []

    def work() -> None:
        jobs.append(Job(make(NETS["small"]), "small", 16, options))
        jobs[0].train()
        jobs[0].train()  # now Adam has its moments

    grown, (job,) = growth(work), jobs
    saved: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        saved[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        job.side.predict(job.net, job.x, job.t)
    weights = {p.untyped_storage().data_ptr(): p.nbytes for p in job.net.parameters()}
    saved |= dict.fromkeys(weights, 0)  # counted already
    return grown, 3 * sum(weights.values()) + sum(saved.values())


def memory(options: argparse.Namespace) -> Iterator[Row]:
    """Each side in a process of its own, on the CPU."""
    cpu = argparse.Namespace(**vars(options) | {"device": "cpu", "dtype": "float32", "size": 32})
    (mine, least), (theirs, _) = (fresh(held, make, cpu) for make in (ours, of_diffusers))
    what, limit = "U-Net small, batch 16: peak memory of training", "weights, Adam's, what is saved"
    yield row(what, [mine], diffusers_name(), [theirs], limit, [least], as_memory)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--net", choices=NETS, default=None, help="default: small and cifar10")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=None, help="default: 16; cifar10: 2")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3, help="of DDIM")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true", help="time compiled networks as well")
    parser.add_argument("--ddp", action="store_true", help="denoising-diffusion-pytorch as well")
    parser.add_argument("--threads", type=int, default=None)
    return parser


if __name__ == "__main__":
    main(__doc__, [times, memory], parser(), rounds=3)
