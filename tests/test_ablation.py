"""The small trainings of lecture 05: networks trained as one, and the losses of DDPM's table 2."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import diffusion_edu as de
from diffusion_edu.lectures import ablation

SCHEDULE = de.linear(10)
SEEDS = 3


def batch(n: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """x0, t (1 and T among them), eps."""
    draws = torch.Generator().manual_seed(0)
    t = torch.randint(1, SCHEDULE.T + 1, (n,), generator=draws)
    t[0], t[-1] = 1, SCHEDULE.T
    return torch.randn(n, 2, generator=draws), t, torch.randn(n, 2, generator=draws)


def make() -> de.MLP:
    """A network whose output is not 0 at the start."""
    net = de.MLP(2, 8, 1, T=SCHEDULE.T)
    torch.nn.init.normal_(net.leave.weight)
    return net


def single(seed: int, make: Any = make) -> torch.nn.Module:
    """The network that ``Several`` makes from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net: torch.nn.Module = make()
        return net


# ---- networks as one -----------------------------------------------------------------------------


def test_several_are_the_networks_one_by_one() -> None:
    x, t, _ = batch()
    together = ablation.Several(make, SEEDS)(x, t)
    parts = zip(x.chunk(SEEDS), t.chunk(SEEDS), strict=True)
    alone = torch.cat([single(seed)(x, t) for seed, (x, t) in enumerate(parts)])
    torch.testing.assert_close(together, alone)


def test_gradients_do_not_mix() -> None:
    x, t, _ = batch()
    several = ablation.Several(make, SEEDS)
    several(x, t)[: len(x) // SEEDS].square().sum().backward()
    grads = [w.grad for w in several.parameters() if w.grad is not None]
    assert any(g[0].any() for g in grads)
    assert not any(g[1:].any() for g in grads)


def test_what_is_trained_is_every_weight_of_every_seed() -> None:
    several = ablation.Several(make, SEEDS)
    each = sum(w.numel() for w in make().parameters())
    assert sum(w.numel() for w in several.parameters()) == SEEDS * each


def test_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    ablation.Several(make, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_no_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="seeds"):
        ablation.Several(make, 0)


# ---- the mean, read as data ----------------------------------------------------------------------


def test_the_mean_of_the_posterior_is_read_as_its_x0() -> None:
    x0, t, eps = batch()
    x0, eps = x0.double(), eps.double()
    x_t = de.q_sample(x0, t, eps, SCHEDULE)
    more = torch.randn_like(x0)

    def net(x: Tensor, t: Tensor) -> Tensor:
        return torch.cat([de.q_posterior(x, x0, t, SCHEDULE).mean, more], 1)

    found = ablation.mean_as_x0(net, SCHEDULE)(x_t, t)
    torch.testing.assert_close(found[:, :2], x0)
    assert torch.equal(found[:, 2:], more)  # a variance is passed on


# ---- the losses ----------------------------------------------------------------------------------


def test_simple_for_the_mean_is_the_squared_error_of_the_mean() -> None:
    x0, t, eps = batch()
    net = single(0)
    x_t = de.q_sample(x0, t, eps, SCHEDULE)
    wanted = (de.q_posterior(x_t, x0, t, SCHEDULE).mean - net(x_t, t)).square().mean()
    loss = ablation.objective("mean", "simple", SCHEDULE)
    found = loss(ablation.mean_as_x0(net, SCHEDULE), x0, t, eps)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)


def test_simple_for_eps_is_l_simple() -> None:
    x0, t, eps = batch()
    found = ablation.objective("eps", "simple", SCHEDULE)(single(0), x0, t, eps)
    assert found == de.loss_simple(single(0), x0, t, eps, SCHEDULE)


@pytest.mark.parametrize(("name", "sigma2"), [("L, fixed", "beta"), ("L, learned", "learned")])
@pytest.mark.parametrize(("predicts", "kind"), [("mean", "x0"), ("eps", "eps")])
def test_the_bound_of_several_is_the_mean_of_their_bounds(
    predicts: str, kind: str, name: str, sigma2: str
) -> None:
    x0, t, eps = batch()
    maker = partial(ablation.WithVariance, SCHEDULE.T, 8, 1) if "learned" in name else make
    read = partial(ablation.mean_as_x0, schedule=SCHEDULE) if predicts == "mean" else lambda n: n
    loss = ablation.objective(predicts, name, SCHEDULE)  # type: ignore[arg-type]
    found = loss(read(ablation.Several(maker, SEEDS)), x0, t, eps)
    how: dict[str, Any] = {"kind": kind, "sigma2": sigma2, "decoder": "gaussian"}
    parts = zip(x0.chunk(SEEDS), t.chunk(SEEDS), eps.chunk(SEEDS), strict=True)
    alone = [
        de.loss_vlb(read(single(seed, maker)), *part, SCHEDULE, **how).mean()
        for seed, part in enumerate(parts)
    ]
    torch.testing.assert_close(found, torch.stack(alone).mean(), rtol=1e-4, atol=1e-5)


def test_an_unknown_loss_is_named() -> None:
    with pytest.raises(ValueError, match="L, free"):
        ablation.objective("eps", "L, free", SCHEDULE)


# ---- training and measuring ----------------------------------------------------------------------


def test_fit_learns_and_repeats_itself() -> None:
    data = de.toy.gaussians(500, seed=0)
    loss = ablation.objective("eps", "simple", SCHEDULE)
    models = [
        ablation.fit(ablation.Several(make, 2), loss, data, SCHEDULE.T, steps=40, batch=64)
        for _ in range(2)
    ]
    x0, t, eps = batch()
    first, again = (loss(m, x0, t, eps) for m in models)
    assert first == again
    assert first < 0.7 * loss(ablation.Several(make, 2), x0, t, eps)


@pytest.mark.parametrize("predicts", ["mean", "eps"])
@pytest.mark.parametrize("name", ["L, learned", "L, fixed", "simple"])
def test_every_variant_trains_and_is_measured(predicts: str, name: str) -> None:
    data = de.toy.swiss_roll(80, seed=1)
    model = ablation.trained(predicts, name, data, SCHEDULE, steps=2)  # type: ignore[arg-type]
    how = (predicts, name)
    bound, distance = ablation.bound_and_distance(model, data, SCHEDULE, *how)  # type: ignore[arg-type]
    assert bound.shape == distance.shape == (4,)
    assert torch.isfinite(bound).all()
    assert (distance > 0).all()


def test_samples_that_run_away_are_infinitely_far() -> None:
    data = de.toy.swiss_roll(40, seed=1)

    def broken(x: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(x, torch.nan)

    _, distance = ablation.bound_and_distance(broken, data, SCHEDULE, "eps", "L, fixed")
    assert (distance == torch.inf).all()


def test_the_bound_is_that_of_the_library() -> None:
    oracle = de.MixtureOracle(*de.toy.gaussians_mixture(), SCHEDULE)
    data = de.toy.gaussians(42, seed=0)  # two are left over
    bound, distance = ablation.bound_and_distance(oracle, data, SCHEDULE, "eps", "L, fixed")
    draws = torch.Generator().manual_seed(1)
    how: dict[str, Any] = {"decoder": "gaussian", "generator": draws}
    terms = de.elbo(oracle, data[:40], SCHEDULE, **how)
    torch.testing.assert_close(bound, terms.total.view(4, 10).mean(1))
    x_T = torch.randn(40, 2, generator=draws)
    clouds = de.ddpm(oracle, x_T, SCHEDULE, generator=draws).chunk(4)
    wanted = [
        de.sliced_wasserstein2(x, data[:40], generator=torch.Generator().manual_seed(2))
        for x in clouds
    ]
    torch.testing.assert_close(distance, torch.stack(wanted))


def test_threads_come_back_after_an_error() -> None:
    before = torch.get_num_threads()

    def fail() -> None:
        with ablation.one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.get_num_threads() == before
