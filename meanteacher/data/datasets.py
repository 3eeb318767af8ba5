"""The datasets that come by name: torchvision's, decoded once into `data_dir/cache`, and scikit-learn's digits."""

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

from meanteacher.config.errors import UserError
from meanteacher.config.types import PositiveInt
from meanteacher.data import Dataset, Images
from meanteacher.data.cache import allocate, cached, reason
from meanteacher.data.splits import fifth

_SILENCE_S = 20
"""A download that sends nothing for this many seconds has failed."""

_TV_CIFAR = {"train": [{"train": True}], "test": [{"train": False}]}


@dataclass(frozen=True, kw_only=True)
class _Source:
    """How to obtain one dataset through torchvision.

    key: the cache's name; name: the dataset's; builder: the class in torchvision.datasets, called once for each of the
    keyword arguments listed under "train" and "test"; folder: where in data_dir its archives lie; read: from such an
    object to (pixels [N, C, H, W], targets [N]); classes: from the first to the class names.
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

    Names are "{index}_{class}.png", as in the label lists that the authors of Mean Teacher published.
    Raises UserError where it can be neither downloaded nor found in data_dir.
    """
    return _cifar(name="cifar10", builder="CIFAR10", archive="cifar-10-python.tar.gz", data_dir=data_dir)


def cifar100(*, data_dir: str) -> Dataset:
    """CIFAR-100 with its 100 fine classes: 50,000 + 10,000 images [3, 32, 32] in torchvision's order.

    Raises UserError where it can be neither downloaded nor found in data_dir.
    """
    return _cifar(name="cifar100", builder="CIFAR100", archive="cifar-100-python.tar.gz", data_dir=data_dir)


def svhn(*, data_dir: str, extra: bool) -> Dataset:
    """SVHN, cropped digits: 73,257 + 26,032 images [3, 32, 32]; `extra` appends 531,131 easier ones to the train part.

    Raises UserError where it can be neither downloaded nor found in data_dir.
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
    return _torchvision(source=source, data_dir=data_dir)


def stl10(*, data_dir: str) -> Dataset:
    """STL-10: 5,000 labelled then 100,000 unlabelled (target −1) images [3, 96, 96] for training, 8,000 for testing.

    Raises UserError where it can be neither downloaded nor found in data_dir.
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
    return _torchvision(source=source, data_dir=data_dir)


def fashion_mnist(*, data_dir: str) -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 grey images [1, 28, 28] in torchvision's order.

    Raises UserError where it can be neither downloaded nor found in data_dir.
    """
    source = _Source(
        key="fashion_mnist",
        name="fashion_mnist",
        builder="FashionMNIST",
        calls=_TV_CIFAR,
        folder="FashionMNIST/raw",
        archives=[f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")],
        read=lambda data: (np.asarray(data.data)[:, None], data.targets),
        classes=lambda data: data.classes,
    )
    return _torchvision(source=source, data_dir=data_dir)


def digits(*, image_size: PositiveInt) -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8×8 upsampled bilinearly to [1, image_size, image_size]; no download.

    They come without a test part: a fixed stratified fifth is held out, the same in every run.
    """
    from PIL import Image

    raw, targets = _digits()
    size = (image_size, image_size)
    grey = [Image.fromarray(image).resize(size, Image.Resampling.BILINEAR) for image in np.float32(raw * 255 / 16)]
    pixels = np.stack(grey)[:, None].round().clip(0, 255).astype(np.uint8)
    names = [str(index) for index in range(len(targets))]
    held_out = fifth(names=names, targets=targets)

    def part(rows: np.ndarray) -> Images:
        return Images(pixels=pixels[rows], targets=targets[rows], names=[names[row] for row in rows])

    return Dataset(
        name="digits",
        classes=[str(digit) for digit in range(10)],
        train=part(np.flatnonzero(~held_out)),
        test=part(np.flatnonzero(held_out)),
        notes=[f"digits has no official test part: a fixed fifth ({held_out.sum()} images) is held out as one"],
    )


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Images [N, 8, 8] from 0 to 16 and targets [N], from scikit-learn's file: to import it takes as long as PyTorch."""
    package = importlib.util.find_spec("sklearn")
    file = Path(package.origin).parent / "datasets/data/digits.csv.gz"
    if not file.exists():
        from sklearn.datasets import load_digits

        raw = load_digits()
        return raw.images, raw.target.astype(np.int64)
    table = np.loadtxt(file, delimiter=",", dtype=np.int64)
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1]


def _cifar(*, name: str, builder: str, archive: str, data_dir: str) -> Dataset:
    """CIFAR-10 or CIFAR-100, which differ in names only."""
    source = _Source(
        key=name,
        name=name,
        builder=builder,
        calls=_TV_CIFAR,
        folder="",
        archives=[archive],
        read=lambda data: (data.data.transpose(0, 3, 1, 2), data.targets),
        classes=lambda data: data.classes,
    )
    return _torchvision(source=source, data_dir=data_dir)


def _torchvision(*, source: _Source, data_dir: str) -> Dataset:
    """The dataset from the cache, which torchvision fills the first time."""
    directory = Path(data_dir).expanduser().absolute()

    def decode(folder: Path) -> Dataset:
        classes: list[str] = []
        parts = {}
        for part, calls in source.calls.items():
            pieces = []
            for arguments in calls:
                data = _obtained(source=source, directory=directory, arguments=arguments)
                classes = classes or list(source.classes(data))
                pieces.append(source.read(data))
            parts[part] = _images(folder=folder, part=part, pieces=pieces, classes=classes, source=source)
        return Dataset(name=source.name, classes=classes, **parts)

    return cached(directory=directory, key=source.key, decode=decode)


def _images(*, folder: Path, part: str, pieces: list[tuple[Any, Any]], classes: list[str], source: _Source) -> Images:
    """Copies what torchvision holds into the cache folder, one piece after the other."""
    targets = np.concatenate([np.asarray(labels).astype(np.int64) for _, labels in pieces])
    pixels = allocate(folder=folder, part=part, shape=(len(targets), *pieces[0][0].shape[1:]))
    start = 0
    for images, _ in pieces:
        pixels[start : start + len(images)] = images
        start += len(images)
    suffixes = [f"_{classes[target]}.png" if source.name == "cifar10" else "" for target in targets]
    names = [f"{index}{suffix}" for index, suffix in enumerate(suffixes)]
    return Images(pixels=pixels, targets=targets, names=names)


def _obtained(*, source: _Source, directory: Path, arguments: dict[str, Any]) -> Any:
    """torchvision's dataset object, downloaded if need be. Raises UserError (what to put where) if that fails."""
    import tarfile
    import zlib
    from http.client import HTTPException

    import torchvision.datasets

    failures = (OSError, RuntimeError, ValueError, TypeError, LookupError, EOFError, AssertionError)
    _unpack(folder=directory / source.folder, archives=source.archives)
    try:
        with _bounded(), _quiet():
            return getattr(torchvision.datasets, source.builder)(str(directory), download=True, **arguments)
    except (*failures, HTTPException, tarfile.TarError, zlib.error) as error:
        raise UserError(_advice(source=source, folder=directory / source.folder, error=error)) from error


def _unpack(*, folder: Path, archives: list[str]) -> None:
    """Unpacks .gz files that lie beside no unpacked one: torchvision refuses a .gz that was packed by another hand.

    A damaged one is left to torchvision, which downloads it anew. Call it with the cache's lock held.
    """
    import gzip
    import zlib

    for archive in archives:
        plain = folder / archive.removesuffix(".gz")
        if archive.endswith(".gz") and ".tar" not in archive and not plain.exists():
            with contextlib.suppress(OSError, EOFError, zlib.error):
                partial = plain.with_name(f".{plain.name}.partial")
                partial.write_bytes(gzip.decompress((folder / archive).read_bytes()))
                partial.replace(plain)


def _advice(*, source: _Source, folder: Path, error: Exception) -> str:
    """One line for a dataset that could not be had: its archives are missing, or lie there damaged."""
    otherwise = "dataset=digits and dataset=image_folder need no download"
    plain = [name.removesuffix(".gz") for name in source.archives]
    packed_only = [name for name, other in zip(source.archives, plain, strict=True) if not (folder / other).is_file()]
    missing = [name for name in packed_only if not (folder / name).is_file()]
    if missing:
        return (
            f"{source.name} could not be downloaded ({reason(error)}): "
            f"put {', '.join(missing)} into {folder} and run again; {otherwise}"
        )
    return (
        f"{source.name} could not be read: {' or '.join(packed_only or plain)} in {folder} is damaged or incomplete "
        f"({reason(error)}): delete it to download it again or put a complete copy there; {otherwise}"
    )


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Lets network connections fail that stay silent, which torchvision would wait for without end."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drops torchvision's progress bars where no one watches them: in a log file they are thousands of lines."""
    if sys.stderr.isatty():
        yield
    else:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
