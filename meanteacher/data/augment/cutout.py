"""Cutout (DeVries & Taylor 2017, arXiv 1708.04552)."""

import torch
from torch import Generator, Tensor

from meanteacher.config.types import Fraction
from meanteacher.data.augment.operation import Operation


class Cutout(Operation):
    """A square, `side` times the image's shorter side in whole pixels, filled with `value`, clipped at the borders."""

    def __init__(self, *, side: Fraction, value: Fraction):
        self.side, self.value = side, value

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """The centre's row and column: int64, any pixel. The square starts half its side, rounded down, before it."""
        height, width = images.shape[2:]
        row, column = self._uniform(2, images, generator)
        return (row * height).long(), (column * width).long()

    def apply(self, images: Tensor, row: Tensor, column: Tensor) -> Tensor:
        side = round(self.side * min(images.shape[2:]))
        rows, columns = self._grid(images)
        rows, columns = rows - row + side // 2, columns - column + side // 2
        inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
        return torch.where(inside, self.value, images)
