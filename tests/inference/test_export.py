"""Exported files give PyTorch's probabilities for images of any size; the card and the example work as printed."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from conftest import COLORS, ROOT, parsed
from PIL import Image, ImageOps
from torch import nn

import meanteacher
from meanteacher.config.cli import main
from meanteacher.config.errors import UserError
from meanteacher.data.augment import NormalizeEachImage
from meanteacher.inference import export_check, export_formats
from meanteacher.inference.deployable import Deployable
from meanteacher.inference.export import export
from meanteacher.runs.build import build
from meanteacher.runs.deployment import Deployment
from meanteacher.runs.result import Result


@pytest.fixture(scope="module")
def calibrated(finished_run, tmp_path_factory):
    """The finished run with another temperature than 1, which it has because every validation image is right."""
    folder = shutil.copytree(finished_run, tmp_path_factory.mktemp("calibrated") / "run")
    deployment = Deployment.read(folder)
    calibration = {name: each.model_copy(update={"temperature": 1.7}) for name, each in deployment.calibration.items()}
    deployment.model_copy(update={"calibration": calibration}).write(folder)
    return folder


@pytest.fixture(scope="module")
def exported(calibrated, tmp_path_factory):
    """A folder with the files of ONNX and of safetensors, each in a folder."""
    pytest.importorskip("onnxscript")
    folder = tmp_path_factory.mktemp("exported")
    for kind in ("onnx", "safetensors"):
        export(calibrated, kind, folder / kind, network=None, license="mit", force=False)
    return folder


@pytest.fixture
def photo(tmp_path):
    """A picture of 31×47 pixels that is stored turned and has to be turned by its EXIF orientation."""
    pixels = np.random.default_rng(3).normal((40, 60, 200), 60, (31, 47, 3)).clip(0, 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    return tmp_path / "photo.jpg"


def load_fp32(run):
    """The predictor of a run, without the automatic bf16 of some processors."""
    predictor = meanteacher.load(run, device="cpu")
    predictor.precision = "fp32"
    return predictor


def pad(image, size):
    """Pillow's `pad` puts the image at another position if the margin is odd."""
    inner = [max(1, round(side * size / max(image.size))) for side in image.size]
    padded = Image.new("RGB", (size, size))
    padded.paste(image.resize(inner, Image.Resampling.BILINEAR), tuple((size - side) // 2 for side in inner))
    return padded


RESIZE = {
    "crop": lambda image, size: ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR),
    "squash": lambda image, size: image.resize((size, size), Image.Resampling.BILINEAR),
    "pad": pad,
}


@pytest.mark.parametrize("policy", RESIZE)
def test_resizing_gives_the_pixels_of_pillow(policy):
    rng = np.random.default_rng(0)
    sides = [(16, 16), (32, 32), (15, 17), (1, 40), (200, 3), (128, 96), (16, 160), *rng.integers(4, 300, (25, 2))]
    module = Deployable(
        network=nn.Identity(), normalize=lambda images: images, image_size=(16, 16), resize=policy, temperature=1.0
    )
    for height, width in sides:
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        pixels = (pixels // 128 * 255).astype(np.uint8) if height % 2 else pixels
        expected = np.asarray(RESIZE[policy](Image.fromarray(pixels), 16))
        resized = module.resize(torch.from_numpy(pixels)[None])[0].permute(1, 2, 0).numpy()
        assert (resized == expected).all(), (height, width)


def test_onnx_has_the_probabilities_of_the_run(exported, calibrated, photo):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported / "onnx/model.onnx")
    (entry,), (output,) = session.get_inputs(), session.get_outputs()
    assert entry.shape == ["batch", "height", "width", 3] and output.shape == ["batch", 3]
    predictor = load_fp32(calibrated)
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == predictor.classes
    assert predictor.temperature == 1.7
    turned = np.array(ImageOps.exif_transpose(Image.open(photo)).convert("RGB"))
    assert turned.shape == (47, 31, 3)
    rng = np.random.default_rng(0)
    for batch in (turned[None], turned[None, :8, :8], rng.integers(0, 256, (5, 9, 64, 3), dtype=np.uint8)):
        (probabilities,) = session.run(None, {"images": batch})
        assert np.abs(probabilities - predictor.probabilities(batch).numpy()).max() < 1e-5
    (of_file,) = session.run(None, {"images": turned[None]})
    assert np.abs(of_file - predictor.probabilities(photo).numpy()).max() < 1e-5


def test_safetensors_hold_the_weights_of_the_network(exported, calibrated):
    from safetensors.torch import load_file

    weights = load_file(exported / "safetensors/model.safetensors")
    own = load_fp32(calibrated).model.state_dict()
    assert weights.keys() == own.keys() and all(torch.equal(weights[name], own[name]) for name in own)


@pytest.mark.parametrize("kind", ["onnx", "safetensors", pytest.param("pt2", marks=pytest.mark.slow)])
def test_the_code_on_the_card_works_as_printed(kind, exported, calibrated, photo, monkeypatch):
    if kind == "pt2":
        export(calibrated, kind, exported / kind, network=None, license="mit", force=True)
    folder = shutil.copytree(exported / kind, photo.parent / kind)
    shutil.copy(photo, folder)
    monkeypatch.chdir(folder)
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)[1]
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, names)
    predictor = load_fp32(calibrated)
    if kind == "safetensors":
        pixels = torch.from_numpy(predictor.reader.read_one(photo).copy())[None].float() / 255
        mean, std = (torch.tensor(names["config"]["normalization"][key]).view(3, 1, 1) for key in ("mean", "std"))
        with torch.inference_mode():
            logits = names["network"]((pixels - mean) / std) / names["config"]["temperature"]
        assert torch.allclose(logits.softmax(1), predictor.probabilities(photo), atol=1e-5)
    else:
        predicted, probability = printed.getvalue().split()
        prediction = predictor.predict(photo)
        assert predicted == prediction.names[0]
        assert float(probability) == pytest.approx(float(prediction.confidences[0]), abs=1e-5)


def test_the_card_has_valid_metadata_and_the_numbers_of_the_run(exported, calibrated):
    text = (exported / "onnx/README.md").read_text()
    metadata = yaml.safe_load(text.split("---\n")[1])
    result = Result.read(calibrated / "result.json")
    error = result.models["teacher"].error_last
    (scores,) = metadata["model-index"][0]["results"]
    assert scores["metrics"][0]["value"] == pytest.approx(1 - error, abs=1e-5) and metadata["license"] == "mit"
    assert f"test: error {100 * error:.2f} % of 18 images (95 % interval" in text
    for name, each in result.by_class["teacher"].items():
        assert re.search(rf"\| {name} +\| +6 \| {100 * each.recall:.1f} \(", text), name
    for words in ("21 labeled images", result.split_digest, result.digest, "Limits", "16 images of the run"):
        assert words in text
    huggingface = pytest.importorskip("huggingface_hub")
    card = huggingface.ModelCard(text)
    assert card.data.eval_results[0].metric_value == pytest.approx(1 - error, abs=1e-5)
    assert card.data.pipeline_tag == "image-classification"


def test_the_example_needs_no_torch(exported, calibrated, photo, tmp_path):
    """torch and this package cannot be imported in the process of the example."""
    block = "import runpy, sys; sys.modules['torch'] = sys.modules['meanteacher'] = None\n"
    code = block + "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    example, model = ROOT / "examples/use_onnx.py", exported / "onnx/model.onnx"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = [sys.executable, "-c", code, example, model, photo]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    path, predicted, probability = done.stdout.strip().split("\t")
    prediction = load_fp32(calibrated).predict(photo)
    assert (path, predicted) == (str(photo), prediction.names[0])
    assert float(probability) == pytest.approx(float(prediction.confidences[0]), abs=1e-4)
    assert len(example.read_text().splitlines()) <= 31


def test_a_file_that_differs_is_refused_and_nothing_is_left(calibrated, tmp_path, monkeypatch):
    original = export_check.compare
    wrong = lambda run, *others: original(lambda images: run(images) + 2e-4, *others)  # noqa: E731
    monkeypatch.setattr(export_check, "compare", wrong)
    with pytest.raises(UserError, match=r"differ from PyTorch's by 2\.\de-04, more than 0.0001; it was not kept"):
        export(calibrated, "safetensors", tmp_path / "new/out", network=None, license="mit", force=False)
    assert not list(tmp_path.iterdir())


def test_a_difference_from_pillow_is_told_but_not_refused(calibrated, tmp_path, monkeypatch, caplog):
    original = Deployable.resize

    def resize(self, images):
        """Of images of another size, 3 values more than Pillow's."""
        other = images.shape[1:3] != self.image_size
        return (original(self, images) + 3 * other).clamp(0, 255)

    monkeypatch.setattr(Deployable, "resize", resize)
    with caplog.at_level("INFO", "meanteacher"):
        export(calibrated, "safetensors", tmp_path / "out", network=None, license="mit", force=False)
    assert "resizing in the file differs from Pillow's by at most 3 of 255 per pixel, and the prob" in caplog.text


def test_bad_input_is_one_line(calibrated, exported, tmp_path, capsys, monkeypatch):
    def refused(*arguments):
        assert main(["export", *map(str, arguments)]) == 1
        error = capsys.readouterr().err
        assert error.count("error: ") == 1 and error.count("\n") <= 2 and "Traceback" not in error
        return error

    assert "there is no such folder" in refused(tmp_path / "none") and not (tmp_path / "none").exists()
    assert "--force" in refused(calibrated, "--out", exported / "onnx")
    assert "no network 'average'" in refused(calibrated, "--network", "average", "--out", tmp_path / "a")
    (tmp_path / "file").write_text("")
    assert "exists; choose another --out" in refused(calibrated, "--out", tmp_path / "file")
    assert "cannot be written" in refused(calibrated, "--out", tmp_path / "file/below")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert "needs the package onnxscript: pip install -e '.[export]'" in refused(calibrated, "--out", tmp_path / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_force_replaces_files_of_the_same_names_only(calibrated, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "README.md").write_text("old")
    arguments = ["--out", str(out), "--format", "safetensors", "--network", "student"]
    assert main(["export", str(calibrated), *arguments]) == 1 and (out / "README.md").read_text() == "old"
    assert main(["export", str(calibrated), *arguments, "--force"]) == 0
    assert {path.name for path in out.iterdir()} == {"notes.txt", "README.md", "config.json", "model.safetensors"}
    assert "It is the student" in (out / "README.md").read_text() and (out / "notes.txt").read_text() == "mine"
    assert set(COLORS) == set(json.loads((out / "config.json").read_text())["classes"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "side"),
    [
        (["model=wrn_28_2", "model.bn_shift=0.1"], 32),
        (["model=convnet13"], 32),
        (["model=resnet18_cifar"], 32),
        (["model=timm", "model.name=mobilenetv3_small_050"], 64),
        (["model=timm", "model.name=vit_tiny_patch16_224"], 224),
    ],
)
@pytest.mark.parametrize("write", [export_formats.write_onnx, export_formats.write_pt2])
def test_every_kind_of_network_can_be_exported(model, side, write, tmp_path):
    network = build(parsed("dataset=cifar10", *model).model, channels=3, classes=5).eval()
    normalize = NormalizeEachImage()
    size = (side, side)
    module = Deployable(network=network, normalize=normalize, image_size=size, resize="pad", temperature=1.5).eval()
    images = np.random.default_rng(0).integers(0, 256, (3, 45, 70, 3), dtype=np.uint8)
    run = write(module, tmp_path, 3, {"classes": list("abcde")})
    with torch.inference_mode():
        expected = module(torch.from_numpy(images)).numpy()
    assert np.abs(run(images) - expected).max() < 1e-5 and np.abs(run(images[:1]) - expected[:1]).max() < 1e-5
