"""Sentences and rows of a run's page."""

import numpy as np

from meanteacher.data import Dataset
from meanteacher.data.splits import Split
from meanteacher.runs.reliability import Reliability
from meanteacher.runs.result import Result
from meanteacher.training.calibration import wilson_interval

FEW_IMAGES = 30
"""A class with fewer test images is named in the summary: its recall and precision are uncertain."""


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def interval(hits: int, images: int) -> str:
    low, high = wilson_interval(hits, images)
    return f"{100 * low:.1f}–{100 * high:.1f} %"


def summary(
    result: Result, network: str, reliability: list[Reliability], counts: np.ndarray, classes: list[str]
) -> list[str]:
    """The most important facts, a sentence or two each. counts: int64 [K, K], from `confusion_counts`."""
    hits, images = int(counts.trace()), int(counts.sum())
    others = [
        f"The {name} has {percent(scores.error_last)}." for name, scores in result.models.items() if name != network
    ]
    test = (
        f"The {network} misclassifies {images - hits} of {images} test images: an error of "
        f"{percent(1 - hits / images)} (95 % interval {interval(images - hits, images)})."
    )
    return [
        " ".join([test, *others]),
        confidence_sentence(reliability, hits / images),
        *weakest_class(counts, classes),
        *rare_classes(counts, classes),
    ]


def confidence_sentence(reliability: list[Reliability], accuracy: float) -> str:
    """Whether the probabilities are too high, and what temperature scaling does about it."""
    first, last = reliability[0], reliability[-1]
    gap = 100 * (first.confidence - accuracy)
    kind = f"{abs(gap):.1f} percentage points {'above' if gap > 0 else 'below'} its accuracy"
    sentence = f"Its mean confidence is {kind}; the calibration error (ECE) is {percent(first.ece)}"
    if len(reliability) == 1:
        return f"{sentence}. There are no validation images to fit a temperature to."
    return f"{sentence}, and {percent(last.ece)} with the temperature {last.temperature:.2f}."


def weakest_class(counts: np.ndarray, classes: list[str]) -> list[str]:
    """The class with the smallest recall, and what it is mostly taken for; empty if every image is right."""
    images = counts.sum(axis=1)
    if (counts.diagonal() == images).all():
        return []
    recall = np.where(images > 0, counts.diagonal() / np.maximum(images, 1), 2)
    weakest = int(recall.argmin())
    wrong = counts[weakest] * (np.arange(len(classes)) != weakest)
    limits = interval(int(counts[weakest, weakest]), int(images[weakest]))
    return [
        f"The class with the smallest recall is {classes[weakest]} with {percent(recall[weakest])} ({limits}); it is "
        f"most often taken for {classes[int(wrong.argmax())]} ({int(wrong.max())} of {int(images[weakest])} images)."
    ]


def rare_classes(counts: np.ndarray, classes: list[str]) -> list[str]:
    """A warning of classes with few test images; empty without any."""
    rare = [name for name, images in zip(classes, counts.sum(axis=1), strict=True) if images < FEW_IMAGES]
    if not rare:
        return []
    names = ", ".join(rare[:5]) + (f" and {len(rare) - 5} more" if len(rare) > 5 else "")
    return [f"Classes with fewer than {FEW_IMAGES} test images: {names}. Their intervals are wide; collect more."]


def split_rows(result: Result, data: Dataset, split: Split) -> list[tuple[str, str]]:
    """Name and value of what describes the data and the split."""
    channels, height, width = data.train.pixels.shape[1:]
    size = f"{height}×{width}, {'color' if channels == 3 else 'gray' if channels == 1 else f'{channels} channels'}"
    origin = (result.settings or {}).get("split") or f"drawn, split_seed {result.split_seed}"
    rows = [
        ("data set", data.name),
        ("classes", str(len(data.classes))),
        ("images", size),
        ("training images", f"{len(data.train.targets):,}"),
        ("labeled", f"{len(split.labeled):,}"),
        ("unlabeled", f"{len(split.unlabeled):,}"),
        ("validation", f"{len(split.validation):,}"),
        ("test", f"{len(data.test.targets):,}"),
        ("split", f"{origin} (digest {split.digest()})"),
    ]
    if data.unknown_test is not None:
        rows.append(("test images of other classes", f"{len(data.unknown_test.targets):,}"))
    if data.duplicates is not None:
        rows += [(f"duplicates: {name.replace('_', ' ')}", f"{count:,}") for name, count in data.duplicates.items()]
    return rows
