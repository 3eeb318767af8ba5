"""How far predicted probabilities can be trusted: accuracy by confidence, before and after temperature scaling."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from meanteacher.training.calibration import fit_temperature
from meanteacher.training.evaluator import measure

BINS = 15
"""Of equal width, as for the calibration error (ECE)."""


class Bin(NamedTuple):
    """Images whose largest probability lies in one bin. confidence: the mean of these probabilities."""

    images: int
    confidence: float
    accuracy: float


class Reliability(NamedTuple):
    """Of the probabilities softmax(logits / temperature). ece and cross_entropy as in `measure`; bins without images
    are left out."""

    temperature: float
    ece: float
    cross_entropy: float
    confidence: float
    bins: list[Bin]


def measure_reliability(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Reliability:
    """The reliability of one network. logits: float32 [N, K]; targets: int64 [N]; both on the host."""
    scores = measure(logits / temperature, targets)
    probabilities = (logits / temperature).softmax(dim=1)
    confidence, predicted = (values.numpy() for values in probabilities.max(dim=1))
    correct = predicted == targets.numpy()
    number = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = [
        Bin(int(inside.sum()), float(confidence[inside].mean()), float(correct[inside].mean()))
        for inside in (number == bin for bin in np.unique(number))
    ]
    return Reliability(
        temperature, scores["ece"].item(), scores["cross_entropy"].item(), float(confidence.mean()), bins
    )


def compare_reliability(logits: Tensor, targets: Tensor, validation: tuple[Tensor, Tensor] | None) -> list[Reliability]:
    """The reliability on the test part before and, if there are validation images, after temperature scaling.

    The temperature is fitted to the validation images alone. validation: their logits [M, K] and targets [M].
    """
    before = measure_reliability(logits, targets)
    if validation is None:
        return [before]
    return [before, measure_reliability(logits, targets, fit_temperature(*validation))]
