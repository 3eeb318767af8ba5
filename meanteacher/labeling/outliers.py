"""Images that belong to no class, by their distance from other images in the feature space."""

import numpy as np

NEIGHBORS = 5
"""The distance to this nearest image is measured, so that a few outliers that are alike do not hide each other."""


def neighbor_distances(features: np.ndarray, reference: np.ndarray, among: bool) -> np.ndarray:
    """The distance of each image to its k-th nearest reference image: float64 [N] (Sun et al. 2022, arXiv 2204.06507).

    Features are normalized to length 1. features: float [N, D]; reference: float [M, D]. among: the images are the
    first N reference images, and none counts as its own neighbor.
    """
    from sklearn.neighbors import NearestNeighbors

    points, others = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (features, reference))
    count = max(1, min(NEIGHBORS, len(others) - among))
    distances, _ = NearestNeighbors(n_neighbors=min(count + among, len(others))).fit(others).kneighbors(points)
    return distances[:, -1]


def outside_fence(scores: np.ndarray, usual: np.ndarray) -> np.ndarray:
    """Which scores lie above the inner fence of the usual ones, Q3 + 1.5 (Q3 − Q1): bool [N] (Tukey 1977)."""
    low, high = np.quantile(usual, [0.25, 0.75])
    return scores > high + 1.5 * (high - low)
