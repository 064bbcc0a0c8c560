"""The package as a whole: what an import costs, the folder datasets/, what is at the top."""

import importlib
import inspect
import json
import os
import subprocess
import sys
import typing

import pytest
import torch
from rooms import MATHS, ROOT

import diffusion_edu


def run(code, cwd=None):
    """Run ``python -c code`` in a fresh process that finds this package; return its output."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


# ---- what an import loads ------------------------------------------------------------------------


def test_import_is_light(tmp_path):
    """import diffusion_edu loads none of the packages that plots, widgets and data sets need."""
    heavy = (
        "matplotlib ipywidgets anywidget sklearn scipy IPython typer rich tqdm safetensors pandas"
    )
    code = "import sys, json, diffusion_edu; print(json.dumps(sorted(sys.modules)))"
    ours = set(json.loads(run(code, tmp_path)))
    torchs = set(json.loads(run(code.replace("diffusion_edu", "torch"), tmp_path)))
    loaded = {name.split(".")[0] for name in ours - torchs}
    assert not loaded & set(heavy.split())
    lazy = {"diffusion_edu." + name for name in ("widgets", "viz", "data", "training", "cli")}
    assert not ours & lazy


def test_import_changes_no_state_of_torch(tmp_path):
    """Importing the package touches neither the seed nor the default dtype nor grad mode."""
    code = (
        "import torch; torch.manual_seed(3); before = torch.get_rng_state();"
        "import diffusion_edu;"
        "assert torch.get_rng_state().equal(before);"
        "assert torch.get_default_dtype() == torch.float32;"
        "assert torch.is_grad_enabled()"
    )
    run(code, tmp_path)


# ---- the folder datasets/ ------------------------------------------------------------------------

DATASETS = """
import importlib.util, sys
sys.path.insert(0, {root!r})   # what "python -m" and pytest do in a checkout
spec = importlib.util.find_spec("datasets")
import diffusers, torch
s = diffusers.DDIMScheduler(100)
s.set_timesteps(10)
x = torch.zeros(1, 2)
for k in s.timesteps:
    x = s.step(x, k, x).prev_sample
assert x.shape == (1, 2)
print("works")
"""


def test_the_datasets_folder_is_no_package():
    """datasets/ holds no Python: at most a namespace package, which any real package outranks."""
    assert not (ROOT / "datasets" / "__init__.py").exists()
    assert not list((ROOT / "datasets").rglob("*.py"))


def test_datasets_does_not_break_diffusers_from_the_checkout():
    """diffusers imports and steps in a process started in the root, with datasets/ in sight."""
    assert run(DATASETS.format(root=str(ROOT)), cwd=ROOT).strip() == "works"


def test_datasets_does_not_break_diffusers_under_python_m():
    """The same through ``python -m``, which puts the root first on sys.path."""
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "timeit",
            "-n",
            "1",
            "-r",
            "1",
            "import diffusers; diffusers.DDPMScheduler",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_a_real_datasets_package_wins_over_the_folder(tmp_path):
    """With Hugging Face's package installed anywhere on the path, ``import datasets`` finds it.

    A stand-in with an __init__.py, later on sys.path than the root: a regular package beats a
    folder without __init__.py wherever the two stand.
    """
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("name = 'the real one'\n")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.path.append({str(tmp_path)!r});"
        "import datasets; print(datasets.name)"
    )
    assert run(code, cwd=ROOT).strip() == "the real one"


def test_diffusers_works_under_pytest():
    """In this very process, started by pytest in the checkout, diffusers does its work."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(10)
    x = torch.zeros(2, 2)
    assert scheduler.step(x, 0, x).prev_sample.shape == (2, 2)


# ---- what is public ------------------------------------------------------------------------------

MODULES = [name for name in MATHS if name != "spacing"] + ["nets"]  # sampling exports spacing's
PUBLIC = [
    (module, name)
    for module in MODULES
    for name in importlib.import_module(f"diffusion_edu.{module}").__all__
]


def test_the_top_exports_all_of_the_mathematics():
    """What it takes its names from are the modules of the maths, and the networks."""
    names = [module.__name__.rpartition(".")[2] for module in diffusion_edu._MATHS]
    assert sorted(names) == sorted(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_all_lists_have_no_repetitions(module):
    """__all__ names every public thing once."""
    names = importlib.import_module(f"diffusion_edu.{module}").__all__
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_public_names(module, name):
    """Every public name exists, has a docstring of its own, and is the same object at the top."""
    home = importlib.import_module(f"diffusion_edu.{module}")
    thing = getattr(home, name)
    assert getattr(diffusion_edu, name) is thing
    assert name in diffusion_edu.__all__
    if inspect.isfunction(thing) or inspect.isclass(thing):
        assert thing.__doc__
        assert not thing.__doc__.startswith(f"{name}(")  # what dataclasses make up themselves


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_public_signatures_are_typed(module, name):
    """Every parameter and result of a public function or method has a type hint."""
    thing = getattr(importlib.import_module(f"diffusion_edu.{module}"), name)
    if inspect.isclass(thing):
        functions = [
            f
            for key, f in vars(thing).items()
            if inspect.isfunction(f) and (not key.startswith("_") or key == "__init__")
        ]
    else:
        functions = [thing] if inspect.isfunction(thing) else []
    for f in functions:
        if (
            f.__qualname__.startswith(name)
            and f.__module__
            and f.__module__.startswith("diffusion")
        ):
            parameters = [p for p in inspect.signature(f).parameters if p != "self"]
            hints = typing.get_type_hints(inspect.unwrap(f))
            assert {*parameters, "return"} <= set(hints), f.__qualname__


def test_fixed_public_names():
    """The names that notebooks and exercises rely on are at the top of the package."""
    fixed = """
    Schedule linear constant cosine quadratic sigmoid sigmoid_alpha_bar jsd from_betas
    zero_terminal_snr respace Gaussian q_step q_marginal q_sample forward_chain q_posterior q_sigma
    ddim_sigma q_sigma_forward Prediction predict guided loss_simple elbo ElboTerms loss_weight
    timesteps sample Step ddpm ddim invert slerp interpolate EmpiricalOracle MixtureOracle MLP EMA
    pretrained toy images
    """
    missing = [name for name in fixed.split() if not hasattr(diffusion_edu, name)]
    assert missing == []


def test_public_names_do_not_collide():
    """No two modules export different things under one name: a star import would hide one."""
    homes = {}
    for module, name in PUBLIC:
        thing = getattr(importlib.import_module(f"diffusion_edu.{module}"), name)
        assert homes.setdefault(name, thing) is thing, (module, name)
    assert not set(homes) & set(MODULES)


def test_unknown_names_are_attribute_errors():
    """diffusion_edu.nonsense raises AttributeError, as for any module."""
    with pytest.raises(AttributeError, match="nonsense"):
        diffusion_edu.nonsense


def test_dir_lists_what_is_lazy():
    """dir(diffusion_edu), which completion in a notebook uses, lists every public name."""
    assert set(diffusion_edu.__all__) <= set(dir(diffusion_edu))
