"""Decoding of image files to arrays of one size."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from meanteacher.config.errors import UserError
from meanteacher.data.cache import describe

if TYPE_CHECKING:
    from PIL import Image


def decode_image(path: Path, *, image_size: int) -> np.ndarray:
    """One image as uint8 [3, image_size, image_size]: `load_image`, then `resize_image`."""
    return resize_image(load_image(path), image_size=image_size)


def load_image(path: Path) -> "Image.Image":
    """One image in RGB with 8 bits per channel, rotated as its EXIF data says.

    Transparency is dropped, 16-bit gray values are scaled to 8 bits, and only the first frame of an animation is used.
    Raises UserError for a file that Pillow cannot decode, whatever exception its decoder raises.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            ImageOps.exif_transpose(file, in_place=True)
            return _convert_to_rgb(file)
    except Exception as error:
        raise unreadable_image(path=path, error=error) from error


def resize_image(image: "Image.Image", *, image_size: int) -> np.ndarray:
    """An RGB image as uint8 [3, image_size, image_size]: resized so that the shorter side fits, cropped at the center.

    An image of this size is left as it is.
    """
    from PIL import Image, ImageOps

    if image.size != (image_size, image_size):
        image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)


def unreadable_image(*, path: Path, error: Exception) -> UserError:
    """The error for an image file that cannot be read."""
    return UserError(f"image {path} cannot be read ({describe(error)}): delete or replace it")


def _convert_to_rgb(image: "Image.Image") -> "Image.Image":
    """Convert a Pillow image to RGB with 8 bits per channel. Raises ValueError if its range of values is unknown."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("it has 32 bits per pixel, convert it to 8")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
