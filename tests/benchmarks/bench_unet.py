"""Our U-Net beside diffusers' UNet2DModel and denoising-diffusion-pytorch's Unet.

    python tests/benchmarks/bench_unet.py                          # small network, float32
    python tests/benchmarks/bench_unet.py --net cifar10 --batch 512 --dtype bfloat16 \\
        --channels-last --compile                                  # the paper's, on a GPU

Forward, training step (mean squared error, backward, Adam) and DDIM sampling, each library with
its own sampler. Diffusers gets our configuration, so it does the same arithmetic. The third is
another architecture, and comes twice, with its default widths per level and with ours, each in the
size of nearest parameter count: FLOPs per image are printed. Batch, number format (by autocast) and
memory format are the same for all; all are timed in turn (A B C A B C), so that a busy machine
slows them alike. Nothing is asserted: times depend on the machine.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from statistics import median

import torch
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

    return Side("diffusers", net, lambda net, x, t: net(x, t).sample, sample)


def of_ddp(config: UNetConfig, size: int, mults: tuple[int, ...]) -> Side | None:
    """denoising-diffusion-pytorch's Unet of the nearest number of parameters; None if missing."""
    try:
        from denoising_diffusion_pytorch import GaussianDiffusion, Unet
        from denoising_diffusion_pytorch import denoising_diffusion_pytorch as package
    except (ImportError, RuntimeError) as error:  # RuntimeError: its torchvision does not fit torch
        print(f"denoising-diffusion-pytorch left out, it cannot be imported: {error}")
        return None
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


# --- what is timed --------------------------------------------------------------------------------


class Job:
    """A side in one mode (eager or compiled), and the three things that are timed."""

    def __init__(self, side: Side, compiled: bool, options: argparse.Namespace) -> None:
        self.side, self.options = side, options
        self.name = side.name + (", compiled" if compiled else "")
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        net = copy.deepcopy(side.net).to(options.device, memory_format=layout)
        self.net = torch.compile(net) if compiled else net
        self.compiled, fused = compiled, options.device == "cuda"
        self.optimiser = torch.optim.Adam(net.parameters(), 2e-4, fused=fused)
        g = torch.Generator().manual_seed(0)
        colours = NETS[options.net].image_channels
        x = torch.randn(options.batch, colours, options.size, options.size, generator=g)
        self.x = x.to(options.device, memory_format=layout)
        self.t = torch.randint(T, (options.batch,), generator=g).to(options.device)
        self.work = {"forward": 0, "train": 0}
        if not compiled:
            self.work = {what: flops(getattr(self, what)) for what in self.work}

    def amp(self) -> torch.autocast:
        dtype = getattr(torch, self.options.dtype)
        return torch.autocast(self.options.device, dtype, enabled=dtype != torch.float32)

    @torch.no_grad()
    def forward(self) -> None:
        with self.amp():
            self.side.predict(self.net, self.x, self.t)

    def train(self) -> None:
        with self.amp():
            eps = self.side.predict(self.net, self.x, self.t)
        (eps.float() - self.x).square().mean().backward()
        self.optimiser.step()
        self.optimiser.zero_grad()

    @torch.no_grad()
    def sample(self) -> None:
        with self.amp():
            self.side.sample(self.net, self.x, self.options.steps)


def seconds(call: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(calls: list[Callable[[], object]], repeats: int, device: str) -> list[float]:
    """Median seconds of each call, all called in turn after two warm-up rounds."""
    rounds = [[seconds(call, device) for call in calls] for _ in range(repeats + 2)]
    return [median(column) for column in zip(*rounds[2:], strict=True)]


def matmul_peak(options: argparse.Namespace) -> float:
    """FLOP/s of the product of two square matrices in the number format of the run."""
    n = 8192 if options.device == "cuda" else 2048
    a = torch.randn(n, n, device=options.device, dtype=getattr(torch, options.dtype))
    (best,) = interleaved([lambda: a @ a], 10, options.device)
    return 2 * n**3 / best


def flops(call: Callable[[], object]) -> int:
    """Floating-point operations of one call, counted by PyTorch: products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def report(jobs: list[Job], what: str, options: argparse.Namespace, peak: float) -> None:
    """One line per job: images/s, ours over it, and the share of the measured peak."""
    times = interleaved([getattr(job, what) for job in jobs], options.repeats, options.device)
    steps = options.steps if what == "sample" else 1
    title = {"train": "training step", "sample": f"DDIM, {steps} steps"}.get(what, what)
    best = min(spent for job, spent in zip(jobs, times, strict=True) if job.side is jobs[0].side)
    print(f"{title}: images/s; ratio = our best / this; FLOP/s as a share of the matrix product's")
    for job, spent in zip(jobs, times, strict=True):
        eager = next(j for j in jobs if j.side is job.side)  # a compiled network is not counted
        work = eager.work["train" if what == "train" else "forward"] * steps
        print(
            f"  {job.name:34} {options.batch / spent:10.1f}   ratio {spent / best:.2f}"
            f"   {100 * work / spent / peak:3.0f} %"
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=NETS, default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5, help="of DDIM")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true", help="time compiled networks as well")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    config = NETS[options.net]
    relative = tuple(c // config.channels[0] for c in config.channels)
    widths = dict.fromkeys([(1, 2, 4, 8)[: len(relative)], relative])
    sides = [ours(config), of_diffusers(config)]
    sides += [of_ddp(config, options.size, mults) for mults in widths]
    modes = (False, True) if options.compile else (False,)
    jobs = [Job(side, mode, options) for mode in modes for side in sides if side]
    for job in jobs[: len(jobs) // len(modes)]:
        f, b = (work / options.batch / 1e9 for work in job.work.values())
        print(f"{job.name:34} {count(job.net):12,} parameters  {f:.2f} GFLOP, training {b:.2f}")
    peak = matmul_peak(options)
    where = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(
        f"{where}, {torch.get_num_threads()} threads, batch {options.batch}, {options.dtype}, "
        f"channels_last={options.channels_last}; matrix product {peak / 1e12:.3g} TFLOP/s"
    )
    for what in ("forward", "train", "sample"):
        report(jobs, what, options, peak)


if __name__ == "__main__":
    main()
