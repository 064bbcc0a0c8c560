"""Tables over noise and steps: right cells, nothing lost, nothing mixed up, a picture of it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from diffusion_edu import _parallel, pretrained
from diffusion_edu.data import toy
from diffusion_edu.data.images import load, to_uint8
from diffusion_edu.evaluation import generate, table_run
from diffusion_edu.evaluation.features import crop, features_for
from diffusion_edu.evaluation.table import (
    HAT,
    PUBLISHED,
    PUBLISHED_STEPS,
    Plan,
    Table,
    parse_etas,
    parse_steps,
    published,
    shape,
)
from diffusion_edu.evaluation.table_run import measure_table
from diffusion_edu.metrics import frechet_distance, mmd2, sliced_wasserstein2
from diffusion_edu.nets.unet import UNet, UNetConfig
from diffusion_edu.sampling import ddim, sample
from diffusion_edu.schedules import linear

ROOT = Path(__file__).parents[1]
PLAN = Plan(etas=("0", "1", HAT), steps=(5, 10), n=250, batch=100)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def roll():
    return pretrained("swiss_roll")


def digits(tmp_path):
    """A tiny random network for 8 x 8 images with a border, and what is known of it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = UNet(UNetConfig(1, (8, 16), blocks=1, groups=4, dropout=0.0, classes=10, T=20))
        for parameter in model.parameters():  # some begin as zeros: then no class would matter
            torch.nn.init.normal_(parameter, std=0.2)
    path = tmp_path / "random.safetensors"
    path.write_bytes(b"weights")
    info = SimpleNamespace(data="digits", shape=(1, 10, 10), pad=1, path=path)
    return model.eval(), linear(20), info


# ---- the numbers in a cell -----------------------------------------------------------------------


def test_cells_of_points_are_the_direct_computation(roll):
    """MMD^2 and SW2 of the samples of each sampler, written out chunk by chunk."""
    model, schedule, info = roll
    found = measure_table(model, schedule, info, PLAN)
    real = toy.load("swiss_roll", 250, 3_000_000_000)
    assert set(found.values) == {(eta, s) for eta in PLAN.etas for s in PLAN.steps}
    for (eta, steps), cell in found.values.items():
        parts = []
        for k, size in enumerate([100, 100, 50]):
            g = torch.Generator().manual_seed(k)
            x = torch.randn(size, 2, generator=g)
            kind = {"variance": "large"} if eta == HAT else {"eta": float(eta)}
            *_, last = sample(model, x, schedule, steps, generator=g, **kind)
            parts.append(last.x_s)
        x = torch.cat(parts)
        assert cell["MMD2"] == pytest.approx(float(mmd2(x, real, bandwidth=1.8)), abs=1e-9)
        assert cell["SW2"] == pytest.approx(float(sliced_wasserstein2(x, real)), rel=1e-6)
    second = toy.load("swiss_roll", 250, 3_000_000_001)
    assert found.floor["MMD2"] == pytest.approx(float(mmd2(second, real, bandwidth=1.8)))
    assert found.floor_n == 250


def feature_moments(images):
    features, _ = features_for("digits")(images)
    return features.double().mean(0), features.double().T.cov()


def test_cells_of_images_are_the_direct_computation(tmp_path):
    """FD of cropped samples with balanced classes to the test set; floor: training images."""
    model, schedule, info = digits(tmp_path)
    found = measure_table(model, schedule, info, Plan(("0",), (4,), n=30, batch=30))
    x = torch.randn(30, 1, 10, 10, generator=torch.Generator().manual_seed(0))
    y = torch.arange(30) % 10
    x = ddim(lambda x, t: model(x, t, y), x, schedule, 4, clip=1.0)
    real = feature_moments(load("digits", "test").images)
    fake = feature_moments(crop(to_uint8(x), 1))
    assert found.metrics == ("FD",)
    assert found.values["0", 4]["FD"] == pytest.approx(
        float(frechet_distance(*fake, *real)), rel=1e-3
    )
    assert found.floor_n == 30
    train = load("digits").images
    some = train[torch.linspace(0, len(train) - 1, 30, dtype=torch.float64).long()]
    floor = float(frechet_distance(*feature_moments(some), *real))
    assert found.floor["FD"] == pytest.approx(floor, rel=1e-3)
    unconditional = measure_table(
        model, schedule, info, Plan(("0",), (4,), n=30, batch=30, labels="none")
    )
    assert unconditional.values["0", 4] != found.values["0", 4]


def test_every_cell_starts_from_the_same_noise(roll, monkeypatch):
    """Common random numbers: x_T is one and the same in all cells, and another for another seed."""
    starts = []

    def spy(model, x, *args, **options):
        starts.append(x)
        return sample(model, x, *args, **options)

    monkeypatch.setattr(generate, "sample", spy)
    measure_table(*roll, Plan(("0", HAT), (2, 3), n=8, batch=8))
    assert len(starts) == 4
    assert all(x.equal(starts[0]) for x in starts)
    measure_table(*roll, Plan(("0",), (2,), n=8, batch=8, seed=1))
    assert not starts[-1].equal(starts[0])


def test_bfloat16_is_near(roll):
    """Half the bits change a cell, but not much."""
    full = measure_table(*roll, Plan(("0",), (10,), n=500, batch=500)).values["0", 10]
    half = measure_table(*roll, Plan(("0",), (10,), n=500, batch=500, precision="bfloat16"))
    assert half.values["0", 10]["SW2"] != full["SW2"]
    assert half.values["0", 10]["SW2"] == pytest.approx(full["SW2"], rel=0.3)


# ---- what the tables say -------------------------------------------------------------------------


def test_the_published_table_has_the_published_shape():
    """All claims hold for the paper's own numbers, which are those of Table 1."""
    answers = shape(published())
    assert list(answers) == [
        *(f"eta=0 is the best at S={s}" for s in (10, 20, 50)),
        "hat is the worst at S=10 by far",
        "eta=0 falls with S",
    ]
    assert all(answers.values())
    assert published().values["0", 10] == {"FID": 13.36}
    assert published().values[HAT, 1000] == {"FID": 3.17}


@pytest.mark.parametrize(
    ("key", "value", "claim"),
    [
        (("0.2", 20), 6.0, "eta=0 is the best at S=20"),
        ((HAT, 10), 3 * 41.07 - 0.1, "hat is the worst at S=10 by far"),
        (("0", 100), 4.7, "eta=0 falls with S"),
    ],
)
def test_one_cell_can_break_one_claim(key, value, claim):
    """A number on the wrong side breaks the claim about it and no other."""
    table = published()
    table.values[key] = {"FID": value}
    assert [c for c, holds in shape(table).items() if not holds] == [claim]


def test_claims_about_missing_cells_are_left_out():
    """Without the row or the column nothing is said of it."""
    table = published()
    table.values = {key: v for key, v in table.values.items() if key[0] != HAT and key[1] != 20}
    assert [c[-4:] for c in shape(table)] == ["S=10", "S=50", "th S"]
    table.values = {("0", 10): {"FID": 1.0}}
    assert shape(table) == {}
    with pytest.raises(ValueError, match="unknown metric 'FD'"):
        shape(table, "FD")


def test_points_prefer_the_larger_variance(roll):
    """On the swiss roll at S=10 eta=0 beats eta=1, more steps help, and hat is the *best* row.

    The last is not as for images: sigma-hat is right for data that fill space (DDPM, sec. 3.2).
    """
    found = measure_table(*roll, Plan(("0", "1", HAT), (10, 20), n=3000, batch=3000))
    by_sw2 = {key: v["SW2"] for key, v in found.values.items()}
    assert by_sw2[HAT, 10] < by_sw2["0", 10] < by_sw2["1", 10]
    answers = shape(found, "SW2")
    assert answers["eta=0 falls with S"]
    assert not answers["hat is the worst at S=10 by far"]


# ---- plans ---------------------------------------------------------------------------------------


def test_parsing():
    """Lists as on the command line, numbers in one spelling."""
    assert parse_etas("0, 0.20,.5,1.0,hat") == ("0", "0.2", "0.5", "1", "hat")
    assert parse_steps("10, 20,1000") == (10, 20, 1000)
    assert Plan().etas == tuple(PUBLISHED)
    assert Plan().steps == PUBLISHED_STEPS
    assert Plan(etas=("0.50",)).etas == ("0.5",)
    assert Plan().sampling(HAT, 10).variance == "large"
    assert Plan().sampling("0.2", 10).eta == 0.2


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_etas, "0,2", r"--eta must hold numbers in \[0, 1\] or 'hat', got '2'"),
        (parse_etas, "0,nan", "got 'nan'"),
        (parse_etas, "0,large", "got 'large'"),
        (parse_etas, "0,,1", "--eta must be a list like 0,0.5,1,hat, got '0,,1'"),
        (parse_etas, "0,0.0", "--eta must name every value once, got '0' twice"),
        (parse_steps, "10,0", "--steps must hold whole numbers >= 1, got '0'"),
        (parse_steps, "10;20", "got '10;20'"),
        (parse_steps, "-5", "got '-5'"),
        (parse_steps, "", "--steps must be a list like 10,20,50, got ''"),
        (parse_steps, "5,5", "got 5 twice"),
    ],
)
def test_parsing_errors_name_the_item(parse, text, message):
    """What cannot be read is named with the option it is in."""
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_bad_plans_are_refused_at_once(roll, tmp_path):
    """Wrong settings, more steps than the chain has, images without a classifier."""
    with pytest.raises(ValueError, match="n must be an int >= 2, got n=1"):
        Plan(n=1)
    with pytest.raises(ValueError, match="unknown precision 'int8'"):
        Plan(precision="int8")
    with pytest.raises(ValueError, match=r"steps must be an int in 1\.\.1000, got steps=1001"):
        measure_table(*roll, Plan(steps=(10, 1001), n=10))
    model, schedule, info = digits(tmp_path)
    info.data = "cats"
    with pytest.raises(ValueError, match="'cats'"):
        measure_table(model, schedule, info, Plan(steps=(2,), n=10))


# ---- the file ------------------------------------------------------------------------------------


class Interrupted(table_run.PointJudge):
    """Ctrl-C in the fourth cell."""

    calls = 0

    def __call__(self, plan):
        type(self).calls += 1
        if self.calls == 4:
            raise KeyboardInterrupt
        return super().__call__(plan)


def test_resumed_after_ctrl_c_is_uninterrupted(roll, tmp_path, monkeypatch):
    """Finished cells are in the file, are not measured again, and the end is the same."""
    whole, path = tmp_path / "whole.json", tmp_path / "stopped.json"
    measure_table(*roll, PLAN, whole, name="roll")
    with monkeypatch.context() as patch:
        patch.setattr(table_run, "PointJudge", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            measure_table(*roll, PLAN, path, name="roll")
    assert len(Table.load(path).values) == 3
    fresh = []
    original = table_run.PointJudge.__call__
    monkeypatch.setattr(
        table_run.PointJudge, "__call__", lambda self, p: fresh.append(p) or original(self, p)
    )
    measure_table(*roll, PLAN, path, name="roll", resume=True)
    assert len(fresh) == 3
    assert path.read_text() == whole.read_text()


def test_resume_may_add_rows_and_columns(roll, tmp_path):
    """Cells do not depend on each other: a table grows, and what was there stays."""
    path = tmp_path / "t.json"
    measure_table(*roll, Plan(("0",), (5,), n=50), path)
    measure_table(*roll, Plan(("1",), (5, 6), n=50), path, resume=True)
    assert set(Table.load(path).values) == {("0", 5), ("1", 5), ("1", 6)}


def test_other_settings_are_refused_by_name(roll, tmp_path):
    """A file of another n, seed or network is not gone on with, and not touched."""
    path = tmp_path / "t.json"
    measure_table(*roll, Plan(("0",), (5,), n=50), path, name="a")
    before = path.read_text()
    for plan, name, message in [
        (Plan(("0",), (5,), n=60), "a", r"n=50 \(now 60\)"),
        (Plan(("0",), (5,), n=50, seed=3), "a", r"seed=0 \(now 3\)"),
        (Plan(("0",), (5,), n=50, labels="none"), "a", r"labels='balanced' \(now 'none'\)"),
        (Plan(("0",), (5,), n=50), "b", r"model='a' \(now 'b'\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            measure_table(*roll, plan, path, name=name, resume=True)
    other = pretrained("moons")
    with pytest.raises(ValueError, match=r"weights='.*data='swiss_roll'"):
        measure_table(*other, Plan(("0",), (5,), n=50), path, name="a", resume=True)
    assert path.read_text() == before


def test_nothing_is_overwritten_unasked(roll, tmp_path):
    """An existing file needs --resume or --overwrite; a foreign one cannot be resumed."""
    path, plan = tmp_path / "t.json", Plan(("0",), (5,), n=50)
    path.write_text('{"mine": 1}')
    with pytest.raises(FileExistsError, match="--resume goes on with it, --overwrite begins anew"):
        measure_table(*roll, plan, path)
    with pytest.raises(ValueError, match="not a table that this library wrote"):
        measure_table(*roll, plan, path, resume=True)
    assert path.read_text() == '{"mine": 1}'
    measure_table(*roll, plan, path, overwrite=True)
    assert len(Table.load(path).values) == 1


# ---- several processes ---------------------------------------------------------------------------


def measured_together(folder: str) -> dict:
    """Cells of points and of images, three chunks in each; the first process writes a file."""
    folder = Path(folder)
    roll = measure_table(*pretrained("swiss_roll"), PLAN, folder / "roll.json")
    plan = Plan(("0", HAT), (2, 3), n=50, batch=20)
    images = measure_table(*digits(folder), plan)
    return {
        f"{eta} {s} {name}": value
        for table in (roll, images)
        for (eta, s), cell in table.values.items()
        for name, value in cell.items()
    }


SHARED = """
import json, sys, torch
sys.path.insert(0, sys.argv[1])
from test_table import _parallel, measured_together
torch.set_num_threads(1)
with _parallel.together():
    print(json.dumps(measured_together(sys.argv[2])))
"""


def test_two_processes_measure_what_one_does(tmp_path):
    """Both return the cells of one process alone, and the file has them too."""
    for name in "one", "two":
        (tmp_path / name).mkdir()
    alone = measured_together(tmp_path / "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SHARED, str(Path(__file__).parent), str(tmp_path / "two")],
            env={**common, "RANK": str(rank)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [json.loads(p.communicate(timeout=120)[0]) for p in processes]
    assert outputs[0] == outputs[1] == pytest.approx(alone, rel=1e-4, abs=1e-8)
    cells = Table.load(tmp_path / "two" / "roll.json").values
    assert all(cells[eta, s]["SW2"] == outputs[0][f"{eta} {s} SW2"] for eta, s in cells)
    assert len(cells) == len(PLAN.cells)
    assert _parallel.world() == 1
