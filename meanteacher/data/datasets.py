"""The data sets with a name: torchvision's, decoded once into `data_dir/cache`, and scikit-learn's digits."""

import contextlib
import importlib.util
import io
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically
from meanteacher.config.types import Annotated
from meanteacher.data.cache import allocate, describe, load_or_decode
from meanteacher.data.images import Dataset, Images
from meanteacher.data.splits import hold_out_fifth

_TIMEOUT_S = 20
"""A download fails if it receives nothing for this many seconds."""

_TRAIN_AND_TEST = {"train": [{"train": True}], "test": [{"train": False}]}


@dataclass(frozen=True, kw_only=True)
class _Source:
    """How to load one data set through torchvision.

    key: the name of the cache. name: the name of the data set. builder: the class in torchvision.datasets.
    calls: for "train" and "test", the keyword arguments of each call of the class. folder: the folder in data_dir that
    contains the archives. read: a function from a torchvision data set to (pixels [N, C, H, W], targets [N]).
    classes: a function from the first of them to the class names.
    """

    key: str
    name: str
    builder: str
    calls: dict[str, list[dict[str, Any]]]
    folder: str
    archives: list[str]
    read: Callable[[Any], tuple[Any, Any]]
    classes: Callable[[Any], list[str]]


def cifar10(*, data_dir: str) -> Dataset:
    """CIFAR-10: 50,000 + 10,000 images [3, 32, 32] in torchvision's order.

    Names are "{index}_{class}.png", as in the label lists published by the authors of Mean Teacher.
    Raises UserError if it is not in data_dir and cannot be downloaded.
    """
    return _cifar(name="cifar10", builder="CIFAR10", archive="cifar-10-python.tar.gz", data_dir=data_dir)


def cifar100(*, data_dir: str) -> Dataset:
    """CIFAR-100 with its 100 fine classes: 50,000 + 10,000 images [3, 32, 32] in torchvision's order.

    Raises UserError if it is not in data_dir and cannot be downloaded.
    """
    return _cifar(name="cifar100", builder="CIFAR100", archive="cifar-100-python.tar.gz", data_dir=data_dir)


def svhn(*, data_dir: str, extra: bool) -> Dataset:
    """SVHN, cropped digits: 73,257 + 26,032 images [3, 32, 32]; `extra` adds 531,131 easier ones for training.

    Raises UserError if it is not in data_dir and cannot be downloaded.
    """
    splits = ["train", "extra"] if extra else ["train"]
    source = _Source(
        key="svhn_extra" if extra else "svhn",
        name="svhn",
        builder="SVHN",
        calls={"train": [{"split": split} for split in splits], "test": [{"split": "test"}]},
        folder="",
        archives=[f"{split}_32x32.mat" for split in [*splits, "test"]],
        read=lambda data: (data.data, data.labels),
        classes=lambda data: [str(digit) for digit in range(10)],
    )
    return _load_torchvision(source=source, data_dir=data_dir)


def stl10(*, data_dir: str) -> Dataset:
    """STL-10: 5,000 labeled, then 100,000 unlabeled (target −1) images [3, 96, 96] for training, 8,000 for testing.

    Raises UserError if it is not in data_dir and cannot be downloaded.
    """
    source = _Source(
        key="stl10",
        name="stl10",
        builder="STL10",
        calls={"train": [{"split": "train"}, {"split": "unlabeled"}], "test": [{"split": "test"}]},
        folder="",
        archives=["stl10_binary.tar.gz"],
        read=lambda data: (data.data, data.labels),
        classes=lambda data: data.classes,
    )
    return _load_torchvision(source=source, data_dir=data_dir)


def fashion_mnist(*, data_dir: str) -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 gray images [1, 28, 28] in torchvision's order.

    Raises UserError if it is not in data_dir and cannot be downloaded.
    """
    source = _Source(
        key="fashion_mnist",
        name="fashion_mnist",
        builder="FashionMNIST",
        calls=_TRAIN_AND_TEST,
        folder="FashionMNIST/raw",
        archives=[f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")],
        read=lambda data: (np.asarray(data.data)[:, None], data.targets),
        classes=lambda data: data.classes,
    )
    return _load_torchvision(source=source, data_dir=data_dir)


def digits(*, image_size: Annotated[int, Field(ge=1, le=512)]) -> Dataset:
    """scikit-learn's 1,797 handwritten digits, resized bilinearly from 8×8 to [1, image_size, image_size]; no download.

    They have no test part: a fixed stratified fifth is held out, the same in every run.
    """
    from PIL import Image

    raw, targets = _read_digits()
    size = (image_size, image_size)
    resized = [Image.fromarray(image).resize(size, Image.Resampling.BILINEAR) for image in np.float32(raw * 255 / 16)]
    pixels = np.stack(resized)[:, None].round().clip(0, 255).astype(np.uint8)
    names = [str(index) for index in range(len(targets))]
    held_out = hold_out_fifth(names=names, targets=targets)

    def part(rows: np.ndarray) -> Images:
        return Images(pixels=pixels[rows], targets=targets[rows], names=[names[row] for row in rows])

    return Dataset(
        name="digits",
        classes=[str(digit) for digit in range(10)],
        train=part(np.flatnonzero(~held_out)),
        test=part(np.flatnonzero(held_out)),
        notes=[
            f"digits has no official test part: a fixed fifth ({held_out.sum()} images) is held out as the test part"
        ],
    )


def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 8, 8], 0 to 16, and targets [N].

    Read from scikit-learn's file if possible, because importing scikit-learn takes as long as importing PyTorch.
    """
    package = importlib.util.find_spec("sklearn")
    file = Path(package.origin).parent / "datasets/data/digits.csv.gz"
    if not file.exists():
        from sklearn.datasets import load_digits

        raw = load_digits()
        return raw.images, raw.target.astype(np.int64)
    table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1]


def _cifar(*, name: str, builder: str, archive: str, data_dir: str) -> Dataset:
    """CIFAR-10 or CIFAR-100."""
    source = _Source(
        key=name,
        name=name,
        builder=builder,
        calls=_TRAIN_AND_TEST,
        folder="",
        archives=[archive],
        read=lambda data: (data.data.transpose(0, 3, 1, 2), data.targets),
        classes=lambda data: data.classes,
    )
    return _load_torchvision(source=source, data_dir=data_dir)


def _load_torchvision(*, source: _Source, data_dir: str) -> Dataset:
    """The data set from the cache, which is filled through torchvision on the first call."""
    directory = Path(data_dir).expanduser().absolute()

    def decode(folder: Path) -> Dataset:
        classes: list[str] = []
        parts = {}
        for part, calls in source.calls.items():
            pieces = []
            for arguments in calls:
                data = _download(source=source, directory=directory, arguments=arguments)
                classes = classes or list(source.classes(data))
                pieces.append(source.read(data))
            parts[part] = _copy_images(folder=folder, part=part, pieces=pieces, classes=classes, source=source)
        return Dataset(name=source.name, classes=classes, **parts)

    return load_or_decode(directory=directory, key=source.key, decode=decode)


def _copy_images(
    *, folder: Path, part: str, pieces: list[tuple[Any, Any]], classes: list[str], source: _Source
) -> Images:
    """Concatenate the images of several torchvision data sets in the cache folder."""
    targets = np.concatenate([np.asarray(labels).astype(np.int64) for _, labels in pieces])
    pixels = allocate(folder=folder, part=part, shape=(len(targets), *pieces[0][0].shape[1:]))
    start = 0
    for images, _ in pieces:
        pixels[start : start + len(images)] = images
        start += len(images)
    suffixes = [f"_{classes[target]}.png" if source.name == "cifar10" else "" for target in targets]
    names = [f"{index}{suffix}" for index, suffix in enumerate(suffixes)]
    return Images(pixels=pixels, targets=targets, names=names)


def _download(*, source: _Source, directory: Path, arguments: dict[str, Any]) -> Any:
    """A torchvision data set, downloaded if necessary. On failure raises UserError with the files to provide."""
    import tarfile
    import zlib
    from http.client import HTTPException

    import torchvision.datasets

    failures = (OSError, RuntimeError, ValueError, TypeError, LookupError, EOFError, AssertionError)
    _unpack(folder=directory / source.folder, archives=source.archives)
    try:
        with _socket_timeout(), _hide_progress():
            return getattr(torchvision.datasets, source.builder)(str(directory), download=True, **arguments)
    except (*failures, HTTPException, tarfile.TarError, zlib.error) as error:
        raise UserError(_explain_failure(source=source, folder=directory / source.folder, error=error)) from error


def _unpack(*, folder: Path, archives: list[str]) -> None:
    """Decompress .gz files: torchvision accepts any decompressed file, but a .gz file only with its own checksum.

    A damaged file is left to torchvision, which downloads it again. The caller holds the lock of the cache.
    """
    import gzip
    import zlib

    for archive in archives:
        plain = folder / archive.removesuffix(".gz")
        if archive.endswith(".gz") and ".tar" not in archive and not plain.exists():
            with contextlib.suppress(OSError, EOFError, zlib.error):
                write_atomically(plain, gzip.decompress((folder / archive).read_bytes()))


def _explain_failure(*, source: _Source, folder: Path, error: Exception) -> str:
    """One line for a data set that could not be loaded: its archives are missing or damaged."""
    alternative = "dataset=digits and dataset=image_folder need no download"
    unpacked = [name.removesuffix(".gz") for name in source.archives]
    packed = [name for name, file in zip(source.archives, unpacked, strict=True) if not (folder / file).is_file()]
    missing = [name for name in packed if not (folder / name).is_file()]
    if missing:
        return (
            f"{source.name} could not be downloaded ({describe(error)}): "
            f"put {', '.join(missing)} into {folder} and run again; {alternative}"
        )
    return (
        f"{source.name} could not be read: {' or '.join(packed or unpacked)} in {folder} is damaged or incomplete "
        f"({describe(error)}): delete it to download it again or put a complete copy there; {alternative}"
    )


@contextlib.contextmanager
def _socket_timeout() -> Iterator[None]:
    """Let stalled network connections fail; torchvision would wait for them forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _hide_progress() -> Iterator[None]:
    """Hide torchvision's progress bars if standard error is not a terminal: they fill a log file."""
    if sys.stderr.isatty():
        yield
    else:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
