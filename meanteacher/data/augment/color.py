"""Color jitter."""

import torch
from pydantic import Field
from torch import Generator, Tensor

from meanteacher.config.types import Annotated, NonNegativeFloat
from meanteacher.data.augment.operation import Operation


class Jitter(Operation):
    """Change brightness, contrast, saturation and hue at random, in this order.

    Equivalent to torchvision's `ColorJitter`, except that its order is random. With a strength x, the factor of
    brightness, contrast or saturation is U(max(0, 1 − x), 1 + x); the hue is shifted by U(−hue, hue) of a full turn.
    Strength 0 skips a step. Images with one channel keep their saturation and hue.
    """

    needs_unit_range = True

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
        """The factors of brightness, contrast and saturation, and the shift of the hue: float32."""
        *uniforms, hue = self._uniform(4, images, generator)
        ranges = [(max(0.0, 1 - x), 1 + x) for x in (self.brightness, self.contrast, self.saturation)]
        factors = [low + (high - low) * uniform for (low, high), uniform in zip(ranges, uniforms, strict=True)]
        return *factors, (2 * hue - 1) * self.hue

    def apply(self, images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
        rgb = images.shape[1] == 3
        if self.brightness:
            images = (images * brightness).clamp_(0, 1)
        if self.contrast:
            gray = self._convert_to_gray(images) if rgb else images
            images = torch.lerp(gray.mean((1, 2, 3), keepdim=True), images, contrast).clamp_(0, 1)
        if self.saturation and rgb:
            images = torch.lerp(self._convert_to_gray(images), images, saturation).clamp_(0, 1)
        return self._shift_hue(images, hue) if self.hue and rgb else images

    @staticmethod
    def _convert_to_gray(images: Tensor) -> Tensor:
        """[B, 3, H, W] to [B, 1, H, W], with torchvision's weights (ITU-R 601)."""
        red, green, blue = images.split(1, 1)
        return 0.2989 * red + 0.587 * green + 0.114 * blue

    @staticmethod
    def _shift_hue(images: Tensor, shift: Tensor) -> Tensor:
        """Shift the hue of the HSV representation by a fraction of a full turn; value and chroma stay the same."""
        red, green, blue = images.split(1, 1)
        value = images.amax(1, keepdim=True)
        chroma = value - images.amin(1, keepdim=True)
        numerator = torch.where(value == green, blue - red + 2 * chroma, red - green + 4 * chroma)
        numerator = torch.where(value == red, green - blue, numerator)
        sixths = numerator / torch.where(chroma == 0, 1.0, chroma)
        channels = torch.arange(5, 0, -2, device=images.device).view(1, 3, 1, 1)
        distance = (channels + sixths + 6 * shift) % 6
        return value - chroma * torch.minimum(distance, 4 - distance).clamp_(0, 1)
