"""Published networks by name: fetched once and checked, or found and never silently exchanged."""

import hashlib
import json
import re

import pytest
import torch
from diffusers import UNet2DModel
from mirrors import Server
from safetensors.torch import save_file
from test_published import SMALL_FILE
from unet_mistakes import CIFAR10

from diffusion_edu.nets import hub
from diffusion_edu.nets.hub import NAMES, Entry, published
from diffusion_edu.nets.published import PublishedUNet, load_diffusers, translate
from diffusion_edu.nets.unet import UNet

WEIGHTS = "diffusion_pytorch_model.safetensors"
SMALL = {**SMALL_FILE, "in_channels": 3, "out_channels": 3}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> bytes:
    """File of a small random network in the published layout."""
    path = tmp_path_factory.mktemp("small") / WEIGHTS
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(UNet(translate(SMALL)).state_dict(), path)
    return path.read_bytes()


@pytest.fixture
def place(monkeypatch, tmp_path, server, small):
    """Folder of the weights, with their configuration; one entry, of which nothing is known."""
    server.files[WEIGHTS] = small
    entry(monkeypatch, server, "good")
    folder = tmp_path / "weights" / "someone--net"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(SMALL))
    return folder


def entry(monkeypatch, server, *modes, **known):
    urls = tuple(f"{server.base}/{mode}/{WEIGHTS}" for mode in modes)
    found = Entry(urls, "http://page", "MIT", 1.5, "a test", **known)
    monkeypatch.setattr(hub, "ENTRIES", {"someone/net": found})


def known(data: bytes) -> dict:
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


# ---- a file whose SHA-256 is known ---------------------------------------------------------------


def test_fetched_once_and_read(monkeypatch, server, tmp_path, place, small):
    """The file served is the network returned; the second call asks the server nothing."""
    entry(monkeypatch, server, "missing", "third", "good", **known(small))
    model, schedule, info = published("someone/net", tmp_path)
    assert (place / WEIGHTS).read_bytes() == small
    assert server.modes() == ["missing", "third", "third", "third"]
    expected = load_diffusers(place)
    assert isinstance(model, PublishedUNet)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    assert all(expected.state_dict()[k].equal(v) for k, v in model.state_dict().items())
    assert (schedule.T, schedule.name) == (1000, "linear")
    assert (info.data, info.shape, info.pad) == ("cifar10", (3, 32, 32), 0)
    assert (info.name, info.path) == ("someone/net", place / WEIGHTS)
    assert (info.licence, info.fid, info.checked) == ("MIT", 1.5, "published")
    assert info.sha256 == known(small)["sha256"]
    server.close()
    again, _, _ = published("someone/net", tmp_path)
    x, t = torch.zeros(2, 3, 8, 8), torch.tensor([1, 1000])
    assert again(x, t).equal(model(x, t))
    assert len(server.log) == 4


def test_wrong_bytes_are_refused(monkeypatch, server, tmp_path, place, small):
    """A mirror with another file leaves nothing behind; one clear message says all."""
    entry(monkeypatch, server, "corrupt", "broken", **known(small))
    with pytest.raises(ConnectionError) as error:
        published("someone/net", tmp_path, timeout=0.4)
    text = str(error.value)
    assert f"corrupt/{WEIGHTS}: another file than the official one" in text
    assert f"broken/{WEIGHTS}: 503" in text
    assert f"put {WEIGHTS} into {place}" in text
    assert sorted(f.name for f in place.iterdir()) == ["config.json"]


def test_nothing_by_hand_is_replaced(monkeypatch, server, tmp_path, place, small):
    """Another file at the place is named, not overwritten; the right one needs no network."""
    entry(monkeypatch, server, "good", **known(small))
    (place / WEIGHTS).write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="another file than the official one"):
        published("someone/net", tmp_path)
    assert (place / WEIGHTS).read_bytes() == b"mine"
    (place / WEIGHTS).write_bytes(small)
    assert published("someone/net", tmp_path)[2].checked == "published"
    assert server.log == []


# ---- a file whose SHA-256 is not known -----------------------------------------------------------


def test_unknown_bytes_are_not_fetched(server, tmp_path, place):
    """Nothing is asked of the server; the message says where to get the file, and where to put."""
    with pytest.raises(ConnectionError, match="its SHA-256 is not known") as error:
        published("someone/net", tmp_path)
    text = str(error.value)
    for part in (f"{server.base}/good/{WEIGHTS}", "http://page", str(place), "never opened here"):
        assert part in text
    assert server.log == []


def test_trusted_on_first_use(tmp_path, place, small):
    """The first SHA-256 is written down; a file that changes afterwards is refused."""
    (place / WEIGHTS).write_bytes(small)
    assert published("someone/net", tmp_path)[2].checked == "nothing"
    record = place / f"{WEIGHTS}.sha256"
    assert record.read_text() == f"{known(small)['sha256']}  {WEIGHTS}\n"
    assert published("someone/net", tmp_path)[2].checked == "record"
    changed = bytearray(small)
    changed[-1] ^= 1
    (place / WEIGHTS).write_bytes(changed)
    with pytest.raises(ValueError, match=r"has changed: its SHA-256 was .*delete .*\.sha256"):
        published("someone/net", tmp_path)
    record.unlink()
    assert published("someone/net", tmp_path)[2].checked == "nothing"


def test_a_sha256_of_ones_own(tmp_path, place, small):
    """sha256= is compared before the file is opened, at the first use as at every other."""
    (place / WEIGHTS).write_bytes(small)
    with pytest.raises(
        ValueError, match=r"must have the SHA-256 00.*got " + known(small)["sha256"]
    ):
        published("someone/net", tmp_path, sha256="00")
    assert not (place / f"{WEIGHTS}.sha256").exists()
    _, _, info = published("someone/net", tmp_path, sha256=known(small)["sha256"].upper())
    assert info.checked == "argument"
    assert published("someone/net", tmp_path)[2].checked == "record"


def test_only_safetensors_of_colour_images(tmp_path, place):
    """A pickle under that name is not opened; a network for grey images is refused."""
    (place / WEIGHTS).write_bytes(b"\x80\x04pickle")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        published("someone/net", tmp_path)
    assert not (place / f"{WEIGHTS}.sha256").exists()
    grey = {**SMALL, "in_channels": 1, "out_channels": 1}
    (place / "config.json").write_text(json.dumps(grey))
    save_file(UNet(translate(grey)).state_dict(), place / WEIGHTS)
    with pytest.raises(ValueError, match="images with 3 channels, got one for 1"):
        published("someone/net", tmp_path)


# ---- the real entries ----------------------------------------------------------------------------


def test_the_real_entries_say_what_is_known(tmp_path, monkeypatch):
    """Both networks are named; without a checksum they ask for a file by hand, below $..._DATA."""
    monkeypatch.setenv("DIFFUSION_EDU_DATA", str(tmp_path))
    assert NAMES == ("google/ddpm-cifar10-32", "ddpm_ema_cifar10")
    for name in NAMES:
        found = hub.ENTRIES[name]
        assert (found.sha256 is None) == (found.size is None)
        if found.sha256 is None:
            folder = re.escape(str(tmp_path / "weights" / name.replace("/", "--")))
            with pytest.raises(ConnectionError, match=folder):
                published(name)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="Did you mean 'google/ddpm-cifar10-32'"):
        published("google/ddpm-cifar-32")


def test_the_default_configuration_needs_no_config_json(tmp_path):
    """The full network of 35,746,307 weights loads from the .safetensors alone."""
    folder = tmp_path / "weights" / "ddpm_ema_cifar10"
    folder.mkdir(parents=True)
    save_file(UNet(translate(CIFAR10)).state_dict(), folder / WEIGHTS)
    model, _, info = published("ddpm_ema_cifar10", tmp_path)
    assert sum(p.numel() for p in model.parameters()) == 35_746_307
    assert info.fid == 3.17


def test_converted_as_the_message_says(tmp_path, place):
    """What diffusers' save_pretrained writes into the folder is read, and computes the same."""
    theirs = UNet2DModel(**SMALL).eval()
    theirs.save_pretrained(str(place))
    model, _, _ = published("someone/net", tmp_path)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([1, 1000])
    with torch.no_grad():
        assert (model(x, t) - theirs(x, t - 1).sample).abs().max() < 1e-5
