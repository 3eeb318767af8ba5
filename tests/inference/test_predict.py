"""The command `meanteacher predict`: its inputs, its table, what it calls unsure, and what it refuses."""

import csv
import io
import logging
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import COLORS
from PIL import Image

import meanteacher
from meanteacher.config import cli
from meanteacher.inference.images import ImageReader, as_sequence
from meanteacher.inference.predictions import Predictions, Rule

COLUMNS = ["path", "class", "probability", "second_class", "second_probability"]


@pytest.fixture
def images(finished_run):
    return finished_run.parent / "images"


@pytest.fixture
def predict(finished_run, capsys, caplog):
    """Run the command: its exit status, its rows and the lines that it logs or prints as errors."""

    def call(*arguments, run=finished_run):
        caplog.clear()
        with caplog.at_level(logging.INFO, "meanteacher"):
            status = cli.main(["predict", str(run), *map(str, arguments)])
        out, err = capsys.readouterr()
        rows = list(csv.DictReader(io.StringIO(out)))
        return status, rows, [record.getMessage() for record in caplog.records] + err.splitlines()

    return call


def test_a_folder_gives_a_row_for_each_image_below_it(predict, images, finished_run):
    status, rows, lines = predict(images / "test")
    paths = sorted(str(path) for path in (images / "test").rglob("*.png"))
    assert status == 0 and [row["path"] for row in rows] == paths and list(rows[0]) == [*COLUMNS, "error"]
    expected = meanteacher.load(finished_run).probabilities(paths)
    values, ranks = expected.topk(2)
    for row, probability, ranked in zip(rows, values, ranks, strict=True):
        assert [row["class"], row["second_class"]] == [sorted(COLORS)[c] for c in ranked]
        both = [float(row["probability"]), float(row["second_probability"])]
        assert both == pytest.approx(probability.tolist(), abs=6e-5)
    assert any("18 images in" in line and "by the teacher" in line for line in lines)


@pytest.mark.parametrize("images_of_each", [1, 2000])
def test_a_reader_that_ends_early_ends_the_command_in_silence(images_of_each, images, finished_run):
    """As `meanteacher predict … | head` does; a short table is in a buffer until the end."""
    command = [sys.executable, "-m", "meanteacher", "predict", str(finished_run)]
    command += [str(images / "test" / "blue" / "00.png")] * images_of_each
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 128 + signal.SIGPIPE and "error" not in errors and "Broken" not in errors, errors


def test_a_table_of_paths_is_relative_to_its_folder(predict, images):
    table = images / "list.csv"
    table.write_text("x,path\n1,test/blue/00.png\n2,test/красный/01.png\n3,missing.png\n", encoding="utf-8")
    status, rows, lines = predict(table)
    assert status == 0 and [row["path"] for row in rows] == ["test/blue/00.png", "test/красный/01.png", "missing.png"]
    assert [bool(row["error"]) for row in rows] == [False, False, True] and rows[2]["class"] == ""
    assert "1 of 3 images cannot be read: see the column error" in lines


def test_a_table_with_semicolons_is_read_and_never_replaced(predict, images):
    table = images / "semicolons.csv"
    table.write_text("path;label\ntest/blue/00.png;blue\n")
    assert [row["path"] for row in predict(table)[1]] == ["test/blue/00.png"]
    status, _, lines = predict(table, "--csv", table, "--force")
    assert status == 1 and lines == [f"error: --csv {table}: is an input; choose another file"]
    assert table.read_text().startswith("path;label")


def test_a_read_only_array_gives_no_warning(finished_run, recwarn):
    pixels = np.full((9, 9, 3), 7, np.uint8)
    pixels.setflags(write=False)
    meanteacher.load(finished_run).predict(pixels)
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]


def test_broken_images_are_rows_and_only_broken_images_are_a_failure(predict, images, tmp_path):
    whole = (images / "test/blue/00.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("not an image")
    status, rows, _ = predict(tmp_path, images / "test/blue/00.png")
    assert status == 0 and [bool(row["error"]) for row in rows] == [True, True, False]
    assert rows[1]["error"] == "not an image, or of an unknown format"
    assert predict(tmp_path)[0] == 1


def test_the_table_is_written_once_and_overwritten_with_force_only(predict, images, tmp_path):
    table, image = tmp_path / "out.csv", images / "test/blue/00.png"
    assert predict(image, "--csv", table)[:2] == (0, [])
    written = table.read_text(encoding="utf-8")
    assert len(list(csv.DictReader(io.StringIO(written)))) == 1
    status, _, lines = predict(images / "test", "--csv", table)
    assert status == 1 and lines == [f"error: {table}: exists; --force overwrites it"]
    assert table.read_text(encoding="utf-8") == written
    assert predict(images / "test", "--csv", table, "--force")[0] == 0
    assert len(table.read_text(encoding="utf-8").splitlines()) == 19 and list(tmp_path.iterdir()) == [table]


def test_a_failure_leaves_the_old_table(predict, images, tmp_path):
    table = tmp_path / "out.csv"
    table.write_text("old")
    assert predict(images / "test", "--csv", table, "--force", "--network", "nobody")[0] == 1
    assert table.read_text() == "old" and list(tmp_path.iterdir()) == [table]


def test_bad_input_is_refused_in_one_line(predict, images, tmp_path):
    (tmp_path / "no_path.csv").write_text("file\na.png\n")
    (tmp_path / "empty.csv").write_text("path\n")
    (tmp_path / "gap.csv").write_text("path,x\n,1\n")
    (tmp_path / "binary.csv").write_bytes(b"path\n\xff\xfe\n")
    image = images / "test/blue/00.png"
    for arguments, reason in {
        (tmp_path / "none.png",): "there is no such file or folder",
        (tmp_path,): "has no images",
        (tmp_path / "no_path.csv",): "has no column `path` (its columns: file)",
        (tmp_path / "empty.csv",): "has no rows",
        (tmp_path / "gap.csv",): "row 1 has no path",
        (tmp_path / "binary.csv",): "cannot be read as CSV in UTF-8",
        (image, "--csv", tmp_path / "nowhere" / "out.csv"): "cannot be written",
        (image, "--batch", 0): "--batch 0: must be at least 1",
        (image, "--precision", 1): "precision=1: must be greater than 0 and smaller than 1",
        (image, "--precision", 0.99): "no threshold reaches it with at least 100 of the 24 validation images",
        (image, "--coverage", 0.99): "needs at least 99 validation images, but this run had 24",
    }.items():
        status, rows, lines = predict(*arguments)
        assert (status, rows, len(lines)) == (1, [], 1) and reason in lines[0] and lines[0].startswith("error: ")
    assert "no result.json" in predict(image, run=tmp_path)[2][0]


def test_images_below_the_wanted_precision_are_unsure(predict, images, finished_run):
    predictor = meanteacher.load(finished_run)
    status, rows, lines = predict(images / "test", "--precision", 0.8)
    threshold = predictor.rule(precision=0.8).least_confidence
    validation = predictor.calibration
    accepted = [right for p, right in zip(validation.confidence, validation.correct, strict=True) if p >= threshold]
    assert np.mean(accepted) >= 0.8 and f"{np.mean(accepted):.4f} of the {len(accepted)} sure ones" in lines[0]
    confidences = predictor.predict(images / "test/blue/00.png", precision=0.8).confidences
    assert status == 0 and rows[0]["unsure"] == ("no" if confidences[0] >= threshold else "yes")


def predictions(probabilities, rule, errors=None):
    values = torch.tensor(probabilities)
    return Predictions(classes=["a", "b", "c"], probabilities=values, errors=errors or [None] * len(values), rule=rule)


def test_sets_hold_the_probable_classes_and_never_nobody():
    found = predictions([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.2, 0.25, 0.55]], Rule(least_in_set=0.3))
    assert found.sets == [["a"], ["b", "a", "c"], ["c"]]
    assert predictions([[0.3, 0.3, 0.4]], Rule(least_in_set=0.5)).sets == [["c"]]
    assert found.unsure.tolist() == [False, True, False] and [row["set"] for row in found.rows()] == ["a", "b|a|c", "c"]


def test_the_confidence_decides_who_is_unsure():
    nan = float("nan")
    found = predictions([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [nan] * 3], Rule(least_confidence=0.5), [None, None, "bad"])
    assert found.unsure.tolist() == [False, True, True] and found.names == ["a", "b", None]
    assert [row["unsure"] for row in found.rows()] == ["no", "yes", ""]
    assert predictions([[0.5, 0.3, 0.2]], Rule()).unsure is None


def test_images_are_resized_and_turned_like_the_training_images(finished_run, images, tmp_path):
    """An image of 8×16 is cropped at its center; EXIF orientation 6 turns it by 90 degrees clockwise."""
    predictor = meanteacher.load(finished_run)
    wide = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    assert torch.equal(predictor.logits(wide), predictor.logits(np.ascontiguousarray(wide[:, 4:12])))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(wide).save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(predictor.logits(tmp_path / "turned.png"), predictor.logits(np.rot90(wide, -1)[4:12]))
    gray = np.full((8, 8), 90, np.uint8)
    assert torch.equal(predictor.logits(gray), predictor.logits(np.repeat(gray[..., None], 3, 2)))


def test_batches_do_not_change_the_predictions(finished_run, images):
    one, many = (meanteacher.load(finished_run, batch=batch) for batch in (5, 1000))
    paths = sorted((images / "test").rglob("*.png"))
    first, second = one.predict(paths), many.predict(paths)
    assert first.names == second.names and len(first) == 18
    assert torch.allclose(first.probabilities, second.probabilities, atol=0.02)


def test_the_resize_policy_of_the_run_is_used():
    """A white image of 4×8 for 4×4 and 2×8: cropped, squashed or padded; a gray network sees one channel."""
    wide = np.full((4, 8, 3), 255, np.uint8)
    for resize, expected in {"crop": 16, "squash": 16, "pad": 8}.items():
        (batch,) = ImageReader((3, 4, 4), resize).batches(as_sequence(wide), 9)
        assert batch.pixels.shape == (1, 3, 4, 4) and (batch.pixels == 255).sum() == 3 * expected
    for resize, expected in {"crop": 16, "squash": 16, "pad": 8}.items():
        (batch,) = ImageReader((1, 2, 8), resize).batches(as_sequence(wide), 9)
        assert batch.pixels.shape == (1, 1, 2, 8) and (batch.pixels == 255).sum() == expected
