"""Data sets that Hugging Face's library reads, without a network: saved folders, parquet files, image folders."""

import io
import sys

import numpy as np
import pytest
from folder_cases import SIZE, age, save
from PIL import Image

from meanteacher.config.errors import UserError
from meanteacher.data.huggingface import fingerprint, huggingface

datasets = pytest.importorskip("datasets")

COLORS = {"cat": 40, "dog": 90, "emu": 200}


def load(path, **changes):
    options = {"image_column": None, "label_column": None, "resize": "crop", "broken": "error"} | changes
    where = {"data_dir": str(path.parent / "data"), "image_size": SIZE, "exclude_duplicates": "none"}
    return huggingface(path=str(path), **where, **options)


def failure(path, **changes):
    with pytest.raises(UserError) as error:
        load(path, **changes)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def encode(seed, gray):
    noise = np.random.default_rng(seed).integers(0, 30, (SIZE, SIZE, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise + np.uint8(gray)).save(content, "png")
    return content.getvalue()


def split(labels, names=("cat", "dog", "emu"), start=0):
    """A split with a class label per image; its pixels tell the class. labels: −1 and None for unlabeled images."""
    images = [
        {"bytes": encode(start + row, 0 if label in (None, -1) else COLORS[names[label]]), "path": None}
        for row, label in enumerate(labels)
    ]
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=kinds)


def check(data):
    """Each image shows the class of its target."""
    for images in (data.train, data.test):
        for target, pixels in zip(images.targets, images.pixels, strict=True):
            gray = 0 if target < 0 else COLORS[data.classes[target]]
            assert gray <= pixels.min() and pixels.max() < gray + 30


def test_a_saved_folder_with_splits(tmp_path):
    labels = [1, 0, 1, 0, None, -1]
    parts = {"train": split(labels), "test": split([0, 1, 1], start=50), "validation": split([0], start=90)}
    parts["unlabeled"] = split([-1, -1], start=70).remove_columns("label")
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    data = load(tmp_path / "saved")
    check(data)
    assert data.name == "huggingface" and data.classes == ["cat", "dog"]
    assert data.train.targets.tolist() == [1, 0, 1, 0, -1, -1, -1, -1] and data.test.targets.tolist() == [0, 1, 1]
    assert data.train.names[0] == "train/0000000" and data.train.names[-1] == "unlabeled/0000001"
    assert data.notes[0] == "split not used: validation"
    row = np.frombuffer(encode(3, COLORS["cat"]), np.uint8)
    with Image.open(io.BytesIO(row.tobytes())) as image:
        np.testing.assert_array_equal(data.train.pixels[3], np.asarray(image).transpose(2, 0, 1))


def test_a_saved_folder_without_splits_holds_a_fifth_out(tmp_path):
    split([0, 1] * 5).save_to_disk(tmp_path / "saved")
    data = load(tmp_path / "saved")
    check(data)
    assert np.bincount(data.test.targets).tolist() == [1, 1] and len(data.train.names) == 8


def test_parquet_files_belong_to_the_part_that_they_are_named_after(tmp_path):
    folder = tmp_path / "files"
    (folder / "test").mkdir(parents=True)
    for number in range(2):
        split([0, 1, 2], start=number * 10).to_parquet(folder / f"part-{number}.parquet")
    split([0, 1, 2], start=30).to_parquet(folder / "test" / "0.parquet")
    split([-1, None], start=40).to_parquet(folder / "unlabeled-0.parquet")
    data = load(folder)
    check(data)
    assert data.train.targets.tolist() == [0, 1, 2, 0, 1, 2, -1, -1] and data.test.targets.tolist() == [0, 1, 2]


def test_a_parquet_file_of_bytes_and_text(tmp_path):
    import pandas

    names = ["cat", "dog", "", None, "cat", "dog"]
    content = [encode(row, COLORS.get(name, 0)) for row, name in enumerate(names)]
    pandas.DataFrame({"file": content, "kind": names}).to_parquet(tmp_path / "plain.parquet")
    assert "has no column of labels among file, kind: set dataset.label_column" in failure(tmp_path / "plain.parquet")
    data = load(tmp_path / "plain.parquet", label_column="kind")
    check(data)
    assert data.train.targets.tolist().count(-1) == 2 and data.classes == ["cat", "dog"]


def test_an_image_folder_of_the_library(tmp_path):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(3):
                save(tmp_path / "photos" / part / name / f"{number}.png", seed=number, size=(9, 12))
    data = load(tmp_path / "photos", resize="pad")
    assert data.classes == ["cat", "dog"] and len(data.train.names) == len(data.test.names) == 6


def test_broken_rows_are_named_or_left_out(tmp_path):
    part = split([0, 1, 0, 1]).cast_column("image", datasets.Image(decode=False))
    rows = [dict(row) for row in part]
    rows[1]["image"], rows[2]["image"] = {"bytes": b"torn", "path": None}, None
    broken = datasets.Dataset.from_list(rows, features=part.features)
    datasets.DatasetDict({"train": broken, "test": split([0, 1], start=9)}).save_to_disk(tmp_path / "saved")
    assert "2 images cannot be read: train/0000001 (not an image" in failure(tmp_path / "saved")
    assert load(tmp_path / "saved", broken="skip").train.names == ["train/0000000", "train/0000003"]


@pytest.mark.parametrize(
    ("parts", "options", "words"),
    [
        ({"train": [0, 0]}, {}, "fewer than two classes in the column label"),
        ({"test": [0, 1]}, {}, "has no split named train, only test"),
        ({"train": [0, 1], "test": [0, 1, 2]}, {}, "the split test has classes that train lacks: emu"),
        ({"train": [0, 1], "test": [0, -1]}, {}, "row 1 of the split test has no label"),
        ({"train": [0, 1]}, {"label_column": "kind"}, "the split train has no column kind, only image, label"),
        ({"train": [0, 1]}, {"image_column": "label"}, "column label of train holds no images"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, parts, options, words):
    saved = datasets.DatasetDict({part: split(labels) for part, labels in parts.items()})
    saved.save_to_disk(tmp_path / "saved")
    assert words in failure(tmp_path / "saved", **options)


def test_paths_that_cannot_be_loaded_are_refused_in_one_line(tmp_path, monkeypatch):
    assert "does not exist" in failure(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "has no files" in failure(tmp_path / "empty")
    (tmp_path / "torn.parquet").write_bytes(b"torn")
    assert "cannot be loaded by the library datasets" in failure(tmp_path / "torn.parquet")
    with pytest.raises(UserError, match="dataset.path is not set"):
        fingerprint(path=None, data_dir="data")
    split([0, 1]).save_to_disk(tmp_path / "saved")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[huggingface\]'"):
        load(tmp_path / "saved")


def test_the_fingerprint_holds_the_content_and_no_place(tmp_path):
    split([0, 1, 0, 1]).to_parquet(tmp_path / "a.parquet")
    age(tmp_path)
    data_dir = str(tmp_path / "data")
    first = fingerprint(path=str(tmp_path / "a.parquet"), data_dir=data_dir)
    (tmp_path / "moved").mkdir()
    moved = (tmp_path / "a.parquet").rename(tmp_path / "moved" / "a.parquet")
    assert fingerprint(path=str(moved), data_dir=data_dir) == first
    split([0, 1, 1, 1]).to_parquet(moved)
    assert fingerprint(path=str(moved), data_dir=data_dir) != first
