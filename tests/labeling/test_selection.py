"""Which images are chosen to be labeled next, against closed forms and brute force."""

import math
from itertools import combinations
from types import SimpleNamespace as Pool

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from meanteacher.labeling.selection import (
    STRATEGIES,
    divergence,
    entropy,
    k_center_greedy,
    margin,
    preselect,
)
from meanteacher.labeling.typical import order_clusters, typicality


def random_distributions(seed: int, count: int = 50, classes: int = 4) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.full(classes, 0.5), count))


def make_pool(count: int = 120, labeled: int = 6, seed: int = 0) -> Pool:
    generator = torch.Generator().manual_seed(seed)
    return Pool(
        teacher=random_distributions(seed, count),
        student=random_distributions(seed + 1, count),
        features=torch.randn(count, 5, generator=generator),
        labeled_features=torch.randn(labeled, 5, generator=generator),
        seed=seed,
    )


def test_entropy_and_margin_have_their_closed_forms():
    probabilities = torch.tensor([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [0.7, 0.2, 0.1, 0]])
    third = -(0.7 * math.log(0.7) + 0.2 * math.log(0.2) + 0.1 * math.log(0.1))
    torch.testing.assert_close(entropy(probabilities), torch.tensor([0, math.log(4), math.log(2), third]))
    torch.testing.assert_close(margin(probabilities), torch.tensor([0.0, 1.0, 1.0, 0.5]))


def test_divergence_is_that_of_jensen_and_shannon():
    first, second = random_distributions(0), random_distributions(1)
    reference = [jensenshannon(p, q) ** 2 for p, q in zip(first.numpy(), second.numpy(), strict=True)]
    torch.testing.assert_close(divergence(first, second), torch.tensor(reference))
    assert divergence(first, first).max() < 1e-12
    opposite = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(divergence(opposite, opposite.flip(0)), torch.full((2,), math.log(2)).double())


def test_k_center_takes_the_farthest_image_each_time():
    generator = torch.Generator().manual_seed(0)
    features, centers = torch.randn(40, 3, generator=generator), torch.randn(2, 3, generator=generator)
    ranking = k_center_greedy(features, centers, 6)
    chosen = []
    for position, score in zip(ranking.positions, ranking.scores, strict=True):
        known = [*centers.numpy(), *features.numpy()[chosen]]
        nearest = [min(float(np.linalg.norm(x - c)) for c in known) for x in features.numpy()]
        assert position == int(np.argmax(nearest)) and score == pytest.approx(max(nearest), rel=1e-5)
        chosen.append(position)


def test_k_center_covers_at_most_twice_as_badly_as_the_best_choice():
    """The bound of Gonzalez 1985 that Sener and Savarese rely on."""
    generator = torch.Generator().manual_seed(1)
    features, centers = torch.randn(14, 2, generator=generator), torch.randn(1, 2, generator=generator)

    def radius(chosen) -> float:
        return float(torch.cdist(features, torch.cat([centers, features[list(chosen)]])).amin(1).max())

    best = min(radius(chosen) for chosen in combinations(range(14), 3))
    assert radius(k_center_greedy(features, centers, 3).positions) <= 2 * best


def test_k_center_takes_equal_images_once_each():
    ranking = k_center_greedy(torch.zeros(5, 2), torch.zeros(1, 2), 5)
    assert sorted(ranking.positions) == [0, 1, 2, 3, 4] and (ranking.scores == 0).all()


def test_preselection_takes_guessed_classes_in_turn():
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.1, 0.2])
    guesses = torch.tensor([0, 0, 0, 0, 1, 2])
    assert preselect(scores, guesses, 4).tolist() == [0, 5, 4, 1]
    assert preselect(scores, guesses, 10).tolist() == [0, 5, 4, 1, 2, 3]


@pytest.mark.parametrize("by", STRATEGIES)
@pytest.mark.parametrize("count", [1, 7, 120])
def test_every_strategy_takes_each_image_once_and_repeats_its_choice(by, count):
    pool = make_pool()
    ranking, again = STRATEGIES[by](pool, count), STRATEGIES[by](make_pool(), count)
    assert len(set(ranking.positions)) == len(ranking.positions) == len(ranking.scores) == count
    assert ranking.positions.min() >= 0 and ranking.positions.max() < 120
    assert (ranking.positions == again.positions).all() and (ranking.scores == again.scores).all()


def test_strategies_rank_by_what_their_name_says():
    pool = make_pool()
    first = {by: STRATEGIES[by](pool, 1).positions[0] for by in ("entropy", "margin", "disagreement")}
    teacher = pool.teacher.numpy()
    assert first["entropy"] == np.argmin((teacher * np.log(teacher)).sum(1))
    two = np.sort(teacher, axis=1)[:, -2:]
    assert first["margin"] == np.argmin(two[:, 1] - two[:, 0])
    both = zip(teacher, pool.student.numpy(), strict=True)
    assert first["disagreement"] == np.argmax([jensenshannon(p, q) for p, q in both])


def test_mixed_takes_uncertain_images_of_all_guessed_classes():
    """100 images at the same place except one far away that is certain: `cover` takes it, `mixed` does not."""
    sure = torch.eye(4, dtype=torch.float64)[torch.arange(100) % 4]
    unsure = sure.clone()
    unsure[:40] = 0.4 * sure[:40] + 0.15
    features = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    features[99] = 100
    pool = Pool(teacher=unsure, student=unsure, features=features, labeled_features=torch.zeros(1, 3), seed=0)
    assert STRATEGIES["cover"](pool, 4).positions[0] == 99
    assert STRATEGIES["mixed"](pool, 4).positions.max() < 40


def test_typicality_is_the_inverse_mean_distance_to_the_neighbors():
    points = np.array([[0.0], [1.0], [3.0], [7.0]])  # two neighbors each
    expected = 1 / (np.array([2.0, 1.5, 2.5, 5.0]) + 1e-5)
    assert typicality(points) == pytest.approx(expected)
    assert typicality(points[:1]) == pytest.approx([0])


def test_clusters_without_labels_come_first_and_then_the_largest():
    clusters = np.repeat([0, 1, 2, 3], [30, 10, 20, 5])
    assert order_clusters(clusters, np.array([0, 0, 1])).tolist() == [2, 1, 0]


def test_typical_images_are_those_of_the_uncovered_directions():
    """Three bundles of directions, one of which has all labels: the other two give the first two images."""
    generator = torch.Generator().manual_seed(0)
    bundles = torch.eye(3).repeat_interleave(30, dim=0) + 0.05 * torch.randn(90, 3, generator=generator)
    labeled = bundles[:1] + 0.001
    even = torch.full((90, 3), 1 / 3, dtype=torch.float64)
    pool = Pool(teacher=even, student=even, features=bundles, labeled_features=labeled, seed=0)
    chosen = STRATEGIES["typical"](pool, 2).positions // 30
    assert sorted(chosen) == [1, 2]
