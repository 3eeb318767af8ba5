"""Normalizations whose statistics are computed from the training images."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from meanteacher.config.errors import UserError
from meanteacher.config.types import PositiveFloat
from meanteacher.data.cache import make_reader

FIT_VALUES = 2**22
"""The number of pixel values that `fit` holds in memory at once."""

NORMALIZE_IMAGES = 200_000
"""The largest number of images that Normalize is fitted to."""

ZCA_IMAGES = 50_000
"""The largest number of images that ZCA is fitted to."""

ZCA_VALUES = 2**15
"""The largest number of values per image, C·H·W, for ZCA; its matrix of float64 then takes 8 GiB."""


IMAGE_EPSILON = 1e-12
"""Added to the variance of an image."""


class FittedNormalization:
    """A normalization: float32 [B, C, H, W] in [0, 1] to float32 [B, C, H, W].

    A subclass defines `apply(images)` and `fit(pixels)`, which sets `mean` and other tensors on `device`. pixels:
    uint8 [N, C, H, W], in memory or memory-mapped.
    """

    device = torch.device("cpu")
    mean: Tensor | None = None

    def fit(self, pixels: np.ndarray) -> None:
        """Compute the statistics of `pixels`. Raises UserError if these images cannot be normalized."""
        raise NotImplementedError

    def apply(self, images: Tensor) -> Tensor:
        """Normalize with the computed statistics."""
        raise NotImplementedError

    def to(self, device: torch.device | str) -> "FittedNormalization":
        """Move all tensors, present and future ones, to the device."""
        self.device = torch.device(device)
        vars(self).update({name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)})
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors by name: what `fit` computed."""
        return {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Use the content of `state_dict` instead of fitting."""
        vars(self).update({name: value.to(self.device) for name, value in state.items()})

    def __call__(self, images: Tensor) -> Tensor:
        if self.mean is None:
            raise RuntimeError(f"{type(self).__name__} is used before fit")
        return self.apply(images)

    @staticmethod
    def _read_chunks(pixels: np.ndarray, count: int) -> Iterator[Tensor]:
        """`count` evenly spaced images of `pixels` as uint8, in chunks of at most about `FIT_VALUES` values."""
        chunks = min(count, 1 + count * pixels[0].size // FIT_VALUES)
        positions = np.array_split(np.arange(count) * len(pixels) // count, chunks)
        return map(torch.from_numpy, map(make_reader(pixels), positions))


class Normalize(FittedNormalization):
    """(x − mean) / std with the mean and the standard deviation of each channel, float32 [C, 1, 1].

    The statistics are those of at most 200,000 evenly spaced training images, or given by `set`.
    """

    def fit(self, pixels: np.ndarray) -> None:
        """Compute mean and std. Raises UserError if a channel has the same value in all images."""
        count, total, squares = min(len(pixels), NORMALIZE_IMAGES), 0.0, 0.0
        for chunk in self._read_chunks(pixels, count):
            for images in map(Tensor.double, chunk.split(64)):  # sums of whole numbers, so they are exact
                total, squares = total + images.sum((0, 2, 3)), squares + images.square().sum((0, 2, 3))
        number = count * pixels[0, 0].size
        mean = total / number
        variance = (squares / number - mean.square()) / 255**2
        if variance.min() < 1e-10:
            raise UserError(f"Normalize: channel {variance.argmin()} has one value in all training images; check them")
        self.mean, self.std = torch.stack([mean / 255, variance.sqrt()]).float().to(self.device)[..., None, None]

    def set(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set the mean and std of each channel, such as those of pretrained weights, instead of calling `fit`."""
        self.mean, self.std = torch.tensor([mean, std], dtype=torch.float32).to(self.device)[..., None, None]

    def apply(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class NormalizeEachImage(FittedNormalization):
    """(x − mean) / std with the mean and the standard deviation of each image over all of its channels and pixels.

    Tarvainen & Valpola (2017) normalize SVHN this way. An image of one value becomes 0.
    """

    def fit(self, pixels: np.ndarray) -> None:
        """Nothing to compute: the statistics are those of the image itself."""

    def __call__(self, images: Tensor) -> Tensor:
        return self.apply(images)

    def apply(self, images: Tensor) -> Tensor:
        centered = images - images.mean((1, 2, 3), keepdim=True)
        return centered * (centered.square().mean((1, 2, 3), keepdim=True) + IMAGE_EPSILON).rsqrt()


class ZCA(FittedNormalization):
    """Global contrast normalization and ZCA whitening of an image, as a vector x of D = C·H·W values in [0, 1].

    g = scale · (x − mean(x)) / ‖x − mean(x)‖₂ → V (Λ + ε·1)^(−½) Vᵀ (g − μ), where μ and V Λ Vᵀ are the mean and the
    covariance (sum / N) of g over at most 50,000 evenly spaced training images. Without a scale, g = x. Tarvainen &
    Valpola (2017) use scale 55 and ε = 0.1, Laine & Aila (2017) no scale and ε = 1e-5. Memory grows with D² and time
    with D³, so it is meant for images of about 32×32 pixels.
    """

    def __init__(self, *, scale: PositiveFloat | None, epsilon: PositiveFloat):
        self.scale, self.epsilon = scale, epsilon

    def fit(self, pixels: np.ndarray) -> None:
        """Compute the mean and the whitening matrix, float32 [D] and [D, D]. Raises UserError if D exceeds 32,768."""
        if pixels[0].size > ZCA_VALUES:
            raise UserError(
                f"ZCA: images of {'×'.join(map(str, pixels.shape[1:]))} have {pixels[0].size} values, but ZCA takes at "
                f"most {ZCA_VALUES}; use smaller images or another augment="
            )
        count, total, products = min(len(pixels), ZCA_IMAGES), 0.0, 0.0
        for chunk in self._read_chunks(pixels, count):
            rows = self._normalize_contrast(chunk.float() / 255)
            rows = rows if self.scale else rows.double()  # the mean, about 0.5, would cancel the smallest eigenvalues
            total, products = total + rows.double().sum(0), products + (rows.T @ rows).double()
        mean = total / count
        values, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
        matrix = (vectors / (values.clamp(min=0) + self.epsilon).sqrt()) @ vectors.T
        self.mean, self.matrix = mean.float().to(self.device), matrix.float().to(self.device)

    def _normalize_contrast(self, images: Tensor) -> Tensor:
        """g in the formula above: [B, C, H, W] to [B, D]; with a scale, 0 for an image of a single value."""
        if self.scale is None:
            return images.flatten(1)
        rows = images.flatten(1) - images.mean((1, 2, 3))[:, None]
        return rows * (self.scale / rows.norm(dim=1, keepdim=True).clamp(min=1e-3))

    def apply(self, images: Tensor) -> Tensor:
        return ((self._normalize_contrast(images) - self.mean) @ self.matrix).view(images.shape)
