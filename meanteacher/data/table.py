"""Data sets of your own images: a CSV table with the path and the class of each image."""

from pathlib import Path

from pydantic import Field

from meanteacher.config.types import Annotated, Literal, Resize
from meanteacher.data.images import Dataset
from meanteacher.data.own_images import Lister, Reading, cache_key, digest_with_labels, load_listed
from meanteacher.data.table_listing import list_table

_lister = Lister(lambda file, directory: list_table(file))


def table(
    *,
    file: str | None,
    data_dir: str,
    image_size: Annotated[int, Field(ge=1, le=4096)],
    resize: Resize,
    broken: Literal["error", "skip"],
    exclude_duplicates: Literal["none", "exact", "near"],
) -> Dataset:
    """Load the images that a CSV table names, as RGB [3, image_size, image_size].

    The table has the columns path, label and, optionally, part: `train`, `test` or `unlabeled`. Paths are absolute or
    relative to the table's folder. An image without a label is unlabeled (target −1). Without a test part, a fixed
    stratified fifth of the labeled images becomes the test part. Classes are sorted by name. Within each part, images
    are sorted by their names, which are their paths relative to the table's folder. The other arguments are those of
    `meanteacher.data.own_images.Reading`. New labels for images of the training part do not decode them again.
    Raises UserError for a file that is no such table, and for images that cannot be read.
    """
    directory = Path(data_dir).expanduser().absolute()
    listing, digest = _lister.take(file, directory)
    return load_listed(
        name="table",
        listing=listing,
        read=lambda image: listing.root / image.name,
        key=cache_key("table", digest, listing),
        directory=directory,
        reading=Reading(image_size=image_size, resize=resize, broken=broken, exclude_duplicates=exclude_duplicates),
        list_again=lambda: _lister.list_place(file, directory),
    )


def fingerprint(*, file: str | None, data_dir: str) -> str:
    """A digest (32 hexadecimal digits) of the images that `table` would load: of their names, bytes, classes and parts.

    The next call of `table` uses the table as read here. Raises UserError as `table` does, except for files that are
    not images.
    """
    listing, digest = _lister.keep(file, Path(data_dir).expanduser().absolute())
    return digest_with_labels(digest, listing)
