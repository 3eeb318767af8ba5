"""RandAugment with the integer levels of FixMatch's authors."""

import torch
from torch import Tensor

from meanteacher.config.types import Fraction, PositiveInt
from meanteacher.data.augment.randaugment import (
    BRIGHTNESS,
    POSTERIZE,
    ROTATE,
    SHEAR_X,
    SOLARIZE,
    TRANSLATE_X,
    RandAugment,
)

LEVELS = 9
"""Levels 1 to 9 of 10."""

SIDE = 32
"""The side of the images, in pixels, for which the authors give the translation in pixels."""


class RandAugmentLevels(RandAugment):
    """RandAugment whose magnitude is an integer level l of 1 to 9, as in google-research/fixmatch (3ae6800).

    See libml/augment.py and third_party/auto_augment/augmentations.py there. Brightness, Color, Contrast, Sharpness: a
    factor of 0.1 + 0.18 l. Posterize: keeps 4 − ⌊0.4 l⌋ bits. Solarize: inverts levels from 256 − ⌊25.6 l⌋ on. Rotate:
    ±3 l degrees. Shear: ±0.03 l. Translate: ±l / 32 of the side. operations, probability, fill: see `RandAugment`.
    """

    def __init__(self, *, operations: PositiveInt, probability: Fraction, fill: Fraction):
        super().__init__(
            operations=operations,
            probability=probability,
            enhance_min=0.1 + 0.18,
            enhance_max=0.1 + 0.18 * LEVELS,
            bits=1,
            degrees=3.0 * LEVELS,
            shear=0.03 * LEVELS,
            translate=LEVELS / SIDE,
            fill=fill,
        )

    def _magnitude(self, kind: Tensor, strength: Tensor) -> Tensor:
        levels = 2 * LEVELS * strength  # one draw gives the level and the sign
        level, sign = 1 + (levels % LEVELS).floor(), torch.where(levels < LEVELS, -1.0, 1.0)
        magnitude = torch.where(kind == POSTERIZE, 4 - (0.4 * level).floor(), level)
        magnitude = torch.where(kind == SOLARIZE, 1 - (25.6 * level).floor() / 256, magnitude)
        magnitude = torch.where(kind >= BRIGHTNESS, 0.1 + 0.18 * level, magnitude)
        magnitude = torch.where(kind >= ROTATE, sign * 3 * level, magnitude)
        magnitude = torch.where(kind >= SHEAR_X, sign * 0.03 * level, magnitude)
        return torch.where(kind >= TRANSLATE_X, sign * level / SIDE, magnitude)
