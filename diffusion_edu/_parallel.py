"""Several processes sharing one job, as ``torchrun`` starts them; one process alone by default.

    torchrun --nproc-per-node 2 -m diffusion_edu train --recipe mnist

torchrun tells each process its number (rank) and how many there are (world) by environment
variables. Everything here works without it too, as for a world of one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = [
    "add_up",
    "anybody",
    "gather",
    "local_device",
    "quiet",
    "rank",
    "share",
    "together",
    "wait",
    "world",
]


def _launched() -> bool:
    """True in a process that torchrun started."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@contextmanager
def together(device: torch.device | None = None) -> Iterator[None]:
    """Within the block the processes started by torchrun know each other; alone it does nothing.

    They talk by nccl where ``device`` is a GPU, else by gloo.
    """
    if not _launched() or dist.is_initialized():
        yield
        return
    cuda = device is not None and device.type == "cuda"
    # The first may work for hours while the others wait, on Inception's features for one.
    patience = timedelta(days=2)
    backend = "nccl" if cuda else "gloo"
    dist.init_process_group(backend, timeout=patience, device_id=device if cuda else None)
    try:
        yield
        wait()  # none hangs up while another is still talking
    finally:
        dist.destroy_process_group()


def local_device(name: str | None = None) -> torch.device:
    """The device to work on: ``name``, else a GPU if there is one (each process its own).

    Raises:
        ValueError: no such device here.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    # Apple's mps has no float64, in which tables are kept.
    if device is None or device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    if device.type == "cuda":
        if (device.index or 0) >= (gpus := torch.cuda.device_count()):
            raise ValueError(
                f"device={str(device)!r}, but torch {torch.__version__} sees {gpus} GPUs here: "
                "leave the device out, or install a torch that fits the GPU's driver"
            )
        torch.cuda.set_device(device)  # what nccl and compiled code take as theirs
    return device


def rank() -> int:
    """Number of this process, 0 .. world() - 1."""
    return dist.get_rank() if dist.is_initialized() else 0


def quiet(progress: bool) -> bool | None:
    """tqdm's ``disable`` for a bar in the first process alone, and there on a terminal only."""
    return None if progress and rank() == 0 else True


def world() -> int:
    """How many processes share the job."""
    return dist.get_world_size() if dist.is_initialized() else 1


def share(n: int) -> slice:
    """The part of n things that is this process's; n must be divisible by ``world()``."""
    if n % world():
        raise ValueError(f"{n} cannot be shared evenly by {world()} processes: use a multiple")
    return slice(rank() * n // world(), (rank() + 1) * n // world())


def add_up(x: Tensor) -> Tensor:
    """Sum of ``x`` over the processes, the same in all of them."""
    if world() == 1:
        return x
    total = x.clone()
    dist.all_reduce(total)
    return total


def gather(x: Tensor) -> Tensor:
    """The rows of ``x`` (n, *D) of all processes, by rank, in each of them; n may differ."""
    counts = torch.zeros(world(), dtype=torch.int64, device=x.device)
    counts[rank()] = len(x)
    before, after = torch.zeros_like(counts), add_up(counts)
    before[1:] = after.cumsum(0)[:-1]
    rows = x.new_zeros(int(after.sum()), *x.shape[1:])
    start = int(before[rank()])
    rows[start : start + len(x)] = x
    return add_up(rows)


def anybody(wish: bool, device: torch.device) -> bool:
    """Whether any process wishes so, the same in all of them."""
    return wish if world() == 1 else bool(add_up(torch.tensor(float(wish), device=device)))


def wait() -> None:
    """Go on when all processes have come here."""
    if world() > 1:
        dist.barrier()
