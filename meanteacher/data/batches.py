"""The augmented batches of a step."""

import torch
from torch import Tensor

from meanteacher.data.augment import Augment
from meanteacher.data.batch import Labeled, Unlabeled, Views
from meanteacher.data.loader import Loader, RawBatch
from meanteacher.data.random_streams import RunStream, derive_seed


class Batches:
    """`draw(step)` followed by `views(...)` of the drawn images is a pure function of (seed, step).

    The two are separate because `views` runs on the device only and can be part of a CUDA graph, while `draw` cannot.
    """

    def __init__(self, *, loader: Loader, augment: Augment, seed: int, device: torch.device):
        self.loader, self.augment, self.seed = loader, augment, seed
        self.generator = torch.Generator(device)

    def draw(self, step: int) -> tuple[RawBatch, RawBatch]:
        """Return the labeled and the unlabeled images of a step, and seed the generator for their views.

        A method without unlabeled images gets an empty batch of them.
        """
        labeled, unlabeled = self.loader(step)
        self.generator.manual_seed(derive_seed(self.seed, RunStream.AUGMENTATION, step))
        return labeled, RawBatch(labeled.index[:0], labeled.pixels[:0]) if unlabeled is None else unlabeled

    def views(self, labeled: RawBatch, unlabeled: RawBatch, views: Views) -> tuple[Labeled, Unlabeled]:
        """Augment the drawn images. No host–device synchronization."""
        return (
            Labeled(labeled.index, self.augmented(labeled.pixels, views.labeled), self.loader.target(labeled.index)),
            Unlabeled(unlabeled.index, self.augmented(unlabeled.pixels, views.unlabeled)),
        )

    def augmented(self, pixels: Tensor, names: tuple[str, ...]) -> tuple[Tensor, ...]:
        """One view per name: uint8 [B, C, H, W] to float32 [B, C, H, W] each."""
        return tuple(self.augment(pixels, name, self.generator) for name in names)

    def images_per_step(self) -> int:
        """The number of labeled and unlabeled images in a step."""
        return self.loader.images_per_step()
