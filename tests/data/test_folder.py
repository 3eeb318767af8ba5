"""Image folders: all layouts and image formats."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from folder_cases import SIZE, fill, load, save
from PIL import Image

from meanteacher.data import own_images as module


def test_layout_with_train_test_and_unlabeled(tmp_path):
    root = fill(tmp_path / "root")
    first = save(root / "unlabeled" / "deep" / "er" / "b.png", seed=1)
    save(root / "unlabeled" / "a.JPG", seed=2)
    dataset = load(root)
    assert dataset.name == "image_folder" and dataset.classes == ["cat", "dog"] and dataset.notes == []
    assert dataset.train.pixels.shape == (12, 3, SIZE, SIZE) and dataset.train.pixels.dtype == np.uint8
    assert dataset.train.targets.tolist() == [0] * 5 + [1] * 5 + [-1] * 2 and dataset.train.targets.dtype == np.int64
    assert dataset.test.targets.tolist() == [0] * 5 + [1] * 5
    assert dataset.train.names[0] == "train/cat/0000.png" and dataset.test.names[-1] == "test/dog/0004.png"
    assert dataset.train.names[-2:] == ["unlabeled/a.JPG", "unlabeled/deep/er/b.png"]
    np.testing.assert_array_equal(dataset.train.pixels[-1], first.transpose(2, 0, 1))
    with Image.open(root / "train" / "dog" / "0003.png") as image:
        np.testing.assert_array_equal(dataset.train.pixels[8], np.asarray(image).transpose(2, 0, 1))


def test_second_start_decodes_nothing(monkeypatch, tmp_path):
    root = fill(tmp_path / "root")
    first = load(root)
    monkeypatch.setattr(module, "read_image", None)
    second = load(root)
    assert isinstance(second.train.pixels, np.memmap) and second.train.names == first.train.names
    np.testing.assert_array_equal(first.train.pixels, second.train.pixels)


def test_each_image_size_has_its_own_cache(tmp_path):
    root = fill(tmp_path / "root")
    assert load(root).train.pixels.shape[-1] == SIZE
    assert load(root, image_size=4).train.pixels.shape[-2:] == (4, 4)


@pytest.mark.parametrize("layout", ["train only", "class folders"])
def test_without_a_test_folder_a_fixed_fifth_is_held_out(tmp_path, layout):
    parts = ["train"] if layout == "train only" else [""]
    root = fill(tmp_path / "root", parts=parts, count=10)
    save(root / "unlabeled" / "x.png")
    dataset = load(root)
    assert dataset.classes == ["cat", "dog"]
    assert np.bincount(dataset.test.targets).tolist() == [2, 2] and dataset.train.targets.tolist().count(-1) == 1
    assert set(dataset.train.names).isdisjoint(dataset.test.names)
    assert len(dataset.train.names) == 17 and any("fifth" in note and "4 images" in note for note in dataset.notes)
    assert dataset.test.names[0].startswith("train/cat/" if layout == "train only" else "cat/")
    assert load(root, data_dir=tmp_path / "elsewhere").test.names == dataset.test.names


def test_all_image_formats_and_modes_are_decoded(tmp_path):
    root = fill(tmp_path / "root", classes=("cat", "dog"))
    expected = {}
    for name, mode in (("gray.png", "L"), ("alpha.png", "RGBA"), ("palette.gif", "P"), ("bits.png", "1")):
        expected[name] = save(root / "train" / "cat" / name, mode=mode)
    for name in ("a.bmp", "a.tif", "a.tiff", "a.ppm", "a.WEBP", "a.JpEg", "cmyk.jpg"):
        mode = "CMYK" if name == "cmyk.jpg" else "RGB"
        expected[name] = save(root / "train" / "cat" / name, mode=mode)
    Image.fromarray(np.full((SIZE, SIZE), 0x8040, dtype=np.uint16)).save(root / "train" / "cat" / "deep.png")
    expected["deep.png"] = np.full((SIZE, SIZE, 3), 0x80)
    dataset = load(root)
    assert dataset.notes == []
    rows = {Path(name).name: row for row, name in enumerate(dataset.train.names)}
    for name, values in expected.items():
        np.testing.assert_array_equal(dataset.train.pixels[rows[name]], values.transpose(2, 0, 1), err_msg=name)


@pytest.mark.filterwarnings("ignore:Palette images")
def test_transparent_palette_does_not_warn(tmp_path):
    root = fill(tmp_path / "root")
    save(root / "train" / "cat" / "clear.png", mode="P", transparency=b"\x00\x80")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load(root).train.names) == 11


def test_odd_sizes_are_resized_and_center_cropped(tmp_path):
    root = fill(tmp_path / "root")
    wide = np.zeros((16, 64, 3), dtype=np.uint8)
    wide[:, 24:40] = (10, 200, 30)
    Image.fromarray(wide).save(root / "train" / "cat" / "wide.png")
    Image.fromarray(wide.transpose(1, 0, 2)).save(root / "test" / "cat" / "tall.png")
    save(root / "train" / "cat" / "tiny.png", size=(3, 5))
    dataset = load(root)
    assert [note for note in dataset.notes if "3 of 23 images" in note and f"{SIZE}×{SIZE}" in note]
    for part, name in ((dataset.train, "train/cat/wide.png"), (dataset.test, "test/cat/tall.png")):
        image = part.pixels[part.names.index(name)]
        assert image[:, 1:-1, 1:-1].reshape(3, -1).T.tolist() == [[10, 200, 30]] * 36


def test_exif_orientation_is_applied(tmp_path):
    root = fill(tmp_path / "root")
    values = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    values[:, : SIZE // 2] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(root / "train" / "cat" / "turned.jpg", exif=exif, quality=95)
    dataset = load(root)
    image = dataset.train.pixels[dataset.train.names.index("train/cat/turned.jpg")].astype(int)
    assert image[:, : SIZE // 2].min() > 200 and image[:, SIZE // 2 :].max() < 50
    assert dataset.notes == []


def test_hidden_and_other_files_are_counted(tmp_path):
    root = fill(tmp_path / "root")
    (root / "train" / "cat" / ".hidden.png").write_bytes(b"x")
    (root / "train" / "cat" / ".thumbs").mkdir()
    (root / "train" / "dog" / "notes.txt").write_text("x")
    (root / "train" / "stray.png").write_bytes(b"x")
    (root / "test" / "Thumbs.db").write_text("x")
    (root / "README.md").write_text("beside train/, not counted")
    (root / "val").mkdir()
    dataset = load(root)
    assert len(dataset.train.names) == len(dataset.test.names) == 10
    assert any(note.startswith("files skipped: 5 ") for note in dataset.notes)
    assert any("skipped: val" in note for note in dataset.notes)
    (root / "test" / "Thumbs.db").unlink()
    assert any(note.startswith("files skipped: 4 ") for note in load(root).notes)


def test_subfolders_of_a_class_folder_belong_to_the_class(tmp_path):
    root = fill(tmp_path / "root")
    save(root / "train" / "cat" / "day 2" / "x.png")
    os.symlink(root / "train" / "cat", root / "train" / "cat" / "loop")
    dataset = load(root)
    assert dataset.train.targets[dataset.train.names.index("train/cat/day 2/x.png")] == 0
    assert len(dataset.train.names) == 11


def test_root_may_be_data_dir(tmp_path):
    root = fill(tmp_path / "root", parts=[""])
    for _ in range(2):
        assert load(root, data_dir=root).classes == ["cat", "dog"]


def test_empty_unlabeled_is_noted(tmp_path):
    root = fill(tmp_path / "root")
    (root / "unlabeled").mkdir()
    assert load(root).notes == ["unlabeled/ contains no images"]


def test_relative_root_and_home_directory(monkeypatch, tmp_path):
    fill(tmp_path / "root")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert load("root", data_dir="data").train.names == load("~/root", data_dir="~/data").train.names
