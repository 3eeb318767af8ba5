"""Augmentations that move pixels."""

import torch
from torch import Generator, Tensor

from meanteacher.config.errors import UserError
from meanteacher.config.types import Fraction, Literal, NonNegativeInt
from meanteacher.data.augment.operation import Operation


class Translate(Operation):
    """Random crop, of the image's size, of the image padded by `pixels` a side; `reflect` does not repeat the edge."""

    def __init__(self, *, pixels: NonNegativeInt, padding: Literal["reflect", "zero"]):
        self.pixels, self.padding = pixels, padding

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """The crop's top and left in the padded image: int64, 0 to 2·pixels."""
        return (self._uniform(2, images, generator) * (2 * self.pixels + 1)).long().unbind()

    def apply(self, images: Tensor, top: Tensor, left: Tensor) -> Tensor:
        if self.padding == "reflect" and self.pixels >= min(images.shape[2:]):
            raise UserError(f"Translate: images of side {min(images.shape[2:])} cannot reflect {self.pixels} pixels")
        mode = "constant" if self.padding == "zero" else "reflect"
        padded = torch.nn.functional.pad(images, (self.pixels,) * 4, mode=mode)
        rows, columns = self._grid(images)
        return self._take(padded, top + rows, left + columns)


class Flip(Operation):
    """Left and right exchanged, with `probability`."""

    def __init__(self, *, probability: Fraction):
        self.probability = probability

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor]:
        """Whether to flip: bool."""
        return (self._uniform(1, images, generator)[0] < self.probability,)

    def apply(self, images: Tensor, flipped: Tensor) -> Tensor:
        return torch.where(flipped, images.flip(3), images)


class CropResize(Operation):
    """A square of U(scale_min, scale_max) of the image's area, anywhere in it, resized bilinearly to the image's size.

    As torchvision's resized_crop without antialiasing. The side is in whole pixels, at most the image's shorter side.
    """

    def __init__(self, *, scale_min: Fraction, scale_max: Fraction):
        self.scale_min, self.scale_max = scale_min, scale_max

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The square's top, left and side in pixels: int64."""
        height, width = images.shape[2:]
        scale, vertical, horizontal = self._uniform(3, images, generator)
        area = (self.scale_min + (self.scale_max - self.scale_min) * scale) * (height * width)
        side = area.sqrt().round().clamp(1, min(height, width))
        return (vertical * (height - side + 1)).long(), (horizontal * (width - side + 1)).long(), side.long()

    def apply(self, images: Tensor, top: Tensor, left: Tensor, side: Tensor) -> Tensor:
        neighbours = []  # along each dimension: the two positions each output lies between and the second one's weight
        for outputs, start in zip(self._grid(images), (top, left), strict=True):
            source = (side / outputs.numel() * (outputs + 0.5) - 0.5).clamp(min=0)
            first = source.long()
            neighbours += [start + first, start + torch.minimum(first + 1, side - 1), source - first]
        upper, lower, down, near, far, across = neighbours
        above = torch.lerp(self._take(images, upper, near), self._take(images, upper, far), across)
        below = torch.lerp(self._take(images, lower, near), self._take(images, lower, far), across)
        return torch.lerp(above, below, down)
