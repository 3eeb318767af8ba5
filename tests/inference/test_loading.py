"""A run folder alone is enough to predict, and one that is not enough is refused in one line."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import COLORS
from PIL import Image

import meanteacher
from meanteacher.config.errors import UserError
from meanteacher.runs.result import Result
from meanteacher.training.calibration import fit_temperature


def test_images(run):
    """Paths and targets of the test images."""
    folders = [run.parent / "images" / "test" / name for name in sorted(COLORS)]
    paths = [path for folder in folders for path in sorted(folder.iterdir())]
    return paths, np.repeat(np.arange(3), 6)


test_images.__test__ = False


@pytest.fixture
def moved(finished_run, tmp_path):
    """A copy of the run folder that is alone in another place."""
    return shutil.copytree(finished_run, tmp_path / "elsewhere")


def refused(folder, **options):
    with pytest.raises(UserError) as error:
        meanteacher.load(folder, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("network", ["student", "teacher"])
def test_a_moved_run_has_the_errors_of_its_evaluation(network, moved, finished_run):
    predictor = meanteacher.load(moved, network=network)
    paths, targets = test_images(finished_run)
    wrong = predictor.logits(paths).argmax(dim=1).numpy() != targets
    assert wrong.mean() == pytest.approx(Result.read(moved / "result.json").models[network].error_last)
    assert predictor.classes == sorted(COLORS) and predictor.image_size == (8, 8)
    assert predictor.features(paths).shape == (18, predictor.model.feature_channels)


def test_a_run_from_before_a_key_was_added_is_used_as_it_was(moved, finished_run):
    result = json.loads((moved / "result.json").read_text())
    for group, key in (("method", "labeled_view"), ("method", "student_view"), ("model", "first_blocks")):
        del result["settings"][group][key]
    del result["checksum"]
    (moved / "result.json").write_text(json.dumps(result))
    paths, _ = test_images(finished_run)
    assert torch.equal(meanteacher.load(moved).logits(paths), meanteacher.load(finished_run).logits(paths))


def test_the_deployed_network_is_the_teacher(finished_run):
    assert meanteacher.load(finished_run).network == "teacher"


def test_the_calibration_is_that_of_the_validation_images(finished_run):
    predictor = meanteacher.load(finished_run)
    positions = json.loads((finished_run / "split.json").read_text())["validation"]
    training = [
        path for name in sorted(COLORS) for path in sorted((finished_run.parent / "images/train" / name).iterdir())
    ]
    targets = torch.tensor(positions) // 16
    logits = predictor.logits([training[position] for position in positions])
    assert predictor.temperature == pytest.approx(fit_temperature(logits, targets), rel=0.02)
    confidences = (logits / predictor.temperature).softmax(1).amax(1)
    assert predictor.calibration.confidence == pytest.approx(confidences.tolist(), abs=5e-3)
    assert predictor.calibration.correct == (logits.argmax(dim=1) == targets).tolist()


def test_importing_the_package_does_not_import_torch():
    subprocess.run([sys.executable, "-c", "import meanteacher, sys; assert 'torch' not in sys.modules"], check=True)


def test_a_folder_without_a_run_is_refused(tmp_path, finished_run):
    assert "no such folder" in refused(tmp_path / "missing")
    assert "no result.json" in refused(tmp_path)
    assert str(finished_run) in refused(finished_run.parent)


def test_an_unfinished_run_is_refused(moved):
    result = Result.read(moved / "result.json")
    result.replace(status="interrupted").write(moved / "result.json")
    assert "not finished (interrupted)" in refused(moved) and result.command in refused(moved)


def test_damaged_and_foreign_files_are_refused(moved):
    checkpoint = moved / "checkpoint.pt"
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    assert "checkpoint.pt: cannot be read" in refused(moved)
    checkpoint.unlink()
    assert "No such file" in refused(moved)
    deployment = (moved / "inference.json").read_text()
    (moved / "inference.json").write_text("{}")
    assert "inference.json: cannot be read" in refused(moved)
    text = (moved / "result.json").read_text()
    (moved / "result.json").write_text(text.replace('"attempts": 1', '"attempts": 2'))
    assert "result.json: does not match its checksum" in refused(moved)
    (moved / "result.json").write_text(text)
    edited = deployment.replace('"blue"', '"pink"')
    assert edited != deployment
    (moved / "inference.json").write_text(edited)
    assert "inference.json: cannot be used (it does not match its checksum" in refused(moved)
    (moved / "inference.json").write_text('{"schema_version": 9}')
    assert "schema version 9" in refused(moved)
    (moved / "inference.json").unlink()
    assert "has no inference.json" in refused(moved)


def test_a_network_or_a_device_that_is_not_there_is_refused(finished_run):
    assert "student, teacher" in refused(finished_run, network="average")
    if not torch.cuda.is_available():
        assert refused(finished_run, device="cuda").startswith("device=cuda: not available")


def test_all_kinds_of_images_are_the_same(finished_run):
    predictor = meanteacher.load(finished_run)
    paths, _ = test_images(finished_run)
    pictures = [Image.open(path).convert("RGB") for path in paths]
    array = np.stack([np.asarray(picture) for picture in pictures])
    expected = predictor.probabilities(paths)
    tensor = torch.from_numpy(array).movedim(-1, 1)
    for images in (pictures, array, tensor, list(map(str, paths)), list(array), list(tensor)):
        assert torch.equal(predictor.probabilities(images), expected)
    for image in (paths[3], pictures[3], array[3], tensor[3]):
        assert torch.allclose(predictor.probabilities(image), expected[3:4], atol=1e-2)
    assert predictor.probabilities([]).shape == (0, 3)


def test_other_images_are_refused(finished_run):
    predictor = meanteacher.load(finished_run)
    wrong = np.zeros((8, 8, 3)), torch.zeros(8, 8, 5, dtype=torch.uint8), np.zeros((2, 3, 8, 8), np.uint8)
    for images in (*wrong, np.array(["a.png"]), 7, [7], [np.zeros((2, 2))], [np.zeros((1, 2, 8, 3), np.uint8)]):
        with pytest.raises(UserError, match="give paths, Pillow images"):
            predictor.predict(images)
