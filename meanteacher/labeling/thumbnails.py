"""Small pictures of a run's images as data URIs, so that a page needs no other file."""

from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from meanteacher.config.errors import UserError
from meanteacher.data.data_uris import image_uri
from meanteacher.data.decoding import load_image
from meanteacher.labeling.run_images import Place, RunImages

SIDE = 192
"""The longest side of a thumbnail of a file in pixels; smaller images keep their size."""


def thumbnails(run: RunImages, places: list[Place]) -> list[str]:
    """A data URI for each image: of its file where there is one, or else of the pixels the run has seen."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda place: thumbnail(run, place), places))


def thumbnail(run: RunImages, place: Place) -> str:
    """The data URI of one image. The decoded pixels stand in for a file that can no longer be read."""
    file = run.file_of(place)
    try:
        image = decoded(run, place) if file is None else load_image(file)
    except UserError:
        image = decoded(run, place)
    if file is not None:
        image.thumbnail((SIDE, SIDE))
    return image_uri(image)


def decoded(run: RunImages, place: Place) -> Image.Image:
    """The pixels of an image as the run has seen them."""
    pixels = run.pixels_of(place)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
