"""Augmentation of whole batches on the batch's device, one implementation for every data source.

An operation draws one set of parameters per image from the generator it is given, its only source of randomness, and
then applies them deterministically. No loop over images, no synchronisation with the host, no change of its input.
"""

from collections.abc import Iterator

import numpy as np
import torch
from pydantic import Field
from torch import Generator, Tensor

from meanteacher.config.errors import UserError
from meanteacher.config.types import Annotated, Fraction, Literal, NonNegativeFloat, NonNegativeInt, PositiveFloat
from meanteacher.data.cache import reader

FIT_VALUES = 2**22  # pixel values that fitting holds in memory at once
ZCA_IMAGES = 50_000  # images that ZCA is fitted on at most
NORMALIZE_IMAGES = 200_000  # images that Normalize is fitted on at most


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


class Translate(Operation):
    """Random crop, of the image's size, of the image padded by `pixels` a side; `reflect` does not repeat the edge."""

    def __init__(self, *, pixels: NonNegativeInt, padding: Literal["reflect", "zero"]):
        self.pixels, self.padding = pixels, padding

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """The crop's top and left in the padded image: int64, 0 to 2·pixels."""
        return (self._uniform(2, images, generator) * (2 * self.pixels + 1)).long().unbind()

    def apply(self, images: Tensor, top: Tensor, left: Tensor) -> Tensor:
        if self.padding == "reflect" and self.pixels >= min(images.shape[2:]):
            raise UserError(f"Translate: images of side {min(images.shape[2:])} cannot reflect {self.pixels} pixels")
        mode = "constant" if self.padding == "zero" else "reflect"
        padded = torch.nn.functional.pad(images, (self.pixels,) * 4, mode=mode)
        rows, columns = self._grid(images)
        return self._take(padded, top + rows, left + columns)


class Flip(Operation):
    """Left and right exchanged, with `probability`."""

    def __init__(self, *, probability: Fraction):
        self.probability = probability

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor]:
        """Whether to flip: bool."""
        return (self._uniform(1, images, generator)[0] < self.probability,)

    def apply(self, images: Tensor, flipped: Tensor) -> Tensor:
        return torch.where(flipped, images.flip(3), images)


class CropResize(Operation):
    """A square of U(scale_min, scale_max) of the image's area, anywhere in it, resized bilinearly to the image's size.

    As torchvision's resized_crop without antialiasing. The side is in whole pixels, at most the image's shorter side.
    """

    def __init__(self, *, scale_min: Fraction, scale_max: Fraction):
        self.scale_min, self.scale_max = scale_min, scale_max

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
        """The square's top, left and side in pixels: int64."""
        height, width = images.shape[2:]
        scale, vertical, horizontal = self._uniform(3, images, generator)
        area = (self.scale_min + (self.scale_max - self.scale_min) * scale) * (height * width)
        side = area.sqrt().round().clamp(1, min(height, width))
        return (vertical * (height - side + 1)).long(), (horizontal * (width - side + 1)).long(), side.long()

    def apply(self, images: Tensor, top: Tensor, left: Tensor, side: Tensor) -> Tensor:
        neighbours = []  # along each dimension: the two positions each output lies between and the second one's weight
        for outputs, start in zip(self._grid(images), (top, left), strict=True):
            source = (side / outputs.numel() * (outputs + 0.5) - 0.5).clamp(min=0)
            first = source.long()
            neighbours += [start + first, start + torch.minimum(first + 1, side - 1), source - first]
        upper, lower, down, near, far, across = neighbours
        above = torch.lerp(self._take(images, upper, near), self._take(images, upper, far), across)
        below = torch.lerp(self._take(images, lower, near), self._take(images, lower, far), across)
        return torch.lerp(above, below, down)


class Jitter(Operation):
    """Brightness, contrast, saturation and hue, as torchvision's ColorJitter except that the order is always this one.

    Factors are U(max(0, 1 − x), 1 + x) for a strength x, the hue's shift is U(−hue, hue) of a turn. Strength 0 leaves a
    step out; saturation and hue leave images with one channel as they are.
    """

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
        """The factors of brightness, contrast and saturation and the hue's shift: float32."""
        *uniforms, hue = self._uniform(4, images, generator)
        ranges = [(max(0.0, 1 - x), 1 + x) for x in (self.brightness, self.contrast, self.saturation)]
        factors = [low + (high - low) * uniform for (low, high), uniform in zip(ranges, uniforms, strict=True)]
        return *factors, (2 * hue - 1) * self.hue

    def apply(self, images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
        colour = images.shape[1] == 3
        if self.brightness:
            images = (images * brightness).clamp_(0, 1)
        if self.contrast:
            grey = self._grey(images) if colour else images
            images = torch.lerp(grey.mean((1, 2, 3), keepdim=True), images, contrast).clamp_(0, 1)
        if self.saturation and colour:
            images = torch.lerp(self._grey(images), images, saturation).clamp_(0, 1)
        return self._turn_hue(images, hue) if self.hue and colour else images

    @staticmethod
    def _grey(images: Tensor) -> Tensor:
        """[B, 3, H, W] → [B, 1, H, W], weighted as in torchvision (ITU-R 601)."""
        red, green, blue = images.split(1, 1)
        return 0.2989 * red + 0.587 * green + 0.114 * blue

    @staticmethod
    def _turn_hue(images: Tensor, shift: Tensor) -> Tensor:
        """The hue of HSV shifted by a share of a turn; value and chroma stay."""
        red, green, blue = images.split(1, 1)
        value = images.amax(1, keepdim=True)
        chroma = value - images.amin(1, keepdim=True)
        rest = torch.where(value == green, blue - red + 2 * chroma, red - green + 4 * chroma)
        sixths = torch.where(value == red, green - blue, rest) / torch.where(chroma == 0, 1.0, chroma)
        channels = torch.arange(5, 0, -2, device=images.device).view(1, 3, 1, 1)
        distance = (channels + sixths + 6 * shift) % 6
        return value - chroma * torch.minimum(distance, 4 - distance).clamp_(0, 1)


class GaussianNoise(Operation):
    """Independent N(0, std²) added to every value of the normalised image."""

    after_normalization = True

    def __init__(self, *, std: NonNegativeFloat):
        self.std = std

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor]:
        """The noise: float32 [B, C, H, W]."""
        return (torch.randn(images.shape, generator=generator, device=images.device).mul_(self.std),)

    def apply(self, images: Tensor, noise: Tensor) -> Tensor:
        return images + noise


class Cutout(Operation):
    """A square, `side` times the image's shorter side in whole pixels, filled with `value`, clipped at the borders."""

    def __init__(self, *, side: Fraction, value: Fraction):
        self.side, self.value = side, value

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """The centre's row and column: int64, any pixel. The square starts half its side, rounded down, before it."""
        height, width = images.shape[2:]
        row, column = self._uniform(2, images, generator)
        return (row * height).long(), (column * width).long()

    def apply(self, images: Tensor, row: Tensor, column: Tensor) -> Tensor:
        side = round(self.side * min(images.shape[2:]))
        rows, columns = self._grid(images)
        rows, columns = rows - row + side // 2, columns - column + side // 2
        inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
        return torch.where(inside, self.value, images)


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
