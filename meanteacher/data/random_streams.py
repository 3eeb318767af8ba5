"""The table of all streams of random numbers in a run, and the generators seeded from it.

Each stream belongs to one purpose, so adding a draw for one purpose leaves the numbers of all others unchanged. The
values are part of the seeds: changing one changes the result of every run. Only the initial weights are outside of the
table: they are drawn from PyTorch's global generator, seeded with the run's seed itself.
"""

from enum import IntEnum

import numpy as np


class SplitStream(IntEnum):
    """Streams of the choice of labeled images, seeded with `split_seed`.

    NumPy pads short seeds with zeros, so where `split_seed` equals the run's seed, these two streams hold the same
    numbers as `LABELED_ORDER` and `UNLABELED_ORDER` of epoch 0. Changing that would change every drawn split.
    """

    IMAGE_ORDER = 1
    """The order of the images within each class."""

    CLASS_ORDER = 2
    """The order in which classes take turns, so which ones get one image more if labels do not divide evenly."""

    LABELED_CLASSES = 5
    """Which classes have labels, where others have none. Values 3 and 4 are left to the streams of a run."""

    UNLABELED_ORDER = 6
    """The order of the unlabeled images, of which the first are used."""


class RunStream(IntEnum):
    """Streams of a run, seeded with its seed and the number of the epoch or the step."""

    LABELED_ORDER = 1
    """The order of the labeled images, by epoch."""

    UNLABELED_ORDER = 2
    """The order of the unlabeled images, by epoch."""

    AUGMENTATION = 3
    """The parameters of all augmentations, by step."""

    TRAINING_STEP = 4
    """PyTorch's global generator during a training step, by step: dropout, Shake-Shake, mixup, VAT's directions."""

    BALANCED_ORDER = 7
    """The order of the labeled images of a class, by class and epoch of the class, where classes are balanced."""

    TURN_ORDER = 8
    """The order in which classes take turns, by chunk of turns, where classes are balanced."""


def derive_seed(seed: int, stream: RunStream, step: int) -> int:
    """The seed of a PyTorch generator for one stream and step: 0 to 2⁶³ − 1."""
    return int(np.random.SeedSequence([seed, stream, step]).generate_state(1, np.uint64)[0] >> 1)


def numpy_generator(seed: int, stream: SplitStream | RunStream, *position: int) -> np.random.Generator:
    """A NumPy generator for one stream; `position` is the epoch, for some after a class; empty for the split."""
    return np.random.default_rng([seed, stream, *position])
