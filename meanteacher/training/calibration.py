"""Calibration on validation images: a temperature, and thresholds for a wanted precision or a wanted coverage."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TEMPERATURES = 0.05, 20.0
"""The smallest and the largest temperature that is fitted."""


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """The temperature T that minimizes the mean cross-entropy of softmax(logits / T) (Guo et al. 2017, section 4.2).

    It lies within `TEMPERATURES`. If every image is classified correctly, the cross-entropy falls without end as T
    approaches 0, which says nothing about the confidence in other images; then T is at least 1.
    logits: float [N, K], finite; targets: int64 [N]. Raises ValueError without images.
    """
    if not len(targets):
        raise ValueError("a temperature cannot be fitted without images")
    from scipy.optimize import minimize_scalar

    logits, targets = logits.detach().cpu().double(), targets.cpu()
    separated = bool((logits.argmax(dim=1) == targets).all())

    def cross_entropy(log_temperature: float) -> float:
        return F.cross_entropy(logits / math.exp(log_temperature), targets).item()

    lowest, highest = (math.log(temperature) for temperature in TEMPERATURES)
    bounds = (0.0 if separated else lowest, highest)  # with one minimum: the cross-entropy is convex in 1 / T
    found = minimize_scalar(cross_entropy, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return math.exp(min((*bounds, found.x), key=cross_entropy))


class PrecisionThreshold(NamedTuple):
    """Images with at least the confidence `threshold` are accepted.

    accepted: the validation images among them; precision: the fraction of those that is classified correctly;
    interval: its 95 % confidence interval.
    """

    threshold: float
    precision: float
    accepted: int
    interval: tuple[float, float]


def precision_threshold(confidences: np.ndarray, correct: np.ndarray, precision: float) -> PrecisionThreshold | None:
    """The smallest confidence at and above which the wanted fraction of the validation images is classified correctly.

    At least 1 / (1 − precision) images must be accepted, 20 for a precision of 0.95, because fewer images cannot show
    such a precision. None if no threshold accepts so many images with the wanted precision. The precision is that of
    the validation images from which the threshold is chosen: it is an estimate, not a guarantee.
    confidences: float [N], the largest probability of each image; correct: bool [N]; precision: 0 < precision < 1.
    """
    order = np.argsort(-confidences, kind="stable")
    ranked = confidences[order]
    accepted, right = np.arange(1, len(order) + 1), np.cumsum(correct[order])
    complete = np.append(ranked[1:] < ranked[:-1], True)[: len(order)]  # images of equal confidence stay together
    enough = accepted >= round(1 / (1 - precision), 6)
    suitable = np.flatnonzero(complete & enough & (right >= precision * accepted - 1e-9))
    if not len(suitable):
        return None
    last = suitable[-1]
    count, hits = int(accepted[last]), int(right[last])
    return PrecisionThreshold(float(ranked[last]), hits / count, count, wilson_interval(hits, count))


def wilson_interval(hits: int, images: int) -> tuple[float, float]:
    """The 95 % confidence interval of a fraction (Wilson 1927). images: at least 1."""
    from scipy.stats import binomtest

    interval = binomtest(hits, images).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def conformal_threshold(true_probabilities: np.ndarray, coverage: float) -> float | None:
    """The threshold t of prediction sets {k : p_k ≥ t} that contain the true class with the wanted probability or more.

    Split conformal prediction with the score s = 1 − p_y of the true class y (Sadinle et al. 2019, arXiv 1609.00451):
    1 − t is the ⌈(n + 1) · coverage⌉-th smallest of n scores. The coverage holds on average over images like the
    validation images. None if n is smaller than coverage / (1 − coverage), 9 for a coverage of 0.9: only the set of all
    classes would then have it.
    true_probabilities: float [n], p_y of each validation image; coverage: 0 < coverage < 1.
    """
    count = len(true_probabilities)
    rank = math.ceil(round((count + 1) * coverage, 9))
    return float(np.sort(true_probabilities)[count - rank]) if rank <= count else None


def true_probabilities(probabilities: Tensor, targets: Tensor) -> Tensor:
    """The probability of the true class of each image, [N]. probabilities: float [N, K]; targets: int64 [N]."""
    return torch.gather(probabilities, 1, targets[:, None])[:, 0]
