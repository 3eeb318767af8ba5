"""Images as data URIs, so that a page of HTML needs no other file."""

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

LOSSLESS_SIDE = 64
"""Images whose longer side has at most this many pixels are stored as PNG, larger ones as JPEG."""


def data_uri(content: bytes, kind: str) -> str:
    """A URI that holds the content itself. kind: its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def image_uri(image: "Image.Image", lossless_side: int = LOSSLESS_SIDE) -> str:
    """An image of Pillow as PNG if its longer side has at most `lossless_side` pixels, otherwise as JPEG."""
    kind, options = ("png", {}) if max(image.size) <= lossless_side else ("jpeg", {"quality": 85})
    content = io.BytesIO()
    image.save(content, kind, **options)
    return data_uri(content.getvalue(), f"image/{kind}")
