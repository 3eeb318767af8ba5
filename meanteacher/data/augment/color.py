"""Augmentations that change colors."""

import torch
from pydantic import Field
from torch import Generator, Tensor

from meanteacher.config.types import Annotated, NonNegativeFloat
from meanteacher.data.augment.operation import Operation


class Jitter(Operation):
    """Brightness, contrast, saturation and hue, as torchvision's ColorJitter except that the order is always this one.

    Factors are U(max(0, 1 − x), 1 + x) for a strength x, the hue's shift is U(−hue, hue) of a turn. Strength 0 leaves a
    step out; saturation and hue leave images with one channel as they are.
    """

    def __init__(
        self,
        *,
        brightness: NonNegativeFloat,
        contrast: NonNegativeFloat,
        saturation: NonNegativeFloat,
        hue: Annotated[float, Field(ge=0, le=0.5)],
    ):
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The factors of brightness, contrast and saturation and the hue's shift: float32."""
        *uniforms, hue = self._uniform(4, images, generator)
        ranges = [(max(0.0, 1 - x), 1 + x) for x in (self.brightness, self.contrast, self.saturation)]
        factors = [low + (high - low) * uniform for (low, high), uniform in zip(ranges, uniforms, strict=True)]
        return *factors, (2 * hue - 1) * self.hue

    def apply(self, images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
        colour = images.shape[1] == 3
        if self.brightness:
            images = (images * brightness).clamp_(0, 1)
        if self.contrast:
            grey = self._grey(images) if colour else images
            images = torch.lerp(grey.mean((1, 2, 3), keepdim=True), images, contrast).clamp_(0, 1)
        if self.saturation and colour:
            images = torch.lerp(self._grey(images), images, saturation).clamp_(0, 1)
        return self._turn_hue(images, hue) if self.hue and colour else images

    @staticmethod
    def _grey(images: Tensor) -> Tensor:
        """[B, 3, H, W] → [B, 1, H, W], weighted as in torchvision (ITU-R 601)."""
        red, green, blue = images.split(1, 1)
        return 0.2989 * red + 0.587 * green + 0.114 * blue

    @staticmethod
    def _turn_hue(images: Tensor, shift: Tensor) -> Tensor:
        """The hue of HSV shifted by a share of a turn; value and chroma stay."""
        red, green, blue = images.split(1, 1)
        value = images.amax(1, keepdim=True)
        chroma = value - images.amin(1, keepdim=True)
        rest = torch.where(value == green, blue - red + 2 * chroma, red - green + 4 * chroma)
        sixths = torch.where(value == red, green - blue, rest) / torch.where(chroma == 0, 1.0, chroma)
        channels = torch.arange(5, 0, -2, device=images.device).view(1, 3, 1, 1)
        distance = (channels + sixths + 6 * shift) % 6
        return value - chroma * torch.minimum(distance, 4 - distance).clamp_(0, 1)
