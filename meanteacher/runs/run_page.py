"""The page of a finished run, `report.html`: one file with everything that one needs to judge the run by."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import yaml
from torch import Tensor

from meanteacher.config.files import write_atomically
from meanteacher.config.templates import render
from meanteacher.data import Dataset
from meanteacher.data.splits import Split
from meanteacher.runs.class_scores import confusion_counts
from meanteacher.runs.page_pictures import curves_uri, reliability_uri, thumbnail_uri
from meanteacher.runs.page_text import split_rows, summary
from meanteacher.runs.reliability import compare_reliability
from meanteacher.runs.result import ClassScores, Result
from meanteacher.training.calibration import wilson_interval

MOST_IMAGES = 24
"""Images on each sheet."""

MOST_COLUMNS = 20
"""The largest number of classes for which the confusion matrix is shown."""

MOST_CONFUSIONS = 12
"""Rows of the table of confusions."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the page is made of.

    network: the name of the network to deploy; logits: its logits on the test part, float32 [N, K] on the host;
    validation: its logits on the validation images and their targets, None without any.
    """

    title: str
    result: Result
    data: Dataset
    split: Split
    history: list[dict]
    network: str
    logits: Tensor
    validation: tuple[Tensor, Tensor] | None


class Ratio(NamedTuple):
    """A fraction with its 95 % interval; all in percent."""

    value: float
    low: float
    high: float


class ClassRow(NamedTuple):
    """A row of the table of classes. labeled: the number of labeled training images."""

    name: str
    labeled: int
    scores: ClassScores
    recall: Ratio | None
    precision: Ratio | None


class Shown(NamedTuple):
    """An image of a sheet. confidence: the probability of the predicted class, in percent."""

    picture: str
    name: str
    true: str
    predicted: str
    confidence: float


def write_run_page(path: Path, evidence: Evidence) -> Path:
    """Write the page of a run, atomically. Returns `path`."""
    data, result = evidence.data, evidence.result
    targets = data.test.targets
    reliability = compare_reliability(evidence.logits, torch.from_numpy(targets), evidence.validation)
    probabilities = (evidence.logits / reliability[-1].temperature).softmax(dim=1).numpy()
    predicted = probabilities.argmax(axis=1)
    counts = confusion_counts(predicted, targets, len(data.classes))
    rows = class_rows(result.by_class[evidence.network], data, evidence.split)
    mistakes, unsure = choose_images(probabilities, predicted == targets)
    page = render(
        Path(__file__).with_name("run_page.html.j2"),
        title=evidence.title,
        result=result,
        network=evidence.network,
        realistic=any(scores.balanced_accuracy is not None for scores in result.models.values()),
        summary=summary(result, evidence.network, reliability, counts, data.classes),
        curves=curves_uri(evidence.history),
        reliability=reliability,
        reliability_picture=reliability_uri(reliability),
        rows=rows,
        matrix=counts.tolist() if len(data.classes) <= MOST_COLUMNS else None,
        confusions=most_frequent_confusions(counts, data.classes),
        mistakes=shown_images(mistakes, probabilities, data),
        mistake_count=int((predicted != targets).sum()),
        unsure=shown_images(unsure, probabilities, data),
        split_rows=split_rows(result, data, evidence.split),
        notes=data.notes + evidence.split.notes,
        settings=yaml.safe_dump(result.settings, sort_keys=False, allow_unicode=True),
    )
    return write_atomically(path, page)


def class_rows(scores: dict[str, ClassScores], data: Dataset, split: Split) -> list[ClassRow]:
    """The table of classes."""
    labeled = np.bincount(data.train.targets[split.labeled], minlength=len(data.classes))
    return [
        ClassRow(name, int(count), each, ratio(each.correct, each.images), ratio(each.correct, each.predicted))
        for count, (name, each) in zip(labeled, scores.items(), strict=True)
    ]


def ratio(hits: int, images: int) -> Ratio | None:
    """None without images."""
    return Ratio(*(100 * value for value in (hits / images, *wilson_interval(hits, images)))) if images else None


def choose_images(probabilities: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most confident mistakes and the images with the smallest confidence: positions in the test part, int64.

    probabilities: float32 [N, K]; correct: bool [N].
    """
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(~correct)
    mistakes = wrong[np.argsort(-confidence[wrong], kind="stable")]
    return mistakes[:MOST_IMAGES], np.argsort(confidence, kind="stable")[:MOST_IMAGES]


def shown_images(positions: np.ndarray, probabilities: np.ndarray, data: Dataset) -> list[Shown]:
    """The images at these positions of the test part, with their true and predicted classes."""
    return [
        Shown(
            thumbnail_uri(np.asarray(data.test.pixels[position])),
            data.test.names[position],
            data.classes[data.test.targets[position]],
            data.classes[probabilities[position].argmax()],
            100 * float(probabilities[position].max()),
        )
        for position in positions
    ]


def most_frequent_confusions(counts: np.ndarray, classes: list[str]) -> list[tuple[str, str, int, float]]:
    """True class, predicted class, number of images, and their share of the true class in percent; most frequent first.

    counts: int64 [K, K], from `confusion_counts`.
    """
    wrong = counts * (1 - np.eye(len(counts), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = [divmod(int(place), len(counts)) for place in order]
    return [
        (
            classes[true],
            classes[predicted],
            int(wrong[true, predicted]),
            100 * wrong[true, predicted] / counts[true].sum(),
        )
        for true, predicted in pairs
        if wrong[true, predicted]
    ]
