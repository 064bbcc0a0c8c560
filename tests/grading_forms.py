"""Functions of E2 as people write them: right, wrong with a name, wrong without one.

Written by hand and not taken from the exercise's own catalogue, so that a class made of them has a
truth that the grader does not know.
"""

from __future__ import annotations

from dataclasses import dataclass

POINTS = {
    "alpha_bar_from_beta": 4.0,
    "cosine_alpha_bar": 4.0,
    "q_sample": 7.0,
    "snr": 2.0,
    "chain_tables": 4.0,
}


@dataclass(frozen=True)
class Form:
    """One way of writing a function.

    Attributes:
        mistake: its name, or "" for what is right or has no name.
        points: what it is worth.
    """

    function: str
    mistake: str
    points: float
    source: str
    right: bool


HEADS = {
    "alpha_bar_from_beta": "def alpha_bar_from_beta(beta):",
    "cosine_alpha_bar": "def cosine_alpha_bar(T, s=0.008):",
    "q_sample": "def q_sample(x0, t, eps, sch):",
    "snr": "def snr(sch):",
    "chain_tables": "def chain_tables(beta):",
}


def _form(function: str, mistake: str, points: float, body: str) -> Form:
    lines = body.strip().splitlines()
    source = "\n".join([HEADS[function], *("    " + line for line in lines)])
    return Form(function, mistake, points, source, points == POINTS[function])


def _alpha_bar(mistake: str, credit: float, body: str) -> Form:
    return _form("alpha_bar_from_beta", mistake, 4 * credit, body)


def _cosine(mistake: str, credit: float, end: str, start: str = "") -> Form:
    start = start or "f = torch.cos((torch.arange(T + 1) / T + s) / (1 + s) * torch.pi / 2) ** 2"
    return _form("cosine_alpha_bar", mistake, 4 * credit, f"{start}\n{end}")


def _jump(mistake: str, credit: float, a: str, b: str, table: str = "alpha_bar[t]") -> Form:
    body = (
        f"a = sch.{table}\nwhile a.ndim < x0.ndim:\n    a = a.unsqueeze(-1)\n"
        f"return {a} * x0 + {b} * eps"
    )
    return _form("q_sample", mistake, 7 * credit, body)


def _snr(mistake: str, credit: float, expression: str) -> Form:
    return _form("snr", mistake, 2 * credit, f"return {expression}")


def _tables(mistake: str, credit: float, result: str, product: str = "1 - beta") -> Form:
    body = f"bar = ({product}).cumprod(0)\nreturn {result}"
    return _form("chain_tables", mistake, 4 * credit, body)


CLIPPED = "beta = (1 - bar[1:] / bar[:-1]).clip(max=0.999)\nout = torch.ones(T + 1)"
LOOP = "for i in range(T):\n    out[i + 1] = out[i] * (1 - beta[i])\nreturn out"

RIGHT = [
    _alpha_bar("", 1, "return torch.exp(torch.cumsum(torch.log(1 - beta), 0))"),
    _alpha_bar(
        "",
        1,
        "out, product = [], 1.0\nfor b in beta.tolist():\n    product *= 1 - b\n"
        "    out.append(product)\nreturn torch.tensor(out)",
    ),
    _alpha_bar("", 1, "import numpy as np\nreturn np.cumprod(1 - beta.numpy())"),
    _cosine("", 1, f"bar = f / f[0]\n{CLIPPED}\n{LOOP}"),
    _jump("", 1, "a ** 0.5", "(1 - a) ** 0.5"),
    _jump("", 1, "torch.exp(a.log() / 2)", "torch.sqrt(-torch.expm1(a.log()))"),
    _form(
        "q_sample",
        "",
        7,
        "xs = []\nfor x, i, e in zip(x0, t, eps):\n    a = sch.alpha_bar[int(i)]\n"
        "    xs.append(a.sqrt() * x + (1 - a).sqrt() * e)\nreturn torch.stack(xs)",
    ),
    _snr("", 1, "1 / (1 / sch.alpha_bar - 1)"),
    _snr("", 1, "torch.stack([a / (1 - a) for a in sch.alpha_bar])"),
    _tables("", 1, "(bar ** 0.5, (1 - bar) ** 0.5)"),
    _tables("", 1, "[bar.sqrt(), torch.sin(torch.acos(bar.sqrt()))]"),
]

NAMED = [
    _alpha_bar("cumsum_for_cumprod", 0, "return 1 - torch.cumsum(beta, 0)"),
    _alpha_bar("prod_of_beta", 0, "p = beta.clone()\np[0] = 1\nreturn torch.cumprod(p, 0)"),
    _alpha_bar("product_to_T", 0, "return torch.ones_like(beta) * torch.prod(1 - beta)"),
    _alpha_bar(
        "off_by_one_early",
        0,
        "out = torch.ones_like(beta)\nfor t in range(1, len(beta)):\n"
        "    out[t] = torch.prod(1 - beta[:t])\nreturn out",
    ),
    _alpha_bar("length_T_not_T_plus_1", 0.5, "return torch.cumprod(1 - beta, 0)[1:]"),
    _alpha_bar("sqrt_of_alpha", 0.25, "return torch.cumprod(torch.sqrt(1 - beta), 0)"),
    _cosine("cosine_beta_unclipped", 0.5, "return torch.clamp(f / f[0], min=0)"),
    _cosine("length_T_not_T_plus_1", 0.5, f"bar = f / f[0]\n{CLIPPED}\n{LOOP}[1:]"),
    _cosine(
        "cosine_offset_forgotten",
        0,
        f"bar = f / f[0]\n{CLIPPED}\n{LOOP}",
        "f = torch.cos(torch.linspace(0, torch.pi / 2, T + 1)) ** 2",
    ),
    _cosine(
        "cosine_not_squared",
        0,
        f"bar = f / f[0]\n{CLIPPED}\n{LOOP}",
        "f = torch.cos((torch.arange(T + 1) / T + s) / (1 + s) * torch.pi / 2)",
    ),
    _jump("alpha_for_alpha_bar", 0, "a.sqrt()", "(1 - a).sqrt()", "alpha[t]"),
    _jump("var_for_std", 0.25, "a.sqrt()", "(1 - a)"),
    _jump("no_sqrt_signal", 0.25, "a", "(1 - a).sqrt()"),
    _jump("no_sqrt_both", 0, "a", "(1 - a)"),
    _jump("off_by_one_early", 0, "a.sqrt()", "(1 - a).sqrt()", "alpha_bar[t - 1]"),
    _jump("swapped_coefficients", 0, "(1 - a).sqrt()", "a.sqrt()"),
    _jump("scalar_t", 0, "a.sqrt()", "(1 - a).sqrt()", "alpha_bar[t[0]].repeat(len(x0))"),
    _jump("minus_eps", 0, "a.sqrt()", "-(1 - a).sqrt()"),
    _form(
        "q_sample",
        "wrong_axis_broadcast",
        0,
        "a = sch.alpha_bar[t]\nreturn a.sqrt() * x0 + (1 - a).sqrt() * eps",
    ),
    _snr("inverted", 0, "1 / sch.alpha_bar - 1"),
    _snr("snr_of_one_step", 0, "(1 - sch.beta) / sch.beta"),
    _snr("ratio_of_amplitudes", 0.25, "sch.alpha_bar.sqrt() / (1 - sch.alpha_bar).sqrt()"),
    _snr("logarithm_returned", 0.5, "torch.log(sch.alpha_bar) - torch.log(1 - sch.alpha_bar)"),
    _tables("var_for_std", 0, "(bar.sqrt(), 1 - bar)"),
    _tables("tables_swapped", 0, "((1 - bar).sqrt(), bar.sqrt())"),
    _tables("first_alpha_bar_not_1", 0, "(bar ** 0.5, (1 - bar) ** 0.5)", "1 - beta.roll(-1)"),
]

UNNAMED = [
    _alpha_bar("", 0, "return 1 - beta"),
    _alpha_bar("", 0, "raise ValueError('<script>alert(1)</script> \\x1b[31m & \\ud800')"),
    _cosine("", 0, "return f * float('nan')"),
    _form("q_sample", "", 0, "return x0 + eps"),
    _form("q_sample", "", 0, "return x0.nosuch(t)"),
    _form("snr", "", 0, "print(sch.alpha_bar)"),
    _form("snr", "", 0, "sch.alpha_bar.clamp_(0.1)\nreturn sch.alpha_bar / (1 - sch.alpha_bar)"),
    _form("chain_tables", "", 0, "return 'the tables', beta"),
    _form("chain_tables", "", 0, "raise NotImplementedError"),
]
