"""Published networks by name: fetched once and checked, or found and never silently exchanged."""

import gc
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

from diffusion_edu.nets import hub, pointer, pretrained, pretrained_names
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


def lfs(sha256: str, size: int | str) -> bytes:
    """A pointer file of Git LFS."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    )


@pytest.fixture
def pointed(monkeypatch, tmp_path, server, small):
    """As ``place``, but nothing is here: file, pointer and config.json are on the server."""
    monkeypatch.setattr(pointer, "SIZES", (1_000, 1_000_000))
    config = json.dumps(SMALL).encode()
    stated = lfs(known(small)["sha256"], len(small))
    server.files |= {WEIGHTS: small, "pointer": stated, "config.json": config}
    by_pointer(monkeypatch, server)
    return tmp_path / "weights" / "someone--net"


def by_pointer(monkeypatch, server, *modes, pointer="good"):
    entry(monkeypatch, server, *(modes or ["good"]), pointer=f"{server.base}/{pointer}/pointer")


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


# ---- a file whose SHA-256 a pointer states -------------------------------------------------------


def asked(server):
    return [f"{mode}/{name}" for mode, name, _ in server.log]


def test_fetched_as_the_pointer_says(server, tmp_path, pointed, small):
    """Pointer, configuration, then weights; the next call asks nothing and compares the record."""
    model, _, info = published("someone/net", tmp_path)
    assert asked(server) == ["good/pointer", "good/config.json", f"good/{WEIGHTS}"]
    assert (pointed / WEIGHTS).read_bytes() == small
    assert json.loads((pointed / "config.json").read_text()) == json.loads(json.dumps(SMALL))
    assert (info.checked, info.sha256) == ("pointer", known(small)["sha256"])
    assert (pointed / f"{WEIGHTS}.sha256").read_text().startswith(info.sha256)
    server.close()
    again, _, info = published("someone/net", tmp_path)
    assert info.checked == "record"
    assert all(again.state_dict()[k].equal(v) for k, v in model.state_dict().items())
    assert len(server.log) == 3
    (pointed / WEIGHTS).write_bytes(small + b"0")
    with pytest.raises(ValueError, match="has changed"):
        published("someone/net", tmp_path)


def test_mirrors_and_interruptions_as_for_any_file(monkeypatch, server, tmp_path, pointed, small):
    """What the pointer says is what every mirror is held to; cut off, it goes on."""
    by_pointer(monkeypatch, server, "portal", "corrupt", "third")
    assert published("someone/net", tmp_path, sha256=known(small)["sha256"])[2].checked == (
        "argument"
    )
    assert server.modes(WEIGHTS) == ["portal", "corrupt", "third", "third", "third"]
    assert (pointed / WEIGHTS).read_bytes() == small


def test_without_config_json_there_is_none(server, tmp_path, pointed):
    """404: the loader's own configuration, of the full network, which this file does not fit."""
    del server.files["config.json"]
    with pytest.raises(ValueError, match="do not fit the configuration"):
        published("someone/net", tmp_path)
    assert [f.name for f in pointed.iterdir()] == [WEIGHTS]  # no record of what does not load


def test_a_config_json_of_ones_own_stays(server, tmp_path, pointed):
    """What is here is not asked for."""
    pointed.mkdir(parents=True)
    (pointed / "config.json").write_text(json.dumps(SMALL, indent=3))
    published("someone/net", tmp_path)
    assert asked(server) == ["good/pointer", f"good/{WEIGHTS}"]
    assert (pointed / "config.json").read_text() == json.dumps(SMALL, indent=3)


SUM = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", "must be a Git LFS pointer, got 6 bytes: b'<html>'"),
        (lfs(SUM, 5000)[:-1], "must be a Git LFS pointer"),  # a truncated size is another size
        (lfs(SUM, 5000) + b"\n", "must be a Git LFS pointer"),
        (lfs(SUM, 5000).replace(b"\n", b"\r\n"), "must be a Git LFS pointer"),
        (lfs(SUM, 5000).replace(b"v1", b"v2"), "must be a Git LFS pointer"),
        (lfs(SUM[1:], 5000), "must be a Git LFS pointer"),
        (lfs(SUM.upper(), 5000), "must be a Git LFS pointer"),
        (lfs(SUM, "-5000"), "must be a Git LFS pointer"),
        (lfs(SUM, "5e3"), "must be a Git LFS pointer"),
        (lfs(SUM, "05000"), "must be a Git LFS pointer"),
        (lfs(SUM, 999), "must point to 1,000 to 1,000,000 bytes, got 999"),
        (lfs(SUM, 1_000_001), "must point to 1,000 to 1,000,000 bytes, got 1,000,001"),
        (lfs(SUM, 10**30), "must be a Git LFS pointer"),
        (lfs(SUM, 5000) + b" " * 1000, "must have at most 1,000 bytes, got more"),
    ],
)
def test_a_pointer_is_one_to_the_letter(server, tmp_path, pointed, content, message):
    """Anything else is refused before the file is asked for, with the advice; nothing is left."""
    server.files["pointer"] = content
    with pytest.raises(ConnectionError, match=re.escape(message)) as error:
        published("someone/net", tmp_path)
    assert f"By hand: get {server.base}/good/{WEIGHTS}" in str(error.value)
    assert asked(server) == ["good/pointer"]
    assert not pointed.exists()


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("missing", "pointer: 404 Not Found"),
        ("broken", "pointer: 503 Service Unavailable"),
        ("portal", "must be a Git LFS pointer, got 26 bytes: b'<html>Please log in</html>'"),
        ("endless", "must have at most 1,000 bytes, got more"),
        ("half", "must be a Git LFS pointer, got 65 bytes: b'version https"),
        ("mute", "pointer: no answer for 0.3 s"),
    ],
)
def test_no_pointer_no_download(monkeypatch, server, tmp_path, pointed, mode, message):
    """Servers that have none, or something else, or nothing to say."""
    by_pointer(monkeypatch, server, pointer=mode)
    with pytest.raises(ConnectionError, match=re.escape(message)) as error:
        published("someone/net", tmp_path, timeout=0.3)
    assert str(error.value).startswith("someone/net could not be downloaded:\n")
    assert str(pointed) in str(error.value)
    assert server.modes(WEIGHTS) == []
    assert not pointed.exists()


def test_offline_says_what_to_do(server, tmp_path, pointed):
    """No server at all: one clear message."""
    server.close()
    with pytest.raises(ConnectionError, match=r"pointer: no connection\nBy hand: get"):
        published("someone/net", tmp_path)


def test_other_bytes_than_the_pointer_says(monkeypatch, server, tmp_path, pointed, small):
    """Another content, another size: refused, and no weights are left."""
    server.files["pointer"] = lfs(SUM, len(small))
    with pytest.raises(ConnectionError, match="another file than the official one"):
        published("someone/net", tmp_path)
    server.files["pointer"] = lfs(known(small)["sha256"], len(small) + 1)
    with pytest.raises(ConnectionError, match=f"offers {len(small)} bytes where {len(small) + 1}"):
        published("someone/net", tmp_path)
    assert [f.name for f in pointed.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "must be a JSON object, got list"),
        (b'{"in_channels": ', "must be a JSON object (Expecting value"),
        (b"\xff\xfe\xff", "must be a JSON object ("),
        (b"[" * 30_000, "must be a JSON object ("),
        (b'{"a": "' + b" " * 64_000 + b'"}', "must have at most 64,000 bytes, got more"),
    ],
)
def test_a_bad_config_json_stops_before_the_weights(server, tmp_path, pointed, content, message):
    """It would decide what the weights compute."""
    server.files["config.json"] = content
    gc.collect()  # else a finalizer may run, and fail, at the bottom of thousands of brackets
    with pytest.raises(ConnectionError, match=re.escape(message)):
        published("someone/net", tmp_path)
    assert not pointed.exists()


# ---- the real entries ----------------------------------------------------------------------------


def test_the_real_entries_say_what_is_known(tmp_path, monkeypatch):
    """Both are named; the one that nothing can check asks for a file by hand, below $..._DATA."""
    monkeypatch.setenv("DIFFUSION_EDU_DATA", str(tmp_path))
    assert NAMES == ("google/ddpm-cifar10-32", "google/ddpm-ema-cifar10-32")
    raw, ema = (hub.ENTRIES[name] for name in NAMES)
    for found in raw, ema:
        assert (found.sha256 is None) == (found.size is None)
    assert raw.pointer == raw.urls[0].replace("/resolve/", "/raw/")
    assert re.search(r"/raw/[0-9a-f]{40}/", raw.pointer)  # a commit, no branch that may move
    assert ema.pointer is None
    folder = re.escape(str(tmp_path / "weights" / "google--ddpm-ema-cifar10-32"))
    with pytest.raises(ConnectionError, match=rf"its SHA-256 is not known.*(?s:.)*{folder}"):
        published(NAMES[1])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="Did you mean 'google/ddpm-cifar10-32'"):
        published("google/ddpm-cifar-32")


def test_pretrained_knows_the_published_names(monkeypatch, tmp_path, server, pointed):
    """pretrained(name) is published(name); unknown names are told of both kinds."""
    monkeypatch.setenv("DIFFUSION_EDU_DATA", str(tmp_path))
    monkeypatch.setattr(hub, "NAMES", ("someone/net",))
    model, schedule, info = pretrained("someone/net")
    assert isinstance(model, PublishedUNet)
    assert (schedule.T, info.name, info.checked) == (1000, "someone/net", "pointer")
    assert info.official
    for wrong in ("someone/nets", "none.safetensors"):
        with pytest.raises(ValueError, match=r"moons.*someone/net"):
            pretrained(wrong)
    assert "someone/net" not in pretrained_names()


def test_the_default_configuration_needs_no_config_json(tmp_path):
    """The full network of 35,746,307 weights loads from the .safetensors alone."""
    folder = tmp_path / "weights" / "google--ddpm-ema-cifar10-32"
    folder.mkdir(parents=True)
    save_file(UNet(translate(CIFAR10)).state_dict(), folder / WEIGHTS)
    model, _, info = published("google/ddpm-ema-cifar10-32", tmp_path)
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
