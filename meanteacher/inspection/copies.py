"""Finds images that are copies of each other: the same file, or the same picture to the eye."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from meanteacher.data.duplicates import Signatures, count_candidates
from meanteacher.data.images import UNLABELED
from meanteacher.data.listing import PARTS
from meanteacher.inspection.reading import ImageFacts
from meanteacher.inspection.sources import Source

PAIRS = (
    ("train", "test"),
    ("unlabeled", "test"),
    ("train", "unlabeled"),
    ("train", "train"),
    ("unlabeled", "unlabeled"),
    ("test", "test"),
)
"""Pairs of parts, the most harmful first: copies of test images in training make the measured error too small."""


MOST_CANDIDATES = 1_000_000_000
"""Near copies are not looked for where more pairs than these would have to be compared, which takes minutes: so many
images look alike, as those of a camera that does not move, that near copies would say little."""


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Groups of at least two images that are copies of each other: positions, int64 and sorted.

    exact: the same bytes. near: the same to the eye, exact copies included, or exact copies alone where `all_alike`.
    conflicts: the near groups whose images have labels of more than one class.
    """

    exact: list[np.ndarray]
    near: list[np.ndarray]
    conflicts: list[np.ndarray]
    all_alike: bool


def find_copies(source: Source, facts: list[ImageFacts], small: np.ndarray) -> Copies:
    """Compare all images that can be decoded with each other. small: the small images of `read_images`.

    Near copies are those of `meanteacher.data.duplicates`.
    """
    decoded = np.flatnonzero([each.error is None for each in facts])
    contents = np.array([facts[row].content for row in decoded], dtype="S16")
    _, first, inverse = np.unique(contents, return_index=True, return_inverse=True)
    exact = decoded[first[inverse]], decoded
    different = np.sort(decoded[first])
    signatures = Signatures.of(small[different])
    all_alike = count_candidates(signatures.perceptual) > MOST_CANDIDATES
    pairs = [] if all_alike else signatures.near_pairs(signatures)
    near = join_pairs(chain([exact], ((different[left], different[right]) for left, right in pairs)), len(facts))
    conflicts = [group for group in near if len(set(source.targets[group].tolist()) - {UNLABELED}) > 1]
    return Copies(exact=join_pairs([exact], len(facts)), near=near, conflicts=conflicts, all_alike=all_alike)


def join_pairs(pairs: Iterable[tuple[np.ndarray, np.ndarray]], count: int) -> list[np.ndarray]:
    """The groups of at least two images that pairs connect, by their first image. pairs: int64 positions, in chunks.

    Needs memory for one chunk at a time.
    """
    rows = roots = np.arange(count)
    for left, right in pairs:
        edges = np.concatenate([rows, left]), np.concatenate([roots, right])
        graph = coo_array((np.ones(len(edges[0]), bool), edges), shape=(count, count))
        labels = connected_components(graph, directed=False)[1]
        roots = np.unique(labels, return_index=True)[1][labels]
    order = np.argsort(roots, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(roots[order])) + 1)
    return [group for group in groups if len(group) > 1]


def count_copies(source: Source, groups: list[np.ndarray]) -> dict[tuple[str, str], int]:
    """For each of `PAIRS`, the number of images of its first part that have a copy in its second."""
    counts = dict.fromkeys(PAIRS, 0)
    for group in groups:
        sizes = {part: int((source.parts[group] == position).sum()) for position, part in enumerate(PARTS)}
        for first, second in PAIRS:
            counts[first, second] += sizes[first] if sizes[second] > (first == second) else 0
    return counts
