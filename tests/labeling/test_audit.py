"""The audit: label errors and foreign images in made-up features, copies, and the command on a run."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from meanteacher.config.cli import main
from meanteacher.data.duplicates import Signatures
from meanteacher.labeling import label_errors, outliers
from meanteacher.labeling.audit_page import render_audit_page
from meanteacher.labeling.findings import audit_run, copy_pairs, find_copies
from meanteacher.labeling.run_images import open_run

pytest.importorskip("cleanlab")


@pytest.fixture(scope="module")
def run(finished_run):
    return open_run(finished_run)


def clusters(seed: int = 0, classes: int = 4, each: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Features around one axis per class, float [N, 6], and the classes."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    return np.eye(6)[labels] + rng.normal(0, 0.05, (len(labels), 6)), labels


def test_probabilities_are_smoothed_votes_of_the_other_images():
    features, labels = clusters()
    labels[0] = 2  # was 0
    probabilities = label_errors.neighbor_probabilities(features, labels)
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert probabilities[0] == pytest.approx([10.25 / 11, 0.25 / 11, 0.25 / 11, 0.25 / 11])
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for row in (3, 40, 100):
        nearest = np.argsort(-(unit @ unit[row]), kind="stable")
        votes = np.bincount(labels[nearest[nearest != row][:10]], minlength=4)
        assert probabilities[row] == pytest.approx((votes + 0.25) / 11)


def test_wrong_labels_are_found_with_their_true_class():
    features, true = clusters()
    labels, wrong = true.copy(), np.array([5, 33, 70, 95])
    labels[wrong] = (labels[wrong] + 1) % 4
    errors = label_errors.find_label_errors(labels, label_errors.neighbor_probabilities(features, labels))
    assert sorted(errors.rows) == wrong.tolist()
    assert (errors.suggested == true[errors.rows]).all() and errors.confident.all()
    assert (np.diff(errors.quality[errors.rows]) >= 0).all()


def test_a_label_without_a_clear_majority_is_no_confident_error():
    features, labels = clusters(classes=2)
    probabilities = label_errors.neighbor_probabilities(features, labels)
    probabilities[0] = 0.45, 0.55
    errors = label_errors.find_label_errors(labels, probabilities)
    assert errors.rows.tolist() == [0] and not errors.confident[0] and errors.suggested.tolist() == [1]


def test_classes_of_three_images_have_two_neighbors_each():
    features, labels = clusters(each=3)
    probabilities = label_errors.neighbor_probabilities(features, labels)
    assert probabilities[np.arange(12), labels] == pytest.approx(2.25 / 3)
    assert not len(label_errors.find_label_errors(labels, probabilities).rows)


def test_right_labels_are_left_alone():
    features, labels = clusters()
    assert not len(label_errors.find_label_errors(labels, label_errors.neighbor_probabilities(features, labels)).rows)


def test_distance_is_to_the_fifth_nearest_other_image():
    rng = np.random.default_rng(0)
    reference, images = rng.normal(size=(20, 3)), rng.normal(size=(4, 3))

    def brute(point, others):
        unit = others / np.linalg.norm(others, axis=1, keepdims=True)
        return np.sort(np.linalg.norm(unit - point / np.linalg.norm(point), axis=1))[4]

    expected = [brute(image, reference) for image in images]
    assert outliers.neighbor_distances(images, reference, among=False) == pytest.approx(expected)
    expected = [brute(reference[i], np.delete(reference, i, axis=0)) for i in range(20)]
    assert outliers.neighbor_distances(reference, reference, among=True) == pytest.approx(expected)


def test_fence_is_one_and_a_half_times_the_middle_half_above_it():
    usual = np.arange(101.0)  # quartiles 25 and 75
    assert outliers.outside_fence(np.array([149.0, 150.0, 151.0]), usual).tolist() == [False, False, True]


def test_copies_are_paired_with_the_first_of_their_kind():
    rng = np.random.default_rng(0)
    images = np.repeat(np.repeat(rng.integers(0, 256, (6, 3, 8, 8)), 4, axis=2), 4, axis=3).astype(np.uint8)
    images[2] = images[4] = images[0]
    images[5] = (images[1].astype(int) + 4).clip(0, 255)
    signatures = Signatures.of(images)
    assert copy_pairs(signatures, signatures) == [(1, 5, 0.0), (2, 0, 1.0), (4, 0, 1.0)]
    assert copy_pairs(Signatures.of(images[[4, 3]]), Signatures.of(images[:3])) == [(0, 0, 1.0)]


def test_copies_with_other_labels_come_first(run):
    train, test = run.data.train, run.data.test
    pixels, first, third = train.pixels.copy(), run.known[0], run.known[2]
    other = next(i for i in run.known if train.targets[i] != train.targets[first])
    pixels[other] = pixels[first]
    pixels[third] = test.pixels[0]
    copies = find_copies(replace(run, data=replace(run.data, train=replace(train, pixels=pixels))))
    exact = [each for each in copies if each.score == 1]
    assert {exact[0].image.row, exact[0].other.row} == {first, other}
    assert (exact[1].image.row, exact[1].other.part, exact[1].other.row) == (third, "test", 0)


def test_a_wrong_label_of_a_run_is_found(run):
    """One label of the run is changed after training."""
    targets = run.data.train.targets.copy()
    changed = run.split.labeled[0]
    targets[changed] = (targets[changed] + 1) % 3
    audit = audit_run(replace(run, data=replace(run.data, train=replace(run.data.train, targets=targets))))
    (finding,) = [each for each in audit.of_kind("label") if each.image.row == changed]
    assert finding.suggested == run.classes[run.data.train.targets[changed]]
    assert finding.image.part == "labeled" and audit.looked_at == 48 + 24


def test_a_class_with_one_label_is_named(run):
    only = np.flatnonzero(run.data.train.targets == 2)[:1]
    kept = np.concatenate([run.known[run.data.train.targets[run.known] != 2], only])
    none = np.empty(0, np.int64)
    small = replace(run, split=replace(run.split, labeled=np.sort(kept), validation=none))
    audit = audit_run(small)
    assert run.classes[2] in audit.notes[0]
    assert not any(each.image.label == run.classes[2] for each in audit.of_kind("label"))


def test_an_unable_network_is_named(run):
    targets = run.data.train.targets.copy()
    targets[run.known] = np.random.default_rng(0).integers(0, 3, len(run.known))
    audit = audit_run(replace(run, data=replace(run.data, train=replace(run.data.train, targets=targets))))
    assert "cannot tell the classes" in audit.notes[0] and not audit_run(run).notes


def test_command_writes_table_and_page(finished_run, tmp_path, capsys):
    arguments = ["audit", str(finished_run), "--out", str(tmp_path)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    with (tmp_path / "audit.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    labels = [row["confident"] for row in rows if row["finding"] == "label"]
    expected = f"labels that are probably wrong: {labels.count('yes')} of 45; {labels.count('no')} more may be"
    assert expected in printed
    assert "Audit of 45 labels" in (tmp_path / "audit.html").read_text()
    assert main(arguments) == 1 and "--force" in capsys.readouterr().err


def test_names_are_escaped_on_the_page(run):
    names = [name.replace("train/", "train/<b>&") for name in run.data.train.names]
    targets = run.data.train.targets.copy()
    targets[run.split.labeled[0]] = (targets[run.split.labeled[0]] + 1) % 3
    renamed = replace(run, data=replace(run.data, train=replace(run.data.train, names=names, targets=targets)))
    page = render_audit_page(renamed, audit_run(renamed))
    assert "&lt;b&gt;&amp;" in page and "<b>" not in page
