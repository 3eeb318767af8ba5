"""The base class of all augmentations."""

import torch
from torch import Generator, Tensor


class Operation:
    """Images float32 [B, C, H, W] in [0, 1], C 1 or 3 → the same shape; the generator lives on the images' device.

    `draw(images, generator)` → parameters, [B, 1, 1, 1] each if nothing else is said; `apply(images, *parameters)`.
    """

    after_normalization = False  # True: takes normalised images

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return self.apply(images, *self.draw(images, generator))

    @staticmethod
    def _uniform(count: int, images: Tensor, generator: Generator) -> Tensor:
        """U[0, 1): float32 [count, B, 1, 1, 1]."""
        return torch.rand(count, len(images), 1, 1, 1, generator=generator, device=images.device)

    @staticmethod
    def _grid(images: Tensor) -> tuple[Tensor, Tensor]:
        """Rows int64 [H, 1] and columns int64 [W]."""
        rows, columns = (torch.arange(size, device=images.device) for size in images.shape[2:])
        return rows[:, None], columns

    @staticmethod
    def _take(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Each image at its own rows [B, 1, H, 1] and columns [B, 1, 1, W]. One flat gather is the fastest way."""
        at = rows * images.shape[3] + columns
        return images.flatten(2).gather(2, at.flatten(2).expand(-1, images.shape[1], -1)).unflatten(2, at.shape[2:])
