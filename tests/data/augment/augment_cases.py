"""Operations and images shared by the tests of augmentation."""

import numpy as np
import torch

from meanteacher.data.augment import (
    CropResize,
    Cutout,
    Flip,
    GaussianNoise,
    Jitter,
    RandomCutout,
    Translate,
)

JITTER = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
OPERATIONS = [
    Translate(pixels=4, padding="reflect"),
    Translate(pixels=4, padding="zero"),
    Flip(probability=0.5),
    CropResize(scale_min=0.2, scale_max=0.9),
    Jitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2),
    GaussianNoise(std=0.15),
    Cutout(side=0.5, value=0.5),
    RandomCutout(side=0.5, value=0.5),
]
SHAPES = [(12, 3, 16, 16), (12, 1, 16, 16), (12, 3, 11, 18)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(shape=SHAPES[0], seed=1):
    return torch.rand(shape, generator=generator(seed))


def random_pixels(count, channels=3, side=8, seed=2):
    return np.random.default_rng(seed).integers(0, 256, (count, channels, side, side), dtype=np.uint8)


def operation_name(operation):
    return type(operation).__name__ + getattr(operation, "padding", "")
