"""Suspected label errors by confident learning (Northcutt, Jiang & Chuang 2021, arXiv 1911.00068), with cleanlab."""

from dataclasses import dataclass

import numpy as np

from meanteacher.config.errors import UserError

NEIGHBORS = 10
"""The neighbors whose labels `neighbor_probabilities` counts; fewer where the classes have fewer images on average."""

RULE = "prune_by_class"
"""How confident learning selects images. With these probabilities it was the best of five in results/audit.md."""


@dataclass(frozen=True)
class LabelErrors:
    """Images whose label is probably wrong, the most suspicious first.

    rows: int64 [n]; suggested: int64 [n], the class that the others speak for. quality: float64 [N], of all images: the
    out-of-sample probability of the label.
    """

    rows: np.ndarray
    suggested: np.ndarray
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


def find_label_errors(labels: np.ndarray, probabilities: np.ndarray, rule: str = RULE) -> LabelErrors:
    """The images whose label confident learning rejects, those with the least probability of their label first.

    labels: int64 [N], 0 to K − 1, each class at least once; probabilities: float64 [N, K], out-of-sample. rule:
    `filter_by` of cleanlab's `find_label_issues`. Raises UserError if cleanlab is not installed.
    """
    try:
        from cleanlab.filter import find_label_issues
    except ImportError:
        raise UserError("meanteacher audit needs cleanlab; pip install -e '.[audit]' brings it") from None
    ranked = find_label_issues(
        labels, probabilities, filter_by=rule, return_indices_ranked_by="self_confidence", n_jobs=1
    )
    rows = np.asarray(ranked, np.int64)
    others = probabilities[rows].copy()
    others[np.arange(len(rows)), labels[rows]] = -1
    quality = probabilities[np.arange(len(labels)), labels]
    return LabelErrors(rows, others.argmax(axis=1), quality)
