"""A user's own images: every layout, every kind of file, every error, and the fingerprint."""

import os
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from meanteacher.config.errors import UserError
from meanteacher.data import folder as module
from meanteacher.data.folder import fingerprint, image_folder

SIZE = 8


def save(path, *, seed=0, size=(SIZE, SIZE), mode="RGB", **options):
    """A made-up image of width × height; returns its RGB values."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(values).convert(mode)
    image.save(path, **options)
    with Image.open(path) as stored:
        return np.asarray(stored.convert("RGB"))


def fill(root, *, parts=("train", "test"), classes=("cat", "dog"), count=5):
    for part in parts:
        for name in classes:
            for index in range(count):
                seed = int.from_bytes(f"{part}/{name}/{index}".encode())
                save(Path(root) / part / name / f"{index:04d}.png", seed=seed)
    return Path(root)


def load(root, data_dir=None, image_size=SIZE):
    where = data_dir if data_dir is not None else Path(root).parent / "data"
    return image_folder(root=str(root), data_dir=str(where), image_size=image_size)


def failure(root, **options):
    with pytest.raises(UserError) as error:
        load(root, **options)
    text = str(error.value)
    assert "\n" not in text
    return text


def age(root):
    """Makes all files old, as files are whose stamps can be trusted."""
    for path in Path(root).rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))


def test_train_test_and_unlabelled(tmp_path):
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
    monkeypatch.setattr(module, "_image", None)
    second = load(root)
    assert isinstance(second.train.pixels, np.memmap) and second.train.names == first.train.names
    np.testing.assert_array_equal(first.train.pixels, second.train.pixels)


def test_another_size_is_another_cache(tmp_path):
    root = fill(tmp_path / "root")
    assert load(root).train.pixels.shape[-1] == SIZE
    assert load(root, image_size=4).train.pixels.shape[-2:] == (4, 4)


@pytest.mark.parametrize("layout", ["train only", "class folders"])
def test_without_test_folder_a_fixed_fifth_is_split_off(tmp_path, layout):
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


def test_kinds_of_images(tmp_path):
    root = fill(tmp_path / "root", classes=("cat", "dog"))
    expected = {}
    for name, mode in (("grey.png", "L"), ("alpha.png", "RGBA"), ("palette.gif", "P"), ("bits.png", "1")):
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


def test_odd_sizes_are_resized_and_centre_cropped(tmp_path):
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
    assert any(note.startswith("files left out: 5 ") for note in dataset.notes)
    assert any("left out: val" in note for note in dataset.notes)
    (root / "test" / "Thumbs.db").unlink()
    assert any(note.startswith("files left out: 4 ") for note in load(root).notes)


def test_images_deeper_in_a_class_folder_belong_to_the_class(tmp_path):
    root = fill(tmp_path / "root")
    save(root / "train" / "cat" / "day 2" / "x.png")
    os.symlink(root / "train" / "cat", root / "train" / "cat" / "loop")
    dataset = load(root)
    assert dataset.train.targets[dataset.train.names.index("train/cat/day 2/x.png")] == 0
    assert len(dataset.train.names) == 11


def test_root_that_is_data_dir_itself(tmp_path):
    root = fill(tmp_path / "root", parts=[""])
    for _ in range(2):
        assert load(root, data_dir=root).classes == ["cat", "dog"]


def test_empty_unlabeled_is_noted(tmp_path):
    root = fill(tmp_path / "root")
    (root / "unlabeled").mkdir()
    assert load(root).notes == ["unlabeled/ holds no images"]


def test_relative_root_and_home(monkeypatch, tmp_path):
    fill(tmp_path / "root")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert load("root", data_dir="data").train.names == load("~/root", data_dir="~/data").train.names


def test_missing_root_names_the_nearest_folder(tmp_path):
    text = failure(tmp_path / "missing" / "deeper", data_dir=tmp_path / "data")
    assert str(tmp_path / "missing" / "deeper") in text and f": {tmp_path})" in text


@pytest.mark.parametrize("root", [None, ""])
def test_unset_root(tmp_path, root):
    with pytest.raises(UserError, match="root is not set.*dataset.root="):
        image_folder(root=root, data_dir=str(tmp_path), image_size=SIZE)


def test_root_that_is_a_file(tmp_path):
    (tmp_path / "images.zip").write_text("x")
    assert "is a file" in failure(tmp_path / "images.zip", data_dir=tmp_path / "data")


def test_no_images(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    assert str(root) in failure(root) and "no images" in failure(root)
    save(root / "flat.png")
    assert "class folders" in failure(root)
    (root / "cat").mkdir()
    (root / "dog").mkdir()
    assert "no images" in failure(root)


def test_one_class(tmp_path):
    root = fill(tmp_path / "root", classes=("cat",))
    text = failure(root)
    assert "one class only (cat)" in text and str(root) in text


def test_empty_class_folder(tmp_path):
    root = fill(tmp_path / "root")
    (root / "train" / "emu").mkdir()
    (root / "train" / "emu" / "notes.txt").write_text("x")
    assert f"{root / 'train' / 'emu'} holds no images" in failure(root)


def test_test_classes_must_be_a_subset(tmp_path):
    root = fill(tmp_path / "root")
    shutil.rmtree(root / "test" / "cat")
    assert load(root).test.targets.tolist() == [1] * 5
    save(root / "test" / "emu" / "x.png")
    save(root / "test" / "yak" / "x.png")
    assert "emu, yak" in failure(root)


def test_test_folder_without_train_folder(tmp_path):
    root = fill(tmp_path / "root", parts=("test",))
    assert "no train folder" in failure(root)


def test_test_folder_without_images(tmp_path):
    root = fill(tmp_path / "root", parts=("train",))
    (root / "test").mkdir()
    assert f"{root / 'test'} has no images" in failure(root)


def test_single_images_cannot_be_split(tmp_path):
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


def test_unwritable_data_dir(tmp_path):
    root = fill(tmp_path / "root")
    (tmp_path / "file").write_text("x")
    text = failure(root, data_dir=tmp_path / "file")
    assert str(tmp_path / "file") in text and "data_dir" in text
    with pytest.raises(UserError, match="data_dir"):
        fingerprint(root=str(root), data_dir=str(tmp_path / "file"))


def test_fingerprint_depends_on_the_content_alone(tmp_path):
    root = fill(tmp_path / "root")
    data_dir = str(tmp_path / "data")
    first = fingerprint(root=str(root), data_dir=data_dir)
    assert len(first) == 32 and int(first, 16) >= 0
    (root / "train" / "cat" / "0001.png").touch()
    (root / "notes.txt").write_text("x")
    assert fingerprint(root=str(root), data_dir=data_dir) == first
    root = root.rename(tmp_path / "renamed")
    assert fingerprint(root=str(root), data_dir=data_dir) == first
    assert fingerprint(root=str(root), data_dir=str(tmp_path / "elsewhere")) == first
    (root / "train" / "cat" / "0001.png").rename(root / "train" / "cat" / "1000.png")
    assert fingerprint(root=str(root), data_dir=data_dir) != first


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("restored", [True, False])
def test_fingerprint_changes_with_a_pixel(tmp_path, old, restored):
    """Of the same size in bytes, and even where the time of the last change was set back."""
    root = fill(tmp_path / "root")
    path = root / "train" / "cat" / "pixel.ppm"
    save(path)
    if old:
        age(root)
        time.sleep(0.02)
    before = fingerprint(root=str(root), data_dir=str(tmp_path / "data"))
    stat = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    if restored:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert fingerprint(root=str(root), data_dir=str(tmp_path / "data")) != before


def test_fingerprint_of_an_unchanged_folder_opens_no_file(monkeypatch, tmp_path):
    root = fill(tmp_path / "root")
    age(root)
    first = fingerprint(root=str(root), data_dir=str(tmp_path / "data"))

    def forbidden(**options):
        raise AssertionError("files were read")

    monkeypatch.setattr(module, "in_parallel", forbidden)
    assert fingerprint(root=str(root), data_dir=str(tmp_path / "data")) == first
    (root / "train" / "cat" / "0001.png").touch()
    with pytest.raises(AssertionError, match="files were read"):
        fingerprint(root=str(root), data_dir=str(tmp_path / "data"))


def test_fingerprint_of_fresh_files_is_not_trusted(tmp_path):
    """A file written twice within the clock's grain has the same stamps both times."""
    root = fill(tmp_path / "root")
    fingerprint(root=str(root), data_dir=str(tmp_path / "data"))
    assert not list((tmp_path / "data" / "cache").glob("fingerprint-*"))


def test_changed_image_is_decoded_again(tmp_path):
    root = fill(tmp_path / "root")
    load(root)
    values = save(root / "train" / "cat" / "0000.png", seed=99)
    np.testing.assert_array_equal(load(root).train.pixels[0], values.transpose(2, 0, 1))


def test_a_run_lists_its_folder_once_and_trains_on_what_it_is_named_by(monkeypatch, tmp_path):
    root = fill(tmp_path / "root")
    load(root)
    listed, calls = module.list_images, []
    monkeypatch.setattr(module, "list_images", lambda **options: calls.append(1) or listed(**options))
    fingerprint(root=str(root), data_dir=str(tmp_path / "data"))
    save(root / "train" / "cat" / "new.png")
    assert len(load(root).train.names) == 10 and len(calls) == 1
    assert len(load(root).train.names) == 11


def test_images_that_change_while_they_are_decoded_are_not_cached(tmp_path):
    root = fill(tmp_path / "root")
    fingerprint(root=str(root), data_dir=str(tmp_path / "data"))
    values = save(root / "train" / "cat" / "0000.png", seed=99)
    assert "changed" in failure(root) and not list((tmp_path / "data" / "cache").glob("image_folder-*"))
    np.testing.assert_array_equal(load(root).train.pixels[0], values.transpose(2, 0, 1))
