"""Our DDIM beside diffusers', an exact oracle beside its formula in plain torch, and their memory.

    python tests/benchmarks/bench_sampling.py [--threads 1]

Both sides make the same 50 DDIM steps from the same noise. A network that costs nothing leaves the
loop alone. Limits, measured in the same rounds:

- no network: a step has to read x_t and eps and to write x_0 and x_s, as much as two copies. Torch
  takes two passes for a x + b y, which makes 2.5 times the limit;
- a network: its FLOPs at the speed of a 1024 x 1024 matrix product, which layers as narrow as the
  MLP's do not reach; adding and silu come on top;
- the oracle: the products of its formula, x d^T and w d, both whole. Below 1 is possible: with
  little noise, weights that vanish leave out the second product;
- memory: the tensors of a `Step`. `forward_chain` holds its states as a list before it stacks them,
  twice its result: filling one tensor in place would make backward quadratic in T.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version

import torch
from measure import PRODUCT, Row, as_memory, compare, fresh, growth, main, product, row
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import diffusion_edu as de

STEPS, T = 50, 1000
Model = Callable[[Tensor, Tensor], Tensor]
SCHEDULE = de.linear(T)


def nothing(x: Tensor, t: Tensor) -> Tensor:
    """A network that costs nothing: all time goes to the loop."""
    return x


def ours(model: Model, x: Tensor, chains: int = 1, steps: int = STEPS) -> Tensor:
    for _ in range(chains):
        end = de.ddim(model, x, SCHEDULE, steps)
    return end


@torch.no_grad()
def theirs(model: Model, x_T: Tensor, chains: int = 1, steps: int = STEPS) -> Tensor:
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
    for _ in range(chains):
        x = x_T
        scheduler.set_timesteps(steps)
        for t in scheduler.timesteps:
            eps = model(x, (t + 1).expand(len(x)))
            x = scheduler.step(eps, t, x, eta=0.0).prev_sample
    return x


def mlp() -> de.MLP:
    net, g = de.MLP(width=128, depth=3).eval(), torch.Generator().manual_seed(0)
    for parameter in net.parameters():  # a fresh network predicts 0; let every layer do something
        torch.nn.init.normal_(parameter, std=0.05, generator=g)
    return net


def loops(options: argparse.Namespace) -> Iterator[Row]:
    torch.set_num_threads(options.threads)
    peer = f"diffusers {version('diffusers')} DDIMScheduler"

    def line(what: str, model: Model, x: Tensor, *limit: object, chains: int = 1) -> Row:
        a, b = partial(ours, model, x, chains), partial(theirs, model, x, chains)
        return compare(f"DDIM, {STEPS} steps, {what}", options.rounds, a, peer, b, *limit)

    g = torch.Generator().manual_seed(0)
    x = torch.randn(100, 2, generator=g)
    yield line("100 points, no network, 20 times", nothing, x, chains=20)
    x, y = torch.randn(2, 64, 3, 64, 64, generator=g)
    copies = lambda: [y.copy_(x) for _ in range(2 * STEPS)]  # noqa: E731
    yield line("64 images 3x64x64, no network", nothing, x, "2 copies of x a step", copies)
    net, x = mlp(), torch.randn(10_000, 2, generator=g)
    with FlopCounterMode(display=False) as counter:
        ours(net, x)
    times = counter.get_total_flops() / PRODUCT
    yield line("10,000 points, MLP 3x128", net, x, "its FLOPs", product(), times)


# ---- the oracle ----------------------------------------------------------------------------------


def surface(n: int, dim: int, latent: int, g: torch.Generator) -> Tensor:
    """Data as images are: in [-1, 1]^dim, on a curved surface of few dimensions."""
    z, basis = torch.randn(n, latent, generator=g), torch.randn(latent, dim, generator=g)
    return torch.tanh(z @ basis / latent**0.5)


def plain(x: Tensor, data: Tensor, t: int) -> Tensor:
    """The formula of ``EmpiricalOracle`` as one writes it down."""
    a, b = SCHEDULE.sqrt_alpha_bar[t].item(), SCHEDULE.sqrt_one_minus_alpha_bar[t].item()
    weights = (-torch.cdist(x, a * data).square() / (2 * b * b)).softmax(1)
    return (x - a * (weights @ data)) / b


def oracle(options: argparse.Namespace, n: int = 60_000, dim: int = 784) -> Iterator[Row]:
    torch.set_num_threads(options.threads)
    g = torch.Generator().manual_seed(0)
    data, batch = surface(n, dim, 16, g), 64
    exact, weights = de.EmpiricalOracle(data, SCHEDULE), torch.rand(batch, n, generator=g)
    for t in (125, 500, 875):
        x = de.q_sample(data[:batch], t, torch.randn(batch, dim, generator=g), SCHEDULE)
        yield compare(
            f"EmpiricalOracle, {n:,} x {dim} data, batch {batch}, t = {t}",
            min(3, options.rounds),
            partial(exact, x, t),
            "cdist, softmax, product in torch",
            partial(plain, x, data, t),
            "its two products",
            lambda x=x: (x @ data.T, weights @ data),
        )


# ---- memory --------------------------------------------------------------------------------------


def grown(run: Callable[..., object], x_size: tuple[int, ...], *arguments: object) -> int:
    """Bytes that a run needs at its peak, after a run on one example has loaded what it uses."""
    torch.set_num_threads(1)
    run(nothing, torch.randn(1, *x_size[1:]), *arguments)
    x = torch.randn(x_size)
    return growth(lambda: run(nothing, x, *arguments))


def chain(model: Model, x0: Tensor) -> Tensor:
    return de.forward_chain(x0, de.linear(200))


def memory(options: argparse.Namespace) -> Iterator[Row]:
    """Each in a process of its own; tensors so large that what is freed goes back at once."""
    size, state = (1024, 3, 64, 64), 4 * 1024 * 3 * 64 * 64
    long, short = (fresh(grown, ours, size, 1, steps) for steps in (200, 10))
    what = "`sample`, 1,024 images 3x64x64"
    peer, least = "the same, 10 steps", "x_t, eps, x_0, x_s"
    yield row(f"{what}, 200 steps: peak memory", [long], peer, [short], unit=as_memory)
    peer, other = f"diffusers {version('diffusers')}", fresh(grown, theirs, size, 1, 10)
    yield row(
        f"{what}, 10 steps: peak memory", [short], peer, [other], least, [4 * state], as_memory
    )
    size, state = (20_000, 2), 8 * 20_000
    what, states = (
        "`forward_chain`, 200 steps, 20,000 points: peak memory",
        fresh(grown, chain, size),
    )
    yield row(what, [states], limit="its result", least=[201 * state], unit=as_memory)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1, help="of torch; 1 is steadiest")
    main(__doc__, [loops, oracle, memory], parser, rounds=7)
