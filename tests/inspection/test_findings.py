"""What an inspection finds in a folder in which everything was planted."""

import re

import numpy as np
import pytest
from photo_cases import draw, fill, save, write_folder
from PIL import Image

from meanteacher.config.errors import UserError
from meanteacher.data.duplicates import count_candidates
from meanteacher.inspection.copies import join_pairs
from meanteacher.inspection.findings import examine
from meanteacher.inspection.reading import read_facts
from meanteacher.inspection.remarks import list_remarks
from meanteacher.inspection.sources import read_source


@pytest.fixture(scope="module")
def findings(tmp_path_factory):
    return examine(read_source(str(write_folder(tmp_path_factory.mktemp("photos") / "photos"))))


def named(findings, groups):
    return [{findings.source.files[row].name for row in group} for group in groups]


def test_images_that_can_be_decoded_are_counted_by_class_and_part(findings):
    assert findings.source.classes == ["owl", "ёж"]
    counts = {part: counts.tolist() for part, counts in findings.counts.items()}
    assert counts == {"train": [11, 5], "test": [2, 2], "unlabeled": [8]}
    assert findings.labels == 16 and findings.imbalance == 11 / 5


def test_broken_files_are_listed_with_the_reason(findings):
    names = [name for name, _ in findings.broken]
    assert names == ["train/owl/11.jpg", "unlabeled/card 1/205.jpg"]
    truncated, empty = (error for _, error in findings.broken)
    assert "truncated" in truncated and "empty" in empty


def test_sizes_are_those_after_turning(findings):
    row = next(row for row, file in enumerate(findings.source.files) if file.name == "unlabeled/turned.jpg")
    facts = findings.facts[row]
    assert (facts.width, facts.height, facts.turned) == (32, 64, True) and findings.turned == 1
    _, pixels = read_facts(findings.source.path(row))
    upright = np.asarray(draw(500, (64, 32)).rotate(-90, expand=True), float)
    assert np.abs(np.asarray(pixels) - upright).mean() < 20
    sides = [40] * 11 + [30] * 4 + [40] + [64] * 5 + [40] * 1 + [32, 32] + [40, 33] + [30, 30]
    assert sorted(findings.shorter_sides.tolist()) == sorted(sides)
    assert dict(findings.side_histogram) == {"16 to 31": 6, "32 to 63": 17, "64 to 127": 5}
    assert dict(findings.count_values("format")) == {"JPEG": 26, "PNG": 2}
    assert dict(findings.count_values("mode")) == {"RGB": 27, "L": 1}
    assert findings.elongated == pytest.approx(6 / 28), "30×90 is, and 64×32 is not longer than twice its shorter side"


def test_copies_between_parts_and_classes_are_found(findings):
    exact = [{"unlabeled/card 1/again.jpg", "test/owl/300.jpg"}]
    near = [{"train/owl/0.jpg", "test/owl/near.jpg"}, {"train/owl/1.jpg", "train/ёж/twin.png"}]
    assert named(findings, findings.copies.exact) == exact
    assert sorted(map(sorted, named(findings, findings.copies.near))) == sorted(map(sorted, exact + near))
    assert named(findings, findings.copies.conflicts) == [near[1]]
    counts = {pair: both for pair, both in findings.copy_counts.items() if any(both)}
    assert counts == {("train", "test"): (0, 1), ("unlabeled", "test"): (1, 1), ("train", "train"): (0, 2)}


def test_three_copies_are_one_group_and_each_of_them_counts(tmp_path):
    paths = fill(tmp_path, "train/a", 4, 0) + fill(tmp_path, "train/b", 3, 10) + fill(tmp_path, "test/a", 2, 20)
    for path in (paths[1], paths[-1]):
        path.write_bytes(paths[0].read_bytes())
    findings = examine(read_source(str(tmp_path)))
    assert [len(group) for group in findings.copies.exact] == [3] and not findings.copies.conflicts
    assert findings.copy_counts["train", "test"] == (2, 2) and findings.copy_counts["train", "train"] == (2, 2)
    assert findings.copy_counts["test", "test"] == (0, 0)


def test_images_that_all_look_alike_are_compared_exactly_alone(tmp_path, monkeypatch):
    write_folder(tmp_path)
    monkeypatch.setattr("meanteacher.inspection.copies.MOST_CANDIDATES", 10)
    findings = examine(read_source(str(tmp_path)))
    assert named(findings, findings.copies.near) == [{"unlabeled/card 1/again.jpg", "test/owl/300.jpg"}]
    assert any("only exact ones" in remark for remark in list_remarks(findings, 32))


def test_candidates_are_counted_as_they_are_compared():
    hashes = np.random.default_rng(0).integers(0, 2**63, 500).astype(np.uint64)
    keys = hashes.view(np.uint8).reshape(500, 8)
    assert count_candidates(hashes) == sum((keys[:, [i]] == keys[:, i]).sum() for i in range(8))


def test_pairs_are_joined_over_chunks():
    pairs = [(np.array([5, 1]), np.array([2, 1])), (np.array([7]), np.array([5])), (np.array([3]), np.array([8]))]
    assert [group.tolist() for group in join_pairs(pairs, 10)] == [[2, 5, 7], [3, 8]]


def test_remarks_name_what_to_mend(findings):
    remarks = " | ".join(list_remarks(findings, image_size=32))
    for sentence in (
        "cannot be read: 2;",
        "several classes, as copies: 1, for example train/owl/1.jpg and train/ёж/twin.png",
        "train images that are copies of test images: 1, 0 of them exact",
        "unlabeled images that are copies of test images: 1, 1 of them exact",
        "ёж (5), owl (11)",
        "smaller than 32 pixels, which will be enlarged: 6",
    ):
        assert sentence in remarks
    assert "no unlabeled" not in remarks


def test_a_folder_without_a_readable_image_is_refused(tmp_path):
    for path in fill(tmp_path, "train/a", 3, 0) + fill(tmp_path, "train/b", 3, 10):
        path.write_bytes(b"not an image")
    with pytest.raises(UserError, match="none of 6 images can be read"):
        examine(read_source(str(tmp_path)))
    fill(tmp_path, "train/a", 3, 0)
    with pytest.raises(UserError, match="training images of class b can be read"):
        examine(read_source(str(tmp_path)))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "RGBA", "P", "I;16"])
def test_every_mode_is_read(tmp_path, mode):
    image = draw(0).convert("RGB" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray((np.arange(1600, dtype=np.uint16) * 40).reshape(40, 40))
    facts, pixels = read_facts(save(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), image))
    assert facts.error is None and pixels.mode == "RGB" and facts.mode == mode


def test_a_large_photo_is_decoded_small_and_a_damaged_one_is_found_all_the_same(tmp_path):
    path = save(tmp_path / "large.jpg", draw(0, (2000, 1600)))
    facts, pixels = read_facts(path)
    assert (facts.width, facts.height) == (2000, 1600) and 32 <= min(pixels.size) <= 400
    path.write_bytes(path.read_bytes()[:-3000])
    facts, pixels = read_facts(path)
    assert pixels is None and re.search("truncated", facts.error)


def test_a_table_is_read_like_a_folder(tmp_path):
    write_folder(tmp_path / "photos")
    rows = [f"photos/train/owl/{i}.jpg,owl," for i in range(12)] + [
        f"photos/train/ёж/{100 + i}.jpg,ёж," for i in range(4)
    ]
    rows += ["photos/unlabeled/card 1/200.jpg,,", "photos/test/owl/300.jpg,owl,test", "photos/test/ёж/400.jpg,ёж,test"]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,part", *rows, "photos/gone.jpg,,"]), encoding="utf-8")
    findings = examine(read_source(str(tmp_path / "labels.csv")))
    counts = {part: counts.tolist() for part, counts in findings.counts.items()}
    assert counts == {"train": [11, 4], "test": [1, 1], "unlabeled": [1]}
    assert [name for name, _ in findings.broken] == ["photos/gone.jpg", "photos/train/owl/11.jpg"]
    assert findings.source.overrides == {"dataset": "table", "dataset.file": str(tmp_path / "labels.csv")}
