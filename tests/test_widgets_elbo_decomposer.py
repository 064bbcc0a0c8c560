"""ElboDecomposer: its terms are the library's, lie above what is exact, and add up."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from explorers import check_same_seed, curve, run_code

from diffusion_edu import MixtureOracle, elbo, pretrained, toy
from diffusion_edu import loss_weight as reference_weight
from diffusion_edu.widgets.elbo_decomposer import ElboDecomposer
from diffusion_edu.widgets.elbo_terms import estimate, exact_nats

SMALL = {"steps": 6, "draws": 64}


@pytest.fixture(scope="module")
def exact() -> ElboDecomposer:
    """The exact denoiser on many draws; left as it is."""
    return ElboDecomposer(draws=2048)


@pytest.fixture(scope="module")
def long() -> ElboDecomposer:
    """The same on a chain of 200 steps."""
    return ElboDecomposer(steps=200, draws=2048)


# ---- the terms -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "sigma2", "decoder"),
    [
        ("oracle", "beta", "gaussian"),
        ("oracle", "beta_tilde", "discretized"),
        ("gaussians", "beta", "discretized"),
        ("swiss_roll", "beta_tilde", "gaussian"),
    ],
)
def test_code_makes_the_terms(model: str, sigma2: str, decoder: str) -> None:
    """What "copy as code" gives, elbo of the library, has the terms, total and weight shown."""
    explorer = ElboDecomposer(model, sigma2=sigma2, decoder=decoder, seed=3, **SMALL)
    for t in (6, 2, 1):
        explorer.t = t
        names = run_code(explorer)
        assert torch.allclose(names["terms"].total, explorer.terms.total, rtol=1e-4, atol=1e-4)
        shown = explorer.term[explorer.frame]
        assert float(names["term"].double().mean()) == pytest.approx(float(shown), rel=1e-3)
        assert names["weight"] == explorer.weights[explorer.frame]


@pytest.mark.parametrize("decoder", ["gaussian", "discretized"])
def test_what_is_drawn_adds_up_to_the_bound(decoder: str) -> None:
    """L_T + terms of the first picture = end of the second = mean of elbo(...).total."""
    explorer = ElboDecomposer(decoder=decoder, steps=12)
    scene = explorer.scene()
    terms = curve(scene, 0, "L_{t-1}").double()
    added = curve(scene, 1, "L_T + ... + L_{t-1}")
    error = curve(scene, 1, "L_T + ... + L_{t-1}", "error")
    total = float(explorer.terms.total.double().mean())
    last = explorer.term[-1]  # L_0, which has no place on a logarithmic axis if it is negative
    assert float(terms[-1].nan_to_num(float(last))) == pytest.approx(float(last))
    every = explorer.terms.L_T.mean() + terms[:-1].sum() + last
    assert float(every) == pytest.approx(total, abs=1e-5)
    assert float(added[-1]) == pytest.approx(total, abs=1e-5)
    assert float(error[-1]) == pytest.approx(explorer.total[1], rel=1e-5)
    gap = curve(scene, 1, "gap so far")
    assert float(gap[-1]) == pytest.approx(explorer.gap[0], abs=1e-5)
    bits = float(explorer.terms.bits_per_dim().mean())
    assert f"{bits:.2f} bits/dim" in scene.text[0]


@pytest.mark.parametrize("sigma2", ["beta", "beta_tilde"])
def test_a_term_is_its_weight_times_the_squared_error(sigma2: str) -> None:
    """L_{t-1} = weight_t ||eps - eps_hat||^2 + KL between the variances, DDPM eq. 8 and 12."""
    explorer = ElboDecomposer("gaussians", sigma2=sigma2, steps=10, draws=100)
    state, s = explorer._state, explorer.noise_schedule
    t = torch.tensor(state.times[:-1])
    variance = getattr(s, sigma2)[t]
    ratio = s.beta_tilde[t] / variance
    constant = ratio - 1 - ratio.log()  # in two dimensions
    wanted = explorer.weights[:-1, None] * state.squared[:-1] + constant[:, None]
    assert torch.allclose(state.rows[:-1].double(), wanted, rtol=1e-3, atol=1e-5)
    drawn = curve(explorer.scene(), 2, "in the bound")
    assert torch.allclose(drawn[:-1], reference_weight(t, s, sigma2).float())


@pytest.mark.parametrize("weighting", ["simple", "min_snr"])
def test_other_weights_draw_other_terms_and_keep_the_bound(weighting: str) -> None:
    """Weight x squared error, with the weights of the third picture; the sum is still the bound."""
    explorer = ElboDecomposer("gaussians", weighting=weighting, **SMALL)
    scene = explorer.scene()
    weight = curve(scene, 2, {"simple": "L_simple", "min_snr": "min-SNR"}[weighting]).double()
    shown = curve(scene, 0, "weight x ||eps - eps_hat||^2").double()
    assert torch.allclose(shown, weight * estimate(explorer._state.squared)[0], rtol=1e-5)
    assert (weight == 1).all() == (weighting == "simple")
    added = curve(scene, 1, "L_T + ... + L_{t-1}")
    assert float(added[-1]) == pytest.approx(explorer.total[0], abs=1e-5)


def test_a_callable_is_the_network() -> None:
    """The shipped network handed in as a function gives the terms of the name."""
    model, schedule, _ = pretrained("gaussians")
    mine = ElboDecomposer(lambda x, t: model(x, t), schedule=schedule, **SMALL)
    named = ElboDecomposer("gaussians", **SMALL)
    assert torch.allclose(mine.terms.total, named.terms.total, atol=1e-4)
    assert (mine.model, mine.dataset) == ("yours", "gaussians")


def test_elbo_gets_what_the_denoiser_says() -> None:
    """Predictions made beforehand, all levels at once, are those elbo would ask for one by one."""
    explorer = ElboDecomposer(**SMALL)
    state = explorer._state
    oracle = MixtureOracle(*toy.gaussians_mixture(), state.schedule)
    direct = elbo(oracle, state.x0, state.schedule, decoder="gaussian", eps=state.eps)
    assert torch.allclose(direct.total, explorer.terms.total, atol=1e-4)


# ---- what is exact -------------------------------------------------------------------------------


def test_exact_is_the_mixtures_log_density() -> None:
    """-log p of the same points; with the discretised decoder a probability: it sums to 1."""
    explorer = ElboDecomposer(**SMALL)
    oracle = MixtureOracle(*toy.gaussians_mixture(), explorer.noise_schedule)
    x0 = explorer._state.x0
    assert explorer.exact[0] == pytest.approx(-float(oracle.log_prob(x0, 0).mean()), abs=1e-5)
    line = torch.linspace(-2.2, 2.2, 1000)  # 2.2 is beyond all eight modes
    cells = toy.LIMIT * toy.from_uint8(toy.to_uint8(line).unique())
    every = torch.cartesian_prod(cells, cells)
    mass = (-exact_nats(every, explorer.noise_schedule, "discretized")).exp().sum()
    assert float(mass) == pytest.approx(1, abs=1e-4)
    assert ElboDecomposer("moons", **SMALL).exact is None


@pytest.mark.parametrize("sigma2", ["beta", "beta_tilde"])
@pytest.mark.parametrize("decoder", ["gaussian", "discretized"])
@pytest.mark.parametrize("model", ["oracle", "gaussians"])
def test_the_bound_is_above_what_is_exact(model: str, decoder: str, sigma2: str) -> None:
    """-ELBO >= -log p, and every term >= what exact steps need, within 5 standard errors."""
    explorer = ElboDecomposer(model, decoder=decoder, sigma2=sigma2, steps=25, draws=1024)
    gap, error = explorer.gap
    assert gap > -5 * error
    least, its = estimate(explorer._state.information.diff(dim=0))
    assert torch.allclose(least, explorer.least)
    assert (explorer.term > least - 5 * (explorer.error**2 + its**2).sqrt()).all()


def test_the_gap_closes_as_the_chain_gets_longer(long: ElboDecomposer) -> None:
    """With the exact denoiser and sigma^2 = beta; with beta_tilde a gap stays (DDPM sec. 3.2)."""
    explorer = ElboDecomposer(draws=2048)
    gaps = []
    for steps in (2, 5, 10, 20, 60):
        explorer.steps = steps
        gaps.append(explorer.gap)
    gaps.append(long.gap)
    for (more, a), (less, b) in itertools.pairwise(gaps):
        assert more > less - 2 * math.hypot(a, b)
    assert gaps[0][0] > 1.5
    assert gaps[-1][0] < 0.25
    gap, error = ElboDecomposer(steps=200, draws=2048, sigma2="beta_tilde").gap
    assert gap > 0.5 + 5 * error


def test_the_network_costs_more_than_the_exact_denoiser(exact: ElboDecomposer) -> None:
    """||eps - net||^2 - ||eps - exact||^2 has mean ||net - exact||^2: exact is E[eps | x_t]."""
    network = ElboDecomposer("gaussians", draws=2048)
    assert torch.equal(exact._state.eps, network._state.eps)
    apart = ((network._state.eps_hat - exact._state.eps_hat) ** 2).sum(2).flip(0)
    off, error = estimate(network._state.squared - exact._state.squared - apart)
    assert (off.abs() < 5 * error).all()
    more, error = estimate(network.terms.total - exact.terms.total)
    assert -5 * error < more < 0.2


def test_exact_terms_obey_the_mmse_identity(long: ElboDecomposer) -> None:
    """I(x_0; x_s) - I(x_0; x_t) = 1/2 integral of the MMSE of x_0 over SNR (Guo et al. 2005).

    The MMSE of x_0 is that of eps over SNR: here that of the exact denoiser, on other noise.
    """
    state = long._state
    levels = slice(0, 190)  # t = 200..11: towards t = 1 the steps of SNR are coarse
    t = torch.tensor(state.times[levels])
    x = long.noise_schedule.log_snr[t]
    mmse = state.squared[levels].double()  # times SNR, in the variable log SNR
    integral = torch.trapezoid(mmse, x, dim=0) / 2
    gained = state.information[levels.stop - 1] - state.information[0]
    off, error = estimate(gained - integral)
    assert float(gained.mean()) > 2
    assert off.abs() < 5 * error + 0.01
    assert error < 0.03
    assert float(long.least.sum()) == pytest.approx(long.exact[0], abs=0.05)


@pytest.mark.parametrize("t", [1, 6, 15])
def test_information_is_that_of_quadrature(exact: ElboDecomposer, t: int) -> None:
    """I(x_0; x_t) = H(x_t) - log(2 pi e (1 - alpha_bar_t)), the entropy H by a sum over the plane.

    Exact steps need as much down to x_t; the mean over 2,048 draws is within 5 standard errors.
    """
    schedule = exact.noise_schedule
    line = torch.linspace(-5, 5, 301, dtype=torch.float64)
    oracle = MixtureOracle(*toy.gaussians_mixture(), schedule)
    log_q = oracle.log_prob(torch.cartesian_prod(line, line), t)
    entropy = -(log_q.exp() * log_q).sum() * (line[1] - line[0]) ** 2
    noise = 1 - float(schedule.alpha_bar[t])
    mean, error = estimate(exact._state.information[schedule.T - t])
    wanted = float(entropy) - math.log(2 * math.pi * math.e * noise)
    assert float(mean) == pytest.approx(wanted, abs=5 * float(error))
    assert error < 0.03


# ---- errors and randomness -----------------------------------------------------------------------


def test_error_bars_are_honest() -> None:
    """The spread of the total over 100 seeds is the standard error shown, within 5 sigma (35 %)."""
    runs = [ElboDecomposer(steps=3, draws=64, seed=s).total for s in range(100)]
    totals, errors = torch.tensor(runs, dtype=torch.float64).T
    assert float(totals.std() / (errors**2).mean().sqrt()) == pytest.approx(1, abs=0.35)


def test_four_times_the_draws_halve_the_error(exact: ElboDecomposer) -> None:
    """Within 15 %; and the first draws stay what they were."""
    few = ElboDecomposer(draws=512)
    assert few.total[1] / exact.total[1] == pytest.approx(2, rel=0.15)
    assert torch.allclose(few.terms.total, exact.terms.total[:512], atol=1e-5)


def test_same_seed_same_picture() -> None:
    """Another seed draws other data and other noise; sigma2 keeps both."""
    check_same_seed(functools.partial(ElboDecomposer, **SMALL))
    a, b = ElboDecomposer(**SMALL), ElboDecomposer(**SMALL)
    b.sigma2 = "beta_tilde"
    assert torch.equal(a._state.squared, b._state.squared)
    b.seed = 1
    assert not torch.equal(a._state.x0, b._state.x0)
    assert not torch.equal(a._state.eps, b._state.eps)
