"""What a method receives and returns. Unlabeled batches have no target field, so no label can leak into them."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class Views(NamedTuple):
    """The names of the augmented views that a method needs; it receives one tensor per name, in this order.

    An empty tuple means that the method does not use these images; they are then not augmented.
    """

    labeled: tuple[str, ...]
    unlabeled: tuple[str, ...]


@dataclass(frozen=True)
class Labeled:
    """A batch of B labeled images.

    index: int64 [B], positions in the training part; views: each float32 [B, C, H, W]; target: int64 [B].
    """

    index: Tensor
    views: tuple[Tensor, ...]
    target: Tensor


@dataclass(frozen=True)
class Unlabeled:
    """A batch of B unlabeled images.

    index: int64 [B], positions in the training part; views: each float32 [B, C, H, W].
    """

    index: Tensor
    views: tuple[Tensor, ...]
