"""A network with everything around it as one module that can be exported: images of any size in, probabilities out."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from meanteacher.data.augment.normalize import FittedNormalization

WEIGHT_BITS = 22
"""Pillow rounds the weights of a resize to this number of binary digits after the point."""


class Placement(NamedTuple):
    """How one side of an image is mapped to one side of the network's images.

    The part from `start` to `end` of the side, in pixels, is resized to `inner` pixels, which are placed at `offset`.
    All are float64 0-dim tensors.
    """

    start: Tensor
    end: Tensor
    inner: Tensor
    offset: Tensor


class Deployable(nn.Module):
    """uint8 [N, H, W, C] of any height and width → probabilities float32 [N, K].

    The images are resized as Pillow does in the run, to the same values (for images more than 100 times as tall as
    wide, Pillow rounds in another order), and normalized; the logits of the network are divided by the temperature.
    Resizing takes 8 · C · H · W bytes per image. The images of a batch have one size.

    image_size: height and width of the network's images. resize: `crop`, `squash` or `pad`; see
    `meanteacher.data.folder.image_folder`.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        normalize: FittedNormalization,
        image_size: tuple[int, int],
        resize: str,
        temperature: float,
    ):
        super().__init__()
        self.network, self.normalize = network, normalize
        self.image_size, self.resize_policy, self.temperature = image_size, resize, temperature

    def forward(self, images: Tensor) -> Tensor:
        pixels = self.resize(images).float() / 255
        return (self.network(self.normalize(pixels)).float() / self.temperature).softmax(dim=1)

    def resize(self, images: Tensor) -> Tensor:
        """uint8 [N, H, W, C] to whole numbers from 0 to 255, float64 [N, C, height, width]."""
        pixels = images.permute(0, 3, 1, 2).double()
        columns, rows = (torch.arange(pixels.shape[axis], device=images.device).double() + 0.5 for axis in (3, 2))
        horizontal, vertical = self.place(columns[-1] + 0.5, rows[-1] + 0.5)
        height, width = self.image_size
        pixels = rounded(pixels @ resize_weights(columns, width, horizontal).T)
        return rounded(resize_weights(rows, height, vertical) @ pixels)

    def place(self, width: Tensor, height: Tensor) -> tuple[Placement, Placement]:
        """How the width and the height of an image, float64 0-dim, are mapped to the network's images."""
        high, wide = (torch.full_like(width, side) for side in self.image_size)
        zero = torch.zeros_like(width)
        if self.resize_policy == "pad":
            longer = torch.maximum(width, height)
            sides = [
                (side, torch.round(side * whole / longer).clamp(min=1), whole)
                for side, whole in ((width, wide), (height, high))
            ]
            return tuple(Placement(zero, side, inner, torch.floor((whole - inner) / 2)) for side, inner, whole in sides)
        crop_width, crop_height = width, height
        if self.resize_policy == "crop":
            ratio = self.image_size[1] / self.image_size[0]
            crop_width, crop_height = torch.minimum(width, ratio * height), torch.minimum(height, width / ratio)
        return tuple(
            Placement((side - kept) * 0.5, (side - kept) * 0.5 + kept, whole, zero)
            for side, kept, whole in ((width, crop_width, wide), (height, crop_height, high))
        )


def resize_weights(centers: Tensor, size: int, placement: Placement) -> Tensor:
    """The weight of each pixel of a side in each of the `size` pixels of the resized side, times 2^22: whole numbers.

    Bilinear, with a support that grows with the reduction, as Pillow resizes: its `precompute_coeffs` in Resample.c.
    centers: float64 [n], 0.5, 1.5, …; returned: float64 [size, n].
    """
    start, end = placement.start.float(), placement.end.float()  # Pillow keeps the box in single precision
    scale = (end - start).double() / placement.inner
    position = torch.arange(size, device=centers.device).double()[:, None] - placement.offset
    distance = (centers - (start.double() + (position + 0.5) * scale)).abs()
    inside = ((position >= 0) & (position < placement.inner)).double()
    weights = (1 - distance / scale.clamp(min=1)).clamp(min=0)
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12) * inside
    return torch.floor(weights * 2**WEIGHT_BITS + 0.5)


def rounded(sums: Tensor) -> Tensor:
    """Sums of pixels times weights as whole numbers from 0 to 255, as Pillow rounds them after each direction."""
    return torch.floor((sums + 2 ** (WEIGHT_BITS - 1)) / 2**WEIGHT_BITS).clamp(0, 255)
