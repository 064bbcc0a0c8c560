"""TrainingTheatre: a network learns to see the noise, live."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from torch import Tensor, nn

from ..data import toy
from ..prediction import Kind
from ..viz.scene import Control, Scene, pick, slide, slide_seed
from . import datasets
from .explorer import Explorer, nearest
from .jobs import Cancelled, Job
from .params import Param, choice, integer, number
from .training_fields import (
    SAMPLES,
    STEPS,
    WEIGHTS,
    State,
    chain,
    draw_field,
    draw_history,
    draw_levels,
    draw_samples,
    look,
    text_of,
)
from .training_run import BATCH, DECAY, MARKS, NET, POOL, LossLearner, Plan, Training

__all__ = ["ARROWS", "PREDICTS", "TrainingTheatre"]

PREDICTS = ("eps", "x0", "v")
ARROWS = ("eps", "x0")
FIRST = 100  # steps that a new network has had when it is first shown
TARGETS = (1000, 2000, 5000, 10_000, 20_000)  # where the button leads
RATES = (1e-4, 0.1)
KEPT = 6  # runs that are not forgotten when another setting is looked at
QUIET = 0.1  # seconds between two messages of progress
HELP = {
    "dataset": "The data that the network learns to denoise",
    "level": "Noise level t at which the arrows are shown; drag it in the losses too",
    "arrows": "eps: against the predicted noise; x0: from x_t to the predicted x_0",
    "predicts": "What the network's output stands for; the loss is taken in it",
    "weights": "ema: the running average of the weights; raw: as the last step left them",
    "rate": "Step size of Adam; another one starts a new run",
    "seed": "Another first network, other batches",
}


class TrainingTheatre(Explorer):
    r"""Train a network to predict noise, and watch its arrows, its samples and its losses.

    L_simple = E ||eps - eps_theta(sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, t)||^2, DDPM
    (2006.11239) Algorithm 1 and eq. 14. The best network is E[eps | x_t], the exact denoiser; what
    even it cannot predict is the floor of the loss. Predicting x_0 or v = sqrt(alpha_bar_t) eps -
    sqrt(1 - alpha_bar_t) x_0 instead (2202.00512) weighs the levels otherwise. Time is the training
    step: the button, or ``train``, makes more of it.

    Args:
        dataset: any toy set.
        steps: training steps done before the first picture; tens.
        level: the noise level t of the arrows, 1..1000.
        arrows: "eps" (on a grid, -eps long ones shortened) or "x0" (from x_t to the predicted x_0).
        predicts: "eps", "x0" or "v".
        weights: "ema" or "raw", those that arrows, samples and losses by t are of.
        rate: step size of Adam.
        seed: of the first weights, the batches, their times and noise.
        t: training step shown first; the nearest checkpoint is taken. None is the last.
        loss: a function of yours, loss(model, x0, t, eps, schedule) -> scalar, with which a second
            network is trained on the same batches. model(x_t, t) gives the noise whatever
            ``predicts``; t is (B,) int64.
        net: makes a network of yours: a class or a function without arguments that returns a
            torch.nn.Module, called as net()(x_t (B, 2), t (B,)) -> (B, 2).
        play: start moving at once.

    Attributes ``times`` (steps of the F checkpoints), ``networks`` (F, frozen, model(x_t, t) ->
    eps), ``x`` (m, 2), ``eps`` (F, m, 2) and ``exact`` (m, 2), E[eps | x_t] at ``level``, learned
    and true; ``samples`` (F, 300, 2), DDIM in 20 steps; ``losses`` {"raw", "ema"}: (F,), held out;
    ``floor``, the exact denoiser's; ``above``, as losses: what they have above it; ``mine`` (as
    samples, of your loss, or None), ``agreement`` (your loss, loss_simple) on the first batch,
    ``noise_schedule``, ``notes``.

    Raises:
        ValueError: unknown names, values outside their range; also when set later; a ``net`` that
            makes no network for points.
    """

    PAGES = {  # noqa: RUF012, typed in the base class
        "level": [50, 150, 300, 500, 800],
        "arrows": ARROWS,
        "weights": WEIGHTS,
    }

    _state: State

    dataset = Param(choice(toy.names), "the data")
    level = Param(integer(1, 1000), "noise level of the arrows")
    arrows = Param(choice(lambda: ARROWS), "what the arrows are")
    predicts = Param(choice(lambda: PREDICTS), "what the network's output stands for")
    weights = Param(choice(lambda: WEIGHTS), "averaged or raw weights")
    rate = Param(number(1e-6, 1.0), "step size of Adam")
    seed = Param(integer(0, 2**31 - 1), "of weights and batches")
    t = Param(integer(0, optional=True), "training step shown")

    def __init__(
        self,
        dataset: str = "swiss_roll",
        *,
        steps: int = FIRST,
        level: int = 150,
        arrows: str = "eps",
        predicts: str = "eps",
        weights: str = "ema",
        rate: float = 3e-3,
        seed: int = 0,
        t: int | None = None,
        loss: Callable[..., Tensor] | None = None,
        net: Callable[[], nn.Module] | None = None,
        play: bool = False,
    ) -> None:
        if net is not None and not callable(net):
            raise ValueError(f"net must be a function that makes a network, got net={net!r}")
        self._first = integer(0, MARKS[-1])("steps", steps)
        self._learner = None if loss is None else LossLearner(loss, "loss")
        self._net = net
        self._known: dict[Plan, Training] = {}
        self._busy: Training | None = None  # the run that a job is training
        run = {"dataset": dataset, "predicts": predicts, "rate": rate, "seed": seed}
        super().__init__(play, **run, level=level, arrows=arrows, weights=weights, t=t)

    # ---- results ---------------------------------------------------------------------------------

    @property
    def networks(self) -> list[nn.Module]:
        """The network of each checkpoint, model(x_t, t) -> eps, with the ``weights`` chosen."""
        return [c.networks[self.weights] for c in self._shown()]

    def _shown(self) -> list[Any]:
        there = {c.step: c for c in self._state.training.run.checkpoints}
        return [there[step] for step in self._state.times]

    @property
    def x(self) -> Tensor:
        """Where ``eps`` is taken: the grid, then 300 points of q(x_t), (m, 2)."""
        return self._state.x

    @property
    def eps(self) -> Tensor:
        """The noise that each checkpoint sees in ``x`` at ``level``, (F, m, 2)."""
        return self._state.learned

    @property
    def exact(self) -> Tensor:
        """E[eps | x_t] at ``x`` and ``level``, (m, 2)."""
        return self._state.exact

    @property
    def samples(self) -> Tensor:
        """What each checkpoint generates from the same noise, (F, 300, 2)."""
        return self._state.samples

    @property
    def losses(self) -> dict[str, Tensor]:
        """Held-out noise loss at each checkpoint, (F,): "raw", "ema", and "mine" if there is."""
        return self._state.losses

    @property
    def above(self) -> dict[str, Tensor]:
        """As ``losses``: E|eps_hat - E[eps | x_t]|^2, what they have above the floor."""
        return self._state.above

    @property
    def floor(self) -> float:
        """The loss of the exact denoiser on the same held-out set."""
        return self._state.floor

    @property
    def mine(self) -> Tensor | None:
        """Samples of the network trained with your loss, NaN where it did not get so far."""
        return self._state.mine

    @property
    def agreement(self) -> tuple[float, float] | None:
        """Your loss and ``loss_simple`` on the first batch, or None."""
        return self._state.training.agreement

    # ---- training --------------------------------------------------------------------------------

    def train(self, steps: int) -> Job:
        """Train that many steps more (in tens), in the background.

        Returns:
            The job: ``wait()`` for it, or ``cancel()``; checkpoints made so far stay.

        Raises:
            ValueError: training already, or at the end (20,000 steps).
        """
        integer(1, MARKS[-1])("steps", steps)
        with self._lock:
            training = self._state.training
            if self._busy is training:
                raise ValueError("this network is being trained: wait for the job, or cancel it")
            if training.run.step >= MARKS[-1]:
                raise ValueError(f"{MARKS[-1]:,} steps are the most: start again, or another seed")
            goal = min(training.run.step + steps, MARKS[-1])
            self._busy = training
            self.version += 1
            job = self._start(
                f"training to {goal:,} steps", lambda j: self._work(j, training, goal)
            )
        self._redraw()
        return job

    def start_again(self) -> None:
        """Forget this run, and begin it anew; its training ends."""
        with self._lock:
            self._known.pop(self._plan(self._values), None)
            self._refresh()
            self.version += 1
        self._redraw()

    def _work(self, job: Job, training: Training, goal: int) -> None:
        def ended() -> None:
            self._busy = None if self._busy is training else self._busy
            self._refresh()

        try:
            self._train(job, training, goal)
        finally:
            training.keep()
            self._publish(ended)

    def _train(self, job: Job, training: Training, goal: int) -> None:
        run, told = training.run, 0.0
        begun, known = run.step, len(run.checkpoints)
        while run.step < goal:
            if time.perf_counter() - told > QUIET:
                told = time.perf_counter()
                job.step((run.step - begun) / (goal - begun), f"step {run.step:,}")
                if not self._wants(training):
                    raise Cancelled
            training.forward()
            if len(run.checkpoints) != known:
                known = len(run.checkpoints)
                look(training, self._values)  # the slow part, while sliders have the lock
                self._publish(self._refresh)

    def _wants(self, training: Training) -> bool:
        with self._lock:
            return self._known.get(self._plan(self._values)) is training

    def _refresh(self) -> None:
        """Show the run as it is now; who looks at its end goes on looking there."""
        last = self._values["t"] == self._state.times[-1]
        self._state = self._run(self._values)
        t = self._state.times[-1] if last else min(self._values["t"], self._state.times[-1])
        self._values = self._values | {"t": self._time(t, self._state)}

    def _act(self, action: str) -> None:
        if action == "train":
            step = self._state.training.run.step
            self.train(_target(step) - step)
        elif action == "again":
            self.start_again()
        else:
            super()._act(action)

    # ---- the model -------------------------------------------------------------------------------

    def _plan(self, values: dict[str, Any]) -> Plan:
        kind = cast(Kind, values["predicts"])
        return Plan(values["dataset"], kind, values["rate"], values["seed"], self._net)

    def _compute(self, values: dict[str, Any], coarse: bool) -> State:
        plan = self._plan(values)
        if plan not in self._known:
            if coarse:  # a new network only where the slider is let go
                return replace(self._state, coarse=True)
            training = Training(plan, self._learner, self._first)
            self._known = dict([*self._known.items(), (plan, training)][-KEPT:])
        return look(self._known[plan], values)

    def _time(self, t: float | None, state: State) -> float:
        if t is None:
            return state.times[-1]
        return state.times[nearest(state.times, super()._time(t, state))]

    def _controls(self, state: State) -> list[Control]:
        v, h = self._values, HELP
        return [
            pick("dataset", "data", v["dataset"], toy.names(), h["dataset"]),
            slide("level", "noise level", v["level"], (1, chain().T), h["level"]),
            pick("arrows", "arrows", v["arrows"], ARROWS, h["arrows"]),
            pick("predicts", "predicts", v["predicts"], PREDICTS, h["predicts"]),
            pick("weights", "weights", v["weights"], WEIGHTS, h["weights"]),
            slide("rate", "learning rate", v["rate"], RATES, h["rate"], step=1e-5, log=True),
            slide_seed(v["seed"], h["seed"]),
        ]

    def _code(self) -> str:
        v = self._values
        return (
            f"import torch\nimport diffusion_edu as de\n"
            f"from diffusion_edu.training import Config, Recipe, train\n\n"
            f"steps, level = {{t}}, {v['level']}\n"
            f"config = Config(max(1, steps), {BATCH}, lr={v['rate']!r}, ema={DECAY}, "
            f"seed={v['seed']})\n"
            f"shape = {NET | {'predicts': v['predicts']}}\n"
            f"recipe = Recipe(shape, config=config, data={v['dataset']!r}, pool={POOL})\n"
            f"model, schedule = recipe.network()\n{self._net_code()}"
            f"data, held = recipe.load(schedule)\n"
            f"for record in train(model, data, schedule, config) if steps else []:\n"
            f"    {'model = record.ema' if v['weights'] == 'ema' else 'pass'}\n\n"
            f"with torch.no_grad():\n"
            f"    loss = de.loss_simple(model.eval(), *held, schedule)\n"
            f"generator = torch.Generator().manual_seed({datasets.noise_seed(0, 0)})\n"
            f"x_T = torch.randn({SAMPLES}, 2, generator=generator)\n"
            f"samples = de.ddim(model, x_T, schedule, {STEPS})\n"
            f"eps = model(samples, torch.full(({SAMPLES},), level))\n"
        )

    def _net_code(self) -> str:
        if self._net is None:
            return ""
        seeded = f"torch.manual_seed({self.seed})\nmodel = net()  # your own\n"
        if self.predicts == "eps":
            return seeded
        return f"{seeded}model = de.nets.AsEps(model, {self.predicts!r}, schedule)\n"

    def _scene(self, state: State) -> Scene:
        scene = Scene(
            state.times,
            self.frame,
            text_of(state, self._values),
            label="training step",
            title=f"Training on {self.dataset}".replace("_", " "),
            help="How many steps the network has been trained; the button makes more",
        )
        scene.actions = self._actions(state)
        draw_field(scene, state, self._values)
        draw_samples(scene, state, self._values)
        draw_levels(scene, state, self._values)
        draw_history(scene, state)
        return scene

    def _actions(self, state: State) -> list[dict[str, Any]]:
        step, idle = state.training.run.step, self._busy is not state.training
        more = idle and step < MARKS[-1]
        label = f"Train to {_target(step):,} steps" if more or not idle else "Fully trained"
        label = label if idle else "Training ..."
        again = "Forget these weights, and train a new network"
        return [
            {"name": "train", "label": label, "help": "Go on with this network", "enabled": more},
            {"name": "again", "label": "Start again", "help": again, "enabled": True},
        ]


def _target(step: int) -> int:
    """Where the button leads from there."""
    return next((goal for goal in TARGETS if goal > step), MARKS[-1])
