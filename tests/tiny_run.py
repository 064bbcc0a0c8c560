"""A training run on images that takes a moment, for the tests of training.

python tests/tiny_run.py together FOLDER      one step's gradients, and a run stopped by one of the
                                              processes of torchrun, by all of them
                         train OPTIONS        diffusion-edu train with the tiny recipe, no dropout
                         killed FOLDER KILLS  trains in FOLDER/whole, and in FOLDER/killed with
                                              KILLS sudden deaths; prints CODE STEP for each
"""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from diffusion_edu import _parallel, cli
from diffusion_edu.data import images
from diffusion_edu.evaluation.generate import Sampling
from diffusion_edu.training import RECIPES, Config, ImageRecipe, checkpoint, run, train

CONFIG = Config(steps=6, batch=8, lr=1e-3, warmup=2, ema=0.9, every=3, seed=1, times="stratified",
                drop_label=0.25)  # fmt: skip
NET = {"type": "UNet", "image_channels": 1, "channels": [8, 16], "blocks": 1, "attention": [],
       "groups": 4, "dropout": 0.3, "classes": 10}  # fmt: skip
TINY = ImageRecipe(data="digits", net=NET, schedule={"name": "linear", "T": 50}, config=CONFIG,
                   threads=1, held=20, pictures=1)  # fmt: skip
STEPS = 28  # of the run that is killed; a record every second step


def begin(path=None, plan=TINY, **options):
    """The model of a plan, and its records to come."""
    model, schedule = plan.network()
    data, held = plan.load(schedule)
    records = train(model, data, schedule, plan.config, validation=held, checkpoint=path, **options)
    return model, records


def weights(path, part="ema"):
    return checkpoint.read(path)[part]


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# ---- several processes ---------------------------------------------------------------------------


def plain(**changes):
    """TINY without dropout, of which each process draws its own: several can then equal one."""
    return replace(TINY, net={**NET, "dropout": 0.0}, config=replace(CONFIG, **changes))


def gradient(path):
    """Write gradients and losses of one step without dropout, taken by all processes together."""
    model, records = begin(plan=plain(steps=1, every=1, clip=1e9))
    (record,) = records
    if _parallel.rank() == 0:
        gradients = {name: p.grad for name, p in model.named_parameters()}
        torch.save([gradients, record.loss, record.validation, record.loss_by_t], path)


def stopped(folder):
    """23 steps with one record: at once in whole.pt, and in parts.pt stopped twice and resumed.

    After step 3 the last process wishes to stop, and no other does. Each writes to stoppedRANK.pt
    after which steps it was asked, and which step the file had when it was left. Then all stop
    once more before the record.
    """
    plan = replace(TINY, config=replace(CONFIG, steps=23, every=23))
    path, rank, asked = folder / "parts.pt", _parallel.rank(), []

    def watch(step):
        asked.append(step)
        return step == 3 and rank == _parallel.world() - 1

    list(begin(folder / "whole.pt", plan)[1])
    records = list(begin(path, plan, watch=watch)[1])
    torch.save([asked, len(records), checkpoint.read(path)["step"]], folder / f"stopped{rank}.pt")
    list(begin(path, plan, resume=True, watch=lambda step: step == 12)[1])
    assert checkpoint.read(path)["step"] == 20
    list(begin(path, plan, resume=True)[1])


def shrink(plan=TINY):
    """Make the digits recipe tiny, and the pictures of a run small."""
    RECIPES["digits"] = plan
    run.COLUMNS, run.ROWS, run.Sampling = 2, 1, partial(Sampling, steps=5)


# ---- sudden deaths -------------------------------------------------------------------------------


def in_a_child(folder, seconds=0.0):
    """The command in a process of its own; after so many seconds of CPU time the kernel ends it.

    SIGPROF, which nobody handles, ends a process between any two instructions, as SIGKILL does.
    Time of the processor, unlike that of the clock, passes alike on an idle and on a busy machine.

    Returns: its exit code, and the seconds of CPU time it took.
    """
    words = ["train", "--recipe", "digits", "--batch", "8", "--every", "2", "--steps", str(STEPS),
             "--out", str(folder)]  # fmt: skip
    if (child := os.fork()) == 0:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            again = ["--resume"] if (folder / "checkpoint.pt").exists() else []
            cli.app([*words, *again], standalone_mode=False)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime


def killed(folder, kills):
    images.load("digits")  # what is imported now is not imported by every child
    importlib.import_module("diffusion_edu.viz.curves")
    torch.optim.Adam([torch.zeros(1)])
    _, whole = in_a_child(folder / "whole")
    moments = random.Random(0)
    for _ in range(kills):
        code, _ = in_a_child(folder / "killed", moments.uniform(0, 0.15) * whole)
        path = folder / "killed" / "checkpoint.pt"
        print(code, checkpoint.read(path)["step"] if path.exists() else 0, flush=True)
    in_a_child(folder / "killed")


def main(what, *words):
    torch.set_num_threads(1)
    if what == "train":
        shrink(plain())
        cli.app([what, *words])
    elif what == "together":
        signal.alarm(300)  # processes that wait for each other for ever end
        with _parallel.together():
            gradient(Path(words[0]) / "two.pt")
            stopped(Path(words[0]))
    else:
        shrink()
        killed(Path(words[0]), int(words[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
