"""Mistakes of published code, written anew as submissions: each is called by its name.

Where they were seen stands beside each. The code is ours: only what was wrong is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from diffusion_edu.exercises import load, names
from diffusion_edu.exercises.extract import read
from diffusion_edu.exercises.judge import judge
from diffusion_edu.exercises.local import Namespace

SECRETS = ("published", "of another course")
HEAD = "import math\nimport torch\n\n"


@dataclass(frozen=True)
class Published:
    """A mistake that was seen in the wild, and a submission that makes it."""

    mistake: str
    exercise: str
    function: str
    seen: str
    code: str
    mend: tuple[str, str]  # what is wrong in it, and what is right


TABLE = (
    Published(
        "var_for_std",
        "E1",
        "forward_step",
        "acids-ircam/diffusion_models#1, cell 16; text of Hugging Face's course, #18, #63",
        """
def forward_step(x, t, beta, eps):
    # x ~ N(sqrt(1 - beta) x, beta): the second number of N is a variance
    center = math.sqrt(1.0 - beta[t]) * x
    return center + beta[t] * eps
""",
        ("beta[t] * eps", "beta[t] ** 0.5 * eps"),
    ),
    Published(
        "var_for_std",
        "E2",
        "q_sample",
        "Ryota-Kawamura/How-Diffusion-Models-Work#1; juraam/stable-diffusion-from-scratch#3",
        """
def coefficients(table, t, like):
    return table.gather(0, t).reshape((len(t),) + (1,) * (like.dim() - 1))


def q_sample(x0, t, eps, sch):
    ab = coefficients(sch.alpha_bar, t, x0)
    return ab.sqrt() * x0 + (1 - ab) * eps
""",
        ("(1 - ab) * eps", "(1 - ab).sqrt() * eps"),
    ),
    Published(
        "uniform_noise",
        "E5",
        "train_step",
        "acids-ircam/diffusion_models, cell 16: rand_like for a Gaussian kernel",
        """
def ddpm_loss(net, x0, t, eps, sch):
    ab = sch.alpha_bar[t].reshape(-1, *[1] * (x0.dim() - 1))
    guess = net(torch.sqrt(ab) * x0 + torch.sqrt(1 - ab) * eps, t)
    return torch.nn.functional.mse_loss(guess, eps.to(guess.dtype))


def train_step(model, opt, x0, sch, generator):
    levels = torch.randint(1, sch.T + 1, (x0.shape[0],), generator=generator)
    noise = torch.rand(x0.shape, generator=generator)
    opt.zero_grad()
    loss = ddpm_loss(model, x0, levels, noise, sch)
    loss.backward()
    opt.step()
    return loss.item()
""",
        ("torch.rand(", "torch.randn("),
    ),
    Published(
        "noise_at_last_step",
        "E6",
        "ddpm_step",
        "acids-ircam/diffusion_models: nonzero_mask is computed and never used",
        """
def ddpm_step(xt, t, eps_pred, z, sch, var="beta"):
    def pick(values):
        return values.reshape(-1, *[1] * (xt.dim() - 1))

    b, ab, before = pick(sch.beta[t]), pick(sch.alpha_bar[t]), pick(sch.alpha_bar[t - 1])
    mean = (xt - b / torch.sqrt(1 - ab) * eps_pred) / torch.sqrt(1 - b)
    nonzero_mask = pick((t != 1).float())
    spread = b if var == "beta" else b * (1 - before) / (1 - ab)
    return mean + torch.sqrt(spread) * z
""",
        ("torch.sqrt(spread) * z", "nonzero_mask * torch.sqrt(spread) * z"),
    ),
    Published(
        "noise_at_last_step",
        "E6",
        "ddpm_sample",
        "Understanding Deep Learning, notebooks 18.3 and 18.4: `if t > 0` inside range(T, 0, -1)",
        """
@torch.no_grad()
def ddpm_sample(eps_model, xT, sch, zs):
    x = xT
    for t in range(sch.T, 0, -1):
        now = torch.full((x.shape[0],), t)
        share = sch.beta[t] / torch.sqrt(1 - sch.alpha_bar[t])
        x = (x - share * eps_model(x, now)) / torch.sqrt(sch.alpha[t])
        if t > 0:
            x = x + torch.sqrt(sch.beta[t]) * zs[t]
    return x
""",
        ("if t > 0", "if t > 1"),
    ),
    Published(
        "noise_at_last_step",
        "E6",
        "last_steps",
        "labml.ai's annotated DDPM: p_sample adds noise whatever t is",
        """
def p_sample(eps_model, x, t, sch, noise):
    eps = eps_model(x, torch.full((len(x),), t))
    mean = (x - sch.beta[t] / (1 - sch.alpha_bar[t]) ** 0.5 * eps) / sch.alpha[t] ** 0.5
    return mean + sch.beta[t] ** 0.5 * noise


def last_steps(eps_model, x, start, sch, zs):
    with torch.no_grad():
        for back in range(start):
            x = p_sample(eps_model, x, start - back, sch, zs[start - back])
    return x
""",
        ("beta[t] ** 0.5 * noise", "beta[t] ** 0.5 * noise * (t > 1)"),
    ),
    Published(
        "off_by_one_late",  # off_by_one_alpha_bar, with its direction
        "E2",
        "q_sample",
        "Understanding Deep Learning, notebook 18.4: trained with t factors, sampled with t + 1",
        """
def q_sample(x0, t, eps, sch):
    factors = torch.stack([torch.prod(1 - sch.beta[: min(k + 2, sch.T + 1)]) for k in t.tolist()])
    ab = factors.reshape(-1, *[1] * (x0.dim() - 1))
    return torch.sqrt(ab) * x0 + torch.sqrt(1 - ab) * eps
""",
        ("min(k + 2, sch.T + 1)", "k + 1"),
    ),
    Published(
        "off_by_one_early",
        "E2",
        "alpha_bar_from_beta",
        "lucidrains/denoising-diffusion-pytorch#81: time shifted by one against its table",
        """
def alpha_bar_from_beta(beta):
    products = torch.cumprod(1 - beta, dim=0)
    return torch.nn.functional.pad(products[:-1], (1, 0), value=1.0)
""",
        ("pad(products[:-1], (1, 0), value=1.0)", "pad(products[1:], (1, 0), value=1.0)"),
    ),
    Published(
        "duplicate_last_step",
        "E7",
        "level_pairs",
        "lucidrains/denoising-diffusion-pytorch#81: the last pair of times is (0, 0)",
        """
def level_pairs(T, S):
    times = [T * i // S for i in range(S + 1)]
    times = [*reversed(times), 0]  # the end is put in, though it is there
    return torch.tensor(list(zip(times[:-1], times[1:])))
""",
        ("[*reversed(times), 0]", "[*reversed(times)]"),
    ),
    Published(
        "product_to_T",
        "E2",
        "alpha_bar_from_beta",
        "KAIST's course, README of assignment 1; Stanford's CS231n, text",
        """
def alpha_bar_from_beta(beta):
    T = len(beta) - 1
    out = torch.zeros(T + 1)
    for t in range(T + 1):
        product = 1.0
        for s in range(1, T + 1):
            product = product * (1 - beta[s])
        out[t] = product
    return out
""",
        ("range(1, T + 1)", "range(1, t + 1)"),
    ),
    Published(
        "final_abar_not_1",
        "E7",
        "level_tables",
        "Stability-AI/stablediffusion#345; lllyasviel/ControlNet#587",
        """
def level_tables(ts, sch):
    steps = ts[:-1].flip(0)  # rising, as the sampler's time steps are
    alphas = sch.alpha_bar[steps]
    first = sch.alpha_bar[1:][0]  # their table begins with the first noisy level
    alphas_prev = torch.tensor([float(first), *sch.alpha_bar[steps[:-1]].tolist()])
    return alphas.flip(0), alphas_prev.flip(0)
""",
        ("alpha_bar[1:][0]", "alpha_bar[0]"),
    ),
    Published(
        "final_abar_not_1",
        "E7",
        "ddim_step",
        "Stability-AI/stablediffusion#345; lllyasviel/ControlNet#587",
        """
def ddim_step(xt, t, s, eps_pred, z, eta, sch):
    table = torch.cat([sch.alpha_bar[1:2], sch.alpha_bar[1:]])
    a_t = table[t].reshape(-1, *[1] * (xt.dim() - 1))
    a_prev = table[s].reshape(-1, *[1] * (xt.dim() - 1))
    sigma = eta * torch.sqrt((1 - a_prev) / (1 - a_t) * (1 - a_t / a_prev))
    pred_x0 = (xt - torch.sqrt(1 - a_t) * eps_pred) / torch.sqrt(a_t)
    direction = torch.sqrt(1 - a_prev - sigma**2) * eps_pred
    return torch.sqrt(a_prev) * pred_x0 + direction + sigma * z
""",
        ("alpha_bar[1:2]", "alpha_bar[:1]"),
    ),
    Published(
        "ddim_direction_is_sigma",
        "E7",
        "ddim_step",
        "jsboige/CoursIA#16158, a review",
        """
def ddim_step(xt, t, s, eps_pred, z, eta, sch):
    a, b = (sch.alpha_bar[i].reshape(-1, *[1] * (xt.dim() - 1)) for i in (t, s))
    sigma = eta * torch.sqrt((1 - b) / (1 - a)) * torch.sqrt(1 - a / b)
    x0 = (xt - torch.sqrt(1 - a) * eps_pred) / torch.sqrt(a)
    return torch.sqrt(b) * x0 + sigma * eps_pred + sigma * z
""",
        ("sigma * eps_pred", "torch.sqrt(1 - b - sigma**2) * eps_pred"),
    ),
    Published(
        "posterior_var_missing_denominator",
        "E3",
        "posterior_var",
        "varun-ml/diffusion-models-tutorial, pull request 1",
        """
def posterior_var(t, sch):
    return sch.beta[t] * (1.0 - sch.alpha_bar[t - 1])
""",
        ("(1.0 - sch.alpha_bar[t - 1])", "(1.0 - sch.alpha_bar[t - 1]) / (1.0 - sch.alpha_bar[t])"),
    ),
    Published(
        "x0_range_01",
        "E5",
        "ddpm_loss",
        "explainingai-code/DDPM-Pytorch#3: images in [0, 1] and noise left in samples",
        """
def to_unit(images):
    return (images + 1) / 2  # as ToTensor leaves them


def ddpm_loss(eps_model, x0, t, eps, sch):
    ab = sch.alpha_bar[t].reshape(-1, *[1] * (x0.dim() - 1))
    noisy = ab.sqrt() * to_unit(x0) + (1 - ab).sqrt() * eps
    return (eps - eps_model(noisy, t)).square().mean()
""",
        ("(images + 1) / 2", "images"),
    ),
)


def submitted(code: str) -> Namespace:
    """The functions of a script, read as a submission is: definitions and imports only."""
    text = read((HEAD + code).encode(), "submission.py")
    assert text.problems == []
    space: dict = {}
    exec("\n\n".join(part for _, part in text.kept), space)
    return Namespace(space)


@pytest.mark.parametrize("row", TABLE, ids=[f"{r.mistake}-{r.function}" for r in TABLE])
def test_called_by_its_name(row):
    """In the notebook and at grading: caught, called by the name, no point beyond its credit."""
    if row.exercise not in names():
        pytest.skip(f"{row.exercise} does not exist yet")
    exercise = load(row.exercise)
    (mistake,) = (m for m in exercise.function(row.function).mistakes if m.name == row.mistake)
    for secret in (None, *SECRETS):
        results = judge(exercise, submitted(row.code), secret, only=[row.function])
        failed = [r for r in results if r.status != "passed"]
        assert failed
        assert {r.mistake for r in failed} == {row.mistake}, [r.message for r in failed]
        assert all(r.score <= mistake.credit * r.max_score for r in failed)


@pytest.mark.parametrize("row", TABLE, ids=[f"{r.mistake}-{r.function}" for r in TABLE])
def test_nothing_else_is_wrong(row):
    """With that one place mended, every test is passed."""
    assert row.code.count(row.mend[0]) == 1
    exercise = load(row.exercise)
    mended = submitted(row.code.replace(*row.mend))
    for result in judge(exercise, mended, SECRETS[0], only=[row.function]):
        assert result.status == "passed", result.message


def test_every_row_of_the_list_is_here():
    """No mistake that is known from published code is missing."""
    wanted = {
        "var_for_std", "uniform_noise", "noise_at_last_step", "product_to_T", "final_abar_not_1",
        "ddim_direction_is_sigma", "posterior_var_missing_denominator", "x0_range_01",
        "off_by_one_late", "off_by_one_early",  # off_by_one_alpha_bar
    }  # fmt: skip
    assert wanted <= {row.mistake for row in TABLE}
