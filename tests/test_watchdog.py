"""Work with a deadline: in a thread that is stopped, and used again."""

from __future__ import annotations

import decimal
import gc
import os
import signal
import sys
import threading
import time
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_edu._watchdog import within


def test_work_in_time_is_just_done() -> None:
    """Work that ends leaves None, and ran with one torch thread and without gradients."""
    seen: list[Any] = []
    threads = torch.get_num_threads()
    assert (
        within(5, lambda: seen.extend([torch.get_num_threads(), torch.is_grad_enabled()])) is None
    )
    assert seen == [1, False]
    assert torch.get_num_threads() == threads


def test_an_endless_loop_is_stopped() -> None:
    """The thread of a loop ends, though it swallows every Exception, and its place is known."""
    threads: list[threading.Thread] = []

    def loop() -> None:
        threads.append(threading.current_thread())
        while True:
            try:
                time.sleep(0.001)
            except Exception:
                continue

    start = time.perf_counter()
    where = within(0.2, loop)
    assert time.perf_counter() - start < 1
    assert where is not None
    assert any(frame.name == "loop" for frame in where)
    threads[0].join(5)
    assert not threads[0].is_alive()


def test_an_import_is_not_stopped_on_its_way(tmp_path: Path, monkeypatch: Any) -> None:
    """A package half imported stays broken: its time is none of the work's, which has its own."""
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.5)\nready = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    seen: list[bool] = []

    def work() -> None:
        import slow_to_import

        seen.append(slow_to_import.ready)

    def loop() -> None:
        work()
        while True:
            time.sleep(0.001)

    assert within(0.2, work) is None
    assert seen == [True]
    del sys.modules["slow_to_import"]
    start = time.perf_counter()
    where = within(0.2, loop)
    assert where is not None
    assert any(frame.name == "loop" for frame in where)
    assert seen == [True, True]
    assert time.perf_counter() - start < 5


def test_exceptions_come_through() -> None:
    """What the work raises is raised here."""
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0)


def test_a_thread_works_again_and_keeps_nothing() -> None:
    """The next work is done by the same thread, which has let go of what the last one held."""
    idents, held = [], Tensor(1)
    gone = weakref.ref(held)

    def work(held: Tensor) -> None:
        idents.append(threading.get_ident())

    for _ in range(2):
        within(5, partial(work, held))
    assert idents[0] == idents[1] != threading.get_ident()
    del held
    gc.collect()
    assert gone() is None


def test_what_work_sets_for_its_thread_ends_with_it() -> None:
    """Gradients, the default device and contexts are for the next work as they are for any."""
    seen: list[Any] = []

    def work() -> None:
        seen.append(
            (decimal.getcontext().prec, torch.is_grad_enabled(), torch.get_default_device())
        )
        decimal.getcontext().prec = 7
        torch.set_grad_enabled(True)
        torch.set_default_device("meta")

    for _ in range(2):
        within(5, work)
    assert seen[0] == seen[1]


def test_work_inside_of_work() -> None:
    """A function that is watched may watch another."""
    seen: list[int] = []

    def work() -> None:
        within(5, lambda: seen.append(1))

    within(5, work)
    assert seen == [1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forks where there are threads
def test_a_forked_process_has_threads_of_its_own() -> None:
    within(5, lambda: None)  # one waits for work now
    if (pid := os.fork()) == 0:
        os._exit(0 if within(5, lambda: None) is None else 1)
    assert os.waitpid(pid, 0)[1] == 0


def test_ctrl_c_stops_the_work() -> None:
    """KeyboardInterrupt is raised here at once, and the loop does not go on behind."""
    threads: list[threading.Thread] = []
    waiting = threading.get_ident()

    def loop() -> None:
        threads.append(threading.current_thread())
        time.sleep(0.5)  # a signal just before the wait begins would not end it
        signal.pthread_kill(waiting, signal.SIGINT)
        while True:
            time.sleep(0.001)

    with pytest.raises(KeyboardInterrupt):
        within(20, loop)
    threads[0].join(5)
    assert not threads[0].is_alive()
