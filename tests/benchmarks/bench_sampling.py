"""Our loop beside diffusers' DDIMScheduler, and an exact oracle beside its matrix products.

    python tests/benchmarks/bench_sampling.py [--threads 1] [--repeats 9]

Prints ratios of medians; both sides of a ratio are timed in turn (A B A B), so that a busy machine
slows both alike. Nothing is asserted: times depend on the machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from torch import Tensor

import diffusion_edu as de

STEPS, T = 50, 1000
Model = Callable[[Tensor, Tensor], Tensor]
SCHEDULE = de.linear(T)


def interleaved(
    a: Callable[[], object], b: Callable[[], object], repeats: int
) -> tuple[float, float]:
    """Median seconds of a and of b, called in turn after one warm-up each."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(repeats + 1):
        for call, record in zip((a, b), times, strict=True):
            start = time.perf_counter()
            call()
            if i:
                record.append(time.perf_counter() - start)
    return median(times[0]), median(times[1])


def nothing(x: Tensor, t: Tensor) -> Tensor:
    """A network that costs nothing: all time goes to the loop."""
    return x


def ours(model: Model, x: Tensor) -> Tensor:
    return de.ddim(model, x, SCHEDULE, STEPS)


@torch.no_grad()
def theirs(model: Model, x: Tensor) -> Tensor:
    """The same levels with diffusers: "trailing" is 999, 979, ..., 19; its 0 is our t = 1."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        T,
        1e-4,
        0.02,
        "linear",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(STEPS)
    for t in scheduler.timesteps:
        eps = model(x, (t + 1).expand(len(x)))
        x = scheduler.step(eps, t, x, eta=0.0).prev_sample
    return x


def compare_loops(repeats: int) -> None:
    g = torch.Generator().manual_seed(0)
    mlp = de.MLP(width=128, depth=3).eval()
    for parameter in mlp.parameters():  # a fresh network predicts 0; let every layer do something
        torch.nn.init.normal_(parameter, std=0.05, generator=g)
    print(
        f"DDIM, {STEPS} steps: median seconds, ratio = diffusers / ours (above 1: ours is faster)"
    )
    for name, model, n in (
        ("MLP 3x128, 10,000 points", mlp, 10_000),
        ("no network, 10,000 points", nothing, 10_000),
        ("no network, 100 points", nothing, 100),
    ):
        x = torch.randn(n, 2, generator=g)
        gap = float((ours(model, x) - theirs(model, x)).abs().max() / ours(model, x).abs().max())
        a, b = interleaved(partial(ours, model, x), partial(theirs, model, x), repeats)
        print(
            f"  {name:26} ours {a:.4f}  diffusers {b:.4f}  ratio {b / a:.2f}   "
            f"results differ by {gap:.0e}"
        )


def surface(n: int, dim: int, latent: int, g: torch.Generator) -> Tensor:
    """Data as images are: in [-1, 1]^dim, on a curved surface of few dimensions."""
    z, basis = torch.randn(n, latent, generator=g), torch.randn(latent, dim, generator=g)
    return torch.tanh(z @ basis / latent**0.5)


def both_products(x: Tensor, data: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The work that the formula cannot avoid: all distances, and the weighted mean of all data."""
    return x @ data.T, weights @ data


def oracle_fraction(repeats: int, n: int = 60_000, dim: int = 784, batch: int = 64) -> None:
    """EmpiricalOracle beside the products of its formula, x d^T and w d, both whole."""
    g = torch.Generator().manual_seed(0)
    data = surface(n, dim, 16, g)
    oracle = de.EmpiricalOracle(data, SCHEDULE)
    weights = torch.rand(batch, n, generator=g)
    print(
        f"EmpiricalOracle, {n:,} x {dim} data, batch {batch}, float32: the products x d^T and w d "
        "as a fraction of the whole"
    )
    fractions = []
    for t in (1, 125, 250, 375, 500, 625, 750, 875, 1000):
        eps = torch.randn(batch, dim, generator=g)
        x = de.q_sample(data[:batch], t, eps, SCHEDULE)
        call, must = partial(oracle, x, t), partial(both_products, x, data, weights)
        whole, products = interleaved(call, must, repeats)
        fractions.append(products / whole)
        print(
            f"  t = {t:4}  products {products:.4f} s  whole {whole:.4f} s  fraction "
            f"{products / whole:.2f}"
        )
    print(
        f"  over these t: median {median(fractions):.2f}, worst {min(fractions):.2f}. Above 1 with "
        "little noise: weights that vanish leave out the second product"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1, help="of torch; 1 is steadiest")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s), {options.repeats} repeats")
    compare_loops(options.repeats)
    oracle_fraction(max(3, options.repeats // 2))


if __name__ == "__main__":
    main()
