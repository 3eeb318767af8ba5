"""TypiClust (Hacohen, Dekel & Weinshall 2022, arXiv 2202.02794): the most typical image of each uncovered cluster."""

import numpy as np
from torch import Tensor
from torch.nn.functional import normalize

NEIGHBORS = 20
MAX_CLUSTERS = 500
MIN_SIZE = 5
"""Values of the authors' code (github.com/avihu111/TypiClust, commit 2e14a16): the neighbors that typicality is
measured by, the most clusters, and the size up to which a cluster is left out."""

_EXACT_CLUSTERS = 50
"""More clusters than this are found with mini-batches, as in the authors' code."""


def select_typical(features: Tensor, labeled: Tensor, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose `count` images: positions, int64 [count], and their typicality, float64 [count].

    All images are clustered by k-means into as many clusters as there will be labels, at most `MAX_CLUSTERS`. In turn,
    the clusters with the fewest labels and, among them, the largest give their most typical image that is left.
    features: float32 [N, D] of the unlabeled images; labeled: float32 [M, D]. Both are normalized to length 1, as the
    features of the paper. seed: of k-means.
    """
    points = normalize(features).double().numpy()
    clusters = cluster(np.concatenate([points, normalize(labeled).double().numpy()]), len(labeled) + count, seed)
    mine = clusters[: len(points)]
    order = order_clusters(clusters, clusters[len(points) :])
    free, positions, scores = np.ones(len(points), bool), [], []
    while len(positions) < count:
        for name in order:
            members = np.flatnonzero((mine == name) & free)
            if not len(members) or len(positions) == count:
                continue
            values = typicality(points[members])
            best = members[values.argmax()]
            positions.append(best)
            scores.append(values.max())
            free[best] = False
        if not free[np.isin(mine, order)].any():
            order = np.unique(mine)  # what is left is in clusters that are too small
    return np.array(positions, np.int64), np.array(scores)


def cluster(points: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The cluster of each point by k-means: int [N]. points: float64 [N, D]."""
    from sklearn.cluster import KMeans, MiniBatchKMeans  # takes as long to import as torch

    count = min(count, MAX_CLUSTERS, len(points))
    if count <= _EXACT_CLUSTERS:
        return KMeans(count, n_init=1, random_state=seed).fit_predict(points)
    return MiniBatchKMeans(count, n_init=1, batch_size=5000, random_state=seed).fit_predict(points)


def order_clusters(clusters: np.ndarray, labeled: np.ndarray) -> np.ndarray:
    """The clusters of more than `MIN_SIZE` images, those with the fewest labels first and then the largest.

    clusters: int [N + M], of all images; labeled: int [M], of the labeled ones.
    """
    sizes = np.bincount(clusters)
    labels = np.bincount(labeled, minlength=len(sizes))
    order = np.lexsort((-sizes, labels))
    return order[sizes[order] > MIN_SIZE]


def typicality(points: np.ndarray) -> np.ndarray:
    """The inverse mean distance of each point to its nearest neighbors: float64 [N, D] → [N] (equation 1).

    The number of neighbors is `NEIGHBORS`, or half of the points where these are fewer; one point has typicality 0.
    """
    from sklearn.neighbors import NearestNeighbors

    neighbors = min(NEIGHBORS, max(1, len(points) // 2), len(points) - 1)
    if not neighbors:
        return np.zeros(len(points))
    distances, _ = NearestNeighbors(n_neighbors=neighbors).fit(points).kneighbors()
    return 1 / (distances.mean(axis=1) + 1e-5)
