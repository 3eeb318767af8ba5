"""Lists the images of an image folder and checks its layout, without opening an image."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.data.cache import describe
from meanteacher.data.decoding import unreadable_image
from meanteacher.data.splits import hold_out_fifth

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})
_PARTS = ("train", "test", "unlabeled")


class ImageFile(NamedTuple):
    """An image file: its path relative to the root, and attributes that change when its content does."""

    name: str
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The images below a root folder. Targets: int64, one per file of the part, −1 for unlabeled images."""

    root: Path
    classes: list[str]
    train: list[ImageFile]
    train_targets: np.ndarray
    test: list[ImageFile]
    test_targets: np.ndarray
    notes: list[str]


def list_images(*, root: str | None, directory: Path) -> Listing:
    """List the images of all parts and check the layout. `directory` (data_dir) may be root or a folder inside it.

    Raises UserError if root is missing, empty or has another layout than `image_folder` describes.
    """
    top = _resolve_root(root)
    ignored = {str(top / "unlabeled"), str(directory / "cache")}
    has_train, has_test, has_unlabeled = ((top / part).is_dir() for part in _PARTS)
    if has_test and not has_train:
        raise UserError(f"{top} has a test folder but no train folder: expected train/<class>/*, test/<class>/*")
    skipped: list[Path] = []
    train = _list_classes(root=top, folder=top / "train" if has_train else top, ignored=ignored, skipped=skipped)
    if len(train) < 2:
        raise UserError(
            f"{top} has one class only ({next(iter(train))}), but at least two are needed: "
            "root must be the folder that contains train/<class>/* or <class>/*"
        )
    test = _list_classes(root=top, folder=top / "test", ignored=ignored, skipped=skipped) if has_test else {}
    unlabeled = _list_files(root=top, folder=top / "unlabeled", skipped=skipped) if has_unlabeled else []
    listing = _assign_targets(root=top, train=train, test=test, unlabeled=unlabeled)
    others = [path.name for path in _subfolders(top) if path.name not in _PARTS and str(path) not in ignored]
    if has_train and others:
        listing.notes.append(f"folders beside train/ skipped: {', '.join(others)}")
    if has_unlabeled and not unlabeled:
        listing.notes.append("unlabeled/ contains no images")
    if skipped:
        listing.notes.append(f"files skipped: {len(skipped)} (hidden, no image suffix, or not in a class folder)")
    return listing


def _assign_targets(
    *, root: Path, train: dict[str, list[ImageFile]], test: dict[str, list[ImageFile]], unlabeled: list[ImageFile]
) -> Listing:
    """Number the classes and concatenate their files; without a test part, hold out a fifth of the training part."""
    classes = sorted(train)
    if unknown := sorted(test.keys() - train.keys()):
        raise UserError(
            f"{root / 'test'} has classes that train lacks: {', '.join(unknown)}; add them to train or delete them"
        )
    notes = []
    files, targets = _concatenate(classes=classes, files=train)
    test_files, test_targets = _concatenate(classes=classes, files=test)
    if not test:
        held_out = hold_out_fifth(names=[file.name for file in files], targets=targets)
        if not held_out.any():
            raise UserError(
                f"{root} has no test folder and one image per class, so none can be held out: add more images"
            )
        notes.append(f"there is no test folder: a fixed fifth of each class ({held_out.sum()} images) is the test part")
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


def _concatenate(*, classes: list[str], files: dict[str, list[ImageFile]]) -> tuple[list[ImageFile], np.ndarray]:
    """All files, class after class, and their targets, int64 [N]."""
    counts = [len(files.get(name, ())) for name in classes]
    return [file for name in classes for file in files.get(name, ())], np.repeat(np.arange(len(classes)), counts)


def _resolve_root(root: str | None) -> Path:
    """The root folder as an absolute path. Raises UserError if it is not set, missing or a file."""
    if not root:
        raise UserError(
            "dataset.root is not set: use dataset.root=DIR with the folder that contains train/<class>/* or <class>/*"
        )
    path = Path(root).expanduser().absolute()
    if os.path.isfile(path):
        raise UserError(f"dataset.root={path} is a file, not a folder: unpack it, or use the folder that contains it")
    if not os.path.isdir(path):
        parent = next(parent for parent in path.parents if os.path.isdir(parent))
        raise UserError(f"dataset.root={path} does not exist (its nearest existing parent folder: {parent})")
    return path


def _list_classes(*, root: Path, folder: Path, ignored: set[str], skipped: list[Path]) -> dict[str, list[ImageFile]]:
    """The files of each class in `folder`, sorted by name. Raises UserError for a class without images."""
    paths = [path for path in _subfolders(folder) if str(path) not in ignored]
    class_files = {path.name: _list_files(root=root, folder=path, skipped=skipped) for path in paths}
    if not any(class_files.values()):
        raise UserError(
            f"{folder} has no images in class folders: expected <class>/<image> in it, "
            f"with one of the suffixes {' '.join(sorted(_SUFFIXES))}"
        )
    for name, files in class_files.items():
        if not files:
            raise UserError(f"class folder {folder / name} contains no images: add some or delete the folder")
    skipped.extend(folder / entry.name for entry in _scan(folder) if not entry.is_dir())
    return class_files


def _subfolders(folder: Path) -> list[Path]:
    """The folders in a folder except hidden ones, sorted by name."""
    names = sorted(entry.name for entry in _scan(folder) if entry.is_dir() and not entry.name.startswith("."))
    return [folder / name for name in names]


def _list_files(*, root: Path, folder: Path, skipped: list[Path]) -> list[ImageFile]:
    """The image files in a folder at any depth, sorted by name; other files are appended to `skipped`."""
    files, pending = [], [folder]
    while pending:
        current = pending.pop()
        relative = current.relative_to(root).as_posix()
        for entry in _scan(current):
            name = entry.name
            visible = not name.startswith(".")
            loops = entry.is_symlink() and current.resolve().is_relative_to(Path(entry.path).resolve())
            if visible and entry.is_dir() and not loops:
                pending.append(current / name)
            elif visible and name[name.rfind(".") :].lower() in _SUFFIXES:
                files.append(_stat_image(f"{relative}/{name}", entry))
            else:
                skipped.append(current / name)
    return sorted(files)


def _stat_image(name: str, entry: os.DirEntry[str]) -> ImageFile:
    """An image file with its size and time stamps. Raises UserError for a broken link."""
    try:
        stat = entry.stat()
    except OSError as error:
        raise unreadable_image(path=Path(entry.path), error=error) from error
    return ImageFile(name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder. Raises UserError if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"{folder} cannot be listed ({describe(error)}): make it readable or remove it") from error
