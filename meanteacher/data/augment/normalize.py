"""Normalizations fitted to the training images."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from meanteacher.config.errors import UserError
from meanteacher.config.types import PositiveFloat
from meanteacher.data.cache import reader

FIT_VALUES = 2**22  # pixel values that fitting holds in memory at once
ZCA_IMAGES = 50_000  # images that ZCA is fitted on at most
NORMALIZE_IMAGES = 200_000  # images that Normalize is fitted on at most


class _Fitted:
    """A function of images; `fit(pixels)` sets its tensors, `to` moves them. pixels: uint8 [N, C, H, W], any array."""

    device, mean = torch.device("cpu"), None

    def to(self, device: torch.device | str) -> "_Fitted":
        self.device = torch.device(device)
        vars(self).update({name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)})
        return self

    def __call__(self, images: Tensor) -> Tensor:
        if self.mean is None:
            raise RuntimeError(f"{type(self).__name__} is used before fit")
        return self._apply(images)

    @staticmethod
    def _chunks(pixels: np.ndarray, count: int) -> Iterator[Tensor]:
        """`count` images evenly spaced over `pixels`, uint8, in chunks small enough to be held at once."""
        chunks = min(count, 1 + count * pixels[0].size // FIT_VALUES)
        positions = np.array_split(np.arange(count) * len(pixels) // count, chunks)
        return map(torch.from_numpy, map(reader(pixels), positions))


class Normalize(_Fitted):
    """(x − mean) / std with each channel's mean and standard deviation, float32 [C, 1, 1].

    They are those of the fitted images, of at most 200,000 evenly spaced ones.
    """

    def fit(self, pixels: np.ndarray) -> None:
        count, total, squares = min(len(pixels), NORMALIZE_IMAGES), 0.0, 0.0
        for chunk in self._chunks(pixels, count):
            for images in map(Tensor.double, chunk.split(64)):  # whole numbers: the sums are exact
                total, squares = total + images.sum((0, 2, 3)), squares + images.square().sum((0, 2, 3))
        number = count * pixels[0, 0].size
        mean = total / number
        variance = (squares / number - mean.square()) / 255**2
        if variance.min() < 1e-10:
            raise UserError(f"Normalize: channel {variance.argmin()} has one value in all training images; check them")
        self.mean, self.std = torch.stack([mean / 255, variance.sqrt()]).float().to(self.device)[..., None, None]

    def _apply(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class ZCA(_Fitted):
    """Global contrast normalisation, then ZCA whitening, of an image as a vector x of D = C·H·W values.

    g = scale · (x − mean(x)) / ‖x − mean(x)‖₂ → V (Λ + ε·1)^(−½) Vᵀ (g − μ), where μ and V Λ Vᵀ are the mean and the
    covariance (sum / N) of g over at most 50,000 evenly spaced images of the fitted ones. Tarvainen & Valpola (2017):
    scale 55, ε = 0.1. Takes memory like D², time like D³: for images of about 32×32.
    """

    def __init__(self, *, scale: PositiveFloat, epsilon: PositiveFloat):
        self.scale, self.epsilon = scale, epsilon

    def fit(self, pixels: np.ndarray) -> None:
        count, total, products = min(len(pixels), ZCA_IMAGES), 0.0, 0.0
        for chunk in self._chunks(pixels, count):
            rows = self._normalize_contrast(chunk.float() / 255)
            total, products = total + rows.double().sum(0), products + (rows.T @ rows).double()
        mean = total / count
        values, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        matrix = (vectors / (values.clamp(min=0) + self.epsilon).sqrt()) @ vectors.T
        self.mean, self.matrix = mean.float().to(self.device), matrix.float().to(self.device)

    def _normalize_contrast(self, images: Tensor) -> Tensor:
        """g of the class's formula: [B, C, H, W] → [B, D]; 0 for an image of one value."""
        rows = images.flatten(1) - images.mean((1, 2, 3))[:, None]
        return rows * (self.scale / rows.norm(dim=1, keepdim=True).clamp(min=1e-3))

    def _apply(self, images: Tensor) -> Tensor:
        return ((self._normalize_contrast(images) - self.mean) @ self.matrix).view(images.shape)
