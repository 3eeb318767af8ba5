"""Small pictures of a run's images as data URIs, so that a page needs no other file."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from meanteacher.config.errors import UserError
from meanteacher.data.cache import make_reader
from meanteacher.data.decoding import load_image
from meanteacher.labeling.run_images import RunImages

SIDE = 192
"""The longer side of a thumbnail in pixels; smaller images keep their size."""


def thumbnails(run: RunImages, positions: np.ndarray) -> list[str]:
    """A data URI for each training image: of its file where there is one, or else of the pixels the run trained on.

    positions: int64 [n].
    """
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda position: thumbnail(run, int(position)), positions))


def thumbnail(run: RunImages, position: int) -> str:
    """The data URI of one training image. A file that cannot be read any more is replaced by the decoded pixels."""
    if run.files:
        try:
            image = load_image(run.files[position])
        except UserError:
            image = decoded(run, position)
        image.thumbnail((SIDE, SIDE))
    else:
        image = decoded(run, position)
    lossless = max(image.size) <= 64
    content = io.BytesIO()
    image.save(content, "PNG" if lossless else "JPEG", quality=85)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def decoded(run: RunImages, position: int) -> Image.Image:
    """The pixels of a training image as the run has seen them."""
    pixels = make_reader(run.data.train.pixels)(np.array([position]))[0]
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
