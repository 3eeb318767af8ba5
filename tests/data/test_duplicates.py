"""Duplicates between the parts of an image folder: found, counted, told, and dropped."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import TINY, parsed, settings
from folder_cases import fill, load
from PIL import Image

from meanteacher.comparison.identity import protocol_fields
from meanteacher.config.digest import run_digest
from meanteacher.config.errors import UserError
from meanteacher.config.settings import Choices
from meanteacher.data import duplicates
from meanteacher.data.duplicates import KINDS, MAX_DISTANCE, Signatures, averaging, candidate_pairs
from meanteacher.runs.run import run

SIDE = 32


def scene(seed, size=SIDE):
    """A smooth random image, uint8 [size, size, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def root(tmp_path):
    """Ten scenes in each class of train and test. Copies of test images: 1 in train, 2 in unlabeled; one near copy in
    train, two in unlabeled; one image of train in unlabeled."""
    top = tmp_path / "root"
    for number in range(40):
        part, name = ("train", "test")[number % 2], "ab"[number // 2 % 2]
        save(top / part / name / f"{number:02}.png", scene(number))
    save(top / "train/a/copy.png", scene(1))
    save(top / "train/b/brighter.png", (scene(3).astype(int) + 6).clip(0, 255).astype(np.uint8))
    save(top / "unlabeled/copy.png", scene(1))
    save(top / "unlabeled/again.bmp", scene(5))
    save(top / "unlabeled/recompressed.jpg", scene(7), quality=80)
    save(top / "unlabeled/larger.png", scene(9, 48))
    save(top / "unlabeled/train.png", scene(0))
    save(top / "unlabeled/other.png", scene(1000))
    return top


def test_duplicates_are_counted_and_told_in_one_line(root):
    dataset = load(root, image_size=SIDE)
    assert dataset.duplicates == {
        "train_test_exact": 1,
        "train_test_near": 2,
        "unlabeled_test_exact": 2,
        "unlabeled_test_near": 4,
        "unlabeled_train_exact": 2,  # copy.png is in train too
        "unlabeled_train_near": 2,
        "dropped": 0,
    }
    (note,) = (note for note in dataset.notes if "duplicate" in note)
    assert "training/test 1 exact, 2 with near ones; unlabeled/test 2 exact, 4 with near ones" in note
    assert "all kept; dataset.exclude_duplicates=" in note


@pytest.mark.parametrize(("exclude", "dropped"), [("exact", 3), ("near", 6)])
def test_images_that_duplicate_a_test_image_are_dropped(root, exclude, dropped, monkeypatch):
    kept, dataset = load(root, image_size=SIDE), load(root, image_size=SIDE, exclude=exclude)
    left_out = {"train/a/copy.png", "unlabeled/copy.png", "unlabeled/again.bmp"}
    near = {"train/b/brighter.png", "unlabeled/recompressed.jpg", "unlabeled/larger.png"}
    left_out |= near if exclude == "near" else set()
    assert set(kept.train.names) - set(dataset.train.names) == left_out and dataset.duplicates["dropped"] == dropped
    rows = [row for row, name in enumerate(kept.train.names) if name not in left_out]
    np.testing.assert_array_equal(dataset.train.pixels, kept.train.pixels[rows])
    np.testing.assert_array_equal(dataset.train.targets, kept.train.targets[rows])
    np.testing.assert_array_equal(dataset.test.pixels, kept.test.pixels)
    assert any(f"{dropped} of them dropped" in note for note in dataset.notes)
    monkeypatch.setattr(duplicates, "Signatures", None)  # a second start reads the cache
    assert load(root, image_size=SIDE, exclude=exclude).train.names == dataset.train.names


def test_nothing_is_told_without_duplicates_and_everything_cannot_be_dropped(tmp_path):
    fill(tmp_path / "root")
    assert load(tmp_path / "root").notes == []
    for number in range(4):
        for part in ("train", "test"):
            save(tmp_path / "same" / part / "ab"[number % 2] / f"{number}.png", scene(number))
    with pytest.raises(UserError, match="exclude_duplicates=exact: every training image"):
        load(tmp_path / "same", exclude="exact")


def test_candidates_are_all_pairs_within_the_distance():
    rng = np.random.default_rng(0)
    theirs = rng.integers(0, 2**63, 50, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in rng.choice(64, count, replace=False)) for count in rng.integers(0, 12, 300)]
    mine = theirs[rng.integers(0, 50, 300)] ^ np.array(flips, np.uint64)
    close = {(i, j) for i, a in enumerate(mine) for j, b in enumerate(theirs) if int(a ^ b).bit_count() <= MAX_DISTANCE}
    pairs = candidate_pairs(mine, theirs)
    assert {(int(i), int(j)) for left, right in pairs for i, j in zip(left, right, strict=True)} == close


def test_the_hash_is_that_of_area_averages_and_flat_images_have_no_near_duplicates():
    lines = np.arange(12.0)[None] ** 2
    expected = [lines[0, 3 * k // 2 : 3 * k // 2 + 2] @ ([1, 0.5] if k % 2 == 0 else [0.5, 1]) / 1.5 for k in range(8)]
    np.testing.assert_allclose((averaging(12, 8) @ lines[0]), expected, rtol=1e-6)
    flat = np.stack([np.full((3, 8, 8), value, np.uint8) for value in (10, 12, 200)])
    assert Signatures.of(flat).compare(Signatures.of(flat[:1])).tolist() == [KINDS.index("exact"), 0, 0]


def test_the_default_leaves_names_of_runs_and_protocols_as_they_were(root):
    config = settings("dataset=image_folder", f"dataset.root={root}", f"data_dir={root.parent}")
    former = config | {"dataset": {k: v for k, v in config["dataset"].items() if k != "exclude_duplicates"}}
    changed = config | {"dataset": config["dataset"] | {"exclude_duplicates": "near"}}
    assert run_digest(config) == run_digest(former) != run_digest(changed)
    one, other, near = (
        protocol_fields(SimpleNamespace(settings=content, data=None, precision="fp32"))
        for content in (config, former, changed)
    )
    assert one == other and near == one | {"dataset.exclude_duplicates": "near"}


def test_a_run_keeps_the_counts(root, tmp_path, caplog):
    options = ["dataset=image_folder", f"dataset.root={root}", f"data_dir={tmp_path}", "label=4", "steps=1"]
    chosen = parsed(*TINY, *options, "dataset.exclude_duplicates=near", "dataset.image_size=16")
    with caplog.at_level("INFO", "meanteacher"):
        run(chosen, Choices(), tmp_path / "run", "", show_progress=False)
    assert "note    duplicate images: training/test" in caplog.text
    counts = [json.loads((tmp_path / "run" / name).read_text())["duplicates"] for name in ("result.json", "split.json")]
    assert counts[0] == counts[1] and counts[0]["dropped"] >= 3
    scores = json.loads((tmp_path / "run/result.json").read_text())["models"]["teacher"]
    assert set(scores["recall"]) == {path.name for path in (root / "train").iterdir()}
    np.testing.assert_allclose(scores["balanced_accuracy"], np.mean(list(scores["recall"].values())))
