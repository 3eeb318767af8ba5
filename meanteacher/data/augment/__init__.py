"""Augmentation of whole batches on their device, with one implementation for all data sets and devices.

This is the public interface: configurations name these classes as `meanteacher.data.augment.<Class>`, and an operation
of your own subclasses `Operation`. This folder imports `meanteacher.config` and `meanteacher.data.cache`; the rest of
`meanteacher.data`, `training` and `runs` may import it.
"""

from meanteacher.data.augment.color import Jitter
from meanteacher.data.augment.cutout import Cutout, RandomCutout
from meanteacher.data.augment.geometric import CropResize, Flip, Translate
from meanteacher.data.augment.noise import GaussianNoise
from meanteacher.data.augment.normalize import ZCA, FittedNormalization, Normalize, NormalizeEachImage
from meanteacher.data.augment.operation import Operation
from meanteacher.data.augment.randaugment import RandAugment
from meanteacher.data.augment.randaugment_levels import RandAugmentLevels
from meanteacher.data.augment.views import Augment

__all__ = [
    "ZCA",
    "Augment",
    "CropResize",
    "Cutout",
    "FittedNormalization",
    "Flip",
    "GaussianNoise",
    "Jitter",
    "Normalize",
    "NormalizeEachImage",
    "Operation",
    "RandAugment",
    "RandAugmentLevels",
    "RandomCutout",
    "Translate",
]
