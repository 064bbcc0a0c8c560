"""A grader as one might write it in an afternoon: it runs the submission in its own process.

    python naive.py SUBMISSION

Exit code 0 and "PASS", or "FAIL". Attacks that only a careful grader withstands work on this one.
"""

import sys

import torch


def reference(x0, t, eps, sch):
    a = sch.alpha_bar[t].view(-1, *[1] * (x0.ndim - 1))
    return a.sqrt() * x0 + (1 - a).sqrt() * eps


class Sch:
    beta = torch.linspace(0, 0.6, 9)
    alpha = 1 - beta
    alpha_bar = alpha.cumprod(0)
    T = 8


def main():
    names = {}
    with open(sys.argv[1]) as file:
        exec(file.read(), names)
    x0, eps, t = torch.randn(4, 2), torch.randn(4, 2), torch.tensor([1, 2, 5, 8])
    wanted = reference(x0, t, eps, Sch)
    got = names["q_sample"](x0, t, eps, Sch)
    print("PASS" if torch.allclose(got, wanted, atol=1e-5) else "FAIL")


main()
