"""Images as a user has them, read in batches: paths, Pillow images, arrays and tensors."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from meanteacher.config.errors import UserError
from meanteacher.config.types import Resize
from meanteacher.data.decoding import describe_failure, read_image, resize_image

ONE_OF = "give paths, Pillow images, uint8 arrays [N, H, W, C] or [H, W, C], or uint8 tensors [N, C, H, W] or [C, H, W]"

READ_AT_ONCE = 256
"""The most images that are read from files at once, so that neither memory nor the first result has to wait."""


class ImageBatch(NamedTuple):
    """pixels: uint8 [N, C, H, W], zeros where an image cannot be read; errors: the reason for each, or None."""

    pixels: Tensor
    errors: list[str | None]


def as_sequence(images: Any) -> Sequence[Any] | Tensor:
    """One image or many as a sequence of paths, Pillow images and arrays, or as one tensor uint8 [N, C, H, W].

    Raises UserError for anything else.
    """
    from PIL import Image

    if isinstance(images, (str, Path, Image.Image)):
        return [images]
    if isinstance(images, (np.ndarray, Tensor)):
        pixels = channels_first(images)
        return pixels[None] if pixels.ndim == 3 else pixels
    if isinstance(images, Sequence):
        return images
    raise UserError(f"images: cannot be of type {type(images).__name__}; {ONE_OF}")


def channels_first(images: np.ndarray | Tensor) -> Tensor:
    """An array [N, H, W, C], [H, W, C] or [H, W], or a tensor, as a tensor [N, C, H, W] or [C, H, W].

    Raises UserError unless it is uint8 with 1, 3 or 4 channels.
    """
    shape, is_array = tuple(images.shape), isinstance(images, np.ndarray)
    if is_array and len(shape) == 2:
        shape = (*shape, 1)
    channels = shape[-1 if is_array else -3] if len(shape) in (3, 4) else None
    if str(images.dtype) not in ("uint8", "torch.uint8") or channels not in (1, 3, 4):
        kind = "array" if is_array else "tensor"
        raise UserError(f"images: cannot be the {kind} {images.dtype} {list(images.shape)}; {ONE_OF}")
    return (
        torch.from_numpy(np.require(images, requirements=["C", "W"])).view(shape).movedim(-1, -3)
        if is_array
        else images
    )


class ImageReader:
    """Brings images to the shape [C, H, W] that a network takes; several are decoded at a time.

    resize: what happens to images of other proportions; see `meanteacher.data.decoding.resize_image`.
    """

    def __init__(self, shape: tuple[int, int, int], resize: Resize):
        self.shape, self.resize = shape, resize

    def batches(self, images: Sequence[Any] | Tensor, size: int) -> Iterator[ImageBatch]:
        """Batches of at most `size` images, in order. While one is used, the next one is read."""
        if isinstance(images, Tensor) and tuple(images.shape[1:]) == self.shape:
            yield from (ImageBatch(part, [None] * len(part)) for part in images.split(size))
            return
        size = min(size, READ_AT_ONCE)
        starts = range(0, len(images), size)
        with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            pending = None
            for start in starts:
                following = ahead.submit(self.read, images[start : start + size], pool)
                if pending:
                    yield pending.result()
                pending = following
            if pending:
                yield pending.result()

    def read(self, images: Sequence[Any] | Tensor, pool: ThreadPoolExecutor) -> ImageBatch:
        """Read some images with the threads of `pool`."""
        pixels = np.zeros((len(images), *self.shape), np.uint8)

        def read_into(row: int) -> str | None:
            try:
                pixels[row] = self.read_one(images[row])
            except UserError:
                raise
            except Exception as error:  # Pillow's decoders raise errors of many types
                return describe_failure(error)
            return None

        return ImageBatch(torch.from_numpy(pixels), list(pool.map(read_into, range(len(images)))))

    def read_one(self, image: Any) -> np.ndarray:
        """One image as uint8 [C, H, W]. Raises UserError for a type that is not an image, and as `read_image` does."""
        from PIL import Image

        if isinstance(image, (np.ndarray, Tensor)) and image.ndim < 4:
            pixels = channels_first(image).cpu().movedim(-3, -1).contiguous().numpy()
            image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        if not isinstance(image, (str, Path, Image.Image)):
            raise UserError(f"images: a list must hold single images, not {type(image).__name__}; {ONE_OF}")
        channels, *size = self.shape
        image = read_image(image)
        if channels == 1:
            image = image.convert("L").convert("RGB")
        return resize_image(image, image_size=tuple(size), resize=self.resize)[:channels]
