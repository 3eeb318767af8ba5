"""The images of a folder or a table: their files, parts and classes, before any of them is opened."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from meanteacher.data.folder_listing import list_images
from meanteacher.data.listing import PARTS, ImageFile, Listing
from meanteacher.data.table_listing import list_table

TABLES = (".csv", ".tsv")
"""Suffixes of files that are tables of images."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Images by name, part and class.

    name: of the folder or table, as the user gave it. root: the folder that the names of files are relative to.
    parts: for each file a position in `PARTS`, int64 [N]. targets: int64 [N], a position in `classes`, −1 for unlabeled
    images. broken: names of files that cannot even be opened, which are not among `files`, with the reason. overrides:
    what makes a run use these images.
    """

    name: str
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


def read_source(place: str) -> Source:
    """The images of a folder, as `dataset=image_folder` lists them, or of a table, as `dataset=table` does.

    Raises UserError for a folder or a table that is missing, cannot be read, has another layout, or has fewer than two
    classes.
    """
    if Path(place).suffix.lower() in TABLES and not Path(place).expanduser().is_dir():
        return from_listing(place, list_table(place), {"dataset": "table", "dataset.file": place})
    directory = Path(os.environ.get("MEANTEACHER_DATA", "data")).absolute()
    listing = list_images(root=place, directory=directory)
    return from_listing(place, listing, {"dataset": "image_folder", "dataset.root": place})


def from_listing(name: str, listing: Listing, overrides: dict[str, str]) -> Source:
    """The images of a listing. name: of the folder or table; overrides: what makes a run use them."""
    parts = np.where(listing.train_targets < 0, PARTS.index("unlabeled"), PARTS.index("train"))
    return Source(
        name=name,
        root=listing.root,
        classes=listing.classes,
        files=listing.train + listing.test,
        parts=np.concatenate([parts, np.full(len(listing.test), PARTS.index("test"))]),
        targets=np.concatenate([listing.train_targets, listing.test_targets]),
        notes=listing.notes,
        broken=listing.broken,
        overrides=overrides,
    )
