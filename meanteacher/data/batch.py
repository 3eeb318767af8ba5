"""What a method is given and what it returns. There is no target field on unlabeled images, so no label can leak there."""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor


class Views(NamedTuple):
    """Names of the augmented views a method asks for, one tensor each, in this order. Empty: these images are not drawn."""

    labeled: tuple[str, ...]
    unlabeled: tuple[str, ...]


@dataclass(frozen=True)
class Labeled:
    """index: int64 [B], an image's position in the training part; views: each float32 [B, C, H, W]; target: int64 [B]."""

    index: Tensor
    views: tuple[Tensor, ...]
    target: Tensor


@dataclass(frozen=True)
class Unlabeled:
    """index: int64 [B]; views: each float32 [B, C, H, W]."""

    index: Tensor
    views: tuple[Tensor, ...]


@dataclass(frozen=True)
class StepOutput:
    """loss: 0-dim, with gradient; metrics: 0-dim detached tensors, averaged over the log interval and logged as `train/<name>`."""

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)
