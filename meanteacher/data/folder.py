"""Data sets of your own images: one folder per class, decoded once and cached under a digest of the images."""

import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import Field

from meanteacher.config.errors import UserError
from meanteacher.config.types import Annotated, Literal, Resize
from meanteacher.data.cache import allocate, load_or_compute, load_or_decode, map_in_threads
from meanteacher.data.decoding import load_image, resize_image, unreadable_image
from meanteacher.data.duplicates import handle_duplicates
from meanteacher.data.folder_listing import ImageFile, Listing, list_images
from meanteacher.data.images import Dataset, Images

_RESIZED = {"crop": "resized and center-cropped to", "squash": "squashed to", "pad": "resized and padded to"}

_RACY_NS = 2_000_000_000
"""A file that was changed less than this long before it is read may change again within the same time stamp."""

_listings: dict[tuple[str, Path], tuple[Listing, str]] = {}
"""Listings and digests kept by `fingerprint` for the next `image_folder`, by root and data_dir.

Listing a folder of many images takes most of the time of a start with a filled cache.
"""


def image_folder(
    *,
    root: str | None,
    data_dir: str,
    image_size: Annotated[int, Field(ge=1, le=4096)],
    resize: Resize,
    exclude_duplicates: Literal["none", "exact", "near"],
) -> Dataset:
    """Load images from folders named after their classes, as RGB [3, image_size, image_size].

    The layout is root/train/<class>/*, root/test/<class>/* and, optionally, root/unlabeled/* (target −1, appended to
    the training part). Without test/, or if root itself contains the class folders, a fixed stratified fifth becomes
    the test part. Images are decoded by `meanteacher.data.decoding`. Classes are sorted by name; the images' names are
    paths relative to root.
    exclude_duplicates: leave out the images of the training part that duplicate a test image, after resizing: those
    with the same pixels (`exact`), or also those that look the same (`near`, see `meanteacher.data.duplicates`).
    Raises UserError if root is missing, empty or has another layout, and for an image that cannot be read.
    """
    directory = Path(data_dir).expanduser().absolute()
    listing, digest = _listings.pop((root, directory), None) or _list_and_hash(root=root, directory=directory)

    def decode(folder: Path) -> Dataset:
        dataset = _decode_images(listing=listing, folder=folder, image_size=image_size, resize=resize)
        now = list_images(root=root, directory=directory)
        if (now.train, now.test) != (listing.train, listing.test):
            raise UserError(f"{listing.root} changed while its images were read: run again")
        return dataset

    key = f"image_folder-{digest}-{image_size}" + ("" if resize == "crop" else f"-{resize}")
    dataset = load_or_decode(directory=directory, key=key, decode=decode)
    dataset = handle_duplicates(dataset, directory=directory, key=key, exclude=exclude_duplicates)
    return replace(dataset, notes=listing.notes + dataset.notes)


def fingerprint(*, root: str | None, data_dir: str) -> str:
    """A digest (32 hexadecimal digits) of the images that `image_folder` would load: of their relative paths and bytes.

    It is stored in data_dir and recomputed only if a path, a size or a time stamp has changed. The next call of
    `image_folder` uses the files listed here, so a run trains on the images that its name was derived from.
    Raises UserError as `image_folder` does, except for files that are not images.
    """
    directory = Path(data_dir).expanduser().absolute()
    listing, digest = _list_and_hash(root=root, directory=directory)
    _listings[root, directory] = listing, digest
    return digest


def _list_and_hash(*, root: str | None, directory: Path) -> tuple[Listing, str]:
    """The images below root and their digest."""
    listing = list_images(root=root, directory=directory)
    return listing, _compute_digest(listing=listing, directory=directory)


def _compute_digest(*, listing: Listing, directory: Path) -> str:
    """The digest that `fingerprint` returns, for a folder that is already listed."""
    files = sorted(listing.train + listing.test)

    def hash_file(file: ImageFile) -> bytes:
        try:
            return hashlib.blake2b((listing.root / file.name).read_bytes(), digest_size=16).digest()
        except OSError as error:
            raise unreadable_image(path=listing.root / file.name, error=error) from error

    def compute() -> str:
        digest = hashlib.blake2b(digest_size=16)
        nbytes = sum(file.size for file in files)
        contents = map_in_threads(function=hash_file, items=files, nbytes=nbytes, title="reading")
        for file, content in zip(files, contents, strict=True):
            digest.update(os.fsencode(file.name) + b"\0" + content)
        return digest.hexdigest()

    return load_or_compute(
        directory=directory,
        key=f"fingerprint-{_hash_text(str(listing.root))}",
        condition=_hash_text(repr(files)),
        compute=compute,
        store=max(file.mtime_ns for file in files) + _RACY_NS < time.time_ns(),
    )


def _hash_text(text: str) -> str:
    return hashlib.blake2b(os.fsencode(text), digest_size=16).hexdigest()


def _decode_images(*, listing: Listing, folder: Path, image_size: int, resize: Resize) -> Dataset:
    """Decode all images into the cache folder `folder`."""
    parts, resized = {}, 0
    for part in ("train", "test"):
        files: list[ImageFile] = getattr(listing, part)
        pixels = allocate(folder=folder, part=part, shape=(len(files), 3, image_size, image_size))

        def decode(row: int, pixels: np.ndarray = pixels, files: list[ImageFile] = files) -> bool:
            image = load_image(listing.root / files[row].name)
            pixels[row] = resize_image(image, image_size=image_size, resize=resize)
            return image.size != (image_size, image_size)

        nbytes = sum(file.size for file in files)
        resized += sum(
            map_in_threads(function=decode, items=range(len(files)), nbytes=nbytes, title=f"decoding {part}")
        )
        names = [file.name for file in files]
        parts[part] = Images(pixels=pixels, targets=getattr(listing, f"{part}_targets"), names=names)
    total = len(listing.train) + len(listing.test)
    note = f"{_RESIZED[resize]} {image_size}×{image_size}: {resized} of {total} images"
    return Dataset(name="image_folder", classes=listing.classes, notes=[note] if resized else [], **parts)
