"""Augmentation of whole batches on the batch's device, one implementation for every data source.

An operation draws one set of parameters per image from the generator it is given, its only source of randomness, and
then applies them deterministically. No loop over images, no synchronisation with the host, no change of its input.
"""

from meanteacher.data.augment.color import Jitter
from meanteacher.data.augment.cutout import Cutout
from meanteacher.data.augment.geometric import CropResize, Flip, Translate
from meanteacher.data.augment.noise import GaussianNoise
from meanteacher.data.augment.normalize import ZCA, Normalize
from meanteacher.data.augment.operation import Operation
from meanteacher.data.augment.randaugment import RandAugment
from meanteacher.data.augment.views import Augment

__all__ = [
    "ZCA",
    "Augment",
    "CropResize",
    "Cutout",
    "Flip",
    "GaussianNoise",
    "Jitter",
    "Normalize",
    "Operation",
    "RandAugment",
    "Translate",
]
