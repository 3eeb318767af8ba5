"""From a step's number to the views that a method asks for."""

import numpy as np
import torch
from torch import Tensor

from meanteacher.data.augment import Augment
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.data.loader import Loader, RawBatch

AUGMENT = 3


def derive(seed: int, key: int, step: int) -> int:
    """A 63-bit seed for one purpose and step, independent of all others."""
    return int(np.random.SeedSequence([seed, key, step]).generate_state(1, np.uint64)[0] >> 1)


class Batches:
    """`draw(step)`, then `views` of what it gave: together a pure function of (seed, step), on the device."""

    def __init__(self, *, loader: Loader, augment: Augment, seed: int, device: torch.device):
        self.loader, self.augment, self.seed = loader, augment, seed
        self.generator = torch.Generator(device)

    def draw(self, step: int) -> tuple[RawBatch, RawBatch]:
        """The images of a step, labeled and unlabeled, and the generator seeded for their views."""
        labeled, unlabeled = self.loader(step)
        self.generator.manual_seed(derive(self.seed, AUGMENT, step))
        return labeled, RawBatch(labeled.index[:0], labeled.pixels[:0]) if unlabeled is None else unlabeled

    def views(self, labeled: RawBatch, unlabeled: RawBatch, views: Views) -> tuple[Labeled, Unlabeled]:
        """All on the device, nothing read back."""
        return (
            Labeled(labeled.index, self.augmented(labeled.pixels, views.labeled), self.loader.target(labeled.index)),
            Unlabeled(unlabeled.index, self.augmented(unlabeled.pixels, views.unlabeled)),
        )

    def augmented(self, pixels: Tensor, names: tuple[str, ...]) -> tuple[Tensor, ...]:
        """One view by each name. pixels: uint8 [B, C, H, W]."""
        return tuple(self.augment(pixels, name, self.generator) for name in names)

    def images_per_step(self) -> int:
        """The student's images: labeled plus unlabeled."""
        return self.loader.images_per_step()
