"""Suspected label errors by confident learning (Northcutt, Jiang & Chuang 2021, arXiv 1911.00068), with cleanlab."""

from dataclasses import dataclass

import numpy as np

NEIGHBORS = 10
"""The neighbors whose labels `neighbor_probabilities` counts; fewer where the classes have fewer images on average."""

CONFIDENT, DIFFERENT = "prune_by_class", "predicted_neq_given"
"""Rules of cleanlab: with these probabilities, the first of them finds fewer errors than the second and is wrong less
often (results/audit.md)."""


@dataclass(frozen=True)
class LabelErrors:
    """Images whose label is not the most probable class, the least probable labels first.

    rows: int64 [n]; suggested: int64 [n], the most probable other class; confident: bool [n], whether confident
    learning rejects the label. quality: float64 [N], of all images: the out-of-sample probability of the label.
    """

    rows: np.ndarray
    suggested: np.ndarray
    confident: np.ndarray
    quality: np.ndarray


def neighbor_probabilities(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Shares of each class among the nearest other images, by the cosine of the features: float64 [N, K].

    features: float [N, D]; labels: int64 [N], 0 to K − 1. Each class counts as one more neighbor among all classes, so
    that no probability is 0.
    """
    from sklearn.neighbors import NearestNeighbors

    classes = int(labels.max()) + 1
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    count = min(NEIGHBORS, max(1, len(labels) // classes - 1))
    nearest = NearestNeighbors(n_neighbors=count).fit(unit).kneighbors(return_distance=False)
    votes = (labels[nearest][:, :, None] == np.arange(classes)).sum(axis=1) + 1 / classes
    return votes / votes.sum(axis=1, keepdims=True)


def find_label_errors(labels: np.ndarray, probabilities: np.ndarray) -> LabelErrors:
    """The images whose label may be wrong.

    labels: int64 [N], 0 to K − 1, each class at least once; probabilities: float64 [N, K], out-of-sample.
    """
    confident, different = (reject_labels(labels, probabilities, rule) for rule in (CONFIDENT, DIFFERENT))
    quality = probabilities[np.arange(len(labels)), labels]
    rows = np.union1d(confident, different)
    rows = rows[np.argsort(quality[rows], kind="stable")]
    others = probabilities[rows].copy()
    others[np.arange(len(rows)), labels[rows]] = -1
    return LabelErrors(rows, others.argmax(axis=1), np.isin(rows, confident), quality)


def reject_labels(labels: np.ndarray, probabilities: np.ndarray, rule: str) -> np.ndarray:
    """The images that a rule of cleanlab's `find_label_issues` rejects: int64 [n]. See `find_label_errors`."""
    from cleanlab.filter import find_label_issues

    return np.flatnonzero(find_label_issues(labels, probabilities, filter_by=rule, n_jobs=1))
