"""Finds images that are copies of each other: the same file, or the same picture to the eye."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from meanteacher.data.duplicates import Signatures
from meanteacher.data.images import UNLABELED
from meanteacher.inspection.reading import ImageFacts
from meanteacher.inspection.sources import PARTS, Source

PAIRS = (
    ("train", "test"),
    ("unlabeled", "test"),
    ("train", "unlabeled"),
    ("train", "train"),
    ("unlabeled", "unlabeled"),
    ("test", "test"),
)
"""Pairs of parts, the most harmful first: copies of test images in training make the measured error too small."""


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Groups of at least two images that are copies of each other: positions, int64 and sorted.

    exact: the same bytes. near: the same to the eye, exact copies included. conflicts: the near groups whose images
    have labels of more than one class.
    """

    exact: list[np.ndarray]
    near: list[np.ndarray]
    conflicts: list[np.ndarray]


def find_copies(source: Source, facts: list[ImageFacts], small: np.ndarray) -> Copies:
    """Compare all images that can be decoded with each other. small: the small images of `read_images`.

    Near copies are those of `meanteacher.data.duplicates`.
    """
    decoded = np.flatnonzero([each.error is None for each in facts])
    contents = np.array([facts[row].content for row in decoded], dtype="S16")
    _, first, inverse = np.unique(contents, return_index=True, return_inverse=True)
    exact = np.stack([decoded[first[inverse]], decoded])
    different = np.sort(decoded[first])
    signatures = Signatures.of(small[different])
    near = [np.stack([different[left], different[right]]) for left, right in signatures.near_pairs(signatures)]
    near = [pairs[:, pairs[0] < pairs[1]] for pairs in near]
    near_groups = join_pairs(np.concatenate([exact, *near], axis=1), len(facts))
    conflicts = [group for group in near_groups if len(set(source.targets[group].tolist()) - {UNLABELED}) > 1]
    return Copies(exact=join_pairs(exact, len(facts)), near=near_groups, conflicts=conflicts)


def join_pairs(pairs: np.ndarray, count: int) -> list[np.ndarray]:
    """The groups of at least two images that pairs connect, by their first image. pairs: int64 [2, P]."""
    graph = coo_array((np.ones(pairs.shape[1], bool), tuple(pairs)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    order = np.argsort(labels, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return sorted((group for group in groups if len(group) > 1), key=lambda group: group[0])


def count_copies(source: Source, groups: list[np.ndarray]) -> dict[tuple[str, str], int]:
    """For each of `PAIRS`, the number of images of its first part that have a copy in its second."""
    counts = dict.fromkeys(PAIRS, 0)
    for group in groups:
        sizes = {part: int((source.parts[group] == position).sum()) for position, part in enumerate(PARTS)}
        for first, second in PAIRS:
            counts[first, second] += sizes[first] if sizes[second] > (first == second) else 0
    return counts
