"""Loading of the images of a listing: hashed, decoded once, cached, and without those that cannot be decoded."""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.config.files import write_atomically
from meanteacher.config.types import Literal, Resize
from meanteacher.data.cache import allocate, describe, keep_rows, load_or_compute, load_or_decode, map_in_threads
from meanteacher.data.decoding import Source, describe_failure, read_image, resize_image
from meanteacher.data.duplicates import handle_duplicates
from meanteacher.data.images import Dataset, Images
from meanteacher.data.listing import MOST_SHOWN, ImageFile, Listing, shorten

_RACY_NS = 2_000_000_000
"""A file that was changed less than this long before it is read may change again within the same time stamp."""

_RESIZED = {"crop": "resized and center-cropped to", "squash": "squashed to", "pad": "resized and padded to"}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How images are read. Arguments of every data set of your own.

    image_size, resize: see `meanteacher.data.decoding.resize_image`. broken: what to do about images that cannot be
    decoded: `error` names them, `skip` leaves them out. exclude_duplicates: leave out the images of the training part
    that duplicate a test image, after resizing: those with the same pixels (`exact`), or also those that look the same
    (`near`, see `meanteacher.data.duplicates`).
    """

    image_size: int
    resize: Resize
    broken: Literal["error", "skip"]
    exclude_duplicates: Literal["none", "exact", "near"]


class Lister:
    """Lists and hashes the images of a place, and keeps what `fingerprint` has listed for the loader that follows.

    Listing a folder of many images takes most of the time of a start with a filled cache.
    list_place: a function from a place, such as a folder or a table, and data_dir to the images there.
    """

    def __init__(self, list_place: Callable[[str | None, Path], Listing]):
        self.list_place = list_place
        self.kept: dict[tuple[str | None, Path], tuple[Listing, str]] = {}

    def list_and_hash(self, place: str | None, directory: Path) -> tuple[Listing, str]:
        """The images of a place and the digest of their names and bytes."""
        listing = self.list_place(place, directory)
        location = str(Path(place).expanduser().absolute())
        files = listing.train + listing.test
        return listing, hash_files(root=listing.root, files=files, directory=directory, location=location)

    def keep(self, place: str | None, directory: Path) -> tuple[Listing, str]:
        """`list_and_hash`; the next call of `take` returns the same."""
        self.kept[place, directory] = self.list_and_hash(place, directory)
        return self.kept[place, directory]

    def take(self, place: str | None, directory: Path) -> tuple[Listing, str]:
        """What `keep` has kept, once; otherwise `list_and_hash`."""
        return self.kept.pop((place, directory), None) or self.list_and_hash(place, directory)


def load_listed(
    *,
    name: str,
    listing: Listing,
    read: Callable[[ImageFile], Source],
    key: str,
    directory: Path,
    reading: Reading,
    list_again: Callable[[], Listing] | None,
) -> Dataset:
    """Decode the images of a listing, or load them from directory/cache.

    read: a function from a file of the listing to what `read_image` takes. key: the name of the cache, which must
    change with the images and with the parts that they belong to; it need not change with their classes. list_again:
    lists the images anew after they were decoded, to find out whether they have changed.
    Raises UserError for images that cannot be read, as `reading` says, and if there is not enough room for all.
    """

    def decode(folder: Path) -> Dataset:
        dataset = _decode_listing(name=name, listing=listing, read=read, folder=folder, reading=reading)
        if list_again is not None:
            now = list_again()
            if (now.train, now.test) != (listing.train, listing.test):
                raise UserError(f"{listing.root} changed while its images were read: run again")
        return dataset

    key += f"-{reading.image_size}" + ("" if reading.resize == "crop" else f"-{reading.resize}")
    dataset = load_or_decode(directory=directory, key=key, decode=decode)
    broken = listing.broken | dataset.broken
    if broken and reading.broken == "error":
        raise _refuse_broken(broken, listing, directory / "cache" / f"{key}.broken.txt")
    dataset = _assign_targets(dataset, listing)
    dataset = handle_duplicates(dataset, directory=directory, key=key, exclude=reading.exclude_duplicates)
    note = f"broken images left out: {len(broken)} ({shorten(sorted(broken))}); split.json gives the reasons"
    notes = listing.notes + ([note] if broken else []) + dataset.notes
    return replace(_assign_targets(dataset, listing), notes=notes, broken=broken)


def hash_files(*, root: Path, files: list[ImageFile], directory: Path, location: str) -> str:
    """A digest (32 hexadecimal digits) of the names and the bytes of files, whose names are relative to root.

    It is stored in directory/cache and recomputed only if a name, a size or a time stamp has changed. location: names
    these files among others of this directory. Raises UserError if files cannot be read.
    """
    files = sorted(files)
    failures: list[str] = []

    def hash_file(file: ImageFile) -> bytes:
        try:
            with open(root / file.name, "rb") as content:
                return hashlib.file_digest(content, lambda: hashlib.blake2b(digest_size=16)).digest()
        except OSError as error:
            failures.append(f"{root / file.name} ({describe(error)})")
            return b""

    def compute() -> str:
        digest = hashlib.blake2b(digest_size=16)
        nbytes = sum(file.size for file in files)
        contents = map_in_threads(function=hash_file, items=files, nbytes=nbytes, title="reading")
        if failures:
            raise UserError(f"images cannot be read: {shorten(sorted(failures))}; make them readable or delete them")
        for file, content in zip(files, contents, strict=True):
            digest.update(os.fsencode(file.name) + b"\0" + content)
        return digest.hexdigest()

    return load_or_compute(
        directory=directory,
        key=f"fingerprint-{hash_text(location)}",
        condition=hash_text(repr(files)),
        compute=compute,
        store=max(file.mtime_ns for file in files) + _RACY_NS < time.time_ns(),
    )


def digest_with_labels(digest: str, listing: Listing) -> str:
    """A digest of images, whose own digest is given, and of the classes and parts that a listing puts them into."""
    parts = [
        [file.name for file in listing.train],
        listing.train_targets.tolist(),
        [file.name for file in listing.test],
        listing.test_targets.tolist(),
    ]
    return hash_text(repr((digest, listing.classes, parts)))


def cache_key(name: str, digest: str, listing: Listing) -> str:
    """The name of a cache of images, whose digest is given; it changes with the test part, but not with classes."""
    return f"{name}-{hash_text(repr((digest, [file.name for file in listing.test])))}"


def hash_text(text: str) -> str:
    """A digest of a text: 32 hexadecimal digits."""
    return hashlib.blake2b(os.fsencode(text), digest_size=16).hexdigest()


def _decode_listing(
    *, name: str, listing: Listing, read: Callable[[ImageFile], Source], folder: Path, reading: Reading
) -> Dataset:
    """Decode all images into the cache folder `folder`; those that cannot be decoded are left out."""
    total, side = len(listing.train) + len(listing.test), reading.image_size
    _check_room(total * 3 * side**2, folder, side)
    files, pixels, outcomes = {"train": listing.train, "test": listing.test}, {}, {}
    for part in files:
        pixels[part] = allocate(folder=folder, part=part, shape=(len(files[part]), 3, side, side))
        outcomes[part] = _decode_files(
            files[part], read=read, pixels=pixels[part], reading=reading, title=f"decoding {part}"
        )
    all_outcomes = list(zip(files["train"] + files["test"], outcomes["train"] + outcomes["test"], strict=True))
    broken = {file.name: outcome for file, outcome in all_outcomes if isinstance(outcome, str)}
    parts = {}
    for part in files:
        rows = np.array([row for row, file in enumerate(files[part]) if file.name not in broken], np.int64)
        if len(rows) < len(files[part]):
            _check_classes(listing, part, rows, broken)
            pixels[part] = keep_rows(folder=folder, part=part, pixels=pixels[part], rows=rows)
        targets, names = getattr(listing, f"{part}_targets")[rows], [files[part][row].name for row in rows]
        parts[part] = Images(pixels=pixels[part], targets=targets, names=names)
    resized = sum(outcome is True for _, outcome in all_outcomes)
    note = f"{_RESIZED[reading.resize]} {side}×{side}: {resized} of {total} images"
    return Dataset(name=name, classes=listing.classes, notes=[note] if resized else [], broken=broken, **parts)


def _decode_files(
    files: list[ImageFile], *, read: Callable[[ImageFile], Source], pixels: np.ndarray, reading: Reading, title: str
) -> list[bool | str]:
    """Decode files into `pixels`, uint8 [N, 3, S, S]. Returns for each whether it was resized, or why it is broken.

    Raises UserError if the storage fails or memory is exhausted, which says nothing about the image.
    """

    def decode(row: int) -> bool | str:
        try:
            image = read_image(read(files[row]))
            pixels[row] = resize_image(image, image_size=reading.image_size, resize=reading.resize)
            return image.size != (reading.image_size, reading.image_size)
        except Exception as error:
            if isinstance(error, MemoryError) or getattr(error, "errno", None):
                raise UserError(f"image {files[row].name} cannot be read ({describe(error)}): run again") from error
            return describe_failure(error)

    nbytes = sum(file.size for file in files)
    return map_in_threads(function=decode, items=range(len(files)), nbytes=nbytes, title=title)


def _check_room(needed: int, folder: Path, image_size: int) -> None:
    """Raise UserError if the disk has not enough room for `needed` bytes of decoded images."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        unit, name, digits = (2**30, "GiB", 1) if needed > 2**28 else (2**20, "MiB", 2)
        taken, left = f"{needed / unit:.{digits}f} {name}", f"{free / unit:.{digits}f} {name}"
        sizes = f"the decoded images take {taken}, but {folder.parent} has {left} left"
        raise UserError(
            f"dataset.image_size={image_size}: {sizes}; make room, or use a smaller image_size or another data_dir"
        )


def _check_classes(listing: Listing, part: str, rows: np.ndarray, broken: dict[str, str]) -> None:
    """Raise UserError if no image is left of the test part, or of a class of the training part. rows: those left."""
    targets = getattr(listing, f"{part}_targets")
    needed = np.unique(targets[targets >= 0])
    lost = np.setdiff1d(needed, targets[rows])
    if len(lost) and (part == "train" or len(lost) == len(needed)):
        classes = shorten([listing.classes[target] for target in lost])
        names = shorten([f"{listing.root / name} cannot be read ({reason})" for name, reason in sorted(broken.items())])
        raise UserError(f"no image in the {part} part of {classes} is left: {names}: add readable images")


def _refuse_broken(broken: dict[str, str], listing: Listing, file: Path) -> UserError:
    """The error that names all broken images; `file` gets the full list where a line cannot hold it."""
    if len(broken) == 1:
        ((name, reason),) = broken.items()
        advice = "delete or replace it, or leave it out with dataset.broken=skip"
        return UserError(f"image {shorten([str(listing.root / name)])} cannot be read ({reason}): {advice}")
    lines = [f"{name} ({reason})" for name, reason in sorted(broken.items())]
    shown = shorten(lines)
    if len(lines) > MOST_SHOWN:
        write_atomically(file, "\n".join(lines) + "\n")
        shown += f", all listed in {file}"
    advice = "delete or replace them, or leave them out with dataset.broken=skip"
    return UserError(f"{listing.root}: {len(broken)} images cannot be read: {shown}: {advice}")


def _assign_targets(dataset: Dataset, listing: Listing) -> Dataset:
    """The data set with the classes and targets of a listing: those in a cache may be older."""

    def assign(images: Images, part: str) -> Images:
        targets = dict(zip((f.name for f in getattr(listing, part)), getattr(listing, f"{part}_targets"), strict=True))
        return replace(images, targets=np.array([targets[name] for name in images.names], np.int64))

    return replace(
        dataset,
        classes=listing.classes,
        train=assign(dataset.train, "train"),
        test=assign(dataset.test, "test"),
    )
