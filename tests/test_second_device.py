"""Everything on a second device: its results lie there, and are those of the CPU."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from second_device import CHAIN, T, Toy, ends, on_both, same, second_device, small
from tiny_run import CONFIG, TINY, equal, weights
from tiny_unet import unet
from torch import Tensor, nn

import diffusion_edu as de
from diffusion_edu import AsEps, Gaussian, training, widgets
from diffusion_edu._parallel import local_device
from diffusion_edu.data.images import hue_of, tint, to_float, to_uint8
from diffusion_edu.data.loader import Loader, Points
from diffusion_edu.evaluation import classifier
from diffusion_edu.evaluation.evaluate import Wanted, evaluate
from diffusion_edu.evaluation.generate import Sampling
from diffusion_edu.evaluation.table import HAT, Plan
from diffusion_edu.evaluation.table_run import measure_table
from diffusion_edu.training import Machine, Recipe, quality, train

pytestmark = pytest.mark.usefixtures("one_thread")

SDE, RATES = de.VPSDE(), de.schedule_rates(CHAIN)
KINDS: tuple[Any, ...] = ("eps", "x0", "v", "score")
each_time = pytest.mark.parametrize("times", ["int", "there", "cpu", "each"])

# ---- the stand-in itself -------------------------------------------------------------------------

MIXED: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "sum": lambda a, b: a + b,
    "number": lambda a, b: a.sum() * b,
    "number in place": lambda a, b: b.sum().add_(a.sum()),
    "cat": lambda a, b: torch.cat([a, b]),
    "stack of numbers": lambda a, b: torch.stack([a.sum(), b.sum()]),
    "layer": lambda a, b: nn.Linear(2, 2)(a),
    "index": lambda a, b: b[torch.zeros(1, dtype=torch.int64, device="cuda")],
    "put": lambda a, b: a.__setitem__(torch.tensor([0, 1]), b[:2]),
    "third device": lambda a, b: a.to("cuda:1"),
    "draw": lambda a, b: torch.randn(2, device="cuda", generator=torch.Generator()),
    "draw here": lambda a, b: torch.randn(2, generator=torch.Generator("cuda")),
    "choose": lambda a, b: torch.multinomial(a, 1, generator=torch.Generator()),
    "state": lambda a, b: torch.Generator().set_state(torch.Generator("cuda").get_state()),
}


@pytest.mark.parametrize("name", MIXED)
def test_two_devices_do_not_mix(name: str) -> None:
    """What a GPU refuses raises RuntimeError."""
    with second_device():
        a, b = torch.ones(3, 2, device="cuda"), torch.ones(3, 2)
        with pytest.raises(RuntimeError, match=r"device|RNG state"):
            MIXED[name](a, b)


ALLOWED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "number of the CPU": lambda a, b: a + b.sum(),
    "index of the CPU": lambda a, b: a[torch.tensor([0, 2])],
    "mask of the CPU": lambda a, b: a[b > 0],
    "copied": lambda a, b: a.copy_(b),
    "iterated": lambda a, b: next(iter(a)),
    "copy of a parameter": lambda a, b: copy.deepcopy(nn.Parameter(a)),
    "named result": lambda a, b: a.max(0).indices,
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_a_gpu_allows(name: str) -> None:
    """It works, and its result lies there."""
    with second_device():
        found = ALLOWED[name](torch.ones(3, 2, device="cuda"), torch.ones(3, 2))
        assert found.device == torch.device("cuda:0")


def test_ways_out(tmp_path: Path) -> None:
    """.numpy() raises; what was moved shares no memory; what a file holds is read as the CPU's."""
    with second_device():
        x = torch.zeros(2, device="cuda")
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
        x.cpu()[0] = 1
        assert x.sum() == 0
        torch.save(x, tmp_path / "x.pt")
        assert not torch.load(tmp_path / "x.pt", map_location="cpu").is_cuda
        assert x.is_cuda


def test_nothing_is_left_behind() -> None:
    """After the block, an error in it included, torch has the functions it had."""

    def of_torch() -> list[dict[str, Any]]:
        return [dict(vars(m)) for m in (torch, torch.cuda, Tensor, nn.Parameter, torch.Generator)]

    before = of_torch()
    with second_device():
        assert local_device() == torch.device("cuda:0")
        assert of_torch() != before
    with pytest.raises(ZeroDivisionError), second_device():
        1 / 0
    assert of_torch() == before


# ---- draws ---------------------------------------------------------------------------------------

RANDOM: dict[str, Callable[[Toy], Any]] = {
    "sample": lambda a: a.walk(eta=0.5, **a.how),
    "sample, taus": lambda a: a.walk(taus=de.timesteps(T, 4).to(a.where), eta=1.0, **a.how),
    "sample, learned": lambda a: a.walk(a.two, variance="learned", **a.how),
    "sample, shared": lambda a: a.walk(eta=1.0, noise=de.shared_noise(2, a.how["generator"])),
    "ddpm, beta": lambda a: de.ddpm(a.net, a.x, CHAIN, **a.how),
    "ddpm, beta_tilde": lambda a: de.ddpm(a.net, a.x, CHAIN, 5, "beta_tilde", **a.how),
    "ddim": lambda a: de.ddim(a.net, a.x, CHAIN, 5, eta=1.0, clip=1.0, **a.how),
    "progressive_x0": lambda a: de.progressive_x0(a.net, a.x, CHAIN, 4, eta=1.0, **a.how),
    "from_frozen": lambda a: de.from_frozen(a.net, a.x[0], 5, 3, CHAIN, **a.how),
    "interpolate_ddpm": lambda a: de.interpolate_ddpm(a.net, a.x, a.y, a.half, 5, CHAIN, **a.how),
    "fill_in": lambda a: a.fill_in(repeats=2, **a.how),
    "forward_chain": lambda a: de.forward_chain(a.x, CHAIN, **a.how),
    "Gaussian.sample": lambda a: de.q_step(a.x, 3, CHAIN).sample(**a.how),
    "elbo": lambda a: [*vars(de.elbo(a.net, a.x, CHAIN, decoder="gaussian", **a.how)).values()],
    "reverse_sde": lambda a: ends(de.reverse_sde(a.score, a.x, SDE, 3, **a.how)),
    "langevin": lambda a: ends(de.annealed_langevin(a.score, a.x, a.half, SDE, steps=2, **a.how)),
    "sliced_wasserstein2": lambda a: de.sliced_wasserstein2(a.x, a.y, **a.how),
    "MixtureOracle": lambda a: a.mixture().sample(5, **a.how),
    "Points, there": lambda a: take(Points(a.cloud(), a.where), **a.how),
    "Points, of the CPU": lambda a: take(Points(a.cloud().cpu(), a.where), **a.how),
    "Loader": lambda a: take(a.loader(), **a.how),
}


def take(data: Points | Loader, generator: torch.Generator | None) -> Any:
    return data.take(*data.draw(6, generator))


@pytest.mark.parametrize("drawn", ["there", "cpu", "global"])
@pytest.mark.parametrize("name", RANDOM)
def test_draws(name: str, drawn: str) -> None:
    """With a generator of the device, with one of the CPU, and with none."""
    same(RANDOM[name], drawn=drawn)


@pytest.mark.parametrize("drawn", ["there", "cpu"])
def test_draws_of_training(drawn: str) -> None:
    """Times lie where their generator lives; the importance sampler's on the CPU, as its tables."""

    def importance(a: Toy) -> Any:
        sampler = de.ImportanceSampler(4, history=1)
        sampler.update(torch.arange(1, 5).to(a.where), a.x[:, 0].abs())
        return sampler.sample(6, **a.how)

    same(importance, "cpu", drawn=drawn)
    same(lambda a: classifier.augment(a.images(), 1, True, a.g), drawn=drawn)
    on, draw = "cuda" if drawn == "there" else "cpu", training.draw_times
    same(lambda a: [draw(8, T, how, a.g) for how in ("uniform", "stratified")], on, drawn=drawn)


# ---- nothing drawn -------------------------------------------------------------------------------

KINDLY: dict[str, Callable[[Toy, Any], Any]] = {
    "sample": lambda a, kind: a.walk(kind=kind, clip=(-2.0, 2.0)),
    "invert": lambda a, kind: ends(de.invert(a.net, a.x, CHAIN, 4, kind=kind)),
    "reconstruct": lambda a, kind: de.reconstruct(a.net, a.x, CHAIN, 4, kind=kind),
    "interpolate": lambda a, k: de.interpolate(a.net, a.x, a.y, [0.0, 0.3], CHAIN, 4, kind=k),
    "fill_in": lambda a, kind: a.fill_in(kind=kind, eta=0.0),
    "AsEps": lambda a, kind: de.ddim(AsEps(a.net, kind, CHAIN).to(a.where), a.x, CHAIN, 4),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", KINDLY)
def test_kinds(name: str, kind: str) -> None:
    """Whatever the network predicts."""
    same(lambda a: KINDLY[name](a, kind))


def clouds(metric: Callable[..., Any], a: Toy) -> Any:
    return metric(a.cloud(60, 3), a.cloud(50, 3, 5))


METRICS: dict[str, Callable[..., Any]] = {
    name: getattr(de, name) for name in de.metrics.__all__ if name[0].islower()
} | {
    "median_bandwidth, many": lambda x, y: de.median_bandwidth(x.repeat(20, 1), y),
    "frechet_distance": lambda x, y: de.frechet_distance(x[0], x.T.cov(), y[0], y.T.cov()),
}
PLAIN: dict[str, Callable[[Toy], Any]] = {
    "slerp": lambda a: [de.slerp(a.x, a.y, lam) for lam in (0.3, a.x[:, 0], torch.rand(4))],
    "guided": lambda a: a.walk(de.guided(a.net, torch.arange(4).to(a.where), 2.0)),
    "unet": lambda a: [unet().to(a.where)(a.images() / 255, a.t, y) for y in (None, a.t % 10)],
    "schedule_rates": lambda a: [*RATES(a.x.sigmoid())],
    "drift": lambda a: SDE.drift(a.x, a.x[:, 0].sigmoid()),
    "ddim_continuous": lambda a: ends(de.ddim_continuous(a.score, a.x, 4, RATES)),
    "probability_flow": lambda a: ends(de.probability_flow(a.score, a.x, SDE, 3, "heun")),
    "tint": lambda a: [tint(a.images(), hue) for hue in (a.x[:, 0], torch.rand(4))],
    "hue_of": lambda a: [hue_of(f(a.images(3))) for f in (Tensor.byte, to_float)],
    "to_uint8": lambda a: to_uint8(a.x),
    **{name: partial(clouds, f) for name, f in METRICS.items()},
}


@pytest.mark.parametrize("name", PLAIN)
def test_nothing_random(name: str) -> None:
    """Networks, continuous time, images, and every metric."""
    same(PLAIN[name])


GAUSSIANS: dict[str, Callable[[Toy], Gaussian]] = {
    "q_step": lambda a: de.q_step(a.x, a.t, CHAIN),
    "q_marginal": lambda a: de.q_marginal(a.x, a.t, CHAIN),
    "q_posterior": lambda a: de.q_posterior(a.x, a.y, a.t, CHAIN),
    "q_sigma": lambda a: de.q_sigma(a.x, a.y, a.t, a.s, de.ddim_sigma(a.t, a.s, 0.5, CHAIN), CHAIN),
    "q_sigma, a number": lambda a: de.q_sigma(a.x, a.y, a.t, a.s, 0.0, CHAIN),
    "q_sigma_forward": lambda a: de.q_sigma_forward(a.x, a.y, a.t + 1, a.t, 0.01, de.linear(20)),
}


@each_time
@pytest.mark.parametrize("name", GAUSSIANS)
def test_gaussians(name: str, times: str) -> None:
    """Mean, variance, density and divergence."""

    def compute(a: Toy) -> list[Tensor]:
        q, unit = GAUSSIANS[name](a), Gaussian(torch.zeros_like(a.x), torch.ones_like(a.x[:1]))
        return [q.mean, q.var, q.sample(a.z), q.log_prob(a.z), q.kl(unit), unit.kl(q)]

    same(compute, times=times)


@each_time
def test_formulas_of_one_time(times: str) -> None:
    """Predictions of every kind, the reverse step, the learned variance."""

    def compute(a: Toy) -> list[Any]:
        last = de.reverse_step(a.x, a.y, a.t, 0, CHAIN, variance="large")
        step = de.reverse_step(a.x, a.y, a.t, a.s, CHAIN, eta=1.0, z=a.z)
        every = [de.predict(kind, a.x, a.y, a.t, CHAIN) for kind in KINDS]
        return [*every, last, step, de.learned_variance(a.x, a.t, CHAIN)]

    same(compute, times=times)


def simple(kind: Any, a: Toy) -> Tensor:
    weight = de.min_snr_weight(a.t, CHAIN, kind).expand(4)
    return de.loss_simple(a.net, a.x, a.t, a.z, CHAIN, kind, weight=weight)


def vlb(sigma2: Any, a: Toy) -> Tensor:
    return de.loss_vlb(a.net, a.x, a.t, a.z, CHAIN, sigma2=sigma2, decoder="gaussian")


LOSSES: dict[str, Callable[[Toy], Tensor]] = {
    **{f"simple, {kind}": partial(simple, kind) for kind in KINDS},
    **{f"vlb, {sigma2}": partial(vlb, sigma2) for sigma2 in ("beta", "beta_tilde")},
    "vlb, learned": lambda a: de.loss_vlb(a.two, to_float(to_uint8(a.x)), a.t, a.z, CHAIN),
    "hybrid": lambda a: de.loss_hybrid(a.two, to_float(to_uint8(a.x)), a.t, a.z, CHAIN),
}


@each_time
@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str, times: str) -> None:
    """Values, and gradients of the weights."""

    def compute(a: Toy) -> list[Any]:
        loss = LOSSES[name](a)
        loss.mean().backward()
        return [loss.detach(), *(p.grad for p in a.net.parameters())]

    same(compute, times=times)


@each_time
@pytest.mark.parametrize("kept", ["cuda", "cpu"])
@pytest.mark.parametrize("name", ["mixture", "few", "many"])
def test_oracles(name: str, kept: str, times: str) -> None:
    """Their data there or on the CPU: what they say lies where x does."""

    def compute(a: Toy) -> list[Any]:
        d = 100 if name == "many" else 2
        b = Toy("cpu") if kept == "cpu" else a
        x, late = a.cloud(4, d, 5), torch.full((4,), 0.5)
        oracle: Any = de.EmpiricalOracle(b.cloud(50, d), CHAIN, chunk=16)
        oracle = b.mixture() if name == "mixture" else oracle
        said = [f(x, a.t) for f in (oracle, oracle.x0, oracle.score, oracle.log_prob)]
        score, eps = de.oracle_score(oracle, SDE), de.oracle_eps(oracle)
        said += [f(x, late.to(a.where)) for f in (score, eps)]
        return [*said, *oracle.evaluate(x, 0.5), *oracle.evaluate(x, late)]

    same(compute, times=times)


# ---- training, evaluation, explorers -------------------------------------------------------------

NET = {"width": 8, "depth": 1, "predicts": "v"}
PLANS: dict[str, Any] = {
    "points": Recipe(NET, config=replace(CONFIG, drop_label=None), pool=100),
    "images": TINY,
    "bfloat16": replace(TINY, config=replace(CONFIG, precision="bfloat16")),
}


def run(name: str, where: str, path: Path, kept: str = "cpu", **options: Any) -> None:
    """Train by a plan, from data that are kept there or on the CPU."""
    plan, machine = PLANS[name], Machine(torch.device(where), channels_last=True)
    model, chain = plan.network()
    data, held = plan.load(chain, device=kept)
    options |= {"validation": held, "checkpoint": path, "machine": machine}
    for record in train(model, data, chain, plan.config, **options):
        assert record.loss_by_t.device.type == "cpu"


@pytest.mark.parametrize("name", PLANS)
def test_training(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped between two records and resumed, the same bits; to rounding, those of the CPU."""
    kept = "cuda" if name == "images" else "cpu"
    parts, whole, cpu = (tmp_path / f"{word}.pt" for word in ("parts", "whole", "cpu"))
    with second_device():
        before = torch.cuda.get_rng_state()
        run(name, "cuda", whole, kept)
        run(name, "cuda", parts, kept, watch=lambda step: step == 4)
        assert torch.equal(before, torch.cuda.get_rng_state())  # the global one is left alone
        torch.rand(7, device="cuda")
        run(name, "cuda", parts, kept, resume=True)
    with monkeypatch.context() as patch:  # noise by a generator of its own, as on a GPU
        patch.setattr(Machine, "generator", lambda _, g, seed: torch.Generator().manual_seed(seed))
        run(name, "cpu", cpu)
    for part in ("model", "ema"):
        assert equal(weights(whole, part), weights(parts, part))
        torch.testing.assert_close(dict(weights(cpu, part)), dict(weights(whole, part)))
    for a, b in zip(weights(whole, "log"), weights(parts, "log"), strict=True):
        assert a | {"seconds": 0} == pytest.approx(b | {"seconds": 0}, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("name", ["points", "images"])
def test_export_and_measure(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file written, its loss, and MMD^2 of samples."""
    monkeypatch.setattr(quality, "POINTS", 50)

    def work(where: str) -> list[Any]:
        model, chain = PLANS[name].network()
        about = training.export(small(model).to(where), PLANS[name], tmp_path / "e", {})
        far = training.measure(model, chain, "moons") if name == "points" else 0
        return [about, {k: v.tolist() for k, v in load_file(tmp_path / "e").items()}, far]

    on_both(work)


@pytest.mark.parametrize("learned", [False, True])
def test_evaluation(learned: bool) -> None:
    """The report: samples, distances, neighbours, bits per dimension."""
    how = {"variance": "learned"} if learned else {"guidance": 2.0, "precision": "bfloat16"}
    plan, wanted = Sampling(n=20, steps=2, batch=12, eta=1.0, **how), Wanted(bits=2, neighbours=5)

    def work(where: str) -> dict[str, Any]:
        model = unet(learned_variance=learned).to(where)
        report = evaluate(model, de.linear(20), "digits", plan, wanted, pad=2)
        assert report.pictures.device.type == report.nearest.device.type == "cpu"
        return report.plain() | {"cost": 0}

    on_both(work)


@pytest.mark.parametrize(("data", "shape"), [("moons", (2,)), ("digits", (1, 8, 8))])
def test_tables(data: str, shape: tuple[int, ...]) -> None:
    """MMD^2 and SW2 of points, FD of images, and their floors."""
    info = SimpleNamespace(data=data, shape=shape, pad=0, path=Path(__file__))

    def work(where: str) -> Any:
        model = Toy(where).net if data == "moons" else unet().to(where)
        return measure_table(model, CHAIN, info, Plan(("0", HAT), (2,), n=20, batch=12))

    on_both(work)


EXPLORERS: dict[str, Callable[[Any], Any]] = {
    "reverse": lambda net: widgets.ReverseExplorer(net, n=20, steps=3, schedule=CHAIN),
    "eta and steps": lambda net: widgets.EtaStepsLab(net, n=20, steps=3, schedule=CHAIN),
    "invert and mix": lambda net: widgets.InvertAndMix(net, steps=3, schedule=CHAIN),
    "score": lambda net: widgets.ScoreField(net, steps=3, schedule=CHAIN),
    "bound": lambda net: widgets.ElboDecomposer(net, steps=3, draws=64, schedule=CHAIN),
    "theatre": lambda net: widgets.TrainingTheatre(net=lambda: copy.deepcopy(net), steps=10),
    "guidance": lambda net: widgets.GuidanceDial(unet().to(net.leave.weight.device), steps=2),
}


@pytest.mark.parametrize("name", EXPLORERS)
def test_explorers(name: str) -> None:
    """Given a network there they compute here, and draw the same."""
    on_both(lambda where: EXPLORERS[name](Toy(where).net).scene().buffers)
