"""Few unlabeled images, classes without labels, long tails: closed-form counts, nesting, one line for mistakes."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_splits import dataset

from meanteacher.config.errors import UserError
from meanteacher.data import splits
from meanteacher.data.images import OTHER_CLASS
from meanteacher.data.scenario import split_classes

ten = dataset(np.arange(1000) % 10)
six = split_classes(ten, 3)
CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
animals = replace(ten, name="cifar10", classes=[*CIFAR10.split()])


def draw(data, label=20, seed=3, validation=0, shared=True, **options):
    drawn = {"split_seed": seed, "validation": validation, "labeled_in_unlabeled": shared}
    return splits.draw(data, label=label, **drawn, **options)


def counts(data, positions, classes=10):
    return np.bincount(data.train.targets[positions], minlength=classes).tolist()


@given(st.integers(1, 999), st.integers(1, 999), st.integers(0, 9), st.booleans())
def test_fewer_unlabeled_images_are_among_more(a, b, seed, shared):
    a, b = sorted((min(a, 980), min(b, 980)))
    small, large = (draw(ten, seed=seed, shared=shared, unlabeled=n) for n in (a, b))
    assert set(small.unlabeled) <= set(large.unlabeled) and len(small.unlabeled) == a
    assert shared or not set(large.unlabeled) & set(large.labeled)
    assert np.array_equal(small.labeled, draw(ten, seed=seed).labeled), "the labels do not depend on it"


def test_unlabeled_images_do_not_depend_on_the_number_of_labels_that_they_share():
    assert np.array_equal(draw(ten, 20, unlabeled=100).unlabeled, draw(ten, 40, unlabeled=100).unlabeled)
    assert len(draw(ten, 20, unlabeled=1000).unlabeled) == 1000 and draw(ten, 20).every_unlabeled
    assert not set(draw(ten, validation=200, unlabeled=800).unlabeled) & set(draw(ten, validation=200).validation)


def test_cifar10_keeps_the_labels_of_the_six_animals_of_oliver_et_al():
    kept = split_classes(animals, 5)
    assert kept.classes == ["bird", "cat", "deer", "dog", "frog", "horse"]
    assert kept.notes == ["classes with labels: bird, cat, deer, dog, frog, horse; the other 4 have none"]
    assert np.array_equal(
        kept.train.targets, np.where(np.isin(ten.train.targets, range(2, 8)), ten.train.targets - 2, OTHER_CLASS)
    )
    assert (len(kept.test.targets), len(kept.unknown_test.targets)) == (600, 400)
    assert np.bincount(kept.test.targets).tolist() == [100] * 6 and set(kept.unknown_test.targets) == {OTHER_CLASS}
    assert kept.test.names[0] == "train/2/2.png" and kept.unknown_test.names[:3] == [
        f"train/{n}/{n}.png" for n in (0, 1, 8)
    ]


def test_other_data_keeps_60_percent_of_the_classes_chosen_by_split_seed():
    chosen = [tuple(split_classes(ten, seed).classes) for seed in range(8)]
    assert {len(classes) for classes in chosen} == {6} and len(set(chosen)) > 4
    assert chosen[3] == tuple(split_classes(ten, 3).classes)
    assert len(split_classes(dataset(np.arange(30) % 3), 0).classes) == 2


@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.75, 1])
def test_share_of_unlabeled_images_from_classes_without_labels(share):
    """Six classes of 100 images have labels, four have none: every share can have 400 images."""
    split = draw(six, 30, mismatch=share)
    assert len(split.unlabeled) == 400
    assert (six.train.targets[split.unlabeled] < 0).sum() == 400 * share
    assert counts(six, split.labeled, 6) == [5] * 6
    small = draw(six, 30, mismatch=share, unlabeled=101)
    assert (six.train.targets[small.unlabeled] < 0).sum() == int(101 * share + 0.5)
    assert set(small.unlabeled) < set(split.unlabeled)


@given(st.floats(0, 1), st.integers(1, 400), st.integers(1, 400))
def test_mismatched_images_are_nested(share, a, b):
    small, large = (set(draw(six, 30, mismatch=share, unlabeled=n).unlabeled) for n in sorted((a, b)))
    assert small <= large


def test_long_tail_of_the_labels():
    """γ = 16 over five classes: 16^(−k/4) = 1, 1/2, 1/4, 1/8, 1/16, so 31 labels are 16, 8, 4, 2, 1."""
    five = dataset(np.arange(400) % 5)
    assert counts(five, draw(five, 31, imbalance=16).labeled, 5) == [16, 8, 4, 2, 1]
    assert counts(five, draw(five, 62, imbalance=16).labeled, 5) == [32, 16, 8, 4, 2]
    assert counts(five, draw(five, "all", imbalance=16).labeled, 5) == [80, 40, 20, 10, 5]
    assert counts(five, draw(five, "all", validation=200, imbalance=16).labeled, 5) == [40, 20, 10, 5, 3]
    assert "1 to 16 per class" in draw(five, 31, imbalance=16).notes[0]
    assert np.array_equal(draw(five, 31, imbalance=1).labeled, draw(five, 31).labeled)


@given(st.floats(1, 50), st.integers(60, 180), st.integers(60, 180), st.integers(0, 9))
def test_long_tailed_labels_are_nested_and_follow_the_formula(imbalance, a, b, seed):
    """There is an N_1 for which each count is N_1·γ^(−k/9), rounded to the nearest integer (Webster's method)."""
    labeled = {}
    for total in (a, b):
        try:
            labeled[total] = draw(ten, total, seed, imbalance=imbalance).labeled
        except UserError as error:
            assert "imbalance" in str(error)
            return
        found = counts(ten, labeled[total])
        lowest = max((n - 0.5) / imbalance ** (-k / 9) for k, n in enumerate(found))
        highest = min((n + 0.5) / imbalance ** (-k / 9) for k, n in enumerate(found))
        assert lowest <= highest * (1 + 1e-9) and min(found) >= 1
        assert sum(found) == total and (found == sorted(found, reverse=True) or imbalance < 1.001)
    assert set(labeled[min(a, b)]) <= set(labeled[max(a, b)])


def test_long_tail_of_the_unlabeled_images():
    five = dataset(np.arange(400) % 5)
    assert counts(five, draw(five, unlabeled_imbalance=16).unlabeled, 5) == [80, 40, 20, 10, 5]
    assert counts(five, draw(five, unlabeled_imbalance=16, unlabeled=31).unlabeled, 5) == [16, 8, 4, 2, 1]
    assert counts(five, draw(five, unlabeled_imbalance=1).unlabeled, 5) == [80] * 5
    mixed = draw(six, 30, unlabeled_imbalance=32, mismatch=0.5, unlabeled=126)
    assert Counter(six.train.targets[mixed.unlabeled].tolist()) == {
        OTHER_CLASS: 63,
        0: 32,
        1: 16,
        2: 8,
        3: 4,
        4: 2,
        5: 1,
    }


@pytest.mark.parametrize(
    "options", [{"unlabeled": 77}, {"mismatch": 0.5}, {"unlabeled_imbalance": 5}, {"imbalance": 5}]
)
@pytest.mark.parametrize("shared", [True, False])
def test_a_written_split_reads_back_the_same(tmp_path, options, shared):
    data = six if "mismatch" in options else ten
    split = draw(data, 60, shared=shared, **options)
    splits.write(tmp_path / "split.json", data, split, {"label": 60} | options)
    reread = splits.read(tmp_path / "split.json", data, labeled_in_unlabeled=shared)
    for name in ("labeled", "unlabeled", "validation"):
        assert np.array_equal(getattr(split, name), getattr(reread, name))
    content = json.loads((tmp_path / "split.json").read_text())
    assert content.items() >= (options | {"unlabeled": len(split.unlabeled)}).items()
    assert content["classes"] == data.classes and ("unlabeled_positions" in content) == ("imbalance" not in options)


def test_a_split_with_fewer_classes_is_refused_for_the_whole_data(tmp_path):
    splits.write(tmp_path / "split.json", six, draw(six, 30, mismatch=0.5), {})
    with pytest.raises(
        UserError, match="made for 6 classes with labels, not 10; in place of the file, use the mismatch"
    ):
        splits.read(tmp_path / "split.json", ten, labeled_in_unlabeled=True)


@pytest.mark.parametrize(
    ("data", "label", "options", "words"),
    [
        (ten, 20, {"unlabeled": 1001}, "unlabeled=1001: synthetic has only 1000 for it; use fewer"),
        (six, 30, {"unlabeled": 900, "mismatch": 0.5}, "600 of labeled classes and 400 of other classes"),
        (six, 5, {"mismatch": 0.5}, "label=5: synthetic has 6 classes"),
        (six, 601, {"mismatch": 0.5}, "label=601: synthetic has 600 images with labels"),
        (
            ten,
            40,
            {"imbalance": 100},
            "label=40 with imbalance=100: the smallest class would get no label; use a label of",
        ),
        (ten, 900, {"imbalance": 10}, "label=900 with imbalance=10: synthetic has images for at most 4"),
        (
            ten,
            20,
            {"unlabeled": 900, "unlabeled_imbalance": 10},
            "unlabeled=900 with unlabeled_imbalance=10: synthetic has",
        ),
        (
            dataset([0, 1, -1] * 9),
            4,
            {"unlabeled_imbalance": 2},
            "unlabeled_imbalance: 9 training images of synthetic have",
        ),
    ],
)
def test_impossible_sets_are_refused_in_one_line(data, label, options, words):
    with pytest.raises(UserError, match=words) as caught:
        draw(data, label, **options)
    assert "\n" not in str(caught.value)


def test_the_smallest_possible_label_count_is_possible():
    with pytest.raises(UserError, match="use a label of") as caught:
        draw(ten, 40, imbalance=100)
    least = int(str(caught.value).split("use a label of ")[1].split(" ")[0])
    assert min(counts(ten, draw(ten, least, imbalance=100).labeled)) == 1
    with pytest.raises(UserError, match="no label"):
        draw(ten, least - 1, imbalance=100)


@pytest.mark.parametrize(
    ("targets", "words"),
    [([0, 1] * 5, "synthetic has 2 classes"), ([0, 1, 2, -1] * 5, "5 training images of synthetic")],
)
def test_classes_without_labels_need_three_classes_and_known_ones(targets, words):
    with pytest.raises(UserError, match=f"mismatch: {words}"):
        split_classes(dataset(targets), 0)
