"""Active learning: the order in which unlabeled images should be labeled, from what a run's networks say of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from meanteacher.labeling.typical import select_typical

PRESELECTED = 10
"""`mixed` chooses among this many times as many images as are asked for."""

_CHUNK = 4096


class Pool(Protocol):
    """The unlabeled images of a run as its networks see them, on the CPU.

    teacher, student: probabilities, float64 [N, K], of the deployed network and of the one that was trained. features:
    float32 [N, D], labeled_features: float32 [M, D]: the deployed network's pooled features of the unlabeled and of the
    labeled images. seed: of the random choices.
    """

    teacher: Tensor
    student: Tensor
    features: Tensor
    labeled_features: Tensor
    seed: int


@dataclass(frozen=True)
class Ranking:
    """Chosen images, the first to label first. positions: int64 [n], rows of the pool; scores: float64 [n]."""

    positions: np.ndarray
    scores: np.ndarray


def entropy(probabilities: Tensor) -> Tensor:
    """The entropy of each distribution in nats: [N, K] → [N]."""
    return torch.special.entr(probabilities).sum(dim=1)


def margin(probabilities: Tensor) -> Tensor:
    """1 − (largest − second largest probability) of each distribution: [N, K] → [N], 1 for a tie (Scheffer 2001)."""
    first, second = probabilities.topk(2, dim=1).values.unbind(dim=1)
    return 1 - (first - second)


def divergence(first: Tensor, second: Tensor) -> Tensor:
    """The Jensen–Shannon divergence of pairs of distributions in nats: two of [N, K] → [N], 0 to log 2 (Lin 1991)."""
    return (entropy((first + second) / 2) - (entropy(first) + entropy(second)) / 2).clamp(min=0)


def k_center_greedy(features: Tensor, centers: Tensor, count: int) -> Ranking:
    """Repeatedly take the image that is farthest from all centers, which then is a center (Sener & Savarese 2018).

    Algorithm 1 of arXiv 1708.00489 with the Euclidean distance. features: float32 [N, D]; centers: float32 [M, D], of
    the labeled images, M ≥ 1; count ≤ N. The scores are the distances at the time of the choice.
    """
    distances = torch.cat([torch.cdist(chunk, centers).amin(dim=1) for chunk in features.split(_CHUNK)])
    positions, scores = [], []
    for _ in range(count):
        farthest = int(distances.argmax())
        positions.append(farthest)
        scores.append(float(distances[farthest]))
        distances = torch.minimum(distances, (features - features[farthest]).norm(dim=1))
        distances[farthest] = -1  # not chosen again where all others are at distance 0
    return Ranking(np.array(positions, np.int64), np.array(scores))


def take_largest(scores: Tensor, count: int) -> Ranking:
    """The images with the largest scores, float [N], equal ones in their order."""
    order = scores.argsort(descending=True, stable=True)[:count]
    return Ranking(order.numpy(), scores[order].double().numpy())


def preselect(scores: Tensor, guesses: Tensor, count: int) -> Tensor:
    """The images with the largest scores, in turn one of each guessed class: positions, int64 [count].

    scores: float [N]; guesses: int64 [N].
    """
    order = scores.argsort(descending=True, stable=True)
    turns = torch.empty_like(order)
    for guess in guesses.unique():
        members = order[guesses[order] == guess]
        turns[members] = torch.arange(len(members))
    return order[turns[order].argsort(stable=True)][:count]


def select_mixed(pool: Pool, count: int) -> Ranking:
    """Images that are uncertain and cover the guessed classes and the feature space.

    Of `PRESELECTED` · count images with the largest margin score, spread over the guessed classes, those that
    `k_center_greedy` takes: first the uncertain ones, then a diverse set of them, as in Zhdanov 2019 (arXiv
    1901.05954), which clusters them instead.
    """
    rows = preselect(margin(pool.teacher), pool.teacher.argmax(dim=1), PRESELECTED * count)
    chosen = k_center_greedy(pool.features[rows], pool.labeled_features, count)
    return Ranking(rows.numpy()[chosen.positions], chosen.scores)


def select_random(pool: Pool, count: int) -> Ranking:
    """Images drawn at random. The scores are 0."""
    return Ranking(np.random.default_rng(pool.seed).permutation(len(pool.teacher))[:count], np.zeros(count))


STRATEGIES: dict[str, Callable[[Pool, int], Ranking]] = {
    "entropy": lambda pool, count: take_largest(entropy(pool.teacher), count),
    "margin": lambda pool, count: take_largest(margin(pool.teacher), count),
    "disagreement": lambda pool, count: take_largest(divergence(pool.student, pool.teacher), count),
    "cover": lambda pool, count: k_center_greedy(pool.features, pool.labeled_features, count),
    "typical": lambda pool, count: Ranking(*select_typical(pool.features, pool.labeled_features, count, pool.seed)),
    "mixed": select_mixed,
    "random": select_random,
}
"""Each strategy as a function of a pool and the number of images to choose, at most as many as the pool has."""
