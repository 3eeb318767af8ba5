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
    the normalization. normalize_first: apply all operations after the normalization, as where whitened images are
    stored and then translated and flipped; the operations must not rely on values in [0, 1]. normalize: fitted to the
    training images by `fit`.
    """

    def __init__(
        self, *, views: dict[str, dict[str, Operation]], normalize: FittedNormalization, normalize_first: bool
    ):
        for name, operations in ({"": None} if views is None else views).items():
            if not isinstance(operations, dict):
                path = f"augment.views.{name}".rstrip(".")
                raise UserError(f"{path}={operations}: must list operations by name; {{}} is a view without changes")
        self.views, self.normalize, self.normalize_first = views, normalize, normalize_first

    def fit(self, pixels: np.ndarray) -> None:
        """Fit the normalization to the training images, uint8 [N, C, H, W].

        Raises UserError if these images cannot be normalized, or if an operation cannot process images of their shape
        or normalized images.
        """
        for view, operations in self.views.items():
            for name, operation in operations.items():
                try:
                    if self.normalize_first and operation.needs_unit_range:
                        raise UserError("needs images in [0, 1]; use augment.normalize_first=false")
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
        before = [o for o in operations if not (self.normalize_first or o.after_normalization)]
        images = images.float() / 255
        for operation in before:
            images = operation(images, generator)
        images = self.normalize(images)
        for operation in operations:
            images = images if operation in before else operation(images, generator)
        return images.contiguous(memory_format=torch.channels_last)

    def evaluation(self, images: Tensor) -> Tensor:
        """The images normalized, without augmentation: uint8 [B, C, H, W] to float32 [B, C, H, W]."""
        return self.normalize(images.float() / 255).contiguous(memory_format=torch.channels_last)
