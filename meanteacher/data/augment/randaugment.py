"""RandAugment as in FixMatch (Sohn et al. 2020, arXiv 2001.07685, appendix), for whole batches on their device.

Own code because torchvision's RandAugment draws the same operations for all images of a batch. Here each image draws
its own: every turn computes all 14 operations for the whole batch and selects one result per image. No loop over
images, no host–device synchronization, no shapes that depend on data.
"""

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional

from meanteacher.config.errors import UserError
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
"""The operations by Pillow's names. An operation's number is its position."""

IDENTITY, AUTO_CONTRAST, EQUALIZE, POSTERIZE, SOLARIZE = range(5)
BRIGHTNESS, COLOR, CONTRAST, SHARPNESS = range(5, 9)
ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y = range(9, 14)

LEVELS = 256

FRACTION_BITS = 16
"""The bits after the binary point of Pillow's fixed-point source positions."""


class RandAugment(Operation):
    """Apply `operations` randomly chosen operations in turn, each with `probability`.

    Every turn chooses one of OPERATIONS, all equally likely. Works on the 256 levels k / 255 and gives the results of
    Pillow for 8-bit images; other values are first rounded to a level. Magnitudes are uniform in these ranges:

    AutoContrast, Equalize, Identity: no magnitude.
    Brightness, Color, Contrast, Sharpness: `enhance_min` to `enhance_max`, the factor of Pillow's ImageEnhance.
    Posterize: keeps `bits` to 8 bits.
    Solarize: 0 to 1; levels from this fraction of 256 on are inverted.
    Rotate: ±`degrees`, counterclockwise about the center.
    ShearX, ShearY: ±`shear`, in pixels per pixel of distance from the top or left edge.
    TranslateX, TranslateY: ±`translate`, the fraction of the side by which the content moves left or up.

    Rotate, Shear and Translate use the nearest pixel; pixels from outside the image get the value `fill`.
    Raises UserError if enhance_min is greater than enhance_max.
    """

    needs_unit_range = True

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
        if enhance_min > enhance_max:
            raise UserError(f"RandAugment: enhance_min={enhance_min} is greater than enhance_max={enhance_max}")
        self.operations, self.probability, self.fill = operations, probability, fill
        self.enhance_min, self.enhance_max, self.bits = enhance_min, enhance_max, bits
        self.degrees, self.shear, self.translate = degrees, shear, translate

    def check(self, channels: int, height: int, width: int) -> None:
        if channels not in (1, 3):
            raise UserError(f"RandAugment processes images with 1 or 3 channels, not {channels}; use another augment=")

    def draw(self, images: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """The numbers of the operations, int64, and their magnitudes, float32, each [operations, B, 1, 1, 1]."""
        uniforms = self._uniform(3 * self.operations, images, generator)
        choice, application, strength = uniforms.unflatten(0, (3, self.operations))
        kind = torch.where(application < self.probability, (choice * len(OPERATIONS)).long(), IDENTITY)
        return kind, self._magnitude(kind, strength)

    def _magnitude(self, kind: Tensor, strength: Tensor) -> Tensor:
        """The magnitudes of operations of some kind. strength: U[0, 1)."""
        signed = 2 * strength - 1
        magnitude = torch.where(kind == POSTERIZE, (self.bits + (9 - self.bits) * strength).floor(), strength)
        enhance = self.enhance_min + (self.enhance_max - self.enhance_min) * strength
        magnitude = torch.where(kind >= BRIGHTNESS, enhance, magnitude)
        magnitude = torch.where(kind >= ROTATE, signed * self.degrees, magnitude)
        magnitude = torch.where(kind >= SHEAR_X, signed * self.shear, magnitude)
        return torch.where(kind >= TRANSLATE_X, signed * self.translate, magnitude)

    def apply(self, images: Tensor, kind: Tensor, magnitude: Tensor) -> Tensor:
        factor = torch.where((kind >= BRIGHTNESS) & (kind <= SHARPNESS), magnitude, 1.0)
        sources = self._sources(kind, magnitude, *images.shape[2:])
        images = (images * 255).round_()
        for turn, number in enumerate(kind):
            mapped = self._map_pixels(images, number, magnitude[turn], sources[:, turn])
            base = self._enhancement_base(images, number)
            images = mapped.sub_(base).mul_(factor[turn]).add_(base).floor_().clamp_(0, 255)
        return images.div_(255)

    def _map_pixels(self, images: Tensor, kind: Tensor, magnitude: Tensor, sources: Tensor) -> Tensor:
        """Apply all operations except the enhancers, with one gather.

        The table it gathers from holds a channel's curve, 256 values, followed by its pixels with a border of `fill`.
        """
        levels = images.flatten(2).long()
        curve = self._curve(images.flatten(2), levels, kind.squeeze(3), magnitude.squeeze(3))
        bordered = functional.pad(images, (1, 1, 1, 1), value=round(255 * self.fill))
        table = torch.cat([curve, bordered.flatten(2)], 2)
        moves = kind >= ROTATE
        positions = torch.where(moves, self._table_positions(images, sources), 0).flatten(2)
        index = levels.mul_(~moves.squeeze(3)).add_(positions)  # like torch.where, but in place and faster
        return table.gather(2, index).view(images.shape)

    @staticmethod
    def _sources(kind: Tensor, magnitude: Tensor, height: int, width: int) -> Tensor:
        """The affine map to source positions: int64 [6, operations, B, 1, 1, 1], in pixels / 2**16 as in Pillow.

        First the source column of the first pixel and its change per column and per row, then the source row and its
        change per row and per column. The identity map for operations that move no pixels.
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
        return (torch.stack(sources) * 2**FRACTION_BITS + 0.5).floor().long()

    def _table_positions(self, images: Tensor, sources: Tensor) -> Tensor:
        """The position of each pixel's source in the table of `_map_pixels`: int64 [B, 1, H, W]."""
        height, width = images.shape[2:]
        rows, columns = self._grid(images)
        left, left_along, left_across, top, top_along, top_across = sources
        column = ((left + left_across * rows + left_along * columns) >> FRACTION_BITS).clamp_(-1, width)
        row = ((top + top_along * rows + top_across * columns) >> FRACTION_BITS).clamp_(-1, height)
        return column.add_(row, alpha=width + 2).add_(LEVELS + width + 3)

    @staticmethod
    def _curve(values: Tensor, levels: Tensor, kind: Tensor, magnitude: Tensor) -> Tensor:
        """The output of each level: float32 [B, C, 256]; the identity for operations that do not map levels.

        Equalize may exceed 255; `apply` clamps it. values: float32 [B, C, H·W]; levels: the same as int64.
        """
        low, high = values.amin(2, keepdim=True), values.amax(2, keepdim=True)
        inputs = torch.arange(LEVELS, device=values.device)
        dropped_bits = torch.where(kind == POSTERIZE, 8 - magnitude, 0.0).long()
        threshold = torch.where(kind == SOLARIZE, LEVELS * magnitude, float(LEVELS))
        curve = torch.where(inputs < threshold, inputs >> dropped_bits << dropped_bits, 255 - inputs).float()

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
    def _enhancement_base(images: Tensor, kind: Tensor) -> Tensor:
        """The image that an enhancer blends with: black, the gray image, its mean or the smoothed image.

        Black for operations that are not enhancers.
        """
        if images.shape[1] == 1:
            gray = images
        else:
            red, green, blue = images.split(1, 1)
            gray = ((19595 * red + 38470 * green + 7471 * blue + 2**15) / 2**16).floor_()
        pixels = gray[0].numel()
        mean = ((gray.sum((1, 2, 3), keepdim=True) + pixels / 2) / pixels).floor_()
        flat = torch.where(kind == COLOR, gray, torch.where(kind == CONTRAST, mean, 0.0))
        columns = (images[:, :, :-2] + images[:, :, 1:-1]).add_(images[:, :, 2:])
        squares = (columns[..., :-2] + columns[..., 1:-1]).add_(columns[..., 2:])
        smooth = images.clone()
        smooth[:, :, 1:-1, 1:-1] = squares.add_(images[:, :, 1:-1, 1:-1], alpha=4).div_(13).add_(0.5).floor_()
        return smooth.mul_(kind == SHARPNESS).add_(flat)


def _precise(tensor: Tensor) -> torch.dtype:
    """Pillow's float64, or float32 on devices without it."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64
