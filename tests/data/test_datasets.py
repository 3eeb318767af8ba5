"""The named data sets: their images, order and names, and the messages when they cannot be loaded."""

import gzip
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets

from meanteacher.config.errors import UserError
from meanteacher.data.datasets import cifar10, cifar100, digits, fashion_mnist, stl10, svhn
from meanteacher.data.splits import hold_out_fifth


def pixels(count, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    return text


def fake(monkeypatch, builder, data):
    """Replace a class of torchvision; returns the list of calls made to it."""
    calls = []

    def build(root, *, download, **arguments):
        assert download
        assert socket.getdefaulttimeout() is not None
        calls.append({"root": root, **arguments})
        result = data(**arguments)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(torchvision.datasets, builder, build)
    return calls


def tiny_cifar(classes):
    def data(train):
        count = 7 if train else 3
        targets = [index % 2 for index in range(count)]
        return SimpleNamespace(data=pixels(count, 32, 32, 3, seed=train), targets=targets, classes=classes)

    return data


def test_cifar10_keeps_torchvisions_order_and_the_published_names(monkeypatch, tmp_path):
    data = tiny_cifar(["airplane", "cat"])
    fake(monkeypatch, "CIFAR10", data)
    dataset = cifar10(data_dir=str(tmp_path))
    assert dataset.name == "cifar10" and dataset.classes == ["airplane", "cat"] and dataset.notes == []
    assert dataset.train.pixels.dtype == np.uint8 and dataset.train.targets.dtype == np.int64
    np.testing.assert_array_equal(dataset.train.pixels, data(True).data.transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(dataset.test.pixels, data(False).data.transpose(0, 3, 1, 2))
    assert dataset.train.targets.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert dataset.train.names[:3] == ["0_airplane.png", "1_cat.png", "2_airplane.png"]
    assert dataset.test.names == ["0_airplane.png", "1_cat.png", "2_airplane.png"]
    assert socket.getdefaulttimeout() is None


def test_second_start_reads_the_cache_memory_mapped(monkeypatch, tmp_path):
    calls = fake(monkeypatch, "CIFAR100", tiny_cifar(["apple", "bee"]))
    first = cifar100(data_dir=str(tmp_path))
    count = len(calls)
    second = cifar100(data_dir=str(tmp_path))
    assert len(calls) == count == 2
    assert isinstance(second.train.pixels, np.memmap) and not second.train.pixels.flags.writeable
    np.testing.assert_array_equal(first.train.pixels, second.train.pixels)
    assert second.train.names == ["0", "1", "2", "3", "4", "5", "6"] and second.classes == ["apple", "bee"]


def test_home_directory_is_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    calls = fake(monkeypatch, "CIFAR10", tiny_cifar(["a", "b"]))
    cifar10(data_dir="~/data")
    assert calls[0]["root"] == str(tmp_path / "data") and (tmp_path / "data" / "cache" / "cifar10").is_dir()


def test_svhn_extra_is_appended_to_the_training_part(monkeypatch, tmp_path):
    sizes = {"train": 4, "extra": 6, "test": 3}

    def data(split):
        count = sizes[split]
        strided = pixels(32, 32, 3, count, seed=count).transpose(3, 2, 0, 1)
        return SimpleNamespace(data=strided, labels=np.arange(count) % 10)

    fake(monkeypatch, "SVHN", data)
    plain = svhn(data_dir=str(tmp_path), extra=False)
    with_extra = svhn(data_dir=str(tmp_path), extra=True)
    assert len(plain.train.pixels) == 4 and len(with_extra.train.pixels) == 10 and len(with_extra.test.pixels) == 3
    np.testing.assert_array_equal(with_extra.train.pixels[:4], plain.train.pixels)
    np.testing.assert_array_equal(with_extra.train.pixels[4:], data("extra").data)
    assert with_extra.train.targets.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5]
    assert with_extra.train.names == [str(index) for index in range(10)] and with_extra.classes == list("0123456789")
    assert plain.name == with_extra.name == "svhn"


def test_stl10_appends_the_unlabeled_images_with_target_minus_one(monkeypatch, tmp_path):
    def data(split):
        count = {"train": 3, "unlabeled": 5, "test": 2}[split]
        labels = np.full(count, -1) if split == "unlabeled" else np.arange(count, dtype=np.uint8)
        return SimpleNamespace(data=pixels(count, 3, 96, 96, seed=count), labels=labels, classes=["bird", "car", "cat"])

    fake(monkeypatch, "STL10", data)
    dataset = stl10(data_dir=str(tmp_path))
    assert dataset.train.pixels.shape == (8, 3, 96, 96) and dataset.test.pixels.shape == (2, 3, 96, 96)
    assert dataset.train.targets.tolist() == [0, 1, 2, -1, -1, -1, -1, -1]
    np.testing.assert_array_equal(dataset.train.pixels[3:], data("unlabeled").data)
    assert dataset.train.names == [str(index) for index in range(8)]


def test_fashion_mnist_has_one_channel(monkeypatch, tmp_path):
    def data(train):
        count = 4 if train else 2
        gray = torch.from_numpy(pixels(count, 28, 28))
        return SimpleNamespace(data=gray, targets=torch.arange(count), classes=["T-shirt/top", "b", "c", "d"])

    fake(monkeypatch, "FashionMNIST", data)
    dataset = fashion_mnist(data_dir=str(tmp_path))
    assert dataset.train.pixels.shape == (4, 1, 28, 28) and dataset.test.targets.tolist() == [0, 1]
    np.testing.assert_array_equal(dataset.train.pixels[:, 0], data(True).data.numpy())


@pytest.mark.parametrize(
    ("load", "builder", "folder", "archives"),
    [
        (cifar10, "CIFAR10", "", ["cifar-10-python.tar.gz"]),
        (cifar100, "CIFAR100", "", ["cifar-100-python.tar.gz"]),
        (stl10, "STL10", "", ["stl10_binary.tar.gz"]),
        (lambda data_dir: svhn(data_dir=data_dir, extra=True), "SVHN", "", ["train_32x32.mat", "extra_32x32.mat"]),
        (
            fashion_mnist,
            "FashionMNIST",
            "FashionMNIST/raw",
            ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"],
        ),
    ],
)
@pytest.mark.parametrize(
    "failure",
    [
        URLError("Name or service not known"),
        TimeoutError("timed out"),
        RuntimeError("Error downloading x:\nTried y, got:\nDataset not found or corrupted."),
    ],
)
def test_failed_download_names_the_files_and_the_folder(
    monkeypatch, tmp_path, load, builder, folder, archives, failure
):
    fake(monkeypatch, builder, lambda **arguments: failure)
    with pytest.raises(UserError) as error:
        load(data_dir=str(tmp_path))
    text = one_line(error)
    assert "could not be downloaded" in text and type(failure).__name__ in text
    assert f"into {tmp_path / folder} " in text and all(archive in text for archive in archives)
    assert "dataset=digits" in text and "dataset=image_folder" in text
    assert not [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert socket.getdefaulttimeout() is None


def test_archive_names_match_torchvision():
    """The file names in the error messages are those that torchvision looks for."""
    source = (Path(sys.modules["meanteacher.data.datasets"].__file__)).read_text(encoding="utf-8")
    for builder in ("CIFAR10", "CIFAR100", "STL10"):
        assert f'"{getattr(torchvision.datasets, builder).filename}"' in source
    assert all(entry[1] == f"{split}_32x32.mat" for split, entry in torchvision.datasets.SVHN.split_list.items())
    assert {name for name, _ in torchvision.datasets.FashionMNIST.resources} == {
        f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    }


def test_truncated_archive_is_reported_as_damaged(monkeypatch, tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b cut short")

    def unreachable(*arguments, **keywords):
        raise URLError("unreachable")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    with pytest.raises(UserError) as error:
        cifar10(data_dir=str(tmp_path))
    text = one_line(error)
    assert "cifar-10-python.tar.gz" in text and "damaged" in text and str(tmp_path) in text and "unreachable" in text


def test_damaged_unpacked_files_are_named(monkeypatch, tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, _ in torchvision.datasets.FashionMNIST.resources:
        (raw / name.removesuffix(".gz")).write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 9]))
    with pytest.raises(UserError) as error:
        fashion_mnist(data_dir=str(tmp_path))
    text = one_line(error)
    assert "damaged" in text and str(raw) in text and "train-images-idx3-ubyte or " in text


def place_fashion_mnist(raw):
    """Synthetic files in idx format, compressed here, so their checksums differ from those torchvision expects."""
    raw.mkdir(parents=True)
    for part, count in (("train", 4), ("t10k", 2)):
        size = count.to_bytes(4)
        images = bytes([0, 0, 8, 3]) + size + (28).to_bytes(4) * 2 + pixels(count, 28, 28).tobytes()
        (raw / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (raw / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes([0, 0, 8, 1]) + size + bytes(count)))


def test_fashion_mnist_files_are_accepted_with_any_gzip_checksum(tmp_path):
    place_fashion_mnist(tmp_path / "FashionMNIST" / "raw")
    dataset = fashion_mnist(data_dir=str(tmp_path))
    np.testing.assert_array_equal(dataset.train.pixels[:, 0], pixels(4, 28, 28))
    assert dataset.test.targets.tolist() == [0, 0] and dataset.classes[0] == "T-shirt/top"


def test_of_several_archives_the_damaged_one_is_named(monkeypatch, tmp_path):
    def unreachable(*arguments, **keywords):
        raise URLError("unreachable")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    raw = tmp_path / "FashionMNIST" / "raw"
    place_fashion_mnist(raw)
    os.truncate(raw / "t10k-images-idx3-ubyte.gz", 500)
    with pytest.raises(UserError) as error:
        fashion_mnist(data_dir=str(tmp_path))
    assert f": t10k-images-idx3-ubyte.gz in {raw} is damaged" in one_line(error)


def test_torchvisions_output_is_hidden_without_a_terminal(monkeypatch, tmp_path, capfd):
    def data(train):
        print("Files already downloaded")
        print("100%", file=sys.stderr)
        return tiny_cifar(["a", "b"])(train)

    fake(monkeypatch, "CIFAR10", data)
    cifar10(data_dir=str(tmp_path))
    assert capfd.readouterr() == ("", "")


def test_digits_holds_out_a_stratified_fifth():
    dataset = digits(image_size=16)
    second = digits(image_size=16)
    assert dataset.train.pixels.shape[1:] == (1, 16, 16) and dataset.train.pixels.dtype == np.uint8
    assert len(dataset.train.pixels) + len(dataset.test.pixels) == 1797
    assert set(dataset.train.names).isdisjoint(dataset.test.names)
    assert sorted(map(int, dataset.train.names + dataset.test.names)) == list(range(1797))
    train, test = np.bincount(dataset.train.targets), np.bincount(dataset.test.targets)
    assert np.all(np.abs(test - (train + test) / 5) <= 0.5)
    assert dataset.test.names == second.test.names
    np.testing.assert_array_equal(dataset.test.pixels, second.test.pixels)
    assert "fifth" in dataset.notes[0]


def test_digits_are_scaled_to_0_to_255_and_keep_their_labels():
    from sklearn.datasets import load_digits

    raw = load_digits()
    dataset = digits(image_size=8)
    rows = [int(name) for name in dataset.test.names]
    np.testing.assert_allclose(dataset.test.pixels[:, 0], raw.images[rows] * 255 / 16, atol=0.51)
    assert dataset.test.targets.tolist() == raw.target[rows].tolist()
    large = digits(image_size=32).train.pixels
    assert large.shape[1:] == (1, 32, 32) and large.max() == 255 and large.min() == 0


def test_loading_digits_imports_no_torch():
    code = (
        "import sys; import meanteacher.data.datasets, meanteacher.data.folder; "
        "heavy = [m for m in ('torch', 'torchvision', 'sklearn', 'PIL', 'tqdm') if m in sys.modules]; "
        "meanteacher.data.datasets.digits(image_size=8); "
        "print(heavy, [m for m in ('torch', 'torchvision') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "[]"]


def test_hold_out_fifth_is_independent_of_the_order():
    names = [f"image {index}" for index in range(50)]
    targets = np.arange(50) % 2
    chosen = hold_out_fifth(names=names, targets=targets)
    assert chosen.sum() == 10 and np.bincount(targets[chosen]).tolist() == [5, 5]
    turned = hold_out_fifth(names=names[::-1], targets=targets[::-1])
    np.testing.assert_array_equal(turned[::-1], chosen)
    assert hold_out_fifth(names=["a", "b", "c"], targets=np.array([0, 0, 1])).tolist().count(True) == 1
