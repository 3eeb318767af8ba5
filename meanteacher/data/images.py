"""The contract of a data set: what a function that loads one returns."""

from dataclasses import dataclass, field

import numpy as np

from meanteacher.config.errors import UserError

UNLABELED = -1
"""The target of an image without a label."""

OTHER_CLASS = -2
"""The target of an image that is known to belong to none of the classes."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """One part of a data set, decoded, in memory or memory-mapped.

    pixels: uint8 [N, C, H, W], 0 to 255, in RGB order where C is 3.
    targets: int64 [N], the position of the image's class in `Dataset.classes`; −1 for an image without a label,
        −2 for one that is known to be of another class.
    names: N strings, unique within the part. They identify images in split.json and in text lists of labeled images.
    """

    pixels: np.ndarray
    targets: np.ndarray
    names: list[str]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set: what every function named by a `dataset` configuration returns.

    name: used in messages and result files. classes: one name per class. train, test: all images of both parts have the
    same shape [C, H, W]; images without a label (target −1 or −2) are allowed in `train` only and are used as unlabeled
    images. notes: sentences the user should read, such as how many images were resized or skipped. duplicates: counts
    of images that occur in two parts, as `meanteacher.data.duplicates` finds them; None where nobody has looked.
    broken: names of images that were left out because they cannot be read, with the reason.
    unknown_test: test images of classes that are not in `classes`, with the target −2, where a run was asked to leave
    classes without labels; a function that loads a data set does not set it.

    Raises UserError for arrays of another shape or type, and for targets outside of the classes.

    A data set of your own is an importable function with keyword-only arguments, for example in a module `shapes`::

        def load(*, size: PositiveInt) -> Dataset: ...

    and a file `conf/dataset/shapes.yaml` in any folder passed as `--config-dir`::

        _target_: shapes.load
        name: shapes                   # required
        storage: auto                  # required: auto | device | mmap
        labeled_in_unlabeled: true     # required: whether labeled images are also used as unlabeled ones
        size: 32                       # every argument of the function

    Annotations from `meanteacher.config.types` are checked before anything is loaded. The digest of a run covers these
    values, not the images, so give a function that reads files an argument that changes with their content, such as a
    version. Two names are reserved: `data_dir`, a folder for downloads and caches that does not count in the digest,
    and `root`, the folder of `image_folder`. `meanteacher.data.cache.load_or_decode` keeps decoded images on disk,
    memory-mapped.
    """

    name: str
    classes: list[str]
    train: Images
    test: Images
    notes: list[str] = field(default_factory=list)
    unknown_test: Images | None = None
    duplicates: dict[str, int] | None = None
    broken: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part, images, lowest in (("train", self.train, OTHER_CLASS), ("test", self.test, 0)):
            self._check_part(part, images, lowest)
        train, test = self.train.pixels.shape[1:], self.test.pixels.shape[1:]
        if train != test:
            raise UserError(f"data set {self.name}: training images have shape {train}, but test images {test}")

    def _check_part(self, part: str, images: Images, lowest: int) -> None:
        """Raise UserError for a part that breaks the contract. lowest: the lowest valid target."""
        pixels, targets, where = images.pixels, images.targets, f"data set {self.name}: {part}"
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or not pixels.size:
            raise UserError(f"{where}.pixels must be uint8 [N, C, H, W], not {pixels.dtype} {list(pixels.shape)}")
        if targets.dtype != np.int64 or targets.shape != (len(pixels),):
            raise UserError(f"{where}.targets must be int64 [{len(pixels)}], not {targets.dtype} {list(targets.shape)}")
        if len(images.names) != len(pixels):
            raise UserError(f"{where}.names must hold {len(pixels)} names, not {len(images.names)}")
        if targets.min() < lowest or targets.max() >= len(self.classes):
            raise UserError(
                f"{where}.targets must be from {lowest} to {len(self.classes) - 1}, "
                f"but are from {targets.min()} to {targets.max()}"
            )
