"""The symbols of all lectures: one table, of which each footer shows what it used."""

from __future__ import annotations

__all__ = ["SYMBOLS", "footer"]

SYMBOLS: dict[str, tuple[str, str, str]] = {  # name in code: (symbol, in code, meaning)
    "t": (r"$t,\ T$", "`t`, `schedule.T`", "level of noise 0, 1, …, T; 0 is clean data"),
    "s": (r"$s$", "`s`", "the level a step goes to, s < t"),
    "x0": (r"$\mathbf{x}_0$", "`x0`", "data"),
    "xt": (r"$\mathbf{x}_t$", "`x_t`", "data with the noise of level t"),
    "x0_hat": (r"$\hat{\mathbf{x}}_0$", "`step.x0`", "what the network takes the data to be"),
    "eps": (r"$\boldsymbol{\epsilon}$", "`eps`", "standard normal noise"),
    "eps_theta": (
        r"$\boldsymbol{\epsilon}_\theta(\mathbf{x}_t,t)$",
        "`model(x_t, t)`",
        "the noise as the network predicts it",
    ),
    "z": (r"$\mathbf{z}$", "`z`", "fresh standard normal noise of one step back"),
    "beta": (r"$\beta_t$", "`schedule.beta[t]`", "variance of the noise that step t adds"),
    "alpha": (r"$\alpha_t$", "`schedule.alpha[t]`", r"$1-\beta_t$"),
    "alpha_bar": (
        r"$\bar\alpha_t$",
        "`schedule.alpha_bar[t]`",
        r"$\alpha_1\alpha_2\cdots\alpha_t$, with $\bar\alpha_0=1$ (DDIM's paper writes $\alpha_t$)",
    ),
    "snr": (r"$\mathrm{SNR}(t)$", "`schedule.snr[t]`", r"$\bar\alpha_t/(1-\bar\alpha_t)$"),
    "beta_tilde": (
        r"$\tilde\beta_t$",
        "`schedule.beta_tilde[t]`",
        r"variance of $q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)$",
    ),
    "mu_tilde": (
        r"$\tilde{\boldsymbol\mu}_t$",
        "`q_posterior(...).mean`",
        r"mean of $q(\mathbf{x}_{t-1}\mid\mathbf{x}_t,\mathbf{x}_0)$",
    ),
    "q": (r"$q$", "`q_...`", "the noising process, fixed"),
    "p_theta": (r"$p_\theta$", "`model`", r"the denoising process, with weights $\theta$"),
    "sigma": (r"$\sigma_t$", "`sigma`", "standard deviation of the noise a step back adds"),
    "eta": (r"$\eta$", "`eta`", "share of DDPM's noise: 0 is DDIM, 1 is DDPM"),
    "tau": (r"$\tau$", "`taus`", "the levels a sampler visits, T first, 0 last"),
    "steps": (r"$S$", "`steps`", "number of steps of a sampler"),
    "kl": (
        r"$D_\mathrm{KL}(q\,\Vert\,p)$",
        "`q.kl(p)`",
        r"$\mathbb{E}_q[\log q-\log p]$, in nats",
    ),
    "L": (r"$L_T,\ L_{t-1},\ L_0$", "`elbo(...)`", "terms of the bound, in nats"),
    "v": (
        r"$\mathbf{v}$",
        '`kind="v"`',
        r"$\sqrt{\bar\alpha_t}\,\boldsymbol\epsilon-\sqrt{1-\bar\alpha_t}\,\mathbf{x}_0$",
    ),
    "score": (
        r"$\nabla\log q_t(\mathbf{x}_t)$",
        "`oracle.score(x_t, t)`",
        "score: gradient of the log-density at level t",
    ),
    "y": (r"$y$", "`y`", "class"),
    "g": (r"$g$", "`guidance`", "strength of guidance: 0 unconditional, 1 conditional"),
    "lam": (r"$\lambda$", "`lam`", "place between two points, 0 to 1"),
}


def footer(names: list[str]) -> str:
    """The notation table of these symbols, in Markdown.

    Raises:
        ValueError: a name that is not in ``SYMBOLS``.
    """
    for name in names:
        if name not in SYMBOLS:
            raise ValueError(f"no symbol {name!r}: there are {', '.join(SYMBOLS)}")
    rows = ["| " + " | ".join(SYMBOLS[name]) + " |" for name in names]
    return "\n".join(["## Notation", "", "| symbol | in code | meaning |", "|---|---|---|", *rows])
