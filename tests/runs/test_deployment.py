"""inference.json: what is stored in it, and that a run of an earlier version gets it without training again."""

import shutil

import numpy as np
import pytest
import torch
from conftest import command_of_finished_run, parsed

import meanteacher
from meanteacher.config.errors import UserError
from meanteacher.config.settings import Choices
from meanteacher.data.augment import ZCA, Normalize, NormalizeEachImage
from meanteacher.runs import run
from meanteacher.runs.deployment import Calibration, Deployment, store_normalization


@pytest.fixture
def moved(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "elsewhere")


def test_the_calibration_scores_each_validation_image():
    logits, targets = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]]), torch.tensor([0, 1, 1, 0])
    found = Calibration.fit(logits, targets)
    assert found.temperature == pytest.approx(2 / np.log(3), rel=1e-4)  # 3 of 4 are right
    assert found.confidence == pytest.approx([0.75] * 4, abs=1e-4)
    assert found.correct == [True, True, False, True]
    assert found.true_probability == pytest.approx([0.75, 0.75, 0.25, 0.75], abs=1e-4)
    assert repr(found) == f"Calibration(temperature={found.temperature})"  # not a number per image


@pytest.mark.parametrize(
    "normalization, files",
    [
        (ZCA(scale=55.0, epsilon=0.1), ["normalization.pt"]),
        (ZCA(scale=None, epsilon=0.1), ["normalization.pt"]),
        (Normalize(), []),
        (NormalizeEachImage(), []),
    ],
)
def test_a_normalization_is_restored_to_the_bit(normalization, files, finished_run, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8), dtype=np.uint8)
    normalization.fit(pixels)
    stored = store_normalization(normalization.state_dict(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == files
    Deployment.read(finished_run).model_copy(update={"normalization": stored}).write(tmp_path)
    other = type(normalization)(**({"scale": normalization.scale, "epsilon": 0.1} if files else {}))
    other.load_state_dict(Deployment.read(tmp_path).load_normalization(tmp_path))
    images = torch.from_numpy(pixels).float() / 255
    assert torch.equal(other(images), normalization(images))


def test_a_missing_normalization_is_one_line(finished_run, tmp_path):
    deployment = Deployment.read(finished_run).model_copy(update={"normalization": None})
    with pytest.raises(UserError, match=r"normalization.pt: cannot be read .*No such file"):
        deployment.load_normalization(tmp_path)


def test_a_damaged_normalization_is_one_line(finished_run, tmp_path):
    deployment = Deployment.read(finished_run).model_copy(update={"normalization": None})
    torch.save({"matrix": torch.zeros(1000)}, path := tmp_path / "normalization.pt")
    content = bytearray(path.read_bytes())
    content[content.index(bytes(2000)) + 1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"normalization.pt: cannot be read \(damaged: wrong checksum of .*copy it from"
    ):
        deployment.load_normalization(tmp_path)


def test_without_validation_images_nothing_is_calibrated(moved):
    Deployment.read(moved).model_copy(update={"calibration": None}).write(moved)
    predictor = meanteacher.load(moved)
    assert predictor.temperature == 1 and predictor.calibration is None
    image = np.zeros((8, 8, 3), np.uint8)
    assert torch.equal(predictor.probabilities(image), predictor.logits(image).softmax(1))
    with pytest.raises(UserError, match="had no validation images to judge by; train with validation=N"):
        predictor.predict(image, precision=0.9)


def test_probabilities_are_those_of_logits_divided_by_the_temperature(moved):
    deployment = Deployment.read(moved)
    calibration = {name: each.model_copy(update={"temperature": 2.5}) for name, each in deployment.calibration.items()}
    deployment.model_copy(update={"calibration": calibration}).write(moved)
    predictor = meanteacher.load(moved)
    image = np.zeros((8, 8, 3), np.uint8)
    expected = (predictor.logits(image) / 2.5).softmax(1)
    assert torch.equal(predictor.probabilities(image), expected)
    assert torch.equal(predictor.predict(image).probabilities, expected)


def test_a_finished_run_of_an_earlier_version_gets_the_file(moved, finished_run, caplog):
    file = moved / "inference.json"
    written, checkpoint = file.read_text(), (moved / "checkpoint.pt").read_bytes()
    file.unlink()
    settings, choices = parsed(*command_of_finished_run(finished_run.parent)), Choices(method="mean_teacher")
    run.run(settings, choices, moved, "python run.py", show_progress=False)
    assert not file.exists()  # a sweep over finished runs does not read their images again
    run.run(settings, choices, moved, "python run.py")
    assert file.read_text() == written and (moved / "checkpoint.pt").read_bytes() == checkpoint
    file.unlink()
    (moved / "checkpoint.pt").unlink()
    with caplog.at_level("WARNING", "meanteacher"):
        assert run.run(settings, choices, moved, "python run.py").status == "finished"
    assert not file.exists() and "cannot be added to this run (its last checkpoint is missing)" in caplog.text


def test_the_file_of_pretrained_weights_is_not_needed(finished_run, tmp_path):
    """A probe on frozen features is rebuilt without the file that it was started from, and images are padded again."""
    timm = pytest.importorskip("timm")
    weights = tmp_path / "weights.pth"
    torch.save(timm.create_model("lcnet_035", num_classes=3).state_dict(), weights)
    model = ["model=timm", "model.name=lcnet_035", f"model.weights={weights}", "model.train=probe"]
    changes = ["steps=1", "eval_every=1", "dataset.image_size=32", "dataset.resize=pad", "validation=0"]
    settings = parsed(*command_of_finished_run(finished_run.parent), *model, *changes)
    run.run(settings, Choices(dataset="image_folder"), tmp_path / "run", "c", show_progress=False)
    weights.unlink()
    deployment = Deployment.read(tmp_path / "run")
    assert deployment.resize == "pad" and deployment.calibration is None
    state = torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["method"]
    own = meanteacher.load(tmp_path / "run", network="student").model.state_dict()
    assert all(torch.equal(value, state[f"student.{name}"]) for name, value in own.items())
