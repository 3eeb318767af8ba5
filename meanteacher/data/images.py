"""A data set in memory, or memory-mapped from disk."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Images:
    """Decoded images in memory or memory-mapped.

    pixels: uint8 [N, C, H, W]; targets: int64 [N], −1 where an image has no label; names: N strings, unique within the part.
    """

    pixels: np.ndarray
    targets: np.ndarray
    names: list[str]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A training part and a test part. `notes` are sentences a user should read (what was resized, left out, split off)."""

    name: str
    classes: list[str]
    train: Images
    test: Images
    notes: list[str] = field(default_factory=list)
