"""`python -m meanteacher.benchmark`: this machine's speed beside a plain loop, and beside what the hardware allows."""

from dataclasses import dataclass

import numpy as np

from meanteacher.config.types import PositiveInt
from meanteacher.data import Dataset, Images

REFERENCE = "plain loop"

NAMES = {"dataset": "random", "experiment": None, "optimizer": "sgd", "schedule": "cosine", "augment": "standard"}
"""Of the options that every variant has."""


@dataclass(frozen=True)
class Variant:
    """One way to train. compile: `always` or `never`; None is the plain loop."""

    name: str
    precision: str
    compile: str | None


def random_images(*, count: PositiveInt) -> Dataset:
    """Noise in CIFAR-10's shape: `count` training and 10 test images."""
    pixels = np.random.default_rng(0).integers(0, 256, (count + 10, 3, 32, 32), np.uint8)
    targets, names = np.arange(count + 10) % 10, [str(i) for i in range(count + 10)]
    cuts = slice(10, None), slice(10)
    train, test = (Images(pixels=pixels[cut], targets=targets[cut], names=names[cut]) for cut in cuts)
    return Dataset(name="random", classes=names[:10], train=train, test=test)
