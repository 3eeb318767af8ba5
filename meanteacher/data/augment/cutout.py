"""Cutout (DeVries & Taylor 2017, arXiv 1708.04552)."""

import torch
from torch import Generator, Tensor

from meanteacher.config.errors import UserError
from meanteacher.config.types import Fraction
from meanteacher.data.augment.operation import Operation


class Cutout(Operation):
    """Fill a square at a random position with `value`.

    Its side is `side` times the image's shorter side, rounded to whole pixels. The center is any pixel of the image;
    the square is clipped at the image's borders. side=0 changes nothing.
    """

    def __init__(self, *, side: Fraction, value: Fraction):
        self.side, self.value = side, value

    def check(self, channels: int, height: int, width: int) -> None:
        if self.side and not self._side_in_pixels(height, width):
            raise UserError(
                f"side={self.side} is less than half a pixel of images of {height}×{width} pixels; "
                "use a larger side, or side=0 for none"
            )

    def _side_in_pixels(self, height: int, width: int) -> int:
        return round(self.side * min(height, width))

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """The row and column of the center: int64. The square starts half its side, rounded down, before the center."""
        height, width = images.shape[2:]
        row, column = self._uniform(2, images, generator)
        return (row * height).long(), (column * width).long()

    def apply(self, images: Tensor, row: Tensor, column: Tensor) -> Tensor:
        side = self._side_in_pixels(*images.shape[2:])
        return self._fill(images, row - side // 2, column - side // 2, side)

    def _fill(self, images: Tensor, top: Tensor, left: Tensor, side: int | Tensor) -> Tensor:
        rows, columns = self._grid(images)
        rows, columns = rows - top, columns - left
        inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
        return torch.where(inside, self.value, images)


class RandomCutout(Cutout):
    """Cutout of a random side v ~ U(0, side), relative to the image's shorter side, as in TorchSSL and USB.

    The center is any point of the image; theirs is at least 1 pixel from the top and the left. The square starts
    at max(center − v/2, 0), rounded down, so that it is not clipped at the top and left borders. It covers the whole
    number of pixels below v, plus 1.
    """

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The top, left and side of the square in pixels: int64."""
        height, width = images.shape[2:]
        row, column, share = self._uniform(3, images, generator)
        length = share * (self.side * min(height, width))
        top, left = ((center - length / 2).clamp(min=0).long() for center in (row * height, column * width))
        return top, left, length.long() + 1

    def apply(self, images: Tensor, top: Tensor, left: Tensor, side: Tensor) -> Tensor:
        return self._fill(images, top, left, side)
