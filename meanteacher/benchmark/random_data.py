"""A data set of noise: a speed does not depend on what the images show."""

import numpy as np

from meanteacher.config.types import PositiveInt
from meanteacher.data import Dataset, Images

CLASSES = 10
TEST_IMAGES = 10


def random_images(*, count: PositiveInt) -> Dataset:
    """Noise in the shape of CIFAR-10: `count` training and 10 test images, uint8 [N, 3, 32, 32], in 10 classes."""
    total = count + TEST_IMAGES
    pixels = np.random.default_rng(0).integers(0, 256, (total, 3, 32, 32), np.uint8)
    targets, names = np.arange(total) % CLASSES, [str(number) for number in range(total)]
    train, test = (
        Images(pixels=pixels[part], targets=targets[part], names=names[part])
        for part in (slice(TEST_IMAGES, None), slice(TEST_IMAGES))
    )
    return Dataset(name="random", classes=names[:CLASSES], train=train, test=test)
