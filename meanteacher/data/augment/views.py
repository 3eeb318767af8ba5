"""The augmented views of a batch."""

import numpy as np
import torch
from torch import Generator, Tensor

from meanteacher.config.errors import UserError
from meanteacher.data.augment.normalize import FittedNormalization
from meanteacher.data.augment.operation import Operation


class Augment:
    """Named views of a batch: uint8 [B, C, H, W] to float32 [B, C, H, W], normalized, in channels-last memory format.

    views: for each name, the operations in the order of application; those with `after_normalization` are applied after
    the normalization. normalize: fitted to the training images by `fit`.
    """

    def __init__(self, *, views: dict[str, dict[str, Operation]], normalize: FittedNormalization):
        self.views, self.normalize = views, normalize

    def fit(self, pixels: np.ndarray) -> None:
        """Fit the normalization to the training images, uint8 [N, C, H, W].

        Raises UserError if these images cannot be normalized or an operation cannot process images of their shape.
        """
        for view, operations in self.views.items():
            for name, operation in operations.items():
                try:
                    operation.check(*pixels.shape[1:])
                except UserError as error:
                    raise UserError(f"augment.views.{view}.{name}: {error}") from None
        self.normalize.fit(pixels)

    def to(self, device: torch.device | str) -> "Augment":
        """Move the normalization to the device."""
        self.normalize.to(device)
        return self

    def __call__(self, images: Tensor, view: str, generator: Generator) -> Tensor:
        """One view of the images. Raises UserError if there is no view of this name."""
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
        """The images normalized, without augmentation: uint8 [B, C, H, W] to float32 [B, C, H, W]."""
        return self.normalize(images.float() / 255).contiguous(memory_format=torch.channels_last)
