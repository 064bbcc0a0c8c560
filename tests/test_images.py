"""Image sets: formats read strictly, folders accepted by content, real data where it is here."""

import gzip
import math
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from diffusion_edu.data import images, location
from diffusion_edu.data.commands import app
from diffusion_edu.data.files import State, find, read, state
from diffusion_edu.data.formats import CIFAR10_RECORD, parse_cifar10, parse_idx, parse_mnist
from diffusion_edu.data.sources import SOURCES, File

DEBIAN = Path("/usr/share/datasets")  # where the package dataset-fashion-mnist puts its files
CARDS = Path(__file__).parents[1] / "datasets"


def idx(values: np.ndarray) -> bytes:
    """Big-endian IDX file of unsigned bytes, written with struct rather than with our reader."""
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return header + values.astype(np.uint8).tobytes()


SHAPES = st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple)


@given(SHAPES, st.integers(0, 2**32 - 1))
def test_idx_round_trip(shape, seed):
    """parse_idx(write(a)) = a for every shape."""
    a = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    parsed = parse_idx(idx(a), shape)
    assert parsed.dtype == torch.uint8
    assert np.array_equal(parsed.numpy(), a)


@given(SHAPES, st.data())
@settings(max_examples=100)
def test_idx_accepts_nothing_else(shape, data):
    """Any header byte changed, any byte too few or too many: ValueError."""
    good = idx(np.zeros(shape, np.uint8))
    cut = data.draw(st.integers(0, len(good) - 1))
    k = data.draw(st.integers(0, 4 * len(shape) + 3))
    changed = bytearray(good)
    changed[k] ^= data.draw(st.integers(1, 255))
    for bad in (good[:cut], good + b"\0", bytes(changed)):
        with pytest.raises(ValueError, match=r"must|ends"):
            parse_idx(bad, shape)


def test_mnist_layout_strict():
    """n images and n labels in 0..9, or an error that says which number is wrong."""
    pixels = np.arange(2 * 28 * 28).reshape(2, 28, 28) % 256
    x, y = parse_mnist([idx(pixels), idx(np.array([9, 0]))], 2)
    assert x.shape == (2, 1, 28, 28)
    assert np.array_equal(x[:, 0].numpy(), pixels)
    assert y.tolist() == [9, 0]
    assert y.dtype == torch.int64
    with pytest.raises(ValueError, match=r"0\.\.9, got 10"):
        parse_mnist([idx(pixels), idx(np.array([9, 10]))], 2)
    with pytest.raises(ValueError, match=r"labels file .* \(2,\), got \(3,\)"):
        parse_mnist([idx(pixels), idx(np.array([1, 2, 3]))], 2)
    with pytest.raises(ValueError, match="magic"):
        parse_mnist([idx(np.array([9, 0])), idx(pixels)], 2)  # swapped


def records(seed: int) -> np.ndarray:
    """(10000, 3073) label and pixels of one CIFAR-10 file."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, (10_000, CIFAR10_RECORD), dtype=np.uint8)
    rows[:, 0] %= 10
    return rows


def test_cifar10_layout_strict():
    """Record i = (label, 1024 red, 1024 green, 1024 blue, row by row); other lengths are errors."""
    a, b = records(0), records(1)
    x, y = parse_cifar10([a.tobytes(), b.tobytes()], 20_000)
    assert x.shape == (20_000, 3, 32, 32)
    row = b[7]
    for channel, i, j in ((0, 0, 0), (1, 5, 31), (2, 31, 3)):
        assert x[10_007, channel, i, j] == row[1 + 1024 * channel + 32 * i + j]
    assert np.array_equal(y.numpy(), np.concatenate([a, b])[:, 0])
    with pytest.raises(ValueError, match="file 0 must hold 10000 records"):
        parse_cifar10([a.tobytes()[:-1]], 10_000)
    with pytest.raises(ValueError, match="20000 images together, got 10000"):
        parse_cifar10([a.tobytes()], 20_000)
    a[3, 0] = 10
    with pytest.raises(ValueError, match=r"0\.\.9, got 10"):
        parse_cifar10([a.tobytes()], 10_000)


# ---------------------------------------------------------------- files


def write_mnist(folder: Path, packed: bool = True) -> None:
    """Complete synthetic files in MNIST's layout: image k is filled with k mod 256."""
    folder.mkdir(parents=True)
    for part, n in (("train", 60_000), ("t10k", 10_000)):
        k = np.arange(n)
        pixels = np.broadcast_to((k % 256)[:, None, None], (n, 28, 28))
        for name, data in (("images-idx3", idx(pixels)), ("labels-idx1", idx(k % 10))):
            name = f"{part}-{name}-ubyte"
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(data, 1))
            else:
                (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("name", "folder", "packed"),
    [
        ("mnist", "mnist", True),
        ("mnist", "MNIST/raw", False),
        ("fashion_mnist", "fashion-mnist", True),
        ("fashion_mnist", "FashionMNIST/raw", False),
    ],
)
def test_unpacked_folder_is_accepted(tmp_path, name, folder, packed):
    """A folder of the official layout loads, gz or plain; other content than official warns."""
    write_mnist(tmp_path / folder, packed)
    with pytest.warns(UserWarning, match="not the published content") as caught:
        data = images.load(name, "all", tmp_path, download=False)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert not data.official
    assert data.images.shape == (70_000, 1, 28, 28)
    k = torch.cat([torch.arange(60_000), torch.arange(10_000)])
    assert torch.equal(data.images[:, 0, 13, 27], (k % 256).to(torch.uint8))
    assert torch.equal(data.labels, k % 10)
    assert len(data.classes) == 10


def test_cifar10_folder_is_accepted(tmp_path):
    """Six files of 10,000 records give 50,000 + 10,000 images, in the order of the files."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    names = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
    for k, name in enumerate(names):
        rows = np.full((10_000, CIFAR10_RECORD), k, np.uint8)
        (folder / name).write_bytes(rows.tobytes())
    with pytest.warns(UserWarning, match="cifar10"):
        train = images.load("cifar10", "train", tmp_path)
    with pytest.warns(UserWarning, match=r"test_batch\.bin"):
        test = images.load("cifar10", "test", tmp_path)
    assert train.images.shape == (50_000, 3, 32, 32)
    assert torch.equal(train.labels, torch.arange(5).repeat_interleave(10_000))
    assert torch.equal(train.images[:, 2, 31, 31].long(), train.labels)
    assert test.labels.unique().tolist() == [5]


def test_files_are_read_with_a_bound(tmp_path):
    """State of a file: missing, damaged, other content or official; a bomb is not unpacked."""
    import hashlib

    data = b"seven.."
    file = File("a-file", len(data), hashlib.sha256(data).hexdigest())
    path = tmp_path / "a-file.gz"
    assert state(tmp_path, file) is State.missing
    with pytest.raises(FileNotFoundError, match="a-file"):
        read(tmp_path, file)
    cases = {
        gzip.compress(data): State.official,
        gzip.compress(b"eight.."): State.other,
        gzip.compress(data[:-1]): State.damaged,
        gzip.compress(data)[:-9]: State.damaged,
        b"<html>Not found</html>": State.damaged,
        gzip.compress(bytes(300_000_000), 1): State.damaged,
    }
    for content, expected in cases.items():
        path.write_bytes(content)
        assert state(tmp_path, file) is expected
    with pytest.raises(ValueError, match="must hold 7 bytes, got more than 7"):
        read(tmp_path, file)
    path.unlink()
    (tmp_path / "a-file").write_bytes(data)
    assert state(tmp_path, file) is State.official


def test_wrong_structure_is_an_error(tmp_path):
    """Right name and size but not the format: ValueError naming the folder and what is wrong."""
    write_mnist(tmp_path / "mnist", packed=False)
    path = tmp_path / "mnist" / "t10k-labels-idx1-ubyte"
    path.write_bytes(b"\1" + path.read_bytes()[1:])
    with (
        warnings.catch_warnings(action="error"),
        pytest.raises(ValueError, match=r"mnist does not hold mnist: the labels file .*magic"),
    ):
        images.load("mnist", "test", tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="must hold 10008 bytes, got only 10003"):
        images.load("mnist", "test", tmp_path)


def test_without_download(tmp_path):
    """download=False never connects: the error says where files go and that digits needs none."""
    with pytest.raises(FileNotFoundError) as caught:
        images.load("mnist", root=tmp_path / "none", download=False)
    for part in (str(tmp_path / "none" / "mnist"), "train-images-idx3-ubyte.gz", "'digits'"):
        assert part in str(caught.value)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [("mnits", "train", "mean 'mnist'"), ("cifar10", "valid", "split"), (3, "train", "'digits'")],
)
def test_names_are_checked(name, split, message):
    """Unknown names and splits raise ValueError that lists what exists."""
    with pytest.raises(ValueError, match=message):
        images.load(name, split)


# ---------------------------------------------------------------- the real sets


def root_of(name: str) -> Path:
    """Data directory with the set, or skip: tests do not download."""
    roots = [location.data_dir(), DEBIAN]
    files = [file for _, part in SOURCES[name].splits.values() for file in part]
    for root in roots:
        if find(SOURCES[name], root, files):
            return root
    pytest.skip(f"{name} is neither in {roots[0]} nor in {DEBIAN}: diffusion-edu data fetch {name}")


REAL = {  # published: images per class; per-channel mean and std of the training pixels in [0, 1]
    "mnist": (
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        [0.1307],
        [0.3081],
    ),
    "fashion_mnist": ([6000] * 10, [1000] * 10, [0.2860], [0.3530]),
    "cifar10": ([5000] * 10, [1000] * 10, [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
}


@pytest.mark.parametrize("name", REAL)
def test_real_set(name):
    """The published number of images per class, pixel means and standard deviations."""
    train_counts, test_counts, mean, std = REAL[name]
    root = root_of(name)
    with warnings.catch_warnings(action="ignore"):
        train, test = (
            images.load(name, split, root, download=False) for split in ("train", "test")
        )
    assert train.labels.bincount().tolist() == train_counts
    assert test.labels.bincount().tolist() == test_counts
    shape = SOURCES[name].shape
    assert train.images.shape == (sum(train_counts), *shape)
    assert test.images.shape == (sum(test_counts), *shape)
    levels = torch.arange(256).double() / 255
    for c in range(shape[0]):
        share = train.images[:, c].flatten().bincount(minlength=256) / train.images[:, c].numel()
        m = (share * levels).sum()
        # a copy of CIFAR-10 that went through JPEG differs in the third decimal
        tolerance = 5e-5 if train.official else 3e-3
        assert float(m) == pytest.approx(mean[c], abs=tolerance)
        deviation = math.sqrt((share * (levels - m) ** 2).sum())
        assert deviation == pytest.approx(std[c], abs=tolerance)


def test_first_digits_of_mnist():
    """The first labels of MNIST's files are 5 0 4 1 9 and 7 2 1 0 4; strokes are white on black."""
    root = root_of("mnist")
    data = {split: images.load("mnist", split, root, download=False) for split in ("train", "test")}
    assert all(part.official for part in data.values())
    assert data["train"].labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data["test"].labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert int(data["train"].images[:, :, [0, -1]].float().mean()) == 0


def test_command_line(tmp_path):
    """verify: exit 0 if all is official, 1 with the file named otherwise; list shows every set."""
    run = CliRunner().invoke
    listed = run(app, ["list", "--root", str(tmp_path)])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in images.names())
    assert str(tmp_path / "mnist") not in listed.output
    assert run(app, ["verify", "--root", str(tmp_path)]).exit_code == 0  # nothing here, nothing bad
    named = run(app, ["verify", "mnist", "--root", str(tmp_path)])
    assert named.exit_code == 1
    assert "train-images-idx3-ubyte: missing" in named.output
    write_mnist(tmp_path / "mnist", packed=False)
    assert str(tmp_path / "mnist") in run(app, ["list", "--root", str(tmp_path)]).output
    other = run(app, ["verify", "--root", str(tmp_path)])
    assert other.exit_code == 1
    assert other.output.count("other content") == 4
    assert isinstance(run(app, ["verify", "mnits"]).exception, ValueError)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_real_files_are_official(name):
    """verify finds the published SHA-256 in every file of the real sets."""
    checked = CliRunner().invoke(app, ["verify", name, "--root", str(root_of(name))])
    assert checked.exit_code == 0
    assert checked.output.count(": official") == 4


@pytest.mark.parametrize("name", SOURCES)
def test_cards_state_the_checksums(name):
    """datasets/NAME.md lists every checksum and mirror the loader uses: one truth, two places."""
    card = (CARDS / f"{name}.md").read_text()
    source = SOURCES[name]
    for archive in source.archives:
        assert len(archive.urls) >= 2
        assert len({url.split("/")[2] for url in archive.urls}) == len(archive.urls)
        for text in (archive.sha256, f"{archive.size:,}"):
            assert text in card, archive.name
        for url in archive.urls:
            assert url.removesuffix(archive.name) in card
        for file in archive.files:
            assert file.sha256 in card, file.name
    in_splits = {file for _, part in source.splits.values() for file in part}
    assert in_splits == {file for archive in source.archives for file in archive.files}
