"""The base class of all operations on a batch of images."""

import torch
from torch import Generator, Tensor


class Operation:
    """Images float32 [B, C, H, W] in [0, 1] to images of the same shape and range.

    `draw(images, generator)` returns the random parameters, one set per image, as a tuple of tensors of shape
    [B, 1, 1, 1] unless documented otherwise. `apply(images, *parameters)` is deterministic. The generator is on the
    images' device and is the only source of randomness. Neither method loops over images, synchronizes host and
    device, has shapes that depend on data, or modifies its input; then a step can be captured in a CUDA graph.

    A subclass defines `draw` and `apply`, a constructor with keyword-only arguments if it has settings, and `check` if
    it cannot process every shape. An operation of your own, for example in a module `pepper`::

        class Pepper(Operation):
            def __init__(self, *, share: Fraction):
                self.share = share

            def draw(self, images, generator):
                return (torch.rand(images.shape, generator=generator, device=images.device) < self.share,)

            def apply(self, images, black):
                return images.masked_fill(black, 0.0)

    is added to a view in a file `conf/augment/peppered.yaml` in any folder passed as `--config-dir`::

        defaults: [standard, _self_]
        views:
          weak:
            pepper:
              _target_: pepper.Pepper
              share: 0.05

    Annotations from `meanteacher.config.types` are checked before anything is loaded.
    """

    after_normalization = False
    """If True, the operation is applied to normalized images, whose values are not limited to [0, 1]."""

    needs_unit_range = False
    """Whether the operation relies on values in [0, 1], so that it must come before the normalization."""

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, ...]:
        """The random parameters, one set per image."""
        raise NotImplementedError

    def apply(self, images: Tensor, *parameters: Tensor) -> Tensor:
        """The images changed according to the parameters, as a new tensor."""
        raise NotImplementedError

    def check(self, channels: int, height: int, width: int) -> None:
        """Raise UserError if images of this shape cannot be processed. Called once, before training."""

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return self.apply(images, *self.draw(images, generator))

    @staticmethod
    def _uniform(count: int, images: Tensor, generator: Generator) -> Tensor:
        """U[0, 1): float32 [count, B, 1, 1, 1]."""
        return torch.rand(count, len(images), 1, 1, 1, generator=generator, device=images.device)

    @staticmethod
    def _grid(images: Tensor) -> tuple[Tensor, Tensor]:
        """Row numbers int64 [H, 1] and column numbers int64 [W]."""
        rows, columns = (torch.arange(size, device=images.device) for size in images.shape[2:])
        return rows[:, None], columns

    @staticmethod
    def _take(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """The pixels of each image at its rows [B, 1, H, 1] and columns [B, 1, 1, W]. One flat gather is fastest."""
        index = rows * images.shape[3] + columns
        return (
            images.flatten(2).gather(2, index.flatten(2).expand(-1, images.shape[1], -1)).unflatten(2, index.shape[2:])
        )
