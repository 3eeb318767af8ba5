"""Operations that move pixels: random crops and flips."""

import torch
from torch import Generator, Tensor

from meanteacher.config.errors import UserError
from meanteacher.config.types import Fraction, Literal, NonNegativeInt
from meanteacher.data.augment.operation import Operation


class Translate(Operation):
    """Pad the image by `pixels` on each side and crop at random to its original size.

    padding: `reflect` mirrors the image without repeating its edge, `zero` pads with black.
    """

    def __init__(self, *, pixels: NonNegativeInt, padding: Literal["reflect", "zero"]):
        self.pixels, self.padding = pixels, padding

    def check(self, channels: int, height: int, width: int) -> None:
        side = min(height, width)
        if self.padding == "reflect" and self.pixels >= side:
            raise UserError(
                f"pixels={self.pixels} cannot be padded by reflection on images of {height}×{width} pixels; "
                f"use pixels={side - 1} or less, or padding=zero"
            )
        if self.pixels > max(height, width):
            raise UserError(f"pixels={self.pixels} is more than the side of the images, which have {height}×{width}")

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """The top and left of the crop in the padded image: int64, 0 to 2·pixels."""
        return (self._uniform(2, images, generator) * (2 * self.pixels + 1)).long().unbind()

    def apply(self, images: Tensor, top: Tensor, left: Tensor) -> Tensor:
        mode = "constant" if self.padding == "zero" else "reflect"
        padded = torch.nn.functional.pad(images, (self.pixels,) * 4, mode=mode)
        rows, columns = self._grid(images)
        return self._take(padded, top + rows, left + columns)


class Flip(Operation):
    """Exchange left and right with `probability`."""

    def __init__(self, *, probability: Fraction):
        self.probability = probability

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor]:
        """Whether to flip: bool."""
        return (self._uniform(1, images, generator)[0] < self.probability,)

    def apply(self, images: Tensor, flipped: Tensor) -> Tensor:
        return torch.where(flipped, images.flip(3), images)


class CropResize(Operation):
    """Crop a random square of U(scale_min, scale_max) of the image's area and resize it bilinearly to the image's size.

    Equivalent to torchvision's `resized_crop` without antialiasing. The side is a whole number of pixels, at most the
    image's shorter side. Raises UserError if scale_min is greater than scale_max.
    """

    def __init__(self, *, scale_min: Fraction, scale_max: Fraction):
        if scale_min > scale_max:
            raise UserError(f"CropResize: scale_min={scale_min} is greater than scale_max={scale_max}")
        self.scale_min, self.scale_max = scale_min, scale_max

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The top, left and side of the square in pixels: int64."""
        height, width = images.shape[2:]
        scale, vertical, horizontal = self._uniform(3, images, generator)
        area = (self.scale_min + (self.scale_max - self.scale_min) * scale) * (height * width)
        side = area.sqrt().round().clamp(1, min(height, width))
        return (vertical * (height - side + 1)).long(), (horizontal * (width - side + 1)).long(), side.long()

    def apply(self, images: Tensor, top: Tensor, left: Tensor, side: Tensor) -> Tensor:
        # For each dimension: the positions of the two pixels around each output pixel, and the weight of the second.
        neighbors = []
        for outputs, start in zip(self._grid(images), (top, left), strict=True):
            source = (side / outputs.numel() * (outputs + 0.5) - 0.5).clamp(min=0)
            first = source.long()
            neighbors += [start + first, start + torch.minimum(first + 1, side - 1), source - first]
        upper, lower, vertical, left, right, horizontal = neighbors
        above = torch.lerp(self._take(images, upper, left), self._take(images, upper, right), horizontal)
        below = torch.lerp(self._take(images, lower, left), self._take(images, lower, right), horizontal)
        return torch.lerp(above, below, vertical)
