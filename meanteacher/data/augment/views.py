"""The named views of a batch."""

import numpy as np
import torch
from torch import Generator, Tensor

from meanteacher.config.errors import UserError
from meanteacher.data.augment.normalize import ZCA, Normalize
from meanteacher.data.augment.operation import Operation


class Augment:
    """Named views of a batch: uint8 [B, C, H, W] → float32 [B, C, H, W], normalised, channels last in memory.

    views: name → operations in the order they are done; those marked `after_normalization` come after it.
    """

    def __init__(self, *, views: dict[str, dict[str, Operation]], normalize: Normalize | ZCA):
        self.views, self.normalize = views, normalize

    def fit(self, pixels: np.ndarray) -> None:
        self.normalize.fit(pixels)

    def to(self, device: torch.device | str) -> "Augment":
        self.normalize.to(device)
        return self

    def __call__(self, images: Tensor, view: str, generator: Generator) -> Tensor:
        if view not in self.views:
            raise UserError(f"augment has no view {view!r}; its views: {', '.join(self.views)}")
        operations = self.views[view].values()
        images = images.float() / 255
        for operation in operations:
            images = images if operation.after_normalization else operation(images, generator)
        images = self.normalize(images)
        for operation in operations:
            images = operation(images, generator) if operation.after_normalization else images
        return images.contiguous(memory_format=torch.channels_last)

    def evaluation(self, images: Tensor) -> Tensor:
        """The images as they are, normalised."""
        return self.normalize(images.float() / 255).contiguous(memory_format=torch.channels_last)
