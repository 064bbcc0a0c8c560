"""ElboDecomposer: its terms are the library's, lie above what is exact, and add up."""

from __future__ import annotations

import itertools
import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from explorers import ask
from torch import Tensor

from diffusion_edu import Gaussian, MixtureOracle, elbo, linear, pretrained, q_posterior, toy
from diffusion_edu import loss_weight as reference_weight
from diffusion_edu.prediction import predict
from diffusion_edu.viz.scene import unpack
from diffusion_edu.widgets import learner
from diffusion_edu.widgets.elbo_decomposer import ElboDecomposer
from diffusion_edu.widgets.elbo_terms import estimate, exact_nats

SMALL = {"steps": 6, "draws": 64}


def drawn(explorer: ElboDecomposer, panel: int, label: str) -> tuple[Tensor, Tensor | None]:
    """What the player draws of a curve, and its error bars."""
    scene = explorer.scene()
    series = next(s for s in scene.panels[panel]["series"] if s["label"] == label)
    y, error = (
        None if series[k] is None else torch.from_numpy(unpack(series[k], scene.buffers))
        for k in ("y", "error")
    )
    assert y is not None
    return y.double(), error


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
        names: dict[str, Any] = {}
        exec(explorer.code, names)
        assert torch.allclose(names["terms"].total, explorer.terms.total, rtol=1e-4, atol=1e-4)
        shown = explorer.term[explorer.frame]
        assert float(names["term"].double().mean()) == pytest.approx(float(shown), rel=1e-3)
        assert names["weight"] == explorer.weights[explorer.frame]


@pytest.mark.parametrize("decoder", ["gaussian", "discretized"])
def test_what_is_drawn_adds_up_to_the_bound(decoder: str) -> None:
    """L_T + terms of the first picture = end of the second = mean of elbo(...).total."""
    explorer = ElboDecomposer(decoder=decoder, steps=12)
    terms, _ = drawn(explorer, 0, "L_{t-1}")
    added, error = drawn(explorer, 1, "L_T + ... + L_{t-1}")
    total = float(explorer.terms.total.double().mean())
    last = explorer.term[-1]  # L_0, which has no place on a logarithmic axis if it is negative
    assert float(terms[-1].nan_to_num(float(last))) == pytest.approx(float(last))
    every = explorer.terms.L_T.mean() + terms[:-1].sum() + last
    assert float(every) == pytest.approx(total, abs=1e-5)
    assert float(added[-1]) == pytest.approx(total, abs=1e-5)
    assert error is not None
    assert float(error[-1]) == pytest.approx(explorer.total[1], rel=1e-5)
    gap, _ = drawn(explorer, 1, "gap so far")
    assert float(gap[-1]) == pytest.approx(explorer.gap[0], abs=1e-5)
    bits = float(explorer.terms.bits_per_dim().mean())
    assert f"{bits:.2f} bits/dim" in explorer.scene().text[0]


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
    curve, _ = drawn(explorer, 2, "in the bound")
    assert torch.allclose(curve[:-1], reference_weight(t, s, sigma2).float().double())


@pytest.mark.parametrize("weighting", ["simple", "min_snr"])
def test_other_weights_draw_other_terms_and_keep_the_bound(weighting: str) -> None:
    """Weight x squared error, with the weights of the third picture; the sum is still the bound."""
    explorer = ElboDecomposer("gaussians", weighting=weighting, **SMALL)
    weight, _ = drawn(explorer, 2, {"simple": "L_simple", "min_snr": "min-SNR"}[weighting])
    shown, _ = drawn(explorer, 0, "weight x ||eps - eps_hat||^2")
    assert torch.allclose(shown, weight * estimate(explorer._state.squared)[0], rtol=1e-5)
    assert (weight == 1).all() == (weighting == "simple")
    added, _ = drawn(explorer, 1, "L_T + ... + L_{t-1}")
    assert float(added[-1]) == pytest.approx(explorer.total[0], abs=1e-5)


def test_a_callable_is_the_network() -> None:
    """The shipped network handed in as a function gives the terms of the name."""
    model, schedule, _ = pretrained("gaussians")
    mine = ElboDecomposer(lambda x, t: model(x, t), schedule=schedule, **SMALL)
    named = ElboDecomposer("gaussians", **SMALL)
    assert torch.allclose(mine.terms.total, named.terms.total, atol=1e-4)
    assert (mine.model, mine.dataset) == ("yours", "gaussians")


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


def test_the_gap_closes_as_the_chain_gets_longer() -> None:
    """With the exact denoiser and sigma^2 = beta; with beta_tilde a gap stays (DDPM sec. 3.2)."""
    explorer = ElboDecomposer(draws=2048)
    gaps = []
    for steps in (2, 5, 10, 20, 60, 200):
        explorer.steps = steps
        gaps.append(explorer.gap)
    for (more, a), (less, b) in itertools.pairwise(gaps):
        assert more > less - 2 * math.hypot(a, b)
    assert gaps[0][0] > 1.5
    assert gaps[-1][0] < 0.25
    explorer.sigma2 = "beta_tilde"
    assert explorer.gap[0] > 0.5 + 5 * explorer.gap[1]


def test_the_network_costs_more_than_the_exact_denoiser() -> None:
    """||eps - net||^2 - ||eps - exact||^2 has mean ||net - exact||^2: exact is E[eps | x_t]."""
    exact, network = ElboDecomposer(draws=2048), ElboDecomposer("gaussians", draws=2048)
    assert torch.equal(exact._state.eps, network._state.eps)
    apart = ((network._state.eps_hat - exact._state.eps_hat) ** 2).sum(2).flip(0)
    off, error = estimate(network._state.squared - exact._state.squared - apart)
    assert (off.abs() < 5 * error).all()
    more, error = estimate(network.terms.total - exact.terms.total)
    assert -5 * error < more < 0.2


def test_exact_terms_obey_the_mmse_identity() -> None:
    """I(x_0; x_s) - I(x_0; x_t) = 1/2 integral of the MMSE of x_0 over SNR (Guo et al. 2005).

    The MMSE of x_0 is that of eps over SNR: here that of the exact denoiser, on other noise.
    """
    explorer = ElboDecomposer(steps=200, draws=2048)
    state = explorer._state
    levels = slice(0, 190)  # t = 200..11: towards t = 1 the steps of SNR are coarse
    t = torch.tensor(state.times[levels])
    x = explorer.noise_schedule.log_snr[t]
    mmse = state.squared[levels].double()  # times SNR, in the variable log SNR
    integral = torch.trapezoid(mmse, x, dim=0) / 2
    gained = state.information[levels.stop - 1] - state.information[0]
    off, error = estimate(gained - integral)
    assert float(gained.mean()) > 2
    assert off.abs() < 5 * error + 0.01
    assert error < 0.03
    assert float(explorer.least.sum()) == pytest.approx(explorer.exact[0], abs=0.05)


@pytest.mark.parametrize("t", [1, 6, 15])
def test_information_is_that_of_quadrature(t: int) -> None:
    """I(x_0; x_t) = H(x_t) - log(2 pi e (1 - alpha_bar_t)), the entropy H by a sum over the plane.

    Exact steps need as much down to x_t; the mean over 2,048 draws is within 5 standard errors.
    """
    explorer = ElboDecomposer(draws=2048)
    schedule = explorer.noise_schedule
    line = torch.linspace(-5, 5, 301, dtype=torch.float64)
    oracle = MixtureOracle(*toy.gaussians_mixture(), schedule)
    log_q = oracle.log_prob(torch.cartesian_prod(line, line), t)
    entropy = -(log_q.exp() * log_q).sum() * (line[1] - line[0]) ** 2
    noise = 1 - float(schedule.alpha_bar[t])
    mean, error = estimate(explorer._state.information[schedule.T - t])
    wanted = float(entropy) - math.log(2 * math.pi * math.e * noise)
    assert float(mean) == pytest.approx(wanted, abs=5 * float(error))
    assert error < 0.03


# ---- errors and randomness -----------------------------------------------------------------------


def test_error_bars_are_honest() -> None:
    """The spread of the total over 100 seeds is the standard error shown, within 5 sigma (35 %)."""
    runs = [ElboDecomposer(steps=3, draws=64, seed=s).total for s in range(100)]
    totals, errors = torch.tensor(runs, dtype=torch.float64).T
    assert float(totals.std() / (errors**2).mean().sqrt()) == pytest.approx(1, abs=0.35)


def test_four_times_the_draws_halve_the_error() -> None:
    """Within 15 %; and the first draws stay what they were."""
    few, many = ElboDecomposer(draws=512), ElboDecomposer(draws=2048)
    assert few.total[1] / many.total[1] == pytest.approx(2, rel=0.15)
    assert torch.allclose(few.terms.total, many.terms.total[:512], atol=1e-5)


def test_same_seed_same_picture() -> None:
    """Bit for bit; another seed draws other data and other noise; sigma2 keeps both."""
    a, b = ElboDecomposer(**SMALL), ElboDecomposer(**SMALL)
    assert a.scene().buffers == b.scene().buffers
    b.sigma2 = "beta_tilde"
    assert torch.equal(a._state.squared, b._state.squared)
    b.seed = 1
    assert not torch.equal(a._state.x0, b._state.x0)
    assert not torch.equal(a._state.eps, b._state.eps)


# ---- the learner's functions ---------------------------------------------------------------------


def kl_t(x0: Tensor, x_t: Tensor, t: Any, eps_hat: Tensor, schedule: Any) -> Tensor:
    """L_{t-1} with sigma^2 = beta, from the public library."""
    x0_hat = predict("eps", eps_hat, x_t, t, schedule).x0
    mean = q_posterior(x_t, x0_hat, t, schedule).mean
    variance = schedule.beta[t].float().view(-1, 1)
    return q_posterior(x_t, x0, t, schedule).kl(Gaussian(mean, variance))


def test_right_functions_agree() -> None:
    """kl_t and loss_weight of the library: no difference but rounding; both are drawn."""
    explorer = ElboDecomposer(kl_t=kl_t, loss_weight=reference_weight, **SMALL)
    assert len(explorer.notes) == 2
    assert all("agrees" in note for note in explorer.notes)
    assert explorer.difference < 1e-3
    assert torch.allclose(explorer.mine[:-1].double(), explorer.term[:-1], rtol=1e-3, atol=1e-5)
    assert math.isnan(explorer.mine[-1])
    assert torch.allclose(explorer.mine_weight, explorer.weights)
    for panel in (0, 2):
        drawn(explorer, panel, "yours")
    explorer.weighting = "simple"
    assert "yours" not in [s["label"] for s in explorer.scene().panels[0]["series"]]


def test_functions_that_want_an_int_agree() -> None:
    """A tensor t is tried first, then an int."""

    def with_int(x0: Tensor, x_t: Tensor, t: Any, eps_hat: Tensor, schedule: Any) -> Tensor:
        return kl_t(x0, x_t, torch.full((len(x0),), range(100)[t]), eps_hat, schedule)

    explorer = ElboDecomposer(kl_t=with_int, **SMALL)
    assert "agrees" in explorer.notes[0]


def test_a_missing_half_is_measured() -> None:
    """Twice the KL is off by the KL; twice the weight by the weight."""
    explorer = ElboDecomposer(
        kl_t=lambda *args: 2 * kl_t(*args),
        loss_weight=lambda t, s: 2 * reference_weight(t, s),
        **SMALL,
    )
    assert all("differs" in note for note in explorer.notes)
    state = explorer._state
    assert state.differences["kl_t"] == pytest.approx(float(state.rows[:-1].max()), rel=1e-3)
    assert state.differences["loss_weight"] == pytest.approx(float(state.weight.max()))
    assert explorer.difference == max(state.differences.values())


def test_another_sigma2_is_recognised() -> None:
    """A function for sigma^2 = beta beside beta_tilde is called that, not just wrong."""
    explorer = ElboDecomposer(kl_t=kl_t, loss_weight=reference_weight, sigma2="beta_tilde", **SMALL)
    assert all("it is that of sigma2 = beta)" in note for note in explorer.notes)
    explorer.sigma2 = "beta"
    assert all("agrees" in note for note in explorer.notes)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x0, x_t, t, eps, s: x0, ["returned shape (64, 2)", "(64,)"]),
        (lambda x0, x_t, t, eps, s: kl_t(x0, x_t, t, eps, s).mean(), ["returned shape ()"]),
        (lambda x0, x_t, t, eps, s: None, ["returned None"]),
        (lambda x0, x_t, t, eps, s: 1.0, ["returned float"]),
        (lambda x0, x_t, t, eps, s: x0[:, 0] / 0 * 0, ["NaN", "first at t = 6"]),
        (lambda x0, x_t, t, eps, s: none, ["NameError", "none"]),  # type: ignore[name-defined]  # noqa: F821
        (lambda x0, x_t: x0, ["TypeError"]),
    ],
)
def test_wrong_results_are_explained(function: Any, words: list[str]) -> None:
    """Each kind of mistake has its sentence, and the reference is drawn all the same."""
    explorer = ElboDecomposer(kl_t=function, **SMALL)
    assert all(word in explorer.notes[0] for word in words), explorer.notes
    answer, _ = ask(explorer, steps=4)
    assert answer["scene"]["time"]["values"] == [4, 3, 2, 1]
    assert answer["scene"]["notes"]
    json.dumps(answer, allow_nan=False)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda t, s: reference_weight(t, s).sum(), ["returned shape ()", "(6,)"]),
        (lambda t, s: s.beta[t] / 0, ["infinity", "first at t = 6"]),
        (lambda t, s: s.gamma[t], ["AttributeError", "s.gamma"]),
    ],
)
def test_wrong_weights_are_explained(function: Any, words: list[str]) -> None:
    """As for kl_t."""
    explorer = ElboDecomposer(loss_weight=function, **SMALL)
    assert all(word in explorer.notes[0] for word in words), explorer.notes
    json.dumps(explorer.scene().head(), allow_nan=False)


def test_slow_and_hanging_functions_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was ready is drawn, one that hangs is not called again; the explorer lives on."""
    monkeypatch.setattr(learner, "PATIENCE", 0.4)

    def slow(*args: Any) -> Tensor:
        time.sleep(0.15)
        return kl_t(*args)

    explorer = ElboDecomposer(kl_t=slow, **SMALL)
    assert "slow" in explorer.notes[0]
    assert explorer.mine[:1].isfinite().all()
    assert explorer.mine[3:].isnan().all()

    def hang(*args: Any) -> Any:
        while True:
            time.sleep(0.01)

    for name in ("kl_t", "loss_weight"):
        explorer = ElboDecomposer(**{name: hang}, **SMALL)
        assert "did not return" in explorer.notes[0]
        start = time.perf_counter()
        assert "error" not in ask(explorer, sigma2="beta_tilde")[0]
        assert time.perf_counter() - start < 0.3


def test_editing_in_place_spoils_nothing() -> None:
    """A function that overwrites its arguments gets copies."""

    def overwrite(x0: Tensor, x_t: Tensor, t: Any, eps: Tensor, schedule: Any) -> Tensor:
        kl = kl_t(x0, x_t, t, eps, schedule)
        for x in (x0, x_t, eps):
            x.zero_()
        return kl

    explorer, plain = ElboDecomposer(kl_t=overwrite, **SMALL), ElboDecomposer(**SMALL)
    assert "agrees" in explorer.notes[0]
    assert torch.equal(explorer.terms.total, plain.terms.total)


# ---- parameters and files ------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["oracle", "moons"])
def test_every_control_at_both_ends(model: str) -> None:
    """Each slider at its ends and each choice gives a scene of finite numbers, not too far out."""
    explorer = ElboDecomposer(model, steps=5, draws=64)
    for control in explorer._controls(explorer._state):
        values = control.choices if control.kind == "choice" else (control.low, control.high)
        for value in (*values, control.value):
            answer, _ = ask(explorer, **{control.name: type(control.value)(value)})
            assert "error" not in answer
            assert len(answer["scene"]["panels"]) == 3
            json.dumps(answer, allow_nan=False)
            assert explorer.term.isfinite().all()
            now = {c["name"]: c["value"] for c in answer["scene"]["controls"]}
            assert now[control.name] == value
        explorer.update(model=explorer._initial["model"], dataset=explorer._initial["dataset"])


def test_sliders_spaced_by_powers_send_fractions() -> None:
    """They are rounded, and kept in range."""
    explorer = ElboDecomposer(**SMALL)
    for sent, draws in ((100.4, 100), (2050, 2048), (63.7, 64)):
        assert "error" not in ask(explorer, draws=sent)[0]
        assert explorer.draws == draws


def test_choices_that_do_not_go_together_are_mended() -> None:
    """The exact denoiser brings its data; other data bring the network."""
    explorer = ElboDecomposer(**SMALL)
    ask(explorer, dataset="moons")
    assert (explorer.model, explorer.dataset) == ("network", "moons")
    ask(explorer, model="oracle")
    assert (explorer.model, explorer.dataset) == ("oracle", "gaussians")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 1}, "steps must be .*steps=1"),
        ({"draws": 10**6}, "draws must be .*draws=1000000"),
        ({"sigma2": "betas"}, "Did you mean 'beta'"),
        ({"decoder": "laplace"}, "unknown decoder 'laplace'"),
        ({"weighting": "snr"}, "unknown weighting 'snr'.*'min_snr'"),
        ({"dataset": "moons"}, "dataset must be 'gaussians' .*dataset='moons'"),
        ({"t": 0}, "t must be an int >= 1, got t=0"),
        ({"t": 7}, "t must be an int in 1..6, got t=7"),
    ],
)
def test_bad_values_change_nothing(values: dict[str, Any], words: str) -> None:
    """Refused with the name, the value and what is allowed."""
    explorer = ElboDecomposer(**SMALL)
    before = repr(explorer)
    with pytest.raises(ValueError, match=words):
        explorer.update(**values)
    assert repr(explorer) == before


def test_a_model_may_be_broken() -> None:
    """A wrong shape is refused by name; NaN leaves a picture without them, and says nan."""
    with pytest.raises(ValueError, match="output must have the shape of x_t"):
        ElboDecomposer(lambda x, t: x[:, :1], "gaussians", schedule=linear(50), **SMALL)
    explorer = ElboDecomposer(lambda x, t: x / 0 * 0, "gaussians", schedule=linear(50), **SMALL)
    scene = explorer.scene()
    json.dumps(scene.head(), allow_nan=False)
    assert "nan" in scene.text[0]


def test_short_schedules_limit_the_steps() -> None:
    """The slider ends at the T of the denoiser's own chain."""
    explorer = ElboDecomposer(lambda x, t: x, "gaussians", schedule=linear(8), **SMALL)
    steps = next(c for c in explorer._controls(explorer._state) if c.name == "steps")
    assert steps.high == 8
    ask(explorer, steps=9)
    assert explorer.steps == 8
    with pytest.raises(ValueError, match=r"steps must be an int in 1\.\.8, got steps=9"):
        explorer.steps = 9


def test_dragging_is_coarser_and_letting_go_is_full() -> None:
    """Costly pictures have fewer draws while dragged, in the same layout."""
    explorer = ElboDecomposer(steps=50, draws=2048)
    before = explorer.scene()
    message = {"seq": 1, "view": "v", "values": {"seed": 2}, "final": False}
    answer, _ = explorer.receive(message)
    assert answer["scene"]["coarse"]
    assert 64 <= len(explorer._state.x0) < 2048
    titles = [p["title"] for p in answer["scene"]["panels"]]
    assert titles == [p["title"] for p in before.panels]
    assert len(explorer.terms.total) == 2048
    assert len(ask(explorer)[0]["scene"]["text"]) == 50
    assert not explorer._state.coarse


def test_lines_of_text_are_short() -> None:
    """At most 120 characters at the largest settings, and the numbers are those of the state."""
    explorer = ElboDecomposer(steps=200, sigma2="beta_tilde", draws=64)
    text = explorer.scene().text
    assert max(map(len, text)) <= 120
    gap, error = explorer.gap
    assert text[0].endswith(f"gap {gap:.3f} ± {error:.3f}")
    assert text[-2].startswith("t = 2 of 200: L_1 = ")


def test_reset_goes_back() -> None:
    """To the first settings, picture and all."""
    explorer = ElboDecomposer(**SMALL)
    before = explorer.scene().buffers
    ask(explorer, sigma2="beta_tilde", steps=9, seed=4)
    assert explorer.scene().buffers != before
    explorer.receive({"seq": 2, "view": "v", "reset": True})
    assert explorer.scene().buffers == before


def test_files(tmp_path: Path) -> None:
    """The page of all its settings is below 1.5 MB; a picture is a PNG."""
    explorer = ElboDecomposer(draws=64)
    page = explorer.to_html(tmp_path / "page.html")
    assert page.stat().st_size < 1_500_000
    png = explorer.save(tmp_path / "x.png")
    assert png.read_bytes()[:4] == b"\x89PNG"


def test_elbo_gets_what_the_denoiser_says() -> None:
    """Predictions made beforehand, all levels at once, are those elbo would ask for one by one."""
    explorer = ElboDecomposer(**SMALL)
    state = explorer._state
    oracle = MixtureOracle(*toy.gaussians_mixture(), state.schedule)
    direct = elbo(oracle, state.x0, state.schedule, decoder="gaussian", eps=state.eps)
    assert torch.allclose(direct.total, explorer.terms.total, atol=1e-4)


def test_a_change_is_quick(record_property: Any) -> None:
    """Seconds for one change, printed; the aim is 60 ms."""
    explorer = ElboDecomposer()
    start = time.perf_counter()
    for k in range(5):
        explorer.seed = k
        explorer.scene()
    record_property("change_s", (time.perf_counter() - start) / 5)
    assert explorer.seed == 4
