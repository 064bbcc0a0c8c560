"""Fixtures shared by the tests."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from torch import Tensor

from diffusion_edu.schedules import Schedule

if "PYTEST_XDIST_WORKER" in os.environ:  # a process a core: more threads would only fight
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # so it is in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests and their commands get Ctrl-C


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process a core; one more where many tests wait for processes, not for the processor."""
    cores = os.cpu_count() or 1
    return cores + 1 if config.option.markexpr == "not browser" else cores


# Tests that are slow and share nothing with their files: any process may take one.
APART = (
    "tests/browser/test_lectures_lab.py",
    "tests/browser/test_explorers.py::test_a_page_of_its_own",
    "tests/test_exercises_mutants.py",
    "tests/test_image_processes.py",
    "tests/test_lectures.py::test_it_runs_offline",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """One process takes a file, whose fixtures are made once, or one test of those apart."""
    from xdist.scheduler import LoadFileScheduling

    class FilesAndTestsApart(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if nodeid.startswith(APART) else super()._split_scope(nodeid)

    config.option.loadscopereorder = False  # the order below
    return FilesAndTestsApart(config, log)


# Long work comes first, in this order: processes then end together. Not a class that is interrupted
# beside attacks on the processor.
FIRST = (
    "tests/browser/test_explorers.py",
    "tests/hostile/test_hostile.py",
    "tests/test_exercises.py",
    *APART,
    "tests/test_grading_class.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Among processes: those of FIRST, then files with most tests."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    sizes = Counter(item.path for item in items)

    def key(item: pytest.Item) -> tuple[int, int]:
        those = [start for start in FIRST if item.nodeid.startswith(start)]
        rank = FIRST.index(max(those, key=len)) if those else len(FIRST)
        return rank, -sizes[item.path]

    items.sort(key=key)


# deadline=None: the machines these tests run on share their cores
settings.register_profile(
    "moderate",
    deadline=None,
    max_examples=60,
    derandomize=True,  # a test that failed yesterday fails today
    suppress_health_check=[HealthCheck.too_slow],
)
# For mutants: some examples catch them, and nobody reads the smallest one.
settings.register_profile(
    "few", settings.get_profile("moderate"), max_examples=8, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("moderate")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny networks wait for threads more than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def randn(generator: torch.Generator) -> Callable[..., Tensor]:
    """Seeded float64 standard normal numbers: randn(3, 2)."""

    def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return draw


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def gaussian_denoiser() -> Callable[..., Callable[[Tensor, Tensor], Tensor]]:
    """The exact E[eps | x_t] for data N(mean, var I), in closed form: make(schedule, mean, var)."""

    def make(
        schedule: Schedule, mean: float = 0.3, var: float = 0.25
    ) -> Callable[[Tensor, Tensor], Tensor]:
        def model(x_t: Tensor, t: Tensor) -> Tensor:
            alpha_bar = schedule.alpha_bar[t.cpu()].to(x_t).view(-1, *[1] * (x_t.ndim - 1))
            noise = 1 - alpha_bar
            return noise.sqrt() * (x_t - alpha_bar.sqrt() * mean) / (alpha_bar * var + noise)

        return model

    return make
