"""Files that are no readable images: all are named at once, or left out and recorded."""

import json
import os
from collections import namedtuple

import numpy as np
import pytest
from folder_cases import SIZE, failure, fill, load, save
from PIL import Image

from meanteacher.config.errors import UserError
from meanteacher.data import own_images, splits
from meanteacher.data.folder import fingerprint

BROKEN = ["empty.png", "text.jpg", "torn.png", "float.tif", "link.png", "self.png", "torn.webp"]


@pytest.fixture
def photos(tmp_path):
    """A folder with seven broken files in train/cat, beside five readable images, and one of the test part."""
    root = fill(tmp_path / "photos")
    cat = root / "train" / "cat"
    (cat / "empty.png").write_bytes(b"")
    (cat / "text.jpg").write_text("not an image")
    for name in ("torn.png", "torn.webp"):
        save(cat / name, size=(64, 64))
        os.truncate(cat / name, 900)
    Image.fromarray(np.zeros((SIZE, SIZE), np.float32)).save(cat / "float.tif")
    os.symlink("nowhere.png", cat / "link.png")
    os.symlink("self.png", cat / "self.png")
    (root / "test/dog/0002.png").write_bytes(b"torn")
    return root


def test_all_broken_files_are_named_at_once(photos, tmp_path):
    text = failure(photos)
    assert f"{photos}: 8 images cannot be read: " in text and " and 3 more, all listed in " in text
    assert "dataset.broken=skip" in text and "test/dog/0002.png (not an image, or of an unknown format)" in text
    listed = (tmp_path / text.split("all listed in ")[1].split(": delete")[0]).read_text().splitlines()
    names = sorted([*(f"train/cat/{name}" for name in BROKEN), "test/dog/0002.png"])
    assert [line.split(" (")[0] for line in listed] == names


def test_broken_files_are_left_out_and_recorded(photos, tmp_path):
    for _ in range(2):
        dataset = load(photos, broken="skip")
        assert len(dataset.train.names) == 10 and len(dataset.test.names) == 9
        assert np.bincount(dataset.train.targets).tolist() == [5, 5]
        assert set(dataset.broken) == {*(f"train/cat/{name}" for name in BROKEN), "test/dog/0002.png"}
        assert any(note.startswith("broken images left out: 8 (test/dog/0002.png, ") for note in dataset.notes)
    with Image.open(photos / "train/dog/0004.png") as image:
        np.testing.assert_array_equal(dataset.train.pixels[-1], np.asarray(image).transpose(2, 0, 1))
    with Image.open(photos / "test/dog/0003.png") as image:
        row = dataset.test.names.index("test/dog/0003.png")
        np.testing.assert_array_equal(dataset.test.pixels[row], np.asarray(image).transpose(2, 0, 1))
    assert len(load(photos, broken="skip", exclude="near").broken) == 8
    split = splits.draw(dataset, label=4, split_seed=0, validation=0, labeled_in_unlabeled=True)
    splits.write(tmp_path / "split.json", dataset, split, {})
    assert json.loads((tmp_path / "split.json").read_text())["broken"] == dataset.broken


def test_broken_files_are_refused_although_they_were_left_out_before(photos):
    load(photos, broken="skip")
    assert "8 images cannot be read" in failure(photos)


def test_names_with_line_breaks_do_not_break_the_line(tmp_path):
    root = fill(tmp_path / "root")
    for number in (1, 2):
        (root / f"train/cat/{number}\nx.png").write_bytes(b"torn")
        assert f"{number} x.png" in failure(root)


def test_a_class_or_a_part_of_broken_images_is_refused(tmp_path):
    for part, words in (("train/cat", "train part of cat"), ("test", "test part of cat, dog")):
        root = fill(tmp_path / part.replace("/", "-"))
        for path in (root / part).rglob("*.png"):
            path.write_bytes(b"torn")
        assert words in failure(root, broken="skip")


def test_a_storage_that_fails_is_not_taken_for_a_broken_image(monkeypatch, photos):
    def fail(source):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(own_images, "read_image", fail)
    assert "Input/output error" in failure(photos, broken="skip")
    monkeypatch.undo()
    assert len(load(photos, broken="skip").broken) == 8


def test_files_without_permission_are_named_at_once(monkeypatch, tmp_path):
    root = fill(tmp_path / "root")
    for path in (root / "train/cat").iterdir():
        path.unlink()
        os.symlink("/proc/self/mem", path)  # regular to os.stat, and not to be read
    with pytest.raises(UserError, match=r"cat/0000.png .*cat/0004.png .*make them readable") as error:
        fingerprint(root=str(root), data_dir=str(tmp_path / "data"))
    assert "\n" not in str(error.value)


def test_pipes_and_devices_are_skipped(tmp_path):
    root = fill(tmp_path / "root")
    os.mkfifo(root / "train/cat/p.jpg")
    os.symlink("/dev/zero", root / "train/dog/zero.jpg")
    dataset = load(root)
    assert len(dataset.train.names) == 10 and dataset.notes[0].startswith("files skipped: 2 (hidden, no regular file")


def test_folders_that_link_to_each_other_are_listed_once(tmp_path):
    root = fill(tmp_path / "root")
    save(tmp_path / "other" / "x.png")
    os.symlink(tmp_path / "other", root / "train/cat/other")
    os.symlink(root / "train/cat", tmp_path / "other/back")
    os.symlink("loop", root / "train/dog/loop")
    dataset = load(root)
    assert len(dataset.train.names) == 11 and "train/cat/other/x.png" in dataset.train.names


def test_images_that_do_not_fit_the_disk_are_refused_before_decoding(monkeypatch, tmp_path):
    root = fill(tmp_path / "root")
    usage = namedtuple("usage", "free")(2**20)
    monkeypatch.setattr(own_images.shutil, "disk_usage", lambda folder: usage)
    text = failure(root, image_size=4096)
    assert text.startswith("dataset.image_size=4096: the decoded images take 0.9 GiB, but ") and "0.0 GiB left" in text
    assert len(load(root).train.names) == 10


def test_a_class_without_test_images_is_told(tmp_path):
    root = fill(tmp_path / "root")
    save(root / "train/emu/x.png")
    assert "the test part has no image of emu, so nothing is measured there" in load(root).notes
