"""Splits are balanced, nested and independent of other settings; files are read for matching data only."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meanteacher.config.errors import UserError
from meanteacher.data import Dataset, Images, splits


def dataset(targets) -> Dataset:
    targets = np.asarray(targets, np.int64)
    names = [f"train/{t}/{i}.png" for i, t in enumerate(targets)]
    images = Images(pixels=np.zeros((len(targets), 1, 2, 2), np.uint8), targets=targets, names=names)
    test = replace(images, targets=targets.clip(min=0))
    return Dataset(name="synthetic", classes=[f"c{c}" for c in range(targets.max() + 1)], train=images, test=test)


def draw(data, label, seed=0, validation=0, shared=True):
    return splits.draw(data, label=label, split_seed=seed, validation=validation, labeled_in_unlabeled=shared)


balanced = dataset(np.arange(400) % 5)


@given(st.integers(5, 300), st.integers(5, 300), st.integers(0, 9))
def test_smaller_label_sets_are_contained_in_larger_ones(a, b, seed):
    small, large = (set(draw(balanced, n, seed).labeled) for n in sorted((a, b)))
    assert small <= large and len(small) == min(a, b)


@given(st.integers(5, 300), st.integers(0, 9))
def test_classes_differ_by_at_most_one(label, seed):
    split = draw(balanced, label, seed)
    counts = np.bincount(balanced.train.targets[split.labeled])
    assert counts.max() - counts.min() == (0 if label % 5 == 0 else 1)
    assert bool(split.notes) == (label % 5 != 0)


@given(st.integers(5, 200), st.integers(0, 150), st.integers(0, 9))
def test_validation_and_labeled_images_do_not_affect_each_other(label, validation, seed):
    split = draw(balanced, label, seed, validation)
    assert np.array_equal(split.labeled, draw(balanced, label, seed).labeled)
    assert np.array_equal(split.validation, draw(balanced, 5, seed, validation).validation)
    assert len(split.validation) == validation
    assert not set(split.validation) & (set(split.labeled) | set(split.unlabeled))


@given(st.lists(st.integers(-1, 2), min_size=30, max_size=120), st.integers(0, 5))
def test_unbalanced_and_unlabeled_images(targets, seed):
    data = dataset([*targets, 0, 1, 2])
    labeled_able = np.flatnonzero(data.train.targets >= 0)
    split = draw(data, 3, seed)
    assert sorted(data.train.targets[split.labeled]) == [0, 1, 2]
    everything = draw(data, "all", seed)
    assert np.array_equal(everything.labeled, labeled_able)
    assert len(everything.unlabeled) == len(data.train.targets)
    assert len(draw(data, "all", seed, shared=False).unlabeled) == len(data.train.targets) - len(labeled_able)


def test_a_split_is_determined_by_its_seed():
    assert np.array_equal(draw(balanced, 50, 3).labeled, draw(balanced, 50, 3).labeled)
    assert not np.array_equal(draw(balanced, 50, 3).labeled, draw(balanced, 50, 4).labeled)


@pytest.mark.parametrize(
    ("label", "validation", "words"),
    [(4, 0, "5 classes"), (401, 0, "at most 400"), (350, 100, "at most 300"), (10, 400, "validation=400")],
)
def test_impossible_counts_are_refused(label, validation, words):
    with pytest.raises(UserError, match=words):
        draw(balanced, label, validation=validation)


def test_a_written_split_reads_back_the_same(tmp_path):
    split = draw(balanced, 20, 1, 40)
    splits.write(tmp_path / "split.json", balanced, split, {"label": 20})
    reread = splits.read(tmp_path / "split.json", balanced, labeled_in_unlabeled=True)
    for name in ("labeled", "unlabeled", "validation"):
        assert np.array_equal(getattr(split, name), getattr(reread, name))


def test_a_split_for_other_data_is_refused(tmp_path):
    path = tmp_path / "split.json"
    splits.write(path, balanced, draw(balanced, 20), {"label": 20})
    others = [
        dataset(np.arange(401) % 5),
        dataset((np.arange(400) + 1) % 5),
        replace(balanced, train=replace(balanced.train, names=[f"x{i}" for i in range(400)])),
    ]
    for other in others:
        with pytest.raises(UserError, match="does not match"):
            splits.read(path, other, labeled_in_unlabeled=True)


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"labeled": 3}', "no such image c0", "", "train/0/0.png c1", "0.png c0\n0.png c0"]
)
def test_invalid_split_files_are_refused_in_one_line(tmp_path, text):
    path = tmp_path / "split.txt"
    path.write_text(text)
    with pytest.raises(UserError, match="split=") as caught:
        splits.read(path, balanced, labeled_in_unlabeled=True)
    assert "\n" not in str(caught.value)


def test_text_lists_may_name_images_without_their_folder(tmp_path):
    path = tmp_path / "00.txt"
    path.write_text("0.png c0\ntrain/1/1.png c1\n\n7.png c2\n")
    split = splits.read(path, balanced, labeled_in_unlabeled=False)
    assert split.labeled.tolist() == [0, 1, 7]
    assert len(split.unlabeled) == 397 and not len(split.validation)


def write_table(path, *rows):
    path.write_text("\n".join(["path,label,part", *rows]), encoding="utf-8-sig")
    return path


def test_tables_name_labeled_validation_and_unlabeled_images(tmp_path):
    rows = ["/photos/train/0/0.png,c0,", "1.png,c1,train", "7.png,,", "train/3/8.png,c3,validation", "x.png,c0,test"]
    path = write_table(tmp_path / "labels.csv", *rows)
    split = splits.read(path, balanced, labeled_in_unlabeled=True)
    assert split.labeled.tolist() == [0, 1] and split.validation.tolist() == [8]
    assert split.unlabeled.tolist() == [0, 1, 7] and not split.every_unlabeled
    assert splits.read(path, balanced, labeled_in_unlabeled=False).unlabeled.tolist() == [7]
    splits.write(tmp_path / "split.json", balanced, split, {})
    assert splits.read(tmp_path / "split.json", balanced, labeled_in_unlabeled=True).digest() == split.digest()


def test_without_unlabeled_rows_all_images_of_a_table_may_be_unlabeled(tmp_path):
    split = splits.read(write_table(tmp_path / "labels.csv", "0.png,c0,"), balanced, labeled_in_unlabeled=True)
    assert len(split.unlabeled) == 400 and split.every_unlabeled


def test_tables_hold_names_and_classes_with_commas_and_spaces(tmp_path):
    data = replace(balanced, classes=["a, b", "c", "d", "e", "f"])
    names = ["two words, and a comma.png", *data.train.names[1:]]
    data = replace(data, train=replace(data.train, names=names))
    path = write_table(tmp_path / "labels.csv", '"two words, and a comma.png","a, b",')
    assert splits.read(path, data, labeled_in_unlabeled=True).labeled.tolist() == [0]


@pytest.mark.parametrize(
    "row, message",
    [
        ("0.png,c1,", "line 2: 0.png is c0"),
        ("absent.png,c1,", "line 2: no single training image"),
        ("0.png,c0,trian", "line 2: part is 'trian'"),
        ("0.png", "line 2: expected a path and a label"),
        ("0.png,c0,\ntrain/0/0.png,,", "line 3: train/0/0.png is listed twice"),
        ("0.png,,", "no image with a label"),
    ],
)
def test_invalid_tables_are_refused_with_their_line(tmp_path, row, message):
    with pytest.raises(UserError, match=message):
        splits.read(write_table(tmp_path / "labels.csv", row), balanced, labeled_in_unlabeled=True)


def test_a_label_for_an_unlabeled_image_is_refused_with_advice(tmp_path):
    targets = balanced.train.targets.copy()
    targets[0] = -1
    data = replace(balanced, train=replace(balanced.train, targets=targets))
    with pytest.raises(UserError, match="0.png is unlabeled .* dataset=table"):
        splits.read(write_table(tmp_path / "labels.csv", "0.png,c0,"), data, labeled_in_unlabeled=True)
