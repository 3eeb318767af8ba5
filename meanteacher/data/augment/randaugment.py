"""RandAugment as in FixMatch (Sohn et al. 2020, arXiv 2001.07685, appendix), on whole batches and on their device.

Every image draws its own transformations out of 14. A turn computes each kind for the whole batch and selects per image:
no loop over images, no synchronisation with the host, no shape that depends on data.
"""

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional

from meanteacher.config.types import Annotated, Fraction, NonNegativeFloat, PositiveInt
from meanteacher.data.augment.operation import Operation

OPERATIONS = (
    "Identity",
    "AutoContrast",
    "Equalize",
    "Posterize",
    "Solarize",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
    "Rotate",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
)
"""Pillow's names; an operation's number is its position."""

IDENTITY, AUTO_CONTRAST, EQUALIZE, POSTERIZE, SOLARIZE = range(5)
BRIGHTNESS, COLOR, CONTRAST, SHARPNESS = range(5, 9)
ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y = range(9, 14)

LEVELS = 256
FIXED = 16  # bits after the binary point of Pillow's source positions


class RandAugment(Operation):
    """`operations` turns; each does, with `probability`, one of OPERATIONS, all equally likely, and otherwise nothing.

    Works on the 256 levels k / 255 and gives what Pillow gives for 8-bit images; other values are rounded to a level
    first. Magnitudes are uniform in these ranges:

    AutoContrast, Equalize, Identity: none.
    Brightness, Color, Contrast, Sharpness: `enhance_min` to `enhance_max`, the factor of Pillow's ImageEnhance.
    Posterize: `bits` to 8 bits are kept.
    Solarize: 0 to 1; values from this share of 256 levels on are inverted.
    Rotate: ±`degrees`, counterclockwise, about the centre.
    ShearX, ShearY: ±`shear`, pixels per pixel of distance from the top or the left.
    TranslateX, TranslateY: ±`translate`, the share of the side by which the content goes left or up.

    Rotate, Shear and Translate take the nearest pixel; pixels from outside the image become `fill`.
    """

    def __init__(
        self,
        *,
        operations: PositiveInt,
        probability: Fraction,
        enhance_min: NonNegativeFloat,
        enhance_max: NonNegativeFloat,
        bits: Annotated[int, Field(ge=1, le=8)],
        degrees: NonNegativeFloat,
        shear: NonNegativeFloat,
        translate: NonNegativeFloat,
        fill: Fraction,
    ):
        self.operations, self.probability, self.fill = operations, probability, fill
        self.enhance_min, self.enhance_max, self.bits = enhance_min, enhance_max, bits
        self.degrees, self.shear, self.translate = degrees, shear, translate

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Numbers of operations, int64, and their magnitudes, float32, each [operations, B, 1, 1, 1]."""
        uniforms = self._uniform(3 * self.operations, images, generator)
        chosen, done, share = uniforms.unflatten(0, (3, self.operations))
        kind = torch.where(done < self.probability, (chosen * len(OPERATIONS)).long(), IDENTITY)
        sided = 2 * share - 1
        magnitude = torch.where(kind == POSTERIZE, (self.bits + (9 - self.bits) * share).floor(), share)
        enhance = self.enhance_min + (self.enhance_max - self.enhance_min) * share
        magnitude = torch.where(kind >= BRIGHTNESS, enhance, magnitude)
        magnitude = torch.where(kind >= ROTATE, sided * self.degrees, magnitude)
        magnitude = torch.where(kind >= SHEAR_X, sided * self.shear, magnitude)
        return kind, torch.where(kind >= TRANSLATE_X, sided * self.translate, magnitude)

    def apply(self, images: Tensor, kind: Tensor, magnitude: Tensor) -> Tensor:
        factor = torch.where((kind >= BRIGHTNESS) & (kind <= SHARPNESS), magnitude, 1.0)
        sources = self._sources(kind, magnitude, *images.shape[2:])
        images = (images * 255).round_()
        for turn, number in enumerate(kind):
            moved = self._looked_up(images, number, magnitude[turn], sources[:, turn])
            plain = self._plain(images, number)
            images = moved.sub_(plain).mul_(factor[turn]).add_(plain).floor_().clamp_(0, 255)
        return images.div_(255)

    def _looked_up(self, images: Tensor, kind: Tensor, magnitude: Tensor, sources: Tensor) -> Tensor:
        """All kinds but the enhancers, with one gather.

        Its table is a channel's curve, 256 values, and then its pixels with `fill` around them.
        """
        levels = images.flatten(2).long()
        curve = self._curve(images.flatten(2), levels, kind.squeeze(3), magnitude.squeeze(3))
        surrounded = functional.pad(images, (1, 1, 1, 1), value=round(255 * self.fill))
        table = torch.cat([curve, surrounded.flatten(2)], 2)
        moves = kind >= ROTATE
        positions = torch.where(moves, self._positions(images, sources), 0).flatten(2)
        index = levels.mul_(~moves.squeeze(3)).add_(positions)  # as torch.where, but in place and faster
        return table.gather(2, index).view(images.shape)

    @staticmethod
    def _sources(kind: Tensor, magnitude: Tensor, height: int, width: int) -> Tensor:
        """Where pixels come from: int64 [6, operations, B, 1, 1, 1], in pixels / 2**16 as in Pillow.

        The first pixel's source column and its change along the columns and along the rows, then the source row, its
        change along the rows and along the columns. The identity for kinds that move nothing.
        """
        magnitude = magnitude.to(_precise(magnitude))
        angle = torch.where(kind == ROTATE, magnitude, 0.0).deg2rad()
        cos, sin = angle.cos(), angle.sin()
        sources = []
        for size, other, turned, shear, translate in (
            (width, height, -sin, SHEAR_X, TRANSLATE_X),
            (height, width, sin, SHEAR_Y, TRANSLATE_Y),
        ):
            slope = torch.where(kind == shear, magnitude, turned)
            moved = torch.where(kind == translate, (magnitude * size + 0.5).floor(), (1 - cos) * (size / 2))
            sources += [moved - turned * (other / 2) + (cos + slope) / 2, cos, slope]
        return (torch.stack(sources) * 2**FIXED + 0.5).floor().long()

    def _positions(self, images: Tensor, sources: Tensor) -> Tensor:
        """Each pixel's source as a place in `apply`'s table: int64 [B, 1, H, W]."""
        height, width = images.shape[2:]
        rows, columns = self._grid(images)
        left, left_along, left_across, top, top_along, top_across = sources
        column = ((left + left_across * rows + left_along * columns) >> FIXED).clamp_(-1, width)
        row = ((top + top_along * rows + top_across * columns) >> FIXED).clamp_(-1, height)
        return column.add_(row, alpha=width + 2).add_(LEVELS + width + 3)

    @staticmethod
    def _curve(values: Tensor, levels: Tensor, kind: Tensor, magnitude: Tensor) -> Tensor:
        """What becomes of each level: float32 [B, C, 256], the identity for kinds that are no function of the level.

        Equalize may exceed 255, which `apply` cuts off. values: float32 [B, C, pixels]; levels: the same as int64.
        """
        low, high = values.amin(2, keepdim=True), values.amax(2, keepdim=True)
        inputs = torch.arange(LEVELS, device=values.device)
        dropped = torch.where(kind == POSTERIZE, 8 - magnitude, 0.0).long()
        threshold = torch.where(kind == SOLARIZE, LEVELS * magnitude, float(LEVELS))
        curve = torch.where(inputs < threshold, inputs >> dropped << dropped, 255 - inputs).float()

        span = (high - low).to(_precise(values))
        scale = span.new_full((), 255) / span  # 255 / span would multiply by a rounded reciprocal
        stretched = (inputs * scale).sub_(low * scale).clamp_(0, 255).floor_().float()
        curve = torch.where((kind == AUTO_CONTRAST) & (low < high), stretched, curve)

        ones = values.new_ones(()).expand_as(values)
        counts = values.new_zeros(*values.shape[:2], LEVELS).scatter_add_(2, levels, ones)
        step = ((values.shape[2] - counts.gather(2, high.long())) / 255).floor_()
        below = counts.cumsum(2).sub_(counts).add_((step / 2).floor_())
        equalized = below.add_(0.5).div_(step).floor_()
        return torch.where((kind == EQUALIZE) & (step > 0), equalized, curve)

    @staticmethod
    def _plain(images: Tensor, kind: Tensor) -> Tensor:
        """What the four enhancers blend with: black, the grey image, its mean or the smoothed image; black for others."""
        if images.shape[1] == 1:
            grey = images
        else:
            red, green, blue = images.split(1, 1)
            grey = ((19595 * red + 38470 * green + 7471 * blue + 2**15) / 2**16).floor_()
        pixels = grey[0].numel()
        mean = ((grey.sum((1, 2, 3), keepdim=True) + pixels / 2) / pixels).floor_()
        flat = torch.where(kind == COLOR, grey, torch.where(kind == CONTRAST, mean, 0.0))
        columns = (images[:, :, :-2] + images[:, :, 1:-1]).add_(images[:, :, 2:])
        squares = (columns[..., :-2] + columns[..., 1:-1]).add_(columns[..., 2:])
        smooth = images.clone()
        smooth[:, :, 1:-1, 1:-1] = squares.add_(images[:, :, 1:-1, 1:-1], alpha=4).div_(13).add_(0.5).floor_()
        return smooth.mul_(kind == SHARPNESS).add_(flat)


def _precise(tensor: Tensor) -> torch.dtype:
    """What Pillow computes with, where the device has it."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64
