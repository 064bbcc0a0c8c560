"""Where a network is trained, and what makes that fast: no effect on what is learned."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .. import _parallel
from ..nets.switches import seeded

__all__ = ["Machine", "dropout"]


@dataclass(frozen=True)
class Machine:
    """The device and how its kernels are made.

    Attributes:
        device: where to train.
        compile: fuse the network's operations with ``torch.compile``: about a minute at the start,
            then faster. None: on a GPU only, where triton and a C compiler are.
        channels_last: keep images as (H, W, C), the order a GPU's convolutions want. None: on a
            GPU only (on CPUs measured slower).
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    compile: bool | None = None
    channels_last: bool | None = None

    def _on_gpu(self, choice: bool | None) -> bool:
        return self.device.type == "cuda" if choice is None else choice

    def place(self, model: nn.Module) -> None:
        """Move the model to the device, in the memory order wanted there. In place."""
        model.to(self.device)
        if self._on_gpu(self.channels_last):
            _reorder(model)

    def arrange(self, x: Tensor) -> Tensor:
        """A batch in the memory order of the network."""
        images = x.ndim == 4 and self._on_gpu(self.channels_last)
        return x.contiguous(memory_format=torch.channels_last) if images else x

    def runner(self, model: nn.Module) -> Callable[..., Any]:
        """What a training step calls: ``model`` itself, compiled, gradients shared by processes."""
        run: Any = model
        if self.compile or (self._on_gpu(self.compile) and _can_compile()):
            run = torch.compile(model)
        if _parallel.world() > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            run = DistributedDataParallel(run, device_ids=ids)
        return run

    def optimizer(self, model: nn.Module, lr: float) -> torch.optim.Optimizer:
        """Adam with the betas of the paper; one kernel for all weights on a GPU."""
        return torch.optim.Adam(model.parameters(), lr=lr, fused=self.device.type == "cuda")

    def generator(self, cpu: torch.Generator, seed: int) -> torch.Generator:
        """Where noise is drawn: on a GPU by one of its own, else by the generator given."""
        if self.device.type != "cuda":
            return cpu
        return torch.Generator(self.device).manual_seed(seed)


def _can_compile() -> bool:
    """Kernels for a GPU are triton's; what launches them is compiled as C."""
    compilers = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    return find_spec("triton") is not None and any(map(shutil.which, compilers))


def _reorder(model: Any) -> None:
    model.to(memory_format=torch.channels_last)  # torch's stubs do not know this form


@contextmanager
def dropout(model: nn.Module, generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Within the block dropout draws from a seed that ``generator`` gives.

    torch's dropout reads the global generator, so a resumed run would drop other units. A model
    without dropout draws nothing.
    """
    if not any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules()):
        yield
        return
    seed = int(torch.randint(2**62, (), generator=generator)) + _parallel.rank()
    with seeded(seed, device):
        yield
