"""Additive noise."""

import torch
from torch import Generator, Tensor

from meanteacher.config.types import NonNegativeFloat
from meanteacher.data.augment.operation import Operation


class GaussianNoise(Operation):
    """Add independent noise N(0, std²) to every value of the normalized image."""

    after_normalization = True

    def __init__(self, *, std: NonNegativeFloat):
        self.std = std

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor]:
        """The noise: float32 [B, C, H, W]."""
        return (torch.randn(images.shape, generator=generator, device=images.device).mul_(self.std),)

    def apply(self, images: Tensor, noise: Tensor) -> Tensor:
        return images + noise
