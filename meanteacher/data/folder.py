"""A user's own images: a folder per class, decoded once into `data_dir/cache` under the digest of their content."""

import hashlib
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.config.types import PositiveInt
from meanteacher.data import Dataset, Images
from meanteacher.data.cache import allocate, cached, in_parallel, remembered
from meanteacher.data.folder_listing import File, Listing, list_images, unreadable

_RACY_NS = 2_000_000_000
"""A file changed less than this before it is read may change again without its time stamp showing it."""


_found: dict[tuple[str, Path], tuple[Listing, str]] = {}
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
        now = list_images(root=root, directory=directory)
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


def _find(*, root: str, directory: Path) -> tuple[Listing, str]:
    """What a root holds, and its `fingerprint`."""
    listing = list_images(root=root, directory=directory)
    return listing, _digest(listing=listing, directory=directory)


def _digest(*, listing: Listing, directory: Path) -> str:
    """`fingerprint` of a folder already listed."""
    files = sorted(listing.train + listing.test)

    def hashed(file: File) -> bytes:
        try:
            return hashlib.blake2b((listing.root / file.name).read_bytes(), digest_size=16).digest()
        except OSError as error:
            raise unreadable(path=listing.root / file.name, error=error) from error

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


def _decoded(*, listing: Listing, folder: Path, image_size: int) -> Dataset:
    """Decodes every image into the cache folder."""
    parts, resized = {}, 0
    for part in ("train", "test"):
        files: list[File] = getattr(listing, part)
        pixels = allocate(folder=folder, part=part, shape=(len(files), 3, image_size, image_size))

        def decode(row: int, pixels: np.ndarray = pixels, files: list[File] = files) -> bool:
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
        raise unreadable(path=path, error=error) from error


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
