"""The images of a data set of your own, before any of them is opened: their files, classes and parts."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.config.files import stat_regular_file
from meanteacher.data.splits import hold_out_fifth

PARTS = ("train", "test", "unlabeled")
"""The parts of a data set, as folders, values of a table and splits name them."""

MOST_SHOWN = 5
"""More names than these are not all shown in a line."""


class ImageFile(NamedTuple):
    """An image file: its path relative to the root, and attributes that change when its content does."""

    name: str
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The images of a data set. Targets: int64, one per file of the part, −1 for unlabeled images.

    root: the folder that names are relative to; a name may be an absolute path. broken: names of files that cannot be
    opened, which belong to no part, with the reason.
    """

    root: Path
    classes: list[str]
    train: list[ImageFile]
    train_targets: np.ndarray
    test: list[ImageFile]
    test_targets: np.ndarray
    notes: list[str]
    broken: dict[str, str] = field(default_factory=dict)


def build_listing(
    *,
    root: Path,
    where: Path,
    train: dict[str, list[ImageFile]],
    test: dict[str, list[ImageFile]],
    unlabeled: list[ImageFile],
    test_name: str,
    broken: dict[str, str],
) -> Listing:
    """Number the classes, sorted by name, and concatenate their files.

    where: the folder or file that messages name. train, test: the files of each class; without a test part, a fixed
    fifth of each class is held out. test_name: what the source calls its test part, as in "test folder".
    Raises UserError for a class that only the test part has, and if no image can be held out.
    """
    classes, notes = sorted(train), []
    if unknown := sorted(test.keys() - train.keys()):
        lacks = f"{where}: the {test_name} has classes that train lacks: {shorten(unknown)}"
        raise UserError(f"{lacks}; add them to train or delete them")
    files, targets = _concatenate(classes=classes, files=train)
    test_files, test_targets = _concatenate(classes=classes, files=test)
    if not test:
        held_out = hold_out_fifth(names=[file.name for file in files], targets=targets)
        if not held_out.any():
            raise UserError(f"{where} has no {test_name} and one image per class, so none is held out: add more images")
        notes.append(f"there is no {test_name}: a fixed fifth of each class ({held_out.sum()} images) is the test part")
        test_files, files = ([files[row] for row in np.flatnonzero(mask)] for mask in (held_out, ~held_out))
        test_targets, targets = targets[held_out], targets[~held_out]
    if missing := [name for target, name in enumerate(classes) if target not in test_targets]:
        notes.append(f"the test part has no image of {shorten(missing)}, so nothing is measured there")
    return Listing(
        root=root,
        classes=classes,
        train=files + unlabeled,
        train_targets=np.concatenate([targets, np.full(len(unlabeled), -1)]),
        test=test_files,
        test_targets=test_targets,
        notes=notes,
        broken=broken,
    )


def sort_by_name(listing: Listing) -> Listing:
    """The listing with the files of each part sorted by name."""
    changes: dict[str, list[ImageFile] | np.ndarray] = {}
    for part in ("train", "test"):
        files, targets = getattr(listing, part), getattr(listing, f"{part}_targets")
        order = sorted(range(len(files)), key=lambda row: files[row].name)
        changes |= {part: [files[row] for row in order], f"{part}_targets": targets[order]}
    return replace(listing, **changes)


def stat_image(name: str, path: str | Path) -> ImageFile:
    """An image file with its size and time stamps. Raises OSError if it is missing, and ValueError for a bad path."""
    status = stat_regular_file(path)
    return ImageFile(name, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def shorten(words: Sequence[str]) -> str:
    """The first of many words in one line, and how many more there are. Line breaks in a word become spaces."""
    more = f" and {len(words) - MOST_SHOWN} more" if len(words) > MOST_SHOWN else ""
    return ", ".join(" ".join(word.splitlines()) for word in words[:MOST_SHOWN]) + more


def _concatenate(*, classes: list[str], files: dict[str, list[ImageFile]]) -> tuple[list[ImageFile], np.ndarray]:
    """All files, class after class, and their targets, int64 [N]."""
    counts = [len(files.get(name, ())) for name in classes]
    return [file for name in classes for file in files.get(name, ())], np.repeat(np.arange(len(classes)), counts)
