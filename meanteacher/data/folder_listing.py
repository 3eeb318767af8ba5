"""What a user's folder of images holds, without opening an image."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.data.cache import reason
from meanteacher.data.splits import fifth

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})
_PARTS = ("train", "test", "unlabeled")


class File(NamedTuple):
    """One image file: its path relative to the root, and what changes when its content does."""

    name: str
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a root folder holds, no file opened yet. Targets: int64, one per file of the part."""

    root: Path
    classes: list[str]
    train: list[File]
    train_targets: np.ndarray
    test: list[File]
    test_targets: np.ndarray
    notes: list[str]


def list_images(*, root: str, directory: Path) -> Listing:
    """Finds the images of the parts and checks the layout. `directory` (data_dir) may lie inside of root, or be it."""
    top = _checked(root)
    ignored = {str(top / "unlabeled"), str(directory / "cache")}
    has_train, has_test, has_unlabeled = ((top / part).is_dir() for part in _PARTS)
    if has_test and not has_train:
        raise UserError(f"{top} has a test folder but no train folder: expected train/<class>/*, test/<class>/*")
    left_out: list[Path] = []
    train = _class_files(root=top, folder=top / "train" if has_train else top, ignored=ignored, left_out=left_out)
    if len(train) < 2:
        raise UserError(
            f"{top} holds one class only ({next(iter(train))}), at least two are needed: "
            "root must be the folder with train/<class>/* or <class>/* in it"
        )
    test = _class_files(root=top, folder=top / "test", ignored=ignored, left_out=left_out) if has_test else {}
    unlabeled = _scanned(root=top, folder=top / "unlabeled", left_out=left_out) if has_unlabeled else []
    listing = _arranged(root=top, train=train, test=test, unlabeled=unlabeled)
    others = [path.name for path in _folders(top) if path.name not in _PARTS and str(path) not in ignored]
    if has_train and others:
        listing.notes.append(f"folders beside train/ left out: {', '.join(others)}")
    if has_unlabeled and not unlabeled:
        listing.notes.append("unlabeled/ holds no images")
    if left_out:
        listing.notes.append(f"files left out: {len(left_out)} (hidden, no image suffix, or in no class folder)")
    return listing


def _arranged(
    *, root: Path, train: dict[str, list[File]], test: dict[str, list[File]], unlabeled: list[File]
) -> Listing:
    """Lines the files of the classes up, with targets; splits a fifth off where there is no test part."""
    classes = sorted(train)
    unknown = sorted(test.keys() - train.keys())
    if unknown:
        raise UserError(
            f"{root / 'test'} has classes that train lacks: {', '.join(unknown)}; add them there or delete them here"
        )
    notes = []
    files, targets = _lined_up(classes=classes, files=train)
    test_files, test_targets = _lined_up(classes=classes, files=test)
    if not test:
        held_out = fifth(names=[file.name for file in files], targets=targets)
        if not held_out.any():
            raise UserError(
                f"{root} has no test folder and one image per class, of which none can be held out: add more"
            )
        notes.append(
            f"there is no test folder: a fixed fifth of each class ({held_out.sum()} images) is held out as one"
        )
        test_files, test_targets = [files[row] for row in np.flatnonzero(held_out)], targets[held_out]
        files, targets = [files[row] for row in np.flatnonzero(~held_out)], targets[~held_out]
    return Listing(
        root=root,
        classes=classes,
        train=files + unlabeled,
        train_targets=np.concatenate([targets, np.full(len(unlabeled), -1)]),
        test=test_files,
        test_targets=test_targets,
        notes=notes,
    )


def _lined_up(*, classes: list[str], files: dict[str, list[File]]) -> tuple[list[File], np.ndarray]:
    """All files, class after class, and their targets, int64 [N]."""
    counts = [len(files.get(name, ())) for name in classes]
    return [file for name in classes for file in files.get(name, ())], np.repeat(np.arange(len(classes)), counts)


def _checked(root: str) -> Path:
    """The root folder as an absolute path. Raises UserError where it is unset, missing or a file."""
    if not root:
        raise UserError("root is not set: dataset=image_folder needs dataset.root=<folder with train/<class>/* in it>")
    path = Path(root).expanduser().absolute()
    if os.path.isfile(path):
        raise UserError(f"root {path} is a file, not a folder: unpack it, or name the folder it lies in")
    if not os.path.isdir(path):
        nearest = next(parent for parent in path.parents if os.path.isdir(parent))
        raise UserError(f"root {path} does not exist (what exists of it: {nearest}): correct dataset.root")
    return path


def _class_files(*, root: Path, folder: Path, ignored: set[str], left_out: list[Path]) -> dict[str, list[File]]:
    """From class name to its files, sorted by name. Raises UserError for a class without any."""
    paths = [path for path in _folders(folder) if str(path) not in ignored]
    found = {path.name: _scanned(root=root, folder=path, left_out=left_out) for path in paths}
    if not any(found.values()):
        raise UserError(
            f"{folder} has no images in class folders: expected <class>/<image> in it, "
            f"with a suffix out of {' '.join(sorted(_SUFFIXES))}"
        )
    for name, files in found.items():
        if not files:
            raise UserError(f"class folder {folder / name} holds no images: put some there or delete it")
    left_out.extend(folder / entry.name for entry in _entries(folder) if not entry.is_dir())
    return found


def _folders(folder: Path) -> list[Path]:
    """The folders in a folder, hidden ones left out, sorted by name."""
    names = sorted(entry.name for entry in _entries(folder) if entry.is_dir() and not entry.name.startswith("."))
    return [folder / name for name in names]


def _scanned(*, root: Path, folder: Path, left_out: list[Path]) -> list[File]:
    """The image files in a folder at any depth, sorted by name; other files are added to `left_out`."""
    files, pending = [], [folder]
    while pending:
        here = pending.pop()
        relative = here.relative_to(root).as_posix()
        for entry in _entries(here):
            name = entry.name
            visible = not name.startswith(".")
            loops = entry.is_symlink() and here.resolve().is_relative_to(Path(entry.path).resolve())
            if visible and entry.is_dir() and not loops:
                pending.append(here / name)
            elif visible and name[name.rfind(".") :].lower() in _SUFFIXES:
                files.append(_stamped(f"{relative}/{name}", entry))
            else:
                left_out.append(here / name)
    return sorted(files)


def _stamped(name: str, entry: os.DirEntry[str]) -> File:
    """An image file and its stamps. Raises UserError for a link that leads nowhere."""
    try:
        stat = entry.stat()
    except OSError as error:
        raise unreadable(path=Path(entry.path), error=error) from error
    return File(name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds. Raises UserError where it may not be read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"{folder} cannot be listed ({reason(error)}): give access to it or remove it") from error


def unreadable(*, path: Path, error: Exception) -> UserError:
    return UserError(f"image {path} cannot be read ({reason(error)}): delete or replace it")
