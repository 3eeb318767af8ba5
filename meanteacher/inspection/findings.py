"""What an inspection found out about a set of images, as numbers and lists."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.data.listing import PARTS
from meanteacher.inspection.copies import Copies, count_copies, find_copies
from meanteacher.inspection.reading import ImageFacts, read_images
from meanteacher.inspection.sources import Source

SIDES = (16, 32, 64, 128, 256, 512, 1024, 2048)
"""Borders of the histogram of shorter sides, in pixels."""

ELONGATED = 2
"""An image whose longer side is more than this many times the shorter one loses more than half of itself when it is
cropped to a square."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The facts of all images of a source, and their copies."""

    source: Source
    facts: list[ImageFacts]
    copies: Copies

    @cached_property
    def decoded(self) -> np.ndarray:
        """Whether each image can be decoded: bool [N]."""
        return np.array([each.error is None for each in self.facts])

    @cached_property
    def broken(self) -> list[tuple[str, str]]:
        """Name and error of each file that cannot be decoded."""
        rows = np.flatnonzero(~self.decoded)
        undecoded = [(self.source.files[row].name, self.facts[row].error) for row in rows]
        return sorted([*self.source.broken.items(), *undecoded])

    @cached_property
    def counts(self) -> dict[str, np.ndarray]:
        """The number of images of each class that can be decoded, int64 [classes], by part; `unlabeled`: int64 [1]."""
        usable = {part: self.source.rows(part) for part in PARTS}
        usable = {part: self.source.targets[rows[self.decoded[rows]]] for part, rows in usable.items()}
        counts = {part: np.bincount(usable[part], minlength=len(self.source.classes)) for part in ("train", "test")}
        return counts | {"unlabeled": np.array([len(usable["unlabeled"])])}

    @property
    def labels(self) -> int:
        """Training images with a label."""
        return int(self.counts["train"].sum())

    @property
    def imbalance(self) -> float:
        """Labels of the largest class over those of the smallest; infinite where a class has none left."""
        counts = self.counts["train"]
        return counts.max() / counts.min() if counts.min() else float("inf")

    @cached_property
    def sizes(self) -> np.ndarray:
        """Width and height of the images that can be decoded, int64 [M, 2]."""
        return np.array([(self.facts[row].width, self.facts[row].height) for row in np.flatnonzero(self.decoded)])

    @cached_property
    def shorter_sides(self) -> np.ndarray:
        return self.sizes.min(axis=1)

    @property
    def side_histogram(self) -> list[tuple[str, int]]:
        """The number of images by their shorter side, from the smallest to the largest that occurs."""
        counts = np.bincount(np.searchsorted(SIDES, self.shorter_sides, "right"), minlength=len(SIDES) + 1)
        inner = [f"{low} to {high - 1}" for low, high in zip(SIDES, SIDES[1:], strict=False)]
        names = [f"below {SIDES[0]}", *inner, f"{SIDES[-1]} and more"]
        used = np.flatnonzero(counts)
        return [(names[row], int(counts[row])) for row in range(used[0], used[-1] + 1)]

    @property
    def common_sizes(self) -> list[tuple[str, int]]:
        """The most frequent sizes, width × height, and how many images have them."""
        counts = Counter(map(tuple, self.sizes.tolist()))
        return [(f"{width} × {height}", count) for (width, height), count in counts.most_common(5)]

    def count_values(self, attribute: str) -> list[tuple[str, int]]:
        """How many of the images that can be decoded have each value of an attribute of `ImageFacts`."""
        usable = [each for each in self.facts if each.error is None]
        return [(str(value), count) for value, count in Counter(getattr(x, attribute) for x in usable).most_common()]

    @property
    def turned(self) -> int:
        """Images that their EXIF data says to turn."""
        return sum(each.turned for each in self.facts if each.error is None)

    @property
    def elongated(self) -> float:
        """The share of images that lose more than half of themselves when they are cropped to a square."""
        return float((self.sizes.max(axis=1) > ELONGATED * self.shorter_sides).mean())

    @cached_property
    def copy_counts(self) -> dict[tuple[str, str], tuple[int, int]]:
        """For each of `PAIRS`, images of its first part that have an exact copy in its second, and any copy there."""
        exact, near = count_copies(self.source, self.copies.exact), count_copies(self.source, self.copies.near)
        return {pair: (exact[pair], near[pair]) for pair in near}


def examine(source: Source) -> Findings:
    """Read all images of a source.

    Raises UserError where none can be decoded, or none of the training images of a class.
    """
    facts, small = read_images(source)
    broken = [(file.name, each.error) for file, each in zip(source.files, facts, strict=True) if each.error]
    if len(broken) == len(facts):
        name, error = broken[0]
        raise UserError(f"{source.name}: none of {len(facts)} images can be read, for example {name} ({error})")
    findings = Findings(source=source, facts=facts, copies=find_copies(source, facts, small))
    for target in np.flatnonzero(findings.counts["train"] == 0):
        raise UserError(
            f"{source.name}: none of the training images of class {source.classes[target]} can be read: add some that "
            "can, or delete the class"
        )
    return findings
