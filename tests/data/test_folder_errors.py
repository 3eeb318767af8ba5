"""Errors of image folders: one line that names the file or folder."""

import os
import shutil

import numpy as np
import pytest
from folder_cases import SIZE, failure, fill, load, save
from PIL import Image

from meanteacher.config.errors import UserError
from meanteacher.data.folder import fingerprint, image_folder


def test_missing_root_names_the_nearest_existing_folder(tmp_path):
    text = failure(tmp_path / "missing" / "deeper", data_dir=tmp_path / "data")
    assert str(tmp_path / "missing" / "deeper") in text and f": {tmp_path})" in text


@pytest.mark.parametrize("root", [None, ""])
def test_unset_root_is_refused(tmp_path, root):
    with pytest.raises(UserError, match="root is not set.*dataset.root="):
        image_folder(
            root=root, data_dir=str(tmp_path), image_size=SIZE, resize="crop", broken="error", exclude_duplicates="none"
        )


def test_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "images.zip").write_text("x")
    assert "is a file" in failure(tmp_path / "images.zip", data_dir=tmp_path / "data")


def test_folders_without_images_are_refused(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    assert str(root) in failure(root) and "no images" in failure(root)
    save(root / "flat.png")
    assert "class folders" in failure(root)
    (root / "cat").mkdir()
    (root / "dog").mkdir()
    assert "no images" in failure(root)


def test_a_single_class_is_refused(tmp_path):
    root = fill(tmp_path / "root", classes=("cat",))
    text = failure(root)
    assert "one class only (cat)" in text and str(root) in text


def test_empty_class_folder_is_refused(tmp_path):
    root = fill(tmp_path / "root")
    (root / "train" / "emu").mkdir()
    (root / "train" / "emu" / "notes.txt").write_text("x")
    assert f"{root / 'train' / 'emu'} contains no images" in failure(root)


def test_test_classes_must_be_a_subset(tmp_path):
    root = fill(tmp_path / "root")
    shutil.rmtree(root / "test" / "cat")
    assert load(root).test.targets.tolist() == [1] * 5
    save(root / "test" / "emu" / "x.png")
    save(root / "test" / "yak" / "x.png")
    assert "emu, yak" in failure(root)


def test_test_folder_without_train_folder_is_refused(tmp_path):
    root = fill(tmp_path / "root", parts=("test",))
    assert "no train folder" in failure(root)


def test_test_folder_without_images_is_refused(tmp_path):
    root = fill(tmp_path / "root", parts=("train",))
    (root / "test").mkdir()
    assert f"{root / 'test'} has no images" in failure(root)


def test_one_image_per_class_without_test_folder_is_refused(tmp_path):
    assert "held out" in failure(fill(tmp_path / "root", parts=("train",), count=1))


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_corrupt_image_is_named(tmp_path, content):
    root = fill(tmp_path / "root")
    path = root / "train" / "dog" / "bad.png"
    if content is None:
        save(path, size=(64, 64))
        os.truncate(path, path.stat().st_size // 2)
    else:
        path.write_bytes(content)
    text = failure(root)
    assert str(path) in text and "delete or replace" in text
    path.unlink()
    assert len(load(root).train.names) == 10


def test_image_of_unknown_range_is_refused(tmp_path):
    root = fill(tmp_path / "root")
    Image.fromarray(np.zeros((SIZE, SIZE), dtype=np.float32)).save(root / "train" / "cat" / "float.tif")
    assert "float.tif" in failure(root) and "32 bits" in failure(root)


def test_broken_link_is_named(tmp_path):
    root = fill(tmp_path / "root")
    os.symlink(tmp_path / "nowhere.png", root / "train" / "cat" / "link.png")
    text = failure(root)
    assert str(root / "train" / "cat" / "link.png") in text and "delete or replace" in text


def test_unwritable_data_dir_is_named(tmp_path):
    root = fill(tmp_path / "root")
    (tmp_path / "file").write_text("x")
    text = failure(root, data_dir=tmp_path / "file")
    assert str(tmp_path / "file") in text and "data_dir" in text
    with pytest.raises(UserError, match="data_dir"):
        fingerprint(root=str(root), data_dir=str(tmp_path / "file"))
