"""The images of a folder or a table: their files, parts and classes, before any of them is opened."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from meanteacher.data.folder_listing import list_images
from meanteacher.data.listing import ImageFile, Listing

PARTS = ("train", "unlabeled", "test")
"""The parts of a data set, in the order in which they are listed."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Images by name, part and class.

    root: the folder that the names are relative to. parts: for each file a position in `PARTS`, int64 [N]. targets:
    int64 [N], a position in `classes`, −1 for unlabeled images. broken: names of files that cannot even be opened,
    which are not among `files`, with the reason. overrides: what makes a run use these images.
    """

    root: Path
    classes: list[str]
    files: list[ImageFile]
    parts: np.ndarray
    targets: np.ndarray
    notes: list[str]
    broken: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, str] = field(default_factory=dict)

    def path(self, row: int) -> Path:
        return self.root / self.files[row].name

    def rows(self, part: str, target: int | None = None) -> np.ndarray:
        """The positions of the images of a part, or of one of its classes: int64, sorted."""
        chosen = self.parts == PARTS.index(part)
        return np.flatnonzero(chosen if target is None else chosen & (self.targets == target))


def read_folder(directory: str) -> Source:
    """The images of a folder as `dataset=image_folder` lists them.

    Raises UserError for a folder that is missing, cannot be listed, has another layout, or has fewer than two classes.
    """
    listing = list_images(root=directory, directory=Path(os.environ.get("MEANTEACHER_DATA", "data")).absolute())
    return from_listing(listing, {"dataset": "image_folder", "dataset.root": directory})


def from_listing(listing: Listing, overrides: dict[str, str]) -> Source:
    """The images of a listing. overrides: what makes a run use them."""
    parts = np.where(listing.train_targets < 0, PARTS.index("unlabeled"), PARTS.index("train"))
    return Source(
        root=listing.root,
        classes=listing.classes,
        files=listing.train + listing.test,
        parts=np.concatenate([parts, np.full(len(listing.test), PARTS.index("test"))]),
        targets=np.concatenate([listing.train_targets, listing.test_targets]),
        notes=listing.notes,
        broken=listing.broken,
        overrides=overrides,
    )
