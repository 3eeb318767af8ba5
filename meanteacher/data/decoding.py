"""Decoding of image files to arrays of one size."""

import errno
import functools
import io
import textwrap
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.config.files import stat_regular_file
from meanteacher.config.types import Resize
from meanteacher.data.cache import describe

if TYPE_CHECKING:
    from PIL import Image


Source: TypeAlias = "str | Path | bytes | Image.Image"
"""Where an image is: a path, the bytes of a file, or an image of Pillow."""


def decode_image(source: Source, *, image_size: int, resize: Resize) -> np.ndarray:
    """One image as uint8 [3, image_size, image_size]: `load_image`, then `resize_image`."""
    return resize_image(load_image(source), image_size=image_size, resize=resize)


def load_image(source: Source) -> "Image.Image":
    """One image in RGB with 8 bits per channel, as `read_image` returns it.

    Raises UserError for anything that cannot be decoded, whatever exception Pillow's decoder raises.
    """
    try:
        return read_image(source)
    except Exception as error:
        name = f"image {source}" if isinstance(source, str | Path) else "an image in memory"
        raise UserError(f"{name} cannot be read ({describe_failure(error)}): delete or replace it") from error


def read_image(source: Source) -> "Image.Image":
    """One image in RGB with 8 bits per channel, rotated as its EXIF data says. A Pillow image is not changed.

    Transparency is dropped: the colors that are stored for transparent pixels are used. Values of 16 bits are scaled to
    8 bits. Of an animation, the first frame is used. Raises any exception for what Pillow cannot decode, for an image
    of more than 179 million pixels, for one of 32 bits per channel, whose range of values is unknown, for a PostScript
    program, and for a path that is not a regular file, such as a device or a pipe. Exceptions with an `errno` come from
    the storage.
    """
    from PIL import Image, ImageOps

    silence_warnings()
    if isinstance(source, Image.Image):
        _refuse_programs(source)
        return _convert_to_rgb(ImageOps.exif_transpose(source))
    if isinstance(source, str | Path) and not stat_regular_file(source).st_size:
        raise ValueError("it is empty")
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            _refuse_programs(file)
            ImageOps.exif_transpose(file, in_place=True)
            return _convert_to_rgb(file)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise ValueError("it refers to a place that is not in the file") from error
        raise


def resize_image(image: "Image.Image", *, image_size: int | tuple[int, int], resize: Resize) -> np.ndarray:
    """An RGB image as uint8 [3, height, width], resized bilinearly; one of this size is left as it is.

    image_size: height and width, or one number for both. resize: what happens to images of other proportions. `crop`:
    the shorter side fits, and the center is kept; `squash`: each side is resized by itself; `pad`: the longer side
    fits, and black is added on both sides of the other.
    """
    from PIL import Image, ImageOps

    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    size = (width, height)
    if image.size == size:
        pass
    elif resize == "crop":
        image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    elif resize == "squash":
        image = image.resize(size, Image.Resampling.BILINEAR)
    else:
        scale = min(width / image.width, height / image.height)
        inner = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        resized, image = image.resize(inner, Image.Resampling.BILINEAR), Image.new("RGB", size)
        image.paste(resized, ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.asarray(image).transpose(2, 0, 1)


def describe_failure(error: Exception) -> str:
    """Why an image cannot be read, in a few words."""
    from PIL import Image, UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of an unknown format"
    if isinstance(error, Image.DecompressionBombError):
        return "more than 179 million pixels"
    return textwrap.shorten(describe(error), 100)


@functools.cache
def silence_warnings() -> None:
    """Let Pillow not warn of large images, of which it refuses those of more than 179 million pixels, and of EXIF data.

    Damaged EXIF data is left out; it is common in photos from the web, and would fill the terminal.
    """
    from PIL import Image

    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")


def _refuse_programs(image: "Image.Image") -> None:
    """Raise ValueError for a file in PostScript, whatever its suffix: Pillow would let Ghostscript run it."""
    if image.format == "EPS":
        raise ValueError("it is a program in PostScript, convert it to PNG")


def _convert_to_rgb(image: "Image.Image") -> "Image.Image":
    """Convert a Pillow image to RGB with 8 bits per channel. Raises ValueError if its range of values is unknown."""
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("it has 32 bits per pixel, convert it to 8")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
