"""Options arrive: what a command was told is what the work behind it is given, and nothing else.

One option at a time, in place of or beside the fewest words the command needs: what does the work
is stood in for, and what it is given must differ from what it is given without the option in the
places named here, and in no other. A name below is FUNCTION.ARGUMENT, or .FIELD of an argument.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from everything import imported
from test_cli import COMMANDS
from tiny_run import CONFIG, TINY
from typer.testing import CliRunner

from diffusion_edu import cli
from diffusion_edu.data.files import State
from diffusion_edu.evaluation.classifier import recipe as classifier_recipe
from diffusion_edu.schedules import linear
from diffusion_edu.training import RECIPES


class Watch:
    """Stand-ins for what does the work, and ``seen``: what they were given."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch, self.seen = patch, {}

    def stand_in(self, place: str, what: str = "", answer: Any = None) -> None:
        """Keep the arguments named in ``what`` of ``place``, "MODULE:FUNCTION", by its signature.

        Args:
            answer: what it returns; a function is asked, with the arguments.
        """
        module, name = place.split(":")
        home = imported(f"diffusion_edu.{module}")
        signature = inspect.signature(getattr(home, name))

        def watched(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            asked = SimpleNamespace(**bound.arguments)
            for path in what.split():
                self.see(f"{name}.{path}", attrgetter(path)(asked))
            return answer(asked) if callable(answer) else answer

        self.patch.setattr(home, name, watched)

    def see(self, name: str, value: Any) -> None:
        if is_dataclass(value):
            self.seen |= {f"{name}.{field}": inner for field, inner in vars(value).items()}
        else:
            self.seen[name] = value

    def network(self, shape: tuple[int, ...], place: str) -> None:
        """``pretrained`` gives a network for this shape that only says where it is brought."""
        network = SimpleNamespace(to=lambda device: self.see("to.device", device) or network)
        info = SimpleNamespace(shape=shape, data="digits", pad=0, official=True)
        self.stand_in(f"{place}:pretrained", "name", (network, linear(20), info))


@dataclass(frozen=True)
class Command:
    """A command as it is tried.

    Attributes:
        base: argument -> the words without which the command does not run.
        prepare: puts the stand-ins in place.
        options: argument -> the words for another value, and what they change; "argument/what"
            for one more value.
    """

    words: str
    prepare: Callable[[Watch], None]
    options: dict[str, tuple[str, dict[str, Any]]]
    base: dict[str, str] = field(default_factory=dict)


def given(words, to, /, **changes):
    """An option's words, and the names of what they change: "TO.NAME"."""
    return words, {f"{to}.{name}": value for name, value in changes.items()}


# ---- samples and their figures -------------------------------------------------------------------

X = Path("x")
PICTURES = torch.zeros(4, 1, 4, 4, dtype=torch.uint8)


def prepare_evaluate(watch):
    watch.network((1, 4, 4), "nets")
    report = SimpleNamespace(lines=list, plain=dict, pictures=PICTURES, nearest=PICTURES)
    watch.stand_in("evaluation.evaluate:evaluate", "plan wanted", report)
    watch.stand_in("_files:write_atomically", "path")
    watch.stand_in("viz.images:save_image", "path")


EVALUATE = {
    "model": ("--model two", {"pretrained.name": "two"}),
    "n": given("--n 77", "evaluate.plan", n=77),
    "steps": given("--steps 7", "evaluate.plan", steps=7),
    "eta": given("--eta 0.25", "evaluate.plan", eta=0.25),
    "variance": given("--variance learned", "evaluate.plan", variance="learned"),
    "guidance": given("--guidance 2.5", "evaluate.plan", guidance=2.5),
    "labels": given("--labels none", "evaluate.plan", labels="none"),
    "seed": given("--seed 5", "evaluate.plan", seed=5),
    "bits": given("--bits 9", "evaluate.wanted", bits=9),
    "neighbours": given("--neighbours 11", "evaluate.wanted", neighbours=11),
    "batch": given("--batch 13", "evaluate.plan", batch=13),
    "precision": given("--precision bfloat16", "evaluate.plan", precision="bfloat16"),
    "device": ("--device cpu:1", {"to.device": torch.device("cpu:1")}),
    "fid": given("--fid", "evaluate.wanted", inception=True),
    "fid_weights": given("--fid-weights x", "evaluate.wanted", inception_weights=X),
    "classifier": given("--classifier x", "evaluate.wanted", classifier=X),
    "out": ("--out r.json", {"write_atomically.path": Path("r.json")}),
    "grid": ("--grid g.png", {"save_image.path": Path("g.png")}),
}


def prepare_table(watch):
    watch.network((1, 4, 4), "nets")
    watch.stand_in("evaluation.table_run:measure_table", "plan path name resume overwrite")
    watch.stand_in("evaluation.table_command:_print", "plan")
    watch.stand_in("evaluation.table_command:_draw", "plan out")


def cells(words, **changes):
    """A plan is what is measured, printed and drawn."""
    names = ("measure_table", "_print", "_draw")
    return words, {f"{name}.plan.{k}": v for name in names for k, v in changes.items()}


TABLE = {
    "model": ("--model two", {"pretrained.name": "two", "measure_table.name": "two"}),
    "out": ("--out x.png", {"measure_table.path": Path("x.json"), "_draw.out": Path("x.png")}),
    "eta": cells("--eta 0.5,hat", etas=("0.5", "hat")),
    "steps": cells("--steps 4,8", steps=(4, 8)),
    "n": cells("--n 77", n=77),
    "seed": cells("--seed 5", seed=5),
    "batch": cells("--batch 13", batch=13),
    "device": ("--device cpu:1", {"to.device": torch.device("cpu:1")}),
    "precision": cells("--precision bfloat16", precision="bfloat16"),
    "labels": cells("--labels none", labels="none"),
    "resume": ("--resume", {"measure_table.resume": True}),
    "overwrite": ("--overwrite", {"measure_table.overwrite": True}),
}


def prepare_images(watch):
    watch.network((1, 4, 4), "evaluation.sample_command")
    watch.stand_in("evaluation.generate:generate", "plan", [(PICTURES, None)])
    watch.stand_in("viz.images:save_image", "path")


IMAGES = {
    "model": ("--model two", {"pretrained.name": "two"}),
    "steps": given("--steps 7", "generate.plan", steps=7),
    "sampler": given("--sampler ddpm", "generate.plan", steps=20, eta=1.0, variance="large"),
    "eta": given("--eta 0.25", "generate.plan", eta=0.25),
    "n": given("--n 7", "generate.plan", n=7, batch=7),
    "guidance": given("--guidance 2.5", "generate.plan", guidance=2.5),
    "seed": given("--seed 5", "generate.plan", seed=5),
    "out": ("--out g.png", {"save_image.path": Path("g.png")}),
}


def prepare_points(watch):
    watch.network((2,), "evaluation.sample_command")

    def walk(asked):
        watch.see("sample.seed", asked.generator.initial_seed())
        return [SimpleNamespace(x_s=asked.x_T)]

    watch.stand_in("sampling:sample", "x_T.shape taus eta variance", walk)
    watch.stand_in("viz.figures:save_scatter", "path")


POINTS = {
    "model": ("--model two", {"pretrained.name": "two"}),
    "steps": ("--steps 7", {"sample.taus": 7}),
    "sampler": given("--sampler ddpm", "sample", taus=20, eta=1.0, variance="large"),
    "eta": ("--eta 0.25", {"sample.eta": 0.25}),
    "n": ("--n 7", {"sample.x_T.shape": (7, 2)}),
    "seed": ("--seed 5", {"sample.seed": 5}),
    "out": ("--out p.png", {"save_scatter.path": Path("p.png")}),
}


def prepare_classifier(watch):
    info = SimpleNamespace(tested=1, accuracy=0.5)
    train = "evaluation.classifier_files:train_classifier"
    watch.stand_in(train, "plan path", lambda asked: [][: asked.path.write_bytes(b"")])
    watch.stand_in("evaluation.classifier_files:load_classifier", answer=(None, info))


DIGITS = {"data": "--data digits", "out": "--out a.safetensors"}
CLASSIFIER = {
    "data": given("--data mnist", "train_classifier.plan", **vars(classifier_recipe("mnist"))),
    "out": given("--out b.safetensors", "train_classifier", path=Path("b.safetensors")),
    "epochs": given("--epochs 7", "train_classifier.plan", epochs=7),
    "seed": given("--seed 5", "train_classifier.plan", seed=5),
}

# ---- training ------------------------------------------------------------------------------------


def prepare_train(watch):
    """The tiny recipe, a loop that is at its end at once, and a checkpoint of it."""
    watch.patch.setitem(RECIPES, "tiny", TINY)
    watch.patch.setitem(RECIPES, "other", TINY.with_config(lr=0.5))
    held = torch.zeros(1, 1, 8, 8)
    watch.patch.setattr(type(TINY), "load", lambda plan, schedule, device: (None, (held,)))
    Path("old").mkdir(exist_ok=True)
    Path("old/checkpoint.pt").touch()

    def end(asked):
        return [SimpleNamespace(step=asked.config.steps, loss=0.0, validation=0.0)]

    watch.stand_in("training.commands:loop", "config checkpoint resume machine", end)
    watch.stand_in("training.run:Run", "folder fd", SimpleNamespace(write=lambda *_: None))
    state = {"step": 0, "identity": {"config": vars(CONFIG)}, "ema": TINY.network()[0].state_dict()}
    watch.stand_in("training.checkpoint:read", "path", state)
    report = SimpleNamespace(lines=list, plain=dict)
    watch.stand_in("evaluation.evaluate:evaluate", "plan.n wanted.bits", report)
    written = lambda asked: {"loss": float(asked.path.write_bytes(b""))}  # noqa: E731
    watch.stand_in("training.quality:export", "path", written)


def folder(words, name, **more):
    """The folder of a run is that of its files, and of the checkpoint that --export reads."""
    path = Path(name) / "checkpoint.pt"
    return words, {"Run.folder": Path(name), "loop.checkpoint": path, "read.path": path, **more}


EXPORT = "--export a.safetensors"
TRAIN = {
    "recipe": folder("--recipe other", "runs/other", **{"loop.config.lr": 0.5}),
    "out": folder("--out new", "new"),
    "steps": given("--steps 9", "loop.config", steps=9),
    "batch": given("--batch 12", "loop.config", batch=12),
    "every": given("--every 2", "loop.config", every=2),
    "seed": given("--seed 5", "loop.config", seed=5),
    "resume": given("--resume", "loop", resume=True),
    "overwrite": folder("--out old --overwrite", "old"),
    "fd": given("--fd 40", "Run", fd=40),
    "export": given("--export b.safetensors", "export", path=Path("b.safetensors")),
    "samples": given("--samples 77", "evaluate.plan", n=77),
    "bits": given("--bits 9", "evaluate.wanted", bits=9),
    "device": given("--device cpu:1", "loop.machine", device=torch.device("cpu:1")),
    "threads": ("--threads 3", {"threads": 3}),
    "compile": given("--compile", "loop.machine", compile=True),
    "compile/no": given("--no-compile", "loop.machine", compile=False),
}

# ---- exercises and grades ------------------------------------------------------------------------


def prepare_grade(watch):
    walls = SimpleNamespace(level="strict", is_weaker_than=lambda level: False)
    watch.stand_in("grading.commands:policy", answer=walls)
    watch.stand_in("grading.commands:explain", answer="")
    watch.stand_in("grading.submissions:find", "paths key leave", ["one"])
    watch.stand_in("grading.grading:Task", "submission exercise secret require")
    watch.stand_in("grading.run:grade_class", "out jobs cluster resume", {"submissions": []})
    watch.stand_in("grading.reports:write", "exercise.key out canvas moodle", [])


GRADE = {
    "submissions": given("a b", "find", paths=[Path("a"), Path("b")]),
    "exercise": ("-e e3", dict.fromkeys(("find.key", "Task.exercise", "write.exercise.key"), "E3")),
    "out": ("--out x", {"find.leave": X, "grade_class.out": X, "write.out": X}),
    "jobs": given("--jobs 77", "grade_class", jobs=77),
    "secret": given("--secret words", "Task", secret="words"),
    "resume": given("--resume", "grade_class", resume=True),
    "require": given("--require basic", "Task", require="basic"),
    "canvas": given("--canvas", "write", canvas=True),
    "moodle": given("--moodle", "write", moodle=True),
    "cluster": given("--cluster tcp://host:1", "grade_class", cluster="tcp://host:1"),
}


def prepare_map(watch):
    watch.stand_in("lectures.paper_map:paper_map", answer="")
    watch.patch.setattr(Path, "write_text", lambda path, *_, **__: watch.see("path", path))


def prepare_verify(watch):
    watch.stand_in("data.files:find", "source.name root")
    watch.stand_in("data.files:state", answer=State.official)


def one(words, place, options, base=None, answer=()):
    """A command with one function behind it: "MODULE:FUNCTION".

    Args:
        options: argument -> its words, and the value of the function's argument of that name, or
            a dict of several.
    """
    name = place.partition(":")[2]
    told = {k: (line, v if isinstance(v, dict) else {k: v}) for k, (line, v) in options.items()}
    what = " ".join({inner for _, changes in told.values() for inner in changes})
    return Command(
        words,
        lambda watch: watch.stand_in(place, what, answer),
        {k: given(line, name, **changes) for k, (line, changes) in told.items()},
        base or {},
    )


MODEL = {"model": "--model one"}
TRIED = [
    Command("evaluate", prepare_evaluate, EVALUATE, MODEL),
    Command("table", prepare_table, TABLE, MODEL),
    Command("sample", prepare_images, IMAGES),
    Command("sample", prepare_points, POINTS),
    Command("train-classifier", prepare_classifier, CLASSIFIER, DIGITS),
    Command("train", prepare_train, TRAIN, {"recipe": "--recipe tiny", "export": EXPORT}),
    Command("grade", prepare_grade, GRADE, {"submissions": "class", "exercise": "-e E2"}),
    Command("lectures paper-map", prepare_map, {"out": ("--out x", {"path": X})}),
    Command("data verify", prepare_verify, {
        "names": ("mnist", {"find.source.name": "mnist"}),
        "root": ("--root x", {"find.root": X}),
    }),
    one("gradescope-zip", "grading.gradescope:build_zip", {
        "exercise": ("e3", {"key": "E3", "path": Path("E3_gradescope.zip")}),
        "out": ("--out x", {"path": X}),
        "secret": ("--secret words", "words"),
    }, {"exercise": "E2"}),
    one("exercise build", "exercises.build:build", {
        "keys": ("e2 E3", ["E2", "E3"]),
        "out": ("--out x", {"folder": X}),
        "instructor": ("--instructor x", X),
    }),
    one("exercise verify", "exercises.verify:verify", {"keys": ("e2", {"exercise.key": "E2"})}),
    one("exercise new", "exercises.scaffold:scaffold", {
        "key": ("E11", "E11"), "title": ("B", "B"),
    }, {"key": "E10", "title": "A"}),
    one("lectures build", "lectures.build:build", {
        "numbers": ("02 03", ["02", "03"]),
        "out": ("--out x", X),
        "instructor": ("--instructor --out x", {"instructor": True, "out": X}),
    }),
    one("lectures site", "lectures.site:build_site", {
        "out": ("x", X),
        "instructor": ("--instructor", True),
        "notebooks": ("--notebooks x", X),
        "jobs": ("--jobs 7", 7),
    }),
    one("data list", "data.files:find", {"root": ("--root x", X)}),
    one("data fetch", "data.download:fetch", {
        "names": ("mnist", {"source.name": "mnist"}),
        "root": ("--root x", X),
        "overwrite": ("--overwrite", True),
    }),
    one("lab", "_lab:start", {
        "arguments": ("a.ipynb --port 1", ["a.ipynb", "--port", "1"]),
        "to": ("--to x", X),
        "force": ("--force", True),
    }),
]  # fmt: skip


# ---- the tests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", TRIED, ids=lambda c: c.words)
def test_an_option_arrives_and_changes_nothing_else(command, tmp_path, monkeypatch):
    """What the work is given with an option = what it is given without, but for that option."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIFFUSION_EDU_SECRET", raising=False)
    watch = Watch(monkeypatch)
    command.prepare(watch)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: watch.see("threads", n))

    def seen(option="", words=""):
        watch.seen = {}
        line = {**command.base, option: words}.values()
        done = CliRunner().invoke(cli.app, [*command.words.split(), *" ".join(line).split()])
        assert done.exit_code == 0, (option, done.output, done.exception)
        return watch.seen

    before = seen()
    for option, (words, changes) in command.options.items():
        assert seen(option.partition("/")[0], words) == {**before, **changes}, option
        assert changes != {name: before.get(name) for name in changes}, option


@pytest.mark.parametrize("words", COMMANDS)
def test_no_option_is_left_out(words):
    """Every argument and option that a command has is tried above."""
    tried = {name.partition("/")[0] for c in TRIED if c.words == words for name in c.options}
    assert {parameter.name for parameter in COMMANDS[words].params} == tried
