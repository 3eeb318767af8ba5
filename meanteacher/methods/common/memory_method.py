"""The base class of methods that compare embeddings of images with those in a memory bank."""

import torch
from torch import Tensor, nn

from meanteacher.config.types import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from meanteacher.methods.base import Method
from meanteacher.methods.common.alignment import DistributionAlignment
from meanteacher.methods.common.memory_bank import MemoryBank
from meanteacher.methods.common.weighting import Weighting
from meanteacher.models.base import Network
from meanteacher.models.projected import Projected


class MemoryMethod(Method):
    """A student with a projection to `dimension` numbers, and a bank of `bank_size` slots that smooths pseudo-labels.

    temperature: of similarities. smoothing: the share of the prediction itself in a smoothed pseudo-label. weighting:
    of smoothed pseudo-labels. unlabeled_weight: of their cross-entropy. The projection is trained and is not evaluated.

    A training step reads the bank and assigns to `pending` what `remember` is to write into it. It is written after the
    step: torch.compile would let the gradient read a buffer that its own graph has overwritten.
    """

    needs_features = True

    def __init__(
        self,
        *,
        student: Network,
        num_classes: PositiveInt,
        num_images: PositiveInt,
        dimension: PositiveInt,
        bank_size: PositiveInt,
        alignment: DistributionAlignment,
        weighting: Weighting,
        temperature: PositiveFloat,
        smoothing: Fraction,
        unlabeled_weight: NonNegativeFloat,
    ):
        super().__init__()
        self.student, self.num_classes = Projected(student, dimension), num_classes
        self.bank = MemoryBank(size=bank_size, dimension=dimension, num_classes=num_classes)
        self.alignment = alignment.bind(num_classes=num_classes)
        self.weighting = weighting.bind(num_classes=num_classes, num_images=num_images)
        self.temperature, self.smoothing, self.weight = temperature, smoothing, unlabeled_weight
        self.pending: tuple[Tensor, ...] = ()

    @torch.no_grad()
    def smooth(self, p: Tensor, embeddings: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Pseudo-labels p̂ = p + (1 − smoothing) · factor · (Σ_k a_k · c_k − p), [B, C], and similarities a, [B, size].

        a: softmax over the bank's slots of ⟨embeddings, slot⟩ / temperature; c_k: the classes of slot k. p: float32
        [B, C]; embeddings: [B, D]; factor: 0-dim, 0 to leave p as it is.
        """
        with torch.autocast(p.device.type, enabled=False):
            similarity = self.bank.log_similarity(embeddings, self.temperature).exp()
            return torch.lerp(p, similarity @ self.bank.classes, (1 - self.smoothing) * factor), similarity

    def remember(self, *pending: Tensor) -> None:
        """Write into the bank."""
        raise NotImplementedError

    def after_step(self, step: Tensor) -> None:
        super().after_step(step)
        self.remember(*self.pending)

    def eval_models(self) -> dict[str, nn.Module]:
        return {name: model.network for name, model in super().eval_models().items()}
