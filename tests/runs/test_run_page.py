"""The page of a run: its numbers against closed forms, its images, escaped names, and the page in a real browser."""

import base64
import dataclasses
import html
import io
import re
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from browser import needs_browser, rendered
from conftest import parsed
from PIL import Image

from meanteacher.data.splits import Split
from meanteacher.runs.class_scores import scores_by_class
from meanteacher.runs.page_pictures import thumbnail_uri
from meanteacher.runs.reliability import compare_reliability, measure_reliability
from meanteacher.runs.result import Result, Scores
from meanteacher.runs.run_page import Evidence, choose_images, most_frequent_confusions, write_run_page
from meanteacher.training.calibration import wilson_interval

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def evidence(blobs):
    """Of random logits on 50 test images of 4 classes, one of which has a hostile name."""
    rng = np.random.default_rng(0)
    data = dataclasses.replace(blobs, classes=["a", "b", "c", HOSTILE])
    scores = {"teacher": Scores(error_last=0.5, cross_entropy=1.0, ece=0.1)}
    logits = torch.tensor(rng.normal(0, 3, (50, 4)), dtype=torch.float32)
    result = Result(
        status="finished",
        digest="0123456789",
        command="python run.py",
        choices={"method": "m"},
        source="s",
        settings=parsed("dataset=digits").as_dict(),
        label=8,
        seed=0,
        split_seed=0,
        models=scores,
        by_class={"teacher": scores_by_class(logits, data.test.targets, data.classes)},
        pseudo_labels={"precision": 0.875},
        steps=10,
        images_per_second=1.0,
        training_seconds=1.0,
        versions={"torch": "2"},
        hardware="cpu",
        precision="fp32",
        bitwise=True,
    )
    return Evidence(
        title=f"m on {HOSTILE}",
        result=result,
        data=data,
        split=Split(labeled=np.arange(8), unlabeled=np.arange(100), validation=np.arange(150, 200)),
        history=[{"step": 10, "test/teacher/error": 0.5, "train/loss": 1.0}],
        network="teacher",
        logits=logits,
        validation=(logits.flip(0), torch.from_numpy(data.train.targets[150:])),
    )


def page_text(path) -> str:
    """The page without pictures and tags, with single spaces."""
    page = re.sub(r"<style>.*?</style>", "", path.read_text(), flags=re.DOTALL)
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", page).split()))


def test_page_has_the_numbers_of_each_class_and_escapes_names(evidence, tmp_path):
    path = write_run_page(tmp_path / "report.html", evidence)
    page, text = path.read_text(), page_text(path)
    assert HOSTILE not in page and HOSTILE in text
    targets, predicted = evidence.data.test.targets, evidence.logits.argmax(1).numpy()
    for number, name in enumerate(evidence.data.classes):
        hits = int(((targets == number) & (predicted == number)).sum())
        recall, precision = hits / (targets == number).sum(), hits / (predicted == number).sum()
        row = f"{name} 2 {(targets == number).sum()} {100 * recall:.1f}"
        assert re.search(rf"{re.escape(row)} \d+–\d+ {(predicted == number).sum()} {100 * precision:.1f} ", text), row
    wrong = int((targets != predicted).sum())
    assert f"The teacher misclassifies {wrong} of 50 test images: an error of {2 * wrong:.1f} %" in text
    assert "precision 87.5" in text and "Classes with fewer than 30 test images: a, b, c" in text
    assert "python run.py" in text and "steps: 100000" in text
    assert not re.search(r'(?:src|href)=(?!"data:)|url\(|@import', page), "the page needs no network"


def test_without_validation_images_there_is_one_diagram_and_the_reason(evidence, tmp_path):
    both = write_run_page(tmp_path / "both.html", evidence)
    one = write_run_page(tmp_path / "one.html", dataclasses.replace(evidence, validation=None))
    assert "no validation images" in page_text(one) and "validation=N" in page_text(one)
    assert "no validation images" not in page_text(both) and "fitted to the validation images" in page_text(both)


def test_reliability_equals_its_closed_form():
    rng = np.random.default_rng(1)
    logits, targets = rng.normal(size=(400, 5)) * 2, rng.integers(0, 5, 400)
    reliability = measure_reliability(torch.tensor(logits, dtype=torch.float32), torch.tensor(targets), 1.7)
    probabilities = np.exp(logits / 1.7) / np.exp(logits / 1.7).sum(1, keepdims=True)
    confidence, correct = probabilities.max(1), probabilities.argmax(1) == targets
    bins = np.ceil(confidence * 15).astype(int)
    expected = [((bins == b).sum(), confidence[bins == b].mean(), correct[bins == b].mean()) for b in np.unique(bins)]
    assert np.allclose(np.array(reliability.bins), np.array(expected), rtol=1e-4)
    ece = sum(images / 400 * abs(accuracy - mean) for images, mean, accuracy in expected)
    assert reliability.ece == pytest.approx(ece, rel=1e-4)
    assert reliability.confidence == pytest.approx(confidence.mean(), rel=1e-5)


def test_the_temperature_comes_from_the_validation_images_alone():
    """Logits that are 3 times too large on the validation images ask for a temperature of 3, whatever the test says."""
    rng = np.random.default_rng(2)
    logits = torch.tensor(rng.normal(0, 1, (20_000, 3)), dtype=torch.float32)
    targets = torch.multinomial(logits.softmax(1), 1, generator=torch.Generator().manual_seed(0))[:, 0]
    before, after = compare_reliability(7 * logits[:100], targets[:100], (3 * logits, targets))
    assert before.temperature == 1 and after.temperature == pytest.approx(3, rel=0.05)
    assert after.cross_entropy < before.cross_entropy


@pytest.mark.parametrize(("hits", "images"), [(0, 7), (7, 7), (3, 40), (990, 1000)])
def test_wilson_interval_equals_its_closed_form(hits, images):
    z, p = 1.959963984540054, hits / images
    center, half = p + z**2 / (2 * images), z * np.sqrt(p * (1 - p) / images + z**2 / (4 * images**2))
    expected = (center - half) / (1 + z**2 / images), (center + half) / (1 + z**2 / images)
    assert wilson_interval(hits, images) == pytest.approx(expected, abs=1e-9)


def test_scores_by_class_equal_their_counts():
    predicted, targets = np.array([0, 0, 1, 1, 1, 0]), np.array([0, 1, 1, 1, 0, 0])
    logits = torch.nn.functional.one_hot(torch.from_numpy(predicted), 4).float()
    scores = scores_by_class(logits, targets, ["a", "b", "c", "d"])
    assert scores["a"].model_dump() == {"images": 3, "predicted": 3, "correct": 2, "recall": 2 / 3, "precision": 2 / 3}
    assert scores["c"].model_dump() == {"images": 0, "predicted": 0, "correct": 0, "recall": None, "precision": None}


def test_sheets_show_confident_mistakes_and_uncertain_images():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.55, 0.45], [0.3, 0.7], [0.01, 0.99]])
    mistakes, unsure = choose_images(probabilities, np.array([False, False, True, True, False]))
    assert mistakes.tolist() == [4, 0, 1] and unsure.tolist() == [2, 3, 1, 0, 4]


def test_confusions_are_sorted_by_their_number():
    counts = np.array([[5, 2, 0], [7, 1, 0], [1, 1, 0]])
    pairs = [("b", "a", 7, 87.5), ("a", "b", 2, 200 / 7), ("c", "a", 1, 50.0), ("c", "b", 1, 50.0)]
    assert most_frequent_confusions(counts, ["a", "b", "c"]) == pairs


@pytest.mark.parametrize(
    ("channels", "side", "kind", "shown"),
    [(1, 8, "png", 8), (3, 48, "png", 48), (3, 224, "jpeg", 96), (4, 9, "png", 9)],
)
def test_thumbnails_are_small_pictures_of_the_image(channels, side, kind, shown):
    pixels = np.random.default_rng(0).integers(0, 256, (channels, side, side), dtype=np.uint8)
    head, _, content = thumbnail_uri(pixels).partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert head == f"data:image/{kind}" and image.size == (shown, shown)
    if kind == "png":
        expected = pixels.transpose(1, 2, 0) if channels == 3 else pixels[0]
        assert (np.asarray(image) == expected).all()


def test_many_classes_have_no_matrix_and_a_perfect_network_no_mistakes(evidence, tmp_path):
    classes = [f"class {number}" for number in range(30)]
    data = dataclasses.replace(evidence.data, classes=classes)
    targets = data.test.targets
    logits = 9 * torch.nn.functional.one_hot(torch.from_numpy(targets), 30).float()
    by_class = {"teacher": scores_by_class(logits, targets, classes)}
    result = evidence.result.replace(by_class=by_class, pseudo_labels=None)
    perfect = dataclasses.replace(evidence, data=data, logits=logits, result=result, validation=None)
    text = page_text(write_run_page(tmp_path / "report.html", perfect))
    assert "true \\ predicted" not in text and text.count("No test image is misclassified.") == 2
    assert "class 29 0 0 – 0 –" in text and "None: the method gives no pseudo-labels" in text


@needs_browser
def test_a_run_leaves_a_page_whose_pictures_a_browser_shows(finished_run, tmp_path):
    shutil.copy(finished_run / "report.html", tmp_path)
    script = "document.title = [...document.images].map(i => i.naturalWidth).join() + ';' + document.body.scrollWidth;"
    title = re.search(r"<title>(.*?);(\d+)</title>", rendered(tmp_path / "report.html", tmp_path / "p", script, 1300))
    widths = Counter(map(int, title[1].split(",")))
    result = Result.read(finished_run / "result.json")
    wrong = sum(scores.images - scores.correct for scores in result.by_class["teacher"].values())
    assert 0 not in widths and widths[8] == 18 + wrong and len(widths) >= 2 and int(title[2]) <= 1300
    assert "красный" in page_text(tmp_path / "report.html")
