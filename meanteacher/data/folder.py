"""Data sets of your own images: one folder per class, decoded once and cached under a digest of the images."""

from pathlib import Path

from pydantic import Field

from meanteacher.config.types import Annotated, Literal, Resize
from meanteacher.data.folder_listing import list_images
from meanteacher.data.images import Dataset
from meanteacher.data.own_images import Lister, Reading, load_listed

_lister = Lister(lambda root, directory: list_images(root=root, directory=directory))


def image_folder(
    *,
    root: str | None,
    data_dir: str,
    image_size: Annotated[int, Field(ge=1, le=4096)],
    resize: Resize,
    broken: Literal["error", "skip"],
    exclude_duplicates: Literal["none", "exact", "near"],
) -> Dataset:
    """Load images from folders named after their classes, as RGB [3, image_size, image_size].

    The layout is root/train/<class>/*, root/test/<class>/* and, optionally, root/unlabeled/* (target −1, appended to
    the training part). Without test/, or if root itself contains the class folders, a fixed stratified fifth becomes
    the test part. Classes are sorted by name; the images' names are paths relative to root. The other arguments are
    those of `meanteacher.data.own_images.Reading`.
    Raises UserError if root is missing, empty or has another layout, and for images that cannot be read.
    """
    directory = Path(data_dir).expanduser().absolute()
    listing, digest = _lister.take(root, directory)
    return load_listed(
        name="image_folder",
        listing=listing,
        read=lambda file: listing.root / file.name,
        key=f"image_folder-{digest}",
        directory=directory,
        reading=Reading(image_size=image_size, resize=resize, broken=broken, exclude_duplicates=exclude_duplicates),
        list_again=lambda: _lister.list_place(root, directory),
    )


def fingerprint(*, root: str | None, data_dir: str) -> str:
    """A digest (32 hexadecimal digits) of the images that `image_folder` would load: of their relative paths and bytes.

    It is stored in data_dir and recomputed only if a path, a size or a time stamp has changed. The next call of
    `image_folder` uses the files listed here, so a run trains on the images that its name was derived from.
    Raises UserError as `image_folder` does, except for files that are not images.
    """
    _, digest = _lister.keep(root, Path(data_dir).expanduser().absolute())
    return digest
