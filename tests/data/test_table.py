"""Tables of images: parts and labels, names, bad rows, digests and caches."""

import json
import os
import re

import numpy as np
import pytest
from conftest import TINY, command, settings
from folder_cases import SIZE, save
from PIL import Image

from meanteacher.config.digest import run_digest
from meanteacher.config.errors import UserError
from meanteacher.data import own_images, splits
from meanteacher.data.table import fingerprint, table


def load(file, **changes):
    options = {"image_size": SIZE, "resize": "crop", "broken": "error", "exclude_duplicates": "none"} | changes
    return table(file=str(file), data_dir=str(file.parent.parent / "data"), **options)


def failure(file, **changes):
    with pytest.raises(UserError) as error:
        load(file, **changes)
    assert "\n" not in str(error.value) and str(file.parent) in str(error.value)
    return str(error.value)


def write(folder, rows, header="path,label,part", encoding="utf-8"):
    """Write a table, and an image for each path that has none; returns the table's path."""
    folder.mkdir(exist_ok=True)
    for row in rows:
        path = folder / row.split(",")[0]
        if not path.exists():
            save(path, seed=int.from_bytes(row.split(",")[0].encode()))
    (folder / "labels.csv").write_text("\n".join([header, *rows]) + "\n", encoding=encoding)
    return folder / "labels.csv"


ROWS = [
    *(f"a/{i}.png,{'cat' if i % 2 else 'dog'},train" for i in range(6)),
    *(f"b/{i}.png,,unlabeled" for i in range(3)),
    "c/0.png,dog,test",
    "c/1.png,cat,test",
]


def test_parts_labels_and_pixels(tmp_path):
    file = write(tmp_path / "photos", ROWS)
    data = load(file)
    assert data.name == "table" and data.classes == ["cat", "dog"] and data.notes == []
    assert data.train.names == [f"a/{i}.png" for i in range(6)] + [f"b/{i}.png" for i in range(3)]
    assert data.train.targets.tolist() == [1, 0, 1, 0, 1, 0, -1, -1, -1]
    assert data.test.names == ["c/0.png", "c/1.png"] and data.test.targets.tolist() == [1, 0]
    for images in (data.train, data.test):
        for name, pixels in zip(images.names, images.pixels, strict=True):
            with Image.open(file.parent / name) as image:
                np.testing.assert_array_equal(pixels, np.asarray(image).transpose(2, 0, 1))


def test_without_parts_the_label_decides_and_a_fifth_is_held_out(tmp_path):
    rows = [f"{i}.png,{'cat' if i < 10 else 'dog'}" for i in range(20)] + [f"{i}.png," for i in range(20, 25)]
    data = load(write(tmp_path / "photos", rows, header="path,label"))
    assert np.bincount(data.test.targets).tolist() == [2, 2] and len(data.train.names) == 21
    assert data.train.targets.tolist().count(-1) == 5 and "there is no test part: a fixed fifth" in data.notes[0]


def test_how_spreadsheets_write_tables(tmp_path):
    """A byte-order mark, semicolons, quotes, commas and Unicode in names, capitals, blank lines, another column."""
    folder = tmp_path / "photos"
    names = ["Katze, groß.png", "猫 1.png", "é.png", "x;y.png"]
    for name in names:
        save(folder / name)
    text = (
        '\ufeffPath;Label ;Note\r\n"Katze, groß.png";кот;\r\n猫 1.png;кот;x\r\n\r\né.png;"dog";\r\n"x;y.png"; dog ;\r\n'
    )
    (folder / "labels.csv").write_bytes(text.encode())
    data = load(folder / "labels.csv")
    assert data.classes == ["dog", "кот"] and set(data.train.names + data.test.names) == set(names)
    assert "columns not used: note" in data.notes


def test_paths_are_named_from_the_tables_folder(tmp_path):
    save(tmp_path / "far" / "away.png")
    save(tmp_path / "beside.png")
    absolute, inside = f"{tmp_path}/far/away.png,cat,train", f"{tmp_path}/photos/in/1.png,dog,train"
    file = write(tmp_path / "photos", [*ROWS, absolute, "../beside.png,dog,train", inside])
    names = load(file).train.names
    assert {f"{tmp_path}/far/away.png", "../beside.png", "in/1.png"} <= set(names)


def test_rows_that_repeat_or_hide_a_label_are_told(tmp_path):
    file = write(tmp_path / "photos", [*ROWS, "a/0.png,dog,train", "./a/1.png,cat,train", "d.png,dog,unlabeled"])
    data = load(file)
    assert data.train.targets.tolist().count(-1) == 4 and len(data.train.names) == 10
    assert "rows skipped because their image has one already: 2" in data.notes
    assert "labels not used because the part is unlabeled: 1" in data.notes


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [*ROWS, "a/0.png,cat,train"],
            "two rows that differ: a/0.png is dog (train) in line 2 and cat (train) in line 13",
        ),
        ([*ROWS, "./a/0.png,dog,test"], "a/0.png is dog (train) in line 2 and dog (test) in line 13"),
        ([*ROWS, "a/9.png,,test"], "test images without a label: line 13"),
        ([*ROWS, "a/9.png,dog,val"], "unknown parts: val in line 13; use train, test, unlabeled"),
        ([*ROWS, "a/9.png,emu,test"], "the test part has classes that train lacks: emu"),
        ([*ROWS, "a/9.png"], "line 13: expected 3 fields"),
        ([*ROWS, "a/9.png,dog,train,,"], "line 13: expected 3 fields"),
        ([*ROWS, "a/1.png,cat,train", ",dog,train"], "line 14: expected 3 fields, a path first"),
        ([*ROWS, 'a/1.png,"cat,train'], "cannot be read as CSV"),
        ([row for row in ROWS if "cat" not in row], "one class only (dog)"),
        ([row for row in ROWS if ",unlabeled" in row], "no label in its training part"),
        ([], "names no image"),
    ],
)
def test_bad_rows_are_refused_in_one_line(tmp_path, rows, words):
    assert words in failure(write(tmp_path / "photos", rows))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("file,class", "must name the columns path,label or path,label,part once each, not file, class"),
        ("path", "not path"),
        ("path,label,label", "once each"),
        ("", "not a/0.png, dog, train"),
    ],
)
def test_wrong_columns_are_refused_in_one_line(tmp_path, header, words):
    assert words in failure(write(tmp_path / "photos", ROWS, header=header))


def test_missing_and_broken_images_are_named_or_left_out(tmp_path):
    file = write(tmp_path / "photos", [*ROWS, "a/x.png,dog,train", "a/y.png,,", "e/f.png,cat,train"])
    (file.parent / "a/x.png").unlink()
    (file.parent / "a/y.png").write_bytes(b"torn")
    (file.parent / "e/f.png").unlink()
    os.mkfifo(file.parent / "e/f.png")
    text = failure(file)
    assert (
        "3 images cannot be read: a/x.png (FileNotFoundError" in text and "e/f.png (ValueError: it is not a reg" in text
    )
    data = load(file, broken="skip")
    assert set(data.broken) == {"a/x.png", "a/y.png", "e/f.png"} and len(data.train.names) == 9


def test_a_table_whose_images_are_elsewhere_names_its_folder(tmp_path):
    file = write(tmp_path / "photos", ROWS)
    (tmp_path / "other").mkdir()
    file = file.rename(tmp_path / "other" / "labels.csv")
    assert f"paths are absolute or relative to {tmp_path / 'other'}" in failure(file, broken="skip")


@pytest.mark.parametrize("file", [None, "", "nowhere.csv", "photos", "pipe.csv", "latin.csv", "empty.csv"])
def test_a_bad_file_is_named(tmp_path, file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "latin.csv").write_bytes("path,label\ngr\xfcn.png,a\n".encode("latin-1"))
    (tmp_path / "empty.csv").touch()
    with pytest.raises(UserError) as error:
        fingerprint(file=file, data_dir="data")
    assert "\n" not in str(error.value) and (file or "dataset.file is not set") in str(error.value)


def test_the_fingerprint_holds_images_labels_and_parts_but_no_place(tmp_path):
    file, data_dir = write(tmp_path / "photos", ROWS), str(tmp_path / "data")

    def now():
        return fingerprint(file=str(file), data_dir=data_dir)

    first = now()
    os.utime(file.parent / "a/0.png")
    write(file.parent, ROWS[::-1])
    assert now() == first
    changed = [row.replace("a/0.png,dog", "a/0.png,cat") for row in ROWS]
    moved = [row.replace("a/0.png,dog,train", "a/0.png,dog,test") for row in ROWS]
    digests = {first}
    for rows in (changed, moved, ROWS[1:]):
        write(file.parent, rows)
        digests.add(now())
    write(file.parent, ROWS)
    save(file.parent / "a/0.png", seed=99)
    digests.add(now())
    assert len(digests) == 5
    file = (tmp_path / "photos").rename(tmp_path / "renamed") / "labels.csv"
    assert now() in digests


def test_new_labels_decode_nothing_and_do_not_move_images(monkeypatch, tmp_path):
    file = write(tmp_path / "photos", ROWS)
    first = load(file, exclude_duplicates="exact")
    monkeypatch.setattr(own_images, "read_image", None)
    write(file.parent, [row.replace("b/1.png,,unlabeled", "b/1.png,emu,") for row in ROWS])
    second = load(file, exclude_duplicates="exact")
    assert second.classes == ["cat", "dog", "emu"] and second.train.names == first.train.names
    assert second.train.targets.tolist() == [1, 0, 1, 0, 1, 0, -1, 2, -1] and second.test.targets.tolist() == [1, 0]


def test_new_labels_count_where_duplicates_were_dropped(tmp_path):
    """a/0.png is a copy of a test image, and the unlabeled b/1.png is one of a/3.png."""
    file = write(tmp_path / "photos", ROWS)
    for source, copy in (("c/0.png", "a/0.png"), ("a/3.png", "b/1.png")):
        (file.parent / copy).write_bytes((file.parent / source).read_bytes())
    first = load(file, exclude_duplicates="exact")
    assert first.train.names[0] == "a/1.png" and first.duplicates["unlabeled_train_exact"] == 1
    write(file.parent, [row.replace("b/1.png,,unlabeled", "b/1.png,emu,") for row in ROWS])
    second = load(file, exclude_duplicates="exact")
    assert second.train.names == first.train.names and second.duplicates["unlabeled_train_exact"] == 0
    assert second.train.targets.tolist() == [0, 1, 0, 1, 0, -1, 2, -1]


def test_a_split_file_names_images_of_the_table(tmp_path):
    file = write(tmp_path / "photos", ROWS)
    data = load(file)
    split = splits.draw(data, label=4, split_seed=0, validation=0, labeled_in_unlabeled=True)
    splits.write(tmp_path / "split.json", data, split, {"label": 4})
    again = splits.read(tmp_path / "split.json", load(file), labeled_in_unlabeled=True)
    assert again.labeled.tolist() == split.labeled.tolist()
    (tmp_path / "list.txt").write_text("a/1.png cat\na/2.png dog\n")
    assert splits.read(tmp_path / "list.txt", data, labeled_in_unlabeled=True).labeled.tolist() == [1, 2]


def test_a_run_is_named_by_the_content_of_its_table(tmp_path):
    def digest(file):
        return run_digest(settings("dataset=table", f"dataset.file={file}", f"data_dir={tmp_path / 'data'}"))

    file = write(tmp_path / "photos", ROWS)
    first = digest(file)
    file = (tmp_path / "photos").rename(tmp_path / "moved") / "labels.csv"
    assert digest(file) == first
    write(file.parent, ROWS[1:])
    assert digest(f"{file.parent}/./labels.csv") != first


@pytest.mark.slow
def test_a_run_trains_on_a_table(tmp_path):
    rows = [f"{i}.png,{'cat' if i % 2 else 'dog'}" for i in range(40)]
    file = write(tmp_path / "photos", rows, header="path,label")
    done = command(*TINY, "dataset=table", f"dataset.file={file}", "label=8", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.glob("outputs/table/*/label-8/seed-0/*/result.json")
    content = json.loads(result.read_text())
    assert re.fullmatch("[0-9a-f]{32}", content["data"]["fingerprint"]) and content["data"]["name"] == "table"
