"""Reads every image once, in threads: its size, format, content and whether it can be decoded."""

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from meanteacher.config.files import stat_regular_file
from meanteacher.data.cache import map_in_threads
from meanteacher.data.decoding import describe_failure, read_image, resize_image, silence_warnings
from meanteacher.inspection.sources import Source

if TYPE_CHECKING:
    from PIL import Image

SIDE = 32
"""Side of the small images in which near copies are found, in pixels."""

ORIENTATION = 0x0112
"""The tag of EXIF that says how an image is to be turned when it is shown; 1 and missing mean not at all."""


@dataclass(frozen=True)
class ImageFacts:
    """What one file is. content: a digest of its bytes, empty for a file that cannot be read.

    width, height: in pixels, after turning as the EXIF data says; format, mode: Pillow's names. All four are of the
    file's header: 0 and empty where even that cannot be read. error: why it cannot be decoded, or None.
    """

    content: bytes = b""
    width: int = 0
    height: int = 0
    format: str = ""
    mode: str = ""
    turned: bool = False
    error: str | None = None


def read_images(source: Source) -> tuple[list[ImageFacts], np.ndarray]:
    """The facts of every image, and small ones, uint8 [N, 3, SIDE, SIDE], zeros for broken ones.

    Shows a progress bar on a terminal.
    """
    small = np.zeros((len(source.files), 3, SIDE, SIDE), np.uint8)

    def read(row: int) -> ImageFacts:
        facts, image = read_facts(source.path(row))
        if image is not None:
            small[row] = resize_image(image, image_size=SIDE, resize="crop")
        return facts

    nbytes = sum(file.size for file in source.files)
    rows = range(len(source.files))
    return map_in_threads(function=read, items=rows, nbytes=nbytes, title="inspecting"), small


def read_facts(path: Path) -> tuple[ImageFacts, "Image.Image | None"]:
    """The facts of one file and its pixels in RGB, at least `SIDE` pixels wide and high; None for a broken one."""
    from PIL import Image

    silence_warnings()
    known = {}
    try:
        stat_regular_file(path)
        data = path.read_bytes()
        known["content"] = hashlib.blake2b(data, digest_size=16).digest()
        if not data:
            raise ValueError("it is empty")
        with Image.open(BytesIO(data)) as file:
            orientation = file.getexif().get(ORIENTATION, 1)
            width, height = file.size if orientation < 5 else file.size[::-1]
            known |= {"width": width, "height": height, "format": file.format, "mode": file.mode}
            known["turned"] = orientation != 1
            return ImageFacts(**known), reduce_image(file, SIDE)
    except Exception as error:
        return ImageFacts(**known, error=describe_failure(error)), None


def reduce_image(file: "Image.Image", side: int) -> "Image.Image":
    """The image in RGB as training reads it; JPEG files are decoded at a fraction of their size, at least `side`.

    The decoder still reads the whole file, so it also finds what is broken, and raises any exception.
    """
    file.draft("RGB", (side, side))
    return read_image(file)
