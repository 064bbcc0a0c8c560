"""What the downloadable image sets consist of: files, sizes, checksums, addresses.

The SHA-256 sums decide what is official. ``datasets/*.md`` say where each was published and which
of them were recomputed from a copy of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from .formats import CIFAR10_BATCH, CIFAR10_RECORD, parse_cifar10, parse_mnist

__all__ = ["SOURCES", "Archive", "File", "Source"]


@dataclass(frozen=True)
class File:
    """One file as the loader reads it: name, size in bytes and SHA-256, all uncompressed."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Archive:
    """One download: where it is kept below the data directory, and the files in it.

    Attributes:
        path: relative to the data directory. A ``.tar.gz`` is unpacked; any other ``.gz`` is a
            single file, and is read as it is.
        size, sha256: of the archive.
        urls: mirrors, in the order they are tried.
        files: what is taken out of it; a tar archive's members lie in a folder of the source's
            first name.
    """

    path: str
    size: int
    sha256: str
    urls: tuple[str, ...]
    files: tuple[File, ...]

    @property
    def name(self) -> str:
        """File name of the archive."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Source:
    """One data set.

    Attributes:
        folders: names of its folder below the data directory; downloads go to the first, the
            others are those of Debian's packages and of torchvision.
        shape: (C, H, W) of an image.
        splits: split -> (number of images, its files in the order ``parse`` wants them).
        parse: contents of a split's files, number of images -> images, labels.
    """

    name: str
    folders: tuple[str, ...]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    splits: dict[str, tuple[int, tuple[File, ...]]]
    archives: tuple[Archive, ...]

    @property
    def files(self) -> list[File]:
        """The files of all splits."""
        return [file for _, part in self.splits.values() for file in part]

    parse: Callable[[Sequence[bytes], int], tuple[Tensor, Tensor]]


def _idx_source(
    name: str,
    folders: tuple[str, ...],
    classes: tuple[str, ...],
    mirrors: tuple[str, ...],
    sums: dict[str, tuple[str, int, str]],
) -> Source:
    """A set in MNIST's layout; sums: file name -> (its SHA-256, size and SHA-256 of its .gz)."""
    count = {"train": 60_000, "t10k": 10_000}
    files, archives = {}, []
    for file_name, (content, size, packed) in sums.items():
        n = count[file_name.partition("-")[0]]
        images = "images" in file_name
        file = File(file_name, 16 + n * 28 * 28 if images else 8 + n, content)
        files[file_name] = file
        urls = tuple(f"{mirror}{file_name}.gz" for mirror in mirrors)
        archives.append(Archive(f"{folders[0]}/{file_name}.gz", size, packed, urls, (file,)))
    splits: dict[str, tuple[int, tuple[File, ...]]] = {
        split: (count[k], (files[f"{k}-images-idx3-ubyte"], files[f"{k}-labels-idx1-ubyte"]))
        for split, k in (("train", "train"), ("test", "t10k"))
    }
    return Source(name, folders, (1, 28, 28), classes, splits, tuple(archives), parse_mnist)


_MNIST = _idx_source(
    "mnist",
    ("mnist", "MNIST/raw"),
    tuple("0123456789"),
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://raw.githubusercontent.com/fgnt/mnist/master/",
    ),
    {
        "train-images-idx3-ubyte": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        "train-labels-idx1-ubyte": (
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        "t10k-images-idx3-ubyte": (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        "t10k-labels-idx1-ubyte": (
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    },
)

_FASHION_MNIST = _idx_source(
    "fashion_mnist",
    ("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"),
    (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        # Without TLS: what arrives is trusted for its SHA-256 alone, here as everywhere.
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    {
        "train-images-idx3-ubyte": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            26_421_880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        ),
        "train-labels-idx1-ubyte": (
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            29_515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        ),
        "t10k-images-idx3-ubyte": (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        "t10k-labels-idx1-ubyte": (
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    },
)

_CIFAR10_FILES = tuple(
    File(name, CIFAR10_BATCH * CIFAR10_RECORD, sha256)
    for name, sha256 in (
        ("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        ("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        ("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        ("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        ("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
        ("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
    )
)

_CIFAR10 = Source(
    name="cifar10",
    folders=("cifar-10-batches-bin",),
    shape=(3, 32, 32),
    classes=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    splits={"train": (50_000, _CIFAR10_FILES[:5]), "test": (10_000, _CIFAR10_FILES[5:])},
    archives=(
        Archive(
            path="cifar-10-binary.tar.gz",
            size=170_052_171,
            sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            urls=(
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                "https://cave.cs.toronto.edu/kriz/cifar-10-binary.tar.gz",
                "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/"
                "cifar-10-binary.tar.gz",
            ),
            files=_CIFAR10_FILES,
        ),
    ),
    parse=parse_cifar10,
)

SOURCES = {source.name: source for source in (_MNIST, _FASHION_MNIST, _CIFAR10)}
