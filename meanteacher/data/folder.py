"""A user's own images: a folder per class, decoded once into `data_dir/cache` under the digest of their content."""

import hashlib
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.config.types import PositiveInt
from meanteacher.data import Dataset, Images
from meanteacher.data.cache import allocate, cached, in_parallel, reason, remembered
from meanteacher.data.datasets import fifth

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"})
_PARTS = ("train", "test", "unlabeled")
_RACY_NS = 2_000_000_000
"""A file changed less than this before it is read may change again without its time stamp showing it."""


class _File(NamedTuple):
    """One image file: its path relative to the root, and what changes when its content does."""

    name: str
    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """What a root folder holds, no file opened yet. Targets: int64, one per file of the part."""

    root: Path
    classes: list[str]
    train: list[_File]
    train_targets: np.ndarray
    test: list[_File]
    test_targets: np.ndarray
    notes: list[str]


_found: dict[tuple[str, Path], tuple[_Listing, str]] = {}
"""What `fingerprint` has found, by root and data_dir: listing a folder of many images takes most of a second start."""


def image_folder(*, root: str, data_dir: str, image_size: PositiveInt) -> Dataset:
    """Images in folders named after their classes, as RGB [3, image_size, image_size].

    root/train/<class>/*, root/test/<class>/* and, if there, root/unlabeled/* (target −1, appended to the train part).
    Without test/, and for a root that holds the class folders itself, a fixed stratified fifth is split off as the test
    part. Images are turned as their EXIF data says; those of another size are resized so that the shorter side fits,
    and cropped about the centre. Classes are sorted by name; names are paths relative to root.
    Raises UserError for a root that is missing, empty or not laid out like this, and for an image that cannot be read.
    """
    directory = Path(data_dir).expanduser().absolute()
    listing, digest = _found.pop((root, directory), None) or _find(root=root, directory=directory)

    def decode(folder: Path) -> Dataset:
        decoded = _decoded(listing=listing, folder=folder, image_size=image_size)
        now = _listed(root=root, directory=directory)
        if (now.train, now.test) != (listing.train, listing.test):
            raise UserError(f"{listing.root} has changed while its images were read: run again")
        return decoded

    dataset = cached(directory=directory, key=f"image_folder-{digest}-{image_size}", decode=decode)
    return replace(dataset, notes=listing.notes + dataset.notes)


def fingerprint(*, root: str, data_dir: str) -> str:
    """A digest (32 hex digits) of the images that `image_folder` would read: of their relative paths and their bytes.

    It is remembered in data_dir and computed anew only when a path, a size or a time stamp has changed. The next call of
    `image_folder` takes the images that were found here, so a run is named after what it trains on.
    Raises UserError as `image_folder` does, except for files that are no images.
    """
    directory = Path(data_dir).expanduser().absolute()
    _found[root, directory] = found = _find(root=root, directory=directory)
    return found[1]


def _find(*, root: str, directory: Path) -> tuple[_Listing, str]:
    """What a root holds, and its `fingerprint`."""
    listing = _listed(root=root, directory=directory)
    return listing, _digest(listing=listing, directory=directory)


def _digest(*, listing: _Listing, directory: Path) -> str:
    """`fingerprint` of a folder already listed."""
    files = sorted(listing.train + listing.test)

    def hashed(file: _File) -> bytes:
        try:
            return hashlib.blake2b((listing.root / file.name).read_bytes(), digest_size=16).digest()
        except OSError as error:
            raise _unreadable(path=listing.root / file.name, error=error) from error

    def compute() -> str:
        digest = hashlib.blake2b(digest_size=16)
        nbytes = sum(file.size for file in files)
        contents = in_parallel(function=hashed, items=files, nbytes=nbytes, title="reading")
        for file, content in zip(files, contents, strict=True):
            digest.update(os.fsencode(file.name) + b"\0" + content)
        return digest.hexdigest()

    return remembered(
        directory=directory,
        key=f"fingerprint-{_hash(str(listing.root))}",
        condition=_hash(repr(files)),
        compute=compute,
        store=max(file.mtime_ns for file in files) + _RACY_NS < time.time_ns(),
    )


def _hash(text: str) -> str:
    return hashlib.blake2b(os.fsencode(text), digest_size=16).hexdigest()


def _listed(*, root: str, directory: Path) -> _Listing:
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
    *, root: Path, train: dict[str, list[_File]], test: dict[str, list[_File]], unlabeled: list[_File]
) -> _Listing:
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
    return _Listing(
        root=root,
        classes=classes,
        train=files + unlabeled,
        train_targets=np.concatenate([targets, np.full(len(unlabeled), -1)]),
        test=test_files,
        test_targets=test_targets,
        notes=notes,
    )


def _lined_up(*, classes: list[str], files: dict[str, list[_File]]) -> tuple[list[_File], np.ndarray]:
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


def _class_files(*, root: Path, folder: Path, ignored: set[str], left_out: list[Path]) -> dict[str, list[_File]]:
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


def _scanned(*, root: Path, folder: Path, left_out: list[Path]) -> list[_File]:
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


def _stamped(name: str, entry: os.DirEntry[str]) -> _File:
    """An image file and its stamps. Raises UserError for a link that leads nowhere."""
    try:
        stat = entry.stat()
    except OSError as error:
        raise _unreadable(path=Path(entry.path), error=error) from error
    return _File(name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds. Raises UserError where it may not be read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise UserError(f"{folder} cannot be listed ({reason(error)}): give access to it or remove it") from error


def _decoded(*, listing: _Listing, folder: Path, image_size: int) -> Dataset:
    """Decodes every image into the cache folder."""
    parts, resized = {}, 0
    for part in ("train", "test"):
        files: list[_File] = getattr(listing, part)
        pixels = allocate(folder=folder, part=part, shape=(len(files), 3, image_size, image_size))

        def decode(row: int, pixels: np.ndarray = pixels, files: list[_File] = files) -> bool:
            pixels[row], changed = _image(path=listing.root / files[row].name, image_size=image_size)
            return changed

        nbytes = sum(file.size for file in files)
        resized += sum(in_parallel(function=decode, items=range(len(files)), nbytes=nbytes, title=f"decoding {part}"))
        names = [file.name for file in files]
        parts[part] = Images(pixels=pixels, targets=getattr(listing, f"{part}_targets"), names=names)
    total = len(listing.train) + len(listing.test)
    note = f"resized and centre-cropped to {image_size}×{image_size}: {resized} of {total} images"
    return Dataset(name="image_folder", classes=listing.classes, notes=[note] if resized else [], **parts)


def _image(*, path: Path, image_size: int) -> tuple[np.ndarray, bool]:
    """One file as uint8 [3, image_size, image_size], and whether it had to be resized or cropped for that.

    Transparency is dropped, 16-bit grey is scaled to 8 bits, of an animation the first frame is taken.
    Raises UserError for a file that Pillow cannot decode, whatever its decoders raise.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            ImageOps.exif_transpose(file, in_place=True)
            image = _rgb(file)
            changed = image.size != (image_size, image_size)
            if changed:
                image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BILINEAR)
            return np.asarray(image).transpose(2, 0, 1), changed
    except Exception as error:
        raise _unreadable(path=path, error=error) from error


def _rgb(image: Any) -> Any:
    """A Pillow image in RGB, 8 bits each. Raises ValueError where the range of the values is unknown."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("32 bits per pixel, convert it to 8")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _unreadable(*, path: Path, error: Exception) -> UserError:
    return UserError(f"image {path} cannot be read ({reason(error)}): delete or replace it")
